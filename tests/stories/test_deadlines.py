"""Whoever is too slow is noticed, in every state, and only the one who is slow pays.

Each row of the table in ``proxy/drycc_proxy/http/deadlines.py`` has a test here that stops in that state
(``stops_in``), in clear text and through a real TLS channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from drycc_proxy.http.deadlines import DEADLINES
from drycc_proxy.listeners.proxy_header import SIGNATURE
from tests.fakes.clock import FakeClock
from tests.fakes.story import GET, HOST, Story
from tests.fakes.tls_end import TlsEnd

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPLOAD = b"POST /up HTTP/1.1\r\n" + HOST + b"Content-Length: 10000\r\n\r\n"
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + 100_000 * b"x"
"""An answer of which half is there."""
WEBSOCKET = b"GET /ws HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

T = TypeVar("T", bound=Callable[..., None])
STATES: set[str] = set()


def stops_in(*states: str) -> Callable[[T], T]:
    """The test is the one of these rows."""

    def mark(test: T) -> T:
        STATES.update(states)
        return test

    return mark


@pytest.fixture(params=["http", "https"])
def story(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Story]:
    """As everywhere, once in clear text and once over TLS."""
    clock = FakeClock()
    clock.install(monkeypatch)
    told = Story(clock, over_tls=request.param == "https")
    yield told
    told.ends()


def test_every_row_of_the_table_has_its_test() -> None:
    assert {row.name for row in DEADLINES} == STATES
    assert len({row.name for row in DEADLINES}) == len(DEADLINES)


# ── before a request ──────────────────────────────────────────────────────────────────────────────────────────────────
@stops_in("proxy_nothing", "proxy_header")
@pytest.mark.parametrize("header", [b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\r\n", SIGNATURE + b"\x20\x00\x00\x00"])
def test_a_proxy_header_has_three_seconds_from_its_first_byte(story: Story, header: bytes) -> None:
    story.is_set(proxy_protocol=True, trusted=("203.0.113.7",))
    caller = story.connects() if story.over_tls else story.calls()
    raw = caller.raw if isinstance(caller, TlsEnd) else caller
    story.passes(9.7)
    raw.says(header[:1])
    for byte in header[1:3]:
        story.passes(1)
        raw.says(bytes([byte]))
    story.passes(0.8)
    assert not caller.is_cut
    story.passes(0.4)
    assert caller.is_cut
    silent = story.connects() if story.over_tls else story.calls()
    story.passes(9.8)
    assert not silent.is_cut
    story.passes(0.4)
    assert silent.is_cut
    assert story.core.counters.tls_failures == 0


@stops_in("handshake")
@pytest.mark.parametrize("said", ["nothing", "five bytes", "half a hello", "a hello", "half of its last word"])
def test_a_handshake_has_ten_seconds_in_all(story: Story, said: str) -> None:
    caller = story.connects()
    hello = caller.greets()
    raw = caller.raw
    spent = 0.0
    if said == "five bytes":
        raw.says(hello[:5])
    elif said == "half a hello":
        for at in range(0, 120, 20):
            raw.says(hello[at : at + 20])
            story.passes(1)
            spent += 1
    elif said != "nothing":
        raw.says(hello)
    if said == "half of its last word":
        raw.says(b"\x14\x03\x03\x00\x01\x01" + b"\x17\x03\x03\x00\x35" + 10 * b"x")
    story.passes(9.8 - spent)
    assert not caller.is_cut
    story.passes(0.4)
    assert caller.is_cut
    assert story.core.counters.tls_failures == 1


@stops_in("refused_handshake")
def test_a_client_that_does_not_take_its_refusal_is_cut(story: Story) -> None:
    caller = story.connects()
    caller.stops_reading()
    caller.raw.says(caller.greets(), b"\x17\x03\x03\x00\x20" + 32 * b"x")
    assert caller.transport.closing and caller.transport.unread
    story.passes(4.8)
    assert not caller.is_cut
    story.passes(0.4)
    assert caller.is_cut
    assert story.core.counters.tls_failures == 1


@stops_in("first_request")
def test_a_client_that_says_nothing_is_let_go_after_ten_seconds(story: Story) -> None:
    story.calls()
    story.passes(9.8)
    assert story.caller.is_kept
    story.passes(0.4)
    assert not story.caller.is_kept
    story.client_hears_nothing()


@stops_in("first_head")
def test_a_head_that_does_not_end_is_a_408(story: Story) -> None:
    story.client(GET[:20])
    story.passes(9.8)
    story.client_hears_nothing()
    story.passes(0.4)
    assert b"Connection: close\r\n" in story.answer("head_timeout", 408)
    assert not story.caller.is_kept


def test_a_head_that_trickles_in_buys_no_time(story: Story) -> None:
    for at in range(9):
        story.client(GET[at : at + 1])
        story.passes(1)
    story.client_hears_nothing()
    story.client(GET[9:10])
    story.passes(1.2)
    story.answer("head_timeout", 408)


def test_the_first_head_has_its_time_from_the_moment_of_accept(story: Story) -> None:
    story.calls()
    story.passes(9)
    story.client(GET[:20])
    story.passes(1.2)
    story.answer("head_timeout", 408)


@stops_in("next_head")
def test_the_second_head_has_ten_seconds_from_its_first_byte(story: Story) -> None:
    story.client(GET)
    story.lends().says(OK)
    story.client_hears(..., b"ok")
    story.passes(60)
    story.client(GET[:10])
    story.passes(9.8)
    assert story.caller.is_kept
    story.passes(0.4)
    story.answer("head_timeout", 408)


def test_a_head_begun_behind_a_request_has_its_time_from_then(story: Story) -> None:
    story.client(GET + GET[:10])
    app = story.lends()
    story.passes(30)
    app.says(OK)
    story.passes(9.5)
    assert story.caller.is_kept
    story.passes(0.8)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"HTTP/1.1 408 Request Timeout\r\n", ...)


@stops_in("keepalive")
def test_an_idle_connection_is_kept_for_75_seconds(story: Story) -> None:
    story.client(GET)
    story.lends().says(OK)
    story.client_hears(..., b"ok")
    story.passes(74.8)
    assert story.caller.is_kept
    story.passes(0.4)
    assert not story.caller.is_kept
    story.client_hears_nothing()


@stops_in("leaving")
def test_a_router_that_leaves_keeps_idle_connections_for_a_second(story: Story) -> None:
    story.client(GET)
    story.lends().says(OK)
    story.client_hears(..., b"ok")
    story.drains()
    story.passes(0.8)
    assert story.caller.is_kept
    story.passes(0.4)
    assert not story.caller.is_kept
    story.client_hears_nothing()


# ── bodies ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@stops_in("body_idle")
def test_a_body_that_stalls_is_a_408_and_the_app_let_go(story: Story) -> None:
    story.client(UPLOAD + 9_000 * b"x")
    app = story.lends()
    story.passes(29.8)
    story.client_hears_nothing()
    story.passes(0.4)
    assert b"Connection: close\r\n" in story.answer("body_timeout", 408)
    assert app.is_cut
    assert not story.caller.is_kept


@stops_in("body_rate")
@pytest.mark.parametrize("rate", [0, 1, 100, 200])
def test_a_body_that_trickles_has_ten_seconds(story: Story, rate: int) -> None:
    story.client(UPLOAD + b"x")
    app = story.lends()
    for _ in range(19):
        story.passes(0.5)
        if rate:
            story.client(rate // 2 * b"x" or b"x")
    story.passes(0.3)
    story.client_hears_nothing()
    story.passes(0.4)
    assert b"Connection: close\r\n" in story.answer("body_timeout", 408)
    assert app.is_cut


def test_a_body_that_trickles_in_chunks_has_ten_seconds(story: Story) -> None:
    story.client(b"POST /up HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
    app = story.lends()
    for _ in range(9):
        story.client(b"1;" + 200 * b"x" + b"\r\n!\r\n")
        story.passes(1)
    story.client_hears_nothing()
    story.passes(1.2)
    story.answer("body_timeout", 408)
    assert app.is_cut


def test_a_body_of_240_bytes_a_second_has_all_the_time(story: Story) -> None:
    story.client(UPLOAD)
    app = story.lends()
    for _ in range(40):
        story.client(250 * b"x")
        story.passes(1)
    app.hears(..., 10_000 * b"x")
    app.says(OK)
    story.client_hears(..., b"ok")


def test_what_came_fast_buys_time_for_what_comes_slowly(story: Story) -> None:
    story.client(UPLOAD + 9_990 * b"x")
    app = story.lends()
    for _ in range(1, 10):
        story.passes(4.4)
        story.client(b"x")
    story.passes(1.8)
    story.client_hears_nothing()
    story.client(b"x")
    app.says(OK)
    story.client_hears(..., b"ok")


def test_time_in_which_the_app_takes_nothing_is_not_the_clients(story: Story) -> None:
    story.client(UPLOAD.replace(b"10000", b"1000000"))
    app = story.lends(reads=False)
    story.client(65536 * b"x", 65536 * b"x")
    assert not story.caller.is_heeded
    story.passes(1000)
    app.reads_again()
    assert story.caller.is_heeded
    story.passes(29.8)
    story.client_hears_nothing()
    story.passes(0.4)
    story.answer("body_timeout", 408)


@stops_in("body_rest")
def test_the_rest_of_an_answered_request_has_five_seconds_of_silence_and_thirty_in_all(story: Story) -> None:
    story.client(b"POST / HTTP/1.1\r\nHost: nobody.example\r\nContent-Length: 100000\r\n\r\n")
    story.answer("unknown_host", 404)
    for _ in range(7):
        story.passes(4.2)
        story.client(b"x")
    assert not story.caller.is_cut
    story.passes(0.4)
    story.client(b"x")
    story.passes(0.4)
    assert story.caller.is_cut
    caller = story.calls()
    story.client(b"POST / HTTP/1.1\r\nHost: nobody.example\r\nContent-Length: 100000\r\n\r\n")
    story.answer("unknown_host", 404)
    story.passes(4.8)
    assert not caller.is_cut
    story.passes(0.4)
    assert caller.is_cut


@pytest.mark.parametrize("held", [False, True], ids=["", "after the app was full"])
def test_a_slow_body_is_no_fault_once_the_answer_has_begun(story: Story, held: bool) -> None:
    """Both talk: what the client says is up to the app, whose silence is limited as in any answer."""
    story.serves(idle_timeout=600.0)
    story.client(UPLOAD.replace(b"Content-Length: 10000", b"Transfer-Encoding: chunked"))
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n>\r\n")
    if held:
        app.stops_reading()
        story.client(b"11170\r\n" + 70_000 * b"x" + b"\r\n")
        assert not story.caller.is_heeded
        app.reads_again()
    app.hears(...)
    for _ in range(20):
        story.passes(2)
        story.client(b"6\r\nping!\n\r\n")
        app.hears(..., b"ping!\n\r\n")
    story.passes(500)
    app.says(b"5\r\npong\n\r\n")
    story.client_hears(..., b"pong\n\r\n")
    story.passes(599)
    assert not story.caller.is_cut
    story.passes(2)
    assert story.caller.is_cut
    assert story.lines()[-1]["error_reason"] == "response_stalled"


def test_a_client_that_is_gone_while_it_is_held_back_is_missed_though_more_of_it_was_there(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS hands over all records of one read, whether or not reading was stopped meanwhile."""
    story.client(UPLOAD.replace(b"10000", b"1000000"))
    app = story.lends()
    app.stops_reading()
    story.client(70_000 * b"x")
    assert not story.caller.is_heeded
    [connection] = story.core.connections
    connection.data_received(1000 * b"x")  # type: ignore[attr-defined]  # that of HTTP/1.1
    story.passes(1)
    assert not story.caller.is_cut
    monkeypatch.setattr("drycc_proxy.http1.downstream.is_broken", lambda transport: True)
    story.passes(1)
    assert story.caller.is_cut
    assert story.lines()[-1]["error_reason"] == "client_gone"


@pytest.mark.parametrize(("limit", "spared"), [(0.0, 95.0), (100.0, 95.0), (5.0, 4.0)], ids=["none", "more", "less"])
def test_how_long_a_client_may_be_silent_is_the_owners_to_say(story: Story, limit: float, spared: float) -> None:
    story.serves(body_timeout=limit, body_rate=0, idle_timeout=300.0)
    story.client(UPLOAD)
    story.lends()
    story.passes(spared)
    story.client_hears_nothing()
    story.client(b"x")
    if limit:
        story.passes(limit - 0.2)
        story.client_hears_nothing()
        story.passes(0.4)
        story.answer("body_timeout", 408)
    else:  # as long as the app may be silent
        story.passes(299)
        story.client_hears_nothing()
        story.passes(2)
        story.answer("response_timeout", 504)


@pytest.mark.parametrize(("rate", "lives"), [(0, True), (10, True), (1000, False)])
def test_how_slow_a_body_may_be_is_the_owners_to_say(story: Story, rate: int, lives: bool) -> None:
    story.serves(body_rate=rate)
    story.client(UPLOAD)
    app = story.lends()
    for _ in range(30):
        story.client(20 * b"x" if lives else 900 * b"x")
        story.passes(1)
    if lives:
        story.client_hears_nothing()
        app.hears(..., 600 * b"x")
        app.says(OK)
        story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")
    else:
        story.answer("body_timeout", 408)


def test_the_time_of_a_body_begins_with_the_100_that_its_client_waits_for(story: Story) -> None:
    expects = UPLOAD.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    story.client(expects)
    app = story.lends()
    story.passes(100)
    app.says(b"HTTP/1.1 102 Processing\r\n\r\n")
    story.passes(100)
    story.client_hears(b"HTTP/1.1 102 Processing\r\n\r\n")
    app.says(b"HTTP/1.1 100 Continue\r\n\r\n")
    story.client_hears(b"HTTP/1.1 100 Continue\r\n\r\n")
    story.passes(9.5)
    story.client_hears_nothing()
    story.client(b"x")
    story.passes(0.8)
    story.answer("body_timeout", 408)


def test_a_client_that_does_not_wait_for_the_100_has_its_time_from_its_first_byte(story: Story) -> None:
    """An app that never says 100 would let it take for ever."""
    story.client(UPLOAD.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    story.lends()
    story.passes(100)
    for _ in range(9):
        story.client(b"x")
        story.passes(1)
    story.client_hears_nothing()
    story.client(b"x")
    story.passes(1.2)
    story.answer("body_timeout", 408)


@stops_in("app_takes")
def test_a_client_is_not_slow_while_it_is_not_read(story: Story) -> None:
    """The app reads nothing: the client's deadline waits, the app's runs."""
    story.serves(idle_timeout=100.0)
    story.client(UPLOAD.replace(b"10000", b"1000000"))
    app = story.lends(reads=False)
    story.client(65536 * b"x", 65536 * b"x")
    assert not story.caller.is_heeded
    story.passes(99)
    story.client_hears_nothing()
    story.passes(2)
    assert app.is_cut
    story.answer("response_timeout", 504)


# ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@stops_in("app_head")
def test_an_app_that_does_not_answer_is_a_504(story: Story) -> None:
    story.serves(request_timeout=10.0)
    story.client(GET)
    app = story.lends()
    story.passes(9.8)
    story.client_hears_nothing()
    story.passes(0.4)
    story.answer("response_timeout", 504)
    assert app.is_cut
    assert story.caller.is_kept


def test_the_time_for_an_answer_counts_from_the_end_of_the_request(story: Story) -> None:
    story.serves(request_timeout=10.0)
    story.client(UPLOAD)
    app = story.lends()
    story.client(9_999 * b"x")
    story.passes(25)
    story.client(b"x")
    story.passes(9.5)
    story.client_hears_nothing()
    story.passes(0.8)
    story.answer("response_timeout", 504)
    assert app.is_cut


def test_without_a_request_timeout_the_silence_counts(story: Story) -> None:
    story.serves(idle_timeout=30.0)
    story.client(GET)
    story.lends()
    story.passes(29.8)
    story.client_hears_nothing()
    story.passes(0.4)
    story.answer("response_timeout", 504)


def test_the_default_silence_is_long(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    story.passes(1299)
    story.client_hears_nothing()
    app.says(OK)
    story.client_hears(..., b"ok")


@stops_in("app_body")
def test_an_app_that_falls_silent_in_its_answer_breaks_it_off(story: Story) -> None:
    story.serves(idle_timeout=30.0)
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    for _ in range(3):
        story.passes(29)
        app.says(b"!")
    story.passes(31)
    story.client_hears(..., b"half!!!")
    assert story.caller.is_cut
    assert app.is_cut
    assert story.lines()[-1]["error_reason"] == "response_stalled"


def test_an_app_is_not_silent_while_it_is_not_read(story: Story) -> None:
    """A slow client must not get a good app into trouble: only the client's own minute counts."""
    story.serves(idle_timeout=5.0)
    story.client(GET)
    app = story.lends()
    story.caller.stops_reading()
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + 100_000 * b"x")
    assert not app.is_heeded
    story.passes(50)
    assert app.is_kept
    story.caller.reads_again()
    app.says(100_000 * b"x")
    story.client_hears(..., 200_000 * b"x")


@stops_in("client_takes")
def test_a_client_that_takes_nothing_for_a_minute_is_cut(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    story.caller.stops_reading()
    app.says(LARGE)
    story.passes(59)
    assert not story.caller.is_cut
    story.passes(2)
    assert story.caller.is_cut
    assert app.is_cut
    assert story.lines()[-1]["error_reason"] == "client_too_slow"


def test_a_client_that_takes_a_little_each_minute_is_cut(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    story.caller.stops_reading()
    app.says(LARGE)
    story.passes(30)
    story.caller.reads_a_little(14_000)
    story.passes(31)
    assert story.caller.is_cut
    assert app.is_cut
    assert story.lines()[-1]["error_reason"] == "client_too_slow"


def test_a_client_that_takes_enough_each_minute_is_served(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    story.caller.stops_reading()
    app.says(LARGE.replace(b"200000", b"100000"))
    for _ in range(5):
        story.passes(50)
        story.caller.reads_a_little(16_000)
    assert not story.caller.is_cut
    story.caller.reads_again()
    story.client_hears(..., 100_000 * b"x")


def test_a_client_that_reads_nothing_is_not_given_more_answers(story: Story) -> None:
    """A pipelined request is a few bytes, its answer any number: who does not take one is not given the next."""
    story.client(GET)
    app = story.lends()
    story.caller.stops_reading()
    story.client(b"GET /2 HTTP/1.1\r\n" + HOST + b"\r\n", b"GET /3 HTTP/1.1\r\n" + HOST + b"\r\n" + GET[:10])
    app.hears(b"GET / ", ...)
    app.says(LARGE.replace(b"200000", b"100000"))
    app.hears_nothing()
    story.passes(30)
    story.caller.reads_again()
    again = story.lends(reused=True)
    again.hears(b"GET /2 ", ...)
    again.says(OK)
    again.hears(b"GET /3 ", ...)
    again.says(OK)
    story.client_hears(..., b"ok")
    story.client(GET[10:])
    again.hears(b"GET / ", ...)
    again.says(OK)
    story.client_hears(..., b"ok")


def test_a_client_that_sends_more_without_reading_is_cut_after_a_minute(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    story.caller.stops_reading()
    app.says(LARGE.replace(b"200000", b"100000"))
    for _ in range(30):
        story.client(100 * GET)
        story.passes(1)
    assert not story.caller.is_heeded, "and its requests do not pile up"
    story.passes(31)
    assert story.caller.is_cut


def test_a_client_that_has_ended_its_side_and_takes_nothing_is_cut(story: Story) -> None:
    """Small enough for the buffer, so that nobody was ever held up: it must not lie there for ever."""
    story.client(GET)
    app = story.lends()
    story.caller.stops_reading()
    story.caller.closes()
    app.says(LARGE[:-52_000].replace(b"200000", b"48000"))
    story.passes(59)
    assert not story.caller.is_cut
    story.passes(2)
    assert story.caller.is_cut


@stops_in("client_half_closed")
def test_a_client_that_has_ended_its_side_waits_less_than_a_second(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    story.caller.closes()
    story.passes(0.6)
    assert app.is_kept
    story.passes(0.4)
    assert app.is_cut, "hardening R-26: within a second"
    assert story.lines()[-1]["error_reason"] == "client_gone"


@stops_in("linger")
@pytest.mark.parametrize("waiting", [0, 48_000])
def test_a_goodbye_has_a_second_or_a_minute_while_the_answer_is_on_its_way(story: Story, waiting: int) -> None:
    story.client(b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", b"!")
    app = story.lends()
    if waiting:
        story.caller.stops_reading()
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % waiting + waiting * b"x")
    assert not story.caller.is_kept
    story.passes(59.8 if waiting else 0.8)
    assert not story.caller.is_cut
    story.passes(0.4)
    assert story.caller.is_cut


def test_a_slow_app_does_not_make_its_client_late(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    story.passes(300)
    app.says(OK)
    story.client_hears(..., b"ok")
    assert story.caller.is_kept


# ── tunnels ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@stops_in("tunnel_idle")
def test_a_tunnel_in_which_nothing_passes(story: Story) -> None:
    story.serves(idle_timeout=30.0)
    story.client(WEBSOCKET)
    app = story.lends()
    app.says(SWITCHING)
    for _ in range(3):
        story.passes(29)
        app.says(b"ping")
        story.passes(29)
        story.client(b"pong")
    story.passes(29.8)
    assert not story.caller.is_cut
    story.passes(0.4)
    assert story.caller.is_cut
    assert app.is_cut
    assert story.lines()[-1]["error_reason"] == "tunnel_idle"


@pytest.mark.parametrize("first", ["client", "app"])
@stops_in("tunnel_half_closed")
def test_a_tunnel_that_one_side_has_ended(story: Story, first: str) -> None:
    story.client(WEBSOCKET)
    app = story.lends()
    app.says(SWITCHING)
    (story.caller if first == "client" else app).closes()
    story.passes(59.8)
    assert not story.caller.transport.closing
    story.passes(0.4)
    assert story.caller.transport.closing
    assert app.transport.closing


def test_a_client_that_takes_nothing_out_of_its_tunnel(story: Story) -> None:
    story.client(WEBSOCKET)
    app = story.lends()
    story.caller.stops_reading()
    app.says(SWITCHING, 100_000 * b"x")
    assert not app.is_heeded
    story.passes(59)
    assert not story.caller.is_cut
    story.passes(2)
    assert story.caller.is_cut
    assert app.is_cut
    assert story.lines()[-1]["error_reason"] == "client_too_slow"


@stops_in("tunnel_parting")
def test_the_last_words_of_a_tunnel_are_not_kept_for_ever(story: Story) -> None:
    story.client(WEBSOCKET)
    app = story.lends()
    app.says(SWITCHING)
    story.caller.stops_reading()
    app.stops_reading()
    app.says(b"from the app")
    story.client(b"from the client")
    app.closes()
    story.caller.closes()
    story.passes(59)
    assert not story.caller.is_cut
    assert not app.is_cut
    story.passes(2)
    assert story.caller.is_cut
    assert app.is_cut


# ── apps ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
@stops_in("idle_upstream")
@pytest.mark.parametrize(("said", "seconds"), [(b"", 60.0), (b"Keep-Alive: timeout=5\r\n", 4.0)])
def test_an_idle_connection_to_an_app_is_closed(story: Story, said: bytes, seconds: float) -> None:
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\n" + said + b"Content-Length: 0\r\n\r\n")
    story.passes(seconds - 0.2)
    assert app.is_kept
    story.passes(0.4)
    assert not app.is_kept


@stops_in("turn")
def test_a_request_does_not_wait_long_for_others_to_end(story: Story) -> None:
    story.is_set(app_requests=1)
    story.calls().says(GET)
    story.calls()
    story.client(GET)
    story.passes(0.8)
    story.client_hears_nothing()
    story.passes(0.4)
    story.answer("app_busy", 503)


@stops_in("connect")
def test_short_timeouts_are_kept_within_a_fifth_of_a_second(story: Story) -> None:
    story.serves(connect_timeout=0.5, request_timeout=0.5)
    story.client(GET)
    story.passes(0.7)
    story.answer("connect_timeout", 504)
    story.client(GET)
    story.lends()
    story.passes(0.7)
    story.answer("response_timeout", 504)
