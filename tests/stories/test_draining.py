"""Drain: what is idle closes, what is under way finishes and says goodbye."""

from __future__ import annotations

import pytest

from tests.fakes.story import GET, HOST, Story

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("late", [False, True])
def test_idle_connections_close_after_what_was_on_its_way_is_answered(story: Story, late: bool) -> None:
    fresh = story.calls()
    kept = story.calls()
    kept.says(GET)
    story.lends().says(OK)
    kept.hears(..., b"ok")
    story.drains()
    story.passes(0.5)
    for caller in (fresh, kept):
        assert caller.is_kept
        if not late:
            caller.says(GET)
            story.lends(reused=True).says(OK)
            caller.hears(b"HTTP/1.1 200 OK\r\n", ..., b"Connection: close\r\n\r\nok")
            assert not caller.is_kept
    story.passes(0.7)
    assert not fresh.is_kept
    assert not kept.is_kept


def test_a_request_under_way_is_answered_and_told(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    story.drains()
    assert story.caller.is_kept
    app.says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"Connection: close\r\n\r\nok")
    assert not story.caller.is_kept


def test_an_answer_under_way_is_finished(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
    story.drains()
    app.says(b"lf")
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"half")
    assert not story.caller.is_kept


def test_a_head_under_way_becomes_one_last_request(story: Story) -> None:
    story.client(GET[:10])
    story.drains()
    story.client(GET[10:])
    story.lends().says(OK)
    story.client_hears(..., b"Connection: close\r\n\r\nok")
    assert not story.caller.is_kept


def test_an_upload_under_way_is_finished(story: Story) -> None:
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\nha")
    app = story.lends()
    story.drains()
    story.client(b"lf")
    app.hears(..., b"half")
    app.says(OK)
    story.client_hears(..., b"Connection: close\r\n\r\nok")


def test_waiting_requests_are_left_to_be_sent_again(story: Story) -> None:
    story.client(GET + GET)
    app = story.lends()
    story.drains()
    app.hears(b"GET / ", ..., b"\r\n\r\n")
    app.says(OK)
    story.client_hears(..., b"Connection: close\r\n\r\nok")
    app.hears_nothing()


def test_a_rest_that_is_being_read_is_not_followed_by_another_request(story: Story) -> None:
    story.client(b"POST / HTTP/1.1\r\nHost: nobody.example\r\nContent-Length: 4\r\n\r\n")
    story.answer("unknown_host", 404)
    story.drains()
    story.client(b"half" + GET)
    assert story.dialled == []
    assert not story.caller.is_kept


def test_giving_up_breaks_everything_off(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
    for connection in list(story.core.connections):
        connection.abort_now()
    story.loop.settle()
    assert story.caller.is_cut
    assert app.is_cut
