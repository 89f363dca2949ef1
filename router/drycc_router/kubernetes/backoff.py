"""When to ask again after a failure: twice as long each time up to a cap, a little longer by chance, and soon again
after a long healthy time. Chance keeps a hundred replicas from asking in step when a server comes back.

What must not enter: clocks and sleeping.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["BELIEVED", "CAP", "FIRST", "HEALTHY", "MAX_ASKED", "REFUSED_CAP", "Backoff", "Refusals"]

FIRST: Final = 0.5
"""Seconds before the second attempt."""
CAP: Final = 30.0
"""Seconds between two attempts at most (two a minute: hardening R-08)."""
REFUSED_CAP: Final = 120.0
"""Seconds between two attempts at most where the server says that a right is missing: somebody has to grant it."""
BELIEVED: Final = 5.0
"""Seconds for which a server must say 403 before that is believed. For some hundred milliseconds after its own start a
kube-apiserver has not read any Role, and says 403 to everybody; a busy one takes longer."""
HEALTHY: Final = 60.0
"""Seconds without a failure after which all is forgiven (hardening R-05)."""
MAX_ASKED: Final = 60.0
"""Seconds that a server may ask us to wait (``Retry-After``); more would be an outage of its own."""


class Backoff:
    """Delays for one thing that is attempted again and again.

    ``chance`` gives a number from 0 to 1; ``cap`` and ``first``: seconds.
    """

    __slots__ = ("_cap", "_chance", "_failed_at", "_first", "_next")

    def __init__(self, chance: Callable[[], float], cap: float = CAP, first: float = FIRST) -> None:
        self._chance = chance
        self._cap = cap
        self._first = first
        self._next = first
        self._failed_at = float("-inf")

    def failed(self, now: float, asked: float = 0.0) -> float:
        """Note a failure at ``now`` (monotonic seconds); returns the seconds to wait. ``asked``: what the server asked.

        Chance only ever makes it longer, by at most a quarter: the cap is a promise to the server.
        """
        if now - self._failed_at > HEALTHY:
            self._next = self._first
        delay, self._next = self._next, min(self._next * 2.0, self._cap)
        self._failed_at = now + delay
        return max(delay, min(asked, MAX_ASKED)) * (1.0 + self._chance() / 4.0)


class Refusals:
    """How one thing is refused (403): whether that is believed, and when to ask again.

    Within the first :data:`BELIEVED` seconds it is asked several times, and once at their end, so that nobody waits for
    longer than that; afterwards as seldom as ``cap`` says. ``chance``: see :class:`Backoff`.
    """

    __slots__ = ("_backoff", "_since")

    def __init__(self, chance: Callable[[], float], cap: float = REFUSED_CAP) -> None:
        self._backoff = Backoff(chance, cap)
        self._since: float | None = None

    def refused(self, now: float, asked: float = 0.0) -> float:
        """Note a refusal at ``now`` (monotonic seconds); returns the seconds to wait. ``asked``: to wait at least."""
        if self._since is None:
            self._since = now
        left = self._since + BELIEVED - now
        delay = self._backoff.failed(now)
        return max(min(delay, left) if left > 0.0 else delay, min(asked, MAX_ASKED))

    def is_believed(self, now: float) -> bool:
        """Whether it has been refused for long enough."""
        return self._since is not None and now - self._since >= BELIEVED

    def over(self) -> None:
        """It is not refused any more."""
        self._since = None
