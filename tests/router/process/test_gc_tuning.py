"""Collections are seldom, and what they cost is known."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from drycc_proxy.metrics import Counters
from drycc_router.process.gc_tuning import GcPauses


def test_every_collection_is_measured_by_its_generation() -> None:
    pauses = GcPauses(Counters())
    pauses.start()
    try:
        before = [sum(histogram.counts) for histogram in pauses.histograms]
        for generation in range(3):
            gc.collect(generation)
        after = [sum(histogram.counts) for histogram in pauses.histograms]
    finally:
        pauses.stop()
    pauses.stop()
    assert all(now > then for then, now in zip(before, after, strict=True))
    assert all(histogram.total > 0 for histogram in pauses.histograms)
    total = [histogram.total for histogram in pauses.histograms]
    gc.collect()
    assert total == [histogram.total for histogram in pauses.histograms], "measured after it was stopped"


TUNING = """\
import gc
from drycc_router.process import gc_tuning
gc_tuning.tune()
print(gc.get_freeze_count() > 99, gc.get_threshold())
"""


def test_tuning_freezes_what_is_there_and_makes_collections_seldom() -> None:
    command = [sys.executable, "-c", TUNING]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    assert said == "True (7000, 10, 100)\n"


def test_a_stop_without_a_start_is_no_error() -> None:
    with pytest.raises(ValueError):
        gc.callbacks.remove(GcPauses(Counters()))
    GcPauses(Counters()).stop()


FIRST_TABLE = """
import gc
from drycc_router.process import gc_tuning
gc_tuning.begin()
before = gc.get_stats()
kept = [[] for _ in range(600_000)]
print([now["collections"] - then["collections"] for now, then in zip(gc.get_stats(), before)])
kept = [kept, *([] for _ in range(1_500_000))]
print(gc.get_stats()[0]["collections"] > before[0]["collections"])
"""


def test_what_makes_a_first_table_is_not_looked_through_but_not_everything_is_kept_for_ever() -> None:
    command = [sys.executable, "-c", FIRST_TABLE]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    assert said == "[0, 0, 0]\nTrue\n"
