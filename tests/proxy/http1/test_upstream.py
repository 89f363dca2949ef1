"""What the app's side does by itself; what it does together with a client is told in ``tests/stories``."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

import pytest

from drycc_proxy.gateway import Gateway
from drycc_proxy.http.messages import ResponseHead
from drycc_proxy.http1 import parser, upstream
from drycc_proxy.http1.downstream import Http1Downstream
from drycc_proxy.http1.upstream import MAX_FIELDS, MAX_HEAD, MAX_INTERIM, Http1Upstream
from tests.fakes.story import GET, Story
from tests.fakes.wired import HOST, Wired, on_loop, until

OK = b"HTTP/1.1 200 OK\r\nDate: Mon, 21 Sep 2026 14:13:20 GMT\r\nContent-Length: 2\r\n\r\n"


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The heads that were parsed, in their order."""
    seen: list[bytes] = []
    parse = parser.parse_response

    def noting(block: bytes, max_fields: int) -> ResponseHead:
        seen.append(block)
        return parse(block, max_fields)

    monkeypatch.setattr(upstream, "parse_response", noting)
    return seen


def answered(story: Story, *answers: bytes) -> None:
    """One complete exchange per answer, all on one connection."""
    for number, answer in enumerate(answers):
        story.client(GET)
        story.lends(reused=number > 0).says(answer)
        story.client_hears(b"HTTP/1.1 ", ...)


def test_a_head_that_repeats_is_not_parsed_again(story: Story, judged: list[bytes]) -> None:
    answered(story, OK + b"ab", OK + b"cd", OK.replace(b"20 GMT", b"21 GMT") + b"ef")
    assert len(judged) == 2
    assert b"14:13:20" in judged[0] and b"14:13:21" in judged[1]


def test_the_body_behind_a_known_head_is_the_new_one(story: Story) -> None:
    answered(story, OK + b"ab")
    story.client(GET)
    story.lends(reused=True).says(OK + b"cd")
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"\r\n\r\ncd")


def test_a_known_head_may_come_in_pieces(story: Story) -> None:
    answered(story, OK + b"ab")
    story.client(GET)
    story.lends(reused=True).says(*[OK[at : at + 1] for at in range(len(OK))], b"c", b"d")
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"\r\n\r\ncd")


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * MAX_HEAD, "response_head_too_large"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * (MAX_FIELDS + 1) + b"\r\n", "response_head_too_large"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * (MAX_INTERIM + 1), "bad_response"),
        (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "bad_response"),
    ],
    ids=["bytes", "fields", "interim", "bare LF"],
)
def test_what_an_app_may_say_is_bounded(story: Story, answer: bytes, failure: str) -> None:
    story.client(GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
    app = story.lends()
    app.says(answer)
    assert not app.is_kept
    story.client_hears(b"HTTP/1.1 502 Bad Gateway\r\n", ..., b"X-Router-Error: " + failure.encode() + b"\r\n", ...)


def test_an_idle_connection_is_not_kept_for_ever(story: Story) -> None:
    app = story.keeps_warm()
    story.passes(story.edge.upstream_idle_timeout - 1)
    assert app.is_kept
    story.passes(2)
    assert not app.is_kept
    assert story.core.counters.upstream_idle == 0


def test_a_connection_is_given_up_a_second_before_the_app_does(story: Story) -> None:
    answered(story, OK.replace(b"\r\n\r\n", b"\r\nKeep-Alive: timeout=5\r\n\r\n") + b"ab")
    (app,) = story.apps
    story.passes(3.5)
    assert app.is_kept
    story.passes(1)
    assert not app.is_kept


def test_its_repr_tells_the_endpoint_and_the_state(story: Story) -> None:
    app = story.keeps_warm()
    assert repr(app.protocol) == f"<Http1Upstream {app.protocol.endpoint.label.decode()} idle>"


@pytest.mark.parametrize("rest", [1, 1_000_000])
def test_an_answer_that_waits_in_the_socket_while_a_write_fails_is_heard(rest: int) -> None:
    """Real sockets: the app refuses and closes with the body unread; the client sends more before the loop turns."""
    app = socket.create_server(("127.0.0.1", 0))

    async def story() -> None:
        gateway = Gateway(asyncio.get_running_loop())
        ports = await gateway.listen("127.0.0.1", 0, None)
        router = Wired(gateway, ports.http, None)
        router.publish(app.getsockname())
        try:
            async with router.caller() as caller:
                await caller.asks(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 2000000\r\n\r\n" + 1000 * b"x")
                await until(lambda: gateway.counters.upstream_open == 1)
                [client] = gateway._core.connections
                assert isinstance(client, Http1Downstream) and client._exchange is not None
                connection, _ = app.accept()
                connection.recv(10)
                connection.sendall(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
                connection.close()  # with unread bytes: its kernel sends a reset
                lent = cast(Http1Upstream, client._exchange.app)
                lent.send(rest * b"x", False)
                assert lent._transport.is_closing(), "the write was to fail"
                assert await caller.answer() == b"no"
        finally:
            gateway.close()
            await asyncio.sleep(0)  # closing sockets takes the loop one more turn

    with app:
        on_loop(story())
