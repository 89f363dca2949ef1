"""Whose changes are compiled next: a share of each namespace, so that nobody waits for all that one owner changes.

Changes wait by namespace. A round takes as many as are compiled in some ten milliseconds: of each namespace in turn a
small part of that, beginning with those of which nothing waited (deficit round robin, as schedulers of packets do it,
RFC 8290 section 4). What remains waits for the next round, which follows at once. So a namespace that changes little
waits for one round at most, however much another one changes; and where one alone changes, it has the whole round.

Of one namespace the order is kept. What the operator writes is never divided.

What must not enter: clocks, threads, and what a change means.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from drycc_router.claims.unsynced import UNHEARD
from drycc_router.model.objects import Change, ObjectKey

__all__ = ["QUANTUM", "ROUND", "Turns", "weight"]

ROUND: Final = 2_500
"""What a round takes, in units of :func:`weight`; one change more than that where it is larger."""
QUANTUM: Final = 250
"""What a namespace gets when its turn comes."""

_OBJECT: Final = 2
_GONE: Final = 20
"""For what a Service that goes held: others may take over."""
_SMALL: Final = 4
"""Ports, and addresses of an endpoint beyond its first, for one unit: they are read, and few of them are judged."""
_LETTERS: Final = 4
"""Letters of annotations for one unit: a name in ``domains`` costs as much as some endpoints."""


class Turns:
    """Changes that wait. One writer. ``exempt``: namespaces whose changes are all taken in the next round."""

    __slots__ = ("_credit", "_exempt", "_order", "_undivided", "_waiting")

    def __init__(self, exempt: Callable[[str], bool]) -> None:
        self._exempt = exempt
        self._undivided: list[Change] = []
        self._waiting: dict[str, dict[ObjectKey, Change]] = {}
        """Namespace → what waits, each object once."""
        self._order: deque[str] = deque()
        """The same namespaces; the one whose turn it is first."""
        self._credit: dict[str, int] = {}
        """Namespace → what it got and did not use: a change may be larger than a quantum."""

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._undivided or self._waiting)

    def __repr__(self) -> str:
        return f"<Turns: {sum(map(len, self._waiting.values()))} changes of {len(self._waiting)} namespaces>"

    def put(self, changes: Iterable[Change]) -> None:
        """Let changes wait. Of one object only the last counts; it has the place of the one that waited."""
        for change in changes:
            namespace = change.key.namespace
            if self._exempt(namespace):
                self._undivided.append(change)
                continue
            waiting = self._waiting.get(namespace)
            if waiting is None:
                waiting = self._waiting[namespace] = {}
                self._order.appendleft(namespace)
            if change.key.kind == UNHEARD:  # says something about all that was told before
                waiting.pop(change.key, None)
            waiting[change.key] = change

    def take(self) -> list[Change]:
        """The next round."""
        taken, self._undivided = self._undivided, []
        left = ROUND
        while self._order and left > 0:
            namespace = self._order.popleft()
            waiting = self._waiting[namespace]
            credit = self._credit.pop(namespace, 0) + QUANTUM
            while waiting and left > 0:
                key = next(iter(waiting))
                cost = weight(waiting[key])
                if cost > credit:
                    break
                credit -= cost
                left -= cost
                taken.append(waiting.pop(key))
            if waiting:
                self._credit[namespace] = credit
                self._order.append(namespace)
            else:
                del self._waiting[namespace]
        return taken


def weight(change: Change) -> int:
    """About how much work a change is; one unit is that of an endpoint, half a thousand instructions."""
    raw = change.object
    if raw is None:
        return _GONE
    endpoints = raw.get("endpoints")
    if isinstance(endpoints, list):
        addresses = sum(_count(each, "addresses") for each in endpoints)
        return _OBJECT + len(endpoints) + (max(0, addresses - len(endpoints)) + _count(raw, "ports")) // _SMALL
    ports = _count(raw.get("spec"), "ports") // _SMALL
    metadata = raw.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    if not isinstance(annotations, dict):
        return _OBJECT + ports
    return _OBJECT + ports + sum(len(text) for text in annotations.values() if isinstance(text, str)) // _LETTERS


def _count(raw: object, name: str) -> int:
    """Elements of a list in something that the API server said, which may have any shape."""
    value = raw.get(name) if isinstance(raw, dict) else None
    return len(value) if isinstance(value, list) else 0
