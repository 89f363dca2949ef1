"""One file's documents → objects, each told from the others; and Problems that quote nothing."""

from __future__ import annotations

import base64

import pytest

from drycc_router.model.objects import ObjectKey
from drycc_router.model.problems import Reason
from drycc_router.sources.manifest_objects import file_key, read_objects, unreadable
from drycc_router.sources.yaml_documents import JsonValue, read_yaml

CANARY = "c4n4ry-s3cr3t"


def service(**more: JsonValue) -> dict[str, JsonValue]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"}, **more}


def test_several_documents_give_several_objects() -> None:
    text = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: drycc-router, namespace: drycc}
"""
    contents = read_objects("a.yaml", read_yaml(text))
    assert list(contents.objects) == [
        ObjectKey("Service", "shop", "web"),
        ObjectKey("EndpointSlice", "default", "web-1"),
        ObjectKey("Deployment", "drycc", "drycc-router"),
    ]
    assert contents.whole
    assert contents.problems == ()


def test_an_object_without_a_namespace_is_in_default() -> None:
    contents = read_objects("a.yaml", [(1, service(metadata={"name": "web"}))])
    assert contents.objects[ObjectKey("Service", "default", "web")]["metadata"] == {
        "name": "web",
        "namespace": "default",
    }


def test_the_items_of_a_list_are_objects_of_their_own() -> None:
    items: JsonValue = [service(), service(metadata={}), service(metadata={"name": "api"})]
    contents = read_objects("a.yaml", [(1, {"kind": "List", "apiVersion": "v1", "items": items})])
    assert [key.name for key in contents.objects] == ["web", "api"]
    assert [problem.key for problem in contents.problems] == ["items[1].metadata.name"]
    assert not contents.whole


@pytest.mark.parametrize(
    "other",
    [
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "x"}},
        {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "x"}},
        {"apiVersion": "example.com/v1", "kind": "Deployment", "metadata": {"name": "x"}},
        {"kind": "Kustomization"},
    ],
)
def test_other_kinds_and_other_groups_are_passed_over(other: JsonValue) -> None:
    contents = read_objects("a.yaml", [(1, other)])
    assert (dict(contents.objects), contents.problems, contents.whole) == ({}, (), True)


@pytest.mark.parametrize(
    ("document", "key"),
    [
        (["a list"], ""),
        ("text", ""),
        ({}, "kind"),
        ({"kind": 7}, "kind"),
        ({"kind": "List"}, "items"),
        ({"kind": "Service", "metadata": {"name": "x"}}, "apiVersion"),
        (service(metadata=None), "metadata"),
        (service(metadata={}), "metadata.name"),
        (service(metadata={"name": "two\nlines"}), "metadata.name"),
        (service(metadata={"name": "x" * 254}), "metadata.name"),
        (service(metadata={"name": "x", "namespace": "a.b"}), "metadata.namespace"),
        (service(metadata={"name": "x", "namespace": None}), "metadata.namespace"),
    ],
)
def test_a_document_that_is_no_object_is_a_problem_and_leaves_the_others_alone(document: JsonValue, key: str) -> None:
    contents = read_objects("a.yaml", [(3, document), (9, service())])
    assert list(contents.objects) == [ObjectKey("Service", "shop", "web")]
    assert not contents.whole
    [problem] = contents.problems
    assert (problem.reason, problem.object, problem.key) == (Reason.BAD_OBJECT, file_key("a.yaml"), key)
    assert problem.message.startswith("document at line 3: expected ")


def test_the_first_of_two_equal_names_in_one_file_counts() -> None:
    contents = read_objects("a.yaml", [(1, service(spec=1)), (5, service(spec=2))])
    assert contents.objects[ObjectKey("Service", "shop", "web")]["spec"] == 1
    [problem] = contents.problems
    assert problem.reason is Reason.DUPLICATE_OBJECT
    assert contents.whole


def test_string_data_is_folded_into_data_and_wins() -> None:
    secret: JsonValue = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "web-cert", "namespace": "shop"},
        "data": {"tls.crt": "b2xk", "other": "eA=="},
        "stringData": {"tls.crt": "new"},
    }
    contents = read_objects("a.yaml", [(1, secret)])
    raw = contents.objects[ObjectKey("Secret", "shop", "web-cert")]
    assert raw["data"] == {"tls.crt": base64.b64encode(b"new").decode(), "other": "eA=="}
    assert "stringData" not in raw


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"stringData": [CANARY]}, "stringData"),
        ({"stringData": {"tls.key": [CANARY]}}, "stringData.tls.key"),
        ({"stringData": {"tls.key": "x"}, "data": [CANARY]}, "data"),
    ],
)
def test_a_secret_of_the_wrong_shape_is_never_quoted(more: dict[str, JsonValue], key: str) -> None:
    secret: JsonValue = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "shop"}, **more}
    contents = read_objects("a.yaml", [(1, secret)])
    [problem] = contents.problems
    assert problem.key == key
    assert CANARY not in str(problem)
    assert CANARY not in repr(contents)


def test_a_secret_is_not_shown_by_repr() -> None:
    secret: JsonValue = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "namespace": "shop"},
        "stringData": {"tls.key": CANARY},
    }
    contents = read_objects("a.yaml", [(1, secret)])
    assert base64.b64encode(CANARY.encode()).decode() not in repr(contents)


def test_an_unreadable_file_is_one_problem() -> None:
    contents = unreadable("sub/b\n.yaml", "line 3: did not find expected key")
    assert not contents.whole
    [problem] = contents.problems
    assert str(problem) == (
        "File sub/b\\n.yaml: line 3: did not find expected key; what it gave before stays [unreadable_file]"
    )
