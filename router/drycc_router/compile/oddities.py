"""What is odd about manifests although nothing is wrong with them, for ``drycc-router check``.

A router that serves passes over what is not its business in silence, a Service without the label first of all. Whoever
looks for the reason why an app is not there needs to be told of exactly that.

What must not enter: Problems, which everybody is told of.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from drycc_router.model.objects import PREFIXES, ObjectKey
from drycc_router.translate.platform import OwnNames

__all__ = ["Oddity", "of_objects", "of_other_kinds"]

_LABELS: Final = tuple(f"{prefix}routable" for prefix in PREFIXES)
_KINDS: Final = ("ConfigMap", "Deployment", "EndpointSlice", "Secret", "Service")
_SLICE_OF: Final = "kubernetes.io/service-name"


class Oddity(msgspec.Struct, frozen=True):
    """Something to know. ``key`` is a path or an annotation, or ""."""

    object: ObjectKey | None
    """None: it is about everything that was looked at."""
    key: str
    message: str


def of_objects(objects: Mapping[ObjectKey, Mapping[str, Any]], own: OwnNames) -> Iterator[Oddity]:
    """What is odd about the objects that the router reads."""
    services = [key for key in objects if key.kind == "Service"]
    ours = {*own.candidates("Service", own.builder), *own.candidates("Service", own.deployment)}
    for key in sorted(objects):
        metadata = objects[key].get("metadata")
        labels, annotations = (_texts(metadata, part) for part in ("labels", "annotations"))
        if key.kind == "Service":
            yield from _of_labels(key, labels, annotations, key in ours)
        if key.kind in ("Service", "Deployment"):
            for name in annotations:
                right = _in_right_case(name)
                if right:
                    yield Oddity(key, name, f"is not read: the prefix is written {right}")
        if key.kind == "EndpointSlice":
            service = ObjectKey("Service", key.namespace, labels.get(_SLICE_OF, ""))
            if service not in objects:
                message = f"belongs to no Service that is here: its label {_SLICE_OF} says which"
                yield Oddity(key, "metadata.labels", message)
    if not services:
        yield Oddity(None, "", "there is no Service, so nothing is routed")
    elif not any(_is_routable(objects[key]) for key in services):
        which = "the Service has" if len(services) == 1 else f"none of {len(services)} Services has"
        negation = " no" if len(services) == 1 else " the"
        yield Oddity(None, "", f'{which}{negation} label {_LABELS[0]}: "true", so nothing is routed')


def _of_labels(
    service: ObjectKey, labels: Mapping[str, str], annotations: Iterable[str], is_ours: bool
) -> Iterator[Oddity]:
    said = next((label for label in _LABELS if label in labels), None)
    wrong = next((label for label in labels if label not in _LABELS and label.lower() in _LABELS), None)
    if said is not None:
        if labels[said] not in ("true", "false"):
            yield Oddity(service, f"metadata.labels[{said}]", 'is not routed: only "true", in this case, counts')
    elif wrong is not None:
        yield Oddity(service, f"metadata.labels[{wrong}]", f"is not routed: the label is written {wrong.lower()}")
    elif not is_ours and any(name.startswith(PREFIXES) for name in annotations):
        message = f'is not routed: it has our annotations and no label {_LABELS[0]}: "true"'
        yield Oddity(service, "metadata.labels", message)


def of_other_kinds(values: Collection[object]) -> Iterator[tuple[int, Oddity]]:
    """What is odd about objects that are passed over: (which, what)."""
    for number, value in enumerate(values):
        kind = value.get("kind") if isinstance(value, dict) else None
        if not isinstance(kind, str) or kind in _KINDS:
            continue
        for known in _KINDS:
            if kind.lower() == known.lower():
                yield number, Oddity(None, "kind", f"is passed over: the kind is written {known}")
            elif kind == f"{known}List":
                yield number, Oddity(None, "kind", f"is passed over: a list of objects has the kind List, not {kind}")


def _in_right_case(name: str) -> str:
    """Our prefix, where ``name`` has it in another letter case; else ""."""
    if name.startswith(PREFIXES):
        return ""
    return next((prefix for prefix in PREFIXES if name.lower().startswith(prefix)), "")


def _is_routable(raw: Mapping[str, Any]) -> bool:
    labels = _texts(raw.get("metadata"), "labels")
    return next((labels[label] for label in _LABELS if label in labels), None) == "true"


def _texts(metadata: object, part: str) -> Mapping[str, str]:
    found = metadata.get(part) if isinstance(metadata, dict) else None
    if not isinstance(found, dict):
        return {}
    return {name: text for name, text in found.items() if isinstance(name, str) and isinstance(text, str)}
