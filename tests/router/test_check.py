"""What a directory would come to, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from router.check import as_json, as_text, compiled

GOOD = """
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: shop
  labels: {router.drycc.cc/routable: "true"}
  annotations: {router.drycc.cc/domains: "*.shop.example, shop.example"}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata:
  name: api
  namespace: shop
  labels: {router.drycc.cc/routable: "true"}
  annotations: {router.drycc.cc/proxyDomain: shop.example, router.drycc.cc/proxyLocations: /api}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports: [{name: http, port: 8000}]
endpoints: [{addresses: ["2001:db8::1"]}, {addresses: ["2001:db8::2"]}]
"""

LATE = """
apiVersion: v1
kind: Service
metadata:
  name: late
  namespace: thief
  labels: {router.drycc.cc/routable: "true"}
  annotations: {router.drycc.cc/domains: shop.example, router.drycc.cc/bodySize: ten, router.drycc.cc/gzip.enabled: x}
spec: {ports: [{name: http, port: 80}]}
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "a.yaml").write_text(GOOD)
    return tmp_path


def test_the_table_has_a_line_for_each_name_and_each_path(directory: Path) -> None:
    lines = [line.split() for line in as_text(compiled(directory, "drycc")).splitlines()]
    both = ["[2001:db8::1]:8000,", "[2001:db8::2]:8000"]
    assert lines[0] == ["STATE", "ROUTE", "HOST", "GOES", "TO"]
    assert ["live", "shop/web", "*.shop.example", *both] in lines
    assert ["shop.example", *both] in lines
    assert ["shop.example/api", "shop/api"] in lines
    assert [words[:2] for words in lines].count(["live", "shop/api"]) == 1


def test_problems_are_listed_and_counted(directory: Path) -> None:
    (directory / "b.yaml").write_text(LATE)
    (directory / "c.yaml").write_text("kind: [")
    text = as_text(compiled(directory, "drycc"))
    _, _, problems = text.partition("Problems:\n")
    assert "Service thief/late: router.drycc.cc/bodySize = 'ten'" in problems
    assert "[domain_taken]" in problems
    assert "File c.yaml: line 2: " in problems
    assert "shop.example   " in text  # the name that was lost is still in the table, with who has it
    assert "shop/web (not this route)" in text
    assert text.splitlines()[-1].startswith("3 routes, ")


def test_the_same_as_json(directory: Path) -> None:
    (directory / "c.yaml").write_text("kind: [")
    report = json.loads(as_json(compiled(directory, "drycc")))
    assert report.keys() == {"routes", "streams", "certificates", "problems"}
    assert [route["name"] for route in report["routes"]] == ["shop/api", "shop/web"]
    assert "unreadable_file" in {problem["reason"] for problem in report["problems"]}


def test_a_file_written_just_now_is_looked_at_just_now(directory: Path) -> None:
    (directory / "late.yaml").write_text("kind: [")
    assert "late.yaml" in as_text(compiled(directory, "drycc"))


def test_the_router_s_own_namespace_matters(directory: Path) -> None:
    (directory / "own.yaml").write_text(
        "apiVersion: apps/v1\nkind: Deployment\n"
        "metadata: {name: drycc-router, namespace: ours, annotations: {router.drycc.cc/bodySize: many}}\n"
    )
    assert "[bad_value]" in as_text(compiled(directory, "ours"))
    assert "[bad_value]" not in as_text(compiled(directory, "drycc"))


def test_an_empty_directory_comes_to_nothing(tmp_path: Path) -> None:
    assert as_text(compiled(tmp_path, "drycc")).splitlines()[-1] == "0 routes, 0 problems, 0 notes"
