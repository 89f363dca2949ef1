"""The operator's port: probes, metrics and reports, over HTTP and for nobody outside.

Whatever takes long is rendered in a thread. What must not enter: anything that changes what the router does, and
anything an end user could reach.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from drycc_router.admin import reports
from drycc_router.admin.health import Health
from drycc_router.publish.reconcile import Reconciler

__all__ = ["FAREWELL_SECONDS", "AdminServer"]

FAREWELL_SECONDS: Final = 1.0
"""How long a connection may still ask for something after the port was given up, or to another router."""
_LOOK_SECONDS: Final = 0.02

_NICE: Final = 10
"""A thread of this niceness gets a tenth of a core that somebody else wants too."""


class AdminServer:
    """``upstreams``, ``streams`` and ``count`` are asked on the loop; ``ports`` is filled in as sockets open.

    ``metrics`` makes the page of metrics and its content type out of an ``Accept``, in a thread. ``count`` brings up to
    date what it reads, where that is not in this process.
    """

    def __init__(
        self,
        health: Health,
        reconciler: Reconciler,
        metrics: Callable[[str], tuple[bytes, str]],
        upstreams: Callable[[], Awaitable[Sequence[object]]],
        ports: dict[str, int | None],
        streams: Callable[[], Awaitable[Sequence[object]]] | None = None,
        count: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._health = health
        self._reconciler = reconciler
        self._metrics = metrics
        self._upstreams = upstreams
        self._ports = ports
        self._streams = streams
        self._count = count
        # Where others serve, rendering lets them go first; alone, a thread that has to wait would keep the interpreter.
        self._renderer = ThreadPoolExecutor(1, "metrics", initializer=_stand_back if count is not None else None)
        self._closing = False
        app = web.Application()
        app.on_response_prepare.append(self._say_farewell)
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics_text),
                web.get("/routes", self._routes),
                web.get("/problems", self._problems),
                web.get("/certificates", self._certificates),
            ]
        )
        # Who sends a body here is answered before it is read; aiohttp reads and drops it for ten seconds (its
        # ``lingering_time``), and then closes.
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, keepalive_timeout=15, shutdown_timeout=1
        )

    async def listen(self, host: str, port: int) -> int:
        """Serve; returns the port (0 picks a free one). ``::`` takes IPv4 too. Raises OSError, naming the address."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        both = host == "::" and socket.has_dualstack_ipv6()
        return await self.accept(socket.create_server((host, port), family=family, dualstack_ipv6=both))

    async def accept(self, bound: socket.socket) -> int:
        """Serve on a socket that listens already; returns its port."""
        await self._runner.setup()
        await web.SockSite(self._runner, bound).start()
        chosen: int = bound.getsockname()[1]
        return chosen

    async def prepare(self, work: Callable[[], None]) -> None:
        """Have something done beforehand by the thread that renders, while this port is served."""
        if not self._closing:
            await asyncio.get_running_loop().run_in_executor(self._renderer, work)

    async def close(self) -> None:
        """Accept nobody more, answer who is connected, each for the last time, and stop serving.

        Who has only just connected gets :data:`FAREWELL_SECONDS` to ask: where another router takes over, a scrape or a
        probe that the old one accepted must not fail for that.
        """
        self._closing = True
        for site in list(self._runner.sites):
            await site.stop()
        until = time.monotonic() + FAREWELL_SECONDS
        server = self._runner.server
        while server and server.connections and time.monotonic() < until:  # noqa: ASYNC110 -- aiohttp has no event for it
            await asyncio.sleep(_LOOK_SECONDS)
        await self._runner.cleanup()
        self._renderer.shutdown(wait=False)

    async def _say_farewell(self, _: web.Request, response: web.StreamResponse) -> None:
        if self._closing:
            response.force_close()
            response.headers["Connection"] = "close"  # what aiohttp says of itself is written down before it asks here

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        reason = self._health.unready
        return web.Response(status=503 if reason else 200, text=f"{reason or 'ok'}\n")

    async def _metrics_text(self, request: web.Request) -> web.Response:
        if self._count is not None:
            await self._count()
        accept = request.headers.get("Accept", "")
        page, content_type = await asyncio.get_running_loop().run_in_executor(self._renderer, self._metrics, accept)
        return web.Response(body=page, headers={"Content-Type": content_type})

    async def _routes(self, _: web.Request) -> web.Response:
        upstreams = await self._upstreams()
        streams = await self._streams() if self._streams is not None else ()
        snapshot = self._reconciler.snapshot
        return _json(await asyncio.to_thread(reports.routes, snapshot, self._ports.copy(), upstreams, streams))

    async def _problems(self, _: web.Request) -> web.Response:
        return _json(await asyncio.to_thread(reports.problems, self._reconciler.snapshot))

    async def _certificates(self, _: web.Request) -> web.Response:
        return _json(await asyncio.to_thread(reports.certificates, self._reconciler.snapshot, datetime.now(UTC)))


def _stand_back() -> None:
    """Have this thread wait for whoever else wants its core, where the system knows niceness of threads."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})
