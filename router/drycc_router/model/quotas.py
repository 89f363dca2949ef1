"""What one namespace, one Service and one list may ask for at most (hardening M-09 and M-11).

Whoever may write objects in one namespace must not be able to fill the router, which serves all of them. The limits are
far above what apps of the platform need, and constants: a knob for each would be one more thing to get wrong. What goes
beyond a limit is refused with a Problem, whoever was there first keeps what they have, and no other namespace notices.
Those of a namespace are for owners: the platform's namespaces, and manifests on disk, are the operator's own.

How many Services a namespace may have is for its ResourceQuota to say: ``count/services``.

What must not enter: what is counted, beyond its name, and Problems.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable
from datetime import UTC, datetime
from heapq import heapify, heappop, heappush
from typing import Final

__all__ = [
    "ANNOTATION_BYTES",
    "CERTIFICATES",
    "CONNECT_TIMEOUT",
    "DOMAINS",
    "ENDPOINTS",
    "JUDGED",
    "LIST_LIMIT",
    "LOCATIONS",
    "PAGE_BYTES",
    "RECORD_OCTETS",
    "SILENCE",
    "SLICES",
    "Allowance",
]

DOMAINS: Final = 500
"""Names a namespace may claim, all its Services together: each costs memory in every worker."""
RECORD_OCTETS: Final = 64 * 1024
"""Octets of a namespace's claims as the record has them, a line for each name of each Service: all claims have to fit
into one ConfigMap. 500 names of one Service, 80 letters each with its name, or fewer names of several Services. It also
bounds how many Services of a namespace may claim the same names, and so what a change of one of them costs."""
CERTIFICATES: Final = 200
"""Secrets a namespace may map to names: each costs a third of a millisecond to read, a TLS context, and a request to
the API server."""
ANNOTATION_BYTES: Final = 64 * 1024
"""Octets of our annotations, keys and values, of one Service; Kubernetes lets all annotations together have 256 KiB."""
LIST_LIMIT: Final = 1000
"""Elements a list may have; a longer one is judged as a whole (M-09: look-ups and reports stay bounded)."""
ENDPOINTS: Final = 1000
"""Endpoints of one app. Kubernetes has cut its own Endpoints objects off there."""
SLICES: Final = 1000
"""EndpointSlices of one Service that are looked at: as many as there may be endpoints."""
JUDGED: Final = 10 * ENDPOINTS
"""Addresses behind a Service's own address: each is judged, as the cluster chooses among them. Kubernetes itself is
made for some thousands in one Service."""
LOCATIONS: Final = 200
"""Paths of one app that other apps answer: every request for a name of it compares itself with them, one by one."""
PAGE_BYTES: Final = 128 * 1024
"""Octets of a maintenance page: it is kept in memory by every worker, to be there when it is needed."""
CONNECT_TIMEOUT: Final = 300.0
"""Seconds; longer than any network takes to say that nobody answers. Each connection being made holds a socket."""
SILENCE: Final = 86_400.0
"""Seconds for which a connection may say nothing. A peer that vanished without a word holds its sockets for so long."""

_LAST: Final = datetime.max.replace(tzinfo=UTC)

Rank = tuple[bool, datetime, str, int]
"""Who comes first: those that are remembered, then the older Service, its name, the order in which it was written."""
Memory = Container[tuple[str, str]]
"""Pairs (thing, app) of old: whoever had a thing before this router started keeps it."""


class Allowance:
    """Which things each namespace gets, of those that its Services want, when it may have so much. One writer.

    ``limit`` is compared with the sum of what the things weigh: by default one each, so with their number. A thing is
    counted once, whoever wants it, and who wants one that the namespace has, has it too. What a namespace has it keeps
    for as long as one of its Services wants it; what becomes free goes to whoever waits and comes first.
    Cost follows the change. ``exempt``: namespaces without a limit.
    """

    __slots__ = ("_exempt", "_fresh", "_given", "_limit", "_moved", "_queues", "_used", "_vacated", "_wanted", "_weigh")

    def __init__(
        self,
        limit: int,
        exempt: Callable[[str], bool] = lambda namespace: False,
        weigh: Callable[[str], int] = lambda thing: 1,
    ) -> None:
        self._limit = limit
        self._exempt = exempt
        self._weigh = weigh
        self._used: Counter[str] = Counter()
        """namespace → what the things that it has weigh."""
        self._wanted: dict[str, Collection[str]] = {}
        """app → things."""
        self._given: dict[str, dict[str, tuple[str, ...]]] = {}
        """namespace → thing → apps."""
        self._queues: dict[str, _Queue] = {}
        """Namespaces that want more than they may have."""
        self._fresh: dict[str, list[tuple[Rank, str]]] = {}
        """Namespaces to settle → wishes to decide upon."""
        self._vacated: dict[str, list[str]] = {}
        """namespace → things that nobody wants any more, unless somebody does by the time it is settled."""
        self._moved: set[str] = set()

    def __repr__(self) -> str:
        return f"<Allowance of {self._limit} for {len(self._given)} namespaces, {len(self._queues)} want more>"

    # ── writing ───────────────────────────────────────────────────────────────────────────────────────────────────

    def put(self, app: str, created: datetime, things: Collection[str], remembered: Memory = ()) -> None:
        """Replace what an app (``namespace/service``) wants. Nothing is decided until :meth:`settle`."""
        before = self._wanted.pop(app, ())
        if things:
            self._wanted[app] = things
        elif not before:
            return
        namespace = app.partition("/")[0]
        given = self._given.setdefault(namespace, {})
        fresh = self._fresh.setdefault(namespace, [])
        for thing in before:
            if thing not in things:
                self._leave(namespace, given, thing, app)
        for position, thing in enumerate(things):
            if thing not in before:
                apps = given.get(thing)
                if apps is not None:
                    given[thing] = (*apps, app)
                else:
                    fresh.append((((thing, app) not in remembered, created, app, position), thing))

    def _leave(self, namespace: str, given: dict[str, tuple[str, ...]], thing: str, app: str) -> None:
        apps = given.get(thing, ())
        if app in apps:
            position = apps.index(app)  # hundreds may want it: nothing here is done for each of them
            given[thing] = (*apps[:position], *apps[position + 1 :])
            if len(apps) == 1:  # another Service may want it before this is settled
                self._vacated.setdefault(namespace, []).append(thing)
        elif namespace in self._queues:
            self._queues[namespace].leave(thing, app)

    def settle(self) -> set[str]:
        """Decide what has changed since the last time. Returns the apps that have more or less than they had, beside
        those that were put."""
        for namespace, fresh in self._fresh.items():
            given = self._given[namespace]
            for thing in self._vacated.pop(namespace, ()):
                if given.get(thing) == ():
                    self._take_back(namespace, given, thing)
            wishes = [(rank, thing) for rank, thing in fresh if thing in self._wanted.get(rank[2], ())]
            self._share_out(namespace, given, wishes)
            if not given:
                del self._given[namespace], self._used[namespace]
        self._fresh = {}
        moved, self._moved = self._moved, set()
        return moved

    def _share_out(self, namespace: str, given: dict[str, tuple[str, ...]], wishes: list[tuple[Rank, str]]) -> None:
        queue = self._queues.get(namespace)
        if queue is None:
            wanted = self._used[namespace] + sum(map(self._weigh, {thing for _, thing in wishes}))
            if wanted <= self._limit or self._exempt(namespace):
                self._used[namespace] = wanted
                for rank, thing in wishes:
                    given[thing] = (*given.get(thing, ()), rank[2])
                return
            queue = self._queues[namespace] = _Queue()
        for rank, thing in wishes:
            queue.join(thing, rank)
        while len(queue) and self._used[namespace] + self._weigh(queue.first()) <= self._limit:
            self._moved.update(self._give(namespace, given, queue))
        if not len(queue):
            del self._queues[namespace]

    def _give(self, namespace: str, given: dict[str, tuple[str, ...]], queue: _Queue, thing: str = "") -> Iterable[str]:
        """Let whoever waits for a thing, by default for the first one, have it; returns them."""
        thing = thing or queue.first()
        given[thing] = queue.take(thing)
        self._used[namespace] += self._weigh(thing)
        return given[thing]

    def _take_back(self, namespace: str, given: dict[str, tuple[str, ...]], thing: str) -> tuple[str, ...]:
        """Let nobody have a thing any more; returns who had it."""
        self._used[namespace] -= self._weigh(thing)
        return given.pop(thing)

    def defer_to(self, remembered: Collection[tuple[str, str]]) -> None:
        """Let those come first who had their things before, also where others have taken their place.

        So replicas that saw newcomers in another order agree: the word of one of them counts.
        """
        for thing, app in remembered:
            namespace = app.partition("/")[0]
            queue = self._queues.get(namespace)
            if queue is None or not queue.has(thing, app):
                continue
            given = self._given[namespace]
            others = [each for each in given if not any((each, owner) in remembered for owner in given[each])]
            others.sort(key=lambda each: (given[each], each))
            room = self._limit - self._used[namespace] - self._weigh(thing)
            if room + sum(map(self._weigh, others)) < 0:
                continue
            while room < 0:
                last = others.pop()
                room += self._weigh(last)
                losers = self._take_back(namespace, given, last)
                for loser in losers:
                    queue.join(last, (True, _LAST, loser, 0))
                self._moved.update(losers)
            self._moved.update(self._give(namespace, given, queue, thing))

    @property
    def is_short(self) -> bool:
        """Whether anybody waits."""
        return bool(self._queues)

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────

    def refused(self, app: str) -> Collection[str]:
        """The things that an app wants and its namespace may not have; in the order in which it wants them."""
        if not self._queues:
            return {}
        queue = self._queues.get(app.partition("/")[0])
        return {} if queue is None else {thing: None for thing in self._wanted.get(app, ()) if queue.has(thing, app)}


class _Queue:
    """Who waits for what in one namespace."""

    __slots__ = ("_count", "_heap", "_ranks")

    def __init__(self) -> None:
        self._count = 0
        self._ranks: dict[str, dict[str, Rank]] = {}
        """thing → app → rank."""
        self._heap: list[tuple[Rank, str]] = []
        """The same, the first one first; beside wishes that are over."""

    def __len__(self) -> int:
        return len(self._ranks)

    def has(self, thing: str, app: str) -> bool:
        """Whether an app waits for a thing."""
        return app in self._ranks.get(thing, ())

    def join(self, thing: str, rank: Rank) -> None:
        """Wait for a thing."""
        apps = self._ranks.setdefault(thing, {})
        self._count += rank[2] not in apps
        apps[rank[2]] = rank
        heappush(self._heap, (rank, thing))
        # Whoever comes and goes must not make it grow: once most of it is over, it is made anew.
        if len(self._heap) > 2 * self._count + 64:
            self._heap = [(rank, thing) for thing, apps in self._ranks.items() for rank in apps.values()]
            heapify(self._heap)

    def leave(self, thing: str, app: str) -> None:
        """Wait for it no longer."""
        apps = self._ranks.get(thing, {})
        if apps.pop(app, None):
            self._count -= 1
            if not apps:
                del self._ranks[thing]

    def first(self) -> str:
        """The thing of whoever comes first. Only while somebody waits."""
        while True:
            rank, thing = self._heap[0]
            if self._ranks.get(thing, {}).get(rank[2]) == rank:
                return thing
            heappop(self._heap)

    def take(self, thing: str) -> tuple[str, ...]:
        """Take a thing out; returns everybody who waited for it."""
        apps = self._ranks.pop(thing)
        self._count -= len(apps)
        return tuple(sorted(apps))
