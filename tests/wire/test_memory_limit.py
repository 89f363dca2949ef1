"""A control group that really kills: clients that would fill its memory are held off before it comes to that (R-31).

Needs the right to make a group of the kernel's memory controller, as root on most machines; skipped elsewhere, where
nothing but ``tests/stories/test_hard_times.py`` speaks of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.process import SOON, Router, manifest
from tests.fakes.wired import on_loop, origin

LIMIT = 160 * 2**20
MOST = 1500
"""Clients that come: each costs some hundred kilobytes, and together they would be several times the limit."""
PIECE = bytes(2**16)


class Group:
    """A memory control group of version 1 or 2."""

    def __init__(self, folder: Path, limit: str) -> None:
        self.folder = folder
        (folder / limit).write_text(str(LIMIT))

    def kills(self) -> int:
        """How often the kernel killed something in it."""
        for name in ("memory.events", "memory.oom_control"):
            if (self.folder / name).exists():
                lines = dict(line.split() for line in (self.folder / name).read_text().splitlines())
                return int(lines.get("oom_kill", 0))
        return 0


@contextlib.contextmanager
def group() -> Iterator[Group]:
    name = f"drycc-test-{os.getpid()}"
    made = None
    for root, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        try:
            (root / name).mkdir()
        except OSError:
            continue
        try:
            made = Group(root / name, limit)
            break
        except OSError:
            (root / name).rmdir()
    if made is None:
        pytest.skip("NOT SHOWN: R-31 with a real limit; no memory control group can be made here")
    try:
        yield made
    finally:
        for _ in range(100):
            try:
                made.folder.rmdir()
                break
            except OSError:
                time.sleep(0.05)  # its last process is on its way out


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while b"GET /small" in await reader.readuntil(b"\r\n\r\n"):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
    while True:
        writer.write(PIECE)
        await writer.drain()


def asked(router: Router) -> int:
    """Status of a small request, 0 if there was none."""
    try:
        return router.get("/small")[0]
    except OSError:
        return 0


def comes(port: int) -> socket.socket | None:
    """A client that asks for everything and reads nothing."""
    try:
        sock = socket.create_connection(("127.0.0.1", port), SOON)
    except OSError:
        return None
    try:
        sock.sendall(b"GET /endless HTTP/1.1\r\nHost: web.localhost\r\n\r\n")
    except OSError:  # closed already: there is no room for it
        sock.close()
        return None
    return sock


def test_who_would_fill_the_memory_is_held_off_and_nobody_is_killed(tmp_path: Path) -> None:
    async def story(within: Group) -> None:
        async with origin(endless) as (_, port):
            app = type("App", (), {"port": port})()
            (tmp_path / "apps.yaml").write_text(manifest("shop/web", app))
            join = f"import os, sys; open('{within.folder}/cgroup.procs', 'w').write(str(os.getpid()))"
            process = subprocess.Popen(  # noqa: ASYNC220 -- it starts once, and nobody waits yet
                [
                    *(sys.executable, "-c", f"{join}; os.execv(sys.argv[1], sys.argv[1:])"),
                    *(sys.executable, "-m", "drycc_router", "run", "--manifests", str(tmp_path), "--bind", "127.0.0.1"),
                    *("--http-port", "0", "--https-port", "0", "--admin-port", "0", "--drain-delay", "0"),
                    # One process: the group's limit is so low that only one interpreter has room in it.
                    *("--workers", "0", "--access-log", "off"),
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            crowd: list[socket.socket] = []
            try:
                assert process.stdout is not None
                router = Router(process, json.loads(await asyncio.to_thread(process.stdout.readline)))
                assert await asyncio.to_thread(asked, router) == 200
                assert await asyncio.to_thread(router.metric, "router_memory_limit_bytes") == LIMIT
                worst = 0.0
                for number in range(MOST):
                    client = await asyncio.to_thread(comes, router.ports["http"])
                    if client is not None:
                        crowd.append(client)
                    if number % 50 == 49:
                        worst = max(worst, await asyncio.to_thread(router.metric, "router_overload_level"))
                        assert (await asyncio.to_thread(router.admin, "/healthz"))[0] == 200
                while worst < 3:  # they come near the limit as fast as the app writes
                    worst = await asyncio.to_thread(router.metric, "router_overload_level")
                assert process.poll() is None
                assert within.kills() == 0
                for client in crowd:
                    client.close()
                gone = time.monotonic()
                while await asyncio.to_thread(asked, router) != 200:
                    assert time.monotonic() < gone + 40, "it did not recover"
                    await asyncio.sleep(0.1)
                process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(process.wait, 40) == 0
            finally:
                for client in crowd:
                    client.close()
                process.kill()
                process.communicate()

    with group() as within:
        on_loop(story(within), 280)
