"""The loop that turns Changes into a published snapshot: gather, hold off, compile, publish.

A storm of Changes becomes one compile: after the first of them we wait until it is quiet for a moment, though never
longer than a ceiling. Of many Changes each namespace has a share of a compile, and the rest is the next one's
(``compile.namespace_turns``). Compiling happens in a thread, one at a time, so that no request waits for it; the
compiler is touched nowhere else, before the first table also on the loop, and never in two places at once. Whatever
fails is logged and counted, and what serves stays; the attempt is made again with the next Change, and after a while
without one.

What must not enter: where Changes come from, and what they mean.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime
from typing import Final, Protocol

from drycc_proxy.metrics import Histogram
from drycc_proxy.routing.definitions import TableChange
from drycc_router.compile.compiler import Compiler
from drycc_router.compile.namespace_turns import Turns
from drycc_router.compile.revision import Snapshot
from drycc_router.model.objects import Change, ObjectKey
from drycc_router.model.problems import Problem, Reason
from drycc_router.publish.change_log import ChangeLog
from drycc_router.sources.batch import Batch
from drycc_tls.update import CertificateChange

__all__ = ["Publishes", "Reconciler"]

log = logging.getLogger(__name__)

HOLD_OFF: Final = 0.005
"""Seconds of quiet after which a compile begins."""
CEILING: Final = 0.05
"""Seconds after the first Change when it begins even without quiet."""
REVIEW: Final = 3600.0
"""Seconds without a Change after which we compile all the same: certificates grow old by themselves."""
RETRY: Final = 5.0
"""Seconds after a failed attempt until the next one, if no Change comes first."""
AT_ONCE: Final = 100
"""Changes of the first table that are noted in one turn of the loop: some milliseconds."""
TOLD: Final = 20
"""Problems that are logged of those that one compile brings; ``/problems`` has them all."""


class Publishes(Protocol):
    """Where snapshots go: ``publish.publisher.Publisher``, or ``roles.fanout.FanOut``."""

    @property
    def behind(self) -> bool:
        """Whether something that was handed in has not been published."""

    peers: Callable[[], None]
    """Called when :attr:`one_peer` may have changed."""

    @property
    def one_peer(self) -> str:
        """The one untrusted address that nearly all clients come from while places are few; empty: there is none."""

    refusals: Callable[[], None]
    """Called when :attr:`refused` differs by itself: neither publishing nor finishing is under way."""

    @property
    def refused(self) -> frozenset[str]:
        """ids of certificates that OpenSSL would not take."""

    async def publish(
        self, certificates: CertificateChange, table: TableChange, passed: Callable[[str], None] = ...
    ) -> None:
        """Make both current. One call at a time, on the loop."""

    @property
    def is_unfinished(self) -> bool:
        """Whether something that is published was left undone to be ready sooner."""

    async def finish(self) -> None:
        """Do some of it. Not beside :meth:`publish`."""


class Reconciler:
    """One per process. The attributes are for the operator's port to read; only this class writes them."""

    def __init__(
        self,
        compiler: Compiler,
        publisher: Publishes,
        *,
        detour: Callable[[TableChange], TableChange] = lambda table: table,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``detour`` may lead what is published elsewhere (``git.gateway``)."""
        self._compiler = compiler
        self._publisher = publisher
        publisher.refusals = self._note_refused
        publisher.peers = self._note_peer
        self._detour = detour
        self._clock = clock
        self._waiting: list[Batch] = []
        self._since = 0.0
        """When the first of those that wait was noted, or of those that could not be made current (monotonic)."""
        self._log: ChangeLog | None = None
        self._turns = Turns(compiler.is_exempt)
        """What was taken from there and is not compiled yet. Touched where the compiler is."""
        self._news = asyncio.Event()
        self._is_complete = False
        """Whether the source has told everything there was: before, nothing is published."""
        self.snapshot: Snapshot | None = None
        """The one that is published."""
        self.published = asyncio.Event()
        """Set once a first complete snapshot is."""
        self.succeeded = False
        """Whether the last attempt did."""
        self.applied_at = 0.0
        """When something was published last, Unix time."""
        self.failures = 0
        self.stages: dict[str, Histogram] = {stage: Histogram() for stage in ("compile", "certificates", "publish")}
        """Seconds that each stage took."""
        self.listeners: list[Callable[[Snapshot], None]] = []
        """Told every snapshot once it is current, in order; quick, and never raising."""

    async def listen(self, source: AsyncIterator[Batch]) -> None:
        """Take what the source says, for as long as it says something."""
        async for batch in source:
            self.note(batch)

    @property
    def is_waiting(self) -> bool:
        """Whether the source has not told everything yet."""
        return not self._is_complete

    def note(self, batch: Batch) -> None:
        """Take one batch."""
        if self._since == 0.0:
            self._since = time.monotonic()
        self._waiting.append(batch)
        self._news.set()

    def complain(self, about: str, problems: tuple[Problem, ...]) -> None:
        """Take what a part of this process has to say about itself: all that is wrong under an id now."""
        self.note(Batch(problems={about: problems}, is_part=True))

    async def run(self) -> None:
        """Reconcile for ever."""
        while True:
            await self._finish()
            await self._settled()
            batches, self._waiting = self._waiting, []
            self._is_complete |= any(not batch.is_part for batch in batches)
            if not self.published.is_set():
                await self._note_first(batches)
                batches = []
            if self._is_complete:
                await self._reconcile(batches)

    async def _finish(self) -> None:
        """While there is nothing to do: what was left undone to be ready sooner."""
        refused = self._publisher.refused
        while self._publisher.is_unfinished and not self._news.is_set() and not self._turns:
            await self._publisher.finish()
        if self._publisher.refused != refused:
            self._note_refused()

    async def _settled(self) -> None:
        """Wait for news, then for quiet; or until it is time to look again without any."""
        if self._turns:
            self._news.clear()
            return
        if self.published.is_set() or self.failures:
            if not await self._hear(REVIEW if self.succeeded else RETRY):
                return
        else:
            await self._news.wait()
        ceiling = time.monotonic() + CEILING
        while time.monotonic() < ceiling:
            self._news.clear()
            if not await self._hear(HOLD_OFF):
                return
        self._news.clear()

    async def _hear(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._news.wait()
        except TimeoutError:
            return False

    async def _reconcile(self, batches: list[Batch]) -> None:
        began = time.monotonic()
        since, self._since = self._since or began, 0.0

        def passed(stage: str) -> None:
            nonlocal began
            now = time.monotonic()
            self.stages[stage].observe(now - began)
            began = now

        try:
            snapshot = await asyncio.to_thread(self._compile, batches)
            passed("compile")
            refused = self._publisher.refused
            if snapshot.changed or self._publisher.behind or not self.published.is_set():
                await self._publisher.publish(snapshot.certificates, self._detour(snapshot.table), passed)
                self.applied_at = self._clock()
        except Exception:
            log.exception("a change could not be made current; what was published before stays")
            self.failures += 1
            self.succeeded = False
            self._since = since
            return
        if self._publisher.refused != refused:
            self._note_refused()
        self._tell(snapshot)
        self._note_change(snapshot, since)
        if self._turns:
            self._since = since
        self.snapshot = snapshot
        self.succeeded = True
        self.published.set()
        for listener in self.listeners:
            listener(snapshot)

    def _compile(self, batches: list[Batch]) -> Snapshot:
        """In a thread."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        for batch in batches:
            self._turns.put(batch.changes)
            self._apply_problems(batch)
        self._apply_changes(self._turns.take())
        return self._compiler.compile(now)

    async def _note_first(self, batches: list[Batch]) -> None:
        """Note what was told of the first table, a little in each turn of the loop.

        Not in a thread: it would fight for the interpreter with the loop, which is asking for the rest all the while.
        """
        for batch in batches:
            for start in range(0, len(batch.changes), AT_ONCE):
                changes = batch.changes[start : start + AT_ONCE]
                self._apply_changes(changes, self._compiler.foresee)
                await asyncio.sleep(0)
            self._apply_problems(batch)

    def _apply_changes(self, changes: Iterable[Change], foresee: Callable[[ObjectKey], None] | None = None) -> None:
        for change in changes:
            try:
                self._compiler.apply(change)
                if foresee and change.key.kind == "Secret":
                    foresee(change.key)
            except Exception:  # a bug, about this one object: the others must not wait for its repair
                log.exception("%s was passed over", change.key)

    def _apply_problems(self, batch: Batch) -> None:
        for source, problems in batch.problems.items():
            self._compiler.source_problems(source, problems)

    def _note_peer(self) -> None:
        """Tell the operator where everybody comes from (:attr:`Reason.ONE_PEER`)."""
        address = self._publisher.one_peer
        message = "expected clients' own addresses, or those of load balancers in proxyRealIpCidrs"
        problem = Problem(Reason.ONE_PEER, self._compiler.deployment, "proxyRealIpCidrs", address, message)
        self.complain("peers", (problem,) if address else ())

    def _note_refused(self) -> None:
        self.note(_about_refused(self._publisher.refused))

    def _note_change(self, snapshot: Snapshot, since: float) -> None:
        if self._log is None:
            self._log = ChangeLog(time.monotonic, asyncio.get_running_loop().call_later)
        self._log.note(snapshot, time.monotonic() - since)

    def _tell(self, snapshot: Snapshot) -> None:
        """Say each problem once when it comes and once when it goes (contract 9), but not ten thousand at a time."""
        for problem in snapshot.problems_new[:TOLD]:
            log.log(logging.INFO if problem.is_note else logging.WARNING, "%s", problem)
        for problem in snapshot.problems_gone[:TOLD]:
            log.info("mended: %s", problem)
        untold = max(0, len(snapshot.problems_new) - TOLD) + max(0, len(snapshot.problems_gone) - TOLD)
        if untold:
            log.warning("and %d more that came or went: see /problems", untold)


def _about_refused(idents: Iterable[str]) -> Batch:
    """What only OpenSSL could find out, as Problems of the Secrets (contract 8)."""
    message = "expected a pair that OpenSSL takes, too; what was presented before stays"
    secrets = [ObjectKey("Secret", *ident.split("/", 1)) for ident in sorted(idents)]
    problems = [Problem(Reason.CERTIFICATE_BAD, secret, "tls.crt", "", message) for secret in secrets]
    return Batch(problems={"openssl": tuple(problems)})
