"""The least rights that the router needs in a cluster, as Roles: the same as the chart asks for.

What is read where Services are watched, what is the router's own, and where certificates may be read. A right to create
cannot be bound to a name, so nothing is created but Events; nothing is ever deleted. Secrets are asked for by their
names and never listed: the right to list them is the right to read every one of them (hardening B-01, B-02).

What must not enter: asking anybody, and how Roles are printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from drycc_router.model.objects import ObjectKey
from drycc_router.translate.platform import OwnNames

__all__ = ["NAMED", "NOWHERE", "WATCHED", "Grant", "Reading", "Right", "grants", "manifests", "reading"]

_RBAC: Final = "rbac.authorization.k8s.io"
_APPLIES: Final = f"{_RBAC}/v1"


@dataclass(frozen=True, slots=True)
class Right:
    """One rule: verbs on a kind ("" is the core group), on the named objects or (none) on all."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()

    def as_rule(self) -> dict[str, Any]:
        """As it stands in a Role."""
        rule: dict[str, Any] = {"apiGroups": [self.group], "resources": [self.resource], "verbs": list(self.verbs)}
        if self.names:
            rule["resourceNames"] = list(self.names)
        return rule


@dataclass(frozen=True, slots=True)
class Grant:
    """A Role, in one namespace; "": a ClusterRole."""

    name: str
    namespace: str
    rights: tuple[Right, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """Which Secrets and ConfigMaps of apps may be read."""

    everywhere: bool = True
    """Every Secret, by its name, wherever Services are watched."""
    namespaces: tuple[str, ...] = ()
    """Every Secret of these."""
    pages: bool = False
    """Every ConfigMap, by its name, wherever Services are watched: for ``maintenance.page``."""
    named: Mapping[str, Sequence[ObjectKey]] = field(default_factory=dict)
    """Namespace → the objects that its Services name, and no other: these may be watched, too."""


WATCHED: Final = "watched"
"""Secrets may be read wherever Services are watched."""
NAMED: Final = "named"
"""Only those that Services name now."""
NOWHERE: Final = "none"


def reading(secrets: str, pages: bool, named: Iterable[ObjectKey] = ()) -> Reading:
    """What is meant by one of the words above, or by a list of namespaces. ``named``: what Services name, for
    :data:`NAMED`."""
    if secrets == NAMED:
        by_namespace: dict[str, list[ObjectKey]] = {}
        for key in named:
            by_namespace.setdefault(key.namespace, []).append(key)
        return Reading(everywhere=False, named=by_namespace)
    if secrets in (WATCHED, NOWHERE):
        return Reading(everywhere=secrets == WATCHED, pages=pages)
    namespaces = tuple(part.strip() for part in secrets.split(",") if part.strip())
    return Reading(everywhere=False, namespaces=namespaces, pages=pages)


_READ_SECRETS: Final = Right("", "secrets", ("get",))
_SERVICES: Final = Right("", "services", ("get", "list", "watch"))
_SLICES: Final = Right("discovery.k8s.io", "endpointslices", ("list", "watch"))
_EVENTS: Final = Right("", "events", ("create", "patch"))


def grants(own: OwnNames, namespaces: Sequence[str], reading: Reading) -> list[Grant]:
    """Everything for a router that watches ``namespaces``; none: all."""
    name = own.deployment
    watched = [_SERVICES, _SLICES, _EVENTS]
    if reading.everywhere:
        watched.append(_READ_SECRETS)
    if reading.pages:
        watched.append(Right("", "configmaps", ("get",)))
    places = [*dict.fromkeys(namespaces)] or [""]
    mine = _own(own)
    if namespaces:
        mine += (_SERVICES, _SLICES, _EVENTS)  # its own Service and the builder's, which cluster-wide rights include
    found = [
        Grant(f"{name}-own", own.namespace, mine),
        *(Grant(name, place, tuple(watched)) for place in places),
        *(Grant(f"{name}-secrets", place, (_READ_SECRETS,)) for place in dict.fromkeys(reading.namespaces)),
    ]
    for place, keys in sorted(reading.named.items()):
        rights = tuple(
            Right("", plural, ("get", "watch"), names)
            for kind, plural in (("Secret", "secrets"), ("ConfigMap", "configmaps"))
            if (names := tuple(sorted({key.name for key in keys if key.kind == kind})))
        )
        if rights:
            found.append(Grant(f"{name}-named", place, rights))
    return found


def _own(own: OwnNames) -> tuple[Right, ...]:
    """What is the router's own, in its own namespace, by name."""
    deployments = tuple(key.name for key in own.candidates("Deployment", own.deployment))
    certificates = tuple(key.name for key in own.candidates("Secret", own.platform_certificate))
    return (
        Right("apps", "deployments", ("get", "watch"), deployments),
        Right("apps", "daemonsets", ("get", "watch"), (own.deployment,)),
        Right("", "secrets", ("get", "watch"), certificates),
        Right("", "configmaps", ("get", "watch", "patch"), (own.claims,)),
        Right("coordination.k8s.io", "leases", ("get", "update"), (own.deployment,)),
    )


def manifests(found: Iterable[Grant], account: str, namespace: str) -> list[dict[str, Any]]:
    """A Role and its binding for each grant; ``account``: the ServiceAccount in ``namespace`` that gets them."""
    subjects = [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
    documents: list[dict[str, Any]] = []
    for grant in found:
        kind = "Role" if grant.namespace else "ClusterRole"
        metadata = {"name": grant.name, "namespace": grant.namespace} if grant.namespace else {"name": grant.name}
        rules = [right.as_rule() for right in grant.rights]
        reference = {"apiGroup": _RBAC, "kind": kind, "name": grant.name}
        documents += (
            {"apiVersion": _APPLIES, "kind": kind, "metadata": metadata, "rules": rules},
            {
                "apiVersion": _APPLIES,
                "kind": f"{kind}Binding",
                "metadata": metadata,
                "roleRef": reference,
                "subjects": subjects,
            },
        )
    return documents
