"""Prometheus text, made at scrape time out of the plain counters of the data plane and the facts of the control plane.

Names and labels are for those who come from other routers: prefix ``router_``, ingress-nginx's eleven buckets, no host
and no path in any label. Rendering ten thousand apps takes a while (``admin.app_series``), so all of it happens in a
thread; as the loop counts on meanwhile, every dict is copied before it is walked.

What must not enter: anything that has to be done per request.
"""

from __future__ import annotations

import logging
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drycc_proxy.errors import Failure
from drycc_proxy.metrics import PARTS, Counters, StreamCounters
from drycc_router.admin.app_series import SERIES, AppSeries
from drycc_router.admin.exposition import Family, counter, gauge, histogram, text
from drycc_router.admin.object_series import CertificateSeries, ProblemSeries
from drycc_router.compile.revision import RouteState, Snapshot
from drycc_router.git.gateway import GitGateway
from drycc_router.kubernetes.watch import Heard
from drycc_router.publish.reconcile import Reconciler
from drycc_router.status.leader import Feedback

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["RouterMetrics", "WorkerReport", "Workers"]

log = logging.getLogger(__name__)

_STREAM: Final = ("stream", "app", "namespace", "service")


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
    open_fds: float = 0.0
    """0: the kernel does not tell."""
    max_fds: float = 0.0


@dataclass(frozen=True, slots=True)
class Workers:
    """All processes that serve."""

    reports: Sequence[WorkerReport]
    deaths: Mapping[tuple[int, str], int]
    """By worker and how it ended."""


class RouterMetrics:
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
        self._reconciler = reconciler
        self._version = version
        self._lost_lines = lost_lines
        self._heard = heard
        self._feedback = feedback
        self._workers = workers
        self._git = git
        self._apps = AppSeries(series)
        self._one_at_a_time = threading.Lock()
        self._problems = ProblemSeries(series)
        self._certificates = CertificateSeries(series)
        self._process: CollectorRegistry | None = None
        self._failed: dict[str, int] = {}
        """Section of the page → scrapes from which it was left out."""

    def page(self, accept: str = "") -> tuple[bytes, str]:
        """Everything for one scrape, and its content type, by the ``Accept`` of who asks. Safe in a thread."""
        from prometheus_client.exposition import choose_encoder  # here, because it brings an HTTP server of its own

        encode, content_type = choose_encoder(accept)
        openmetrics = content_type.startswith("application/openmetrics-text")
        with self._one_at_a_time:
            end = encode(self._collected())
            return text(self._families(self._sums()), openmetrics=openmetrics, end=end), content_type

    def prepare(self) -> None:
        """Write what is new by now of what there is most of: the next page has less to do. Safe in a thread."""
        snapshot = self._reconciler.snapshot
        with self._one_at_a_time:
            self._collected()
            self._apps.write(self._sums().routes)
            if snapshot is not None:
                self._problems.write(snapshot.problems)

    def _collected(self) -> CollectorRegistry:
        """CPU, memory and descriptors of this process."""
        if self._process is None:
            from prometheus_client import CollectorRegistry, ProcessCollector  # here, because a start does not need it

            self._process = CollectorRegistry(auto_describe=False)
            ProcessCollector(registry=self._process)
        return self._process

    def _families(self, counters: Counters) -> Iterator[Family]:
        """Every family, section by section. A section that fails is left out and counted; the others are still told."""
        for name, families in self._sections(counters):
            try:
                section = list(families())
            except Exception:  # whatever it is: one section must not cost Prometheus the whole page
                if name not in self._failed:
                    log.exception("the section %s of /metrics cannot be written and is left out", name)
                self._failed[name] = self._failed.get(name, 0) + 1
                continue
            yield from section
        yield counter(
            "router_metrics_section_failures",
            "Scrapes from which a section was left out because it could not be written, by section.",
            self._failed,
            "section",
        )

    def _sections(self, counters: Counters) -> Iterator[tuple[str, Callable[[], Iterable[Family]]]]:
        yield "apps", lambda: self._app_families(counters)
        yield "data_plane", lambda: _data_plane(counters)
        yield "streams", lambda: _streams(counters.streams.copy())
        yield "access_log", lambda: _log(counters, self._lost_lines())
        yield "health", lambda: _health(counters)
        yield "config", lambda: _config(self._reconciler)
        if (heard := self._heard) is not None:
            yield "watches", lambda: _watches(heard)
        if (feedback := self._feedback) is not None:
            yield "feedback", lambda: _feedback(feedback)
        if (workers := self._workers) is not None:
            yield "workers", lambda: _processes(workers())
        if (git := self._git) is not None:
            yield "git", lambda: _git(git)
        if (snapshot := self._reconciler.snapshot) is not None:
            yield "objects", lambda: self._objects(snapshot)
        yield "build", self._build

    def _app_families(self, counters: Counters) -> list[Family]:
        self._apps.write(counters.routes)
        return self._apps.families(counters.unrouted)

    def _objects(self, snapshot: Snapshot) -> Iterator[Family]:
        yield _routes(snapshot)
        self._problems.write(snapshot.problems)
        yield self._problems.family()
        yield self._certificates.family(snapshot.served)

    def _build(self) -> Iterator[Family]:
        yield counter(
            "router_metric_series_folded",
            "Apps, Problems and certificates that are counted together as other, because there are series enough.",
            self._apps.folded + self._problems.folded + self._certificates.folded,
        )
        build = {(self._version, platform.python_version()): 1}
        yield gauge("router_build_info", "The running version; always 1.", build, "version", "python")


# ── the data plane ────────────────────────────────────────────────────────────────────────────────────────────────────
def _data_plane(counters: Counters) -> Iterator[Family]:
    yield gauge("router_requests_in_flight", "Exchanges under way.", counters.in_flight)
    yield gauge("router_requests_queued", "Exchanges that wait until their app has fewer under way.", counters.queued)
    yield counter("router_connections_accepted", "Client connections accepted.", counters.accepted, "listener")
    yield gauge("router_open_connections", "Client connections open now.", counters.open_connections, "listener")
    yield counter(
        "router_connections_refused",
        "Connections, and requests of a trusted proxy, refused because their client had too many.",
        counters.connections_refused,
    )
    yield counter(
        "router_idle_connections_closed", "Idle clients let go to make room for others.", counters.idle_closed
    )
    yield counter(
        "router_accept_pauses", "Times that nobody was accepted, as every place was taken.", counters.accept_pauses
    )
    places = {"all": counters.places, "taken": counters.places_taken}
    yield gauge("router_connection_places", "Client connections that there may be, and those taken.", places, "state")
    yield gauge(
        "router_connection_places_crowded",
        "1 while more than two thirds of the places are taken by exchanges under way, so that shares act.",
        counters.crowded,
    )
    yield counter(
        "router_connections_over_share",
        "Connections refused because places were few and their address held more than its share.",
        counters.share_refused,
    )
    yield counter(
        "router_proxy_headers",
        "Connections while useProxyProtocol is on, by what came first or why they were closed.",
        counters.proxy_headers,
        "outcome",
    )
    yield counter(
        "router_alias_fields_dropped",
        "Request fields dropped because apps could take their names for the router's own.",
        counters.aliases,
    )
    yield counter("router_tls_handshakes", "TLS handshakes completed.", counters.tls_handshakes)
    yield counter("router_tls_handshake_failures", "TLS handshakes failed.", counters.tls_failures)
    yield gauge("router_tls_handshakes_pending", "TLS handshakes under way.", counters.tls_pending)
    yield counter(
        "router_tls_handshakes_given_up",
        "TLS handshakes given up because too many were under way.",
        counters.tls_given_up,
    )
    yield counter("router_upstream_connects", "Connections opened to endpoints.", counters.upstream_connects)
    yield counter(
        "router_upstream_reuses", "Requests sent over a connection that was open already.", counters.upstream_reused
    )
    upstream = {"open": counters.upstream_open, "idle": counters.upstream_idle}
    yield gauge("router_upstream_connections", "Connections to endpoints, by what they do now.", upstream, "state")
    yield gauge(
        "router_upstream_heads_bytes",
        "Memory that large heads of answers take, which connections to endpoints remember.",
        counters.upstream_heads,
    )
    yield histogram("router_upstream_connect_duration_seconds", "To connect to an endpoint.", counters.connect)
    yield histogram(
        "router_upstream_header_duration_seconds",
        "From a request on its way to an endpoint to the head of the answer.",
        counters.header,
    )
    yield histogram(
        "router_overhead_seconds",
        "The router's own share: from the end of a request's head to its first byte on the way upstream.",
        counters.overhead,
    )
    yield gauge("router_websocket_open", "WebSockets open now.", counters.tunnels_open)
    yield counter("router_websocket_upgrades", "WebSockets ever opened.", counters.tunnels)
    yield counter(
        "router_websocket_closed",
        "WebSockets that ended, by who ended them first or what went wrong.",
        counters.tunnels_closed,
        "reason",
    )


def _streams(streams: dict[str, StreamCounters]) -> Iterator[Family]:
    def each(value: str) -> dict[tuple[str, ...], int]:
        return {(name, one.app, one.namespace, one.service): getattr(one, value) for name, one in streams.items()}

    def reasons(value: str) -> dict[tuple[str, str], int]:
        return {
            (name, reason.value if isinstance(reason, Failure) else reason): count
            for name, one in streams.items()
            for reason, count in getattr(one, value).copy().items()
        }

    yield gauge("router_stream_open", "Streams open now, by the port they came by.", each("open"), *_STREAM)
    yield counter("router_stream_connections", "Connections that became streams.", each("total"), *_STREAM)
    yield counter(
        "router_stream_received_bytes", "Bytes from clients, of streams that are over.", each("received"), *_STREAM
    )
    yield counter("router_stream_sent_bytes", "Bytes to clients, of streams that are over.", each("sent"), *_STREAM)
    labels = ("stream", "reason")
    yield counter(
        "router_stream_closed",
        "Streams that ended, by who ended them first or what went wrong.",
        reasons("closed"),
        *labels,
    )
    yield counter(
        "router_stream_denied", "Connections turned away before anything was done.", reasons("denied"), *labels
    )
    yield counter(
        "router_stream_retries", "Further endpoints tried, by what failed first.", reasons("retries"), *labels
    )


def _log(counters: Counters, lost: int) -> Iterator[Family]:
    yield counter("router_access_log_lines", "Access-log lines written.", counters.log_lines)
    yield counter(
        "router_access_log_spared",
        "Access-log lines left out: too many requests a second that met no route.",
        counters.log_spared,
    )
    yield counter(
        "router_access_log_dropped",
        "Access-log lines given up because their reader was too slow or gone.",
        counters.log_dropped + lost,
    )


def _health(counters: Counters) -> Iterator[Family]:
    yield histogram(
        "router_event_loop_lag_seconds", "By how late the event loop was, ten times a second.", counters.loop_lag
    )
    yield histogram(
        "router_gc_pause_seconds",
        "How long garbage collections stopped everything.",
        {0: counters.gc_young, 1: counters.gc_middle, 2: counters.gc_old},
        "generation",
    )
    yield counter(
        "router_faults",
        "Mistakes of the router's own, each of which cost one connection at most, by where it was made.",
        dict.fromkeys(PARTS, 0) | counters.faults,
        "where",
    )
    yield gauge(
        "router_overload_level",
        "What is given up for want of memory: 0 nothing, 1 keep-alive, 2 idle connections, 3 new requests, "
        "4 new connections.",
        counters.overload_level,
    )
    yield gauge(
        "router_overload_shed_ratio", "Share of new requests refused because the loop is late.", counters.shed_share
    )
    yield gauge(
        "router_memory_limit_bytes", "Memory that must not be exceeded; 0: none is known.", counters.memory_limit
    )
    yield gauge("router_memory_used_bytes", "Memory in use, as it counts against the limit.", counters.memory_used)
    yield counter(
        "router_overload_idle_closed", "Idle client connections closed for want of memory.", counters.given_up
    )
    yield counter("router_overload_refused", "New connections reset for want of memory.", counters.refused)


# ── the control plane ─────────────────────────────────────────────────────────────────────────────────────────────────
def _config(reconciler: Reconciler) -> Iterator[Family]:
    yield gauge(
        "router_config_last_apply_successful",
        "Whether the last attempt to make changes current succeeded.",
        int(reconciler.succeeded),
    )
    yield gauge(
        "router_config_last_apply_timestamp_seconds",
        "When changes were last made current, Unix time.",
        reconciler.applied_at,
    )
    yield counter("router_config_apply_failures", "Attempts to make changes current that failed.", reconciler.failures)
    yield histogram(
        "router_route_apply_duration_seconds",
        "What making changes current took, by stage.",
        dict(reconciler.stages),
        "stage",
    )
    generation = reconciler.snapshot.generation if reconciler.snapshot else 0
    yield gauge("router_config_generation", "Number of the snapshot in force.", generation)


def _processes(workers: Workers) -> Iterator[Family]:
    def each(value: Callable[[WorkerReport], float]) -> dict[int, float]:
        return {report.number: value(report) for report in workers.reports}

    up = each(lambda _: 1)
    yield gauge("router_worker_up", "Workers that are there; 1, or they are missing.", up, "worker")
    yield gauge(
        "router_worker_generation",
        "Number of the snapshot that is in force at a worker.",
        each(lambda report: report.generation),
        "worker",
    )
    yield gauge(
        "router_worker_landlock_abi",
        "Version of Landlock that confines a worker; 0: the kernel has none.",
        each(lambda report: report.landlock),
        "worker",
    )
    yield gauge(
        "router_worker_shared_tickets",
        "Whether a worker's TLS sessions resume at the others.",
        each(lambda report: int(report.shared_tickets)),
        "worker",
    )
    cpu = each(lambda report: report.cpu_seconds)
    yield counter("router_worker_cpu_seconds", "Processor time of a worker.", cpu, "worker")
    memory = each(lambda report: report.resident_bytes)
    yield gauge("router_worker_resident_memory_bytes", "Resident memory of a worker.", memory, "worker")
    telling = [report for report in workers.reports if report.open_fds]
    open_fds = {report.number: report.open_fds for report in telling}
    yield gauge("router_worker_open_fds", "Open files of a worker.", open_fds, "worker")
    max_fds = {report.number: report.max_fds for report in telling}
    yield gauge("router_worker_max_fds", "Files that a worker may have open.", max_fds, "worker")
    yield counter(
        "router_worker_deaths",
        "Workers that ended unasked: stalled, killed, crashed or exited.",
        dict(workers.deaths),
        "worker",
        "reason",
    )


def _watches(heard: Heard) -> Iterator[Family]:
    """What the API server tells; without a cluster there is nothing of it."""
    yield counter(
        "router_watch_events", "Events heard from the API server, bookmarks included.", heard.events, "kind", "op"
    )
    yield counter("router_watch_relists", "Lists after the first, by why.", heard.relists, "reason")
    yield counter("router_watch_failures", "Requests to the API server that failed, by how.", heard.failures, "error")
    yield gauge("router_watch_connected", "Watches that are open now.", heard.connected, "kind")
    now = time.monotonic()
    yield gauge(
        "router_watch_lag_seconds",
        "Since when nothing was heard of a kind: a watch hears a bookmark within a minute even where nothing happens.",
        {kind: now - last for kind, last in heard.last.copy().items()},
        "kind",
    )


def _feedback(feedback: Feedback) -> Iterator[Family]:
    """What this replica writes for all; without a cluster there is nothing of it."""
    leads = int(feedback.election.leads)
    yield gauge("router_leader", "Whether this replica writes for all: Events and the record.", leads)
    yield counter(
        "router_claim_record_attempts",
        "Attempts to write the record of claims, by outcome.",
        feedback.keeper.outcomes,
        "outcome",
    )
    events = feedback.events
    yield counter("router_events_written", "Kubernetes Events written, by type.", events.written, "type")
    yield counter("router_events_dropped", "Events that were not written, by why.", events.dropped, "reason")
    yield gauge("router_events_waiting", "Events that are still to be written.", events.waiting)


def _git(git: GitGateway) -> Iterator[Family]:
    labels = ("service", "outcome")
    yield counter("router_ssh_sessions", "Sessions of the git gateway that are over.", git.sessions, *labels)
    yield counter("router_ssh_push_bytes", "Bytes that pushes sent to the git gateway.", git.push_bytes)
    yield counter(
        "router_ssh_denied", "Clients of the git gateway that proved no key of anybody.", git.denied, "reason"
    )


def _routes(snapshot: Snapshot) -> Family:
    by_state = {state.value: snapshot.states.get(state, 0) for state in RouteState}
    return gauge("router_routes", "Apps, by the state of their route.", by_state, "state")
