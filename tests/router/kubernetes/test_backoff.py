"""When to ask again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.kubernetes.backoff import CAP, FIRST, HEALTHY, MAX_ASKED, REFUSED_CAP, Backoff


def test_it_doubles_up_to_a_cap() -> None:
    backoff = Backoff(lambda: 0.0)
    now, delays = 0.0, []
    for _ in range(9):
        delays.append(backoff.failed(now))
        now += delays[-1]
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_where_a_right_is_missing_it_is_seconds_at_first_and_minutes_in_the_end() -> None:
    backoff = Backoff(lambda: 0.0, REFUSED_CAP, 2.0)
    now, delays = 0.0, []
    for _ in range(8):
        delays.append(backoff.failed(now))
        now += delays[-1]
    assert delays == [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 120.0, 120.0]


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
