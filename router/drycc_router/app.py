"""THE composition root: settings → every part, built once → named tasks → drain.

Read it top to bottom to know what a control plane is made of, in which order it comes up and how it goes down: alone
with a data plane in one process (:func:`run`), or as the process that tells workers (:func:`control`).

What must not enter: any decision about traffic, annotations or certificates.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import uvloop

from drycc_proxy.kernel.memory import find
from drycc_proxy.kernel.sandbox import ignore_signals_to_all
from drycc_proxy.metrics import Counters
from drycc_proxy.telemetry.log_sink import LineSink
from drycc_router import __version__
from drycc_router.admin.app_series import breathe
from drycc_router.admin.health import Health
from drycc_router.admin.metrics import RouterMetrics, WorkerReport, Workers
from drycc_router.admin.server import AdminServer
from drycc_router.compile.compiler import API_SERVICE, Compiler, OwnNames, OwnPorts
from drycc_router.git.gateway import GitGateway, keep
from drycc_router.git.process import GitProcess
from drycc_router.kubernetes.client import Api
from drycc_router.model.address_policy import Fence
from drycc_router.process import gc_tuning, interfaces, runtime
from drycc_router.process.messages import (
    Drain,
    Draining,
    Estate,
    ForChild,
    Hush,
    Link,
    Listen,
    Lost,
    ReopenLog,
    Serving,
    Wish,
)
from drycc_router.process.restart_policy import CAUSES
from drycc_router.process.runtime import own_identity
from drycc_router.process.supervision import Reins
from drycc_router.publish.publisher import Publisher
from drycc_router.publish.reconcile import Publishes, Reconciler
from drycc_router.roles.certificate_reader import PairReader
from drycc_router.roles.counter_sums import Alone
from drycc_router.roles.fanout import FanOut
from drycc_router.roles.supervisor import ControlStart
from drycc_router.settings import Settings
from drycc_router.sources.batch import Batch
from drycc_router.sources.cluster import ClusterSource
from drycc_router.status.leader import Feedback
from drycc_router.translate.streams import GIT
from drycc_tls.self_signed import self_signed
from drycc_tls.sni import Front
from drycc_tls.store import CertificateStore

if TYPE_CHECKING:
    from drycc_proxy.gateway import Gateway

__all__ = ["control", "run"]

log = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Serve in this process alone until a signal ends it, then drain. A second one ends it at once, with 128 + signal.

    Raises OSError (in a group, maybe) when a port or the access log cannot be opened.
    """
    runtime.prepare()
    runtime.warn_of_few_places()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings))


def control(start: ControlStart) -> None:
    """Be the control process of a supervisor: tell workers what to do until told to end. Raises as :func:`run`."""
    runtime.prepare()
    faulthandler.enable()  # the supervisor's watchdog ends a loop that is stuck with SIGABRT
    ignore_signals_to_all()
    reader = None if start.settings.manifests else _reader()  # before there are threads
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_control(start, reader))


def _reader() -> PairReader | None:
    try:
        return PairReader.fork()
    except OSError as error:  # too many processes, or no memory for another one
        log.warning("certificates are not read ahead: %s", error.strerror)
        return None


class _ControlPlane:
    """What both have: a source, a compiler, the loop between them and a publisher, and the operator's port."""

    @classmethod
    async def build(
        cls,
        settings: Settings,
        publisher: Publishes,
        ports: dict[str, int | None],
        *,
        sums: Callable[[], Counters],
        upstreams: Callable[[], Awaitable[Sequence[object]]],
        streams: Callable[[], Awaitable[Sequence[object]]],
        count: Callable[[], Awaitable[None]] | None = None,
        lost_lines: Callable[[], int] = lambda: 0,
        workers: Callable[[], Workers] | None = None,
        unready_workers: Callable[[], str] = lambda: "",
        git: GitGateway | None = None,
        reader: PairReader | None = None,
    ) -> _ControlPlane:
        """Every part, once. Raises CredentialsError."""
        self = cls()
        own = OwnNames.of(settings.name, settings.namespace)
        self._settings = settings
        self._api = None if settings.manifests else await Api.connect(settings.kubeconfig)
        self._cluster = ClusterSource(self._api, own, settings.watch_namespaces) if self._api else None
        cluster = self._cluster
        taken = frozenset({settings.http_port, settings.https_port, settings.admin_port})
        ports_taken = OwnPorts(settings.git_port, taken)
        fence = await _fence(settings, self._api, taken | {settings.git_port}) if self._api else None
        compiler = Compiler(own, trusted_endpoints=cluster is None, fence=fence, ports=ports_taken, reader=reader)
        self._git = git
        if git:
            self.reconciler = Reconciler(compiler, publisher, detour=git.lead)
        else:
            self.reconciler = Reconciler(compiler, publisher)
        identity = settings.identity or own_identity()
        self._feedback = Feedback(self._api, own, identity, self.reconciler.complain) if self._api else None
        if self._feedback:
            self.reconciler.listeners.append(self._feedback.hear)
        self.health = Health(self._waits_for)
        self._unready_workers = unready_workers
        metrics = self._metrics = RouterMetrics(
            sums,
            self.reconciler,
            __version__,
            lost_lines=lost_lines,
            heard=cluster.heard if cluster else None,
            feedback=self._feedback,
            workers=workers,
            git=git,
            series=settings.metric_series,
        )
        self.admin = AdminServer(self.health, self.reconciler, metrics.page, upstreams, ports, streams, count)
        return self

    _unready_workers: Callable[[], str]
    _api: Api | None
    _cluster: ClusterSource | None
    _settings: Settings
    _feedback: Feedback | None
    _git: GitGateway | None
    _metrics: RouterMetrics
    reconciler: Reconciler
    health: Health
    admin: AdminServer

    def start(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Everything that goes on until it is cancelled."""
        tasks = [
            group.create_task(self.reconciler.listen(self._batches()), name="source"),
            group.create_task(self.reconciler.run(), name="reconcile"),
        ]
        if self._git:
            self._git.listen()
        if self._feedback:
            tasks.append(group.create_task(self._feedback.run(), name="feedback"))
        return tasks

    def _waits_for(self) -> str:
        """What keeps the first table from being served; never empty before it is."""
        if self._cluster and (source := self._cluster.waits_for):
            return source
        if not self._cluster and self.reconciler.is_waiting:
            return "the manifests to be read"
        if not self.reconciler.published.is_set() and self.reconciler.failures:
            return "a table that can be made (see the log)"
        return self._unready_workers() or "the first table to be made and taken"

    async def prepare_metrics(self) -> None:
        """Write what was counted by now, so that whoever reads the metrics waits for less."""
        await self.admin.prepare(self._metrics.prepare)

    async def leave(self) -> None:
        """Not ready any more, and somebody else is to lead from now on."""
        self.health.drain()
        if self._feedback:
            await self._feedback.close()

    def _batches(self) -> AsyncGenerator[Batch, None]:
        """What the source of routes says: a cluster, or a directory."""
        if self._cluster:
            return self._cluster.batches()
        from drycc_router.sources.manifests import manifests  # here, because a router of a cluster reads no files

        assert self._settings.manifests  # noqa: S101 -- settings have one of the two
        return manifests(self._settings.manifests, self._settings.manifests_settle)

    async def close(self) -> None:
        """Stop answering, and leave the cluster."""
        if self._git:
            self._git.close()
        await self.admin.close()
        if self._api:
            await self._api.close()


async def _fence(settings: Settings, api: Api, ports: Iterable[int]) -> Fence:
    """What this process knows when it starts about addresses that no app may have; objects tell of others later."""
    try:
        local = interfaces.addresses()
    except OSError as error:  # a sandbox without netlink: POD_IPS remains
        log.warning("the addresses of network interfaces are not known: %s", error)
        local = []
    watched = settings.watch_namespaces
    fence = Fence.around(
        os.environ,
        interfaces=local,
        api=await api.addresses(),
        ports=(port for port in ports if port),
        sees_api=not watched or API_SERVICE.namespace in watched,
    )
    log.info("no app may have as an endpoint: %s", fence.summary)
    return fence


# ── one process ───────────────────────────────────────────────────────────────────────────────────────────────────────
async def _serve(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(runtime.log_unhandled)

    from drycc_proxy.gateway import Gateway  # here, because control has none

    # ── every part, once ──────────────────────────────────────────────────────────────────────────────────────────
    sink = runtime.open_log(settings.access_log)
    store = CertificateStore(self_signed(datetime.now(UTC)))
    memory = find(settings.memory_limit)
    gateway = Gateway(loop, tls=Front(store), log=sink.write if sink else None, memory=memory)
    pauses = gc_tuning.GcPauses(gateway.counters)
    pauses.start()
    ports: dict[str, int | None] = {"http": None, "https": None, "git": None, "admin": None}

    async def upstreams() -> Sequence[object]:
        report: list[object] = []
        for part in gateway.report_in_parts():
            report += part
            await asyncio.sleep(0)  # a request may pass
        return report

    async def streams() -> Sequence[object]:
        ports["git"] = gateway.stream_port(GIT)  # which comes and goes with the builder
        return gateway.report_streams()

    process = GitProcess.prepare() if settings.git_gateway else None
    publisher = Publisher(store, gateway)
    gateway.tell_of_one_peer(lambda: publisher.note_peer(gateway.one_peer))
    plane = await _ControlPlane.build(
        settings,
        publisher,
        ports,
        sums=Alone(gateway.counters, breathe).sums,
        upstreams=upstreams,
        streams=streams,
        lost_lines=lambda: sink.lost if sink else 0,
        git=_git_gateway(process, sink),
    )
    stop = _listen_to_signals(loop, gateway, sink)
    if sink and isinstance(settings.access_log, Path):  # without a file, SIGHUP means that our terminal is gone
        loop.add_signal_handler(signal.SIGHUP, sink.reopen)

    try:
        # ── up: probes first, traffic once there is a table ───────────────────────────────────────────────────────
        ports["admin"] = await plane.admin.listen(settings.bind, settings.admin_port)
        async with asyncio.TaskGroup() as group:
            tasks = plane.start(group)
            if process and settings.git_gateway:
                tasks.append(group.create_task(keep(process, settings.git_gateway), name="git gateway"))
            await _first_of(plane.reconciler.published.wait(), stop.wait())
            if not stop.is_set():
                chosen = await gateway.listen(settings.bind, settings.http_port, settings.https_port)
                ports["http"], ports["https"] = chosen.http, chosen.https
                ports["git"] = gateway.stream_port(GIT)
                gc_tuning.tune()
                plane.health.serve()
                _say_listening(ports)
                await stop.wait()

            # ── down: out of the load balancer's sight, then exchange by exchange ─────────────────────────────────
            log.info("draining: %g s until nothing is accepted, then %g s", settings.drain_delay, settings.drain_grace)
            await plane.leave()
            if ports["http"] is not None:
                await asyncio.sleep(settings.drain_delay)
            await gateway.drain(settings.drain_grace)
            for task in tasks:
                task.cancel()
    finally:
        await plane.close()
        if process:
            process.close()
        _close(gateway, sink)
        pauses.stop()
        memory.close()


def _git_gateway(process: GitProcess | None, sink: LineSink | None) -> GitGateway | None:
    if process is None:
        return None
    host, port = process.listening.getsockname()
    return GitGateway((host, port), process.near, sink.write if sink else None)


def _say_listening(ports: Mapping[str, int | None]) -> None:
    """The one line on stdout that whoever started us waits for: traffic is served, on these ports. Nobody is kept
    waiting if nobody reads it."""
    line = {"event": "listening", **ports, "pid": os.getpid(), "version": __version__}
    mouth = LineSink(sys.stdout.fileno())
    mouth.write(json.dumps(line).encode() + b"\n")
    mouth.close(0)


def _listen_to_signals(loop: asyncio.AbstractEventLoop, gateway: Gateway, sink: LineSink | None) -> asyncio.Event:
    """SIGTERM and SIGINT: the first sets the event that is returned, a second one ends the process."""
    stop = asyncio.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def hear() -> None:
        # The second one must be heard also when the loop no longer runs but waits for its threads.
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, end)
        stop.set()

    def end(number: int, _: FrameType | None) -> None:
        _close(gateway, sink)
        logging.shutdown()
        os._exit(128 + number)  # at once: not even a thread that reads or builds something is waited for

    for number in numbers:
        loop.add_signal_handler(number, hear)
    return stop


def _close(gateway: Gateway, sink: LineSink | None) -> None:
    """Give up connections, and write what the access log still has to say, if somebody reads it."""
    gateway.close()
    runtime.close_log(sink)


# ── one of several ────────────────────────────────────────────────────────────────────────────────────────────────────
async def _control(start: ControlStart, reader: PairReader | None) -> None:
    asyncio.get_running_loop().set_exception_handler(runtime.log_unhandled)
    # Workers write their requests themselves; control has lines of its own only where it has a gateway to hear.
    sink = runtime.open_log(start.settings.access_log) if start.settings.git_gateway else None
    control = _Control(start, sink)
    workers = control.workers
    plane = await _ControlPlane.build(
        start.settings,
        workers,
        control.ports,
        sums=workers.sums,
        upstreams=workers.upstreams,
        streams=control.streams,
        count=workers.count,
        workers=lambda: _how_workers_are(workers),
        unready_workers=lambda: _who_has_no_table(workers),
        git=_git_gateway(start.git, sink),
        reader=reader,
    )
    try:
        if reader:
            await reader.open()
            plane.reconciler.listeners.append(lambda _: reader.close())
        await control.serve(plane)
    finally:
        if reader:
            reader.close()
        await plane.close()
        workers.close()
        runtime.close_log(sink)
        control.reins.drop()


class _Control:
    """What the supervisor and the workers have of this process."""

    def __init__(self, start: ControlStart, sink: LineSink | None) -> None:
        """Raises BadMessage when the estate of an earlier control process is none."""
        self._start = start
        self._sink = sink
        self._stop = asyncio.Event()
        self._links: set[asyncio.Task[None]] = set()
        self._plane: _ControlPlane
        self.ports = dict(start.ports)
        self.reins = Reins(start.end, self._ordered, self._stop.set)
        self.workers = FanOut(
            start.workers,
            replace=lambda number, pid: self.reins.say(Wish(number, pid)),
            bequeath=self._bequeath,
            listen=lambda wanted: self.reins.say(Listen(wanted)),
        )
        if start.estate is not None:
            self.workers.ledger.inherit(_read(start.estate))

    async def serve(self, plane: _ControlPlane) -> None:
        """Until told to end."""
        self._plane = plane
        self.reins.take()
        # ── up: probes first, traffic once every worker has a table ───────────────────────────────────────────────
        if not self._start.quiet:
            await plane.admin.accept(self._start.admin)
        async with asyncio.TaskGroup() as group:
            tasks = [
                *plane.start(group),
                group.create_task(self.workers.keep_counting(plane.prepare_metrics), name="count"),
            ]
            await _first_of(self.workers.complete.wait(), self._stop.wait())
            if not self._stop.is_set():
                gc_tuning.tune()
                plane.health.serve()
                if self._start.quiet:
                    await plane.admin.accept(self._start.admin)
                self.reins.say(Serving())
                await self._stop.wait()

            # ── down: the workers have gone before ────────────────────────────────────────────────────────────────
            await plane.leave()
            for task in tasks:
                task.cancel()

    async def streams(self) -> Sequence[object]:
        """Every stream route, as all workers have it; and git's port, which comes and goes with the builder."""
        report = await self.workers.streams()
        self.ports["git"] = next((each["port"] for each in report if each["stream"] == GIT), None)
        return report

    def _ordered(self, order: ForChild, descriptors: list[int]) -> None:
        """What the supervisor says."""
        match order:
            case Link(number, pid) if descriptors:
                self._spawn(self.workers.link(number, pid, socket.socket(fileno=descriptors.pop())), "link")
            case Lost(number, pid, why):
                self.workers.lost(number, pid, why)
            case Draining():
                # A drain takes its time, and who is about to end must not keep others from leading meanwhile.
                self._spawn(self._plane.leave(), "leave")
            case Hush():
                self._spawn(self._plane.admin.close(), "hush")
            case ReopenLog() if self._sink:
                self._sink.reopen()
            case Drain():
                self._stop.set()
            case _:
                pass
        for each in descriptors:
            os.close(each)

    def _spawn(self, work: Coroutine[object, object, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._links.add(task)
        task.add_done_callback(self._links.discard)

    def _bequeath(self, estate: bytes) -> None:
        """Have the supervisor keep what the next control process must know."""
        file = os.memfd_create("estate", os.MFD_CLOEXEC)
        with open(file, "wb") as writer:
            writer.write(estate)
            writer.flush()
            self.reins.say(Estate(), file)


def _read(file: int) -> bytes:
    with open(file, "rb") as reader:
        reader.seek(0)
        return reader.read()


def _who_has_no_table(workers: FanOut) -> str:
    """The workers that keep the first table from being served; empty: there is none to be taken yet, or all have it."""
    late = [str(lane.number) for lane in workers.lanes if not lane.acknowledged]
    return f"the first table to be made, and taken by worker {', '.join(late)}" if late else ""


def _how_workers_are(workers: FanOut) -> Workers:
    reports = [
        WorkerReport(
            lane.number,
            lane.acknowledged,
            lane.landlock,
            lane.tickets,
            lane.process.get("cpu_seconds", 0.0),
            lane.process.get("resident_bytes", 0.0),
            lane.process.get("open_fds", 0.0),
            lane.process.get("max_fds", 0.0),
        )
        for lane in workers.lanes
    ]
    # Each possible death is 0 from the start: Prometheus sees no increase in a counter that begins with 1.
    none = {(number, cause): 0 for number in range(workers.expected) for cause in CAUSES}
    return Workers(reports, none | workers.deaths)


async def _first_of(*waits: Coroutine[object, object, object]) -> None:
    """Return when the first of them does, and give up the others. Raises what the first one raises."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
