"""THE composition root: settings → every part, built once → named tasks → drain.

Read it top to bottom to know what this process is made of, in which order it comes up and how it goes down.

What must not enter: any decision about traffic, annotations or certificates.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import logging
import os
import resource
import secrets
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvloop

from proxy.gateway import Gateway
from proxy.log_sink import LineSink
from router import __version__
from router.admin.health import Health
from router.admin.metrics import RouterCollector, registry
from router.admin.server import AdminServer
from router.compile import Compiler, OwnNames, OwnPorts
from router.feedback import Feedback
from router.kubernetes.client import Api
from router.publisher import Publisher
from router.reconcile import Reconciler
from router.settings import LogTo, Settings
from router.sources.batch import Batch
from router.sources.cluster import ClusterSource
from router.sources.manifests import manifests
from router.streams import GIT
from tls.fallback import self_signed
from tls.sni import Front, without_undecodable_names
from tls.store import CertificateStore

__all__ = ["run"]

log = logging.getLogger(__name__)

LOG_FLUSH_SECONDS: Final = 1.0
"""How long the end of the process waits for the reader of the access log."""


def run(settings: Settings) -> None:
    """Serve until a signal ends it, then drain. A second signal ends the process at once, with status 128 + signal.

    Raises OSError (in a group, maybe) when a port or the access log cannot be opened.
    """
    _prepare_the_process()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_unhandled)

    # ── every part, once ──────────────────────────────────────────────────────────────────────────────────────────
    sink = _open_log(settings.access_log)
    store = CertificateStore(self_signed(datetime.now(UTC)))
    gateway = Gateway(loop, tls=Front(store), log=sink.write if sink else None)
    own = OwnNames.of(settings.name, settings.namespace)
    api = None if settings.manifests else await Api.connect(settings.kubeconfig)
    cluster = ClusterSource(api, own, settings.watch_namespaces) if api else None
    own_ports = OwnPorts(settings.git_port, frozenset({settings.http_port, settings.https_port, settings.admin_port}))
    compiler = Compiler(own, trusted_endpoints=cluster is None, ports=own_ports)
    reconciler = Reconciler(compiler, Publisher(store, gateway))
    feedback = Feedback(api, own, settings.identity or _identity(), reconciler.complain) if api else None
    if feedback:
        reconciler.listeners.append(feedback.hear)
    health = Health((lambda: cluster.waits_for) if cluster else None)
    collector = RouterCollector(
        gateway.counters,
        reconciler,
        __version__,
        lost_lines=lambda: sink.lost if sink else 0,
        heard=cluster.heard if cluster else None,
        feedback=feedback,
    )
    ports: dict[str, int | None] = {"http": None, "https": None, "git": None, "admin": None}

    def report_streams() -> list[dict[str, object]]:
        ports["git"] = gateway.stream_port(GIT)  # which comes and goes with the builder
        return gateway.report_streams()

    admin = AdminServer(health, reconciler, registry(collector), gateway.report, ports, report_streams)
    stop = _listen_to_signals(loop, gateway, sink)
    if sink and isinstance(settings.access_log, Path):  # without a file, SIGHUP means that our terminal is gone
        loop.add_signal_handler(signal.SIGHUP, sink.reopen)

    try:
        # ── up: probes first, traffic once there is a table ───────────────────────────────────────────────────────
        ports["admin"] = await admin.listen(settings.bind, settings.admin_port)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(reconciler.listen(_batches(settings, cluster)), name="source"),
                group.create_task(reconciler.run(), name="reconcile"),
            ]
            if feedback:
                tasks.append(group.create_task(feedback.run(), name="feedback"))
            await _first_of(reconciler.published.wait(), stop.wait())
            if not stop.is_set():
                chosen = await gateway.listen(settings.bind, settings.http_port, settings.https_port)
                ports["http"], ports["https"] = chosen.http, chosen.https
                ports["git"] = gateway.stream_port(GIT)
                _tune_garbage_collection()
                health.serve()
                _say_listening(ports)
                await stop.wait()

            # ── down: out of the load balancer's sight, then exchange by exchange ─────────────────────────────────
            health.drain()
            log.info("draining, for at most %g s", settings.drain_grace)
            if feedback:
                await feedback.close()  # somebody else is to lead from now on
            await gateway.drain(settings.drain_grace)
            for task in tasks:
                task.cancel()
    finally:
        await admin.close()
        if api:
            await api.close()
        _close(gateway, sink)


def _identity() -> str:
    """What no other replica is called, where nobody said what this one is."""
    return f"{socket.gethostname()}_{secrets.token_hex(4)}"


def _batches(settings: Settings, cluster: ClusterSource | None) -> AsyncGenerator[Batch, None]:
    """What the source of routes says: a cluster, or a directory."""
    if cluster:
        return cluster.batches()
    assert settings.manifests  # noqa: S101 -- settings have one of the two
    return manifests(settings.manifests)


# ── the parts that are the process itself ─────────────────────────────────────────────────────────────────────────────
def _prepare_the_process() -> None:
    """Limits and hooks that hold for everything in this process."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # every connection is a descriptor, most are two
    _keep_memory_to_ourselves()
    sys.setswitchinterval(0.001)  # seconds; a thread that parses manifests hands the loop its turn back sooner
    sys.unraisablehook = without_undecodable_names(sys.unraisablehook)


PR_SET_DUMPABLE: Final = 4


def _keep_memory_to_ourselves() -> None:
    """No core dumps, and no other process of this user may look into our memory, environment or open files (/proc,
    ptrace): every private key is in there (hardening K-04)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0):
        log.warning("PR_SET_DUMPABLE: %s", os.strerror(ctypes.get_errno()))


def _log_unhandled(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody caught on the loop. Not by asyncio's own handler, which shows the text of the exception."""
    log.error("%s", context["message"], exc_info=context.get("exception"))


def _tune_garbage_collection() -> None:
    """Keep collections out of the latency of requests, once everything that lives long is there.

    What exists now (modules, the first table) lives as long as the process: frozen, no collection walks it again.
    Requests leave no cycles behind, so young collections may come ten times as seldom as by default.
    What survives is connections and changed routes; walking all of them is for every hundredth of the middle ones.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(7_000, 10, 100)


def _open_log(to: Path | LogTo) -> LineSink | None:
    match to:
        case LogTo.NOWHERE:
            return None
        case LogTo.STDOUT:
            return LineSink(sys.stdout.fileno())
        case Path():
            return LineSink(to)


def _say_listening(ports: Mapping[str, int | None]) -> None:
    """The one line on stdout that whoever started us waits for: traffic is served, on these ports."""
    line = {"event": "listening", **ports, "pid": os.getpid(), "version": __version__}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


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
    if sink and not sink.close(LOG_FLUSH_SECONDS):
        log.warning("the access log's reader is not reading: its last lines are lost")


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
