"""Who may do what: RBAC as the real authorizer decides it, from the manifests a chart renders.

Rights are only ever granted, never taken back; what no rule grants is refused ("Using RBAC Authorization").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Rights", "Rule", "ServiceAccount"]


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """Whose token it is."""

    namespace: str = "drycc"
    name: str = "drycc-router"

    @property
    def user(self) -> str:
        """The name by which refusals and the audit know it."""
        return f"system:serviceaccount:{self.namespace}:{self.name}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a role, in the namespace its binding gives it; the empty namespace: everywhere."""

    verbs: frozenset[str]
    groups: frozenset[str]
    resources: frozenset[str]
    names: frozenset[str] = frozenset()
    """Empty: every name."""
    namespace: str = ""

    def grants(self, verb: str, group: str, resource: str, namespace: str, name: str) -> bool:
        """A rule with names grants nothing to a request without one: ``create``, and lists of everything.

        A list or watch has a name if its field selector is exactly ``metadata.name=…``.
        """
        return (
            (verb in self.verbs or "*" in self.verbs)
            and (group in self.groups or "*" in self.groups)
            and (resource in self.resources or "*" in self.resources)
            and (not self.names or name in self.names)
            and (not self.namespace or self.namespace == namespace)
        )


@dataclass(frozen=True, slots=True)
class Rights:
    """All that a ServiceAccount may do."""

    rules: tuple[Rule, ...]

    def allow(self, verb: str, group: str, resource: str, namespace: str, name: str) -> bool:
        return any(rule.grants(verb, group, resource, namespace, name) for rule in self.rules)

    @classmethod
    def from_manifests(cls, manifests: Iterable[Mapping[str, Any]], account: ServiceAccount) -> Rights:
        """What Roles, ClusterRoles and their bindings among ``manifests`` grant to ``account``."""
        documents = [document for document in manifests if document]
        roles = {
            (document["kind"], document["metadata"].get("namespace", ""), document["metadata"]["name"]): document
            for document in documents
            if document.get("kind") in ("Role", "ClusterRole")
        }
        rules: list[Rule] = []
        for binding in documents:
            if binding.get("kind") not in ("RoleBinding", "ClusterRoleBinding") or not _binds(binding, account):
                continue
            namespace = binding["metadata"].get("namespace", "") if binding["kind"] == "RoleBinding" else ""
            reference = binding["roleRef"]
            home = namespace if reference["kind"] == "Role" else ""
            role = roles.get((reference["kind"], home, reference["name"]))
            # A binding to a role that is not there grants nothing, and is no error.
            rules += [_rule(rule, namespace) for rule in (role or {}).get("rules") or ()]
        return cls(tuple(rules))


def _binds(binding: Mapping[str, Any], account: ServiceAccount) -> bool:
    home = binding["metadata"].get("namespace", "")
    return any(
        subject.get("kind") == "ServiceAccount"
        and (subject.get("namespace") or home, subject.get("name")) == (account.namespace, account.name)
        for subject in binding.get("subjects") or ()
    )


def _rule(rule: Mapping[str, Any], namespace: str) -> Rule:
    verbs, groups, resources, names = (
        frozenset(rule.get(part) or ()) for part in ("verbs", "apiGroups", "resources", "resourceNames")
    )
    return Rule(verbs, groups, resources, names, namespace)
