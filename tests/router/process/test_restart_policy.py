"""Start again, ever more slowly, and give up when it is no use."""

from __future__ import annotations

from drycc_router.process.restart_policy import Respawn


def test_who_served_is_started_again_at_once_however_often() -> None:
    lives = Respawn()
    assert [lives.died(now * 0.5, served=True) for now in range(100)] == [0.1] * 100


def test_who_dies_at_the_start_waits_longer_each_time_and_ten_times_in_a_minute_is_enough() -> None:
    lives, now, delays = Respawn(), 0.0, []
    while (delay := lives.died(now, served=False)) is not None:
        delays.append(delay)
        now += delay
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert now < 60.0


def test_deaths_that_are_far_apart_do_not_add_up() -> None:
    lives = Respawn()
    assert all(lives.died(now * 7.0, served=False) is not None for now in range(100))


def test_having_served_forgives_everything() -> None:
    lives = Respawn()
    for now in range(9):
        lives.died(float(now), served=False)
    assert lives.died(9.0, served=True) == 0.1
    assert lives.died(10.0, served=False) == 0.1
