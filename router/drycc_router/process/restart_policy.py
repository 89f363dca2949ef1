"""When a child that ended is started again, and when it is time to give up.

A child that had come to serve is started again almost at once, however often it is killed. One that dies before it
serves waits longer each time, a tenth of a second to ten; after ten such deaths within a minute the fault is not one
that passes, and the router ends so that whoever runs it sees it (hardening L-07).

What must not enter: processes, clocks; times are handed in.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["CAUSES", "Respawn"]

CAUSES: Final = ("stalled", "killed", "crashed", "exited")
"""Every way in which a child can end unasked."""

FIRST: Final = 0.1
"""Seconds before a child is started again, the first time."""
LAST: Final = 10.0
"""Seconds at most."""
DEATHS: Final = 10
"""Deaths at the start that are too many ..."""
WITHIN: Final = 60.0
"""... within so many seconds."""


class Respawn:
    """The lives of one child, one after the other."""

    __slots__ = ("_deaths", "_delay")

    def __init__(self) -> None:
        self._delay = FIRST
        self._deaths: deque[float] = deque(maxlen=DEATHS)

    def died(self, now: float, served: bool) -> float | None:
        """Seconds to wait before the next life; None: give up. ``served``: it had come to do its work."""
        if served:
            self._delay = FIRST
            self._deaths.clear()
            return FIRST
        self._deaths.append(now)
        if len(self._deaths) == DEATHS and now - self._deaths[0] <= WITHIN:
            return None
        delay = self._delay
        self._delay = min(LAST, self._delay * 2)
        return delay
