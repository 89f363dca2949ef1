"""The deadline wheel, turned by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from drycc_proxy.kernel import clock
from drycc_proxy.kernel.clock import A_TURN, FAR, HORIZON, TICK, Wheel, http_date
from tests.fakes.clock import FakeClock
from tests.fakes.instructions import Work
from tests.fakes.loop import FakeLoop


class Handle:
    def cancel(self) -> None:
        pass


class Blind(FakeLoop):
    """A loop whose only timer rings when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.later: list[Callable[[], None]] = []

    def call_later(self, seconds: float, call: Callable[[], None]) -> Handle:
        self.later.append(call)
        return Handle()


class Guest:
    """Something that can be late, and writes down when it was told so."""

    def __init__(self, late: Callable[[Guest, float], None] | None = None) -> None:
        self.deadline = FAR
        self.slot = 0
        self.told: list[float] = []
        self._late = late

    def overdue(self, now: float) -> None:
        self.told.append(now)
        if self._late is None:
            self.slot = -1
        else:
            self._late(self, now)


class Turning:
    """A wheel and the hand that turns it."""

    def __init__(self, fake: FakeClock) -> None:
        self.clock = fake
        self.wheel = Wheel(asyncio.new_event_loop())
        self.wheel._loop.close()

    def until(self, seconds: float) -> None:
        """Turn to so many seconds after the beginning, tick by tick."""
        while self.clock.seconds < FakeClock.BEGINNING + seconds - TICK / 2:
            self.clock.seconds += TICK
            self.wheel.advance(self.clock.seconds)

    def at(self, seconds: float) -> float:
        return FakeClock.BEGINNING + seconds


@pytest.fixture
def turning(monkeypatch: pytest.MonkeyPatch) -> Turning:
    fake = FakeClock()
    fake.install(monkeypatch)
    return Turning(fake)


@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.25, 1.0, 5.9, 6.0, 6.4, 7.0, 60.0, 1300.0])
def test_a_deadline_is_noticed_within_two_ticks_and_never_early(turning: Turning, seconds: float) -> None:
    guest = Guest()
    turning.wheel.arm(guest, turning.at(seconds))
    turning.until(seconds + 10)
    [told] = guest.told
    assert turning.at(seconds) <= told <= turning.at(seconds + 2 * TICK) + 1e-6


def test_a_deadline_that_has_passed_is_noticed_at_the_next_tick(turning: Turning) -> None:
    guest = Guest()
    turning.wheel.arm(guest, turning.at(-5))
    turning.until(TICK)
    assert len(guest.told) == 1


def test_a_deadline_is_moved_away_by_assignment(turning: Turning) -> None:
    guest = Guest()
    turning.wheel.arm(guest, turning.at(10))
    for second in range(1, 30):
        turning.until(second)
        guest.deadline = turning.at(second + 10)
    assert guest.told == []
    turning.until(60)
    [told] = guest.told
    assert turning.at(39) <= told <= turning.at(39.3)


def test_a_far_deadline_may_be_set_by_assignment_alone(turning: Turning) -> None:
    guest = Guest()
    turning.wheel.arm(guest, FAR)
    turning.until(100)
    guest.deadline = turning.at(100 + HORIZON)
    turning.until(200)
    [told] = guest.told
    assert turning.at(100 + HORIZON) <= told <= turning.at(100 + HORIZON + 0.3)


def test_a_deadline_is_drawn_nearer_by_arming(turning: Turning) -> None:
    guest = Guest()
    turning.wheel.arm(guest, turning.at(100))
    turning.until(1)
    turning.wheel.arm(guest, turning.at(1.5))
    turning.until(2)
    assert len(guest.told) == 1


def test_a_guest_that_was_filed_twice_is_told_once(turning: Turning) -> None:
    def later(guest: Guest, now: float) -> None:
        guest.deadline = now + 1

    guest = Guest(later)
    for deadline in (3.0, 2.0, 1.0, 1.0, 3.0):
        turning.wheel.arm(guest, turning.at(deadline))
    turning.until(3.05)
    assert guest.told == []
    turning.until(3.3)
    assert len(guest.told) == 1


def test_a_guest_that_sets_a_new_deadline_is_looked_after(turning: Turning) -> None:
    def again(guest: Guest, now: float) -> None:
        guest.deadline = now + 1.0

    guest = Guest(again)
    turning.wheel.arm(guest, turning.at(1))
    turning.until(6)
    gaps = [later - earlier for earlier, later in zip(guest.told, guest.told[1:], strict=False)]
    assert len(gaps) == 4
    assert all(-1e-6 <= gap - 1.0 <= 2 * TICK for gap in gaps)


def test_a_guest_that_leaves_is_never_told(turning: Turning) -> None:
    guest = Guest()
    turning.wheel.arm(guest, turning.at(1))
    guest.slot = -1
    turning.wheel.arm(guest, turning.at(0.5))
    turning.until(20)
    assert guest.told == []


def test_guests_who_wait_for_nothing_stay_and_cost_no_call(turning: Turning) -> None:
    guest = Guest()
    turning.wheel.arm(guest, FAR)
    turning.until(100)
    assert guest.told == []
    assert guest.slot > 0


@pytest.mark.parametrize("stall", [1.0, 6.5, 60.0, 3600.0])
def test_after_a_stall_everybody_who_is_late_is_told_once(turning: Turning, stall: float) -> None:
    guests = [Guest() for _ in range(50)]
    for number, guest in enumerate(guests):
        turning.wheel.arm(guest, turning.at(number * stall / 50))
    turning.clock.seconds += stall + 7
    turning.wheel.advance(turning.clock.seconds)
    turning.until(stall + 20)
    assert [len(guest.told) for guest in guests] == [1] * 50


def test_many_guests_are_told_in_their_ticks(turning: Turning) -> None:
    guests = [Guest() for _ in range(500)]
    for number, guest in enumerate(guests):
        turning.wheel.arm(guest, turning.at(number * 0.037))
    turning.until(25)
    for number, guest in enumerate(guests):
        [told] = guest.told
        assert 0 <= told - turning.at(number * 0.037) <= 2 * TICK + 1e-6


def test_one_that_fails_does_not_take_the_others_along(turning: Turning, caplog: pytest.LogCaptureFixture) -> None:
    def fails(guest: Guest, now: float) -> None:
        raise RuntimeError("broken")

    guests = [Guest(fails if number == 1 else None) for number in range(4)]
    for guest in guests:
        turning.wheel.arm(guest, turning.at(1))
    turning.until(1.5)
    assert [len(guest.told) for guest in guests] == [1, 1, 1, 1]
    assert len(caplog.records) == 1
    turning.until(2.5)
    assert [len(guest.told) for guest in guests] == [1, 2, 1, 1], "what failed is not forgotten: somebody waits for it"


@pytest.mark.parametrize("jump", [-315_360_000.0, -3600.0, 3600.0, 315_360_000.0])
def test_the_wall_clock_may_jump_as_it_likes(turning: Turning, jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardening R-34: an hour or ten years in either direction move no deadline; only the Date follows."""
    guest = Guest()
    turning.wheel.arm(guest, turning.at(10))
    turning.until(5)
    monkeypatch.setattr(clock, "wall", lambda: turning.clock.wall() + jump)
    before = http_date()
    turning.until(9.9)
    assert guest.told == []
    turning.until(10.3)
    assert len(guest.told) == 1
    assert before != http_date()


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> Blind:
    """There is no timer of the kernel."""
    monkeypatch.setattr("drycc_proxy.kernel.kernel_timer._LIBC", None)
    return Blind()


def test_how_late_the_loop_is(blind: Blind, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeClock()
    fake.install(monkeypatch)
    wheel = Wheel(cast(asyncio.AbstractEventLoop, blind))
    wheel.start()
    lags = []
    for passed in (TICK, TICK + 0.3, TICK - 0.001, TICK):
        fake.seconds += passed
        blind.later.pop()()
        lags.append(wheel.lag)
    assert lags == pytest.approx([0.0, 0.3, 0.0, 0.0], abs=1e-6)


def test_who_waits_for_a_turn_has_it_with_the_next_tick_at_the_latest(
    blind: Blind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "A_TURN", 60.0)  # writing of the mistake may take a millisecond
    wheel = Wheel(cast(asyncio.AbstractEventLoop, blind))
    wheel.start()
    had: list[str] = []

    def fails() -> None:
        raise ValueError("a mistake")

    def begs() -> None:
        had.append("begs")
        wheel.next_turn(lambda: had.append("again"))

    wheel.next_turn(fails)
    wheel.next_turn(begs)
    blind.later.pop()()  # a tick: the loop has not come to what it was to call soon
    assert had == ["begs"]
    blind.settle()
    assert had == ["begs", "again"]


def test_a_wheel_turns_by_itself_and_can_be_stopped() -> None:
    loop = asyncio.new_event_loop()
    turns = 0

    def turned() -> None:
        nonlocal turns
        turns += 1
        if turns == 3:
            wheel.stop()
            loop.call_later(3 * TICK, loop.stop)

    wheel = Wheel(loop, turned)
    guest = Guest()
    wheel.start()
    wheel.start()
    wheel.arm(guest, clock.now() + TICK)
    loop.run_forever()
    loop.close()
    wheel.stop()
    assert turns == 3
    assert len(guest.told) == 1


def test_the_date_is_made_once_a_second(turning: Turning) -> None:
    first = http_date()
    assert first == b"Mon, 21 Sep 2026 14:13:20 GMT"
    turning.clock.seconds += 0.5
    assert http_date() is first
    turning.clock.seconds += 0.6
    assert http_date() == b"Mon, 21 Sep 2026 14:13:21 GMT"


def test_a_tick_looks_at_a_bounded_number_and_the_next_turns_at_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """6,000 connects that time out together were given up in one step: a third of a second."""
    fake = FakeClock()
    fake.install(monkeypatch)
    loop = FakeLoop()
    wheel = Wheel(cast(asyncio.AbstractEventLoop, loop))
    guests = [Guest() for _ in range(5000)]
    for number, guest in enumerate(guests):
        wheel.arm(guest, fake.seconds + 1.0 if number % 2 else FAR)
    steps: list[int] = []
    work = Work()
    for _ in range(12):
        fake.seconds += TICK
        with work.on("tick"):
            wheel._go_on(fake.seconds)
        for _ in range(3):  # turns of the loop until the next tick
            if loop._soon:
                callback, args = loop._soon.popleft()
                with work.on(f"turn {len(steps)}"):
                    callback(*args)
                steps.append(work.done[f"turn {len(steps)}"])
    while loop._soon:
        callback, args = loop._soon.popleft()
        callback(*args)

    assert [len(guest.told) for guest in guests] == [number % 2 for number in range(5000)]
    assert max(steps) < 40_000
    assert work.done["tick"] < 12 * 40_000


def test_who_waits_for_a_turn_leaves_time_to_others(turning: Turning, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand who have half a millisecond of work left are not half a second for those who ask for something new."""
    fake = FakeClock()
    fake.install(monkeypatch)
    loop = FakeLoop()
    wheel = Wheel(cast(asyncio.AbstractEventLoop, loop))
    done: list[int] = []

    def work(number: int) -> Callable[[], None]:
        def turn() -> None:
            fake.seconds += A_TURN / 2.5
            done.append(number)

        return turn

    for number in range(10):
        wheel.next_turn(work(number))
    turns = []
    while loop._soon:
        callback, args = loop._soon.popleft()
        before = len(done)
        callback(*args)
        turns.append(len(done) - before)

    assert done == list(range(10))
    assert turns == [3, 3, 3, 1]
