"""One kind of objects, for ever: a complete list, then what happens, whatever happens to the connection.

Three loops, grouped by their reason to begin again::

    for ever
    └── a list                       the version is gone (410), is not there yet (504), or there is none yet
        └── a watch from a version   the server ended it, or the connection broke

A watch that breaks goes on from the version it had heard of last, bookmarks included, so nothing is missed and nothing
is listed again. While nobody can be reached one of all watches asks for all of them (:class:`Reach`), so that a server
that comes up again is not met by a crowd.

What must not enter: what objects mean, and what a list comes to as a difference (``sources.fingerprints``).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, Protocol

from drycc_router.kubernetes.backoff import Backoff, Refusals
from drycc_router.kubernetes.client import WATCH_SECONDS, Listed, RawObject, WatchEvent
from drycc_router.kubernetes.errors import (
    ApiError,
    BadAnswer,
    Forbidden,
    FutureVersion,
    Gone,
    Refused,
    Unreachable,
    Untrusted,
)
from drycc_router.kubernetes.resources import Resource

__all__ = ["Away", "Back", "Heard", "News", "Reach", "Reader", "Relisted", "Scope", "Seen", "follow"]

log = logging.getLogger(__name__)

LOG_SECONDS: Final = 10.0
"""Between two lines about the same trouble (hardening R-08)."""
MAX_FUTURES: Final = 3
"""Watches in a row from a version that the server does not know yet, after which the scope is listed again: a server
that was restored from a backup never comes to that version."""
MAX_SILENCES: Final = 2
"""Watches in a row that the server ended in order without any word, after which the scope is listed again: we asked for
bookmarks, and a server that was restored from a backup sends none to who is ahead of it, and no events either."""
SILENT_SECONDS: Final = 20.0
"""Seconds from which on a watch without any word counts as one of these."""
DOUBTED_SECONDS: Final = 8.0
"""How long a watch is asked to last after one that was refused when it had begun: its end shows that it was heard,
where nothing happens."""
MAX_BEGINNINGS: Final = 5
"""Times that one list is begun again because its pages expired under it."""
PROBE_CAP: Final = 1.5
"""Seconds between two looks, at most, whether a server that cannot be reached is back. One small question for all
watches together, which costs a server nothing while it is away; so what changed meanwhile is live within two seconds of
its return. A server that answers, however badly, is asked at ``backoff.CAP`` instead (hardening R-08)."""
SHORT: Final = 1.0
"""Seconds below which a watch that brought nothing has failed, however politely it was ended."""


class Reader(Protocol):
    """What is asked of ``kubernetes.client.Api``."""

    async def reach(self) -> None:
        """Raise Unreachable when nobody answers."""

    def pages(
        self, resource: Resource, namespace: str | None, *, labels: str = "", fields: str = ""
    ) -> AsyncGenerator[Listed, None]:
        """A complete list."""

    def watch(
        self,
        resource: Resource,
        namespace: str | None,
        *,
        labels: str = "",
        fields: str = "",
        version: str | None = None,
        seconds: float = WATCH_SECONDS,
    ) -> AsyncGenerator[list[WatchEvent], None]:
        """What happens."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which objects: a kind, in one namespace or (None) in all, by labels or by fields."""

    resource: Resource
    namespace: str | None
    labels: str = ""
    fields: str = ""

    def __str__(self) -> str:
        where = "all namespaces" if self.namespace is None else f"namespace {self.namespace}"
        which = " ".join(part for part in (self.labels, self.fields) if part)
        return f"{self.resource} in {where}{f' ({which})' if which else ''}"


@dataclass(frozen=True, slots=True)
class Relisted:
    """Everything there is, as of ``version``. ``why``: start, or what made the version before it useless."""

    items: tuple[RawObject, ...]
    version: str
    why: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What happened, in order; no bookmarks."""

    events: tuple[WatchEvent, ...]


@dataclass(frozen=True, slots=True)
class Away:
    """Nothing will be heard for a while; what was told stays true as far as anybody knows."""

    error: ApiError


@dataclass(frozen=True, slots=True)
class Back:
    """It is heard again."""


News = Relisted | Seen | Away | Back


@dataclass(slots=True)
class Heard:
    """What is counted about all watches together; plain numbers, read by metrics. Times are monotonic seconds."""

    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(kind, added | modified | deleted | bookmark) → how many."""
    relists: Counter[str] = field(default_factory=Counter)
    """Reason → how many lists after the first."""
    failures: Counter[str] = field(default_factory=Counter)
    """Error → how many."""
    connected: dict[str, int] = field(default_factory=dict)
    """Kind → watches that are open."""
    last: dict[str, float] = field(default_factory=dict)
    """Kind → when one of its watches was heard last."""


class Reach:
    """Whether the server can be reached, as all watches see it. ``since``: monotonic seconds; None: it can be."""

    def __init__(
        self,
        reader: Reader,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._sleep = sleep
        self._backoff = Backoff(chance, PROBE_CAP)
        self._back = asyncio.Event()
        self._asking = False
        self._told = float("-inf")
        self.since: float | None = None
        self.why = ""

    async def regained(self, error: ApiError) -> None:
        """Wait until somebody answers; of all who wait here one asks, whatever goes wrong with that."""
        if self._asking:
            await self._back.wait()
            return
        self._asking = True
        self._back.clear()
        self.since = self._clock()
        try:
            while True:
                self._tell(error)
                await self._sleep(self._backoff.failed(self._clock()))
                try:
                    await self._reader.reach()
                    break
                except ApiError as again:
                    error = again
            if self.why:
                log.info("the API server answers again")
            self.since, self.why = None, ""
        finally:
            self._asking = False
            self._back.set()

    def _tell(self, error: ApiError) -> None:
        now = self._clock()
        self.why = str(error)
        if now - self._told < LOG_SECONDS:
            return
        self._told = now
        if isinstance(error, Untrusted):  # does not heal by itself: somebody has to mend the authority
            log.error("the API server's certificate is not trusted: %s; what is known stays in force", error)
        else:
            log.warning("the API server is away (%s); what is known stays in force", error)


async def follow(
    reader: Reader,
    scope: Scope,
    reach: Reach,
    heard: Heard,
    *,
    judge: Callable[[tuple[RawObject, ...]], float] = lambda _: 0.0,
    narrow: Callable[[RawObject], RawObject] = lambda raw: raw,
    glimpse: Callable[[list[RawObject]], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    chance: Callable[[], float] = random.random,
) -> AsyncGenerator[News, None]:
    """The news about a scope, for ever; the first is what went wrong, or a list.

    ``judge`` looks at each list before it is told: seconds to wait before another one is asked for instead, 0 to take
    it. ``narrow`` makes of an object what is worth keeping. ``glimpse`` is told each page of a list as it comes, before
    it is known whether the list will ever be complete.
    """
    pauses = _RetryPauses(clock, chance)
    trouble = _Trouble(scope, clock)
    why = "start"
    is_doubted = False
    """Whether the last watch was refused after it had begun: then only an event shows that one is heard."""
    while True:  # for ever
        try:
            listed = await _list(reader, scope, narrow, glimpse)
        except Unreachable as error:
            heard.failures[error.label] += 1
            yield Away(error)
            await reach.regained(error)
            continue
        except ApiError as error:
            heard.failures[error.label] += 1
            trouble.tell(error)
            yield Away(error)
            await sleep(pauses.after(error))
            continue
        heard.last[scope.resource.kind] = clock()
        pauses.heard()
        if why != "start":
            heard.relists[why] += 1
        doubt = judge(listed.items)
        if doubt > 0:
            why = "doubt"
            await sleep(doubt)
            continue
        trouble.over()
        yield Relisted(listed.items, listed.version, why)
        version = listed.version
        futures = silences = 0
        while True:  # until the version is gone
            began = clock()
            news = 0
            is_open = is_told = False
            try:
                stream = reader.watch(
                    scope.resource,
                    scope.namespace,
                    labels=scope.labels,
                    fields=scope.fields,
                    version=version,
                    **({"seconds": DOUBTED_SECONDS} if is_doubted else {}),
                )
                async with aclosing(stream):
                    async for events in stream:  # until disconnect
                        if not is_open:
                            is_open = True
                            _open(heard, scope, 1)
                        if events or not is_doubted:
                            heard.last[scope.resource.kind] = clock()
                            if not is_told:
                                is_told, is_doubted, futures = True, False, 0
                                trouble.over()
                                pauses.heard()
                                yield Back()
                        news += len(events)
                        silences = 0 if events else silences
                        version = _version(events) or version
                        told = _told(events, scope, heard, narrow)
                        if told:
                            yield Seen(told)
            except Gone:
                why = "gone"
                break
            except Unreachable as error:
                heard.failures[error.label] += 1
                yield Away(error)
                await reach.regained(error)
            except ApiError as error:
                heard.failures[error.label] += 1
                trouble.tell(error)
                is_doubted = is_open
                futures = futures + 1 if isinstance(error, FutureVersion) else 0
                yield Away(error)
                await sleep(pauses.after(error))
                if futures >= MAX_FUTURES:
                    why = "future"
                    break
            else:
                is_doubted = False
                lasted = clock() - began
                if news == 0 and lasted < SHORT:
                    await sleep(pauses.after(None))
                elif news == 0 and lasted >= SILENT_SECONDS:
                    silences += 1
                    if silences >= MAX_SILENCES:
                        why = "silent"
                        break
            finally:
                if is_open:
                    _open(heard, scope, -1)


async def _list(
    reader: Reader,
    scope: Scope,
    narrow: Callable[[RawObject], RawObject],
    glimpse: Callable[[list[RawObject]], None],
) -> Listed:
    """Every page; from the beginning when they expire under us."""
    for _ in range(MAX_BEGINNINGS):
        items: list[RawObject] = []
        version = ""
        try:
            pages = reader.pages(scope.resource, scope.namespace, labels=scope.labels, fields=scope.fields)
            async with aclosing(pages):
                async for page in pages:
                    kept = [narrow(item) for item in page.items if isinstance(item, dict)]
                    glimpse(kept)
                    items += kept
                    version = page.version
        except Gone:
            continue
        return Listed(tuple(items), version)
    raise BadAnswer("the pages of a list expired again and again")


def _version(events: list[WatchEvent]) -> str | None:
    """The last version that the events speak of."""
    for event in reversed(events):
        metadata = event.object.get("metadata")
        version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
        if isinstance(version, str) and version:
            return version
    return None


def _told(
    events: list[WatchEvent], scope: Scope, heard: Heard, narrow: Callable[[RawObject], RawObject]
) -> tuple[WatchEvent, ...]:
    kind = scope.resource.kind
    told = []
    for event in events:
        heard.events[kind, event.type.lower()] += 1
        if event.type != "BOOKMARK":
            told.append(WatchEvent(event.type, narrow(event.object)))
    return tuple(told)


def _open(heard: Heard, scope: Scope, step: int) -> None:
    kind = scope.resource.kind
    heard.connected[kind] = heard.connected.get(kind, 0) + step


class _RetryPauses:
    """How long to wait after a failure: where a right is missing, in the end minutes."""

    def __init__(self, clock: Callable[[], float], chance: Callable[[], float]) -> None:
        self._clock = clock
        self._backoff = Backoff(chance)
        self._refusals = Refusals(chance)

    def after(self, error: ApiError | None) -> float:
        asked = error.retry_after if isinstance(error, Refused) else 0.0
        if isinstance(error, Forbidden):
            return self._refusals.refused(self._clock(), asked)
        return self._backoff.failed(self._clock(), asked)

    def heard(self) -> None:
        self._refusals.over()


class _Trouble:
    """Says what is wrong with one scope, not more often than every :data:`LOG_SECONDS`, and that it is over."""

    def __init__(self, scope: Scope, clock: Callable[[], float]) -> None:
        self._scope = scope
        self._clock = clock
        self._told = float("-inf")
        self._is_in = False

    def tell(self, error: ApiError) -> None:
        self._is_in = True
        now = self._clock()
        if now - self._told >= LOG_SECONDS:
            self._told = now
            log.warning("%s: %s", self._scope, error)

    def over(self) -> None:
        if self._is_in:
            self._is_in = False
            log.info("%s: heard again", self._scope)
