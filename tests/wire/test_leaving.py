"""Everything at once while the router leaves: hardening L-01 with real processes, and L-03 behind HAProxy."""

from __future__ import annotations

import asyncio
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import uvloop

from benchmarks import lives
from benchmarks.peers import drycc
from benchmarks.tunnels import opening
from tests.fakes.process import SOON, Router, router, soon

HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
HALF = 100_000
"""Bytes of half a body."""
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Everything:
    """An app that can do it all: answers at once or in halves, takes uploads, grants tunnels, echoes streams."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.halfway = 0
        """Bodies, either way, of which half has passed."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            first = await reader.readexactly(4)
            if first == b"ping":  # a stream
                await self._echo(reader, writer, first)
                return
            head = first + await reader.readuntil(b"\r\n\r\n")
            if b"websocket" in head:
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
                await self._echo(reader, writer)
                return
            if head.startswith(b"GET /slow "):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (2 * HALF, b"a" * HALF))
                self.halfway += 1
                await self.go.wait()
                writer.write(b"b" * HALF)
                continue
            if head.startswith(b"POST "):
                assert await reader.readexactly(HALF) == b"a" * HALF
                self.halfway += 1
                assert await reader.readexactly(HALF) == b"b" * HALF
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: bytes = b"") -> None:
        writer.write(said)
        while said := await reader.read(1000):
            writer.write(said)


class Clients:
    """All of them, so that their connections are closed in the end."""

    def __init__(self) -> None:
        self._writers: list[asyncio.StreamWriter] = []

    async def asks(self, port: int, request: bytes = b"") -> Pair:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self._writers.append(writer)
        writer.write(request)
        return reader, writer

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.splitlines() if line.lower().startswith(b"content-length:"))
    return head, await reader.readexactly(length)


async def pings(pair: Pair) -> None:
    pair[1].write(b"ping")
    assert await pair[0].readexactly(4) == b"ping"


async def refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.transport.abort()
    return False


def manifest(name: str, port: int) -> str:
    return drycc.manifest(
        name.partition("/")[2], ("web.test",), (("127.0.0.1", port),), namespace=name.partition("/")[0]
    )


async def leaves(child: Router, app: Everything, clients: Clients) -> None:
    asks = clients.asks
    http = int(child.ports["http"])
    get, post = (
        b"GET %b HTTP/1.1\r\nHost: web.test\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: %d\r\n\r\n",
    )

    # ── everything is under way ───────────────────────────────────────────────────────────────────────────────────
    kept = [await asks(http, get % b"/") for _ in range(40)]
    for reader, _ in kept:
        assert b"Connection: close" not in (await answer(reader))[0]
    downloads = [await asks(http, get % b"/slow") for _ in range(20)]
    uploads = [await asks(http, post % (2 * HALF) + b"a" * HALF) for _ in range(10)]
    tunnels = [await asks(http, opening("web.test")) for _ in range(10)]
    for reader, _ in tunnels:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    streams = [await asks(child.ports["git"]) for _ in range(5)]
    for pair in (*tunnels, *streams):
        await pings(pair)
    await asyncio.to_thread(soon, lambda: app.halfway == len(downloads) + len(uploads))

    # ── out of the load balancer's sight, and still there ─────────────────────────────────────────────────────────
    child.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(soon, lambda: child.admin("/readyz") == (503, "draining\n"))
    assert not await refused(http)
    fresh, _ = await asks(http, get % b"/")
    assert (await answer(fresh))[1] == b"ok"
    kept[0][1].write(get % b"/")
    assert (await answer(kept[0][0]))[1] == b"ok"

    # ── nobody new; what is under way goes on ─────────────────────────────────────────────────────────────────────
    while not await refused(http):  # noqa: ASYNC110 -- after the delay, which nobody announces
        await asyncio.sleep(0.05)
    for reader, _ in kept:
        assert await reader.read() == b""
    for pair in (*tunnels, *streams):
        await pings(pair)
    app.go.set()
    for reader, _ in downloads:
        assert (await answer(reader))[1] == b"a" * HALF + b"b" * HALF
        assert await reader.read() == b""
    for reader, writer in uploads:
        writer.write(b"b" * HALF)
        head, body = await answer(reader)
        assert b"\r\nConnection: close\r\n" in head
        assert body == b"ok"

    # ── tunnels and streams for as long as they like, within the grace ────────────────────────────────────────────
    assert child.process.poll() is None
    for pair in (*tunnels, *streams):
        await pings(pair)
        pair[1].write_eof()
        assert await pair[0].read() == b""


def test_everything_under_way_is_finished_and_nobody_is_turned_away_before(tmp_path: Path) -> None:
    async def story() -> tuple[int, Any]:
        app, clients = Everything(), Clients()
        server = await asyncio.start_server(app, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        (tmp_path / "web.yaml").write_text(manifest("shop/web", port))
        (tmp_path / "builder.yaml").write_text(manifest("drycc/drycc-builder", port).replace("domains", "unused"))
        flags = ("--workers", "2", "--git-port", "0", "--drain-delay", "2", "--drain-grace", "60")
        started = router(tmp_path, *flags)
        child = await asyncio.to_thread(started.__enter__)
        try:
            await leaves(child, app, clients)
            return await asyncio.to_thread(child.ends)
        finally:
            started.__exit__(None, None, None)
            server.close()
            await clients.close()

    status, said = asyncio.run(asyncio.wait_for(story(), 4 * SOON))
    assert status == 0
    assert [line for line in said if line["level"] in ("error", "critical")] == []


@pytest.mark.peer
@pytest.mark.skipif(HAPROXY is None, reason="haproxy is missing: rolling restarts behind a balancer are NOT tested")
def test_two_replicas_behind_a_balancer_are_restarted_and_no_request_fails() -> None:
    result = uvloop.run(lives.run("rolling", 0.1))
    assert result["failed"] == 0, result
    assert result["ended_with"] == {0: 2}
    assert result["requests"] > 1000
    assert set(result["websockets"]) <= {"opened", "closed cleanly"}
    assert result["websockets"]["closed cleanly"] > 0
