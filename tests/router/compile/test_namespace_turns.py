"""Rounds: everybody gets a part of each, nobody's order changes, and nothing is lost."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from drycc_router.claims.unsynced import unheard
from drycc_router.compile.namespace_turns import QUANTUM, ROUND, Turns, weight
from drycc_router.model.objects import Change, ObjectKey
from tests.fakes.kube import endpoints, gone, service


def nobody(_: str) -> bool:
    return False


def slices(namespace: str, count: int, size: int = 1000) -> list[Change]:
    addresses = [f"10.0.{each // 250}.{each % 250}" for each in range(size)]
    return [endpoints(f"{namespace}/web", *addresses, slice_=f"s{number}") for number in range(count)]


def app(name: str) -> Change:
    return service(name, {"domains": f"{name.replace('/', '-')}.example"})


def test_whose_turn_it_is_has_the_whole_round_where_nobody_else_waits() -> None:
    turns = Turns(nobody)
    turns.put(slices("evil", 10))
    assert [len(turns.take()) for _ in range(4)] == [3, 3, 3, 1]
    assert not turns


def test_a_change_of_another_namespace_is_in_the_next_round_whatever_waits() -> None:
    turns = Turns(nobody)
    for number in range(40):
        turns.put(slices(f"evil-{number}", 100))
    turns.take()
    change = app("shop/web")
    turns.put([change, endpoints("shop/web", "10.0.0.1")])
    assert [each.key.namespace for each in turns.take()][:2] == ["shop", "shop"]


def test_a_round_is_bounded_however_many_are_in_a_hurry() -> None:
    turns = Turns(nobody)
    for number in range(40):
        turns.put(slices(f"evil-{number}", 5))
    rounds = []
    while turns:
        rounds.append(turns.take())
        assert sum(map(weight, rounds[-1])) <= ROUND + 1002
    assert sum(map(len, rounds)) == 200


def test_everybody_who_waits_gets_on() -> None:
    turns = Turns(nobody)
    for number in range(40):
        turns.put(slices(f"evil-{number}", 20))
    seen: set[str] = set()
    rounds = 0
    while len(seen) < 40:
        seen |= {each.key.namespace for each in turns.take()}
        rounds += 1
    assert rounds <= 40 * 1002 / ROUND + 2


def test_what_the_operator_writes_is_never_divided() -> None:
    turns = Turns(lambda namespace: namespace == "drycc")
    many = slices("drycc", 50)
    turns.put(slices("evil", 50))
    turns.put(many)
    assert turns.take()[:50] == many


def test_of_one_object_the_last_change_counts_and_has_the_place_of_the_first() -> None:
    turns = Turns(nobody)
    first, last = service("shop/web", {"domains": "a.example"}), service("shop/web", {"domains": "b.example"})
    turns.put([first, app("shop/api"), last])
    assert turns.take() == [last, app("shop/api")]


def test_that_a_namespace_is_heard_of_stays_behind_what_was_told_of_it() -> None:
    turns = Turns(nobody)
    turns.put([unheard("shop"), app("shop/web"), unheard("shop", still=False)])
    assert [each.key.kind for each in turns.take()] == ["Service", "Unheard"]


def test_a_change_weighs_what_there_is_to_read_in_it() -> None:
    assert weight(slices("shop", 1)[0]) == 1002
    assert weight(app("shop/web")) < 10
    names = ",".join(f"n{number}.evil.example" for number in range(500))
    assert weight(service("shop/web", {"domains": names})) > 5 * QUANTUM
    assert weight(gone(app("shop/web"))) > weight(app("shop/web"))
    bad: list[dict[str, Any]] = [{}, {"endpoints": 7}, {"metadata": []}, {"metadata": {"annotations": {"a": 7}}}]
    bad += [{"spec": 7}, {"spec": {"ports": 7}}]
    assert weight(Change(ObjectKey("EndpointSlice", "a", "b"), {"endpoints": [7, {"addresses": 7}]})) == 4
    assert [weight(Change(ObjectKey("Service", "a", "b"), raw)) for raw in bad] == [2, 2, 2, 2, 2, 2]


def test_ports_and_further_addresses_weigh_something() -> None:
    """A Service with 20,000 ports weighed 4 units and took 14 ms to read: sixty of them were one namespace's part."""
    ports = [{"name": f"p{number}", "port": number + 1} for number in range(20_000)]
    assert weight(service("shop/web", {"domains": "a.example"}, ports=ports)) > 10 * QUANTUM
    assert weight(endpoints("shop/web", "10.0.0.1", ports=ports)) > 10 * QUANTUM
    many = [{"addresses": [f"10.0.{number}.{each}" for each in range(100)]} for number in range(200)]
    assert weight(endpoints("shop/web", *many)) > 10 * QUANTUM


CHANGES = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.integers(0, 2000)).map(
        lambda each: endpoints(f"{each[0]}/web", *["10.0.0.1"] * each[2], slice_=str(each[1]))
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(CHANGES, max_size=6))
def test_the_last_change_of_every_object_is_taken_once_it_is_the_last(history: list[list[Change]]) -> None:
    turns = Turns(nobody)
    told: dict[ObjectKey, Change] = {}
    known: dict[ObjectKey, Change] = {}
    for changes in history:
        turns.put(changes)
        told.update((each.key, each) for each in changes)
        known.update((each.key, each) for each in turns.take())
    while turns:
        taken = turns.take()
        assert taken
        known.update((each.key, each) for each in taken)
    assert known == told
