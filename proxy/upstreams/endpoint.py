"""Endpoint: one address that can be dialled, its idle connections and how busy it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.http.heads import printable
from proxy.routes import Address

if TYPE_CHECKING:
    from proxy.http1.upstream import Http1Upstream

__all__ = ["Endpoint"]


class Endpoint:
    """One address of one app. Never shared between apps, even for the same address (contract 7)."""

    __slots__ = ("address", "gone", "idle", "label", "load")

    def __init__(self, address: Address) -> None:
        self.address = address
        self.label = printable(address)
        """For log lines."""
        self.idle: list[Http1Upstream] = []
        """Connections that wait for work, the most recently used last."""
        self.load = 0
        """Exchanges under way, those that still connect included."""
        self.gone = False
        """The table no longer names it: it finishes what it has and gets nothing new."""

    def __repr__(self) -> str:
        state = " gone" if self.gone else ""
        return f"<Endpoint {self.label.decode()} load={self.load} idle={len(self.idle)}{state}>"
