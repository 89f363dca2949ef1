"""Clients that go away: their apps are told at once, and nobody else notices."""

from __future__ import annotations

import gc
from types import FunctionType, ModuleType

from drycc_proxy.state.server_state import Core
from tests.fakes.story import GET, HOST, POD, Story
from tests.fakes.transport import FakeTransport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPLOAD = b"POST /up HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\n"


def test_a_client_that_leaves_before_the_answer_cancels_its_app(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    story.client_leaves()
    assert app.is_cut
    assert story.counted() == {(499, "GET", "http/1.1"): 1}
    [line] = story.lines()
    assert (line["response_code"], line["error_reason"]) == (499, "client_gone")


def test_a_client_that_leaves_in_the_middle_of_the_answer_cancels_its_app(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    story.client_leaves()
    assert app.is_cut
    assert story.counted() == {(200, "GET", "http/1.1"): 1}
    assert story.lines()[-1]["error_reason"] == "client_gone"


def test_a_client_that_leaves_in_the_middle_of_its_body_cancels_its_app(story: Story) -> None:
    story.client(UPLOAD + b"x")
    app = story.lends()
    story.client_leaves()
    assert app.is_cut
    assert story.counted() == {(499, "POST", "http/1.1"): 1}


def test_a_client_that_ends_in_the_middle_of_its_body_cancels_its_app(story: Story) -> None:
    """The body can never become complete, so it must never look complete to the app."""
    story.client(UPLOAD + b"x")
    app = story.lends()
    story.caller.closes()
    assert app.is_cut
    assert not story.caller.is_kept


def test_a_client_that_leaves_while_a_connection_is_made_leaves_it_to_the_next(story: Story) -> None:
    story.client(GET)
    story.client_leaves()
    app = story.lends()
    app.hears_nothing()
    story.calls()
    story.client(GET)
    assert story.lends(reused=True) is app
    app.says(OK)
    story.client_hears(..., b"ok")


def test_a_client_that_leaves_while_its_request_is_retried(story: Story) -> None:
    story.keeps_warm()
    story.client(GET)
    story.lends(reused=True).resets()
    story.client_leaves()
    assert story.dialled == [POD]
    story.refuses()
    assert story.counted()[499, "GET", "http/1.1"] == 1


def test_a_client_that_leaves_takes_its_waiting_requests_along(story: Story) -> None:
    story.client(GET + GET + GET)
    app = story.lends()
    story.client_leaves()
    assert app.is_cut
    assert story.dialled == []
    assert story.counted() == {(499, "GET", "http/1.1"): 1}


def test_a_client_that_leaves_between_requests_is_no_event(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    app.says(OK)
    story.client_leaves()
    assert app.is_kept
    assert len(story.lines()) == 1


def test_a_client_that_ends_in_the_middle_of_a_head_is_no_request(story: Story) -> None:
    story.client(GET[:10])
    story.caller.closes()
    assert not story.caller.is_kept
    assert story.lines() == []


def test_one_client_leaving_does_not_touch_another(story: Story) -> None:
    one, other = story.calls(), story.calls()
    one.says(GET)
    other.says(GET)
    first, second = story.lends(), story.lends()
    one.resets()
    assert first.is_cut
    second.says(OK)
    other.hears(..., b"ok")


def test_a_client_that_has_ended_its_side_gets_an_answer_that_comes_soon(story: Story) -> None:
    story.client(GET)
    story.caller.closes()
    app = story.lends()
    story.passes(0.6)
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
    story.passes(30)  # once it has begun, it may take its time
    app.says(b"lf")
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"half")
    assert not story.caller.is_kept
    assert app.is_kept


def test_a_client_that_has_ended_its_side_does_not_keep_an_app_at_work(story: Story) -> None:
    """A browser whose user has left looks just like that."""
    story.client(GET)
    app = story.lends()
    story.caller.closes()
    story.passes(1.3)
    assert app.is_cut
    assert not story.caller.is_kept
    assert story.counted() == {(499, "GET", "http/1.1"): 1}


def test_who_is_gone_leaves_nothing_large_behind_while_the_wheel_still_knows_it(story: Story) -> None:
    """Some connections a second times some seconds times kilobytes of fields would be a hundred megabytes."""
    marker = b"s0-l0ng-a-c00kie"
    story.client(GET.replace(b"\r\n\r\n", b"\r\nCookie: " + 256 * marker + b"\r\n\r\n"))
    app = story.lends()
    app.hears(..., 256 * marker, ...)
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    story.client_hears(..., b"\r\n\r\nok")
    connection = story.caller.transport.protocol
    assert holds(connection, marker), "the next head may be the same"
    story.client_leaves()
    assert not holds(connection, marker)


def holds(thing: object, marker: bytes) -> bool:
    """Whether bytes with ``marker`` in them can be reached from one connection by itself."""
    seen: set[int] = set()
    waiting = [thing]
    while waiting:
        each = waiting.pop()
        if isinstance(each, bytes | bytearray) and marker in each:
            return True
        if id(each) not in seen and not isinstance(each, type | Core | ModuleType | FunctionType | FakeTransport):
            seen.add(id(each))
            waiting += gc.get_referents(each)
    return False
