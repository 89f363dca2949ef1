"""TLS handshakes that are not done: bounded in number, and in how long they hold up everybody else.

A handshake costs ten times as much as a request, and whoever sends hellos has no such cost. So those that are ready in
the same turn of the loop get a few milliseconds of it, and the rest waits for the next turn, in order of arrival: what
is established is served in between. And as each holds tens of kilobytes until it is done, there are never more than
``MAX_PENDING``: beyond that the one that has waited longest is given up, since a client in earnest is done within a
second and a slow attacker's is the oldest (hardening S-04, T-11).

What must not enter: TLS itself (``tls_channel``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from drycc_proxy.kernel.clock import now

__all__ = ["A_TURN", "MAX_PENDING", "Handshakes"]

MAX_PENDING: Final = 2048
"""Handshakes that may be under way at a time."""
MOST_PARTS: Final = 2
"""Steps in one turn of the loop after which their handshake has more to be done at once: only a peer that cuts what it
says into thousands of records makes such."""
A_TURN: Final = 0.005
"""Seconds of one turn of the loop that handshakes may take before the rest waits for the next."""


class Pending(Protocol):
    """One handshake that is not done."""

    def go_on(self) -> bool:
        """Do the next step with what has come; whether there is another one to be done at once. Raises nothing."""

    def give_up(self) -> None:
        """There is no room."""


class HandshakeEvents(Protocol):
    """Who counts them."""

    tls_pending: int
    tls_given_up: int


class Handshakes:
    """One per data plane."""

    __slots__ = ("_events", "_next_turn", "_pending", "_scheduled", "_spent", "_waiting")

    def __init__(self, next_turn: Callable[[Callable[[], None]], None], events: HandshakeEvents) -> None:
        """``next_turn``: of the loop's wheel."""
        self._next_turn = next_turn
        self._events = events
        self._pending: OrderedDict[Pending, None] = OrderedDict()
        """In order of their beginning. A plain dict would look at every place that was vacated to find its first."""
        self._waiting: OrderedDict[Pending, None] = OrderedDict()
        """Those that have something to do and must wait for the next turn."""
        self._spent = 0.0
        self._scheduled = False

    def begin(self, handshake: Pending) -> None:
        """One more is under way."""
        pending = self._pending
        if len(pending) >= MAX_PENDING:
            oldest, _ = pending.popitem(last=False)
            self._events.tls_given_up += 1
            oldest.give_up()
        pending[handshake] = None
        self._events.tls_pending = len(pending)

    def end(self, handshake: Pending) -> None:
        """It is done, or nothing will come of it."""
        if self._pending.pop(handshake, self) is None:
            self._events.tls_pending = len(self._pending)

    def step(self, handshake: Pending) -> None:
        """Something has come for it: go on with it now, or in the next turn of the loop."""
        # What earlier turns took counts too until somebody has to wait: so nothing is asked of the loop with every
        # handshake, and one in some ten waits for a turn that comes at once.
        if self._spent < A_TURN and not self._waiting:
            began = now()
            more = handshake.go_on()
            self._spent += now() - began
            if not more:
                return
        self._waiting[handshake] = None
        if not self._scheduled:
            self._scheduled = True
            self._next_turn(self._turn)

    def _turn(self) -> None:
        """A new turn of the loop."""
        self._spent = 0.0
        waiting = self._waiting
        self._scheduled = bool(waiting)
        if waiting:
            self._next_turn(self._turn)
        parts = MOST_PARTS
        while waiting and parts and self._spent < A_TURN:
            first, _ = waiting.popitem(last=False)
            began = now()
            if first.go_on():
                waiting[first] = None
                parts -= 1
            self._spent += now() - began
