"""Orders one way, signs of life the other, and the end of the supervisor."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest
import uvloop

from drycc_router.process import supervision as module
from drycc_router.process.messages import Beat, Draining, Estate, ForChild, Link, decode_for_supervisor, encode
from drycc_router.process.supervision import Reins


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_orders_signs_and_the_end(factory: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.01)

    async def story() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(False)
        heard: list[tuple[ForChild, int]] = []
        orphaned, told = asyncio.Event(), asyncio.Event()

        def hear(order: ForChild, descriptors: list[int]) -> None:
            heard.append((order, len(descriptors)))
            for each in descriptors:
                os.close(each)
            told.set()

        reins = Reins(ours, hear, orphaned.set)
        reins.take()
        for _ in range(3):
            assert decode_for_supervisor(await loop.sock_recv(theirs, 100)) == Beat()
        reader, writer = os.pipe()
        socket.send_fds(theirs, [b"not an order"], [reader])
        socket.send_fds(theirs, [encode(Link(1, 2))], [reader])
        theirs.send(encode(Draining()))
        os.close(reader)
        while len(heard) < 2:
            told.clear()
            await asyncio.wait_for(told.wait(), 5)
        assert heard == [(Link(1, 2), 1), (Draining(), 0)]
        reins.say(Estate(), writer)
        while True:
            data, descriptors, _, _ = socket.recv_fds(theirs, 100, 1)
            for each in descriptors:
                os.close(each)
            if decode_for_supervisor(data) == Estate():
                assert len(descriptors) == 1
                break
        os.close(writer)
        theirs.close()
        await asyncio.wait_for(orphaned.wait(), 5)
        reins.say(Beat())  # into the void
        reins.drop()

    with asyncio.Runner(loop_factory=factory) as runner:  # type: ignore[arg-type]  # one of two
        runner.run(story())
