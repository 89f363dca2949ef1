"""Each crowd comes for a moment: the figures are there, and nobody who means well suffers."""

from __future__ import annotations

import asyncio
import os

import pytest

from benchmarks.crowds import CROWDS, measure


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: descriptors of the router cannot be counted, so no crowd came")
@pytest.mark.parametrize("name", ["flood", "exhaustion"])
def test_a_crowd_leaves_figures_behind(name: str) -> None:
    figures = asyncio.run(measure(name, CROWDS[name], 1.0))
    if name == "flood":
        assert figures["clean"] > 0
        assert figures["clean_failures"] == 0
    else:
        assert figures["descriptors"] <= 256 - 16
        assert figures["taken"] > 50
