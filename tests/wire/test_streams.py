"""Streams over real sockets: byte for byte, half-closes, limits, endpoints that vanish, ports that come and go."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import pytest

from drycc_proxy.gateway import Gateway
from drycc_proxy.routing.definitions import Address, Edge, StreamRoute, TableChange
from tests.fakes.wired import Handler, on_loop, origin

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
BIG = bytes(range(256)) * 4096 * 8  # 8 MiB, in which no part looks like another one moved


class Served:
    """A gateway with one stream."""

    def __init__(self, gateway: Gateway, lines: list[dict[str, Any]]) -> None:
        self.gateway = gateway
        self.lines = lines
        self._generation = 0

    def publish(self, *endpoints: Address, **limits: Any) -> None:
        self._generation += 1
        route = StreamRoute("git", 0, "builder", "drycc", "drycc-builder", endpoints, **limits)
        self.gateway.publish(TableChange(self._generation, streams={"git": route}))

    def withdraw(self) -> None:
        self._generation += 1
        self.gateway.publish(TableChange(self._generation, gone_streams=frozenset({"git"})))

    @property
    def port(self) -> int:
        port = self.gateway.stream_port("git")
        assert port is not None
        return port

    async def connect(self) -> tuple[Reader, Writer]:
        return await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)

    async def record(self) -> dict[str, Any]:
        """The log's next line, once there is one."""
        await until(lambda: bool(self.lines))  # the log is written ten times a second
        return self.lines.pop(0)


@asynccontextmanager
async def served(*handlers: Handler, **limits: Any) -> AsyncIterator[Served]:
    lines: list[dict[str, Any]] = []

    def take(batch: bytes) -> bool:
        lines.extend(json.loads(line) for line in batch.splitlines())
        return True

    gateway = Gateway(asyncio.get_running_loop(), log=take)
    await gateway.listen("127.0.0.1", 0, None)
    it = Served(gateway, lines)
    apps = [origin(handler) for handler in handlers]
    try:
        it.publish(*[await app.__aenter__() for app in apps], **limits)
        yield it
    finally:
        gateway.close()
        for app in apps:
            await app.__aexit__(None, None, None)
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


def test_bytes_pass_both_ways_and_one_line_is_logged() -> None:
    async def story() -> None:
        async with served(echo) as router:
            reader, writer = await router.connect()
            writer.write(BIG)
            writer.write_eof()
            assert await reader.read() == BIG
            line = await router.record()
            counted = router.gateway.counters.streams["git"]
            await end(writer)
        assert line["bytes_in"] == line["bytes_out"] == len(BIG) == counted.received == counted.sent
        assert (line["stream"], line["app"], line["close_reason"]) == ("git", "builder", "client_closed")
        assert line["downstream_remote_address"] == "127.0.0.1"
        assert line["response_code"] == 200 and line["error_reason"] == ""
        assert (counted.total, counted.open, counted.closed) == (1, 0, {"client_closed": 1})

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
def test_a_half_close_passes_on_and_the_other_way_stays_open(first: str, when: str) -> None:
    async def story() -> None:
        heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def app(reader: Reader, writer: Writer) -> None:
            heard.set_result(await speak(reader, writer, when, first == "app"))

        async with served(app) as router:
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
def test_a_reset_is_passed_on_as_a_reset(who: str) -> None:
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

        async with served(app) as router:
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


def test_who_does_not_read_holds_the_other_side() -> None:
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

        async with served(firehose) as router:
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


@pytest.mark.parametrize(
    ("limits", "says", "reason"),
    [
        ({"first_byte_timeout": 0.2}, b"", "client_silent"),
        ({"idle_timeout": 0.2}, b"SSH-2.0-git\r\n", "tunnel_idle"),
        ({"idle_timeout": 0.2}, b"", "tunnel_idle"),
    ],
    ids=["silent from the start", "silent later", "silent, and not of a kind that must speak"],
)
def test_silence_has_an_end(limits: dict[str, float], says: bytes, reason: str) -> None:
    async def story() -> None:
        async with served(greeter, **limits) as router:
            reader, writer = await router.connect()
            writer.write(says)
            assert await reader.read() == b"SSH-2.0-builder\r\n"
            assert (await router.record())["close_reason"] == reason
            await end(writer)

    on_loop(story())


def test_a_server_that_takes_its_time_to_speak_is_waited_for() -> None:
    async def story() -> None:
        go = asyncio.Event()

        async def app(reader: Reader, writer: Writer) -> None:
            await go.wait()
            writer.write(await reader.read(100))

        async with served(app, first_byte_timeout=0.2) as router:
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
        async with served(echo) as router:
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
        async with served(echo) as router:
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


def test_one_address_has_so_many_connections_and_no_more() -> None:
    async def story() -> None:
        async with served(echo, connections_per_client=2) as router:
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
            denied = router.gateway.counters.streams["git"].denied
            assert {failure.value: count for failure, count in denied.items()} == {"too_many_connections": 1}
            for each in (one[1], two[1], writer):
                await end(each)

    on_loop(story())


async def turned_away(reader: Reader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


def test_a_balancer_that_is_trusted_stands_for_many_clients() -> None:
    async def story() -> None:
        async with served(echo, connections_per_client=1) as router:
            router.gateway.publish(TableChange(9, edge=Edge(trusted=("127.0.0.0/8",))))
            connections = [await router.connect() for _ in range(3)]
            for reader, writer in connections:
                writer.write(b"hello")
                assert await reader.readexactly(5) == b"hello"
                await end(writer)

    on_loop(story())


BALANCERS = Edge(trusted=("127.0.0.0/8",), proxy_protocol=True)
FOR_SOMEBODY = b"PROXY TCP4 192.0.2.1 198.51.100.7 40000 2222\r\n"


def test_a_balancer_says_for_whom_it_speaks_and_the_builder_is_told() -> None:
    async def story() -> None:
        async with served(echo, connections_per_client=1, proxy_protocol="v1") as router:
            router.gateway.publish(TableChange(9, edge=BALANCERS))
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
def test_a_balancer_without_a_header_speaks_for_itself(says: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drycc_proxy.streams.listener.PROXY_SECONDS", 0.1)

    async def story() -> None:
        async with served(greeter) as router:
            router.gateway.publish(TableChange(9, edge=BALANCERS))
            reader, writer = await router.connect()
            writer.write(says)
            assert await reader.readline() == b"SSH-2.0-builder\r\n"
            await end(writer)

    on_loop(story())


def test_a_header_that_is_none_ends_the_connection() -> None:
    async def story() -> None:
        async with served(greeter) as router:
            router.gateway.publish(TableChange(9, edge=BALANCERS))
            reader, writer = await router.connect()
            writer.write(b"PROXY TCP4 not an address\r\n")
            assert await turned_away(reader)
            assert (await router.record())["error_reason"] == "bad_proxy_header"
            await end(writer)

    on_loop(story())


def test_a_stranger_speaks_for_nobody_else() -> None:
    """What it sends is the builder's to judge, as bytes like any others; the builder is told the socket's address."""

    async def story() -> None:
        async with served(echo, proxy_protocol="v1") as router:
            reader, writer = await router.connect()
            writer.write(FOR_SOMEBODY)
            assert (await reader.readline()).startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")
            assert await reader.readline() == FOR_SOMEBODY
            await end(writer)

    on_loop(story())


def test_a_thousand_silent_strangers_are_kept_to_their_number() -> None:
    """Hardening P-06: one address holds 20 connections, however many it opens; another address is not in its way."""

    async def story() -> None:
        async with served(echo, connections_per_client=20, new_per_second=10.0) as router:
            strangers = []
            for _ in range(1000):
                sock = socket.socket()
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", router.port))
                strangers.append(sock)
            counted = router.gateway.counters.streams["git"]
            await until(lambda: counted.total + sum(counted.denied.values()) == 1000)
            assert counted.open <= 20
            reader, writer = await asyncio.open_connection("127.0.0.1", router.port, local_addr=("127.0.0.2", 0))
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            await end(writer)
            for sock in strangers:
                sock.close()

    on_loop(story())


# ── endpoints ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_endpoint_that_refuses_is_passed_over() -> None:
    async def story() -> None:
        async with served() as router, origin(echo) as alive:
            router.publish(await a_free_port(), alive)
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
def test_without_an_endpoint_the_client_is_told_at_once(endpoints: object, reason: str, code: int) -> None:
    async def story() -> None:
        async with served() as router:
            if endpoints:
                router.publish(await a_free_port())
            reader, writer = await router.connect()
            assert await turned_away(reader)
            line = await router.record()
            await end(writer)
        assert (line["error_reason"], line["response_code"], line["close_reason"]) == (reason, code, reason)

    on_loop(story())


def test_descriptors_that_ran_out_are_not_the_endpoints_fault() -> None:
    async def story() -> None:
        async with served(echo) as router:
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


def test_an_endpoint_that_does_not_answer_is_left_after_the_limit() -> None:
    async def story() -> None:
        with socket.socket() as deaf:  # its queue is full: the kernel drops what comes
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(0)
            with socket.create_connection(deaf.getsockname()):
                async with served(connect_timeout=0.1) as router:
                    router.publish(deaf.getsockname(), connect_timeout=0.1)
                    reader, writer = await router.connect()
                    assert await turned_away(reader)
                    assert (await router.record())["error_reason"] == "connect_timeout"
                    await end(writer)
                    async with origin(echo) as alive:
                        router.publish(deaf.getsockname(), alive, connect_timeout=0.1)
                        for _ in range(8):  # whichever is tried first
                            reader, writer = await router.connect()
                            writer.write(b"hello")
                            assert await reader.readexactly(5) == b"hello"
                            await end(writer)

    on_loop(story())


def test_a_thousand_vanished_endpoints_leave_nothing_behind() -> None:
    async def story() -> None:
        async def vanishing(reader: Reader, writer: Writer) -> None:
            await reader.readexactly(5)
            linger_none(writer)
            writer.transport.abort()

        async with served(vanishing) as router:
            gone = await a_free_port()

            async def once() -> None:
                reader, writer = await router.connect()
                writer.write(b"hello")
                assert await turned_away(reader)
                await end(writer)

            await once()
            await router.record()
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(500):
                await once()
            router.publish(gone)
            for _ in range(500):
                await once()
            counted = router.gateway.counters.streams["git"]
            await until(lambda: not counted.open)
            assert len(os.listdir("/proc/self/fd")) <= before
            assert router.gateway.report_streams()[0]["endpoints"] == [{"address": f"127.0.0.1:{gone[1]}", "load": 0}]

    on_loop(story())


# ── changes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_change_touches_no_stream_that_runs() -> None:
    async def story() -> None:
        async with served(echo) as router, origin(greeter) as other:
            reader, writer = await router.connect()
            writer.write(b"one")
            assert await reader.readexactly(3) == b"one"
            router.publish(other, idle_timeout=0.1)
            router.publish()
            await asyncio.sleep(0.3)  # longer than the new limit, which is not for those who came before it
            writer.write(b"two")
            assert await reader.readexactly(3) == b"two"
            await end(writer)

    on_loop(story())


def test_the_port_is_there_while_the_builder_is() -> None:
    async def story() -> None:
        async with served(echo) as router:
            reader, writer = await router.connect()
            writer.write(b"one")
            assert await reader.readexactly(3) == b"one"
            port = router.port
            router.withdraw()
            assert router.gateway.stream_port("git") is None
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"two")
            assert await reader.readexactly(3) == b"two"
            router.publish()
            assert router.port
            await end(writer)

    on_loop(story())


def test_a_port_in_use_is_tried_until_it_is_free() -> None:
    async def story() -> None:
        async with served() as router, origin(echo) as app:
            with socket.create_server(("127.0.0.1", 0)) as holder:
                port = holder.getsockname()[1]
                route = StreamRoute("tcp", port, "db", "shop", "db", (app,))
                router.gateway.publish(TableChange(7, streams={"tcp": route}))
                (report,) = [each for each in router.gateway.report_streams() if each["stream"] == "tcp"]
                assert report["port"] is None and "in use" in str(report["error"])
            await until(lambda: router.gateway.stream_port("tcp") is not None)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            await end(writer)

    on_loop(story())


def test_draining_waits_for_streams_and_takes_no_new_ones() -> None:
    async def story() -> None:
        async with served(echo) as router:
            reader, writer = await router.connect()
            writer.write(b"one")
            assert await reader.readexactly(3) == b"one"
            port = router.port
            drained = asyncio.create_task(router.gateway.drain(20))
            await asyncio.sleep(0)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"two")
            writer.write_eof()
            assert await reader.read() == b"two"
            await drained
            await end(writer)

    on_loop(story())


def test_what_outlasts_the_grace_is_broken_off_and_says_why() -> None:
    async def story() -> None:
        async with served(greeter) as router:
            reader, writer = await router.connect()
            await reader.readline()
            await router.gateway.drain(0.05)
            router.gateway.close()
            with pytest.raises(ConnectionResetError):
                await reader.read()
            await end(writer)
            for _ in range(3):
                await asyncio.sleep(0)
            assert router.gateway.counters.streams["git"].closed == {"draining": 1}

    on_loop(story())
