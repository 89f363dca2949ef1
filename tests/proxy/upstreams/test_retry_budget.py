"""How many requests may be sent a second time."""

from __future__ import annotations

from drycc_proxy.upstreams.retry_budget import FLOOR, MOST, SHARE, RetryBudget


def spent(budget: RetryBudget, now: float, answered: int) -> int:
    """Retries until there are none left."""
    count = 0
    while budget.spend(now, answered):
        count += 1
    return count


def test_a_new_app_has_a_few_and_what_its_requests_earned() -> None:
    assert spent(RetryBudget(), 50.0, 0) == MOST / 10
    assert spent(RetryBudget(), 50.0, 100) == MOST / 10 + 100 * SHARE


def test_requests_earn_a_tenth() -> None:
    budget = RetryBudget()
    spent(budget, 50.0, 0)
    assert spent(budget, 50.0, 200) == 200 * SHARE


def test_time_earns_one_a_second() -> None:
    budget = RetryBudget()
    spent(budget, 50.0, 0)
    assert spent(budget, 57.0, 0) == 7 * FLOOR


def test_no_more_than_so_many_are_saved_up() -> None:
    budget = RetryBudget()
    assert spent(budget, 50.0, 1_000_000) == MOST
    assert spent(budget, 90_000.0, 2_000_000) == MOST
