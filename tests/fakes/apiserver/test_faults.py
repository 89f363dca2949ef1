"""Every way to fail, as a client sees it: laid for some requests, over when it is over."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Awaitable, Callable

import pytest
import uvloop
from aiohttp import ClientError, ClientPayloadError

from tests.fakes.apiserver.client import SLICES, Client
from tests.fakes.apiserver.objects import service
from tests.fakes.apiserver.server import FakeApiServer

Tell = Callable[[FakeApiServer, Client], Awaitable[None]]


def story(tell: Tell) -> None:
    async def run() -> None:
        async with asyncio.timeout(20), FakeApiServer() as server, Client(server) as client:
            server.load(3)
            await tell(server, client)

    uvloop.run(run())


def test_a_status_with_its_reason_and_when_to_come_again() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.fault("status", code=429, retry_after=2, times=1)

        async with client.answer() as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "2")
            refusal = json.loads(await answer.read())
        assert (refusal["reason"], refusal["details"]["retryAfterSeconds"]) == ("TooManyRequests", 2)
        assert len(await client.names()) == 3, "once only"

    story(tell)


def test_a_fault_meets_only_the_requests_it_was_laid_for() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.fault("status", code=403, resource="endpointslices")
        server.fault("status", code=500, verb="get", namespace="app-00001")

        assert (await client.ask("GET", SLICES))[0] == 403
        assert (await client.ask("GET", SLICES, params={"watch": "1"}))[0] == 403
        assert (await client.ask("GET", "/api/v1/namespaces/app-00001/services/app-00001"))[0] == 500
        assert (await client.ask("GET", "/api/v1/namespaces/app-00002/services/app-00002"))[0] == 200
        assert len(await client.names()) == 3
        server.clear_faults()
        assert (await client.ask("GET", SLICES))[0] == 200

    story(tell)


def test_an_empty_list_at_the_current_version_though_there_is_more() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.fault("empty", verb="list", times=1)

        document = await client.listed()

        assert document["items"] == []
        assert document["metadata"]["resourceVersion"] == str(server.store.version)

    story(tell)


def test_one_item_without_metadata_among_good_ones() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.fault("no-metadata", times=2)

        items = (await client.listed())["items"]
        assert ["metadata" in item for item in items] == [False, True, True, True]
        async with client.watch() as watch:
            event = await watch.event()
            assert (event["type"], "metadata" in event["object"]) == ("MODIFIED", False)
            assert await watch.told() == ("ADDED", "app-00000")

    story(tell)


def test_half_of_the_json_in_sound_http() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.fault("truncated", times=2)

        async with client.answer() as answer:
            body = await answer.read()
            assert answer.status == 200
            with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
                json.loads(body)
        async with client.watch() as watch:
            rest = await watch.rest()
            assert rest.startswith(b'{"type":"ADDED"')
            assert not rest.endswith(b"\n")

    story(tell)


def test_http_itself_broken_off() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.fault("cut", times=2)

        with pytest.raises(ClientPayloadError):
            async with client.answer() as answer:
                await answer.read()
        with pytest.raises(ClientPayloadError):
            async with client.watch() as watch:
                await watch.rest()
        server.fault("reset", times=1)
        # Sent as a POST, for which no client tries again by itself.
        with pytest.raises(ClientError):
            await client.ask("POST", "/api/v1/namespaces", json={"metadata": {"name": "x"}})

    story(tell)


@pytest.mark.parametrize("query", [{}, {"watch": "true"}])
def test_a_web_page_in_place_of_the_answer(query: dict[str, str]) -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.fault("html", times=1)

        async with client.answer(params=query) as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")
            assert (await answer.text()).startswith("<!doctype html>")

    story(tell)


def test_the_right_answer_under_a_wrong_type() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.fault("text-type", times=2)

        async with client.answer() as answer:
            assert answer.content_type == "text/plain"
            assert len(json.loads(await answer.read())["items"]) == 3
        async with client.watch() as watch:
            assert watch.response.content_type == "text/plain"
            assert await watch.told() == ("ADDED", "app-00000")

    story(tell)


@pytest.mark.parametrize("query", [{}, {"watch": "true"}])
def test_nothing_at_all(query: dict[str, str]) -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.fault("stall", times=1)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), client.answer(params=query):
                pass
        assert len(server.audit.of(resource="services")) == 1, "it was heard"

    story(tell)


@pytest.mark.parametrize("query", [{}, {"watch": "true"}])
def test_the_head_of_an_answer_and_then_nothing(query: dict[str, str]) -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.fault("silent", times=1)

        async with client.answer(params=query) as answer:
            assert answer.status == 200
            server.put(service("shop", "web"))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await answer.content.readany()

    story(tell)


@pytest.mark.parametrize("query", [{}, {"watch": "true", "timeoutSeconds": "1"}])
def test_the_right_answer_byte_by_byte(query: dict[str, str]) -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.fault("drip", seconds=0, times=1)

        async with client.answer("/api/v1/namespaces/app-00000/services", params=query) as answer:
            pieces = [piece async for piece in answer.content.iter_any()]

        whole = b"".join(pieces)
        assert b'"name":"app-00000"' in whole
        assert len(pieces) > 1
        assert whole.endswith(b"}\n")

    story(tell)


def test_gone_as_an_event_whatever_the_version() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.answer_gone_as("status")
        server.fault("gone-event", verb="watch", times=1)

        async with client.watch() as watch:
            event = await watch.event()
            assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
            assert await watch.rest() == b""

    story(tell)


@pytest.mark.parametrize(("how", "ends_well"), [("end", True), ("truncated", True), ("fin", False), ("rst", False)])
def test_open_watches_are_dropped(how: str, ends_well: bool) -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        async with client.watch(resourceVersion=str(server.store.version)) as watch, client.watch(SLICES) as other:
            assert server.drop_watches(how, "services") == 1
            if ends_well:
                assert (await watch.rest() == b"") is (how == "end")
            else:
                with pytest.raises(ClientError):
                    await watch.rest()
            await server.watches_are(1)
            server.load(1, start=7)
            assert [(await other.told())[1] for _ in range(4)][-1] == "app-00007-abcde", "the other goes on"

    story(tell)


def test_a_stalled_server_takes_requests_and_answers_them_later() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        async with client.watch(resourceVersion=str(server.store.version)) as watch:
            server.stall()
            server.put(service("shop", "web"))
            waiting = asyncio.create_task(client.names(), name="waiting")
            done, _ = await asyncio.wait([waiting], timeout=0.2)
            assert not done
            assert not watch.response.content.at_eof()

            server.resume()

            assert len(await waiting) == 4
            assert await watch.told() == ("ADDED", "web")

    story(tell)


def test_a_server_that_is_down_refuses_and_comes_back_where_it_was() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        async with client.watch() as watch:
            await server.down()
            with pytest.raises(ClientError):
                await watch.rest()
        before = server.url
        for _ in range(2):
            with pytest.raises(ClientError):
                await client.names()

        server.put(service("shop", "web"))
        await server.up()

        assert server.url == before
        assert len(await client.names()) == 4

    story(tell)


def test_raw_lines_reach_open_watches() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        async with client.watch(resourceVersion=str(server.store.version)) as watch:
            server.send_to_watches('{"type":"BOOKMARK"}')
            assert await watch.event() == {"type": "BOOKMARK"}

    story(tell)


def test_an_object_larger_than_any_real_one() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        async with client.watch(resourceVersion=str(server.store.version), timeoutSeconds="1") as watch:
            server.put(service("shop", "huge", annotations={"example.com/padding": "x" * 5_000_000}))
            assert len(await watch.rest()) > 5_000_000
        assert "huge" in await client.names()

    story(tell)


@pytest.mark.parametrize(("how", "said_goodbye"), [("fin", False), ("alert", True)])
def test_over_tls_a_connection_ends_with_or_without_a_goodbye(how: str, said_goodbye: bool) -> None:
    async def run() -> None:
        async with asyncio.timeout(20), FakeApiServer(tls=True) as server:
            assert server.credentials.authority is not None
            trusting = ssl.create_default_context(cadata=server.credentials.authority.decode())
            trusting.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
            ended = await asyncio.to_thread(watched_over_tls, server, asyncio.get_running_loop(), trusting, how)
            assert ended is said_goodbye

    uvloop.run(run())


def watched_over_tls(
    server: FakeApiServer, loop: asyncio.AbstractEventLoop, trusting: ssl.SSLContext, how: str
) -> bool:
    """Whether a watch that was dropped ended with close_notify, as seen by a socket that knows the difference."""
    port = int(server.url.rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        trusting.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as secure,
    ):
        secure.sendall(
            b"GET /api/v1/services?watch=1 HTTP/1.1\r\nHost: localhost\r\n"
            b"Authorization: Bearer " + server.token.encode() + b"\r\n\r\n"
        )
        assert secure.recv(65536).startswith(b"HTTP/1.1 200")
        loop.call_soon_threadsafe(server.drop_watches, how)
        try:
            while secure.recv(65536):
                pass
        except ssl.SSLError:
            return False
        return True
