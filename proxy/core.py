"""What all connections of one data plane share: the table, the wheel, the counters, the log.

What must not enter: listening and publishing (``gateway``), and anything per connection.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from proxy.access_log import AccessLog
from proxy.clock import Wheel
from proxy.http.heads import Peer, RequestIds
from proxy.live import LiveRoute, LiveTable
from proxy.metrics import METHODS, Counters
from proxy.upstreams.registry import Registry

if TYPE_CHECKING:
    from proxy.entrance import Entrance
    from proxy.http.exchange import Exchange
    from proxy.http1.downstream import Http1Downstream
    from proxy.stream import Stream

__all__ = ["Core", "TlsFront"]

WRITE_HIGH_WATER: Final = 64 * 1024
"""Bytes of an answer kept for a slow client before its app is not read any further."""

_METHOD_LABELS: Final = {name.encode("ascii"): name for name in METHODS}


class TlsFront(Protocol):
    """What the data plane asks of TLS. ``tls.sni.Front`` fits; neither package knows the other."""

    def context(self) -> ssl.SSLContext:
        """The context to listen with."""

    def server_name(self, connection: object) -> bytes:
        """The name the client asked for (SNI), lower case; empty when it named none."""

    def covers(self, connection: object, host: bytes) -> bool:
        """Whether the certificate shown on this connection is valid for ``host``."""


class Core:
    """One per process."""

    __slots__ = (
        "connections",
        "counters",
        "draining",
        "emptied",
        "entering",
        "ids",
        "log",
        "loop",
        "registry",
        "table",
        "tls",
        "wheel",
        "write_high_water",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, tls: TlsFront | None, log: Callable[[bytes], bool] | None
    ) -> None:
        self.loop = loop
        self.tls = tls
        self.counters = Counters()
        self.log = AccessLog(log, self.counters)
        self.wheel = Wheel(loop, self.log.flush)
        self.registry = Registry(loop, self.wheel, self.counters)
        self.table = LiveTable(self.registry)
        self.ids = RequestIds(secrets.randbits(64))
        self.connections: set[Http1Downstream | Stream] = set()
        self.entering: set[Entrance] = set()
        """Connections that have not shown yet whether a PROXY header comes first."""
        self.draining = False
        self.emptied: asyncio.Event | None = None
        """Set while draining: the last connection is gone."""
        self.write_high_water = WRITE_HIGH_WATER

    def opened(self, connection: Http1Downstream, secure: bool) -> None:
        """A client connection is ready (over TLS: its handshake is done)."""
        self.connections.add(connection)
        listener = "https" if secure else "http"
        counters = self.counters
        counters.accepted[listener] += 1
        counters.open_connections[listener] += 1

    def closed(self, connection: Http1Downstream, secure: bool) -> None:
        """A client connection is gone."""
        self.connections.discard(connection)
        self.counters.open_connections["https" if secure else "http"] -= 1
        if self.emptied is not None and not self.connections:
            self.emptied.set()

    def joined(self, stream: Stream) -> None:
        """A client connection on a port of its own is there."""
        self.connections.add(stream)

    def left(self, stream: Stream) -> None:
        """It is gone."""
        self.connections.discard(stream)
        if self.emptied is not None and not self.connections:
            self.emptied.set()

    def tunnel_closed(self, exchange: Exchange) -> None:
        """A tunnel is over: count why."""
        counters = self.counters
        counters.tunnels_open -= 1
        failure = exchange.failure
        reason = failure.value if failure is not None else f"{exchange.first_to_end.decode()}_closed"
        counters.tunnels_closed[reason] = counters.tunnels_closed.get(reason, 0) + 1

    def record(self, exchange: Exchange, peer: Peer) -> None:
        """An exchange is over: count it and log it."""
        counters = self.counters
        counters.in_flight -= 1
        route = exchange.route
        mine = route.counters if isinstance(route, LiveRoute) else counters.unrouted
        line = exchange.line
        key = (exchange.status, _METHOD_LABELS.get(line.method, "other"), "http/1.1" if line.minor else "http/1.0")
        requests = mine.requests
        requests[key] = requests.get(key, 0) + 1
        # A tunnel's age says nothing about how fast anybody answers: its 101 does.
        mine.duration.observe(exchange.took if exchange.status != 101 else exchange.header_seconds)
        mine.request_bytes += exchange.bytes_in
        mine.response_bytes += exchange.bytes_out
        if exchange.header_seconds >= 0.0:
            counters.header.observe(exchange.header_seconds)
            counters.overhead.observe(exchange.sent_at - exchange.started)
        failure = exchange.failure
        if failure is not None:
            mine.errors[failure] = mine.errors.get(failure, 0) + 1
        if self.log.active:
            self.log.add(exchange, peer)
