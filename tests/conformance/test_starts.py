"""A router that starts beside an API server that does not know its rights yet, or that it cannot trust, serves nothing
until it knows its own settings: here they shut every app for strangers, so one answer without them would show.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from examples.authority import Authority
from tests.conformance.cluster import Cluster, Document
from tests.conformance.crowd import crowd
from tests.conformance.installation import USER, Installation, Pod
from tests.fakes.apiserver.objects import service

pytestmark = pytest.mark.timeout(400)

SHUT = 403
"""What a stranger is answered: `enforceWhitelists` without a list. Without the settings it is 503: no endpoints."""
SETTINGS = {"enforceWhitelists": "true"}
ROUNDS = 4
BESIDE = 3
"""Routers that start beside each start of the API server."""


def shop() -> list[Document]:
    """An app without endpoints, as its owner writes it."""
    web = service("shop", "web", domains="shop.example", annotations={"bodySize": "ten"})
    del web["spec"]["clusterIP"]
    return [web]


@pytest.fixture
def installed(cluster: Cluster, tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(cluster, tmp_path)
    installation.install(SETTINGS)
    for document in shop():
        cluster.apply(document)
    yield installation
    cluster.mend()


class Stranger:
    """Asks for the shop, again and again, from the moment the router listens."""

    def __init__(self, pod: Pod) -> None:
        self.answers: Counter[int] = Counter()
        self._pod = pod
        self._task = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        await self._pod.listens.wait()
        while True:
            self.answers[await self._pod.status("shop.example")] += 1

    async def asks(self, times: int = 30) -> None:
        wanted = self.answers.total() + times
        await self._pod.until(lambda: self.answers.total() >= wanted)

    async def leaves(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


@asynccontextmanager
async def visited(
    installation: Installation, name: str, credentials: Path | None = None
) -> AsyncIterator[tuple[Pod, Stranger]]:
    async with installation.pod(name, credentials=credentials) as pod:
        stranger = Stranger(pod)
        try:
            yield pod, stranger
        finally:
            await stranger.leaves()


def traces(pod: Pod) -> list[dict[str, object]]:
    """Lines of the log with an exception: there are none where every failure has a name."""
    return [line for line in pod.lines if "trace" in line]


def test_a_right_that_comes_late_is_waited_for(installed: Installation) -> None:
    """The right to its own Deployment comes when the server has refused that for a while: nothing is served before."""
    cluster = installed.cluster
    own = next(each for each in installed.bindings if each["metadata"]["name"] == "drycc-router-own")

    def refusals() -> int:
        return sum("/deployments/drycc-router" in each.uri and each.code == 403 for each in cluster.asked(USER, since))

    async def tell() -> None:
        async with visited(installed, "late") as (pod, stranger):
            await pod.until(lambda: refusals() >= 3)
            status, reason = await pod.readyz()
            assert status == 503
            assert "Deployment drycc/drycc-router (403" in reason
            assert not pod.listens.is_set()
            cluster.apply(own)
            await pod.is_ready()
            await stranger.asks()
            assert set(stranger.answers) == {SHUT}
            assert await pod.metric('router_watch_failures_total{error="forbidden"}') >= 3

    since = cluster.audited
    cluster.remove(own)
    try:
        asyncio.run(tell())
    finally:
        cluster.apply(own)


def test_routers_that_start_beside_the_server_serve_nothing_without_their_settings(installed: Installation) -> None:
    cluster = installed.cluster
    since = cluster.audited

    async def start_together(turn: int) -> None:
        async with AsyncExitStack() as stack:
            accounts = []
            for number in range(BESIDE):
                accounts.append(installed.directory / f"account-{turn}-{number}")
                cluster.service_account("drycc", "drycc-router", accounts[-1])
            cluster.stop()
            started = [
                await stack.enter_async_context(visited(installed, account.name, account)) for account in accounts
            ]
            # Some look for the server just when it comes, some a little later.
            for pod, _ in started:
                await pod.waits_for("API server")
            cluster.start(wait=False)  # while strangers ask
            for pod, stranger in started:
                await pod.is_ready()
                await stranger.asks()
                assert set(stranger.answers) == {SHUT}, (pod.process.pid, stranger.answers)
                assert not traces(pod)

    for turn in range(ROUNDS):
        asyncio.run(start_together(turn))
    refused = [each for each in cluster.asked(USER, since) if each.code == 403 and "/watch" not in each.uri]
    print(f"{ROUNDS * BESIDE} starts beside the API server, which said 403 to {len(refused)} of their requests")


def test_a_server_with_a_certificate_of_another_authority_is_named_and_mended(installed: Installation) -> None:
    cluster = installed.cluster
    mine, other = cluster.authority, Authority("another one")
    accounts = [installed.directory / f"account-{number}" for number in range(3)]
    for account in accounts:
        cluster.service_account("drycc", "drycc-router", account)

    def trust(authority: Authority) -> None:
        for account in accounts:
            fresh = account / "ca.crt.new"
            fresh.write_bytes(authority.certificate)
            fresh.replace(account / "ca.crt")

    async def tell() -> None:
        async with AsyncExitStack() as stack:
            started = [
                await stack.enter_async_context(visited(installed, account.name, account)) for account in accounts
            ]
            for pod, _ in started:
                await pod.until(lambda: pod.said("not trusted", "certificate verify failed"))  # noqa: B023 -- awaited at once
                status, reason = await pod.readyz()
                assert status == 503
                assert "waiting for the API server (certificate verify failed: " in reason
                assert await pod.metric('router_watch_failures_total{error="untrusted"}') >= 1
            trust(other)
            for pod, stranger in started:
                await pod.is_ready()
                await stranger.asks()
                assert set(stranger.answers) == {SHUT}
            # Once more while they run, with the first authority: what they know stays, until they trust it again.
            restart(mine)
            for pod, stranger in started:
                told = len(pod.said("not trusted"))
                await pod.until(lambda: len(pod.said("not trusted")) > told)  # noqa: B023 -- awaited at once
                await stranger.asks()
                assert (await pod.readyz())[0] == 200
            trust(mine)
            for pod, stranger in started:
                await pod.until(lambda: pod.said("answers again"))  # noqa: B023 -- awaited at once
                await stranger.asks()
                assert set(stranger.answers) == {SHUT}
                assert not traces(pod)
                assert not pod.said("control", "status")

    def restart(authority: Authority) -> None:
        cluster.stop()
        cluster.present_of(authority)
        cluster.start(wait=False)

    restart(other)
    try:
        asyncio.run(tell())
    finally:
        if cluster.authority is not mine:
            restart(mine)


def test_readyz_says_what_it_waits_for_while_the_server_is_too_busy(installed: Installation) -> None:
    cluster = installed.cluster
    since = cluster.audited
    token = cluster.token("drycc", "drycc-router")
    reasons: set[str] = set()

    async def listen(pod: Pod) -> None:
        while True:
            status, reason = await pod.readyz()
            if status == 503:
                reasons.add(reason)

    async def tell() -> None:
        async with (
            crowd(cluster, USER, token, "/api/v1/services"),
            visited(installed, "busy") as (pod, stranger),
        ):
            listening = asyncio.create_task(listen(pod))
            await pod.until(lambda: sum(each.code == 429 for each in cluster.asked(USER, since)) > 20)
            await pod.until(lambda: any("429" in reason for reason in reasons))
            assert await pod.metric('router_watch_failures_total{error="toomanyrequests"}') >= 1
            listening.cancel()
            await asyncio.wait([listening])
        async with visited(installed, "calm") as (pod, stranger):
            await pod.is_ready()
            await stranger.asks()
            assert set(stranger.answers) == {SHUT}

    asyncio.run(tell())
    assert not [reason for reason in reasons if not reason or reason.endswith(("waiting for", "()"))], reasons
