"""What the fake can carry, so that figures taken against it are the router's."""

from __future__ import annotations

import asyncio

import uvloop

from tests.fakes.apiserver.client import SERVICES, SLICES, Client
from tests.fakes.apiserver.server import FakeApiServer


def test_a_list_of_many_services_and_their_slices() -> None:
    async def run() -> None:
        async with asyncio.timeout(50), FakeApiServer() as server, Client(server) as client:
            server.load(5000)
            for path in (SERVICES, SLICES):
                async with client.answer(path, headers={"Accept-Encoding": "identity"}) as answer:
                    body = await answer.read()
                assert body.count(b'"creationTimestamp"') == 5000

    uvloop.run(run())


def test_a_thousand_events_a_second_to_several_watches() -> None:
    async def run() -> None:
        async with asyncio.timeout(50), FakeApiServer() as server, Client(server) as client:
            server.load(200)
            version = str(server.store.version)
            async with (
                client.watch(resourceVersion=version) as one,
                client.watch(resourceVersion=version, labelSelector="router.drycc.cc/routable=true") as two,
            ):
                server.churn(1000)  # until there were enough of them, on a machine that stands still now and then too
                seen = [(await one.event(), await two.event()) for _ in range(900)]
                await server.stop_churn()
            versions = [int(event["object"]["metadata"]["resourceVersion"]) for event, _ in seen]
            assert versions == sorted(set(versions)), "in order, none twice"
            assert all(first == second for first, second in seen)
            assert server.churning is not None
            assert 0.05 < server.churning.real / server.churning.made < 0.15

    uvloop.run(run())
