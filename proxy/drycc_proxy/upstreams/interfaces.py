"""What an app's pool and its connections ask of each other, so that neither knows how the other is made.

What must not enter: a protocol of the wire, and which one an app speaks (a :data:`Connector` knows).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol, TypeAlias

from drycc_proxy.http.exchange import Exchange, Lender
from drycc_proxy.kernel.clock import FAR, Wheel
from drycc_proxy.metrics import Counters
from drycc_proxy.upstreams.endpoint import Endpoint
from drycc_proxy.upstreams.remembered_heads import Heads

__all__ = ["Connector", "Home", "Pool", "PooledConnection"]


class Home(Protocol):
    """Where a connection belongs while nobody has it: a pool, or the one client that the app knows by it."""

    totals: Counters

    @property
    def heads(self) -> Heads:
        """Who remembers a large head."""

    def give_back(self, connection: PooledConnection, reusable: bool) -> None:
        """The exchange on this connection is over."""

    def leave(self, connection: PooledConnection) -> None:
        """An exchange or a tunnel is over with its connection, which closes by itself or has closed."""

    def lost_idle(self, connection: PooledConnection) -> None:
        """An idle connection closes."""


class Pool(Home, Lender, Protocol):
    """Anybody's connections to one app."""

    def lend_tied(self, connection: PooledConnection, exchange: Exchange) -> PooledConnection | None:
        """As ``lend``, of the connection that is tied to the client: another one would not do."""


class PooledConnection(asyncio.Protocol, ABC):
    """One connection to an endpoint, whatever protocol it speaks. Implements ``http.exchange.UpstreamStream``."""

    __slots__ = ("deadline", "endpoint", "lent", "pool", "reused", "slot")

    def __init__(self, pool: Pool, endpoint: Endpoint[PooledConnection]) -> None:
        self.pool = pool
        """Who had it made."""
        self.endpoint = endpoint
        self.lent = False
        """It counts as a load of its endpoint and its pool."""
        self.reused = False
        """It has served before."""
        self.deadline = FAR
        """When it closes if it stays idle (monotonic seconds)."""
        self.slot = 0

    # ── for the exchange ──────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def request(self, exchange: Exchange, data: bytes, last: bool) -> None: ...
    @abstractmethod
    def send(self, data: bytes, last: bool) -> None: ...
    @abstractmethod
    def hold(self) -> None: ...
    @abstractmethod
    def resume(self) -> None: ...
    @abstractmethod
    def end(self) -> None: ...
    @abstractmethod
    def part(self) -> None: ...
    @abstractmethod
    def quiet_since(self) -> float: ...
    @abstractmethod
    def abandon(self) -> None: ...

    # ── for the wheel ─────────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def overdue(self, now: float) -> None: ...

    # ── for the pool ──────────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def take(self) -> bool:
        """It is connected, and whoever asked for it has it from now on. False: it is lost already."""

    @abstractmethod
    def rest(self, moment: float) -> None:
        """It is idle from ``moment`` on."""

    @abstractmethod
    def close(self) -> None:
        """Close it at once."""

    @abstractmethod
    def is_quiet(self) -> bool:
        """Whether the app has said nothing, not even its end, since it became idle. Asks the kernel."""

    @abstractmethod
    def tie(self, home: Home) -> None:
        """From now on it belongs there, and is in no pool any more."""

    @abstractmethod
    def fault(self, error: Exception, exchange: Exchange | None) -> None:
        """A mistake of ours: it is given up, and its exchange with it."""


Connector: TypeAlias = Callable[[Pool, Endpoint[PooledConnection], Wheel], PooledConnection]
"""Makes the protocol for a connection to ``endpoint`` that is about to be made."""
