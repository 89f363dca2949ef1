"""Places: how many there are, who takes them, and when there are too few."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drycc_proxy.metrics import Counters
from drycc_proxy.state.admission import PRESSURE, Admission, for_clients, reserve


@pytest.mark.parametrize(
    ("descriptors", "in_use", "clients"),
    [
        (256, 26, 107),  # half of what is left
        (1024, 30, 465),
        (20_000, 30, 15_618),  # all but 4,096 for apps and 256 of our own
        (1 << 20, 30, 1_044_194),
        (40, 30, 1),  # never none at all: an operator who allows so little sees what happens
    ],
)
def test_places_for_clients(descriptors: int, in_use: int, clients: int) -> None:
    assert for_clients(descriptors, in_use) == clients


@given(st.integers(64, 1 << 22), st.integers(3, 60))
def test_clients_never_take_what_is_kept(descriptors: int, in_use: int) -> None:
    clients = for_clients(descriptors, in_use)
    left = descriptors - in_use - clients
    assert clients == 1 or left >= reserve(descriptors) + min(clients, 4096)


def test_the_last_place_is_told() -> None:
    full: list[int] = []
    admission = Admission(Counters())
    admission.allow(3, 1000, 30)
    admission.on_full = lambda: full.append(admission.connections)
    admission.come()
    admission.come()
    assert full == []
    admission.come()
    assert full == [3]
    assert admission.is_full
    admission.go()
    assert not admission.is_full


def test_nobody_gets_more_places_than_there_are_descriptors() -> None:
    admission = Admission(Counters())
    admission.allow(1_000_000, 256, 26)
    assert admission.most == 107
    admission.allow(50, 256, 26)
    assert admission.most == 50


def test_connections_to_apps_take_places_too() -> None:
    counters = Counters()
    admission = Admission(counters)
    admission.allow(0, 256, 26)
    admission.connections = 60
    assert (admission.is_full, admission.excess <= 0) == (False, True)
    counters.upstream_open = 154
    assert admission.is_full
    assert admission.excess == 60 + 154 - int(214 * PRESSURE)


def test_pressure_begins_before_the_end() -> None:
    admission = Admission(Counters())
    admission.allow(100, 100_000, 30)
    admission.connections = 80
    assert admission.excess == 0
    admission.connections = 93
    assert admission.excess == 13


def test_a_client_takes_no_more_than_it_may() -> None:
    admission = Admission(Counters())
    assert admission.take("2001:db8::1", 2)
    assert admission.take("2001:db8::2", 2)
    assert not admission.take("2001:db8::3", 2)
    assert admission.take("2001:db8::3", 0)
    assert admission.take("203.0.113.7", 2)
    assert admission.clients == 2
    for address in ("2001:db8::9", "2001:db8::9", "2001:db8::9", "203.0.113.7"):
        admission.give(address)
    assert admission.clients == 0
