"""A worker: one data plane on one loop, with what control sent it and nothing to go and get more with.

It accepts once its first complete table is current. When control dies it serves on with what it has; a new control
process sends everything, and what is the same already is left alone. When the supervisor dies, it drains.

What must not enter: Kubernetes, the compiler, files beyond its own program; and what a request means.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import resource
import socket
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvloop

import drycc_proxy
import drycc_router
import drycc_tls
from drycc_proxy.gateway import Gateway
from drycc_proxy.kernel.memory import Memory, find
from drycc_proxy.kernel.sandbox import confine, forget_environment, ignore_signals_to_all, own_files
from drycc_proxy.routing.definitions import TableChange
from drycc_proxy.telemetry.log_sink import LineSink
from drycc_router.process import gc_tuning, logs, runtime
from drycc_router.process.channel import Channel
from drycc_router.process.messages import (
    Applied,
    Ask,
    Begin,
    CertificatePart,
    Commit,
    Counted,
    Drain,
    Failed,
    ForChild,
    Link,
    OnePeer,
    RefusedLater,
    ReopenLog,
    Serving,
    Stopped,
    StreamPort,
    TablePart,
    Tickets,
    Upstreams,
    WorkerHello,
    decode_for_worker,
    encode,
)
from drycc_router.process.supervision import Reins
from drycc_router.publish.batches import Known, table_parts, whole_of
from drycc_router.publish.publisher import FINISHED_AT_ONCE
from drycc_router.roles.counter_sums import Reporter
from drycc_router.settings import Settings
from drycc_tls import tickets
from drycc_tls.certificate import Certificate
from drycc_tls.sni import Front
from drycc_tls.store import CertificateStore
from drycc_tls.update import CertificateChange

__all__ = ["Start", "Worker", "main"]

log = logging.getLogger(__name__)

LAST_WORDS: Final = 1.0
"""Seconds that the end of a worker waits for control to hear what it has counted."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a worker is born with."""

    settings: Settings
    number: int
    end: socket.socket
    """Its end of the reins."""
    sockets: Mapping[str, socket.socket]
    """``http`` and ``https``, which listen already."""
    fallback: Certificate
    """Presented where there is no certificate; the same at every worker."""
    ticket_key: bytes | None = field(repr=False)
    """None: each worker makes tickets of its own."""


def main(start: Start) -> int:
    """Be a worker, to the end. Returns the exit status."""
    logs.start(start.settings.log_level)
    runtime.prepare()
    faulthandler.enable()  # the watchdog ends a loop that is stuck with SIGABRT: its stack is what there is to know
    ignore_signals_to_all()
    sink = runtime.open_log(start.settings.access_log)
    meter = Meter()
    memory = find(start.settings.memory_limit // (start.settings.workers or 1))  # a stated limit is for all together
    forget_environment()
    landlock = confine(own_files(drycc_router, drycc_proxy, drycc_tls), _where_logs_are_made(start.settings))
    if not landlock:
        log.warning("this kernel has no Landlock: this worker could read what its user may read")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Worker(start, sink, meter, landlock, memory).serve())
    runtime.close_log(sink)
    return 0


def _where_logs_are_made(settings: Settings) -> list[Path]:
    """The directory in which a log file is made anew after it was moved away."""
    return [settings.access_log.resolve().parent] if isinstance(settings.access_log, Path) else []


class Meter:
    """What this process uses, read through a descriptor opened before files became out of reach."""

    def __init__(self) -> None:
        self._memory = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._files = os.open("/proc/self/fd", os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        self._page = resource.getpagesize()

    def read(self) -> dict[str, float]:
        """Processor seconds, resident bytes, open files and how many there may be.

        Since Linux 6.2 the size of ``/proc/self/fd`` is the number of open files. Before it is 0, and nothing is
        reported: to list the directory takes milliseconds when there are thousands, on the loop that serves.
        """
        used = resource.getrusage(resource.RUSAGE_SELF)
        pages = int(os.pread(self._memory, 128, 0).split()[1])
        told = {"cpu_seconds": used.ru_utime + used.ru_stime, "resident_bytes": float(pages * self._page)}
        if files := os.fstat(self._files).st_size:
            told |= {"open_fds": float(files), "max_fds": float(resource.getrlimit(resource.RLIMIT_NOFILE)[0])}
        return told


class _Incoming:
    """A change on its way here."""

    def __init__(self, whole: bool) -> None:
        self.whole = whole
        self.certificates: list[CertificateChange] = []
        self.tables: list[TableChange] = []


class Worker:
    """The process, once it is confined."""

    def __init__(
        self, start: Start, sink: LineSink | None, meter: Meter, landlock: int, memory: Memory | None = None
    ) -> None:
        self._start = start
        self._limits = memory
        self._sink = sink
        self._meter = meter
        self._landlock = landlock
        self._store = CertificateStore(start.fallback)
        self._known = Known()
        self._busy = asyncio.Lock()
        self._accepting = False
        self._ports: dict[int, socket.socket] = {}
        self._unbound: dict[int, str] = {}
        """Why there is no socket for a port, if the supervisor has said so."""
        """For streams; the supervisor binds them."""
        self._incoming = _Incoming(whole=True)
        self._channel: Channel | None = None
        self._reporter: Reporter | None = None
        self._gateway: Gateway
        self._reins: Reins
        self._ending = asyncio.Event()
        self._unlinked = asyncio.Event()
        """The channel to control is closed, and everything that was said there is out."""
        self._grace = start.settings.drain_grace
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Until told to drain, or left alone by the supervisor."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(runtime.log_unhandled)
        self._take_tickets(self._start.ticket_key)
        self._gateway = Gateway(
            loop, tls=Front(self._store), log=self._sink.write if self._sink else None, memory=self._limits
        )
        self._gateway.tell_of_one_peer(self._tell_of_one_peer)
        gc_tuning.GcPauses(self._gateway.counters).start()
        self._reins = Reins(self._start.end, self._ordered, self._orphaned)
        self._reins.take()
        try:
            await self._ending.wait()
            draining = asyncio.ensure_future(self._gateway.drain(self._grace))
            await asyncio.sleep(0)
            for each in (*self._start.sockets.values(), *self._ports.values()):
                each.close()
            self._reins.say(Stopped())
            await draining
            await self._say_last_words()
        finally:
            self._gateway.close()
            self._reins.drop()

    # ── what the supervisor says ──────────────────────────────────────────────────────────────────────────────────
    def _ordered(self, order: ForChild, descriptors: list[int]) -> None:
        match order:
            case Link() if descriptors:
                self._spawn(self._connect(socket.socket(fileno=descriptors.pop())), "connect to control")
            case Drain():
                self._grace = order.grace
                self._ending.set()
            case StreamPort(wanted):
                before = self._ports.pop(wanted, None)
                if before is not None:
                    before.close()
                if descriptors:
                    self._ports[wanted] = socket.socket(fileno=descriptors.pop())
                self._unbound.pop(wanted, None)
                if order.error:
                    self._unbound[wanted] = order.error
                self._gateway.rebind(wanted)
            case ReopenLog() if self._sink:
                self._sink.reopen()
            case Tickets():
                self._take_tickets(order.key)
            case _:
                pass
        for each in descriptors:
            os.close(each)

    def _orphaned(self) -> None:
        if not self._ending.is_set():
            log.warning("the supervisor is gone: draining")
        self._ending.set()

    def _take_tickets(self, key: bytes | None) -> None:
        if key is not None:
            tickets.use(self._store.listening, key)

    def _spawn(self, work: Coroutine[object, object, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ── what control says ─────────────────────────────────────────────────────────────────────────────────────────
    async def _connect(self, end: socket.socket) -> None:
        end.setblocking(False)
        if self._channel is not None:
            self._channel.close()
        channel = Channel(self._heard, self._ended)
        await asyncio.get_running_loop().create_connection(lambda: channel, sock=end)
        self._channel = channel
        self._unlinked.clear()
        self._reporter = Reporter(self._gateway.counters)
        self._say(WorkerHello(self._start.number, os.getpid(), self._landlock, self._start.ticket_key is not None))
        if self._gateway.one_peer:
            self._tell_of_one_peer()

    def _ended(self, error: Exception | None) -> None:
        self._unlinked.set()
        if error is not None:
            log.error("what control sent could not be read", exc_info=error)

    def _say(self, message: WorkerHello | Applied | RefusedLater | OnePeer | Failed | Counted | Upstreams) -> None:
        if self._channel is not None:
            self._channel.send(encode(message))

    def _tell_of_one_peer(self) -> None:
        self._say(OnePeer(self._gateway.one_peer))

    def _heard(self, data: bytes) -> None:
        match decode_for_worker(data):
            case Begin(whole):
                self._incoming = _Incoming(whole)
            case CertificatePart(change):
                self._incoming.certificates.append(change)
            case TablePart(table):
                self._incoming.tables.append(table)
            case Commit(generation):
                self._spawn(self._apply(self._incoming, generation), "apply")
                self._incoming = _Incoming(whole=False)
            case Ask(number, "counters"):
                self._spawn(self._count(number), "count")
            case Ask(number, "streams"):
                self._say(Upstreams(number, self._gateway.report_streams(), last=True))
            case Ask(number, _):
                self._spawn(self._report(number), "report")

    async def _apply(self, change: _Incoming, generation: int) -> None:
        """Certificates first, then routes, part by part; what is current stays where that fails."""
        async with self._busy:
            try:
                await self._apply_certificates(change)
                for part in self._news(change, generation):
                    self._gateway.publish(part)
                    self._known.note_table(part)
                    await asyncio.sleep(0)  # a request may pass
                if not self._accepting:
                    await self._accept()
            except Exception as error:  # whatever it was: control is told, and serving goes on as before
                log.exception("a change could not be made current; what was before stays")
                self._say(Failed(generation, type(error).__name__))
                return
        self._say(Applied(generation, tuple(sorted(self._store.refused))))
        await self._finish()

    async def _finish(self) -> None:
        """Build the TLS contexts that were left for later, a few at a time, so that no change waits for long."""
        refused = self._store.refused
        while self._store.is_unfinished:
            async with self._busy:
                await asyncio.to_thread(self._store.finish, FINISHED_AT_ONCE)
        if self._store.refused != refused:
            self._say(RefusedLater(tuple(sorted(self._store.refused))))

    async def _apply_certificates(self, change: _Incoming) -> None:
        if not change.certificates:
            return
        certificates = whole_of(change.certificates)
        if change.whole:
            certificates = self._known.news_in_certificates(certificates)
        prepared = await asyncio.to_thread(self._store.prepare, certificates)
        self._store.swap(prepared)
        self._known.note_certificates(certificates)

    def _news(self, change: _Incoming, generation: int) -> Iterator[TableChange]:
        if not change.whole:
            yield from change.tables
            return
        gone = self._known.gone_from_table(change.tables, generation)
        for part in change.tables:
            yield self._known.news_in_table(part)
        yield from table_parts(gone)

    async def _accept(self) -> None:
        """Take connections, from now on."""
        if self._ending.is_set():
            return
        gc_tuning.tune()
        sockets = self._start.sockets
        await self._gateway.accept(sockets["http"], sockets["https"], self._port_of_streams)
        self._accepting = True
        self._reins.say(Serving())

    def _port_of_streams(self, port: int) -> socket.socket:
        """A socket that the supervisor has bound. What it says and what control publishes come in any order."""
        bound = self._ports.get(port)
        if bound is None:
            raise BlockingIOError(self._unbound.get(port, f"port {port} is not bound yet"))
        mine = bound.dup()
        mine.setblocking(False)
        return mine

    # ── what control asks ─────────────────────────────────────────────────────────────────────────────────────────
    async def _count(self, number: int) -> None:
        reporter = self._reporter
        if reporter is None:
            return
        for routes in reporter.routes():
            if routes:
                self._say(Counted(number, routes, None, {}, last=False))
            await asyncio.sleep(0)  # a request may pass
        totals = reporter.totals()
        totals.log_dropped += self._sink.lost if self._sink else 0
        self._say(Counted(number, {}, totals, self._meter.read(), last=True))

    async def _report(self, number: int) -> None:
        for part in self._gateway.report_in_parts():
            self._say(Upstreams(number, part, last=False))
            await asyncio.sleep(0)  # a request may pass
        self._say(Upstreams(number, [], last=True))

    async def _say_last_words(self) -> None:
        """What was counted since control asked last."""
        channel = self._channel
        if channel is None:
            return
        try:
            async with asyncio.timeout(LAST_WORDS):
                await self._count(0)
                channel.close()
                await self._unlinked.wait()
        except TimeoutError:
            pass
