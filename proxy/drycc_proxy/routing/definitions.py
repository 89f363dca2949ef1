"""Definitions: what the control plane hands down through the one door, as plain frozen data.

Everything here can be compared, printed and pickled; nothing here lives. ``table`` binds definitions to living
upstreams. A *change* travels, never the whole table: its cost is the size of the change.

What must not enter: sockets, clocks, loops, and any word of Kubernetes beyond the two labels ``namespace`` and
``service`` that metrics and logs print.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Address", "Edge", "HostRule", "Policy", "Route", "StreamRoute", "TableChange", "canonical_path"]

Address = tuple[str, int]
"""``(IP literal, port)``. Names are resolved by the control plane, never on the request path."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What one app's owner asked for, typed and in base units. Times in seconds (0: no limit), sizes in bytes."""

    connect_timeout: float = 30.0
    """To connect to one endpoint."""
    idle_timeout: float = 1300.0
    """Longest silence while sending to, or receiving from, an endpoint (``tcpTimeout``)."""
    request_timeout: float = 0.0
    """From the end of the request to the head of the response; 0: only ``idle_timeout`` counts."""
    body_size: int = 0
    """Largest request body; 0: unlimited."""
    body_timeout: float = 30.0
    """Longest silence of a client in the middle of its body, before the answer begins."""
    body_rate: int = 240
    """Bytes a second below which that body is too slow on average; 0: no limit."""
    maintenance: bool = False
    maintenance_page: bytes = b""
    """HTML of the maintenance page; empty: the built-in one."""
    enforce_https: bool = False
    hsts: bytes = b""
    """Value of ``Strict-Transport-Security`` on https; empty: the header is not added."""
    referrer_policy: bytes = b""
    """Value of ``Referrer-Policy``; empty: the header is not added."""
    allow: tuple[str, ...] | None = None
    """Networks (canonical CIDR text) that may come. None: everybody. Empty: **nobody** (allow-lists fail closed)."""
    deny: tuple[str, ...] = ()
    """Networks that may not come; wins over ``allow``."""
    request_start: bool = False
    """Add ``X-Request-Start: t=<seconds.ms>`` to the request."""


@dataclass(frozen=True, slots=True)
class Route:
    """One app: where its requests go and under which rules.

    ``name`` is the identity that survives every change ("namespace/service"); ``app`` is what logs and metrics print.
    No endpoints means 503, never 404: the host is known.
    """

    name: str
    app: str
    namespace: str
    service: str
    endpoints: tuple[Address, ...] = ()
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class HostRule:
    """One name and who answers it.

    ``host`` is canonical (lower case, A-labels, no trailing dot, no port) in one of three forms: ``b"a.example"``
    exact; ``b"*.example"`` one or more labels below, never the apex; ``b"shop.*"`` the label ``shop`` under any suffix
    (a short name without a platform domain). ``route`` is the owner's route name, ``paths`` are the contributions
    ``(literal prefix, route name)`` of other apps, longest prefix first, matched by whole segments. A prefix is spelt
    as :func:`canonical_path` spells it.
    """

    host: bytes
    route: str
    paths: tuple[tuple[bytes, str], ...] = ()


_ESCAPE: Final = re.compile(rb"%[0-9A-Fa-f]{2}|[\x80-\xff]")
_UNRESERVED: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_SPELT: Final = {
    **{b"%%%02X" % byte: bytes([byte]) if byte in _UNRESERVED else b"%%%02X" % byte for byte in range(256)},
    **{bytes([byte]): b"%%%02X" % byte for byte in range(0x80, 0x100)},
}
"""An escape in upper case, or a byte beyond ASCII, and the one way to write it."""


def canonical_path(path: bytes) -> bytes:
    """A path in the spelling in which paths are compared: unreserved characters decoded, the hexadecimal digits of
    other escapes in upper case (RFC 3986 6.2.2.1 and 6.2.2.2), bytes beyond ASCII as escapes (RFC 3987 3.1).

    One pass: ``%2561`` becomes ``%2561``, not ``a``. What an app hears is never spelt anew.
    """
    return _ESCAPE.sub(lambda match: _SPELT[match.group().upper()], path)


@dataclass(frozen=True, slots=True)
class StreamRoute:
    """One port whose connections go to one Service byte for byte, whatever they say. Times in seconds.

    ``name`` is the identity that survives every change; the operator decides which there are. No endpoints means that
    the port listens and closes at once who comes.
    """

    name: str
    port: int
    """The port that is listened on; 0 picks a free one."""
    app: str
    namespace: str
    service: str
    endpoints: tuple[Address, ...] = ()
    connect_timeout: float = 10.0
    """To connect to one endpoint; another one is tried after it."""
    idle_timeout: float = 1200.0
    """Longest silence of both sides together."""
    first_byte_timeout: float = 0.0
    """How long a client may say nothing after it connected, whatever the app says; 0: only ``idle_timeout`` counts."""
    proxy_protocol: str = ""
    """``v1`` or ``v2``: the PROXY header that tells the app who comes; empty: none."""
    connections_per_client: int = 0
    """Connections that one client address (IPv6: one /64) may have open; 0: any number."""
    new_per_second: float = 0.0
    """Connections that it may open per second, ten at once; 0: any number."""


@dataclass(frozen=True, slots=True)
class Edge:
    """What holds for every connection, whoever's app it asks for: the operator's settings."""

    trusted: tuple[str, ...] = ()
    """Peers (canonical CIDR text) whose word about the client's address is believed."""
    proxy_protocol: bool = False
    """Whether connections may begin with a PROXY header; ``trusted`` says whose is believed."""
    https_port: int = 443
    """The port by which clients reach https, for redirects and ``X-Forwarded-Port``."""
    request_ids: bool = True
    request_start: bool = False
    max_head: int = 32 * 1024
    """Bytes of a whole request head, request line included."""
    max_fields: int = 100
    max_target: int = 16 * 1024
    head_timeout: float = 10.0
    """From the first byte of a head (or from accept) to its end."""
    keepalive_timeout: float = 75.0
    """Longest idle time between two requests on a connection."""
    app_requests: int = 0
    """Requests and tunnels that one app may have under way; 0: a share of the descriptors, see ``upstreams.limits``."""
    app_queue: int = 100
    """Requests of one app that may wait for one of those to end."""
    app_queue_timeout: float = 1.0
    """How long one may wait."""
    upstream_idle: int = 0
    """Idle connections to all apps together; 0: a share of the descriptors."""
    upstream_idle_timeout: float = 60.0
    """How long one is kept."""
    max_connections: int = 0
    """Client connections in all; 0: as many as descriptors allow."""
    max_per_client: int = 0
    """Connections of one client, or requests under way of one behind a trusted proxy; 0: any number."""
    max_requests: int = 0
    """Requests that a connection may make; 0: any number."""
    default_route: str = ""
    """Name of the route that answers unknown hosts; empty: 404."""
    log_format: str = "json"
    """``json``, ``combined`` or ``deis``."""
    log_enabled: bool = True


@dataclass(frozen=True, slots=True)
class TableChange:
    """The difference between two tables, applied as one: either all of it is visible to a request, or none.

    A name stands in at most one of ``routes`` and ``gone_routes`` (the same holds for hosts and streams). Every route
    that a host rule of the resulting table names must exist in the resulting table. ``edge`` is None when it did not
    change.
    """

    generation: int
    routes: Mapping[str, Route] = field(default_factory=dict)
    gone_routes: frozenset[str] = frozenset()
    hosts: Mapping[bytes, HostRule] = field(default_factory=dict)
    gone_hosts: frozenset[bytes] = frozenset()
    streams: Mapping[str, StreamRoute] = field(default_factory=dict)
    gone_streams: frozenset[str] = frozenset()
    edge: Edge | None = None
