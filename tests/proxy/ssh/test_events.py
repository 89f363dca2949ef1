"""The way: what is told waits for who hears it, and nobody there is noticed."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest

from drycc_proxy.ssh import events
from drycc_proxy.ssh.events import Teller, Way

Heard = list[Any]


def run(story: Callable[[Way, socket.socket, Heard, asyncio.Event], Any]) -> None:
    async def main() -> None:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        heard: Heard = []
        gone = asyncio.Event()
        with near:
            near.setblocking(False)
            it = Way(far, heard.append, gone.set)
            await story(it, near, heard, gone)
            await it.finish(1.0)

    asyncio.run(main())


def test_both_sides_are_heard_and_the_end_is_noticed() -> None:
    async def story(it: Way, near: socket.socket, heard: Heard, gone: asyncio.Event) -> None:
        it.tell({"event": "listening"})
        assert json.loads(near.recv(100)) == {"event": "listening"}
        near.send(b'{"builders": []}')
        near.close()
        await gone.wait()
        assert heard == [{"builders": []}]

    run(story)


def test_what_nobody_hears_waits_in_order() -> None:
    async def story(it: Way, near: socket.socket, heard: Heard, gone: asyncio.Event) -> None:
        for number in range(events.MAX_WAITING):  # more than the kernel keeps
            it.tell({"event": "session", "number": number, "much": "x" * 500})
        loop = asyncio.get_running_loop()
        said = [json.loads(await loop.sock_recv(near, 1000))["number"] for _ in range(events.MAX_WAITING)]
        assert said == list(range(events.MAX_WAITING))

    run(story)


def test_what_cannot_wait_or_be_heard_goes_to_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_WAITING", 3)

    async def story(it: Way, near: socket.socket, heard: Heard, gone: asyncio.Event) -> None:
        for number in range(2000):
            it.tell({"number": number, "much": "x" * 500})
        assert len(it._waiting) == 3
        assert '"number": 1996' in capsys.readouterr().err
        near.close()
        it.tell({"number": "last"})

    run(story)
    assert '"number": "last"' in capsys.readouterr().err


def test_lines_of_the_log_are_told_without_the_text_of_an_exception() -> None:
    async def story(it: Way, near: socket.socket, heard: Heard, gone: asyncio.Event) -> None:
        logger = logging.Logger("here")
        logger.addHandler(Teller(it))
        try:
            raise ValueError("canary")
        except ValueError:
            logger.warning("%d went wrong", 1, exc_info=True)
        said = {"event": "log", "level": "warning", "message": "1 went wrong (ValueError)"}
        assert json.loads(near.recv(1000)) == said

    run(story)
