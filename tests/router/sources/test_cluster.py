"""A cluster as a source, against a fake API server: complete at first, then what changes, and nothing that was told is
taken back by a server that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import uvloop

from drycc_router.kubernetes import backoff, watch
from drycc_router.kubernetes.client import Api, Listed, RawObject
from drycc_router.kubernetes.resources import DEPLOYMENTS, SERVICES, Resource
from drycc_router.model.problems import Problem, Reason
from drycc_router.sources import cluster
from drycc_router.sources.batch import Batch
from drycc_router.sources.cluster import ClusterSource
from drycc_router.translate.platform import OwnNames
from tests.fakes.apiserver.objects import Document, config_map, deployment, endpoint_slice, secret, service
from tests.fakes.apiserver.server import FakeApiServer


class Listener:
    """Everything that was told so far, laid on top of each other."""

    def __init__(self, server: FakeApiServer, source: ClusterSource, batches: AsyncGenerator[Batch, None]) -> None:
        self.server = server
        self.source = source
        self.objects: dict[str, Any] = {}
        """``Kind namespace/name`` → the object; those that are gone are absent."""
        self.problems: dict[str, tuple[Problem, ...]] = {}
        self.heard = 0
        self.told: list[str] = []
        """The keys of all Changes, in order."""
        self.is_complete = False
        self._batches = batches
        self._news = asyncio.Event()

    async def listen(self) -> None:
        async for batch in self._batches:
            self.heard += 1
            self.is_complete |= not batch.is_part
            for change in batch.changes:
                self.told.append(str(change.key))
                if change.object is None:
                    self.objects.pop(str(change.key), None)
                else:
                    self.objects[str(change.key)] = change.object
            self.problems.update(batch.problems)
            self._news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self._news.clear()
            await self._news.wait()

    async def waits_for(self, *words: str) -> None:
        """Until the source says that it waits for something with these words."""
        while not all(word in self.source.waits_for for word in words):  # noqa: ASYNC110 -- readiness probes poll it, too
            await asyncio.sleep(0.01)

    @property
    def reasons(self) -> set[Reason]:
        return {problem.reason for each in self.problems.values() for problem in each}

    def complains_of(self, key: str) -> bool:
        return any(str(problem.object) == key for each in self.problems.values() for problem in each)

    def annotation(self, of: str, key: str) -> str | None:
        raw = self.objects.get(of)
        text: str | None = None if raw is None else raw["metadata"]["annotations"].get(f"router.drycc.cc/{key}")
        return text

    def lists(self) -> int:
        return len(self.server.audit.of("list"))


Tell = Callable[[FakeApiServer, Listener], Awaitable[None]]


def story(
    directory: Path, *there: Document, tell: Tell, namespaces: tuple[str, ...] = (), **tuning: float
) -> FakeApiServer:
    """Put what is there, listen, and tell the rest."""

    async def run() -> FakeApiServer:
        async with asyncio.timeout(40), FakeApiServer() as server:
            for document in there:
                server.put(document)
            api = await Api.connect(server.kubeconfig(directory / "config"))
            source = ClusterSource(api, OwnNames.of("drycc-router", "drycc"), namespaces, **tuning)
            try:
                async with aclosing(source.batches()) as batches:
                    listener = Listener(server, source, batches)
                    listening = asyncio.create_task(listener.listen(), name="listen")
                    try:
                        await tell(server, listener)
                    finally:
                        listening.cancel()
                        await asyncio.wait([listening])
            finally:
                await api.close()
            return server

    return uvloop.run(run())


SHOP = (
    service("shop", "web", domains="shop.example", annotations={"certificates": "shop.example:shop"}),
    endpoint_slice("shop", "web", ["10.0.0.1"]),
    secret("shop", "shop-cert", {"tls.crt": b"crt", "tls.key": b"key", "other": b"canary"}),
)


# ── the first batch ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_first_batch_is_everything_and_nothing_that_is_not_needed(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, listener: Listener) -> None:
        await listener.until(lambda: listener.heard)
        assert listener.heard == 1
        assert set(listener.objects) == {
            "Service shop/web",
            "EndpointSlice shop/web-abcde",
            "Secret shop/shop-cert",
            "Deployment drycc/drycc-router",
            "Secret drycc/drycc-router-platform-cert",
            "Service drycc/drycc-builder",
        }
        assert "canary" not in str(listener.objects)
        assert listener.source.waits_for == ""

    server = story(
        tmp_path,
        *SHOP,
        deployment({"bodySize": "5m"}),
        secret("drycc", "drycc-router-platform-cert", {"tls.crt": b"crt", "tls.key": b"key"}),
        secret("shop", "not-mine", {"tls.crt": b"crt"}),
        service("drycc", "drycc-builder", routable=False),
        service("shop", "database", routable=False),
        tell=tell,
    )
    own = ("drycc-router-platform-cert", "deis-router-platform-cert")
    assert server.audit.foreign_secret_reads({("shop", "shop-cert"), *(("drycc", name) for name in own)}) == []


def test_services_that_the_operator_leads_ports_to_need_no_label(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, listener: Listener) -> None:
        await listener.until(lambda: "Service shop/database" in listener.objects)
        assert "Service shop/queue" not in listener.objects

        server.put(deployment({"tcpPorts": "5432:shop/database:pg, 5672:shop/queue"}))
        await listener.until(lambda: "Service shop/queue" in listener.objects)
        server.put(deployment({"tcpPorts": "none that is in order"}))
        await listener.until(lambda: (listener.annotation("Deployment drycc/drycc-router", "tcpPorts") or "")[0] == "n")
        assert "Service shop/queue" in listener.objects

    story(
        tmp_path,
        *SHOP,
        deployment({"tcpPorts": "5432:shop/database:pg"}),
        service("shop", "database", routable=False),
        service("shop", "queue", routable=False),
        tell=tell,
    )


def test_nobody_is_ready_with_half_a_table(tmp_path: Path) -> None:
    """Hardening R-02: the list of slices fails, then answers; until then nothing is told, and it is said why."""

    async def tell(server: FakeApiServer, listener: Listener) -> None:
        await listener.waits_for("endpointslices", "500")
        assert listener.heard == 0
        server.clear_faults()
        await listener.until(lambda: listener.heard)
        assert "EndpointSlice shop/web-abcde" in listener.objects

    async def begin(server: FakeApiServer, listener: Listener) -> None:
        server.fault("status", code=500, verb="list", resource="endpointslices")
        await tell(server, listener)

    story(tmp_path, *SHOP, tell=begin)


def test_what_a_page_names_is_asked_for_while_the_next_one_is_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_get, real_pages = Api.get, Api.pages
    asked = asyncio.Event()

    async def get(api: Api, resource: Resource, namespace: str, name: str) -> RawObject:
        if name == "shop-cert":
            asked.set()
        return await real_get(api, resource, namespace, name)

    async def pages(
        api: Api, resource: Resource, namespace: str | None, *, labels: str = "", fields: str = "", limit: int = 1
    ) -> AsyncGenerator[Listed, None]:
        async for page in real_pages(api, resource, namespace, labels=labels, fields=fields, limit=limit):
            yield page
            if page.items and resource is SERVICES:
                await asyncio.wait_for(asked.wait(), 10)

    monkeypatch.setattr(Api, "get", get)
    monkeypatch.setattr(Api, "pages", pages)

    async def tell(_: FakeApiServer, listener: Listener) -> None:
        await listener.until(lambda: listener.is_complete)
        assert listener.objects.keys() >= {"Service shop/web", "Secret shop/shop-cert", "EndpointSlice shop/web-abcde"}

    story(tmp_path, *SHOP, tell=tell)


def test_what_is_there_already_is_told_as_a_part_while_the_rest_is_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "PART", 1)

    async def tell(server: FakeApiServer, listener: Listener) -> None:
        server.fault("status", code=500, verb="list", resource="endpointslices")
        await listener.until(lambda: "Service shop/web" in listener.objects)
        assert not listener.is_complete
        server.clear_faults()
        await listener.until(lambda: listener.is_complete)
        assert {"EndpointSlice shop/web-abcde", "Secret shop/shop-cert"} <= set(listener.objects)

    story(tmp_path, *SHOP, tell=tell)


def test_a_router_that_may_read_nothing_waits_and_names_the_right(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, listener: Listener) -> None:
        server.fault("status", code=403, verb="list", resource="services")
        await listener.waits_for("403")
        assert listener.heard == 0

    story(tmp_path, *SHOP, tell=tell)


@pytest.mark.parametrize("times", [1, 4, 25])
def test_a_server_that_refuses_everything_for_a_moment_is_not_believed(tmp_path: Path, times: int) -> None:
    """A kube-apiserver that has just started knows no Role yet. Nothing is told without the router's settings."""

    async def tell(server: FakeApiServer, listener: Listener) -> None:
        server.fault("status", code=403, times=times)
        await listener.until(lambda: listener.is_complete)
        assert listener.heard == 1
        assert {"Service shop/web", "Secret shop/shop-cert", "Deployment drycc/drycc-router"} <= set(listener.objects)
        assert listener.reasons == set()

    story(tmp_path, *SHOP, deployment({"enforceWhitelists": "true"}), tell=tell)


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet"])
def test_settings_that_may_not_be_read_are_waited_for_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """They may hold the allow-list of everything: no refusal, however long, stands for their absence."""
    believe_at_once(monkeypatch)
    there = deployment({"enforceWhitelists": "true"}) | {"kind": kind}

    async def tell(server: FakeApiServer, listener: Listener) -> None:
        server.fault("status", code=403, verb="get", resource=f"{kind.lower()}s", name="drycc-router")
        await listener.waits_for("settings", kind, "403")
        assert not listener.is_complete
        server.clear_faults()
        await listener.until(lambda: listener.is_complete)
        assert listener.annotation("Deployment drycc/drycc-router", "enforceWhitelists") == "true"

    story(tmp_path, *SHOP, there, tell=tell)


def test_settings_that_are_known_make_those_after_them_unimportant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    believe_at_once(monkeypatch)

    async def tell(server: FakeApiServer, listener: Listener) -> None:
        server.fault("status", code=403, resource="daemonsets")
        server.fault("status", code=403, resource="deployments", name="deis-router")
        await listener.until(lambda: listener.is_complete)
        assert "Deployment drycc/drycc-router" in listener.objects

    story(tmp_path, *SHOP, deployment(), tell=tell)


def test_a_failure_of_ours_is_not_taken_for_the_absence_of_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Api.get
    failures = [AttributeError("reason")] * 3

    async def get(api: Api, resource: Resource, namespace: str, name: str) -> RawObject:
        if resource is DEPLOYMENTS and failures:
            raise failures.pop()
        return await real(api, resource, namespace, name)

    monkeypatch.setattr(Api, "get", get)

    async def tell(_: FakeApiServer, listener: Listener) -> None:
        await listener.until(lambda: listener.is_complete)
        assert not failures
        assert "Deployment drycc/drycc-router" in listener.objects
        assert listener.source.heard.failures["unexpected"] == 3

    story(tmp_path, *SHOP, deployment({"enforceWhitelists": "true"}), tell=tell)


@pytest.mark.parametrize(
    "fault", [{"action": "crowd"}, {"action": "status", "code": 403}, {"action": "reset"}], ids=str
)
def test_it_always_says_what_it_waits_for(tmp_path: Path, fault: dict[str, Any]) -> None:
    """Looked at after each request, whatever the server says, from the start to the first batch."""

    async def tell(server: FakeApiServer, listener: Listener) -> None:
        server.fault(**fault, times=20)
        said = []
        while not listener.is_complete:
            said.append(listener.source.waits_for)
            await asyncio.sleep(0)
        assert len(server.audit.records) > 20
        assert all(said[:-1])
        assert listener.source.waits_for == ""

    story(tmp_path, *SHOP, deployment(), tell=tell)


def test_a_watch_that_is_refused_inside_is_not_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """504 *Too large resource version* after a good beginning, again and again, is an absence like any other."""

    async def tell(server: FakeApiServer, listener: Listener) -> None:
        await listener.until(lambda: listener.is_complete)
        server.fault("future-event", verb="watch", resource="services")
        server.drop_watches("end", "services")
        await listener.until(lambda: Reason.API_UNREACHABLE in listener.reasons)
        failures = listener.source.heard.failures
        assert failures["futureversion"] >= 2
        [problem] = listener.problems["away"]
        assert problem.value == "futureversion"
        server.clear_faults()
        server.put(service("shop", "new", domains="new.example"))
        await listener.until(lambda: "Service shop/new" in listener.objects)
        await listener.until(lambda: not listener.reasons)

    monkeypatch.setattr(watch, "DOUBTED_SECONDS", 1.0)
    story(tmp_path, *SHOP, deployment(), tell=tell, away=1.0)


def believe_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the first refusal of each thing for the truth."""
    monkeypatch.setattr(backoff, "BELIEVED", 0.0)


def test_of_several_namespaces_one_that_may_not_be_read_harms_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hardening R-13."""
    believe_at_once(monkeypatch)

    async def tell(server: FakeApiServer, listener: Listener) -> None:
        server.fault("status", code=403, namespace="closed")
        await listener.until(lambda: listener.heard)
        assert "Service shop/web" in listener.objects
        await listener.until(lambda: Reason.NOT_PERMITTED in listener.reasons)
        named = {str(problem.object) for each in listener.problems.values() for problem in each}
        assert {"Service closed/*", "EndpointSlice closed/*"} <= named
        server.clear_faults()
        server.put(service("closed", "api", domains="api.example"))
        await listener.until(lambda: "Service closed/api" in listener.objects)
        await listener.until(lambda: not listener.reasons)

    server = story(
        tmp_path, *SHOP, service("elsewhere", "x", domains="x.example"), tell=tell, namespaces=("shop", "closed")
    )
    assert not [record for record in server.audit.records if record.namespace == "elsewhere"]


def test_a_namespace_is_unheard_of_until_all_of_its_services_were_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that wait for a slice: names that are remembered of them must not be free for a moment."""
    believe_at_once(monkeypatch)

    async def tell(server: FakeApiServer, listener: Listener) -> None:
        server.fault("status", code=403, namespace="closed")
        await listener.until(lambda: listener.is_complete)
        assert [key for key in listener.objects if key.startswith("Unheard")] == ["Unheard closed/*"]
        assert listener.told.count("Unheard closed/*") == 1
        server.clear_faults()
        await listener.until(lambda: "Unheard closed/*" not in listener.objects)
        assert {"Service closed/api", "Service closed/bare"} <= listener.objects.keys()
        assert "Service closed/bare" in listener.told[: -1 - listener.told[::-1].index("Unheard closed/*")]
        assert listener.told.count("Unheard closed/*") == 2

    there = (
        service("closed", "api", domains="api.example"),
        endpoint_slice("closed", "api", ["10.0.0.2"]),
        service("closed", "bare", domains="bare.example"),
    )
    story(tmp_path, *SHOP, *there, tell=tell, namespaces=("shop", "closed"), grace=0.2)


def test_who_is_granted_one_right_asks_at_once_for_what_else_was_refused_in_the_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Service of which the slices come a pause later would be a 503. The server asks to wait a minute for them, which
    is longer than this test may take."""
    believe_at_once(monkeypatch)

    async def tell(server: FakeApiServer, listener: Listener) -> None:
        server.fault("status", code=403, namespace="closed", resource="services")
        server.fault("status", code=403, namespace="closed", resource="endpointslices", retry_after=60)
        await listener.until(lambda: listener.is_complete)
        server.clear_faults()
        await listener.until(lambda: "EndpointSlice closed/api" in str(listener.objects.keys()))
        assert "Service closed/api" in listener.objects

    there = service("closed", "api", domains="api.example"), endpoint_slice("closed", "api", ["10.0.0.2"])
    story(tmp_path, *SHOP, *there, tell=tell, namespaces=("shop", "closed"))


def test_a_namespace_of_which_one_list_is_missing_is_unheard_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Services carry one label or the other, and are listed by each."""
    believe_at_once(monkeypatch)

    async def tell(server: FakeApiServer, listener: Listener) -> None:
        server.fault("status", code=403, namespace="closed", resource="services", verb="list", times=1)
        await listener.until(lambda: listener.told.count("Unheard closed/*") >= 1)
        await listener.until(lambda: listener.is_complete and "Unheard closed/*" not in listener.objects)
        assert "Service closed/api" in listener.objects

    story(tmp_path, *SHOP, service("closed", "api"), tell=tell, namespaces=("shop", "closed"), grace=0.2)


# ── changes ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_what_comes_differs_and_goes_is_told_once_and_touches_are_not(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, listener: Listener) -> None:
        await listener.until(lambda: listener.heard)
        before = listener.heard
        touched = service("shop", "web", domains="shop.example", annotations={"certificates": "shop.example:shop"})
        touched["metadata"]["annotations"]["somebody.else/note"] = "7"
        server.put(touched)
        server.put(service("shop", "api", domains="api.example"))
        await listener.until(lambda: "Service shop/api" in listener.objects)
        assert listener.heard == before + 1
        server.put(service("shop", "api", domains="api2.example"))
        await listener.until(lambda: listener.annotation("Service shop/api", "domains") == "api2.example")
        server.remove(service("shop", "api"))
        await listener.until(lambda: "Service shop/api" not in listener.objects)

    story(tmp_path, *SHOP, tell=tell)


def test_a_new_service_is_told_of_together_with_its_first_slice(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, listener: Listener) -> None:
        await listener.until(lambda: listener.heard)
        told = listener.heard
        server.put(service("shop", "api", domains="api.example"))
        server.put(service("shop", "web", domains="new.example"))
        await listener.until(lambda: listener.annotation("Service shop/web", "domains") == "new.example")
        assert "Service shop/api" not in listener.objects, "nobody knows yet where it is"
        server.put(endpoint_slice("shop", "api", ["10.0.0.7"]))
        await listener.until(lambda: "EndpointSlice shop/api-abcde" in listener.objects)
        assert "Service shop/api" in listener.objects
        assert listener.heard == told + 2

    story(tmp_path, *SHOP, tell=tell, grace=3600.0)


def test_a_new_service_without_any_slice_is_told_of_after_a_while(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, listener: Listener) -> None:
        await listener.until(lambda: listener.heard)
        server.put(service("shop", "api", domains="api.example"))
        await listener.until(lambda: "Service shop/api" in listener.objects)

    story(tmp_path, *SHOP, tell=tell, grace=0.01)


def test_a_service_that_loses_its_label_is_gone_with_what_it_named(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, listener: Listener) -> None:
        await listener.until(lambda: listener.heard)
        server.put(service("shop", "web", domains="shop.example", routable=False))
        await listener.until(lambda: "Service shop/web" not in listener.objects)
        await listener.until(lambda: "Secret shop/shop-cert" not in listener.objects)

    story(tmp_path, *SHOP, tell=tell)


def test_a_service_may_carry_the_label_of_the_ancestors_or_both(tmp_path: Path) -> None:
    old = service("shop", "old", annotations={"router.deis.io/domains": "old.example"}, routable=False)
    old["metadata"]["labels"]["router.deis.io/routable"] = "true"
    both = service("shop", "both", domains="both.example")
    both["metadata"]["labels"]["router.deis.io/routable"] = "true"

    async def tell(server: FakeApiServer, listener: Listener) -> None:
        await listener.until(lambda: listener.heard)
        assert {"Service shop/old", "Service shop/both"} <= set(listener.objects)
        server.put(service("shop", "both", domains="both.example"))
        server.put(service("shop", "marker", domains="marker.example"))
        await listener.until(lambda: "Service shop/marker" in listener.objects)
        assert "Service shop/both" in listener.objects, "the other label is still there"
        server.remove(both)
        await listener.until(lambda: "Service shop/both" not in listener.objects)

    story(tmp_path, old, both, tell=tell)


def test_settings_stand_on_a_deployment_or_on_a_daemon_set(tmp_path: Path) -> None:
    daemon_set = deployment({"bodySize": "7m"}) | {"kind": "DaemonSet"}

    async def tell(server: FakeApiServer, listener: Listener) -> None:
        await listener.until(lambda: listener.annotation("Deployment drycc/drycc-router", "bodySize") == "7m")
        server.put(deployment({"bodySize": "9m"}))
        await listener.until(lambda: listener.annotation("Deployment drycc/drycc-router", "bodySize") == "9m")
        server.remove(deployment())
        await listener.until(lambda: listener.annotation("Deployment drycc/drycc-router", "bodySize") == "7m")

    story(tmp_path, daemon_set, tell=tell)


def test_a_page_that_a_service_names_is_read_by_its_name(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, listener: Listener) -> None:
        await listener.until(lambda: listener.heard)
        assert listener.objects["ConfigMap shop/sorry"]["data"] == {"index.html": "soon"}

    server = story(
        tmp_path,
        service("shop", "web", domains="shop.example", annotations={"maintenance.page": "sorry"}),
        config_map("shop", "sorry", {"index.html": "soon"}),
        config_map("shop", "other", {"index.html": "no"}),
        tell=tell,
    )
    assert server.audit.of(resource="configmaps", name="other") == []
    assert server.audit.of("list", "configmaps") == []


# ── a server that fails ───────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("how", ["fin", "rst", "end", "truncated"])
def test_a_watch_that_breaks_goes_on_from_its_version_without_a_list(tmp_path: Path, how: str) -> None:
    """Hardening R-05."""

    async def tell(server: FakeApiServer, listener: Listener) -> None:
        await listener.until(lambda: listener.heard)
        lists = listener.lists()
        for turn in range(3):
            server.drop_watches(how)
            server.put(service("shop", "web", domains=f"shop{turn}.example"))
            await listener.until(
                lambda: listener.annotation("Service shop/web", "domains") == f"shop{turn}.example"  # noqa: B023 -- awaited at once
            )
        assert listener.lists() == lists

    story(tmp_path, *SHOP, tell=tell)


@pytest.mark.parametrize("form", ["status", "event"])
def test_a_version_that_is_gone_costs_one_list_and_comes_to_a_difference(tmp_path: Path, form: str) -> None:
    """Hardening R-06: what was deleted in the gap disappears, what stayed is not told again."""

    async def tell(server: FakeApiServer, listener: Listener) -> None:
        await listener.until(lambda: listener.heard)
        untouched = listener.objects["EndpointSlice shop/web-abcde"]
        server.answer_gone_as(form)
        await server.down()
        server.remove(service("shop", "api"))
        server.put(service("shop", "new", domains="new.example"))
        server.compact()
        lists = listener.lists()
        await server.up()
        await listener.until(lambda: "Service shop/new" in listener.objects)
        assert "Service shop/api" not in listener.objects
        assert listener.objects["EndpointSlice shop/web-abcde"] is untouched
        by_label = [record.query for record in server.audit.of("list", "services")][lists:]
        assert len(by_label) == len(set(by_label)), "each scope once"

    story(tmp_path, *SHOP, service("shop", "api", domains="api.example"), tell=tell)


def test_a_server_that_is_away_takes_nothing_back_and_is_a_problem_until_it_returns(tmp_path: Path) -> None:
    """Hardening R-08."""

    async def tell(server: FakeApiServer, listener: Listener) -> None:
        await listener.until(lambda: listener.heard)
        known = dict(listener.objects)
        await server.down()
        await listener.until(lambda: Reason.API_UNREACHABLE in listener.reasons)
        assert listener.objects == known
        server.put(service("shop", "new", domains="new.example"))
        await server.up()
        await listener.until(lambda: "Service shop/new" in listener.objects)
        await listener.until(lambda: not listener.reasons)

    story(tmp_path, *SHOP, tell=tell, away=0.2)


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "status", "code": 500},
        {"action": "status", "code": 429, "retry_after": 1},
        {"action": "status", "code": 401},
        {"action": "truncated"},
        {"action": "cut"},
        {"action": "reset"},
        {"action": "html"},
        {"action": "text-type"},
    ],
    ids=lambda fault: "-".join(str(part) for part in fault.values()),
)
def test_an_answer_that_is_none_takes_nothing_back(tmp_path: Path, fault: dict[str, Any]) -> None:
    """Hardening R-10 and R-12: lists and watches that are wrong in any way are asked for again."""

    async def tell(server: FakeApiServer, listener: Listener) -> None:
        await listener.until(lambda: listener.heard)
        known = dict(listener.objects)
        server.fault(resource="services", times=4, **fault)
        await server.down("rst")
        server.put(service("shop", "new", domains="new.example"))
        server.compact()
        await server.up()
        await listener.until(lambda: "Service shop/new" in listener.objects)
        assert known.items() <= listener.objects.items()

    story(tmp_path, *SHOP, tell=tell)


def test_an_item_that_is_none_loses_no_other(tmp_path: Path) -> None:
    async def begin(server: FakeApiServer, listener: Listener) -> None:
        server.fault("no-metadata", resource="services")
        await listener.until(lambda: listener.heard)
        assert "Service shop/web" in listener.objects
        server.send_to_watches('{"type":"MODIFIED","object":{"metadata":7}}', "services")
        server.put(service("shop", "new", domains="new.example"))
        await listener.until(lambda: "Service shop/new" in listener.objects)

    story(tmp_path, *SHOP, tell=begin)


def test_a_list_that_is_suddenly_empty_is_not_believed_at_once(tmp_path: Path) -> None:
    """Hardening R-11: a Problem, two more questions, then the server is obeyed."""
    many = [service("shop", f"app-{number}", domains=f"app-{number}.example") for number in range(20)]

    async def tell(server: FakeApiServer, listener: Listener) -> None:
        await listener.until(lambda: listener.heard)
        server.fault("empty", verb="list", resource="services")
        await server.down()
        server.put(service("shop", "app-0", domains="other.example"))
        server.compact()
        await server.up()
        await listener.until(lambda: Reason.SHRUNK_LIST in listener.reasons)
        assert len([name for name in listener.objects if name.startswith("Service shop/")]) == 20
        await listener.until(lambda: not [name for name in listener.objects if name.startswith("Service shop/")])
        await listener.until(lambda: not listener.reasons)

    story(tmp_path, *many, tell=tell, hold=0.4)
