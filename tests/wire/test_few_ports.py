"""All local ports towards one endpoint are taken (hardening R-38), in a network of its own with few of them.

The story runs in a child process, which alone can be given such a network.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import cast

import pytest

from drycc_proxy.http1.downstream import Http1Downstream
from tests.fakes.wired import HOST, on_loop, origin, until, wired

ROOT = Path(__file__).parents[2]
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
PORTS = 40
_NEW_NETWORK = 0x40000000
_NO_NETWORK = 77


def enter_a_small_network() -> None:
    """A network with a loopback device and few ports. Raises OSError where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "no network of its own")
    with socket.socket() as sock:
        name = struct.pack("16sh", b"lo", 0)
        flags = struct.unpack("16sh", fcntl.ioctl(sock, 0x8913, name))[1]  # SIOCGIFFLAGS
        fcntl.ioctl(sock, 0x8914, struct.pack("16sh", b"lo", flags | 1))  # SIOCSIFFLAGS, IFF_UP
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text(f"30000 {30000 + PORTS - 1}")


async def story() -> None:
    taken = 0
    go = asyncio.Event()

    async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        await reader.readuntil(b"\r\n\r\n")
        taken += 1
        await go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
        await reader.read()

    async def quick(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    async with wired(waits, alone="is given clients that need no port") as router, origin(quick) as elsewhere:
        router.publish(elsewhere, host=b"blog.example")
        # Clients come through a socket that needs no port: they would take those of the router.
        loop = asyncio.get_running_loop()
        core = router.gateway._core

        async def ask(request: bytes) -> tuple[bytes, float]:
            near, far = socket.socketpair()
            await loop.connect_accepted_socket(lambda: Http1Downstream(core, False), far)
            reader, writer = await asyncio.open_connection(sock=near)
            began = time.monotonic()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            writer.close()
            return head, time.monotonic() - began

        async with asyncio.TaskGroup() as clients:
            waiting = [clients.create_task(ask(GET)) for _ in range(PORTS)]
            await until(lambda: taken + sum(task.done() for task in waiting) == PORTS)
            assert taken >= PORTS - 4  # a listener's port is not free either
            before = time.process_time()
            for _ in range(200):
                head, took = await ask(GET)
                assert head.startswith(b"HTTP/1.1 503 "), head
                assert b"X-Router-Error: router_exhausted\r\n" in head
                assert took < 1.0
            spent = time.process_time() - before
            head, _ = await ask(GET.replace(b"shop", b"blog"))
            assert head.startswith(b"HTTP/1.1 200 "), head
            endpoints = cast(list[dict[str, object]], list(core.registry.report())[1]["endpoints"])
            assert not endpoints[0]["ejected"]
            go.set()
        assert sum(task.result()[0].startswith(b"HTTP/1.1 200 ") for task in waiting) == taken
        print(f"{200} refusals in {spent * 1e3:.0f} ms of processor time")


def test_an_endpoint_without_a_port_left_is_a_quick_503_and_others_are_well() -> None:
    if os.geteuid() != 0:
        pytest.skip("SKIPPED: only root may make a network with few ports")
    child = subprocess.run(
        [sys.executable, "-m", "tests.wire.test_few_ports"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if child.returncode == _NO_NETWORK:
        pytest.skip(f"SKIPPED: no network of its own: {child.stderr}")
    assert child.returncode == 0, child.stderr
    assert "200 refusals" in child.stdout


if __name__ == "__main__":
    try:
        enter_a_small_network()
    except OSError as error:
        print(error, file=sys.stderr)
        sys.exit(_NO_NETWORK)
    on_loop(story())
