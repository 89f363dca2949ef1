"""When to ask again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drycc_router.kubernetes.backoff import BELIEVED, CAP, FIRST, HEALTHY, MAX_ASKED, REFUSED_CAP, Backoff, Refusals


def test_it_doubles_up_to_a_cap() -> None:
    backoff = Backoff(lambda: 0.0)
    now, delays = 0.0, []
    for _ in range(9):
        delays.append(backoff.failed(now))
        now += delays[-1]
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_the_first_delay_may_be_another() -> None:
    backoff = Backoff(lambda: 0.0, 30.0, 10.0)
    assert [backoff.failed(0.0), backoff.failed(10.0), backoff.failed(30.0)] == [10.0, 20.0, 30.0]


def refused_at(refusals: Refusals, count: int, asked: float = 0.0) -> list[float]:
    """When a thing is asked for that is refused each time."""
    now, times = 100.0, []
    for _ in range(count):
        times.append(now - 100.0)
        now += refusals.refused(now, asked)
    return times


def test_a_refusal_is_believed_after_seconds_and_looked_after_in_the_end_every_two_minutes() -> None:
    refusals = Refusals(lambda: 0.0)
    times = refused_at(refusals, 11)
    assert times[:5] == [0.0, 0.5, 1.5, 3.5, BELIEVED]
    assert times[-1] - times[-2] == REFUSED_CAP
    assert [refusals.is_believed(100.0 + at) for at in times[:6]] == [False] * 4 + [True] * 2
    refusals.over()
    assert not refusals.is_believed(1e6)


@given(st.floats(0, 1))
def test_whatever_chance_says_a_refusal_is_believed_at_the_end_of_these_seconds(chance: float) -> None:
    assert BELIEVED in [round(at, 6) for at in refused_at(Refusals(lambda: chance), 8)]


def test_a_refusal_that_asks_for_time_is_given_it() -> None:
    assert refused_at(Refusals(lambda: 0.0), 3, asked=20.0) == [0.0, 20.0, 40.0]


def test_a_long_healthy_time_makes_it_forget() -> None:
    backoff = Backoff(lambda: 0.0)
    for _ in range(5):
        backoff.failed(0.0)
    assert backoff.failed(1000.0) == FIRST
    assert backoff.failed(1000.0 + FIRST + HEALTHY - 1.0) == 2 * FIRST


def test_a_server_is_given_the_time_it_asks_for_within_reason() -> None:
    backoff = Backoff(lambda: 0.0)
    assert backoff.failed(0.0, asked=7.0) == 7.0
    assert backoff.failed(0.0, asked=86_400.0) == MAX_ASKED


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1)), max_size=30))
def test_the_cap_is_a_promise_whatever_chance_says(history: list[tuple[float, float]]) -> None:
    chances = [chance for _, chance in history]
    backoff = Backoff(lambda: chances.pop(0))
    now = 0.0
    for pause, _ in history:
        delay = backoff.failed(now)
        assert FIRST <= delay <= CAP * 1.25
        now += delay + pause
