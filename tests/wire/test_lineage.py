"""What routers of this family have always done, as a cluster's objects ask for it and visitors see it.

The numbers are those of the acceptance cases that were drawn from the ancestors. What needs no cluster is told in
``tests/stories``: client addresses (5, 17), the log (9), tunnels and pushes (8, 16).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from drycc_router.model.problems import Reason
from drycc_router.translate.annotations.schema import Place, known_keys
from tests.fakes.apiserver.objects import deployment, service
from tests.fakes.apiserver.server import FakeApiServer
from tests.fakes.clustered import BETWEEN, Named, Shipped, app_of, named, shipped
from tests.fakes.wired import on_loop

Tell = Callable[["Town"], Awaitable[None]]


class Town:
    def __init__(self, server: FakeApiServer, router: Shipped, app: Named, other: Named) -> None:
        self.server = server
        self.router = router
        self.app = app
        self.other = other

    def says(self, name: str = "shop/web", app: Named | None = None, domains: str | None = None, **keys: str) -> None:
        """Let a Service say something; ``_`` stands for a dot in a key."""
        says = {key.replace("_", "."): text for key, text in keys.items()}
        for document in app_of(name, app or self.app, says=says, domains=domains):
            self.server.put(document)

    def operator_says(self, **keys: str) -> None:
        """Let the router's Deployment say something, and that apps may be on loopback, as these are."""
        self.server.put(deployment({"allowedNetworks": "127.0.0.0/8", **keys}))

    async def route(self, name: str) -> dict[str, Any] | None:
        """What ``/routes`` says of a Service, if it knows it."""
        routes = (await self.router.report("/routes"))["routes"]
        return next((each for each in routes if each["name"] == name), None)

    async def until_problems(self, reason: Reason, count: int) -> list[dict[str, Any]]:
        """Until there are so many for a reason."""
        while len(problems := await self.router.problems(reason)) != count:  # noqa: ASYNC110 -- another process's work
            await asyncio.sleep(BETWEEN)
        return problems


def plays(directory: Path, tell: Tell, **operator: str) -> None:
    """Tell it to the program, with one worker: what has changed for one request has changed for the next one."""

    async def play() -> None:
        async with named("app") as app, named("other") as other, FakeApiServer() as server:
            for document in app_of("shop/web", app):
                server.put(document)
            async with shipped(server, directory, "--workers", "1", operator=operator) as router:
                await tell(Town(server, router, app, other))

    on_loop(play())


def test_1_the_label_and_the_domains_decide(tmp_path: Path) -> None:
    async def tell(town: Town) -> None:
        ask = town.router
        assert await ask.status("web.example") == 200
        assert await ask.status("unknown.example") == 404
        assert await ask.status("unknown.example", "/healthz") == 200
        unlabelled = service("shop", "web", domains="web.example", routable=False)
        town.server.put(unlabelled)
        await ask.answers("web.example", 404)
        town.says()
        await ask.answers("web.example", 200)
        unlabelled["metadata"]["labels"]["router.drycc.cc/routable"] = "false"
        town.server.put(unlabelled)
        await ask.answers("web.example", 404)
        town.server.put(service("shop", "web"))
        town.says("shop/api")
        await ask.answers("api.example", 200)
        assert await ask.status("web.example") == 404

    plays(tmp_path, tell)


def test_2_names_of_every_kind(tmp_path: Path) -> None:
    async def tell(town: Town) -> None:
        ask = town.router
        town.says(domains="web,*.wild.example,Exact.example")
        await ask.answers("web.whatever.example", 200)
        for host in ("a.wild.example", "a.b.wild.example", "exact.example", "EXACT.example", "exact.example:8080"):
            assert await ask.status(host) == 200, host
        for host in ("wild.example", "b.exact.example", "web"):
            assert await ask.status(host) == 404, host
        town.operator_says(platformDomain="apps.example")
        await ask.answers("web.whatever.example", 404)
        assert await ask.status("web.apps.example") == 200

    plays(tmp_path, tell)


@pytest.mark.parametrize("word", ["true", "True", "TRUE"])
def test_4_https_is_enforced_and_hsts_said_over_https_alone(tmp_path: Path, word: str) -> None:
    async def tell(town: Town) -> None:
        town.says(ssl_enforce=word)
        await town.router.answers("web.example", 301)
        answer = await town.router.ask("web.example", "/a/b?c=d&e")
        assert b"\r\nLocation: https://web.example/a/b?c=d&e" in answer.head
        assert (await town.router.ask("web.example", method="POST", fields="Content-Length: 0\r\n")).status == 308
        town.says(ssl_hsts_enabled=word, ssl_hsts_maxAge="100")
        await town.router.answers("web.example", 301)
        field = b"\r\nStrict-Transport-Security"
        secure = await town.router.ask("web.example", tls=True)
        while field not in secure.head:
            secure = await town.router.ask("web.example", tls=True)
        assert field not in (await town.router.ask("web.example")).head
        assert (secure.status, secure.body) == (200, b"app")
        assert b"\r\nStrict-Transport-Security: max-age=100" in secure.head

    plays(tmp_path, tell)


def test_6_maintenance_holds_for_every_method_and_ends(tmp_path: Path) -> None:
    async def tell(town: Town) -> None:
        ask = town.router
        town.says(maintenance="true")
        await ask.answers("web.example", 503)
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            answer = await ask.ask("web.example", method=method, fields="Content-Length: 0\r\n")
            assert answer.status == 503, method
            assert b"\r\nRetry-After:" in answer.head
        town.says(maintenance="false")
        await ask.answers("web.example", "app")
        slice_ = app_of("shop/web", town.app)[1]
        town.server.remove(slice_)
        await ask.answers("web.example", 503)
        town.server.put(slice_)
        await ask.answers("web.example", "app")

    plays(tmp_path, tell)


def test_7_paths_that_another_app_answers(tmp_path: Path) -> None:
    async def tell(town: Town) -> None:
        ask = town.router
        town.says("shop/api", town.other, proxyDomain="web.example", proxyLocations="/api,/v1")
        await ask.answers("api.example", "other")

        async def body(path: str) -> bytes:
            return (await ask.ask("web.example", path)).body

        assert [await body(path) for path in ("/api", "/api/x", "/v1?q")] == [b"other"] * 3
        assert [await body(path) for path in ("/", "/apis", "/v12")] == [b"app"] * 3
        town.says("shop/api", town.other, proxyDomain="web.example", proxyLocations="/api,/v1", maintenance="true")
        await ask.answers("api.example", 503)
        assert await ask.status("web.example", "/api/x") == 503
        assert await body("/") == b"app"
        town.says("else/where", town.other, proxyDomain="web.example", proxyLocations="/mine")
        await ask.answers("where.example", "other")
        assert await body("/mine") == b"app", "another namespace, and nobody let it in"
        await town.router.until_problem(Reason.LOCATIONS_NOT_ALLOWED)

    plays(tmp_path, tell)


def test_10_an_invalid_setting_is_its_default_and_named(tmp_path: Path) -> None:
    async def tell(town: Town) -> None:
        before = await town.route("shop/web")
        assert before
        town.operator_says(bodySize="huge", defaultTimeout="-1s")
        problems = await town.until_problems(Reason.BAD_VALUE, 2)
        assert await town.route("shop/web") == before
        told = {(problem["key"].partition("/")[2], problem["value"]) for problem in problems}
        assert told == {("bodySize", "huge"), ("defaultTimeout", "-1s")}

    plays(tmp_path, tell)


def test_12_allow_lists_honour_what_can_be_read_and_fail_closed(tmp_path: Path) -> None:
    async def tell(town: Town) -> None:
        ask = town.router
        town.says(whitelist="2001:db8::/32,10.0.0.0/255.0.0.0")
        await ask.answers("web.example", 403)
        town.says(whitelist="nonsense,127.0.0.0/8")
        await ask.answers("web.example", 200)
        await ask.until_problem(Reason.BAD_ELEMENT)
        town.says(whitelist="nonsense")
        await ask.answers("web.example", 403)
        await ask.until_problem(Reason.NOTHING_ALLOWED)

    plays(tmp_path, tell)


def test_13_names_of_the_platform_are_the_platforms(tmp_path: Path) -> None:
    async def tell(town: Town) -> None:
        ask = town.router
        town.says(domains="web.example,drycc,grafana,*.apps.example,apps.example")
        town.says("shop/marker")
        await ask.answers("marker.example", 200)
        for host in ("drycc.apps.example", "grafana.apps.example", "apps.example", "x.apps.example"):
            assert await ask.status(host) == 404, host
        await town.until_problems(Reason.RESERVED_DOMAIN, 4)
        town.says("drycc/controller", town.other, domains="drycc")
        await ask.answers("drycc.apps.example", "other")

    plays(tmp_path, tell, platformDomain="apps.example")


INJECTED = ("x;}\nserver{return 418;}", "x\r\nInjected: yes", "$injected{{injected}}", '"><injected>', "`injected`\0")


@pytest.mark.parametrize("text", INJECTED)
def test_14_no_text_of_an_owner_becomes_configuration(tmp_path: Path, text: str) -> None:
    async def tell(town: Town) -> None:
        says = dict.fromkeys((key for key in known_keys(Place.APP) if key != "domains"), text)
        for document in app_of("shop/evil", town.other, says=says):
            town.server.put(document)
        await town.router.until_problem(Reason.BAD_VALUE)
        assert len(await town.router.problems(Reason.BAD_VALUE)) > 3
        assert await town.route("shop/evil")
        for host in ("evil.example", "web.example", "unknown.example"):
            for tls in (False, True):
                answer = await town.router.ask(host, tls=tls)
                assert b"injected" not in (answer.head + answer.body).lower()
                assert answer.status in (200, 301, 403, 404, 503)
        assert (await town.router.ask("web.example")).body == b"app"

    plays(tmp_path, tell)


def test_18_lists_are_judged_element_by_element(tmp_path: Path) -> None:
    async def tell(town: Town) -> None:
        town.says(domains=f",web.example,,{'a' * 64}.example,new.example,")
        await town.router.answers("new.example", "app")
        assert await town.router.status("web.example") == 200
        await town.router.until_problem(Reason.EMPTY_ELEMENT)
        await town.router.until_problem(Reason.BAD_ELEMENT)

    plays(tmp_path, tell)
