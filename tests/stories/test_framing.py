"""How long a message is: what the app says about it, and what each kind of client is told."""

from __future__ import annotations

import pytest

from drycc_proxy.http1.upstream import MAX_WHOLE
from tests.fakes.story import GET, HOST, POD, Story, fields_of

HEAD = b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\n" + HOST + b"\r\n"


def test_a_stated_length_is_passed_on_from_the_parsed_number(story: Story) -> None:
    story.client(GET)
    story.lends().says(b"HTTP/1.1 200 OK\r\ncontent-length:  0005 \r\n\r\nhello")
    heard = story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"\r\n\r\nhello")
    assert fields_of(heard)[b"content-length"] == [b"5"]


def test_chunks_are_encoded_anew(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    app.says(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n"
    )
    heard = story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"\r\n\r\n5\r\nabcde\r\n0\r\n\r\n")
    assert fields_of(heard)[b"transfer-encoding"] == [b"chunked"]
    assert b"content-length" not in fields_of(heard)
    assert app.is_kept


def test_chunks_stream_as_they_come(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"\r\n\r\n")
    app.says(b"5\r\nhe")
    story.client_hears(b"2\r\nhe\r\n")
    app.says(b"llo\r\n")
    story.client_hears(b"3\r\nllo\r\n")
    app.says(b"0\r\n", b"\r\n")
    story.client_hears(b"0\r\n\r\n")


def test_chunks_for_a_client_of_1_0_are_joined_and_end_with_the_connection(story: Story) -> None:
    story.client(b"GET / HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\n\r\n")
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"3\r\ndef\r\n0\r\n\r\n")
    heard = story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"Connection: close\r\n\r\nabcdef")
    assert b"transfer-encoding" not in fields_of(heard)
    assert not story.caller.is_kept
    assert app.is_kept


def test_an_answer_that_ends_with_its_connection_becomes_chunks(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\n\r\nabc", b"def")
    app.closes()
    heard = story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")
    assert fields_of(heard)[b"transfer-encoding"] == [b"chunked"]
    assert story.caller.is_kept
    assert not app.is_kept


def test_an_answer_that_ends_with_its_connection_does_so_for_1_0_too(story: Story) -> None:
    story.client(GET_1_0)
    app = story.lends()
    app.says(b"HTTP/1.0 200 OK\r\n\r\nabc", b"def")
    app.closes()
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"Connection: close\r\n\r\nabcdef")
    assert not story.caller.is_kept


@pytest.mark.parametrize(
    ("framing", "told"),
    [
        (b"Content-Length: 1000\r\n", {b"content-length": [b"1000"]}),
        (b"Transfer-Encoding: chunked\r\n", {}),
        (b"", {}),
    ],
)
def test_the_answer_to_head_has_no_body_whatever_its_fields_say(
    story: Story, framing: bytes, told: dict[bytes, list[bytes]]
) -> None:
    story.client(HEAD)
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\nETag: x\r\n" + framing + b"\r\n")
    heard = story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"\r\n\r\n")
    assert {name: value for name, value in fields_of(heard).items() if name == b"content-length"} == told
    assert story.caller.is_kept
    assert app.is_kept
    story.client(GET)
    assert story.lends(reused=True) is app


def test_a_body_behind_the_answer_to_head_reaches_nobody(story: Story) -> None:
    story.client(HEAD)
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"\r\n\r\n")
    assert not app.is_kept


@pytest.mark.parametrize("framing", [b"", b"Content-Length: 1000\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_304_has_no_body_whatever_its_fields_say(story: Story, framing: bytes) -> None:
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n" + framing + b"\r\n")
    heard = story.client_hears(b"HTTP/1.1 304 Not Modified\r\n", ..., b"\r\n\r\n")
    assert heard.endswith(b"\r\n\r\n") and heard.count(b"\r\n\r\n") == 1
    assert b"transfer-encoding" not in fields_of(heard)
    assert story.caller.is_kept
    story.client(GET)
    assert story.lends(reused=True) is app


@pytest.mark.parametrize("framing", [b"", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_204_has_no_body_and_no_length(story: Story, framing: bytes) -> None:
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.1 204 No Content\r\n" + framing + b"\r\n")
    heard = story.client_hears(b"HTTP/1.1 204 No Content\r\n", ..., b"\r\n\r\n")
    assert heard.count(b"\r\n\r\n") == 1
    assert not {b"content-length", b"transfer-encoding"} & fields_of(heard).keys()
    assert story.caller.is_kept
    story.client(GET)
    assert story.lends(reused=True) is app


def test_bytes_behind_a_204_reach_nobody(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.1 204 No Content\r\n\r\nhello")
    heard = story.client_hears(b"HTTP/1.1 204 No Content\r\n", ...)
    assert b"hello" not in heard
    assert not app.is_kept


def test_an_empty_answer_keeps_its_zero(story: Story) -> None:
    story.client(GET)
    story.lends().says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    heard = story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"\r\n\r\n")
    assert fields_of(heard)[b"content-length"] == [b"0"]


def test_a_request_body_of_stated_length_is_streamed(story: Story) -> None:
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\nabc")
    app = story.lends()
    heard = app.hears(b"POST / HTTP/1.1\r\n", ..., b"\r\n\r\nabc")
    assert fields_of(heard)[b"content-length"] == [b"9"]
    story.client(b"def")
    app.hears(b"def")
    story.client(b"ghi")
    app.hears(b"ghi")


def test_a_chunked_request_body_is_decoded_and_encoded_anew(story: Story) -> None:
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: Chunked\r\n\r\n", b"3;x=y\r\nab")
    app = story.lends()
    heard = app.hears(b"POST / HTTP/1.1\r\n", ..., b"\r\n\r\n2\r\nab\r\n")
    assert fields_of(heard)[b"transfer-encoding"] == [b"chunked"]
    story.client(b"c\r\n")
    story.client(b"1\r\nd\r\n0\r\nHost: evil.example\r\n\r\n")
    app.hears(b"1\r\nc\r\n1\r\nd\r\n0\r\n\r\n")  # neither the extension nor the trailer
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert app.is_kept


def test_a_chunked_request_body_that_came_whole(story: Story) -> None:
    """It goes with its length: WSGI servers read no body without one."""
    chunked = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    app = None
    for body in (b"abc", b"abc", b"ab"):  # a head that repeats has a length of its own each time
        story.client(chunked + b"1\r\na\r\n%x;x=y\r\n%b\r\n0\r\nX-Sum: 1\r\n\r\n" % (len(body) - 1, body[1:]))
        app = story.lends(reused=app is not None)
        heard = app.hears(b"POST / HTTP/1.1\r\n", ..., b"\r\n\r\n" + body)
        fields = fields_of(heard)
        assert fields[b"content-length"] == [b"%d" % len(body)]
        assert not {b"transfer-encoding", b"trailer", b"x-sum"} & fields.keys()
        app.says(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert app.is_kept
    story.client(chunked + b"3\r\nabc\r\n")  # and one that comes in pieces has none
    heard = story.lends(reused=True).hears(b"POST / HTTP/1.1\r\n", ..., b"\r\n\r\n3\r\nabc\r\n")
    assert fields_of(heard)[b"transfer-encoding"] == [b"chunked"]
    assert b"content-length" not in fields_of(heard)
    story.client(b"0\r\n\r\n" + GET)
    story.apps[0].hears(b"0\r\n\r\n")


@pytest.mark.parametrize(("size", "whole"), [(MAX_WHOLE, True), (MAX_WHOLE + 1, False)])
def test_a_chunked_request_body_that_came_whole_and_is_large(story: Story, size: int, whole: bool) -> None:
    body = size * b"x"
    story.client(
        b"PUT / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (size, body)
    )
    heard = story.lends().hears(b"PUT / HTTP/1.1\r\n", ...)
    fields = fields_of(heard)
    if whole:
        assert fields[b"content-length"] == [b"%d" % size]
        assert heard.endswith(b"\r\n\r\n" + body)
    else:
        assert fields[b"transfer-encoding"] == [b"chunked"]
        assert heard.endswith(b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (size, body))
    assert (b"content-length" in fields) is not (b"transfer-encoding" in fields)


def test_a_chunked_request_that_is_sent_again_has_its_length_again(story: Story) -> None:
    app = story.keeps_warm()
    story.client(b"PUT / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    app.hears(b"PUT / HTTP/1.1\r\n", ..., b"abc")
    app.closes()
    heard = story.lends().hears(b"PUT / HTTP/1.1\r\n", ..., b"\r\n\r\nabc")
    assert fields_of(heard)[b"content-length"] == [b"3"]


def test_an_empty_chunked_request_body(story: Story) -> None:
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    heard = story.lends().hears(b"POST / HTTP/1.1\r\n", ..., b"\r\n\r\n")
    assert fields_of(heard)[b"content-length"] == [b"0"]


def test_a_post_of_nothing_says_so_to_the_app(story: Story) -> None:
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n")
    heard = story.lends().hears(b"POST / HTTP/1.1\r\n", ..., b"\r\n\r\n")
    assert fields_of(heard)[b"content-length"] == [b"0"]


def test_a_get_without_a_body_says_nothing_about_its_length(story: Story) -> None:
    story.client(GET)
    heard = story.lends().hears(...)
    assert not {b"content-length", b"transfer-encoding"} & fields_of(heard).keys()


@pytest.mark.parametrize(
    ("framing", "failure", "status"),
    [
        (b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "bad_framing", 400),
        (b"Content-Length: 3\r\nContent-Length: 3\r\n", "bad_framing", 400),
        (b"Content-Length: 3, 3\r\n", "bad_framing", 400),
        (b"Content-Length: +3\r\n", "bad_framing", 400),
        (b"Content-Length: 0x3\r\n", "bad_framing", 400),
        (b"Content-Length: \r\n", "bad_framing", 400),
        (b"Content-Length: 9223372036854775808\r\n", "bad_framing", 400),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "bad_framing", 400),
        (b"Transfer-Encoding: \x0bchunked\r\n", "bad_request", 400),
        (b"Transfer-Encoding: chunked,\r\n", "bad_framing", 400),
        (b"Transfer-Encoding: gzip, chunked\r\n", "coding_not_implemented", 501),
        (b"Transfer-Encoding: identity\r\n", "bad_framing", 400),
        (b"Transfer-Encoding : chunked\r\n", "bad_request", 400),
    ],
)
def test_a_length_in_doubt_is_refused_and_the_connection_closed(
    story: Story, framing: bytes, failure: str, status: int
) -> None:
    story.client(b"POST / HTTP/1.1\r\n" + HOST + framing + b"\r\nabc" + GET)
    story.answer(failure, status)
    assert not story.caller.is_kept
    assert story.dialled == []


def test_chunks_in_1_0_are_refused(story: Story) -> None:
    story.client(b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    story.answer("bad_framing", 400)
    assert not story.caller.is_kept


def test_chunks_in_1_0_are_refused_also_behind_the_same_fields_in_1_1(story: Story) -> None:
    """What was judged for one version says nothing about the other."""
    fields = HOST + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    story.client(b"POST / HTTP/1.1\r\n" + fields)
    story.lends().says(b"HTTP/1.1 204 No Content\r\n\r\n")
    story.client_hears(b"HTTP/1.1 204 No Content\r\n", ...)
    story.client(b"POST / HTTP/1.0\r\n" + fields)
    story.answer("bad_framing", 400)


def test_1_1_needs_a_host_also_behind_the_same_fields_in_1_0(story: Story) -> None:
    story.client(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    story.answer("unknown_host", 404)
    story.client(b"GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n")
    story.answer("bad_host", 400)


@pytest.mark.parametrize(
    "chunks",
    [b"\r\n", b"x\r\n", b"-1\r\n", b"0x1\r\n", b"5 \r\n", b"5\nhello\n", b"3\r\nabcd\r\n", b"1" * 17 + b"\r\n"],
)
def test_a_bad_chunk_in_a_request_is_refused_and_the_app_let_go(story: Story, chunks: bytes) -> None:
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
    app = story.lends()
    story.client(chunks)
    story.answer("bad_chunk", 400)
    assert app.is_cut
    assert not story.caller.is_kept


def test_a_bad_chunk_that_comes_with_the_head_reaches_no_app(story: Story) -> None:
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n")
    story.answer("bad_chunk", 400)
    assert story.dialled == []


def test_what_follows_a_body_is_the_next_request(story: Story) -> None:
    story.client(b"POST /1 HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\n" + HOST + b"\r\n")
    app = story.lends()
    app.hears(b"POST /1 HTTP/1.1\r\n", ..., b"\r\n\r\nabc")
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    app.hears(b"GET /2 HTTP/1.1\r\n", ...)
    assert story.dialled == []
    assert app.address == POD


def test_what_follows_the_last_piece_of_a_body_is_the_next_request_too(story: Story) -> None:
    story.client(b"POST /1 HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\na")
    app = story.lends()
    story.client(b"bcGET /2 HTTP/1.1\r\n" + HOST + b"\r\n")
    app.hears(b"POST /1 HTTP/1.1\r\n", ..., b"\r\n\r\nabc")
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    app.hears(b"GET /2 HTTP/1.1\r\n", ...)


def test_bytes_behind_the_last_piece_of_an_answer_reach_nobody(story: Story) -> None:
    for beginning, end in (
        (b"Content-Length: 4\r\n\r\nha", b"lf"),
        (b"Transfer-Encoding: chunked\r\n\r\n2\r\nha\r\n", b"2\r\nlf\r\n0\r\n\r\n"),
    ):
        story.client(GET)
        app = story.lends()
        app.says(b"HTTP/1.1 200 OK\r\n" + beginning, end + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        assert b"evil" not in story.client_hears(b"HTTP/1.1 200 OK\r\n", ...)
        assert story.caller.is_kept
        assert not app.is_kept


def test_an_app_that_ends_while_its_client_does_not_read(story: Story) -> None:
    """The end waits behind what is still to be read, and is an orderly one."""
    story.client(GET)
    app = story.lends()
    story.caller.stops_reading()
    app.says(b"HTTP/1.1 200 OK\r\n\r\n", 100_000 * b"x")
    assert not app.is_heeded
    app.closes()
    story.caller.reads_again()
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"x\r\n0\r\n\r\n")
    assert story.caller.is_kept
