"""Folded stacks → shares."""

import pytest

from benchmarks.profiler import own_shares, total_shares

FOLDED = ["main;run;read 6", "main;run 1", "main;run;write;read 1", "main;run;run;write 2"]


def test_own_time_goes_to_the_innermost_frame() -> None:
    frames, shares = zip(*own_shares(FOLDED), strict=True)
    assert frames == ("read", "write", "run")
    assert shares == pytest.approx((0.7, 0.2, 0.1))


def test_total_time_goes_to_every_frame_of_a_stack_once() -> None:
    shares = dict(total_shares(FOLDED))
    assert shares == {"main": 1.0, "run": 1.0, "read": pytest.approx(0.7), "write": pytest.approx(0.3)}
