"""Rights are read from manifests and judged as the RBAC authorizer does: what nobody granted is refused."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.fakes.apiserver.rights import Rights, ServiceAccount

MANIFESTS = """
kind: ClusterRole
metadata: {name: router}
rules:
- {apiGroups: [""], resources: [services], verbs: [get, list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
---
kind: ClusterRoleBinding
metadata: {name: router}
roleRef: {kind: ClusterRole, name: router}
subjects: [{kind: ServiceAccount, namespace: drycc, name: drycc-router}]
---
kind: Role
metadata: {name: secrets, namespace: shop}
rules:
- {apiGroups: [""], resources: [secrets], verbs: [get, list, watch], resourceNames: [shop-cert]}
---
kind: RoleBinding
metadata: {name: secrets, namespace: shop}
roleRef: {kind: Role, name: secrets}
subjects: [{kind: ServiceAccount, namespace: drycc, name: drycc-router}]
---
kind: ClusterRole
metadata: {name: events}
rules:
- {apiGroups: [events.k8s.io], resources: [events], verbs: [create, patch]}
---
kind: RoleBinding
metadata: {name: events, namespace: blog}
roleRef: {kind: ClusterRole, name: events}
subjects: [{kind: ServiceAccount, namespace: drycc, name: drycc-router}]
---
kind: ClusterRole
metadata: {name: admin}
rules:
- {apiGroups: ["*"], resources: ["*"], verbs: ["*"]}
---
kind: ClusterRoleBinding
metadata: {name: admin}
roleRef: {kind: ClusterRole, name: admin}
subjects: [{kind: ServiceAccount, namespace: drycc, name: somebody-else}]
---
kind: RoleBinding
metadata: {name: dangling, namespace: shop}
roleRef: {kind: Role, name: not-there}
subjects: [{kind: ServiceAccount, namespace: drycc, name: drycc-router}]
"""


def rights(account: ServiceAccount) -> Rights:
    documents: list[dict[str, Any]] = list(yaml.safe_load_all(MANIFESTS))
    return Rights.from_manifests(documents, account)


@pytest.mark.parametrize(
    ("verb", "group", "resource", "namespace", "name", "allowed"),
    [
        ("list", "", "services", "", "", True),
        ("watch", "", "services", "shop", "", True),
        ("update", "", "services", "shop", "web", False),
        ("list", "discovery.k8s.io", "endpointslices", "", "", True),
        ("list", "", "endpointslices", "", "", False),
        ("get", "", "secrets", "shop", "shop-cert", True),
        ("watch", "", "secrets", "shop", "shop-cert", True),
        ("list", "", "secrets", "shop", "", False),
        ("get", "", "secrets", "shop", "other", False),
        ("get", "", "secrets", "blog", "shop-cert", False),
        ("create", "events.k8s.io", "events", "blog", "", True),
        ("create", "events.k8s.io", "events", "shop", "", False),
        ("create", "", "events", "blog", "", False),
    ],
)
def test_what_the_bindings_grant(
    verb: str, group: str, resource: str, namespace: str, name: str, allowed: bool
) -> None:
    assert rights(ServiceAccount()).allow(verb, group, resource, namespace, name) is allowed


def test_wildcards_grant_everything_to_whom_they_are_bound() -> None:
    assert rights(ServiceAccount("drycc", "somebody-else")).allow("delete", "apps", "deployments", "drycc", "x")


def test_an_account_that_nobody_binds_may_do_nothing() -> None:
    assert rights(ServiceAccount("shop", "drycc-router")).rules == ()
