"""Names under any history of claims, with restarts, against one who forgets nothing: who answers is never a stranger.

The router is the real compiler with the real text of the record; what is asked is the published table, as the data
plane would ask it.
"""

from __future__ import annotations

import random
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from proxy.hosts import HostIndex
from router.claim_record import encode
from router.objects import Change, ObjectKey
from tests.fakes.kube import NOW, World, gone, service
from tests.fakes.owners import Registrar

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


class Router:
    """A compiler that is started anew whenever its history says so, and the ConfigMap that outlives it."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.now = NOW
        self.claims: dict[str, Wishes] = {}
        self.text = ""
        self.starts()

    def starts(self) -> None:
        """All there is, in one batch and in any order."""
        self.world = World()
        changes = [self.record(), *(self.service(app) for app in self.claims)]
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
