"""A mistake of ours, met while serving: it costs one connection at most, and is told (hardening R-37).

The loop hands each event to one callback. What that raises would be the loop's to deal with, and the loop knows nothing
of exchanges: a client could be left without an answer and without a deadline, a place or a pool's connection without an
owner. So the outermost callbacks catch whatever comes out of them (a ``try`` that catches nothing costs nothing), note
it here, and give up what they were doing: an answer ``internal_error`` where none has begun, a reset elsewhere.

What must not enter: what is given up, and how (each connection knows its own).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

__all__ = ["FaultCounters", "attempt", "isolated", "note"]

log = logging.getLogger(__name__)

MOST_PLACES: Final = 256
"""Places in the code that are remembered; beyond it the memory begins anew."""

_seen: dict[tuple[str, int, type], int] = {}
"""Place of a mistake, and its type → how often."""


class FaultCounters(Protocol):
    """Who counts them."""

    faults: dict[str, int]


class _Isolated(Protocol):
    def fault(self, error: Exception) -> None:
        """A callback raised: give up what it was about. Raises nothing."""


P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=_Isolated)


def note(counters: FaultCounters, where: str, error: Exception) -> None:
    """Count a mistake, and log it the first time that it is made in its place, then the 10th, the 100th: one that
    repeats with each request must not become a flood of its own. ``where``: a part of the data plane, one of a few."""
    counters.faults[where] = counters.faults.get(where, 0) + 1
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = (trace.tb_frame.f_code.co_filename, trace.tb_lineno, type(error)) if trace else ("", 0, type(error))
    if len(_seen) >= MOST_PLACES:
        _seen.clear()
    times = _seen[place] = _seen.get(place, 0) + 1
    if str(times).strip("0") == "1":
        log.error("a mistake of the router's own (%s), %d so far in this place", where, times, exc_info=error)


def attempt(counters: FaultCounters, where: str, step: Callable[..., object], *args: Any) -> None:
    """Do one step of giving up; one that fails must not keep the others from being done."""
    try:
        step(*args)
    except Exception as error:
        note(counters, where, error)


def isolated(callback: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R | None]:
    """For an outermost callback: what it raises goes to ``fault`` of its object."""

    def guarded(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return callback(self, *args, **kwargs)
        except Exception as error:
            self.fault(error)
            return None

    functools.update_wrapper(guarded, callback)
    return guarded
