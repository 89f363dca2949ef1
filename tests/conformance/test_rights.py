"""With the rights of the chart and no others the router reads, writes and leads, and stops leading when it drains."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drycc_router.claims.record import ENTRY, decode
from tests.conformance.cluster import Asked, Cluster, Document
from tests.conformance.installation import USER, Installation, Pod, terminate
from tests.fakes.apiserver.objects import service

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def installed(cluster: Cluster, tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(cluster, tmp_path)
    installation.install()
    web = service("shop", "web", domains="shop.example", annotations={"bodySize": "ten"})
    del web["spec"]["clusterIP"]
    cluster.apply(web)
    yield installation


def holder(installed: Installation) -> str:
    name: str = installed.cluster.get(installed.objects.one("Lease")).get("spec", {}).get("holderIdentity", "")
    return name


def path_of(asked: Asked) -> str:
    return asked.uri.partition("?")[0]


def events(cluster: Cluster) -> list[Document]:
    _, answer = cluster.ask("GET", "/api/v1/namespaces/shop/events")
    items: list[Document] = answer["items"]
    return items


def test_the_rights_of_the_chart_are_all_that_the_router_uses(installed: Installation) -> None:
    cluster = installed.cluster
    since = cluster.audited

    async def tell() -> None:
        async with installed.pod("one") as pod:
            await pod.is_ready()
            assert await pod.status("shop.example") == 503, "known, without endpoints"
            await pod.until(lambda: holder(installed) == "one")
            await pod.until(lambda: "BadValue" in {each["reason"] for each in events(cluster)})

            def written() -> bool:
                data = cluster.get(installed.objects.one("ConfigMap", "drycc-router-claims")).get("data") or {}
                return ("shop.example", "shop/web") in decode(data.get(ENTRY, "")).claims

            await pod.until(written)

    asyncio.run(tell())
    asked = cluster.asked(USER, since)
    refused = {(each.verb, path_of(each)) for each in asked if each.code == 403}
    assert refused == set(), "nothing is asked for that the chart does not grant"
    written = {path_of(each).split("/namespaces/")[1] for each in asked if each.verb not in ("get", "list", "watch")}
    kinds = {path.split("/")[1] for path in written}
    assert kinds == {"leases", "configmaps", "events"}


def test_a_leader_that_drains_gives_its_lease_back_at_once(installed: Installation) -> None:
    """With the chart's drain of fifteen seconds and more: the next one leads while the first still serves."""

    async def tell() -> None:
        async with installed.pod("first") as first:
            await first.is_ready()
            await first.until(lambda: holder(installed) == "first")
            async with installed.pod("second") as second:
                await second.is_ready()
                began = time.monotonic()
                terminate(first)
                await second.until(lambda: holder(installed) == "second")
                took = time.monotonic() - began
                assert first.process.returncode is None, "it is still draining"
                assert await first.status("shop.example") == 503, "and still serves"
                assert (await first.readyz())[1] == "draining"
                assert took < 10.0, "a Lease that nobody gave back would be waited for, for fifteen seconds"
                assert await second.metric("router_leader") == 1.0
                assert await first.metric("router_leader") == 0.0

    asyncio.run(tell())


def test_a_new_token_is_taken_up(installed: Installation, tmp_path: Path) -> None:
    """As a kubelet replaces it, when the old one is no longer good because its ServiceAccount was made anew."""
    cluster = installed.cluster
    account = installed.objects.one("ServiceAccount")

    async def tell(pod: Pod) -> None:
        await pod.is_ready()
        cluster.remove(account)
        cluster.apply(account)
        cluster.service_account("drycc", "drycc-router", tmp_path / "rotated")
        cluster.apply(new_app())
        while await pod.status("new.example") != 503:  # noqa: ASYNC110 -- only an answer can tell
            await asyncio.sleep(0.1)

    async def run() -> None:
        async with asyncio.timeout(120), installed.pod("rotated") as pod:
            await tell(pod)

    asyncio.run(run())


def new_app() -> Document:
    made = service("shop", "new", domains="new.example")
    del made["spec"]["clusterIP"]
    return made
