"""When there is too much: what is given up first, so that the rest is served and nobody is killed.

A pure state machine. Ten times a second it is told how much of its memory the process uses and how late the loop is,
and says how hard the times are. Memory has levels, because it ends in the process being killed:

::

    level      from    what is given up
    CALM        0 %    nothing
    SAVING     85 %    keep-alive: every answer says close; the pools of idle connections to endpoints shrink
    CLOSING    92 %    idle client connections are closed, a few hundred each tick
    SHEDDING   95 %    new requests get a short 503 (``overloaded``); those under way go on
    REFUSING   98 %    new connections are reset before anything is made for them

A level is taken at once, however many are skipped. It is left when the use has been RELIEF below where it begins, and
not before DWELL seconds: so the way back from the worst to CALM takes four seconds, and a use that swings around a
threshold does not make the router swing.

Time is another matter: a loop that is late gets nothing for killing what it has begun, and a request that is refused
has cost half of what its answer would have. The queue in front of the loop is bounded already, by the number of
connections (each waits for one answer), so a late loop alone refuses nobody until the wait itself is the damage:
beyond LATE, a share of the new requests that grows and shrinks with every tick, never more than MOST_SHED of them.
One long stall changes nothing: the median of the last ticks counts.

What must not enter: clocks, files, connections; who acts on a level is ``core``.
"""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["DWELL", "LATE", "MOST_SHED", "RELIEF", "THRESHOLDS", "Level", "Overload"]


class Level(enum.IntEnum):
    """How much is given up for want of memory; each level includes those below it."""

    CALM = 0
    SAVING = 1
    CLOSING = 2
    SHEDDING = 3
    REFUSING = 4


THRESHOLDS: Final = {Level.SAVING: 0.85, Level.CLOSING: 0.92, Level.SHEDDING: 0.95, Level.REFUSING: 0.98}
"""Share of the memory limit from which a level is in force (hardening R-31)."""
RELIEF: Final = 0.03
"""How far below its threshold the use must be for a level to be left."""
DWELL: Final = 1.0
"""Seconds that a level lasts at least."""

LATE: Final = 0.2
"""Seconds by which the loop may be late. A request waits for about two turns of the loop, of which each is twice as
long as the median tick is late: 0.8 s (hardening R-32 wants accepted requests within a second)."""
MOST_SHED: Final = 0.75
"""Share of requests that are refused at most because the loop is late."""
_STEP: Final = 0.05
_REMEMBERED: Final = 5


class Overload:
    """How hard the times are."""

    __slots__ = ("_debt", "_lags", "_since", "level", "shed_share")

    def __init__(self) -> None:
        self.level = Level.CALM
        self.shed_share = 0.0
        """Share of new requests that are refused because the loop is late."""
        self._since = 0.0
        self._lags = [0.0] * _REMEMBERED
        self._debt = 0.0

    def observe(self, used: float, lag: float, now: float) -> Level:
        """Take one reading: the share of the memory limit in use, the seconds by which the loop was late, the time.

        Returns the level before it, for who wants to know what changed.
        """
        before = self.level
        reached = Level.CALM
        for level, threshold in THRESHOLDS.items():
            if used >= threshold:
                reached = level
        if reached > before:
            self.level, self._since = reached, now
        elif before > Level.CALM and now - self._since >= DWELL and used < THRESHOLDS[before] - RELIEF:
            self.level, self._since = Level(before - 1), now
        self._lags.append(lag)
        del self._lags[0]
        late = sorted(self._lags)[_REMEMBERED // 2]
        if late > LATE:
            self.shed_share = min(self.shed_share + _STEP, MOST_SHED)
        elif late < LATE / 2 and self.shed_share:
            self.shed_share = max(self.shed_share - _STEP, 0.0)
        return before

    def sheds(self) -> bool:
        """Whether the request that has just arrived is to be refused. Spreads the refusals evenly."""
        if self.level >= Level.SHEDDING:
            return True
        self._debt += self.shed_share
        if self._debt < 1.0:
            return False
        self._debt -= 1.0
        return True
