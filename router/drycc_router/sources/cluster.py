"""An API server as a source: everything the router reads there, complete at first, then as it changes.

Lists and watches (``kubernetes.watch``): Services that carry our label, under its name of today or the
ancestors', and EndpointSlices. By name (``sources.objects_by_name``): the Secrets and ConfigMaps that Services name,
the router's own Deployment or DaemonSet, its Service, platform certificate and record of claims, the builder's
Service, and those that the operator leads ports to.

The first batch waits until every list is complete and everything by name was answered, so that nobody is ever ready
with half a table (hardening R-02). What is forbidden, and stays so for some seconds, counts as answered where it is
only a part: one namespace of a list of them, Secrets; the Problem says which right is missing (R-13), and of which
namespace nobody knows the Services is told with everything else (``claims.unsynced``). The router's own settings are no
part: they may hold the allow-list of everything, so they are waited for until the server says what they are, or that
there are none. Afterwards nothing that goes wrong takes anything back: what was told stays true until an API server
says otherwise.

What must not enter: what an object means.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from drycc_router.claims.unsynced import unheard
from drycc_router.kubernetes.backoff import Backoff, Refusals
from drycc_router.kubernetes.client import RawObject
from drycc_router.kubernetes.errors import ApiError, Forbidden, Unexpected
from drycc_router.kubernetes.resources import ENDPOINT_SLICES, SERVICES
from drycc_router.kubernetes.watch import Away, Back, Heard, Reach, Relisted, Scope, Seen, follow
from drycc_router.model.objects import PREFIXES, Change, ObjectKey
from drycc_router.model.problems import Problem, Reason
from drycc_router.sources.batch import Batch
from drycc_router.sources.fingerprints import HOLD, Sights, narrow
from drycc_router.sources.objects_by_name import NamedObjects, NamedReader
from drycc_router.sources.pending_services import GRACE, Newcomers
from drycc_router.translate.platform import OwnNames
from drycc_router.translate.references import Wish, mapped_services, wishes

__all__ = ["AWAY_SECONDS", "ClusterSource"]

log = logging.getLogger(__name__)

AWAY_SECONDS: Final = 30.0
"""Seconds without an API server after which it is a Problem."""
PEEK: Final = 1.0
"""Seconds between two looks at what the first batch waits for."""
SLICE: Final = 250
"""Objects of a list that are compared in one go: a few milliseconds, so that traffic goes on while a long one comes."""

PART: Final = 250
"""Changes from which on a part of the first batch is told, so that it is read while the rest is still on its way."""

_ROUTABLE: Final = tuple(f"{prefix}routable" for prefix in PREFIXES)
_BY_NAME: Final = 1 << len(_ROUTABLE)
_PORTS: Final = "ports"
"""Who wishes for the Services that the operator's ``tcpPorts`` name."""
_OWNED_BY: Final = "kubernetes.io/service-name"


class ClusterSource:
    """What one API server says. ``namespaces``: which to watch; none: all. ``hold``: see ``sights.HOLD``;
    ``grace``: see ``newcomers.GRACE``."""

    def __init__(
        self,
        reader: NamedReader,
        own: OwnNames,
        namespaces: tuple[str, ...] = (),
        *,
        hold: float = HOLD,
        away: float = AWAY_SECONDS,
        grace: float = GRACE,
    ) -> None:
        self._reader = reader
        self._own = own
        self._namespaces = namespaces
        self._hold = hold
        self._patience = away
        self._grace = grace
        self.heard = Heard()
        self.reach = Reach(reader)
        self._changes: dict[ObjectKey, Change] = {}
        """What was not told yet, of each object only the last: so they are never more than there are objects."""
        self._problems: dict[str, tuple[Problem, ...]] = {}
        self._said: dict[str, tuple[Problem, ...]] = {}
        """Problems as they were told last, those that are there."""
        self._news = asyncio.Event()
        self._unsettled: dict[str, str] = {}
        """Lists that are not complete yet → what was heard of them."""
        self._complete: set[Scope] = set()
        self._unheard: set[str] = set()
        """Namespaces that nobody waits for, though not all of their Services were told."""
        self._refusals: dict[Scope, Refusals] = {}
        """Scopes that may not be listed or watched, and for how long."""
        self._wakers: dict[Scope, asyncio.Event] = {}
        """Set where a scope that waits should be asked for at once."""
        self._named: NamedObjects | None = None
        self._away: dict[Scope, tuple[float, ApiError]] = {}
        """Scopes of which nothing is heard → since when (monotonic seconds), and why."""
        self._seen_by: dict[ObjectKey, int] = {}
        """Services → by whom they are seen, one bit each; one that leaves a list may still be in another."""
        self._newcomers = Newcomers()
        self._has_begun = False
        """Whether the first batch is out: traffic may flow."""
        self._settings: dict[ObjectKey, RawObject] = {}

    # ── the one verb ──────────────────────────────────────────────────────────────────────────────────────────────

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """Everything there is, in parts and then one batch with the rest, then what changes. Never ends by itself."""
        async with asyncio.TaskGroup() as group:
            named = NamedObjects(
                self._reader,
                self.reach,
                self.heard,
                group,
                tell=lambda change: self._tell_named(change, named),
                complain=self._complain,
                optional=frozenset({"DaemonSet"}),
            )
            self._named = named
            tasks = [
                *(group.create_task(self._follow(scope, named), name=f"watch {scope}") for scope in self._scopes()),
                group.create_task(self._mind_absence(), name="mind absence"),
            ]
            named.wish("own", self._own_wishes())
            try:
                while await self._is_incomplete(named):
                    if len(self._changes) >= PART:
                        changes, self._changes = self._changes, {}
                        yield Batch(tuple(changes.values()), is_part=True)
                named.watch()
                yield self._told()  # even if everything was told in parts: only now it is complete
                while True:
                    await self._news.wait()
                    self._news.clear()
                    if batch := self._told():
                        yield batch
            finally:
                named.close()
                for task in tasks:
                    task.cancel()

    def _told(self) -> Batch:
        """Everything that was not told yet."""
        changes, self._changes = self._changes, {}
        problems, self._problems = self._problems, {}
        return Batch(tuple(changes.values()), problems)

    async def _is_incomplete(self, named: NamedObjects) -> bool:
        """Wait for more; whether anything was not heard of once yet."""
        if self._unsettled or not self._may_begin():
            self._news.clear()
            await self._news.wait()
            return True
        if not named.settled.is_set():
            await _either(named.settled, PEEK)
            return True
        if self._unknown_settings(named) is not None:
            named.news.clear()
            await _either(named.news, PEEK)
            return True
        self._has_begun = True
        return False

    def _may_begin(self) -> bool:
        """Whether at least one place may be read: a router that may read nothing must not replace one that could."""
        return {scope.resource for scope in self._complete} >= {SERVICES, ENDPOINT_SLICES}

    @property
    def waits_for(self) -> str:
        """What the first batch waits for, and why; empty once it is told, and never before."""
        if self._has_begun:
            return ""
        if self.reach.since is not None:
            return f"the API server ({self.reach.why})"
        if self._named is None:
            return "the API server (nothing has been asked yet)"
        waiting = next((f"{scope}{f' ({why})' if why else ''}" for scope, why in self._unsettled.items()), "")
        if waiting:
            return waiting
        if not self._may_begin():
            return "the right to list and watch services and endpointslices, in one namespace at least"
        settings = self._unknown_settings(self._named)
        if settings is not None:
            why = self._named.trouble(settings)
            return f"the router's own settings, {settings}{f' ({why})' if why else ''}"
        return self._named.waits_for or "the first batch to be told"

    def _unknown_settings(self, named: NamedObjects) -> ObjectKey | None:
        """The object that may hold the router's settings as long as nobody knows; None: all is known.

        They stand on the first of these that is there, so what follows it need not be known.
        """
        own = self._own
        today, *before = own.candidates("Deployment", own.deployment)
        for key in (today, ObjectKey("DaemonSet", own.namespace, own.deployment), *before):
            is_there = named.said(key)
            if is_there is None:
                return key
            if is_there:
                return None
        return None

    # ── lists and watches ─────────────────────────────────────────────────────────────────────────────────────────

    def _scopes(self) -> list[Scope]:
        places: tuple[str | None, ...] = self._namespaces or (None,)
        # Where the builder and the router's replicas are is said in the router's own namespace, watched or not.
        slices = dict.fromkeys((*places, self._own.namespace) if self._namespaces else places)
        scopes = [
            *(Scope(SERVICES, place, labels=label) for place in places for label in _ROUTABLE),
            *(Scope(ENDPOINT_SLICES, place, labels=_OWNED_BY) for place in slices),
        ]
        self._unsettled = {str(scope): "" for scope in scopes}
        return scopes

    async def _follow(self, scope: Scope, named: NamedObjects) -> None:
        """For ever, whatever goes wrong: what was told stays, and the scope is listed again."""
        sights = Sights(scope.resource.kind, self._hold)
        backoff = Backoff(random.random)
        while True:
            try:
                await self._hear(scope, sights, named)
            except Exception as error:  # a fault of ours: nothing was heard
                log.exception("%s: following failed; trying again", scope)
                failure = Unexpected(f"unexpected {type(error).__name__} in the router")
                self.heard.failures[failure.label] += 1
                self._lose(scope, failure)
                await asyncio.sleep(backoff.failed(time.monotonic()))

    async def _hear(self, scope: Scope, sights: Sights, named: NamedObjects) -> None:
        def glimpse(items: list[RawObject]) -> None:
            if scope not in self._complete:  # what is in the first page must not wait for the last one
                self._tell_all(scope, sights.listed(items), named)

        def judge(items: tuple[RawObject, ...]) -> float:
            if scope not in self._complete:
                return 0.0
            doubt = sights.judge(items)
            self._doubt(scope, len(sights), len(items), doubt)
            if doubt:  # what is in the list is true all the same: only what is missing may be a mistake
                self._tell_all(scope, sights.listed(items), named)
            return doubt

        keep = narrow(scope.resource.kind)
        followed = follow(
            self._reader,
            scope,
            self.reach,
            self.heard,
            judge=judge,
            narrow=keep,
            glimpse=glimpse,
            sleep=lambda seconds: self._pause(scope, seconds),
        )
        async with aclosing(followed) as news:
            async for each in news:
                match each:
                    case Seen(events=events):
                        self._regain(scope)
                        changes = (sights.seen(event.type, event.object) for event in events)
                        self._tell_all(scope, [change for change in changes if change is not None], named)
                    case Relisted(items=items):
                        self._regain(scope)
                        await self._take_list(scope, sights, items, named)
                    case Away(error=error):
                        self._lose(scope, error)
                    case Back():
                        self._regain(scope)
                        self._complain(f"rights:{scope}", ())

    async def _take_list(self, scope: Scope, sights: Sights, items: tuple[RawObject, ...], named: NamedObjects) -> None:
        """What a complete list comes to, told all at once. The pages of the first one were told as they came."""
        changes: list[Change] = []
        if scope in self._complete:
            for start in range(0, len(items), SLICE):
                changes += sights.listed(items[start : start + SLICE])
                await asyncio.sleep(0)
        changes += sights.missed(items)
        self._tell_all(scope, changes, named)
        self._complete.add(scope)
        self._settled(scope)
        if scope.namespace in self._unheard and self._knows_services(scope.namespace):
            self._unheard.remove(scope.namespace)
            self._tell_heard(scope.namespace)

    def _knows_services(self, namespace: str) -> bool:
        return all(Scope(SERVICES, namespace, labels=label) in self._complete for label in _ROUTABLE)

    def _tell_heard(self, namespace: str) -> None:
        """Say that all Services of a namespace were told, once they were: who waits for a slice is not gone."""
        waiting = self._newcomers.of(namespace)
        if waiting:
            asyncio.get_running_loop().call_later(self._grace, self._release_all, namespace, waiting)
        else:
            self._note(unheard(namespace, still=False))

    def _release_all(self, namespace: str, waiting: list[ObjectKey]) -> None:
        """All Services that were waiting when their namespace was heard of at last have waited for long enough."""
        for key in waiting:
            self._release(key)
        self._note(unheard(namespace, still=False))

    def _tell_all(self, scope: Scope, changes: list[Change], named: NamedObjects) -> None:
        for change in changes:
            key = change.key
            if key.kind == "Service":
                is_new = key not in self._seen_by
                if self._is_elsewhere(key, 1 << _ROUTABLE.index(scope.labels), change.object is not None):
                    continue
                before = named.wished(key)
                named.wish(key, frozenset() if change.object is None else wishes(key, change.object, before))
                if self._newcomers.holds(change, is_new=is_new and self._has_begun):
                    if is_new:
                        asyncio.get_running_loop().call_later(self._grace, self._release, key)
                    continue
            elif (newcomer := self._newcomers.hear(change)) is not None:
                self._note(newcomer)
            self._note(change)

    def _release(self, key: ObjectKey) -> None:
        """A Service has waited for a slice for long enough."""
        newcomer = self._newcomers.release(key)
        if newcomer is not None:
            self._note(newcomer)

    def _note(self, change: Change) -> None:
        self._changes.pop(change.key, None)
        self._changes[change.key] = change
        self._news.set()

    def _is_elsewhere(self, key: ObjectKey, seer: int, there: bool) -> bool:
        """Note who sees a Service; whether it is gone for one, and another still sees it."""
        seen_by = self._seen_by.pop(key, 0)
        seen_by = seen_by | seer if there else seen_by & ~seer
        if seen_by:
            self._seen_by[key] = seen_by
        return not there and seen_by != 0

    def _settled(self, scope: Scope) -> None:
        self._unsettled.pop(str(scope), None)
        self._news.set()

    async def _pause(self, scope: Scope, seconds: float) -> None:
        waker = self._wakers[scope] = asyncio.Event()
        try:
            async with asyncio.timeout(seconds):
                await waker.wait()
        except TimeoutError:
            pass  # nothing happened that would be a reason to ask earlier

    def _regain(self, scope: Scope) -> None:
        """A scope is heard. If it was refused before, somebody has granted a right: what else was refused in its
        namespace is asked for now and not after pauses of its own, since a Service without its slices is a 503."""
        self._away.pop(scope, None)
        if self._refusals.pop(scope, None) is not None:
            for other in self._refusals:
                if other.namespace == scope.namespace and other in self._wakers:
                    self._wakers[other].set()

    def _lose(self, scope: Scope, error: ApiError) -> None:
        """Nothing is heard of a scope; what was told stays."""
        now = time.monotonic()
        self._away[scope] = (self._away.get(scope, (now, error))[0], error)
        if str(scope) in self._unsettled:
            self._unsettled[str(scope)] = str(error)
        if not isinstance(error, Forbidden):
            self._refusals.pop(scope, None)
            return
        refusals = self._refusals.setdefault(scope, Refusals(random.random))
        refusals.refused(now)
        if refusals.is_believed(now):
            where = "in every namespace" if scope.namespace is None else "in this namespace"
            message = f"expected the right to list and watch {scope.resource} {where} (see drycc-router rbac)"
            about = ObjectKey(scope.resource.kind, scope.namespace or "", "*")
            problem = Problem(Reason.NOT_PERMITTED, about, "", "list, watch", message)
            self._complain(f"rights:{scope}", (problem,))
            if len(self._namespaces) > 1 or (self._namespaces and scope.namespace not in self._namespaces):
                self._settled(scope)
                if scope.resource is SERVICES and scope not in self._complete and scope.namespace is not None:
                    self._tell_unheard(scope.namespace)

    def _tell_unheard(self, namespace: str) -> None:
        """Say, once, that the Services of a namespace are not known, and that nobody waits for them."""
        if namespace not in self._unheard:
            self._unheard.add(namespace)
            self._note(unheard(namespace))

    def _doubt(self, scope: Scope, known: int, listed: int, doubt: float) -> None:
        if not doubt:
            self._complain(f"shrunk:{scope}", ())
            return
        message = f"expected about {known} objects, as before; asking again before that is believed"
        about = ObjectKey(scope.resource.kind, scope.namespace or "", "*")
        self._complain(f"shrunk:{scope}", (Problem(Reason.SHRUNK_LIST, about, "", str(listed), message),))
        log.error("%s: a list of %d objects where there were %d; not believed yet", scope, listed, known)

    async def _mind_absence(self) -> None:
        """Say that the API server is away once it is for long, and that it is back."""
        while True:
            await asyncio.sleep(min(PEEK, self._patience / 2.0))
            self._complain("away", self._absence(time.monotonic()))

    def _absence(self, now: float) -> tuple[Problem, ...]:
        """One Problem for everything that has not been heard for long, whatever the reason, but for missing rights."""
        long_away = [
            (scope, error)
            for scope, (since, error) in self._away.items()
            if now - since >= self._patience and not isinstance(error, Forbidden)
        ]
        if not long_away:
            return ()
        scope, error = long_away[0]
        others = f" and {len(long_away) - 1} more" if len(long_away) > 1 else ""
        message = f"expected an API server that tells of {scope}{others}; what is known stays in force"
        about = ObjectKey("Deployment", self._own.namespace, self._own.deployment)
        return (Problem(Reason.API_UNREACHABLE, about, "", error.label, message),)

    # ── by name ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _own_wishes(self) -> frozenset[Wish]:
        own = self._own
        keys = {
            *own.candidates("Deployment", own.deployment),
            ObjectKey("DaemonSet", own.namespace, own.deployment),
            *own.candidates("Service", own.builder),
            ObjectKey("Service", own.namespace, own.deployment),
            *own.candidates("Secret", own.platform_certificate),
            ObjectKey("ConfigMap", own.namespace, own.claims),
        }
        return frozenset((key,) for key in keys)

    def _tell_named(self, change: Change, named: NamedObjects) -> None:
        key = change.key
        if key.kind == "Service" and self._is_elsewhere(key, _BY_NAME, change.object is not None):
            return
        if key.kind in ("Deployment", "DaemonSet"):
            change = self._settings_change(change)
            named.wish(_PORTS, mapped_services(change, named.wished(_PORTS)))
        self._note(change)

    def _settings_change(self, change: Change) -> Change:
        """The router's settings stand on its Deployment; where it runs as a DaemonSet, on that (contract 1)."""
        if change.object is None:
            self._settings.pop(change.key, None)
        else:
            self._settings[change.key] = change.object
        deployment = ObjectKey("Deployment", change.key.namespace, change.key.name)
        daemon_set = ObjectKey("DaemonSet", change.key.namespace, change.key.name)
        return Change(deployment, self._settings.get(deployment) or self._settings.get(daemon_set))

    # ── problems ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _complain(self, about: str, problems: tuple[Problem, ...]) -> None:
        """Everything that is wrong under an id now."""
        if self._said.get(about, ()) == problems:
            return
        if problems:
            self._said[about] = problems
        else:
            del self._said[about]
        self._problems[about] = problems
        self._news.set()


async def _either(event: asyncio.Event, seconds: float) -> None:
    """Wait for ``event``, but not longer than ``seconds``."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
