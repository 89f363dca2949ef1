"""One request, one watch, against an API server that behaves and one that does not."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from kubernetes_asyncio.config import incluster_config

from router.kubernetes import client
from router.kubernetes.client import Api, WatchEvent
from router.kubernetes.errors import (
    ApiError,
    BadAnswer,
    Conflict,
    CredentialsError,
    Forbidden,
    Gone,
    NotFound,
    ServerFailure,
    Silent,
    TooManyRequests,
    Unauthorized,
    Unreachable,
)
from router.kubernetes.resources import CONFIG_MAPS, SECRETS, SERVICES
from tests.fakes.apiserver.objects import secret, service
from tests.fakes.apiserver.server import FakeApiServer

Tell = Callable[[FakeApiServer, Api], Awaitable[None]]


def story(directory: Path, tell: Tell, *, tls: bool = True) -> None:
    async def run() -> None:
        async with asyncio.timeout(30), FakeApiServer(tls=tls, audited=False) as server:
            api = await Api.connect(server.kubeconfig(directory / "config"))
            try:
                await tell(server, api)
            finally:
                await api.close()
                await asyncio.sleep(0.0)

    uvloop.run(run())


async def names(api: Api, **options: Any) -> list[str]:
    found = []
    async with aclosing(api.pages(SERVICES, None, **options)) as pages:
        async for page in pages:
            found += [item["metadata"]["name"] for item in page.items]
    return found


@pytest.mark.parametrize("tls", [True, False])
def test_a_list_comes_page_by_page(tmp_path: Path, tls: bool) -> None:
    async def tell(server: FakeApiServer, api: Api) -> None:
        server.load(25)
        server.put(service("shop", "other"))
        assert len(await names(api, limit=10)) == 26
        assert await names(api, fields="metadata.name=other") == ["other"]
        pages = [record for record in server.audit.records if record.verb == "list"]
        assert len(pages) == 4
        assert pages[0].user_agent.startswith("drycc-router/")

    story(tmp_path, tell, tls=tls)


def test_one_object_or_none(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, api: Api) -> None:
        server.put(service("shop", "web", domains="shop.example"))
        assert (await api.get(SERVICES, "shop", "web"))["kind"] == "Service"
        with pytest.raises(NotFound):
            await api.get(SERVICES, "shop", "nobody")

    story(tmp_path, tell)


def test_writes_meet_each_other(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, api: Api) -> None:
        server.put(service("drycc", "so that the namespace is there".replace(" ", "-")))
        fresh = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "claims"}, "data": {"a": "1"}}
        first = await api.create(CONFIG_MAPS, "drycc", fresh)
        with pytest.raises(Conflict):
            await api.create(CONFIG_MAPS, "drycc", fresh)
        await api.put(CONFIG_MAPS, "drycc", "claims", {**first, "data": {"a": "2"}})
        with pytest.raises(Conflict):
            await api.put(CONFIG_MAPS, "drycc", "claims", {**first, "data": {"a": "3"}})
        merged = await api.patch(CONFIG_MAPS, "drycc", "claims", {"data": {"b": "4"}})
        assert merged["data"] == {"a": "2", "b": "4"}

    story(tmp_path, tell)


def test_a_watch_goes_on_from_a_version(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, api: Api) -> None:
        version = [page.version async for page in api.pages(SERVICES, None)][-1]
        server.put(service("shop", "web", domains="shop.example"))
        heard: list[WatchEvent] = []
        async with aclosing(api.watch(SERVICES, None, version=version)) as watch:
            assert await anext(watch) == []
            heard += await anext(watch)
            server.remove(service("shop", "web"))
            heard += await anext(watch)
        assert [event.type for event in heard] == ["ADDED", "DELETED"]

    story(tmp_path, tell)


def test_a_watch_without_a_version_tells_first_what_is_there(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, api: Api) -> None:
        server.put(secret("shop", "web-cert", {"tls.crt": b"a", "tls.key": b"b"}))
        server.put(secret("shop", "else", {"tls.crt": b"a", "tls.key": b"b"}))
        async with aclosing(api.watch(SECRETS, "shop", fields="metadata.name=web-cert")) as watch:
            assert await anext(watch) == []
            [event] = await anext(watch)
        assert (event.type, event.object["metadata"]["name"]) == ("ADDED", "web-cert")
        assert server.audit.foreign_secret_reads({("shop", "web-cert")}) == []

    story(tmp_path, tell)


def test_a_watch_ends_when_the_server_ends_it_with_a_bookmark_before(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, api: Api) -> None:
        version = [page.version async for page in api.pages(SERVICES, None)][-1]
        heard = [batch async for batch in api.watch(SERVICES, None, version=version, seconds=1.0)]
        assert heard[0] == []
        assert [event.type for batch in heard for event in batch] in (["BOOKMARK"], [])

    story(tmp_path, tell)


@pytest.mark.parametrize("how", ["status", "gone-event"])
def test_a_forgotten_version_is_gone_however_the_server_says_so(tmp_path: Path, how: str) -> None:
    async def tell(server: FakeApiServer, api: Api) -> None:
        server.fault(how, code=410, verb="watch", times=1)
        with pytest.raises(Gone):
            [batch async for batch in api.watch(SERVICES, None, version="1")]

    story(tmp_path, tell)


FAULTS: list[tuple[dict[str, Any], type[ApiError]]] = [
    ({"action": "status", "code": 500}, ServerFailure),
    ({"action": "status", "code": 429, "retry_after": 7}, TooManyRequests),
    ({"action": "status", "code": 403}, Forbidden),
    ({"action": "truncated"}, BadAnswer),
    ({"action": "html"}, BadAnswer),
    ({"action": "text-type"}, BadAnswer),
    ({"action": "cut"}, Unreachable),
    ({"action": "reset"}, Unreachable),
]


@pytest.mark.parametrize(("fault", "error"), FAULTS, ids=lambda part: getattr(part, "__name__", None))
@pytest.mark.parametrize("verb", ["list", "watch"])
def test_whatever_is_wrong_is_an_error_of_ours(
    tmp_path: Path, fault: dict[str, Any], error: type[ApiError], verb: str
) -> None:
    async def tell(server: FakeApiServer, api: Api) -> None:
        server.load(50)
        version = [page.version async for page in api.pages(SERVICES, None)][-1]
        server.put(service("shop", "web"))
        server.fault(**fault, verb=verb)
        with pytest.raises(error) as raised:
            if verb == "list":
                await names(api)
            else:
                [batch async for batch in api.watch(SERVICES, None, version=version)]
        if isinstance(raised.value, TooManyRequests):
            assert raised.value.retry_after == 7.0

    story(tmp_path, tell)


def test_silence_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.3)

    async def tell(server: FakeApiServer, api: Api) -> None:
        server.fault("silent", verb="watch")
        with pytest.raises(Silent):
            [batch async for batch in api.watch(SERVICES, None, version="1", seconds=0.3)]
        server.fault("stall", verb="list")
        with pytest.raises(Silent):
            await names(api)

    story(tmp_path, tell)


def test_an_event_of_megabytes_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_LINE", 1000)

    async def tell(server: FakeApiServer, api: Api) -> None:
        server.put(service("shop", "web", domains="x" * 200_000))
        with pytest.raises(BadAnswer, match="at most 1000 bytes"):
            [batch async for batch in api.watch(SERVICES, None, version="0")]

    story(tmp_path, tell)


def test_a_list_that_is_none_is_a_bad_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def tell(server: FakeApiServer, api: Api) -> None:
        documents: tuple[dict[str, Any], ...] = (
            {"items": []},
            {"metadata": {}, "items": []},
            {"metadata": {"resourceVersion": "1"}, "items": 1},
        )
        for document in documents:

            async def ask(*_: object, said: dict[str, Any] = document) -> dict[str, Any]:
                return said

            monkeypatch.setattr(api, "_ask", ask)
            with pytest.raises(BadAnswer, match="expected a list of services"):
                await names(api)

    story(tmp_path, tell)


def test_a_token_that_rotated_is_read_again(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, api: Api) -> None:
        server.rotate_token()
        assert await names(api) == []
        refused = [record for record in server.audit.records if record.code == 401]
        assert len(refused) == 1

    story(tmp_path, tell)


@pytest.mark.parametrize("jump", [timedelta(hours=-1), timedelta(days=-3650), timedelta(days=3650)], ids=str)
def test_in_a_pod_a_clock_that_jumps_keeps_no_token_for_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: timedelta
) -> None:
    """Hardening R-34: the library reads a Pod's token once a minute by the clock on the wall, which may stand still for
    ten years. So what counts is that a token which is no longer taken is read again."""

    class Jumped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Jumped:
            return cls.fromtimestamp(time.time(), tz) + jumped

    jumped = timedelta()
    monkeypatch.setattr(incluster_config, "datetime", SimpleNamespace(datetime=Jumped, timedelta=timedelta))

    async def run() -> None:
        nonlocal jumped
        async with asyncio.timeout(30), FakeApiServer(tls=True, audited=False) as server:
            for name, value in server.service_account(tmp_path).items():
                monkeypatch.setenv(name, value)
            monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
            monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
            api = await Api.connect(None)
            try:
                assert await names(api) == []
                jumped = jump
                for _ in range(2):
                    server.rotate_token()
                    assert await names(api) == []
            finally:
                await api.close()
            refused = [record for record in server.audit.records if record.code == 401]
            assert len(refused) <= 2, "once for each token, and not for each request"

    uvloop.run(run())


def test_a_token_that_is_wrong_for_good_is_said_to_be(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, api: Api) -> None:
        server.fault("status", code=401)
        with pytest.raises(Unauthorized):
            await names(api)

    story(tmp_path, tell)


def test_nobody_there_is_unreachable(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, api: Api) -> None:
        await api.reach()
        await server.down()
        with pytest.raises(Unreachable):
            await api.reach()
        await server.up()
        await api.reach()

    story(tmp_path, tell)


def test_any_answer_is_a_sign_of_life(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, api: Api) -> None:
        server.fault("status", code=503)
        await api.reach()

    story(tmp_path, tell)


@pytest.mark.parametrize(
    "text",
    ["", "canary: [", "apiVersion: v1\nkind: Config\ncurrent-context: nobody\n", "canary", "{}"],
)
def test_credentials_that_are_none_are_named_and_not_quoted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)

    async def run() -> None:
        with pytest.raises(CredentialsError, match="expected credentials for an API server") as raised:
            await Api.connect(path)
        assert str(path) in str(raised.value)
        assert "canary" not in str(raised.value)

    asyncio.run(run())


def test_no_token_and_no_object_is_ever_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def tell(server: FakeApiServer, api: Api) -> None:
        server.put(secret("shop", "web-cert", {"tls.crt": b"canary", "tls.key": b"canary"}))
        await api.get(SECRETS, "shop", "web-cert")
        for fault in ("truncated", "html", "cut"):
            server.fault(fault, times=1)
            with pytest.raises(ApiError) as raised:
                await api.get(SECRETS, "shop", "web-cert")
            assert "canary" not in str(raised.value)
        assert server.token not in caplog.text
        assert "canary" not in caplog.text
        assert server.token not in repr(api)

    story(tmp_path, tell)
