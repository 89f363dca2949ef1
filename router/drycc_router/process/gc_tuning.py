"""The garbage collector: how it is set, and how long it stops everything.

Requests leave no cycles behind: what they make is freed as they end, by counting references. So collections are only
for what accidents leave, and they are kept out of the latency of requests: everything that is there when traffic begins
is frozen, young collections come ten times as seldom as by default, and the oldest generation is walked for every
hundredth of the middle ones. A collection stops the loop like any other work; what that costs is measured here.

What must not enter: anything that knows what the garbage was.
"""

from __future__ import annotations

import gc
from time import perf_counter
from typing import Final

from drycc_proxy.metrics import Counters

__all__ = ["GcPauses", "begin", "tune"]

BEFORE_TRAFFIC: Final = (2_000_000, 50, 1_000)
"""The same figures until there is a first table. What is made by then nearly all lives on, and each look at it is in
vain: 10,000 apps and 2,000 certificates are 600,000 objects. Not without any limit, because a router may wait for its
API server for weeks."""
THRESHOLDS: Final = (7_000, 10, 100)
"""Objects made and not freed before a young collection; young ones before a middle one; middle ones before an old."""


class GcPauses:
    """Counts how long collections took, by generation. To be called by the collector (``gc.callbacks``)."""

    __slots__ = ("_began", "histograms")

    def __init__(self, counters: Counters) -> None:
        self.histograms = (counters.gc_young, counters.gc_middle, counters.gc_old)
        self._began = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """``phase`` is ``start`` or ``stop``."""
        if phase == "start":
            self._began = perf_counter()
        else:
            self.histograms[info["generation"]].observe(perf_counter() - self._began)

    def start(self) -> None:
        """Measure from now on."""
        gc.callbacks.append(self)

    def stop(self) -> None:
        """Measure no more."""
        if self in gc.callbacks:
            gc.callbacks.remove(self)


def begin() -> None:
    """To be called when a process begins."""
    gc.set_threshold(*BEFORE_TRAFFIC)


def tune() -> None:
    """To be called once everything that lives as long as the process is there: modules, and the first table.

    Nothing is collected first: a search through 10,000 apps takes as long as compiling a thousand, just before the
    router is ready, and would find what a few failed imports and attempts to connect left behind.
    """
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
