"""The fake says what a real server said: ``tests/conformance`` recorded it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.conformance import session
from tests.fakes.apiserver.rights import Rights, ServiceAccount
from tests.fakes.apiserver.server import FakeApiServer

ACCOUNT = ServiceAccount(session.NAMESPACE, "session")


async def _play() -> list[session.Step]:
    async with FakeApiServer(rights=Rights(()), account=ACCOUNT, audited=False) as server:
        server.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": session.NAMESPACE}})

        async def grant() -> None:
            server.credentials.rights = Rights.from_manifests(session.RIGHTS, ACCOUNT)

        async def compact() -> None:
            server.compact()
            server.expire_continue()

        @asynccontextmanager
        async def crowd() -> AsyncIterator[None]:
            server.fault("crowd")
            yield
            server.clear_faults()

        return await session.play(session.Server(server.url, server.token, grant, compact, crowd))


def test_the_fake_holds_the_session_as_the_real_server_does() -> None:
    said = {step["step"]: step for step in asyncio.run(_play())}
    recorded = {step["step"]: step for step in session.recorded()}
    assert list(said) == list(recorded)
    for name, step in recorded.items():
        assert said[name] == step, name
