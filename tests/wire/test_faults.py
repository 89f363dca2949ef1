"""Mistakes of ours on the real loop, with real sockets: one client pays for each, in its next seconds, and nobody else.

Line by line the same is told without sockets in ``tests/stories/test_faults.py``.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from drycc_proxy.http.exchange import Exchange
from drycc_proxy.http1.downstream import Http1Downstream
from drycc_proxy.http1.upstream import Http1Upstream
from drycc_proxy.state.admission import Admission
from drycc_proxy.state.server_state import Core
from drycc_proxy.streams.listener import Stream, _AppSide, _ClientSide, _StreamListener
from drycc_proxy.upstreams.upstream import Upstream
from tests.fakes.wired import HOST, Wired, on_loop, until, wired
from tests.wire.test_streams import echo, end, served

GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
BIG = 300_000


class Planted(RuntimeError):
    """The mistake."""


class Plant:
    """Raises the first time that a function is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type, name: str) -> None:
        self.met = 0
        real = getattr(kind, name)

        def planted(*args: Any, **kwargs: Any) -> Any:
            self.met += 1
            if self.met == 1:
                raise Planted
            return real(*args, **kwargs)

        monkeypatch.setattr(kind, name, planted)


async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers at length."""
    while True:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG + b"x" * BIG)
        await writer.drain()


async def balanced(router: Wired) -> None:
    """Until no account says that anybody is there."""
    counters = router.gateway.counters
    core = router.gateway._core
    await until(
        lambda: (
            not counters.in_flight
            and counters.open_connections == {"http": 0, "https": 0}
            and not core.connections
            and (core.admission.connections, core.admission.clients) == (0, 0)
            and counters.upstream_open == counters.upstream_idle
        )
    )
    for upstream in router.gateway.report():
        assert upstream["in_flight"] == 0, upstream


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Http1Downstream, "_read_heads"),
        (Http1Downstream, "_find_app"),
        (Http1Downstream, "respond"),
        (Http1Downstream, "_response"),
        (Http1Downstream, "send"),
        (Http1Downstream, "finish"),
        (Http1Downstream, "_finished"),
        (Http1Downstream, "_next"),
        (Http1Downstream, "_welcome"),
        (Http1Downstream, "_gone"),
        (Http1Upstream, "request"),
        (Http1Upstream, "_read_head"),
        (Http1Upstream, "_last"),
        (Http1Upstream, "_release"),
        (Exchange, "begin"),
        (Exchange, "connected"),
        (Exchange, "response"),
        (Exchange, "response_body"),
        (Exchange, "response_end"),
        (Upstream, "lend"),
        (Upstream, "_dial"),
        (Upstream, "_hand_over"),
        (Upstream, "give_back"),
        (Core, "record"),
        (Core, "opened"),
        (Admission, "_look_around"),
    ],
)
def test_a_mistake_costs_at_most_the_connection_it_was_made_on(
    kind: type, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with wired(app, alone="plants faults in its code") as router, router.caller() as neighbour:
            await neighbour.asks(GET)
            assert len(await neighbour.answer()) == BIG
            if name in ("_dial", "_hand_over"):
                router.gateway._core.registry.close_idle(0)
            plant = Plant(monkeypatch, kind, name)
            async with router.caller() as victim:
                victim.writer.write(GET)
                victim.writer.write_eof()
                try:
                    heard = await victim.rest()
                except ConnectionError:
                    heard = b"reset"
            assert plant.met
            # Told with its name, or visibly broken, or (where it was made behind the answer) not noticed at all.
            whole = heard.endswith(b"x" * 100) and len(heard) > BIG
            assert (
                b"X-Router-Error: internal_error" in heard
                or not heard
                or heard == b"reset"
                or whole
                or (len(heard) < BIG)
            )
            await neighbour.asks(GET)
            assert len(await neighbour.answer()) == BIG
            counters = router.gateway.counters
            await until(lambda: sum(counters.faults.values()) == 1)
            neighbour.writer.close()
            await balanced(router)

    on_loop(story())


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (_ClientSide, "_set_up"),
        (_AppSide, "_set_up"),
        (_StreamListener, "_welcome"),
        (_StreamListener, "_introduce"),
        (_StreamListener, "_dial"),
        (_StreamListener, "_attach"),
        (_StreamListener, "closed"),
        (Stream, "joined"),
        (Stream, "heard"),
        (Stream, "side_ended"),
        (Stream, "side_lost"),
        (Stream, "_finish"),
    ],
)
def test_a_mistake_costs_at_most_the_stream_it_was_made_on(
    kind: type, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with served(echo, alone="plants faults in its code") as router:
            reader, writer = await router.connect()
            writer.write(b"neighbour")
            assert await reader.readexactly(9) == b"neighbour"
            plant = Plant(monkeypatch, kind, name)
            hears, says = await router.connect()
            says.write(b"victim")
            says.write_eof()
            try:
                await hears.read()
            except ConnectionError:
                pass
            await end(says)
            await until(lambda: plant.met > 0)
            writer.write(b"neighbour")
            assert await reader.readexactly(9) == b"neighbour"
            await end(writer)
            core = router.gateway._core
            await until(lambda: not core.connections and core.admission.connections == 0)
            assert sum(core.counters.faults.values()) == 1

    on_loop(story())
