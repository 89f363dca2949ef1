"""Alerts and dashboard speak of metrics that the router has, and the alerts fire when they should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.rendering import CHART, EVERYTHING, rendered

RULES = CHART / "files" / "rules.yaml"
BOARD = json.loads((CHART / "files" / "dashboard.json").read_text(encoding="utf-8"))

ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]
]

RUNBOOK = "https://github.com/drycc/router/blob/main/docs/alerts.md"

EXPRESSIONS = {
    **{alert["alert"]: alert["expr"] for alert in ALERTS},
    **{
        f"{panel['title']} ({panel['id']})": " ".join(target["expr"] for target in panel["targets"])
        for panel in BOARD["panels"]
        if panel["type"] != "row"
    },
    **{variable["name"]: variable["query"]["query"] for variable in BOARD["templating"]["list"][1:]},
}
"""Alert, panel or variable → what it asks Prometheus."""


def series() -> set[str]:
    """The names under which Prometheus stores what there is, by the page that ``test_docs.py`` holds to it."""
    page = (CHART.parents[1] / "docs" / "operations.md").read_text(encoding="utf-8")
    kinds = re.findall(r"^\| `(router_\w+)` \| (counter|gauge|histogram) \|", page, re.MULTILINE)
    assert len(kinds) > 50
    parts = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
    return {f"{name}{part}" for name, kind in kinds for part in parts[kind]}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_every_series_exists(name: str) -> None:
    asked_for = set(re.findall(r"\brouter_\w+", EXPRESSIONS[name]))
    assert asked_for or "process_" in EXPRESSIONS[name]
    assert asked_for <= series()


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    page = (CHART.parents[1] / "docs" / "alerts.md").read_text(encoding="utf-8")
    for alert in ALERTS:
        assert alert["labels"]["severity"] in {"critical", "warning", "info"}
        notes = alert["annotations"]
        assert notes.keys() == {"summary", "description", "runbook_url"}
        assert notes["summary"].endswith(".") and notes["description"].endswith("."), alert["alert"]
        assert notes["runbook_url"] == f"{RUNBOOK}#{alert['alert'].lower()}"
        assert f"\n## {alert['alert']}\n" in page


def test_the_chart_carries_the_rules_as_they_are() -> None:
    carried = rendered(EVERYTHING).one("PrometheusRule")["spec"]
    assert carried == yaml.safe_load(RULES.read_text(encoding="utf-8"))


def test_an_operator_may_keep_the_runbooks_elsewhere() -> None:
    values = EVERYTHING | {"prometheusRule": {"enabled": True, "runbook": "https://wiki.example/alerts"}}
    [group] = rendered(values).one("PrometheusRule")["spec"]["groups"]
    links = [rule["annotations"]["runbook_url"] for rule in group["rules"]]
    assert links == [f"https://wiki.example/alerts#{alert['alert'].lower()}" for alert in ALERTS]


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool (Debian: prometheus) is not installed")


@pytest.mark.peer
@promtool
def test_promtool_accepts_the_rules() -> None:
    checked = subprocess.run(["promtool", "check", "rules", RULES], capture_output=True, text=True, timeout=30)
    assert checked.returncode == 0, checked.stderr


TWO_ROUTERS = {'router_build_info{instance="a",job="r"}': "1", 'router_build_info{instance="b",job="r"}': "1"}

FIRING: dict[str, dict[str, str]] = {
    "RouterAbsent": {},
    "RouterDown": {'up{instance="a",job="r"}': "0"},
    "RouterConfigNotApplied": {'router_config_last_apply_successful{instance="a"}': "0"},
    "RouterWorkerBehind": {
        'router_config_generation{instance="a",job="r"}': "9",
        'router_worker_generation{instance="a",job="r",worker="0"}': "9",
        'router_worker_generation{instance="a",job="r",worker="1"}': "8",
    },
    "RouterReplicasDisagree": {
        'router_routes{instance="a",job="r",state="live"}': "10",
        'router_routes{instance="b",job="r",state="live"}': "9",
    },
    "RouterWatchStalled": {'router_watch_lag_seconds{instance="a",kind="Service"}': "301"},
    "RouterApiFails": {'router_watch_failures_total{instance="a",error="403"}': "0+1"},
    "RouterInternalErrors": {'router_faults_total{instance="a",where="client"}': "0+1"},
    "RouterWorkerDied": {'router_worker_deaths_total{instance="a",worker="0",reason="killed"}': "0+1"},
    "RouterOpenFilesShort": {
        'router_worker_open_fds{instance="a",worker="1"}': "900",
        'router_worker_max_fds{instance="a",worker="1"}': "1000",
    },
    "RouterPlacesShort": {
        'router_connection_places{instance="a",state="taken"}': "900",
        'router_connection_places{instance="a",state="all"}': "1000",
    },
    "RouterOverloaded": {'router_overload_shed_ratio{instance="a"}': "0.1"},
    "RouterMemoryShort": {'router_overload_level{instance="a"}': "1"},
    "RouterSlow": {
        'router_overhead_seconds_bucket{instance="a",le="0.1"}': "0+90",
        'router_overhead_seconds_bucket{instance="a",le="+Inf"}': "0+100",
        'router_overhead_seconds_bucket{instance="a",le="0.5"}': "0+100",
    },
    "RouterAccessLogDropped": {'router_access_log_dropped_total{instance="a"}': "0+6"},
    "RouterTlsHandshakesFail": {
        "router_tls_handshakes_total": "0+100",
        "router_tls_handshake_failures_total": "0+100",
    },
    "RouterCertificateExpired": {
        'router_tls_cert_not_after_timestamp_seconds{namespace="shop",secret="shop-cert",cn="shop.example"}': "1"
    },
    "RouterCertificateExpiresSoon": {
        'router_tls_cert_not_after_timestamp_seconds{namespace="shop",secret="shop-cert",cn="shop.example"}': "86400"
    },
    "RouterAppUnreachable": {
        'router_errors_total{app="shop",reason="connect_failed"}': "0+10",
        'router_requests_total{app="shop",namespace="shop",service="web",code="502"}': "0+10",
        'router_requests_total{app="shop",namespace="shop",service="web",code="200"}': "0+90",
    },
    "RouterEndpointsEjected": {'router_upstream_ejected{app="shop",namespace="shop",service="web"}': "1"},
    "RouterAppWithoutEndpoint": {'router_errors_total{app="shop",reason="no_endpoint"}': "0+1"},
    "RouterRequestsQueued": {'router_requests_queued{instance="a"}': "3"},
    "RouterStreamsFail": {'router_stream_closed_total{stream="git",reason="connect_failed"}': "0+1"},
    "RouterGitSessionsFail": {
        'router_ssh_sessions_total{service="git-receive-pack",outcome="builder_unavailable"}': "0+1"
    },
    "RouterRouteRejected": {
        'router_routes{instance="a",job="r",state="rejected"}': "2",
        'router_routes{instance="b",job="r",state="rejected"}': "2",
    },
    "RouterProblems": {'router_route_invalid{namespace="shop",name="web",reason="bad_value"}': "1"},
    "RouterNobodyWrites": {'router_leader{instance="a"}': "0", 'router_leader{instance="b"}': "0"},
    "RouterEventsWait": {'router_events_waiting{instance="a"}': "101"},
    "RouterMetricsIncomplete": {'router_metrics_section_failures_total{instance="a",section="git"}': "1"},
}
"""Alert → series that make it fire, alone: their value, or start and step per minute, in the notation of promtool."""


def test_every_alert_has_series_that_make_it_fire() -> None:
    assert FIRING.keys() == {alert["alert"] for alert in ALERTS}


@pytest.mark.peer
@promtool
@pytest.mark.parametrize("name", FIRING)
def test_the_alert_fires_and_no_other_does(name: str, tmp_path: Path) -> None:
    values = FIRING[name] if name == "RouterAbsent" else TWO_ROUTERS | FIRING[name]
    [alert] = [each for each in ALERTS if each["alert"] == name]
    said = judge(tmp_path, values).stdout
    fired = set(re.findall(r'alertname="(\w+)"', said))
    assert fired == {name}, said
    assert f'severity="{alert["labels"]["severity"]}"' in said


@pytest.mark.peer
@promtool
def test_two_healthy_routers_alarm_nobody(tmp_path: Path) -> None:
    healthy = TWO_ROUTERS | {
        'router_config_last_apply_successful{instance="a"}': "1",
        'router_routes{instance="a",state="live"}': "10",
        'router_routes{instance="b",state="live"}': "10",
        'router_routes{instance="a",state="rejected"}': "0",
        'process_open_fds{instance="a"}': "100",
        'process_max_fds{instance="a"}': "1000",
        'router_overhead_seconds_bucket{instance="a",le="0.005"}': "0+100",
        'router_overhead_seconds_bucket{instance="a",le="+Inf"}': "0+100",
        'router_errors_total{app="shop",reason="client_gone"}': "0+5",
        'router_requests_total{app="shop",namespace="shop",service="web",code="200"}': "0+100",
        "router_tls_handshakes_total": "0+100",
        "router_tls_handshake_failures_total": "0+1",
        'router_tls_cert_not_after_timestamp_seconds{namespace="shop",secret="c",cn="shop.example"}': "7776000",
        'router_route_invalid{namespace="shop",name="web",reason="bad_value"}': "0",
        'router_access_log_dropped_total{instance="a"}': "0",
        'router_leader{instance="a"}': "1",
        'router_leader{instance="b"}': "0",
        'router_worker_deaths_total{instance="a",worker="0",reason="killed"}': "1",
        'router_faults_total{instance="a",where="client"}': "1",
        'router_watch_lag_seconds{instance="a",kind="Service"}': "61",
        'router_config_generation{instance="a",job="r"}': "9",
        'router_worker_generation{instance="a",job="r",worker="0"}': "9",
        'router_connection_places{instance="a",state="taken"}': "100",
        'router_connection_places{instance="a",state="all"}': "1000",
        'router_overload_level{instance="a"}': "0",
        'router_overload_shed_ratio{instance="a"}': "0",
        'router_requests_queued{instance="a"}': "0",
        'router_stream_closed_total{stream="git",reason="client_closed"}': "0+1",
        'router_ssh_sessions_total{service="git-receive-pack",outcome="ok"}': "0+1",
        'up{instance="a",job="r"}': "1",
        # Another installation, with other apps and a leader of its own.
        'router_routes{instance="c",job="s",state="live"}': "3",
        'router_leader{instance="c",job="s"}': "1",
    }
    result = judge(tmp_path, healthy)
    assert result.returncode == 0, result.stdout


def judge(directory: Path, values: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Let promtool look at ninety minutes of these series, expecting silence: it lists every alert that fires then."""
    content = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": f"{each}x90"} for name, each in values.items()],
                "alert_rule_test": [
                    {"eval_time": "90m", "alertname": alert["alert"], "exp_alerts": []} for alert in ALERTS
                ],
            }
        ],
    }
    path = directory / "test.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return subprocess.run(
        ["promtool", "test", "rules", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30
    )
