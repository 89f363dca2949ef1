"""Views read what the router needs, refuse other shapes with the path, and never show a Secret."""

import base64
import copy
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drycc_router.model import objects
from drycc_router.model.objects import (
    Change,
    ObjectError,
    ObjectKey,
    Secret,
    ServicePort,
    SliceEndpoint,
    SlicePort,
    parse_config_map,
    parse_deployment,
    parse_endpoint_slice,
    parse_secret,
    parse_service,
)
from drycc_router.sources.fingerprints import narrow
from tests.fakes.apiserver.objects import apps

KEY = ObjectKey("Service", "shop", "web")

SERVICE: dict[str, Any] = {
    "metadata": {
        "name": "web",
        "labels": {"app": "shop", "router.drycc.cc/routable": "true", "team": "seven"},
        "annotations": {"router.drycc.cc/domains": "a.example", "kubectl.kubernetes.io/x": "y"},
        "creationTimestamp": "2026-01-31T12:00:00Z",
        "managedFields": [{"manager": "kubectl"}],
    },
    "spec": {
        "clusterIP": "10.1.2.3",
        "ports": [{"name": "http", "port": 80, "targetPort": 5000}, {"port": 53, "protocol": "UDP"}],
    },
}


def test_a_service_is_read_down_to_what_the_router_needs() -> None:
    service = parse_service(KEY, SERVICE)

    assert service.labels == {"app": "shop", "router.drycc.cc/routable": "true"}
    assert service.annotations == {"router.drycc.cc/domains": "a.example"}
    assert service.created == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert (service.type, service.cluster_ip) == ("ClusterIP", "10.1.2.3")
    assert service.ports == (ServicePort("http", 80, "TCP"), ServicePort("", 53, "UDP"))


def test_an_update_of_other_fields_leaves_an_equal_view() -> None:
    metadata: dict[str, Any] = {**SERVICE["metadata"], "resourceVersion": "7", "managedFields": []}

    assert parse_service(KEY, {**SERVICE, "metadata": metadata}) == parse_service(KEY, SERVICE)


def test_a_headless_service_has_no_address() -> None:
    assert parse_service(KEY, {"spec": {"clusterIP": "None"}}).cluster_ip == ""


def test_a_time_read_by_a_yaml_loader_is_a_time_too() -> None:
    service = parse_service(KEY, {"metadata": {"creationTimestamp": datetime(2026, 1, 31, 12)}})

    assert service.created == datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ({"metadata": []}, "metadata"),
        ({"metadata": {"annotations": {"router.drycc.cc/maintenance": True}}}, "router.drycc.cc/maintenance"),
        ({"metadata": {"annotations": {7: "x"}}}, "metadata.annotations"),
        ({"metadata": {"creationTimestamp": "yesterday"}}, "metadata.creationTimestamp"),
        ({"metadata": {"creationTimestamp": "0001-01-01T00:00:00+23:00"}}, "metadata.creationTimestamp"),
        ({"spec": {"ports": {"port": 80}}}, "spec.ports"),
        ({"spec": {"ports": [{"port": 80}, {"port": "80"}]}}, "spec.ports[1].port"),
        ({"spec": {"ports": [{"port": True}]}}, "spec.ports[0].port"),
        ({"spec": {"ports": [{"port": 65536}]}}, "spec.ports[0].port"),
        ({"spec": {"ports": [{"name": "http"}]}}, "spec.ports[0].port"),
    ],
)
def test_another_shape_is_refused_with_the_path_to_it(raw: dict[str, Any], path: str) -> None:
    with pytest.raises(ObjectError) as caught:
        parse_service(KEY, raw)

    assert path in caught.value.path


def test_ready_endpoints_are_in_and_terminating_ones_are_not() -> None:
    """An unset ``ready`` means ready; what is terminating gets nothing new unless it serves and none is ready."""
    raw = {
        "metadata": {"labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": ["10.0.0.1"]},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": False}},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": True, "serving": True, "terminating": True}},
            {"addresses": ["10.0.0.4"], "conditions": {"ready": None, "terminating": None}},
            {"addresses": ["10.0.0.5"], "conditions": {"ready": False, "serving": False, "terminating": True}},
            {"addresses": ["10.0.0.6"], "conditions": {"ready": False, "terminating": True}},
            {"addresses": ["10.0.0.7"], "conditions": {"ready": False, "serving": True}},
        ],
        "ports": [{"name": "http", "port": 5000}, {"name": "any", "port": None}],
    }

    view = parse_endpoint_slice(ObjectKey("EndpointSlice", "shop", "web-1"), raw)

    assert (view.service, view.address_type) == ("web", "IPv4")
    assert view.endpoints == (
        SliceEndpoint(("10.0.0.1",), ready=True),
        SliceEndpoint(("10.0.0.2",), ready=False),
        SliceEndpoint(("10.0.0.3",), ready=False, leaving=True),
        SliceEndpoint(("10.0.0.4",), ready=True),
        SliceEndpoint(("10.0.0.5",), ready=False),
        SliceEndpoint(("10.0.0.6",), ready=False, leaving=True),
        SliceEndpoint(("10.0.0.7",), ready=False),
    )
    assert view.ports == (SlicePort("http", 5000, "TCP"),)


def test_a_slice_says_whose_it_is_and_what_its_endpoints_are() -> None:
    raw = {
        "metadata": {
            "ownerReferences": [{"kind": "Endpoints", "uid": "1"}, {"kind": "Service", "name": "web", "uid": "2"}]
        },
        "endpoints": [
            {"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "namespace": "shop", "name": "web-0"}},
            {"addresses": ["10.0.0.2"], "targetRef": {"kind": "Node", "name": "node-1"}},
            {"addresses": ["10.0.0.3"]},
        ],
    }

    view = parse_endpoint_slice(ObjectKey("EndpointSlice", "shop", "web-1"), raw)

    assert view.owner == "2"
    targets = [ObjectKey("Pod", "shop", "web-0"), ObjectKey("Node", "", "node-1"), None]
    assert [endpoint.target for endpoint in view.endpoints] == targets
    assert parse_service(KEY, {"metadata": {"uid": "2"}}).uid == "2"


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ({"metadata": {"ownerReferences": [{"kind": "Service", "uid": 7}]}}, "metadata.ownerReferences[0].uid"),
        ({"endpoints": [{"targetRef": "web-0"}]}, "endpoints[0].targetRef"),
        ({"endpoints": [{"targetRef": {"namespace": 1}}]}, "endpoints[0].targetRef.namespace"),
    ],
)
def test_another_shape_of_that_is_refused(raw: dict[str, Any], path: str) -> None:
    with pytest.raises(ObjectError) as refused:
        parse_endpoint_slice(ObjectKey("EndpointSlice", "shop", "web-1"), raw)
    assert refused.value.path == path


def test_a_secret_is_decoded_and_its_plain_form_wins() -> None:
    key = ObjectKey("Secret", "shop", "shop-cert")
    raw = {
        "data": {"tls.crt": base64.encodebytes(b"certificate" * 20).decode(), "tls.key": "AAAA", "other": "not base64"},
        "stringData": {"tls.key": "key"},
    }

    assert parse_secret(key, raw) == Secret(key, {"tls.crt": b"certificate" * 20, "tls.key": b"key"})


@pytest.mark.parametrize("raw", [{"data": {"tls.key": "canary!"}}, {"stringData": {"tls.key": "canary\ud800"}}])
def test_a_secret_is_never_quoted(raw: dict[str, Any]) -> None:
    key = ObjectKey("Secret", "shop", "shop-cert")

    with pytest.raises(ObjectError) as caught:
        parse_secret(key, raw)

    error = caught.value
    assert "canary" not in f"{error!r} {error.__context__!r} {error.__cause__!r}"
    assert "canary" not in repr(Secret(key, {"tls.key": b"canary"}))
    assert "canary" not in repr(Change(key, {"data": {"tls.key": "canary"}}))


FIELDS = st.sampled_from(
    ["metadata", "spec", "labels", "annotations", "ports", "endpoints", "addresses", "conditions", "data", "tls.crt"]
)
SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(FIELDS, inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    "parse", [parse_service, parse_endpoint_slice, parse_secret, parse_config_map, parse_deployment]
)
@settings(deadline=None, max_examples=50)
@given(raw=st.dictionaries(FIELDS, SHAPES, max_size=4))
def test_any_shape_is_read_or_refused(parse: Callable[[ObjectKey, Any], object], raw: dict[str, Any]) -> None:
    try:
        parse(KEY, raw)
    except ObjectError as error:
        assert error.path
        assert error.expected


USUAL: dict[str, dict[str, Any]] = {
    "Service": {
        "metadata": {
            "namespace": "shop",
            "name": "web",
            "uid": "2",
            "creationTimestamp": "2026-01-31T12:00:00Z",
            "labels": {"app": "shop", "router.drycc.cc/routable": "true", "team": "seven"},
            "annotations": {"router.drycc.cc/domains": "a.example", "kubectl.kubernetes.io/x": "y"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "10.1.2.3",
            "ports": [
                {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 5000},
                {"name": "dns", "port": 53, "protocol": "UDP"},
            ],
        },
        "status": None,
    },
    "EndpointSlice": {
        "metadata": {
            "namespace": "shop",
            "name": "web-abcde",
            "labels": {"kubernetes.io/service-name": "web", "team": "seven"},
            "ownerReferences": [{"kind": "Other", "uid": "1"}, {"kind": "Service", "uid": "2", "name": "web"}],
        },
        "addressType": "IPv4",
        "endpoints": [
            {
                "addresses": ["10.0.0.1"],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "targetRef": {"kind": "Pod", "namespace": "shop", "name": "web-0"},
            },
            {"addresses": ["10.0.0.2", "10.0.0.3"], "conditions": {"ready": True, "terminating": True}},
            {"addresses": ["10.0.0.4"]},
        ],
        "ports": [{"name": "http", "port": 5000, "protocol": "TCP"}],
    },
}

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 80, 80.0, 65535, 65536, -1, 1 << 70, 0.5, float("nan")),
    *("", "None", "80", "TCP", "Service", "Pod", "\ud800", "é"),
    *("2026-01-31", "2026-01-31T12:00:00.5+02:00", "0001-01-01T00:00:00+23:00"),
    *([], {}, [None], [{}], [[]], ["x"], [True], {"name": "x"}, {"port": 80}, {"uid": "7"}, {"\ud800": 1}),
    {"ready": None},
    {"ready": False, "terminating": False},
    {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}},
    {"router.deis.io/x": 1, "other": 1},
    {"router.deis.io/x": "1", "other": 1},
)
BESIDE = ("status", "namespace", "labels", "terminating", "serving", "\ud800", "é")


def _places(raw: Any) -> Iterator[tuple[Any, Any]]:
    """Every part of a document: (the dict or list that it stands in, where in that)."""
    for place in list(raw) if isinstance(raw, dict) else range(len(raw)):
        yield raw, place
        if isinstance(raw[place], dict | list):
            yield from _places(raw[place])


def _outcome(parse: Callable[[ObjectKey, Any], object], raw: dict[str, Any]) -> object:
    try:
        return parse(KEY, raw)
    except ObjectError as error:
        return error.path, error.expected


def assert_read_as_everything_else_is(kind: str, raw: dict[str, Any]) -> None:
    """The quick reader of the usual shape and the patient one come to the same view, or the same word of refusal."""
    before = copy.deepcopy(raw)
    if kind == "Service":
        assert _outcome(parse_service, raw) == _outcome(objects._any_service, raw), raw
    else:
        assert _outcome(parse_endpoint_slice, raw) == _outcome(objects._any_slice, raw), raw
    assert raw == before


@pytest.mark.parametrize("kind", ["Service", "EndpointSlice"])
def test_what_differs_from_the_usual_in_one_place_is_read_as_everything_else_is(kind: str) -> None:
    for number in range(len(list(_places(USUAL[kind])))):
        raw = copy.deepcopy(USUAL[kind])
        holder, place = list(_places(raw))[number]
        for odd in ODD:
            holder[place] = copy.deepcopy(odd)
            assert_read_as_everything_else_is(kind, raw)
        del holder[place]
        assert_read_as_everything_else_is(kind, raw)


@st.composite
def nearly_usual(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """What Kubernetes writes, with some parts missing, some of another shape, and some beside."""
    raw = copy.deepcopy(USUAL[kind])
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(raw))
        if not places:
            break
        holder, place = draw(st.sampled_from(places))
        odd = copy.deepcopy(draw(st.sampled_from(ODD) | SHAPES))
        match draw(st.integers(0, 2)):
            case 0:
                del holder[place]
            case 1 if isinstance(holder, dict):
                holder[draw(st.sampled_from(BESIDE))] = odd
            case _:
                holder[place] = odd
    return raw


@pytest.mark.parametrize("kind", ["Service", "EndpointSlice"])
@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_what_differs_anywhere_is_read_as_everything_else_is(kind: str, data: st.DataObject) -> None:
    assert_read_as_everything_else_is(kind, data.draw(nearly_usual(kind)))


def test_what_kubernetes_writes_looks_as_usual() -> None:
    """Else the quick reader would be there for nothing."""
    assert objects._usual_service(KEY, USUAL["Service"]) is not None
    assert objects._usual_slice(KEY, USUAL["EndpointSlice"]) is not None
    for raw in apps(1):
        raw = dict(narrow(raw["kind"])(raw))
        assert (objects._usual_service if "spec" in raw else objects._usual_slice)(KEY, raw) is not None


def test_a_service_says_who_leads_to_it() -> None:
    key = ObjectKey("Service", "drycc", "drycc-router")
    ingress = [{"ip": "203.0.113.7"}, {"hostname": "lb.example"}, {}]
    assert parse_service(key, {"status": {"loadBalancer": {"ingress": ingress}}}).balancers == (
        "203.0.113.7",
        "lb.example",
    )
    assert parse_service(key, {"status": {"loadBalancer": {}}}).balancers == ()
    with pytest.raises(ObjectError, match=r"status\.loadBalancer\.ingress"):
        parse_service(key, {"status": {"loadBalancer": {"ingress": "here"}}})
