"""WebSockets, our router only: what an idle one costs, and whether others notice it (hardening W-04 and W-05).

``python -m benchmarks.tunnels`` opens 5,000 tunnels in clear and over TLS, each used once, and counts what the router's
resident memory grew by; then some of them send frames of a byte, and open-loop requests tell how long others wait with
and without them. The app and the clients live in this process, on the core that is not the router's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import uvloop

from benchmarks.figures import percentile
from benchmarks.openloop import client_context, openloop_command
from benchmarks.peers.drycc import manifest
from benchmarks.processes import resident_bytes
from benchmarks.scenarios import LOAD_CORE, PROXY_CORE
from benchmarks.tools import REPOSITORY, machine
from benchmarks.workload import MEASURED, SMALL_ANSWER

__all__ = ["FRAME", "EchoApp", "main", "opening", "summary"]

FRAME: Final = b"\x81\x81\x00\x00\x00\x00a"
"""A client's text of one letter, masked with zeros."""
_GRANTED: Final = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(SMALL_ANSWER), SMALL_ANSWER)
_AT_ONCE: Final = 50
_SETTLE: Final = 2.0
"""Seconds the router gets to finish what it does after the last byte."""


def opening(host: str) -> bytes:
    """Return the request that asks for a tunnel."""
    return (
        f"GET /chat HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


class EchoApp(asyncio.Protocol):
    """Answers requests, grants tunnels, and says in them what it hears."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._tunnel = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember whom to answer."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer: heads come whole here, one at a time."""
        assert self._transport is not None
        if self._tunnel:
            self._transport.write(data)
        elif b"websocket" in data:
            self._tunnel = True
            self._transport.write(_GRANTED)
        else:
            self._transport.write(_ANSWER)


class _Client(asyncio.Protocol):
    """One tunnel: asks for it, sends a frame, and from then on counts what comes back."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._head = b""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost = False
        self.heard = 0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(opening(self._host))

    def data_received(self, data: bytes) -> None:
        """The grant first, echoes then."""
        if self.ready.done():
            self.heard += len(data)
            return
        self._head += data
        if self._head.endswith(FRAME):
            self.ready.set_result(None)
        elif self._head.endswith(b"\r\n\r\n"):
            self.transport.write(FRAME)

    def connection_lost(self, error: Exception | None) -> None:
        """It should not be, before the end."""
        self.lost = True
        if not self.ready.done():
            self.ready.set_exception(error or ConnectionError("closed before the tunnel was open"))


@dataclass(frozen=True, slots=True)
class _Options:
    count: int
    seconds: float
    rate: float
    frames: int


async def _open(port: int, count: int, tls: ssl.SSLContext | None) -> list[_Client]:
    loop = asyncio.get_running_loop()
    opened: list[_Client] = []

    async def one() -> None:
        _, client = await loop.create_connection(
            lambda: _Client(MEASURED), "127.0.0.1", port, ssl=tls, server_hostname=MEASURED if tls else None
        )
        await client.ready
        opened.append(client)

    while len(opened) < count:
        await asyncio.gather(*(one() for _ in range(min(_AT_ONCE, count - len(opened)))))
    return opened


async def _latencies(port: int, home: Path, options: _Options) -> dict[str, float]:
    """Ask at a fixed rate from a process of its own."""
    report = home / "openloop.json"
    command = openloop_command(port, report, tls=False, rate=options.rate, seconds=options.seconds)
    process = await asyncio.create_subprocess_exec("taskset", "-c", str(LOAD_CORE), *command, cwd=REPOSITORY)
    if await process.wait():
        raise RuntimeError("the load failed")
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    ordered = sorted(found["latencies_us"])
    if not ordered:
        raise RuntimeError(f"not one request was answered: {found}")
    return {
        "p50_us": percentile(ordered, 0.5),
        "p99_us": percentile(ordered, 0.99),
        "failed": float(found["failed"]),
    }


async def _flood(clients: Sequence[_Client], frames: int) -> None:
    """Send ``frames`` a second over these, evenly, until cancelled."""
    loop = asyncio.get_running_loop()
    every = 0.01
    share = max(1, round(frames * every / len(clients)))
    due = loop.time()
    while True:
        for client in clients:
            for _ in range(share):
                client.transport.write(FRAME)
        due += every
        await asyncio.sleep(max(0.0, due - loop.time()))


async def _measure(
    router: subprocess.Popen[str], ports: dict[str, int], home: Path, options: _Options
) -> dict[str, Any]:
    found: dict[str, Any] = {"alone": await _latencies(ports["http"], home, options)}
    for scheme in ("http", "https"):
        tls = client_context() if scheme == "https" else None
        warm = await _open(ports[scheme], 100, tls)
        for client in warm:
            client.transport.abort()
        await asyncio.sleep(_SETTLE)
        before = resident_bytes(router.pid)
        clients = await _open(ports[scheme], options.count, tls)
        await asyncio.sleep(_SETTLE)
        result = {"bytes_each": (resident_bytes(router.pid) - before) / options.count}
        result |= {f"others_{key}": value for key, value in (await _latencies(ports["http"], home, options)).items()}
        result["lost"] = float(sum(client.lost for client in clients))
        flood = asyncio.ensure_future(_flood(clients[:100], options.frames))
        heard = sum(client.heard for client in clients)
        began = time.perf_counter()
        under = await _latencies(ports["http"], home, options)
        flood.cancel()
        result["frames_per_second"] = (
            (sum(client.heard for client in clients) - heard) / len(FRAME) / (time.perf_counter() - began)
        )
        result |= {f"flooded_{key}": value for key, value in under.items()}
        for client in clients:
            client.transport.abort()
        await asyncio.sleep(_SETTLE)
        found[scheme] = result
    return found


async def _run(options: _Options, home: Path) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(EchoApp, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    (home / "manifests").mkdir()
    (home / "manifests" / "app.yaml").write_text(manifest("app", (MEASURED,), (("127.0.0.1", port),)), encoding="utf-8")
    command = [
        *("taskset", "-c", str(PROXY_CORE), sys.executable, "-m", "drycc_router", "run"),
        *("--manifests", str(home / "manifests"), "--bind", "127.0.0.1", "--access-log", "off"),
        *("--http-port", "0", "--https-port", "0", "--admin-port", "0"),
    ]
    # Started once, at the beginning, when nothing else happens here.
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as router:  # noqa: ASYNC220 -- see above
        try:
            assert router.stdout is not None
            line = await asyncio.to_thread(router.stdout.readline)
            return await _measure(router, json.loads(line), home, options)
        finally:
            router.kill()
            server.close()


def summary(found: dict[str, Any]) -> str:
    """Return what there is to say about the figures."""
    alone = found["alone"]["p99_us"]
    lines = [f"requests alone: p99 {alone:,.0f} us"]
    for scheme, goal in (("http", 24), ("https", 56)):
        one = found[scheme]
        lines.append(
            f"{scheme}: {one['bytes_each'] / 1024:.1f} KiB for each idle tunnel (goal {goal}), {one['lost']:.0f} lost; "
            f"others' p99 beside them {one['others_p99_us']:,.0f} us, and {one['flooded_p99_us']:,.0f} us beside "
            f"{one['frames_per_second']:,.0f} frames of a byte a second; "
            f"{one['others_failed'] + one['flooded_failed']:.0f} requests failed"
        )
    return "\n".join(lines)


def main() -> None:
    """Run as the command line says, print the figures, and write them where ``--output`` says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tunnels", description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="tunnels of each kind (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each look at others (default %(default)s)")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second meanwhile (default %(default)s)")
    parser.add_argument("--frames", type=int, default=10_000, help="a second in a flood (default %(default)s)")
    parser.add_argument("--output", type=Path, help="a file for the figures, as JSON")
    given = parser.parse_args()
    options = _Options(given.count, given.seconds, given.rate, given.frames)
    os.sched_setaffinity(0, {LOAD_CORE})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as home, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(_run(options, Path(home)))
    print(summary(found))
    if given.output is not None:
        told = {"machine": machine(), "command": sys.argv, "tunnels": found}
        given.output.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
