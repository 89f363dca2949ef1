"""The platform's API behind the router, an app like any other: answers that take their time, logs that are followed,
uploads that are large. A real client and a real server of aiohttp at the ends."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from tests.fakes.wired import Standing, on_loop, standing

IMAGE = random.Random(7).randbytes(24 * 2**20)


class Controller:
    """As much of the API as is special to a proxy; each answer waits for what the test lets happen."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.lines: asyncio.Queue[str] = asyncio.Queue()
        self.left = asyncio.Event()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**30)
        app.add_routes(
            [
                web.post("/v2/apps/{app}/run", self.run),
                web.get("/v2/apps/{app}/logs", self.logs),
                web.get("/v2/events", self.events),
                web.post("/v2/apps/{app}/builds", self.build),
            ]
        )
        return app

    async def run(self, request: web.Request) -> web.Response:
        """A command that takes as long as it takes: the answer begins when it is over."""
        await self.go.wait()
        return web.json_response({"app": request.match_info["app"], "exit_code": 0})

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """``drycc logs --follow``: chunks for as long as somebody reads."""
        return await self._follow(request, "text/plain", "{}\n")

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events."""
        return await self._follow(request, "text/event-stream", "data: {}\n\n")

    async def _follow(self, request: web.Request, kind: str, form: str) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": kind, "Cache-Control": "no-store"})
        await answer.prepare(request)
        try:
            while line := await self.lines.get():
                await answer.write(form.format(line).encode())
        finally:
            self.left.set()
        return answer

    async def build(self, request: web.Request) -> web.Response:
        """An upload, read as it comes."""
        digest = hashlib.sha256()
        async for piece in request.content.iter_any():
            digest.update(piece)
        return web.json_response({"sha256": digest.hexdigest()}, status=201)


@pytest.fixture(scope="module")
def program() -> Iterator[Standing]:
    """The API as three Services: as it is, with little patience between bytes, and with a limit for bodies."""
    with standing(beside={"controller": {}, "patient": {"tcpTimeout": "20s"}, "small": {"bodySize": "1m"}}) as running:
        yield running


@asynccontextmanager
async def platform(
    program: Standing, name: str = "controller"
) -> AsyncIterator[tuple[Controller, aiohttp.ClientSession]]:
    """The API behind the router, and a client of its."""
    controller = Controller()
    runner = web.AppRunner(controller.app(), access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, program.socket_of_the_app()).start()
    base = f"http://127.0.0.1:{program.http}"
    async with aiohttp.ClientSession(base, headers={"Host": f"{name}.example"}) as client:
        yield controller, client
    await runner.cleanup()


def test_an_answer_that_takes_its_time_is_waited_for(program: Standing) -> None:
    async def story() -> None:
        async with platform(program, "patient") as (api, client):
            running = asyncio.create_task(client.post("/v2/apps/shop/run", json={"command": "migrate"}))
            await asyncio.sleep(1.5)  # a long time, as tests go, in which nobody may lose patience
            assert not running.done()
            api.go.set()
            async with await running as answer:
                assert (answer.status, await answer.json()) == (200, {"app": "shop", "exit_code": 0})

    on_loop(story())


def test_logs_are_followed_line_by_line(program: Standing) -> None:
    async def story() -> None:
        async with platform(program) as (api, client), client.get("/v2/apps/shop/logs?follow=true") as answer:
            for number in range(20):
                api.lines.put_nowait(f"line {number}")
                # Whole before the next one is made: nothing in between gathers them.
                assert await answer.content.readline() == b"line %d\n" % number
            api.lines.put_nowait("")
            assert await answer.content.read() == b""

    on_loop(story())


def test_events_arrive_as_they_happen_and_the_app_hears_when_nobody_listens_any_more(program: Standing) -> None:
    async def story() -> None:
        async with platform(program) as (api, client):
            async with client.get("/v2/events") as answer:
                assert answer.content_type == "text/event-stream"
                for event in ("build", "release", "scale"):
                    api.lines.put_nowait(event)
                    assert await answer.content.readuntil(b"\n\n") == f"data: {event}\n\n".encode()
                answer.close()
            await until_told(api)

    on_loop(story())


async def until_told(api: Controller) -> None:
    """The app goes on talking, and finds that its client is gone."""
    while not api.left.is_set():
        api.lines.put_nowait("anybody there?")
        await asyncio.sleep(0.01)


def test_a_large_upload_arrives_whole_in_pieces_without_a_stated_length(program: Standing) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(IMAGE), 2**18):
            yield IMAGE[at : at + 2**18]

    async def story() -> None:
        async with platform(program) as (_, client):
            for body in (io.BytesIO(IMAGE), pieces()):
                async with client.post("/v2/apps/shop/builds", data=body) as answer:
                    assert answer.status == 201
                    assert await answer.json() == {"sha256": hashlib.sha256(IMAGE).hexdigest()}

    on_loop(story())


def test_the_router_is_no_limit_until_the_operator_sets_one(program: Standing) -> None:
    async def story() -> None:
        too_much = b"x" * (2**20 + 1)
        async with (
            platform(program, "small") as (_, client),
            client.post("/v2/apps/shop/builds", data=io.BytesIO(too_much)) as answer,
        ):
            assert (answer.status, answer.headers["X-Router-Error"]) == (413, "body_too_large")

    on_loop(story())
