"""Objects by name against an API server: asked for, watched, or asked for in turn; and never anybody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from drycc_router.kubernetes import backoff
from drycc_router.kubernetes.backoff import Refusals
from drycc_router.kubernetes.client import Api, RawObject
from drycc_router.kubernetes.errors import Unexpected
from drycc_router.kubernetes.resources import Resource
from drycc_router.kubernetes.watch import Heard, Reach
from drycc_router.model.objects import Change, ObjectKey
from drycc_router.model.problems import Problem, Reason
from drycc_router.sources import fingerprints, objects_by_name
from drycc_router.sources.objects_by_name import NamedObjects
from drycc_router.translate.references import Wish
from tests.fakes.apiserver.objects import config_map, secret
from tests.fakes.apiserver.server import FakeApiServer


class Told:
    """What was told, and a way to wait for it."""

    def __init__(self, server: FakeApiServer) -> None:
        self.server = server
        self.objects: dict[str, Any] = {}
        """Name → what stands there; None once it was said to be gone."""
        self.problems: dict[str, tuple[Problem, ...]] = {}
        self.heard = Heard()
        self._news = asyncio.Event()
        self.named: NamedObjects

    def tell(self, change: Change) -> None:
        self.objects[change.key.name] = change.object
        self._news.set()

    def complain(self, about: str, problems: tuple[Problem, ...]) -> None:
        self.problems[about] = problems
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._news.clear()
            await self._news.wait()

    def text(self, name: str) -> str | None:
        raw = self.objects.get(name)
        return None if raw is None else raw["data"]["tls.crt"]

    def asked(self, name: str, verb: str) -> int:
        return sum(record.name == name and record.verb == verb for record in self.server.audit.records)

    @property
    def reasons(self) -> set[Reason]:
        return {problem.reason for each in self.problems.values() for problem in each}


Tell = Callable[[FakeApiServer, Told], Awaitable[None]]


def story(directory: Path, tell: Tell) -> None:
    async def run() -> None:
        async with asyncio.timeout(30), FakeApiServer(audited=False) as server:
            api = await Api.connect(server.kubeconfig(directory / "config"))
            told = Told(server)
            try:
                async with asyncio.TaskGroup() as group:
                    told.named = NamedObjects(
                        api, Reach(api), told.heard, group, tell=told.tell, complain=told.complain, asks=200.0
                    )
                    told.named.watch()
                    await tell(server, told)
                    told.named.wish("me", frozenset())
                    told.named.close()
            finally:
                await api.close()
            allowed = {("shop", name) for name in ("a-cert", "a-certificate", "a", "b-cert", "b-certificate", "b")}
            assert server.audit.foreign_secret_reads(allowed) == []

    uvloop.run(run())


def chain(name: str) -> Wish:
    return tuple(ObjectKey("Secret", "shop", each) for each in (f"{name}-cert", f"{name}-certificate", name))


def pair(name: str, text: str = "one") -> dict[str, Any]:
    return secret("shop", name, {"tls.crt": text.encode(), "tls.key": b"key", "other": b"canary"})


def b64(text: str) -> str:
    data: dict[str, str] = pair("x", text)["data"]
    return data["tls.crt"]


def just(*wishes: Wish) -> frozenset[Wish]:
    return frozenset(wishes)


def test_the_first_of_a_chain_is_enough(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, told: Told) -> None:
        server.put(pair("a-cert"))
        server.put(pair("a"))
        told.named.wish("me", just(chain("a")))
        assert not told.named.settled.is_set()
        await told.named.settled.wait()
        assert told.text("a-cert") == b64("one")
        assert "canary" not in str(told.objects)
        assert told.asked("a", "get") == told.asked("a-certificate", "get") == 0

    story(tmp_path, tell)


def test_a_chain_is_followed_to_the_first_that_is_there_and_an_earlier_one_may_come_later(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, told: Told) -> None:
        server.put(pair("a"))
        told.named.wish("me", just(chain("a")))
        await told.named.settled.wait()
        assert set(told.objects) == {"a"}
        server.put(pair("a-cert", "two"))
        await told.until(lambda: told.text("a-cert") == b64("two"))

    story(tmp_path, tell)


def test_what_is_not_there_is_an_answer_and_noticed_when_it_comes(tmp_path: Path) -> None:
    """Hardening C-04."""

    async def tell(server: FakeApiServer, told: Told) -> None:
        told.named.wish("me", just(chain("a")))
        await told.named.settled.wait()
        assert told.objects == {}
        server.put(pair("a-certificate"))
        await told.until(lambda: told.text("a-certificate") == b64("one"))

    story(tmp_path, tell)


def test_a_rotation_is_heard_not_asked_for(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, told: Told) -> None:
        server.put(pair("a-cert"))
        told.named.wish("me", just(chain("a")))
        await told.named.settled.wait()
        for turn in range(5):
            server.put(pair("a-cert", f"turn {turn}"))
            await told.until(lambda: told.text("a-cert") == b64(f"turn {turn}"))  # noqa: B023 -- awaited at once
        assert told.asked("a-cert", "get") == 1

    story(tmp_path, tell)


def test_a_secret_that_is_deleted_while_it_is_named_stays_and_somebody_is_told(tmp_path: Path) -> None:
    """Hardening C-03."""

    async def tell(server: FakeApiServer, told: Told) -> None:
        server.put(pair("a-cert"))
        told.named.wish("me", just(chain("a")))
        await told.named.settled.wait()
        server.remove(pair("a-cert"))
        await told.until(lambda: told.reasons == {Reason.CERTIFICATE_MISSING})
        assert told.text("a-cert") == b64("one")
        server.put(pair("a-cert", "two"))
        await told.until(lambda: told.text("a-cert") == b64("two"))
        assert told.reasons == set()
        server.remove(pair("a-cert"))
        await told.until(lambda: told.reasons == {Reason.CERTIFICATE_MISSING})
        told.named.wish("me", just())
        assert told.objects["a-cert"] is None
        assert told.reasons == set()

    story(tmp_path, tell)


def test_a_secret_that_was_replaced_by_the_next_of_its_chain_may_go(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, told: Told) -> None:
        server.put(pair("a-cert"))
        told.named.wish("me", just(chain("a")))
        await told.named.settled.wait()
        server.remove(pair("a-cert"))
        await told.until(lambda: told.reasons == {Reason.CERTIFICATE_MISSING})
        server.put(pair("a", "two"))
        await told.until(lambda: told.text("a") == b64("two"))
        assert told.objects["a-cert"] is None
        assert told.reasons == set()

    story(tmp_path, tell)


def test_a_config_map_that_is_deleted_is_gone(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, told: Told) -> None:
        server.put(config_map("shop", "sorry", {"index.html": "sorry"}))
        told.named.wish("me", just((ObjectKey("ConfigMap", "shop", "sorry"),)))
        await told.named.settled.wait()
        assert told.objects["sorry"]["data"] == {"index.html": "sorry"}
        server.remove(config_map("shop", "sorry", {}))
        await told.until(lambda: told.objects["sorry"] is None)

    story(tmp_path, tell)


def test_two_who_wish_for_the_same_share_it_and_the_last_one_lets_go(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, told: Told) -> None:
        server.put(pair("a-cert"))
        told.named.wish("me", just(chain("a")))
        told.named.wish("you", just(chain("a"), chain("b")))
        await told.named.settled.wait()
        assert told.asked("a-cert", "get") == 1
        told.named.wish("me", just())
        assert told.text("a-cert") == b64("one")
        told.named.wish("you", just(chain("b")))
        assert told.objects["a-cert"] is None
        told.named.wish("you", just())
        assert "0" in repr(told.named)

    story(tmp_path, tell)


def test_where_watching_is_forbidden_objects_are_asked_for_in_turn(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, told: Told) -> None:
        server.put(pair("a-cert"))
        server.fault("status", code=403, verb="watch", resource="secrets")
        told.named.wish("me", just(chain("a")))
        await told.named.settled.wait()
        server.put(pair("a-cert", "two"))
        await told.until(lambda: told.text("a-cert") == b64("two"))
        assert told.reasons == set()

    story(tmp_path, tell)


def test_more_than_can_be_watched_are_asked_for_in_turn_too(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(objects_by_name, "WATCHED", 1)

    async def tell(server: FakeApiServer, told: Told) -> None:
        server.put(pair("a-cert"))
        server.put(pair("b-cert"))
        told.named.wish("me", just(chain("a"), chain("b")))
        await told.named.settled.wait()
        server.put(pair("a-cert", "two"))
        server.put(pair("b-cert", "two"))
        await told.until(lambda: told.text("a-cert") == told.text("b-cert") == b64("two"))
        watched = {record.name for record in server.audit.records if record.verb == "watch"}
        assert len(watched) == 1

    story(tmp_path, tell)


def test_saying_a_wish_again_asks_at_once_for_what_is_not_watched(tmp_path: Path, monkeypatch: Any) -> None:
    """Whoever writes a Secret and then touches the Service does not wait for a turn."""
    monkeypatch.setattr(objects_by_name, "WATCHED", 0)

    async def tell(server: FakeApiServer, told: Told) -> None:
        told.named._turning.cancel()  # nobody takes turns
        server.put(pair("a-cert"))
        told.named.wish("me", just(chain("a")))
        await told.named.settled.wait()
        server.put(pair("a-cert", "two"))
        told.named.wish("me", just(chain("a")))
        await told.until(lambda: told.text("a-cert") == b64("two"))

    story(tmp_path, tell)


def test_a_right_that_is_missing_is_named_and_heals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardening R-13: what it said before stays, and nobody else is concerned."""
    monkeypatch.setattr(backoff, "BELIEVED", 0.3)

    async def tell(server: FakeApiServer, told: Told) -> None:
        server.put(pair("a-cert"))
        server.put(config_map("shop", "sorry", {"index.html": "sorry"}))
        server.fault("status", code=403, resource="secrets")
        told.named.wish("me", just(chain("a"), (ObjectKey("ConfigMap", "shop", "sorry"),)))
        await told.named.settled.wait()
        await told.until(lambda: "sorry" in told.objects)
        assert told.reasons == {Reason.NOT_PERMITTED}
        [problem] = told.problems["rights:Secret:shop"]
        assert str(problem.object) == "Secret shop/*"
        server.clear_faults()
        await told.until(lambda: told.text("a-cert") == b64("one") and told.reasons == set())

    story(tmp_path, tell)


def test_a_refusal_is_no_answer_before_it_is_believed(tmp_path: Path) -> None:
    """As a server that has just started gives it to everybody, for a moment."""

    async def tell(server: FakeApiServer, told: Told) -> None:
        server.put(pair("a-cert"))
        server.fault("status", code=403, times=2)
        told.named.wish("me", just(chain("a")))
        await told.named.settled.wait()
        assert told.text("a-cert") == b64("one"), "nothing was said before the object was"
        assert told.named.said(chain("a")[0]) is True
        assert told.reasons == set()
        assert told.heard.failures == {"forbidden": 2}

    story(tmp_path, tell)


class AnHour(Refusals):
    """Asks again after an hour."""

    def refused(self, now: float, asked: float = 0.0) -> float:
        super().refused(now, asked)
        return 3600.0


def test_what_may_not_be_read_is_asked_for_after_seconds_and_at_once_when_it_is_wished_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "BELIEVED", 0.0)
    monkeypatch.setattr(objects_by_name, "Refusals", AnHour)

    async def tell(server: FakeApiServer, told: Told) -> None:
        server.put(pair("a-cert"))
        server.fault("status", code=403, verb="get", resource="secrets", times=1)
        told.named.wish("me", just(chain("a")))
        await told.named.settled.wait()
        assert told.reasons == {Reason.NOT_PERMITTED}
        asked = told.asked("a-cert", "get")
        told.named.wish("you", just(chain("b")))
        await told.named.settled.wait()
        assert told.asked("a-cert", "get") == asked, "not in turn, every second"
        told.named.wish("me", just(chain("a")))
        await told.until(lambda: told.text("a-cert") == b64("one") and told.reasons == set())

    story(tmp_path, tell)


def test_a_failure_of_ours_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Api.get
    failures = [AttributeError("reason"), Unexpected("unexpected"), RuntimeError("x")]

    async def get(api: Api, resource: Resource, namespace: str, name: str) -> RawObject:
        if failures:
            raise failures.pop()
        return await real(api, resource, namespace, name)

    monkeypatch.setattr(Api, "get", get)

    async def tell(server: FakeApiServer, told: Told) -> None:
        server.put(pair("a-cert"))
        told.named.wish("me", just(chain("a")))
        await told.named.settled.wait()
        assert not failures
        assert told.text("a-cert") == b64("one")
        assert told.heard.failures == {"unexpected": 3}

    story(tmp_path, tell)


def test_an_object_that_cannot_be_taken_in_loses_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has been answered; that we can make nothing of it is our fault, and must not keep everybody else waiting."""
    real = fingerprints.narrow

    def narrow(kind: str) -> Callable[[RawObject], RawObject]:
        if kind == "ConfigMap":
            raise ValueError("canary")
        return real(kind)

    monkeypatch.setattr(objects_by_name, "narrow", narrow)

    async def tell(server: FakeApiServer, told: Told) -> None:
        page = ObjectKey("ConfigMap", "shop", "sorry")
        server.put(pair("a-cert"))
        server.put(config_map("shop", "sorry", {}))
        told.named.wish("me", just(chain("a"), (page,)))
        await told.named.settled.wait()
        await told.until(lambda: told.text("a-cert") == b64("one"))
        assert told.named.said(page) is None, "what it is stays unknown"

    story(tmp_path, tell)


def test_a_failure_of_ours_in_one_task_ends_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def regained(*_: object) -> None:
        raise AttributeError("reason")

    async def tell(server: FakeApiServer, told: Told) -> None:
        server.put(pair("a-cert"))
        told.named.wish("me", just(chain("a")))
        await told.named.settled.wait()
        await server.watches_are(1, "secrets")
        monkeypatch.setattr(Reach, "regained", regained)
        server.drop_watches("rst")
        server.put(pair("a-cert", "two"))
        await told.until(lambda: told.text("a-cert") == b64("two"))

    story(tmp_path, tell)


def test_an_api_server_that_fails_is_asked_again(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, told: Told) -> None:
        server.put(pair("a-cert"))
        server.fault("status", code=500, verb="get", times=1)
        server.fault("reset", verb="get", times=1)
        told.named.wish("me", just(chain("a")))
        await told.named.settled.wait()
        assert told.text("a-cert") == b64("one")

    story(tmp_path, tell)
