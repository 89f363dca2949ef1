"""Addresses and queries are read as the API defines them, and contradictions are refused."""

from __future__ import annotations

import pytest

from tests.fakes.apiserver.calls import read_call
from tests.fakes.apiserver.refusals import Refused


@pytest.mark.parametrize(
    ("method", "path", "verb", "kind", "namespace", "name"),
    [
        ("GET", "/api/v1/services", "list", "Service", "", ""),
        ("GET", "/api/v1/namespaces/shop/services", "list", "Service", "shop", ""),
        ("GET", "/api/v1/namespaces/shop/services/web", "get", "Service", "shop", "web"),
        ("POST", "/api/v1/namespaces/shop/events", "create", "Event", "shop", ""),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/drycc/leases/x", "update", "Lease", "drycc", "x"),
        ("PATCH", "/apis/apps/v1/namespaces/drycc/deployments/x", "patch", "Deployment", "drycc", "x"),
        ("DELETE", "/api/v1/namespaces/shop/secrets/x", "delete", "Secret", "shop", "x"),
        ("GET", "/api/v1/namespaces", "list", "Namespace", "", ""),
        ("GET", "/api/v1/namespaces/shop", "get", "Namespace", "shop", "shop"),
    ],
)
def test_addresses(method: str, path: str, verb: str, kind: str, namespace: str, name: str) -> None:
    call = read_call(method, path, {})

    assert (call.verb, call.kind.name, call.namespace, call.name) == (verb, kind, namespace, name)


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/pods", 404),
        ("GET", "/api/v2/services", 404),
        ("GET", "/apis/apps/v1/services", 404),
        ("GET", "/api/v1/namespaces/shop/services/web/scale", 404),
        ("DELETE", "/api/v1/namespaces/shop/services/web/status", 405),
        ("GET", "/api/v1/services/web", 404),
        ("GET", "/metrics", 404),
        ("DELETE", "/api/v1/services", 405),
        ("POST", "/api/v1/services", 405),
        ("POST", "/api/v1/namespaces/shop/services/web", 405),
    ],
)
def test_other_addresses(method: str, path: str, code: int) -> None:
    with pytest.raises(Refused) as refusal:
        read_call(method, path, {})
    assert refusal.value.code == code


@pytest.mark.parametrize(("text", "watches"), [("true", True), ("1", True), ("", True), ("false", False), ("0", False)])
def test_a_watch_is_asked_for_by_a_truth(text: str, watches: bool) -> None:
    assert read_call("GET", "/api/v1/services", {"watch": text}).verb == ("watch" if watches else "list")


def test_a_field_selector_of_one_name_is_the_name_that_rights_are_judged_by() -> None:
    path = "/api/v1/namespaces/shop/secrets"

    assert read_call("GET", path, {"watch": "1", "fieldSelector": "metadata.name=cert"}).name == "cert"
    assert read_call("GET", path, {"fieldSelector": "metadata.name!=cert"}).name == ""


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"limit": "many"}, 400),
        ({"timeoutSeconds": "-1", "watch": "1"}, 400),
        ({"resourceVersion": "abc"}, 500),
        ({"continue": "x", "resourceVersion": "7"}, 400),
        ({"resourceVersionMatch": "Exact"}, 422),
        ({"resourceVersionMatch": "Exact", "resourceVersion": "0"}, 422),
        ({"resourceVersionMatch": "Newer", "resourceVersion": "7"}, 422),
        ({"resourceVersionMatch": "NotOlderThan", "resourceVersion": "7", "watch": "1"}, 422),
        ({"sendInitialEvents": "true", "watch": "1"}, 422),
        ({"sendInitialEvents": "true"}, 422),
    ],
)
def test_queries_that_contradict_themselves_are_refused(query: dict[str, str], code: int) -> None:
    with pytest.raises(Refused) as refusal:
        read_call("GET", "/api/v1/services", query)
    assert refusal.value.code == code
