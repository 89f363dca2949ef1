"""One kind of objects for ever: dialogues with a server that follows a script."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import pytest

from drycc_router.kubernetes.client import Listed, RawObject, WatchEvent
from drycc_router.kubernetes.errors import (
    ApiError,
    BadAnswer,
    Forbidden,
    FutureVersion,
    Gone,
    TooManyRequests,
    Unexpected,
    Unreachable,
    Untrusted,
)
from drycc_router.kubernetes.resources import SERVICES, Resource
from drycc_router.kubernetes.watch import Away, Back, Heard, News, Reach, Relisted, Scope, Seen, follow

SCOPE = Scope(SERVICES, None, labels="routable")


def thing(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"namespace": "shop", "name": name, "resourceVersion": str(version)}}


def event(type: str, name: str, version: int) -> WatchEvent:
    return WatchEvent(type, thing(name, version))


class Script:
    """An API server that does as it is told: each list and each watch takes the next line of its script."""

    def __init__(self) -> None:
        self.lists: deque[list[Listed | ApiError]] = deque()
        self.watches: deque[list[list[WatchEvent] | ApiError]] = deque()
        self.reaches: deque[ApiError | None] = deque()
        self.asked: list[str] = []
        """What was asked of it: ``list``, ``watch VERSION``, ``reach``, and ``sleep SECONDS`` in between."""
        self.seconds = 0.0

    async def reach(self) -> None:
        self.asked.append("reach")
        error = self.reaches.popleft() if self.reaches else None
        if error:
            raise error

    async def pages(
        self, resource: Resource, namespace: str | None, *, labels: str = "", fields: str = ""
    ) -> AsyncGenerator[Listed, None]:
        assert (resource, namespace, labels) == (SERVICES, None, "routable")
        self.asked.append("list")
        for page in self.lists.popleft():
            if isinstance(page, ApiError):
                raise page
            yield page

    async def watch(
        self,
        resource: Resource,
        namespace: str | None,
        *,
        labels: str = "",
        fields: str = "",
        version: str | None = None,
        seconds: float = 45.0,
    ) -> AsyncGenerator[list[WatchEvent], None]:
        assert (resource, namespace, labels) == (SERVICES, None, "routable")
        self.asked.append(f"watch {version}")
        if not self.watches:
            await asyncio.Event().wait()
        for part in self.watches.popleft():
            if isinstance(part, ApiError):
                raise part
            yield part
        self.seconds += 45.0

    async def sleep(self, seconds: float) -> None:
        self.asked.append(f"sleep {seconds:g}")
        self.seconds += seconds
        await asyncio.sleep(0)


def page(*things: dict[str, Any], version: int = 1) -> Listed:
    return Listed(tuple(things), str(version))


def hears(
    script: Script,
    count: int,
    *,
    heard: Heard | None = None,
    judge: Callable[[tuple[RawObject, ...]], float] = lambda _: 0.0,
    glimpse: Callable[[list[RawObject]], None] = lambda _: None,
) -> list[News]:
    """The first ``count`` news of the scope."""

    async def run() -> list[News]:
        reach = Reach(script, clock=lambda: script.seconds, sleep=script.sleep, chance=lambda: 0.0)
        news: list[News] = []
        stream = follow(
            script,
            SCOPE,
            reach,
            heard or Heard(),
            judge=judge,
            glimpse=glimpse,
            clock=lambda: script.seconds,
            sleep=script.sleep,
            chance=lambda: 0.0,
        )
        async with asyncio.timeout(10), aclosing(stream):
            async for each in stream:
                news.append(each)
                if len(news) == count:
                    break
        return news

    return asyncio.run(run())


def test_a_list_of_all_pages_then_what_happens_from_its_version_on() -> None:
    script = Script()
    script.lists.append([page(thing("a", 3), version=7), page(thing("b", 4), version=7)])
    script.watches.append([[], [event("ADDED", "c", 8)], [event("BOOKMARK", "", 9)], [event("DELETED", "a", 10)]])
    heard = Heard()

    news = hears(script, 4, heard=heard)

    assert news == [
        Relisted((thing("a", 3), thing("b", 4)), "7", "start"),
        Back(),
        Seen((event("ADDED", "c", 8),)),
        Seen((event("DELETED", "a", 10),)),
    ]
    assert script.asked == ["list", "watch 7"]
    assert heard.events == {("Service", "added"): 1, ("Service", "bookmark"): 1, ("Service", "deleted"): 1}
    assert not heard.relists


def test_a_watch_that_ends_or_breaks_goes_on_where_it_was_without_a_list() -> None:
    """Hardening R-05."""
    script = Script()
    script.lists.append([page(version=7)])
    script.watches.append([[], [event("ADDED", "a", 8)]])
    script.watches.append([[], [event("BOOKMARK", "", 20)], Unreachable("reset")])
    script.watches.append([[], [event("ADDED", "b", 21)]])

    news = hears(script, 7)

    assert [type(each) for each in news] == [Relisted, Back, Seen, Back, Away, Back, Seen]
    assert script.asked == ["list", "watch 7", "watch 8", "sleep 0.5", "reach", "watch 20"]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_version_that_is_gone_is_one_list_more(at_once: bool) -> None:
    """Hardening R-06."""
    script = Script()
    script.lists.append([page(thing("a", 3), version=7)])
    script.watches.append([Gone(410, "too old")] if at_once else [[], Gone(410, "too old")])
    script.lists.append([page(version=30)])
    script.watches.append([[], [event("ADDED", "b", 31)]])
    heard = Heard()

    news = hears(script, 4 if at_once else 5, heard=heard)

    assert [each for each in news if isinstance(each, Relisted)] == [
        Relisted((thing("a", 3),), "7", "start"),
        Relisted((), "30", "gone"),
    ]
    assert script.asked == ["list", "watch 7", "list", "watch 30"]
    assert heard.relists == {"gone": 1}


def test_pages_that_expire_begin_again_and_give_up_some_day() -> None:
    script = Script()
    script.lists.append([page(thing("a", 3), version=7), Gone(410, "expired")])
    script.lists.append([page(thing("a", 3), version=9)])
    assert hears(script, 1) == [Relisted((thing("a", 3),), "9", "start")]

    script = Script()
    script.lists.extend([Gone(410, "expired")] for _ in range(5))
    [away] = hears(script, 1)
    assert isinstance(away, Away)
    assert isinstance(away.error, BadAnswer)


def test_nothing_is_told_before_the_first_whole_list() -> None:
    """Hardening R-09: a router that starts while the API server is away is not ready."""
    script = Script()
    script.lists.append([Unreachable("refused")])
    script.reaches.extend([Unreachable("refused"), Unreachable("refused"), None])
    script.lists.append([page(thing("a", 3), version=7), BadAnswer("cut")])
    script.lists.append([page(thing("a", 3), version=7)])

    news = hears(script, 3)

    assert [type(each) for each in news] == [Away, Away, Relisted]
    assert script.asked == [
        "list",
        *("sleep 0.5", "reach", "sleep 1", "reach", "sleep 1.5", "reach"),
        "list",
        "sleep 0.5",
        "list",
    ]


@pytest.mark.parametrize(
    ("error", "pause"),
    [(TooManyRequests(429, "", 7.0), "sleep 7"), (Forbidden(403, "no"), "sleep 0.5"), (BadAnswer("x"), "sleep 0.5")],
)
def test_a_refusal_waits_as_long_as_it_asks_for_and_goes_on_where_it_was(error: ApiError, pause: str) -> None:
    script = Script()
    script.lists.append([page(version=7)])
    script.watches.append([error])
    script.watches.append([[], [event("ADDED", "a", 8)]])

    news = hears(script, 4)

    assert [type(each) for each in news] == [Relisted, Away, Back, Seen]
    assert script.asked == ["list", "watch 7", pause, "watch 7"]


def test_a_server_that_ends_every_watch_at_once_is_not_hammered() -> None:
    script = Script()
    script.lists.append([page(version=7)])
    for _ in range(3):
        script.watches.append([[]])

    async def nothing_passes(seconds: float) -> None:
        script.asked.append(f"sleep {seconds:g}")

    script.sleep = nothing_passes  # type: ignore[method-assign]  # this script alone
    original, script.seconds = script.watch, 0.0

    async def short(*arguments: Any, **options: Any) -> AsyncGenerator[list[WatchEvent], None]:
        async for part in original(*arguments, **options):
            yield part
        script.seconds -= 45.0

    script.watch = short  # type: ignore[method-assign]  # this script alone

    hears(script, 4)

    assert script.asked == ["list", "watch 7", "sleep 0.5", "watch 7", "sleep 1", "watch 7"]


def future() -> FutureVersion:
    return FutureVersion(504, "Timeout: Too large resource version: 7, current: 3", 1.0)


def test_a_version_that_the_server_does_not_know_yet_is_waited_for_and_then_listed_anew() -> None:
    """An etcd that is too old: the watch begins well and is refused inside. It is not taken for one that is heard."""
    script = Script()
    script.lists.extend([[page(version=7)], [page(version=8)]])
    script.watches.extend([[[], future()], [[], future()], [[], future()], [[], [event("ADDED", "a", 9)]]])
    heard = Heard()

    news = hears(script, 8, heard=heard)

    assert [type(each) for each in news] == [Relisted, Back, Away, Away, Away, Relisted, Back, Seen]
    assert script.asked == [
        *("list", "watch 7", "sleep 1", "watch 7", "sleep 1", "watch 7", "sleep 2"),
        *("list", "watch 8"),
    ]
    assert heard.failures == {"futureversion": 3}
    assert heard.relists == {"future": 1}
    assert heard.connected == {"Service": 0}


def test_one_refusal_inside_a_watch_goes_on_where_it_was() -> None:
    script = Script()
    script.lists.append([page(version=7)])
    script.watches.extend([[[], future()], [[], [event("BOOKMARK", "", 9)]]])

    news = hears(script, 4)

    assert [type(each) for each in news] == [Relisted, Back, Away, Back]
    assert script.asked == ["list", "watch 7", "sleep 1", "watch 7"]


def test_watches_that_say_nothing_at_all_are_not_believed() -> None:
    """A server that was restored from a backup says nothing to who is ahead of it: no event, and no bookmark either."""
    script = Script()
    script.lists.extend([[page(version=7)], [page(thing("a", 3), version=3)]])
    script.watches.extend([[[]], [[]]])
    heard = Heard()

    news = hears(script, 4, heard=heard)

    assert [type(each) for each in news] == [Relisted, Back, Back, Relisted]
    assert script.asked == ["list", "watch 7", "watch 7", "list"]
    assert heard.relists == {"silent": 1}


def test_a_right_that_is_missing_is_looked_for_after_seconds_and_in_the_end_after_minutes() -> None:
    script = Script()
    for _ in range(12):
        script.lists.append([Forbidden(403, "no")])
    script.lists.append([page(version=7)])

    hears(script, 13)

    pauses = [float(each.removeprefix("sleep ")) for each in script.asked if each.startswith("sleep")]
    assert pauses == [0.5, 1.0, 2.0, 1.5, 8.0, 16.0, 32.0, 64.0, 120.0, 120.0, 120.0, 120.0]


def test_whoever_looks_whether_the_server_is_back_survives_whatever_goes_wrong_with_that() -> None:
    script = Script()
    script.lists.extend([[Unreachable("away")], [page(version=7)]])
    script.reaches.extend([Unexpected("unexpected AttributeError"), None])

    news = hears(script, 2)

    assert [type(each) for each in news] == [Away, Relisted]
    assert script.asked[:5] == ["list", "sleep 0.5", "reach", "sleep 1", "reach"]


def test_a_server_that_is_not_trusted_has_a_line_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    script = Script()
    script.lists.extend([[Untrusted("certificate verify failed: self-signed certificate")], [page(version=7)]])

    hears(script, 2)

    [line] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "not trusted: certificate verify failed: self-signed certificate" in line.message


def test_a_list_that_is_doubted_is_asked_for_again_and_not_told() -> None:
    """Hardening R-11."""
    script = Script()
    script.lists.extend([[page(version=7)], [page(version=8)], [page(thing("a", 3), version=9)]])
    doubts = [30.0, 30.0, 0.0]
    heard = Heard()

    news = hears(script, 1, heard=heard, judge=lambda _: doubts.pop(0))

    assert news == [Relisted((thing("a", 3),), "9", "doubt")]
    assert script.asked == ["list", "sleep 30", "list", "sleep 30", "list"]
    assert heard.relists == {"doubt": 2}


def test_what_has_no_metadata_loses_nobody_else() -> None:
    """Hardening R-10."""
    script = Script()
    things: Any = (thing("a", 3), {}, "what?")
    script.lists.append([Listed(things, "7")])
    script.watches.append([[], [WatchEvent("ADDED", {}), event("ADDED", "b", 8)], [WatchEvent("ADDED", {})]])
    script.watches.append([[]])

    news = hears(script, 5)

    assert news[0] == Relisted((thing("a", 3), {}), "7", "start")
    assert news[2] == Seen((WatchEvent("ADDED", {}), event("ADDED", "b", 8)))
    assert script.asked[-1] == "watch 8"


def test_of_all_who_wait_for_a_server_one_asks() -> None:
    """Hardening R-08: one small question for everybody, however many watches there are."""
    script = Script()
    script.reaches.extend(Unreachable("refused") for _ in range(9))

    async def run() -> None:
        reach = Reach(script, clock=lambda: script.seconds, sleep=script.sleep, chance=lambda: 0.0)
        async with asyncio.timeout(10):
            await asyncio.gather(*(reach.regained(Unreachable("reset")) for _ in range(20)))
        assert reach.since is None

    asyncio.run(run())
    assert script.asked.count("reach") == 10
    pauses = [float(line.split()[1]) for line in script.asked if line.startswith("sleep")]
    assert pauses == [0.5, 1, *[1.5] * 8], "it is found again soon after its return"


def test_an_outage_is_a_line_every_ten_seconds_at_most(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    script = Script()
    script.reaches.extend(Unreachable("refused") for _ in range(9))

    async def run() -> None:
        reach = Reach(script, clock=lambda: script.seconds, sleep=script.sleep, chance=lambda: 0.0)
        await reach.regained(Unreachable("reset"))

    asyncio.run(run())
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "the API server is away (reset); what is known stays in force",
        "the API server is away (refused); what is known stays in force",
        "the API server answers again",
    ]


def test_open_watches_are_counted() -> None:
    script = Script()
    script.lists.append([page(version=7)])
    script.watches.append([[]])
    heard = Heard()

    async def run() -> None:
        stream: AsyncGenerator[News, None]
        stream = follow(script, SCOPE, Reach(script), heard, clock=lambda: script.seconds)
        async with aclosing(stream):
            await anext(stream)
            assert heard.connected == {}
            await anext(stream)
            assert heard.connected == {"Service": 1}
        assert heard.connected == {"Service": 0}

    asyncio.run(run())


def test_each_page_is_shown_as_it_comes_whether_or_not_the_list_is_ever_complete() -> None:
    script = Script()
    one, other = thing("a", 1), thing("b", 1)
    script.lists += [[page(one), Gone(410, "")], [page(one), page(other)]]
    seen: list[list[RawObject]] = []

    [relisted] = hears(script, 1, glimpse=seen.append)

    assert seen == [[one], [one], [other]]
    assert relisted == Relisted((one, other), "1", "start")
