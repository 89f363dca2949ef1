"""What is told of each app: lines of Prometheus text, for ten thousand apps in the blink of an eye.

The one part of a scrape that grows with the apps, so it is written here, straight from the counters, and kept: of an
app that has counted nothing since the last page nothing is written again, and of ten thousand few have. Beyond a budget
of series apps are one, whose sum is kept likewise, in whole numbers, so that what was added can be taken away again.

What must not enter: metrics that are not about apps (``admin.metrics``).
"""

from __future__ import annotations

import operator
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from itertools import accumulate
from typing import Final, TypeVar

from drycc_proxy.errors import Failure
from drycc_proxy.metrics import BUCKETS, RouteCounters
from drycc_router.admin.exposition import Family, escaped, number

__all__ = ["SERIES", "AppSeries", "breathe"]

SERIES: Final = 20_000
"""Series that apps may have together; beyond it those that come later are one app called ``other``."""
OTHER: Final = "other"
TURN: Final = 100
"""Apps that are written before others that wait for the interpreter are let in: a millisecond."""
_BREATH: Final = 1e-5
"""Seconds that are slept then; with none the interpreter would not change hands."""
_TICKS: Final = 1 << 40
"""Times of others are added up in parts of a second, about a picosecond each: whole numbers, which lose nothing."""
_ALWAYS: Final = len(BUCKETS) + 5
"""Series of every app: buckets with the last one, count and sum of durations, bytes in and out."""
_CODES: Final = frozenset({499, *HTTPStatus})
_FAMILIES: Final = (
    ("counter", "router_requests", "Requests answered; code 499: the client went away before the answer."),
    ("histogram", "router_request_duration_seconds", "From the end of a request's head to the end of its answer."),
    ("counter", "router_request_bytes", "Bytes of request bodies received."),
    ("counter", "router_response_bytes", "Bytes of answers sent."),
    ("counter", "router_errors", "Requests the router failed or refused, by the name in X-Router-Error."),
    ("counter", "router_retries", "Requests tried on another connection, by what failed first."),
    (
        "counter",
        "router_upstream_ejections",
        "Endpoints left out for a while because they could not be connected to.",
    ),
    ("gauge", "router_upstream_ejected", "Endpoints that are left out now."),
)

K = TypeVar("K")
_Lines = tuple[bytes, ...]
"""Of each family, in their order; empty where there is nothing to say."""


def breathe() -> None:
    """Let in others that wait for the interpreter."""
    time.sleep(_BREATH)


class AppSeries:
    """The lines of all apps. For one thread at a time.

    The counters it is handed are never changed: who has counted something has others.
    """

    def __init__(self, series: int = SERIES) -> None:
        self._room = series
        """Series that are still to be had."""
        self._apps: dict[str, _WrittenApp] = {}
        """By route name: everybody who was ever asked, as the last page had it."""
        self._lines: tuple[dict[str, bytes], ...] = tuple({} for _ in _FAMILIES)
        """Of each family, those of each route that has series of its own."""
        self._others = _Others()
        self._written = 0
        self.folded = 0
        """Apps that ever were counted as ``other``."""

    def write(self, routes: Mapping[str, RouteCounters]) -> None:
        """Bring the lines up to date: those of every app that was ever asked.

        An app keeps what it was given, series of its own or a share of ``other``, so that no counter ever goes back;
        series of its own go to who is asked first, for as long as there is room.
        """
        apps, new, known = self._apps, [], 0
        for name, route in routes.items():
            app = apps.get(name)
            if app is None:
                if route.requests:
                    new.append(name)
            elif route.requests:
                known += 1
                if app.route is not route:
                    self._tell(name, app, route)
        if known < len(apps):
            for name in [name for name in apps if name not in routes or not routes[name].requests]:
                self._forget(name)
        for name in new:
            self._admit(name, routes[name])

    def families(self, unrouted: RouteCounters) -> list[Family]:
        """All series, as they were written last, and those of requests that met no route."""
        rest = [_write(unrouted, _Labels(unrouted))]
        if self.folded:
            others = self._others.sum()
            rest.insert(0, _write(others, _Labels(others)))
        return [
            Family(*family, [*lines.values(), *mine])
            for family, lines, mine in zip(_FAMILIES, self._lines, zip(*rest, strict=True), strict=True)
        ]

    def _admit(self, name: str, route: RouteCounters) -> None:
        """One that nobody has heard of: it gets series of its own, or is one of the others."""
        app = self._apps[name] = _WrittenApp(own=_series(route) <= self._room)
        self.folded += not app.own
        self._tell(name, app, route)

    def _tell(self, name: str, app: _WrittenApp, route: RouteCounters) -> None:
        """One that has counted something."""
        self._written += 1
        if self._written % TURN == 0:
            breathe()
        app.route = route
        if not app.own:
            self._others.count(name, route)
            return
        series = _series(route)
        self._room -= series - app.series
        app.series = series
        if app.labels is None or not app.labels.fit(route):
            app.labels = _Labels(route)
        for lines, mine in zip(self._lines, _write(route, app.labels), strict=True):
            if mine:
                lines[name] = mine
            else:
                lines.pop(name, None)

    def _forget(self, name: str) -> None:
        """One that is gone: its room is for who comes next. What was counted as another stays counted."""
        app = self._apps.pop(name)
        self._room += app.series
        self._others.gone(name)
        for lines in self._lines:
            lines.pop(name, None)


class _WrittenApp:
    """One app, as it was written last."""

    __slots__ = ("labels", "own", "route", "series")

    route: RouteCounters

    def __init__(self, *, own: bool) -> None:
        self.own = own
        """Whether it has series of its own."""
        self.series = 0
        """How many of them."""
        self.labels: _Labels | None = None


class _Others:
    """The sum of apps that have no series of their own: what one more request costs is what one app costs."""

    def __init__(self) -> None:
        self._counted: dict[str, RouteCounters] = {}
        """What the sum has of those that are there."""
        self._sum = RouteCounters(OTHER, "", "")
        self._ticks = 0
        """Of all durations."""
        self._ejected: dict[str, int] = {}
        """Of those that have endpoints left out now."""

    def count(self, name: str, now: RouteCounters) -> None:
        """One has counted up to here."""
        before = self._counted.get(name)
        self._counted[name] = now
        if now.ejected:
            self._ejected[name] = now.ejected
        else:
            self._ejected.pop(name, None)
        self._add(now, operator.add)
        # One that counts from nothing again is another than it was: what that one had counted stays.
        if before is not None and sum(before.requests.values()) <= sum(now.requests.values()):
            self._add(before, operator.sub)

    def gone(self, name: str) -> None:
        """One is no more; what it had counted stays, without the gauge."""
        self._counted.pop(name, None)
        self._ejected.pop(name, None)

    def sum(self) -> RouteCounters:
        """All of them as one app."""
        total = self._sum
        total.duration.total = self._ticks / _TICKS
        total.ejected = max(self._ejected.values(), default=0)
        return total

    def _add(self, counted: RouteCounters, add: Callable[[int, int], int]) -> None:
        total = self._sum
        _add_each(total.requests, counted.requests, add)
        _add_each(total.errors, counted.errors, add)
        _add_each(total.retries, counted.retries, add)
        total.duration.counts = list(map(add, total.duration.counts, counted.duration.counts))
        self._ticks = add(self._ticks, int(counted.duration.total * _TICKS))
        total.request_bytes = add(total.request_bytes, counted.request_bytes)
        total.response_bytes = add(total.response_bytes, counted.response_bytes)
        total.ejections = add(total.ejections, counted.ejections)


def _add_each(total: dict[K, int], counts: dict[K, int], add: Callable[[int, int], int]) -> None:
    for key, count in counts.items():
        total[key] = add(total.get(key, 0), count)


def _write(route: RouteCounters, labels: _Labels) -> _Lines:
    """The lines of one app, those of each family together."""
    mine, closed, app, namespace, service = labels.all, labels.closed, labels.app, labels.namespace, labels.service
    requests = "".join(
        [
            f'router_requests_total{app},code="{code}",method="{method}",{namespace},protocol="{protocol}",{service}}} '
            f"{count}\n"
            for (code, method, protocol), count in _requests(route.requests)
        ]
    ).encode()
    # One expression with nothing to look up: half the time of any format that is made out of BUCKETS.
    a, b, c, d, e, f, g, h, i, j, k, l = accumulate(route.duration.counts)  # noqa: E741 -- they are letters in a row
    duration = (
        f'router_request_duration_seconds_bucket{mine},le="0.005"}} {a}\n'
        f'router_request_duration_seconds_bucket{mine},le="0.01"}} {b}\n'
        f'router_request_duration_seconds_bucket{mine},le="0.025"}} {c}\n'
        f'router_request_duration_seconds_bucket{mine},le="0.05"}} {d}\n'
        f'router_request_duration_seconds_bucket{mine},le="0.1"}} {e}\n'
        f'router_request_duration_seconds_bucket{mine},le="0.25"}} {f}\n'
        f'router_request_duration_seconds_bucket{mine},le="0.5"}} {g}\n'
        f'router_request_duration_seconds_bucket{mine},le="1.0"}} {h}\n'
        f'router_request_duration_seconds_bucket{mine},le="2.5"}} {i}\n'
        f'router_request_duration_seconds_bucket{mine},le="5.0"}} {j}\n'
        f'router_request_duration_seconds_bucket{mine},le="10.0"}} {k}\n'
        f'router_request_duration_seconds_bucket{mine},le="+Inf"}} {l}\n'
        f"router_request_duration_seconds_count{closed} {l}\n"
        f"router_request_duration_seconds_sum{closed} {number(route.duration.total)}\n"
    ).encode()
    received = f"router_request_bytes_total{closed} {route.request_bytes}\n".encode()
    sent = f"router_response_bytes_total{closed} {route.response_bytes}\n".encode()
    # Of most apps there is nothing more to say.
    errors = _reasons("router_errors", app, route.errors) if route.errors else b""
    retries = _reasons("router_retries", app, route.retries) if route.retries else b""
    if not route.ejections:
        return requests, duration, received, sent, errors, retries, b"", b""
    ejections = f"router_upstream_ejections_total{closed} {route.ejections}\n".encode()
    ejected = f"router_upstream_ejected{closed} {route.ejected}\n".encode()
    return requests, duration, received, sent, errors, retries, ejections, ejected


def _requests(requests: dict[tuple[int, str, str], int]) -> Collection[tuple[tuple[object, str, str], int]]:
    """By status as a label; those that no standard knows by their class, as an app could make up hundreds (M-21)."""
    counted = requests.copy()
    if all(status in _CODES for status, _, _ in counted):
        return counted.items()
    counts: Counter[tuple[object, str, str]] = Counter()
    for (status, method, protocol), count in counted.items():
        counts[status if status in _CODES else f"{status // 100}xx", method, protocol] += count
    return counts.items()


def _reasons(name: str, app: str, counts: dict[Failure, int]) -> bytes:
    lines = [f'{name}_total{app},reason="{failure.value}"}} {count}\n' for failure, count in counts.copy().items()]
    return "".join(lines).encode()


class _Labels:
    """What names an app in a line: its labels, escaped. ``app`` and ``all`` have the opening brace, ``closed`` both."""

    __slots__ = ("_of", "all", "app", "closed", "namespace", "service")

    def __init__(self, route: RouteCounters) -> None:
        self._of = (route.app, route.namespace, route.service)
        app, namespace, service = map(escaped, self._of)
        self.app = f'{{app="{app}"'
        self.namespace = f'namespace="{namespace}"'
        self.service = f'service="{service}"'
        self.all = f"{self.app},{self.namespace},{self.service}"
        self.closed = self.all + "}"

    def fit(self, route: RouteCounters) -> bool:
        """Whether they are those of this route: an app can be called otherwise without being another."""
        return self._of == (route.app, route.namespace, route.service)


def _series(route: RouteCounters) -> int:
    """How many series one app is, as :func:`_write` shows it: statuses that no standard knows are one per class."""
    shown = len(_requests(route.requests)) + len(route.errors) + len(route.retries) + (2 if route.ejections else 0)
    return _ALWAYS + shown
