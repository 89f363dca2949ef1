"""Handshakes take turns, and there are never too many of them."""

from __future__ import annotations

import pytest

from drycc_proxy.metrics import Counters
from drycc_proxy.state import handshakes
from drycc_proxy.state.handshakes import A_TURN, Handshakes
from tests.fakes.clock import FakeClock
from tests.fakes.loop import FakeLoop


class Shaking:
    """A handshake that notes when it was its turn; each of its ``steps`` takes its ``cost`` in seconds."""

    def __init__(self, world: World, cost: float = 2**-10, steps: int = 1) -> None:
        self.steps = steps
        self.world = world
        self.cost = cost
        self.given_up = False

    def go_on(self) -> bool:
        self.world.clock.seconds += self.cost
        self.world.done.append(self)
        self.steps -= 1
        return self.steps > 0

    def give_up(self) -> None:
        self.given_up = True


class World:
    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.loop = FakeLoop()
        self.counters = Counters()
        self.handshakes = Handshakes(self.loop.call_soon, self.counters)
        self.done: list[Shaking] = []

    def turn(self) -> list[Shaking]:
        """One turn of the loop; what was done in it."""
        done, self.done = self.done, []
        callbacks, self.loop._soon = self.loop._soon, type(self.loop._soon)()
        for callback, args in callbacks:
            callback(*args)
        return done


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    clock = FakeClock()
    clock.install(monkeypatch)
    return World(clock)


def test_a_handshake_alone_goes_on_at_once(world: World) -> None:
    one = Shaking(world)
    world.handshakes.begin(one)
    world.handshakes.step(one)
    assert world.done == [one]
    assert world.counters.tls_pending == 1
    world.handshakes.end(one)
    world.handshakes.end(one)
    assert world.counters.tls_pending == 0


def test_many_take_turns_in_order_of_arrival(world: World) -> None:
    many = [Shaking(world) for _ in range(23)]
    for each in many:
        world.handshakes.step(each)
    turns = [world.turn() for _ in range(7)]
    assert [len(done) for done in turns] == [6, 6, 6, 5, 0, 0, 0]
    assert [each for done in turns for each in done] == many
    assert not world.loop._soon, "nothing is left to be scheduled"


def test_who_comes_later_waits_behind_those_who_wait(world: World) -> None:
    first = [Shaking(world) for _ in range(14)]
    for each in first:
        world.handshakes.step(each)
    assert world.turn() == first[:6]
    late = Shaking(world)
    world.handshakes.step(late)
    assert world.turn() == first[6:12]
    assert world.turn() == [*first[12:], late]


def test_waiting_twice_is_one_turn(world: World) -> None:
    slow, quick = Shaking(world, 2 * A_TURN), Shaking(world)
    world.handshakes.step(slow)
    for _ in range(100):
        world.handshakes.step(quick)
    world.turn()
    world.turn()
    assert world.turn() == []
    assert world.clock.seconds == pytest.approx(FakeClock.BEGINNING + 2 * A_TURN + 2**-10)


def test_a_step_that_fails_does_not_stop_the_others(world: World) -> None:
    class Failing(Shaking):
        def go_on(self) -> bool:
            raise RuntimeError("broken")

    slow, broken, last = Shaking(world, 2 * A_TURN), Failing(world), Shaking(world)
    for each in (slow, broken, last):
        world.handshakes.step(each)
    with pytest.raises(RuntimeError):
        world.turn()
    world.turn()
    assert last in world.turn() + world.done


def test_beyond_so_many_the_oldest_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshakes, "MAX_PENDING", 3)
    five = [Shaking(world) for _ in range(5)]
    world.handshakes.begin(five[0])
    world.handshakes.begin(five[1])
    world.handshakes.end(five[0])
    for each in five[2:]:
        world.handshakes.begin(each)
    assert [each.given_up for each in five] == [False, True, False, False, False]
    assert (world.counters.tls_pending, world.counters.tls_given_up) == (3, 1)
    world.handshakes.end(five[1])
    assert world.counters.tls_pending == 3


def test_what_is_more_than_one_step_takes_a_turn_for_each(world: World) -> None:
    """Nobody else waits for all the steps of one."""
    long, short = Shaking(world, 2 * A_TURN, steps=3), Shaking(world)
    world.handshakes.step(long)
    world.handshakes.step(short)
    turns = [world.turn() for _ in range(4)]

    assert turns == [[long], [long], [short, long], []]
