"""What is told of each app: lines of Prometheus text, for ten thousand apps in the blink of an eye.

The one part of a scrape that grows with the apps, so it is written here, straight from the counters, in a few
microseconds per app. What an app has in a line beside its figures is escaped once and remembered. Beyond a budget of
series apps are one.

What must not enter: metrics that are not about apps (``router.admin.metrics``).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from itertools import accumulate
from typing import Final

from proxy.errors import Failure
from proxy.metrics import BUCKETS, RouteCounters
from router.admin.exposition import Family, escaped
from router.processes.sums import lasting, together

__all__ = ["SERIES", "AppSeries"]

SERIES: Final = 20_000
"""Series that apps may have together; beyond it those that come later are one app called ``other``."""
OTHER: Final = "other"
TURN: Final = 200
"""Apps that are written before others that wait for the interpreter are let in: a third of a millisecond."""
_BREATH: Final = 1e-5
"""Seconds that are slept then; with none the interpreter would not change hands."""
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

_Lines = tuple[list[str], ...]
"""Of each family, in their order."""


class AppSeries:
    """The lines of all apps. For one thread at a time."""

    def __init__(self, series: int = SERIES) -> None:
        self._budget = _Budget(series)
        self._labels: dict[tuple[str, str, str], _Labels] = {}
        """App, namespace and Service → what they are in a line, as of the last page."""

    @property
    def folded(self) -> int:
        """Apps that ever were counted as ``other``."""
        return self._budget.folded

    def families(self, routes: Mapping[str, RouteCounters], unrouted: RouteCounters) -> list[Family]:
        """The series of every app that was ever asked. Safe in a thread while somebody counts on."""
        asked = {name: route for name, route in routes.items() if route.requests}
        lines: _Lines = tuple([] for _ in _FAMILIES)
        known, self._labels = self._labels, {}
        for number, route in enumerate([*self._budget.within(asked), unrouted], 1):
            key = (route.app, route.namespace, route.service)
            labels = self._labels[key] = known.get(key) or _Labels(*key)
            _write(route, labels, lines)
            if number % TURN == 0:
                time.sleep(_BREATH)
        return [Family(*family, mine) for family, mine in zip(_FAMILIES, lines, strict=True)]


def _write(route: RouteCounters, labels: _Labels, lines: _Lines) -> None:
    """The lines of one app, each to its family."""
    mine, closed, app, namespace, service = labels.all, labels.closed, labels.app, labels.namespace, labels.service
    requests, duration, received, sent, errors, retries, ejections, ejected = lines
    for (code, method, protocol), count in _requests(route.requests):
        requests.append(
            f'router_requests_total{app},code="{code}",method="{method}",{namespace},protocol="{protocol}",{service}}} '
            f"{count}\n"
        )
    # One expression with nothing to look up: half the time of any format that is made out of BUCKETS.
    a, b, c, d, e, f, g, h, i, j, k, l = accumulate(route.duration.counts)  # noqa: E741 -- they are letters in a row
    duration.append(
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
        f"router_request_duration_seconds_sum{closed} {route.duration.total}\n"
    )
    received.append(f"router_request_bytes_total{closed} {route.request_bytes}\n")
    sent.append(f"router_response_bytes_total{closed} {route.response_bytes}\n")
    # Of most apps there is nothing more to say.
    if route.errors:
        errors += _reasons("router_errors", app, route.errors)
    if route.retries:
        retries += _reasons("router_retries", app, route.retries)
    if route.ejections:
        ejections.append(f"router_upstream_ejections_total{closed} {route.ejections}\n")
        ejected.append(f"router_upstream_ejected{closed} {route.ejected}\n")


def _requests(requests: dict[tuple[int, str, str], int]) -> Iterable[tuple[tuple[object, str, str], int]]:
    """By status as a label; those that no standard knows by their class, as an app could make up hundreds (M-21)."""
    counted = requests.copy()
    if all(status in _CODES for status, _, _ in counted):
        return counted.items()
    counts: Counter[tuple[object, str, str]] = Counter()
    for (status, method, protocol), count in counted.items():
        counts[status if status in _CODES else f"{status // 100}xx", method, protocol] += count
    return counts.items()


def _reasons(name: str, app: str, counts: dict[Failure, int]) -> list[str]:
    return [f'{name}_total{app},reason="{failure.value}"}} {count}\n' for failure, count in counts.copy().items()]


class _Labels:
    """What names an app in a line: its labels, escaped. ``app`` and ``all`` have the opening brace, ``closed`` both."""

    __slots__ = ("all", "app", "closed", "namespace", "service")

    def __init__(self, app: str, namespace: str, service: str) -> None:
        self.app = f'{{app="{escaped(app)}"'
        self.namespace = f'namespace="{escaped(namespace)}"'
        self.service = f'service="{escaped(service)}"'
        self.all = f"{self.app},{self.namespace},{self.service}"
        self.closed = self.all + "}"


class _Budget:
    """Which apps have series of their own: those that were asked first, for as long as there is room.

    An app keeps what it was given, its own series or a share of ``other``, so that no counter ever goes back.
    """

    def __init__(self, series: int) -> None:
        self._series = series
        self._own: set[str] = set()
        self._others: dict[str, RouteCounters] = {}
        """Those without, as the last scrape saw them."""
        self._gone = RouteCounters(OTHER, "", "")
        """What apps without series of their own had counted when they went."""
        self.folded = 0
        """Apps that ever were counted as others."""

    def within(self, routes: Mapping[str, RouteCounters]) -> list[RouteCounters]:
        """What is shown for these routes."""
        self._own &= routes.keys()
        for name in self._others.keys() - routes.keys():
            self._gone = together([self._gone, lasting(self._others.pop(name))])
        room = self._series - sum(_series(routes[name]) for name in self._own)
        for name in routes.keys() - self._own - self._others.keys():
            cost = _series(routes[name])
            if cost <= room:
                room -= cost
                self._own.add(name)
            else:
                self._others[name] = routes[name]
                self.folded += 1
        shown = [route for name, route in routes.items() if name in self._own]
        if not self.folded:
            return shown
        self._others = {name: routes[name] for name in self._others}
        other = together([self._gone, *self._others.values()])
        other.app, other.namespace, other.service = OTHER, "", ""
        return [*shown, other]


def _series(route: RouteCounters) -> int:
    """How many series one app is."""
    return len(BUCKETS) + 5 + len(route.requests) + len(route.errors) + len(route.retries)
