"""Where a snapshot goes when there are workers: to each of them, as the difference to what it has.

A worker is sent one change at a time and acknowledges it; what comes meanwhile is laid into one change that waits. So a
worker that is slow, or stopped, costs at most one table of memory, and holds up nobody else: publishing waits for those
that answer, and for the others only once. A worker that is new, or whose control is, is sent everything there is.

Also where control asks workers how they are: counters and upstreams, added up as if one process had them.

What must not enter: how a snapshot came about, and starting or ending workers (``roles.supervisor``).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import cached_property
from ipaddress import ip_address
from typing import Any, Final

from drycc_proxy.metrics import UNROUTED, Counters, RouteCounters, StreamCounters
from drycc_proxy.routing.definitions import Route, StreamRoute, TableChange
from drycc_router.process.channel import Channel
from drycc_router.process.messages import (
    Applied,
    Ask,
    BadMessage,
    Begin,
    CertificatePart,
    Commit,
    Counted,
    Failed,
    Message,
    OnePeer,
    RefusedLater,
    TablePart,
    Upstreams,
    WorkerHello,
    decode_for_control,
    encode,
)
from drycc_router.publish.batches import Known, certificate_parts, table_parts
from drycc_router.publish.publisher import lay_certificates, lay_table
from drycc_router.roles.counter_sums import CounterSums
from drycc_router.roles.worker_reports import check_loads, check_usage
from drycc_tls.update import CertificateChange

__all__ = ["FanOut", "Lane"]

log = logging.getLogger(__name__)

PATIENCE: Final = 1.0
"""Seconds that publishing waits for a worker to say that a change is current; the next one does not wait for it."""
MAX_ERROR: Final = 100
"""Characters of the name of an error that are logged."""
ASK_SECONDS: Final = 3.0
"""How long a report waits for a worker; one that does not answer is reported as it was."""
COUNTS: Final = frozenset({"idle", "in_flight", "load", "open", "queued"})
"""Figures of a report that are added over workers. Any other number is a setting or a port, and the same at all."""
COUNT_SECONDS: Final = 5.0
"""Between two times that workers are asked what they have counted, if nobody scrapes."""


class Parcel:
    """A change, and what is sent of it. ``whole``: it is everything there is."""

    def __init__(self, certificates: CertificateChange, table: TableChange, *, whole: bool = False) -> None:
        self.certificates = certificates
        self.table = table
        self.whole = whole

    @property
    def generation(self) -> int:
        """What is current where it was applied."""
        return self.table.generation

    def laid_on(self, below: Parcel | None) -> Parcel:
        """One change with the effect of two, ``below`` first."""
        if below is None:
            return self
        return Parcel(lay_certificates(below.certificates, self.certificates), lay_table(below.table, self.table))

    @cached_property
    def frames(self) -> list[bytes]:
        """It in parts, written once for all workers."""
        return [encode(message) for message in self._messages()]

    def _messages(self) -> Iterator[Message]:
        yield Begin(self.whole)
        for pairs in certificate_parts(self.certificates):
            yield CertificatePart(pairs)
        for part in table_parts(self.table):
            yield TablePart(part)
        yield Commit(self.generation)


def _address(text: str) -> str:
    """An IP address that a worker tells of, or nothing. Raises BadMessage."""
    try:
        return str(ip_address(text)) if text else ""
    except ValueError:
        raise BadMessage("an address that is none") from None


class Lane:
    """One worker, as control sees it."""

    def __init__(self, fan: FanOut, number: int, pid: int) -> None:
        self._fan = fan
        self.number = number
        self.pid = pid
        self.channel: Channel
        self.landlock = 0
        self.tickets = False
        self.process: dict[str, float] = {}
        """What it uses, by its last report."""
        self.acknowledged = 0
        """The generation that is current there; 0: none yet."""
        self.late = False
        """It did not acknowledge in time; nobody waits for it until it does."""
        self.refused: frozenset[str] = frozenset()
        self.one_peer = ""
        """See ``gateway.Gateway``."""
        self.sent: int | None = None
        """The generation it was sent and has not acknowledged."""
        self._whole = True
        self._failed = False
        self._waiting: Parcel | None = None
        self.settled = asyncio.Event()
        """Nothing is on its way there."""

    def offer(self, news: Parcel) -> None:
        """Something new; sent at once, or when what is on its way has arrived."""
        if not self._whole:
            self._waiting = news.laid_on(self._waiting)
        self.settled.clear()
        if self.sent is None:
            self._send()

    def begin(self) -> None:
        """Send everything there is, if there is something yet."""
        if self.sent is None:
            self._send()

    def _send(self) -> None:
        parcel = self._fan.everything() if self._whole else self._waiting
        self._waiting = None
        if parcel is None:
            self.settled.set()
            return
        self.settled.clear()
        self._whole = False
        self.sent = parcel.generation
        for frame in parcel.frames:
            self.channel.send(frame)

    def say(self, message: Message) -> None:
        """Send one message."""
        self.channel.send(encode(message))

    def hear(self, data: bytes) -> None:
        """One message of the worker. Raises BadMessage."""
        match decode_for_control(data):
            case WorkerHello(number, pid, landlock, tickets):
                if (number, pid) != (self.number, self.pid):
                    raise BadMessage("somebody else's channel")
                self.landlock, self.tickets = landlock, tickets
            case Applied(generation, refused):
                self._applied(generation, self._fan.served(refused))
            case RefusedLater(refused):
                self.refused = self._fan.served(refused)
                self._fan.refusals()
            case OnePeer(address):
                self.one_peer = _address(address)
                self._fan.peers()
            case Failed(generation, error):
                self._not_applied(generation, error[:MAX_ERROR])
            case Counted() as counted:
                self._fan.counted(self, counted)
            case Upstreams(number, report, last):
                self._fan.answered(self, number, report, last=last)

    def _applied(self, generation: int, refused: frozenset[str]) -> None:
        if generation != self.sent:
            raise BadMessage("an answer to what was not said")
        self.acknowledged = generation
        self.refused = refused
        self._failed = self.late = False
        self.sent = None
        self._send()
        self._fan.acknowledged()

    def _not_applied(self, generation: int, error: str) -> None:
        if generation != self.sent:
            raise BadMessage("an answer to what was not said")
        self.sent = None
        if self._failed:
            log.error("worker %d cannot make the table current (%s): it is replaced", self.number, error)
            self._fan.replace(self)
            return
        log.error("worker %d could not make a change current (%s): it is sent everything", self.number, error)
        self._failed = True
        self._whole = True
        self._send()


class _Question:
    """Something that every worker was asked."""

    def __init__(self, lanes: set[Lane]) -> None:
        self.waits_for = lanes
        self.answered = asyncio.Event()
        self.reports: list[list[dict[str, Any]]] = []
        self.entries: dict[Lane, int] = {}
        """How many entries of reports came from whom."""
        if not lanes:
            self.answered.set()

    def heard(self, lane: Lane) -> None:
        """This one has answered, or never will."""
        self.waits_for.discard(lane)
        if not self.waits_for:
            self.answered.set()


class FanOut:
    """All workers. One home of snapshots, as ``publish.publisher.Publisher`` is: on the loop, one call at a time."""

    def __init__(
        self,
        expected: int,
        replace: Callable[[int, int], None] = lambda number, pid: None,
        bequeath: Callable[[bytes], None] = lambda estate: None,
        listen: Callable[[tuple[int, ...]], None] = lambda ports: None,
    ) -> None:
        """``expected`` workers there should be. ``replace`` ends one that does not do as it is told; ``bequeath`` keeps
        what the next control process must know; ``listen`` has ports opened, and others closed."""
        self.expected = expected
        self._replace = replace
        self._bequeath = bequeath
        self._listen = listen
        self._ports: tuple[int, ...] = ()
        self._lanes: dict[int, Lane] = {}
        self._questions: dict[int, _Question] = {}
        self._asked = 0
        self.refusals: Callable[[], None] = lambda: None
        """Called when a worker has found out late what OpenSSL would not take."""
        self.peers: Callable[[], None] = lambda: None
        """Called when :attr:`one_peer` may have changed."""
        self.ledger = CounterSums()
        self._known = Known()
        """Everything there is."""
        self._generation: int | None = None
        """The one of the last publication; None: there was none yet."""
        self._everything: Parcel | None = None
        """While it is being sent to several."""
        self.complete = asyncio.Event()
        """Every worker has a complete table."""
        self.deaths: dict[tuple[int, str], int] = {}
        """By worker and how it ended."""

    # ── workers come and go ───────────────────────────────────────────────────────────────────────────────────────
    async def link(self, number: int, pid: int, end: socket.socket) -> None:
        """Speak with a worker through its socket, from now on."""
        end.setblocking(False)
        lane = Lane(self, number, pid)
        channel = lane.channel = Channel(lane.hear, lambda error: self._unlinked(lane, error))
        await asyncio.get_running_loop().create_connection(lambda: channel, sock=end)
        self._lanes[number] = lane
        lane.begin()

    def lost(self, number: int, pid: int, why: str) -> None:
        """The supervisor says that a worker has ended. What it said last may still be on its way: see its channel."""
        self.deaths[number, why] = self.deaths.get((number, why), 0) + 1

    def _unlinked(self, lane: Lane, error: Exception | None) -> None:
        # It may end with a question of ours unread, which the system tells as a reset: nothing is wrong with that.
        understood = error is None or isinstance(error, OSError)
        if not understood and self._lanes.get(lane.number) is lane:
            log.error("worker %d said what cannot be understood: it is replaced", lane.number)
            self.replace(lane)
        self._forget(lane)

    def _forget(self, lane: Lane) -> None:
        if self._lanes.get(lane.number) is lane:
            del self._lanes[lane.number]
            self.ledger.gone(lane.pid)
            self._bequeath(self.ledger.estate())
        if lane.one_peer:
            self.peers()
        lane.settled.set()
        for question in self._questions.values():
            question.heard(lane)

    def replace(self, lane: Lane) -> None:
        """Have a worker ended; another one will come."""
        self._replace(lane.number, lane.pid)

    def acknowledged(self) -> None:
        """A worker has made something current."""
        lanes = self._lanes.values()
        if len(lanes) >= self.expected and all(lane.acknowledged for lane in lanes):
            self.complete.set()

    @property
    def lanes(self) -> list[Lane]:
        """Those there are now, by number."""
        return [self._lanes[number] for number in sorted(self._lanes)]

    # ── publishing ────────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def behind(self) -> bool:
        """Whether something has to be handed in again: never, each lane catches up by itself."""
        return False

    @property
    def refused(self) -> frozenset[str]:
        """ids of certificates that OpenSSL would not take at some worker; what they presented before stays there."""
        return frozenset().union(*(lane.refused for lane in self._lanes.values()))

    def served(self, idents: Iterable[str]) -> frozenset[str]:
        """Those ids that are of certificates which workers were sent: each becomes a Problem of an owner's Secret, so a
        worker must not make any up."""
        return self._known.of_certificates(idents)

    @property
    def one_peer(self) -> str:
        """The one untrusted address that nearly all clients of some worker come from while its places are few."""
        return next((lane.one_peer for lane in self.lanes if lane.one_peer), "")

    @property
    def is_unfinished(self) -> bool:
        """Never: workers see to that themselves."""
        return False

    async def finish(self) -> None:
        """Nothing is left undone here."""

    def everything(self) -> Parcel | None:
        """All there is, for one that knows nothing; None: nothing was published yet."""
        if self._generation is None:
            return None
        if self._everything is None:
            everything = self._known.certificates(self._generation), self._known.table(self._generation)
            self._everything = Parcel(*everything, whole=True)
            # Others who want it want it in this turn of the loop, and it is large.
            asyncio.get_running_loop().call_soon(self._forget_everything)
        return self._everything

    def _forget_everything(self) -> None:
        self._everything = None

    async def publish(
        self, certificates: CertificateChange, table: TableChange, passed: Callable[[str], None] = lambda _: None
    ) -> None:
        """Send both to every worker; returns when those that answer have made them current, or after some patience."""
        self._known.note_certificates(certificates)
        self._known.note_table(table)
        self._generation = table.generation
        ports = tuple(sorted({stream.port for stream in self._known.streams.values()}))
        if ports != self._ports:
            self._ports = ports
            self._listen(ports)
        if table.gone_routes:
            self.ledger.routes_gone(table.gone_routes)
        if table.gone_streams:
            self.ledger.streams_gone(table.gone_streams)
        self._everything = None
        news = Parcel(certificates, table)
        for lane in self._lanes.values():
            lane.offer(news)
        passed("certificates")
        waiting = [lane for lane in self._lanes.values() if not lane.late]
        if waiting:
            try:
                async with asyncio.timeout(PATIENCE):
                    for lane in waiting:
                        await lane.settled.wait()
            except TimeoutError:
                for lane in waiting:
                    if not lane.settled.is_set():
                        lane.late = True
                        log.warning("worker %d is slow to make changes current", lane.number)
        passed("publish")

    # ── asking ────────────────────────────────────────────────────────────────────────────────────────────────────
    async def count(self) -> None:
        """Bring :attr:`ledger` up to date."""
        await self._ask("counters")

    async def keep_counting(self, counted: Callable[[], Awaitable[None]]) -> None:
        """Ask now and then, for ever, so that a worker that dies takes little with it that nobody has heard.

        ``counted`` is awaited each time: whoever reads this can do now what would take long when somebody waits for it.
        """
        while True:
            await asyncio.sleep(COUNT_SECONDS)
            await self.count()
            await counted()

    def sums(self) -> Counters:
        """What all workers have counted by their last report. Safe in a thread."""
        return self.ledger.sums()

    async def upstreams(self) -> Sequence[object]:
        """Every upstream, with the loads of all workers added up."""
        return together((await self._ask("upstreams")).reports)

    async def streams(self) -> list[dict[str, Any]]:
        """Every stream route, with what all workers have of it."""
        return together((await self._ask("streams")).reports, by="stream")

    async def _ask(self, what: str) -> _Question:
        self._asked += 1
        number = self._asked
        question = self._questions[number] = _Question({lane for lane in self._lanes.values() if lane.acknowledged})
        for lane in list(question.waits_for):
            lane.say(Ask(number, what))
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await question.answered.wait()
        except TimeoutError:
            pass
        finally:
            del self._questions[number]
        return question

    def counted(self, lane: Lane, counted: Counted) -> None:
        """A slice of what a worker has counted. Raises BadMessage."""
        routes, streams, totals = self._known.routes, self._known.streams, counted.totals
        known = {name: each for name, each in counted.routes.items() if name in routes}
        for name, route in known.items():
            _attribute(route, routes[name])
        if totals is not None:
            totals.routes = {}
            totals.streams = {name: each for name, each in totals.streams.items() if name in streams}
            for name, stream in totals.streams.items():
                _attribute(stream, streams[name])
            totals.unrouted.app, totals.unrouted.namespace, totals.unrouted.service = UNROUTED, "", ""
        self.ledger.heard(lane.pid, known, totals)
        if counted.last:
            check_usage(counted.process)
            lane.process = counted.process
            question = self._questions.get(counted.number)
            if question is not None:
                question.heard(lane)

    def answered(self, lane: Lane, number: int, report: list[dict[str, Any]], *, last: bool) -> None:
        """A part of what a worker says about its upstreams, or all about its streams. Raises BadMessage."""
        question = self._questions.get(number)
        if question is not None and lane in question.waits_for:
            told = check_loads(report, self._known.routes, self._known.streams)
            question.entries[lane] = question.entries.get(lane, 0) + len(told)
            if question.entries[lane] > len(self._known.routes) + len(self._known.streams):
                raise BadMessage("more than there is")
            question.reports.append(told)
            if last:
                question.heard(lane)

    def close(self) -> None:
        """End all channels."""
        for lane in self.lanes:
            lane.channel.close()


def _attribute(counters: RouteCounters | StreamCounters, to: Route | StreamRoute) -> None:
    """Counters are of the app that control knows by this name, whatever the worker calls it."""
    counters.app, counters.namespace, counters.service = to.app, to.namespace, to.service


def together(reports: Sequence[list[dict[str, Any]]], by: str = "route") -> list[dict[str, Any]]:
    """Reports of all workers about the same things as one: what is in COUNTS is added, a flag that one worker has is
    set, everything else is the same everywhere and taken from the first worker that says it."""
    upstreams: dict[str, dict[str, Any]] = {}
    for report in reports:
        for upstream in report:
            name = str(upstream.get(by, ""))
            known = upstreams.get(name)
            upstreams[name] = dict(upstream) if known is None else _merged(known, upstream)
    return [upstreams[name] for name in sorted(upstreams)]


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    merged = dict(one)
    for key, value in other.items():
        mine = one.get(key)
        if isinstance(mine, bool):
            merged[key] = mine or bool(value)
        elif key in COUNTS and isinstance(mine, (int, float)) and isinstance(value, (int, float)):
            merged[key] = mine + value
        elif isinstance(mine, list) and isinstance(value, list):
            merged[key] = _merged_lists(mine, value)
        elif mine is None:
            merged[key] = value
    return merged


def _merged_lists(mine: list[Any], other: list[Any]) -> list[Any]:
    by_address = {each["address"]: each for each in mine if isinstance(each, dict) and "address" in each}
    for each in other:
        if isinstance(each, dict) and "address" in each:
            address = each["address"]
            by_address[address] = _merged(by_address[address], each) if address in by_address else each
    return list(by_address.values()) if by_address else mine
