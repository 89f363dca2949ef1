"""A client that adds nothing of its own: for the tests of the fake, which are about bytes and statuses."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from aiohttp import ClientResponse, ClientSession, TCPConnector

from tests.fakes.apiserver.server import FakeApiServer

__all__ = ["SERVICES", "SLICES", "Client", "WatchStream"]

SERVICES = "/api/v1/services"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"


class WatchStream:
    """The lines of one watch."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response

    async def event(self) -> dict[str, Any]:
        """The next event; the end of the stream is an AssertionError."""
        line = await self.response.content.readline()
        assert line, "the watch has ended"
        event: dict[str, Any] = json.loads(line)
        return event

    async def told(self) -> tuple[str, str]:
        """Type and name of the next event."""
        event = await self.event()
        return event["type"], event["object"]["metadata"]["name"]

    async def rest(self) -> bytes:
        """Everything up to the end of the stream."""
        return await self.response.content.read()


class Client:
    """Speaks with one fake, with its token and without TLS."""

    def __init__(self, server: FakeApiServer, token: str | None = None) -> None:
        self._server = server
        headers = {"Authorization": f"Bearer {token or server.token}", "User-Agent": "the-test"}
        self._session = ClientSession(headers=headers, connector=TCPConnector(limit=0))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        async with self._session.request(method, self._server.url + path, **options) as response:
            return response.status, json.loads(await response.read())

    async def listed(self, path: str = SERVICES, **query: str) -> Any:
        """The document of a list that succeeds."""
        status, document = await self.ask("GET", path, params=query)
        assert status == 200, document
        return document

    async def names(self, path: str = SERVICES, **query: str) -> list[str]:
        return [item["metadata"]["name"] for item in (await self.listed(path, **query))["items"]]

    @asynccontextmanager
    async def answer(self, path: str = SERVICES, **options: Any) -> AsyncIterator[ClientResponse]:
        """The bare answer to a GET."""
        async with self._session.get(self._server.url + path, **options) as response:
            yield response

    @asynccontextmanager
    async def watch(self, path: str = SERVICES, **query: str) -> AsyncIterator[WatchStream]:
        """A watch whose head has come, which means that the server has joined it."""
        async with self._session.get(self._server.url + path, params={"watch": "true", **query}) as response:
            assert response.status == 200, await response.text()
            yield WatchStream(response)
