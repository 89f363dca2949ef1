"""Routers on loopback with real sockets, apps behind them under uvloop, and clients to talk to them.

:func:`installed` is the default of tests that speak through sockets: the program in its production shape, with
supervisor, control and two workers, told by manifests. :func:`wired` is a gateway on the test's own loop. It is for
what only that shows: the state of connections and pools, a moment between two steps of the loop, a table that no
annotation can describe.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from proxy.gateway import Gateway, TlsFront
from proxy.routes import Address, HostRule, Policy, Route, TableChange
from tests.fakes import process
from tls.certificate import Certificate

__all__ = [
    "HOST",
    "Caller",
    "Handler",
    "Installed",
    "Reached",
    "Wired",
    "head_of",
    "installed",
    "on_loop",
    "origin",
    "until",
    "wired",
]

T = TypeVar("T")
SOON = 90.0
"""Seconds that any of these tests may take on a busy machine."""

HOST = b"Host: shop.example\r\n"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def on_loop(story: Coroutine[Any, Any, T], within: float = SOON) -> T:
    """Run under the loop that the router uses, within so many seconds."""

    async def bounded() -> T:
        async with asyncio.timeout(within):
            return await story

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something is so that nobody tells us about."""
    for _ in iter(condition, True):
        await asyncio.sleep(0.001)


@asynccontextmanager
async def origin(handler: Handler) -> AsyncIterator[Address]:
    """An app: ``handler`` is called per connection."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the router went away, or the test is over; nobody waits for this task
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=2**20)
    try:
        address: Address = server.sockets[0].getsockname()
        yield address
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Caller:
    """A client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def asks(self, data: bytes) -> None:
        """Send."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> bytes:
        """Read a head."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def answer(self) -> bytes:
        """Read an answer of stated length; its body."""
        head = await self.head()
        return await self.reader.readexactly(int(head_of(head)[b"content-length"]))

    async def rest(self) -> bytes:
        """Read to the end of the connection."""
        return await self.reader.read()


def head_of(message: bytes) -> dict[bytes, bytes]:
    """Fields of a head by lower-case name (the last of each)."""
    lines = message.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}


class Reached:
    """A router that listens."""

    def __init__(self, http: int, https: int | None) -> None:
        self.http = http
        self.https = https

    @asynccontextmanager
    async def caller(self, tls: ssl.SSLContext | None = None, name: str = "shop.example") -> AsyncIterator[Caller]:
        """A client that connects."""
        port = self.http if tls is None else self.https
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=tls, server_hostname=name if tls else None, limit=2**20
        )
        try:
            yield Caller(reader, writer)
        finally:
            writer.transport.abort()  # what it has not sent by now may never get through
            try:
                await writer.wait_closed()
            except OSError:
                pass  # it was reset: the test has seen what it wanted


class Installed(Reached):
    """The program, in its production shape."""

    def __init__(self, router: process.Router) -> None:
        super().__init__(router.ports["http"], router.ports["https"])
        self.router = router

    async def metric(self, line: str) -> float:
        """The value of a metric, by its name and labels as they are printed; 0 if it is not there."""
        return await asyncio.to_thread(self.router.metric, line)


@asynccontextmanager
async def installed(
    *handlers: Handler, at: Address | None = None, pair: Certificate | None = None, workers: int = 2, **annotations: str
) -> AsyncIterator[Installed]:
    """The program serves ``shop.example`` from one app per handler, or from one that is there already, ``at`` an
    address. ``pair``: its certificate."""
    async with AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(origin(handler)) for handler in handlers] + ([at] if at else [])
        manifests = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        says = {"domains": "shop.example", **annotations} | ({"certificates": "shop.example:tls"} if pair else {})
        (manifests / "shop.yaml").write_text(process.manifest("shop/shop", *(app[1] for app in apps), **says))
        if pair:
            (manifests / "tls.json").write_text(process.secret("shop/tls-cert", pair))
        started = process.router(manifests, "--workers", str(workers), "--drain-grace", "2")
        router = await asyncio.to_thread(started.__enter__)
        try:
            yield Installed(router)
            router.process.terminate()
            status, said = await asyncio.to_thread(router.ends)
            assert (status, [line for line in said if line["level"] in ("error", "critical")]) == (0, [])
        finally:
            await asyncio.to_thread(started.__exit__, None, None, None)


class Wired(Reached):
    """A gateway that listens."""

    def __init__(self, gateway: Gateway, http: int, https: int | None) -> None:
        super().__init__(http, https)
        self.gateway = gateway
        self._generation = 0

    def publish(self, *endpoints: Address, host: bytes = b"shop.example", **policy: Any) -> None:
        """Serve an app under a name."""
        self._generation += 1
        name = f"shop/{host.decode()}"
        route = Route(name, "shop", "shop", host.decode(), endpoints, Policy(**policy))
        self.gateway.publish(TableChange(self._generation, routes={name: route}, hosts={host: HostRule(host, name)}))


@asynccontextmanager
async def wired(*handlers: Handler, tls: TlsFront | None = None, **policy: Any) -> AsyncIterator[Wired]:
    """A gateway that serves ``shop.example`` from one app per handler."""
    loop = asyncio.get_running_loop()
    gateway = Gateway(loop, tls=tls)
    ports = await gateway.listen("127.0.0.1", 0, 0 if tls else None)
    served = Wired(gateway, ports.http, ports.https)
    apps = [origin(handler) for handler in handlers]
    try:
        served.publish(*[await app.__aenter__() for app in apps], **policy)
        yield served
    finally:
        gateway.close()
        for app in apps:
            await app.__aexit__(None, None, None)
        await asyncio.sleep(0)  # closing sockets takes the loop one more turn
