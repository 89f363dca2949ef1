"""The marks of an endpoint that cannot be connected to."""

from __future__ import annotations

import pytest

from drycc_proxy.upstreams.outliers import FAILURES, FIRST, LONGEST, OutlierState, may_eject


@pytest.mark.parametrize(
    ("endpoints", "most"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (10, 5), (101, 50)], ids=lambda value: str(value)
)
def test_half_at_most(endpoints: int, most: int) -> None:
    ejected = 0
    while may_eject(ejected, endpoints):
        ejected += 1
    assert ejected == most


def test_failures_count_in_a_row() -> None:
    standing = OutlierState()
    assert [standing.failed() for _ in range(FAILURES - 1)] == [False] * (FAILURES - 1)
    standing.reached(1.0)
    assert [standing.failed() for _ in range(FAILURES)] == [False] * (FAILURES - 1) + [True]
    assert standing.failed()  # it may not have been possible the first time


def test_each_time_out_in_a_row_is_twice_as_long_up_to_the_longest() -> None:
    standing = OutlierState()
    lengths = [standing.eject(0.0) for _ in range(7)]
    assert lengths == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]


@pytest.mark.parametrize(("well_for", "spell"), [(LONGEST - 1, 2 * FIRST), (LONGEST + 1, FIRST)])
def test_who_was_back_for_long_begins_anew(well_for: float, spell: float) -> None:
    standing = OutlierState()
    standing.eject(0.0)
    standing.reached(100.0)
    assert not standing.ejected
    assert standing.eject(100.0 + well_for) == 100.0 + well_for + spell
