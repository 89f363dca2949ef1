"""What check says although nothing is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from drycc_router.compile.oddities import of_objects, of_other_kinds
from drycc_router.model.objects import ObjectKey
from drycc_router.translate.platform import OwnNames

WEB = ObjectKey("Service", "shop", "web")
OWN = OwnNames.of("drycc-router", "drycc")
ROUTABLE = {"router.drycc.cc/routable": "true"}


def odd(
    labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None, key: ObjectKey = WEB
) -> list[tuple[str, str]]:
    """What is odd about one Service beside another one with which nothing is."""
    objects: dict[ObjectKey, Any] = {
        ObjectKey("Service", "shop", "fine"): {"metadata": {"labels": ROUTABLE}},
        key: {"metadata": {"labels": labels or {}, "annotations": annotations or {}}},
    }
    return [(oddity.key, oddity.message) for oddity in of_objects(objects, OWN) if oddity.object == key]


@pytest.mark.parametrize(
    ("labels", "annotations", "key", "words"),
    [
        ({}, {"router.drycc.cc/domains": "a"}, "metadata.labels", "no label router.drycc.cc/routable"),
        ({}, {"router.deis.io/domains": "a"}, "metadata.labels", "no label router.drycc.cc/routable"),
        ({"router.drycc.cc/routable": "True"}, {}, "metadata.labels[router.drycc.cc/routable]", 'only "true"'),
        ({"router.drycc.cc/routable": "yes"}, {}, "metadata.labels[router.drycc.cc/routable]", 'only "true"'),
        ({"router.drycc.cc/Routable": "true"}, {}, "metadata.labels[router.drycc.cc/Routable]", "is written router"),
        ({"Router.Deis.io/routable": "true"}, {}, "metadata.labels[Router.Deis.io/routable]", "is written router.deis"),
        (ROUTABLE, {"Router.Drycc.cc/domains": "a"}, "Router.Drycc.cc/domains", "is written router.drycc.cc/"),
    ],
)
def test_what_is_odd_about_a_service(labels: dict[str, str], annotations: dict[str, str], key: str, words: str) -> None:
    [(where, message)] = odd(labels, annotations)
    assert where == key
    assert words in message


def test_what_is_not_odd() -> None:
    assert odd(ROUTABLE, {"router.drycc.cc/domains": "a"}) == []
    assert odd({"router.drycc.cc/routable": "false"}, {"router.drycc.cc/domains": "a"}) == []
    assert odd({"app": "web"}, {"description": "a"}) == []
    assert odd({}, {"router.drycc.cc/tcpTimeout": "5s"}, ObjectKey("Service", "drycc", "drycc-builder")) == []


def test_a_slice_of_no_service_is_odd() -> None:
    slice_ = ObjectKey("EndpointSlice", "shop", "web-1")
    labels = {"kubernetes.io/service-name": "web"}
    objects: dict[ObjectKey, Any] = {slice_: {"metadata": {"labels": labels}}, WEB: {"metadata": {"labels": ROUTABLE}}}
    assert list(of_objects(objects, OWN)) == []
    del objects[WEB]
    assert [oddity.object for oddity in of_objects(objects, OWN)] == [slice_, None]
    assert [oddity.object for oddity in of_objects({slice_: {}}, OWN)] == [slice_, None]


def test_nothing_to_route_is_odd() -> None:
    assert [each.message for each in of_objects({}, OWN)] == ["there is no Service, so nothing is routed"]
    [oddity] = of_objects({WEB: {"metadata": {}}}, OWN)
    assert "the Service has no label" in oddity.message
    [oddity] = of_objects({WEB: {"metadata": None}, ObjectKey("Service", "shop", "api"): {"metadata": {}}}, OWN)
    assert "none of 2 Services has the label" in oddity.message


def test_kinds_that_are_written_otherwise_are_odd() -> None:
    values = [{"kind": "Service"}, {"kind": "service"}, {"kind": "SecretList"}, {"kind": "Ingress"}, 1, {"kind": 1}]
    assert [(number, oddity.message) for number, oddity in of_other_kinds(values)] == [
        (1, "is passed over: the kind is written Service"),
        (2, "is passed over: a list of objects has the kind List, not SecretList"),
    ]
