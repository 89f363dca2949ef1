"""Secrets, ConfigMaps and the router's own few objects, each followed by its name and never as one of a list.

Why by name: the right to list Secrets is the right to read every one of them, and that is what turned a hole in an
ingress controller into a lost cluster (hardening B-02). So each object is asked for with GET, then watched by its own
name from there on. Where the right to watch is missing, or there are more than :data:`WATCHED` of them, objects are
asked for in turn instead: at most :data:`ASKS` a second for all together, each at most once a second. No watch begins
before :meth:`NamedObjects.watch`: at the start everything else is more urgent, and each watch is a connection.

A watch by name begins without a version, so the server first tells what is there: nothing falls between GET and watch
but a deletion in that instant, which another GET finds when the watch stays silent about an object that should exist.

Of a wish, a chain of names, the objects up to the first that is there are followed. A Secret that is deleted while it
is wished for stays in the picture, unless another name of its chain is there: what serves must not break because
somebody cleaned up too early (hardening C-03). It leaves the picture when nobody wishes for it any more.

A refusal (403) is believed only after :data:`drycc_router.kubernetes.backoff.BELIEVED` seconds of it, for a server
that has just started refuses everything for a moment. Then the object counts as answered, with a Problem, and is asked
for again after seconds at first and in the end after minutes.

What must not enter: what an object means, and any content of one in a log or a Problem.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, Final, Protocol

from drycc_router.kubernetes.backoff import Backoff, Refusals
from drycc_router.kubernetes.client import RawObject, WatchEvent
from drycc_router.kubernetes.errors import ApiError, Forbidden, NotFound, Refused, Unexpected, Unreachable
from drycc_router.kubernetes.resources import CONFIG_MAPS, DAEMON_SETS, DEPLOYMENTS, SECRETS, SERVICES, Resource
from drycc_router.kubernetes.watch import Heard, Reach, Reader
from drycc_router.model.objects import Change, ObjectKey
from drycc_router.model.problems import Problem, Reason
from drycc_router.sources.fair_queue import FairQueue
from drycc_router.sources.fingerprints import Sights, narrow
from drycc_router.translate.references import Wish

__all__ = ["ASKS", "WATCHED", "NamedObjects", "NamedReader"]

log = logging.getLogger(__name__)

WATCHED: Final = 500
"""Objects that are watched by name at most; each costs a connection."""
ASKS: Final = 20.0
"""Objects asked for in turn, per second, all together."""
ROUND: Final = 1.0
"""Seconds between two times that one object is asked for in turn, at least."""
WORKERS: Final = 32
"""Objects that are asked for at the same time."""
WATCH_SECONDS: Final = 300.0
"""How long a watch by name is asked to last. There may be hundreds, so they begin anew more seldom than others; a peer
that vanished is found by TCP (``client``) and by the other watches."""
SILENCE: Final = 0.5
"""Seconds within which a watch that has begun tells of an object that is there."""
RETRY_FORBIDDEN: Final = 600.0
"""Seconds until a watch is tried again where the right to it was missing, at most."""
FIRST_FORBIDDEN: Final = 10.0
"""The same after the first refusal, which may be the word of a server that has just started."""
REFUSED_ASKS: Final = 100.0
"""Objects asked for again, per second, of all that may not be read: there may be thousands where a right is missing."""
REFUSALS: Final = 3
"""Namespaces in which a kind may not be watched from which on the other namespaces are not tried either."""
PATIENCE: Final = 30.0
"""Seconds of failures after which an object counts as answered, so that one that the server cannot hand out does not
keep everything else waiting. Four times as long while it has handed out none of its kind. Never for objects that are
waited for, and never where the failure is our own."""

RESOURCES: Final[Mapping[str, Resource]] = {
    each.kind: each for each in (SECRETS, CONFIG_MAPS, SERVICES, DEPLOYMENTS, DAEMON_SETS)
}


class NamedReader(Reader, Protocol):
    """What is asked of ``kubernetes.client.Api``."""

    async def get(self, resource: Resource, namespace: str, name: str) -> RawObject:
        """One object."""


class NamedObjects:
    """Follows what is wished for. ``tell`` takes a Change; ``complain`` an id and the Problems under it.

    Everything happens in tasks of ``group``; the rest may be called at any time on the loop. ``optional``: kinds that
    the router can do without, so that nobody is told when it may not read them.
    """

    def __init__(
        self,
        reader: NamedReader,
        reach: Reach,
        heard: Heard,
        group: asyncio.TaskGroup,
        *,
        tell: Callable[[Change], None],
        complain: Callable[[str, tuple[Problem, ...]], None],
        optional: frozenset[str] = frozenset(),
        asks: float = ASKS,
    ) -> None:
        self._reader = reader
        self._reach = reach
        self._heard = heard
        self._group = group
        self._tell = tell
        self._complain = complain
        self._optional = optional
        self._pause = 1.0 / asks
        self._loop = asyncio.get_running_loop()
        self._wishes: dict[object, frozenset[Wish]] = {}
        """Whose → what."""
        self._wishers: Counter[Wish] = Counter()
        self._chains: dict[ObjectKey, set[Wish]] = {}
        """Key → the wishes that it stands in."""
        self._states: dict[ObjectKey, _ObjectState] = {}
        self._queue = FairQueue[ObjectKey]()
        self._working = 0
        self._alarm: asyncio.TimerHandle | None = None
        """Goes off when the share of somebody who has to wait is good for one more."""
        self._turns: dict[str, _AskingTurn] = {kind: _AskingTurn() for kind in RESOURCES}
        self._unanswered: set[ObjectKey] = set()
        self._refused: dict[tuple[str, str], set[str]] = {}
        """(kind, namespace) → names that may not be read there."""
        self._handed_out: set[str] = set()
        """Kinds of which the server handed out an object."""
        self._may_watch = False
        self._watching = 0
        self._unwatchable: dict[str, dict[str, float]] = {kind: {} for kind in RESOURCES}
        """Kind → namespace → until when no watch is tried there (monotonic seconds)."""
        self._watch_pauses = {kind: Backoff(random.random, RETRY_FORBIDDEN, FIRST_FORBIDDEN) for kind in RESOURCES}
        self._waiting_out: set[ObjectKey] = set()
        """Objects that may not be read, and are asked for again by and by."""
        self.news = asyncio.Event()
        """Set whenever the server has said of an object what it is, or that it is not there."""
        self.settled = asyncio.Event()
        """Set while everything that is wished for has been asked for, and was answered one way or another."""
        self.settled.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turning = self._start(self._take_turns, "ask in turn")

    def __repr__(self) -> str:
        in_turn = sum(len(turn.keys) for turn in self._turns.values())
        return f"<NamedObjects {len(self._states)}, {self._watching} watched, {in_turn} in turn>"

    @property
    def waits_for(self) -> str:
        """One of the objects that were not answered yet, and why; empty when all were."""
        for key in self._unanswered:
            state = self._states.get(key)
            return f"{key} ({state.trouble})" if state is not None and state.trouble else str(key)
        return ""

    def said(self, key: ObjectKey) -> bool | None:
        """What the server has said of an object: that it is there, that it is not, or (None) neither yet."""
        state = self._states.get(key)
        return state.present if state is not None and state.answered else None

    def trouble(self, key: ObjectKey) -> str:
        """What came instead of an answer the last time; empty if that is not known."""
        state = self._states.get(key)
        return state.trouble if state is not None else ""

    def close(self) -> None:
        """End everything that is under way."""
        if self._alarm is not None:
            self._alarm.cancel()
        for task in tuple(self._tasks):
            task.cancel()

    def watch(self) -> None:
        """From now on objects may be watched; those that are there already begin in turn. Before, nobody is held back
        who asks for much at once; from now on each namespace gets its share."""
        self._may_watch = True
        self._queue.ration()

    # ── what is wished for ────────────────────────────────────────────────────────────────────────────────────────

    def wished(self, whose: object) -> frozenset[Wish]:
        """What somebody wishes for now."""
        return self._wishes.get(whose, frozenset())

    def wish(self, whose: object, wishes: frozenset[Wish]) -> None:
        """Replace what somebody wishes for. Saying the same again asks again for what is not watched."""
        before = self._wishes.pop(whose, frozenset())
        if wishes:
            self._wishes[whose] = wishes
        for wish in sorted(wishes - before):
            self._wishers[wish] += 1
            if self._wishers[wish] == 1:
                for key in wish:
                    self._chains.setdefault(key, set()).add(wish)
                self._extend(wish)
        for wish in before - wishes:
            self._wishers[wish] -= 1
            if not self._wishers[wish]:
                del self._wishers[wish]
                for key in wish:
                    self._chains[key].discard(wish)
                    if not self._chains[key]:
                        del self._chains[key]
                        self._drop(key)
        for wish in wishes & before:
            for key in wish:
                if key in self._turns[key.kind].keys or key in self._waiting_out:
                    self._ask(key)

    def _extend(self, wish: Wish) -> None:
        """Follow the chain up to the first object that is there, or that has not been asked for yet."""
        for key in wish:
            state = self._states.get(key)
            if state is None:
                self._states[key] = _ObjectState(key)
                self._unanswered.add(key)
                self.settled.clear()
                self._ask(key)
                return
            if not state.answered or state.present:
                return

    def _drop(self, key: ObjectKey) -> None:
        """Nobody wishes for it any more."""
        state = self._states.pop(key, None)
        self._turns[key.kind].keys.pop(key, None)
        self._waiting_out.discard(key)
        self._answered(key)
        if state is None:
            return
        if state.task is not None:
            state.task.cancel()
        if state.retained or len(state.sights):
            self._tell(Change(key, None))
        self._permitted(key)
        self._complain(f"gone:{key}", ())
        self._complain(f"failed:{key}", ())

    # ── asking ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _ask(self, key: ObjectKey) -> None:
        """Soon. Once more afterwards if the question is out already: its answer may be older than the reason to ask."""
        state = self._states.get(key)
        if state is None:
            return
        if state.is_asked:
            state.ask_again = True
        else:
            self._queue.put(key, key.namespace)
            self._set_to_work()

    def _set_to_work(self) -> None:
        """One more at work, if there is work; else nobody waits for it."""
        wait = self._queue.wait(self._loop.time())
        if wait is None or self._working >= WORKERS:
            return
        if wait > 0.0:
            if self._alarm is None:
                self._alarm = self._loop.call_later(wait, self._wake)
            return
        self._working += 1
        self._start(self._work, "ask")

    def _wake(self) -> None:
        self._alarm = None
        self._set_to_work()

    async def _work(self) -> None:
        try:
            while (key := self._queue.take(self._loop.time())) is not None:
                state = self._states.get(key)
                if state is not None:
                    await self._ask_about(state)
        finally:
            self._working -= 1
        self._set_to_work()

    async def _ask_about(self, state: _ObjectState) -> None:
        state.is_asked, state.ask_again = True, False
        try:
            await self._ask_for(state)
        except Exception as error:  # a fault of ours, about this one object; it says nothing about the object
            if state.failing_since is None:
                log.exception("%s: asking for it failed; it is asked for again", state.key)
            failure = Unexpected(f"unexpected {type(error).__name__} in the router")
            self._count(failure)
            self._failed(state, failure)
        finally:
            state.is_asked = False
        if state.ask_again and self._states.get(state.key) is state:
            self._ask(state.key)

    async def _ask_for(self, state: _ObjectState) -> None:
        key = state.key
        heard = state.heard
        raw: RawObject | None = None
        try:
            raw = await self._reader.get(RESOURCES[key.kind], key.namespace, key.name)
        except NotFound:
            pass
        except Forbidden as error:
            self._count(error)
            if self._states.get(key) is state:
                self._refuse(state, error)
            return
        except Unreachable as error:
            self._count(error)
            await self._reach.regained(error)
            state.ask_again = True
            return
        except ApiError as error:
            self._count(error)
            self._failed(state, error)
            return
        self._heard.last[key.kind] = self._loop.time()
        if self._states.get(key) is not state:
            return
        self._succeeded(state)
        state.trouble = ""
        state.refusals.over()
        self._waiting_out.discard(key)
        self._permitted(key)
        if state.heard == heard:  # else a watch has told something meanwhile, and will tell the rest
            try:
                self._take(state, None if raw is None else narrow(key.kind)(raw))
            except Exception:  # a fault of ours, about this one object: it has been answered, and is not known
                log.exception("%s was passed over", key)
                state.answered = False
                self._answered(key)
                self._in_turn(key)
                return
        self._answered(key)
        self._go_on(state)

    def _failed(self, state: _ObjectState, error: ApiError) -> None:
        """The server answered, but not about this object. It is asked for again, and nobody waits for that for ever."""
        key, now = state.key, self._loop.time()
        state.trouble = str(error)
        if state.failing_since is None:
            state.failing_since = now
        asked = error.retry_after if isinstance(error, Refused) else 0.0
        self._loop.call_later(state.backoff.failed(now, asked), self._ask, key)
        if isinstance(error, Unexpected):
            return
        if self._states.get(key) is state and now - state.failing_since >= (
            PATIENCE if key.kind in self._handed_out else 4.0 * PATIENCE
        ):
            message = f"expected the API server to hand it out ({error.label}); what it said before stays"
            self._complain(f"failed:{key}", (Problem(Reason.UNANSWERED, key, "", "", message),))
            self._answered(key)

    def _refuse(self, state: _ObjectState, error: Forbidden) -> None:
        """The server says 403. What it said before stays, and a while passes before that is believed."""
        key, now = state.key, self._loop.time()
        state.trouble = str(error)
        self._turns[key.kind].keys.pop(key, None)
        self._waiting_out.add(key)
        delay = state.refusals.refused(now, max(error.retry_after, len(self._waiting_out) / REFUSED_ASKS))
        if state.refusals.is_believed(now):
            self._succeeded(state)
            state.trouble = str(error)
            self._forbidden(key)
            self._answered(key)
        self._loop.call_later(delay, self._ask_again, state)

    def _ask_again(self, state: _ObjectState) -> None:
        """Unless it is heard meanwhile, or nobody wishes for it any more."""
        if self._states.get(state.key) is state and state.key in self._waiting_out:
            self._ask(state.key)

    def _succeeded(self, state: _ObjectState) -> None:
        if state.failing_since is not None:
            state.failing_since, state.trouble = None, ""
            self._complain(f"failed:{state.key}", ())

    # ── watching, and taking turns ────────────────────────────────────────────────────────────────────────────────

    def _go_on(self, state: _ObjectState) -> None:
        """Watch it, if that is possible."""
        if state.task is not None:
            return
        if self._is_watchable(state.key):
            self._turns[state.key.kind].keys.pop(state.key, None)
            self._watching += 1
            state.task = self._start(partial(self._watch, state), f"watch {state.key}")
        else:
            self._in_turn(state.key)

    def _is_watchable(self, key: ObjectKey) -> bool:
        if not self._may_watch or self._watching >= WATCHED:
            return False
        now = self._loop.time()
        refused = self._unwatchable[key.kind]
        if key.namespace in refused and refused[key.namespace] <= now:
            del refused[key.namespace]
        return key.namespace not in refused and sum(until > now for until in refused.values()) < REFUSALS

    def _in_turn(self, key: ObjectKey) -> None:
        if key in self._states:
            self._turns[key.kind].keys.setdefault(key)

    async def _take_turns(self) -> None:
        """Within a kind the one that waited longest first; of kinds one after the other, so that many Secrets do not
        keep the few others waiting."""
        while True:
            for turn in self._turns.values():
                if turn.keys and self._reach.since is None and self._loop.time() >= turn.due:
                    turn.due = self._loop.time() + ROUND / len(turn.keys)
                    key = next(iter(turn.keys))
                    del turn.keys[key]
                    turn.keys[key] = None
                    state = self._states.get(key)
                    if state is not None and state.answered and self._is_watchable(key):
                        self._go_on(state)
                    else:
                        self._ask(key)
                    await asyncio.sleep(self._pause)
            await asyncio.sleep(self._pause)

    async def _watch(self, state: _ObjectState) -> None:
        """One watch to its end; then the object is asked for again, unless it ended because nobody wishes for it."""
        try:
            await self._follow(state)
        except Exception:  # a fault of ours, about this one object
            log.exception("%s: watching it failed; it is asked for again", state.key)
            await asyncio.sleep(state.backoff.failed(self._loop.time()))
        finally:
            self._watching -= 1
            state.task = None
        if self._states.get(state.key) is state:
            self._ask(state.key)

    async def _follow(self, state: _ObjectState) -> None:
        """One watch, and whatever comes of it."""
        key = state.key
        is_open = False
        try:
            stream = self._reader.watch(
                RESOURCES[key.kind],
                key.namespace,
                fields=f"metadata.name={key.name}",
                version=None,
                seconds=WATCH_SECONDS,
            )
            async with aclosing(stream):
                async for events in stream:
                    self._heard.last[key.kind] = self._loop.time()
                    if not is_open:
                        is_open = True
                        self._heard.connected[key.kind] = self._heard.connected.get(key.kind, 0) + 1
                        if state.present:
                            self._loop.call_later(SILENCE, self._doubt, state, state.heard)
                    for event in events:
                        self._heard.events[key.kind, event.type.lower()] += 1
                        self._hear(state, event)
        except (Forbidden, NotFound):  # 404: a server that does not know the kind
            if not any(self._unwatchable.values()):
                log.info("%s: no right to watch it; such objects are asked for in turn", key)
            now = self._loop.time()
            self._unwatchable[key.kind][key.namespace] = now + self._watch_pauses[key.kind].failed(now)
        except Unreachable as error:
            self._count(error)
            await self._reach.regained(error)
        except ApiError as error:
            self._count(error)
            asked = error.retry_after if isinstance(error, Refused) else 0.0
            await asyncio.sleep(state.backoff.failed(self._loop.time(), asked))
        finally:
            if is_open:
                self._heard.connected[key.kind] -= 1

    def _doubt(self, state: _ObjectState, heard: int) -> None:
        """It should be there, and the watch did not tell of it: it went just before."""
        if state.heard == heard and state.task is not None:
            self._ask(state.key)

    def _hear(self, state: _ObjectState, event: WatchEvent) -> None:
        if event.type != "BOOKMARK" and self._states.get(state.key) is state:
            state.heard += 1
            self._take(state, None if event.type == "DELETED" else narrow(state.key.kind)(event.object))

    # ── what came of it ───────────────────────────────────────────────────────────────────────────────────────────

    def _take(self, state: _ObjectState, raw: RawObject | None) -> None:
        """What an object is now."""
        key = state.key
        state.answered = True
        state.present = raw is not None
        self.news.set()
        if raw is not None:
            state.retained = False
            self._handed_out.add(key.kind)
            self._complain(f"gone:{key}", ())
            change = state.sights.seen("MODIFIED", raw)
        else:
            change = state.sights.seen("DELETED", {"metadata": {"namespace": key.namespace, "name": key.name}})
            if change is not None and key.kind == "Secret" and not self._has_heir(key):
                state.retained = True
                change = None
                message = "is gone; what was loaded from it stays in use while it is named"
                self._complain(f"gone:{key}", (Problem(Reason.CERTIFICATE_MISSING, key, "", "", message),))
        if change is not None:
            self._tell(change)
        for wish in tuple(self._chains.get(key, ())):
            self._extend(wish)
            if raw is not None:
                self._release(wish, key)

    def _has_heir(self, key: ObjectKey) -> bool:
        """Whether another object of every chain it stands in is there in its place."""
        return all(
            any(other != key and (state := self._states.get(other)) is not None and state.present for other in wish)
            for wish in self._chains.get(key, ())
        )

    def _release(self, wish: Wish, present: ObjectKey) -> None:
        """Let go of what was kept only because nothing else of its chain was there."""
        for key in wish:
            state = self._states.get(key)
            if key != present and state is not None and state.retained and self._has_heir(key):
                state.retained = False
                self._complain(f"gone:{key}", ())
                self._tell(Change(key, None))

    def _answered(self, key: ObjectKey) -> None:
        self._unanswered.discard(key)
        if not self._unanswered:
            self.settled.set()

    def _forbidden(self, key: ObjectKey) -> None:
        if key.kind not in self._optional:
            self._refused.setdefault((key.kind, key.namespace), set()).add(key.name)
            message = f"expected the right to get {RESOURCES[key.kind]} in this namespace (see drycc-router rbac)"
            problem = Problem(Reason.NOT_PERMITTED, ObjectKey(key.kind, key.namespace, "*"), "", "get", message)
            self._complain(f"rights:{key.kind}:{key.namespace}", (problem,))

    def _permitted(self, key: ObjectKey) -> None:
        names = self._refused.get((key.kind, key.namespace))
        if names is not None:
            names.discard(key.name)
            if not names:
                del self._refused[key.kind, key.namespace]
                self._complain(f"rights:{key.kind}:{key.namespace}", ())

    def _count(self, error: ApiError) -> None:
        self._heard.failures[error.label] += 1

    def _start(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> asyncio.Task[None]:
        task = self._group.create_task(_alone(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _alone(work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
    """A fault of ours in one task must not end the others of its group, and with them the process."""
    try:
        await work()
    except Exception:
        log.exception("%s ended", name)


class _ObjectState:
    """One followed object."""

    __slots__ = (
        "answered",
        "ask_again",
        "backoff",
        "failing_since",
        "heard",
        "is_asked",
        "key",
        "present",
        "refusals",
        "retained",
        "sights",
        "task",
        "trouble",
    )

    def __init__(self, key: ObjectKey) -> None:
        self.key = key
        self.answered = False
        self.present = False
        self.retained = False
        """It is gone, and what was told of it stays."""
        self.is_asked = False
        """A question is out."""
        self.ask_again = False
        self.heard = 0
        """How often a watch has told something about it."""
        self.sights = Sights(key.kind)
        self.backoff = Backoff(random.random)
        self.refusals = Refusals(random.random)
        self.failing_since: float | None = None
        self.trouble = ""
        self.task: asyncio.Task[None] | None = None


class _AskingTurn:
    """The objects of one kind that are asked for in turn, the next one first, and when that is due."""

    __slots__ = ("due", "keys")

    def __init__(self) -> None:
        self.keys: dict[ObjectKey, None] = {}
        self.due = 0.0
