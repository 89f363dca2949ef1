"""Problems as Kubernetes Events on the objects they are about, where owners look (contract 9).

One Event for each object and reason, with a name that follows from both, so that whoever writes, and however often the
router starts, it is the same one that is counted up. Only transitions are told: that a Problem came, that it says
something else now, that it is mended. What changes faster than it may be written is told as it is by then. An Event
that a replica finds written, with the same words, it does not write again.

Rationed twice: for each object and reason, and in all. An Event about an object and a reason of which nothing was
written lately goes first, so it never waits for repetitions, be they of another reason or of another object.
Repetitions, and what stood there when this replica was elected, take turns after that.

The router may create and patch Events, and not read them; a patch that changes nothing is how one is read.

What must not enter: who leads (``kubernetes.election``), what is wrong (``problems``), and any value of a Secret:
Problems have none.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final, Protocol

from drycc_router.compile.revision import Snapshot
from drycc_router.kubernetes.backoff import Backoff
from drycc_router.kubernetes.client import RawObject
from drycc_router.kubernetes.errors import (
    ApiError,
    Conflict,
    Forbidden,
    NotFound,
    Refused,
    ServerFailure,
    TooManyRequests,
)
from drycc_router.kubernetes.resources import (
    CONFIG_MAPS,
    DAEMON_SETS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    EVENTS,
    LEASES,
    SECRETS,
    SERVICES,
    Resource,
)
from drycc_router.model.objects import ObjectKey
from drycc_router.model.problems import Problem, Reason
from drycc_router.model.rations import Ration, Rations
from drycc_router.status.lease import Leader
from drycc_router.translate.platform import OwnNames

__all__ = ["COMPONENT", "MENDED", "EventWriter", "Events", "Leader", "word"]

log = logging.getLogger(__name__)

COMPONENT: Final = "drycc-router"
"""Who says it, in every Event."""
MENDED: Final = "Mended"
"""The reason of the Event which says that there is nothing more to mend."""
OF_EACH: Final = (10, 60.0)
"""Events about one object for one reason: so many at once, then one every so many seconds."""
IN_ALL: Final = (50, 0.2)
"""The same for all together."""
MAX_MESSAGE: Final = 1000
"""Bytes of a message; an API server takes 1,024."""
REFUSED: Final = 600.0
"""Seconds until it is tried again in a namespace where the right is missing."""

_KINDS: Final[Mapping[str, Resource]] = {
    each.kind: each for each in (SERVICES, ENDPOINT_SLICES, SECRETS, CONFIG_MAPS, DEPLOYMENTS, DAEMON_SETS, LEASES)
}
"""The kinds that an Event may be about."""

_Topic = tuple[ObjectKey, Reason]


class EventWriter(Protocol):
    """What is asked of ``kubernetes.client.Api``."""

    async def create(self, resource: Resource, namespace: str, document: RawObject) -> RawObject:
        """A new object."""

    async def patch(self, resource: Resource, namespace: str, name: str, document: RawObject) -> RawObject:
        """Merge into an object."""


@dataclass(slots=True)
class _EventState:
    """What is to be said about one object for one reason, and what was."""

    uid: str = ""
    problems: dict[Problem, None] = field(default_factory=dict)
    """That stand now."""
    exists: bool = True
    """Whether the object is there, as far as anybody knows."""
    count: int = 0
    """How often it was told; 0: never, as far as this replica knows."""
    told: str | None = None
    """The words that stand there; None: not known."""
    stood: bool = False
    """Whether the problems were there already when this replica was elected, so that somebody may have told of them."""


class Events:
    """One per process. ``complain`` takes everything that is wrong with writing now."""

    def __init__(
        self,
        writer: EventWriter,
        own: OwnNames,
        identity: str,
        leader: Leader,
        complain: Callable[[tuple[Problem, ...]], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._writer = writer
        self._router = ObjectKey("Deployment", own.namespace, own.deployment)
        self._router_uid = ""
        self._identity = identity
        self._leader = leader
        self._complain = complain
        self._clock = clock
        self._wall = wall
        self._sleep = sleep
        self._backoff = Backoff(chance)
        self._states: dict[_Topic, _EventState] = {}
        self._leads = False
        self._first: dict[_Topic, None] = {}
        """Topics that changed and of which nothing was written lately, the one that waits longest first."""
        self._repeated: dict[_Topic, None] = {}
        """The other ones that changed."""
        self._standing: dict[_Topic, None] = {}
        """Topics that stood when this replica was elected."""
        self._standing_turn = False
        """Whether it is the turn of a standing topic, and not of a repetition."""
        self._later: list[tuple[float, int, _Topic]] = []
        """Topics that had their ration, by when they have another one: a heap."""
        self._turn = count()
        self._deferred: set[_Topic] = set()
        """The same topics."""
        self._of_each = Rations(*OF_EACH)
        self._in_all = Ration(*IN_ALL)
        self._refused: dict[str, float] = {}
        """Namespace → until when nothing is written there."""
        self._complained = ""
        """The namespace about which something was said."""
        self._awake = asyncio.Event()
        self.written: Counter[str] = Counter()
        """Warning, Normal → how many."""
        self.dropped: Counter[str] = Counter()
        """Why nothing was written: superseded (it changed back before), refused (no right), gone (its namespace),
        failed (the server would not have it)."""

    def __repr__(self) -> str:
        return f"<Events about {len(self._states)} topics, {self.waiting} waiting>"

    @property
    def waiting(self) -> int:
        """Events that are still to be written."""
        return len(self._first) + len(self._repeated) + len(self._standing) + len(self._later)

    # ── what is to be said ────────────────────────────────────────────────────────────────────────────────────────

    def hear(self, snapshot: Snapshot) -> None:
        """Take what came and went with a snapshot. Every snapshot, in order."""
        self._router_uid = snapshot.uids.get(self._router, self._router_uid)
        for problem in snapshot.problems_gone:
            if (topic := self._topic(problem)) is not None and (state := self._states.get(topic)) is not None:
                state.problems.pop(problem, None)
                state.exists = topic[0] != problem.object or problem.object in snapshot.uids
                self._changed(topic)
        for problem in snapshot.problems_new:
            if (topic := self._topic(problem)) is not None:
                state = self._states.setdefault(topic, _EventState())
                uid = self._router_uid if topic[0] == self._router else snapshot.uids.get(problem.object, "")
                if uid != state.uid:  # another object of this name: nothing was ever said about it
                    state.uid, state.count, state.told, state.stood = uid, 0, None, False
                state.problems[problem] = None
                state.exists = True
                self._changed(topic)

    def stir(self) -> None:
        """Look whether this replica leads now, or no longer does."""
        leads = self._leader.left > 0.0
        if leads == self._leads:
            return
        self._leads = leads
        self._first.clear()
        self._repeated.clear()
        self._standing.clear()
        self._later.clear()
        self._deferred.clear()
        self._states = {topic: state for topic, state in self._states.items() if state.problems}
        for state in self._states.values():
            state.count, state.told, state.stood = 0, None, True  # somebody else wrote, or will
        if leads:
            self._standing.update(dict.fromkeys(self._states))
            self._awake.set()

    def _topic(self, problem: Problem) -> _Topic | None:
        """What it is about; what is no single object (or none that can be named) is about the router."""
        if problem.is_note or problem.object.kind == EVENTS.kind:
            return None
        about = problem.object
        if about.kind not in _KINDS or not about.namespace or about.name in ("", "*"):
            about = self._router
        return about, problem.reason

    def _changed(self, topic: _Topic) -> None:
        if self._leads:
            self._standing.pop(topic, None)
            if topic not in self._deferred:
                queue = self._first if self._of_each.is_full(topic, self._clock()) else self._repeated
                queue.setdefault(topic)
            self._awake.set()
        elif not self._states[topic].problems:
            del self._states[topic]

    # ── saying it ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Write for ever, while this replica leads."""
        while True:
            topic = await self._next()
            try:
                async with asyncio.timeout(self._leader.left):
                    said = await self._say(topic)
            except Forbidden as error:
                self._forbidden(topic, error)
            except NotFound:
                self._drop(topic, "gone")
            except (TooManyRequests, ServerFailure) as error:
                await self._again(topic, error, error.retry_after)
            except Refused as error:
                log.warning("an Event about %s was not taken: %s", topic[0], error)
                self._drop(topic, "failed")
            except (ApiError, TimeoutError) as error:
                await self._again(topic, error)
            else:
                if said:
                    self.written[said] += 1
                self._permitted(topic[0].namespace)
                self._forget(topic)

    async def _next(self) -> _Topic:
        """The next topic that may be written about, by this replica, now."""
        while True:
            self._awake.clear()
            now = self._clock()
            while self._later and self._later[0][0] <= now:
                *_, ready = heapq.heappop(self._later)
                self._deferred.discard(ready)
                self._repeated.setdefault(ready)
            topic = self._pick(now) if self._leads and self._leader.left else None
            if topic is not None:
                wait = self._in_all.wait(now)
                if wait <= 0.0:
                    self._in_all.take(now)
                    self._of_each.take(topic, now)
                    if topic not in self._first:
                        self._standing_turn = topic not in self._standing
                    for queue in (self._first, self._repeated, self._standing):
                        queue.pop(topic, None)
                    return topic
                await self._sleep(wait)
                continue
            try:
                async with asyncio.timeout(max(0.0, self._later[0][0] - now) if self._later else None):
                    await self._awake.wait()
            except TimeoutError:
                pass

    def _pick(self, now: float) -> _Topic | None:
        """The first topic that there is something to write about; those that had their ration wait."""
        others = (self._standing, self._repeated) if self._standing_turn else (self._repeated, self._standing)
        for queue in (self._first, *others):
            while queue:
                topic = next(iter(queue))
                state = self._states.get(topic)
                if state is None or not self._is_worth_a_word(state):
                    del queue[topic]
                    self.dropped["superseded"] += state is not None and state.exists
                    self._forget(topic)
                elif self._refused.get(topic[0].namespace, now) > now:
                    del queue[topic]
                    self._defer(topic, self._refused[topic[0].namespace])
                    self.dropped["refused"] += 1
                elif (wait := self._of_each.wait(topic, now)) > 0.0:
                    del queue[topic]
                    self._defer(topic, now + wait)
                else:
                    return topic
        return None

    def _is_worth_a_word(self, state: _EventState) -> bool:
        """Whether what is told differs from what was. That a thing is mended is told to those who heard of it, and of
        what is not there any more nothing."""
        if state.problems:
            return state.told != _message(state.problems)
        return (state.count > 0 or state.stood) and state.exists

    async def _say(self, topic: _Topic) -> str:
        """Bring the Event about a topic up to date; returns its type, or "" if it was."""
        state = self._states[topic]
        if not state.problems:
            if state.stood and not state.count and await self._read(topic, state.uid, "Warning") is None:
                state.stood = False
                return ""
            state.stood = False
            await self._tell(topic, state.uid, "Normal", MENDED, f"{word(topic[1])}: there is nothing more to mend", 0)
            state.count, state.told = 0, None
            return "Normal"
        message = _message(state.problems)
        times = state.count
        if state.stood and state.told is None:
            there = await self._read(topic, state.uid, "Warning")
            if there is not None and there.get("message") == message:
                state.count, state.told = _count(there), message
                return ""
            times = _count(there)
        state.count = await self._tell(topic, state.uid, "Warning", word(topic[1]), message, times)
        state.told = message
        return "Warning"

    async def _tell(self, topic: _Topic, uid: str, type_: str, reason: str, message: str, times: int) -> int:
        """Write an Event that was told ``times`` times before, as far as anybody knows; returns how often it is now."""
        if times:
            try:
                return await self._count_up(topic, uid, type_, message, times)
            except NotFound:
                pass  # its time was over, an hour in most clusters
        try:
            await self._writer.create(EVENTS, topic[0].namespace, self._event(topic, uid, type_, reason, message))
        except Conflict:  # somebody told it before
            return await self._count_up(topic, uid, type_, message, _count(await self._read(topic, uid, type_)))
        return 1

    async def _count_up(self, topic: _Topic, uid: str, type_: str, message: str, times: int) -> int:
        change = {"count": times + 1, "lastTimestamp": self._now(), "message": message}
        await self._writer.patch(EVENTS, topic[0].namespace, _name(topic, uid, type_), change)
        return times + 1

    async def _read(self, topic: _Topic, uid: str, type_: str) -> RawObject | None:
        """What stands there; None: nothing."""
        name = _name(topic, uid, type_)
        try:
            return await self._writer.patch(EVENTS, topic[0].namespace, name, {"metadata": {"name": name}})
        except NotFound:
            return None

    def _event(self, topic: _Topic, uid: str, type_: str, reason: str, message: str) -> dict[str, Any]:
        about, now = topic[0], self._now()
        involved = {
            "apiVersion": _KINDS[about.kind].api_version,
            "kind": about.kind,
            "namespace": about.namespace,
            "name": about.name,
        }
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"namespace": about.namespace, "name": _name(topic, uid, type_)},
            "involvedObject": {**involved, "uid": uid} if uid else involved,  # kubectl describe looks for the uid
            "type": type_,
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._identity,
        }

    def _now(self) -> str:
        return datetime.fromtimestamp(self._wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    # ── what comes of it ──────────────────────────────────────────────────────────────────────────────────────────

    def _defer(self, topic: _Topic, until: float) -> None:
        if topic not in self._deferred:
            self._deferred.add(topic)
            heapq.heappush(self._later, (until, next(self._turn), topic))

    async def _again(self, topic: _Topic, error: Exception, asked: float = 0.0) -> None:
        """The server could not: the same once more, after a while."""
        log.debug("an Event about %s: %s", topic[0], str(error) or type(error).__name__)
        if topic in self._states:
            self._changed(topic)
        await self._sleep(self._backoff.failed(self._clock(), asked))

    def _forbidden(self, topic: _Topic, error: Forbidden) -> None:
        namespace = topic[0].namespace
        if "being terminated" in str(error):  # how a server says that a namespace is on its way out
            self._drop(topic, "gone")
            return
        self.dropped["refused"] += 1
        self._refused[namespace] = self._clock() + REFUSED
        self._defer(topic, self._refused[namespace])
        if not self._complained:
            self._complained = namespace
            message = "expected the right to create and patch events in this namespace (see drycc-router rbac)"
            about = ObjectKey(EVENTS.kind, namespace, "*")
            self._complain((Problem(Reason.NOT_PERMITTED, about, "", "create, patch", message),))

    def _permitted(self, namespace: str) -> None:
        self._refused.pop(namespace, None)
        if self._complained == namespace:
            self._complained = ""
            self._complain(())

    def _drop(self, topic: _Topic, why: str) -> None:
        self.dropped[why] += 1
        self._forget(topic)

    def _forget(self, topic: _Topic) -> None:
        """Keep nothing of a topic about which there is nothing more to say."""
        state = self._states.get(topic)
        waits = topic in self._first or topic in self._repeated or topic in self._deferred
        if state is not None and not state.problems and not waits:
            del self._states[topic]


def word(reason: Reason) -> str:
    """The machine name of a reason as Events spell it: ``bad_value`` is BadValue."""
    return "".join(part.capitalize() for part in reason.value.split("_"))


def _name(topic: _Topic, uid: str, type_: str) -> str:
    """The name of an Event: always the same for an object, a reason and a type."""
    about, reason = topic
    said = "\n".join((about.kind, about.namespace, about.name, uid, reason.value, type_))
    return f"{about.name[:200]}.{hashlib.sha256(said.encode()).hexdigest()[:16]}"


def _message(problems: Mapping[Problem, None]) -> str:
    """All of them in a few sentences, as far as there is room."""
    words = ""
    for told, problem in enumerate(sorted(problems, key=lambda problem: problem.sort_key)):
        where = f"{problem.key} = '{problem.value}'" if problem.value else problem.key
        sentence = f"{where}: {problem.message}" if where else problem.message
        more = f"; and {len(problems) - told} more: see /problems"
        longer = f"{words}; {sentence}" if words else sentence
        if told and len(longer.encode()) + len(more) > MAX_MESSAGE:
            return words + more
        words = longer
    return words.encode()[:MAX_MESSAGE].decode(errors="ignore")


def _count(event: RawObject | None) -> int:
    times = event.get("count") if event is not None else 0
    return times if isinstance(times, int) and 0 <= times < 10**6 else 0
