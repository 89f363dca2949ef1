"""The lines of apps: what prometheus_client reads out of them, in both dialects, also of odd names and thousands."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from drycc_proxy.errors import Failure
from drycc_proxy.metrics import BUCKETS, RouteCounters
from drycc_router.admin import app_series
from drycc_router.admin.app_series import AppSeries
from drycc_router.admin.exposition import text

ODD = 'shop/"a\\b\n{c="d"}'


def asked(name: str = "shop/web", times: int = 1) -> RouteCounters:
    route = RouteCounters(name, "shop", "web", {(200, "GET", "http/1.1"): times})
    for _ in range(times):
        route.duration.observe(0.02)
    return route


def read(series: AppSeries, *routes: RouteCounters, dialect: bool = False) -> dict[str, Metric]:
    series.write({route.app: route for route in routes})
    page = text(series.families(RouteCounters("_other", "", "")), openmetrics=dialect)
    reader: Callable[[str], Iterable[Metric]] = read_openmetrics if dialect else read_text
    return {family.name: family for family in reader(page.decode() + ("# EOF\n" if dialect else ""))}


def busier(route: RouteCounters, chance: random.Random) -> RouteCounters:
    """The same app later, as a ledger has it: other counters in the place of those."""
    later = copy.deepcopy(route)
    later.requests[200, "GET", "http/1.1"] += 1
    later.duration.observe(chance.expovariate(1))
    later.request_bytes += chance.randrange(10**9)
    later.errors[Failure.NO_ENDPOINT] = later.errors.get(Failure.NO_ENDPOINT, 0) + chance.randrange(3)
    later.ejections, later.ejected = later.ejections + 1, chance.randrange(4)
    return later


def figures(families: dict[str, Metric]) -> dict[Any, float]:
    """Of the app ``other``: sample and its code or reason → value; buckets are left out."""
    return {
        (sample.name, *(sample.labels[key] for key in ("code", "reason") if key in sample.labels)): sample.value
        for family in families.values()
        for sample in family.samples
        if sample.labels["app"] == "other" and "le" not in sample.labels
    }


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
        3 if float(bound) >= 0.025 else 0 for bound in (*BUCKETS, "+Inf")
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


def test_an_app_counts_as_many_series_as_it_shows() -> None:
    """One that makes up statuses shows one for each class of them, and takes no more room from others than that."""
    inventive = asked("a")
    inventive.requests |= {(status, "GET", "http/1.1"): 1 for status in range(200, 600)}
    inventive.errors[Failure.NO_ENDPOINT] = inventive.ejections = 1
    shown = read(AppSeries(), inventive)
    lines = sum(sample.labels["app"] == "a" for family in shown.values() for sample in family.samples)

    families = read(AppSeries(lines + len(BUCKETS) + 6), inventive, asked("b"))

    named = {sample.labels["app"] for sample in families["router_requests"].samples}
    assert named == {"a", "b"}, "there was room for both"
    families = read(AppSeries(lines + len(BUCKETS) + 5), inventive, asked("b"))
    assert {sample.labels["app"] for sample in families["router_requests"].samples} == {"a", "other"}


def test_an_app_that_is_gone_leaves_nothing_behind() -> None:
    series = AppSeries()
    failed = asked("a")
    failed.errors[Failure.NO_ENDPOINT] = failed.ejections = 1
    read(series, failed, asked("b"))
    for families in (read(series, asked("b")), read(series, asked("b"), RouteCounters("a", "shop", "web"))):
        for family in families.values():
            assert "a" not in {sample.labels["app"] for sample in family.samples}, family.name
    assert len(families["router_request_bytes"].samples) == 2


def test_only_who_has_counted_something_is_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = app_series._write

    def noted(route: RouteCounters, labels: app_series._Labels) -> tuple[bytes, ...]:
        written.append(route.app)
        return write(route, labels)

    monkeypatch.setattr(app_series, "_write", noted)
    series, routes = AppSeries(10**6), {str(number): asked(str(number)) for number in range(2000)}
    series.write(routes)
    assert len(written) == 2000
    for changed in ({}, {"7": asked("7", times=2)}, {"1999": asked("1999", times=2), "new": asked("new")}):
        routes |= changed
        written.clear()
        series.write(routes)
        assert written == list(changed)


def test_what_others_have_counted_adds_up_whatever_becomes_of_them() -> None:
    """The page says what a plain sum over all that was ever counted says, to the last unit and without going back."""
    chance = random.Random(5)
    series, counted, gone = AppSeries(0), {str(number): asked(str(number)) for number in range(50)}, []
    before: dict[Any, float] = {}
    for _ in range(40):
        busy = chance.sample(sorted(counted), 10)
        # Two go as the last page had them, and one of those is back before the next page.
        left = [name for name in counted if name not in busy and counted[name].ejections > 1][:2]
        gone += [counted.pop(name) for name in left]
        counted |= {name: busier(counted[name], chance) for name in busy} | {name: asked(name) for name in left[:1]}
        families = read(series, *counted.values())
        now = figures(families)
        everybody = [*counted.values(), *gone]
        assert now["router_requests_total", "200"] == sum(
            each.requests.get((200, "GET", "http/1.1"), 0) for each in everybody
        )
        assert now["router_request_bytes_total",] == sum(each.request_bytes for each in everybody)
        assert now["router_errors_total", "no_endpoint"] == sum(
            each.errors.get(Failure.NO_ENDPOINT, 0) for each in everybody
        )
        assert now["router_request_duration_seconds_count",] == sum(sum(each.duration.counts) for each in everybody)
        assert now["router_request_duration_seconds_sum",] == pytest.approx(
            math.fsum(each.duration.total for each in everybody), abs=1e-9
        )
        assert now["router_upstream_ejected",] == max(each.ejected for each in counted.values())
        assert all(now[key] >= value for key, value in before.items() if key != ("router_upstream_ejected",))
        before = now
