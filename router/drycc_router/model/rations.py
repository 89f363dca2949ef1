"""How often something may be done: a token bucket, and one for each of many (contract 9: Events are rationed).

What must not enter: clocks and sleeping; the present is handed in.
"""

from __future__ import annotations

from collections.abc import Hashable

__all__ = ["Ration", "Rations"]


class Ration:
    """``burst`` times at once, then once every ``every`` seconds; what is not used adds up to ``burst`` again."""

    __slots__ = ("_at", "_burst", "_every", "_left")

    def __init__(self, burst: int, every: float) -> None:
        self._burst = float(burst)
        self._every = every
        self._left = self._burst
        self._at = 0.0

    def wait(self, now: float) -> float:
        """Seconds (``now`` is monotonic) until the next time; 0: now."""
        if self._left < self._burst:
            self._left = min(self._burst, self._left + max(0.0, now - self._at) / self._every)
        self._at = now
        return 0.0 if self._left >= 1.0 - 1e-9 else (1.0 - self._left) * self._every

    def take(self, now: float) -> None:
        """Do it now; only after ``wait`` said 0."""
        self.wait(now)
        self._left = max(0.0, self._left - 1.0)

    def is_full(self, now: float) -> bool:
        """Whether it remembers nothing."""
        self.wait(now)
        return self._left >= self._burst


class Rations:
    """A :class:`Ration` for each of many; those that remember nothing are forgotten now and then."""

    __slots__ = ("_burst", "_by_whom", "_every", "_tidy_at")

    def __init__(self, burst: int, every: float) -> None:
        self._burst = burst
        self._every = every
        self._by_whom: dict[Hashable, Ration] = {}
        self._tidy_at = 64

    def __len__(self) -> int:
        return len(self._by_whom)

    def wait(self, whose: Hashable, now: float) -> float:
        """As of ``Ration``."""
        ration = self._by_whom.get(whose)
        return ration.wait(now) if ration else 0.0

    def is_full(self, whose: Hashable, now: float) -> bool:
        """As of ``Ration``."""
        ration = self._by_whom.get(whose)
        return ration is None or ration.is_full(now)

    def take(self, whose: Hashable, now: float) -> None:
        """As of ``Ration``."""
        self._by_whom.setdefault(whose, Ration(self._burst, self._every)).take(now)
        if len(self._by_whom) > self._tidy_at:
            self._by_whom = {each: ration for each, ration in self._by_whom.items() if not ration.is_full(now)}
            self._tidy_at = max(64, 2 * len(self._by_whom))
