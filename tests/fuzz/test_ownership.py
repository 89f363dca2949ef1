"""Names under any history of claims, with restarts, against one who forgets nothing: who answers is never a stranger.

The router is the real compiler with the real text of the record; what is asked is the published table, as the data
plane would ask it. Then three of them, with the real election and the real writing into one ConfigMap, on a timeline.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Set
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drycc_proxy.routing.hosts import HostIndex
from drycc_router.claims.record import ENTRY, ClaimKey, Recorded, decode, encode
from drycc_router.claims.unsynced import unheard
from drycc_router.model.objects import Change, ObjectKey
from drycc_router.model.problems import Reason
from drycc_router.status.leader import Feedback
from drycc_router.translate.platform import OwnNames
from tests.fakes.apiserver.direct import Direct
from tests.fakes.apiserver.kinds import kind_of
from tests.fakes.apiserver.store import Store
from tests.fakes.kube import NOW, World, gone, service
from tests.fakes.owners import Registrar, namespace
from tests.fakes.timeline import play

CREATED = {"n/web": 4, "n/api": 1, "m/web": 3, "o/web": 2}
SPELLINGS = {
    "x.com": ["x.com", "X.Com.", "\uff58.com"],
    "a.x.com": ["a.x.com", "A.x.com."],
    "b.a.x.com": ["b.a.x.com", "B.A.X.COM"],
    "*.x.com": ["*.x.com", "*.X.com."],
    "*.a.x.com": ["*.a.x.com", "*.A.x.COM"],
    "xn--bcher-kva.x.com": ["b\u00fccher.x.com", "BU\u0308CHER.x.com", "xn--bcher-kva.x.com"],
}
ASKED = (*(host.replace("*", "other") for host in SPELLINGS), "x.com", "b.a.x.com", "c.b.a.x.com", "y.com")
"""Names of requests."""

Wishes = frozenset[str]
WISHES = st.frozensets(st.sampled_from(sorted(SPELLINGS)), max_size=3)
BATCHES = st.lists(st.tuples(st.sampled_from(sorted(CREATED)), WISHES), min_size=1, max_size=3)
HISTORIES = st.lists(st.tuples(BATCHES, st.booleans()), min_size=1, max_size=8)
CLOSED = st.sampled_from([*map(frozenset[str], ("n", "m", "nm", "mo", "no")), None, None, None])
"""Namespaces that cannot be read."""
OPENED = st.sampled_from([*map(frozenset[str], ("nmo", "n", "m")), frozenset(), frozenset()])
CLOSED_HISTORIES = st.lists(st.tuples(BATCHES, CLOSED, OPENED), min_size=2, max_size=10)
"""At each step: what is claimed from now on, what a router that starts then may not read, and what it may read again
afterwards."""


class Router:
    """A compiler that is started anew whenever its history says so, and the ConfigMap that outlives it."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.now = NOW
        self.claims: dict[str, Wishes] = {}
        self.text = ""
        self.starts()

    def starts(self, closed: Set[str] = frozenset()) -> None:
        """All there is, in one batch and in any order, but for what is in ``closed`` namespaces."""
        self.world = World()
        changes = [self.record(), *(self.service(app) for app in self.claims if namespace(app) not in closed)]
        changes += [unheard(each) for each in closed]
        self.chance.shuffle(changes)
        self.hears(*changes)

    def service(self, app: str) -> Change:
        hosts = sorted(self.claims[app], key=lambda _: self.chance.random())
        if not hosts and self.chance.random() < 0.5:
            return gone(service(app))
        said = ",".join(self.chance.choice(SPELLINGS[host]) for host in hosts)
        return service(app, {"domains": said}, created=f"2026-01-0{CREATED[app]}T00:00:00Z")

    def record(self) -> Change:
        return Change(ObjectKey("ConfigMap", "drycc", "drycc-router-claims"), {"data": {"v1": self.text}})

    def hears(self, *changes: Change) -> None:
        """Compile, and write what is to be remembered, which comes back as a change of its own."""
        self.now += timedelta(milliseconds=1)
        record = self.world.hears(*changes, now=self.now).record
        if record is not None and record.follows(self.text):
            self.text = encode(record)
            assert not self.world.hears(self.record(), now=self.now).changed, "its own words change nothing"

    def answers(self, name: str) -> str | None:
        index: HostIndex[str] = HostIndex()
        for rule in self.world.hosts.values():
            index.put(rule.host, rule.route)
        return index.find(name.encode())


@given(HISTORIES, st.randoms(use_true_random=False))
def test_no_request_ever_reaches_one_who_does_not_own_the_name(
    history: list[tuple[list[tuple[str, Wishes]], bool]], chance: random.Random
) -> None:
    registrar = Registrar(CREATED)
    router = Router(chance)
    for now, (batch, restart) in enumerate(history, start=1):
        router.claims.update(batch)
        registrar.hears(router.claims, now)
        if restart:
            router.starts()
        else:
            changed = list(dict(batch))
            chance.shuffle(changed)
            router.hears(*(router.service(app) for app in changed))

        assert router.world.owners() == registrar.holders
        for name in ASKED:
            assert router.answers(name) == registrar.answers(name), name


@given(CLOSED_HISTORIES, st.randoms(use_true_random=False))
def test_what_a_router_that_starts_cannot_read_is_claimed_as_it_was_until_it_can(
    history: list[tuple[list[tuple[str, Wishes]], frozenset[str] | None, frozenset[str]]], chance: random.Random
) -> None:
    """To everybody else it is as if nothing had happened there meanwhile."""
    registrar = Registrar(CREATED)
    router = Router(chance)
    known: dict[str, Wishes] = {}
    """What every app claimed when it was heard of last."""
    closed: frozenset[str] = frozenset()
    for now, (batch, restart, opened) in enumerate(history, start=1):
        router.claims.update(batch)
        closed = (closed if restart is None else restart) - (opened if restart is None else frozenset())
        known.update((app, hosts) for app, hosts in router.claims.items() if namespace(app) not in closed)
        # Nobody can say how old a Service is that cannot be read.
        registrar.created = {app: 99 if namespace(app) in closed else created for app, created in CREATED.items()}
        registrar.hears(known, now)
        if restart is not None:
            router.starts(closed)
        else:
            changed = [app for app in router.claims if namespace(app) in opened or app in dict(batch)]
            changes = [router.service(app) for app in changed if namespace(app) not in closed]
            changes += [unheard(each, still=False) for each in opened]
            chance.shuffle(changes)
            router.hears(*changes)

        holders = registrar.holders
        assert router.world.owners() == {host: app for host, app in holders.items() if namespace(app) not in closed}
        for name in ASKED:
            answers = registrar.answers(name)
            assert router.answers(name) == (None if answers and namespace(answers) in closed else answers), name
        for problem in router.world.problems(Reason.DOMAIN_TAKEN):
            assert any(f"Service {app} holds {host}" in problem.message for host, app in holders.items())
        assert {key for key, said in decode(router.text).claims.items() if said.held} == set(holders.items())


# ── three replicas, one of which writes ───────────────────────────────────────────────────────────────────────────────
OWN = OwnNames()
CONFIG_MAP = kind_of({"apiVersion": "v1", "kind": "ConfigMap"})
LEASE = kind_of({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"})
LONGEST = 40.0
"""Seconds until somebody leads, whatever happened, and has written."""


class Replica:
    """One of them: what it compiled, and the part of it that stands for election and writes."""

    def __init__(self, place: Place, number: int) -> None:
        self.place = place
        self.number = number
        self.loop = asyncio.get_running_loop()
        self.api = Direct(place.store, latency=0.02)
        self.starts()

    def starts(self) -> None:
        """All there is, in one batch and in any order."""
        self.world = World()
        name = f"replica-{self.number}-{self.place.chance.random()}"
        self.feedback = Feedback(self.api, OWN, name, lambda *_: None, clock=self.loop.time)
        self.task = self.loop.create_task(self.feedback.run())
        changes = [self.place.record(), *(self.place.service(app) for app in self.place.readable())]
        changes += [unheard(each) for each in self.place.closed]
        self.place.chance.shuffle(changes)
        self.hears(*changes)

    async def ends(self, *, in_peace: bool) -> None:
        """With a word to the others, or as a process that was killed."""
        if in_peace:
            await self.feedback.close()
        self.task.cancel()
        await asyncio.wait([self.task])

    def hears(self, *changes: Change) -> None:
        now = datetime.fromtimestamp(NOW.timestamp() + self.loop.time(), UTC)
        self.feedback.hear(self.world.hears(*changes, now=now))

    def answers(self, name: str) -> str | None:
        index: HostIndex[str] = HostIndex()
        for rule in self.world.hosts.values():
            index.put(rule.host, rule.route)
        return index.find(name.encode())


class Place:
    """What the replicas share: the cluster."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.claims: dict[str, Wishes] = {}
        self.closed: Set[str] = frozenset()
        """Namespaces that nobody may read now. Who runs goes on with what it knows, who starts does not know it."""
        self.store = Store()
        for kind, name in ((CONFIG_MAP, OWN.claims), (LEASE, OWN.deployment)):
            self.store.put(kind, {"metadata": {"namespace": OWN.namespace, "name": name}})
        self.replicas: list[Replica] = []
        self.replicas += [Replica(self, number) for number in range(3)]
        self.store.listen(CONFIG_MAP, lambda _: self.tell([self.record()]))

    def tell(self, changes: list[Change]) -> None:
        for replica in self.replicas:
            self.chance.shuffle(changes)
            replica.hears(*changes)

    def readable(self) -> list[str]:
        """The apps that are not in closed namespaces."""
        return [app for app in self.claims if namespace(app) not in self.closed]

    def closes(self, closed: Set[str]) -> None:
        """Close these, and open all others."""
        opened, self.closed = self.closed - closed, closed
        self.tell([self.service(app) for app in self.readable() if namespace(app) in opened])
        self.tell([unheard(each, still=False) for each in opened])

    def record(self) -> Change:
        return Change(OWN.record, self.store.get(CONFIG_MAP, OWN.namespace, OWN.claims).document)

    def remembered(self) -> Mapping[ClaimKey, Recorded]:
        data = self.store.get(CONFIG_MAP, OWN.namespace, OWN.claims).document.get("data")
        return decode(data[ENTRY]).claims if data else {}

    def service(self, app: str) -> Change:
        said = ",".join(sorted(self.claims[app]))
        return service(app, {"domains": said}, created=f"2026-01-0{CREATED[app]}T00:00:00Z")


assert settings.default is not None
EXAMPLES = settings.default.max_examples
RESTARTS = st.lists(st.sampled_from(["peace", "killed", "", ""]), min_size=3, max_size=3)
LONG_HISTORIES = st.lists(st.tuples(BATCHES, RESTARTS), min_size=1, max_size=5)


@pytest.mark.timeout(3600)
@settings(max_examples=EXAMPLES // 4)  # each is minutes in the lives of three routers
@given(LONG_HISTORIES, st.randoms(use_true_random=False))
def test_replicas_that_are_elected_killed_and_started_anew_answer_as_one_who_saw_it_all(
    history: list[tuple[list[tuple[str, Wishes]], list[str]]], chance: random.Random
) -> None:
    """Hardening 5.3, point 8: the owners are a function of the claims, and no replica ever asks a stranger's app."""

    async def story() -> None:
        registrar, place = Registrar(CREATED), Place(chance)
        for now, (batch, ends) in enumerate(history, start=1):
            place.claims.update(batch)
            registrar.hears(place.claims, now)
            place.tell([place.service(app) for app in dict(batch)])
            await asyncio.sleep(LONGEST)  # somebody leads and has written: what nobody wrote down, all may forget
            assert sum(each.feedback.election.leads for each in place.replicas) == 1
            for replica, end in zip(place.replicas, ends, strict=True):
                if end:
                    await replica.ends(in_peace=end == "peace")
                    replica.starts()
            for replica in place.replicas:
                assert replica.world.owners() == registrar.holders
                for name in ASKED:
                    assert replica.answers(name) == registrar.answers(name), name
        for replica in place.replicas:
            await replica.ends(in_peace=False)

    play(story())


ONE_CLOSED = st.sampled_from([*map(frozenset[str], ("m", "m", "o")), frozenset()])
CLOSING_HISTORIES = st.lists(
    st.tuples(ONE_CLOSED, st.sampled_from(sorted(CREATED)), WISHES, RESTARTS), min_size=2, max_size=6
)


@pytest.mark.timeout(3600)
@settings(max_examples=EXAMPLES // 4)
@given(CLOSING_HISTORIES, st.randoms(use_true_random=False))
def test_replicas_agree_on_what_some_of_them_cannot_read_since_they_started(
    history: list[tuple[frozenset[str], str, Wishes, list[str]]], chance: random.Random
) -> None:
    """Whoever is elected: one that knows the Services of a closed namespace, or one that has only the record. No two
    claims begin at once, as only who knows the Services knows which of them is older."""

    async def story() -> None:
        registrar, place = Registrar(CREATED), Place(chance)
        known: dict[str, Wishes] = {}
        for now, (closed, app, wishes, ends) in enumerate(history, start=1):
            place.closes(closed)
            known.update((each, place.claims[each]) for each in place.readable())
            registrar.hears(known, 2 * now)
            await asyncio.sleep(LONGEST)
            place.claims[app] = wishes
            if app in place.readable():
                place.tell([place.service(app)])
                known[app] = wishes
            registrar.hears(known, 2 * now + 1)
            await asyncio.sleep(LONGEST)
            for replica, end in zip(place.replicas, ends, strict=True):
                if end:
                    await replica.ends(in_peace=end == "peace")
                    replica.starts()
            for replica in place.replicas:
                owners = replica.world.owners()
                assert owners.items() <= registrar.holders.items()
                assert all(namespace(registrar.holders[host]) in closed for host in registrar.holders.keys() - owners)
            assert registrar.holders.items() == {
                (host, each) for (host, each), said in place.remembered().items() if said.held
            }
        for replica in place.replicas:
            await replica.ends(in_peace=False)

    play(story())
