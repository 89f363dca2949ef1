"""Registry: which upstreams live. What must outlive a change of the table has its owner here, not in the table."""

from __future__ import annotations

import asyncio

from proxy.clock import Wheel
from proxy.metrics import Counters, RouteCounters
from proxy.routes import Route
from proxy.upstreams.upstream import Upstream

__all__ = ["Registry"]


class Registry:
    """Upstreams by route name."""

    __slots__ = ("_counters", "_loop", "_upstreams", "_wheel")

    def __init__(self, loop: asyncio.AbstractEventLoop, wheel: Wheel, counters: Counters) -> None:
        self._loop = loop
        self._wheel = wheel
        self._counters = counters
        self._upstreams: dict[str, Upstream] = {}

    def adopt(self, route: Route) -> Upstream:
        """The upstream of a route, new or known, with the route's endpoints."""
        upstream = self._upstreams.get(route.name)
        if upstream is None:
            counters = self._counters.routes.get(route.name)
            if counters is None:
                counters = RouteCounters(route.app, route.namespace, route.service)
                self._counters.routes[route.name] = counters
            upstream = Upstream(route.name, self._loop, self._wheel, self._counters, counters)
            self._upstreams[route.name] = upstream
        upstream.counters.app = route.app
        upstream.update(route.endpoints, route.policy.connect_timeout)
        return upstream

    def retire(self, name: str) -> None:
        """The route is gone; its exchanges finish on the upstream they hold."""
        upstream = self._upstreams.pop(name, None)
        if upstream is not None:
            upstream.retire()
            self._counters.routes.pop(name, None)

    def report(self) -> list[dict[str, object]]:
        """Every upstream, for ``/routes``."""
        return [{"route": name, "endpoints": upstream.report()} for name, upstream in sorted(self._upstreams.items())]

    def close(self) -> None:
        """Close what is idle and stop dialling."""
        for upstream in self._upstreams.values():
            upstream.close()

    def __len__(self) -> int:
        return len(self._upstreams)
