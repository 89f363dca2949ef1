"""What all manifest files together give, and what changed since somebody last asked.

An object that stands in two files is taken from the first by path; the other file is told, and takes over when the
first lets go. A file of which a part cannot be read keeps giving what it gave before: half a file never takes an app
off the air.

What must not enter: files, clocks, and what an object means.
"""

from __future__ import annotations

from collections.abc import Mapping

from router.objects import Change, ObjectKey
from router.problems import Problem, Reason, shorten
from router.sources.batch import Batch
from router.sources.contents import Contents, RawObject

__all__ = ["Shelf"]


class Shelf:
    """Objects by the file that gives them. Files are named by their path below the directory, with ``/``."""

    __slots__ = ("_duplicates", "_files", "_given", "_givers", "_touched", "_unsaid")

    def __init__(self) -> None:
        self._files: dict[str, Contents] = {}
        self._givers: dict[ObjectKey, set[str]] = {}
        self._given: dict[ObjectKey, RawObject] = {}
        """What the outside has been told, by :meth:`settle`."""
        self._duplicates: set[ObjectKey] = set()
        """Keys for which a Problem is told."""
        self._touched: set[ObjectKey] = set()
        self._unsaid: dict[str, tuple[Problem, ...]] = {}

    @property
    def files(self) -> frozenset[str]:
        """The files that have given something, or failed to."""
        return frozenset(self._files)

    def put(self, file: str, contents: Contents) -> None:
        """``file`` says this now."""
        before = self._files.get(file, Contents())
        objects = contents.objects if contents.whole else {**before.objects, **contents.objects}
        self._replace(file, before.objects, objects)
        self._files[file] = Contents(objects, contents.problems, contents.whole)
        if contents.problems != before.problems:
            self._unsaid[f"file:{file}"] = contents.problems

    def drop(self, file: str) -> None:
        """``file`` is gone, and with it everything it gave."""
        before = self._files.pop(file, None)
        if before is None:
            return
        self._replace(file, before.objects, {})
        if before.problems:
            self._unsaid[f"file:{file}"] = ()

    def settle(self) -> Batch:
        """Everything that changed since the last call, each object once."""
        changes = []
        for key in sorted(self._touched):
            givers = sorted(self._givers.get(key, ()))
            now = self._files[givers[0]].objects[key] if givers else None
            if now != self._given.get(key):
                changes.append(Change(key, now))
            if now is None:
                self._given.pop(key, None)
            else:
                self._given[key] = now
            if len(givers) > 1 or key in self._duplicates:
                self._unsaid[f"object:{key}"] = tuple(_duplicate(key, loser, givers[0]) for loser in givers[1:])
                (self._duplicates.add if len(givers) > 1 else self._duplicates.discard)(key)
        batch = Batch(tuple(changes), self._unsaid)
        self._touched, self._unsaid = set(), {}
        return batch

    def _replace(self, file: str, before: Mapping[ObjectKey, RawObject], now: Mapping[ObjectKey, RawObject]) -> None:
        for key in before.keys() - now.keys():
            self._givers[key].discard(file)
            if not self._givers[key]:
                del self._givers[key]
            self._touched.add(key)
        for key, raw in now.items():
            if before.get(key) != raw:
                self._givers.setdefault(key, set()).add(file)
                self._touched.add(key)


def _duplicate(key: ObjectKey, loser: str, winner: str) -> Problem:
    message = f"stands in {shorten(winner, 200)} too, which comes first and counts; this one is ignored"
    return Problem(Reason.DUPLICATE_OBJECT, key, "", shorten(loser), message)
