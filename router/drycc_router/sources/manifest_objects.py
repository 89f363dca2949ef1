"""What one manifest file gives: its documents → Kubernetes objects of the kinds we read, and its Problems.

Objects leave here in the shape the API server would give them: with a namespace, and a Secret's ``stringData`` folded
into ``data``. What they *mean* is for ``model.objects`` and everything above it. Other kinds, and the same kind names
of other API groups (a Knative ``Service``), are nobody's business here and are passed over in silence.

What must not enter: files, and any value of an object in a Problem.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from drycc_router.model.objects import ObjectKey
from drycc_router.model.problems import Problem, Reason, shorten
from drycc_router.sources.yaml_documents import Document, JsonValue

__all__ = ["Contents", "file_key", "items", "line_of", "named", "read_objects", "unreadable"]

RawObject = Mapping[str, Any]

_GROUPS: Final = {
    "ConfigMap": "",
    "Deployment": "apps",
    "EndpointSlice": "discovery.k8s.io",
    "Secret": "",
    "Service": "",
}
"""kind → API group."""
_LINE: Final = re.compile(r"(?:document at )?line ([0-9]+)\b")
_NAME: Final = re.compile(r"[a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?")
_NAMESPACE: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file gives. ``whole`` is False when part of it, or all, could not be read: then an object that it gave
    before and does not give now may still be meant."""

    objects: Mapping[ObjectKey, RawObject] = field(default_factory=dict, repr=False)  # Secrets among them
    problems: tuple[Problem, ...] = ()
    whole: bool = True


class _Fault(Exception):
    """One object of a document cannot be told from another, or not be used; says where and what was expected."""

    def __init__(self, path: str, expected: str) -> None:
        super().__init__(expected)
        self.path = path
        self.expected = expected


def file_key(file: str) -> ObjectKey:
    """A manifest file as the object of a Problem."""
    return ObjectKey("File", "", shorten(file, 200))


def unreadable(file: str, message: str) -> Contents:
    """The contents of a file that could not be read at all."""
    problem = Problem(Reason.UNREADABLE_FILE, file_key(file), "", "", f"{message}; what it gave before stays")
    return Contents(problems=(problem,), whole=False)


def line_of(problem: Problem) -> int | None:
    """The line that a Problem with a file names; None: it names none."""
    found = _LINE.match(problem.message)
    return int(found[1]) if found else None


def named(item: JsonValue) -> tuple[ObjectKey, RawObject] | None:
    """The key of one object of a document, and the object as the API server would give it; None: it is none that the
    router reads, or cannot be told from others."""
    try:
        return _named(item)
    except _Fault:
        return None


def read_objects(file: str, documents: Iterable[Document]) -> Contents:
    """Every object of the kinds we read. A document that is no object is a Problem and leaves the others alone."""
    objects: dict[ObjectKey, RawObject] = {}
    problems: list[Problem] = []
    whole = True
    for line, document in documents:
        for path, item in items(document):
            try:
                found = _named(item)
            except _Fault as fault:
                whole = False
                where = f"{path}.{fault.path}" if path and fault.path else path or fault.path
                message = f"document at line {line}: expected {fault.expected}"
                problems.append(Problem(Reason.BAD_OBJECT, file_key(file), where, "", message))
                continue
            if found is None:
                continue
            key, raw = found
            if key in objects:
                message = f"stands twice in {shorten(file, 200)}; the first one counts"
                problems.append(Problem(Reason.DUPLICATE_OBJECT, key, "", "", message))
            else:
                objects[key] = raw
    return Contents(objects, tuple(problems), whole)


def items(document: JsonValue) -> Iterator[tuple[str, JsonValue]]:
    """The objects of one document, each with its path in it: the items of a ``List``, else the document itself."""
    if isinstance(document, dict) and document.get("kind") == "List":
        items = document.get("items")
        if isinstance(items, list):
            yield from ((f"items[{index}]", item) for index, item in enumerate(items))
            return
    yield "", document


def _named(item: JsonValue) -> tuple[ObjectKey, RawObject] | None:
    """The key and the object as the API server would give it; None: not of our kinds. Raises :class:`_Fault`."""
    if not isinstance(item, dict):
        raise _Fault("", "a Kubernetes object: a mapping with apiVersion, kind and metadata")
    kind, version = item.get("kind"), item.get("apiVersion")
    if not isinstance(kind, str):
        raise _Fault("kind", "a word such as Service")
    if kind == "List":
        raise _Fault("items", "a list")
    if kind not in _GROUPS:
        return None
    if not isinstance(version, str):
        raise _Fault("apiVersion", f"the API version of a {kind}, such as {_example_version(kind)}")
    if version.rpartition("/")[0] != _GROUPS[kind]:
        return None
    metadata = item.get("metadata")
    if not isinstance(metadata, dict):
        raise _Fault("metadata", "a mapping with a name")
    name, namespace = metadata.get("name"), metadata.get("namespace", "default")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _Fault("metadata.name", "a Kubernetes name: lower-case letters, digits, '-' and '.'")
    if not isinstance(namespace, str) or not _NAMESPACE.fullmatch(namespace):
        raise _Fault("metadata.namespace", "a Kubernetes namespace: lower-case letters, digits and '-'")
    raw = item if "namespace" in metadata else {**item, "metadata": {**metadata, "namespace": namespace}}
    if kind == "Secret" and raw.get("stringData") is not None:
        raw = _folded(raw)
    return ObjectKey(kind, namespace, name), raw


def _example_version(kind: str) -> str:
    return f"{_GROUPS[kind]}/v1" if _GROUPS[kind] else "v1"


def _folded(secret: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """``stringData`` is write-only in Kubernetes: the server merges it into ``data``, where it wins."""
    texts, data = secret["stringData"], secret.get("data")
    if not isinstance(texts, dict):
        raise _Fault("stringData", "a mapping of texts")
    if not isinstance(data, dict | None):
        raise _Fault("data", "a mapping of base64 texts")
    folded: dict[str, JsonValue] = dict(data or {})
    for key, text in texts.items():
        if not isinstance(text, str):
            raise _Fault(f"stringData.{key}", "a text")
        folded[key] = base64.b64encode(text.encode("utf-8", "surrogatepass")).decode("ascii")
    return {**{key: value for key, value in secret.items() if key != "stringData"}, "data": folded}
