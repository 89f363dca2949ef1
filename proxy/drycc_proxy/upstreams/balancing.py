"""choose(): two endpoints at random, take the less loaded ("the power of two choices").

It is nearly as even as asking all of them and never herds onto one that has just become free.
What must not enter: connections and their state beyond ``load``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import random
from typing import Final, Protocol, TypeVar

__all__ = ["choose"]


MANY: Final = 64
"""From so many endpoints on nobody looks at all of them."""
_DRAWS: Final = 8


class Loaded(Protocol):
    load: int


E = TypeVar("E", bound=Loaded)


def _load(endpoint: Loaded) -> int:
    return endpoint.load


def choose(endpoints: Sequence[E], tried: Collection[E] = ()) -> E | None:
    """The endpoint to use, or None when there is none left that was not tried."""
    if tried:
        if len(endpoints) > MANY:
            # Chance finds others without a look at every one: less than one in ten draws meets one that was tried.
            drawn = [endpoints[int(random() * len(endpoints))] for _ in range(_DRAWS)]  # noqa: S311 -- spreads load
            fresh = [endpoint for endpoint in drawn if endpoint not in tried]
            if fresh:
                return min(fresh[:2], key=_load)
        endpoints = [endpoint for endpoint in endpoints if endpoint not in tried]
    count = len(endpoints)
    if count < 2:
        return endpoints[0] if count else None
    # Balance needs no secrecy: the plain generator is the fast one. One draw decides on both.
    first, second = divmod(int(random() * (count * (count - 1))), count - 1)  # noqa: S311 -- spreads load, keeps no secret
    if second >= first:
        second += 1
    one, other = endpoints[first], endpoints[second]
    return one if one.load <= other.load else other
