"""What probes are told: whether the loop turns, and whether traffic should come here.

Liveness depends on nothing but an answer being given; no API server, upstream or certificate can fail it (hardening
L-11). What must not enter: HTTP.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Health"]


class Health:
    """Ready from the first complete table in force until draining begins; nothing in between takes it back."""

    __slots__ = ("_serving", "_waits_for", "draining")

    def __init__(self, waits_for: Callable[[], str] | None = None) -> None:
        """``waits_for`` tells what the first table is waiting for."""
        self._waits_for = waits_for
        self._serving = False
        self.draining = False

    def serve(self) -> None:
        """The first complete table is in force, and connections are accepted."""
        self._serving = True

    def drain(self) -> None:
        """The process is about to end."""
        self.draining = True

    @property
    def unready(self) -> str:
        """Why no traffic should come here; empty when it should."""
        if self.draining:
            return "draining"
        if self._serving:
            return ""
        what = self._waits_for() if self._waits_for else ""
        return f"the first table is not published yet{f': waiting for {what}' if what else ''}"
