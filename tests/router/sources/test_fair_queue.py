"""Whose turn it is: everybody in turn, each thing once, and nobody beyond a share."""

from __future__ import annotations

from drycc_router.sources import fair_queue
from drycc_router.sources.fair_queue import BURST, RATE, FairQueue


def drained(waiting: FairQueue[str], now: float) -> list[str]:
    taken = []
    while (thing := waiting.take(now)) is not None:
        taken.append(thing)
    return taken


def test_owners_take_turns_and_each_of_their_things_comes_once() -> None:
    waiting = FairQueue[str]()
    for thing in ("a1", "a2", "b1", "a3", "a1"):
        waiting.put(thing, thing[0])
    assert len(waiting) == 4
    assert drained(waiting, 0.0) == ["a1", "b1", "a2", "a3"]
    assert waiting.wait(0.0) is None


def test_what_was_taken_may_wait_again() -> None:
    waiting = FairQueue[str]()
    for _ in range(2):
        waiting.put("a", "a")
        assert drained(waiting, 0.0) == ["a"]


def test_nobody_is_held_back_before_the_start_is_over() -> None:
    waiting = FairQueue[str]()
    for number in range(3 * BURST):
        waiting.put(str(number), "greedy")
    assert len(drained(waiting, 0.0)) == 3 * BURST


def test_who_takes_more_than_a_share_waits_and_nobody_else_does() -> None:
    waiting = FairQueue[str]()
    waiting.ration()
    for number in range(BURST + 10):
        waiting.put(str(number), "greedy")
    waiting.put("modest", "modest")
    taken = drained(waiting, 100.0)
    assert len(taken) == BURST + 1
    assert taken[1] == "modest", "not even behind what the other may take"
    pause = waiting.wait(100.0)
    assert pause is not None
    assert 0.0 < pause <= 1.0 / RATE
    waiting.put("modest", "modest")
    assert drained(waiting, 100.0) == ["modest"]
    assert len(drained(waiting, 100.0 + pause)) == 1
    assert len(drained(waiting, 200.0)) == 9


def test_a_share_is_whole_again_after_a_while_and_not_larger() -> None:
    waiting = FairQueue[str]()
    waiting.ration()
    for now in (0.0, 10_000.0):
        for number in range(2 * BURST):
            waiting.put(f"{now} {number}", "greedy")
        assert len(drained(waiting, now)) in (BURST - 1, BURST), "floats may lose one"
        drained(waiting, now + 5000.0)


def test_owners_whose_share_is_whole_are_forgotten() -> None:
    waiting = FairQueue[str]()
    waiting.ration()
    for number in range(fair_queue._FORGET + 1):
        waiting.put("thing", f"owner {number}")
        assert drained(waiting, float(number)) == ["thing"]
    assert len(waiting._spent) < 10
