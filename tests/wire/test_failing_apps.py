"""Apps that fail, over real sockets: dead endpoints, closing connections, half answers, clients that leave.

The figures that need a steady load and thousands of requests come from ``benchmarks/faults.py``.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from drycc_proxy.http1.downstream import Http1Downstream
from drycc_proxy.routing.definitions import Address
from drycc_tls.secret import read_pair
from drycc_tls.self_signed import self_signed
from drycc_tls.sni import Front
from drycc_tls.store import CertificateStore
from drycc_tls.update import CertificateChange
from examples.authority import Authority
from tests.fakes.apiserver.server import FakeApiServer
from tests.fakes.clustered import Named, app_of, named, shipped, traffic
from tests.fakes.handshakes import trusting
from tests.fakes.wired import HOST, Standing, Wired, installed, on_loop, standing, until, wired

AUTHORITY = Authority()
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\nhi"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
RESET = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER: a close is a reset."""


def tls_front() -> Front:
    store = CertificateStore(self_signed(datetime.now(UTC)))
    pairs = {"shop.example": read_pair(AUTHORITY.issue("shop.example").secret_data())}
    store.swap(store.prepare(CertificateChange(1, pairs, names={"shop.example": "shop.example"})))
    return Front(store)


async def quick(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"Content-Length" in head:
            await reader.readexactly(2)
        writer.write(OK)
        await writer.drain()


OPEN = 'router_upstream_connections{state="open"}'
SHOP = '{app="shop",namespace="shop",service="shop"}'
IDLE = 'router_upstream_connections{state="idle"}'
RETRIES = 'router_retries_total{app="shop",namespace="shop",reason="upstream_reset",service="shop"}'


@pytest.fixture(scope="module")
def program() -> Iterator[Standing]:
    with standing(pair=read_pair(AUTHORITY.issue("shop.example").secret_data())) as running:
        yield running


async def requests_of(router: Standing) -> float:
    """How many there were, whatever became of them."""
    lines = (await asyncio.to_thread(router.router.admin, "/metrics"))[1].splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("router_requests_total{"))


async def over(router: Standing) -> None:
    """As ``settled``, of the program."""
    await router.until_metric("router_requests_in_flight", 0)
    for port in ("http", "https"):
        await router.until_metric(f'router_open_connections{{listener="{port}"}}', 0)
    while await router.metric(OPEN) != await router.metric(IDLE):  # noqa: ASYNC110 -- figures have no events
        await asyncio.sleep(0.01)


async def settled(router: Wired) -> None:
    """Until everything that was under way is over, and every connection that is no use is closed."""
    counters = router.gateway.counters
    await until(
        lambda: (
            not counters.in_flight
            and not any(counters.open_connections.values())
            and counters.upstream_open == counters.upstream_idle
        )
    )


def unlistened() -> socket.socket:
    """An address that refuses: bound, never listening."""
    gone = socket.socket()
    gone.bind(("127.0.0.1", 0))
    return gone


def test_one_dead_endpoint_of_three_is_nobodys_trouble_and_soon_left_out() -> None:
    """With one worker: each finds out for itself."""

    async def quick_and_gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"Content-Length" in head:
            await reader.readexactly(2)
        writer.write(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))  # so that connects go on

    async def story() -> None:
        with unlistened() as gone:
            dead: Address = gone.getsockname()
            async with installed(quick_and_gone, quick_and_gone, at=dead, workers=1) as router:
                for number in range(60):
                    async with router.caller() as caller:
                        await caller.asks(POST if number % 2 else GET)
                        assert await caller.answer() == b"ok"
                metrics = (await asyncio.to_thread(router.router.admin, "/metrics"))[1]
                assert "router_errors_total{" not in metrics
                assert await router.metric("router_upstream_ejections_total" + SHOP) == 1
                [report] = json.loads((await asyncio.to_thread(router.router.admin, "/routes"))[1])["upstreams"]
                out = [each["address"] for each in report["endpoints"] if each["ejected"]]
                assert out == [f"127.0.0.1:{dead[1]}"]

    on_loop(story())


@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
def test_a_post_never_meets_a_connection_that_its_app_has_closed(program: Standing, reset: bool) -> None:
    """Both arrive in the same turn of the loop, in whatever order: the end of an idle connection, and a request that
    must not be sent twice."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        listening = program.socket_of_the_app()
        listening.setblocking(False)
        reuses = "router_upstream_reuses_total"
        before_all = await program.metric(reuses)
        async with program.caller() as caller:
            await caller.asks(POST)
            app, _ = await loop.sock_accept(listening)
            for _ in range(25):
                while not (await loop.sock_recv(app, 65536)).endswith(b"hi"):
                    pass
                await loop.sock_sendall(app, OK)
                assert await caller.answer() == b"ok"
                before = app
                if reset:
                    before.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                before.close()
                await caller.asks(POST)
                app, _ = await loop.sock_accept(listening)
            app.close()
        listening.close()
        assert await program.metric(reuses) == before_all

    on_loop(story())


BEGINNINGS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    "middle of a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nhalf",
    "last chunk without its end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
}


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
@pytest.mark.parametrize("beginning", BEGINNINGS.values(), ids=BEGINNINGS)
def test_half_an_answer_is_broken_every_time_and_leaves_nothing_behind(
    program: Standing, beginning: bytes, reset: bool, secure: bool
) -> None:
    """No last chunk, no full length, and over TLS no close_notify (which would look like a clean end)."""

    async def cuts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(beginning)
        await writer.drain()
        if reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.close()

    def ask(port: int, tls: ssl.SSLContext | None) -> bool:
        """Whether it broke off visibly."""
        with socket.create_connection(("127.0.0.1", port), 10) as raw:
            client = (
                raw if tls is None else tls.wrap_socket(raw, server_hostname="shop.example", suppress_ragged_eofs=False)
            )
            with client:
                client.sendall(GET)
                heard = b""
                try:
                    while piece := client.recv(65536):
                        heard += piece
                except (ConnectionResetError, ssl.SSLError):
                    return not heard.endswith(b"0\r\n\r\n")
                return False

    async def story() -> None:
        tls = trusting(AUTHORITY) if secure else None
        before = await program.metric(RETRIES)
        async with program.serves(cuts) as router:
            port = router.https if secure else router.http
            assert port is not None
            for _ in range(21):
                assert await asyncio.to_thread(ask, port, tls)
            await over(router)
            assert await router.metric(OPEN) == 0
            assert await router.metric(RETRIES) == before

    on_loop(story())


def test_clients_that_leave_take_their_requests_along(program: Standing) -> None:
    """Those that reset at once; those that end a second later, for they might be waiting for their answer."""
    requests = (GET, POST, b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\nhalf")
    asked = told = 0

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked, told
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        try:
            assert await reader.read() in (b"", b"hi", b"half")
        except ConnectionResetError:
            pass
        told += 1

    async def story() -> None:
        before = await requests_of(program)
        async with program.serves(never) as router:
            async with AsyncExitStack() as callers:
                for number in range(90):
                    caller = await callers.enter_async_context(router.caller())
                    if number % 2:
                        sock = caller.writer.get_extra_info("socket")
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    await caller.asks(requests[number % 3])
                await until(lambda: asked == 90)
            await until(lambda: told == 90)
            await over(router)
            assert await router.metric(OPEN) == 0
            assert await requests_of(router) == before + 90

    on_loop(story())


def test_twenty_rolling_replacements_are_not_noticed(tmp_path: Path) -> None:
    """Three endpoints; one after the other is replaced: the table learns first, then the old one finishes and is gone.
    Or it is gone first, and the table learns a moment later."""

    async def story() -> None:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(FakeApiServer())
            apps: list[tuple[AsyncExitStack, Named]] = []

            async def start() -> Named:
                life = await stack.enter_async_context(AsyncExitStack())
                apps.append((life, await life.enter_async_context(named("ok"))))
                return apps[-1][1]

            def publish() -> None:
                _, *slices = app_of("shop/web", *(app for _, app in apps))
                for document in slices:
                    server.put(document)

            def has_taken_over(new: Named, old: Named) -> bool:
                return new.asked > 0 and old.open == 0

            for _ in range(3):
                await start()
            for document in app_of("shop/web", *(app for _, app in apps)):
                server.put(document)
            router = await stack.enter_async_context(shipped(server, tmp_path))
            load = await stack.enter_async_context(traffic(router, "web.example"))
            for number in range(20):
                new = await start()
                life, old = apps.pop(0)
                if number % 2:
                    await life.aclose()
                    await load.goes_on(5)
                publish()
                await until(partial(has_taken_over, new, old))
                await life.aclose()
                await load.goes_on(5)
            assert set(load.answers) == {("web.example", "ok")}

    on_loop(story())


@pytest.mark.parametrize("over_tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("upgraded", [False, True], ids=["upload", "tunnel"])
def test_a_client_that_resets_while_it_is_held_back_is_missed_within_a_second(upgraded: bool, over_tls: bool) -> None:
    """Hardening R-26: the loop tells nothing about a connection that it does not read."""

    async def stops_reading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if upgraded:
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await asyncio.Event().wait()

    async def story() -> None:
        front = tls_front() if over_tls else None
        async with wired(stops_reading, tls=front, alone="waits until a connection is held back") as router:
            async with router.caller(trusting(AUTHORITY) if over_tls else None) as client:
                if upgraded:
                    await client.asks(
                        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                    )
                    await client.head()
                else:
                    await client.asks(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 100000000\r\n\r\n")
                for _ in range(200):
                    client.writer.write(b"x" * 2**16)
                connections = router.gateway._core.connections
                await until(lambda: any(each._held for each in connections if isinstance(each, Http1Downstream)))
                sock = client.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            async with asyncio.timeout(5):  # the app would have 1300 seconds
                await settled(router)

    on_loop(story())
