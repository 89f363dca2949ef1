"""1xx answers, and the dance of Expect: 100-continue (RFC 9110 10.1.1, 15.2)."""

from __future__ import annotations

import pytest

from tests.fakes.story import GET, HOST, Story, fields_of

EXPECTING = b"POST /up HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n"
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_an_expectation_is_passed_on_and_granted_by_the_app(story: Story) -> None:
    story.client(EXPECTING)
    app = story.lends()
    assert fields_of(app.hears(...))[b"expect"] == [b"100-continue"]
    story.client_hears_nothing()
    app.says(CONTINUE)
    story.client_hears(CONTINUE)
    story.client(b"body")
    app.hears(b"body")
    app.says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")
    assert story.caller.is_kept
    assert app.is_kept


def test_an_expectation_that_the_app_refuses_closes_both_connections(story: Story) -> None:
    """Nobody can know whether the client will send the body it announced."""
    story.client(EXPECTING)
    app = story.lends()
    app.says(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    story.client_hears(b"HTTP/1.1 401 Unauthorized\r\n", ..., b"Connection: close\r\n\r\n")
    assert not app.is_kept
    assert not story.caller.is_kept
    story.client(b"body" + GET)
    assert story.dialled == []
    story.client_hears_nothing()


def test_a_client_that_does_not_wait_for_the_grant(story: Story) -> None:
    story.client(EXPECTING, b"body")
    app = story.lends()
    app.hears(..., b"\r\n\r\nbody")
    app.says(CONTINUE + OK)
    story.client_hears(CONTINUE + b"HTTP/1.1 200 OK\r\n", ..., b"ok")
    assert app.is_kept


def test_an_expectation_in_any_letter_case_is_the_same_one(story: Story) -> None:
    story.client(EXPECTING.replace(b"100-continue", b"100-Continue"))
    assert fields_of(story.lends().hears(...))[b"expect"] == [b"100-continue"]


@pytest.mark.parametrize(
    "expectation", [b"Expect: 200-ok\r\n", b"Expect: 100-continue, x\r\n", b"Expect: 100-continue\r\n" * 2]
)
def test_other_expectations_fail(story: Story, expectation: bytes) -> None:
    story.client(b"POST /up HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n" + expectation + b"\r\n")
    story.answer("expectation_failed", 417)
    assert not story.caller.is_kept


def test_an_expectation_of_1_0_is_ignored(story: Story) -> None:
    story.client(b"POST /up HTTP/1.0\r\n" + HOST + b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\nbody")
    app = story.lends()
    assert b"expect" not in fields_of(app.hears(..., b"body"))
    app.says(CONTINUE + OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")


def test_an_expectation_of_1_1_stands_also_behind_the_same_fields_in_1_0(story: Story) -> None:
    fields = HOST + b"Connection: keep-alive\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    story.client(b"POST /up HTTP/1.0\r\n" + fields + b"body")
    app = story.lends()
    app.hears(...)
    app.says(OK)
    story.client_hears(..., b"ok")
    story.client(b"POST /up HTTP/1.1\r\n" + fields)
    assert fields_of(story.lends(reused=True).hears(...))[b"expect"] == [b"100-continue"]


def test_an_own_answer_to_an_expecting_client_closes(story: Story) -> None:
    story.serves(body_size=2)
    story.client(EXPECTING)
    assert b"Connection: close\r\n" in story.answer("body_too_large", 413)
    assert not story.caller.is_kept


def test_early_hints_are_passed_on_with_their_fields(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")
    story.client_hears(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")
    app.says(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
    story.client_hears(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n", ..., b"ok")
    assert app.is_kept


def test_interim_answers_mean_nothing_to_1_0(story: Story) -> None:
    story.client(b"GET / HTTP/1.0\r\n" + HOST + b"\r\n")
    story.lends().says(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")


def test_sixteen_interim_answers_at_once_are_enough(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    app.says(16 * PROCESSING)
    story.client_hears(16 * PROCESSING)
    app.says(PROCESSING)
    story.answer("bad_response", 502)
    assert not app.is_kept


def test_an_app_that_works_for_hours_may_say_so_every_twenty_seconds(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    for _ in range(2000):
        story.clock.seconds += 20.0
        app.says(PROCESSING)
        story.client_hears(PROCESSING)
    app.says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")
    assert app.is_kept


@pytest.mark.parametrize(("a_second", "allowed"), [(2, True), (4, True), (5, False), (100, False)])
def test_the_rate_of_interim_answers_is_bounded(story: Story, a_second: int, allowed: bool) -> None:
    story.client(GET)
    app = story.lends()
    for _ in range(100 * a_second):
        story.clock.seconds += 1.0 / a_second
        app.says(PROCESSING)
        if app.is_cut:
            break
    assert app.is_cut is not allowed
    if not allowed:
        story.client_hears(..., b"X-Router-Error: bad_response\r\n", ...)


@pytest.mark.parametrize(("size", "allowed"), [(3_000, True), (16_000, True), (20_000, False), (60_000, False)])
def test_the_bytes_of_interim_answers_are_bounded(story: Story, size: int, allowed: bool) -> None:
    """One a second: sixteen times the bytes that count as one at once, and four times as many a second."""
    story.client(GET)
    app = story.lends()
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: %b\r\n\r\n" % (size * b"x")
    for _ in range(100):
        story.clock.seconds += 1.0
        app.says(hints)
        if app.is_cut:
            break
    assert app.is_cut is not allowed


def test_what_was_said_to_one_client_does_not_count_for_the_next(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    for _ in range(3):
        app.says(16 * PROCESSING + OK)
        story.client_hears(16 * PROCESSING, ..., b"ok")
        story.client(GET)
        assert story.lends(reused=True).address == app.address


@pytest.mark.parametrize("body", [b"", b"body"])
@pytest.mark.parametrize("most", [10.0, 40.0])
def test_an_interim_answer_buys_no_more_than_the_request_timeout(story: Story, body: bytes, most: float) -> None:
    """It is a sign of life, not the head that the owner allows so much time for."""
    story.serves(request_timeout=most, idle_timeout=30.0)
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body))
    app = story.lends()
    if body:
        story.passes(7)
        story.client(body)
    for _ in range(9):
        story.passes(most / 10)
        app.says(PROCESSING)
    story.client_hears(9 * PROCESSING)
    story.passes(most / 10 + 0.4)
    story.answer("response_timeout", 504)
    assert app.is_cut


def test_switching_protocols_that_nobody_asked_for_is_no_answer(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    story.answer("bad_response", 502)
    assert not app.is_kept


def test_an_interim_answer_keeps_the_app_alive(story: Story) -> None:
    story.serves(idle_timeout=5.0)
    story.client(GET)
    app = story.lends()
    for _ in range(3):
        story.passes(4)
        app.says(b"HTTP/1.1 102 Processing\r\n\r\n")
    app.says(OK)
    story.client_hears(3 * b"HTTP/1.1 102 Processing\r\n\r\n", ..., b"ok")
