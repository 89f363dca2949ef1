"""Upgrades to WebSocket: no tunnel before the app agrees, and then nothing but bytes, both ways (RFC 9110 7.8)."""

from __future__ import annotations

import pytest

from tests.fakes.story import GET, HOST, AppEnd, Story, fields_of

KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
WANTED = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
ASKING = b"GET /chat HTTP/1.1\r\n" + HOST + WANTED + KEY + b"Origin: https://shop.example\r\n\r\n"
GRANTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FRAMES = bytes(range(256))
"""Whatever is in them: nobody looks."""


def tunnel(story: Story) -> AppEnd:
    """A tunnel, and the end of it at the app."""
    story.client(ASKING)
    app = story.lends()
    app.hears(...)
    app.says(GRANTED)
    story.client_hears(b"HTTP/1.1 101 ", ..., b"\r\n\r\n")
    return app


# ── how it begins ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_wish_and_the_grant_are_passed_on_with_everything_about_them(story: Story) -> None:
    story.client(ASKING)
    app = story.lends()
    asked = fields_of(app.hears(b"GET /chat HTTP/1.1\r\n", ...))
    assert asked[b"connection"] == [b"Upgrade"]
    assert asked[b"upgrade"] == [b"websocket"]
    assert asked[b"sec-websocket-key"] == [b"dGhlIHNhbXBsZSBub25jZQ=="]
    assert asked[b"sec-websocket-version"] == [b"13"]
    assert asked[b"origin"] == [b"https://shop.example"]

    app.says(GRANTED)

    granted = fields_of(story.client_hears(b"HTTP/1.1 101 Switching Protocols\r\n", ...))
    assert granted[b"connection"] == [b"Upgrade"]
    assert granted[b"upgrade"] == [b"websocket"]
    assert granted[b"sec-websocket-accept"] == [b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]
    assert granted[b"x-request-id"] == asked[b"x-request-id"]


def test_bytes_pass_both_ways_as_they_are(story: Story) -> None:
    app = tunnel(story)
    story.client(FRAMES, FRAMES)
    app.hears(FRAMES + FRAMES)
    app.says(FRAMES, b"GET / HTTP/1.1\r\n\r\n")
    story.client_hears(FRAMES + b"GET / HTTP/1.1\r\n\r\n")
    assert story.caller.is_kept
    assert app.is_kept


def test_frames_right_behind_the_grant_are_not_lost(story: Story) -> None:
    story.client(ASKING)
    story.lends().says(GRANTED + FRAMES)
    story.client_hears(b"HTTP/1.1 101 ", ..., b"\r\n\r\n" + FRAMES)


def test_a_grant_that_comes_in_pieces_is_the_same_grant(story: Story) -> None:
    story.client(ASKING)
    story.lends().says(GRANTED[:20], GRANTED[20:-1], GRANTED[-1:] + FRAMES)
    story.client_hears(b"HTTP/1.1 101 ", ..., b"\r\n\r\n" + FRAMES)


def test_what_the_client_sends_before_the_grant_waits_for_it(story: Story) -> None:
    story.client(ASKING, FRAMES)
    app = story.lends()
    app.hears(b"GET /chat ", ..., b"\r\n\r\n")
    app.says(GRANTED)
    app.hears(FRAMES)


def test_what_was_sent_before_a_refusal_is_the_next_request_and_nothing_else(story: Story) -> None:
    """Nobody smuggles a request past the router by announcing an upgrade (hardening W-01)."""
    story.client(ASKING + b"GET /hidden HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n")
    app = story.lends()
    app.hears(...)
    app.says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"okHTTP/1.1 404 ", ...)
    app.hears_nothing()


def test_an_app_that_refuses_answers_as_ever(story: Story) -> None:
    story.client(ASKING)
    app = story.lends()
    app.says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")
    story.client(GET)
    assert story.lends(reused=True) is app


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /chat HTTP/1.1\r\n" + HOST + WANTED + KEY + b"Content-Length: 0\r\n\r\n",
        b"GET /chat HTTP/1.1\r\n" + HOST + WANTED + KEY + b"Content-Length: 2\r\n\r\nhi",
        b"GET /chat HTTP/1.1\r\n" + HOST + WANTED + KEY + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /chat HTTP/1.0\r\n" + HOST + WANTED + KEY + b"\r\n",
        b"GET /chat HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\n" + KEY + b"\r\n",
        b"GET /chat HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\n" + KEY + b"\r\n",
        b"GET /chat HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"GET /chat HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
        b"GET /chat HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n",
    ],
    ids=["POST", "body", "chunked body", "1.0", "not named", "no token", "h2c", "two tokens", "two fields"],
)
def test_only_a_get_of_1_1_without_a_body_may_ask_and_only_for_websocket(story: Story, request_: bytes) -> None:
    """Anything else is an ordinary request, and an app that switches all the same gives no answer."""
    story.client(request_)
    app = story.lends()
    asked = fields_of(app.hears(...))
    assert b"upgrade" not in asked
    assert b"connection" not in asked
    app.says(GRANTED)
    story.answer("bad_response", 502)
    assert not app.is_kept


@pytest.mark.parametrize(
    "grant",
    [
        GRANTED.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        GRANTED.replace(b"Upgrade: websocket", b"Upgrade: websocket\r\nUpgrade: h2c"),
        GRANTED.replace(b"Upgrade: websocket\r\n", b""),
        GRANTED.replace(b"Connection: Upgrade\r\n", b""),
    ],
    ids=["another token", "two tokens", "no token", "not named"],
)
def test_a_grant_of_something_else_is_no_answer(story: Story, grant: bytes) -> None:
    story.client(ASKING)
    app = story.lends()
    app.says(grant)
    story.answer("bad_response", 502)
    assert not app.is_kept


def test_the_same_fields_with_another_method_do_not_ask_again(story: Story) -> None:
    story.client(ASKING)
    app = story.lends()
    app.hears(...)
    app.says(OK)
    story.client_hears(...)
    story.client(ASKING.replace(b"GET", b"DELETE"))
    assert b"upgrade" not in fields_of(story.lends(reused=True).hears(...))


def test_the_gate_comes_first(story: Story) -> None:
    story.serves(maintenance=True)
    story.client(ASKING)
    story.answer("maintenance", 503)


# ── how it goes on ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_client_that_does_not_read_stops_its_app(story: Story) -> None:
    app = tunnel(story)
    story.caller.stops_reading()
    for _ in range(5):
        app.says(16 * 1024 * b"x")
    assert not app.is_heeded
    story.caller.reads_again()
    assert app.is_heeded
    story.client_hears(5 * 16 * 1024 * b"x")


def test_an_app_that_does_not_read_stops_its_client(story: Story) -> None:
    app = tunnel(story)
    app.stops_reading()
    for _ in range(5):
        story.client(16 * 1024 * b"x")
    assert not story.caller.is_heeded
    app.reads_again()
    assert story.caller.is_heeded
    app.hears(5 * 16 * 1024 * b"x")


def test_a_tunnel_outlives_every_change_of_its_route(story: Story) -> None:
    app = tunnel(story)
    story.serves(endpoints=())
    story.serves(maintenance=True)
    story.client(b"still here")
    app.hears(b"still here")


@pytest.mark.parametrize("speaker", ["client", "app"])
def test_whoever_speaks_keeps_it_alive(story: Story, speaker: str) -> None:
    story.serves(idle_timeout=5.0)
    app = tunnel(story)
    for _ in range(4):
        story.passes(4)
        (story.client if speaker == "client" else app.says)(b"ping")
    assert story.caller.is_kept
    assert app.is_kept
    (app.hears if speaker == "client" else story.client_hears)(4 * b"ping")


def test_silence_of_both_ends_it(story: Story) -> None:
    story.serves(idle_timeout=5.0)
    app = tunnel(story)
    story.passes(6)
    assert not app.is_kept
    assert not story.caller.is_kept
    [line] = story.lines()
    assert line["error_reason"] == "tunnel_idle"
    assert story.core.counters.tunnels_closed == {"tunnel_idle": 1}


def test_a_client_that_takes_nothing_for_a_minute_is_given_up(story: Story) -> None:
    app = tunnel(story)
    story.caller.stops_reading()
    for _ in range(5):
        app.says(16 * 1024 * b"x")
    story.passes(61)
    assert story.caller.is_cut
    assert not app.is_kept
    assert story.core.counters.tunnels_closed == {"client_too_slow": 1}


# ── how it ends ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_last_word_of_the_client_is_passed_on_and_the_app_may_still_speak(story: Story) -> None:
    app = tunnel(story)
    story.client(b"bye")
    story.caller.closes()
    app.hears(b"bye")
    assert app.transport.ended
    app.says(b"farewell")
    story.client_hears(b"farewell")
    app.closes()
    assert story.caller.transport.closing
    assert not story.caller.is_cut
    assert app.transport.closing
    assert story.core.counters.tunnels_closed == {"client_closed": 1}


def test_a_last_word_of_the_app_is_passed_on_and_the_client_may_still_speak(story: Story) -> None:
    app = tunnel(story)
    app.says(b"bye")
    app.closes()
    story.client_hears(b"bye")
    assert story.caller.transport.ended
    story.client(b"farewell")
    app.hears(b"farewell")
    story.caller.closes()
    assert app.transport.closing
    assert not app.is_cut
    assert story.caller.transport.closing
    assert story.core.counters.tunnels_closed == {"app_closed": 1}


@pytest.mark.parametrize("side", ["client", "app"])
def test_half_a_tunnel_lives_for_a_minute(story: Story, side: str) -> None:
    app = tunnel(story)
    (story.caller if side == "client" else app).closes()
    story.passes(55)
    assert not app.transport.closing
    assert not story.caller.transport.closing
    story.passes(6)
    assert app.transport.closing
    assert story.caller.transport.closing
    assert story.core.counters.tunnels_closed == {f"{side}_closed": 1}


def test_an_app_that_breaks_off_is_seen_to_break_off(story: Story) -> None:
    app = tunnel(story)
    app.resets()
    assert story.caller.is_cut
    assert story.core.counters.tunnels_closed == {"upstream_reset": 1}


def test_a_client_that_breaks_off_is_gone_for_the_app(story: Story) -> None:
    app = tunnel(story)
    story.client_leaves()
    assert not app.is_kept
    assert story.core.counters.tunnels_closed == {"client_gone": 1}


def test_a_client_that_ended_before_the_grant_gets_half_a_tunnel(story: Story) -> None:
    story.client(ASKING)
    app = story.lends()
    story.caller.closes()
    app.says(GRANTED)
    story.client_hears(b"HTTP/1.1 101 ", ...)
    assert app.transport.ended
    app.closes()


def test_a_drain_leaves_it_alone_until_its_end(story: Story) -> None:
    app = tunnel(story)
    for connection in list(story.core.connections):
        connection.drain()
    story.client(b"still here")
    app.hears(b"still here")
    for connection in list(story.core.connections):
        connection.abort_now()
    assert not app.is_kept
    assert story.core.counters.tunnels_closed == {"draining": 1}


# ── what is told of it ────────────────────────────────────────────────────────────────────────────────────────────────
def test_it_is_logged_and_counted_when_it_ends(story: Story) -> None:
    app = tunnel(story)
    assert story.core.counters.tunnels_open == 1
    story.client(b"12345")
    app.says(b"123")
    assert story.lines() == []
    story.passes(7)
    story.caller.closes()
    app.closes()
    [line] = story.lines()
    assert (line["response_code"], line["bytes_in"], line["bytes_out"]) == (101, 5, 3)
    assert story.counted() == {(101, "GET", "http/1.1"): 1}
    assert story.core.counters.tunnels_open == 0
    assert story.core.counters.tunnels == 1
    assert story.core.counters.routes["shop/web"].duration.total < 1.0, "its age is not how fast it was answered"
