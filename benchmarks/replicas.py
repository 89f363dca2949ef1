"""Two replicas behind a TCP balancer, restarted in turn: the scenario ``rolling`` of ``benchmarks.lives`` (L-03).

The balancer is HAProxy in TCP mode, which asks each replica's ``/readyz`` once a second and knows nothing else of it.
Clients are correct ones: they keep connections, obey ``Connection: close``, and ask once more on a new connection if
one that was kept ended before a byte of the answer (RFC 9112, section 9.3.1); such requests are counted as
``asked again``.

What must not enter: how a replica is started (``benchmarks.lives``).
"""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from benchmarks.tunnels import opening

__all__ = ["Balancer", "clients", "tunnels"]

_PATIENCE: Final = 5.0
_KEPT: Final = 0.75
"""Share of the requests that go over kept connections; the others open one each."""


class Balancer:
    """HAProxy in TCP mode before replicas: pairs of a port for traffic and one for ``/readyz``."""

    def __init__(self, home: Path, port: int, replicas: Sequence[tuple[int, int]]) -> None:
        self._program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        self._port = port
        self._file = home / "haproxy.cfg"
        servers = "\n".join(
            f"  server replica{number} 127.0.0.1:{traffic} check port {ready}"
            for number, (traffic, ready) in enumerate(replicas)
        )
        self._file.write_text(f"""\
global
  maxconn 4000
defaults
  mode tcp
  timeout connect 2s
  timeout client 60s
  timeout server 60s
frontend all
  bind 127.0.0.1:{port}
  default_backend router
backend router
  balance roundrobin
  option httpchk GET /readyz
  option redispatch 1
  retries 3
  default-server inter 1s fall 1 rise 1
{servers}
""")
        self._process: asyncio.subprocess.Process

    async def start(self) -> None:
        """Start it, and wait until it passes connections on. Raises FileNotFoundError: there is no HAProxy."""
        if self._program is None:
            raise FileNotFoundError("please install first: apt-get install -y haproxy")
        self._process = await asyncio.create_subprocess_exec(self._program, "-db", "-q", "-f", str(self._file))
        async with asyncio.timeout(20):
            while not await self._passes():  # noqa: ASYNC110 -- HAProxy tells nobody when its first check is done
                await asyncio.sleep(0.1)

    async def _passes(self) -> bool:
        counts: Counter[str] = Counter()
        await _one(self._port, "app.test", time.monotonic(), [], counts, [], kept=False)
        return counts["ok"] > 0

    async def stop(self) -> None:
        """End it."""
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()


Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def clients(port: int, host: str, rate: float, over: Callable[[], bool]) -> tuple[Counter[str], list[float]]:
    """GETs at a steady rate until ``over``: outcomes, and latencies in seconds from when each fell due."""
    free: list[Pair] = []
    counts: Counter[str] = Counter()
    latencies: list[float] = []
    due, number = time.monotonic(), 0
    async with asyncio.TaskGroup() as requests:
        while not over():
            number += 1
            kept = number % 100 < 100 * _KEPT
            requests.create_task(_one(port, host, due, free, counts, latencies, kept=kept))
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
    for _, writer in free:
        writer.transport.abort()
    return counts, latencies


async def _one(
    port: int, host: str, due: float, free: list[Pair], counts: Counter[str], latencies: list[float], *, kept: bool
) -> None:
    again = False
    try:
        async with asyncio.timeout(_PATIENCE):
            while kept and free:
                pair = free.pop()
                try:
                    await _ask(pair, host, free, kept=True)
                    break
                except _Stale:
                    again = True
            else:
                await _ask(await asyncio.open_connection("127.0.0.1", port), host, free, kept=kept)
        counts["ok"] += 1
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError, _Stale) as error:
        counts[str(error) if isinstance(error, ValueError) else type(error).__name__] += 1
    counts["asked again"] += again
    latencies.append(time.monotonic() - due)


class _Stale(Exception):
    """The connection ended before a byte of the answer."""


async def _ask(pair: Pair, host: str, free: list[Pair], *, kept: bool) -> None:
    reader, writer = pair
    stays = False
    try:
        line = "" if kept else "Connection: close\r\n"
        writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n{line}\r\n".encode())
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            if isinstance(error, asyncio.IncompleteReadError) and error.partial:
                raise
            raise _Stale from None
        length = re.search(rb"(?i)content-length: (\d+)", head)
        body = await reader.readexactly(int(length[1]) if length else 0)
        if not head.startswith(b"HTTP/1.1 200 ") or body != b"ok":
            raise ValueError(head[9:12].decode())
        stays = kept and not re.search(rb"(?i)\r\nconnection: close", head)
        if stays:
            free.append(pair)
    finally:
        if not stays:
            writer.transport.abort()


async def tunnels(port: int, host: str, count: int, over: Callable[[], bool]) -> Counter[str]:
    """``count`` WebSockets that are opened again whenever they end, until ``over``: how they ended."""
    ends: Counter[str] = Counter()

    async def one() -> None:
        while not over():
            try:
                async with asyncio.timeout(_PATIENCE):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(opening(host))
                    head = await reader.readuntil(b"\r\n\r\n")
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                ends[f"not opened: {type(error).__name__}"] += 1
                continue
            if not head.startswith(b"HTTP/1.1 101 "):
                ends[f"not opened: {head[9:12].decode()}"] += 1
                writer.transport.abort()
                continue
            ends["opened"] += 1
            reading = asyncio.ensure_future(reader.read())
            while not reading.done() and not over():
                await asyncio.wait([reading], timeout=0.2)
            if reading.done():
                ends["reset" if reading.exception() else "closed cleanly"] += 1
            reading.cancel()
            writer.transport.abort()

    async with asyncio.TaskGroup() as all_of_them:
        for _ in range(count):
            all_of_them.create_task(one())
    return ends
