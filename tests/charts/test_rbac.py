"""The rights that the chart asks for, held against golden files that a person has read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from drycc_router.cli import main
from tests.charts.rendering import INSTALLATIONS, Object, Rendered, rendered

GOLDEN = Path(__file__).with_name("golden")

INSTALLED: dict[str, dict[str, Any]] = {
    "cluster": {},
    "namespaces": {"settings": {"watchNamespaces": ["shop", "blog"]}},
    "listed-secrets": {"rbac": {"secrets": {"scope": "listed", "namespaces": ["shop", "blog"]}}},
    "no-secrets": {"rbac": {"secrets": {"scope": "none"}}},
    "maintenance-pages": {"rbac": {"maintenancePages": True}},
}
"""Golden file → values."""


def rights(objects: Rendered) -> str:
    """Every right, one per line: where, what, which ones, which verbs."""
    lines = []
    for role in objects:
        if role["kind"] in {"Role", "ClusterRole"}:
            where = role["metadata"].get("namespace", "(every namespace)")
            lines += [f"{where}: {line}" for rule in role["rules"] for line in rule_lines(rule)]
    return "".join(f"{line}\n" for line in sorted(lines))


def rule_lines(rule: dict[str, Any]) -> list[str]:
    names = ", ".join(rule.get("resourceNames", [])) or "(any)"
    return [
        f"{resource}{f'.{group}' if group else ''} {names}: {' '.join(rule['verbs'])}"
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    ]


@pytest.mark.parametrize("name", INSTALLED)
def test_the_rights_are_those_that_were_agreed_to(name: str) -> None:
    assert rights(rendered(INSTALLED[name])) == (GOLDEN / f"rbac-{name}.txt").read_text(encoding="utf-8")


PRINTED: dict[str, list[str]] = {
    "cluster": [],
    "namespaces": ["--watch-namespaces", "shop,blog"],
    "listed-secrets": ["--secrets", "shop,blog"],
    "no-secrets": ["--secrets", "none"],
    "maintenance-pages": ["--pages"],
}
"""Golden file → what `drycc-router rbac` is told to print the same rights."""


@pytest.mark.parametrize("name", INSTALLED)
def test_the_router_prints_the_rights_that_the_chart_asks_for(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rbac", *PRINTED[name]]) == 0
    printed = Rendered(yaml.safe_load_all(capsys.readouterr().out))
    assert rights(printed) == (GOLDEN / f"rbac-{name}.txt").read_text(encoding="utf-8")
    asked = rendered(INSTALLED[name])
    for role in printed:
        [same] = [each for each in asked if _is_about_the_same(each, role)]
        assert {key: same[key] for key in ("rules", "roleRef", "subjects") if key in same} == {
            key: role[key] for key in ("rules", "roleRef", "subjects") if key in role
        }


def _is_about_the_same(one: Object, other: Object) -> bool:
    names = [(each["kind"], each["metadata"]["name"], each["metadata"].get("namespace")) for each in (one, other)]
    return names[0] == names[1]


def test_every_golden_file_belongs_to_an_installation() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {f"rbac-{name}.txt" for name in INSTALLED}


def rules(values: dict[str, Any]) -> list[tuple[Object, dict[str, Any]]]:
    objects = [each for each in rendered(values) if each["kind"] in {"Role", "ClusterRole"}]
    return [(each, rule) for each in objects for rule in each["rules"]]


EVERY = pytest.mark.parametrize(
    "values", [*INSTALLED.values(), *INSTALLATIONS.values()], ids=[*INSTALLED, *INSTALLATIONS]
)


@EVERY
def test_no_right_is_a_star_and_none_deletes(values: dict[str, Any]) -> None:
    for _, rule in rules(values):
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        assert not {"delete", "deletecollection", "impersonate", "escalate", "bind"} & set(rule["verbs"])


@EVERY
def test_secrets_are_asked_for_by_name_and_never_listed(values: dict[str, Any]) -> None:
    for _, rule in rules(values):
        if "secrets" in rule["resources"]:
            assert rule["verbs"] == (["get", "watch"] if rule.get("resourceNames") else ["get"])


@EVERY
def test_nothing_is_written_but_events_and_what_is_the_routers_own(values: dict[str, Any]) -> None:
    for role, rule in rules(values):
        if set(rule["verbs"]) - {"get", "list", "watch"} and rule["resources"] != ["events"]:
            assert role["metadata"]["namespace"] == "drycc"
            assert rule["resourceNames"] in (["drycc-router-claims"], ["drycc-router"])


def test_with_a_list_of_namespaces_nothing_is_asked_for_elsewhere() -> None:
    objects = rendered(INSTALLED["namespaces"])
    assert "ClusterRole" not in objects.kinds()
    places = {each["metadata"]["namespace"] for each in objects if each["kind"] == "RoleBinding"}
    assert places == {"drycc", "shop", "blog"}


@EVERY
def test_every_role_is_bound_to_the_routers_account_and_to_nobody_else(values: dict[str, Any]) -> None:
    objects = rendered(values)
    account = {"kind": "ServiceAccount", "name": objects.pods()["spec"]["serviceAccountName"], "namespace": "drycc"}
    for role in objects:
        if role["kind"] in {"Role", "ClusterRole"}:
            name, place = role["metadata"]["name"], role["metadata"].get("namespace")
            [binding] = [
                each
                for each in objects
                if each["kind"] == f"{role['kind']}Binding"
                and each["metadata"].get("namespace") == place
                and each["metadata"]["name"] == name
            ]
            assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": role["kind"], "name": name}
            assert binding["subjects"] == [account]


def test_what_the_router_writes_is_there_already_and_left_as_the_router_wrote_it() -> None:
    """A right to create cannot be bound to a name, so the chart creates; Helm never touches what it leaves out."""
    objects = rendered()
    claims, lease = objects.one("ConfigMap", "drycc-router-claims"), objects.one("Lease")
    assert "data" not in claims
    assert "spec" not in lease
    assert claims["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
