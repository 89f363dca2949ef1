"""What the client's side does by itself; what it does together with an app is told in ``tests/stories``."""

from __future__ import annotations

import pytest

from proxy.http1 import downstream
from proxy.http1.downstream import MAX_WAITING
from tests.fakes.story import GET, HOST, Story

OK = b"HTTP/1.1 200 OK\r\nDate: Mon, 21 Sep 2026 14:13:20 GMT\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The header sections that were parsed, in their order."""
    seen: list[bytes] = []
    parse = downstream.parse_fields

    def noting(block: bytes, max_fields: int) -> downstream.RequestFields:
        seen.append(block)
        return parse(block, max_fields)

    monkeypatch.setattr(downstream, "parse_fields", noting)
    return seen


def exchanges(story: Story, *requests: bytes) -> None:
    """One complete exchange after the other on one connection."""
    for number, request in enumerate(requests):
        story.client(request)
        app = story.lends(reused=number > 0)
        app.hears(...)
        app.says(OK)
        story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"\r\n\r\nok")


def test_a_head_that_repeats_is_not_parsed_again(story: Story, judged: list[bytes]) -> None:
    exchanges(story, GET, GET, GET.replace(b"GET /", b"GET /other?a=b"), GET)
    assert judged == [b"Host: shop.example"]


def test_a_head_that_differs_in_a_byte_is_parsed(story: Story, judged: list[bytes]) -> None:
    exchanges(story, GET, GET.replace(b"Host: shop", b"Host: Shop"), GET)
    assert judged == [b"Host: shop.example", b"Host: Shop.example", b"Host: shop.example"]


def test_what_ends_like_the_last_head_but_holds_two_is_two_requests(story: Story) -> None:
    exchanges(story, GET)
    story.client(GET.replace(b"/ ", b"/one ") + GET.replace(b"/ ", b"/two "))
    for path in (b"/one", b"/two"):
        app = story.lends(reused=True)
        app.hears(b"GET " + path + b" HTTP/1.1\r\n", ...)
        app.says(OK)
    heard = story.client_hears(...)
    assert heard.count(b"HTTP/1.1 200 OK") == 2


def test_new_settings_of_the_operator_reach_connections_that_are_open(story: Story, judged: list[bytes]) -> None:
    exchanges(story, GET)
    story.is_set(trusted=("203.0.113.0/24",))
    story.client(GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n"))
    story.lends(reused=True).hears(..., b"X-Real-IP: 198.51.100.1\r\n", ...)
    assert len(judged) == 2


def test_a_head_in_single_bytes_is_the_same_head(story: Story) -> None:
    story.client(*[GET[at : at + 1] for at in range(len(GET))])
    story.lends().hears(b"GET / HTTP/1.1\r\n", ..., b"\r\n\r\n")


def test_requests_that_wait_beyond_the_bound_stop_the_reading(story: Story) -> None:
    caller = story.client(GET)
    caller.says(b"GET /next HTTP/1.1\r\n" + HOST + b"X: " + b"a" * MAX_WAITING)
    assert not caller.is_heeded
    assert caller.is_kept


def test_its_repr_tells_the_client_and_the_state(story: Story) -> None:
    story.client(GET)
    (connection,) = story.core.connections
    assert repr(connection) == "<Http1Downstream 203.0.113.7 wait>"


def test_a_draining_router_closes_idle_connections_and_lets_busy_ones_answer(story: Story) -> None:
    idle, busy = story.calls(), story.calls()
    busy.says(GET)
    app = story.lends()
    story.core.draining = True
    for connection in list(story.core.connections):
        connection.drain()
    assert not idle.is_kept
    assert busy.is_kept
    app.says(OK)
    busy.hears(b"HTTP/1.1 200 OK\r\n", ..., b"Connection: close\r\n\r\nok")
    assert not busy.is_kept


def test_giving_up_at_once_resets_and_counts(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    (connection,) = story.core.connections
    connection.abort_now()
    assert story.caller.is_cut
    assert not app.is_kept
    assert story.counted() == {(499, "GET", "http/1.1"): 1}
