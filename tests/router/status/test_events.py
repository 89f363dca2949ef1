"""Problems as Events where owners look: once when they come, once when they are mended, and never in a flood."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from drycc_router.kubernetes.errors import Forbidden
from drycc_router.model.objects import Change, ObjectKey
from drycc_router.model.problems import Problem, Reason
from drycc_router.status.events import COMPONENT, IN_ALL, MAX_MESSAGE, OF_EACH, REFUSED, Events, word
from drycc_router.translate.annotations.schema import FIELDS
from drycc_router.translate.platform import OwnNames
from tests.fakes.apiserver.direct import Asked, Direct
from tests.fakes.apiserver.kinds import Kind, kind_of
from tests.fakes.apiserver.store import Document, Store
from tests.fakes.kube import World, gone, secret, service
from tests.fakes.timeline import play

EVENT: Kind = kind_of({"apiVersion": "v1", "kind": "Event"})
SPILL = 1.0
"""Seconds in which what is not rationed is written."""


class Leader:
    def __init__(self) -> None:
        self.left = 10.0


class Desk:
    """A replica that leads: its compiler, and the Events it writes into a store that outlives it."""

    def __init__(self, store: Store | None = None, log: list[Asked] | None = None, *, leads: bool = True) -> None:
        self.loop = asyncio.get_running_loop()
        self.store = store or Store()
        for name in ("shop", "blog", "drycc"):
            self.store.put(kind_of({"apiVersion": "v1", "kind": "Namespace"}), {"metadata": {"name": name}})
        self.api = Direct(self.store, log=log)
        self.world = World()
        self.leader = Leader()
        self.problems: tuple[Problem, ...] = ()
        self.events = Events(
            self.api,
            OwnNames.of("drycc-router", "drycc"),
            "drycc-router-1",
            self.leader,
            self.complain,
            clock=self.loop.time,
            wall=lambda: 1_790_000_000.0 + self.loop.time(),
        )
        self.task = self.loop.create_task(self.events.run())
        self.leader.left = 10.0 if leads else 0.0
        self.events.hear(self.world.last)
        self.events.stir()

    def complain(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems

    def hears(self, *changes: Change) -> None:
        self.events.hear(self.world.hears(*changes))

    def is_elected(self, leads: bool = True) -> None:
        self.leader.left = 10.0 if leads else 0.0
        self.events.stir()

    def says(self, about: ObjectKey, *problems: Problem) -> None:
        """A part of the process that is no object of the compiler has something to say."""
        self.world.compiler.source_problems(str(about), problems)
        self.hears()

    def there(self, namespace: str = "shop") -> list[Document]:
        """The Events, in the order of their reasons."""
        found = [each.document for each in self.store.selected(EVENT) if each.namespace == namespace]
        return sorted(found, key=lambda event: (event["type"], event["reason"]))

    def told(self, namespace: str = "shop") -> list[tuple[str, str, int]]:
        """Type, reason and how often."""
        return [(event["type"], event["reason"], event["count"]) for event in self.there(namespace)]

    def asked(self, *verbs: str) -> int:
        return sum(each.verb in verbs or not verbs for each in self.api.log)


def story(tell: Callable[[Desk], Coroutine[Any, Any, None]], *, leads: bool = True) -> None:
    async def run() -> None:
        desk = Desk(leads=leads)
        await tell(desk)
        desk.task.cancel()
        await asyncio.wait([desk.task])

    play(run())


def bad(key: str = "bodySize", value: str = "ten", name: str = "shop/web", uid: str = "u-1") -> Change:
    return service(name, {"domains": f"{name.replace('/', '-')}", key: value}, uid=uid)


def good(name: str = "shop/web", uid: str = "u-1") -> Change:
    return service(name, {"domains": f"{name.replace('/', '-')}"}, uid=uid)


def test_a_problem_is_an_event_on_the_service_that_kubectl_describe_finds() -> None:
    async def tell(desk: Desk) -> None:
        desk.hears(bad())
        await asyncio.sleep(SPILL)
        [event] = desk.there()
        assert event["involvedObject"] == {
            "apiVersion": "v1",
            "kind": "Service",
            "namespace": "shop",
            "name": "web",
            "uid": "u-1",
        }
        assert (event["type"], event["reason"], event["count"]) == ("Warning", "BadValue", 1)
        assert event["message"].startswith("router.drycc.cc/bodySize = 'ten': expected ")
        assert event["source"] == {"component": COMPONENT}
        assert event["firstTimestamp"] == event["lastTimestamp"] == "2026-09-21T14:30:00Z"
        assert desk.asked() == 1

    story(tell)


def test_what_stays_as_it_is_is_not_told_again() -> None:
    async def tell(desk: Desk) -> None:
        desk.hears(bad())
        await asyncio.sleep(SPILL)
        for number in range(50):
            desk.hears(bad(), good(f"blog/{number}"))
            await asyncio.sleep(60)
        assert desk.told() == [("Warning", "BadValue", 1)]
        assert desk.asked() == 1

    story(tell)


def test_mended_is_told_and_the_same_event_counts_up_when_it_comes_back() -> None:
    async def tell(desk: Desk) -> None:
        for times in (1, 2):
            desk.hears(bad())
            await asyncio.sleep(100)
            assert ("Warning", "BadValue", times) in desk.told()
            desk.hears(good())
            await asyncio.sleep(100)
            assert desk.told() == [("Normal", "Mended", times), ("Warning", "BadValue", times)]
        [mended, _] = desk.there()
        assert mended["message"] == "BadValue: there is nothing more to mend"
        assert desk.events.waiting == 0

    story(tell)


def test_other_words_about_the_same_are_the_same_event() -> None:
    async def tell(desk: Desk) -> None:
        desk.hears(bad(value="ten"))
        await asyncio.sleep(10)
        desk.hears(bad(value="eleven"))
        await asyncio.sleep(10)
        [event] = desk.there()
        assert event["count"] == 2
        assert "'eleven'" in event["message"]
        assert event["lastTimestamp"] > event["firstTimestamp"]

    story(tell)


def test_what_is_not_there_any_more_is_not_told_to_be_mended() -> None:
    async def tell(desk: Desk) -> None:
        desk.hears(bad())
        await asyncio.sleep(10)
        desk.hears(gone(bad()))
        await asyncio.sleep(10)
        assert desk.told() == [("Warning", "BadValue", 1)]
        desk.hears(bad(uid="u-2"))
        await asyncio.sleep(10)
        assert desk.told() == [("Warning", "BadValue", 1)] * 2, "another Service of this name has its own"

    story(tell)


def test_notes_are_no_events() -> None:
    async def tell(desk: Desk) -> None:
        desk.hears(service("shop/web", {"nginx.proxyBuffers.size": "4k"}))
        await asyncio.sleep(10)
        assert any(problem.is_note for problem in desk.world.last.problems)
        assert desk.asked() == 0

    story(tell)


def test_who_does_not_lead_writes_nothing_and_tells_what_stands_once_it_does() -> None:
    async def tell(desk: Desk) -> None:
        desk.hears(bad(), bad(name="blog/web"))
        desk.hears(good("blog/web"))
        await asyncio.sleep(100)
        assert desk.asked() == 0
        desk.is_elected()
        await asyncio.sleep(SPILL)
        assert (desk.told("shop"), desk.told("blog")) == ([("Warning", "BadValue", 1)], [])
        desk.is_elected(False)
        asked = desk.asked()
        desk.hears(good())
        await asyncio.sleep(100)
        assert desk.asked() == asked

    story(tell, leads=False)


def test_a_restart_repeats_nothing_that_is_written_and_tells_what_changed_meanwhile() -> None:
    async def run() -> None:
        first = Desk()
        first.hears(*(bad(name=f"shop/{number}", uid=f"u-{number}") for number in range(20)))
        await asyncio.sleep(30)
        first.task.cancel()
        before = {event["metadata"]["name"]: event["metadata"]["resourceVersion"] for event in first.there()}
        assert len(before) == 20

        second = Desk(first.store, first.api.log, leads=False)
        second.hears(*(bad(name=f"shop/{number}", uid=f"u-{number}") for number in range(19)))
        second.hears(bad(name="shop/19", value="eleven", uid="u-19"))
        second.is_elected()
        await asyncio.sleep(100)
        changed = [
            each for each in second.there() if before[each["metadata"]["name"]] != each["metadata"]["resourceVersion"]
        ]
        assert [(each["involvedObject"]["name"], each["count"]) for each in changed] == [("19", 2)]
        assert second.events.written == {"Warning": 1}
        second.task.cancel()
        await asyncio.wait([first.task, second.task])

    play(run())


def test_five_hundred_broken_services_are_five_hundred_events_at_a_walk() -> None:
    """Hardening R-14: each has one Event, in time, and news does not wait behind them."""

    async def tell(desk: Desk) -> None:
        desk.hears(*(bad(name=f"shop/{number}", uid=f"u-{number}") for number in range(500)))
        desk.is_elected()
        await asyncio.sleep(SPILL)
        burst, every = IN_ALL
        assert len(desk.there()) <= burst + SPILL / every + 1
        desk.hears(bad(name="blog/new"))
        await asyncio.sleep(2)
        assert desk.told("blog") == [("Warning", "BadValue", 1)]
        await asyncio.sleep(500 * every)
        assert desk.told() == [("Warning", "BadValue", 1)] * 500
        assert desk.events.waiting == 0

    story(tell, leads=False)


def test_one_that_flaps_costs_its_ration_and_no_more() -> None:
    async def tell(desk: Desk) -> None:
        for _ in range(1800):  # ten times a second, for three minutes
            desk.hears(bad())
            await asyncio.sleep(0.05)
            desk.hears(good())
            await asyncio.sleep(0.05)
        burst, every = OF_EACH
        assert desk.asked("create", "patch") <= 3 * (burst + 180 / every + 1)
        desk.hears(bad(value="at last"))
        await asyncio.sleep(2 * every)
        assert "at last" in desk.there()[-1]["message"]
        assert desk.events.waiting == 0
        assert sum(desk.events.written.values()) <= burst + 180 / every + 3

    story(tell)


def edited(domains: str, **says: str) -> Change:
    return service("shop/web", {"domains": domains, **says}, uid="u-1")


def test_the_first_event_of_a_reason_never_waits_for_repetitions_of_another() -> None:
    async def tell(desk: Desk) -> None:
        for number in range(20):
            desk.hears(edited(f"shop, no_name_{number}"))
            await asyncio.sleep(0.5)
        desk.hears(edited("shop, no_name", bodySize="ten"))
        await asyncio.sleep(SPILL)
        assert ("Warning", "BadValue", 1) in desk.told()
        assert "no_name'" not in next(each for each in desk.there() if each["reason"] == "BadElement")["message"]
        _, every = OF_EACH
        await asyncio.sleep(every)  # and what it says of the other one is out of date no longer than this
        assert "no_name'" in next(each for each in desk.there() if each["reason"] == "BadElement")["message"]

    story(tell)


def test_the_first_event_of_an_object_never_waits_for_repetitions_about_others() -> None:
    async def tell(desk: Desk) -> None:
        burst, every = IN_ALL
        many = 4 * burst
        desk.hears(*(bad(name=f"shop/{number}", uid=f"u-{number}") for number in range(many)))
        await asyncio.sleep(many * every + SPILL)
        assert desk.events.waiting == 0
        desk.hears(*(bad(name=f"shop/{number}", uid=f"u-{number}", value="eleven") for number in range(many)))
        await asyncio.sleep(SPILL)
        desk.hears(bad(name="blog/new"))
        await asyncio.sleep(SPILL)
        assert desk.told("blog") == [("Warning", "BadValue", 1)]
        assert desk.events.waiting > burst

    story(tell)


def test_what_stood_at_the_election_is_not_kept_waiting_by_repetitions_for_ever() -> None:
    async def tell(desk: Desk) -> None:
        burst, every = IN_ALL
        many = 2 * burst
        noisy = range(2 * many)
        desk.hears(*(bad(name=f"blog/{number}", uid=f"u-{number}") for number in noisy))
        desk.hears(*(bad(name=f"shop/{number}", uid=f"u-{number}") for number in range(many)))
        desk.is_elected()
        for second in range(int(4 * many * every)):
            desk.hears(*(bad(name=f"blog/{number}", value=f"-{second}", uid=f"u-{number}") for number in noisy))
            await asyncio.sleep(1)
            if len(desk.told("shop")) == many:
                return
        raise AssertionError("never told")

    story(tell, leads=False)


def test_what_changes_is_told_before_what_stood_at_the_election() -> None:
    async def tell(desk: Desk) -> None:
        desk.hears(*(bad(name=f"shop/{number}", uid=f"u-{number}") for number in range(500)))
        desk.is_elected()
        await asyncio.sleep(SPILL)
        desk.hears(bad(name="shop/499", value="eleven", uid="u-499"))
        await asyncio.sleep(SPILL)
        [event] = [each for each in desk.there() if each["involvedObject"]["name"] == "499"]
        assert "eleven" in event["message"]

    story(tell, leads=False)


def test_that_a_thing_is_mended_is_told_although_another_replica_told_of_it() -> None:
    async def run() -> None:
        first = Desk()
        first.hears(bad())
        await asyncio.sleep(SPILL)
        first.task.cancel()
        second = Desk(first.store, leads=False)
        second.hears(bad(), bad(name="shop/quiet", uid="u-2"))
        second.is_elected()
        second.hears(good(), good("shop/quiet", uid="u-2"))
        await asyncio.sleep(SPILL)
        assert second.told() == [("Normal", "Mended", 1), ("Warning", "BadValue", 1)]
        second.task.cancel()
        await asyncio.wait([first.task, second.task])

    play(run())


def test_without_the_right_it_is_said_once_and_tried_again_later() -> None:
    async def tell(desk: Desk) -> None:
        desk.api.refuses = {"create": 403, "patch": 403}
        desk.hears(bad(), bad(name="shop/other"))
        await asyncio.sleep(30)
        [problem] = desk.problems
        assert (problem.reason, problem.object) == (Reason.NOT_PERMITTED, ObjectKey("Event", "shop", "*"))
        assert desk.asked() == 1, "one refusal speaks for the namespace"
        desk.says(problem.object, problem)  # as the process does
        desk.api.refuses = {}
        await asyncio.sleep(REFUSED)
        assert desk.told() == [("Warning", "BadValue", 1)] * 2
        assert desk.problems == ()
        assert desk.told("drycc") == [], "that Events cannot be written is not an Event"

    story(tell)


def test_a_namespace_on_its_way_out_is_no_missing_right(monkeypatch: pytest.MonkeyPatch) -> None:
    async def tell(desk: Desk) -> None:
        async def create(*_: object) -> dict[str, Any]:
            raise Forbidden(403, "unable to create new content in namespace shop because it is being terminated")

        monkeypatch.setattr(desk.api, "create", create)
        desk.hears(bad())
        await asyncio.sleep(30)
        assert desk.problems == ()
        assert desk.events.dropped == {"gone": 1}

    story(tell)


@pytest.mark.parametrize("fails", ["before", "after", 500, 429])
def test_a_server_that_fails_is_asked_again_and_hears_it_once(fails: Any) -> None:
    async def tell(desk: Desk) -> None:
        desk.api.fails = fails
        desk.hears(bad())
        await asyncio.sleep(60)
        desk.api.fails = ""
        await asyncio.sleep(60)
        [(kind, reason, times)] = desk.told()
        assert (kind, reason) == ("Warning", "BadValue")
        assert times == 1 or fails == "after"
        assert desk.events.waiting == 0

    story(tell)


def test_what_is_refused_for_good_is_not_tried_for_ever() -> None:
    async def tell(desk: Desk) -> None:
        desk.api.refuses = {"create": 422}
        desk.hears(bad())
        await asyncio.sleep(300)
        assert desk.asked() == 1
        assert desk.events.dropped == {"failed": 1}

    story(tell)


def test_an_event_whose_time_is_over_is_made_again() -> None:
    async def tell(desk: Desk) -> None:
        desk.hears(bad())
        await asyncio.sleep(10)
        [event] = desk.there()
        desk.store.delete(EVENT, "shop", event["metadata"]["name"])
        desk.hears(bad(value="eleven"))
        await asyncio.sleep(10)
        assert desk.told() == [("Warning", "BadValue", 1)]

    story(tell)


def test_what_is_about_no_single_object_is_on_the_routers_own() -> None:
    async def tell(desk: Desk) -> None:
        deployment = ObjectKey("Deployment", "drycc", "drycc-router")
        desk.hears(Change(deployment, {"metadata": {"uid": "d-1"}}))
        about = ObjectKey("EndpointSlice", "blog", "*")
        desk.says(about, Problem(Reason.NOT_PERMITTED, about, "", "list, watch", "expected the right to list"))
        await asyncio.sleep(SPILL)
        [event] = desk.there("drycc")
        assert event["involvedObject"] == {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "namespace": "drycc",
            "name": "drycc-router",
            "uid": "d-1",
        }
        desk.says(about)
        await asyncio.sleep(SPILL)
        assert desk.told("drycc") == [("Normal", "Mended", 1), ("Warning", "NotPermitted", 1)]

    story(tell)


def test_many_problems_of_one_kind_fit_into_one_event() -> None:
    async def tell(desk: Desk) -> None:
        entries = ",".join(f"not-a-network-{'x' * 60}-{number}" for number in range(200))
        desk.hears(service("shop/web", {"domains": "shop", "whitelist": entries}))
        await asyncio.sleep(SPILL)
        for event in desk.there():
            assert len(event["message"].encode()) <= MAX_MESSAGE
        [event] = [each for each in desk.there() if each["reason"] == "BadElement"]
        assert event["message"].endswith("more: see /problems")

    story(tell)


def test_no_event_has_anything_of_a_secret() -> None:
    """Hardening K-01: a pair that is none, named by a Service; and every key with a value that is none."""

    async def tell(desk: Desk) -> None:
        says = {field.key: "\x00\u202e'c4n4ry" for field in FIELDS} | {"domains": "blog.example"}
        desk.hears(
            service("shop/web", {"domains": "shop.example", "certificates": "shop.example:shop"}),
            secret("shop/shop-cert", None),
            service("blog/web", says),
        )
        await asyncio.sleep(100)
        assert "CertificateBad" in [event["reason"] for event in desk.there()]
        assert "canary" not in str(desk.there())
        for event in desk.there("blog"):
            assert event["message"].isprintable()

    story(tell)


def test_a_write_does_not_outlast_the_leadership() -> None:
    async def tell(desk: Desk) -> None:
        desk.api.latency = 30.0
        desk.leader.left = 2.0
        desk.hears(bad())
        await asyncio.sleep(2.5)
        desk.is_elected(False)
        await asyncio.sleep(100)
        assert desk.there() == []

    story(tell)


def test_reasons_are_written_as_events_spell_them() -> None:
    assert word(Reason.BAD_VALUE) == "BadValue"
    assert word(Reason.CERTIFICATE_DOES_NOT_COVER) == "CertificateDoesNotCover"
