"""What all manifest files together give, and what changed since somebody last asked.

An object that stands in two files is taken from the first by path; the other file is told, and takes over when the
first lets go. A file of which a part cannot be read keeps giving what it gave before: half a file never takes an app
off the air. What a file gives only because it was emptied or removed a moment ago is *leaving*: it stays as it was
until whoever watches the files says that the moment is over, unless another file gives the same object, which then
counts.

What must not enter: files, clocks, and what an object means.
"""

from __future__ import annotations

from collections.abc import Mapping

from drycc_router.model.objects import Change, ObjectKey
from drycc_router.model.problems import Problem, Reason, shorten
from drycc_router.sources.batch import Batch
from drycc_router.sources.manifest_objects import Contents, RawObject

__all__ = ["Shelf"]


class Shelf:
    """Objects by the file that gives them. Files are named by their path below the directory, with ``/``."""

    __slots__ = ("_duplicates", "_files", "_given", "_givers", "_leaving", "_touched", "_unsaid")

    def __init__(self) -> None:
        self._files: dict[str, Contents] = {}
        self._givers: dict[ObjectKey, set[str]] = {}
        self._leaving: dict[str, frozenset[ObjectKey]] = {}
        """File → objects that it no longer has, and that stay for a while."""
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
        """``file`` says this now, and nothing else."""
        before = self._files.get(file, Contents())
        objects = contents.objects if contents.whole else {**before.objects, **contents.objects}
        self._hold(file, frozenset())
        self._note(file, before, Contents(objects, contents.problems, contents.whole))

    def put_beside(self, file: str, contents: Contents) -> None:
        """``file`` says this now; what it had before and has no more is leaving, and stays until :meth:`put`."""
        before = self._files.get(file, Contents())
        self._hold(file, frozenset(before.objects.keys() - contents.objects.keys()))
        self._note(file, before, Contents({**before.objects, **contents.objects}, contents.problems, contents.whole))

    def leave(self, file: str) -> None:
        """``file`` is not there; what it gave is leaving, and stays until :meth:`drop`."""
        self._hold(file, frozenset(self._files[file].objects))

    def gives(self, file: str) -> bool:
        """Whether an object comes from ``file``, be it that it is leaving."""
        contents = self._files.get(file)
        return contents is not None and bool(contents.objects)

    def drop(self, file: str) -> None:
        """``file`` is gone, and with it everything it gave."""
        before = self._files.pop(file, None)
        if before is None:
            return
        self._leaving.pop(file, None)
        self._replace(file, before.objects, {})
        if before.problems:
            self._unsaid[f"file:{file}"] = ()

    def settle(self) -> Batch:
        """Everything that changed since the last call, each object once."""
        changes = []
        for key in sorted(self._touched):
            givers = sorted(self._givers.get(key, ()), key=lambda file: (self._is_leaving(key, file), file))
            now = self._files[givers[0]].objects[key] if givers else None
            if now != self._given.get(key):
                changes.append(Change(key, now))
            if now is None:
                self._given.pop(key, None)
            else:
                self._given[key] = now
            losers = [file for file in givers[1:] if not self._is_leaving(key, file)]
            if losers or key in self._duplicates:
                self._unsaid[f"object:{key}"] = tuple(_duplicate(key, loser, givers[0]) for loser in losers)
                (self._duplicates.add if losers else self._duplicates.discard)(key)
        batch = Batch(tuple(changes), self._unsaid)
        self._touched, self._unsaid = set(), {}
        return batch

    def _is_leaving(self, key: ObjectKey, file: str) -> bool:
        return key in self._leaving.get(file, ())

    def _hold(self, file: str, keys: frozenset[ObjectKey]) -> None:
        """Let exactly ``keys`` of ``file`` be leaving."""
        before = self._leaving.pop(file, frozenset())
        if keys:
            self._leaving[file] = keys
        self._touched |= before ^ keys

    def _note(self, file: str, before: Contents, now: Contents) -> None:
        self._replace(file, before.objects, now.objects)
        self._files[file] = now
        if now.problems != before.problems:
            self._unsaid[f"file:{file}"] = now.problems

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
