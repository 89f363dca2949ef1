"""The least rights: what is asked for with which settings. That the chart asks for the same: tests/charts."""

from __future__ import annotations

import pytest

from drycc_router.model.objects import ObjectKey
from drycc_router.rbac.rules import NAMED, NOWHERE, WATCHED, Grant, Right, grants, manifests, reading
from drycc_router.translate.platform import OwnNames

OWN = OwnNames.of("edge", "infra")
CERT = ObjectKey("Secret", "shop", "web-cert")


def of(found: list[Grant], resource: str) -> dict[str, Right]:
    """Grant @ namespace → its right to a kind of objects."""
    return {
        f"{grant.name}@{grant.namespace}": right
        for grant in found
        for right in grant.rights
        if right.resource == resource
    }


def test_everything_of_its_own_is_called_after_the_router() -> None:
    [own, watched] = grants(OWN, (), reading(WATCHED, pages=False))
    assert (own.name, own.namespace) == ("edge-own", "infra")
    assert (watched.name, watched.namespace) == ("edge", "")
    names = {right.resource: right.names for right in own.rights}
    assert names == {
        "deployments": ("edge",),
        "daemonsets": ("edge",),
        "secrets": ("edge-platform-cert",),
        "configmaps": ("edge-claims",),
        "leases": ("edge",),
    }


def test_with_a_list_of_namespaces_there_is_no_right_to_the_whole_cluster() -> None:
    found = grants(OWN, ("shop", "blog", "shop"), reading(WATCHED, pages=True))
    assert [(each.name, each.namespace) for each in found] == [
        ("edge-own", "infra"),
        ("edge", "shop"),
        ("edge", "blog"),
    ]
    assert set(of(found, "endpointslices")) == {"edge-own@infra", "edge@shop", "edge@blog"}


def test_secrets_may_be_read_by_name_where_it_is_said() -> None:
    assert set(of(grants(OWN, (), reading(WATCHED, pages=False)), "secrets")) == {"edge-own@infra", "edge@"}
    assert set(of(grants(OWN, (), reading(NOWHERE, pages=False)), "secrets")) == {"edge-own@infra"}
    listed = of(grants(OWN, (), reading("shop, blog", pages=False)), "secrets")
    assert set(listed) == {"edge-own@infra", "edge-secrets@shop", "edge-secrets@blog"}
    assert listed["edge-secrets@shop"].verbs == ("get",)


def test_those_that_are_named_may_be_watched_and_no_other_be_read() -> None:
    page = ObjectKey("ConfigMap", "blog", "page")
    found = grants(OWN, (), reading(NAMED, pages=False, named=[CERT, page, ObjectKey("Secret", "shop", "a")]))
    assert of(found, "secrets")["edge-named@shop"] == Right("", "secrets", ("get", "watch"), ("a", "web-cert"))
    assert of(found, "configmaps")["edge-named@blog"] == Right("", "configmaps", ("get", "watch"), ("page",))
    assert "edge@" not in of(found, "secrets")


def test_pages_are_an_option() -> None:
    assert "edge@" not in of(grants(OWN, (), reading(WATCHED, pages=False)), "configmaps")
    assert of(grants(OWN, (), reading(WATCHED, pages=True)), "configmaps")["edge@"].verbs == ("get",)


@pytest.mark.parametrize("secrets", [WATCHED, NOWHERE, "shop", NAMED])
@pytest.mark.parametrize("namespaces", [(), ("shop",)])
def test_nothing_is_deleted_listed_or_created_that_need_not_be(secrets: str, namespaces: tuple[str, ...]) -> None:
    for grant in grants(OWN, namespaces, reading(secrets, pages=True, named=[CERT])):
        for right in grant.rights:
            assert not {"delete", "deletecollection", "*"} & set(right.verbs)
            assert right.resource not in ("secrets", "configmaps") or "list" not in right.verbs
            assert "watch" not in right.verbs or right.names or right.resource in ("services", "endpointslices")
            assert "create" not in right.verbs or right.resource == "events"


def test_each_role_is_bound_to_the_account() -> None:
    role, binding = manifests([Grant("edge", "shop", (Right("", "services", ("get",)),))], "robot", "infra")
    assert (role["kind"], role["metadata"]) == ("Role", {"name": "edge", "namespace": "shop"})
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "robot", "namespace": "infra"}]
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "edge"}
    role, binding = manifests([Grant("edge", "", ())], "robot", "infra")
    assert (role["kind"], role["metadata"], binding["kind"]) == ("ClusterRole", {"name": "edge"}, "ClusterRoleBinding")
