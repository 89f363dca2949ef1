"""Statistics of the benchmarks: medians, percentiles, ratios. Pure; no measuring in here."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

__all__ = ["Sample", "medians", "percentile", "ratio", "spread"]

Sample = Mapping[str, float]
"""One measurement of one proxy: metric name (with its unit at the end: ``cpu_us``) → value."""


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value that ``share`` (0 to 1) of ``ordered`` do not exceed (nearest rank, so a value that occurred).

    Raises ValueError if there is nothing to look at or ``share`` is out of range.
    """
    if not ordered or not 0 <= share <= 1:
        raise ValueError("a percentile needs values, and a share between 0 and 1")
    return ordered[max(math.ceil(len(ordered) * share), 1) - 1]


def medians(samples: Sequence[Sample]) -> dict[str, float]:
    """Return the median of every metric that all ``samples`` have, each metric for itself."""
    if not samples:
        return {}
    shared = [name for name in samples[0] if all(name in sample for sample in samples)]
    return {name: statistics.median(sample[name] for sample in samples) for name in shared}


def spread(values: Sequence[float]) -> float:
    """Return (largest - smallest) / median: how far the rounds were apart. 0 for a single round or a median of 0."""
    middle = statistics.median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def ratio(mine: float, other: float) -> float | None:
    """Return ``mine / other``; None where there is no sensible answer."""
    return mine / other if other > 0 else None
