"""Crowds: too many clients, or clients that mean no good, next to a few that only want their answers.

    python -m benchmarks.crowds [--seconds N] [--only exhaustion,flood] [--output FILE]

Each scenario starts a router of its own, asks it at a fixed rate for a quiet while, and again with the crowd around.
What counts: no failure among those who are served properly, their 99th percentile next to the quiet one, and what the
crowd costs in processor time, memory and descriptors. Names in brackets are those of the catalogue of attacks.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import re
import resource
import select
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import uvloop

from benchmarks.figures import percentile
from benchmarks.openloop import OpenLoopReport, openloop_command
from benchmarks.peers.drycc import manifest
from benchmarks.processes import cpu_time, resident_bytes

__all__ = ["CROWDS", "main", "measure"]

RATE: Final = 200.0
"""Requests a second of those who mean well."""
_PATIENCE: Final = 5.0
"""Seconds after which an answer counts as failed."""
_GET: Final = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"
_UPGRADE: Final = b"GET /ws HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_PIECE: Final = bytes(64 * 1024)
_SWITCH: Final = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class Router:
    """The router under test."""

    def __init__(self, process: subprocess.Popen[str], ports: dict[str, int]) -> None:
        self.pid = process.pid
        self.http = ports["http"]
        self.https = ports["https"]
        self._admin = ports["admin"]

    def metrics(self) -> str:
        """Everything it counts."""
        connection = http.client.HTTPConnection("127.0.0.1", self._admin, timeout=_PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()

    def healthy(self) -> bool:
        """Whether its probe is answered."""
        connection = http.client.HTTPConnection("127.0.0.1", self._admin, timeout=_PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200

    def figure(self, name: str) -> float:
        """One figure of them."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.metrics(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def failures(self) -> dict[str, int]:
        """Errors of the router's own so far, by name."""
        found: Counter[str] = Counter()
        pattern = r'^router_errors_total\{.*reason="([a-z_]+)".*\} ([0-9.e+]+)$'
        for name, count in re.findall(pattern, self.metrics(), re.MULTILINE):
            found[name] += int(float(count))
        return dict(found)

    @property
    def descriptors(self) -> int:
        """Files and sockets that it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


@contextlib.contextmanager
def _router(app: int, files: int, workers: int) -> Iterator[Router]:
    """Start one with so many descriptors, in front of an app on a port; end it."""
    with tempfile.TemporaryDirectory(prefix="drycc-crowds-") as home:
        (Path(home) / "shop.yaml").write_text(manifest("shop", ("shop.example",), (("127.0.0.1", app),)))
        limited = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))"
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", f"{limited}; os.execv(sys.argv[1], sys.argv[1:])"),
                *(sys.executable, "-m", "drycc_router", "run", "--manifests", home, "--bind", "127.0.0.1"),
                *("--workers", str(workers)),
                *("--http-port", "0", "--https-port", "0", "--admin-port", "0", "--access-log", f"{home}/access.log"),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            yield Router(process, json.loads(process.stdout.readline()))
        finally:
            process.kill()
            process.communicate()


async def _app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer everything, and agree to every upgrade."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"Upgrade: " in head:
                writer.write(_SWITCH)
                await reader.read()
                break
            if head.startswith(b"GET /endless "):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 10**10)
                while True:
                    writer.write(_PIECE)
                    await writer.drain()
            if head.startswith(b"POST /upload "):
                while await reader.read(2**18):
                    pass  # the end of which never comes
            writer.write(_ANSWER)
    except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
        pass  # the router is gone, or the measurement over
    writer.close()


async def _ask(router: Router, seconds: float) -> OpenLoopReport:
    """Ask at an even rate, open loop, from a process that the crowd does not slow down."""
    with tempfile.NamedTemporaryFile("r", prefix="drycc-crowds-") as report:
        command = openloop_command(
            router.http,
            Path(report.name),
            tls=False,
            rate=RATE,
            seconds=seconds,
            connections=16,
            hosts=("shop.example",),
        )
        process = await asyncio.create_subprocess_exec(*command)
        await process.wait()
        return OpenLoopReport(**json.loads(report.read()))


def _p99_ms(report: OpenLoopReport) -> float:
    return round(percentile(report.latencies_us, 0.99) / 1000, 2) if report.latencies_us else 0.0


async def _at(rate: float, seconds: float, act: Callable[[int], Awaitable[None]]) -> int:
    """Act at an even rate, whatever becomes of it; how often."""
    begun = time.monotonic()
    acting: set[asyncio.Task[None]] = set()

    async def one(number: int) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await act(number)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            pass  # a crowd is not asked how it fared

    for number in range(int(seconds * rate)):
        await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
        task = asyncio.create_task(one(number))
        acting.add(task)
        task.add_done_callback(acting.discard)
    await asyncio.gather(*acting)
    return int(seconds * rate)


async def _until(condition: Callable[[], bool]) -> None:
    """Look again and again."""
    for _ in range(200):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise TimeoutError


# ── crowds ────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def flood(router: Router, seconds: float) -> dict[str, Any]:
    """1,000 connections a second: closed, closed after one byte, reset (S-07)."""

    async def act(number: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", router.http)
        if number % 3 == 1:
            writer.write(b"G")
        if number % 3 == 2:
            writer.transport.abort()
        else:
            writer.close()

    return {"connections": await _at(1000, seconds, act)}


async def upgrades(router: Router, seconds: float) -> dict[str, Any]:
    """500 WebSockets a second, each gone after its handshake (W-07)."""

    async def act(_: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", router.http)
        writer.write(_UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    count = await _at(500, seconds, act)
    gone = time.monotonic()
    await _until(lambda: not router.figure("router_websocket_open"))
    return {"upgrades": count, "seconds_until_none_is_left": round(time.monotonic() - gone, 2)}


async def strangers(router: Router, seconds: float) -> dict[str, Any]:
    """2,000 requests a second for hosts and paths that nobody serves, no two alike (S-11)."""
    before = router.metrics().count("\n")

    async def act(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", router.http)
        asked = b"GET /%d HTTP/1.1\r\nHost: h%d-%%d.example\r\n\r\n" % (number, number)
        for turn in range(20):
            writer.write(asked % turn)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
        writer.close()

    count = await _at(100, seconds, act)
    return {"requests": 20 * count, "series_more": router.metrics().count("\n") - before}


async def pipeliners(router: Router, seconds: float) -> dict[str, Any]:
    """50 connections that send 1,000 requests in one segment, again and again (S-10)."""

    async def act(_: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", router.http)
        writer.write(_GET * 1000)
        left = 1000
        while left:
            left -= (await reader.readuntil(b"\r\n\r\nok")).count(b"200 OK")
        writer.close()

    return {"requests": 1000 * await _at(50 / seconds, seconds, act)}


async def hoarders(router: Router, seconds: float) -> dict[str, Any]:
    """Twice as many clients as there are places; each asks once and keeps its connection (S-06)."""
    places = int(router.figure('router_connection_places{state="all"}'))
    kept: list[asyncio.StreamWriter] = []
    answered = 0

    async def act(_: int) -> None:
        nonlocal answered
        reader, writer = await asyncio.open_connection("127.0.0.1", router.http)
        kept.append(writer)
        writer.write(_GET)
        await reader.readuntil(b"ok")
        answered += 1

    count = await _at(2 * places / seconds, seconds, act)
    taken = router.figure('router_connection_places{state="taken"}')
    figures = {
        "places": places,
        "clients": count,
        "answered": answered,
        "taken_at_the_end": int(taken),
        "idle_closed": int(router.figure("router_idle_connections_closed_total")),
        "accept_pauses": int(router.figure("router_accept_pauses_total")),
    }
    for writer in kept:
        writer.transport.abort()
    return figures


async def exhaustion(router: Router, seconds: float) -> dict[str, Any]:
    """1,000 clients that stay at work, and 256 descriptors (R-27): what it costs, and how soon it is over."""
    half = b"GET / HTTP/1.1\r\nHost: shop.example\r\n"  # whose end is still to come: nothing may be answered yet
    pairs: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    for _ in range(1000):
        pairs.append(await asyncio.open_connection("127.0.0.1", router.http))
        pairs[-1][1].write(half)
    places = 'router_connection_places{state="taken"}'
    taken = 0.0

    def is_full() -> bool:
        nonlocal taken
        taken = max(taken, router.figure(places))
        return router.figure("router_accept_pauses_total") > 0 and taken > 0

    await _until(is_full)
    before = cpu_time(router.pid)
    await asyncio.sleep(seconds)
    spent = cpu_time(router.pid) - before
    took = time.monotonic()
    await asyncio.to_thread(router.metrics)
    took = time.monotonic() - took
    highest = router.descriptors
    taken = max(taken, router.figure(places))
    for _, writer in pairs:
        writer.transport.abort()
    freed = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", router.http)
    writer.write(_GET)
    await reader.readuntil(b"ok")
    again = time.monotonic() - freed
    writer.close()
    return {
        "taken": int(taken),
        "descriptors": highest,
        "cpu_percent_while_full": round(100 * (spent.user + spent.system) / seconds, 1),
        "metrics_ms_while_full": round(took * 1000, 1),
        "seconds_until_served_again": round(again, 2),
    }


# ── slow clients ──────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(slots=True)
class _Ends:
    """When the router had enough of each."""

    begun: float
    after: list[float]

    def figures(self, clients: int) -> dict[str, Any]:
        return {
            "clients": clients,
            "cut": len(self.after),
            "first_cut_s": round(min(self.after), 1) if self.after else None,
            "last_cut_s": round(max(self.after), 1) if self.after else None,
        }


async def _drips(port: int, count: int, seconds: float, say: bytes, drop: bytes, every: float) -> dict[str, Any]:
    """So many clients that say something at once, and a drop more now and then; when each was cut off."""
    ends = _Ends(time.monotonic(), [])

    async def one(number: int) -> None:
        await asyncio.sleep(number / count)  # all of them within a second
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        since = time.monotonic()
        writer.write(say)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    if drop:
                        writer.write(drop)
                    try:
                        async with asyncio.timeout(every):
                            while await reader.read(4096):
                                pass
                        break
                    except TimeoutError:
                        continue
        except TimeoutError:
            return
        except OSError:
            pass  # reset
        finally:
            writer.transport.abort()
        ends.after.append(time.monotonic() - since)

    await asyncio.gather(*(one(number) for number in range(count)))
    return ends.figures(count)


async def slow_heads(router: Router, seconds: float) -> dict[str, Any]:
    """2,000 clients whose head comes at a byte every five seconds (S-01): cut off after 10 s."""
    return await _drips(router.http, 2000, seconds, _GET[:20], b"x", 5.0)


async def slow_bodies(router: Router, seconds: float) -> dict[str, Any]:
    """1,000 clients whose body comes at 20 bytes a second (S-02): cut off after 10 s."""
    head = b"POST /upload HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 1000000\r\n\r\n"
    return await _drips(router.http, 1000, seconds, head, bytes(20), 1.0)


async def slow_handshakes(router: Router, seconds: float) -> dict[str, Any]:
    """1,000 clients that stop in their handshake (S-04): after 5 bytes, in the hello, after it; cut off after 10 s."""
    outgoing = ssl.MemoryBIO()
    hello = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="shop.example")
    try:
        hello.do_handshake()
    except ssl.SSLWantReadError:
        pass  # an answer to its hello, which is all that is wanted of it
    said = outgoing.read()
    parts = {"five_bytes": said[:5], "half_a_hello": said[: len(said) // 2], "hello": said}
    counts = {"five_bytes": 334, "half_a_hello": 333, "hello": 333}
    figures = await asyncio.gather(
        *(_drips(router.https, counts[name], seconds, part, b"", seconds) for name, part in parts.items())
    )
    return dict(zip(parts, figures, strict=True))


async def handshakes(router: Router, seconds: float) -> dict[str, Any]:
    """200 full handshakes a second, each gone when it is done (T-11)."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    done = 0

    async def act(number: int) -> None:
        nonlocal done
        _, writer = await asyncio.open_connection(
            "127.0.0.1", router.https, ssl=context, server_hostname="shop.example"
        )
        done += 1
        writer.transport.abort()

    return {"begun": await _at(200, seconds, act), "done": done}


async def slow_readers(router: Router, seconds: float) -> dict[str, Any]:
    """500 clients that ask for an endless answer and read nothing (S-03): memory of each; cut off after 60 s."""
    socks: list[socket.socket] = []
    memory = resident_bytes(router.pid)
    begun = time.monotonic()
    for _ in range(500):
        sock = socket.create_connection(("127.0.0.1", router.http))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(b"GET /endless HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        sock.setblocking(False)
        socks.append(sock)
        await asyncio.sleep(0)
    await asyncio.sleep(min(seconds / 2, 5.0))
    each = (resident_bytes(router.pid) - memory) // len(socks)
    ends = _Ends(begun, [])
    poll = select.poll()
    for sock in socks:
        poll.register(sock, 0)  # hang-ups are told without being asked for
    while time.monotonic() < begun + seconds and len(ends.after) < len(socks):
        for descriptor, _ in poll.poll(0):
            poll.unregister(descriptor)
            ends.after.append(time.monotonic() - begun)
        await asyncio.sleep(0.2)
    for sock in socks:
        sock.close()
    return {"bytes_each": each, **ends.figures(len(socks))}


async def transfers(router: Router, seconds: float) -> dict[str, Any]:
    """One download and one upload as fast as they go (R-30): bytes each way, and the most memory that they took."""
    begun, most, memory = time.monotonic(), 0, resident_bytes(router.pid)
    came, went = 0, 0

    async def down() -> None:
        nonlocal came
        reader, writer = await asyncio.open_connection("127.0.0.1", router.http, limit=2**20)
        writer.write(b"GET /endless HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        while time.monotonic() < begun + seconds:
            came += len(await reader.read(2**18))
        writer.transport.abort()

    async def up() -> None:
        nonlocal went
        _, writer = await asyncio.open_connection("127.0.0.1", router.http)
        writer.write(b"POST /upload HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 1000000000000\r\n\r\n")
        while time.monotonic() < begun + seconds:
            writer.write(_PIECE)
            went += len(_PIECE)
            await writer.drain()
        writer.transport.abort()

    async def watch() -> None:
        nonlocal most
        while time.monotonic() < begun + seconds:
            most = max(most, resident_bytes(router.pid))
            await asyncio.sleep(0.2)

    await asyncio.gather(down(), up(), watch())
    return {"down_mib": came >> 20, "up_mib": went >> 20, "most_memory_more_kib": max(0, most - memory) // 1024}


# ── more than there is time for ───────────────────────────────────────────────────────────────────────────────────────
async def _peak(router: Router, seconds: float) -> float:
    """Requests a second that are answered at most: by 64 clients of which each asks again when it is answered."""
    answered, took = await _drive(router, 64, None, seconds)
    return len(answered) / took


async def _drive(
    router: Router, clients: int, rate: float | None, seconds: float
) -> tuple[list[tuple[int, float]], float]:
    """Ask with h2load, at a rate or as often as there is an answer: status and milliseconds of each answer, and how
    many seconds it took in all."""
    with tempfile.NamedTemporaryFile("r", prefix="drycc-crowds-") as told:
        begun = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *("h2load", "--h1", "-t", "1", "-c", str(clients), "-n", str(round((rate or 10**6) * seconds))),
            *(("--rps", str(max(1, round(rate / clients)))) if rate else ()),
            *("--log-file", told.name),
            *(f"--connect-to=127.0.0.1:{router.http}", "http://shop.example/"),
            stdout=subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(seconds):
                await process.wait()
        except TimeoutError:
            process.kill()  # it asks for as many as it was told, however long that takes
            await process.wait()
        took = time.monotonic() - begun
        rows = [line.split("\t") for line in told.read().splitlines()]
    return [(int(row[1]), int(row[2]) / 1000) for row in rows if len(row) == 3], took


async def overload(router: Router, seconds: float) -> dict[str, Any]:
    """Three times as many requests as can be answered (R-32): how many are, how soon, and how soon it is over.

    Needs h2load, which says what can be answered as well: by 64 clients, for half as long. On a machine with few cores
    the load takes processor time from the app; how busy the router was is said, as what it did not get to answer while
    it was not busy is not its doing.
    """
    capacity = await _peak(router, seconds / 2)
    memory = resident_bytes(router.pid)
    before = cpu_time(router.pid)
    health: list[float] = []
    over = asyncio.Event()

    async def look() -> None:
        while not over.is_set():
            begun = time.monotonic()
            await asyncio.to_thread(router.healthy)
            health.append(time.monotonic() - begun)
            await asyncio.sleep(0.2)

    looking = asyncio.create_task(look())
    answered, lasted = await _drive(router, 1500, 3 * capacity, seconds)
    over.set()
    used = cpu_time(router.pid)
    await looking
    ended = time.monotonic()
    while True:
        begun = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", router.http)
        writer.write(_GET)
        good = (await reader.read(4096)).endswith(b"ok") and time.monotonic() - begun < 0.05
        writer.close()
        if good or time.monotonic() - ended > 30:
            break
        await asyncio.sleep(0.1)
    served = sorted(took for status, took in answered if status == 200)
    refused = sorted(took for status, took in answered if status == 503)
    return {
        "capacity_rps": round(capacity),
        "offered_rps": round(3 * capacity),
        "goodput_share": round(len(served) / lasted / capacity, 2),
        "busy": round((used.user + used.system - before.user - before.system) / lasted, 2),
        "served_p99_ms": round(percentile(served, 0.99), 1) if served else None,
        "refused": len(refused),
        "refused_why": router.failures(),
        "refused_p99_ms": round(percentile(refused, 0.99), 1) if refused else None,
        "health_worst_ms": round(1000 * max(health), 1),
        "recovered_after_s": round(time.monotonic() - ended, 2),
        "memory_more_under_load_kib": (resident_bytes(router.pid) - memory) // 1024,
    }


@dataclass(frozen=True, slots=True)
class Crowd:
    """One scenario. ``mixed``: others are served meanwhile. ``alone``: it is the router that has too little time, so it
    has a core of its own, as few processes as are installed on one, and an app that is quicker than it."""

    run: Callable[[Router, float], Awaitable[dict[str, Any]]]
    files: int = 20_000
    mixed: bool = True
    alone: bool = False


CROWDS: Final[dict[str, Crowd]] = {
    "flood": Crowd(flood),
    "upgrades": Crowd(upgrades),
    "strangers": Crowd(strangers),
    "pipeliners": Crowd(pipeliners),
    "hoarders": Crowd(hoarders, files=2048),
    "slow-heads": Crowd(slow_heads),
    "slow-bodies": Crowd(slow_bodies),
    "slow-readers": Crowd(slow_readers),
    "handshakes": Crowd(handshakes),
    "slow-handshakes": Crowd(slow_handshakes),
    "transfers": Crowd(transfers, mixed=False),
    "overload": Crowd(overload, mixed=False, alone=True),
    "exhaustion": Crowd(exhaustion, files=256, mixed=False),
}


class _Quick(asyncio.Protocol):
    """An app that does nothing but answer small requests: one for each end of a head."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(_ANSWER * data.count(b"\r\n\r\n"))


@contextlib.contextmanager
def _quick_app() -> Iterator[int]:
    """Start it in a process of its own, beside the load; its port."""
    command = [sys.executable, "-m", "benchmarks.crowds", "--only", "app"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


async def _serve_quickly() -> None:
    server = await asyncio.get_running_loop().create_server(_Quick, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def measure_alone(name: str, crowd: Crowd, seconds: float) -> dict[str, Any]:
    """Let one come that has the router on a core of its own, this process and its children on the other one."""
    cores = os.sched_getaffinity(0)
    try:
        with _quick_app() as app:
            os.sched_setaffinity(0, {min(cores)})
            with _router(app, crowd.files, workers=1) as router:
                os.sched_setaffinity(0, {max(cores)})
                return {"crowd": name, "files": crowd.files, **await crowd.run(router, seconds)}
    finally:
        os.sched_setaffinity(0, cores)


async def measure(name: str, crowd: Crowd, seconds: float) -> dict[str, Any]:
    """Let one crowd come, and return what was seen."""
    if crowd.alone:
        return await measure_alone(name, crowd, seconds)
    server = await asyncio.start_server(_app, "127.0.0.1", 0, backlog=4096)
    figures: dict[str, Any] = {"crowd": name, "files": crowd.files}
    try:
        with _router(server.sockets[0].getsockname()[1], crowd.files, workers=0) as router:
            quiet = await _ask(router, seconds)
            descriptors, memory, cpu = router.descriptors, resident_bytes(router.pid), cpu_time(router.pid)
            begun = time.monotonic()
            if crowd.mixed:
                served, told = await asyncio.gather(_ask(router, seconds), crowd.run(router, seconds))
                figures |= {
                    "clean": served.sent,
                    "clean_failures": served.failed,
                    "why": sorted(set(served.failures))[:3],
                    "quiet_p99_ms": _p99_ms(quiet),
                    "crowd_p99_ms": _p99_ms(served),
                }
            else:
                told = await crowd.run(router, seconds)
            spent = cpu_time(router.pid) - cpu
            figures |= told
            figures["cpu_percent"] = round(100 * (spent.user + spent.system) / (time.monotonic() - begun), 1)
            figures["memory_more_kib"] = (resident_bytes(router.pid) - memory) // 1024
            await asyncio.sleep(2.0)
            figures["descriptors_more_after_2_s"] = router.descriptors - descriptors
    finally:
        server.close()
    return figures


def main(arguments: list[str] | None = None) -> int:
    """Measure and print a line of JSON for each crowd; return 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crowds", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each crowd comes (default 30)")
    parser.add_argument("--only", default=",".join(CROWDS), help="which, with commas between them")
    parser.add_argument("--output", type=Path, help="a file for the figures")
    options = parser.parse_args(arguments)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if options.only == "app":
        uvloop.run(_serve_quickly())
    results = []
    for name in options.only.split(","):
        results.append(asyncio.run(measure(name, CROWDS[name], options.seconds)))
        print(json.dumps(results[-1]), flush=True)
    if options.output:
        options.output.write_text(json.dumps({"seconds": options.seconds, "crowds": results}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
