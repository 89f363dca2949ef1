"""Whoever is too slow is noticed, in every state, and only the one who is slow pays."""

from __future__ import annotations

from tests.fakes.story import GET, HOST, Story

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPLOAD = b"POST /up HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\n"


def test_a_client_that_says_nothing_is_let_go_after_ten_seconds(story: Story) -> None:
    story.calls()
    story.passes(9.8)
    assert story.caller.is_kept
    story.passes(0.4)
    assert not story.caller.is_kept
    story.client_hears_nothing()


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


def test_a_body_that_stalls_is_a_408_and_the_app_let_go(story: Story) -> None:
    story.client(UPLOAD + b"x")
    app = story.lends()
    story.passes(29.8)
    story.client_hears_nothing()
    story.passes(0.4)
    assert b"Connection: close\r\n" in story.answer("body_timeout", 408)
    assert app.is_cut
    assert not story.caller.is_kept


def test_a_body_that_moves_has_all_the_time(story: Story) -> None:
    story.client(UPLOAD)
    app = story.lends()
    for _ in range(99):
        story.client(b"x")
        story.passes(20)
    story.client(b"x")
    app.hears(..., 100 * b"x")
    app.says(OK)
    story.client_hears(..., b"ok")


def test_a_body_that_stalls_after_the_answer_began_breaks_it_off(story: Story) -> None:
    story.client(UPLOAD)
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    story.passes(31)
    story.client_hears(..., b"half")
    assert story.caller.is_cut
    assert app.is_cut


def test_a_client_is_not_slow_while_it_is_not_read(story: Story) -> None:
    """The app reads nothing: the client's deadline waits, the app's runs."""
    story.serves(idle_timeout=100.0)
    story.client(UPLOAD.replace(b"100", b"1000000"))
    app = story.lends(reads=False)
    story.client(65536 * b"x", 65536 * b"x")
    assert not story.caller.is_heeded
    story.passes(99)
    story.client_hears_nothing()
    story.passes(2)
    assert app.is_cut
    story.answer("response_timeout", 504)


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
    story.client(99 * b"x")
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


def test_a_client_that_takes_nothing_for_a_minute_is_cut(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    story.caller.stops_reading()
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + 100_000 * b"x")
    story.passes(59)
    assert not story.caller.is_cut
    story.passes(2)
    assert story.caller.is_cut
    assert app.is_cut
    assert story.lines()[-1]["error_reason"] == "client_too_slow"


def test_a_client_that_takes_a_little_each_minute_is_served(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    story.caller.stops_reading()
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + 100_000 * b"x")
    for _ in range(5):
        story.passes(50)
        story.caller.reads_a_little(100)
    assert not story.caller.is_cut
    story.caller.reads_again()
    story.client_hears(..., 100_000 * b"x")


def test_a_slow_app_does_not_make_its_client_late(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    story.passes(300)
    app.says(OK)
    story.client_hears(..., b"ok")
    assert story.caller.is_kept


def test_short_timeouts_are_kept_within_a_fifth_of_a_second(story: Story) -> None:
    story.serves(connect_timeout=0.5, request_timeout=0.5)
    story.client(GET)
    story.passes(0.7)
    story.answer("connect_timeout", 504)
    story.client(GET)
    story.lends()
    story.passes(0.7)
    story.answer("response_timeout", 504)
