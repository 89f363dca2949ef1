"""Upstream: one app's endpoints, their idle connections and the dialling of new ones. Survives every change.

Warm path: ``lend`` hands an idle connection back in the same call. Only a cold connect makes a task; it has an owner
(the upstream's ``dials``), a name and a deadline on the wheel.

What must not enter: policies of requests, bytes of HTTP.
"""

from __future__ import annotations

import asyncio
import errno
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from drycc_proxy.errors import Failure
from drycc_proxy.http.exchange import IDEMPOTENT, Exchange, Lender, UpstreamStream
from drycc_proxy.kernel.clock import Wheel, now
from drycc_proxy.kernel.internal_errors import note
from drycc_proxy.metrics import Counters, RouteCounters
from drycc_proxy.routing.definitions import Address
from drycc_proxy.upstreams.balancing import choose
from drycc_proxy.upstreams.endpoint import Endpoint
from drycc_proxy.upstreams.interfaces import Connector, PooledConnection
from drycc_proxy.upstreams.limits import Limits
from drycc_proxy.upstreams.outliers import may_eject
from drycc_proxy.upstreams.remembered_heads import Heads
from drycc_proxy.upstreams.retry_budget import RetryBudget

__all__ = ["Upstream"]

MAX_IDLE: Final = 64
"""Idle connections kept per endpoint; the least recently used is closed first."""
SPARE_SECONDS: Final = 1.0
"""Beyond those a connection is kept until nobody has wanted it for so long: where hundreds of requests are under way
their answers come in bursts, and whoever closed the connections behind one would dial anew for the next (R-32)."""
MAX_DIALS: Final = 3
"""Endpoints tried for one request before it is answered with a failure."""
MOST_AT_ONCE: Final = 256
"""Dials that a change of the endpoints is told of in one turn of the loop."""
LAST_CHANCE: Final = 1.0
"""Seconds that dialling may still take when its route is gone. Long enough for any connection that is being made in
order, too short for an address to be given to somebody else's Pod."""
SHORTAGE: Final = 1.0
"""Seconds without another attempt to connect to an endpoint to which no port is left. The kernel searches all of them
each time it is asked, which costs more than a request."""

_PORTS: Final = errno.EADDRNOTAVAIL
_DESCRIPTORS: Final = frozenset((errno.EMFILE, errno.ENFILE))


class ConnectAttempt:
    """One attempt to connect on behalf of an exchange; goes on with another endpoint when one fails."""

    __slots__ = (
        "begun",
        "counted",
        "deadline",
        "endpoint",
        "exchange",
        "late",
        "moved",
        "probing",
        "slot",
        "task",
        "tried",
        "upstream",
    )

    def __init__(self, upstream: Upstream, exchange: Exchange | None) -> None:
        self.upstream = upstream
        self.exchange = exchange
        self.probing = exchange is None
        """Only to see whether an ejected endpoint is back."""
        self.tried: list[Endpoint[PooledConnection]] = []
        self.endpoint: Endpoint[PooledConnection] | None = None
        self.task: asyncio.Task[None] | None = None
        self.counted = True
        """It is one of those that its upstream counts as under way."""
        self.begun = False
        self.late = False
        self.moved = False
        self.deadline = 0.0
        self.slot = 0

    def overdue(self, now: float) -> None:
        """The time limit for connecting has passed."""
        self.slot = -1
        self.late = True
        self._give_up()

    def move(self) -> None:
        """The endpoint is gone: go to another one."""
        if not self.late and not self.moved:
            self.moved = True
            self._give_up()

    def _give_up(self) -> None:
        # A task that is cancelled before its first step never runs, and nobody would be told.
        if self.task is not None and self.begun:
            self.task.cancel()


class EjectionTimer:
    """An endpoint is ejected; when that is over, the upstream looks whether it is back."""

    __slots__ = ("_endpoint", "_upstream", "deadline", "slot")

    def __init__(self, upstream: Upstream, endpoint: Endpoint[PooledConnection]) -> None:
        self._upstream = upstream
        self._endpoint = endpoint
        self.deadline = 0.0
        self.slot = 0

    def overdue(self, now: float) -> None:
        """The time is over."""
        self._upstream.probe(self._endpoint)
        self.slot = -1  # only now: what failed is tried again, or the endpoint would be left out for ever


class PendingRequest:
    """A request that waits until its app has fewer under way."""

    __slots__ = ("_upstream", "deadline", "exchange", "slot")

    def __init__(self, upstream: Upstream, exchange: Exchange) -> None:
        self._upstream = upstream
        self.exchange = exchange
        self.deadline = 0.0
        self.slot = 0

    def overdue(self, now: float) -> None:
        """It has waited long enough."""
        self.slot = -1
        self._upstream.give_up(self)


class Upstream:
    """Connections to one app. The registry keeps it while any route names it."""

    __slots__ = (
        "_budget",
        "_connector",
        "_crowded",
        "_dialled",
        "_dials",
        "_endpoints",
        "_limits",
        "_loop",
        "_ready",
        "_waiting",
        "_wheel",
        "connect_timeout",
        "counters",
        "load",
        "most",
        "name",
        "totals",
    )

    def __init__(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop,
        wheel: Wheel,
        totals: Counters,
        counters: RouteCounters,
        limits: Limits,
        connector: Connector,
        crowded: Callable[[], None],
    ) -> None:
        """``crowded`` is called when there is no descriptor for another connection."""
        self.name = name
        self.counters = counters
        self.connect_timeout = 30.0
        self.load = 0
        """Requests and tunnels under way, those that still connect included; places that are passed on as well."""
        self.most = limits.requests
        """How many of them there may be."""
        self._loop = loop
        self._wheel = wheel
        self.totals = totals
        self._limits = limits
        self._connector = connector
        self._crowded = crowded
        self._budget = RetryBudget()
        self._endpoints: dict[Address, Endpoint[PooledConnection]] = {}
        self._ready: list[Endpoint[PooledConnection]] = []
        """The endpoints that are not ejected."""
        self._dials: set[ConnectAttempt] = set()
        self._dialled: dict[Exchange, ConnectAttempt] = {}
        """Those that somebody waits for. When clients leave together each of them looks for its own."""
        self._waiting: OrderedDict[Exchange, PendingRequest] = OrderedDict()
        """In the order in which they came."""

    def __repr__(self) -> str:
        return f"<Upstream {self.name} {list(self._endpoints.values())!r} dials={len(self._dials)}>"

    def update(self, addresses: Sequence[Address], connect_timeout: float) -> None:
        """Take the new set of endpoints. Known ones keep their connections; removed ones lose their idle ones now.

        Who is being connected to a removed one goes to another: its address may belong to somebody else before long.
        """
        self.connect_timeout = connect_timeout
        if tuple(addresses) == tuple(self._endpoints):
            return
        self._replace(addresses)
        self._move(list(self._dials))

    def _move(self, dials: list[ConnectAttempt]) -> None:
        """Give up those of ``dials`` whose endpoint is gone, a bounded number in each turn of the loop."""
        for _ in range(min(MOST_AT_ONCE, len(dials))):
            dial = dials.pop()
            if dial in self._dials and dial.endpoint is not None and dial.endpoint.gone:
                dial.move()
        if dials:
            self._wheel.next_turn(lambda: self._move(dials))

    def _replace(self, addresses: Sequence[Address]) -> None:
        fresh: dict[Address, Endpoint[PooledConnection]] = {}
        for address in addresses:
            known = self._endpoints.get(address)
            fresh[address] = Endpoint(address, self._limits.idle_seconds) if known is None else known
        for address, endpoint in self._endpoints.items():
            if address in fresh:
                continue
            endpoint.gone = True
            for connection in (*endpoint.idle, *(endpoint.tied or ())):
                if not connection.lent:
                    connection.close()
        self._endpoints = fresh
        self._sort_out()

    def _sort_out(self) -> None:
        """Make the list of those that are used. Endpoints that went may leave too many ejected: all are used again."""
        everybody = list(self._endpoints.values())
        ready = [endpoint for endpoint in everybody if not endpoint.standing.ejected]
        self._ready = ready if 2 * len(ready) >= len(everybody) else everybody
        self.counters.ejected = len(everybody) - len(self._ready)

    def retire(self) -> None:
        """The route is gone: nothing new, idle connections close, exchanges under way finish.

        Those that still wait for a connection have nowhere else to go, so they get a last chance.
        """
        self._replace(())
        self._hurry(list(self._dials), now() + LAST_CHANCE)
        while self._waiting:
            self._loop.call_soon(self._fail, self._next_turn(), Failure.NO_ENDPOINT)

    def _hurry(self, dials: list[ConnectAttempt], until: float) -> None:
        """Let those of ``dials`` that go on end by ``until``, a bounded number in each turn of the loop."""
        for _ in range(min(MOST_AT_ONCE, len(dials))):
            dial = dials.pop()
            if dial in self._dials:
                self._wheel.arm(dial, min(dial.deadline, until))
        if dials:
            self._wheel.next_turn(lambda: self._hurry(dials, until))

    def report(self) -> list[dict[str, object]]:
        """The endpoints for ``/routes``."""
        return [
            {
                "address": endpoint.label.decode(),
                "load": endpoint.load,
                "idle": len(endpoint.idle),
                "ejected": endpoint.standing.ejected,
            }
            for endpoint in self._endpoints.values()
        ]

    @property
    def heads(self) -> Heads:
        """Who remembers a large head."""
        return self._limits.heads

    @property
    def queued(self) -> int:
        """Requests that wait for others to end."""
        return len(self._waiting)

    def obey(self, limits: Limits) -> None:
        """The operator's figures changed. What was learned about the app's patience is learned again."""
        self.most = limits.requests
        for endpoint in self._endpoints.values():
            endpoint.idle_seconds = limits.idle_seconds

    def idle(self) -> list[PooledConnection]:
        """Every idle connection."""
        return [connection for endpoint in self._endpoints.values() for connection in endpoint.idle]

    def close(self) -> None:
        """Stop dialling and close what is idle, at once."""
        for dial in list(self._dials):
            if dial.task is not None:
                dial.task.cancel()
        self.retire()

    # ── the lender of an exchange ─────────────────────────────────────────────────────────────────────────────────

    def lend(self, exchange: Exchange, fresh: bool) -> PooledConnection | None:
        """An idle connection now, or None while one is dialled; without endpoints the exchange fails at once.

        ``fresh``: the last connection broke, so this one is to be new, and to another endpoint if there is one.
        """
        if self.load >= self.most:
            self._queue(exchange)
            return None
        ready = self._ready
        endpoint = ready[0] if len(ready) == 1 else choose(ready)
        if endpoint is None:
            self._loop.call_soon(self._fail, exchange, Failure.NO_ENDPOINT)
            return None
        if fresh:
            if endpoint.label == exchange.endpoint:
                endpoint = choose(ready, (endpoint,)) or endpoint
        elif endpoint.idle:
            connection, _ = endpoint.idle.popitem()
            counters = self.totals
            counters.upstream_idle -= 1
            if exchange.line.method == b"GET" or self._is_alive(connection, exchange):
                self.load += 1
                endpoint.load += 1
                connection.lent = True
                counters.upstream_reused += 1
                connection.reused = True
                exchange.endpoint = endpoint.label
                return connection
        self.load += 1
        endpoint.load += 1
        self._dial_for(exchange, endpoint)
        return None

    def lend_tied(self, connection: PooledConnection, exchange: Exchange) -> PooledConnection | None:
        """As ``lend``, of the connection that is tied to the client: another one would not do."""
        if self.load >= self.most:
            self._queue(exchange)
            return None
        endpoint = connection.endpoint
        exchange.endpoint = endpoint.label
        if not connection.is_quiet():
            connection.close()
            self._loop.call_soon(self._fail, exchange, Failure.UPSTREAM_RESET)
            return None
        self.load += 1
        endpoint.load += 1
        connection.lent = True
        self.totals.upstream_reused += 1
        connection.reused = True
        return connection

    def lent(self, exchange: Exchange, app: UpstreamStream) -> None:
        """Nothing to do: a connection of the pool is anybody's."""

    def _is_alive(self, connection: PooledConnection, exchange: Exchange) -> bool:
        """What must not be sent twice is not sent where the app has left already, known to the kernel though not yet
        to us (hardening R-21). Who may be retried does without the question, which costs a system call."""
        if exchange.line.method in IDEMPOTENT or connection.is_quiet():
            return True
        connection.close()
        return False

    def forget(self, exchange: Exchange) -> None:
        """The client of a waiting exchange went away: the connection that comes is kept for the next one."""
        turn = self._waiting.pop(exchange, None)
        if turn is not None:
            self.totals.queued -= 1
            turn.slot = -1
            return
        dial = self._dialled.pop(exchange, None)
        if dial is not None:
            dial.exchange = None

    def retried(self, failure: Failure) -> bool:
        """A request is to be sent again: whether the app's budget has one left. Counts it if so."""
        if not self._budget.spend(now(), sum(self.counters.requests.values())):
            return False
        self._count_retry(failure)
        return True

    def _count_retry(self, failure: Failure) -> None:
        retries = self.counters.retries
        retries[failure] = retries.get(failure, 0) + 1

    def give_back(self, connection: PooledConnection, reusable: bool) -> None:
        """The exchange on this connection is over. Called by the connection; keeps it when that is possible."""
        if not connection.lent:
            return
        connection.lent = False
        endpoint = connection.endpoint
        endpoint.load -= 1
        if self._waiting:
            self._loop.call_soon(self._pass_on)
        else:
            self.load -= 1
        if not reusable or endpoint.gone:
            connection.close()
            return
        idle = endpoint.idle
        if len(idle) >= MAX_IDLE:
            oldest = next(iter(idle))
            if connection.deadline - oldest.deadline >= SPARE_SECONDS:
                oldest.close()
        idle[connection] = None
        self.totals.upstream_idle += 1

    def leave(self, connection: PooledConnection) -> None:
        """An exchange or a tunnel is over with its connection, which closes by itself or has closed."""
        if connection.lent:
            connection.lent = False
            connection.endpoint.load -= 1
            self._vacate()

    def lost_idle(self, connection: PooledConnection) -> None:
        """An idle connection closes."""
        idle = connection.endpoint.idle
        if connection in idle:
            del idle[connection]
            self.totals.upstream_idle -= 1

    # ── waiting for a turn ────────────────────────────────────────────────────────────────────────────────────────

    def _queue(self, exchange: Exchange) -> None:
        """The app has as much under way as it may have: wait for a moment, if not too many do."""
        if len(self._waiting) >= self._limits.queue:
            self._loop.call_soon(self._fail, exchange, Failure.APP_BUSY)
            return
        turn = PendingRequest(self, exchange)
        self._waiting[exchange] = turn
        self.totals.queued += 1
        self._wheel.arm(turn, now() + self._limits.queue_seconds)

    def give_up(self, turn: PendingRequest) -> None:
        """A request has waited for its turn for too long."""
        del self._waiting[turn.exchange]
        self.totals.queued -= 1
        self._fail(turn.exchange, Failure.APP_BUSY)

    def _vacate(self) -> None:
        """One place is free: it goes to who waits longest."""
        if self._waiting:
            self._loop.call_soon(self._pass_on)
        else:
            self.load -= 1

    def _pass_on(self) -> None:
        """Give a place that is still counted to who waits longest. None: nobody waits any more, or fewer are allowed
        than before."""
        self.load -= 1
        if self._waiting and self.load < self.most:
            exchange = None
            try:
                exchange = self._next_turn()
                lender: Lender = exchange.lender or self
                connection = lender.lend(exchange, False)
                if connection is not None:
                    exchange.app = connection
                    exchange.connected(connection, now())
            except Exception as error:
                self._fault(exchange, error)

    def _next_turn(self) -> Exchange:
        _, turn = self._waiting.popitem(last=False)
        self.totals.queued -= 1
        turn.slot = -1
        return turn.exchange

    # ── mistakes of ours ──────────────────────────────────────────────────────────────────────────────────────────

    def _fail(self, exchange: Exchange, failure: Failure) -> None:
        """Tell an exchange that it gets no connection."""
        try:
            exchange.failed(failure)
        except Exception as error:
            self._fault(exchange, error)

    def _fault(self, exchange: Exchange | None, error: Exception) -> None:
        """What was done for an exchange raised: its client is given up, and nobody else."""
        note(self.totals, "pool", error)
        if exchange is not None:
            exchange.client.crash()

    # ── dialling ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _dial_for(self, exchange: Exchange | None, endpoint: Endpoint[PooledConnection]) -> None:
        """Connect to an endpoint on which, and on us, one load is counted already."""
        try:
            self._dial(ConnectAttempt(self, exchange), endpoint)
        except Exception:
            endpoint.load -= 1
            self._vacate()
            raise

    def _dial(self, dial: ConnectAttempt, endpoint: Endpoint[PooledConnection]) -> None:
        dial.endpoint = endpoint
        dial.tried.append(endpoint)
        dial.begun = dial.late = dial.moved = False
        dial.slot = 0
        self._dials.add(dial)
        if dial.exchange is not None:
            self._dialled[dial.exchange] = dial
        self._wheel.arm(dial, now() + self.connect_timeout)
        dial.task = self._loop.create_task(self._connect(dial, endpoint), name=f"dial {self.name}")

    async def _connect(self, dial: ConnectAttempt, endpoint: Endpoint[PooledConnection]) -> None:
        try:
            await self._reach(dial, endpoint)
        except Exception as error:
            if dial in self._dials and dial.endpoint is endpoint:
                self._done(dial, endpoint)
            self._make_way(dial)
            self._fault(dial.exchange, error)

    async def _reach(self, dial: ConnectAttempt, endpoint: Endpoint[PooledConnection]) -> None:
        began = now()
        failure = Failure.CONNECT_FAILED
        host, port = endpoint.address
        dial.begun = True
        try:
            if dial.late or dial.moved:
                raise asyncio.CancelledError
            if began < endpoint.no_ports_until:
                raise OSError(_PORTS, "no port was left a moment ago")
            _, connection = await self._loop.create_connection(
                lambda: self._connector(self, endpoint, self._wheel), host, port
            )
            if not connection.take():
                raise ConnectionResetError
        except OSError as error:
            failure = self._refused(endpoint, error)
        except asyncio.CancelledError:
            if dial.late:
                failure = Failure.CONNECT_TIMEOUT
                self._unreachable(endpoint)
            elif dial.moved:
                failure = Failure.NO_ENDPOINT
                dial.tried.remove(endpoint)  # it did nothing wrong
            else:
                self._done(dial, endpoint)
                self._make_way(dial)
                raise
        else:
            self._connected(dial, endpoint, connection, began)
            return
        self._done(dial, endpoint)
        exchange = dial.exchange
        if exchange is None or exchange.over:
            self._make_way(dial)
            if dial.probing and not endpoint.gone:
                self._eject(endpoint)
            return
        another = choose(self._ready, dial.tried) if len(dial.tried) < MAX_DIALS else None
        if another is None:
            exchange.endpoint = endpoint.label
            self._make_way(dial)
            exchange.failed(failure)
        else:
            self._count_retry(failure)
            another.load += 1
            try:
                self._dial(dial, another)
            except Exception:
                another.load -= 1
                raise

    def _connected(
        self, dial: ConnectAttempt, endpoint: Endpoint[PooledConnection], connection: PooledConnection, began: float
    ) -> None:
        counters = self.totals
        counters.upstream_connects += 1
        counters.upstream_open += 1
        moment = now()
        self._end_dial(dial)
        dial.counted = False
        connection.lent = True  # what the dial counted for is the connection's from here on
        try:
            self._hand_over(dial, endpoint, connection, moment, moment - began)
        except Exception as error:
            connection.fault(error, dial.exchange)

    def _hand_over(
        self,
        dial: ConnectAttempt,
        endpoint: Endpoint[PooledConnection],
        connection: PooledConnection,
        moment: float,
        seconds: float,
    ) -> None:
        """There is a connection: to the exchange that waits for it, or to the pool."""
        self.totals.connect.observe(seconds)
        endpoint.forget_patience(moment, self._limits.idle_seconds)
        standing = endpoint.standing
        was_ejected = standing.ejected
        standing.reached(moment)
        if was_ejected and not endpoint.gone:
            self._sort_out()
        exchange = dial.exchange
        if exchange is None or exchange.over:
            connection.rest(moment)
            self.give_back(connection, True)
        else:
            exchange.endpoint = endpoint.label
            if exchange.lender is not None:
                exchange.lender.lent(exchange, connection)
            exchange.connected(connection, moment)

    def _make_way(self, dial: ConnectAttempt) -> None:
        """A dial came to nothing: somebody else may have its place."""
        if dial.counted:
            dial.counted = False
            self._vacate()

    def _done(self, dial: ConnectAttempt, endpoint: Endpoint[PooledConnection]) -> None:
        self._end_dial(dial)
        endpoint.load -= 1

    def _end_dial(self, dial: ConnectAttempt) -> None:
        """It connects to nobody any more."""
        if dial.exchange is not None:
            self._dialled.pop(dial.exchange, None)
        self._dials.discard(dial)
        dial.slot = -1

    # ── endpoints that cannot be reached ──────────────────────────────────────────────────────────────────────────

    def _refused(self, endpoint: Endpoint[PooledConnection], error: OSError) -> Failure:
        """What a failed connect means: the endpoint's fault, or a lack of ours."""
        if error.errno == _PORTS:
            if now() >= endpoint.no_ports_until:
                endpoint.no_ports_until = now() + SHORTAGE
            return Failure.ROUTER_EXHAUSTED
        if error.errno in _DESCRIPTORS:
            self._crowded()
            return Failure.ROUTER_EXHAUSTED
        self._unreachable(endpoint)
        return Failure.CONNECT_FAILED

    def _unreachable(self, endpoint: Endpoint[PooledConnection]) -> None:
        """One more connect failed."""
        standing = endpoint.standing
        if standing.failed() and not standing.ejected and not endpoint.gone:
            ejected = sum(other.standing.ejected for other in self._endpoints.values())
            if may_eject(ejected, len(self._endpoints)):
                self.counters.ejections += 1
                self._eject(endpoint)

    def _eject(self, endpoint: Endpoint[PooledConnection]) -> None:
        """Leave it out for a while."""
        until = endpoint.standing.eject(now())
        self._wheel.arm(EjectionTimer(self, endpoint), until)
        self._sort_out()

    def probe(self, endpoint: Endpoint[PooledConnection]) -> None:
        """Its time out is over: connect to it, for nobody."""
        if not endpoint.gone and endpoint.standing.ejected:
            self.load += 1
            endpoint.load += 1
            self._dial_for(None, endpoint)
