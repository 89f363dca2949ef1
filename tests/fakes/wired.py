"""Routers on loopback with real sockets, apps behind them under uvloop, and clients to talk to them.

:func:`installed` is the default of tests that speak through sockets: the program in its production shape, with
supervisor, control and two workers, told by manifests; :func:`standing` starts it once for the tests of a module.
:func:`wired` is a gateway on the test's own loop. It is for what only that shows: the state of connections and pools, a
moment between two steps of the loop, a table that no annotation can describe; the caller states which, as ``alone``.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import uvloop

from drycc_proxy.gateway import Gateway, TlsFront
from drycc_proxy.routing.definitions import Address, HostRule, Policy, Route, TableChange
from drycc_tls.certificate import Certificate
from tests.fakes import process

__all__ = [
    "HOST",
    "Caller",
    "Handler",
    "Installed",
    "Reached",
    "Standing",
    "Wired",
    "head_of",
    "installed",
    "on_loop",
    "origin",
    "standing",
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
async def origin(handler: Handler, listening: socket.socket | None = None) -> AsyncIterator[Address]:
    """An app: ``handler`` is called per connection. ``listening``: its socket, if it is not to have a port of its
    own."""
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

    where: dict[str, Any] = {"sock": listening} if listening else {"host": "127.0.0.1", "port": 0}
    server = await asyncio.start_server(handle, **where, limit=2**20)
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


class Standing(Installed):
    """The program, started once for several tests; each of them puts an app of its own behind it.

    Its figures go on from test to test: a test compares what they were with what they are.
    """

    def __init__(self, router: process.Router, listening: socket.socket) -> None:
        super().__init__(router)
        self._listening = listening
        self.said: list[dict[str, object]] = []
        """What it said about itself; known once it has ended."""

    def socket_of_the_app(self) -> socket.socket:
        """The app's listening socket, for the caller to close; what is not accepted waits for the next test."""
        return self._listening.dup()

    @asynccontextmanager
    async def serves(self, handler: Handler) -> AsyncIterator[Standing]:
        """Let ``handler`` be the app, for the time of a test."""
        async with origin(handler, self.socket_of_the_app()):
            yield self

    async def until_metric(self, line: str, value: float) -> None:
        """Until a metric has come to a value: control adds up what its workers report."""
        while await self.metric(line) != value:  # noqa: ASYNC110 -- figures have no events
            await asyncio.sleep(0.01)


@contextmanager
def standing(
    *more: str,
    pair: Certificate | None = None,
    beside: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    **annotations: str,
) -> Iterator[Standing]:
    """The program serves ``shop.example`` from whatever app a test brings. For a fixture of a module.

    ``pair``: its certificate. ``beside``: annotations of further Services with the same app, by name; each serves
    ``<name>.example``. ``more``: further manifests.
    """
    with tempfile.TemporaryDirectory() as directory, socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        manifests = Path(directory)
        says = {"domains": "shop.example", **annotations} | ({"certificates": "shop.example:tls"} if pair else {})
        port = listening.getsockname()[1]
        (manifests / "shop.yaml").write_text(process.manifest("shop/shop", port, **says))
        if pair:
            (manifests / "tls.json").write_text(process.secret("shop/tls-cert", pair))
        for name, keys in beside.items():
            text = process.manifest(f"shop/{name}", port, **{"domains": f"{name}.example", **keys})
            (manifests / f"{name}.yaml").write_text(text)
        for number, text in enumerate(more):
            (manifests / f"more-{number}.yaml").write_text(text)
        with process.router(manifests, "--drain-grace", "2") as router:
            program = Standing(router, listening)
            problems = json.loads(router.admin("/problems")[1])["problems"]
            assert {each["reason"] for each in problems} <= {"domain_without_certificate"}, problems
            yield program
            router.process.terminate()
            status, program.said = router.ends()
            assert (status, [line for line in program.said if line["level"] in ("error", "critical")]) == (0, [])


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
async def wired(*handlers: Handler, alone: str, tls: TlsFront | None = None, **policy: Any) -> AsyncIterator[Wired]:
    """A gateway that serves ``shop.example`` from one app per handler. ``alone``: why the test needs it without the
    program around it."""
    assert alone
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
