"""So many at once, then one in a while; nobody's haste costs another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drycc_router.model.rations import Ration, Rations


def test_so_many_at_once_and_then_one_in_a_while() -> None:
    ration = Ration(3, 60.0)
    for _ in range(3):
        assert ration.wait(100.0) == 0.0
        ration.take(100.0)
    assert ration.wait(100.0) == 60.0
    assert ration.wait(130.0) == 30.0
    assert ration.wait(160.0) == 0.0
    ration.take(160.0)
    assert ration.wait(160.0) == 60.0
    assert ration.is_full(1000.0)


@given(st.lists(st.floats(0.0, 20.0), max_size=60))
def test_it_is_never_more_than_that(pauses: list[float]) -> None:
    ration, now, taken = Ration(4, 5.0), 0.0, []
    for pause in pauses:
        now += pause
        if ration.wait(now) == 0.0:
            ration.take(now)
            taken.append(now)
    for first, begin in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= 4 + (taken[last] - begin) / 5.0 + 1e-6


def test_each_has_its_own_and_those_at_rest_are_forgotten() -> None:
    rations = Rations(1, 10.0)
    rations.take("a", 0.0)
    assert rations.wait("a", 0.0) == 10.0
    assert rations.wait("b", 0.0) == 0.0
    assert (rations.is_full("a", 9.0), rations.is_full("a", 10.0), rations.is_full("b", 0.0)) == (False, True, True)
    for number in range(1000):
        rations.take(number, float(number))
    assert rations.wait(999, 999.0) == 10.0
    assert len(rations) < 200
