"""Replicas of the router, what they write for all, and who of them does: against one API server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from drycc_router.claims.record import ENTRY, decode
from drycc_router.kubernetes.resources import Resource
from drycc_router.model.objects import Change, ObjectKey
from drycc_router.model.problems import Problem, Reason
from drycc_router.status.election import DEADLINE, LOOK
from drycc_router.status.leader import Feedback
from drycc_router.status.lease import SECONDS, Lease
from drycc_router.translate.platform import OwnNames
from tests.fakes.apiserver.direct import Asked, Direct
from tests.fakes.apiserver.kinds import NAMESPACES, Kind, kind_of
from tests.fakes.apiserver.objects import config_map
from tests.fakes.apiserver.store import Store
from tests.fakes.kube import World, service
from tests.fakes.timeline import play

OWN = OwnNames.of("drycc-router", "drycc")
CONFIG_MAP: Kind = kind_of(config_map("", "", {}))
LEASE: Kind = kind_of({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"})


EVENT: Kind = kind_of({"apiVersion": "v1", "kind": "Event"})


class Replica:
    """A compiler that hears of objects, and the part of a process that writes."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.loop = asyncio.get_running_loop()
        self.world = World()
        self.problems: dict[str, tuple[Problem, ...]] = {}
        self.api = Direct(cluster.store, name, cluster.log, latency=0.01)
        self.feedback = Feedback(self.api, OWN, name, self.problems.__setitem__, clock=self.loop.time)
        self.task = self.loop.create_task(self.feedback.run())

    def hears(self, *changes: Change) -> None:
        now = datetime.fromtimestamp(1_790_000_000 + self.loop.time(), UTC)
        self.feedback.hear(self.world.hears(*changes, now=now))

    async def leaves(self) -> None:
        await self.feedback.close()
        self.task.cancel()


class Cluster:
    """What replicas share."""

    def __init__(self) -> None:
        self.store = Store()
        self.log: list[Asked] = []
        self.replicas: list[Replica] = []
        self.services: dict[ObjectKey, Change] = {}
        for kind, name in ((CONFIG_MAP, OWN.claims), (LEASE, OWN.deployment)):
            self.store.put(kind, {"metadata": {"namespace": "drycc", "name": name}})
        self.store.listen(CONFIG_MAP, lambda _: self.tell(self.record()))

    def starts(self, name: str) -> Replica:
        replica = Replica(self, name)
        self.replicas.append(replica)
        replica.hears(self.record(), *self.services.values())
        return replica

    def record(self) -> Change:
        return Change(OWN.record, self.store.get(CONFIG_MAP, "drycc", OWN.claims).document)

    def tell(self, *changes: Change) -> None:
        """Every replica hears it."""
        self.services.update((change.key, change) for change in changes if change.key.kind == "Service")
        for replica in self.replicas:
            replica.hears(*changes)

    @property
    def leaders(self) -> list[str]:
        return [each.api.who for each in self.replicas if each.feedback.election.leads]

    def written(self) -> dict[tuple[str, str], bool]:
        """(host, app) → whether it holds it, as recorded."""
        text = self.record().object["data"][ENTRY]  # type: ignore[index]  # it is there
        return {key: entry.held for key, entry in decode(text).claims.items()}

    def writers(self, resource: str) -> list[str]:
        """Who wrote, in order, each name once in a row."""
        wrote = [each.who for each in self.log if each.resource == resource and each.verb != "get" and each.code < 300]
        return [who for number, who in enumerate(wrote) if number == 0 or wrote[number - 1] != who]


def story(tell: Callable[[Cluster], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        cluster = Cluster()
        try:
            await tell(cluster)
        finally:
            for replica in cluster.replicas:
                replica.task.cancel()
            await asyncio.wait([replica.task for replica in cluster.replicas])

    play(run())


def test_one_replica_writes_what_all_remember() -> None:
    async def tell(cluster: Cluster) -> None:
        for name in "abc":
            cluster.starts(name)
        await asyncio.sleep(10)
        cluster.tell(service("shop/web", {"domains": "shop.example"}))
        await asyncio.sleep(2)
        cluster.tell(service("blog/web", {"domains": "shop.example"}, created="2001-01-01T00:00:00Z"))
        await asyncio.sleep(2)
        assert cluster.written() == {("shop.example", "shop/web"): True, ("shop.example", "blog/web"): False}
        assert len(cluster.leaders) == 1
        assert cluster.writers("configmaps") == cluster.leaders
        late = cluster.starts("d")
        assert late.world.owners() == {"shop.example": "shop/web"}

    story(tell)


def test_who_leaves_before_its_first_table_never_leads() -> None:
    """A router that is told to end while it starts: the table that comes all the same must not make it a candidate."""

    async def tell(cluster: Cluster) -> None:
        early = Replica(cluster, "early")
        cluster.replicas.append(early)
        await asyncio.sleep(1)
        await early.feedback.close()
        early.hears(cluster.record())
        await asyncio.sleep(30)
        assert early.task.done()
        assert cluster.leaders == []
        assert not cluster.log

    story(tell)


def test_the_lease_is_given_back_once_however_often_a_router_is_told_to_leave() -> None:
    """At the beginning of the drain, and again at its end, which must not come before the lease is back."""

    async def tell(cluster: Cluster) -> None:
        leader = cluster.starts("a")
        await asyncio.sleep(5)
        assert cluster.leaders == ["a"]
        closing = asyncio.create_task(leader.feedback.close())
        await asyncio.sleep(0)
        await leader.feedback.close()
        assert Lease.read(cluster.store.get(LEASE, "drycc", OWN.deployment).document).holder == ""
        await closing
        cluster.tell(service("shop/web", {"domains": "shop.example"}))
        await asyncio.sleep(30)
        assert cluster.leaders == []
        released = [each for each in cluster.log if each.resource == "leases" and each.verb == "update"]
        cluster.starts("b")
        await asyncio.sleep(LOOK)
        assert cluster.leaders == ["b"]
        assert len(released) <= 3, "taken, renewed, given back"

    story(tell)


def test_the_same_one_tells_owners_what_is_wrong() -> None:
    async def tell(cluster: Cluster) -> None:
        for name in "abc":
            cluster.starts(name)
        await asyncio.sleep(10)
        cluster.store.put(NAMESPACES, {"metadata": {"name": "shop"}})
        cluster.tell(service("shop/web", {"domains": "shop.example", "bodySize": "ten"}))
        await asyncio.sleep(2)
        assert cluster.writers("events") == cluster.leaders
        reasons = sorted(each.document["reason"] for each in cluster.store.selected(EVENT))
        assert reasons == ["BadValue", "DomainWithoutCertificate"]

    story(tell)


def test_who_is_elected_next_goes_on_where_the_other_ended() -> None:
    async def tell(cluster: Cluster) -> None:
        first = cluster.starts("a")
        await asyncio.sleep(5)
        second = cluster.starts("b")
        await asyncio.sleep(60)
        assert cluster.leaders == ["a"]
        await first.leaves()
        cluster.replicas.remove(first)
        assert Lease.read(cluster.store.get(LEASE, "drycc", OWN.deployment).document).holder == ""
        cluster.tell(service("shop/web", {"domains": "shop.example"}))
        await asyncio.sleep(LOOK + 3)
        assert cluster.leaders == ["b"]
        assert cluster.written() == {("shop.example", "shop/web"): True}
        assert cluster.writers("configmaps") == ["a", "b"]
        await second.leaves()

    story(tell)


def test_who_loses_the_lease_stops_writing_and_goes_on_serving() -> None:
    async def tell(cluster: Cluster) -> None:
        first = cluster.starts("a")
        await asyncio.sleep(5)
        cluster.starts("b")
        await asyncio.sleep(20)
        first.api.fails = "before"
        await asyncio.sleep(DEADLINE + 0.1)
        assert cluster.leaders == []
        cluster.tell(service("shop/web", {"domains": "shop.example"}))
        await asyncio.sleep(SECONDS + LOOK)
        assert cluster.leaders == ["b"]
        assert cluster.written() == {("shop.example", "shop/web"): True}
        first.api.fails = ""
        await asyncio.sleep(60)
        assert cluster.leaders == ["b"]
        assert cluster.writers("configmaps") == ["a", "b"]
        assert first.world.owners() == {"shop.example": "shop/web"}

    story(tell)


def test_who_knows_nothing_yet_does_not_stand() -> None:
    async def tell(cluster: Cluster) -> None:
        replica = Replica(cluster, "a")
        cluster.replicas.append(replica)
        await asyncio.sleep(60)
        assert cluster.log == []
        replica.hears()
        await asyncio.sleep(1)
        assert cluster.leaders == ["a"]

    story(tell)


def test_missing_rights_are_problems_and_nothing_else() -> None:
    async def tell(cluster: Cluster) -> None:
        replica = cluster.starts("a")
        replica.api.refuses = {"get": 403}
        await asyncio.sleep(300)
        [[problem]] = replica.problems.values()
        lease = ObjectKey("Lease", "drycc", "drycc-router")
        assert (problem.reason, problem.object) == (Reason.NOT_PERMITTED, lease)
        replica.api.refuses = {"patch": 403}
        cluster.tell(service("shop/web", {"domains": "shop.example"}))
        await asyncio.sleep(300)
        objects = {str(each.object) for told in replica.problems.values() for each in told}
        assert objects == {"ConfigMap drycc/drycc-router-claims", "Event shop/*"}
        assert replica.world.owners() == {"shop.example": "shop/web"}

    story(tell)


def test_a_fault_of_ours_in_a_writer_begins_anew(caplog: Any) -> None:
    async def tell(cluster: Cluster) -> None:
        replica = cluster.starts("a")
        faults = [RuntimeError("c4n4ry")]

        async def get(resource: Resource, namespace: str, name: str) -> dict[str, Any]:
            if faults:
                raise faults.pop()
            return await Direct.get(replica.api, resource, namespace, name)

        replica.api.get = get  # type: ignore[method-assign]  # broken on purpose
        await asyncio.sleep(10)
        assert cluster.leaders == ["a"]

    story(tell)
    assert "beginning anew" in caplog.text
