"""Counters of the data plane: integers that only go up, and gauges that come back.

Plain attributes and dicts, so that counting costs one addition; Prometheus text is made at scrape time by whoever reads
them (``router.admin.metrics``). What must not enter: any metrics library, any lock (one loop writes, the same loop
reads).
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from proxy.errors import Failure

__all__ = ["BUCKETS", "BY_NAME", "GAUGES", "MAXIMA", "Counters", "Histogram", "RouteCounters", "StreamCounters"]

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds: the eleven that ingress-nginx users have in their dashboards."""

_FIRST: Final = BUCKETS[0]
"""Where nearly everything falls on a healthy day: one comparison instead of a search."""

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
"""Methods that get a label of their own; every other one is counted as ``other`` (labels must be few)."""

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
        "upstream_idle",
        "upstream_open",
    }
)
"""Counters that come back: attributes, here or of one route, that end with their process. All others only go up, and
what a process counted stays in the sum when it is gone (``router.processes.sums``)."""

MAXIMA: Final = frozenset({"ejected", "memory_limit", "memory_used", "overload_level", "shed_share"})
"""Gauges of which the largest speaks for all processes, not the sum."""


class Histogram:
    """Counts per bucket (not cumulative; the last one is +Inf) and the sum of what was observed, in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[0 if seconds <= _FIRST else bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds


class RouteCounters:
    """What one app's requests added up to. Survives every change of its route; dropped when the route is gone."""

    __slots__ = (
        "app",
        "duration",
        "ejected",
        "ejections",
        "errors",
        "namespace",
        "request_bytes",
        "requests",
        "response_bytes",
        "retries",
        "service",
    )

    def __init__(self, app: str, namespace: str, service: str) -> None:
        self.app = app
        self.namespace = namespace
        self.service = service
        self.requests: dict[tuple[int, str, str], int] = {}
        """``(status, method or "other", "http/1.1" | "http/1.0")`` → requests answered. 499: the client went away."""
        self.duration = Histogram()
        self.request_bytes = 0
        self.response_bytes = 0
        self.errors: dict[Failure, int] = {}
        self.retries: dict[Failure, int] = {}
        self.ejected = 0
        """Endpoints that are left out now."""
        self.ejections = 0
        """How often one began to be left out."""


class StreamCounters:
    """What the connections of one stream route added up to; dropped when the route is gone."""

    __slots__ = ("app", "closed", "denied", "namespace", "open", "received", "retries", "sent", "service", "total")

    def __init__(self, app: str, namespace: str, service: str) -> None:
        self.app = app
        self.namespace = namespace
        self.service = service
        self.total = 0
        """Connections admitted, ever."""
        self.open = 0
        self.received = 0
        """Bytes from clients, of connections that are over."""
        self.sent = 0
        """Bytes to clients, of connections that are over."""
        self.closed: dict[str, int] = {}
        """By reason: a failure's name, ``client_closed`` or ``app_closed`` (who said its last word first)."""
        self.denied: dict[Failure, int] = {}
        """Connections that were closed before anything was done for them."""
        self.retries: dict[Failure, int] = {}


class Counters:
    """Everything one gateway counts."""

    __slots__ = (
        "accept_pauses",
        "accepted",
        "aliases",
        "connect",
        "connections_refused",
        "faults",
        "gc_middle",
        "gc_old",
        "gc_young",
        "given_up",
        "header",
        "idle_closed",
        "in_flight",
        "log_dropped",
        "log_lines",
        "log_spared",
        "loop_lag",
        "memory_limit",
        "memory_used",
        "open_connections",
        "overhead",
        "overload_level",
        "places",
        "places_taken",
        "proxy_headers",
        "queued",
        "refused",
        "routes",
        "shed_share",
        "streams",
        "tls_failures",
        "tls_given_up",
        "tls_handshakes",
        "tls_pending",
        "tunnels",
        "tunnels_closed",
        "tunnels_open",
        "unrouted",
        "upstream_connects",
        "upstream_idle",
        "upstream_open",
        "upstream_reused",
    )

    def __init__(self) -> None:
        self.routes: dict[str, RouteCounters] = {}
        """By route name."""
        self.streams: dict[str, StreamCounters] = {}
        """By name of the stream route."""
        self.unrouted = RouteCounters("_other", "", "")
        """Requests that met no route: unknown hosts, heads that are not HTTP."""
        self.accepted: dict[str, int] = {"http": 0, "https": 0}
        """Client connections accepted, by listener."""
        self.aliases = 0
        """Field lines dropped for a name that an app could take for the router's own."""
        self.open_connections: dict[str, int] = {"http": 0, "https": 0}
        self.accept_pauses = 0
        """How often the router stopped accepting because every place was taken."""
        self.connections_refused = 0
        """Connections, and requests of a trusted proxy, refused because their client had as many as it may."""
        self.places = 0
        """Client connections that there may be."""
        self.places_taken = 0
        """Those there are, handshakes and half-heard PROXY headers included; as of the last tick."""
        self.idle_closed = 0
        """Idle clients let go to make room for others."""
        self.proxy_headers: dict[str, int] = dict.fromkeys(("client", "own", "none", "bad", "late", "untrusted"), 0)
        """Connections that passed the entrance, by what came first: a header that told of a ``client``, one in which
        the peer spoke for itself (``own``), ``none``; or why they were closed."""
        self.tls_handshakes = 0
        self.tls_failures = 0
        self.tls_pending = 0
        """Handshakes under way."""
        self.tls_given_up = 0
        """Handshakes given up because there were too many; also failures."""
        self.tunnels = 0
        """Upgraded connections, ever."""
        self.tunnels_open = 0
        self.tunnels_closed: dict[str, int] = {}
        """By reason: a failure's name, ``client_closed`` or ``app_closed`` (who said its last word first)."""
        self.in_flight = 0
        """Exchanges under way."""
        self.queued = 0
        """Requests that wait until their app has fewer under way."""
        self.upstream_connects = 0
        self.upstream_reused = 0
        self.upstream_open = 0
        self.upstream_idle = 0
        self.connect = Histogram()
        """Time to connect to an endpoint."""
        self.header = Histogram()
        """From the request on its way to an endpoint to the head of its answer."""
        self.overhead = Histogram()
        """The router's own share: from the end of the request head to its first byte on the way upstream."""
        self.faults: dict[str, int] = {}
        """Mistakes of our own that a callback made, by the part of the data plane (``proxy.faults``)."""
        self.gc_young = Histogram()
        """How long collections of the young generation stopped everything."""
        self.gc_middle = Histogram()
        self.gc_old = Histogram()
        self.loop_lag = Histogram()
        """By how much the loop was late, ten times a second."""
        self.refused = 0
        """New connections reset for want of memory."""
        self.given_up = 0
        """Idle client connections closed for want of memory."""
        self.overload_level = 0
        """See ``proxy.overload.Level``."""
        self.shed_share = 0.0
        self.memory_limit = 0
        """Bytes; 0: none is known."""
        self.memory_used = 0
        self.log_lines = 0
        self.log_spared = 0
        """Access-log lines that were not made: too many strangers asked for what nobody serves."""
        self.log_dropped = 0
        """Access-log lines given up because the log's reader was too slow."""


BY_NAME: Final[dict[str, type[RouteCounters] | type[StreamCounters]]] = {
    "routes": RouteCounters,
    "streams": StreamCounters,
}
"""Attributes of :class:`Counters` that are dicts from a name to counters of a kind."""
