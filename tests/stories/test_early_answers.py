"""An app that answers before it has read the request: relayed, and the rest of the body read only within reason."""

from __future__ import annotations

import pytest

from tests.fakes.story import GET, HOST, POD, AppEnd, Story

DENIED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"


def upload(length: int) -> bytes:
    return b"POST /up HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % length


@pytest.mark.parametrize(
    "rest", [b"Content-Length: 100\r\n", b"Content-Length: 10000000\r\n", b"Transfer-Encoding: chunked\r\n"]
)
def test_an_answer_before_the_rest_of_the_request_says_close(story: Story, rest: bytes) -> None:
    """However small the rest is: a promise to keep the connection would oblige the router to read a body to its end."""
    story.client(b"POST /up HTTP/1.1\r\n" + HOST + rest + b"\r\n")
    app = story.lends()
    app.says(DENIED)
    story.client_hears(b"HTTP/1.1 403 Forbidden\r\n", ..., b"Connection: close\r\n\r\nno")
    assert not app.is_kept  # it may still be reading: never reused
    assert story.caller.transport.ended  # said goodbye, and yet
    assert not story.caller.transport.closing  # what comes is read


def test_an_answer_to_a_request_that_is_here_as_a_whole_keeps_the_connection(story: Story) -> None:
    story.serves(maintenance=True)
    story.client(upload(5) + b"12345")
    assert b"Connection: close" not in story.answer("maintenance", 503)
    story.client(GET)
    story.answer("maintenance", 503)
    assert story.caller.is_kept


@pytest.mark.parametrize("said", ["own", "app's"])
def test_the_rest_is_dropped_whatever_it_is(story: Story, said: str) -> None:
    if said == "own":
        story.serves(maintenance=True)
    story.client(upload(10_000_000))
    if said == "own":
        story.answer("maintenance", 503)
    else:
        story.lends().says(DENIED)
        story.client_hears(..., b"no")
    for _ in range(40):
        story.client(GET, 250_000 * b"x")
        story.passes(0.1)
    story.client_hears_nothing()
    assert story.dialled == []
    assert not story.caller.transport.closing
    story.caller.closes()
    assert story.caller.transport.closing and not story.caller.is_cut


def test_a_client_that_sends_on_has_thirty_seconds_in_all(story: Story) -> None:
    story.client(upload(10_000_000))
    story.lends().says(DENIED)
    for _ in range(29):
        story.client(100 * b"x")
        story.passes(1)
    assert not story.caller.transport.closing
    story.client(100 * b"x")
    story.passes(1.2)
    assert story.caller.is_cut
    story.client_hears(..., b"no")


def test_a_client_that_sends_nothing_more_has_five_seconds(story: Story) -> None:
    story.client(upload(10_000_000))
    story.lends().says(DENIED)
    story.client(100 * b"x")
    story.passes(4.8)
    assert not story.caller.transport.closing
    story.passes(0.4)
    assert story.caller.transport.closing
    story.client_hears(..., b"no")


def test_a_large_piece_of_the_rest_is_followed_by_everybody_elses_turn(story: Story) -> None:
    story.client(upload(10_000_000))
    story.lends().says(DENIED)
    protocol = story.caller.transport.protocol
    protocol.data_received(64 * 1024 * b"x")
    assert story.caller.transport.paused
    story.loop.settle()
    assert not story.caller.transport.paused


def test_requests_that_follow_a_goodbye_are_dropped_like_a_rest(story: Story) -> None:
    """Pipelined ones: more of them than a socket holds would reset the answer out of the client's hands."""
    story.client(b"GET / HTTP/1.0\r\n" + HOST + b"\r\n")
    story.lends().says(DENIED)
    for _ in range(20):
        story.passes(0.8)
        story.client(500 * GET)
    assert not story.caller.transport.closing
    story.client_hears(..., b"no")


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"X-Large: " + 40_000 * b"x",
        b"CONNECT shop.example:443 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nno size\r\n",
    ],
    ids=["a bad head", "half a head", "a tunnel", "a bad chunk"],
)
def test_what_follows_a_refusal_is_dropped_like_a_rest(story: Story, request_: bytes) -> None:
    story.client(request_)
    for _ in range(20):
        story.client(10_000 * b"x")
        story.passes(0.8)
    assert not story.caller.transport.closing
    assert b"Connection: close\r\n" in story.client_hears(b"HTTP/1.1 ", ...)


def test_only_so_many_may_send_on(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond that the one that was answered first is closed."""
    monkeypatch.setattr("drycc_proxy.state.server_state.MAX_LINGERING", 3)
    story.serves(maintenance=True)
    callers = [story.calls() for _ in range(5)]
    for caller in callers:
        caller.says(upload(100_000))
    assert [caller.is_cut for caller in callers] == [True, True, False, False, False]
    callers[3].closes()
    callers.append(story.calls())
    story.client(upload(100_000))
    assert [caller.is_cut for caller in callers] == [True, True, False, False, False, False]


def test_those_who_send_on_take_no_more_than_a_quarter_of_the_places(story: Story) -> None:
    """They need nothing any more, and who waits for a place has not been answered yet."""
    story.core.admission.most = 12
    story.serves(maintenance=True)
    callers = [story.calls(f"198.51.100.{number}") for number in range(5)]
    for caller in callers:
        caller.says(upload(100_000))
    assert [caller.is_cut for caller in callers] == [True, True, False, False, False]


def test_a_client_with_many_that_send_on_makes_room_for_its_own(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """One client could take the answers away from all others that were still sending."""
    monkeypatch.setattr("drycc_proxy.state.server_state.MAX_LINGERING", 16)
    story.serves(maintenance=True)
    honest = [story.calls(f"198.51.100.{number}") for number in range(8)]
    for caller in honest:
        caller.says(upload(100_000))
    hostile = [story.calls("203.0.113.66") for _ in range(30)]
    for caller in hostile:
        caller.says(upload(100_000))

    assert not any(caller.is_cut for caller in honest)
    assert [caller.is_cut for caller in hostile] == [True] * 22 + [False] * 8
    for caller in (*honest, *hostile[22:]):
        caller.closes()
    assert (story.core.lingering, story.core.lingering_of) == ({}, {})


def test_who_sends_on_goes_first_when_places_are_few(story: Story) -> None:
    story.serves(maintenance=True)
    story.client(upload(100_000))
    story.passes(4.5)
    story.client(b"x")
    story.core.admission.most = 1
    story.core.relieve(story.clock.seconds)
    assert not story.caller.is_cut  # it may still be about to read
    story.passes(1)
    story.core.relieve(story.clock.seconds)
    assert story.caller.is_cut


def test_a_router_that_leaves_waits_five_seconds_for_who_sends_on(story: Story) -> None:
    story.serves(maintenance=True)
    story.client(upload(100_000))
    story.drains()
    for _ in range(6):
        story.client(b"x")
        story.passes(0.8)
    assert not story.caller.is_cut
    story.client(b"x")
    story.passes(0.6)
    assert story.caller.is_cut


def test_a_goodbye_waits_for_a_client_that_still_reads(story: Story) -> None:
    """The answer is larger than what the network holds, and the client is slow but alive."""
    story.client(b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    app = story.lends()
    story.caller.stops_reading()
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + 50_000 * b"x")
    for _ in range(3):
        story.passes(50)
        assert not story.caller.is_cut
        story.caller.reads_a_little(15_000)
    story.caller.reads_again()
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., 50_000 * b"x")


def test_a_goodbye_does_not_wait_for_a_client_that_takes_nothing(story: Story) -> None:
    story.client(b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    app = story.lends()
    story.caller.stops_reading()
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + 50_000 * b"x")
    story.passes(121)
    assert story.caller.is_cut


@pytest.mark.parametrize("expects", [b"", b"Expect: 100-continue\r\n"])
@pytest.mark.parametrize("length", [100, 10_000_000])
def test_a_body_for_nobody_is_handled_alike(story: Story, length: int, expects: bytes) -> None:
    """Own answers are early answers too; and a client that waits for a 100 may send nevertheless."""
    story.client(b"POST / HTTP/1.1\r\nHost: nobody.example\r\n%bContent-Length: %d\r\n\r\n" % (expects, length))
    assert b"Connection: close\r\n" in story.answer("unknown_host", 404)
    story.client(min(length, 1_000_000) * b"x" + GET)
    assert story.dialled == []
    assert not story.caller.transport.closing


def test_an_early_answer_while_the_request_goes_on_is_finished(story: Story) -> None:
    story.client(upload(10) + b"12345")
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
    story.client(b"67890")
    app.says(b"cd")
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"Connection: close\r\n", ..., b"abcd")
    assert not story.caller.is_kept
    assert not app.is_kept


# ── the app's connection ──────────────────────────────────────────────────────────────────────────────────────────────
def test_an_app_that_answers_before_it_was_sent_everything_is_not_asked_again(story: Story) -> None:
    """The client's last byte is here, but some of it still waits for the app to read."""
    story.client(upload(60_000))
    app = story.lends()
    app.stops_reading()
    story.client(60_000 * b"x")
    assert app.transport.get_write_buffer_size()
    app.says(DENIED)
    assert b"Connection: close" not in story.client_hears(b"HTTP/1.1 403 Forbidden\r\n", ..., b"no")
    assert not app.is_kept
    assert story.core.counters.upstream_idle == 0
    story.client(GET)
    assert story.dialled == [POD]


def test_an_app_that_had_everything_but_the_last_bytes_is_not_asked_again(story: Story) -> None:
    """As above, with the end of a long answer after the app has read everything: it began its answer too early."""
    story.client(upload(10))
    app = story.lends()
    app.stops_reading()
    story.client(b"0123456789")
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
    app.reads_again()
    app.says(b"cd")
    story.client_hears(..., b"abcd")
    assert not app.is_kept


def breaks(monkeypatch: pytest.MonkeyPatch, app: AppEnd, *left: bytes) -> None:
    """A write to the app fails while these bytes of it wait in the socket."""
    monkeypatch.setattr("drycc_proxy.http1.upstream.unread", lambda _: iter(left))
    app.resets()


@pytest.mark.parametrize("request_", [upload(1000) + 500 * b"x", upload(1000) + 1000 * b"x"], ids=["half", "whole"])
@pytest.mark.parametrize(
    "left",
    [
        (DENIED,),
        tuple(DENIED[at : at + 1] for at in range(len(DENIED))),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + DENIED, b"more"),
        (b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n", b"0\r\n\r\n"),
    ],
    ids=["at once", "in pieces", "after 100", "chunks"],
)
def test_what_an_app_said_before_it_broke_off_is_its_answer(
    story: Story, monkeypatch: pytest.MonkeyPatch, request_: bytes, left: tuple[bytes, ...]
) -> None:
    story.client(request_)
    app = story.lends()
    breaks(monkeypatch, app, *left)
    story.client_hears(..., b"HTTP/1.1 403 Forbidden\r\n", ..., b"no", ...)
    assert story.counted() == {(403, "POST", "http/1.1"): 1}
    assert story.core.counters.upstream_idle == 0
    story.calls()
    story.client(GET)
    assert story.dialled == [POD]


def test_a_request_behind_such_an_answer_does_not_go_to_the_broken_connection(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    story.client(upload(5) + b"12345" + GET)
    breaks(monkeypatch, story.lends(), DENIED)
    story.client_hears(b"HTTP/1.1 403 Forbidden\r\n", ..., b"no")
    assert story.dialled == [POD]


def test_half_of_what_an_app_said_before_it_broke_off_is_no_answer(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    story.client(upload(1000))
    breaks(monkeypatch, story.lends(), DENIED[:-1])
    assert story.caller.is_cut
    story.calls()
    story.client(upload(1000))
    breaks(monkeypatch, story.lends(), DENIED[:20])
    story.answer("bad_response", 502)


def test_the_last_words_of_a_tunnel_that_broke_are_passed_on(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    story.client(b"GET /ws HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    app = story.lends()
    app.says(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    breaks(monkeypatch, app, b"\x88\x02\x03\xe9")
    story.client_hears(..., b"\x88\x02\x03\xe9")
    assert story.caller.is_cut
