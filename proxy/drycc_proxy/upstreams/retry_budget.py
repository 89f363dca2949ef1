"""How many requests of one app may be sent a second time (hardening M-12): a tenth of its requests, and a few more.

Without a bound, an app that closes connections under load would get every request twice, just when it can bear that
least. Only what is *sent* again counts: looking for another endpoint after a failed connect costs no app anything, and
is bounded by itself (three endpoints per request).

Nothing is counted per request: what the budget earns is read off the app's counters when a retry is due.

What must not enter: which requests may be retried at all (``http.exchange``), clocks.
"""

from __future__ import annotations

from typing import Final

__all__ = ["FLOOR", "MOST", "SHARE", "RetryBudget"]

SHARE: Final = 0.1
"""Retries earned by each request that was answered."""
FLOOR: Final = 1.0
"""Retries earned by each second, for apps that are asked seldom."""
MOST: Final = 100.0
"""Retries that can be saved up; a new app has a tenth of them. An endpoint that dies takes up to 64 idle connections
along, and each may be met by a request."""


class RetryBudget:
    """One app's."""

    __slots__ = ("_answered", "_at", "_left")

    def __init__(self) -> None:
        self._left = MOST / 10
        self._at = 0.0
        self._answered = 0

    def spend(self, now: float, answered: int) -> bool:
        """Take one retry, if there is one left. ``answered``: the app's requests so far; ``now``: monotonic seconds."""
        if self._at:
            self._left += SHARE * (answered - self._answered) + FLOOR * (now - self._at)
        else:
            self._left += SHARE * answered
        self._left = min(self._left, MOST)
        self._at = now
        self._answered = answered
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
