"""Which replica writes: the one that holds the Lease. All serve; only what is written for all has one author.

The holder renews every :data:`RENEW` seconds. It stops believing in itself :data:`DEADLINE` seconds after it *sent* the
last renewal that succeeded, by a clock that goes on while the process is stopped, and no other may take the lease
before it saw no change for :data:`drycc_router.status.lease.SECONDS`, which is longer. So two never write at the same
time, whatever their clocks say and however long one of them slept (hardening R-16). Whoever writes bounds the write by
:attr:`Election.left`.

A replica that ends gives the lease back; one that dies is followed within about twenty seconds.

What must not enter: what is written, and by whom.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, Protocol

from drycc_router.kubernetes.backoff import Backoff, Refusals
from drycc_router.kubernetes.client import RawObject
from drycc_router.kubernetes.errors import ApiError, Conflict, Forbidden, NotFound
from drycc_router.kubernetes.resources import LEASES, Resource
from drycc_router.status.lease import Lease, Observation, claimed, released

__all__ = ["DEADLINE", "RENEW", "Election", "LeaseWriter"]

log = logging.getLogger(__name__)

RENEW: Final = 3.0
"""Seconds between two renewals of the holder."""
DEADLINE: Final = 10.0
"""Seconds without a renewal after which the holder no longer leads."""
LOOK: Final = 5.0
"""Seconds between two looks of those who wait, at most."""
ATTEMPT: Final = 5.0
"""Seconds that one attempt may take."""
RELEASE: Final = 2.0
"""Seconds that the end of the process waits for the lease to be given back."""
REFUSED: Final = 60.0
"""Seconds until it is tried again where the right is missing, at most; the first times it is seconds."""


class LeaseWriter(Protocol):
    """What is asked of ``kubernetes.client.Api``."""

    async def get(self, resource: Resource, namespace: str, name: str) -> RawObject:
        """One object."""

    async def create(self, resource: Resource, namespace: str, document: RawObject) -> RawObject:
        """A new object."""

    async def put(self, resource: Resource, namespace: str, name: str, document: RawObject) -> RawObject:
        """Replace an object."""


class Election:
    """One candidate. ``identity`` must be its alone. ``refused`` is told whether the right to the lease is missing,
    ``changed`` that this replica leads now, or no longer does."""

    def __init__(
        self,
        writer: LeaseWriter,
        namespace: str,
        name: str,
        identity: str,
        *,
        refused: Callable[[bool], None] = lambda _: None,
        changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._writer = writer
        self._namespace = namespace
        self._name = name
        self.identity = identity
        self._refused = refused
        self._changed = changed
        self._clock = clock
        self._wall = wall
        self._sleep = sleep
        self._chance = chance
        self._backoff = Backoff(chance)
        self._refusals = Refusals(chance, REFUSED)
        self._seen = Observation()
        self._mine: RawObject | None = None
        """The lease as this replica wrote it last, so that it need not be read before it is renewed."""
        self._until = float("-inf")
        """When this replica stops leading, if it cannot renew before (monotonic seconds)."""
        self._told: bool | None = None
        """Whether the last thing that was told is that this replica leads; None: nothing was told yet."""

    def __repr__(self) -> str:
        return f"<Election of {self.identity}{', which leads' if self.leads else ''}>"

    @property
    def left(self) -> float:
        """Seconds for which this replica leads at least; 0: it does not lead."""
        return max(0.0, self._until - self._clock())

    @property
    def leads(self) -> bool:
        """Whether this replica may write now. Turns false by itself."""
        return self.left > 0.0

    async def run(self) -> None:
        """Stand for ever."""
        while True:
            delay = await self._stand()
            self._tell()
            if self.leads:  # to be told in time when that ends, should renewing fail
                delay = min(delay, self.left)
            await self._sleep(delay)
            self._tell()

    async def release(self) -> None:
        """Stop leading at once, and let another replica have the lease without waiting for it."""
        mine, led = self._mine, self.leads
        self._until = float("-inf")
        self._mine = None
        if self._told is not None:  # whoever ends before the first attempt has nothing to say about leading
            self._tell()
        if mine is None or not led:
            return
        try:
            async with asyncio.timeout(RELEASE):
                try:
                    await self._put(released(mine, self._now()))
                except Conflict:
                    # A renewal that the end of this process broke off may have had its effect all the same.
                    there = await self._read()
                    if Lease.read(there).holder == self.identity:
                        await self._put(released(there, self._now()))
        except (ApiError, TimeoutError) as error:
            log.info("the lease could not be given back, and ends by itself: %s", error)

    # ── one attempt ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _stand(self) -> float:
        """Take or renew the lease if that may be; returns the seconds until the next attempt."""
        began = self._clock()
        try:
            async with asyncio.timeout(ATTEMPT):
                wait = await self._attempt(began)
        except Conflict:  # somebody wrote in between: the next attempt sees who
            self._mine = None
            return self._backoff.failed(self._clock())
        except Forbidden as error:
            self._mine = None
            log.debug("the lease: %s", error)
            now = self._clock()
            delay = self._refusals.refused(now, error.retry_after)
            if self._refusals.is_believed(now):
                self._refused(True)
            return delay
        except (ApiError, TimeoutError) as error:
            # Whether the server took what was sent is not known, so the lease is read before it is written again.
            self._mine = None
            log.debug("the lease: %s", str(error) or type(error).__name__)
            return min(self._backoff.failed(self._clock()), LOOK)
        self._refusals.over()
        self._refused(False)
        return wait

    async def _attempt(self, began: float) -> float:
        raw = self._mine if self._mine is not None and self.leads else await self._read()
        self._seen.see(Lease.read(raw), self._clock())
        wait = self._seen.free_in(self.identity, self._clock())
        if wait > 0.0:
            self._until = float("-inf")
            self._mine = None
            return min(wait, LOOK * (0.8 + self._chance() / 5.0))
        # Time counts from before the request: from then on others may see the lease as renewed.
        self._mine = await self._put(claimed(raw, self.identity, self._now()))
        self._seen.see(Lease.read(self._mine), self._clock())
        self._until = began + DEADLINE
        return RENEW

    async def _read(self) -> RawObject:
        """The lease; where there is none, a new one that nobody holds."""
        try:
            return await self._writer.get(LEASES, self._namespace, self._name)
        except NotFound:
            metadata = {"namespace": self._namespace, "name": self._name}
            document = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata}
            return await self._writer.create(LEASES, self._namespace, document)

    async def _put(self, document: RawObject) -> RawObject:
        return await self._writer.put(LEASES, self._namespace, self._name, document)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall(), UTC)

    def _tell(self) -> None:
        leads, told = self.leads, self._told
        if leads == told:
            return
        self._told = leads
        if leads:
            log.info("this replica leads: it writes Events and the record of claims")
        elif told:
            log.info("this replica no longer leads")
        else:
            log.info("this replica does not lead: another one does, or the lease cannot be had")
        if leads or told:
            self._changed()
