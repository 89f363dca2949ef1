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
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

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
_SWITCH: Final = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class Router:
    """The router under test."""

    def __init__(self, process: subprocess.Popen[str], ports: dict[str, int]) -> None:
        self.pid = process.pid
        self.http = ports["http"]
        self._admin = ports["admin"]

    def metrics(self) -> str:
        """Everything it counts."""
        connection = http.client.HTTPConnection("127.0.0.1", self._admin, timeout=_PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()

    def figure(self, name: str) -> float:
        """One figure of them."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.metrics(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    @property
    def descriptors(self) -> int:
        """Files and sockets that it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


@contextlib.contextmanager
def _router(app: int, files: int) -> Iterator[Router]:
    """Start one with so many descriptors, in front of an app on a port; end it."""
    with tempfile.TemporaryDirectory(prefix="drycc-crowds-") as home:
        (Path(home) / "shop.yaml").write_text(manifest("shop", ("shop.example",), (("127.0.0.1", app),)))
        limited = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))"
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", f"{limited}; os.execv(sys.argv[1], sys.argv[1:])"),
                *(sys.executable, "-m", "router", "run", "--manifests", home, "--bind", "127.0.0.1"),
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
    half = b"POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 2\r\n\r\n1"
    pairs: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    for _ in range(1000):
        pairs.append(await asyncio.open_connection("127.0.0.1", router.http))
        pairs[-1][1].write(half)
    await _until(lambda: router.figure("router_accept_pauses_total") > 0)
    before = cpu_time(router.pid)
    await asyncio.sleep(seconds)
    spent = cpu_time(router.pid) - before
    took = time.monotonic()
    await asyncio.to_thread(router.metrics)
    took = time.monotonic() - took
    highest = router.descriptors
    taken = router.figure('router_connection_places{state="taken"}')
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


@dataclass(frozen=True, slots=True)
class Crowd:
    """One scenario. ``mixed``: others are served meanwhile."""

    run: Callable[[Router, float], Awaitable[dict[str, Any]]]
    files: int = 20_000
    mixed: bool = True


CROWDS: Final[dict[str, Crowd]] = {
    "flood": Crowd(flood),
    "upgrades": Crowd(upgrades),
    "strangers": Crowd(strangers),
    "pipeliners": Crowd(pipeliners),
    "hoarders": Crowd(hoarders, files=2048),
    "exhaustion": Crowd(exhaustion, files=256, mixed=False),
}


async def measure(name: str, crowd: Crowd, seconds: float) -> dict[str, Any]:
    """Let one crowd come, and return what was seen."""
    server = await asyncio.start_server(_app, "127.0.0.1", 0, backlog=4096)
    figures: dict[str, Any] = {"crowd": name, "files": crowd.files}
    try:
        with _router(server.sockets[0].getsockname()[1], crowd.files) as router:
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
    results = []
    for name in options.only.split(","):
        results.append(asyncio.run(measure(name, CROWDS[name], options.seconds)))
        print(json.dumps(results[-1]), flush=True)
    if options.output:
        options.output.write_text(json.dumps({"seconds": options.seconds, "crowds": results}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
