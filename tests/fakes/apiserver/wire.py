"""Bytes and sockets treated as no server should: holding a port without listening, breaking off, dripping.

Knows nothing of Kubernetes.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct

from aiohttp import web

__all__ = ["bound", "break_off", "drip"]

RST = struct.pack("ii", 1, 0)
"""SO_LINGER with no time to linger: the next close sends RST."""


def bound(port: int) -> socket.socket:
    """A socket that holds a port of loopback and refuses, until somebody listens on it."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def break_off(transport: asyncio.Transport, how: str) -> None:
    """End a connection now: ``fin``, ``alert`` (over TLS: close_notify, then FIN) or ``rst``."""
    match how:
        case "alert":
            transport.close()
            return
        case "rst":
            # A copy of the descriptor: what a transport offers of its socket differs from loop to loop.
            with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as same:
                same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        case "fin":
            pass
        case _:
            raise ValueError(f"fin, alert or rst, not {how!r}")
    transport.abort()


async def drip(response: web.StreamResponse, data: bytes, seconds: float) -> None:
    for at in range(len(data)):
        await response.write(data[at : at + 1])
        await asyncio.sleep(seconds)
