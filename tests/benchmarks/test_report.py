"""From results to a table, and a place in the README."""

import copy
from typing import Any

import pytest

from benchmarks.report import as_markdown, between_markers

RESULTS: dict[str, Any] = {
    "date": "2026-01-02",
    "commit": "0123456789",
    "machine": {"processor": "A <fast> one", "cores": "2", "kernel": "6.1", "python": "3.11.7"},
    "rounds": 3,
    "seconds": 5.0,
    "versions": {"drycc": "0.1.0", "nginx": "1.31.3", "caddy": "2.11"},
    "scenarios": {
        "plain": {
            "title": "small answers",
            "headline": "cpu_us",
            "samples": {
                "drycc": [{"cpu_us": v, "requests_per_second": 30000.0, "failed": 0.0} for v in (10.0, 20.0, 40.0)],
                "nginx": [{"cpu_us": v, "requests_per_second": 40000.0, "failed": 0.0} for v in (8.0, 16.0, 32.0)],
                "caddy": [{"cpu_us": v, "requests_per_second": 2000.0, "failed": 2.0} for v in (400.0, 400.0, 400.0)],
            },
        },
        "idle": {
            "title": "idle connections",
            "headline": "resident_bytes",
            "samples": {"drycc": [{"resident_bytes": 5120.0, "failed": 0.0}]},
        },
    },
}


def test_a_row_has_medians_multiples_and_what_failed() -> None:
    lines = as_markdown(RESULTS, "benchmarks/results/x").splitlines()
    assert "| | | drycc | nginx | caddy |" in lines
    assert "| small answers | CPU µs per request | 20.0 | 16.0 (1.25) | 400.0 (0.05) † |" in lines
    assert "| small answers | requests/s | 30,000 | 40,000 (0.75) | 2,000 (15.00) † |" in lines


def test_what_was_not_measured_is_a_dash() -> None:
    assert "| idle connections | KiB resident each | 5.0 | - | - |" in as_markdown(RESULTS, "x").splitlines()


def test_machine_commit_and_files_are_named() -> None:
    text = as_markdown(RESULTS, "benchmarks/results/x")
    assert "A <fast> one, 2 cores, Linux 6.1, Python 3.11.7, commit 0123456789, 2026-01-02." in text
    assert "(benchmarks/results/x.svg)" in text
    assert "(benchmarks/results/x.json)" in text


def test_a_machine_that_was_not_quiet_is_told() -> None:
    assert "quiet" not in as_markdown(RESULTS, "x")
    results = copy.deepcopy(RESULTS)
    for share, sample in zip((0.01, 0.3, 0.4), results["scenarios"]["plain"]["samples"]["drycc"], strict=True):
        sample["others_busy"] = share
    assert "Not a quiet machine: other programs had 30% of the proxy's core" in as_markdown(results, "x")


def test_changes_are_told_in_a_sentence() -> None:
    results = copy.deepcopy(RESULTS)
    counts = {"edits": 200, "rate": 300.0, "sent": 9000, "failed": 0, "p50_ms": 70.4, "p99_ms": 120.0, "max_ms": 135.9}
    results["changes"] = counts
    text = as_markdown(results, "x")
    assert "200 edits of manifests under 300 requests/s: 9,000 requests sent, **0 failed**" in text
    assert "70 ms after its write (median), 120 ms (p99), 136 ms (longest)" in text


def test_the_block_between_the_markers_is_replaced_and_nothing_else() -> None:
    document = "before\n<!-- benchmark:begin -->\nold\n<!-- benchmark:end -->\nafter\n"
    replaced = between_markers(document, "new\n")
    assert replaced == "before\n<!-- benchmark:begin -->\nnew\n<!-- benchmark:end -->\nafter\n"
    assert between_markers(replaced, "new\n") == replaced


@pytest.mark.parametrize("document", ["", "<!-- benchmark:begin -->", "<!-- benchmark:end -->"])
def test_a_document_without_markers_is_refused(document: str) -> None:
    with pytest.raises(ValueError, match="benchmark:begin"):
        between_markers(document, "new")
