"""What we ask of sockets that the loop's transports do not offer. Each call borrows the descriptor and gives it back.

What must not enter: writing, reading from a connection that lives, and anything on the request path.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import os
import resource
import select
import socket
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = [
    "BACKLOG",
    "RECEIVE_BUFFER",
    "UNSENT_LOW_WATER",
    "bind",
    "descriptors",
    "has_news",
    "is_broken",
    "keep_alive",
    "kernel_unsent",
    "limit_received",
    "limit_unsent",
    "open_descriptors",
    "peer_address",
    "reset_on_close",
    "set_app_options",
    "set_inherited",
    "unread",
]

BACKLOG: Final = 4096
"""Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn."""

KEEP_ALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
"""A peer whose machine is gone is noticed within two minutes; balancers in between see that the connection lives."""

UNSENT_LOW_WATER: Final = 128 * 1024
"""Bytes that the kernel takes for a peer beyond what is on its way. Without it a reader that stalls parks megabytes
there, which count as ours (hardening R-29); and what is copied to and fro is still in the processor's cache."""

RECEIVE_BUFFER: Final = 96 * 1024
"""Bytes that the kernel may hold of an answer that we do not take yet (it doubles the figure for its own records). Left
to itself it grows to megabytes; this much still carries gigabits a second over the distances inside a cluster."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 picks a free one, ``::`` takes IPv4 too. Raises OSError that names the address.

    What is set here holds for every connection that is accepted from it: they inherit it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        set_inherited(sock)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {host} port {port}: {error.strerror}") from None
    return sock


def set_inherited(sock: socket.socket) -> None:
    """Set on a listening socket what every connection accepted from it inherits."""
    limit_unsent(sock)
    keep_alive(sock)


def set_app_options(transport: asyncio.BaseTransport) -> None:
    """Set on a new connection to an app what it needs: bounds of what the kernel holds, and TCP keep-alive, so that a
    connection whose machine is gone is noticed while a request or a tunnel waits on it in silence."""
    with _borrowed(transport) as sock:
        if sock is not None:
            limit_unsent(sock)
            limit_received(sock)
            keep_alive(sock)


def descriptors() -> int:
    """How many files and sockets this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


def open_descriptors() -> int:
    """How many it has open now; an estimate where the system does not tell."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 32


@contextmanager
def _borrowed(transport: asyncio.BaseTransport) -> Iterator[socket.socket | None]:
    """The transport's socket for one call; None when it is gone."""
    sock = transport.get_extra_info("socket")
    descriptor = sock.fileno() if sock is not None else -1
    if descriptor < 0:
        yield None
        return
    borrowed = socket.socket(fileno=descriptor)
    try:
        yield borrowed
    finally:
        borrowed.detach()


def peer_address(transport: asyncio.BaseTransport) -> str:
    """The peer's address as text, without a zone, IPv4 as IPv4 also on a socket that takes both. A peer that is gone
    already has none; it is then called 0.0.0.0, which is in no network anybody would write down."""
    name = transport.get_extra_info("peername")
    if not isinstance(name, tuple):
        return "0.0.0.0"
    address: str = name[0].partition("%")[0]
    return address[7:] if address.startswith("::ffff:") and "." in address else address


def reset_on_close(transport: asyncio.BaseTransport) -> None:
    """Make the close that follows a reset: an answer without a length ends where its connection does, so a plain close
    would turn half of it into the whole (RFC 9112 8)."""
    with _borrowed(transport) as sock:
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def limit_unsent(target: asyncio.BaseTransport | socket.socket) -> None:
    """Bound what the kernel keeps for a peer that does not read. Sockets accepted from a listening one inherit it."""
    if not hasattr(socket, "TCP_NOTSENT_LOWAT"):
        return  # not Linux: the kernel's own bounds hold
    if isinstance(target, socket.socket):
        target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_LOW_WATER)
        return
    with _borrowed(target) as sock:
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_LOW_WATER)


def limit_received(sock: socket.socket) -> None:
    """Bound what the kernel takes from an app while its client does not read."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


def kernel_unsent(transport: asyncio.BaseTransport) -> int:
    """Bytes that the kernel has for the peer and that the peer has not acknowledged; 0 where there is no socket."""
    with _borrowed(transport) as sock:
        if sock is None:
            return 0
        queued = array.array("i", (0,))
        fcntl.ioctl(sock, termios.TIOCOUTQ, queued)
        return queued[0]


def has_news(transport: asyncio.BaseTransport) -> bool:
    """Whether the kernel has something from the peer that the loop has not told yet: bytes, its end, or a reset."""
    sock = transport.get_extra_info("socket")
    descriptor = sock.fileno() if sock is not None else -1
    if descriptor < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def unread(transport: asyncio.BaseTransport) -> Iterator[bytes]:
    """What the kernel received before a connection broke, in pieces, at most ``2 * RECEIVE_BUFFER`` bytes.

    A write that fails ends the transport without another read. Linux keeps what it received before a reset readable.
    """
    left = 2 * RECEIVE_BUFFER
    while left > 0:
        with _borrowed(transport) as sock:
            try:
                data = sock.recv(64 * 1024, socket.MSG_DONTWAIT) if sock is not None else b""
            except OSError:
                return  # nothing is left, and this is the reset itself
        if not data:
            return
        left -= len(data)
        yield data


def is_broken(transport: asyncio.BaseTransport) -> bool:
    """Whether the peer has reset the connection, or is known to be gone. A loop that does not read is not told of it:
    the one in use asks the kernel for nothing at all meanwhile."""
    sock = transport.get_extra_info("socket")
    descriptor = sock.fileno() if sock is not None else -1
    if descriptor < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, 0)  # an error and a hang-up are told without being asked for
    return bool(poll.poll(0))


def keep_alive(target: asyncio.BaseTransport | socket.socket) -> None:
    """Let the kernel ask a silent peer now and then whether it is there."""
    if isinstance(target, socket.socket):
        target.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEP_ALIVE:
            if hasattr(socket, name):
                target.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        return
    with _borrowed(target) as sock:
        if sock is not None:
            keep_alive(sock)
