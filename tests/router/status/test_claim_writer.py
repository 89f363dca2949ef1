"""The record of claims on its way into the ConfigMap: only by the leader, only what follows what is there, never more
often than its size allows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest

from drycc_router.claims.record import ENTRY, MAX_ENCODED, UNREADABLE, Record, Recorded, Stamp, decode, encode
from drycc_router.model.objects import ObjectKey
from drycc_router.model.problems import Problem, Reason
from drycc_router.status.claim_writer import LOOK_AGAIN, PAUSE, REFUSED, RecordKeeper
from tests.fakes.apiserver.direct import Direct
from tests.fakes.apiserver.kinds import NAMESPACES, kind_of
from tests.fakes.apiserver.objects import config_map
from tests.fakes.apiserver.store import Store
from tests.fakes.timeline import play

KEY = ObjectKey("ConfigMap", "drycc", "drycc-router-claims")
CLAIM = ("shop.example", "shop/web")


class Leader:
    """Leads as long as the story says."""

    left = 10.0


class Desk:
    """A keeper at work, its ConfigMap, and what it complains about."""

    def __init__(self) -> None:
        self.store = Store()
        self.store.put(NAMESPACES, {"metadata": {"name": "drycc"}})
        self.api = Direct(self.store)
        self.leader = Leader()
        self.problems: tuple[Problem, ...] = ()
        self.complaints = 0
        self.keeper = RecordKeeper(self.api, KEY, self.leader, self.complain, chance=lambda: 0.0)
        self.serial = 0

    def complain(self, problems: tuple[Problem, ...]) -> None:
        self.complaints += problems != self.problems
        self.problems = problems

    def there(self, **data: str) -> None:
        """Somebody else puts the ConfigMap there."""
        document = config_map("drycc", KEY.name, data)
        self.store.put(kind_of(document), document)

    @property
    def data(self) -> dict[str, str]:
        data: dict[str, str] = self.store.get(kind_of(config_map("", "", {})), "drycc", KEY.name).document["data"]
        return data

    def record(self, since: int = 1, after: Stamp | None = None, author: str = "me", unread: str = "") -> Record:
        """The next one that this replica wants to have written."""
        self.serial += 1
        return Record(Stamp(author, self.serial), {CLAIM: Recorded(since, True)}, after, unread)

    def writes(self) -> list[float]:
        """When something was written."""
        return [each.at for each in self.api.log if each.verb in ("patch", "create") and each.code < 300]

    def asked(self) -> int:
        return len(self.api.log)


def story(tell: Callable[[Desk], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        desk = Desk()
        task = asyncio.ensure_future(desk.keeper.run())
        try:
            await tell(desk)
        finally:
            task.cancel()
            await asyncio.wait([task])

    play(run())


def test_what_is_there_is_replaced_and_other_entries_stay() -> None:
    async def tell(desk: Desk) -> None:
        desk.there(given="shop.example shop\n")
        desk.keeper.hear(desk.record(since=7))
        await asyncio.sleep(0.1)
        assert decode(desk.data[ENTRY]).claims == {CLAIM: Recorded(7, True)}
        assert desk.data["given"] == "shop.example shop\n"
        assert desk.keeper.outcomes == {"written": 1}

    story(tell)


def test_where_there_is_no_config_map_it_is_made() -> None:
    async def tell(desk: Desk) -> None:
        desk.keeper.hear(desk.record())
        await asyncio.sleep(0.1)
        assert decode(desk.data[ENTRY]).stamp == Stamp("me", 1)

    story(tell)


def test_who_does_not_lead_asks_nothing_and_writes_once_it_does() -> None:
    async def tell(desk: Desk) -> None:
        desk.there()
        desk.leader.left = 0.0
        desk.keeper.hear(desk.record())
        await asyncio.sleep(100)
        assert desk.asked() == 0
        desk.leader.left = 10.0
        desk.keeper.stir()
        await asyncio.sleep(0.1)
        assert len(desk.writes()) == 1
        desk.leader.left = 0.0
        desk.keeper.stir()
        desk.keeper.hear(desk.record())
        await asyncio.sleep(100)
        assert len(desk.writes()) == 1

    story(tell)


def test_a_write_does_not_outlast_the_leadership() -> None:
    async def tell(desk: Desk) -> None:
        desk.there()
        desk.api.latency = 4.0  # two seconds until GET is answered, then the patch
        desk.leader.left = 3.0
        desk.keeper.hear(desk.record())
        await asyncio.sleep(3.5)
        desk.leader.left = 0.0
        await asyncio.sleep(60)
        assert desk.writes() == []
        assert desk.keeper.outcomes == {"failed": 1}

    story(tell)


def test_the_word_of_another_replica_is_heard_before_it_is_replaced() -> None:
    async def tell(desk: Desk) -> None:
        theirs = Record(Stamp("other", 3), {CLAIM: Recorded(1, True)})
        desk.there(v1=encode(theirs))
        desk.keeper.hear(desk.record(since=9))
        await asyncio.sleep(5)
        assert decode(desk.data[ENTRY]) == theirs
        assert desk.keeper.outcomes == {"behind": 1}
        desk.keeper.hear(desk.record(since=1, after=theirs.stamp))  # the snapshot that has heard it
        await asyncio.sleep(5)
        assert decode(desk.data[ENTRY]).stamp == Stamp("me", 2)

    story(tell)


def test_a_storm_of_claims_is_a_write_a_second_and_the_last_one_is_there() -> None:
    async def tell(desk: Desk) -> None:
        desk.there()
        for since in range(1000):
            desk.keeper.hear(desk.record(since))
            await asyncio.sleep(0.01)
        await asyncio.sleep(PAUSE + 0.1)
        writes = desk.writes()
        assert len(writes) <= 12
        assert all(later - earlier > PAUSE - 0.01 for earlier, later in pairwise(writes))
        assert decode(desk.data[ENTRY]).claims == {CLAIM: Recorded(999, True)}

    story(tell)


def test_a_large_record_is_written_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "drycc_router.status.claim_writer.PACE", len(encode(Record(Stamp("me", 1), {CLAIM: Recorded(1, True)}))) / 5
    )

    async def tell(desk: Desk) -> None:
        desk.there()
        for since in range(100):
            desk.keeper.hear(desk.record(since))
            await asyncio.sleep(0.5)
        assert all(later - earlier > 4.8 for earlier, later in pairwise(desk.writes()))
        assert 9 <= len(desk.writes()) <= 11

    story(tell)


def test_what_an_api_server_would_refuse_is_not_sent_and_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drycc_router.status.claim_writer.entries", lambda record: {ENTRY: "x" * (MAX_ENCODED + 1)})

    async def tell(desk: Desk) -> None:
        desk.keeper.hear(desk.record())
        await asyncio.sleep(2)
        desk.keeper.hear(desk.record())
        await asyncio.sleep(2)
        assert desk.asked() == 0
        [problem] = desk.problems
        assert (problem.reason, problem.object, desk.complaints) == (Reason.OVER_QUOTA, KEY, 1)
        monkeypatch.undo()
        desk.keeper.hear(desk.record())
        await asyncio.sleep(2)
        assert desk.problems == ()

    story(tell)


def test_a_record_that_is_too_large_is_written_without_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """One owner's claims must not keep everybody's from being remembered."""
    monkeypatch.setattr("drycc_router.status.claim_writer.fitted", lambda record: (record, {"evil": 7, "bad": 9}))

    async def tell(desk: Desk) -> None:
        desk.there()
        desk.keeper.hear(desk.record())
        await asyncio.sleep(2)
        assert len(desk.writes()) == 1
        [problem] = desk.problems
        assert problem.reason is Reason.OVER_QUOTA
        assert problem.message.endswith("16 claims begin anew, of the namespaces bad, evil")
        monkeypatch.undo()
        desk.keeper.hear(desk.record(1))
        await asyncio.sleep(2)
        assert desk.problems == ()

    story(tell)


@pytest.mark.parametrize("verb", ["get", "patch", "create"])
def test_without_the_right_to_write_it_is_said_once_and_nothing_else_happens(verb: str) -> None:
    async def tell(desk: Desk) -> None:
        if verb != "create":
            desk.there()
        desk.api.refuses = {verb: 403}
        for since in range(30):
            desk.keeper.hear(desk.record(since))
            await asyncio.sleep(5)
        [problem] = desk.problems
        assert (problem.reason, problem.object, desk.complaints) == (Reason.NOT_PERMITTED, KEY, 1)
        assert desk.keeper.outcomes == {"refused": 1}
        desk.api.refuses = {}
        await asyncio.sleep(REFUSED)
        assert (len(desk.writes()), desk.problems) == (1, ())

    story(tell)


def test_what_another_wrote_meanwhile_into_another_entry_is_no_reason_to_give_up() -> None:
    async def tell(desk: Desk) -> None:
        desk.there()
        desk.api.latency = 1.0
        desk.keeper.hear(desk.record())
        await asyncio.sleep(1.2)  # read, and the write is on its way
        desk.there(given="shop.example shop\n")
        await asyncio.sleep(10)
        assert desk.keeper.outcomes == {"conflict": 1, "written": 1}
        assert desk.data["given"] == "shop.example shop\n"

    story(tell)


def test_a_server_that_fails_is_asked_again_ever_more_seldom() -> None:
    async def tell(desk: Desk) -> None:
        desk.there()
        desk.api.fails = 500
        desk.keeper.hear(desk.record())
        await asyncio.sleep(60)
        assert 5 <= desk.asked() <= 9
        desk.api.fails = ""
        await asyncio.sleep(31)
        assert len(desk.writes()) == 1

    story(tell)


def test_a_write_whose_answer_was_lost_is_found_done() -> None:
    async def tell(desk: Desk) -> None:
        desk.there()
        desk.api.latency = 1.0
        desk.keeper.hear(desk.record())
        await asyncio.sleep(1.2)
        desk.api.fails = "after"
        await asyncio.sleep(1)
        desk.api.fails = ""
        await asyncio.sleep(10)
        assert desk.keeper.outcomes == {"failed": 1, "there": 1}
        assert len(desk.writes()) == 1

    story(tell)


def test_a_record_that_vanished_unnoticed_is_written_again() -> None:
    async def tell(desk: Desk) -> None:
        desk.there()
        record = desk.record()
        desk.keeper.hear(record)
        await asyncio.sleep(1)
        desk.there()
        desk.keeper.hear(record)  # it came back and went in one batch, so the snapshot still wants the same
        await asyncio.sleep(LOOK_AGAIN + 1)
        assert decode(desk.data[ENTRY]) == record

    story(tell)


def test_what_came_back_is_not_written_again_until_it_is_wanted_again() -> None:
    async def tell(desk: Desk) -> None:
        desk.there()
        record = desk.record()
        desk.keeper.hear(record)
        await asyncio.sleep(1)
        desk.keeper.hear(None)
        await asyncio.sleep(600)
        assert desk.asked() == 2
        desk.there()
        desk.keeper.hear(record)
        await asyncio.sleep(1)
        assert decode(desk.data[ENTRY]) == record

    story(tell)


def test_a_text_that_could_not_be_read_is_kept_beside() -> None:
    async def tell(desk: Desk) -> None:
        desk.there(v1="scribble")
        desk.keeper.hear(desk.record())
        await asyncio.sleep(1)
        assert desk.data == {"v1": "scribble"}, "it was not said that it cannot be read"
        desk.keeper.hear(desk.record(unread="scribble"))
        await asyncio.sleep(1)
        assert desk.data[UNREADABLE] == "scribble"
        assert decode(desk.data[ENTRY]).stamp == Stamp("me", 2)

    story(tell)
