"""Routers that follow a fake API server over real sockets, with apps on loopback behind them, which their operator
allows, and steady traffic through them.

:func:`shipped` is the program in its production shape: supervisor, control and two workers. :func:`replica` is a router
in this process: source, compiler, publisher and gateway as ``app`` puts them together. It is for what only that
shows: what was compiled, problems at a moment, a source with other times.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from drycc_proxy.gateway import Gateway
from drycc_proxy.routing.definitions import Address
from drycc_router.compile.compiler import Compiler
from drycc_router.compile.revision import Snapshot
from drycc_router.kubernetes.client import Api
from drycc_router.model.address_policy import Fence
from drycc_router.model.problems import Problem, Reason
from drycc_router.publish.publisher import Publisher
from drycc_router.publish.reconcile import Reconciler
from drycc_router.sources.cluster import ClusterSource
from drycc_router.translate.platform import OwnNames
from drycc_tls.self_signed import self_signed
from drycc_tls.sni import Front
from drycc_tls.store import CertificateStore
from tests.fakes.apiserver.objects import Document, deployment, endpoint_slice, service
from tests.fakes.apiserver.server import FakeApiServer
from tests.fakes.handshakes import trusting
from tests.fakes.wired import origin

__all__ = [
    "Answer",
    "Followed",
    "Named",
    "Replica",
    "Shipped",
    "Traffic",
    "app_of",
    "named",
    "replica",
    "shipped",
    "traffic",
]

CLIENTS = 4
BETWEEN = 0.005
"""Seconds between two requests of one client."""


# ── apps ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
class Named:
    """An app that answers everything with its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.address: Address = ("", 0)
        self.asked = 0
        self.opened = 0
        """Connections since the start."""
        self.numbers: set[int] = set()
        """Connections now, by their number since the start."""

    @property
    def open(self) -> int:
        """Connections now."""
        return len(self.numbers)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        number = self.opened
        self.numbers.add(number)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.asked += 1
                body = b"" if head.startswith(b"HEAD") else self.name.encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(self.name), body))
        finally:
            self.numbers.discard(number)


@asynccontextmanager
async def named(name: str) -> AsyncIterator[Named]:
    app = Named(name)
    async with origin(app) as app.address:
        yield app


def app_of(name: str, *apps: Named, says: dict[str, str] | None = None, domains: str | None = None) -> list[Document]:
    """A Service ``namespace/service`` for ``<service>.example``, if not said otherwise, and a slice for each app."""
    namespace, own = name.split("/")
    slices = [
        endpoint_slice(namespace, own, [app.address[0]], port=app.address[1], suffix=str(number))
        for number, app in enumerate(apps)
    ]
    return [service(namespace, own, domains=domains or f"{own}.example", annotations=says), *slices]


# ── the router ────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Answer:
    status: int
    head: bytes
    body: bytes


class Followed:
    """One router, and what may be asked of it from outside."""

    def __init__(self, http: int, https: int) -> None:
        self.http = http
        self.https = https

    async def ask(
        self, host: str, path: str = "/", method: str = "GET", fields: str = "", *, tls: bool = False
    ) -> Answer:
        """One request on a connection of its own."""
        if tls:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self.https, ssl=trusting(None), server_hostname=host
            )
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.http)
        try:
            head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}\r\n"
            writer.write(head.encode())
            answer, _, body = (await reader.read()).partition(b"\r\n\r\n")
            return Answer(int(answer[9:12]), answer, body)
        finally:
            writer.close()
            await writer.wait_closed()

    async def status(self, host: str, path: str = "/") -> int:
        return (await self.ask(host, path)).status

    async def answers(self, host: str, wanted: int | str) -> None:
        """Until ``host`` answers with a status, or with a body."""
        while True:
            answer = await self.ask(host)
            if wanted in (answer.status, answer.body.decode("latin-1")):
                return
            await asyncio.sleep(BETWEEN)

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():  # noqa: ASYNC110 -- of many things, and some have no event
            await asyncio.sleep(BETWEEN)

    async def fingerprint(self, name: str) -> str:
        """SHA-256 of the certificate that a handshake for ``name`` is shown."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.https, ssl=trusting(None), server_hostname=name)
        try:
            shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            return hashlib.sha256(shown).hexdigest()
        finally:
            writer.transport.abort()

    async def presents(self, name: str, fingerprint: str) -> None:
        """Until handshakes for ``name`` are shown that certificate."""
        while await self.fingerprint(name) != fingerprint:  # noqa: ASYNC110 -- only another handshake can tell
            await asyncio.sleep(BETWEEN)


class Replica(Followed):
    """One router in this process, and questions to ask it."""

    def __init__(self, source: ClusterSource, reconciler: Reconciler, gateway: Gateway, http: int, https: int) -> None:
        super().__init__(http, https)
        self.source = source
        self.reconciler = reconciler
        self.gateway = gateway

    @property
    def snapshot(self) -> Snapshot:
        assert self.reconciler.snapshot is not None, "nothing was published yet"
        return self.reconciler.snapshot

    def problems(self, reason: Reason | None = None) -> list[Problem]:
        """What there is to mend, or everything there is for one reason."""
        return [each for each in self.snapshot.problems if (each.reason is reason if reason else not each.is_note)]


class Shipped(Followed):
    """The program that follows an API server."""

    def __init__(self, ports: dict[str, int]) -> None:
        super().__init__(ports["http"], ports["https"])
        self.admin = ports["admin"]

    async def report(self, page: str) -> Any:
        """A page of the admin port that is JSON."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.admin)
        try:
            writer.write(f"GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            return json.loads((await reader.read()).partition(b"\r\n\r\n")[2])
        finally:
            writer.close()

    async def problems(self, reason: Reason) -> list[dict[str, Any]]:
        """Everything there is for one reason, as ``/problems`` has it."""
        return [each for each in (await self.report("/problems"))["problems"] if each["reason"] == reason.value]

    async def until_problem(self, reason: Reason, *, there: bool = True) -> None:
        """Until there is something for a reason, or nothing any more."""
        while bool(await self.problems(reason)) is not there:  # noqa: ASYNC110 -- another process's work
            await asyncio.sleep(BETWEEN)


@asynccontextmanager
async def shipped(
    server: FakeApiServer, directory: Path, *arguments: str, operator: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[Shipped]:
    """The program follows ``server``, with apps on loopback allowed; it is ready. Afterwards it ends in order, and has
    said nothing of an error of its own. ``operator``: what else stands on its Deployment."""
    server.put(deployment({"allowedNetworks": "127.0.0.0/8", **operator}))
    command = [
        sys.executable,
        "-m",
        "drycc_router",
        "run",
        "--kubeconfig",
        str(server.kubeconfig(directory / "config")),
    ]
    command += ["--bind", "127.0.0.1", "--workers", "2", "--drain-delay", "0", "--drain-grace", "2"]
    command += [word for port in ("http", "https", "git", "admin") for word in (f"--{port}-port", "0")]
    program = await asyncio.create_subprocess_exec(
        *command, "--access-log", "off", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=2**24,
        env={**os.environ, "POD_NAMESPACE": "drycc", "POD_NAME": "drycc-router-1"},
    )  # fmt: skip
    assert program.stdout and program.stderr
    said: list[bytes] = []

    async def listen(stderr: asyncio.StreamReader) -> None:
        while line := await stderr.readline():
            said.append(line)

    listening = asyncio.create_task(listen(program.stderr))
    try:
        ports = await program.stdout.readline()
        assert ports, b"".join(said).decode()
        yield Shipped(json.loads(ports))
        program.terminate()
        assert await program.wait() == 0
        await listening
        assert [line for line in map(json.loads, said) if line["level"] in ("error", "critical")] == []
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
        await listening


@asynccontextmanager
async def replica(
    server: FakeApiServer,
    directory: Path,
    *,
    alone: str,
    namespaces: tuple[str, ...] = (),
    ready: bool = True,
    **tuning: Any,
) -> AsyncIterator[Replica]:
    """A router that follows ``server``; ``ready``: wait until its first table is published. ``alone``: why the test
    needs it without the program around it."""
    assert alone
    loop = asyncio.get_running_loop()
    own = OwnNames.of("drycc-router", "drycc")
    api = await Api.connect(server.kubeconfig(directory / "config"))
    source = ClusterSource(api, own, namespaces, **tuning)
    store = CertificateStore(self_signed(datetime.now(UTC)))
    gateway = Gateway(loop, tls=Front(store))
    fence = Fence().beside({}, allowed=["127.0.0.0/8"])
    reconciler = Reconciler(Compiler(own, trusted_endpoints=False, fence=fence), Publisher(store, gateway))
    ports = await gateway.listen("127.0.0.1", 0, 0)
    assert ports.https is not None

    async def listen() -> None:
        async with aclosing(source.batches()) as batches:
            await reconciler.listen(batches)

    tasks = [loop.create_task(listen(), name="source"), loop.create_task(reconciler.run(), name="reconcile")]
    try:
        if ready:
            await reconciler.published.wait()
        yield Replica(source, reconciler, gateway, ports.http, ports.https)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        gateway.close()
        await api.close()
        await asyncio.sleep(0)
        for each in ended:
            if isinstance(each, Exception):
                raise each


# ── its clients ───────────────────────────────────────────────────────────────────────────────────────────────────────
class Traffic:
    """What some clients on kept-alive connections are answered while a story is told."""

    def __init__(self, port: int, hosts: Iterable[str]) -> None:
        self.answers: Counter[tuple[str, object]] = Counter()
        """(host, body) of each success, (host, status) of each other answer, (host, error) of what was none."""
        self._port = port
        self._hosts = tuple(hosts)
        self._ended = asyncio.Event()

    def seen(self, host: str) -> set[object]:
        return {what for asked, what in self.answers if asked == host}

    async def goes_on(self, requests: int = 50) -> None:
        """Until so many more requests were answered."""
        wanted = self.answers.total() + requests
        while self.answers.total() < wanted:  # noqa: ASYNC110 -- it is the clients' number that counts
            await asyncio.sleep(BETWEEN)

    async def client(self) -> None:
        while not self._ended.is_set():
            host = ""
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                for host in self._hosts * 10:  # then on a new connection, so that accepting is part of it
                    writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                    body = await reader.readexactly(length)
                    status = int(head[9:12])
                    self.answers[host, body.decode("latin-1") if status == 200 else status] += 1
                    if self._ended.is_set():
                        break
                    await asyncio.sleep(BETWEEN)
            except (OSError, EOFError) as error:
                self.answers[host, type(error).__name__] += 1
            finally:
                writer.close()

    def end(self) -> None:
        self._ended.set()


@asynccontextmanager
async def traffic(router: Followed, *hosts: str) -> AsyncIterator[Traffic]:
    """Clients that ask for ``hosts`` for as long as the block lasts, and for some requests before and after."""
    load = Traffic(router.http, hosts)
    tasks = [asyncio.create_task(load.client(), name="client") for _ in range(CLIENTS)]
    try:
        await load.goes_on(2 * CLIENTS)
        yield load
        await load.goes_on()
    finally:
        load.end()
        await asyncio.gather(*tasks)
