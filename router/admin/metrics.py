"""Prometheus text, made at scrape time out of the plain counters of the data plane and the facts of the control plane.

Names and labels are for those who come from other routers: prefix ``router_``, ingress-nginx's eleven buckets, no host
and no path in any label. Rendering ten thousand apps takes a while, so it happens in a thread; as the loop counts on
meanwhile, every dict is copied before it is walked.

What must not enter: anything that has to be done per request.
"""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from proxy.metrics import BUCKETS, Counters, Histogram, RouteCounters
from router.feedback import Feedback
from router.git_gateway import GitGateway
from router.kubernetes.watch import Heard
from router.processes.sums import add, plain
from router.reconcile import Reconciler
from router.snapshot import Snapshot, State

__all__ = ["RouterCollector", "WorkerReport", "Workers", "registry"]

SERIES: Final = 20_000
"""Series that apps may have together; beyond it those that come later are one app called ``other``."""
OTHER: Final = "other"
_APP: Final = ("app", "namespace", "service")
_CODES: Final = frozenset({499, *HTTPStatus})
_BOUNDS: Final = (*(str(bound) for bound in BUCKETS), "+Inf")


def registry(collector: Collector) -> CollectorRegistry:
    """A registry of our own, with the process's CPU, memory and descriptors beside the router's metrics."""
    mine = CollectorRegistry(auto_describe=False)
    mine.register(collector)
    ProcessCollector(registry=mine)
    return mine


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
            add(self._gone, plain(self._others.pop(name)), departed=True)
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
        other = RouteCounters(OTHER, "", "")
        add(other, plain(self._gone))
        for name in self._others:
            self._others[name] = routes[name]
            add(other, plain(routes[name]))
        other.app, other.namespace, other.service = OTHER, "", ""
        return [*shown, other]


def _series(route: RouteCounters) -> int:
    """How many series one app is."""
    return len(BUCKETS) + 5 + len(route.requests) + len(route.errors) + len(route.retries)


class RouterCollector(Collector):
    """Reads ``sums`` and ``reconciler``; ``lost_lines`` says how many log lines were taken and never written.

    ``workers`` says how the processes are that serve, where there are any.
    """

    def __init__(
        self,
        sums: Callable[[], Counters],
        reconciler: Reconciler,
        version: str,
        lost_lines: Callable[[], int] = lambda: 0,
        heard: Heard | None = None,
        feedback: Feedback | None = None,
        workers: Callable[[], Workers] | None = None,
        git: GitGateway | None = None,
        series: int = SERIES,
    ) -> None:
        self._sums = sums
        self._counters = Counters()
        self._reconciler = reconciler
        self._version = version
        self._lost_lines = lost_lines
        self._heard = heard
        self._feedback = feedback
        self._workers = workers
        self._git = git
        self._budget = _Budget(series)
        self._invalid: set[tuple[str, str, str]] = set()
        """What the last scrape saw: a problem that is gone is shown once more, as 0, so that alerts resolve at once."""

    def collect(self) -> Iterator[Metric]:
        """Every metric; of an app that was never asked, none. Raises nothing; safe in a thread."""
        counters = self._counters = self._sums()
        asked = {name: route for name, route in counters.routes.copy().items() if route.requests}
        yield from self._requests([*self._budget.within(asked), counters.unrouted])
        yield CounterMetricFamily(
            "router_metric_series_folded",
            "Apps that are counted together as the app other, because there are series enough.",
            self._budget.folded,
        )
        yield from self._connections()
        yield from self._websockets()
        yield from self._streams()
        yield from self._log()
        yield from self._health()
        yield from self._config()
        if self._heard is not None:
            yield from _watches(self._heard)
        if self._feedback is not None:
            yield from _feedback(self._feedback)
        if self._workers is not None:
            yield from _processes(self._workers())
        if self._git is not None:
            yield from _git(self._git)
        snapshot = self._reconciler.snapshot
        if snapshot is not None:
            yield from self._routes(snapshot)
            yield _certificates(snapshot)
        build = GaugeMetricFamily("router_build_info", "The running version; always 1.", labels=("version", "python"))
        build.add_metric((self._version, platform.python_version()), 1)
        yield build

    def _requests(self, routes: list[RouteCounters]) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "router_requests",
            "Requests answered; code 499: the client went away before the answer.",
            labels=(*_APP, "code", "method", "protocol"),
        )
        duration = HistogramMetricFamily(
            "router_request_duration_seconds", "From the end of a request's head to the end of its answer.", labels=_APP
        )
        received = CounterMetricFamily("router_request_bytes", "Bytes of request bodies received.", labels=_APP)
        sent = CounterMetricFamily("router_response_bytes", "Bytes of answers sent.", labels=_APP)
        errors = CounterMetricFamily(
            "router_errors",
            "Requests the router failed or refused, by the name in X-Router-Error.",
            labels=("app", "reason"),
        )
        retries = CounterMetricFamily(
            "router_retries", "Requests tried on another connection, by what failed first.", labels=("app", "reason")
        )
        ejections = CounterMetricFamily(
            "router_upstream_ejections",
            "Endpoints left out for a while because they could not be connected to.",
            labels=_APP,
        )
        ejected = GaugeMetricFamily("router_upstream_ejected", "Endpoints that are left out now.", labels=_APP)
        for route in routes:
            labels = (route.app, route.namespace, route.service)
            counts: Counter[tuple[str, str, str]] = Counter()
            for (status, method, protocol), count in route.requests.copy().items():
                counts[_code(status), method, protocol] += count
            for kind, count in counts.items():
                requests.add_metric((*labels, *kind), count)
            duration.add_metric(labels, *_histogram(route.duration))
            received.add_metric(labels, route.request_bytes)
            sent.add_metric(labels, route.response_bytes)
            for failure, count in route.errors.copy().items():
                errors.add_metric((route.app, failure.value), count)
            for failure, count in route.retries.copy().items():
                retries.add_metric((route.app, failure.value), count)
            if route.ejections:  # of most apps there is nothing to say, in two series each
                ejections.add_metric(labels, route.ejections)
                ejected.add_metric(labels, route.ejected)
        yield from (requests, duration, received, sent, errors, retries, ejections, ejected)
        yield GaugeMetricFamily("router_requests_in_flight", "Exchanges under way.", self._counters.in_flight)
        yield GaugeMetricFamily(
            "router_requests_queued", "Exchanges that wait until their app has fewer under way.", self._counters.queued
        )

    def _connections(self) -> Iterator[Metric]:
        counters = self._counters
        opened = CounterMetricFamily(
            "router_connections_accepted", "Client connections accepted.", labels=("listener",)
        )
        for listener, count in counters.accepted.items():
            opened.add_metric((listener,), count)
        yield opened
        is_open = GaugeMetricFamily("router_open_connections", "Client connections open now.", labels=("listener",))
        for listener, count in counters.open_connections.items():
            is_open.add_metric((listener,), count)
        yield is_open
        yield CounterMetricFamily(
            "router_connections_refused",
            "Connections, and requests of a trusted proxy, refused because their client had too many.",
            counters.connections_refused,
        )
        yield CounterMetricFamily(
            "router_idle_connections_closed", "Idle clients let go to make room for others.", counters.idle_closed
        )
        yield CounterMetricFamily(
            "router_accept_pauses", "Times that nobody was accepted, as every place was taken.", counters.accept_pauses
        )
        places = GaugeMetricFamily(
            "router_connection_places", "Client connections that there may be, and those taken.", labels=("state",)
        )
        places.add_metric(("all",), counters.places)
        places.add_metric(("taken",), counters.places_taken)
        yield places
        headers = CounterMetricFamily(
            "router_proxy_headers",
            "Connections while useProxyProtocol is on, by what came first or why they were closed.",
            labels=("outcome",),
        )
        for outcome, count in counters.proxy_headers.items():
            headers.add_metric((outcome,), count)
        yield headers
        yield CounterMetricFamily(
            "router_alias_fields_dropped",
            "Request fields dropped because apps could take their names for the router's own.",
            counters.aliases,
        )
        yield CounterMetricFamily("router_tls_handshakes", "TLS handshakes completed.", counters.tls_handshakes)
        yield CounterMetricFamily("router_tls_handshake_failures", "TLS handshakes failed.", counters.tls_failures)
        yield GaugeMetricFamily("router_tls_handshakes_pending", "TLS handshakes under way.", counters.tls_pending)
        yield CounterMetricFamily(
            "router_tls_handshakes_given_up",
            "TLS handshakes given up because too many were under way.",
            counters.tls_given_up,
        )
        yield CounterMetricFamily(
            "router_upstream_connects", "Connections opened to endpoints.", counters.upstream_connects
        )
        yield CounterMetricFamily(
            "router_upstream_reuses", "Requests sent over a connection that was open already.", counters.upstream_reused
        )
        upstream = GaugeMetricFamily(
            "router_upstream_connections", "Connections to endpoints, by what they do now.", labels=("state",)
        )
        upstream.add_metric(("open",), counters.upstream_open)
        upstream.add_metric(("idle",), counters.upstream_idle)
        yield upstream
        yield _family("router_upstream_connect_duration_seconds", "To connect to an endpoint.", counters.connect)
        yield _family(
            "router_upstream_header_duration_seconds",
            "From a request on its way to an endpoint to the head of the answer.",
            counters.header,
        )
        yield _family(
            "router_overhead_seconds",
            "The router's own share: from the end of a request's head to its first byte on the way upstream.",
            counters.overhead,
        )

    def _websockets(self) -> Iterator[Metric]:
        counters = self._counters
        yield GaugeMetricFamily("router_websocket_open", "WebSockets open now.", counters.tunnels_open)
        yield CounterMetricFamily("router_websocket_upgrades", "WebSockets ever opened.", counters.tunnels)
        closed = CounterMetricFamily(
            "router_websocket_closed",
            "WebSockets that ended, by who ended them first or what went wrong.",
            labels=("reason",),
        )
        for reason, count in counters.tunnels_closed.copy().items():
            closed.add_metric((reason,), count)
        yield closed

    def _streams(self) -> Iterator[Metric]:
        labels = ("stream", *_APP)
        is_open = GaugeMetricFamily("router_stream_open", "Streams open now, by the port they came by.", labels=labels)
        total = CounterMetricFamily("router_stream_connections", "Connections that became streams.", labels=labels)
        received = CounterMetricFamily(
            "router_stream_received_bytes", "Bytes from clients, of streams that are over.", labels=labels
        )
        sent = CounterMetricFamily(
            "router_stream_sent_bytes", "Bytes to clients, of streams that are over.", labels=labels
        )
        closed = CounterMetricFamily(
            "router_stream_closed",
            "Streams that ended, by who ended them first or what went wrong.",
            labels=("stream", "reason"),
        )
        denied = CounterMetricFamily(
            "router_stream_denied", "Connections turned away before anything was done.", labels=("stream", "reason")
        )
        retries = CounterMetricFamily(
            "router_stream_retries", "Further endpoints tried, by what failed first.", labels=("stream", "reason")
        )
        for stream, counted in self._counters.streams.copy().items():
            mine = (stream, counted.app, counted.namespace, counted.service)
            is_open.add_metric(mine, counted.open)
            total.add_metric(mine, counted.total)
            received.add_metric(mine, counted.received)
            sent.add_metric(mine, counted.sent)
            for reason, count in counted.closed.copy().items():
                closed.add_metric((stream, reason), count)
            for family, counts in ((denied, counted.denied), (retries, counted.retries)):
                for failure, count in counts.copy().items():
                    family.add_metric((stream, failure.value), count)
        yield from (is_open, total, received, sent, closed, denied, retries)

    def _log(self) -> Iterator[Metric]:
        counters = self._counters
        yield CounterMetricFamily("router_access_log_lines", "Access-log lines written.", counters.log_lines)
        yield CounterMetricFamily(
            "router_access_log_spared",
            "Access-log lines left out: too many requests a second that met no route.",
            counters.log_spared,
        )
        yield CounterMetricFamily(
            "router_access_log_dropped",
            "Access-log lines given up because their reader was too slow or gone.",
            counters.log_dropped + self._lost_lines(),
        )

    def _health(self) -> Iterator[Metric]:
        counters = self._counters
        yield _family(
            "router_event_loop_lag_seconds",
            "By how late the event loop was, ten times a second.",
            counters.loop_lag,
        )
        pauses = HistogramMetricFamily(
            "router_gc_pause_seconds", "How long garbage collections stopped everything.", labels=("generation",)
        )
        for generation, histogram in enumerate((counters.gc_young, counters.gc_middle, counters.gc_old)):
            pauses.add_metric((str(generation),), *_histogram(histogram))
        yield pauses
        faults = CounterMetricFamily(
            "router_faults",
            "Mistakes of the router's own, each of which cost one connection at most, by where it was made.",
            labels=("where",),
        )
        for where, count in counters.faults.copy().items():
            faults.add_metric((where,), count)
        yield faults
        yield GaugeMetricFamily(
            "router_overload_level",
            "What is given up for want of memory: 0 nothing, 1 keep-alive, 2 idle connections, 3 new requests, "
            "4 new connections.",
            counters.overload_level,
        )
        yield GaugeMetricFamily(
            "router_overload_shed_ratio", "Share of new requests refused because the loop is late.", counters.shed_share
        )
        yield GaugeMetricFamily(
            "router_memory_limit_bytes",
            "Memory that must not be exceeded; 0: none is known.",
            counters.memory_limit,
        )
        yield GaugeMetricFamily(
            "router_memory_used_bytes", "Memory in use, as it counts against the limit.", counters.memory_used
        )
        yield CounterMetricFamily(
            "router_overload_idle_closed", "Idle client connections closed for want of memory.", counters.given_up
        )
        yield CounterMetricFamily(
            "router_overload_refused", "New connections reset for want of memory.", counters.refused
        )

    def _config(self) -> Iterator[Metric]:
        reconciler = self._reconciler
        yield GaugeMetricFamily(
            "router_config_last_apply_successful",
            "Whether the last attempt to make changes current succeeded.",
            int(reconciler.succeeded),
        )
        yield GaugeMetricFamily(
            "router_config_last_apply_timestamp_seconds",
            "When changes were last made current, Unix time.",
            reconciler.applied_at,
        )
        yield CounterMetricFamily(
            "router_config_apply_failures", "Attempts to make changes current that failed.", reconciler.failures
        )
        stages = HistogramMetricFamily(
            "router_route_apply_duration_seconds", "What making changes current took, by stage.", labels=("stage",)
        )
        for stage, histogram in reconciler.stages.items():
            stages.add_metric((stage,), *_histogram(histogram))
        yield stages
        yield GaugeMetricFamily(
            "router_config_generation",
            "Number of the snapshot in force.",
            reconciler.snapshot.generation if reconciler.snapshot else 0,
        )

    def _routes(self, snapshot: Snapshot) -> Iterator[Metric]:
        states = Counter(app.state for app in snapshot.apps.values())
        routes = GaugeMetricFamily("router_routes", "Apps, by the state of their route.", labels=("state",))
        for state in State:
            routes.add_metric((state.value,), states[state])
        yield routes
        invalid = GaugeMetricFamily(
            "router_route_invalid",
            "Problems of one object with one reason; see /problems.",
            labels=("namespace", "name", "reason"),
        )
        now = Counter(
            (problem.object.namespace, problem.object.name, problem.reason.value)
            for problem in snapshot.problems
            if not problem.is_note
        )
        for labels in sorted(now.keys() | self._invalid):
            invalid.add_metric(labels, now[labels])
        self._invalid = set(now)
        yield invalid


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """One process that serves, as its control sees it."""

    number: int
    generation: int
    """Of the table that is current there; 0: none yet."""
    landlock: int
    """ABI of Landlock that confines it; 0: the kernel has none."""
    shared_tickets: bool
    cpu_seconds: float
    resident_bytes: float


@dataclass(frozen=True, slots=True)
class Workers:
    """All processes that serve."""

    reports: Sequence[WorkerReport]
    deaths: Mapping[tuple[int, str], int]
    """By worker and how it ended."""


def _processes(workers: Workers) -> Iterator[Metric]:
    labels = ("worker",)
    up = GaugeMetricFamily("router_worker_up", "Workers that are there; 1, or they are missing.", labels=labels)
    generation = GaugeMetricFamily(
        "router_worker_generation", "Number of the snapshot that is in force at a worker.", labels=labels
    )
    confined = GaugeMetricFamily(
        "router_worker_landlock_abi",
        "Version of Landlock that confines a worker; 0: the kernel has none.",
        labels=labels,
    )
    tickets = GaugeMetricFamily(
        "router_worker_shared_tickets", "Whether a worker's TLS sessions resume at the others.", labels=labels
    )
    cpu = CounterMetricFamily("router_worker_cpu_seconds", "Processor time of a worker.", labels=labels)
    memory = GaugeMetricFamily("router_worker_resident_memory_bytes", "Resident memory of a worker.", labels=labels)
    deaths = CounterMetricFamily(
        "router_worker_deaths",
        "Workers that ended unasked: stalled, killed, crashed or exited.",
        labels=("worker", "reason"),
    )
    for report in workers.reports:
        mine = (str(report.number),)
        up.add_metric(mine, 1)
        generation.add_metric(mine, report.generation)
        confined.add_metric(mine, report.landlock)
        tickets.add_metric(mine, int(report.shared_tickets))
        cpu.add_metric(mine, report.cpu_seconds)
        memory.add_metric(mine, report.resident_bytes)
    for (number, reason), count in workers.deaths.items():
        deaths.add_metric((str(number), reason), count)
    yield from (up, generation, confined, tickets, cpu, memory, deaths)


def _watches(heard: Heard) -> Iterator[Metric]:
    """What the API server tells; without a cluster there is nothing of it."""
    events = CounterMetricFamily(
        "router_watch_events", "Events heard from the API server, bookmarks included.", labels=("kind", "op")
    )
    for (kind, op), count in heard.events.copy().items():
        events.add_metric((kind, op), count)
    yield events
    relists = CounterMetricFamily("router_watch_relists", "Lists after the first, by why.", labels=("reason",))
    for reason, count in heard.relists.copy().items():
        relists.add_metric((reason,), count)
    yield relists
    failures = CounterMetricFamily(
        "router_watch_failures", "Requests to the API server that failed, by how.", labels=("error",)
    )
    for error, count in heard.failures.copy().items():
        failures.add_metric((error,), count)
    yield failures
    is_open = GaugeMetricFamily("router_watch_connected", "Watches that are open now.", labels=("kind",))
    for kind, count in heard.connected.copy().items():
        is_open.add_metric((kind,), count)
    yield is_open
    lag = GaugeMetricFamily(
        "router_watch_lag_seconds",
        "Since when nothing was heard of a kind: a watch hears a bookmark within a minute even where nothing happens.",
        labels=("kind",),
    )
    now = time.monotonic()
    for kind, last in heard.last.copy().items():
        lag.add_metric((kind,), now - last)
    yield lag


def _feedback(feedback: Feedback) -> Iterator[Metric]:
    """What this replica writes for all; without a cluster there is nothing of it."""
    leads = int(feedback.election.leads)
    yield GaugeMetricFamily("router_leader", "Whether this replica writes for all: Events and the record.", leads)
    record = CounterMetricFamily(
        "router_claim_record_attempts", "Attempts to write the record of claims, by outcome.", labels=("outcome",)
    )
    for outcome, count in feedback.keeper.outcomes.copy().items():
        record.add_metric((outcome,), count)
    yield record
    events = CounterMetricFamily("router_events_written", "Kubernetes Events written, by type.", labels=("type",))
    for kind, count in feedback.events.written.copy().items():
        events.add_metric((kind,), count)
    yield events
    dropped = CounterMetricFamily("router_events_dropped", "Events that were not written, by why.", labels=("reason",))
    for why, count in feedback.events.dropped.copy().items():
        dropped.add_metric((why,), count)
    yield dropped
    yield GaugeMetricFamily("router_events_waiting", "Events that are still to be written.", feedback.events.waiting)


def _code(status: int) -> str:
    """A status as a label; those that no standard knows by their class, as an app could make up hundreds (M-21)."""
    return str(status) if status in _CODES else f"{status // 100}xx"


def _git(git: GitGateway) -> Iterator[Metric]:
    sessions = CounterMetricFamily(
        "router_ssh_sessions", "Sessions of the git gateway that are over.", labels=("service", "outcome")
    )
    for (service, outcome), count in git.sessions.copy().items():
        sessions.add_metric((service, outcome), count)
    yield sessions
    yield CounterMetricFamily("router_ssh_push_bytes", "Bytes that pushes sent to the git gateway.", git.push_bytes)
    denied = CounterMetricFamily(
        "router_ssh_denied", "Clients of the git gateway that proved no key of anybody.", labels=("reason",)
    )
    for reason, count in git.denied.copy().items():
        denied.add_metric((reason,), count)
    yield denied


def _certificates(snapshot: Snapshot) -> Metric:
    expiry = GaugeMetricFamily(
        "router_tls_cert_not_after_timestamp_seconds",
        "When a certificate in use expires, Unix time.",
        labels=("namespace", "secret", "cn"),
    )
    for report in snapshot.served.values():
        labels = (report.namespace, report.secret, report.certificate.subject)
        expiry.add_metric(labels, report.certificate.not_after.timestamp())
    return expiry


def _family(name: str, help_text: str, histogram: Histogram) -> Metric:
    buckets, total = _histogram(histogram)
    return HistogramMetricFamily(name, help_text, buckets=buckets, sum_value=total)


def _histogram(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """Cumulative buckets and the sum, as Prometheus wants them."""
    running = 0
    buckets = []
    for bound, count in zip(_BOUNDS, histogram.counts.copy(), strict=True):
        running += count
        buckets.append((bound, float(running)))
    return buckets, histogram.total
