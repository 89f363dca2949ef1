"""Messages over a socketpair: whole, in order, one per turn of the loop, and an end where they make no sense."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine

import pytest
import uvloop

from drycc_router.process import channel as channels
from drycc_router.process.channel import Channel


class Listener:
    """What one end hears."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.errors: list[Exception | None] = []
        self.ended = asyncio.Event()
        self.news = asyncio.Event()
        self.bad = b"bad"

    def hear(self, message: bytes) -> None:
        if message == self.bad:
            raise ValueError("not like this")
        self.heard.append(message)
        self.news.set()

    def end(self, error: Exception | None) -> None:
        self.errors.append(error)
        self.ended.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.news.clear()
            await asyncio.wait_for(self.news.wait(), 5)


async def pair() -> tuple[Channel, Listener, socket.socket]:
    """A channel, who listens to it, and the bare socket of the other side."""
    listener = Listener()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    channel = Channel(listener.hear, listener.end)
    await asyncio.get_running_loop().create_connection(lambda: channel, sock=ours)
    return channel, listener, theirs


def on_both_loops(story: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(story())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())


def framed(*messages: bytes) -> bytes:
    return b"".join(len(message).to_bytes(4, "big") + message for message in messages)


def test_messages_arrive_whole_however_they_are_cut() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        channel, listener, theirs = await pair()
        for byte in framed(b"one", b"", b"three"):
            await loop.sock_sendall(theirs, bytes([byte]))
        await loop.sock_sendall(theirs, framed(*[b"x" * 1000] * 1000))
        await listener.until(lambda: len(listener.heard) == 1003)
        assert listener.heard[:3] == [b"one", b"", b"three"]
        channel.send(b"answer")
        assert await loop.sock_recv(theirs, 100) == framed(b"answer")
        channel.close()
        await asyncio.wait_for(listener.ended.wait(), 5)
        assert listener.errors == [None]
        channel.send(b"too late")
        assert channel.unsent == 0
        theirs.close()

    on_both_loops(story)


def test_others_have_their_turn_between_two_messages() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        channel, listener, theirs = await pair()
        turns: list[int] = []

        def turn() -> None:
            turns.append(len(listener.heard))
            if len(listener.heard) < 50:
                loop.call_soon(turn)

        await loop.sock_sendall(theirs, framed(*[b"message"] * 50))
        loop.call_soon(turn)
        await listener.until(lambda: len(listener.heard) == 50)
        assert len(turns) >= 50
        channel.close()
        await asyncio.wait_for(listener.ended.wait(), 5)
        theirs.close()

    on_both_loops(story)


@pytest.mark.parametrize("bytes_", [framed(b"bad"), b"\xff\xff\xff\xff"], ids=["not understood", "too long"])
def test_what_makes_no_sense_ends_the_channel(bytes_: bytes) -> None:
    async def story() -> None:
        _, listener, theirs = await pair()
        await asyncio.get_running_loop().sock_sendall(theirs, bytes_ + framed(b"never heard"))
        await asyncio.wait_for(listener.ended.wait(), 5)
        assert [type(error) for error in listener.errors] == [ValueError]
        assert listener.heard == []
        theirs.close()

    on_both_loops(story)


def test_who_sends_faster_than_is_read_has_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "_ENOUGH", 1000)

    async def story() -> None:
        loop = asyncio.get_running_loop()
        channel, listener, theirs = await pair()
        heard_when_sent = []
        sending = loop.create_task(loop.sock_sendall(theirs, framed(*[b"y" * 500] * 5000)))
        sending.add_done_callback(lambda _: heard_when_sent.append(len(listener.heard)))
        await listener.until(lambda: len(listener.heard) == 5000)
        await sending
        assert heard_when_sent[0] > 3000  # what is on its way is bounded: 2.5 MB have no room in it
        channel.close()
        await asyncio.wait_for(listener.ended.wait(), 5)
        theirs.close()

    on_both_loops(story)
