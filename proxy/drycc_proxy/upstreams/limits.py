"""What all apps together, and any one of them, may take of the router: the operator's figures, or a share of what the
process may have open.

One object for all upstreams, changed in place: the request path looks at it and never asks who changed it. What must
not enter: counting (who holds what counts it), and the clock.
"""

from __future__ import annotations

from typing import Final

from drycc_proxy.routing.definitions import Edge
from drycc_proxy.upstreams.remembered_heads import Heads

__all__ = ["Limits"]

APP_SHARE: Final = 0.3
"""Of the descriptors, in requests under way of one app: each takes two, so one app never has more than three fifths."""
APP_MOST: Final = 10_000
"""Where descriptors are plenty, memory is what ends first."""
IDLE_SHARE: Final = 0.25
"""Of the descriptors, for connections to apps that wait for work (hardening R-39: half at most)."""


class Limits:
    """Figures in force."""

    __slots__ = ("heads", "idle", "idle_seconds", "queue", "queue_seconds", "requests")

    def __init__(self, edge: Edge, descriptors: int) -> None:
        self.requests = 0
        """Requests and tunnels that one app may have under way."""
        self.idle_seconds = 0.0
        """How long an idle connection is kept, unless its app closes it sooner."""
        self.heads = Heads()
        """Large ones, of all connections."""
        self.configure(edge, descriptors)

    def configure(self, edge: Edge, descriptors: int) -> bool:
        """Take the operator's figures; those that are 0 become shares of ``descriptors``, what the process may open.

        Returns whether anything changed that upstreams keep a copy of.
        """
        before = (self.requests, self.idle_seconds)
        self.requests = edge.app_requests or max(1, min(int(descriptors * APP_SHARE), APP_MOST))
        self.queue = edge.app_queue
        """Requests of one app that wait for one of those to end."""
        self.queue_seconds = edge.app_queue_timeout
        self.idle = edge.upstream_idle or max(1, int(descriptors * IDLE_SHARE))
        """Idle connections to all apps together."""
        self.idle_seconds = edge.upstream_idle_timeout
        return before != (self.requests, self.idle_seconds)
