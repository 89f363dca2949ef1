"""Changes to several workers: who is quick, who is slow, who is new, and who fails."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from drycc_proxy.metrics import Counters, RouteCounters, StreamCounters
from drycc_proxy.routing.definitions import Route, TableChange
from drycc_router.process.channel import Channel
from drycc_router.process.messages import (
    Applied,
    Ask,
    Begin,
    Commit,
    Counted,
    Failed,
    Message,
    OnePeer,
    RefusedLater,
    TablePart,
    Upstreams,
    WorkerHello,
    decode_for_worker,
    encode,
)
from drycc_router.roles import fanout
from drycc_router.roles.fanout import FanOut, Parcel, together
from drycc_tls.self_signed import self_signed
from drycc_tls.update import CertificateChange
from tests.fakes.wired import until

LOADS = {"in_flight": 3, "queued": 0}


class Worker:
    """The other end of a lane: notes what it is sent, and answers when it is told to."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.commits: list[int] = []
        self.willing = True
        self.fails = 0
        self.refused: tuple[str, ...] = ()
        self.ended = asyncio.Event()
        self.news = asyncio.Event()
        self.channel: Channel

    def hear(self, data: bytes) -> None:
        message = decode_for_worker(data)
        self.heard.append(message)
        self.news.set()
        match message:
            case Commit(generation):
                self.commits.append(generation)
                if self.fails:
                    self.fails -= 1
                    self.say(Failed(generation, "KeyError"))
                elif self.willing:
                    self.say(Applied(generation, self.refused))
            case Ask(number, "counters") if self.willing:
                self.say(Counted(number, {}, Counters(in_flight=2), {"cpu_seconds": 1.5}, last=True))
            case Ask(number, "upstreams") if self.willing:
                for route in ("a", "b"):
                    told = [{"route": route, **LOADS, "endpoints": [{"address": "x", "load": 2, "ejected": False}]}]
                    self.say(Upstreams(number, told, last=route == "b"))

    def say(self, message: Message) -> None:
        self.channel.send(encode(message))

    @property
    def routes(self) -> list[set[str]]:
        """Names of the routes in each part of a table it was sent."""
        return [set(message.change.routes) for message in self.heard if isinstance(message, TablePart)]

    @property
    def wholes(self) -> list[bool]:
        return [message.whole for message in self.heard if isinstance(message, Begin)]

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.news.clear()
            await asyncio.wait_for(self.news.wait(), 5)


async def joins(fan: FanOut, number: int, pid: int) -> Worker:
    worker = Worker()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    worker.channel = Channel(worker.hear, lambda _: worker.ended.set())
    await asyncio.get_running_loop().create_connection(lambda: worker.channel, sock=theirs)
    await fan.link(number, pid, ours)
    worker.say(WorkerHello(number, pid, 7, True))
    return worker


@asynccontextmanager
async def team(expected: int = 2, **arguments: Any) -> AsyncIterator[tuple[FanOut, list[Worker]]]:
    fan = FanOut(expected, **arguments)
    workers = [await joins(fan, number, 100 + number) for number in range(expected)]
    try:
        yield fan, workers
    finally:
        fan.close()
        for worker in workers:
            worker.channel.close()
            await worker.ended.wait()
        await asyncio.sleep(0)


def with_certificate(generation: int) -> tuple[CertificateChange, TableChange]:
    pair = self_signed(datetime.now(UTC))
    return CertificateChange(generation, certificates={"shop/cert": pair}), TableChange(generation)


def change(generation: int, *names: str, gone: tuple[str, ...] = ()) -> tuple[CertificateChange, TableChange]:
    routes = {name: Route(name, name, "shop", name) for name in names}
    return CertificateChange(generation), TableChange(generation, routes=routes, gone_routes=frozenset(gone))


def test_everybody_is_sent_the_change_and_says_so() -> None:
    async def story() -> None:
        async with team() as (fan, workers):
            stages: list[str] = []
            assert not fan.complete.is_set()
            await fan.publish(*change(1, "a"), stages.append)
            assert fan.complete.is_set()
            await fan.publish(*change(2, "b"))
            assert stages == ["certificates", "publish"]
            assert not fan.behind
            for worker in workers:
                assert worker.wholes == [True, False]
                assert worker.routes == [{"a"}, {"b"}]
            assert [lane.acknowledged for lane in fan.lanes] == [2, 2]
            assert [(lane.landlock, lane.tickets) for lane in fan.lanes] == [(7, True)] * 2

    asyncio.run(story())


def test_what_everybody_is_sent_is_written_once_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Message] = []

    def counting(message: Message) -> bytes:
        written.append(message)
        return encode(message)

    monkeypatch.setattr(fanout, "encode", counting)

    async def story() -> None:
        async with team(3) as (fan, workers):
            await fan.publish(*change(1, "a"))
            await fan.publish(*change(2, "b"))
            for worker in workers:
                assert worker.heard == written
            again = fan.everything()
            assert again is fan.everything()
            await asyncio.sleep(0)
            assert again is not fan.everything()

    asyncio.run(story())


def test_one_that_is_slow_holds_up_nobody_and_is_sent_the_rest_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "PATIENCE", 0.05)

    async def story() -> None:
        async with team() as (fan, (quick, slow)):
            await fan.publish(*change(1, "a"))
            slow.willing = False
            await fan.publish(*change(2, "b"))
            monkeypatch.setattr(fanout, "PATIENCE", 60.0)  # from now on nobody waits for it
            await fan.publish(*change(3, "c"))
            await fan.publish(*change(4, "d", gone=("a",)))
            assert quick.commits == [1, 2, 3, 4]
            assert slow.commits == [1, 2]
            slow.willing = True
            slow.say(Applied(2, ("shop/cert",)))
            await slow.until(lambda: slow.commits == [1, 2, 4])
            assert slow.routes[-1] == {"c", "d"}
            await fan.publish(*change(5))
            assert fan.lanes[1].acknowledged == 5

    asyncio.run(story())


def test_a_new_one_is_sent_everything_there_is() -> None:
    async def story() -> None:
        async with team() as (fan, workers):
            await fan.publish(*change(1, "a", "b"))
            await fan.publish(*change(2, "c", gone=("a",)))
            fan.lost(1, 101, "killed")
            workers[1].channel.close()
            await workers[1].ended.wait()
            workers[1] = late = await joins(fan, 1, 200)
            await late.until(lambda: late.commits == [2])
            assert late.routes == [{"b", "c"}]
            assert late.wholes == [True]
            assert fan.deaths == {(1, "killed"): 1}

    asyncio.run(story())


def test_one_that_fails_is_sent_everything_and_replaced_if_that_fails_too() -> None:
    async def story() -> None:
        wished: list[tuple[int, int]] = []
        asked = asyncio.Event()

        def replace(number: int, pid: int) -> None:
            wished.append((number, pid))
            asked.set()

        async with team(1, replace=replace) as (fan, [worker]):
            await fan.publish(*change(1, "a"))
            worker.fails = 1
            await fan.publish(*change(2, "b"))
            assert worker.wholes == [True, False, True]
            assert worker.routes[-1] == {"a", "b"}
            assert wished == []
            worker.fails = 2
            fan.lanes[0].offer(Parcel(*change(3, "c")))
            await worker.until(lambda: worker.fails == 0)
            await asyncio.wait_for(asked.wait(), 5)
            assert wished == [(0, 100)]

    asyncio.run(story())


def test_one_that_talks_nonsense_is_replaced_and_what_it_counted_stays() -> None:
    async def story() -> None:
        wished: list[tuple[int, int]] = []
        estates: list[bytes] = []
        async with team(1, replace=lambda *who: wished.append(who), bequeath=estates.append) as (fan, [worker]):
            await fan.publish(*change(1, "a"))
            worker.say(Counted(0, {}, Counters(tunnels=3), {}, last=True))
            worker.say(Applied(99, ()))
            await asyncio.wait_for(worker.ended.wait(), 5)
            assert wished == [(0, 100)]
            assert fan.sums().tunnels == 3
            [estate] = estates
            after = FanOut(1)
            after.ledger.inherit(estate)
            assert after.sums().tunnels == 3

    asyncio.run(story())


def test_one_that_ends_with_a_question_unread_is_not_taken_for_one_that_talks_nonsense() -> None:
    async def story() -> None:
        wished: list[tuple[int, int]] = []
        async with team(1, replace=lambda *who: wished.append(who)) as (fan, [worker]):
            await fan.publish(*change(1, "a"))
            worker.say(Counted(0, {}, Counters(tunnels=3), {}, last=True))
            worker.channel._transport.pause_reading()
            counting = asyncio.ensure_future(fan.count())
            await asyncio.sleep(0)  # asked
            worker.channel._transport.abort()
            await asyncio.wait_for(counting, 2)
            assert (fan.lanes, wished) == ([], [])
            assert fan.sums().tunnels == 3

    asyncio.run(story())


def test_certificates_that_one_refuses_are_refused() -> None:
    async def story() -> None:
        async with team() as (fan, workers):
            workers[1].refused = ("shop/cert",)
            await fan.publish(*with_certificate(1))
            assert fan.refused == {"shop/cert"}

    asyncio.run(story())


def test_certificates_that_a_worker_makes_up_are_not_refused() -> None:
    """An id without a slash raised a TypeError in control, and others became Problems of Secrets that do not exist."""

    async def story() -> None:
        async with team() as (fan, workers):
            heard = asyncio.Event()
            fan.refusals = heard.set
            workers[1].refused = ("none", "bank/cert")
            await fan.publish(*with_certificate(1))
            assert fan.refused == frozenset()
            workers[0].say(RefusedLater(("none", "bank/cert", "shop/cert")))
            await asyncio.wait_for(heard.wait(), 5)
            assert fan.refused == {"shop/cert"}

    asyncio.run(story())


def test_reports_of_all_are_one_and_do_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "ASK_SECONDS", 0.05)

    async def story() -> None:
        async with team() as (fan, workers):
            await fan.count()  # nobody has a table yet, nobody is asked
            await fan.publish(*change(1, "a", "b"))
            await fan.count()
            assert fan.sums().in_flight == 4
            assert fan.lanes[0].process == {"cpu_seconds": 1.5}
            [upstream, other] = cast(list[dict[str, Any]], await fan.upstreams())
            assert other == {**upstream, "route": "b"}
            assert upstream == {
                "route": "a",
                "in_flight": 6,
                "queued": 0,
                "endpoints": [{"address": "x", "load": 4, "ejected": False}],
            }
            workers[0].willing = False
            [upstream, other] = cast(list[dict[str, Any]], await fan.upstreams())
            assert other == {**upstream, "route": "b"}
            assert upstream["endpoints"] == [{"address": "x", "load": 2, "ejected": False}]
            await fan.count()
            assert fan.sums().in_flight == 4  # as it was

    asyncio.run(story())


def test_counters_are_of_the_app_that_control_knows() -> None:
    async def story() -> None:
        async with team() as (fan, workers):
            await fan.publish(*change(1, "a"))
            mine = RouteCounters("forged", "forged", "forged", {(200, "GET", "http/1.1"): 1})
            totals = Counters(unrouted=RouteCounters("forged", "", ""), routes={"x": mine})
            totals.streams = {"nobody": StreamCounters("forged", "", "")}
            workers[0].say(Counted(1, {"a": mine, "unknown": mine}, totals, {}, last=True))
            await until(lambda: "a" in fan.sums().routes)
            sums = fan.sums()
            assert sums.routes.keys() == {"a"}
            route = change(1, "a")[1].routes["a"]
            counted = sums.routes["a"]
            assert (counted.app, counted.namespace, counted.service) == (route.app, route.namespace, route.service)
            assert sums.unrouted.app == "_other"
            assert sums.streams == {}

    asyncio.run(story())


@pytest.mark.parametrize("how", ["a number out of range", "more than there is", "another shape", "usage"])
def test_a_worker_that_reports_what_cannot_be_is_replaced(how: str) -> None:
    replaced: list[int] = []

    async def story() -> None:
        async with team(replace=lambda number, _: replaced.append(number)) as (fan, workers):
            await fan.publish(*change(1, "a"))
            workers[0].willing = workers[1].willing = False
            asked = asyncio.create_task(fan.upstreams())
            await until(lambda: any(isinstance(each, Ask) for each in workers[0].heard))
            [number] = [each.number for each in workers[0].heard if isinstance(each, Ask)]
            upstream = {"route": "a", **LOADS, "endpoints": []}
            workers[0].say(
                {
                    "a number out of range": Counted(1, {}, Counters(log_lines=-(2**62)), {}, last=True),
                    "more than there is": Upstreams(number, 2 * [upstream], last=False),
                    "another shape": Upstreams(number, [upstream | {"endpoints": [{"address": []}]}], last=False),
                    "usage": Counted(1, {}, None, {"x y": 1.0}, last=True),
                }[how]
            )
            await until(lambda: bool(replaced))
            asked.cancel()

    asyncio.run(story())
    assert replaced == [0]


def test_whoever_reads_the_sums_hears_each_time_that_they_are_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "COUNT_SECONDS", 0)

    async def story() -> None:
        async with team() as (fan, _):
            await fan.publish(*change(1, "a"))
            heard: list[int] = []
            twice = asyncio.Event()

            async def counted() -> None:
                heard.append(fan.sums().in_flight)
                if len(heard) == 2:
                    twice.set()

            counting = asyncio.ensure_future(fan.keep_counting(counted))
            await asyncio.wait_for(twice.wait(), 5)
            counting.cancel()
            assert heard[:2] == [4, 4]

    asyncio.run(story())


def test_upstreams_that_only_one_has_and_words_that_differ() -> None:
    one = [{"route": "b", "endpoints": [{"address": "x", "load": 1, "ejected": False}], "note": None, "tags": ["t"]}]
    other: list[dict[str, Any]] = [
        {"route": "a", "endpoints": []},
        {
            "route": "b",
            "endpoints": [{"address": "x", "load": 1, "ejected": True}, {"address": "y"}],
            "note": "n",
            "tags": [],
        },
    ]
    assert together([one, other]) == [
        {"route": "a", "endpoints": []},
        {
            "route": "b",
            "endpoints": [{"address": "x", "load": 2, "ejected": True}, {"address": "y"}],
            "note": "n",
            "tags": ["t"],
        },
    ]


def test_what_is_counted_is_added_and_settings_are_not() -> None:
    one: dict[str, Any] = {"stream": "git", "port": None, "idle_timeout": 3.0, "open": 2, "endpoints": []}
    other = one | {"port": 2222, "open": 5}

    assert together([[one], [other]], by="stream") == [one | {"port": 2222, "open": 7}]


def test_an_address_that_everybody_of_one_worker_comes_from_is_told_until_that_worker_is_gone() -> None:
    async def story() -> None:
        async with team() as (fan, workers):
            told: list[str] = []
            heard = asyncio.Event()

            def peers() -> None:
                told.append(fan.one_peer)
                heard.set()

            fan.peers = peers
            for said, wanted in ((("", "2001:db8::1"), "2001:db8::1"), (("10.0.0.1", ""), "10.0.0.1")):
                for worker, address in zip(workers, said, strict=True):
                    heard.clear()
                    worker.say(OnePeer(address))
                    await asyncio.wait_for(heard.wait(), 5)
                assert told[-1] == wanted
            heard.clear()
            workers[0].channel.close()
            await asyncio.wait_for(heard.wait(), 5)
            assert told[-1] == ""

    asyncio.run(story())


def test_an_address_that_is_none_has_its_worker_replaced() -> None:
    async def story() -> None:
        replaced = asyncio.Queue[tuple[int, int]]()
        async with team(replace=lambda number, pid: replaced.put_nowait((number, pid))) as (fan, workers):
            workers[1].say(OnePeer('10.0.0.1"} 1'))
            assert await asyncio.wait_for(replaced.get(), 5) == (1, 101)
            assert fan.one_peer == ""

    asyncio.run(story())
