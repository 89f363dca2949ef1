"""One request, one watch, against an API server that behaves and one that does not."""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import uvloop
import yaml
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from kubernetes_asyncio.config import incluster_config

from drycc_router.kubernetes import client
from drycc_router.kubernetes.client import Api, WatchEvent
from drycc_router.kubernetes.errors import (
    ApiError,
    BadAnswer,
    Conflict,
    CredentialsError,
    Forbidden,
    FutureVersion,
    Gone,
    NotFound,
    ServerFailure,
    Silent,
    TooManyRequests,
    Unauthorized,
    Unexpected,
    Unreachable,
    Untrusted,
)
from drycc_router.kubernetes.resources import CONFIG_MAPS, DEPLOYMENTS, SECRETS, SERVICES
from examples.authority import Authority
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


# ── every failure has a name ──────────────────────────────────────────────────────────────────────────────────────────
def test_a_server_that_is_not_trusted_is_named_and_trusted_once_the_authority_is_mended(tmp_path: Path) -> None:
    """aiohttp's exception for this is an SSLError without the attributes of one."""

    async def run() -> None:
        async with asyncio.timeout(30), FakeApiServer(tls=True, audited=False) as server:
            right = yaml.safe_load(server.kubeconfig(tmp_path / "right").read_text())
            authority = right["clusters"][0]["cluster"].pop("certificate-authority-data")
            file = tmp_path / "ca.crt"
            file.write_bytes(Authority("another one").certificate)
            right["clusters"][0]["cluster"]["certificate-authority"] = str(file)
            (tmp_path / "config").write_text(yaml.safe_dump(right))
            api = await Api.connect(tmp_path / "config")
            try:
                for ask in (api.reach, lambda: names(api), lambda: everything(api.watch(SERVICES, None))):
                    with pytest.raises(
                        Untrusted, match="certificate verify failed: unable to get local issuer"
                    ) as told:
                        await ask()
                    assert told.value.label == "untrusted"
                    assert str(file) in str(told.value)
                file.write_text("no certificate")  # as it is while somebody writes it
                with pytest.raises(
                    Untrusted, match=r"certificate verify failed: .*; .*expected a certificate that can"
                ):
                    await names(api)
                file.write_bytes(base64.b64decode(authority))
                with pytest.raises(Untrusted):
                    await names(api)
                assert await names(api) == []
            finally:
                await api.close()

    uvloop.run(run())


async def everything(watch: AsyncGenerator[list[WatchEvent], None]) -> list[list[WatchEvent]]:
    return [batch async for batch in watch]


@pytest.mark.parametrize(
    "error", [AttributeError("canary"), RuntimeError("canary"), KeyError("canary"), ValueError("canary")], ids=repr
)
def test_what_nobody_foresaw_is_one_error_and_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    async def tell(server: FakeApiServer, api: Api) -> None:
        def fails(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(api._session, "request", fails)
        for ask in (api.reach, lambda: names(api), lambda: everything(api.watch(SERVICES, None))):
            with pytest.raises(Unexpected, match=f"unexpected {type(error).__name__}") as told:
                await ask()
            assert "canary" not in str(told.value)
        assert len([record for record in caplog.records if record.exc_info]) == 1

    story(tmp_path, tell)


def test_every_exception_of_the_libraries_below_has_a_name(tmp_path: Path) -> None:
    """Whatever aiohttp and ssl can raise, however it was made: no attribute of it is taken for granted."""
    key: Any = SimpleNamespace(host="api.example", port=443, is_ssl=True, ssl=True)
    kinds = [kind for kind in vars(aiohttp.client_exceptions).values() if isinstance(kind, type)]
    made: list[Exception] = [
        ssl.SSLError(),
        ssl.SSLError(1, "x"),
        ssl.SSLCertVerificationError(),
        OSError(),
        OSError(1, "x"),
    ]
    for kind in kinds:
        if not issubclass(kind, aiohttp.ClientError):
            continue
        for arguments in ((), ("x",), (key, OSError()), (key, ssl.SSLCertVerificationError()), (None, ()), (b"", b"")):
            try:
                made.append(kind(*arguments))
            except (TypeError, AttributeError):
                continue  # it cannot be made of these
    assert len(made) > 40

    async def tell(server: FakeApiServer, api: Api) -> None:
        for each in made:
            assert not isinstance(await api._failure(each), Unexpected), repr(type(each))

    story(tmp_path, tell)


def test_a_session_that_is_closed_under_a_request_does_not_end_the_task(tmp_path: Path) -> None:
    """aiohttp cancels the look-up of a name when its session is closed: nobody cancelled the one who asks."""

    async def tell(server: FakeApiServer, api: Api) -> None:
        assert isinstance(await api._failure(asyncio.CancelledError()), Unreachable)

        async def asks() -> None:
            asyncio.current_task().cancel()  # type: ignore[union-attr]  # it runs in one
            await names(api)

        task = asyncio.create_task(asks())
        await asyncio.wait([task])
        assert task.cancelled()

    story(tmp_path, tell)


def test_only_an_api_server_may_say_that_something_is_not_there(tmp_path: Path) -> None:
    """A proxy in between says 404, too, and the object may hold an allow-list."""

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(status=404, text="<h1>Not Found</h1>", content_type="text/html")

    async def run() -> None:
        async with RawTestServer(answer) as server:
            document = {
                "kind": "Config",
                "current-context": "it",
                "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
                "users": [{"name": "it", "user": {"token": "t"}}],
                "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{server.port}"}}],
            }
            (tmp_path / "config").write_text(yaml.safe_dump(document))
            api = await Api.connect(tmp_path / "config")
            try:
                with pytest.raises(BadAnswer, match="404"):
                    await api.get(DEPLOYMENTS, "drycc", "drycc-router")
            finally:
                await api.close()

    asyncio.run(run())


def test_a_version_from_the_future_is_named_wherever_it_is_said(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, api: Api) -> None:
        server.fault("future-event", verb="watch", times=1)
        with pytest.raises(FutureVersion) as told:
            await everything(api.watch(SERVICES, None, version="7"))
        assert told.value.retry_after == 1.0, "as the Status inside the watch asks"
        with pytest.raises(FutureVersion):
            await api._ask("GET", SERVICES.path(None), {"resourceVersion": "999999"})

    story(tmp_path, tell)
