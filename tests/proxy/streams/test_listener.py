"""Who may come by a stream's port; the streams themselves are shown over real sockets in ``tests/wire``."""

from __future__ import annotations

from typing import Any

from drycc_proxy.routing.definitions import StreamRoute
from drycc_proxy.streams.listener import BURST, Doorkeeper
from tests.fakes.instructions import Work


def keeper(**limits: Any) -> Doorkeeper:
    return Doorkeeper(StreamRoute("git", 2222, "builder", "drycc", "drycc-builder", **limits))


def test_without_limits_everybody_may_come_and_nobody_is_remembered() -> None:
    door = keeper()
    assert all(door.admit("192.0.2.1", 0.0) for _ in range(1000))
    assert len(door) == 0


def test_a_client_has_so_many_at_once() -> None:
    door = keeper(connections_per_client=2)
    assert [door.admit("192.0.2.1", 0.0) for _ in range(3)] == [True, True, False]
    assert door.admit("192.0.2.2", 0.0)
    door.left("192.0.2.1")
    assert [door.admit("192.0.2.1", 0.0) for _ in range(2)] == [True, False]


def test_a_client_opens_so_many_per_second_after_the_first_few() -> None:
    door = keeper(new_per_second=2.0)
    assert [door.admit("192.0.2.1", 100.0) for _ in range(BURST + 1)] == [True] * BURST + [False]
    assert not door.admit("192.0.2.1", 100.25)
    assert door.admit("192.0.2.1", 100.5)
    assert not door.admit("192.0.2.1", 100.6)
    assert [door.admit("192.0.2.1", 1000.0) for _ in range(BURST + 1)] == [True] * BURST + [False]


def test_who_is_refused_pays_nothing_for_it() -> None:
    door = keeper(connections_per_client=1, new_per_second=1.0)
    assert door.admit("192.0.2.1", 0.0)
    for _ in range(100):
        assert not door.admit("192.0.2.1", 0.0)
    door.left("192.0.2.1")
    assert door.admit("192.0.2.1", 0.0)


def test_limits_change_under_those_who_are_there() -> None:
    door = keeper(connections_per_client=1)
    assert door.admit("192.0.2.1", 0.0)
    door.change(StreamRoute("git", 2222, "builder", "drycc", "drycc-builder", connections_per_client=2))
    assert door.admit("192.0.2.1", 0.0)


def test_a_crowd_that_has_gone_is_forgotten_and_who_stays_is_not() -> None:
    door = keeper(connections_per_client=1, new_per_second=10.0)
    assert door.admit("stays", 0.0)
    for number in range(5000):
        assert door.admit(f"client {number}", number / 10)
        door.left(f"client {number}")
    assert len(door) < 1500
    assert not door.admit("stays", 501.0)


def test_nobody_pays_for_a_look_at_everybody() -> None:
    """Work that is the same for the first client and for the hundred-thousandth: no newcomer cleans up for all."""
    door = keeper(connections_per_client=1, new_per_second=0.001)
    costs = []
    for number in range(20_000):
        if number % 1000 == 999:
            work = Work()
            with work.on("admit"):
                door.admit(f"client {number}", 0.0)
            costs.append(work.done["admit"])
        else:
            door.admit(f"client {number}", 0.0)
    assert max(costs) < 2 * min(costs)  # a collection of garbage may be counted along
    assert len(door) == 20_000
