"""The demo's apps, in one process: prints ``{"<app>": [ports]}`` as one JSON line and ends when its input does."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys

from aiohttp import web
from aiohttp.typedefs import Handler

__all__: list[str] = []


async def hello(request: web.Request) -> web.Response:
    """Say what arrived."""
    return web.json_response({"path": request.path_qs, "headers": dict(request.headers)}, dumps=_indented)


def shop(instance: int) -> web.Application:
    """One of several instances, which says which one it is."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=f"Welcome to the shop. Instance {instance} is at your service.\n")

    return _app(answer)


async def ticker(request: web.Request) -> web.StreamResponse:
    """Count the seconds, as server-sent events, for as long as somebody listens."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    try:
        for second in itertools.count():
            await response.write(b"data: %d\n\n" % second)
            await asyncio.sleep(1)
    except ConnectionResetError:
        pass  # nobody listens any more
    return response


def _indented(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"


def _app(handler: Handler) -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    return app


async def _listen(app: web.Application) -> int:
    """Serve ``app`` on a free port of the loopback interface."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port: int = runner.addresses[0][1]
    return port


async def _main() -> None:
    ports = {
        "hello": [await _listen(_app(hello))],
        "shop": [await _listen(shop(1)), await _listen(shop(2))],
        "ticker": [await _listen(_app(ticker))],
    }
    print(json.dumps(ports), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main())
