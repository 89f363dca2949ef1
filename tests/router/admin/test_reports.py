"""What is in force, as JSON; and never a key."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from drycc_router.admin import reports
from drycc_router.compile.compiler import Compiler
from drycc_router.compile.revision import CertificateReport, Role, Snapshot
from drycc_router.model.objects import Change, ObjectKey
from drycc_router.model.problems import Problem, Reason
from drycc_tls.self_signed import self_signed

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PORTS = {"http": 8080, "https": 8443, "git": None, "admin": 9090}


def snapshot() -> Snapshot:
    compiler = Compiler(trusted_endpoints=True)
    metadata = {
        "name": "web",
        "namespace": "shop",
        "labels": {"router.drycc.cc/routable": "true"},
        "annotations": {"router.drycc.cc/domains": "a.localhost"},
    }
    raw = {"metadata": metadata, "spec": {"ports": [{"port": 80}]}}
    compiler.apply(Change(ObjectKey("Service", "shop", "web"), raw))
    compiler.source_problems("x", (Problem(Reason.UNREADABLE_FILE, ObjectKey("File", "", "b.yaml"), "", "", "broken"),))
    return compiler.compile(NOW)


def test_before_the_first_snapshot_there_is_nothing_to_report() -> None:
    assert json.loads(reports.routes(None, PORTS, [])) == {
        "generation": 0,
        "ports": PORTS,
        "load_balancer": [],
        "routes": [],
        "upstreams": [],
        "streams": [],
    }
    assert json.loads(reports.problems(None)) == {"generation": 0, "problems": []}
    assert json.loads(reports.certificates(None, NOW)) == {"generation": 0, "certificates": []}


def test_routes_come_with_ports_and_upstreams() -> None:
    upstreams = [{"route": "shop/web", "endpoints": []}]
    report = json.loads(reports.routes(snapshot(), PORTS, upstreams))
    assert report["ports"] == PORTS
    assert report["upstreams"] == upstreams
    [route] = report["routes"]
    assert (route["name"], route["hosts"][0]["host"]) == ("shop/web", "a.localhost")


def test_every_problem_names_object_key_value_and_expectation() -> None:
    report = json.loads(reports.problems(snapshot()))
    reasons = {problem["reason"] for problem in report["problems"]}
    assert "unreadable_file" in reasons
    for problem in report["problems"]:
        assert problem.keys() == {"reason", "severity", "kind", "namespace", "name", "key", "value", "message"}


def test_certificates_are_reported_without_their_keys() -> None:
    pair = self_signed(NOW)
    served = {"shop/web-cert": CertificateReport("shop", "web-cert", pair, ("a.localhost",), Role.OWN)}
    body = reports.certificates(replace(snapshot(), served=served), NOW + timedelta(days=10))
    [certificate] = json.loads(body)["certificates"]
    assert certificate["secret"] == "web-cert"
    assert certificate["days_left"] == 3640
    assert b"PRIVATE" not in body
    assert not any(line in body for line in pair.key_pem.splitlines()[1:-1])
