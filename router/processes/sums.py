"""Counters of several workers as one: what a worker sends of its own, and how control adds them up.

Absolute values travel, never increments, so a report that is lost or repeated changes nothing. A worker sends those
routes that changed since its last report, a few per turn of its loop; control keeps the last report of each. When a
worker is gone, what it had counted up to its last report joins the sum of the departed, without the gauges, which end
with it (``proxy.metrics.GAUGES``).

Written by looking at the attributes, so that a counter that is new in ``proxy.metrics`` needs nothing here.

What must not enter: sockets, the loop, Prometheus.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from proxy.errors import Failure
from proxy.metrics import BY_NAME, GAUGES, MAXIMA, Counters, Histogram, RouteCounters
from router.processes.messages import BadMessage

__all__ = ["SLICE", "Ledger", "Reporter"]

SLICE: Final = 200
"""Routes that are looked at, and reported, per turn of a worker's loop: less than a millisecond."""

_FAILURES: Final = {failure.value: failure for failure in Failure}
_NUMBERS: Final = (int, float)
_FAILURE: Final = "\0"
"""Before the name of a failure that is the key of a dict; no other key begins with it."""


# ── there ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _slots(value: object) -> tuple[str, ...]:
    slots: tuple[str, ...] = getattr(type(value), "__slots__", ())
    return slots


def plain(value: object) -> Any:
    """Counters as what MessagePack has: numbers, texts, lists and dicts."""
    if isinstance(value, (*_NUMBERS, str)):
        return value
    if isinstance(value, dict):
        return {_plain_key(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return list(value)
    return {slot: plain(getattr(value, slot)) for slot in _slots(value)}


def _plain_key(key: object) -> object:
    return _FAILURE + str(key.value) if isinstance(key, enum.Enum) else key


def _mark(value: object) -> int:
    """Something that differs when any number in ``value`` does."""
    return hash(tuple(_mark_of(getattr(value, slot)) for slot in _slots(value)))


def _mark_of(value: object) -> object:
    if isinstance(value, dict):
        return tuple(value.values())
    return value if isinstance(value, (*_NUMBERS, str)) else _marks(value)


def _marks(value: object) -> object:
    return tuple(value.counts) if isinstance(value, Histogram) else None


class Reporter:
    """What a worker has counted, and which of it control has heard. One per channel."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._told: dict[str, int] = {}

    def routes(self) -> Iterator[dict[str, Any]]:
        """Slices of what changed since the last call, by route name. Look at one per turn of the loop."""
        routes = self._counters.routes
        for name in self._told.keys() - routes.keys():
            del self._told[name]
        names = list(routes)
        for start in range(0, len(names), SLICE):
            changed = {}
            for name in names[start : start + SLICE]:
                counters = routes.get(name)
                if counters is None or not counters.requests:
                    continue
                mark = _mark(counters)
                if self._told.get(name) != mark:
                    self._told[name] = mark
                    changed[name] = plain(counters)
            yield changed

    def totals(self) -> dict[str, Any]:
        """Everything that is not about one route."""
        return {slot: plain(getattr(self._counters, slot)) for slot in _slots(self._counters) if slot != "routes"}


# ── here ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _key(key: object) -> object:
    if isinstance(key, str) and key.startswith(_FAILURE):
        return _FAILURES[key[1:]]
    return key


def add(into: Any, plain: Mapping[str, Any], *, departed: bool = False) -> None:
    """Add what :func:`plain` made to an object with the same attributes. ``departed``: without gauges.

    Raises TypeError, ValueError, KeyError or AttributeError for what no worker would send.
    """
    known = _slots(into)
    for slot, value in plain.items():
        if slot not in known:
            raise KeyError(slot)
        gauge = slot in GAUGES or slot in MAXIMA
        if departed and gauge:
            continue
        setattr(into, slot, _sum(getattr(into, slot), value, slot))


def _sum(mine: Any, other: Any, slot: str) -> Any:
    if isinstance(mine, bool):
        return mine or bool(other)
    if isinstance(mine, _NUMBERS):
        if not isinstance(other, _NUMBERS):
            raise TypeError("expected a number")
        return max(mine, other) if slot in MAXIMA else mine + other
    if isinstance(mine, str):
        return str(other)
    if isinstance(mine, list):
        return [a + b for a, b in zip(mine, other, strict=True)]
    if isinstance(mine, dict):
        for key, value in other.items():
            key = _key(key)
            if isinstance(value, _NUMBERS):
                mine[key] = mine.get(key, 0) + value
                continue
            if key not in mine:
                mine[key] = BY_NAME[slot]("", "", "")
            add(mine[key], value)
        return mine
    add(mine, other)
    return mine


class _Worker:
    """The last report of one worker."""

    def __init__(self) -> None:
        self.routes: dict[str, Any] = {}
        self.totals: dict[str, Any] = {}


class Ledger:
    """The reports of all workers, and the sum of those that are gone. For one thread."""

    def __init__(self) -> None:
        self._workers: dict[int, _Worker] = {}
        self._departed: dict[str, Any] = {"routes": {}, "totals": []}
        self._routes: dict[str, RouteCounters] = {}
        """The sum for each route, made when somebody reports it: a scrape has no time for ten thousand."""

    def heard(self, pid: int, routes: Mapping[str, Any], totals: Mapping[str, Any] | None) -> None:
        """A slice of a report. Raises BadMessage when it is not one."""
        worker = self._workers.setdefault(pid, _Worker())
        try:
            for each in routes.values():
                _fresh_route(each)
            if totals is not None:
                _fresh_totals([totals])
        except (TypeError, ValueError, KeyError, AttributeError):
            raise BadMessage("not what a worker counts") from None
        worker.routes |= routes
        self._add_up(routes)
        if totals is not None:
            worker.totals = dict(totals)

    def gone(self, pid: int) -> None:
        """A worker is no more: what it counted stays."""
        worker = self._workers.pop(pid, None)
        if worker is None:
            return
        for name, counted in worker.routes.items():
            before = self._departed["routes"].get(name)
            sums = _fresh_route(counted, departed=True)
            if before is not None:
                add(sums, before)
            self._departed["routes"][name] = plain(sums)
        self._add_up(worker.routes)
        totals = _fresh_totals(self._departed["totals"])
        if worker.totals:
            add(totals, worker.totals, departed=True)
        self._departed["totals"] = [{slot: plain(getattr(totals, slot)) for slot in _slots(totals) if slot != "routes"}]

    def routes_gone(self, names: frozenset[str]) -> None:
        """Routes are no more, and with them what was counted of them, as in every worker."""
        for routes in [self._departed["routes"], *(worker.routes for worker in self._workers.values())]:
            for name in names & routes.keys():
                del routes[name]
        for name in names:
            self._routes.pop(name, None)

    def streams_gone(self, names: frozenset[str]) -> None:
        """The same for stream routes."""
        for totals in [*self._departed["totals"], *(worker.totals for worker in self._workers.values())]:
            for name in names & totals.get("streams", {}).keys():
                del totals["streams"][name]

    def sums(self) -> Counters:
        """Everything added up, as if one process had counted it."""
        reports = list(self._workers.values())
        total = _fresh_totals([*self._departed["totals"], *(worker.totals for worker in reports if worker.totals)])
        total.routes = self._routes.copy()
        return total

    def _add_up(self, names: Iterable[str]) -> None:
        reports = [self._departed["routes"], *(worker.routes for worker in self._workers.values())]
        for name in names:
            sums = RouteCounters("", "", "")
            for routes in reports:
                if name in routes:
                    add(sums, routes[name])
            self._routes[name] = sums

    # ── what the next control process must know ───────────────────────────────────────────────────────────────────
    def estate(self) -> bytes:
        """The sum of the departed, to be kept by somebody else."""
        return msgspec.msgpack.encode(self._departed)

    def inherit(self, estate: bytes) -> None:
        """Go on from what an earlier control process left. Raises BadMessage."""
        try:
            left = msgspec.msgpack.decode(estate)
            for each in left["routes"].values():
                _fresh_route(each)
            _fresh_totals(left["totals"])
        except (msgspec.DecodeError, TypeError, ValueError, KeyError, AttributeError):
            raise BadMessage("not an estate of this version") from None
        self._departed = {"routes": dict(left["routes"]), "totals": list(left["totals"])}
        self._add_up(self._departed["routes"])


def _fresh_route(counted: Mapping[str, Any], *, departed: bool = False) -> RouteCounters:
    fresh = RouteCounters("", "", "")
    add(fresh, counted, departed=departed)
    return fresh


def _fresh_totals(reports: list[Mapping[str, Any]]) -> Counters:
    fresh = Counters()
    for each in reports:
        add(fresh, each)
    return fresh
