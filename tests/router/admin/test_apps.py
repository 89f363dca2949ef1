"""The lines of apps: what prometheus_client reads out of them, in both dialects, also of odd names and thousands."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from proxy.errors import Failure
from proxy.metrics import BUCKETS, RouteCounters
from router.admin.apps import AppSeries
from router.admin.exposition import text

ODD = 'shop/"a\\b\n{c="d"}'


def asked(name: str = "shop/web", times: int = 1) -> RouteCounters:
    route = RouteCounters(name, "shop", "web", {(200, "GET", "http/1.1"): times})
    for _ in range(times):
        route.duration.observe(0.02)
    return route


def read(series: AppSeries, *routes: RouteCounters, dialect: bool = False) -> dict[str, Metric]:
    families = series.families({route.app: route for route in routes}, RouteCounters("_other", "", ""))
    page = text(families, openmetrics=dialect)
    reader: Callable[[str], Iterable[Metric]] = read_openmetrics if dialect else read_text
    return {family.name: family for family in reader(page.decode() + ("# EOF\n" if dialect else ""))}


@pytest.mark.parametrize("dialect", [False, True])
def test_an_app_is_read_as_it_was_counted(dialect: bool) -> None:
    route = asked(ODD, times=3)
    route.requests |= {(299, "GET", "http/1.0"): 1, (298, "GET", "http/1.0"): 2, (499, "other", "http/1.1"): 4}
    route.request_bytes, route.response_bytes = 5, 2**40 + 1
    route.errors, route.retries = {Failure.CLIENT_GONE: 6}, {Failure.CONNECT_FAILED: 7}
    route.ejections, route.ejected = 8, 1
    families = read(AppSeries(), route, dialect=dialect)
    mine = {
        name: {
            (
                sample.name,
                *(value for key, value in sorted(sample.labels.items()) if key not in {"namespace", "service"}),
            ): sample.value
            for sample in family.samples
            if sample.labels["app"] == ODD
        }
        for name, family in families.items()
    }
    assert mine["router_requests"] == {
        ("router_requests_total", ODD, "200", "GET", "http/1.1"): 3,
        ("router_requests_total", ODD, "2xx", "GET", "http/1.0"): 3,
        ("router_requests_total", ODD, "499", "other", "http/1.1"): 4,
    }
    assert mine["router_request_bytes"] == {("router_request_bytes_total", ODD): 5}
    assert mine["router_response_bytes"] == {("router_response_bytes_total", ODD): 2**40 + 1}
    assert mine["router_errors"] == {("router_errors_total", ODD, "client_gone"): 6}
    assert mine["router_retries"] == {("router_retries_total", ODD, "connect_failed"): 7}
    assert mine["router_upstream_ejections"] == {("router_upstream_ejections_total", ODD): 8}
    assert mine["router_upstream_ejected"] == {("router_upstream_ejected", ODD): 1}
    duration = mine["router_request_duration_seconds"]
    assert [duration["router_request_duration_seconds_bucket", ODD, str(bound)] for bound in (*BUCKETS, "+Inf")] == [
        3 if bound == "+Inf" or bound >= 0.025 else 0 for bound in (*BUCKETS, "+Inf")
    ]
    assert duration["router_request_duration_seconds_count", ODD] == 3
    assert duration["router_request_duration_seconds_sum", ODD] == pytest.approx(0.06)
    assert {name: family.type for name, family in families.items()} == {
        "router_requests": "counter",
        "router_request_duration_seconds": "histogram",
        "router_request_bytes": "counter",
        "router_response_bytes": "counter",
        "router_errors": "counter",
        "router_retries": "counter",
        "router_upstream_ejections": "counter",
        "router_upstream_ejected": "gauge",
    }
    assert all(family.documentation for family in families.values())


def test_thousands_are_all_there_and_each_once() -> None:
    routes = [asked(f"shop/{number}") for number in range(2000)]
    families = read(AppSeries(series=10**6), *routes)
    apps: list[Any] = [sample.labels["app"] for sample in families["router_requests"].samples]
    assert apps == [route.app for route in routes]
    assert len(families["router_request_duration_seconds"].samples) == 2001 * (len(BUCKETS) + 3)


def test_an_app_that_is_gone_leaves_nothing_behind() -> None:
    series = AppSeries()
    assert len(read(series, asked("a"), asked("b"))["router_request_bytes"].samples) == 3
    assert {sample.labels["app"] for sample in read(series, asked("b"))["router_request_bytes"].samples} == {
        "b",
        "_other",
    }
    assert {app for app, _, _ in series._labels} == {"b", "_other"}
