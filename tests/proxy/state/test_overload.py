"""How hard the times are: readings in, levels out, without a clock and without memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drycc_proxy.state.overload import DWELL, LATE, MOST_SHED, RELIEF, THRESHOLDS, Level, Overload

TICK = 0.1


class Times:
    """An overload that is told something ten times a second."""

    def __init__(self) -> None:
        self.overload = Overload()
        self.now = 1_000.0

    def passes(self, seconds: float, used: float = 0.0, lag: float = 0.0) -> Level:
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            self.overload.observe(used, lag, self.now)
        return self.overload.level


@pytest.mark.parametrize(
    ("used", "level"),
    [
        (0.0, Level.CALM),
        (0.849, Level.CALM),
        (0.85, Level.SAVING),
        (0.92, Level.CLOSING),
        (0.95, Level.SHEDDING),
        (0.98, Level.REFUSING),
        (1.2, Level.REFUSING),
    ],
)
def test_a_level_is_taken_at_once(used: float, level: Level) -> None:
    assert Times().passes(TICK, used) is level


def test_the_level_before_is_told() -> None:
    overload = Overload()
    assert overload.observe(0.96, 0.0, 1.0) is Level.CALM
    assert overload.observe(0.96, 0.0, 1.1) is Level.SHEDDING


def test_a_level_is_left_only_well_below_where_it_begins() -> None:
    times = Times()
    times.passes(1, 0.96)
    assert times.passes(60, 0.93) is Level.SHEDDING
    assert times.passes(0.1, 0.919) is Level.CLOSING
    assert times.passes(60, 0.90) is Level.CLOSING
    assert times.passes(0.1, 0.88) is Level.SAVING


def test_a_use_that_swings_does_not_make_the_router_swing() -> None:
    times = Times()
    changes = 0
    times.passes(TICK, 0.955)
    for number in range(600):
        before = times.overload.level
        changes += times.passes(TICK, 0.94 + 0.012 * (number % 2)) is not before
    assert changes == 0


def test_from_the_worst_to_calm_takes_four_seconds() -> None:
    times = Times()
    times.passes(10, 0.99)
    assert times.passes(0.1, 0.3) is Level.SHEDDING
    assert times.passes(2.8, 0.3) > Level.CALM
    assert times.passes(0.4, 0.3) is Level.CALM


def test_new_requests_are_refused_from_the_third_level_on() -> None:
    times = Times()
    times.passes(1, 0.94)
    assert not any(times.overload.sheds() for _ in range(100))
    times.passes(1, 0.95)
    assert all(times.overload.sheds() for _ in range(100))


def test_one_long_stall_refuses_nobody() -> None:
    times = Times()
    for stall in (0.5, 3.0, 60.0):
        times.passes(1, lag=0.01)
        times.passes(TICK, lag=stall)
        times.passes(TICK, lag=stall)
        times.passes(3, lag=0.01)
        assert times.overload.shed_share == 0.0


def test_a_loop_that_stays_late_refuses_a_growing_share() -> None:
    times = Times()
    times.passes(0.5, lag=LATE * 1.5)
    first = times.overload.shed_share
    assert 0.0 < first < 0.2
    times.passes(0.5, lag=LATE * 1.5)
    assert times.overload.shed_share > first
    times.passes(60, lag=10.0)
    assert times.overload.shed_share == MOST_SHED
    assert sum(times.overload.sheds() for _ in range(1000)) == pytest.approx(750, abs=1)
    assert times.overload.level is Level.CALM


def test_between_late_and_well_the_share_stays() -> None:
    times = Times()
    times.passes(1, lag=LATE * 2)
    times.passes(1, lag=LATE * 0.7)
    before = times.overload.shed_share
    assert before > 0.0
    times.passes(10, lag=LATE * 0.7)
    assert times.overload.shed_share == before


def test_a_loop_that_recovers_refuses_nobody_after_two_seconds() -> None:
    times = Times()
    times.passes(60, lag=1.0)
    times.passes(2.0, lag=0.0)
    assert times.overload.shed_share == 0.0
    assert not times.overload.sheds()


@given(st.lists(st.tuples(st.floats(0, 1.5), st.floats(0, 5)), max_size=200))
def test_whatever_is_read_the_way_back_is_short(readings: list[tuple[float, float]]) -> None:
    times = Times()
    for used, lag in readings:
        level = times.passes(TICK, used, lag)
        assert all(level >= reached for reached, threshold in THRESHOLDS.items() if used >= threshold)
        assert 0.0 <= times.overload.shed_share <= MOST_SHED
    assert times.passes(len(THRESHOLDS) * DWELL + 0.5, THRESHOLDS[Level.SAVING] - RELIEF - 0.01) is Level.CALM
