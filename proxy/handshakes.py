"""TLS handshakes that are not done: bounded in number, and in how long they hold up everybody else.

A handshake costs ten times as much as a request, and whoever sends hellos has no such cost. So those that are ready in
the same turn of the loop get a few milliseconds of it, and the rest waits for the next turn, in order of arrival: what
is established is served in between. And as each holds tens of kilobytes until it is done, there are never more than
``MAX_PENDING``: beyond that the one that has waited longest is given up, since a client in earnest is done within a
second and a slow attacker's is the oldest (hardening S-04, T-11).

What must not enter: TLS itself (``tls_channel``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from proxy.clock import now

__all__ = ["A_TURN", "MAX_PENDING", "Handshakes"]

MAX_PENDING: Final = 2048
"""Handshakes that may be under way at a time."""
A_TURN: Final = 0.005
"""Seconds of one turn of the loop that handshakes may take before the rest waits for the next."""


class Pending(Protocol):
    """One handshake that is not done."""

    def go_on(self) -> None:
        """Do the next step with what has come. Raises nothing."""

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
        self._pending: dict[Pending, None] = {}
        """In order of their beginning."""
        self._waiting: dict[Pending, None] = {}
        """Those that have something to do and must wait for the next turn."""
        self._spent = 0.0
        self._scheduled = False

    def begin(self, handshake: Pending) -> None:
        """One more is under way."""
        pending = self._pending
        if len(pending) >= MAX_PENDING:
            oldest = next(iter(pending))
            del pending[oldest]
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
            handshake.go_on()
            self._spent += now() - began
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
        while waiting and self._spent < A_TURN:
            first = next(iter(waiting))
            del waiting[first]
            began = now()
            first.go_on()
            self._spent += now() - began
