"""Streams over real sockets: byte for byte, half-closes, limits, endpoints that vanish, ports that come and go."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from drycc_proxy.gateway import Gateway
from drycc_proxy.routing.definitions import Address, StreamRoute, TableChange
from tests.fakes.builder import builder_manifest
from tests.fakes.process import Router, deployment, open_files, router
from tests.fakes.wired import Handler, on_loop, origin

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
BIG = bytes(range(256)) * 4096 * 8  # 8 MiB, in which no part looks like another one moved


GIT = 'app="drycc/drycc-builder",namespace="drycc",service="drycc-builder",stream="git"'
"""How metrics name the one stream."""


async def pause() -> None:
    """Between two questions to another process: its figures have no events."""
    await asyncio.sleep(0.01)


class Piped:
    """The program with one stream: the builder's. Each test puts an app of its own behind it, and says what stands on
    the builder Service and on the router's Deployment.

    Its figures go on from test to test: a test compares what they were with what they are.
    """

    def __init__(self, child: Router, directory: Path) -> None:
        self.router = child
        self.port = 0
        self.endpoints: tuple[Address, ...] = ()
        """Of the test that runs."""
        self.complaints: list[str] = []
        """What it said of errors; known once it has ended."""
        self._manifest = directory / "manifests" / "builder.yaml"
        self._log = directory / "log"
        self._read = 0
        self._lines: list[dict[str, Any]] = []
        self._began = ""
        self._written = 0
        self._stopped = False

    def stop(self) -> None:
        """Let it drain: once, for a second signal would end it at once."""
        if not self._stopped:
            self._stopped = True
            self.router.process.terminate()

    @asynccontextmanager
    async def serves(
        self, *handlers: Handler, edge: Mapping[str, str] = MappingProxyType({}), **says: str
    ) -> AsyncIterator[Piped]:
        """Let there be an endpoint per handler, for the time of a test."""
        async with AsyncExitStack() as stack:
            apps = [await stack.enter_async_context(origin(handler)) for handler in handlers]
            self._lines.clear()
            self.endpoints = tuple(apps)
            await self.publish(*apps, edge=edge, **says)
            yield self

    async def publish(self, *endpoints: Address, edge: Mapping[str, str] = MappingProxyType({}), **says: str) -> None:
        """Let these be the builder's endpoints. Every worker knows it when this returns."""
        self._written += 1  # no two are equal, so that each is a change
        limits = {"connectionsPerClient": "0", "connectionRate": "0", "tcpTimeout": f"{1200 + self._written}s"} | says
        await self.write(builder_manifest(*(port for _, port in endpoints), **limits), deployment(**edge))
        while (port := (await self.routes())["ports"]["git"]) is None:
            await pause()
        self.port = port

    async def write(self, *documents: str) -> None:
        """Let these be all manifests there are."""
        before = await self.metric("router_config_generation")
        fresh = self._manifest.with_suffix(".new")
        fresh.write_text("---\n".join(documents))
        fresh.replace(self._manifest)
        # Streams of an earlier test began before that, and those of this one cannot begin sooner: a file is read once
        # it has not changed for twice as long.
        self._began = f"{datetime.now(UTC) + timedelta(milliseconds=20):%Y-%m-%dT%H:%M:%S.%f}"
        while await self.metric("router_config_generation") == before:
            await pause()

    async def routes(self) -> dict[str, Any]:
        """What ``/routes`` says."""
        page: dict[str, Any] = json.loads((await asyncio.to_thread(self.router.admin, "/routes"))[1])
        return page

    async def stream(self, name: str = "git") -> dict[str, Any]:
        """What ``/routes`` says of one stream."""
        found: dict[str, Any] = next(each for each in (await self.routes())["streams"] if each["stream"] == name)
        return found

    async def metric(self, line: str) -> float:
        return await asyncio.to_thread(self.router.metric, line)

    async def until_metric(self, line: str, value: float) -> None:
        while await self.metric(line) != value:
            await pause()

    async def connect(self, source: str = "127.0.0.1") -> tuple[Reader, Writer]:
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0), limit=2**20)

    async def record(self) -> dict[str, Any]:
        """The log's next line about a stream of this test, once there is one."""
        while not self._lines:
            await pause()  # the log is written ten times a second
            with self._log.open("rb") as log:
                log.seek(self._read)
                whole = log.read()
            whole = whole[: whole.rfind(b"\n") + 1]
            self._read += len(whole)
            self._lines += [line for line in map(json.loads, whole.splitlines()) if line["time"] >= self._began]
        return self._lines.pop(0)

    def open_files(self) -> int:
        """Of all workers."""
        workers = [pid for name, pid in self.router.children().items() if name.startswith("worker")]
        assert workers
        return sum(open_files(pid) for pid in workers)


@contextmanager
def piping(directory: Path, *arguments: str, complains: bool = False) -> Iterator[Piped]:
    """The program, in its production shape, with a builder that nobody needs yet. ``complains``: whether it may say
    that something is wrong."""
    (directory / "manifests").mkdir()
    (directory / "manifests" / "builder.yaml").write_text(builder_manifest())
    log = ("--access-log", str(directory / "log"))
    with router(directory / "manifests", "--git-port", "0", "--drain-grace", "2", *log, *arguments) as child:
        running = Piped(child, directory)
        yield running
        running.stop()
        status, said = child.ends()
        running.complaints = [str(line["message"]) for line in said if line["level"] in ("error", "critical")]
        assert status == 0
        assert complains or running.complaints == []


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Piped]:
    with piping(tmp_path_factory.mktemp("program")) as running:
        yield running


@pytest.fixture(scope="module")
def one_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Piped]:
    """The program with one worker: limits of connections are each worker's own, and with one they are exact."""
    with piping(tmp_path_factory.mktemp("one-worker"), "--workers", "1") as running:
        yield running


class Lone:
    """A gateway in this process, with one stream."""

    def __init__(self, gateway: Gateway, lines: list[dict[str, Any]]) -> None:
        self.gateway = gateway
        self._lines = lines

    @property
    def port(self) -> int:
        port = self.gateway.stream_port("git")
        assert port is not None
        return port

    async def connect(self) -> tuple[Reader, Writer]:
        return await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)

    async def record(self) -> dict[str, Any]:
        """The log's next line, once there is one."""
        await until(lambda: bool(self._lines))  # the log is written ten times a second
        return self._lines.pop(0)


@asynccontextmanager
async def served(handler: Handler, *, alone: str, **limits: Any) -> AsyncIterator[Lone]:
    """A gateway in this process; ``alone``: why the test needs it without the program around it."""
    assert alone
    lines: list[dict[str, Any]] = []

    def take(batch: bytes) -> bool:
        lines.extend(json.loads(line) for line in batch.splitlines())
        return True

    gateway = Gateway(asyncio.get_running_loop(), log=take)
    await gateway.listen("127.0.0.1", 0, None)
    async with origin(handler) as app:
        try:
            route = StreamRoute("git", 0, "builder", "drycc", "drycc-builder", (app,), **limits)
            gateway.publish(TableChange(1, streams={"git": route}))
            yield Lone(gateway, lines)
        finally:
            gateway.close()
    await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something is so."""
    while not condition():  # noqa: ASYNC110 -- counters have no event
        await asyncio.sleep(0.01)


async def end(writer: Writer) -> None:
    """Close, whatever became of the other end."""
    writer.transport.abort()
    try:
        await writer.wait_closed()
    except OSError:
        pass


async def echo(reader: Reader, writer: Writer) -> None:
    """Says what it hears, as it hears it, and ends when its client does."""
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()


async def a_free_port() -> Address:
    """Where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address: Address = sock.getsockname()
        return address


def test_bytes_pass_both_ways_and_one_line_is_logged(program: Piped) -> None:
    figures = {
        f"router_stream_connections_total{{{GIT}}}": 1,
        f"router_stream_received_bytes_total{{{GIT}}}": len(BIG),
        f"router_stream_sent_bytes_total{{{GIT}}}": len(BIG),
        'router_stream_closed_total{reason="client_closed",stream="git"}': 1,
    }

    async def story() -> None:
        before = {line: await program.metric(line) for line in figures}
        async with program.serves(echo) as router:
            reader, writer = await router.connect()
            writer.write(BIG)
            writer.write_eof()
            assert await reader.read() == BIG
            line = await router.record()
            await end(writer)
            for figure, more in figures.items():
                assert await router.metric(figure) == before[figure] + more, figure
            assert await router.metric(f"router_stream_open{{{GIT}}}") == 0
        assert line["bytes_in"] == line["bytes_out"] == len(BIG)
        assert (line["stream"], line["app"], line["close_reason"]) == ("git", "drycc/drycc-builder", "client_closed")
        assert line["downstream_remote_address"] == "127.0.0.1"
        assert line["response_code"] == 200 and line["error_reason"] == ""

    on_loop(story())


# ── the half-close matrix: who ends first, and when, as seen by the other ────────────────────────────────────────────
# before: without a word; mid: in the middle of what the other says; after: once the other has said everything.


async def speak(reader: Reader, writer: Writer, when: str, first: bool) -> bytes:
    """One side of a conversation in which the side that is ``first`` to end does so at a given time; what it heard."""
    if when == "before" and first:
        writer.write_eof()
    writer.write(BIG[: 2**20]) if not (when == "before" and first) else None
    heard = b""
    if when == "mid" and first:
        heard = await reader.readexactly(1000)
        writer.write_eof()
    if when == "after" and first:
        heard = await reader.readexactly(2**20)
        writer.write_eof()
    await writer.drain()
    if first:
        return heard + await reader.read()
    if when == "after":
        # The one that is second says a last word when it has heard the end.
        heard = await reader.read()
        writer.write(b"last")
    else:
        heard = await reader.read()
        writer.write(BIG[:1000])
    writer.write_eof()
    await writer.drain()
    return heard


@pytest.mark.parametrize("when", ["before", "mid", "after"])
@pytest.mark.parametrize("first", ["client", "app"])
def test_a_half_close_passes_on_and_the_other_way_stays_open(program: Piped, first: str, when: str) -> None:
    async def story() -> None:
        heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def app(reader: Reader, writer: Writer) -> None:
            heard.set_result(await speak(reader, writer, when, first == "app"))

        async with program.serves(app) as router:
            reader, writer = await router.connect()
            mine = await speak(reader, writer, when, first == "client")
            theirs = await heard
            assert (await router.record())["close_reason"] == f"{first}_closed"
            await end(writer)
        of_first, of_second = (mine, theirs) if first == "client" else (theirs, mine)
        tail = b"last" if when == "after" else BIG[:1000]
        assert of_first == BIG[: 2**20] + tail
        assert of_second == (b"" if when == "before" else BIG[: 2**20])

    on_loop(story())


@pytest.mark.parametrize("who", ["client", "app"])
def test_a_reset_is_passed_on_as_a_reset(program: Piped, who: str) -> None:
    """Nobody takes a part for the whole."""

    async def story() -> None:
        reset: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        async def app(reader: Reader, writer: Writer) -> None:
            await reader.readexactly(4)
            writer.write(b"pong")
            if who == "app":
                linger_none(writer)
                writer.transport.abort()
                return
            try:
                await reader.read()
                reset.set_result(False)
            except ConnectionResetError:
                reset.set_result(True)

        async with program.serves(app) as router:
            reader, writer = await router.connect()
            writer.write(b"ping")
            if who == "client":
                assert await reader.readexactly(4) == b"pong"
                linger_none(writer)
                writer.transport.abort()
                assert await reset
            else:
                with pytest.raises(ConnectionResetError):
                    while await reader.read(100):
                        pass
                    writer.write(b"x")
                    await writer.drain()
                    await reader.read()
            line = await router.record()
            await end(writer)
        assert line["error_reason"] == {"client": "client_gone", "app": "upstream_reset"}[who]

    on_loop(story())


def linger_none(writer: Writer) -> None:
    """Let the close that follows be a reset."""
    borrowed = socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno()))
    with borrowed:
        borrowed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_who_does_not_read_holds_the_other_side(program: Piped) -> None:
    """Memory is bounded: what nobody takes stays with who sends it."""

    async def story() -> None:
        taken = 0
        stuck = asyncio.Event()

        async def firehose(_: Reader, writer: Writer) -> None:
            nonlocal taken
            writer.transport.set_write_buffer_limits(high=0)
            while True:
                writer.write(BIG[: 2**16])
                try:
                    async with asyncio.timeout(1):
                        await writer.drain()
                except TimeoutError:
                    stuck.set()
                    return
                taken += 2**16

        async with program.serves(firehose) as router:
            _, writer = await router.connect()
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a StreamWriter's transport reads, too
            await stuck.wait()
            assert taken < 64 * 2**20
            await end(writer)

    on_loop(story())


# ── limits ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def greeter(reader: Reader, writer: Writer) -> None:
    """Speaks first, as SSH servers do, and then only listens."""
    writer.write(b"SSH-2.0-builder\r\n")
    await reader.read()


CONSTANT = "how long a client may say nothing at all is a constant of two minutes, which only a route can shorten"


@pytest.mark.parametrize("says", [b"SSH-2.0-git\r\n", b""], ids=["silent later", "silent from the start"])
def test_silence_has_an_end(program: Piped, says: bytes) -> None:
    async def story() -> None:
        async with program.serves(greeter, tcpTimeout="200ms") as router:
            reader, writer = await router.connect()
            writer.write(says)
            assert await reader.read() == b"SSH-2.0-builder\r\n"
            assert (await router.record())["close_reason"] == "tunnel_idle"
            await end(writer)

    on_loop(story())


def test_a_client_that_never_speaks_is_left_sooner_than_one_that_is_silent_later() -> None:
    async def story() -> None:
        async with served(greeter, alone=CONSTANT, first_byte_timeout=0.2) as router:
            reader, writer = await router.connect()
            assert await reader.read() == b"SSH-2.0-builder\r\n"
            assert (await router.record())["close_reason"] == "client_silent"
            await end(writer)

    on_loop(story())


def test_a_server_that_takes_its_time_to_speak_is_waited_for() -> None:
    async def story() -> None:
        go = asyncio.Event()

        async def app(reader: Reader, writer: Writer) -> None:
            await go.wait()
            writer.write(await reader.read(100))

        async with served(app, alone=CONSTANT, first_byte_timeout=0.2) as router:
            reader, writer = await router.connect()
            writer.write(b"hello")
            await asyncio.sleep(0.5)  # longer than a client may be silent: this one is not
            go.set()
            assert await reader.read() == b"hello"
            await end(writer)

    on_loop(story())


def test_when_memory_is_gone_new_streams_are_closed_and_old_ones_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "drycc_proxy.state.server_state.Core._look_around", lambda core: None
    )  # which would find that there is memory

    async def story() -> None:
        async with served(echo, alone="says itself that memory is gone") as router:
            reader, writer = await router.connect()
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            router.gateway._core.refusing = True
            refused, its_writer = await router.connect()
            assert await turned_away(refused)
            await end(its_writer)
            writer.write(b"again")
            assert await reader.readexactly(5) == b"again"
            assert router.gateway.counters.refused == 1
            await end(writer)

    on_loop(story())


def test_where_all_places_are_taken_who_comes_waits_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drycc_proxy.gateway.MEASURE_SECONDS", 1000.0)

    async def story() -> None:
        async with served(echo, alone="sets the number of places and reads when they are asked for") as router:
            router.gateway._core.admission.most = 4  # two streams have two ends each
            first, second = await router.connect(), await router.connect()
            for reader, writer in (first, second):
                writer.write(b"hello")
                assert await reader.readexactly(5) == b"hello"
            third = await router.connect()
            third[1].write(b"hello")
            port = router.gateway._streams._ports["git"]

            def tried_again(before: object) -> bool:
                return port._retry not in (before, None)

            for _ in range(2):  # it has looked whether there is a place, and has waited again
                waits = port._retry
                await until(partial(tried_again, waits))
            assert router.gateway.counters.accept_pauses == 2  # at this port, and at that of http
            assert router.gateway.counters.streams["git"].total == 2
            await end(first[1])
            assert await third[0].readexactly(5) == b"hello"
            for _, writer in (second, third):
                await end(writer)

    on_loop(story())


def test_one_address_has_so_many_connections_and_no_more(one_worker: Piped) -> None:
    denied = 'router_stream_denied_total{reason="too_many_connections",stream="git"}'

    async def story() -> None:
        before = await one_worker.metric(denied)
        async with one_worker.serves(echo, connectionsPerClient="2") as router:
            one, two = await router.connect(), await router.connect()
            for reader, writer in (one, two):
                writer.write(b"hello")
                assert await reader.readexactly(5) == b"hello"
            reader, writer = await router.connect()
            assert await turned_away(reader)
            await end(writer)
            one[1].write_eof()
            assert await one[0].read() == b""
            await router.record()
            reader, writer = await router.connect()
            writer.write(b"again")
            assert await reader.readexactly(5) == b"again"
            assert await router.metric(denied) == before + 1
            for each in (one[1], two[1], writer):
                await end(each)

    on_loop(story())


async def turned_away(reader: Reader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


BALANCER = {"proxyRealIpCidrs": "127.0.0.0/8"}
SPEAKING = {**BALANCER, "useProxyProtocol": "true"}
FOR_SOMEBODY = b"PROXY TCP4 192.0.2.1 198.51.100.7 40000 2222\r\n"


def test_a_balancer_that_is_trusted_stands_for_many_clients(one_worker: Piped) -> None:
    async def story() -> None:
        async with one_worker.serves(echo, connectionsPerClient="1", edge=BALANCER) as router:
            connections = [await router.connect() for _ in range(3)]
            for reader, writer in connections:
                writer.write(b"hello")
                assert await reader.readexactly(5) == b"hello"
            for _, writer in connections:
                await end(writer)

    on_loop(story())


def test_a_balancer_says_for_whom_it_speaks_and_the_builder_is_told(one_worker: Piped) -> None:
    async def story() -> None:
        async with one_worker.serves(echo, connectionsPerClient="1", proxyProtocol="v1", edge=SPEAKING) as router:
            reader, writer = await router.connect()
            writer.write(FOR_SOMEBODY + b"hello")
            assert await reader.readexactly(len(FOR_SOMEBODY) + 5) == FOR_SOMEBODY + b"hello"
            again, other = await router.connect()
            other.write(FOR_SOMEBODY)
            assert await turned_away(again), "the client that it speaks for has a connection already"
            assert (await router.record())["error_reason"] == "too_many_connections"
            writer.write_eof()
            assert await reader.read() == b""
            line = await router.record()
            assert (line["downstream_remote_address"], line["bytes_in"]) == ("192.0.2.1", 5)
            for each in (writer, other):
                await end(each)

    on_loop(story())


@pytest.mark.parametrize("says", [b"SSH-2.0-git\r\n", b""], ids=["speaks", "waits for the server to speak"])
def test_a_balancer_without_a_header_speaks_for_itself(program: Piped, says: bytes) -> None:
    async def story() -> None:
        async with program.serves(greeter, edge=SPEAKING) as router:
            reader, writer = await router.connect()
            writer.write(says)
            assert await reader.readline() == b"SSH-2.0-builder\r\n"
            await end(writer)

    on_loop(story())


def test_a_header_that_is_none_ends_the_connection(program: Piped) -> None:
    async def story() -> None:
        async with program.serves(greeter, edge=SPEAKING) as router:
            reader, writer = await router.connect()
            writer.write(b"PROXY TCP4 not an address\r\n")
            assert await turned_away(reader)
            assert (await router.record())["error_reason"] == "bad_proxy_header"
            await end(writer)

    on_loop(story())


def test_a_stranger_speaks_for_nobody_else(program: Piped) -> None:
    """What it sends is the builder's to judge, as bytes like any others; the builder is told the socket's address."""

    async def story() -> None:
        async with program.serves(echo, proxyProtocol="v1", edge={"useProxyProtocol": "true"}) as router:
            reader, writer = await router.connect()
            writer.write(FOR_SOMEBODY)
            assert (await reader.readline()).startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")
            assert await reader.readline() == FOR_SOMEBODY
            await end(writer)

    on_loop(story())


def test_a_thousand_silent_strangers_are_kept_to_their_number(program: Piped) -> None:
    """Hardening P-06: one address holds 20 connections of each worker, however many it opens; another address is not
    in its way."""
    admitted = f"router_stream_connections_total{{{GIT}}}"
    denied = 'router_stream_denied_total{reason="too_many_connections",stream="git"}'

    async def story() -> None:
        before = await program.metric(admitted) + await program.metric(denied)
        async with (
            program.serves(echo, connectionsPerClient="20", connectionRate="10") as router,
            AsyncExitStack() as crowd,
        ):
            for _ in range(1000):
                sock = crowd.enter_context(socket.socket())
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", router.port))
            while await router.metric(admitted) + await router.metric(denied) < before + 1000:
                await pause()
            assert 0 < await router.metric(f"router_stream_open{{{GIT}}}") <= 2 * 20
            reader, writer = await router.connect("127.0.0.2")
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            await end(writer)

    on_loop(story())


# ── endpoints ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_endpoint_that_refuses_is_passed_over(program: Piped) -> None:
    async def story() -> None:
        async with program.serves() as router, origin(echo) as alive:
            await router.publish(await a_free_port(), alive)
            for _ in range(8):  # whichever is tried first
                reader, writer = await router.connect()
                writer.write(b"hello")
                assert await reader.readexactly(5) == b"hello"
                await end(writer)
                line = await router.record()
                assert line["upstream_host"].endswith(str(alive[1]))

    on_loop(story())


@pytest.mark.parametrize(
    ("endpoints", "reason", "code"), [((), "no_endpoint", 503), ("nobody there", "connect_failed", 502)]
)
def test_without_an_endpoint_the_client_is_told_at_once(
    program: Piped, endpoints: object, reason: str, code: int
) -> None:
    async def story() -> None:
        async with program.serves() as router:
            if endpoints:
                await router.publish(await a_free_port())
            reader, writer = await router.connect()
            assert await turned_away(reader)
            line = await router.record()
            await end(writer)
        assert (line["error_reason"], line["response_code"], line["close_reason"]) == (reason, code, reason)

    on_loop(story())


def test_descriptors_that_ran_out_are_not_the_endpoints_fault() -> None:
    async def story() -> None:
        async with served(echo, alone="takes the descriptors of the process") as router:
            first, writer = await router.connect()  # whatever is opened once has been
            writer.write(b"hello")
            assert await first.readexactly(5) == b"hello"
            with socket.create_connection(("127.0.0.1", router.port)), one_descriptor_left():
                await until(lambda: bool(router.gateway.counters.streams["git"].closed))
                assert router.gateway.counters.streams["git"].closed == {"router_exhausted": 1}
            writer.write(b"again")
            assert await first.readexactly(5) == b"again"
            await end(writer)

    on_loop(story())


@contextmanager
def one_descriptor_left() -> Iterator[None]:
    """As if all but one were in use."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    fillers = [os.open("/dev/null", os.O_RDONLY)]
    while fillers[-1] <= highest:
        fillers.append(os.open("/dev/null", os.O_RDONLY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[-1] + 2, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for each in fillers:
            os.close(each)


def test_an_endpoint_that_does_not_answer_is_left_after_the_limit(program: Piped) -> None:
    async def story() -> None:
        with socket.socket() as deaf:  # its queue is full: the kernel drops what comes
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(0)
            with socket.create_connection(deaf.getsockname()):
                async with program.serves() as router:
                    await router.publish(deaf.getsockname(), connectTimeout="100ms")
                    reader, writer = await router.connect()
                    assert await turned_away(reader)
                    assert (await router.record())["error_reason"] == "connect_timeout"
                    await end(writer)
                    async with origin(echo) as alive:
                        await router.publish(deaf.getsockname(), alive, connectTimeout="100ms")
                        for _ in range(8):  # whichever is tried first
                            reader, writer = await router.connect()
                            writer.write(b"hello")
                            assert await reader.readexactly(5) == b"hello"
                            await end(writer)

    on_loop(story())


def test_a_thousand_vanished_endpoints_leave_nothing_behind(program: Piped) -> None:
    now_open = f"router_stream_open{{{GIT}}}"

    async def story() -> None:
        async def vanishing(reader: Reader, writer: Writer) -> None:
            await reader.readexactly(5)
            linger_none(writer)
            writer.transport.abort()

        async with program.serves(vanishing) as router:
            gone = await a_free_port()

            async def once() -> None:
                reader, writer = await router.connect()
                writer.write(b"hello")
                assert await turned_away(reader)
                await end(writer)

            for _ in range(20):  # whatever is opened once has been, by both workers
                await once()
            await router.until_metric(now_open, 0)
            before = router.open_files()
            for _ in range(500):
                await once()
            await router.publish(gone)
            for _ in range(500):
                await once()
            await router.until_metric(now_open, 0)
            while router.open_files() > before:
                await pause()
            assert (await router.stream())["endpoints"] == [{"address": f"127.0.0.1:{gone[1]}", "load": 0}]

    on_loop(story())


# ── changes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_change_touches_no_stream_that_runs(program: Piped) -> None:
    async def story() -> None:
        async with program.serves(echo) as router, origin(greeter) as other:
            reader, writer = await router.connect()
            writer.write(b"one")
            assert await reader.readexactly(3) == b"one"
            await router.publish(other, tcpTimeout="100ms")
            new, its_writer = await router.connect()
            assert await new.read() == b"SSH-2.0-builder\r\n", "it is idle for as long as the new limit says"
            await end(its_writer)
            await router.publish()
            writer.write(b"two")
            assert await reader.readexactly(3) == b"two"
            await end(writer)

    on_loop(story())


def test_the_port_is_there_while_the_builder_is(program: Piped) -> None:
    async def story() -> None:
        async with program.serves(echo) as router:
            reader, writer = await router.connect()
            writer.write(b"one")
            assert await reader.readexactly(3) == b"one"
            await router.write(deployment())
            assert (await router.routes())["ports"]["git"] is None
            assert await nobody_listens(router.port)
            writer.write(b"two")
            assert await reader.readexactly(3) == b"two"
            await router.publish()
            refused, its_writer = await router.connect()
            assert await turned_away(refused), "there is a builder, and no endpoint"
            await end(its_writer)
            await end(writer)

    on_loop(story())


async def nobody_listens(port: int) -> bool:
    """Until who comes is refused: a worker that has not closed the port yet resets whom it never accepted."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return True
        await end(writer)
        await pause()


def test_a_port_in_use_is_tried_until_it_is_free_and_the_report_says_why(tmp_path: Path) -> None:
    async def story() -> None:
        with piping(tmp_path, complains=True) as program:
            async with program.serves(echo) as router:
                with socket.create_server(("127.0.0.1", 0)) as holder:
                    port: int = holder.getsockname()[1]
                    await router.publish(*router.endpoints, edge={"tcpPorts": f"{port}:drycc/drycc-builder"})
                    while "in use" not in str((await router.stream(f"tcp-{port}"))["error"]):
                        await pause()
                    assert (await router.stream(f"tcp-{port}"))["port"] is None
                while (await router.stream(f"tcp-{port}"))["port"] != port:
                    await pause()
                assert (await router.stream(f"tcp-{port}"))["error"] is None
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"hello")
                assert await reader.readexactly(5) == b"hello"
                await end(writer)
        [complaint] = program.complaints
        assert f"port {port}: Address already in use; it is tried again" in complaint, "once, and by one process"

    on_loop(story())


def test_a_further_port_opens_and_is_no_error(program: Piped) -> None:
    """The supervisor's socket and control's table come to a worker in any order."""

    async def story() -> None:
        async with program.serves(echo) as router:
            for _ in range(5):
                _, port = await a_free_port()
                await router.publish(*router.endpoints, edge={"tcpPorts": f"{port}:drycc/drycc-builder"})
                while (await router.stream(f"tcp-{port}"))["port"] != port:
                    await pause()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"hello")
                assert await reader.readexactly(5) == b"hello"
                await end(writer)

    on_loop(story())


def test_draining_waits_for_streams_takes_no_new_ones_and_logs_what_outlasts_the_grace(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        with piping(tmp_path, "--drain-grace", "1") as program:
            async with program.serves(echo) as router:
                reader, writer = await router.connect()
                writer.write(b"one")
                assert await reader.readexactly(3) == b"one"
                patient, its_writer = await router.connect()
                its_writer.write(b"patient")
                assert await patient.readexactly(7) == b"patient"
                router.stop()
                assert await nobody_listens(router.port)
                writer.write(b"two")
                writer.write_eof()
                assert await reader.read() == b"two"
                with pytest.raises(ConnectionResetError):
                    await patient.read()
                while (line := await router.record())["bytes_in"] != len(b"patient"):
                    pass  # who came before the port was closed
                assert line["close_reason"] == "draining"
                for each in (writer, its_writer):
                    await end(each)

    on_loop(story())
