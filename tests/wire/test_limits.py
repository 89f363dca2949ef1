"""Places on real sockets: the router stops accepting before it has to, and goes on as soon as there is room."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from drycc_proxy.routing.definitions import Edge, TableChange
from drycc_tls.self_signed import self_signed
from drycc_tls.sni import Front
from drycc_tls.store import CertificateStore
from tests.fakes.handshakes import trusting
from tests.fakes.wired import HOST, Caller, Wired, on_loop, wired

GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"


async def greeter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An app that answers whatever it is asked, once it has all of it, and agrees to every upgrade."""
    while head := await reader.readuntil(b"\r\n\r\n"):
        if b"Content-Length: 5\r\n" in head:
            await reader.readexactly(5)
        if b"Upgrade: websocket" in head:
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            await reader.read()
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


def allow(router: Wired, most: int) -> None:
    router.gateway.publish(TableChange(9, edge=Edge(max_connections=most)))
    router.gateway._measure()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for the next ticks to bring it about; the test itself has a limit."""
    turned = asyncio.Event()
    loop = asyncio.get_running_loop()

    def look() -> None:
        if condition():
            turned.set()
        else:
            loop.call_later(0.01, look)

    look()
    await turned.wait()


@pytest.mark.parametrize("secure", [False, True])
def test_who_comes_when_every_place_is_taken_waits_and_is_served(secure: bool) -> None:
    """Nobody is refused: the kernel keeps them until one of the others leaves."""
    tls = trusting(None) if secure else None

    async def story() -> None:
        front = Front(CertificateStore(self_signed(datetime.now(UTC))))
        async with (
            wired(greeter, tls=front, alone="sets the number of places and reads its doors") as router,
            contextlib.AsyncExitStack() as crowd,
        ):
            allow(router, 4)
            for _ in range(4):
                caller = await crowd.enter_async_context(router.caller(tls))
                await caller.asks(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\n")  # at work, not idle
            await until(lambda: router.gateway.counters.accept_pauses > 0)
            assert all(door.server is None for door in router.gateway._doors)
            reader, writer = await asyncio.open_connection("127.0.0.1", router.http)
            late = Caller(reader, writer)
            await late.asks(GET)
            answer = asyncio.ensure_future(late.answer())
            assert not answer.done()
            await crowd.aclose()
            assert await answer == b"hello"
            writer.transport.abort()
            assert router.gateway.counters.connections_refused == 0

    on_loop(story())


def test_idle_clients_make_room_for_those_who_come() -> None:
    """Many more clients than places, each of which would stay: all are served."""

    async def story() -> None:
        async with wired(greeter, alone="sets the number of places and reads its doors") as router:
            allow(router, 10)

            async def comes_and_stays() -> Caller:
                reader, writer = await asyncio.open_connection("127.0.0.1", router.http)
                caller = Caller(reader, writer)
                await caller.asks(GET)
                assert await caller.answer() == b"hello"
                return caller

            callers = await asyncio.gather(*(comes_and_stays() for _ in range(30)))
            counters = router.gateway.counters
            assert counters.idle_closed >= 20
            assert counters.accept_pauses > 0
            for caller in callers:
                caller.writer.transport.abort()

    on_loop(story())


def test_a_router_that_is_full_can_be_drained() -> None:
    async def story() -> None:
        async with (
            wired(greeter, alone="sets the number of places and reads its doors") as router,
            router.caller() as caller,
        ):
            allow(router, 1)
            await caller.asks(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\n")
            await until(lambda: router.gateway.counters.accept_pauses > 0)
            drained = asyncio.ensure_future(router.gateway.drain(20.0))
            await asyncio.sleep(0)
            await caller.asks(b"12345")
            assert await caller.answer() == b"hello"
            await drained
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", router.http)

    on_loop(story())


def test_a_flood_of_upgrades_leaves_nothing_behind() -> None:
    """Handshake, then gone, three hundred times (hardening W-07)."""

    async def story() -> None:
        async with wired(greeter, alone="sets the number of places and reads its doors") as router:
            upgrade = b"GET /ws HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

            async def comes_and_goes() -> None:
                async with router.caller() as caller:
                    await caller.asks(upgrade)
                    assert (await caller.head()).startswith(b"HTTP/1.1 101 ")

            for _ in range(15):
                await asyncio.gather(*(comes_and_goes() for _ in range(20)))
            counters = router.gateway.counters
            await until(
                lambda: counters.tunnels_open == counters.open_connections["http"] == counters.upstream_open == 0
            )
            assert counters.tunnels == 300
            assert router.gateway._core.admission.connections == 0

    on_loop(story())


def test_a_flood_of_connections_leaves_nothing_behind() -> None:
    """Connect and close, connect and say one byte, connect and reset (hardening S-07)."""

    async def story() -> None:
        async with wired(greeter, alone="sets the number of places and reads its doors") as router:
            counters = router.gateway.counters

            async def comes_and_goes(number: int) -> None:
                _, writer = await asyncio.open_connection("127.0.0.1", router.http)
                if number % 3 == 1:
                    writer.write(b"G")
                if number % 3 == 2:
                    writer.transport.abort()
                else:
                    writer.close()

            for _ in range(15):
                await asyncio.gather(*(comes_and_goes(number) for number in range(20)))
            await until(lambda: counters.accepted["http"] == 300 and router.gateway._core.admission.connections == 0)
            assert counters.open_connections["http"] == counters.in_flight == 0
            async with router.caller() as caller:
                await caller.asks(GET)
                assert await caller.answer() == b"hello"

    on_loop(story())
