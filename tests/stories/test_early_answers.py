"""An app that answers before it has read the request: relayed, and the rest of the body read only within reason."""

from __future__ import annotations

import pytest

from tests.fakes.story import GET, HOST, POD, Story

DENIED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"


def upload(length: int) -> bytes:
    return b"POST /up HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % length


def test_a_small_rest_is_read_and_the_client_kept(story: Story) -> None:
    story.client(upload(100) + 50 * b"x")
    app = story.lends()
    app.says(DENIED)
    heard = story.client_hears(b"HTTP/1.1 403 Forbidden\r\n", ..., b"no")
    assert b"Connection: close" not in heard
    assert not app.is_kept  # it may still be reading: never reused
    story.client(30 * b"x", 20 * b"x" + GET)
    assert story.dialled == [POD]
    story.lends().hears(b"GET / HTTP/1.1\r\n", ...)


def test_the_rest_is_never_taken_for_a_request(story: Story) -> None:
    story.client(upload(len(GET) + 5))
    story.lends().says(DENIED)
    story.client_hears(..., b"no")
    story.client(GET)
    assert story.dialled == []
    story.client(b"12345")
    assert story.dialled == []
    story.client(GET)
    assert story.dialled == [POD]


def test_a_large_rest_closes_the_connection(story: Story) -> None:
    story.client(upload(100_000))
    app = story.lends()
    app.says(DENIED)
    story.client_hears(b"HTTP/1.1 403 Forbidden\r\n", ..., b"Connection: close\r\n\r\nno")
    assert not app.is_kept
    assert not story.caller.is_kept


def test_a_chunked_rest_closes_the_connection(story: Story) -> None:
    """Nobody knows how much it is."""
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    story.lends().says(DENIED)
    story.client_hears(b"HTTP/1.1 403 Forbidden\r\n", ..., b"Connection: close\r\n\r\nno")
    assert not story.caller.is_kept


def test_a_rest_that_does_not_come_within_a_second_ends_the_connection(story: Story) -> None:
    story.client(upload(100))
    story.lends().says(DENIED)
    story.client_hears(..., b"no")
    story.passes(0.8)
    assert story.caller.is_kept
    story.passes(0.4)
    assert not story.caller.is_kept


def test_after_goodbye_at_most_64_kib_are_read(story: Story) -> None:
    story.client(upload(10_000_000))
    story.lends().says(DENIED)
    story.client_hears(..., b"no")
    story.client(*([16 * 1024 * b"x"] * 4))
    assert not story.caller.transport.closing
    story.client(b"x")
    assert story.caller.is_cut


def test_after_goodbye_at_most_a_second_is_waited(story: Story) -> None:
    story.client(upload(10_000_000))
    story.lends().says(DENIED)
    story.passes(0.8)
    assert not story.caller.transport.closing
    story.passes(0.4)
    assert story.caller.transport.closing
    story.client_hears(..., b"no")


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


@pytest.mark.parametrize("length", [100, 10_000_000])
def test_a_body_for_nobody_is_handled_alike(story: Story, length: int) -> None:
    """Own answers are early answers too."""
    story.client(b"POST / HTTP/1.1\r\nHost: nobody.example\r\nContent-Length: %d\r\n\r\n" % length)
    story.answer("unknown_host", 404)
    assert story.caller.is_kept == (length == 100)
    if length == 100:
        story.client(100 * b"x" + GET)
        assert story.dialled == [POD]


def test_an_early_answer_while_the_request_goes_on_is_finished(story: Story) -> None:
    story.client(upload(10) + b"12345")
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
    story.client(b"67890")
    app.says(b"cd")
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"abcd")
    assert story.caller.is_kept
    assert not app.is_kept
