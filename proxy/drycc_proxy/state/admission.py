"""Admission: how many clients may be connected, in all and from one address, and how many descriptors that leaves.

A process that has used up its descriptors can neither accept, nor reach an app, nor answer its operator. So the limit
is never met: some are kept for the process itself, some for connections to apps, and the rest is for clients. When they
are used up, the router stops accepting and the kernel keeps who comes next waiting; before that, at
:data:`PRESSURE` of the limit, idle clients are let go, the longest idle first (hardening S-06, R-27).

What must not enter: sockets, limits of the operating system (they are handed in), and who is idle (``core`` asks).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from drycc_proxy.http.client_address import client_key
from drycc_proxy.kernel.internal_errors import attempt
from drycc_proxy.metrics import Counters

__all__ = ["LEAST_PLACES", "PRESSURE", "Admission", "for_clients"]

PRESSURE: Final = 0.8
"""Share of the limit from which on idle clients must go."""
LEAST_PLACES: Final = 64
"""Of fewer places nobody has a share."""
_APPS_MOST: Final = 4096
"""Descriptors that are kept for connections to apps where there are many: half of what is left where there are few."""


def reserve(descriptors: int) -> int:
    """Descriptors kept for the process itself: probes, metrics, the API server, files that are read."""
    return max(16, min(256, descriptors // 16))


def for_clients(descriptors: int, in_use: int) -> int:
    """Client connections that fit into ``descriptors``, of which the process has ``in_use`` before the first client."""
    left = descriptors - in_use - reserve(descriptors)
    return max(1, left - min((left + 1) // 2, _APPS_MOST))


class Admission:
    """Counts connections as they come and go."""

    __slots__ = ("_by_client", "_counters", "connections", "files", "most", "on_full")

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._by_client: dict[str, int] = {}
        self.connections = 0
        """Client connections that are open, on all ports, whatever state they are in; a stream is two."""
        self.most = 1 << 30
        """How many there may be."""
        self.files = 1 << 30
        """How many descriptors clients and connections to apps may take together."""
        self.on_full: Callable[[], None] = _nothing
        """Called by whoever takes the last place."""

    def allow(self, asked: int, descriptors: int, in_use: int) -> None:
        """Set the limits. ``asked``: what the operator wants, 0 for as many as fit."""
        room = for_clients(descriptors, in_use)
        self.most = min(asked, room) if asked else room
        self.files = max(1, descriptors - in_use - reserve(descriptors))

    @property
    def is_full(self) -> bool:
        """Whether nobody may be accepted now."""
        return self.connections >= self.most or self.connections + self._counters.upstream_open >= self.files

    @property
    def excess(self) -> int:
        """How many connections stand between now and no pressure; 0 or less: there is none."""
        return max(self.connections - int(self.most * PRESSURE), self.excess_files)

    @property
    def excess_files(self) -> int:
        """How many of them, or of connections to apps, because descriptors are few."""
        return self.connections + self._counters.upstream_open - int(self.files * PRESSURE)

    @property
    def clients(self) -> int:
        """Different clients that are connected."""
        return len(self._by_client)

    def held_by(self, address: str) -> int:
        """What is counted for a client: its connections, or behind a trusted peer its requests under way."""
        return self._by_client.get(client_key(address), 0)

    def come(self, descriptors: int = 1) -> None:
        """Somebody was accepted."""
        self.connections += descriptors
        attempt(self._counters, "admission", self._look_around)

    def _look_around(self) -> None:
        if self.is_full:
            self.on_full()

    def go(self, descriptors: int = 1) -> None:
        """A connection is gone."""
        self.connections -= descriptors

    def take(self, address: str, most: int) -> bool:
        """Count something for a client; False if it has ``most`` already (0: no limit). Then it was not counted."""
        key = client_key(address)
        count = self._by_client.get(key, 0)
        if most and count >= most:
            return False
        self._by_client[key] = count + 1
        return True

    def give(self, address: str) -> None:
        """What was taken for a client is over."""
        key = client_key(address)
        count = self._by_client[key] - 1
        if count:
            self._by_client[key] = count
        else:
            del self._by_client[key]


def _nothing() -> None:
    """Nobody wants to know."""
