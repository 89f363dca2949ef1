"""What a worker may report, and what ends its channel instead of reaching the metrics page or /routes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_type_hints

import msgspec
import pytest

from drycc_proxy.errors import Failure
from drycc_proxy.metrics import PARTS, Counters, Histogram, RouteCounters, StreamCounters
from drycc_proxy.routing.definitions import Route, StreamRoute
from drycc_router.process.messages import BadMessage, Counted, decode_for_control, encode
from drycc_router.roles import worker_reports
from drycc_router.roles.worker_reports import check, check_loads, check_usage
from tests.fakes.wired import on_loop, wired

ROUTES = {"shop/web": Route("shop/web", "shop", "shop", "web")}
STREAMS = {"git": StreamRoute("git", 2222, "builder", "drycc", "drycc-builder")}


def shop() -> RouteCounters:
    return RouteCounters(
        "shop",
        "shop",
        "web",
        requests={(200, "GET", "http/1.1"): 7, (499, "other", "http/1.0"): 1},
        errors={Failure.CONNECT_FAILED: 1},
        retries={Failure.CONNECT_FAILED: 1},
        request_bytes=2**40,
    )


def test_what_workers_count_is_taken() -> None:
    totals = Counters(shed_share=0.5, faults=dict.fromkeys(PARTS, 1))
    totals.tunnels_closed = {failure.value: 1 for failure in Failure} | {"client_closed": 1, "app_closed": 2}
    totals.streams = {f"{number}": StreamCounters("builder", "drycc", "drycc-builder") for number in range(100)}
    totals.streams["7"].closed = {failure.value: 1 for failure in Failure}
    check(totals)
    check(shop())
    check_usage({"cpu_seconds": 1.5, "resident_bytes": 2.0**30, "open_fds": 20.0, "max_fds": 1024.0})


BAD_TOTALS: dict[str, Callable[[Counters], Any]] = {
    "a label that ends its quotes": lambda totals: totals.tunnels_closed.update({'x"} 1\nrouter_leader 1\n#': 1}),
    "a label of other letters": lambda totals: totals.faults.update({"Größe": 1}),
    "a long label": lambda totals: totals.accepted.update({"x" * 65: 1}),
    "many labels": lambda totals: totals.proxy_headers.update({f"x{number}": 1 for number in range(65)}),
    "a huge number": lambda totals: setattr(totals, "log_lines", 2**63),
    "a number that is none": lambda totals: setattr(totals, "shed_share", math.nan),
    "a number without end": lambda totals: setattr(totals.connect, "total", math.inf),
    "a bucket that went back": lambda totals: setattr(totals.connect, "counts", [-1, *totals.connect.counts[1:]]),
    "other buckets": lambda totals: setattr(totals, "header", Histogram([1], 1.0)),
    "an invented method": lambda totals: totals.unrouted.requests.update({(200, 'G"', "http/1.1"): 1}),
    "an invented version": lambda totals: totals.unrouted.requests.update({(200, "GET", "h\n"): 1}),
    "an invented status": lambda totals: totals.unrouted.requests.update({(7, "GET", "http/1.1"): 1}),
    "a stream's reason": lambda totals: totals.streams.update(
        git=StreamCounters("builder", "drycc", "drycc-builder", closed={'"': 1})
    ),
}


@pytest.mark.parametrize("spoil", BAD_TOTALS.values(), ids=BAD_TOTALS)
def test_what_no_worker_counts_is_refused(spoil: Callable[[Counters], Any]) -> None:
    totals = Counters()
    check(totals)
    spoil(totals)
    arrived = decode_for_control(encode(Counted(1, {}, totals, {}, last=True))) if totals.log_lines < 2**63 else None
    with pytest.raises(BadMessage):
        check(totals)
    if isinstance(arrived, Counted):
        assert arrived.totals is not None
        with pytest.raises(BadMessage):
            check(arrived.totals)


def test_every_value_of_every_counter_is_checked() -> None:
    """Whatever is added to the counters is checked, or refused until it is."""
    kinds = {int, float, str, Histogram, RouteCounters}
    for counters in (Counters, RouteCounters, StreamCounters):
        for slot, kind in get_type_hints(counters).items():
            assert kind in kinds or str(kind).startswith("dict["), slot
    for slot, kind in get_type_hints(Counters).items():
        if kind in (int, float):
            totals = Counters()
            setattr(totals, slot, 2**62)
            with pytest.raises(BadMessage):
                check(totals)
    for slot in ("request_bytes", "response_bytes", "ejected", "ejections"):
        route = shop()
        setattr(route, slot, 2**62)
        with pytest.raises(BadMessage):
            check(route)


def test_many_kinds_of_requests_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_reports, "MOST_KINDS", 1)
    with pytest.raises(BadMessage):
        check(shop())


def test_usage_is_in_words_and_numbers() -> None:
    for usage in ({"cpu seconds": 1.0}, {"cpu_seconds": math.nan}):
        with pytest.raises(BadMessage):
            check_usage(usage)


def test_loads_of_what_control_knows_are_kept_as_they_are() -> None:
    endpoint = {"address": "10.0.0.1:80", "load": 1, "idle": 0, "ejected": False}
    upstream = {"route": "shop/web", "in_flight": 1, "queued": 0, "endpoints": [endpoint]}
    stream = {
        "stream": "git",
        "app": "builder",
        "port": 2222,
        "error": None,
        "open": 1,
        "idle_timeout": 1300.0,
        "endpoints": [{"address": "10.0.0.1:22", "load": 1}],
    }
    assert check_loads([upstream, stream], ROUTES, STREAMS) == [upstream, stream]
    assert check_loads([upstream | {"route": "x"}, stream | {"stream": "x"}], ROUTES, STREAMS) == []
    assert check_loads([upstream | {"more": "x" * 10_000}], ROUTES, STREAMS) == [upstream]


@pytest.mark.parametrize(
    "odd",
    [
        {"route": ["shop/web"]},
        {"in_flight": "1"},
        {"in_flight": 2**62},
        {"endpoints": [{"address": {}, "load": 1}]},
        {"endpoints": [{"address": "x" * 513, "load": 1}]},
        {"endpoints": [{"address": "x", "load": 2**62}]},
    ],
    ids=str,
)
def test_loads_of_another_shape_are_refused(odd: dict[str, Any]) -> None:
    upstream = {"route": "shop/web", "in_flight": 1, "queued": 0, "endpoints": []}
    with pytest.raises(BadMessage):
        check_loads([upstream | odd], ROUTES, STREAMS)


def test_what_the_data_plane_reports_passes_without_a_loss() -> None:
    async def story() -> None:
        async def app(*_: object) -> None:
            pass

        async with wired(app, alone="reports what this gateway counted") as served:
            report = served.gateway.report()
            arrived = msgspec.msgpack.decode(msgspec.msgpack.encode(report))
            routes = {"shop/shop.example": Route("shop/shop.example", "shop", "shop", "shop.example")}
            assert check_loads(arrived, routes, {}) == arrived

    on_loop(story())
