"""Statistics of the benchmarks: medians, percentiles, ratios. Pure; no measuring in here."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

__all__ = ["Sample", "medians", "multiple", "percentile"]

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


def multiple(mine: Sequence[float], other: Sequence[float]) -> float | None:
    """Return how many times ``other`` ``mine`` is; None where there is no sensible answer.

    Values of the same round stand at the same place, and were measured seconds apart: so it is the median of the
    rounds' own ratios, which a machine that becomes slower between two rounds does not move. Where a round is missing
    on one side, it is the ratio of the medians.
    """
    if not mine or not other or min(other) <= 0:
        return None
    if len(mine) == len(other):
        return statistics.median(one / another for one, another in zip(mine, other, strict=True))
    return statistics.median(mine) / statistics.median(other)
