"""Counters of the data plane: integers that only go up, and gauges that come back.

Plain attributes and dicts, so that counting costs one addition; Prometheus text is made at scrape time by whoever reads
them (``admin.metrics``). What must not enter: any metrics library, any lock (one loop writes, the same loop
reads).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from drycc_proxy.errors import Failure

__all__ = [
    "BUCKETS",
    "GAUGES",
    "MAXIMA",
    "PARTS",
    "UNROUTED",
    "Counters",
    "Histogram",
    "RouteCounters",
    "StreamCounters",
]

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds: the eleven that ingress-nginx users have in their dashboards."""

_FIRST: Final = BUCKETS[0]
"""Where nearly everything falls on a healthy day: one comparison instead of a search."""

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
"""Methods that get a label of their own; every other one is counted as ``other`` (labels must be few)."""

UNROUTED: Final = "_other"
"""The app that requests which met no route are counted under."""

GAUGES: Final = frozenset(
    {
        "in_flight",
        "open",
        "open_connections",
        "places",
        "places_taken",
        "queued",
        "tls_pending",
        "tunnels_open",
        "upstream_heads",
        "upstream_idle",
        "upstream_open",
    }
)
"""Counters that come back: attributes, here or of one route, that end with their process. All others only go up, and
what a process counted stays in the sum when it is gone (``roles.counter_sums``)."""

PARTS: Final = ("admission", "app", "client", "entrance", "log", "pool", "record", "refusal", "stream", "tick", "tls")
"""Parts of the data plane in which mistakes are counted (``kernel.internal_errors``): every value of ``where``."""

MAXIMA: Final = frozenset({"crowded", "ejected", "memory_limit", "memory_used", "overload_level", "shed_share"})
"""Gauges of which the largest speaks for all processes, not the sum."""


@dataclass(slots=True, eq=False)
class Histogram:
    """Counts per bucket (not cumulative; the last one is +Inf) and the sum of what was observed, in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[0 if seconds <= _FIRST else bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds


@dataclass(slots=True, eq=False)
class RouteCounters:
    """What one app's requests added up to. Survives every change of its route; dropped when the route is gone."""

    app: str
    namespace: str
    service: str
    requests: dict[tuple[int, str, str], int] = field(default_factory=dict)
    """``(status, method or "other", "http/1.1" | "http/1.0")`` → requests answered. 499: the client went away."""
    duration: Histogram = field(default_factory=Histogram)
    request_bytes: int = 0
    response_bytes: int = 0
    errors: dict[Failure, int] = field(default_factory=dict)
    retries: dict[Failure, int] = field(default_factory=dict)
    ejected: int = 0
    """Endpoints that are left out now."""
    ejections: int = 0
    """How often one began to be left out."""


@dataclass(slots=True, eq=False)
class StreamCounters:
    """What the connections of one stream route added up to; dropped when the route is gone."""

    app: str
    namespace: str
    service: str
    total: int = 0
    """Connections admitted, ever."""
    open: int = 0
    received: int = 0
    """Bytes from clients, of connections that are over."""
    sent: int = 0
    """Bytes to clients, of connections that are over."""
    closed: dict[str, int] = field(default_factory=dict)
    """By reason: a failure's name, ``client_closed`` or ``app_closed`` (who said its last word first)."""
    denied: dict[Failure, int] = field(default_factory=dict)
    """Connections that were closed before anything was done for them."""
    retries: dict[Failure, int] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Counters:
    """Everything one gateway counts."""

    routes: dict[str, RouteCounters] = field(default_factory=dict)
    """By route name."""
    streams: dict[str, StreamCounters] = field(default_factory=dict)
    """By name of the stream route."""
    unrouted: RouteCounters = field(default_factory=lambda: RouteCounters(UNROUTED, "", ""))
    """Requests that met no route: unknown hosts, heads that are not HTTP."""
    accepted: dict[str, int] = field(default_factory=lambda: {"http": 0, "https": 0})
    """Client connections accepted, by listener."""
    aliases: int = 0
    """Field lines dropped for a name that an app could take for the router's own."""
    open_connections: dict[str, int] = field(default_factory=lambda: {"http": 0, "https": 0})
    accept_pauses: int = 0
    """How often the router stopped accepting because every place was taken."""
    connections_refused: int = 0
    """Connections, and requests of a trusted proxy, refused because their client had as many as it may."""
    share_refused: int = 0
    """Connections refused because places were few and their address held more than its share."""
    crowded: int = 0
    """1 while shares of the places act (``state.shares``)."""
    places: int = 0
    """Client connections that there may be."""
    places_taken: int = 0
    """Those there are, handshakes and half-heard PROXY headers included; as of the last tick."""
    idle_closed: int = 0
    """Idle clients let go to make room for others."""
    proxy_headers: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("client", "own", "none", "bad", "late", "untrusted"), 0)
    )
    """Connections that passed the entrance, by what came first: a header that told of a ``client``, one in which
    the peer spoke for itself (``own``), ``none``; or why they were closed."""
    tls_handshakes: int = 0
    tls_failures: int = 0
    tls_pending: int = 0
    """Handshakes under way."""
    tls_given_up: int = 0
    """Handshakes given up because there were too many; also failures."""
    tunnels: int = 0
    """Upgraded connections, ever."""
    tunnels_open: int = 0
    tunnels_closed: dict[str, int] = field(default_factory=dict)
    """By reason: a failure's name, ``client_closed`` or ``app_closed`` (who said its last word first)."""
    in_flight: int = 0
    """Exchanges under way."""
    queued: int = 0
    """Requests that wait until their app has fewer under way."""
    upstream_connects: int = 0
    upstream_reused: int = 0
    upstream_open: int = 0
    upstream_idle: int = 0
    upstream_heads: int = 0
    """Bytes of large heads that connections to apps remember, as of the last tick."""
    connect: Histogram = field(default_factory=Histogram)
    """Time to connect to an endpoint."""
    header: Histogram = field(default_factory=Histogram)
    """From the request on its way to an endpoint to the head of its answer."""
    overhead: Histogram = field(default_factory=Histogram)
    """The router's own share: from the end of the request head to its first byte on the way upstream."""
    faults: dict[str, int] = field(default_factory=dict)
    """Mistakes of our own that a callback made, by the part of the data plane (``kernel.internal_errors``)."""
    gc_young: Histogram = field(default_factory=Histogram)
    """How long collections of the young generation stopped everything."""
    gc_middle: Histogram = field(default_factory=Histogram)
    gc_old: Histogram = field(default_factory=Histogram)
    loop_lag: Histogram = field(default_factory=Histogram)
    """By how much the loop was late, ten times a second."""
    refused: int = 0
    """New connections reset for want of memory."""
    given_up: int = 0
    """Idle client connections closed for want of memory."""
    overload_level: int = 0
    """See ``state.overload.Level``."""
    shed_share: float = 0.0
    memory_limit: int = 0
    """Bytes; 0: none is known."""
    memory_used: int = 0
    log_lines: int = 0
    log_spared: int = 0
    """Access-log lines that were not made: too many strangers asked for what nobody serves."""
    log_dropped: int = 0
    """Access-log lines given up because the log's reader was too slow."""
