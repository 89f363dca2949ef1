"""Services that were made just now, held back until the cluster has said where they are.

A Service and its slices come over two watches, and the controller that makes slices needs a moment of its own. Who
published the Service first would answer 503 for an app that is there, between the 404 of before and the 200 of after
(hardening R-03). So a Service that comes while traffic flows waits for its first slice, and no longer than
:data:`GRACE`: one that never gets any says 503, as it should.

What must not enter: clocks, and what an object means.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from drycc_router.model.objects import Change, ObjectKey

__all__ = ["GRACE", "Newcomers"]

GRACE: Final = 1.0
"""Seconds for which a Service waits for its first slice."""

_OWNED_BY: Final = "kubernetes.io/service-name"


class Newcomers:
    """What waits. Whose grace is over is the caller's to know."""

    __slots__ = ("_held", "_owners", "_slices")

    def __init__(self) -> None:
        self._held: dict[ObjectKey, Change] = {}
        self._owners: dict[ObjectKey, ObjectKey] = {}
        """Slice → the Service it says it belongs to."""
        self._slices: Counter[ObjectKey] = Counter()
        """Service → slices, of those that have some."""

    def __len__(self) -> int:
        return len(self._held)

    def holds(self, change: Change, *, is_new: bool) -> bool:
        """Whether a Service has to wait; of one that waits already this is the newest version. One that goes may go."""
        key = change.key
        if change.object is None:
            self._held.pop(key, None)
            return False
        if key in self._held or (is_new and not self._slices[key]):
            self._held[key] = change
            return True
        return False

    def hear(self, change: Change) -> Change | None:
        """Note what is said of a slice. Returns the Service that waited for it."""
        before = self._owners.pop(change.key, None)
        if before is not None:
            self._slices[before] -= 1
            if not self._slices[before]:
                del self._slices[before]
        owner = _owner(change)
        if owner is None:
            return None
        self._owners[change.key] = owner
        self._slices[owner] += 1
        return self._held.pop(owner, None)

    def of(self, namespace: str) -> list[ObjectKey]:
        """The Services of a namespace that wait."""
        return [key for key in self._held if key.namespace == namespace]

    def release(self, key: ObjectKey) -> Change | None:
        """A Service that has waited long enough; None: it does not wait any more."""
        return self._held.pop(key, None)


def _owner(change: Change) -> ObjectKey | None:
    """The Service of a slice that is there. Slices with a strange shape belong to nobody here; others will say so."""
    metadata = change.object.get("metadata") if change.object is not None else None
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    name = labels.get(_OWNED_BY) if isinstance(labels, dict) else None
    return ObjectKey("Service", change.key.namespace, name) if isinstance(name, str) and name else None
