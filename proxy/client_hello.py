"""The client's hello, as far as it must be judged before OpenSSL answers it (RFC 8446 4.1.2; RFC 7301).

OpenSSL as Python offers it goes on without ALPN when the client named only protocols that are not spoken here, and both
sides then speak different ones; RFC 7301 3.2 wants an alert. So the list is looked for here, before the handshake goes
on, in whatever records and segments the hello came. Everything else about it OpenSSL judges.

What must not enter: sockets, answers, and names (``tls.sni`` is asked by OpenSSL).
"""

from __future__ import annotations

import struct
from typing import Final

__all__ = ["MAX_HELLO", "NO_APPLICATION_PROTOCOL", "Hello", "read"]

MAX_HELLO: Final = 64 * 1024
"""Bytes of a hello that are looked at; what is larger OpenSSL refuses by itself at twice this size."""
NO_APPLICATION_PROTOCOL: Final = b"\x15\x03\x03\x00\x02\x02\x78"
"""The fatal alert 120 as a record in clear: nothing is encrypted before the server's hello."""

_CLIENT_HELLO: Final = 0x01
_ALPN: Final = 0x10
_ALPN_KIND: Final = b"\x00\x10"
_extension: Final = struct.Struct(">HH").unpack_from
"""Kind and size of one extension, at an offset."""


class Hello:
    """What was found. ``complete`` False: more bytes may change it. ``protocols`` None: the client named none."""

    __slots__ = ("complete", "protocols")

    def __init__(self, complete: bool, protocols: tuple[bytes, ...] | None) -> None:
        self.complete = complete
        self.protocols = protocols


def read(data: bytes) -> Hello:
    """Look at the first bytes of a connection. What is no hello is complete and names nothing; raises nothing."""
    message = b""
    at = 0
    while True:
        header = data[at : at + 5]
        if header[:1] not in (b"", b"\x16") or header[1:2] not in (b"", b"\x03"):
            return Hello(True, None)
        if len(header) < 5:
            return Hello(False, None)
        end = at + 5 + int.from_bytes(header[3:])
        message += data[at + 5 : end]
        if message and message[0] != _CLIENT_HELLO:
            return Hello(True, None)
        if len(message) >= 4 and len(message) >= 4 + int.from_bytes(message[1:4]):
            return Hello(True, _protocols(message[4 : 4 + int.from_bytes(message[1:4])]))
        if end > len(data):
            return Hello(len(data) > MAX_HELLO, None)
        at = end


def _protocols(body: bytes) -> tuple[bytes, ...] | None:
    """The names in a whole ClientHello's list; None where there is no list, or the hello is not well-formed."""
    if _ALPN_KIND not in body:  # of nearly everybody without a list; where it stands by chance, it is looked for below
        return None
    at = 34  # version and random
    at += 1 + (body[at] if at < len(body) else 0)  # session id
    at += 2 + int.from_bytes(body[at : at + 2])  # ciphers
    at += 1 + (body[at] if at < len(body) else 0)  # compression
    end = at + 2 + int.from_bytes(body[at : at + 2])
    at += 2
    if end > len(body):
        return None
    while at + 4 <= end:
        kind, size = _extension(body, at)
        at += 4
        if kind == _ALPN:
            return _names(body[at + 2 : at + size])
        at += size
    return None


def _names(block: bytes) -> tuple[bytes, ...]:
    names = []
    at = 0
    while at < len(block):
        size = block[at]
        names.append(block[at + 1 : at + 1 + size])
        at += 1 + size
    return tuple(names)
