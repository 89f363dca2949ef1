"""Upstream: one app's endpoints, their idle connections and the dialling of new ones. Survives every change.

Warm path: ``lend`` hands an idle connection back in the same call. Only a cold connect makes a task; it has an owner
(the upstream's ``dials``), a name and a deadline on the wheel.

What must not enter: policies of requests, bytes of HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from proxy.clock import Wheel, now
from proxy.errors import Failure
from proxy.http1.upstream import Http1Upstream
from proxy.metrics import Counters, RouteCounters
from proxy.routes import Address
from proxy.upstreams.balancing import choose
from proxy.upstreams.endpoint import Endpoint

if TYPE_CHECKING:
    from proxy.http.exchange import Exchange

__all__ = ["Upstream"]

MAX_IDLE: Final = 64
"""Idle connections kept per endpoint; the least recently used is closed first."""
MAX_DIALS: Final = 3
"""Endpoints tried for one request before it is answered with a failure."""
LAST_CHANCE: Final = 1.0
"""Seconds that dialling may still take when its route is gone. Long enough for any connection that is being made in
order, too short for an address to be given to somebody else's Pod."""


class Dial:
    """One attempt to connect on behalf of an exchange; goes on with another endpoint when one fails."""

    __slots__ = ("begun", "deadline", "endpoint", "exchange", "late", "moved", "slot", "task", "tried", "upstream")

    def __init__(self, upstream: Upstream, exchange: Exchange) -> None:
        self.upstream = upstream
        self.exchange: Exchange | None = exchange
        self.tried: list[Endpoint] = []
        self.endpoint: Endpoint | None = None
        self.task: asyncio.Task[None] | None = None
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


class Upstream:
    """Connections to one app. The registry keeps it while any route names it."""

    __slots__ = (
        "_counters",
        "_dials",
        "_endpoints",
        "_loop",
        "_ready",
        "_wheel",
        "connect_timeout",
        "counters",
        "name",
    )

    def __init__(
        self, name: str, loop: asyncio.AbstractEventLoop, wheel: Wheel, totals: Counters, counters: RouteCounters
    ) -> None:
        self.name = name
        self.counters = counters
        self.connect_timeout = 30.0
        self._loop = loop
        self._wheel = wheel
        self._counters = totals
        self._endpoints: dict[Address, Endpoint] = {}
        self._ready: list[Endpoint] = []
        self._dials: set[Dial] = set()

    def __repr__(self) -> str:
        return f"<Upstream {self.name} {self._ready!r} dials={len(self._dials)}>"

    def update(self, addresses: Sequence[Address], connect_timeout: float) -> None:
        """Take the new set of endpoints. Known ones keep their connections; removed ones lose their idle ones now.

        Who is being connected to a removed one goes to another: its address may belong to somebody else before long.
        """
        self.connect_timeout = connect_timeout
        if tuple(addresses) == tuple(self._endpoints):
            return
        self._replace(addresses)
        for dial in list(self._dials):
            if dial.endpoint is not None and dial.endpoint.gone:
                dial.move()

    def _replace(self, addresses: Sequence[Address]) -> None:
        fresh: dict[Address, Endpoint] = {}
        for address in addresses:
            known = self._endpoints.get(address)
            fresh[address] = Endpoint(address) if known is None else known
        for address, endpoint in self._endpoints.items():
            if address in fresh:
                continue
            endpoint.gone = True
            for connection in endpoint.idle[:]:
                connection.close()
        self._endpoints = fresh
        self._ready = list(fresh.values())

    def retire(self) -> None:
        """The route is gone: nothing new, idle connections close, exchanges under way finish.

        Those that still wait for a connection have nowhere else to go, so they get a last chance.
        """
        self._replace(())
        for dial in self._dials:
            self._wheel.arm(dial, min(dial.deadline, now() + LAST_CHANCE))

    def report(self) -> list[dict[str, object]]:
        """The endpoints for ``/routes``."""
        return [
            {"address": endpoint.label.decode(), "load": endpoint.load, "idle": len(endpoint.idle)}
            for endpoint in self._ready
        ]

    def close(self) -> None:
        """Stop dialling and close what is idle, at once."""
        for dial in list(self._dials):
            if dial.task is not None:
                dial.task.cancel()
        self.retire()

    # ── the lender of an exchange ─────────────────────────────────────────────────────────────────────────────────

    def lend(self, exchange: Exchange, fresh: bool) -> Http1Upstream | None:
        """An idle connection now, or None while one is dialled; without endpoints the exchange fails at once."""
        ready = self._ready
        endpoint = ready[0] if len(ready) == 1 else choose(ready)
        if endpoint is None:
            self._loop.call_soon(exchange.failed, Failure.NO_ENDPOINT)
            return None
        endpoint.load += 1
        if not fresh and endpoint.idle:
            connection = endpoint.idle.pop()
            counters = self._counters
            counters.upstream_idle -= 1
            counters.upstream_reused += 1
            connection.reused = True
            exchange.endpoint = endpoint.label
            return connection
        self._dial(Dial(self, exchange), endpoint)
        return None

    def forget(self, exchange: Exchange) -> None:
        """The client of a waiting exchange went away: the connection that comes is kept for the next one."""
        for dial in self._dials:
            if dial.exchange is exchange:
                dial.exchange = None

    def retried(self, failure: Failure) -> None:
        """Count a retry."""
        retries = self.counters.retries
        retries[failure] = retries.get(failure, 0) + 1

    def give_back(self, connection: Http1Upstream, reusable: bool) -> None:
        """The exchange on this connection is over. Called by the connection; keeps it when that is possible."""
        endpoint = connection.endpoint
        endpoint.load -= 1
        if not reusable or endpoint.gone:
            connection.close()
            return
        idle = endpoint.idle
        if len(idle) >= MAX_IDLE:
            idle[0].close()
        idle.append(connection)
        self._counters.upstream_idle += 1

    def leave(self, connection: Http1Upstream) -> None:
        """A tunnel is over, and its connection closes by itself once it is empty."""
        connection.endpoint.load -= 1

    def lost_idle(self, connection: Http1Upstream) -> None:
        """An idle connection closes."""
        try:
            connection.endpoint.idle.remove(connection)
        except ValueError:
            return
        self._counters.upstream_idle -= 1

    def lost(self) -> None:
        """A connection is closed for good."""
        self._counters.upstream_open -= 1

    # ── dialling ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _dial(self, dial: Dial, endpoint: Endpoint) -> None:
        dial.endpoint = endpoint
        dial.tried.append(endpoint)
        dial.begun = dial.late = dial.moved = False
        dial.slot = 0
        self._dials.add(dial)
        self._wheel.arm(dial, now() + self.connect_timeout)
        dial.task = self._loop.create_task(self._connect(dial, endpoint), name=f"dial {self.name}")

    async def _connect(self, dial: Dial, endpoint: Endpoint) -> None:
        began = now()
        failure = Failure.CONNECT_FAILED
        host, port = endpoint.address
        dial.begun = True
        try:
            if dial.late or dial.moved:
                raise asyncio.CancelledError
            _, connection = await self._loop.create_connection(
                lambda: Http1Upstream(self, endpoint, self._wheel), host, port
            )
            if not connection.take():
                raise ConnectionResetError
        except OSError:
            pass
        except asyncio.CancelledError:
            if dial.late:
                failure = Failure.CONNECT_TIMEOUT
            elif dial.moved:
                failure = Failure.NO_ENDPOINT
                dial.tried.remove(endpoint)  # it did nothing wrong
            else:
                self._done(dial, endpoint)
                raise
        else:
            self._counters.upstream_connects += 1
            self._counters.upstream_open += 1
            self._counters.connect.observe(now() - began)
            self._dials.discard(dial)
            dial.slot = -1
            exchange = dial.exchange
            if exchange is None or exchange.over:
                self.give_back(connection, True)
                connection.rest(now())
            else:
                exchange.endpoint = endpoint.label
                exchange.connected(connection, now())
            return
        self._done(dial, endpoint)
        exchange = dial.exchange
        if exchange is None or exchange.over:
            return
        another = choose(self._ready, dial.tried) if len(dial.tried) < MAX_DIALS else None
        if another is None:
            exchange.endpoint = endpoint.label
            exchange.failed(failure)
        else:
            self.retried(failure)
            another.load += 1
            self._dial(dial, another)

    def _done(self, dial: Dial, endpoint: Endpoint) -> None:
        endpoint.load -= 1
        dial.slot = -1
        self._dials.discard(dial)
