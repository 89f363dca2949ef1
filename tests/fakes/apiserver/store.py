"""What the fake's etcd and watch cache are: objects, one counter of versions, and a bounded past.

It keeps the promises of "Resource versions" and "Efficient detection of changes" in the Kubernetes API concepts:

- one resource version for everything, which grows with every write and never goes back;
- a list is the state at exactly one version, also over several pages ("Retrieving large results sets in chunks");
- a watch from a version tells everything after it, once and in order, or says 410 when that past is gone;
- a write that changes nothing is no write: no version, no event.

Pure and synchronous: no sockets, no rights, no faults. Versions of objects are text in documents and numbers here.
"""

from __future__ import annotations

import json
import uuid
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.fakes.apiserver.kinds import NAMESPACES, Kind
from tests.fakes.apiserver.refusals import already_exists, bad_request, conflict, expired, invalid, not_found
from tests.fakes.apiserver.selectors import Requirement

__all__ = ["EVERYTHING", "Document", "Page", "Revision", "Selection", "Store", "Stored"]

Document = dict[str, Any]
Key = tuple[str, str]
"""Namespace and name; objects of the cluster have the empty namespace. Lists come in this order, as etcd's do."""

FORGOTTEN_LIST = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without"
    " the continue parameter, or use the continue token in this response to retrieve the remainder of the results."
    " Continuing with the provided token results in an inconsistent list - objects that were created, modified, or"
    " deleted between the time the first chunk was returned and now may show up in the list."
)
SNAPSHOTS_KEPT = 32
"""How many lists that are being read page by page are remembered; the real server forgets them by time."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One object at one version."""

    kind: Kind
    namespace: str
    name: str
    version: int
    raw: bytes = field(repr=False)
    """JSON as it stands in lists: without ``kind`` and ``apiVersion``. May be a Secret's, so never shown."""
    labels: Mapping[str, str] = field(repr=False)
    fields: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(cls, kind: Kind, document: Document, version: int) -> Stored:
        metadata = {**document["metadata"], "resourceVersion": str(version)}
        bare = {key: value for key, value in document.items() if key not in ("kind", "apiVersion", "metadata")}
        raw = json.dumps({"metadata": metadata, **bare}, separators=(",", ":")).encode()
        labels = metadata.get("labels") or {}
        namespace = metadata.get("namespace", "")
        return cls(kind, namespace, metadata["name"], version, raw, labels, kind.selectable(document))

    @property
    def key(self) -> Key:
        return (self.namespace, self.name)

    @property
    def whole(self) -> bytes:
        """The complete JSON document."""
        return self.kind.head + self.raw[1:]

    @property
    def document(self) -> Document:
        document: Document = json.loads(self.whole)
        return document

    def at(self, version: int) -> Stored:
        """The same object with another version, which is how a watch tells that it is gone."""
        return Stored.of(self.kind, self.document, version)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a kind a list or a watch is about."""

    namespace: str = ""
    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()

    def has(self, stored: Stored) -> bool:
        return (
            (not self.namespace or self.namespace == stored.namespace)
            and all(term.holds(stored.labels) for term in self.labels)
            and all(term.holds(stored.fields) for term in self.fields)
        )


EVERYTHING = Selection()


@dataclass(slots=True)
class Revision:
    """One write: what the object was and what it is; None: it was or is not there."""

    version: int
    old: Stored | None
    new: Stored | None
    _lines: dict[str, bytes] = field(default_factory=dict, repr=False)

    def line(self, selection: Selection) -> bytes | None:
        """What a watch of ``selection`` is told, as a line; None: nothing.

        An object that begins to match is ADDED and one that ceases to match is DELETED, with its last matching state
        and the version of this write: a watcher cannot tell this from birth and death, and need not.
        """
        was = self.old is not None and selection.has(self.old)
        now = self.new is not None and selection.has(self.new)
        if not (was or now):
            return None
        type_ = "DELETED" if not now else "MODIFIED" if was else "ADDED"
        if type_ not in self._lines:
            shown = self.new if now else self.old and self.old.at(self.version)
            assert shown is not None
            self._lines[type_] = watch_line(type_, shown.whole)
        return self._lines[type_]


def watch_line(type_: str, document: bytes) -> bytes:
    """One watch event on its line."""
    return b'{"type":"%b","object":%b}\n' % (type_.encode(), document)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, all of it at ``version``."""

    version: int
    items: tuple[Stored, ...]
    rest: int
    """How many objects follow; 0: this was the last page."""
    following: str = ""
    """The last key of this page as ``namespace/name``, after which the next one starts."""


Listener = Callable[[Revision], None]


class Store:
    """Objects by kind and key, with the writes that the API offers and the past that watches need.

    ``history`` bounds how many writes of a kind are remembered. ``now`` is the server's clock.
    """

    def __init__(self, *, history: int = 20_000, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.version = 1
        self._history = history
        self._now = now
        self._objects: dict[Kind, dict[Key, Stored]] = defaultdict(dict)
        self._past: dict[Kind, list[Revision]] = defaultdict(list)
        self._forgotten: dict[Kind, int] = defaultdict(int)
        """Kind → version up to which its past is gone."""
        self._listeners: dict[Kind, list[Listener]] = defaultdict(list)
        self._snapshots: dict[tuple[Kind, int], tuple[Stored, ...]] = {}
        self._expired = 0
        """Version up to which no list that has begun can be continued."""
        for name in ("default", "kube-system"):
            self.put(NAMESPACES, {"metadata": {"name": name}})

    # Reading

    def get(self, kind: Kind, namespace: str, name: str) -> Stored:
        """One object.

        Raises:
            Refused: 404.
        """
        try:
            return self._objects[kind][(namespace, name)]
        except KeyError:
            raise not_found(kind, name) from None

    def count(self, kind: Kind) -> int:
        return len(self._objects[kind])

    def selected(self, kind: Kind, selection: Selection = EVERYTHING) -> tuple[Stored, ...]:
        """What is selected now, in the order of keys."""
        objects = self._objects[kind]
        return tuple(stored for key in sorted(objects) if selection.has(stored := objects[key]))

    def page(
        self, kind: Kind, selection: Selection, limit: int = 0, version: int | None = None, after: str = ""
    ) -> Page:
        """At most ``limit`` objects (0: all) that follow the key ``after``.

        ``version`` asks for the state at exactly that version: the current one, or the one of a list whose first
        page was read before.

        Raises:
            Refused: 410, this state is no longer known.
        """
        wanted = version
        version = self.version if version is None else version
        snapshot = self._snapshots.get((kind, version))
        if snapshot is None:
            if version != self.version or (wanted is not None and version <= self._expired):
                raise expired(FORGOTTEN_LIST)
            objects = self._objects[kind]
            snapshot = tuple(objects[key] for key in sorted(objects))
        start = bisect_right(snapshot, tuple(after.split("/", 1)), key=lambda stored: stored.key) if after else 0
        selected = [stored for stored in snapshot[start:] if selection.has(stored)]
        if not limit or len(selected) <= limit:
            return Page(version, tuple(selected), 0)
        self._snapshots[(kind, version)] = snapshot
        while len(self._snapshots) > SNAPSHOTS_KEPT:
            del self._snapshots[next(iter(self._snapshots))]
        items = tuple(selected[:limit])
        return Page(version, items, len(selected) - limit, "/".join(items[-1].key))

    def since(self, kind: Kind, version: int) -> list[Revision]:
        """Every write of ``kind`` after ``version``.

        Raises:
            Refused: 410, that past is gone.
        """
        if version < self._forgotten[kind]:
            raise expired(f"too old resource version: {version} ({self._forgotten[kind]})")
        past = self._past[kind]
        return past[bisect_right(past, version, key=lambda revision: revision.version) :]

    def listen(self, kind: Kind, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` within every write of ``kind`` from now on; the result ends it."""
        self._listeners[kind].append(listener)
        return lambda: self._listeners[kind].remove(listener)

    # Writing

    def create(self, kind: Kind, document: Document) -> Stored:
        """A new object, with ``uid``, ``creationTimestamp`` and, where the kind has one, ``generation``.

        Raises:
            Refused: 404, there is no such namespace; 409, there is such an object.
        """
        return self._create(kind, document, None)

    def _create(self, kind: Kind, document: Document, when: str | None) -> Stored:
        metadata = document["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        if kind.namespaced and ("", key[0]) not in self._objects[NAMESPACES]:
            raise not_found(NAMESPACES, key[0])
        if key in self._objects[kind]:
            raise already_exists(kind, key[1])
        born = {
            "uid": str(uuid.uuid4()),
            "creationTimestamp": when or self._now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            **({"generation": 1} if kind.counts_generations else {}),
        }
        return self._write(kind, key, {**document, "metadata": {**metadata, **born}})

    def update(self, kind: Kind, document: Document) -> Stored:
        """Replace an object; ``metadata.resourceVersion``, where it stands, has to be the stored one.

        Raises:
            Refused: 404; 409, somebody wrote in between or it is another object by ``uid``; 422, a version is wanted.
        """
        metadata = document["metadata"]
        old = self.get(kind, metadata.get("namespace", ""), metadata["name"])
        before = old.document
        told = metadata.get("resourceVersion")
        if not told and not kind.blind_updates:
            complaint = "Invalid value: 0: must be specified for an update"
            raise invalid(kind, old.name, [("metadata.resourceVersion", complaint)], kind.qualified)
        if told and told != str(old.version):
            raise conflict(kind, old.name)
        uid = before["metadata"]["uid"]
        if metadata.get("uid", uid) != uid:
            why = f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {uid}"
            raise conflict(kind, old.name, why)
        kept = {
            key: before["metadata"][key]
            for key in ("uid", "creationTimestamp", "generation")
            if key in before["metadata"]
        }
        after: Document = {**document, "metadata": {**metadata, **kept, "resourceVersion": str(old.version)}}
        after.update(kind=kind.name, apiVersion=kind.api_version)
        if after == before:
            return old
        if kind.counts_generations and _desired(after) != _desired(before):
            after["metadata"]["generation"] += 1
        return self._write(kind, old.key, after)

    def delete(self, kind: Kind, namespace: str, name: str, preconditions: Mapping[str, str] | None = None) -> Stored:
        """Remove an object, and with a Namespace everything in it; the result is its last state.

        Raises:
            Refused: 404; 409, a precondition (``uid``, ``resourceVersion``) does not hold.
        """
        old = self.get(kind, namespace, name)
        metadata = old.document["metadata"]
        for what, wanted in (preconditions or {}).items():
            if metadata.get(what) != wanted:
                raise conflict(kind, name, f"Precondition failed: {what} is {metadata.get(what)}, not {wanted}")
        if kind == NAMESPACES:
            for inner, objects in self._objects.items():
                for key in [key for key in objects if inner.namespaced and key[0] == name]:
                    self._remove(inner, key)
        self._remove(kind, old.key)
        return old

    def put(self, kind: Kind, document: Document) -> Stored:
        """Make it so, for tests: create or replace without asking, together with its namespace.

        A ``creationTimestamp`` in the document is believed, which the API would not do.
        """
        metadata = document["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        if bool(namespace) is not kind.namespaced:
            raise bad_request(f"{kind.name} {name}: namespace {namespace!r} does not fit its kind")
        if namespace and ("", namespace) not in self._objects[NAMESPACES]:
            self.put(NAMESPACES, {"metadata": {"name": namespace}})
        whole = {**document, "metadata": {key: metadata[key] for key in metadata if key != "resourceVersion"}}
        if (namespace, name) in self._objects[kind]:
            known = str(self._objects[kind][(namespace, name)].version)
            return self.update(kind, {**whole, "metadata": {**whole["metadata"], "resourceVersion": known}})
        return self._create(kind, whole, metadata.get("creationTimestamp"))

    # Forgetting

    def compact(self) -> None:
        """Forget the past: every watch from an older version than the current one is told 410."""
        for kind in self._objects:
            self._past[kind].clear()
            self._forgotten[kind] = self.version

    def expire_pages(self) -> None:
        """Forget the lists that are being read page by page: their next page is told 410."""
        self._snapshots.clear()
        self._expired = self.version

    def _write(self, kind: Kind, key: Key, document: Document) -> Stored:
        """The one place where an object comes or changes."""
        stored = Stored.of(kind, document, self.version + 1)
        old = self._objects[kind].get(key)
        self._objects[kind][key] = stored
        self._tell(kind, old, stored)
        return stored

    def _remove(self, kind: Kind, key: Key) -> None:
        """The one place where an object goes."""
        self._tell(kind, self._objects[kind].pop(key), None)

    def _tell(self, kind: Kind, old: Stored | None, new: Stored | None) -> None:
        self.version += 1
        revision = Revision(self.version, old, new)
        past = self._past[kind]
        past.append(revision)
        if len(past) > 2 * self._history:
            self._forgotten[kind] = past[-self._history - 1].version
            del past[: -self._history]
        for listener in self._listeners[kind]:
            listener(revision)


def _desired(document: Document) -> Document:
    """What ``metadata.generation`` counts: the desired state, whatever its fields are called."""
    return {key: value for key, value in document.items() if key not in ("metadata", "status")}
