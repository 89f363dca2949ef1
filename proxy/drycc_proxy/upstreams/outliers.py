"""When an endpoint that cannot be connected to is left out for a while, and for how long (hardening R-22).

Only failed *connects* in a row count, whoever asked for them. An answer that is late, broken or a 5xx does not: clients
can provoke those at will, and would take half of an app off the air by asking for what crashes it. Nor does a port or a
descriptor that the router itself lacks.

::

    in use ── 5 connects failed in a row ──► ejected for 10 s, 20 s, 40 s … 300 s
      ▲                                        │ the time is over: the router connects once, for nobody
      └──── it connects: back, the connection is kept ────┴── it does not: ejected again, for twice as long

No request pays for finding out whether it is back, and it comes back to a share of the load, not to all of what waits:
the balancer takes one of two chosen by chance. Never more than half of an app's endpoints are ejected: when most seem
to be gone, the fault may be ours, and who is left would drown.

What must not enter: connections, the wheel, endpoints beyond the few marks kept on each.
"""

from __future__ import annotations

from typing import Final

__all__ = ["FAILURES", "FIRST", "LONGEST", "OutlierState", "may_eject"]

FAILURES: Final = 5
"""Failed connects in a row."""
FIRST: Final = 10.0
"""Seconds of the first time out."""
LONGEST: Final = 300.0
"""Seconds at most; also how long an endpoint must have been back for its next time out to be a first one."""


def may_eject(ejected: int, endpoints: int) -> bool:
    """Whether one more of an app's endpoints may be left out: half of them at most."""
    return (ejected + 1) * 2 <= endpoints


class OutlierState:
    """What is remembered of how connecting to one endpoint went."""

    __slots__ = ("ejected", "failures", "returned_at", "spell")

    def __init__(self) -> None:
        self.ejected = False
        self.failures = 0
        """Failed connects since the last good one."""
        self.spell = 0.0
        """Seconds of the last time out; 0: there was none."""
        self.returned_at = 0.0

    def failed(self) -> bool:
        """A connect failed. Whether that was one too many."""
        self.failures += 1
        return self.failures >= FAILURES

    def eject(self, now: float) -> float:
        """Leave it out. Returns until when (monotonic seconds)."""
        if not self.spell or (not self.ejected and now - self.returned_at > LONGEST):
            self.spell = FIRST
        else:
            self.spell = min(2 * self.spell, LONGEST)
        self.ejected = True
        return now + self.spell

    def reached(self, now: float) -> None:
        """A connection was made."""
        self.failures = 0
        if self.ejected:
            self.ejected = False
            self.returned_at = now
