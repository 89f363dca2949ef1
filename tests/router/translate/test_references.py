"""What has to be asked for by name, and what nobody may be tricked into asking for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drycc_router.model.objects import Change, ObjectKey
from drycc_router.translate.references import mapped_services, wishes

WEB = ObjectKey("Service", "shop", "web")


def service(label: str = "true", **annotations: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "labels": {"router.drycc.cc/routable": label},
            "annotations": {f"router.drycc.cc/{key}": text for key, text in annotations.items()},
        }
    }


def chain(name: str, namespace: str = "shop") -> tuple[ObjectKey, ...]:
    return tuple(ObjectKey("Secret", namespace, each) for each in (f"{name}-cert", f"{name}-certificate", name))


def test_a_mapping_is_a_wish_for_one_of_three_secrets() -> None:
    named = wishes(WEB, service(certificates="shop.example:one,www.shop.example:two,*.shop.example:one"))
    assert named == {chain("one"), chain("two")}


def test_a_page_is_a_wish_for_a_config_map() -> None:
    assert wishes(WEB, service(**{"maintenance.page": "sorry"})) == {(ObjectKey("ConfigMap", "shop", "sorry"),)}


def test_the_ancestors_prefix_counts_where_the_current_one_is_silent() -> None:
    raw = service()
    raw["metadata"]["annotations"] = {"router.deis.io/certificates": "shop.example:old"}
    assert wishes(WEB, raw) == {chain("old")}


@pytest.mark.parametrize("label", ["false", "True", "", "yes"])
def test_who_is_not_to_be_routed_wishes_for_nothing(label: str) -> None:
    assert wishes(WEB, service(label, certificates="shop.example:one")) == frozenset()


@pytest.mark.parametrize(
    "text",
    [
        "shop.example:../kube-system/admin",
        "shop.example:other/admin",
        "shop.example:admin/token",
        "shop.example:" + "x" * 300,
        "shop.example:%2e%2e",
        "shop.example:a\nb",
        "shop.example:ADMIN",
        "shop.example:",
        "shop.example",
    ],
)
def test_no_text_makes_it_a_wish_for_somebody_elses_secret(text: str) -> None:
    """Hardening M-05."""
    assert wishes(WEB, service(certificates=text)) == frozenset()


@given(st.text(max_size=60))
def test_whatever_is_written_nothing_leaves_the_namespace(text: str) -> None:
    for wish in wishes(WEB, service(certificates=f"shop.example:{text}", **{"maintenance.page": text})):
        for key in wish:
            assert key.namespace == "shop"
            assert key.kind in ("Secret", "ConfigMap")
            assert "/" not in key.name
            assert ".." not in key.name


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"metadata": None},
        {"metadata": []},
        {"metadata": {"labels": [], "annotations": {}}},
        service(certificates=7),
    ],
)
def test_strange_shapes_are_no_wishes(raw: dict[str, Any]) -> None:
    assert wishes(WEB, raw) == frozenset()


def test_the_operators_ports_are_wishes_for_services() -> None:
    def said(**annotations: Any) -> Change:
        return Change(ObjectKey("Deployment", "drycc", "drycc-router"), service(**annotations))

    database = frozenset({(ObjectKey("Service", "shop", "database"),)})
    assert mapped_services(said(tcpPorts="5432:shop/database, 1:x"), frozenset()) == database
    assert mapped_services(said(tcpPorts="nonsense"), database) == database
    assert mapped_services(said(tcpPorts=" "), database) == frozenset()
    assert mapped_services(said(), database) == frozenset()
    assert mapped_services(Change(ObjectKey("Deployment", "drycc", "drycc-router"), None), database) == frozenset()
    assert mapped_services(Change(ObjectKey("Deployment", "drycc", "drycc-router"), {"metadata": 7}), database) == set()
