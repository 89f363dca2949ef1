"""Checks what a worker reports before control adds it up, shows it, or writes it on the metrics page.

A worker reads hostile bytes, so its reports are input like any other. Their types are checked where they are decoded
(``process.messages``); here is what types do not say: numbers have a range and are finite, words that become
labels of metrics are few, short and of plain letters, and what a report says about an app is attributed to the app that
control knows by that name, not to whatever the worker calls it. Whatever is out of bounds ends the channel
(:class:`BadMessage`), and the worker is replaced.

What must not enter: what is done with a report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from drycc_proxy.metrics import BUCKETS, METHODS, Counters, Histogram, RouteCounters, StreamCounters
from drycc_proxy.routing.definitions import Route, StreamRoute
from drycc_router.process.messages import BadMessage

__all__ = ["EndpointReport", "StreamReport", "UpstreamReport", "check", "check_loads", "check_usage"]

MOST: Final = 1 << 62
"""No counter gets that far, and the sum of two such still fits into 64 bits."""
MOST_WORDS: Final = 64
"""Keys of one dict of counters; the largest has one for each failure that streams can have."""
MOST_KINDS: Final = 8192
"""Combinations of status, method and version of one app: 900 statuses are more than any app has with each method."""
LONGEST: Final = 512
"""Characters of a name in a report of loads: namespace, Service and port have at most 130."""
MOST_ENDPOINTS: Final = 100_000
_WORD: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}", re.ASCII)
_VERSIONS: Final = frozenset({"http/1.0", "http/1.1"})
_BUCKETS: Final = len(BUCKETS) + 1


def check(counters: Counters | RouteCounters | StreamCounters) -> None:
    """Raises BadMessage if a number is out of range, a histogram has other buckets, or a word is none of ours."""
    if isinstance(counters, RouteCounters):
        _check_route(counters)
        return
    for slot in counters.__slots__:
        _check_value(getattr(counters, slot))


def _check_route(route: RouteCounters) -> None:
    """There may be ten thousand of them in one report, so each is looked at in a few microseconds."""
    requests, errors, retries = route.requests, route.errors, route.retries
    _check_histogram(route.duration)
    numbers = [route.request_bytes, route.response_bytes, route.ejected, route.ejections, *requests.values()]
    _check_numbers([*numbers, *errors.values(), *retries.values()] if errors or retries else numbers)
    if not requests.keys() <= _kinds:
        for kind in requests:
            _check_kind(*kind)
            _kinds.add(kind)
    if len(requests) > MOST_KINDS:
        raise BadMessage("too many kinds of requests")


_kinds: Final[set[tuple[int, str, str]]] = set()
"""Status, method and version: those that were found to be in order. There are not many more than ten thousand."""


def _check_kind(status: int, method: str, version: str) -> None:
    if not (100 <= status <= 999 and (method == "other" or method in METHODS) and version in _VERSIONS):
        raise BadMessage("a kind of request that is none of ours")


def _check_value(value: Any) -> None:
    match value:
        case str():
            pass  # a name, which stands for itself only until control writes over it
        case int() | float():
            _check_numbers([value])
        case Histogram():
            _check_histogram(value)
        case RouteCounters() | StreamCounters():
            check(value)
        case dict():
            _check_words(value)
        case _:
            raise BadMessage("not what a worker counts")


def _check_numbers(values: list[int] | list[float]) -> None:
    for value in values:
        if not -MOST < value < MOST:  # which is false of what is not a number
            raise BadMessage("a number out of range")


def _check_histogram(value: Histogram) -> None:
    counts = value.counts
    if len(counts) != _BUCKETS:
        raise BadMessage("not what a worker counts")
    if min(counts) < 0 or max(counts) >= MOST or not 0 <= value.total < MOST:
        raise BadMessage("a number out of range")


def _check_words(words: Mapping[Any, Any]) -> None:
    if len(words) > MOST_WORDS and not all(isinstance(each, StreamCounters) for each in words.values()):
        raise BadMessage("too many words")
    for key, value in words.items():
        if isinstance(key, str) and not _WORD.fullmatch(key) and not isinstance(value, StreamCounters):
            raise BadMessage("a word that is none of ours")
        _check_value(value)


def check_usage(usage: Mapping[str, float]) -> None:
    """What a process says it uses (``Counted.process``). Raises BadMessage."""
    _check_words(usage)


# ── loads, for /routes ────────────────────────────────────────────────────────────────────────────────────────────────
class EndpointReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """One endpoint, as ``upstreams`` and ``streams.listener`` report it."""

    address: str
    load: int
    idle: int | None = None
    ejected: bool | None = None


class UpstreamReport(msgspec.Struct, frozen=True):
    """One upstream."""

    route: str
    in_flight: int
    queued: int
    endpoints: list[EndpointReport]


class StreamReport(msgspec.Struct, frozen=True):
    """One stream route."""

    stream: str
    app: str
    port: int | None
    error: str | None
    open: int
    idle_timeout: float
    endpoints: list[EndpointReport]


def check_loads(
    report: list[dict[str, Any]], routes: Mapping[str, Route], streams: Mapping[str, StreamRoute]
) -> list[dict[str, Any]]:
    """Those entries of a report that are about routes and streams which control knows, with the fields of the classes
    above and no others. Raises BadMessage."""
    kept = []
    for entry in report:
        told = _convert(entry)
        _check_endpoints(told.endpoints)
        if isinstance(told, UpstreamReport):
            is_known = told.route in routes
            _check_numbers([told.in_flight, told.queued])
        else:
            is_known = told.stream in streams
            _check_numbers([told.open, told.idle_timeout])
            if len(told.app) > LONGEST or len(told.error or "") > LONGEST:
                raise BadMessage("a name that is too long")
        if is_known:
            kept.append(msgspec.to_builtins(told))
    return kept


def _convert(entry: dict[str, Any]) -> UpstreamReport | StreamReport:
    try:
        if "route" in entry:
            return msgspec.convert(entry, UpstreamReport)
        return msgspec.convert(entry, StreamReport)
    except msgspec.ValidationError:
        raise BadMessage("not what a worker reports") from None


def _check_endpoints(endpoints: list[EndpointReport]) -> None:
    if len(endpoints) > MOST_ENDPOINTS:
        raise BadMessage("too many endpoints")
    for endpoint in endpoints:
        _check_numbers([endpoint.load, endpoint.idle or 0])
        if len(endpoint.address) > LONGEST:
            raise BadMessage("an address that is too long")
