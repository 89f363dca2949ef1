"""The platform's API as far as the git gateway asks it (lineage 3.5): whose key is this, and which apps have they?"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiohttp import web

__all__ = ["HEADER", "SECRET", "PlatformApi", "platform_api"]

HEADER = "X-Deis-Builder-Auth"
SECRET = "canary-builder-key"


class PlatformApi:
    """What it knows, and how it misbehaves."""

    def __init__(self) -> None:
        self.url = ""
        self.people: dict[str, object] = {}
        """MD5 fingerprint → what is answered."""
        self.asked: list[str] = []
        self.status = 200
        self.delay = 0.0

    async def key(self, request: web.Request) -> web.Response:
        fingerprint = request.match_info["fingerprint"]
        self.asked.append(fingerprint)
        await asyncio.sleep(self.delay)
        if request.headers.get(HEADER) != SECRET:
            return web.json_response({"detail": "Authentication credentials were not provided."}, status=403)
        if self.status != 200:
            return web.Response(status=self.status)
        if fingerprint not in self.people:
            return web.json_response({"detail": "Not found."}, status=404)
        return web.json_response(self.people[fingerprint])


@contextmanager
def platform_api() -> Iterator[PlatformApi]:
    """An API on loopback, in a thread."""
    api = PlatformApi()
    begun = threading.Event()
    stop: Callable[[], object] = print

    async def serve() -> None:
        nonlocal stop
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        stop = lambda: loop.call_soon_threadsafe(ended.set)  # noqa: E731 -- of the loop that serves
        app = web.Application()
        app.add_routes([web.get("/v2/hooks/key/{fingerprint}", api.key)])
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        api.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        begun.set()
        await ended.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    begun.wait()
    try:
        yield api
    finally:
        stop()
        thread.join()
