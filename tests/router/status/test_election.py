"""Replicas and one Lease: somebody leads, never two at a time, whatever fails, stops or dies (hardening R-16)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drycc_router.kubernetes.resources import LEASES
from drycc_router.status import election as module
from drycc_router.status.election import DEADLINE, Election
from drycc_router.status.lease import SECONDS, Lease
from tests.fakes.apiserver.direct import Asked, Direct
from tests.fakes.apiserver.kinds import NAMESPACES, kind_of
from tests.fakes.apiserver.store import Store
from tests.fakes.timeline import play


class Replica:
    """One candidate, with a clock of its own that may be wrong, and a process that may be stopped."""

    def __init__(self, place: Place, name: str, skew: float = 0.0) -> None:
        self.loop = asyncio.get_running_loop()
        self.api = Direct(place.store, name, place.log, latency=0.01)
        self.refused: list[bool] = []
        self.changes: list[bool] = []
        self.running = asyncio.Event()
        self.running.set()
        self.election = Election(
            self.api,
            "drycc",
            "drycc-router",
            name,
            refused=self.refused.append,
            changed=lambda: self.changes.append(self.election.leads),
            clock=self.loop.time,
            wall=lambda: 1_790_000_000.0 + self.loop.time() + skew,
            sleep=self._sleep,
            chance=place.chance.random,
        )
        self.task = self.loop.create_task(self.election.run())

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.running.wait()  # SIGSTOP: what was to happen then happens when it goes on

    @property
    def leads(self) -> bool:
        return self.election.leads

    def dies(self) -> None:
        self.task.cancel()


class Place:
    """Where replicas meet."""

    def __init__(self) -> None:
        self.store = Store()
        self.log: list[Asked] = []
        self.chance = random.Random(1)
        self.replicas: list[Replica] = []

    def starts(self, name: str, skew: float = 0.0) -> Replica:
        replica = Replica(self, name, skew)
        self.replicas.append(replica)
        return replica

    def put(self, **spec: object) -> None:
        metadata = {"namespace": "drycc", "name": "drycc-router"}
        document = {"apiVersion": LEASES.api_version, "kind": "Lease", "metadata": metadata, "spec": spec}
        self.store.put(kind_of(document), document)

    @property
    def leaders(self) -> list[str]:
        return [each.election.identity for each in self.replicas if each.leads]

    async def reaches(self, requests: int) -> None:
        """Until so many have had their effect."""
        while len(self.log) < requests:  # noqa: ASYNC110 -- on a timeline, where waiting costs nothing
            await asyncio.sleep(0.01)

    async def until(self, *leaders: str, within: float) -> float:
        """Seconds until these lead; never two meanwhile."""
        began = asyncio.get_running_loop().time()
        while self.leaders != list(leaders):
            assert len(self.leaders) <= 1
            assert asyncio.get_running_loop().time() - began <= within, self.leaders
            await asyncio.sleep(0.05)
        return asyncio.get_running_loop().time() - began


def story(tell: Callable[[Place], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        place = Place()
        place.put()
        try:
            await tell(place)
        finally:
            for replica in place.replicas:
                replica.task.cancel()

    play(run())


def test_one_of_them_leads_and_goes_on_leading() -> None:
    async def tell(place: Place) -> None:
        place.starts("a")
        await place.until("a", within=1)
        place.starts("b", skew=-86_400)
        place.starts("c", skew=86_400)
        for _ in range(600):
            await asyncio.sleep(1)
            assert place.leaders == ["a"]
        writers = {each.who for each in place.log if each.verb == "update"}
        assert writers == {"a"}
        assert len(place.log) < 600  # one renewal and two looks every few seconds

    story(tell)


def test_leading_and_not_leading_are_told_once_each(caplog: pytest.LogCaptureFixture) -> None:
    def said() -> list[str]:
        words = [record.getMessage() for record in caplog.records if record.name == module.__name__]
        caplog.clear()
        return words

    async def tell(place: Place) -> None:
        first = place.starts("a")
        await place.until("a", within=1)
        assert said() == ["this replica leads: it writes Events and the record of claims"]
        second = place.starts("b")
        await asyncio.sleep(60)
        assert said() == ["this replica does not lead: another one does, or the lease cannot be had"]
        assert second.changes == []
        first.dies()
        await first.election.release()
        await place.until("b", within=10)
        await asyncio.sleep(60)
        assert said() == [
            "this replica no longer leads",
            "this replica leads: it writes Events and the record of claims",
        ]

    caplog.set_level("INFO", module.__name__)
    story(tell)


def test_who_ends_before_the_first_attempt_says_nothing_about_leading(caplog: pytest.LogCaptureFixture) -> None:
    async def tell(place: Place) -> None:
        replica = place.starts("a")
        await replica.election.release()
        assert not [record for record in caplog.records if record.name == module.__name__]

    caplog.set_level("INFO", module.__name__)
    story(tell)


def test_who_leaves_in_the_midst_of_a_renewal_gives_back_what_that_has_written() -> None:
    async def tell(place: Place) -> None:
        replica = place.starts("a")
        await place.until("a", within=1)

        replica.api.latency = 0.2
        renewed = len(place.log)
        await place.reaches(renewed + 1)
        replica.dies()  # the renewal has had its effect, and its answer is not here
        await replica.election.release()
        assert [each.code for each in place.log[renewed:]] == [200, 409, 200, 200]
        assert Lease.read(await replica.api.get(LEASES, "drycc", "drycc-router")).holder == ""

    story(tell)


def test_who_leaves_is_followed_without_a_wait_and_who_dies_within_its_lease() -> None:
    async def tell(place: Place) -> None:
        first = place.starts("a")
        await place.until("a", within=1)
        second = place.starts("b")
        await asyncio.sleep(20)
        first.dies()
        await first.election.release()
        assert not first.leads
        assert first.changes == [True, False]
        await place.until("b", within=module.LOOK + 1)
        place.starts("c")
        await asyncio.sleep(20)
        second.dies()
        place.replicas.remove(second)
        assert await place.until("c", within=SECONDS + module.LOOK + 1) >= SECONDS - DEADLINE

    story(tell)


def test_a_leader_that_nobody_answers_stops_before_anybody_may_follow() -> None:
    async def tell(place: Place) -> None:
        first, second = place.starts("a"), place.starts("b")
        await place.until("a", within=1)
        await asyncio.sleep(30)
        first.api.fails = "before"
        assert await place.until(within=DEADLINE) <= DEADLINE
        await place.until("b", within=SECONDS + module.LOOK)
        first.api.fails = ""
        await asyncio.sleep(60)
        assert place.leaders == ["b"]
        assert first.changes == [True, False]
        assert second.changes == [True]

    story(tell)


def test_a_process_that_was_stopped_does_not_lead_when_it_goes_on() -> None:
    async def tell(place: Place) -> None:
        first = place.starts("a")
        await place.until("a", within=1)
        place.starts("b")
        await asyncio.sleep(10)
        first.running.clear()
        await asyncio.sleep(DEADLINE + 0.1)
        assert not first.leads
        await place.until("b", within=SECONDS + module.LOOK)
        first.running.set()
        for _ in range(100):
            await asyncio.sleep(0.1)
            assert place.leaders == ["b"]

    story(tell)


def test_an_answer_that_is_lost_is_no_leadership_and_does_no_harm() -> None:
    async def tell(place: Place) -> None:
        first = place.starts("a")
        first.api.fails = "after"
        await asyncio.sleep(5)
        assert not first.leads
        first.api.fails = ""
        await place.until("a", within=10)

    story(tell)


@pytest.mark.parametrize("verb", ["get", "update"])
def test_without_the_right_nobody_leads_and_that_is_said(verb: str) -> None:
    async def tell(place: Place) -> None:
        first = place.starts("a")
        first.api.refuses = {verb: 403}
        await asyncio.sleep(30)
        assert set(first.refused) == {True}
        assert not first.leads
        first.api.refuses = {}
        await place.until("a", within=module.REFUSED + 1)
        assert first.refused[-1] is False

    story(tell)


def test_a_refusal_of_a_moment_is_not_said_and_costs_seconds() -> None:
    """As a server that has just started gives it to everybody."""

    async def tell(place: Place) -> None:
        first = place.starts("a")
        first.api.refuses = {"get": 403}
        await asyncio.sleep(2)
        first.api.refuses = {}
        await place.until("a", within=5)
        assert True not in first.refused

    story(tell)


def test_where_there_is_no_lease_it_is_made() -> None:
    async def run() -> None:
        place = Place()
        place.store.put(NAMESPACES, {"metadata": {"name": "drycc"}})
        replica = place.starts("a")
        try:
            await place.until("a", within=1)
        finally:
            replica.dies()

    play(run())


def test_the_lease_of_another_kind_of_candidate_is_respected() -> None:
    async def tell(place: Place) -> None:
        place.put(holderIdentity="by-hand", leaseDurationSeconds=40, renewTime="2026-01-31T12:00:00.000000Z")
        place.starts("a")
        await asyncio.sleep(39)
        assert place.leaders == []
        await place.until("a", within=5)

    story(tell)


MOMENTS = st.lists(
    st.tuples(
        st.floats(0.0, 12.0),
        st.integers(0, 2),
        st.sampled_from(["stop", "go", "lose", "lose answers", "hear", "leave", "slow"]),
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=60)
@given(MOMENTS, st.integers(0, 2**32))
def test_two_never_lead_at_the_same_time(moments: list[tuple[float, int, str]], seed: int) -> None:
    """Any order of stopped processes, lost requests and answers, slow servers and replicas that leave."""

    async def tell(place: Place) -> None:
        place.chance = random.Random(seed)
        for number, name in enumerate("abc"):
            place.starts(name, skew=(number - 1) * 3600.0)
        for seconds, number, what in moments:
            async with _watched(place):
                await asyncio.sleep(seconds)
            await _happens(place.replicas[number], what)
        for replica in place.replicas:
            replica.running.set()
            replica.api.fails, replica.api.latency = "", 0.01
        async with _watched(place):
            await asyncio.sleep(60)
        assert len(place.leaders) == 1

    story(tell)


async def _happens(replica: Replica, what: str) -> None:
    match what:
        case "stop":
            replica.running.clear()
        case "go":
            replica.running.set()
        case "lose":
            replica.api.fails = "before"
        case "lose answers":
            replica.api.fails = "after"
        case "hear":
            replica.api.fails, replica.api.latency = "", 0.01
        case "slow":
            replica.api.latency = 6.0
        case _:
            await replica.election.release()


@asynccontextmanager
async def _watched(place: Place) -> AsyncIterator[None]:
    """In here, two that lead at the same time are found."""

    async def watch() -> None:
        while True:
            assert len(place.leaders) <= 1
            await asyncio.sleep(0.1)

    task = asyncio.ensure_future(watch())
    yield
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass  # nothing was found
