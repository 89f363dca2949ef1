"""A gateway on loopback with real sockets under uvloop, apps behind it, and clients to talk to it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import uvloop

from proxy.gateway import Gateway, TlsFront
from proxy.routes import Address, HostRule, Policy, Route, TableChange

__all__ = ["HOST", "Caller", "Handler", "Wired", "head_of", "on_loop", "origin", "until", "wired"]

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


class Wired:
    """A gateway that listens."""

    def __init__(self, gateway: Gateway, http: int, https: int | None) -> None:
        self.gateway = gateway
        self.http = http
        self.https = https
        self._generation = 0

    def publish(self, *endpoints: Address, host: bytes = b"shop.example", **policy: Any) -> None:
        """Serve an app under a name."""
        self._generation += 1
        name = f"shop/{host.decode()}"
        route = Route(name, "shop", "shop", host.decode(), endpoints, Policy(**policy))
        self.gateway.publish(TableChange(self._generation, routes={name: route}, hosts={host: HostRule(host, name)}))

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
