"""Counters of several workers as one: what a worker sends of its own, and how control adds them up.

Absolute values travel, never increments, so a report that is lost or repeated changes nothing. A worker sends those
routes that changed since its last report, a few per turn of its loop; control keeps the last report of each. When a
worker is gone, what it had counted up to its last report joins the sum of the departed, without the gauges, which end
with it (``metrics.GAUGES``).

The classes of ``metrics`` are the messages: their types say what may come, and how to add is looked up in them
once, so that a counter that is new there needs nothing here, but for one of a route, which :func:`mark` has to know.
With ten thousand apps each of them costs its worker half a microsecond per report, and control 10 if it changed.

What must not enter: sockets, the loop, Prometheus.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from drycc_proxy.metrics import GAUGES, MAXIMA, Counters, Histogram, RouteCounters, StreamCounters
from drycc_router.process.messages import BadMessage
from drycc_router.roles.worker_reports import check

__all__ = ["SLICE", "Alone", "CounterSums", "Reporter", "lasting", "mark", "together"]

SLICE: Final = 500
"""Routes that are looked at, and reported, per turn of a worker's loop: less than a millisecond."""

_BY_NAME: Final = frozenset({"routes", "streams"})
"""Attributes of :class:`Counters` that are dicts from a name to counters of their own."""
_ENCODER: Final = msgspec.msgpack.Encoder()

_Mark: TypeAlias = tuple[int, float, int, str]
T = TypeVar("T", Counters, RouteCounters, StreamCounters)


def mark(route: RouteCounters) -> _Mark:
    """What differs from what it was whenever anything of these counters does; a third of what encoding them takes.

    All of them only go up, so a sum can stand for them, but for the gauge and what its owner calls the app. While
    another thread counts, the mark has to be made before the counters are read.
    """
    counted = sum(route.requests.values()) + route.request_bytes + route.response_bytes + route.ejections
    if route.errors:
        counted += sum(route.errors.values())
    if route.retries:
        counted += sum(route.retries.values())
    return counted, route.duration.total, route.ejected, route.app


# ── there ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
class Reporter:
    """What a worker has counted, and which of it control has heard. One per channel."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._told: dict[RouteCounters, _Mark] = {}
        """What was said last. By who counts, not by name: one that went and came back counts anew."""

    def routes(self) -> Iterator[dict[str, RouteCounters]]:
        """Slices of what changed since the last call, by route name. Look at one per turn of the loop."""
        routes, told = self._counters.routes, self._told
        for gone in told.keys() - routes.values():
            del told[gone]
        names = list(routes)
        for start in range(0, len(names), SLICE):
            changed = {}
            for name in names[start : start + SLICE]:
                counters = routes.get(name)
                if counters is None or not counters.requests:
                    continue
                now = mark(counters)
                if told.get(counters) != now:
                    told[counters] = now
                    changed[name] = counters
            yield changed

    def totals(self) -> Counters:
        """Everything that is not about one route."""
        totals = copy.copy(self._counters)
        totals.routes = {}
        return totals


class Alone:
    """The counters of the only process there is, handed out as a ledger hands out those of workers."""

    def __init__(self, counters: Counters, pause: Callable[[], None] = lambda: None) -> None:
        """``pause`` is called now and then where others wait for the interpreter."""
        self._reporter = Reporter(counters)
        self._counters = counters
        self._pause = pause
        self._routes: dict[str, RouteCounters] = {}

    def sums(self) -> Counters:
        """Everything that was counted; see :meth:`Ledger.sums`. Safe in a thread while the loop counts on."""
        for name in self._routes.keys() - self._counters.routes.keys():
            del self._routes[name]
        for changed in self._reporter.routes():
            for name, route in changed.items():
                self._routes[name] = together([route])
            self._pause()
        totals = self._reporter.totals()
        totals.routes = self._routes.copy()
        return totals


# ── here ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
def together(many: Sequence[T]) -> T:
    """The sum of some counters of one kind, at least one. They are only read, and their loop may count on meanwhile."""
    kind: Any = type(many[0])
    slots, ways = _ways(kind)
    sums: T = kind(*[way(column) for way, column in zip(ways, zip(*map(slots, many), strict=True), strict=True)])
    return sums


def lasting(counted: T) -> T:
    """What stays of counters when their process is gone: all but the gauges."""
    kind: Any = type(counted)
    nothing = _nothing(kind)
    lasts: T = kind(
        *[
            getattr(nothing, slot) if slot in GAUGES or slot in MAXIMA else _lasting(slot, getattr(counted, slot))
            for slot in kind.__slots__
        ]
    )
    return lasts


def _lasting(slot: str, value: Any) -> Any:
    if slot in _BY_NAME:
        return {name: lasting(each) for name, each in value.items()}
    return lasting(value) if isinstance(value, RouteCounters) else value


def _nothing(kind: Any) -> Any:
    return kind() if kind is Counters else kind("", "", "")


@cache
def _ways(kind: Any) -> tuple[Callable[[Any], tuple[Any, ...]], tuple[Callable[[Sequence[Any]], Any], ...]]:
    """What reads everything that a kind counts, in its order, and for each of it how to add it up."""
    example = _nothing(kind)
    return operator.attrgetter(*kind.__slots__), tuple(_way(slot, getattr(example, slot)) for slot in kind.__slots__)


def _way(slot: str, example: object) -> Callable[[Sequence[Any]], Any]:
    match example:
        case _ if slot in MAXIMA:
            return max
        case str():
            return operator.itemgetter(-1)
        case Histogram():
            return _histograms
        case RouteCounters():
            return together
        case dict():
            return _dicts_of_objects if slot in _BY_NAME else _dicts
        case _:
            return sum


def _histograms(many: Sequence[Histogram]) -> Histogram:
    counts = [each.counts for each in many]
    return Histogram(list(map(sum, zip(*counts, strict=True))), sum(each.total for each in many))


def _dicts(many: Sequence[dict[Any, int]]) -> dict[Any, int]:
    sums = many[0].copy()
    for each in many[1:]:
        if each:
            for key, count in each.copy().items():
                sums[key] = sums.get(key, 0) + count
    return sums


def _dicts_of_objects(many: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = {name: None for each in many for name in each}
    return {name: together([each[name] for each in many if name in each]) for name in names}


class _Report(msgspec.Struct):
    """The last report of one worker, or the sum of those that are gone. Whatever is in it is never changed."""

    routes: dict[str, RouteCounters] = msgspec.field(default_factory=dict)
    totals: Counters = msgspec.field(default_factory=Counters)


class CounterSums:
    """The reports of all workers, and the sum of those that are gone. For one thread."""

    def __init__(self) -> None:
        self._workers: dict[int, _Report] = {}
        self._departed = _Report()
        self._routes: dict[str, RouteCounters] = {}
        """The sum for each route, made when somebody reports it: a scrape has no time for ten thousand."""

    def heard(self, pid: int, routes: Mapping[str, RouteCounters], totals: Counters | None) -> None:
        """A slice of a report. Raises BadMessage when it is not what a worker counts; then nothing of it is added."""
        for route in routes.values():
            check(route)
        if totals is not None:
            check(totals)
        worker = self._workers.setdefault(pid, _Report())
        worker.routes |= routes
        self._add_up(routes)
        if totals is not None:
            worker.totals = totals

    def gone(self, pid: int) -> None:
        """A worker is no more: what it counted stays."""
        worker = self._workers.pop(pid, None)
        if worker is None:
            return
        departed = self._departed
        for name, counted in worker.routes.items():
            last = lasting(counted)
            departed.routes[name] = together([departed.routes[name], last]) if name in departed.routes else last
        self._add_up(worker.routes)
        departed.totals = together([departed.totals, lasting(worker.totals)])

    def routes_gone(self, names: frozenset[str]) -> None:
        """Routes are no more, and with them what was counted of them, as in every worker."""
        for routes in [*(report.routes for report in self._reports()), self._routes]:
            for name in names & routes.keys():
                del routes[name]

    def streams_gone(self, names: frozenset[str]) -> None:
        """The same for stream routes."""
        for report in self._reports():
            for name in names & report.totals.streams.keys():
                del report.totals.streams[name]

    def sums(self) -> Counters:
        """Everything added up, as if one process had counted it. The counters of a route are never changed: when it has
        counted something, there are others in their place."""
        total = together([report.totals for report in self._reports()])
        total.routes = self._routes.copy()
        return total

    def _reports(self) -> list[_Report]:
        return [self._departed, *self._workers.values()]

    def _add_up(self, names: Iterable[str]) -> None:
        reports = [report.routes for report in self._reports()]
        for name in names:
            told = [routes[name] for routes in reports if name in routes]
            self._routes[name] = told[0] if len(told) == 1 else together(told)

    # ── what the next control process must know ───────────────────────────────────────────────────────────────────
    def estate(self) -> bytes:
        """The sum of the departed, to be kept by somebody else."""
        return _ENCODER.encode(self._departed)

    def inherit(self, estate: bytes) -> None:
        """Go on from what an earlier control process left. Raises BadMessage."""
        try:
            left = msgspec.msgpack.decode(estate, type=_Report)
        except (msgspec.DecodeError, ValueError, RecursionError):
            raise BadMessage("not an estate of this version") from None
        check(left.totals)
        for route in left.routes.values():
            check(route)
        self._departed = left
        self._add_up(left.routes)
