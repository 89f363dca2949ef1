"""What the elected replica writes for all, the record of claims and Events: one election, and its writers.

Every replica hears every snapshot, so that the one that is elected next knows at once what is to be written; only the
one that leads writes. Nothing here is needed to serve: whatever fails is a Problem or a line in the log, and traffic
does not notice (contract 7, hardening R-16).

What must not enter: what is written and when (``record_keeper``, ``events``), and how a leader is found
(``kubernetes.election``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from drycc_router.compile.revision import Snapshot
from drycc_router.kubernetes.resources import LEASES
from drycc_router.model.objects import ObjectKey
from drycc_router.model.problems import Problem, Reason
from drycc_router.status.claim_writer import RecordKeeper, RecordWriter
from drycc_router.status.election import Election, LeaseWriter
from drycc_router.status.events import Events, EventWriter
from drycc_router.translate.platform import OwnNames

__all__ = ["Feedback", "Writer"]

log = logging.getLogger(__name__)

AGAIN: Final = 5.0
"""Seconds after a fault of ours until a writer begins anew."""


class Writer(LeaseWriter, RecordWriter, EventWriter, Protocol):
    """What is asked of ``kubernetes.client.Api``."""


class Feedback:
    """One per process, where the source is a cluster. ``identity``: this replica's, and nobody else's. ``complain``
    takes an id and everything that is wrong under it now."""

    def __init__(
        self,
        writer: Writer,
        own: OwnNames,
        identity: str,
        complain: Callable[[str, tuple[Problem, ...]], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lease = ObjectKey(LEASES.kind, own.namespace, own.deployment)
        self._complain = complain
        self._complained: dict[str, tuple[Problem, ...]] = {}
        self.election = Election(
            writer, own.namespace, own.deployment, identity, refused=self._refused, changed=self._changed, clock=clock
        )
        self.keeper = RecordKeeper(
            writer, own.record, self.election, lambda problems: self._say("record", problems), clock=clock
        )
        self.events = Events(
            writer, own, identity, self.election, lambda problems: self._say("events", problems), clock=clock
        )
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._heard = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None

    def hear(self, snapshot: Snapshot) -> None:
        """Take what was just made current. Every snapshot, in order."""
        self.keeper.hear(snapshot.record)
        self.events.hear(snapshot)
        self._heard.set()

    async def run(self) -> None:
        """Stand for election and write, until :meth:`close`. Not before there is a table: who knows nothing yet would
        only keep others from leading."""
        await self._heard.wait()
        if self._closing is not None:
            return
        async with asyncio.TaskGroup() as group:
            self._tasks = (
                group.create_task(_for_ever(self.election.run), name="election"),
                group.create_task(_for_ever(self.keeper.run), name="record keeper"),
                group.create_task(_for_ever(self.events.run), name="events"),
            )

    async def close(self) -> None:
        """Stop writing, then let another replica lead at once. Once; whoever asks again waits for the same end."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="give the lease back")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self.election.release()

    def _changed(self) -> None:
        self.keeper.stir()
        self.events.stir()

    def _refused(self, refused: bool) -> None:
        """Without the right to the Lease nobody writes: said as a Problem, once."""
        message = "expected it to be there, and the right to get and update it (see drycc-router rbac)"
        problem = Problem(Reason.NOT_PERMITTED, self._lease, "", "get, update", message)
        self._say("lease", (problem,) if refused else ())

    def _say(self, about: str, problems: tuple[Problem, ...]) -> None:
        if self._complained.get(about, ()) != problems:
            self._complained[about] = problems
            self._complain(f"feedback:{about}", problems)


async def _for_ever(work: Callable[[], Awaitable[None]]) -> None:
    """Begin anew whatever fails: these are writers' faults, and must not end a process that serves."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("writing for all replicas failed; beginning anew")
            await asyncio.sleep(AGAIN)
