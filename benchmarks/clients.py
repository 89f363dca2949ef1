"""Clients that cost memory instead of time: connections that sit idle, readers that do not read."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from collections.abc import Iterable
from typing import Final

from benchmarks.openloop import read_answer
from benchmarks.workload import MEASURED, requests

__all__ = ["ask", "kernel_bytes", "kernel_bytes_of", "open_idle", "open_stalled", "still_open"]

_PATIENCE: Final = 20.0
_CLIENT_BUFFER: Final = 64 * 1024
"""What a stalled reader's own kernel may hold for it; it is not the proxy's cost."""


def ask(port: int, target: str = "inspect", *, tls: ssl.SSLContext | None = None) -> tuple[int, str]:
    """Send one request of kind ``target`` on a connection of its own; return status and body."""
    with _open(port, tls) as connection:
        return _exchange(connection, requests[target].head().replace("{host}", MEASURED).encode())


def open_idle(port: int, count: int, *, tls: ssl.SSLContext | None = None) -> list[socket.socket]:
    """Open ``count`` connections one after the other, use each for one request, and keep all of them."""
    head = requests["small"].head().replace("{host}", MEASURED).encode()
    opened: list[socket.socket] = []
    for _ in range(count):
        connection = _open(port, tls)
        opened.append(connection)
        status, _ = _exchange(connection, head)
        if status != 200:
            raise RuntimeError(f"connection {len(opened)} was answered with {status}")
    return opened


def open_stalled(port: int, count: int, *, tls: ssl.SSLContext | None = None) -> list[socket.socket]:
    """Ask for an endless answer on ``count`` connections, and never read a byte of it."""
    head = requests["endless"].head().replace("{host}", MEASURED).encode()
    opened = []
    for _ in range(count):
        connection = _open(port, tls, receive_buffer=_CLIENT_BUFFER)
        connection.sendall(head)
        opened.append(connection)
    return opened


def still_open(connections: Iterable[socket.socket]) -> int:
    """Return how many of ``connections`` the proxy has not closed."""
    count = 0
    for connection in connections:
        connection.setblocking(False)
        try:
            count += connection.recv(1) != b""
        except (BlockingIOError, ssl.SSLWantReadError):
            count += 1
        except OSError:  # reset: it is gone
            continue
    return count


def kernel_bytes(filters: str) -> int:
    """Return the bytes that the kernel holds for the TCP sockets that ``filters`` select (``sport = :80``)."""
    command = ["ss", "-H", "-t", "-n", "-m", filters]
    return kernel_bytes_of(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def kernel_bytes_of(listing: str) -> int:
    """Add up received-and-unread (``r``) and queued-to-send (``w``) memory in the text that ``ss -m`` prints."""
    found = re.findall(r"skmem:\(r(\d+),rb\d+,t\d+,tb\d+,f\d+,w(\d+),", listing)
    return sum(int(received) + int(queued) for received, queued in found)


def _open(port: int, tls: ssl.SSLContext | None, *, receive_buffer: int = 0) -> socket.socket:
    connection = socket.socket()
    connection.settimeout(_PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or each TLS request waits 40 ms for an ACK
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        connection.connect(("127.0.0.1", port))
        return connection if tls is None else tls.wrap_socket(connection, server_hostname=MEASURED)
    except OSError:
        connection.close()
        raise


def _exchange(connection: socket.socket, head: bytes) -> tuple[int, str]:
    connection.sendall(head)
    data = b""
    while (answer := read_answer(data)) is None:
        received = connection.recv(65536)
        if not received:
            raise ConnectionError(f"closed after {len(data)} bytes of an answer")
        data += received
    return answer.status, answer.body.decode("latin-1")
