"""Which Secrets and ConfigMaps a Service names, and which Services the operator: what has to be asked for by name, and
nothing else ever is.

Only in the Service's own namespace, only names that pass the grammar of the annotation (contract 3, hardening M-05).
One *wish* is a chain of names of which the first that is there counts, as a mapping ``domain:name`` means
``name-cert``, else ``name-certificate``, else ``name``.

What must not enter: asking, and whether anything is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from drycc_router.model.objects import PREFIXES, Change, ObjectKey
from drycc_router.translate.annotations.reading import read_app, read_router

__all__ = ["Wish", "candidates", "mapped_services", "wishes"]

Wish = tuple[ObjectKey, ...]

_LABELS: Final = tuple(f"{prefix}routable" for prefix in PREFIXES)
_KINDS: Final = {"Secret": "certificates", "ConfigMap": "maintenance.page"}
_KEYS: Final = tuple(f"{prefix}{key}" for prefix in PREFIXES for key in _KINDS.values())


def candidates(namespace: str, name: str) -> tuple[ObjectKey, ...]:
    """The Secrets that a mapping to ``name`` may mean, first choice first (contract 3)."""
    return tuple(ObjectKey("Secret", namespace, each) for each in (f"{name}-cert", f"{name}-certificate", name))


def wishes(service: ObjectKey, raw: Mapping[str, Any], before: frozenset[Wish] = frozenset()) -> frozenset[Wish]:
    """What a Service, as it stands in the API, names. None of it while it is not to be routed.

    ``before``: what it named until now. A text of which nothing is usable takes nothing away: the app keeps its last
    good value (contract 2), so that is still needed.
    """
    metadata = raw.get("metadata")
    if not isinstance(metadata, dict):
        return frozenset()
    annotations, labels = metadata.get("annotations"), metadata.get("labels")
    if not isinstance(annotations, dict) or not isinstance(labels, dict):
        return frozenset()
    if next((labels[label] for label in _LABELS if label in labels), None) != "true":
        return frozenset()
    # Most Services name nothing, and reading everything else they say is for the compiler.
    named = {key: text for key in _KEYS if isinstance(text := annotations.get(key), str)}
    if not named:
        return frozenset()
    app, _ = read_app(service, named, None)
    found = {candidates(service.namespace, secret) for _, secret in app.certificates}
    if app.maintenance_page is not None:
        found.add((ObjectKey("ConfigMap", service.namespace, app.maintenance_page),))
    usable = {wish[0].kind for wish in found}
    for kind, key in _KINDS.items():
        if kind not in usable and any(text.strip() for name, text in named.items() if name.endswith(f"/{key}")):
            found |= {wish for wish in before if wish[0].kind == kind}
    return frozenset(found)


def mapped_services(settings: Change, before: frozenset[Wish]) -> frozenset[Wish]:
    """The Services that ``tcpPorts`` on the router's Deployment leads ports to; they need no label for that.

    ``before``: as for :func:`wishes`.
    """
    metadata = settings.object.get("metadata") if settings.object else None
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    if not isinstance(annotations, dict):
        return frozenset()
    named = {key: text for key, text in annotations.items() if key.endswith("tcpPorts") and isinstance(text, str)}
    if not any(text.strip() for text in named.values()):
        return frozenset()
    ports = read_router(settings.key, named, None)[0].tcp_ports
    return frozenset((ObjectKey("Service", namespace, name),) for _, namespace, name, _ in ports) or before
