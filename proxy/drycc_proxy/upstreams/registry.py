"""Registry: which upstreams live. What must outlive a change of the table has its owner here, not in the table."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterator
from operator import attrgetter
from typing import Final

from drycc_proxy.kernel.clock import Wheel, now
from drycc_proxy.kernel.sockets import descriptors
from drycc_proxy.metrics import Counters, RouteCounters
from drycc_proxy.routing.definitions import Edge, Route
from drycc_proxy.upstreams.interfaces import Connector, PooledConnection
from drycc_proxy.upstreams.limits import Limits
from drycc_proxy.upstreams.remembered_heads import Heads
from drycc_proxy.upstreams.upstream import Upstream

__all__ = ["Registry"]

_AT_A_TIME: Final = 0.1
"""Share of the idle connections that are closed when there are too many: finding the oldest of all costs a look at each
one, so it is not done for one at a time."""
_MOST_LOOKED_AT: Final = 512
"""Upstreams that are searched for idle connections, or told of new limits, at a time."""
_MOST_COMPARED: Final = 2048
"""Idle connections of which the oldest are looked for at a time."""
_MOST_CLOSED: Final = 64
"""Connections that are closed at a time."""
_LOOK_EVERY: Final = 0.5
"""Seconds."""


class Registry:
    """Upstreams by route name. On the wheel it looks now and then whether too many connections are idle: nobody counts
    when a request is over."""

    __slots__ = (
        "_connector",
        "_counters",
        "_excess",
        "_limits",
        "_looked_at",
        "_loop",
        "_namespaces",
        "_round",
        "_to_obey",
        "_upstreams",
        "_wheel",
        "deadline",
        "slot",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, wheel: Wheel, counters: Counters, connector: Connector) -> None:
        self._loop = loop
        self._wheel = wheel
        self._counters = counters
        self._connector = connector
        self._limits = Limits(Edge(), descriptors())
        self._upstreams: dict[str, Upstream] = {}
        self._namespaces: dict[str, int] = {}
        """Namespace → its upstreams."""
        self._round: list[str] = []
        """Upstreams that were not searched yet since all of them were."""
        self._to_obey: list[Upstream] = []
        """Upstreams that have yet to hear of new limits."""
        self._excess = 0
        """Idle connections that are still to be closed."""
        self._looked_at = 0
        """Upstreams searched for them without leaving any."""
        self.deadline = 0.0
        self.slot = 0
        wheel.arm(self, now() + _LOOK_EVERY)

    def overdue(self, now: float) -> None:
        """It is time to look."""
        if self._counters.upstream_idle > self._limits.idle:
            self._make_room()
        self.deadline = now + _LOOK_EVERY

    def configure(self, edge: Edge) -> None:
        """Take the operator's limits."""
        if self._limits.configure(edge, descriptors()):
            is_under_way = bool(self._to_obey)
            self._to_obey = list(self._upstreams.values())
            if not is_under_way:
                self._pass_limits_on()

    def _pass_limits_on(self) -> None:
        """Tell a bounded number of upstreams their limits, and the others in the next turns of the loop."""
        for _ in range(min(_MOST_LOOKED_AT, len(self._to_obey))):
            self._to_obey.pop().obey(self._limits)
        if self._to_obey:
            self._wheel.next_turn(self._pass_limits_on)

    def adopt(self, route: Route) -> Upstream:
        """The upstream of a route, new or known, with the route's endpoints."""
        upstream = self._upstreams.get(route.name)
        if upstream is None:
            counters = self._counters.routes.get(route.name)
            if counters is None:
                counters = RouteCounters(route.app, route.namespace, route.service)
                self._counters.routes[route.name] = counters
            upstream = Upstream(
                route.name,
                self._loop,
                self._wheel,
                self._counters,
                counters,
                self._limits,
                self._connector,
                self._make_room,
            )
            self._upstreams[route.name] = upstream
            self._namespaces[counters.namespace] = self._namespaces.get(counters.namespace, 0) + 1
        upstream.counters.app = route.app
        upstream.update(route.endpoints, route.policy.connect_timeout)
        return upstream

    def retire(self, name: str) -> None:
        """The route is gone; its exchanges finish on the upstream they hold."""
        upstream = self._upstreams.pop(name, None)
        if upstream is not None:
            upstream.retire()
            self._counters.routes.pop(name, None)
            namespace = upstream.counters.namespace
            self._namespaces[namespace] -= 1
            if not self._namespaces[namespace]:
                del self._namespaces[namespace]

    def upstreams(self) -> list[Upstream]:
        """All of them."""
        return list(self._upstreams.values())

    @property
    def namespaces(self) -> int:
        """How many namespaces have upstreams."""
        return len(self._namespaces)

    def report(self) -> Iterator[dict[str, object]]:
        """Every upstream, for ``/routes``, by name. It may be asked for one at a time while the table changes."""
        for name in sorted(self._upstreams):
            upstream = self._upstreams.get(name)
            if upstream is not None:
                yield {
                    "route": name,
                    "in_flight": upstream.load,
                    "queued": upstream.queued,
                    "endpoints": upstream.report(),
                }

    @property
    def heads(self) -> Heads:
        """Large heads that connections remember."""
        return self._limits.heads

    def close_idle(self, keep: int) -> None:
        """Close idle connections until ``keep`` are left, those first that would be closed soonest anyhow.

        One turn of the loop looks at a bounded number of upstreams and closes a bounded number of connections; the next
        turns go on with the other upstreams.
        """
        is_under_way = self._excess > 0
        self._excess = max(self._excess, self._counters.upstream_idle - keep)
        if self._excess > 0 and not is_under_way:
            self._looked_at = 0
            self._close_some()

    def _close_some(self) -> None:
        idle: list[PooledConnection] = []
        for _ in range(min(_MOST_LOOKED_AT, len(self._upstreams))):
            if not self._round:
                self._round = list(self._upstreams)
            upstream = self._upstreams.get(self._round.pop())
            self._looked_at += 1
            if upstream is not None:
                idle += upstream.idle()
                if len(idle) >= _MOST_COMPARED:
                    break
        oldest = heapq.nsmallest(min(self._excess, _MOST_CLOSED), idle, key=attrgetter("deadline"))
        self._excess -= len(oldest)
        for connection in oldest:
            connection.close()
        if len(oldest) == _MOST_CLOSED and len(idle) > len(oldest):
            self._looked_at = 0  # there are more where these were
        if self._counters.upstream_idle <= 0 or self._looked_at > len(self._upstreams):
            self._excess = 0
        elif self._excess > 0:
            self._wheel.next_turn(self._close_some)

    def _make_room(self) -> None:
        """There are more idle connections than there should be, or no descriptor for another connection."""
        most = min(self._limits.idle, self._counters.upstream_idle)
        self.close_idle(most - max(1, int(most * _AT_A_TIME)))

    def close(self) -> None:
        """Close what is idle and stop dialling."""
        for upstream in self._upstreams.values():
            upstream.close()

    def __len__(self) -> int:
        return len(self._upstreams)
