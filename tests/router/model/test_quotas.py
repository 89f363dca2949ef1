"""Who gets what there is not enough of: whoever has it, then whoever comes first; and nobody else notices."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drycc_router.model.quotas import Allowance

DAY = datetime(2026, 1, 1, tzinfo=UTC)
OLD, NEW = DAY, DAY + timedelta(days=1)


def names(first: int, last: int) -> list[str]:
    return [f"n{number}" for number in range(first, last)]


def test_who_stays_within_it_gets_everything() -> None:
    allowance = Allowance(3)
    allowance.put("shop/web", NEW, ["a", "b"])
    allowance.put("shop/api", OLD, ["b", "c"])
    allowance.put("blog/web", NEW, ["a", "x", "y"])

    assert allowance.settle() == set(), "nobody beside those that were put"
    assert not any(allowance.refused(app) for app in ("shop/web", "shop/api", "blog/web", "no/body"))
    assert repr(allowance) == "<Allowance of 3 for 2 namespaces, 0 want more>"


def test_of_those_that_come_at_once_the_older_service_comes_first_then_its_name_then_the_order_written() -> None:
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        wishes = [("ns/c", OLD, ["c1", "c2"]), ("ns/b", NEW, ["b1", "b2"]), ("ns/a", NEW, ["z1", "a2"])]
        allowance = Allowance(3)
        for number in order:
            allowance.put(*wishes[number])
        allowance.settle()
        refused = {app: list(allowance.refused(app)) for app, _, _ in wishes}
        assert refused == {"ns/c": [], "ns/a": ["a2"], "ns/b": ["b1", "b2"]}


def test_a_newcomer_takes_nothing_from_those_who_were_there_however_old_it_is() -> None:
    allowance = Allowance(2)
    allowance.put("ns/young", NEW, ["a", "b"])
    allowance.settle()
    allowance.put("ns/old", OLD, ["c", "a"])

    assert allowance.settle() == set()
    assert list(allowance.refused("ns/old")) == ["c"], "a is counted already"
    assert list(allowance.refused("ns/young")) == []

    allowance.put("ns/young", NEW, ["b", "d", "a"])
    allowance.settle()
    assert list(allowance.refused("ns/young")) == ["d"]


def test_what_becomes_free_goes_to_whoever_comes_first_among_those_who_wait() -> None:
    allowance = Allowance(2)
    allowance.put("ns/first", OLD, ["a", "b"])
    allowance.settle()
    allowance.put("ns/late", NEW, ["x"])
    allowance.put("ns/early", OLD, ["y", "z"])
    allowance.settle()

    allowance.put("ns/first", OLD, ["b"])
    assert allowance.settle() == {"ns/early"}
    assert list(allowance.refused("ns/early")) == ["z"]
    allowance.put("ns/early", OLD, ["y"])
    assert allowance.settle() == set()
    allowance.put("ns/first", OLD, [])
    assert allowance.settle() == {"ns/late"}
    assert not allowance.refused("ns/late")


def test_a_thing_that_two_want_stays_until_both_are_gone() -> None:
    allowance = Allowance(1)
    allowance.put("ns/a", OLD, ["x"])
    allowance.put("ns/b", NEW, ["x"])
    allowance.put("ns/c", NEW, ["y"])
    allowance.put("ns/d", NEW, ["y"])
    allowance.settle()

    allowance.put("ns/a", OLD, [])
    assert allowance.settle() == set()
    allowance.put("ns/b", OLD, [])
    assert allowance.settle() == {"ns/c", "ns/d"}


def test_some_namespaces_have_no_limit() -> None:
    allowance = Allowance(1, lambda namespace: namespace == "drycc")
    allowance.put("drycc/web", OLD, names(0, 50))
    allowance.put("shop/web", OLD, names(0, 50))
    allowance.settle()

    assert not allowance.refused("drycc/web")
    assert list(allowance.refused("shop/web")) == names(1, 50)


# ── restarts and replicas ─────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_remembered_comes_first_after_a_restart() -> None:
    allowance = Allowance(2)
    remembered = {("a", "ns/young"), ("b", "ns/young")}
    allowance.put("ns/old", OLD, ["c"], remembered)
    allowance.put("ns/young", NEW, ["z", "a", "b"], remembered)
    allowance.settle()

    assert list(allowance.refused("ns/old")) == ["c"]
    assert list(allowance.refused("ns/young")) == ["z"]


def test_replicas_that_saw_newcomers_in_another_order_agree_once_one_of_them_is_heard() -> None:
    def replica(first: str, second: str) -> Allowance:
        allowance = Allowance(2)
        allowance.put("ns/web", OLD, ["a"])
        for app in (first, second):
            allowance.settle()
            allowance.put(app, NEW, [app])
        allowance.settle()
        return allowance

    one, other = replica("ns/b", "ns/c"), replica("ns/c", "ns/b")
    assert (list(one.refused("ns/c")), list(other.refused("ns/b"))) == (["ns/c"], ["ns/b"])

    other.defer_to([("a", "ns/web"), ("ns/b", "ns/b"), ("gone", "ns/gone"), ("x", "blog/web")])

    assert other.settle() == {"ns/b", "ns/c"}
    assert list(other.refused("ns/b")) == []
    assert list(other.refused("ns/c")) == ["ns/c"]
    other.put("ns/web", OLD, [])
    assert other.settle() == {"ns/c"}


def test_whom_nobody_could_make_room_for_goes_on_waiting() -> None:
    allowance = Allowance(1)
    allowance.put("ns/a", OLD, ["x"])
    allowance.put("ns/b", OLD, ["y"])
    allowance.settle()

    allowance.defer_to([("x", "ns/a"), ("y", "ns/b")])

    assert allowance.settle() == set()
    assert list(allowance.refused("ns/b")) == ["y"]


# ── any history ───────────────────────────────────────────────────────────────────────────────────────────────────────

APPS = ["a/x", "a/y", "a/z", "b/x"]
WISHES = st.lists(st.sampled_from("pqrstuv"), max_size=6, unique=True)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(APPS), WISHES, min_size=1), max_size=12), st.integers(1, 4))
def test_any_history_comes_to_what_the_rules_say(history: list[dict[str, list[str]]], limit: int) -> None:
    allowance = Allowance(limit)
    wanted: dict[str, list[str]] = {}
    had: dict[str, set[str]] = {"a": set(), "b": set()}
    told: dict[str, list[str]] = {}
    for batch in history:
        for app, things in batch.items():
            allowance.put(app, DAY + timedelta(days=APPS.index(app)), things)
            wanted[app] = things
        moved = allowance.settle()
        for app, things in wanted.items():
            refused = list(allowance.refused(app))
            assert refused == [thing for thing in things if thing in refused]
            assert app in batch or (app in moved) == (refused != told[app])
            told[app] = refused
        for namespace, before in had.items():
            mine = [(app, things) for app, things in wanted.items() if app.startswith(namespace)]
            everything = {thing for _, things in mine for thing in things}
            has = {thing for app, things in mine for thing in things if thing not in told[app]}
            assert all((thing in has) == (thing not in told[app]) for app, things in mine for thing in things)
            assert len(has) == min(limit, len(everything)), "neither more than the limit nor less than is wanted"
            assert before & everything <= has, "whoever has something keeps it"
            had[namespace] = has


def test_coming_and_going_leaves_nothing_behind() -> None:
    """Whoever changes its mind ten thousand times must not make the router grow."""
    allowance = Allowance(5)
    allowance.put("ns/first", OLD, names(0, 5))
    allowance.settle()
    fate = random.Random(7)
    for number in range(10_000):
        app = f"ns/app-{fate.randrange(20)}"
        allowance.put(app, NEW, names(number, number + fate.randrange(4)))
        allowance.settle()
    queue = allowance._queues["ns"]
    assert len(queue._heap) <= 2 * queue._count + 64
    for number in range(20):
        allowance.put(f"ns/app-{number}", NEW, [])
    allowance.put("ns/first", OLD, [])
    allowance.settle()
    assert (allowance._wanted, allowance._given, allowance._queues) == ({}, {}, {})


@pytest.mark.parametrize("order", ["wanted first", "remembered first"])
def test_it_takes_what_is_put_twice_before_it_is_settled(order: str) -> None:
    allowance = Allowance(2)
    allowance.put("ns/a", OLD, ["a", "b", "c"])
    allowance.put("ns/a", OLD, ["c"] if order == "wanted first" else [])
    allowance.put("ns/b", NEW, ["b", "d"])
    allowance.settle()

    assert list(allowance.refused("ns/b")) == (["d"] if order == "wanted first" else [])


def test_what_a_thing_weighs_counts_and_not_how_many_there_are() -> None:
    allowance = Allowance(10, weigh=len)
    allowance.put("ns/a", OLD, ["four", "fives"])
    allowance.put("ns/b", NEW, ["x", "yy"])
    allowance.settle()
    assert list(allowance.refused("ns/a")) == []
    assert list(allowance.refused("ns/b")) == ["yy"]

    allowance.put("ns/a", OLD, ["four", "sixsix"])
    allowance.settle()
    assert list(allowance.refused("ns/a")) == ["sixsix"], "x is there already"
    allowance.put("ns/a", OLD, ["four"])
    allowance.settle()
    assert list(allowance.refused("ns/b")) == []


def test_who_waits_for_something_heavy_is_not_overtaken() -> None:
    allowance = Allowance(4, weigh=len)
    allowance.put("ns/a", OLD, ["aaa"])
    allowance.put("ns/b", OLD, ["bbb"])
    allowance.put("ns/c", NEW, ["c"])
    allowance.settle()
    assert [bool(allowance.refused(app)) for app in ("ns/a", "ns/b", "ns/c")] == [False, True, True]

    allowance.put("ns/a", OLD, ())
    assert allowance.settle() == {"ns/b", "ns/c"}


def test_who_is_remembered_gets_room_for_something_heavy() -> None:
    allowance = Allowance(6, weigh=len)
    allowance.put("ns/a", OLD, ["a1", "a2", "a3"])
    allowance.settle()
    allowance.put("ns/b", NEW, ["bbb"])
    allowance.settle()
    allowance.defer_to({("bbb", "ns/b"), ("a1", "ns/a")})
    assert allowance.settle() == {"ns/a", "ns/b"}
    assert list(allowance.refused("ns/a")) == ["a2", "a3"]
    assert not allowance.refused("ns/b")


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.text("xyz", min_size=1, max_size=4), unique=True))))
def test_no_history_gives_more_than_the_limit_or_keeps_what_would_fit_from_whoever_is_next(
    history: list[tuple[str, list[str]]],
) -> None:
    allowance = Allowance(8, weigh=len)
    wanted: dict[str, list[str]] = {}
    for app, things in history:
        wanted[app] = things
        allowance.put(f"ns/{app}", OLD, things)
        allowance.settle()
        given_to = {
            thing for app, things in wanted.items() for thing in things if thing not in allowance.refused(f"ns/{app}")
        }
        assert sum(map(len, given_to)) <= 8
        if sum(map(len, {thing for things in wanted.values() for thing in things})) <= 8:
            assert not any(allowance.refused(f"ns/{app}") for app in wanted)
