"""Where in a text things stand, whatever it is written in."""

from __future__ import annotations

import json

import pytest
import yaml

from drycc_router.model.objects import ObjectKey
from drycc_router.sources.places import objects_in

WEB = ObjectKey("Service", "shop", "web")
P = "router.drycc.cc/"

YAML = """\
# a comment
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: shop
  labels:
    router.drycc.cc/routable: "true"
  annotations:
    router.drycc.cc/domains: |
      a.example,
      b.example
    router.drycc.cc/bodySize: 10m
spec:
  ports:
  - name: http
    port: 80
  - name: other
    port: 81
---
kind: Nothing
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Secret
  metadata: {name: a, namespace: shop}
  stringData:
    tls.key: |
      x
- {apiVersion: v1, kind: Secret, metadata: {name: b}, data: {"tls.crt": ""}}
"""


def test_every_part_has_its_line() -> None:
    web, nothing, first, second = objects_in(YAML, is_json=False)
    assert (web.key, web.line) == (WEB, 2)
    assert (nothing.key, nothing.line) == (None, 21)
    assert (first.key, first.line) == (ObjectKey("Secret", "shop", "a"), 26)
    assert (second.key, second.line) == (ObjectKey("Secret", "default", "b"), 32)
    for path, line in {
        f"{P}domains": 10,
        f"{P}bodySize": 13,
        f"{P}routable": 8,
        f"metadata.labels[{P}routable]": 8,
        f"{P}never": 9,
        "metadata.name": 5,
        "spec.ports": 15,
        "spec.ports[1].port": 19,
        "spec.ports[7].port": 15,
        "spec.type": 14,
        "status": 2,
        "": 2,
    }.items():
        assert web.line_of(path) == line, path
    assert web.end_of(10) == 13
    assert (first.line_of("tls.key"), first.line_of("data[tls.key]"), first.line_of("data[tls.crt]")) == (30, 30, 29)
    assert second.line_of("data[tls.crt]") == 32


@pytest.mark.parametrize("indent", [None, 0, 2])
def test_json_has_the_lines_that_yaml_finds_in_it(indent: int | None) -> None:
    documents = [document for document in yaml.safe_load_all(YAML) if document]
    documents[0]["metadata"]["annotations"]["odd"] = ["{", '[\\"]', {"x,": [[], {}, None, 1.5]}]
    texts = [json.dumps(document, indent=indent) for document in documents]
    for text in texts:
        as_json, as_yaml = objects_in(text, is_json=True), objects_in(text, is_json=False)
        plain = objects_in(f"x: 1\n---\n{text}", is_json=False)[1:]
        assert len(as_json) == len(as_yaml) == len(plain) > 0
        for mine, yours, third in zip(as_json, as_yaml, plain, strict=True):
            for path in (f"{P}domains", f"{P}bodySize", "metadata.name", "spec.ports[1].port", "data[tls.crt]", "kind"):
                assert mine.line_of(path) == yours.line_of(path) == third.line_of(path) - 2, path
                assert 1 <= mine.line_of(path) <= text.count("\n") + 1
    lines = texts[0].split("\n")
    if indent is not None:
        [web] = objects_in(texts[0], is_json=True)
        assert f'"{P}bodySize"' in lines[web.line_of(f"{P}bodySize") - 1]
        assert '"port": 81' in lines[web.line_of("spec.ports[1].port") - 1]


def test_documents_of_json_follow_each_other() -> None:
    one = json.dumps(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "x": "\U0001f680 --- {"}}, indent=1
    )
    for text in (f"{one}\n{one}\n", f"{one}\n---\n# and\n{one}\n"):
        first, second = objects_in(text, is_json="---\n#" not in text)
        assert first.line_of("metadata.name") == 5
        assert '"name"' in text.split("\n")[second.line_of("metadata.name") - 1]


@pytest.mark.parametrize("text", ["kind: [", "{", "a: *b", "", "---", "1", "- a", "kind: List\nitems: {}\n"])
def test_what_cannot_be_read_has_no_places(text: str) -> None:
    assert [each.key for each in objects_in(text, is_json=False)] in ([], [None])
    assert [each.key for each in objects_in(text, is_json=True)] in ([], [None])


def test_aliases_are_bounded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 6)]
    [found] = objects_in("\n".join(lines), is_json=False)
    assert found.line_of("a3") == 4
