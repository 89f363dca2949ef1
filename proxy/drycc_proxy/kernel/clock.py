"""One clock and one deadline wheel for every connection; one Date for every answer of our own.

A timer handle per request costs more than parsing the request. Here a thing that can be late has a ``deadline``
attribute; moving it further away is one assignment, because the wheel looks at each thing at least once per HORIZON
and re-files it then. Only a deadline *nearer* than HORIZON must be filed with :meth:`Wheel.arm`.

This is the only module under ``proxy/`` (beside the listener) that reads a clock: the core is *handed* times.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from typing import Final, Protocol

from drycc_proxy.kernel.kernel_timer import Alarm

__all__ = ["FAR", "HORIZON", "TICK", "Timed", "Wheel", "http_date", "now", "wall"]

log = logging.getLogger(__name__)

now = time.monotonic
"""Seconds on a clock that never goes back; every deadline and duration is taken from it."""

wall = time.time
"""Seconds since the epoch, for log lines and ``X-Request-Start`` only."""

TICK: Final = 0.1
"""Seconds between two looks: how late a deadline can be noticed."""
_SLOTS: Final = 64
HORIZON: Final = (_SLOTS - 4) * TICK
"""Deadlines at least this far away may be set by assignment alone."""
AGAIN: Final = 1.0
"""Seconds until what was overdue and failed at that is told so again."""
A_TURN: Final = 0.001
"""Seconds that those who wait for their turn have of one turn of the loop; the rest of them waits for the next one."""
MOST_LOOKED_AT: Final = 1024
"""Things that are looked at in one turn of the loop."""
_OVERDUE: Final = 32
"""For how many of them one counts that is overdue: what is done about it costs as much."""
FAR: Final = float("inf")
"""The deadline of what nothing waits for."""


class Timed(Protocol):
    """What can be late. ``slot`` belongs to the wheel: 0 not filed, negative: never look again (closed)."""

    deadline: float
    slot: int

    def overdue(self, now: float) -> None:
        """The deadline has passed. Set a new one, or close."""


class Wheel:
    """Files what can be late by the tenth of a second in which to look at it."""

    __slots__ = (
        "_alarm",
        "_are_called",
        "_due",
        "_goes_on",
        "_is_turning",
        "_loop",
        "_next",
        "_on_tick",
        "_ring",
        "_tick",
        "_turns",
        "lag",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, on_tick: Callable[[], None] | None = None) -> None:
        self._loop = loop
        self._on_tick = on_tick
        self._ring: list[list[Timed]] = [[] for _ in range(_SLOTS)]
        self._tick = int(now() / TICK)
        self._alarm = Alarm(loop, self._turn)
        self._is_turning = False
        self._turns: deque[Callable[[], None]] = deque()
        """Who waits until everybody else has had a turn."""
        self._are_called = False
        """The loop will call for them."""
        self._due: list[Timed] = []
        """What was filed under the current tick and is not looked at yet, the first one last."""
        self._goes_on = False
        """The next turn goes on with that."""
        self._next = 0.0
        self.lag = 0.0
        """Seconds by which the last turn came too late: how long anything that is ready now waits for the loop."""

    def next_turn(self, callback: Callable[[], None]) -> None:
        """Call back when everybody else on the loop has had a turn. Whoever raises keeps nobody else waiting."""
        self._turns.append(callback)
        if not self._are_called:
            self._are_called = True
            self._loop.call_soon(self._take_turns)

    def _take_turns(self) -> None:
        """Call back those who wait now, as far as there is time; the others come first in the next turn."""
        self._are_called = False
        turns = self._turns
        began = now()
        for _ in range(len(turns)):
            try:
                turns.popleft()()
            except Exception:
                log.exception("somebody's turn came to nothing")
            if now() - began > A_TURN:
                break
        if turns and not self._are_called:
            self._are_called = True
            self._loop.call_soon(self._take_turns)

    def start(self) -> None:
        """Begin to turn."""
        if not self._is_turning:
            self._is_turning = True
            self._alarm.start()
            self._turn_later()

    def stop(self) -> None:
        """Stop turning; nothing is overdue any more."""
        self._is_turning = False
        self._alarm.stop()

    def arm(self, timed: Timed, deadline: float) -> None:
        """Set a deadline that may be near, and file the thing early enough."""
        timed.deadline = deadline
        if timed.slot < 0:
            return
        tick = self._tick
        slot = tick + _SLOTS - 4 if deadline == FAR else min(max(int(deadline / TICK) + 1, tick + 1), tick + _SLOTS - 4)
        if timed.slot <= tick or slot < timed.slot:
            timed.slot = slot
            self._ring[slot % _SLOTS].append(timed)

    def _turn_later(self) -> None:
        self._next = now() + TICK
        self._alarm.set(TICK)

    def _turn(self) -> None:
        moment = now()
        self.lag = max(moment - self._next, 0.0)
        self._turn_later()
        self._go_on(moment)
        if self._on_tick is not None:
            self._on_tick()
        if self._turns:  # a loop that comes to nothing but reading sockets has not called for them yet (``alarm``)
            self._take_turns()

    def _go_on(self, at: float) -> None:
        """Look at as much as one turn of the loop may, and at the rest in the next turns."""
        if self.advance(at, MOST_LOOKED_AT) and not self._goes_on:
            self._goes_on = True
            self.next_turn(self._look_further)

    def _look_further(self) -> None:
        self._goes_on = False
        self._go_on(now())

    def advance(self, at: float, most: int = 1 << 62) -> bool:
        """Look at everything filed up to ``at`` (monotonic seconds), or at ``most`` of it; whether some is left."""
        target = int(at / TICK)
        # After a long stall each slot needs one look, not one per missed tick.
        if target - self._tick > _SLOTS and not self._due:
            self._tick = target - _SLOTS
        while most > 0:
            due = self._due
            if not due:
                if self._tick >= target:
                    return False
                self._tick += 1
                place = self._tick % _SLOTS
                self._due = self._ring[place]
                if self._due:
                    self._ring[place] = []
                    self._due.reverse()
                else:
                    self._due = []  # the ring keeps the empty list
                continue
            timed = due.pop()
            most -= 1
            if timed.slot < 0 or timed.slot > self._tick:
                continue  # closed, or filed again since
            timed.slot = 0
            if timed.deadline <= at:
                most -= _OVERDUE
                try:
                    timed.overdue(at)
                except Exception:
                    # One that fails must not take the others of its tick along: nobody would look at them again.
                    log.exception("what was overdue could not be told so")
                    timed.deadline = at + AGAIN
            if timed.slot == 0:
                self.arm(timed, timed.deadline)
        return True


_date_second = -1
_date = b""


def http_date() -> bytes:
    """Now as an IMF-fixdate (RFC 9110 5.6.7), made once per second."""
    global _date_second, _date
    second = int(wall())
    if second != _date_second:
        _date_second = second
        _date = formatdate(second, usegmt=True).encode("ascii")
    return _date
