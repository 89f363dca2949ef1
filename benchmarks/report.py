"""Results for people: the Markdown table, and where it stands in the README.

``python -m benchmarks.report FILE`` draws the picture anew, beside the file, and puts the table into README.md between
``<!-- benchmark:begin -->`` and ``<!-- benchmark:end -->``. What must not enter: a figure that is not in the file.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import multiple
from benchmarks.picture import draw
from benchmarks.tools import REPOSITORY

__all__ = ["OURS", "as_markdown", "between_markers", "main", "values_of"]

OURS: Final = "drycc"
_BEGIN: Final = "<!-- benchmark:begin -->"
_END: Final = "<!-- benchmark:end -->"
_QUIET: Final = 0.05
"""Share of the proxy's core that others may have without a word."""

_UNITS: Final[Mapping[str, tuple[str, float, str]]] = {
    "cpu_us": ("CPU µs per request", 1, ",.1f"),
    "requests_per_second": ("requests/s", 1, ",.0f"),
    "p50_us": ("median, µs", 1, ",.0f"),
    "p99_us": ("p99, µs", 1, ",.0f"),
    "p999_us": ("p99.9, µs", 1, ",.0f"),
    "resident_bytes": ("KiB resident each", 1024, ",.1f"),
    "total_bytes": ("KiB each, kernel included", 1024, ",.0f"),
}
"""Metric → how it is called, what to divide by, how it is written."""

_ROWS: Final[Mapping[str, tuple[str, ...]]] = {
    "plain": ("cpu_us", "requests_per_second"),
    "tls": ("cpu_us", "requests_per_second"),
    "latency": ("p50_us", "p99_us", "p999_us"),
    "latency-tls": ("p50_us", "p99_us", "p999_us"),
}
"""Scenario → metrics shown, where it is not its headline alone."""


def values_of(results: Mapping[str, Any], scenario: str, peer: str, metric: str) -> list[float]:
    """Return what the rounds gave, in their order; nothing if it was not measured."""
    samples = results["scenarios"].get(scenario, {}).get("samples", {}).get(peer, [])
    return [sample[metric] for sample in samples if metric in sample]


def as_markdown(results: Mapping[str, Any], name: str) -> str:
    """Return the table, what it means, and a link to ``name``: the stem of the result files, relative to the README."""
    peers = list(results["versions"])
    machine = results["machine"]
    table = [
        f"| | | {' | '.join(peers)} |",
        f"|---|---|{'--:|' * len(peers)}",
        *(
            _row(results, scenario, metric, peers)
            for scenario, measured in results["scenarios"].items()
            for metric in _ROWS.get(scenario, (measured["headline"],))
        ),
    ]
    method = (
        f"Medians of {results['rounds']} interleaved rounds of {results['seconds']:g} s (memory: one). In parentheses, "
        f"how many times that proxy's figure {OURS}'s is: the median of the rounds' ratios. † marks figures with "
        "failed requests or closed connections. One core for the proxy, another one for load and upstream; every proxy "
        "with access log, forwarded headers, kept-alive upstream connections and the same 1,000 apps. `nginx` is "
        "PyPI's, built small; `nginx-system` is the distribution's, built for speed."
    )
    where = (
        f"{machine['processor']}, {machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}, "
        f"commit {results['commit']}, {results['date']}. "
        f"Versions, command and every round: [{name}.json]({name}.json)."
    )
    parts = [f"![Processor time per request, nginx = 1]({name}.svg)", "\n".join(table), method]
    if (others := _others_busy(results)) > _QUIET:
        parts.append(f"**Not a quiet machine: other programs had {others:.0%} of the proxy's core (median).**")
    if changes := results.get("changes"):
        parts.append(_changes_sentence(changes))
    return "\n\n".join([*parts, where]) + "\n"


def _others_busy(results: Mapping[str, Any]) -> float:
    """Return the median share of the proxy's core that was taken by somebody else."""
    shares = [
        sample["others_busy"]
        for scenario in results["scenarios"].values()
        for samples in scenario["samples"].values()
        for sample in samples
        if "others_busy" in sample
    ]
    return statistics.median(shares) if shares else 0.0


def _row(results: Mapping[str, Any], scenario: str, metric: str, peers: list[str]) -> str:
    unit, divisor, form = _UNITS[metric]
    ours = values_of(results, scenario, OURS, metric)
    cells = []
    for peer in peers:
        values = values_of(results, scenario, peer, metric)
        if not values:
            cells.append("-")
            continue
        times = multiple(ours, values) if peer != OURS else None
        compared = f" ({times:.2f})" if times is not None else ""
        flag = " †" if any(values_of(results, scenario, peer, "failed")) else ""
        cells.append(f"{statistics.median(values) / divisor:{form}}{compared}{flag}")
    return f"| {results['scenarios'][scenario]['title']} | {unit} | {' | '.join(cells)} |"


def _changes_sentence(changes: Mapping[str, Any]) -> str:
    return (
        f"{changes['edits']} edits of manifests under {changes['rate']:g} requests/s: {changes['sent']:,} requests "
        f"sent, **{changes['failed']} failed**; an edit was live {changes['p50_ms']:.0f} ms after its write (median), "
        f"{changes['p99_ms']:.0f} ms (p99), {changes['max_ms']:.0f} ms (longest)."
    )


def between_markers(document: str, block: str) -> str:
    """Return ``document`` with what is between the two markers replaced. Raises ValueError if they are not there."""
    before, begin, rest = document.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the document needs {_BEGIN} and {_END}")
    return f"{before}{_BEGIN}\n{block}{_END}{after}"


def main() -> None:
    """Draw the picture of a result file and put its table into the README."""
    parser = argparse.ArgumentParser(description="put a result file into README.md")
    parser.add_argument("file", type=Path)
    path: Path = parser.parse_args().file.resolve()
    results = json.loads(path.read_text(encoding="utf-8"))
    path.with_suffix(".svg").write_text(draw(results), encoding="utf-8")
    readme = REPOSITORY / "README.md"
    name = path.relative_to(REPOSITORY).with_suffix("").as_posix()
    readme.write_text(between_markers(readme.read_text(encoding="utf-8"), as_markdown(results, name)), encoding="utf-8")
    print(f"README.md and {name}.svg are up to date with {name}.json")


if __name__ == "__main__":
    main()
