"""Who is asked for next: each owner in turn, and none more than its share, so that nobody keeps the others waiting.

At first nobody is held back. Once rationed, of one owner :data:`BURST` things may be taken out at once, and
:data:`RATE` a second on the long run; what is beyond that waits, and only what is its own. So a tenant that renames its
Secrets ten times a second costs itself its turn, and nobody else.

What must not enter: clocks, waiting, and what it is that is asked for.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from drycc_router.model.quotas import CERTIFICATES

__all__ = ["BURST", "RATE", "FairQueue"]

T = TypeVar("T", bound=Hashable)

BURST: Final = 3 * CERTIFICATES
"""Things of one owner that may be taken out at once: each certificate it may have, by each of its three names."""
RATE: Final = 20.0
"""And per second afterwards."""

_AHEAD: Final = BURST / RATE
_FORGET: Final = 1000
"""Owners with spent shares from which on it is looked for those whose share is whole again."""


class FairQueue(Generic[T]):
    """Things that wait, each once, by their owner. ``now`` in seconds of any clock that only goes forward."""

    __slots__ = ("_is_rationed", "_queues", "_spent")

    def __init__(self) -> None:
        self._queues: dict[str, dict[T, None]] = {}
        """Owner → its things in order; the owner whose turn it is first."""
        self._spent: dict[str, float] = {}
        """Owner → when all it took would have been earned at the rate; past or absent: its share is whole."""
        self._is_rationed = False

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def ration(self) -> None:
        """From now on nobody gets more than a share."""
        self._is_rationed = True

    def put(self, thing: T, owner: str) -> None:
        """Behind what else the owner has, unless it waits already."""
        self._queues.setdefault(owner, {}).setdefault(thing)

    def take(self, now: float) -> T | None:
        """The next thing; None: there is none that may be taken now."""
        for owner in self._queues:
            if self._held(owner, now) <= 0.0:
                return self._taken(owner, now)
        return None

    def wait(self, now: float) -> float | None:
        """Seconds until something may be taken; None: there is nothing."""
        least: float | None = None
        for owner in self._queues:
            held = self._held(owner, now)
            if held <= 0.0:  # as a rule the first one
                return 0.0
            least = held if least is None else min(least, held)
        return least

    def _held(self, owner: str, now: float) -> float:
        """Seconds for which an owner is held back; not positive: it is not."""
        return self._spent.get(owner, now) + 1.0 / RATE - _AHEAD - now if self._is_rationed else 0.0

    def _taken(self, owner: str, now: float) -> T:
        queue = self._queues.pop(owner)
        thing = next(iter(queue))
        del queue[thing]
        if queue:
            self._queues[owner] = queue  # behind the others
        if self._is_rationed:
            self._spent[owner] = max(self._spent.get(owner, now), now) + 1.0 / RATE
            if len(self._spent) > _FORGET:
                self._spent = {name: until for name, until in self._spent.items() if until > now}
        return thing
