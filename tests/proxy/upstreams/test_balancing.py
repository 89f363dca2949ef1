"""Two at random, the less loaded of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from drycc_proxy.upstreams import balancing
from drycc_proxy.upstreams.balancing import choose
from tests.fakes.instructions import Work


@dataclass(eq=False)
class Place:
    load: int = 0


def test_nobody_and_the_only_one() -> None:
    only = Place()
    assert choose([]) is None
    assert choose([only]) is only


def test_those_tried_already_are_left_out() -> None:
    places = [Place(), Place(), Place()]
    assert choose(places, places) is None
    assert choose(places, places[:2]) is places[2]
    assert choose(places, [Place()]) in places


def test_the_less_loaded_of_two_is_taken() -> None:
    busy, free = Place(load=5), Place(load=4)
    assert {id(choose([busy, free])) for _ in range(50)} == {id(free)}


def test_the_busiest_of_three_is_never_taken() -> None:
    places = [Place(0), Place(1), Place(2)]
    assert places[2] not in [choose(places) for _ in range(200)]


@pytest.mark.parametrize("draw", [0.0, 0.17, 0.5, 0.83, 0.999999])
def test_the_two_are_never_the_same(draw: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balancing, "random", lambda: draw)
    places = [Place(), Place(), Place()]
    asked: list[Place] = []

    class Watched(list[Place]):
        def __getitem__(self, at: Any) -> Any:
            place = super().__getitem__(at)
            asked.append(place)
            return place

    choose(Watched(places))
    assert len(asked) == len(set(map(id, asked))) == 2


def test_each_pair_is_as_likely_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = [(step + 0.5) / 120 for step in range(120)]
    monkeypatch.setattr(balancing, "random", lambda: draws.pop())
    places = [Place(0), Place(1), Place(2), Place(3)]
    taken = Counter(places.index(choose(places) or places[3]) for _ in range(120))
    assert taken == {0: 60, 1: 40, 2: 20}


def test_load_is_spread_evenly() -> None:
    places = [Place() for _ in range(10)]
    taken: Counter[int] = Counter()
    for _ in range(1000):
        chosen = choose(places)
        assert chosen is not None
        chosen.load += 1
        taken[id(chosen)] += 1
    assert max(taken.values()) - min(taken.values()) <= 10


def test_of_many_those_tried_already_are_left_out_without_a_look_at_all() -> None:
    places = [Place(load=number % 7) for number in range(5000)]
    tried = [places[0], places[4999]]
    work = Work()
    with work.on("choice"):
        chosen = [choose(places, tried) for _ in range(100)]

    assert not set(map(id, chosen)) & set(map(id, tried))
    assert None not in chosen
    assert work.done["choice"] < 100 * 500


def test_of_many_the_last_one_that_is_left_is_found() -> None:
    places = [Place() for _ in range(100)]

    assert choose(places, places[1:]) is places[0]
