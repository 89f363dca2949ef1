"""Statistics that the benchmarks stand on."""

import pytest

from benchmarks.figures import medians, multiple, percentile


@pytest.mark.parametrize(("share", "value"), [(0, 1), (0.5, 50), (0.99, 99), (0.999, 100), (1, 100)])
def test_a_percentile_is_a_value_that_occurred(share: float, value: float) -> None:
    assert percentile(range(1, 101), share) == value


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1], 1.1), ([1], -0.1)])
def test_a_percentile_of_nothing_or_out_of_range_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, share)


def test_medians_are_taken_metric_by_metric_and_only_of_what_every_round_has() -> None:
    rounds = [{"cpu_us": 3.0, "busy": 1.0}, {"cpu_us": 1.0, "busy": 0.5}, {"cpu_us": 2.0}]
    assert medians(rounds) == {"cpu_us": 2.0}
    assert medians([]) == {}


def test_a_machine_that_becomes_slower_between_rounds_does_not_move_the_multiple() -> None:
    mine, other = [10.0, 20.0, 40.0], [8.0, 16.0, 32.0]
    assert multiple(mine, other) == pytest.approx(1.25)
    assert multiple([30.0, 10.0, 10.0], [10.0, 10.0, 10.0]) == 1.0  # and one disturbed round does not either


def test_a_missing_round_falls_back_to_the_ratio_of_the_medians() -> None:
    assert multiple([10.0, 20.0, 30.0], [10.0, 10.0]) == 2.0


def test_there_is_no_multiple_of_nothing() -> None:
    assert multiple([], [1.0]) is None
    assert multiple([1.0], []) is None
    assert multiple([1.0], [0.0]) is None
