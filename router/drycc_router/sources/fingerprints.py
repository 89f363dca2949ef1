"""What was seen of one scope of objects: of a list the difference to what was there, of an event whether it matters.

An API server tells of every touch of an object, and most touch nothing that the router reads: fields' managers, status,
other people's annotations. So an object is cut down to what is read (:func:`narrow`), and what is left is compared by
its hash, which costs microseconds and eight bytes where keeping the objects would cost kilobytes.

A list that is suddenly much shorter, without a word about deletions, is more often a server's fault than a massacre:
it is asked for again twice, and obeyed only after that (hardening R-11).

What must not enter: asking, clocks, and what an object means.
"""

from __future__ import annotations

import logging
import marshal
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from drycc_router.model.objects import PREFIXES, Change, ObjectKey

__all__ = ["FEW", "HOLD", "Sights", "key_of", "narrow"]

log = logging.getLogger(__name__)

HOLD: Final = 60.0
"""Seconds for which a list that is suddenly short is not believed."""
ASKED: Final = 2
"""Times that such a list is asked for again within that."""
FEW: Final = 10
"""Objects that may be missing from a list at any time without a doubt."""

Raw = Mapping[str, Any]

_PLAIN: Final = 2
"""Version of the bytes that are hashed: the last one in which they depend on nothing but what is written. They never
leave this process, and are made in a fifth of the time that JSON takes."""

_NEEDED_LABELS: Final = frozenset({"app", "kubernetes.io/service-name"})
_KEPT: Final = ("namespace", "name", "uid", "resourceVersion")
_ANNOTATED: Final = (*_KEPT, "creationTimestamp")
_SPEC: Final = ("type", "clusterIP", "externalIPs", "ports")


class Sights:
    """What is known of one scope. ``kind``: of its objects. ``hold``: seconds, see :data:`HOLD`."""

    __slots__ = ("_asked", "_hold", "_kind", "_known")

    def __init__(self, kind: str, hold: float = HOLD) -> None:
        self._kind = kind
        self._hold = hold
        self._known: dict[ObjectKey, int] = {}
        self._asked = 0

    def __len__(self) -> int:
        return len(self._known)

    @property
    def in_doubt(self) -> bool:
        """Whether the last list was not believed."""
        return self._asked > 0

    def judge(self, items: Iterable[Raw]) -> float:
        """Seconds to wait before such a list is asked for again; 0: it is believed."""
        if len(self._known) <= FEW:
            self._asked = 0
            return 0.0
        missing = len(self._known) - len(self._known.keys() & {key_of(self._kind, raw) for raw in items})
        if missing > FEW and missing * 2 > len(self._known) and self._asked < ASKED:
            self._asked += 1
            return self._hold / ASKED
        self._asked = 0
        return 0.0

    def listed(self, items: Iterable[Raw]) -> list[Change]:
        """What differs in a part of a list (of narrow objects), or in all of one that is not believed."""
        changes = (self.seen("ADDED", raw) for raw in items)
        return [change for change in changes if change is not None]

    def missed(self, items: Iterable[Raw]) -> list[Change]:
        """What is gone according to a complete list, of which all was told as ``listed`` before."""
        missing = self._known.keys() - {key_of(self._kind, raw) for raw in items}
        for key in missing:
            del self._known[key]
        return [Change(key, None) for key in sorted(missing)]

    def seen(self, type: str, raw: Raw) -> Change | None:
        """What an event about a narrow object comes to; None: nothing that is read."""
        try:
            key = key_of(self._kind, raw)
            if key is None:
                return None
            if type == "DELETED":
                return Change(key, None) if self._known.pop(key, None) is not None else None
            return Change(key, raw) if self._differs(key, raw) else None
        except Exception:  # a fault of ours, or nesting deeper than can be followed: about this one object
            log.exception("a %s was passed over", self._kind)
            return None

    def _differs(self, key: ObjectKey, raw: Raw) -> bool:
        """Note what it is now; whether that is something else."""
        now = hash(marshal.dumps({**raw, "metadata": {**raw["metadata"], "resourceVersion": None}}, _PLAIN))
        if self._known.get(key) == now:
            return False
        self._known[key] = now
        return True


def key_of(kind: str, raw: Raw) -> ObjectKey | None:
    """Which object it is; None: it does not say."""
    metadata = raw.get("metadata")
    if isinstance(metadata, dict):
        namespace, name = metadata.get("namespace", ""), metadata.get("name")
        if name and isinstance(name, str) and isinstance(namespace, str):
            return ObjectKey(kind, namespace, name)
    return None


def narrow(kind: str) -> Callable[[Raw], Raw]:
    """What makes of an object of a kind the part of it that is read. What has a strange shape is left for whoever
    reads it, who will say so."""
    return _NARROW[kind]


def _metadata(raw: Raw, annotated: bool) -> object:
    metadata = raw.get("metadata")
    if not isinstance(metadata, dict):
        return metadata
    kept: dict[str, Any] = {}
    for name in _ANNOTATED if annotated else _KEPT:
        if name in metadata:
            kept[name] = metadata[name]
    labels, annotations = metadata.get("labels"), metadata.get("annotations")
    if labels:
        kept["labels"] = _ours(labels, _NEEDED_LABELS)
    if annotations and annotated:
        kept["annotations"] = _ours(annotations, frozenset())
    return kept


def _ours(texts: object, others: frozenset[str]) -> object:
    if not isinstance(texts, dict):
        return texts
    return {name: text for name, text in texts.items() if name.startswith(PREFIXES) or name in others}


def _service(raw: Raw) -> Raw:
    spec = raw.get("spec")
    kept: dict[str, Any] = {"metadata": _metadata(raw, True), "spec": spec}
    if isinstance(spec, dict):
        kept["spec"] = {name: spec[name] for name in _SPEC if name in spec}
        if spec.get("type") == "LoadBalancer":
            kept["status"] = raw.get("status")
    return kept


def _slice(raw: Raw) -> Raw:
    metadata = _metadata(raw, False)
    if isinstance(metadata, dict) and "ownerReferences" in raw["metadata"]:  # which of two Services of one name it is
        metadata["ownerReferences"] = raw["metadata"]["ownerReferences"]
    return {
        "metadata": metadata,
        "addressType": raw.get("addressType"),
        "endpoints": raw.get("endpoints"),
        "ports": raw.get("ports"),
    }


def _annotated(raw: Raw) -> Raw:
    return {"metadata": _metadata(raw, True)}


def _secret(raw: Raw) -> Raw:
    data = raw.get("data")
    if isinstance(data, dict):
        data = {name: data[name] for name in ("tls.crt", "tls.key") if name in data}
    return {"metadata": _metadata(raw, False), "data": data}


def _config_map(raw: Raw) -> Raw:
    return {"metadata": _metadata(raw, False), "data": raw.get("data")}


_NARROW: Final[Mapping[str, Callable[[Raw], Raw]]] = {
    "Service": _service,
    "EndpointSlice": _slice,
    "Deployment": _annotated,
    "DaemonSet": _annotated,
    "Secret": _secret,
    "ConfigMap": _config_map,
}
