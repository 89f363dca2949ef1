"""What an API server does to a router, and what visitors notice of it: nothing but the changes that were asked for.

From the object to the answer, over real sockets, against the fake API server, with traffic all the while. Verdicts are
counts and states; how soon things happen is for ``benchmarks``.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest

from drycc_router.claims.record import ENTRY, Record, Recorded, Stamp, encode
from drycc_router.kubernetes import client
from drycc_router.model.problems import Reason
from tests.fakes.apiserver.objects import Document, config_map, endpoint_slice, service
from tests.fakes.apiserver.server import FakeApiServer
from tests.fakes.clustered import Followed, Named, Replica, Shipped, Traffic, app_of, named, replica, shipped, traffic
from tests.fakes.wired import on_loop

R = TypeVar("R", bound=Followed)
Tell = Callable[["Stage[R]"], Awaitable[None]]


class Stage(Generic[R]):
    """A cluster with two apps that everybody asks for: ``web.example``, which stories are about, and its neighbour
    ``side.example``, to which nothing may ever happen."""

    def __init__(self, server: FakeApiServer, router: R, load: Traffic, first: Named, second: Named) -> None:
        self.server = server
        self.router = router
        self.load = load
        self.first = first
        self.second = second

    def puts(self, *documents: Document) -> None:
        for document in documents:
            self.server.put(document)

    async def grows(self, number: int) -> None:
        """A change like any other: an app more. Until it answers."""
        self.puts(*app_of(f"new/app-{number}", self.first))
        await self.router.answers(f"app-{number}.example", "first")


def plays(
    directory: Path, tell: Tell[Shipped], *more: Document, seen: set[object] | None = None, workers: int = 2
) -> None:
    """Tell a story under traffic, in which nobody may see anything but ``seen`` (``first``) of ``web.example``, with
    the program. ``workers``: one, where connections of a pool are counted, for each worker has its own."""
    on_loop(play(lambda server: shipped(server, directory, "--workers", str(workers)), tell, more, seen))


def plays_alone(
    directory: Path, tell: Tell[Replica], *more: Document, alone: str, seen: set[object] | None = None, **tuning: Any
) -> None:
    """The same with a router in this process. ``alone``: why the story needs that."""

    def start(server: FakeApiServer) -> AbstractAsyncContextManager[Replica]:
        return replica(server, directory, alone=alone, **tuning)

    on_loop(play(start, tell, more, seen))


async def play(
    start: Callable[[FakeApiServer], AbstractAsyncContextManager[R]],
    tell: Tell[R],
    more: Iterable[Document],
    seen: set[object] | None,
) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(named("first"))
        second = await stack.enter_async_context(named("second"))
        side = await stack.enter_async_context(named("side"))
        server = await stack.enter_async_context(FakeApiServer())
        for document in (*app_of("shop/web", first), *app_of("next/side", side), *more):
            server.put(document)
        router = await stack.enter_async_context(start(server))
        load = await stack.enter_async_context(traffic(router, "web.example", "side.example"))
        await tell(Stage(server, router, load, first, second))
        await load.goes_on()
        assert load.seen("web.example") <= (seen or {"first"})
        assert load.seen("side.example") == {"side"}


# ── changes ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_live_route_is_edited_again_and_again_and_no_request_fails(tmp_path: Path) -> None:
    """Hardening R-04, 40 edits instead of 200: to other endpoints and back, other settings between."""

    async def tell(stage: Stage[Shipped]) -> None:
        for number in range(40):
            there = stage.second if number % 2 == 0 else stage.first
            says = {"connectTimeout": f"{number + 1}s", "bodySize": "1m" if number % 3 else "0"}
            stage.puts(*app_of("shop/web", there, says=says))
            await stage.router.answers("web.example", there.name)
            left = stage.first if there is stage.second else stage.second
            asked = left.asked
            await stage.load.goes_on(10)
            assert left.asked - asked <= 4, "who had asked before is answered, one request a client"
            assert left.open <= 4

    plays(tmp_path, tell, seen={"first", "second"})


def test_an_app_that_comes_is_unknown_and_then_there(tmp_path: Path) -> None:
    """Hardening R-03: between the 404 of before and the 200 of after nobody sees a 503, though the cluster tells of the
    Service first and of its slice when the router has long heard that."""

    async def tell(stage: Stage[Replica]) -> None:
        statuses = []
        for number in range(10):
            came, slices = app_of(f"new/app-{number}", stage.first)
            stage.puts(came)
            await stage.grows(100 + number)  # came later, and is there already
            statuses.append(await stage.router.status(f"app-{number}.example"))
            stage.puts(slices)
            await stage.router.answers(f"app-{number}.example", "first")
        assert statuses == [404] * 10

    plays_alone(tmp_path, tell, alone="waits an hour for slices, not a second, so that no pause matters", grace=3600.0)


def test_the_slices_of_a_service_come_and_go(tmp_path: Path) -> None:
    """Hardening R-17, R-20 and R-23: several slices, one not ready, one terminating, none; 503, never 404."""

    async def tell(stage: Stage[Shipped]) -> None:
        one, two = app_of("shop/web", stage.first, stage.second)[1:]
        stage.puts(two)
        await stage.router.answers("web.example", "second")
        address, port = stage.first.address
        for condition in ({"ready": False}, {"terminating": True}):
            stage.puts(endpoint_slice("shop", "web", [address], port=port, suffix="0", **condition))
            await stage.router.until(lambda: stage.first.open == 0)
            stage.puts(one)
            await stage.router.answers("web.example", "first")
        stage.server.remove(one)
        stage.server.remove(two)
        await stage.router.answers("web.example", 503)
        stage.puts(one)
        await stage.router.answers("web.example", "first")

    plays(tmp_path, tell, seen={"first", "second", 503})


def test_a_service_deleted_and_made_anew_is_another_one(tmp_path: Path) -> None:
    """Hardening R-17: its slices linger, and say whose they were; ports are renamed; it is headless now."""

    def owned(document: Document, uid: str) -> Document:
        document["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "Service", "name": "web", "uid": uid}]
        return document

    async def tell(stage: Stage[Shipped]) -> None:
        web, old = app_of("shop/web", stage.first)
        born = stage.server.put(web).document["metadata"]["uid"]
        stage.puts(owned(old, born))
        stage.server.remove(web)
        reborn = stage.server.put(web).document["metadata"]["uid"]
        assert reborn != born
        await stage.router.answers("web.example", 503)
        new = app_of("shop/web", stage.second)[1]
        new["metadata"]["name"] = "web-new"
        stage.puts(owned(new, reborn))
        await stage.router.answers("web.example", "second")
        web["spec"]["ports"][0]["name"] = new["ports"][0]["name"] = "main"
        web["spec"]["clusterIP"] = "None"
        stage.puts(new)
        stage.server.remove(web)
        reborn = stage.server.put(web).document["metadata"]["uid"]
        stage.puts(owned(new, reborn))
        await stage.router.answers("web.example", "second")

    plays(tmp_path, tell, seen={"first", "second", 404, 503})


def test_one_address_in_two_namespaces_is_two_pools(tmp_path: Path) -> None:
    """Hardening M-18: and what leaves an app has its idle connections closed."""

    async def tell(stage: Stage[Shipped]) -> None:
        await stage.grows(1)
        opened = stage.first.opened
        await stage.router.ask("app-1.example")
        assert stage.first.opened == opened, "its own, from before"
        stage.puts(*app_of("shop/web", stage.second))
        await stage.router.answers("web.example", "second")
        await stage.router.until(lambda: stage.first.open == 1)
        assert (await stage.router.ask("app-1.example")).body == b"first"

    plays(tmp_path, tell, seen={"first", "second"}, workers=1)


# ── an API server that is not well ────────────────────────────────────────────────────────────────────────────────────
def test_watches_are_dropped_and_nobody_notices(tmp_path: Path) -> None:
    """Hardening R-05: in every way in turn, with a change in each gap; resumed from where they were, without a list."""

    async def tell(stage: Stage[Shipped]) -> None:
        lists = len(stage.server.audit.of("list"))
        for number, how in enumerate(("fin", "rst", "end", "truncated")):
            stage.server.drop_watches(how)
            await stage.grows(number)
        assert len(stage.server.audit.of("list")) == lists

    plays(tmp_path, tell)


@pytest.mark.parametrize("form", ["status", "event"])
def test_a_version_that_is_gone_comes_to_a_difference(tmp_path: Path, form: str) -> None:
    """Hardening R-06: one list for each scope; what went in the gap goes, what stayed keeps its connections."""

    async def tell(stage: Stage[Shipped]) -> None:
        stage.server.answer_gone_as(form)
        await stage.grows(1)
        before = set(stage.first.numbers)
        lists = len(stage.server.audit.of("list"))
        await stage.server.down()
        for document in app_of("new/app-1", stage.first):
            stage.server.remove(document)
        stage.puts(*app_of("new/app-2", stage.second))
        stage.server.compact()
        await stage.server.up()
        await stage.router.answers("app-2.example", "second")
        await stage.router.answers("app-1.example", 404)
        assert len(before - stage.first.numbers) <= 1, "the one of the app that went"
        assert len(stage.server.audit.of("list")) - lists == 3, "two labels of Services, and slices"

    plays(tmp_path, tell, workers=1)


def test_a_silent_server_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardening R-07, with seconds in place of a minute: it takes everything and sends nothing, then speaks again."""
    defaults = client.Api.watch.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "seconds", 1.0)
    for limit in ("GRACE_SECONDS", "HEAD_SECONDS", "ANSWER_SECONDS"):
        monkeypatch.setattr(client, limit, 0.3)

    async def tell(stage: Stage[Replica]) -> None:
        stage.server.stall()
        await stage.router.until(lambda: stage.router.source.reach.since is not None)
        stage.puts(*app_of("new/app-1", stage.first))
        await stage.load.goes_on()
        stage.server.resume()
        await stage.router.answers("app-1.example", "first")

    plays_alone(tmp_path, tell, alone="shortens the constants of the client of the API server")


def test_the_server_is_away_for_long(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Hardening R-08, shortened: what was known serves on, it is a Problem, and what changed meanwhile is caught up."""

    async def tell(stage: Stage[Replica]) -> None:
        await stage.server.down()
        await stage.router.until(lambda: stage.router.problems(Reason.API_UNREACHABLE))
        stage.puts(*app_of("new/app-1", stage.second))
        await stage.load.goes_on(200)
        assert stage.router.reconciler.published.is_set(), "still ready"
        assert await stage.router.status("app-1.example") == 404
        await stage.server.up()
        await stage.router.answers("app-1.example", "second")
        await stage.router.until(lambda: not stage.router.problems(Reason.API_UNREACHABLE))

    plays_alone(tmp_path, tell, alone="an absence is long after 0.2 s, not after 30", away=0.2)
    assert len([record for record in caplog.records if "is away" in record.message]) == 1


def test_a_router_that_starts_while_the_server_is_away_waits(tmp_path: Path) -> None:
    """Hardening R-09: it is not ready, and says for what it waits."""

    async def play() -> None:
        async with named("first") as first, FakeApiServer() as server:
            for document in app_of("shop/web", first):
                server.put(document)
            await server.down()
            alone = "is asked before it serves, and the program says its ports when it does"
            async with replica(server, tmp_path, alone=alone, ready=False) as router:
                await router.until(lambda: "API server (" in router.source.waits_for)
                assert not router.reconciler.published.is_set()
                await server.up()
                await router.answers("web.example", "first")

    on_loop(play())


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "status", "code": 500},
        {"action": "status", "code": 429, "retry_after": 1},
        {"action": "truncated"},
        {"action": "html"},
        {"action": "no-metadata"},
        {"action": "status", "code": 401},
    ],
    ids=lambda fault: "-".join(str(part) for part in fault.values()),
)
def test_answers_that_are_none_lose_nothing(tmp_path: Path, fault: dict[str, Any]) -> None:
    """Hardening R-10: errors, pages in HTML, half answers, an item that is none."""

    async def tell(stage: Stage[Shipped]) -> None:
        await stage.server.down()
        stage.server.fault(resource="services", times=2, **fault)
        stage.puts(*app_of("new/app-0", stage.first))
        stage.server.compact()
        await stage.server.up()
        await stage.router.answers("app-0.example", "first")
        await stage.grows(1)

    plays(tmp_path, tell)


def test_a_token_that_is_over_is_read_again(tmp_path: Path) -> None:
    """Hardening R-12."""

    async def tell(stage: Stage[Shipped]) -> None:
        stage.server.rotate_token()
        stage.server.drop_watches("rst")
        await stage.grows(1)

    plays(tmp_path, tell)


def test_an_object_of_five_megabytes_is_an_object(tmp_path: Path) -> None:
    """Hardening R-10: whatever else stands in it."""

    async def tell(stage: Stage[Shipped]) -> None:
        huge = app_of("shop/web", stage.first, domains="web.example,huge.example")[0]
        huge["metadata"]["annotations"]["somebody.else/notes"] = "x" * 5_000_000
        stage.puts(huge)
        await stage.router.answers("huge.example", "first")
        await stage.grows(1)

    plays(tmp_path, tell)


def test_a_list_that_is_suddenly_empty_is_not_obeyed_at_once(tmp_path: Path) -> None:
    """Hardening R-11, 0.6 s instead of a minute: held, asked for twice more, then obeyed."""
    many = [service("many", f"app-{number}", domains=f"many-{number}.example") for number in range(20)]

    async def tell(stage: Stage[Replica]) -> None:
        lists = len(stage.server.audit.of("list", "services"))
        stage.server.fault("empty", verb="list", resource="services")
        await stage.server.down()
        stage.puts(service("many", "app-0", domains="other.example"))
        stage.server.compact()
        await stage.server.up()
        await stage.router.until(lambda: stage.router.problems(Reason.SHRUNK_LIST))
        assert await stage.router.status("many-7.example") == 503, "known, without endpoints"
        assert len(stage.router.snapshot.apps) == 22
        await stage.router.until(lambda: not stage.router.snapshot.apps)
        assert len(stage.server.audit.of("list", "services")) - lists >= 3
        assert await stage.router.status("many-7.example") == 404

    async def play() -> None:
        async with named("first") as first, named("second") as second, FakeApiServer() as server:
            for document in (*app_of("shop/web", first), *app_of("next/side", second), *many):
                server.put(document)
            async with (
                replica(server, tmp_path, alone="a short list is held for 0.6 s, not for a minute", hold=0.6) as router,
                traffic(router, "web.example") as load,
            ):
                await tell(Stage(server, router, load, first, second))

    on_loop(play())


@pytest.mark.parametrize("resource", ["services", "endpointslices", "secrets"])
def test_rights_are_taken_away_and_given_back(tmp_path: Path, resource: str) -> None:
    """Hardening R-13: what was known stays, the missing right is named, and what changed meanwhile is caught up."""

    async def tell(stage: Stage[Shipped]) -> None:
        stage.server.fault("status", code=403, resource=resource)
        stage.server.compact()
        stage.server.drop_watches("rst")
        stage.puts(*app_of("new/app-1", stage.second, says={"certificates": "app-1.example:own"}))
        await stage.router.until_problem(Reason.NOT_PERMITTED)
        await stage.load.goes_on()
        stage.server.clear_faults()
        await stage.router.answers("app-1.example", "second")
        await stage.router.until_problem(Reason.NOT_PERMITTED, there=False)

    plays(tmp_path, tell)


# ── owners ────────────────────────────────────────────────────────────────────────────────────────────────────────────
BAD: tuple[tuple[str, str], ...] = (
    ("bodySize", "-1"),
    ("bodySize", "1e309"),
    ("connectTimeout", "9" * 400),
    ("tcpTimeout", "soon"),
    ("maintenance", "\u0661"),
    ("port", "70000"),
    ("ssl.enforce", "0"),
    ("whitelist", "10.0.0.0/33"),
    ("denylist", "\x00"),
    ("certificates", "../../etc/passwd"),
    ("proxyLocations", "(((((a+)+)+)+)+$"),
    ("referrerPolicy", "no\r\nSet-Cookie: x=1"),
    ("domains", "app.example,-bad.example"),
    ("requestTimeout", "NaN"),
    ("ssl.hsts.maxAge", "0x10"),
    ("bodySize", "9" * 50_000),
    ("domains", "xn--\udcff.example"),
)
"""A key, and what no owner should write there."""


def test_malformed_services_among_good_ones_harm_nobody(tmp_path: Path) -> None:
    """Hardening R-14, 51 among 451 instead of 500 among 10,000: each bad one is a Problem and keeps its last good
    route; the good ones, those that come later too, notice nothing."""
    count = 3 * len(BAD)

    async def tell(stage: Stage[Shipped]) -> None:
        good = [f"good-{number}" for number in range(400)]
        for name in good:
            stage.puts(*app_of(f"town/{name}", stage.first))
        for number in range(count):
            stage.puts(*app_of(f"bad/bad-{number}", stage.second))
        await stage.router.answers(f"bad-{count - 1}.example", "second")
        for number in range(count):
            key, text = BAD[number % len(BAD)]
            name = f"bad-{number}"
            says = {"domains": f"{name}.example", key: text.replace("app.example", f"{name}.example")}
            stage.puts(service("bad", name, annotations=says))
        await stage.grows(1)

        async def told() -> set[tuple[str, str]]:
            """Whom Problems are about."""
            bare = Reason.DOMAIN_WITHOUT_CERTIFICATE.value
            problems = (await stage.router.report("/problems"))["problems"]
            return {(each["namespace"], each["name"]) for each in problems if each["reason"] != bare}

        while len([name for namespace, name in await told() if namespace == "bad"]) < count:
            await stage.load.goes_on(4)
        assert {namespace for namespace, _ in await told()} == {"bad"}
        for name in good[::20]:
            assert (await stage.router.ask(f"{name}.example")).body == b"first"
        for number in range(count):
            closed = BAD[number % len(BAD)][0] == "whitelist"
            assert await stage.router.status(f"bad-{number}.example") == (403 if closed else 200), BAD[
                number % len(BAD)
            ]

    plays(tmp_path, tell)


def test_a_name_that_two_claim_stays_with_its_holder_until_it_is_free(tmp_path: Path) -> None:
    """Hardening R-15, M-02 and M-03: the loser is told who holds it, the holder notices nothing, no flaps."""

    async def tell(stage: Stage[Shipped]) -> None:
        stage.puts(*app_of("thief/old", stage.second, domains="old.example,web.example"))
        await stage.router.answers("old.example", "second")
        await stage.router.until_problem(Reason.DOMAIN_TAKEN)  # a moment after workers have the route
        (problem,) = await stage.router.problems(Reason.DOMAIN_TAKEN)
        assert (problem["namespace"], problem["value"]) == ("thief", "web.example")
        assert "shop/web" in problem["message"]
        chance = random.Random(15)
        for number in range(20):
            stage.puts(
                *app_of("thief/old", stage.second, domains=chance.choice(["web.example", "old.example,web.example"]))
            )
            stage.puts(*app_of("shop/web", stage.first, says={"connectTimeout": f"{number + 1}s"}))
            await stage.load.goes_on(4)
        assert stage.load.seen("web.example") == {"first"}
        stage.server.remove(service("shop", "web"))
        await stage.router.answers("web.example", "second")
        await stage.router.until_problem(Reason.DOMAIN_TAKEN, there=False)

    plays(tmp_path, tell, seen={"first", "second"})


@pytest.mark.parametrize("is_there", [True, False], ids=["the holder is there", "the holder is gone"])
def test_a_namespace_that_a_router_may_not_read_when_it_starts_loses_no_name(tmp_path: Path, *, is_there: bool) -> None:
    """What is remembered counts until a complete list says otherwise, and no longer."""
    holds = {
        ("web.example", "shop/web"): Recorded(1_000, held=True),
        ("old.example", "shop/old"): Recorded(1, held=True),
    }
    record = config_map("drycc", "drycc-router-claims", {ENTRY: encode(Record(Stamp("another", 1), holds))})

    async def play() -> None:
        async with named("first") as first, named("second") as second, FakeApiServer() as server:
            for document in (record, *app_of("thief/old", second, domains="web.example,thief.example")):
                server.put(document)
            if is_there:
                for document in app_of("shop/web", first):
                    server.put(document)
            server.fault("status", code=403, namespace="shop")
            async with (
                replica(
                    server,
                    tmp_path,
                    alone="reads the record before it is written",
                    namespaces=("thief", "shop"),
                ) as router,
                traffic(router, "web.example", "thief.example") as load,
            ):
                await router.answers("thief.example", "second")
                (problem,) = router.problems(Reason.DOMAIN_TAKEN)
                assert (problem.object.namespace, problem.value) == ("thief", "web.example")
                assert "shop/web" in problem.message
                assert router.snapshot.record is not None
                assert router.snapshot.record.claims.items() >= holds.items()

                server.clear_faults()
                await router.answers("web.example", "first" if is_there else "second")
                await router.until(lambda: ("old.example", "shop/old") not in router.snapshot.record.claims)  # type: ignore[union-attr]
            assert load.seen("web.example") == {404, "first" if is_there else "second"}

    on_loop(play())


def test_api_calls_follow_changes_and_not_apps(tmp_path: Path) -> None:
    """Lineage 15: three hundred apps cost no more calls than three, and a change none at all."""

    async def tell(stage: Stage[Shipped]) -> None:
        for number in range(300):
            stage.puts(*app_of(f"town/app-{number}", stage.first))
        await stage.grows(1000)

        def calls() -> int:
            """By label: the router's own few objects are asked for by name, whatever happens."""
            return len(stage.server.audit.of("list")) + len(stage.server.audit.of(resource="endpointslices"))

        before = calls()
        assert before <= 5
        for number in range(20):
            stage.puts(*app_of(f"town/app-{number}", stage.second))
            await stage.router.answers(f"app-{number}.example", "second")
        assert calls() == before

    plays(tmp_path, tell)
