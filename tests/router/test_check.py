"""What a directory would come to, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drycc_router import check
from drycc_router.check import Checked, as_json, as_lines, as_text
from drycc_router.settings import read

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


def checked(*sources: Path, stdin: bytes = b"", **settings: str) -> Checked:
    return check.checked(sources, read(settings, {}, needs_source=False), stdin)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "a.yaml").write_text(GOOD)
    return tmp_path


def test_the_table_has_a_line_for_each_name_and_each_path(directory: Path) -> None:
    lines = [line.split() for line in as_text(checked(directory)).splitlines()]
    both = ["[2001:db8::1]:8000,", "[2001:db8::2]:8000"]
    assert lines[0] == ["STATE", "ROUTE", "HOST", "GOES", "TO"]
    assert ["live", "shop/web", "*.shop.example", *both] in lines
    assert ["shop.example", *both] in lines
    assert ["shop.example/api", "shop/api"] in lines
    assert [words[:2] for words in lines].count(["live", "shop/api"]) == 1


def test_problems_are_listed_and_counted(directory: Path) -> None:
    (directory / "b.yaml").write_text(LATE)
    (directory / "c.yaml").write_text("kind: [")
    text = as_text(checked(directory))
    _, _, problems = text.partition("Problems:\n")
    assert "Service thief/late: router.drycc.cc/bodySize = 'ten'" in problems
    assert "[domain_taken]" in problems
    assert "File c.yaml: line 2: " in problems
    assert "shop.example   " in text  # the name that was lost is still in the table, with who has it
    assert "shop/web (not this route)" in text
    assert text.splitlines()[-1].startswith("3 routes, ")


def test_the_same_as_json(directory: Path) -> None:
    (directory / "c.yaml").write_text("kind: [")
    report = json.loads(as_json(checked(directory)))
    assert report.keys() == {"routes", "streams", "certificates", "problems", "odd"}
    assert [route["name"] for route in report["routes"]] == ["shop/api", "shop/web"]
    assert "unreadable_file" in {problem["reason"] for problem in report["problems"]}


def test_a_file_written_just_now_is_looked_at_just_now(directory: Path) -> None:
    (directory / "late.yaml").write_text("kind: [")
    assert "late.yaml" in as_text(checked(directory))


def test_the_router_s_own_namespace_matters(directory: Path) -> None:
    (directory / "own.yaml").write_text(
        "apiVersion: apps/v1\nkind: Deployment\n"
        "metadata: {name: drycc-router, namespace: ours, annotations: {router.drycc.cc/bodySize: many}}\n"
    )
    assert "[bad_value]" in as_text(checked(directory, namespace="ours"))
    assert "[bad_value]" not in as_text(checked(directory))


def test_an_empty_directory_comes_to_nothing(tmp_path: Path) -> None:
    assert as_text(checked(tmp_path)).splitlines()[-1] == "0 routes, 0 problems, 0 notes"


def test_every_problem_has_its_file_and_its_line(directory: Path) -> None:
    (directory / "b.yaml").write_text(LATE)
    (directory / "c.yaml").write_text("a: 1\nkind: [\n")
    (directory / "d.yaml").write_text("kind: List\nitems:\n- kind: Service\n  apiVersion: v1\n  metadata: {name: A}\n")
    (directory / "e.yaml").write_text(LATE)
    lines = as_lines(checked(directory)).splitlines()
    told = {(line.split(": error: ")[0], line.rpartition("[")[2]) for line in lines if ": error: " in line}
    below = str(directory)
    assert told == {
        (f"{below}/b.yaml:8", "bad_value]"),
        (f"{below}/b.yaml:8", "unknown_key]"),
        (f"{below}/b.yaml:8", "domain_taken]"),
        (f"{below}/c.yaml:3", "unreadable_file]"),
        (f"{below}/d.yaml:5", "bad_object]"),
        (f"{below}/e.yaml:2", "duplicate_object]"),
        (f"{below}/a.yaml:8", "domain_without_certificate]"),
    }
    report = json.loads(as_json(checked(directory)))
    for problem in report["problems"]:
        if problem["kind"] in ("Service", "File"):
            assert problem["file"].startswith(below)
            assert problem["line"] > 0
    assert {problem["app"] for problem in report["problems"]} >= {"thief/late", ""}


def test_an_element_of_a_long_list_has_its_own_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        GOOD.replace('"*.shop.example, shop.example"', '"shop.example"')
        .replace(
            "  annotations: {router.drycc.cc/domains: ",
            "  annotations:\n    router.drycc.cc/whitelist: |\n      10.0.0.0/8,\n      everybody,\n      10.1.2.3/16\n"
            "    router.drycc.cc/domains: ",
            1,
        )
        .replace('"shop.example"}', '"shop.example"', 1)
    )
    lines = [line for line in as_lines(checked(tmp_path)).splitlines() if "whitelist" in line]
    assert [line.split(":")[1] for line in lines] == ["11", "12"]


def test_what_is_said_is_grouped_by_app(directory: Path) -> None:
    (directory / "b.yaml").write_text(LATE)
    (directory / "c.yaml").write_text("kind: [")
    (directory / "d.yaml").write_text(
        """
apiVersion: v1
kind: Secret
metadata: {name: shop-cert, namespace: shop}
data: {tls.crt: "-", tls.key: "-"}
"""
    )
    (directory / "a.yaml").write_text(
        GOOD.replace(
            '"*.shop.example, shop.example"', '"shop.example", router.drycc.cc/certificates: "shop.example:shop"'
        )
    )
    text = as_text(checked(directory))
    _, _, problems = text.partition("Problems:\n")
    groups = [line.strip() for line in problems.splitlines() if line.startswith("  ") and not line.startswith("   ")]
    assert groups[:3] == ["the router and its files", "shop/web", "thief/late"]
    _, _, mine = problems.partition("  shop/web\n")
    mine, _, _ = mine.partition("  thief/late\n")
    assert "Secret shop/shop-cert" in mine
    assert f"{directory}/d.yaml:5: Secret shop/shop-cert: data[tls.crt]: expected base64" in mine


def test_what_is_odd_is_told_though_nothing_is_wrong(directory: Path) -> None:
    unlabelled = LATE.replace('  labels: {router.drycc.cc/routable: "true"}\n', "").replace("name: late", "name: quiet")
    shouting = LATE.replace('"true"', '"True"').replace("name: late", "name: loud")
    (directory / "b.yaml").write_text(unlabelled + "---" + shouting)
    outcome = checked(directory)
    assert not [problem for problem in outcome.snapshot.problems if problem.object.namespace == "thief"]
    lines = [line for line in as_lines(outcome).splitlines() if ": warning: " in line]
    quiet, loud = [line.removeprefix(f"{directory}/b.yaml:") for line in lines]
    assert quiet.startswith("4: warning: Service thief/quiet: metadata.labels: is not routed: it has our annotations")
    assert loud.startswith("15: warning: Service thief/loud: metadata.labels[router.drycc.cc/routable]: is not routed")
    text = as_text(outcome)
    assert "Odd, though nothing is wrong:\n  thief/loud\n    " in text
    assert [each["name"] for each in json.loads(as_json(outcome))["odd"]] == ["loud", "quiet"]


def test_a_directory_without_a_service_is_odd(tmp_path: Path) -> None:
    assert as_lines(checked(tmp_path)) == "drycc-router: warning: there is no Service, so nothing is routed"
    (tmp_path / "a.yaml").write_text("apiVersion: v1\nkind: service\nmetadata: {name: web}\n")
    assert f"{tmp_path}/a.yaml:2: warning: kind: is passed over: the kind is written Service" in as_lines(
        checked(tmp_path)
    )


def test_files_and_the_standard_input_are_looked_at_together(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.yaml").write_text(LATE)
    outcome = checked(tmp_path / "a.yaml", tmp_path / "more", Path("-"), stdin=LATE.replace("late", "later").encode())
    assert sorted(outcome.snapshot.apps) == ["shop/api", "shop/web", "thief/late", "thief/later"]
    files = {place.file for place in outcome.places.values()}
    assert files >= {f"{tmp_path}/more/b.yaml", "<stdin>"}


def test_a_file_that_cannot_be_read_is_a_problem_with_a_place(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").mkdir()
    (tmp_path / "b.yaml").write_bytes(b"a: 1\nb: \xff\n")
    lines = as_lines(checked(tmp_path)).splitlines()
    assert any(line.startswith(f"{tmp_path}/b.yaml:2: error: File b.yaml: line 2: not UTF-8") for line in lines)
