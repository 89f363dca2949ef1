"""Which kinds the fake serves, and how the real server treats each: groups, scope, selectable fields.

One row per kind. Nothing about storing, sending or rights belongs here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["KINDS", "NAMESPACES", "Kind", "kind_of", "text_at"]

META_FIELDS = {"metadata.name": ("metadata", "name"), "metadata.namespace": ("metadata", "namespace")}
"""Every kind can be selected by these; what else is a matter of the kind, and anything else is refused."""

EVENT_FIELDS = {"reason": ("reason",), "type": ("type",)}


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A resource type as the API conventions name it: ``plural`` in addresses, ``name`` in documents."""

    group: str
    """The empty string is the core group, served below ``/api`` rather than ``/apis``."""
    version: str
    plural: str
    name: str
    namespaced: bool = True
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Field selectors beyond ``META_FIELDS`` → where the value stands in a document."""
    counts_generations: bool = False
    """``metadata.generation`` is 1 at birth and grows when anything but metadata and status changes."""
    has_status: bool = False
    """``status`` is a resource of its own (``…/status``): neither is written through the other."""
    blind_updates: bool = True
    """An update may come without ``metadata.resourceVersion`` (the real server's AllowUnconditionalUpdate)."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """The name in error messages: ``services``, ``leases.coordination.k8s.io``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def head(self) -> bytes:
        """How a complete JSON document of this kind begins; items of lists do without it, as on the real server."""
        return f'{{"kind":"{self.name}","apiVersion":"{self.api_version}",'.encode()

    def selectable(self, document: Mapping[str, Any]) -> dict[str, str]:
        """Values of all fields that a field selector can name."""
        return {name: text_at(document, path) for name, path in {**META_FIELDS, **self.fields}.items()}


NAMESPACES = Kind("", "v1", "namespaces", "Namespace", namespaced=False)

KINDS = (
    NAMESPACES,
    Kind(
        "",
        "v1",
        "services",
        "Service",
        fields={"spec.clusterIP": ("spec", "clusterIP"), "spec.type": ("spec", "type")},
        has_status=True,
    ),
    Kind("", "v1", "secrets", "Secret", fields={"type": ("type",)}),
    Kind("", "v1", "configmaps", "ConfigMap"),
    Kind(
        "",
        "v1",
        "events",
        "Event",
        fields={
            **EVENT_FIELDS,
            **{f"involvedObject.{part}": ("involvedObject", part) for part in ("kind", "namespace", "name", "uid")},
        },
    ),
    Kind(
        "events.k8s.io",
        "v1",
        "events",
        "Event",
        fields={
            **EVENT_FIELDS,
            **{f"regarding.{part}": ("regarding", part) for part in ("kind", "namespace", "name", "uid")},
        },
    ),
    Kind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", counts_generations=True),
    Kind("apps", "v1", "deployments", "Deployment", counts_generations=True, has_status=True),
    Kind("apps", "v1", "daemonsets", "DaemonSet", counts_generations=True, has_status=True),
    Kind("coordination.k8s.io", "v1", "leases", "Lease", blind_updates=False),
    # What peers read that the router does not: with these, Traefik can be pointed at the same objects.
    Kind("networking.k8s.io", "v1", "ingresses", "Ingress", counts_generations=True, has_status=True),
    Kind("networking.k8s.io", "v1", "ingressclasses", "IngressClass", namespaced=False, counts_generations=True),
)

_BY_DOCUMENT = {(kind.api_version, kind.name): kind for kind in KINDS}


def kind_of(document: Mapping[str, Any]) -> Kind:
    """The kind that a document names in ``apiVersion`` and ``kind``.

    Raises:
        LookupError: the fake does not serve it.
    """
    wanted = (str(document.get("apiVersion", "")), str(document.get("kind", "")))
    if wanted not in _BY_DOCUMENT:
        raise LookupError(f"the fake API server does not serve {wanted[1]!r} of {wanted[0]!r}")
    return _BY_DOCUMENT[wanted]


def text_at(document: Mapping[str, Any], path: tuple[str, ...]) -> str:
    """The text at ``path``; the empty string where nothing stands, as field selectors see it."""
    value: Any = document
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return "" if value is None else str(value)
