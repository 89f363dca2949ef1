"""Requests that take their time, as their apps' owners allow: pauses, live streams, and clients that wait for a 100."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import cast

from tests.fakes.process import SOON, App, Router, manifest, router, soon
from tests.fakes.wired import Caller, on_loop, origin

LIMIT = 0.5
"""``bodyTimeout`` of the apps here, in seconds."""
PAUSE = 3 * LIMIT


async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """``/talk``: answers at once and repeats what it hears; ``/late``: takes its time before it says 100, and answers
    when it has read everything; ``/``: only that."""
    head = await reader.readuntil(b"\r\n\r\n")
    path = head.split()[1]
    if path == b"/talk":
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while size := int(await reader.readline(), 16):
            said = await reader.readexactly(size + 2)
            writer.write(b"%x\r\n%b" % (size, said))
        return
    if path == b"/late":
        await asyncio.sleep(PAUSE)  # an app that is slow
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    await reader.readexactly(10)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


class Listening:
    """An app as ``manifest`` wants it."""

    def __init__(self, port: int) -> None:
        self.port = port


async def calls(router: Router) -> Caller:
    return Caller(*await asyncio.open_connection("127.0.0.1", router.ports["http"]))


def post(host: str, path: str, *fields: str) -> bytes:
    return "\r\n".join((f"POST {path} HTTP/1.1", f"Host: {host}.localhost", *fields, "", "")).encode()


def test_a_slow_body_is_judged_as_the_owner_says(tmp_path: Path) -> None:
    async def story() -> None:
        async with origin(app) as (_, port):
            there = cast(App, Listening(port))
            (tmp_path / "quick.yaml").write_text(manifest("quick/quick", there, bodyTimeout=f"{LIMIT}s"))
            (tmp_path / "slow.yaml").write_text(manifest("slow/slow", there, bodyTimeout="0", bodyRate="0"))
            with router(tmp_path, "--workers", "1") as started:
                await asyncio.to_thread(soon, lambda: '"slow.localhost"' in started.admin("/routes")[1])
                assert "bodyTimeout" not in (await asyncio.to_thread(started.admin, "/problems"))[1]
                await asyncio.gather(pauses(started), talks(started), waits_for_100(started))

    on_loop(story(), SOON * 2)


async def pauses(router: Router) -> None:
    """A pause in an upload: of one app it is a 408, of the other nothing to speak of."""
    for host, answer in (("quick", b"HTTP/1.1 408 "), ("slow", b"HTTP/1.1 200 ")):
        caller = await calls(router)
        await caller.asks(post(host, "/", "Content-Length: 10") + b"01234")
        begun = time.monotonic()
        if host == "slow":
            await asyncio.sleep(PAUSE)  # a client that is slow
            await caller.asks(b"56789")
        assert (await caller.head()).startswith(answer)
        assert time.monotonic() - begun >= LIMIT
        caller.writer.transport.abort()


async def talks(router: Router) -> None:
    """The answer has begun: a silence is a pause in a conversation."""
    caller = await calls(router)
    await caller.asks(post("quick", "/talk", "Transfer-Encoding: chunked"))
    assert b"Connection: close\r\n" in await caller.head()
    for _ in range(2):
        await asyncio.sleep(PAUSE)  # a client that is slow
        await caller.asks(b"5\r\nping!\r\n")
        assert await caller.reader.readexactly(10) == b"5\r\nping!\r\n"
    caller.writer.transport.abort()


async def waits_for_100(router: Router) -> None:
    """The app is slow to say 100: that is not the client's fault."""
    caller = await calls(router)
    await caller.asks(post("quick", "/late", "Content-Length: 10", "Expect: 100-continue"))
    assert (await caller.head()).startswith(b"HTTP/1.1 100 ")
    await caller.asks(b"0123456789")
    assert (await caller.head()).startswith(b"HTTP/1.1 200 ")
    caller.writer.transport.abort()
