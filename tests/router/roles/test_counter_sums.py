"""Counters of several workers add up as if one had counted, also when one of them is gone."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from drycc_proxy.errors import Failure
from drycc_proxy.metrics import Counters, Histogram, RouteCounters, StreamCounters
from drycc_router.process.messages import BadMessage
from drycc_router.roles.counter_sums import SLICE, Alone, CounterSums, Reporter, mark


def served(counters: Counters, name: str, status: int = 200, times: int = 1) -> RouteCounters:
    route = counters.routes.setdefault(name, RouteCounters(name, "shop", name))
    key = (status, "GET", "http/1.1")
    route.requests[key] = route.requests.get(key, 0) + times
    for _ in range(times):
        route.duration.observe(0.02)
    return route


def sent(slices: Iterable[dict[str, RouteCounters]]) -> dict[str, RouteCounters]:
    together: dict[str, RouteCounters] = {}
    for each in slices:
        together |= msgspec.msgpack.decode(msgspec.msgpack.encode(each), type=dict[str, RouteCounters])
    return together


def tell(ledger: CounterSums, pid: int, reporter: Reporter) -> None:
    totals = msgspec.msgpack.decode(msgspec.msgpack.encode(reporter.totals()), type=Counters)
    ledger.heard(pid, sent(reporter.routes()), totals)


def test_two_workers_add_up() -> None:
    ledger = CounterSums()
    for pid in (1, 2):
        counters = Counters()
        route = served(counters, "web", times=pid)
        route.errors[Failure.CONNECT_FAILED] = pid
        counters.accepted["http"] = 10 * pid
        counters.in_flight = pid
        counters.unrouted.requests[404, "GET", "http/1.1"] = 1
        counters.header.observe(0.5)
        tell(ledger, pid, Reporter(counters))
    sums = ledger.sums()
    assert sums.routes["web"].requests == {(200, "GET", "http/1.1"): 3}
    assert sums.routes["web"].errors == {Failure.CONNECT_FAILED: 3}
    assert sums.routes["web"].app == "web"
    assert sum(sums.routes["web"].duration.counts) == 3
    assert sums.accepted == {"http": 30, "https": 0}
    assert sums.in_flight == 3
    assert sums.unrouted.requests == {(404, "GET", "http/1.1"): 2}
    assert sums.unrouted.app == "_other"
    assert sums.header.total == 1.0


def test_only_what_changed_is_told_again_and_telling_twice_changes_nothing() -> None:
    counters, ledger = Counters(), CounterSums()
    for number in range(3 * SLICE):
        served(counters, str(number))
    reporter = Reporter(counters)
    assert [len(each) for each in reporter.routes()] == [SLICE] * 3
    assert sent(reporter.routes()) == {}
    served(counters, "7")
    assert set(sent(reporter.routes())) == {"7"}
    tell(ledger, 1, Reporter(counters))
    tell(ledger, 1, Reporter(counters))
    assert ledger.sums().routes["7"].requests == {(200, "GET", "http/1.1"): 2}
    del counters.routes["7"]
    served(counters, "7")
    assert set(sent(reporter.routes())) == {"7"}  # it went and came back: counted anew


def test_whatever_a_route_counts_makes_it_one_that_has_changed() -> None:
    """Also a counter that is new: one that nothing here changes fails."""
    route = RouteCounters("shop/web", "shop", "web")
    seen = {mark(route)}
    for slot in RouteCounters.__slots__:
        if slot in {"namespace", "service"}:  # the name of a route is made of them
            continue
        value = getattr(route, slot)
        match value:
            case str():
                route.app = "shop/renamed"
            case int():
                setattr(route, slot, value + 1)
            case dict():
                value[Failure.NO_ENDPOINT if slot != "requests" else (200, "GET", "http/1.1")] = 1
            case Histogram():
                value.observe(0.02)
        assert mark(route) not in seen, slot
        seen.add(mark(route))


def test_one_that_went_and_came_back_is_told_of_though_it_counted_the_same() -> None:
    counters = Counters()
    reporter = Reporter(counters)
    served(counters, "web")
    assert set(sent(reporter.routes())) == {"web"}
    del counters.routes["web"]
    served(counters, "web")
    assert set(sent(reporter.routes())) == {"web"}
    assert len(reporter._told) == 1


def test_one_process_alone_hands_out_what_is_never_changed() -> None:
    counters, pauses = Counters(), []
    alone = Alone(counters, lambda: pauses.append(1))
    for number in range(SLICE + 1):
        served(counters, str(number))
    first = alone.sums()
    assert len(pauses) == 2
    served(counters, "7")
    counters.in_flight = 3
    second = alone.sums()
    assert first.routes["7"].requests == {(200, "GET", "http/1.1"): 1}
    assert second.routes["7"].requests == {(200, "GET", "http/1.1"): 2}
    assert second.in_flight == 3
    assert all(second.routes[name] is first.routes[name] for name in first.routes if name != "7")
    del counters.routes["7"]
    assert "7" not in alone.sums().routes


def test_what_a_worker_counted_stays_when_it_is_gone_and_its_gauges_go_with_it() -> None:
    counters, ledger = Counters(), CounterSums()
    served(counters, "web")
    counters.accepted["https"] = 5
    counters.in_flight = 9
    counters.open_connections["https"] = 3
    tell(ledger, 1, Reporter(counters))
    ledger.gone(1)
    ledger.gone(1)
    tell(ledger, 2, Reporter(counters))
    ledger.gone(2)
    ledger.gone(404)
    sums = ledger.sums()
    assert sums.routes["web"].requests == {(200, "GET", "http/1.1"): 2}
    assert sums.accepted["https"] == 10
    assert (sums.in_flight, sums.open_connections["https"]) == (0, 0)


def test_the_next_control_process_goes_on_from_there() -> None:
    counters, before, after = Counters(), CounterSums(), CounterSums()
    served(counters, "web").retries[Failure.UPSTREAM_RESET] = 4
    tell(before, 1, Reporter(counters))
    before.gone(1)
    after.inherit(before.estate())
    tell(after, 2, Reporter(counters))
    assert msgspec.to_builtins(after.sums().routes["web"]) == msgspec.to_builtins(before_and(counters))
    assert after.sums().routes["web"].retries == {Failure.UPSTREAM_RESET: 8}


def before_and(counters: Counters) -> RouteCounters:
    ledger = CounterSums()
    for pid in (1, 2):
        tell(ledger, pid, Reporter(counters))
    return ledger.sums().routes["web"]


def test_a_route_that_is_gone_is_counted_no_more() -> None:
    counters, ledger = Counters(), CounterSums()
    served(counters, "web")
    served(counters, "blog")
    tell(ledger, 1, Reporter(counters))
    ledger.gone(1)
    tell(ledger, 2, Reporter(counters))
    ledger.routes_gone(frozenset({"web", "never"}))
    assert set(ledger.sums().routes) == {"blog"}


def test_a_gauge_of_a_stream_ends_with_its_process_too() -> None:
    counters, ledger = Counters(), CounterSums()
    stream = counters.streams["git"] = StreamCounters("drycc/builder", "drycc", "builder")
    stream.open, stream.total = 2, 7
    tell(ledger, 1, Reporter(counters))
    assert ledger.sums().streams["git"].open == 2
    ledger.gone(1)
    assert ledger.sums().streams["git"].open == 0
    assert ledger.sums().streams["git"].total == 7


def test_adding_up_changes_no_report() -> None:
    ledger, totals, routes = CounterSums(), {}, {}
    for pid in (1, 2):
        counters = Counters()
        served(counters, "web", times=pid)
        counters.streams["git"] = StreamCounters("drycc/builder", "drycc", "builder", total=pid)
        counters.unrouted.errors[Failure.UNKNOWN_HOST] = pid
        totals[pid], routes[pid] = Reporter(counters).totals(), counters.routes
        ledger.heard(pid, routes[pid], totals[pid])
    for _ in range(2):
        sums = ledger.sums()
        assert sums.streams["git"].total == sums.unrouted.errors[Failure.UNKNOWN_HOST] == 3
    ledger.gone(1)
    ledger.gone(2)
    for pid in (1, 2):
        assert totals[pid].streams["git"].total == totals[pid].unrouted.errors[Failure.UNKNOWN_HOST] == pid
        assert routes[pid]["web"].requests == {(200, "GET", "http/1.1"): pid}


@pytest.mark.parametrize("slot", ["connect", "unrouted"])
def test_what_no_worker_counts_is_refused(slot: str) -> None:
    """What is of another type was refused before: a message is decoded by its type."""
    ledger, totals, route = CounterSums(), Counters(), RouteCounters("", "", "")
    of_totals: Histogram | RouteCounters = getattr(totals, slot)
    for odd in (of_totals, route):
        (odd if isinstance(odd, Histogram) else odd.duration).counts = [1]
    with pytest.raises(BadMessage):
        ledger.heard(1, {}, totals)
    with pytest.raises(BadMessage):
        ledger.heard(1, {"web": route}, None)
    for estate in (
        b"\xc1",
        msgspec.msgpack.encode({"routes": {"web": {"requests": [1, 2]}}}),
        msgspec.msgpack.encode({"routes": {"web": route}, "totals": Counters()}),
        msgspec.msgpack.encode({"routes": {}, "totals": totals}),
    ):
        with pytest.raises(BadMessage):
            ledger.inherit(estate)
    assert ledger.sums().in_flight == 0
    assert ledger.sums().routes == {}
