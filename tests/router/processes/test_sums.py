"""Counters of several workers add up as if one had counted, also when one of them is gone."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from proxy.errors import Failure
from proxy.metrics import Counters, RouteCounters
from router.processes.messages import BadMessage
from router.processes.sums import SLICE, Ledger, Reporter, plain


def served(counters: Counters, name: str, status: int = 200, times: int = 1) -> RouteCounters:
    route = counters.routes.setdefault(name, RouteCounters(name, "shop", name))
    key = (status, "GET", "http/1.1")
    route.requests[key] = route.requests.get(key, 0) + times
    for _ in range(times):
        route.duration.observe(0.02)
    return route


def sent(slices: Iterable[dict[str, object]]) -> dict[str, object]:
    together: dict[str, object] = {}
    for each in slices:
        together |= msgspec.msgpack.decode(msgspec.msgpack.encode(each))
    return together


def tell(ledger: Ledger, pid: int, reporter: Reporter) -> None:
    ledger.heard(pid, sent(reporter.routes()), msgspec.msgpack.decode(msgspec.msgpack.encode(reporter.totals())))


def test_two_workers_add_up() -> None:
    ledger = Ledger()
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
    counters, ledger = Counters(), Ledger()
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


def test_what_a_worker_counted_stays_when_it_is_gone_and_its_gauges_go_with_it() -> None:
    counters, ledger = Counters(), Ledger()
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
    counters, before, after = Counters(), Ledger(), Ledger()
    served(counters, "web").retries[Failure.UPSTREAM_RESET] = 4
    tell(before, 1, Reporter(counters))
    before.gone(1)
    after.inherit(before.estate())
    tell(after, 2, Reporter(counters))
    assert plain(after.sums().routes["web"]) == plain(before_and(counters))
    assert after.sums().routes["web"].retries == {Failure.UPSTREAM_RESET: 8}


def before_and(counters: Counters) -> RouteCounters:
    ledger = Ledger()
    for pid in (1, 2):
        tell(ledger, pid, Reporter(counters))
    return ledger.sums().routes["web"]


def test_a_route_that_is_gone_is_counted_no_more() -> None:
    counters, ledger = Counters(), Ledger()
    served(counters, "web")
    served(counters, "blog")
    tell(ledger, 1, Reporter(counters))
    ledger.gone(1)
    tell(ledger, 2, Reporter(counters))
    ledger.routes_gone(frozenset({"web", "never"}))
    assert set(ledger.sums().routes) == {"blog"}


@pytest.mark.parametrize(
    "totals",
    [
        {"in_flight": "many"},
        {"unheard_of": 1},
        {"accepted": 3},
        {"connect": {"counts": [1], "total": 0}},
        {"connect": 5},
    ],
)
def test_what_no_worker_counts_is_refused(totals: dict[str, object]) -> None:
    ledger = Ledger()
    with pytest.raises(BadMessage):
        ledger.heard(1, {}, totals)
    with pytest.raises(BadMessage):
        ledger.heard(1, {"web": {"requests": [1, 2]}}, None)
    with pytest.raises(BadMessage):
        ledger.inherit(b"\xc1")
    assert ledger.sums().in_flight == 0
