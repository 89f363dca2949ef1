"""Counters: integers that only go up, and gauges that come back."""

from __future__ import annotations

import pytest

from drycc_proxy.metrics import BUCKETS, METHODS, Counters, Histogram, RouteCounters


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.004, 0), (0.005, 0), (0.0051, 1), (1.0, 7), (10.0, 10), (10.1, 11), (9999.0, 11)],
)
def test_a_duration_falls_into_the_first_bucket_that_holds_it(seconds: float, bucket: int) -> None:
    histogram = Histogram()
    histogram.observe(seconds)
    assert histogram.counts == [int(at == bucket) for at in range(len(BUCKETS) + 1)]
    assert histogram.total == seconds


def test_a_histogram_adds_up() -> None:
    histogram = Histogram()
    for seconds in (0.001, 0.02, 0.02, 3.0):
        histogram.observe(seconds)
    assert sum(histogram.counts) == 4
    assert histogram.total == pytest.approx(3.041)


def test_buckets_ascend() -> None:
    assert list(BUCKETS) == sorted(set(BUCKETS))


def test_counters_begin_at_nothing() -> None:
    counters = Counters()
    assert counters.routes == {}
    assert (counters.unrouted.app, counters.unrouted.requests) == ("_other", {})
    assert counters.accepted == counters.open_connections == {"http": 0, "https": 0}
    numbers = [getattr(counters, name) for name in Counters.__slots__]
    assert [number for number in numbers if isinstance(number, int) and number] == []


def test_counters_of_a_route_are_its_own() -> None:
    one, other = RouteCounters("a", "n", "s"), RouteCounters("b", "n", "t")
    one.requests[200, "GET", "http/1.1"] = 1
    one.duration.observe(1)
    assert other.requests == {}
    assert sum(other.duration.counts) == 0


def test_labels_for_methods_are_few() -> None:
    assert {"GET", "POST"} < METHODS
    assert len(METHODS) < 10
