"""An endpoint says who it is and how busy."""

from __future__ import annotations

import pytest

from drycc_proxy.upstreams.endpoint import LEARNED_FOR, Endpoint
from tests.fakes.story import POD


def test_a_new_endpoint_is_free() -> None:
    endpoint = Endpoint[None](("fd00::1", 8080), 60.0)
    assert (endpoint.load, endpoint.idle, endpoint.gone) == (0, {}, False)
    assert endpoint.label == b"[fd00::1]:8080"
    assert repr(endpoint) == "<Endpoint [fd00::1]:8080 load=0 idle=0>"
    endpoint.gone = True
    assert repr(endpoint) == "<Endpoint [fd00::1]:8080 load=0 idle=0 gone>"


def test_one_address_in_two_apps_is_two_endpoints() -> None:
    assert Endpoint(("10.0.0.1", 80), 60.0) != Endpoint(("10.0.0.1", 80), 60.0)


# ── how long its app keeps idle connections ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("said", "kept"), [(75.0, 60.0), (5.0, 4.0), (2.0, 1.0), (1.0, 0.5), (0.2, 0.1)])
def test_connections_are_closed_well_before_the_app_does(said: float, kept: float) -> None:
    endpoint = Endpoint[None](POD, 60.0)
    endpoint.is_patient(said)
    assert endpoint.idle_seconds == kept


def test_two_closings_after_the_same_time_are_a_habit() -> None:
    endpoint = Endpoint[None](POD, 60.0)
    assert not endpoint.closed_idle(5.0, 100.0)
    assert endpoint.closed_idle(5.02, 103.0)
    assert endpoint.idle_seconds == pytest.approx(4.02)


def test_a_process_that_ends_teaches_nothing() -> None:
    """It closes all its connections in the same breath, however long each was idle."""
    endpoint = Endpoint[None](POD, 60.0)
    assert not any(endpoint.closed_idle(age, 100.0) for age in (5.0, 0.001, 0.002, 5.0, 5.1, 30.0, 0.0))
    assert endpoint.idle_seconds == 60.0


def test_closings_at_odds_teach_nothing() -> None:
    endpoint = Endpoint[None](POD, 60.0)
    assert not any(endpoint.closed_idle(age, 100.0 + 10 * age) for age in (5.0, 20.0, 1.0, 40.0))


def test_what_is_known_already_is_no_news() -> None:
    endpoint = Endpoint[None](POD, 60.0)
    endpoint.closed_idle(70.0, 100.0)
    assert not endpoint.closed_idle(70.0, 110.0)


def test_what_was_learned_is_put_to_the_test_after_an_hour() -> None:
    endpoint = Endpoint[None](POD, 60.0)
    endpoint.closed_idle(5.0, 100.0)
    endpoint.closed_idle(5.0, 103.0)
    endpoint.forget_patience(103.0 + LEARNED_FOR, 60.0)
    assert endpoint.idle_seconds == 4.0
    endpoint.forget_patience(104.0 + LEARNED_FOR, 60.0)
    assert endpoint.idle_seconds == 60.0
    endpoint.is_patient(5.0)  # what is announced holds without end
    endpoint.forget_patience(1e9, 60.0)
    assert endpoint.idle_seconds == 4.0
