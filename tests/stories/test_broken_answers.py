"""Apps that break off, babble or break the rules: 502 before the head is sent, a visible break afterwards."""

from __future__ import annotations

import pytest

from drycc_proxy.errors import Failure
from tests.fakes.story import GET, HOST, POD, Story, fields_of

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2,2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n Content-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.10 200 OK\r\n\r\n",
        b"HTTP/1. 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"<html>this is not a head</html>\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"\x00\r\n\r\n",
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
def test_an_answer_against_the_rules_is_a_502_and_its_connection_closed(story: Story, head: bytes) -> None:
    story.client(GET)
    app = story.lends()
    app.says(head)
    story.answer("bad_response", 502)
    assert not app.is_kept
    assert story.caller.is_kept  # it is not the client's fault
    story.client(GET)
    assert story.dialled == [POD]
    assert story.core.counters.routes["shop/web"].errors == {Failure.BAD_RESPONSE: 1}


@pytest.mark.parametrize("minor", range(2, 10))
def test_a_higher_minor_version_of_an_answer_is_read_as_1_1(story: Story, minor: int) -> None:
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.%d 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" % minor)
    assert story.client_hears(b"HTTP/1.1 200 OK\r\n", ...).endswith(b"\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    assert app.is_kept


def test_a_head_without_end_is_given_up_at_64_kib(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\n", *([b"X: " + 1000 * b"x" + b"\r\n"] * 64))
    story.client_hears_nothing()
    app.says(*([b"X: " + 1000 * b"x" + b"\r\n"] * 2))
    story.answer("response_head_too_large", 502)
    assert not app.is_kept


def test_a_large_head_within_reason_passes(story: Story) -> None:
    story.client(GET)
    cookie = b"Set-Cookie: " + 30_000 * b"c" + b"\r\n"
    story.lends().says(b"HTTP/1.1 200 OK\r\n" + cookie + cookie + b"Content-Length: 0\r\n\r\n")
    assert len(fields_of(story.client_hears(...))[b"set-cookie"]) == 2


def test_too_many_fields_are_refused(story: Story) -> None:
    story.client(GET)
    story.lends().says(b"HTTP/1.1 200 OK\r\n" + 257 * b"X: y\r\n" + b"\r\n")
    story.answer("response_head_too_large", 502)


def test_a_head_in_pieces_is_one_head(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    app.says(*(OK[at : at + 1] for at in range(len(OK))))
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")
    assert app.is_kept


def test_a_head_that_trickles_buys_no_time(story: Story) -> None:
    """A byte a minute is no sign of life (hardening M-17)."""
    story.serves(idle_timeout=300.0)
    story.client(GET)
    app = story.lends()
    for at in range(6):
        app.says(OK[at : at + 1])
        story.passes(60)
    story.answer("response_timeout", 504)
    assert app.is_cut


def test_an_app_at_its_worst_is_nobody_elses_trouble(story: Story) -> None:
    """Ten thousand interim answers, a head of megabytes, garbage, resets: each costs its own request (M-17)."""
    story.serves(b"blog.example", route="blog/web", endpoints=(POD,))
    for nonsense in (
        10_000 * b"HTTP/1.1 102 Processing\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + bytes(2**21),
        b"\x00" * 300_000,
    ):
        story.calls()
        story.client(GET)
        app = story.lends()
        app.says(nonsense)
        assert app.is_cut
        assert b"HTTP/1.1 502 " in story.client_hears(...)
        story.client(b"GET / HTTP/1.1\r\nHost: blog.example\r\n\r\n")
        story.lends().says(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")


def test_an_end_in_the_middle_of_the_head_is_a_502(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\nContent-")
    app.closes()
    story.answer("bad_response", 502)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    "beginning",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ],
    ids=["length", "chunked"],
)
def test_an_answer_cut_short_is_cut_short_for_the_client(story: Story, beginning: bytes, reset: bool) -> None:
    story.client(GET)
    app = story.lends()
    app.says(beginning)
    app.resets() if reset else app.closes()
    heard = story.client_hears(b"HTTP/1.1 200 OK\r\n", ...)
    assert not heard.endswith(b"0\r\n\r\n")
    assert story.caller.is_cut
    [line] = story.lines()
    assert (line["response_code"], line["error_reason"]) == (200, "response_truncated")


def test_an_answer_until_close_that_is_reset_is_no_whole_answer(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\n\r\nhalf")
    app.resets()
    assert not story.client_hears(b"HTTP/1.1 200 OK\r\n", ...).endswith(b"0\r\n\r\n")
    assert story.caller.is_cut


def test_a_bad_chunk_in_the_middle_breaks_the_answer_off(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
    app.says(b"oops\r\n")
    assert story.client_hears(b"HTTP/1.1 200 OK\r\n", ...).endswith(b"4\r\nhalf\r\n")
    assert story.caller.is_cut
    assert app.is_cut


def test_a_client_of_1_0_cannot_take_half_for_the_whole(story: Story) -> None:
    """There the connection's end is the answer's end, so it must not be an orderly one."""
    story.client(b"GET / HTTP/1.0\r\n" + HOST + b"\r\n")
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
    app.closes()
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"half")
    assert story.caller.is_cut


def test_fields_that_are_the_routers_are_not_the_apps_to_set(story: Story) -> None:
    story.client(GET)
    story.lends().says(
        b"HTTP/1.1 200 OK\r\nX-Request-Id: mine\r\nX-Correlation-Id: mine\r\nX-Router-Error: mine\r\n"
        b"Connection: close, x\r\nX: 1\r\nKeep-Alive: timeout=3\r\nProxy-Connection: close\r\nTrailer: x\r\n"
        b"Upgrade: h2c\r\nProxy-Authenticate: x\r\nContent-Length: 0\r\n\r\n"
    )
    fields = fields_of(story.client_hears(...))
    assert fields.keys() == {b"date", b"content-length", b"x-request-id", b"x-correlation-id"}
    assert fields[b"x-request-id"] != [b"mine"]


def test_an_apps_connection_field_cannot_remove_what_protects_the_client(story: Story) -> None:
    story.client(GET)
    story.lends().says(
        b"HTTP/1.1 200 OK\r\nConnection: set-cookie, content-length, content-type\r\nSet-Cookie: a=1\r\n"
        b"Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
    )
    fields = fields_of(story.client_hears(..., b"ok"))
    assert fields[b"set-cookie"] == [b"a=1"]
    assert fields[b"content-type"] == [b"text/plain"]
    assert fields[b"content-length"] == [b"2"]


def test_a_date_is_added_only_where_there_is_none(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n")
    assert fields_of(story.client_hears(...))[b"date"] == [b"Thu, 01 Jan 1970 00:00:00 GMT"]
    story.client(GET)
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert fields_of(story.client_hears(...))[b"date"] == [b"Mon, 21 Sep 2026 14:13:20 GMT"]


def test_bytes_beyond_ascii_in_fields_pass_untouched(story: Story) -> None:
    story.client(b"GET / HTTP/1.1\r\n" + HOST + b"X-Name: caf\xe9 \xf0\x9f\x90\xa6\r\n\r\n")
    app = story.lends()
    assert fields_of(app.hears(...))[b"x-name"] == [b"caf\xe9 \xf0\x9f\x90\xa6"]
    app.says(b"HTTP/1.1 200 D\xe9j\xe0\r\nX-Name: \xff\xfe\r\nContent-Length: 0\r\n\r\n")
    assert fields_of(story.client_hears(b"HTTP/1.1 200 D\xe9j\xe0\r\n", ...))[b"x-name"] == [b"\xff\xfe"]
