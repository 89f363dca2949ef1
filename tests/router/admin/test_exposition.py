"""Lines of metrics: prometheus_client reads out of them what went in, in both formats."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from drycc_proxy.metrics import BUCKETS, Histogram
from drycc_proxy.state.overload import Level
from drycc_router.admin.exposition import Family, counter, gauge, histogram, text


def read(*families: Family, openmetrics: bool) -> dict[str, Metric]:
    page = text(families, openmetrics=openmetrics).decode() + ("# EOF\n" if openmetrics else "")
    reader: Callable[[str], Iterable[Metric]] = read_openmetrics if openmetrics else read_text
    return {family.name: family for family in reader(page)}


def samples(metric: Metric) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value for sample in metric.samples
    }


@pytest.mark.parametrize("openmetrics", [False, True])
def test_each_kind_is_read_as_it_was_written(openmetrics: bool) -> None:
    slow = Histogram()
    slow.observe(0.02)
    slow.observe(99.0)
    found = read(
        counter("a", "One.", 2**60 + 1),
        counter("b", "Two.", {("x", 1): 2, ("y", 3): 4.5}, "zone", "code"),
        gauge("c", "Three.", -0.25),
        gauge("d", "Four.", {}, "state"),
        histogram("e", "Five.", slow),
        histogram("f", "Six.", {0: Histogram(), 1: slow}, "generation"),
        openmetrics=openmetrics,
    )
    assert [(name, metric.type, metric.documentation) for name, metric in found.items()] == [
        ("a", "counter", "One."),
        ("b", "counter", "Two."),
        ("c", "gauge", "Three."),
        ("d", "gauge", "Four."),
        ("e", "histogram", "Five."),
        ("f", "histogram", "Six."),
    ]
    assert samples(found["a"]) == {("a_total",): 2**60 + 1}
    assert samples(found["b"]) == {("b_total", "1", "x"): 2, ("b_total", "3", "y"): 4.5}
    assert samples(found["c"]) == {("c",): -0.25}
    assert samples(found["d"]) == {}
    buckets = {str(bound): 1.0 if bound >= 0.025 else 0.0 for bound in BUCKETS} | {"+Inf": 2.0}
    figures = {("e_count",): 2.0, ("e_sum",): 99.02}
    assert samples(found["e"]) == {("e_bucket", bound): count for bound, count in buckets.items()} | figures
    assert samples(found["f"])["f_bucket", "1", "+Inf"] == 2
    assert samples(found["f"])["f_count", "0"] == 0


def test_labels_stand_in_the_order_of_their_names() -> None:
    assert list(gauge("a", "", {("n", "m"): 1}, "zone", "app").lines) == [b'a{app="m",zone="n"} 1\n']


@given(st.text(), st.booleans())
def test_no_value_breaks_out_of_its_quotes(value: str, openmetrics: bool) -> None:
    if "\r" in value or any(0xD800 <= ord(letter) < 0xE000 for letter in value):
        return  # readers split lines at what no name of an object has
    found = read(gauge("a", "One.", {value: 1, (value + "b"): 2}, "name"), openmetrics=openmetrics)
    assert samples(found["a"]) == {("a", value): 1, ("a", value + "b"): 2}


@pytest.mark.parametrize("value", [True, False, None, "1", 1 + 0j])
def test_what_is_not_a_number_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="is not a number"):
        gauge("a", "One.", value)
    with pytest.raises(TypeError, match="is not a number"):
        counter("a", "One.", {"x": value}, "name")


def test_a_level_is_a_number() -> None:
    assert list(gauge("a", "One.", Level.SHEDDING).lines) == [b"a 3\n"]


@pytest.mark.parametrize("openmetrics", [False, True])
def test_numbers_that_are_not_finite_are_read_as_such(openmetrics: bool) -> None:
    found = samples(read(gauge("a", "", {1: math.inf, 2: -math.inf, 3: math.nan}, "n"), openmetrics=openmetrics)["a"])
    assert found["a", "1"] == math.inf
    assert found["a", "2"] == -math.inf
    assert math.isnan(found["a", "3"])


def test_bytes_of_a_file_name_that_are_not_utf_8_are_replaced() -> None:
    assert list(gauge("a", "", {os.fsdecode(b"caf\xe9.yaml"): 1}, "name").lines) == [b'a{name="caf?.yaml"} 1\n']
