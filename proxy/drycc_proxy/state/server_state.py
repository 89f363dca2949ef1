"""What all connections of one data plane share: the table, the wheel, the counters, the log.

What must not enter: listening and publishing (``gateway``), and anything per connection.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, Protocol

from drycc_proxy.errors import Failure
from drycc_proxy.http.client_address import client_key
from drycc_proxy.http.exchange import Exchange
from drycc_proxy.http.forwarding import Peer, RequestIds
from drycc_proxy.http.messages import RequestFields
from drycc_proxy.kernel.clock import FAR, Wheel, now
from drycc_proxy.kernel.internal_errors import attempt, note
from drycc_proxy.kernel.memory import Memory, trim
from drycc_proxy.metrics import METHODS, Counters
from drycc_proxy.state.admission import LEAST_PLACES, Admission
from drycc_proxy.state.handshakes import Handshakes
from drycc_proxy.state.overload import Level, Overload
from drycc_proxy.state.shares import CLIENT_SHARE, CROWDED, OTHERS, Shares
from drycc_proxy.table import LiveEdge, LiveRoute, LiveTable
from drycc_proxy.telemetry.access_log import AccessLog
from drycc_proxy.upstreams.interfaces import Connector
from drycc_proxy.upstreams.registry import Registry
from drycc_proxy.upstreams.upstream import Upstream

__all__ = ["Core", "TlsFront"]

log = logging.getLogger(__name__)

WRITE_HIGH_WATER: Final = 64 * 1024
"""Bytes of an answer kept for a slow client before its app is not read any further."""

IDLE_UNDER_PRESSURE: Final = 5.0
"""Seconds that a client may be idle while places are few (hardening S-06)."""
IDLE_LEAST: Final = 0.5
"""Seconds that it may be idle however few there are: who has just come is about to say something."""
TUNNEL_IDLE: Final = 10.0
"""Seconds for which nothing has passed through a tunnel that is let go while places are few."""
MOST_LOOKED_AT: Final = 1_000
"""Connections that are looked at in one turn of the loop for who is idle."""
MOST_MADE_TO_GO: Final = 64
"""Connections that are closed in one turn of the loop because places are few."""
ONE_PEER_SECONDS: Final = 60.0
"""For how long it is said that everybody comes from one address after that was last so."""
MAX_LINGERING: Final = 512
"""Clients of one process that have their answer and are still sending. Beyond it the one that was answered longest ago
is closed: whoever sends for ever must not take the places of those who wait for an answer."""
LINGERING_PLACES: Final = 1 / 4
"""And of the places, where they are so few that this is less."""
LINGERING_SHARE: Final = 1 / 8
"""Of them: a client with more of them makes room for its own, so that others can still read their answers."""
CLOSED_A_TICK: Final = 256
"""Idle connections that are closed at a time when memory is short: closing one costs as much as a small request."""
LET_GO_A_TICK: Final = 2048
"""Large heads of apps that are forgotten at a time when memory is short."""
TRIM_SECONDS: Final = 2.0
"""Between two attempts to give free memory back to the kernel while it is short."""

_METHOD_LABELS: Final = {name.encode("ascii"): name for name in METHODS}


class TlsFront(Protocol):
    """What the data plane asks of TLS. ``sni.Front`` fits; neither package knows the other."""

    def context(self) -> ssl.SSLContext:
        """The context to listen with."""

    def server_name(self, connection: object) -> bytes:
        """The name the client asked for (SNI), lower case; empty when it named none."""

    def covers(self, connection: object, host: bytes) -> bool:
        """Whether the certificate shown on this connection is valid for ``host``."""


class EnteringConnection(Protocol):
    """A connection that has not shown yet whether a PROXY header comes first. Raises nothing."""

    def drain(self) -> None:
        """The router stops: who was only just accepted may say its first word."""

    def abort_now(self) -> None:
        """Give up at once."""


class ClientConnection(EnteringConnection, Protocol):
    """A client's connection, whatever protocol it speaks, as those see it who look after all of them."""

    def idle_since(self) -> float:
        """Since when nothing is under way (monotonic seconds); FAR while something is."""

    def quiet_since(self) -> float:
        """Since when nothing has passed through its tunnel (monotonic seconds); FAR where there is none."""

    def make_room(self) -> None:
        """Others need what it takes: an idle connection closes at once, a busy one after its answer."""

    def let_go(self) -> None:
        """Others need what a tunnel takes through which nothing passes: it closes at once."""


class RequestConnection(ClientConnection, Protocol):
    """One whose protocol has requests."""

    @property
    def address(self) -> str:
        """The client's, as the connection tells it."""


class Core:
    """One per process."""

    __slots__ = (
        "adding",
        "admission",
        "closing",
        "connections",
        "counters",
        "draining",
        "emptied",
        "entering",
        "handshakes",
        "ids",
        "lingering",
        "lingering_of",
        "log",
        "loop",
        "memory",
        "on_one_peer",
        "on_tick",
        "one_peer",
        "one_peer_until",
        "over_limit",
        "overload",
        "refusing",
        "registry",
        "shares",
        "shedding",
        "streamed",
        "sweep",
        "sweep_left",
        "table",
        "tls",
        "to_add",
        "trimmed_at",
        "wheel",
        "write_high_water",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tls: TlsFront | None,
        log: Callable[[bytes], bool] | None,
        connector: Connector,
        memory: Memory | None = None,
    ) -> None:
        """``connector`` makes the protocol of each connection to an app."""
        self.loop = loop
        self.tls = tls
        self.counters = Counters()
        self.log = AccessLog(log, self.counters)
        self.wheel = Wheel(loop, self.tick)
        self.registry = Registry(loop, self.wheel, self.counters, connector)
        self.table = LiveTable(self.registry)
        self.handshakes = Handshakes(self.wheel.next_turn, self.counters)
        self.ids = RequestIds(secrets.randbits(64))
        self.admission = Admission(self.counters)
        self.shares = Shares(self.admission, self.counters)
        self.streamed = 0
        """Places that streams have."""
        self.to_add: list[Upstream] = []
        """Upstreams whose load is still to be added up for their namespaces."""
        self.adding: dict[str, int] = {}
        self.one_peer = ""
        """The one untrusted address that nearly everybody comes from while places are few; empty: there is none."""
        self.one_peer_until = 0.0
        self.on_one_peer: Callable[[], None] | None = None
        """Called when that changes."""
        self.sweep: list[ClientConnection] = []
        """Connections still to be looked at for who is idle."""
        self.sweep_left = 0
        """How many of them the turns of the loop that follow look at."""
        self.on_tick: Callable[[], None] | None = None
        """Called ten times a second, after what the core itself has to do."""
        self.connections: set[ClientConnection] = set()
        self.entering: set[EnteringConnection] = set()
        """Connections that have not shown yet whether a PROXY header comes first."""
        self.lingering: dict[RequestConnection, None] = {}
        """Connections that are answered and closed on our side, in that order, whose clients are still sending."""
        self.lingering_of: dict[str, dict[RequestConnection, None]] = {}
        """The same by client (:func:`drycc_proxy.http.client_address.client_key`)."""
        self.over_limit: set[ClientConnection] = set()
        """Connections of clients that had too many, while they linger: each has a place, and is counted for nobody."""
        self.draining = False
        self.closing = False
        """Draining, or short of memory: answers say close."""
        self.shedding = False
        """Some requests for apps may be refused (``overload`` says which)."""
        self.refusing = False
        """New connections are reset."""
        self.overload = Overload()
        self.memory = memory or Memory(0)
        self.counters.memory_limit = self.memory.limit
        self.trimmed_at = 0.0
        self.emptied: asyncio.Event | None = None
        """Set while draining: the last connection is gone."""
        self.write_high_water = WRITE_HIGH_WATER

    def begin_draining(self) -> None:
        """From now on every answer is the last one of its connection."""
        self.draining = self.closing = True

    # ── ten times a second ────────────────────────────────────────────────────────────────────────────────────────

    def tick(self) -> None:
        """What is due ten times a second."""
        attempt(self.counters, "tick", self.log.flush)
        attempt(self.counters, "tick", self._look_around)
        if self.on_tick is not None:
            attempt(self.counters, "tick", self.on_tick)

    def _look_around(self) -> None:
        """Look how hard the times are, and do about it what cannot be done per request."""
        lag = self.wheel.lag
        counters = self.counters
        counters.loop_lag.observe(lag)
        used = self.memory.share()
        overload = self.overload
        moment = now()
        before = overload.observe(used, lag, moment)
        level = overload.level
        self.closing = self.draining or level > Level.CALM
        self.refusing = level is Level.REFUSING
        self._look_at_places(moment)
        self.shedding = level >= Level.SHEDDING or overload.shed_share > 0.0 or self.shares.crowded
        heads = self.registry.heads
        heads.may_be_held = level is Level.CALM
        counters.upstream_heads = heads.held
        counters.memory_used = self.memory.used
        counters.overload_level = level
        counters.shed_share = overload.shed_share
        if level is not before:
            log.warning("memory: %.0f %% of its limit is in use; %s", used * 100, level.name.lower())
            if level > before:
                self.registry.close_idle(counters.upstream_idle // 2 if level is Level.SAVING else 0)
        if level is Level.CALM:
            return
        heads.let_go(LET_GO_A_TICK)
        if level >= Level.CLOSING:
            self._close_idle()
        if moment - self.trimmed_at >= TRIM_SECONDS:
            self.trimmed_at = moment
            trim()

    def _look_at_places(self, moment: float) -> None:
        """See whether places are few, and add up what each namespace holds while they are."""
        shares = self.shares
        shares.look(self.streamed)
        shares.apps, shares.owners = len(self.registry), self.registry.namespaces
        self.counters.crowded = int(shares.crowded)
        if shares.crowded:
            if not self.to_add:
                shares.loads, self.adding = self.adding, {}
                self.to_add = self.registry.upstreams()
            for _ in range(min(MOST_LOOKED_AT, len(self.to_add))):
                upstream = self.to_add.pop()
                if upstream.load:
                    namespace = upstream.counters.namespace
                    self.adding[namespace] = self.adding.get(namespace, 0) + upstream.load
        elif shares.loads or self.to_add or self.adding:
            shares.loads, self.to_add, self.adding = {}, [], {}
        if self.sweep and not self.sweep_left and self.admission.excess <= 0:
            self.sweep = []  # it keeps what is over
        if self.one_peer and moment > self.one_peer_until:
            self._say_one_peer("")

    def _say_one_peer(self, address: str) -> None:
        self.one_peer = address
        if self.on_one_peer is not None:
            self.on_one_peer()

    def refusal(self, route: LiveRoute, fields: RequestFields) -> Failure | None:
        """Whether a new request must be refused while times are hard (:attr:`shedding`), and why."""
        if self.overload.sheds():
            return Failure.OVERLOADED
        if self.shares.crowded:
            client = fields.client if fields.upgrade else ""
            return self.shares.judge(route.namespace, route.upstream.load, client)
        return None

    def _close_idle(self) -> None:
        """Close client connections on which nothing is under way."""
        idle = []
        for connection in islice(self._next_connections(), CLOSED_A_TICK * 4):
            if connection.idle_since() < FAR:
                idle.append(connection)
                if len(idle) == CLOSED_A_TICK:
                    break
        for connection in idle:
            connection.make_room()
        self.counters.given_up += len(idle)

    def _next_connections(self) -> Iterator[ClientConnection]:
        """Each connection once, beginning where the last call's caller has stopped."""
        for _ in range(len(self.connections)):
            if not self.sweep:
                self.sweep = list(self.connections)
            yield self.sweep.pop()

    # ── clients come and go ───────────────────────────────────────────────────────────────────────────────────────

    def arrived(self, address: str) -> bool:
        """A connection of this client was accepted. False: the client has as many as it may, and it must close."""
        edge = self.table.edge
        admission = self.admission
        most = edge.max_per_client
        if self._is_over_share(address, edge):
            self.counters.share_refused += 1
            return False
        # Trusted peers speak for many: their clients are counted, by a PROXY header or by request, and not they.
        if not admission.take(address, most) and not (address in edge.trusted and admission.take(address, 0)):
            self.counters.connections_refused += 1
            return False
        admission.come()
        return True

    def _is_over_share(self, address: str, edge: LiveEdge) -> bool:
        """Whether places are few and this address holds more than its share. An address behind which nearly everybody
        is may have them all: it is no client's, and the operator is told."""
        admission = self.admission
        taken = admission.connections
        if taken <= admission.most * CROWDED or admission.most < LEAST_PLACES:
            return False
        held = admission.held_by(address)
        if held <= admission.most * CLIENT_SHARE or address in edge.trusted:
            return False
        if taken - held >= taken * OTHERS:
            return True
        self.one_peer_until = now() + ONE_PEER_SECONDS
        if self.one_peer != address:
            self._say_one_peer(address)
        return False

    def departed(self, address: str) -> None:
        """A connection that arrived is gone."""
        self.admission.give(address)
        self.admission.go()

    def relieve(self, moment: float) -> int:
        """Let clients go while places are few: idle connections, as many as there are too many, the longest idle first,
        and all that were idle for long; then tunnels, those first through which nothing has passed for longest.

        Returns how many. Looks at a bounded number of connections and closes a bounded number; the next turns of the
        loop go on with the others.
        """
        if self.sweep_left:
            return 0  # they do so already
        self.sweep_left = len(self.connections)
        return self._relieve(moment, self.admission.excess)

    def _relieve(self, moment: float, excess: int) -> int:
        """One turn of the loop's share of it. ``excess``: how many are too many."""
        looks = min(MOST_LOOKED_AT, self.sweep_left)
        self.sweep_left -= looks
        idle: list[tuple[float, int, ClientConnection]] = []
        tunnels: list[tuple[float, int, ClientConnection]] = []
        for number, connection in enumerate(islice(self._next_connections(), looks)):
            since = connection.idle_since()
            if since <= moment - IDLE_LEAST:
                idle.append((since, number, connection))
            elif since == FAR and (quiet := connection.quiet_since()) <= moment - TUNNEL_IDLE:
                tunnels.append((quiet, number, connection))
        idle.sort()
        gone = 0
        for since, _, connection in idle[:MOST_MADE_TO_GO]:
            if gone >= excess and since > moment - IDLE_UNDER_PRESSURE:
                break
            connection.make_room()
            gone += 1
        self.counters.idle_closed += gone
        tunnels.sort()
        for _, _, connection in tunnels[: max(0, min(excess, MOST_MADE_TO_GO) - gone)]:
            connection.let_go()
            gone += 1
        if self.sweep_left and excess > gone:
            self.wheel.next_turn(lambda: self._go_on_relieving(excess - gone))
        else:
            self.sweep_left = 0
        return gone

    def _go_on_relieving(self, excess: int) -> None:
        self._relieve(now(), excess)

    def opened(self, connection: RequestConnection, secure: bool) -> None:
        """A client connection is ready (over TLS: its handshake is done)."""
        self.connections.add(connection)
        listener = "https" if secure else "http"
        counters = self.counters
        counters.accepted[listener] += 1
        counters.open_connections[listener] += 1

    def closed(self, connection: RequestConnection, secure: bool) -> None:
        """A client connection is gone; nothing to do for one that never was ready."""
        if connection not in self.connections:
            if connection in self.lingering:  # a mistake of ours kept it from being ready
                self._lingers_no_more(connection)
            return
        self.connections.discard(connection)
        if self.over_limit and connection in self.over_limit:
            self.over_limit.discard(connection)
            self.admission.go()
        else:
            self.counters.open_connections["https" if secure else "http"] -= 1
            if not secure:  # over TLS its channel was there before it, and is there a little longer
                self.departed(connection.address)
        if self.emptied is not None and not self.connections:
            self.emptied.set()
        if connection in self.lingering:  # last: its place was given back by now, whatever goes wrong here
            self._lingers_no_more(connection)

    def turned_back(self, connection: RequestConnection) -> None:
        """A client that has as many connections as it may is answered, and its connection lingers. That takes a place,
        as long as it does, but is none of those that its client may have."""
        self.connections.add(connection)
        self.over_limit.add(connection)
        self.admission.come()

    def lingers(self, connection: RequestConnection) -> None:
        """A client has its answer and is still sending: its connection closes later, unless too many do so."""
        lingering = self.lingering
        of_client = self.lingering_of.setdefault(client_key(connection.address), {})
        lingering[connection] = of_client[connection] = None
        most = max(1, min(MAX_LINGERING, self.admission.most * LINGERING_PLACES))
        if len(lingering) > most:
            has_many = len(of_client) > max(1, most * LINGERING_SHARE)
            oldest = next(iter(of_client if has_many else lingering))
            self._lingers_no_more(oldest)
            oldest.make_room()

    def _lingers_no_more(self, connection: RequestConnection) -> None:
        del self.lingering[connection]
        key = client_key(connection.address)
        of_client = self.lingering_of[key]
        del of_client[connection]
        if not of_client:
            del self.lingering_of[key]

    def joined(self, stream: ClientConnection) -> None:
        """A client connection on a port of its own is there, and one to an endpoint will be."""
        self.admission.come(2)
        self.streamed += 2
        self.connections.add(stream)

    def left(self, stream: ClientConnection) -> None:
        """It is gone."""
        self.admission.go(2)
        self.streamed -= 2
        self.connections.discard(stream)
        if self.emptied is not None and not self.connections:
            self.emptied.set()

    def tunnel_opened(self, exchange: Exchange) -> None:
        """An exchange has become a tunnel, which takes its place for long."""
        counters = self.counters
        counters.tunnels += 1
        counters.tunnels_open += 1
        route = exchange.route
        if route is not None:
            self.shares.opened(route.namespace, exchange.fields.client)
        if not self.shares.crowded:
            self.shares.look(self.streamed)  # between two ticks hundreds may come
            self.shedding |= self.shares.crowded

    def tunnel_closed(self, exchange: Exchange) -> None:
        """A tunnel is over: count why."""
        counters = self.counters
        counters.tunnels_open -= 1
        route = exchange.route
        if route is not None:
            self.shares.closed(route.namespace, exchange.fields.client)
        failure = exchange.failure
        reason = failure.value if failure is not None else f"{exchange.first_to_end.decode()}_closed"
        counters.tunnels_closed[reason] = counters.tunnels_closed.get(reason, 0) + 1

    def record(self, exchange: Exchange, peer: Peer) -> None:
        """An exchange is over: count it and log it."""
        counters = self.counters
        counters.in_flight -= 1
        try:
            route = exchange.route
            mine = route.counters if route is not None else counters.unrouted
            line = exchange.line
            key = (exchange.status, _METHOD_LABELS.get(line.method, "other"), "http/1.1" if line.minor else "http/1.0")
            requests = mine.requests
            requests[key] = requests.get(key, 0) + 1
            # A tunnel's age says nothing about how fast anybody answers: its 101 does.
            header = exchange.header_seconds
            mine.duration.observe(exchange.took if exchange.status != 101 else header)
            mine.request_bytes += exchange.bytes_in
            mine.response_bytes += exchange.bytes_out
            if header >= 0.0:
                counters.header.observe(header)
                counters.overhead.observe(exchange.sent_at - exchange.started)
            failure = exchange.failure
            if failure is not None:
                mine.errors[failure] = mine.errors.get(failure, 0) + 1
            if self.log.active:
                self.log.add(exchange, peer)
        except Exception as error:  # who was served has nothing to do with it
            note(counters, "record", error)
