"""Counters → Prometheus text: familiar names, few labels, every figure where it belongs."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from drycc_proxy.errors import Failure
from drycc_proxy.metrics import BUCKETS, Counters, RouteCounters, StreamCounters
from drycc_proxy.routing.definitions import TableChange
from drycc_router.admin.app_series import AppSeries
from drycc_router.admin.metrics import RouterMetrics, WorkerReport, Workers
from drycc_router.compile.compiler import Compiler
from drycc_router.compile.revision import CertificateReport, Role
from drycc_router.model.objects import Change, ObjectKey
from drycc_router.model.problems import Problem, Reason
from drycc_router.publish.publisher import Publisher
from drycc_router.publish.reconcile import Reconciler
from drycc_router.roles.counter_sums import Alone
from drycc_router.status.leader import Feedback
from drycc_router.translate.platform import OwnNames
from drycc_tls.self_signed import self_signed
from drycc_tls.store import CertificateStore
from tests.fakes.apiserver.direct import Direct
from tests.fakes.apiserver.store import Store

NOW = datetime(2026, 6, 1, tzinfo=UTC)


class NoGateway:
    def publish(self, change: TableChange) -> None:
        raise AssertionError("nothing is published here")


@pytest.fixture
def compiler() -> Compiler:
    return Compiler(trusted_endpoints=True)


@pytest.fixture
def reconciler(compiler: Compiler) -> Reconciler:
    return Reconciler(compiler, Publisher(CertificateStore(self_signed(NOW)), NoGateway()))


def scraped(metrics: RouterMetrics) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Sample name → sorted labels → value."""
    samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(metrics.page()[0].decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return samples


def labels(**pairs: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(pairs.items()))


def test_requests_of_an_app(reconciler: Reconciler) -> None:
    counters = Counters()
    shop = counters.routes["shop/web"] = RouteCounters("shop/web", "shop", "web")
    shop.requests = {(200, "GET", "http/1.1"): 7, (499, "other", "http/1.0"): 1}
    shop.requests |= {(status, "GET", "http/1.1"): 1 for status in range(520, 600)}  # nobody else knows these
    shop.request_bytes, shop.response_bytes = 11, 22
    shop.errors = {Failure.NO_ENDPOINT: 3}
    shop.retries = {Failure.CONNECT_FAILED: 2}
    shop.ejections, shop.ejected = 3, 1
    shop.duration.observe(0.02)
    shop.duration.observe(99.0)
    counters.unrouted.errors = {Failure.UNKNOWN_HOST: 5}

    samples = scraped(RouterMetrics(lambda: counters, reconciler, "1.2.3"))
    app = {"app": "shop/web", "namespace": "shop", "service": "web"}
    assert samples["router_requests_total"] == {
        labels(**app, code="200", method="GET", protocol="http/1.1"): 7,
        labels(**app, code="499", method="other", protocol="http/1.0"): 1,
        labels(**app, code="5xx", method="GET", protocol="http/1.1"): 80,
    }
    assert samples["router_request_bytes_total"][labels(**app)] == 11
    assert samples["router_response_bytes_total"][labels(**app)] == 22
    assert samples["router_errors_total"] == {
        labels(app="shop/web", reason="no_endpoint"): 3,
        labels(app="_other", reason="unknown_host"): 5,
    }
    assert samples["router_upstream_ejections_total"] == {labels(app="shop/web", namespace="shop", service="web"): 3}
    assert samples["router_upstream_ejected"] == {labels(app="shop/web", namespace="shop", service="web"): 1}
    assert samples["router_retries_total"] == {labels(app="shop/web", reason="connect_failed"): 2}
    assert samples["router_request_duration_seconds_count"][labels(**app)] == 2
    assert samples["router_request_duration_seconds_sum"][labels(**app)] == pytest.approx(99.02)
    buckets = {
        dict(key)["le"]: value
        for key, value in samples["router_request_duration_seconds_bucket"].items()
        if ("app", "shop/web") in key
    }
    assert [float(bound) for bound in buckets][:-1] == list(BUCKETS)
    assert (buckets["0.01"], buckets["0.025"], buckets["10.0"], buckets["+Inf"]) == (0, 1, 1, 2)


def test_an_app_that_was_never_asked_has_no_series(reconciler: Reconciler) -> None:
    counters = Counters()
    counters.routes["shop/web"] = RouteCounters("shop/web", "shop", "web")
    text = RouterMetrics(lambda: counters, reconciler, "1.2.3").page()[0].decode()
    assert "shop/web" not in text


def test_what_the_data_plane_counts_as_a_whole(reconciler: Reconciler) -> None:
    counters = Counters()
    counters.accepted = {"http": 1, "https": 2}
    counters.open_connections = {"http": 3, "https": 4}
    counters.tls_handshakes, counters.tls_failures, counters.in_flight = 5, 6, 7
    counters.upstream_connects, counters.upstream_reused = 8, 9
    counters.upstream_open, counters.upstream_idle = 10, 11
    counters.log_lines, counters.log_dropped = 12, 13
    counters.tunnels, counters.tunnels_open, counters.tunnels_closed = 14, 15, {"client_closed": 16}
    counters.overhead.observe(0.001)
    counters.aliases = 17
    counters.tls_pending, counters.tls_given_up = 23, 18
    counters.loop_lag.observe(0.3)
    counters.gc_old.observe(0.02)
    counters.overload_level, counters.shed_share, counters.given_up, counters.refused = 3, 0.25, 19, 20
    counters.memory_limit, counters.memory_used = 21, 22

    samples = scraped(RouterMetrics(lambda: counters, reconciler, "1.2.3", lambda: 100))
    assert samples["router_connections_accepted_total"] == {labels(listener="http"): 1, labels(listener="https"): 2}
    assert samples["router_tls_handshakes_pending"] == {(): 23}
    assert samples["router_tls_handshakes_given_up_total"] == {(): 18}
    assert samples["router_event_loop_lag_seconds_sum"] == {(): 0.3}
    assert samples["router_gc_pause_seconds_count"] == {
        labels(generation="0"): 0,
        labels(generation="1"): 0,
        labels(generation="2"): 1,
    }
    assert samples["router_overload_level"] == {(): 3}
    assert samples["router_overload_shed_ratio"] == {(): 0.25}
    assert samples["router_overload_idle_closed_total"] == {(): 19}
    assert samples["router_overload_refused_total"] == {(): 20}
    assert samples["router_memory_limit_bytes"] == {(): 21}
    assert samples["router_memory_used_bytes"] == {(): 22}
    assert samples["router_open_connections"] == {labels(listener="http"): 3, labels(listener="https"): 4}
    assert samples["router_alias_fields_dropped_total"] == {(): 17}
    assert samples["router_tls_handshakes_total"] == {(): 5}
    assert samples["router_tls_handshake_failures_total"] == {(): 6}
    assert samples["router_requests_in_flight"] == {(): 7}
    assert samples["router_upstream_connects_total"] == {(): 8}
    assert samples["router_upstream_reuses_total"] == {(): 9}
    assert samples["router_upstream_connections"] == {labels(state="open"): 10, labels(state="idle"): 11}
    assert samples["router_access_log_lines_total"] == {(): 12}
    assert samples["router_access_log_dropped_total"] == {(): 113}
    assert samples["router_overhead_seconds_count"] == {(): 1}
    assert samples["router_websocket_upgrades_total"] == {(): 14}
    assert samples["router_websocket_open"] == {(): 15}
    assert samples["router_websocket_closed_total"] == {labels(reason="client_closed"): 16}
    [build] = samples["router_build_info"]
    assert ("version", "1.2.3") in build
    assert samples["process_open_fds"][()] > 0


def test_before_the_first_snapshot_there_are_no_routes_to_tell_of(reconciler: Reconciler) -> None:
    samples = scraped(RouterMetrics(Counters, reconciler, "1.2.3"))
    assert "router_routes" not in samples
    assert samples["router_config_last_apply_successful"] == {(): 0}
    assert samples["router_config_generation"] == {(): 0}


def service(name: str, domains: str) -> Change:
    metadata: dict[str, Any] = {"name": name, "namespace": "shop"}
    metadata["labels"] = {"router.drycc.cc/routable": "true"}
    metadata["annotations"] = {"router.drycc.cc/domains": domains}
    return Change(ObjectKey("Service", "shop", name), {"metadata": metadata, "spec": {"ports": [{"port": 80}]}})


def test_the_control_plane_s_facts(compiler: Compiler, reconciler: Reconciler) -> None:
    compiler.apply(service("web", "127.0.0.1"))
    reconciler.snapshot = compiler.compile(NOW)
    reconciler.succeeded, reconciler.applied_at, reconciler.failures = True, 1_700_000_000.5, 4
    reconciler.stages["compile"].observe(0.003)

    samples = scraped(RouterMetrics(Counters, reconciler, "1.2.3"))
    assert samples["router_config_last_apply_successful"] == {(): 1}
    assert samples["router_config_last_apply_timestamp_seconds"] == {(): 1_700_000_000.5}
    assert samples["router_config_apply_failures_total"] == {(): 4}
    assert samples["router_config_generation"] == {(): reconciler.snapshot.generation}
    assert samples["router_route_apply_duration_seconds_count"][labels(stage="compile")] == 1
    assert samples["router_routes"] == {
        labels(state="live"): 0,
        labels(state="degraded"): 0,
        labels(state="rejected"): 1,
        labels(state="idle"): 0,
    }
    assert samples["router_route_invalid"][labels(namespace="shop", name="web", reason="refused_domain")] == 1


def test_a_problem_that_is_gone_is_shown_as_zero_once(compiler: Compiler, reconciler: Reconciler) -> None:
    key = labels(namespace="", name="a.yaml", reason="unreadable_file")
    metrics = RouterMetrics(Counters, reconciler, "1.2.3")
    problem = Problem(Reason.UNREADABLE_FILE, ObjectKey("File", "", "a.yaml"), "", "", "broken")
    shown = []
    for problems in ((problem,), (), ()):
        compiler.source_problems("file:a.yaml", problems)
        reconciler.snapshot = compiler.compile(NOW)
        shown.append(scraped(metrics).get("router_route_invalid", {}).get(key))
    assert shown == [1, 0, None]


def test_objects_have_a_budget_of_series_too_and_who_is_folded_is_counted(
    compiler: Compiler, reconciler: Reconciler
) -> None:
    metrics = RouterMetrics(Counters, reconciler, "1", series=1)
    compiler.source_problems(
        "file:a.yaml",
        tuple(Problem(Reason.BAD_VALUE, ObjectKey("Service", "shop", name), "k", "v", "expected a") for name in "abc"),
    )
    pair = self_signed(NOW)
    served = {name: CertificateReport("shop", name, pair, (), Role.OWN) for name in ("cert-a", "cert-b")}
    reconciler.snapshot = replace(compiler.compile(NOW), served=served)
    samples = scraped(metrics)
    assert samples["router_route_invalid"] == {
        labels(namespace="shop", name="a", reason="bad_value"): 1,
        labels(namespace="", name="other", reason="bad_value"): 2,
    }
    assert len(samples["router_tls_cert_not_after_timestamp_seconds"]) == 2
    assert samples["router_metric_series_folded_total"] == {(): 3}


def test_what_was_counted_may_be_written_before_somebody_reads_it(
    reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters = Counters()
    counters.routes["a"] = RouteCounters("shop/a", "shop", "a", {(200, "GET", "http/1.1"): 1})
    metrics = RouterMetrics(Alone(counters).sums, reconciler, "1")
    metrics.prepare()
    with monkeypatch.context() as patch:
        patch.setattr(AppSeries, "_tell", None)  # there is nothing left to write
        assert scraped(metrics)["router_requests_total"].keys() == {
            labels(app="shop/a", namespace="shop", service="a", code="200", method="GET", protocol="http/1.1")
        }


def test_a_note_is_no_problem(compiler: Compiler, reconciler: Reconciler) -> None:
    compiler.source_problems("x", (Problem(Reason.NO_EFFECT, ObjectKey("File", "", "a.yaml"), "k", "v", "none"),))
    reconciler.snapshot = compiler.compile(NOW)
    assert "router_route_invalid" not in scraped(RouterMetrics(Counters, reconciler, "1.2.3"))


def test_when_certificates_expire(compiler: Compiler, reconciler: Reconciler) -> None:
    pair = self_signed(NOW)
    served = {"shop/web-cert": CertificateReport("shop", "web-cert", pair, ("a.localhost",), Role.OWN)}
    reconciler.snapshot = replace(compiler.compile(NOW), served=served)
    samples = scraped(RouterMetrics(Counters, reconciler, "1.2.3"))
    [(key, value)] = samples["router_tls_cert_not_after_timestamp_seconds"].items()
    assert dict(key) == {"namespace": "shop", "secret": "web-cert", "cn": pair.subject}
    assert value == pair.not_after.timestamp()


def test_who_writes_for_all_and_how_that_goes(reconciler: Reconciler) -> None:
    feedback = Feedback(Direct(Store()), OwnNames(), "me", lambda *_: None)
    feedback.keeper.outcomes["written"] = 3
    feedback.events.written["Warning"] = 2
    feedback.events.dropped["refused"] = 1
    metrics = RouterMetrics(Counters, reconciler, "1", feedback=feedback)
    samples = scraped(metrics)
    assert samples["router_leader"] == {(): 0}
    assert samples["router_claim_record_attempts_total"] == {labels(outcome="written"): 3}
    assert samples["router_events_written_total"] == {labels(type="Warning"): 2}
    assert samples["router_events_dropped_total"] == {labels(reason="refused"): 1}
    assert samples["router_events_waiting"] == {(): 0}
    assert "router_leader" not in scraped(RouterMetrics(Counters, reconciler, "1")), "without a cluster nobody leads"


def test_no_metric_has_a_host_or_a_path_for_a_label(compiler: Compiler, reconciler: Reconciler) -> None:
    compiler.apply(service("web", "a.localhost"))
    reconciler.snapshot = compiler.compile(NOW)
    counters = Counters()
    shop = counters.routes["shop/web"] = RouteCounters("shop/web", "shop", "web")
    shop.requests = {(200, "GET", "http/1.1"): 1}
    samples = scraped(RouterMetrics(lambda: counters, reconciler, "1.2.3"))
    used = {name for values in samples.values() for key in values for name, _ in key}
    assert used <= {
        "app", "cn", "code", "generation", "le", "listener", "method", "name", "namespace", "outcome", "protocol",
        "python", "reason", "secret", "service", "stage", "state", "version", "where",
    }  # fmt: skip
    assert not any("a.localhost" in value for values in samples.values() for key in values for _, value in key)


def test_streams(reconciler: Reconciler) -> None:
    counters = Counters()
    git = counters.streams["git"] = StreamCounters("drycc/drycc-builder", "drycc", "drycc-builder")
    git.total, git.open, git.received, git.sent = 7, 2, 1000, 2000
    git.closed = {"client_closed": 4, "tunnel_idle": 1}
    git.denied = {Failure.TOO_MANY_CONNECTIONS: 3}
    git.retries = {Failure.CONNECT_FAILED: 1}
    samples = scraped(RouterMetrics(lambda: counters, reconciler, "1"))
    mine = labels(stream="git", app="drycc/drycc-builder", namespace="drycc", service="drycc-builder")
    assert samples["router_stream_open"][mine] == 2
    assert samples["router_stream_connections_total"][mine] == 7
    assert samples["router_stream_received_bytes_total"][mine] == 1000
    assert samples["router_stream_sent_bytes_total"][mine] == 2000
    assert samples["router_stream_closed_total"][labels(stream="git", reason="tunnel_idle")] == 1
    assert samples["router_stream_denied_total"] == {labels(stream="git", reason="too_many_connections"): 3}
    assert samples["router_stream_retries_total"] == {labels(stream="git", reason="connect_failed"): 1}


def test_beyond_the_budget_apps_are_others_and_no_counter_goes_back(reconciler: Reconciler) -> None:
    counters = Counters()
    for name in "abcd":
        route = counters.routes[name] = RouteCounters(f"shop/{name}", "shop", name)
        route.requests[200, "GET", "http/1.1"] = 10
        route.errors[Failure.NO_ENDPOINT] = 1
    metrics = RouterMetrics(Alone(counters).sums, reconciler, "1", series=40)

    def seen() -> dict[str, float]:
        samples = scraped(metrics)["router_requests_total"]
        return {dict(key)["app"]: value for key, value in samples.items()}

    first = seen()
    assert len(first) == 3
    assert first["other"] == 20
    own = [app for app in first if app != "other"]
    folded = next(name for name in "abcd" if f"shop/{name}" not in own)
    counters.routes[folded].requests[200, "GET", "http/1.1"] = 15
    assert seen()["other"] == 25
    del counters.routes[folded]
    assert seen()["other"] == 25
    del counters.routes[own[0].removeprefix("shop/")]  # its room is for who comes next, not for who was folded
    assert seen()["other"] == 25
    counters.routes["e"] = RouteCounters("shop/e", "shop", "e")
    counters.routes["e"].requests[200, "GET", "http/1.1"] = 1
    assert seen()["shop/e"] == 1
    assert scraped(metrics)["router_metric_series_folded_total"] == {(): 2}


@pytest.mark.parametrize("accept", ["", "text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0"])
def test_a_page_is_one_in_the_dialect_that_was_asked_for(reconciler: Reconciler, accept: str) -> None:
    counters = Counters()
    counters.routes["shop/web"] = RouteCounters("shop/web", "shop", "web", {(200, "GET", "http/1.1"): 1})
    page, content_type = RouterMetrics(lambda: counters, reconciler, "1").page(accept)
    reader = read_openmetrics if "openmetrics" in content_type else text_string_to_metric_families
    families = [family.name for family in reader(page.decode())]
    assert ("openmetrics" in content_type) == ("openmetrics" in accept)
    assert len(families) == len(set(families))
    assert {"router_requests", "router_build_info", "process_open_fds"} <= set(families)


def test_workers_are_told_in_numbers(reconciler: Reconciler) -> None:
    report = WorkerReport(0, 3, 4, True, 1.5, 2**20)
    metrics = RouterMetrics(Counters, reconciler, "1", workers=lambda: Workers([report], {(0, "stalled"): 2}))
    page = metrics.page()[0].decode()
    values = [line.rpartition(" ")[2] for line in page.splitlines() if line.startswith("router_worker_")]
    assert len(values) == 7
    assert all(re.fullmatch(r"[0-9.]+", value) for value in values)


def test_a_section_that_cannot_be_written_costs_no_other(
    reconciler: Reconciler, caplog: pytest.LogCaptureFixture
) -> None:
    report = WorkerReport(0, 3, 4, True, cast(float, "much"), 2**20)
    metrics = RouterMetrics(Counters, reconciler, "1", workers=lambda: Workers([report], {}))
    for times in (1, 2):
        samples = scraped(metrics)
        assert not any(name.startswith("router_worker_") for name in samples)
        assert samples["router_metrics_section_failures_total"] == {labels(section="workers"): times}
        assert samples["router_build_info"]
    assert [record.message for record in caplog.records] == [
        "the section workers of /metrics cannot be written and is left out"
    ]
