"""Field blocks on their way through: what the app hears about the client, and what the client gets from the router.

Shared by both sides of both protocols: a block is lines with CRLF, without the start line, framing and the request's
identity, which differ per request. Everything here that is constant for a connection or a route is built once and kept.

What must not enter: sockets, clocks, and reading of fields (``http1.parser`` did that).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from drycc_proxy.http.client_address import NetworkSet, client_address
from drycc_proxy.http.messages import MAX_PORT, RequestFields, ResponseHead, is_host, set_fields

__all__ = ["Peer", "RequestIds", "build_outgoing", "forwarded_fields", "route_fields", "stand_beside"]

_SCHEME: Final = re.compile(rb"https?|wss?", re.IGNORECASE)
_PORT: Final = re.compile(rb"[0-9]{1,5}")
_DIGITS: Final = tuple(b"%02x" % number for number in range(256))
_FIRST_HOP: Final = b"X-Router-Hops: 1\r\n"
HTTP_PORT: Final = b"80"


class Peer:
    """Who is at the other end of a client connection, as the connection itself tells it."""

    __slots__ = ("address", "fields", "https_port", "secure", "trusted")

    def __init__(self, address: str, https_port: bytes, secure: bool, trusted: bool) -> None:
        self.address = address
        self.https_port = https_port
        """The public port of https, for ``X-Forwarded-Port``; that of http is 80."""
        self.secure = secure
        self.trusted = trusted
        client = address.encode("ascii")
        proto, port = (b"https", https_port) if secure else (b"http", HTTP_PORT)
        self.fields = forwarded_fields(client, client, proto, port)
        """What apps hear about a client that speaks for itself."""


def forwarded_fields(client: bytes, chain: bytes, proto: bytes, port: bytes) -> bytes:
    """The lines about the client that do not depend on the request, each with its CRLF."""
    return (b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Port: %b\r\nX-Real-IP: %b\r\n") % (
        chain,
        proto,
        port,
        client,
    )


class RequestIds:
    """Makes request ids: 32 hexadecimal digits, unique across processes by a random half and in one by a count."""

    __slots__ = ("_count", "_prefix", "_stem")

    def __init__(self, prefix: int) -> None:
        """``prefix``: 64 random bits."""
        self._prefix = b"%016x" % (prefix & (2**64 - 1))
        self._count = 0
        self._stem = b"%b%014x" % (self._prefix, 0)
        """All but the last two digits."""

    def next(self) -> bytes:
        """A fresh id."""
        self._count = count = self._count + 1
        last = count & 0xFF
        if not last:
            self._stem = b"%b%014x" % (self._prefix, count >> 8)
        return self._stem + _DIGITS[last]


def build_outgoing(fields: RequestFields, peer: Peer, trusted: NetworkSet) -> None:
    """Fill ``fields.outgoing`` and ``fields.client``: the block that goes to the app, for requests on this connection.
    What it was made of, ``fields.rest``, is given up.

    From a stranger every statement about the client is dropped and made anew; from a trusted peer what it said is kept
    (contract 6). A length is written from the parsed one, never copied; how chunks go on is decided with each request.
    """
    host = fields.host
    about = peer.fields
    others = b""
    if peer.trusted:
        host, about, others = _believe(fields, peer, trusted)
    else:
        fields.client = peer.address
        fields.scheme = b"https" if peer.secure else b"http"
    if fields.stated:
        others += b"Content-Length: %d\r\n" % fields.length
    others += b"X-Router-Hops: %d\r\n" % (fields.hops + 1) if fields.hops else _FIRST_HOP
    if fields.expect:
        others += b"Expect: 100-continue\r\n"
    opening = fields.opening
    rest = fields.rest
    fields.outgoing = b"Host: %b\r\n%b%b%bX-Forwarded-Host: %b\r\n%b%b" % (
        fields.host,
        b"" if opening is None else opening.kept,
        b"\r\n".join(rest),
        b"\r\n" if rest else b"",
        host,
        about,
        others,
    )
    rest.clear()  # an idle connection remembers its last head, and the log the last few hundred: once is enough


def _believe(fields: RequestFields, peer: Peer, trusted: NetworkSet) -> tuple[bytes, bytes, bytes]:
    """``(forwarded host, lines about the client, other lines)`` when a trusted peer speaks for its client."""
    address, hops = client_address(peer.address, fields.forwarded_for, trusted)
    chain = ", ".join([*hops, peer.address]) if hops else address
    proto, port, host, others = _trusted_words(fields, peer)
    fields.client = address
    fields.scheme = proto
    about = forwarded_fields(address.encode("ascii"), chain.encode("ascii"), proto, port)
    return host, about, b"".join([b"%b\r\n" % line for line in others])


def _trusted_words(fields: RequestFields, peer: Peer) -> tuple[bytes, bytes, bytes, list[bytes]]:
    """``(proto, port, host, other lines)`` as a trusted peer tells them, each only when it is well formed. A peer that
    names the scheme and no port is taken to mean the public port of that scheme."""
    proto = b"https" if peer.secure else b"http"
    port = b""
    host = fields.host
    others: list[bytes] = []
    for line in fields.forwarded:
        name, _, value = line.partition(b":")
        name = name.lower()
        value = value.strip(b" \t")
        last = value.rstrip(b" \t,").rpartition(b",")[2].strip(b" \t")  # empty elements do not count
        if name == b"x-forwarded-proto":
            # What arrived over TLS here is https, whatever anybody says (ancestors, lineage 2.5).
            if not peer.secure and _SCHEME.fullmatch(last) is not None:
                proto = b"https" if last.lower() in (b"https", b"wss") else b"http"
        elif name == b"x-forwarded-port":
            if _PORT.fullmatch(last) is not None and int(last) <= MAX_PORT:
                port = last
        elif name == b"x-forwarded-host":
            if last and is_host(last):
                host = last
        elif name != b"x-real-ip":
            if name == b"x-request-start":
                if fields.dated:
                    continue  # once, as the router itself says it
                fields.dated = True
            others.append(line)
    return proto, port or (peer.https_port if proto == b"https" else HTTP_PORT), host, others


def route_fields(referrer_policy: bytes, hsts: bytes) -> bytes:
    """The lines that an app's policy adds to every response, own answers included."""
    lines = b""
    if referrer_policy:
        lines += b"Referrer-Policy: %b\r\n" % referrer_policy
    if hsts:
        lines += b"Strict-Transport-Security: %b\r\n" % hsts
    return lines


def stand_beside(head: ResponseHead, fields: bytes) -> ResponseHead:
    """The app's head as it goes out beside ``fields``, the lines of :func:`route_fields`.

    A name that stands in both is the router's: whoever configured it was promised that every response says it, and a
    client that hears two values takes the first of some fields and the last of others (RFC 6797 8.1; Referrer Policy
    8.1). Names are read from ``fields``, so this holds for whatever ``route_fields`` adds. Costs one comparison for a
    head that is the same as last time.
    """
    if head.beside is fields:
        return head.without or head
    names = _names(fields)
    low = b"\n" + head.fields.lower()
    head.beside = fields
    head.without = None
    if any(b"\n%b:" % name in low for name in names):
        head.without = kept = ResponseHead(head.status, head.line, head.minor)
        kept.length = head.length
        kept.stated = head.stated
        kept.reusable = head.reusable
        kept.has_date = head.has_date
        kept.idle = head.idle
        kept.upgrade = head.upgrade
        lines = head.fields.split(b"\r\n")[:-1]
        set_fields(kept, [line for line in lines if line[: line.index(b":")].lower() not in names])
    return head.without or head


@lru_cache(maxsize=1000)
def _names(fields: bytes) -> frozenset[bytes]:
    """The names in a block of fields, in lower case."""
    return frozenset(line[: line.index(b":")].lower() for line in fields.split(b"\r\n")[:-1])


def printable(address: tuple[str, int]) -> bytes:
    """An endpoint as log lines print it: ``10.0.0.1:8080``, ``[fd00::1]:8080``."""
    host, port = address
    return f"[{host}]:{port}".encode() if ":" in host else f"{host}:{port}".encode()
