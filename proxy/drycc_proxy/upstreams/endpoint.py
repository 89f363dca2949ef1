"""Endpoint: one address that can be dialled, its idle connections and how busy it is."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from drycc_proxy.http.forwarding import printable
from drycc_proxy.routing.definitions import Address
from drycc_proxy.upstreams.outliers import OutlierState

__all__ = ["Endpoint"]

LEARNED_FOR: Final = 3600.0
"""Seconds until what was learned about an app's patience is put to the test again."""
_AT_ONCE: Final = 0.5
"""Seconds between two closings that tell of an app's habit. A process that ends closes all its connections at once."""


C = TypeVar("C")
"""What connects to an endpoint (``interfaces.PooledConnection``)."""


class Endpoint(Generic[C]):
    """One address of one app. Never shared between apps, even for the same address (contract 7)."""

    __slots__ = (
        "_learned_until",
        "_suspected",
        "_suspected_at",
        "address",
        "gone",
        "idle",
        "idle_seconds",
        "label",
        "load",
        "no_ports_until",
        "standing",
        "tied",
    )

    def __init__(self, address: Address, idle_seconds: float) -> None:
        self.address = address
        self.label = printable(address)
        """For log lines."""
        self.idle: dict[C, None] = {}
        """Connections that wait for work, the most recently used last. When an app closes thousands at once, each
        leaves without a search."""
        self.tied: set[C] | None = None
        """Connections that belong to one client each (``ties``); None: there never was one."""
        self.load = 0
        """Exchanges under way, those that still connect included."""
        self.gone = False
        """The table no longer names it: it finishes what it has and gets nothing new."""
        self.standing = OutlierState()
        self.no_ports_until = 0.0
        """Until then nobody tries to connect: the router has no port left to do it from."""
        self.idle_seconds = idle_seconds
        """How long a connection may be idle before it is closed: what the operator says, or less (hardening R-21)."""
        self._suspected = -1.0
        self._suspected_at = 0.0
        self._learned_until = 0.0

    def __repr__(self) -> str:
        state = " gone" if self.gone else " ejected" if self.standing.ejected else ""
        return f"<Endpoint {self.label.decode()} load={self.load} idle={len(self.idle)}{state}>"

    # ── how long its app keeps idle connections ───────────────────────────────────────────────────────────────────

    def is_patient(self, seconds: float) -> None:
        """The app closes connections that were idle for so long: close them a second sooner, or after half the time,
        so that no request meets its closing."""
        self.idle_seconds = min(self.idle_seconds, max(seconds - 1.0, seconds / 2))

    def closed_idle(self, age: float, now: float) -> bool:
        """The app closed a connection that was idle for ``age`` seconds. Whether that taught us how long it waits.

        Once may be chance. Twice after the same time, and not in the same breath, is a habit.
        """
        alike = abs(age - self._suspected) <= 0.1 + 0.1 * age
        if alike and now - self._suspected_at >= _AT_ONCE and age < self.idle_seconds:
            self._learned_until = now + LEARNED_FOR
            self.is_patient(age)
            return True
        if not alike or now - self._suspected_at >= _AT_ONCE:
            self._suspected = age
            self._suspected_at = now
        return False

    def forget_patience(self, now: float, idle_seconds: float) -> None:
        """A new connection is made: what was learned long ago may not be so any more."""
        if self._learned_until and now > self._learned_until:
            self._learned_until = 0.0
            self.idle_seconds = idle_seconds
