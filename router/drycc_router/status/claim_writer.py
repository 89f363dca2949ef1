"""Writes the record of claims into its ConfigMap, on behalf of the elected replica (contract 7).

What is to be written comes with each snapshot, and what is there comes back through the source like everything else.
In between: read what is there, ask the record whether it follows that, put it in place under the version that was read.
A record that does not follow is not written; the snapshot that has heard the other replica's word brings a better one.

Bounded: one write at a time, none sooner than its size allows (:data:`PACE`), none that an API server would refuse for
its size: claims that do not fit are left out by shares. Where the right to write is missing that is a Problem, once,
and everything goes on without a record.

What must not enter: who holds what and why (``claims.arbiter``), and the form of the text (``claims.record``).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from drycc_router.claims.record import ENTRY, MAX_ENCODED, Record, entries, fitted, stamp
from drycc_router.kubernetes.backoff import Backoff
from drycc_router.kubernetes.client import RawObject
from drycc_router.kubernetes.errors import ApiError, Conflict, Forbidden, NotFound, Refused
from drycc_router.kubernetes.resources import CONFIG_MAPS, Resource
from drycc_router.model.objects import ObjectKey
from drycc_router.model.problems import Problem, Reason
from drycc_router.status.lease import Leader

__all__ = ["LOOK_AGAIN", "PACE", "PAUSE", "Leader", "RecordKeeper", "RecordWriter"]

log = logging.getLogger(__name__)

PAUSE: Final = 1.0
"""Seconds between two writes, at least."""
PACE: Final = 64 * 1024
"""Characters that may be written per second: the record of twenty thousand claims is written every few seconds."""
LOOK_AGAIN: Final = 15.0
"""Seconds after which a record that still is to be written, though it was, is compared with what is there once more."""
NAMED: Final = 10
"""Namespaces that are named in the Problem of a record that is too large."""
REFUSED: Final = 300.0
"""Seconds until it is tried again where the right is missing."""


class RecordWriter(Protocol):
    """What is asked of ``kubernetes.client.Api``."""

    async def get(self, resource: Resource, namespace: str, name: str) -> RawObject:
        """One object."""

    async def create(self, resource: Resource, namespace: str, document: RawObject) -> RawObject:
        """A new object."""

    async def patch(self, resource: Resource, namespace: str, name: str, document: RawObject) -> RawObject:
        """Merge into an object."""


class RecordKeeper:
    """One per process. ``complain`` takes everything that is wrong with writing now."""

    def __init__(
        self,
        writer: RecordWriter,
        key: ObjectKey,
        leader: Leader,
        complain: Callable[[tuple[Problem, ...]], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        look_again: float = LOOK_AGAIN,
    ) -> None:
        self._writer = writer
        self._key = key
        self._leader = leader
        self._complain = complain
        self._sleep = sleep
        self._clock = clock
        self._look_again = look_again
        self._backoff = Backoff(chance)
        self._wanted: Record | None = None
        self._done: Record | None = None
        """The last one that nothing more can be done about: it was written, or may not be."""
        self._news = asyncio.Event()
        self.outcomes: Counter[str] = Counter()
        """How often: written, there (it was already), behind (another replica's word comes first), conflict, too_large,
        refused, failed."""

    def __repr__(self) -> str:
        return f"<RecordKeeper of {self._key}>"

    def hear(self, record: Record | None) -> None:
        """Take what a snapshot says is to be written; None: nothing."""
        if record is None:
            self._done = None
        if record is not self._wanted:
            self._wanted = record
            self._news.set()

    def stir(self) -> None:
        """Look whether this replica may write now."""
        self._news.set()

    async def run(self) -> None:
        """Keep the record for ever."""
        while True:
            record = await self._next()
            await self._sleep(await self._keep(record))

    async def _next(self) -> Record:
        """A record that is to be written, by this replica."""
        while True:
            self._news.clear()
            wanted = self._wanted
            if wanted is not None and wanted is not self._done and self._leader.left:
                return wanted
            forgotten = wanted is not None and self._leader.left > 0.0
            try:
                async with asyncio.timeout(self._look_again if forgotten else None):
                    await self._news.wait()
            except TimeoutError:
                self._done = None

    async def _keep(self, record: Record) -> float:
        """Put a record in its place if it belongs there; returns the seconds until the next one may be written."""
        pause = PAUSE
        try:
            # Compressing twenty thousand claims takes a while, and the loop has requests to serve.
            fitting, left_out = await asyncio.to_thread(fitted, record)
            data = await asyncio.to_thread(entries, fitting)
            async with asyncio.timeout(self._leader.left):
                outcome = await self._put(record, data)
        except Conflict:  # somebody wrote in between, maybe into another entry: look again
            self.outcomes["conflict"] += 1
            return PAUSE
        except Forbidden:
            message = "expected it to be there, and the right to get and patch it (see drycc-router rbac)"
            self._complain((Problem(Reason.NOT_PERMITTED, self._key, "", "get, patch", message),))
            outcome, pause = "refused", REFUSED
        except (ApiError, TimeoutError) as error:
            self.outcomes["failed"] += 1
            log.info("%s was not written: %s", self._key, str(error) or type(error).__name__)
            asked = error.retry_after if isinstance(error, Refused) else 0.0
            return self._backoff.failed(self._clock(), asked)
        else:
            self._complain(self._too_large(left_out, is_written=outcome != "too_large"))
            if outcome == "written":
                pause = max(PAUSE, sum(map(len, data.values())) / PACE)
        self.outcomes[outcome] += 1
        self._done = record
        return pause

    def _too_large(self, left_out: Mapping[str, int], *, is_written: bool) -> tuple[Problem, ...]:
        if is_written and not left_out:
            return ()
        message = f"expected claims that fit into {MAX_ENCODED >> 10} KiB; "
        if is_written:
            most = sorted(left_out, key=lambda namespace: (-left_out[namespace], namespace))
            whose = ", ".join(most[:NAMED]) + (f" and {len(most) - NAMED} more" if len(most) > NAMED else "")
            message += f"after a restart, {sum(left_out.values())} claims begin anew, of the namespaces {whose}"
        else:
            message += "what was written before stays"
        return (Problem(Reason.OVER_QUOTA, self._key, f"data[{ENTRY}]", "", message),)

    async def _put(self, record: Record, data: Mapping[str, str]) -> str:
        if len(data[ENTRY]) > MAX_ENCODED:
            return "too_large"
        try:
            raw = await self._writer.get(CONFIG_MAPS, self._key.namespace, self._key.name)
        except NotFound:
            if not record.follows(""):
                return "behind"
            await self._create(data)
            return "written"
        there = raw.get("data")
        text = there.get(ENTRY, "") if isinstance(there, dict) else ""
        if stamp(text) == record.stamp:
            return "there"
        if not record.follows(text):
            return "behind"
        metadata = raw.get("metadata")
        version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
        change: dict[str, Any] = {"metadata": {"resourceVersion": version}, "data": data}
        await self._writer.patch(CONFIG_MAPS, self._key.namespace, self._key.name, change)
        return "written"

    async def _create(self, data: Mapping[str, str]) -> None:
        metadata = {"namespace": self._key.namespace, "name": self._key.name}
        document = {"apiVersion": CONFIG_MAPS.api_version, "kind": CONFIG_MAPS.kind, "metadata": metadata, "data": data}
        await self._writer.create(CONFIG_MAPS, self._key.namespace, document)
