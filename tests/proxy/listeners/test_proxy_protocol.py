"""The entrance by itself: one look at the first bytes, then out of the way. What it decides is in the stories."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from drycc_proxy.http1.downstream import Http1Downstream
from drycc_proxy.listeners.protocols import SecureDoor, http_connection, https_connection
from drycc_proxy.listeners.proxy_protocol import Entrance
from tests.fakes.story import Story
from tests.fakes.transport import FakeTransport

LINE = b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n"


class Inside(asyncio.Protocol):
    """Whoever stands behind the entrance."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.seen: list[object] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.seen.append("made")

    def data_received(self, data: bytes) -> None:
        self.seen.append(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.seen.append("lost")


class Met:
    """An entrance that somebody has reached."""

    def __init__(self, story: Story, address: str) -> None:
        story.is_set(proxy_protocol=True, trusted=("10.0.0.0/24",))
        self.made: list[Inside] = []
        self.transport = FakeTransport(story.loop.call_soon, (address, 1))
        self.transport.protocol = Entrance(story.core, self.enter, answers=False)
        self.transport.protocol.connection_made(self.transport)

    def enter(self, address: str) -> Inside:
        self.made.append(Inside(address))
        return self.made[-1]


def test_whoever_is_behind_gets_what_is_behind_the_header(story: Story) -> None:
    met = Met(story, "10.0.0.9")
    met.transport.protocol.data_received(LINE[:20])
    assert met.made == []
    met.transport.protocol.data_received(LINE[20:] + b"\x16\x03\x01")
    (inside,) = met.made
    assert met.transport.protocol is inside
    assert inside.address == "203.0.113.7"
    assert inside.seen == ["made", b"\x16\x03\x01"]
    assert not story.core.entering
    met.transport.lose(None)
    assert inside.seen[-1] == "lost"


def test_whoever_is_behind_hears_of_nothing_when_nothing_is_behind(story: Story) -> None:
    met = Met(story, "10.0.0.9")
    met.transport.protocol.data_received(LINE)
    assert met.made[0].seen == ["made"]


@pytest.mark.parametrize(("address", "data"), [("203.0.113.66", LINE), ("10.0.0.9", b"PROXY nonsense\r\n")])
def test_who_cannot_be_answered_finds_the_connection_closed(story: Story, address: str, data: bytes) -> None:
    met = Met(story, address)
    met.transport.protocol.data_received(data)
    assert met.made == []
    assert met.transport.aborted
    story.loop.settle()
    assert not story.core.entering


def test_the_wheel_forgets_who_has_passed(story: Story) -> None:
    met = Met(story, "10.0.0.9")
    entrance = met.transport.protocol
    entrance.data_received(LINE)
    assert entrance.slot < 0
    story.passes(20)
    assert not met.transport.closing


def test_while_it_is_off_nobody_stands_there(story: Story) -> None:
    """A connection costs then what it cost before there was an entrance."""
    front: Any = _Front()
    assert type(http_connection(story.core)) is Http1Downstream
    assert type(https_connection(story.core, front)) is SecureDoor
    story.is_set(proxy_protocol=True)
    assert type(http_connection(story.core)) is Entrance
    assert type(https_connection(story.core, front)) is Entrance


class _Front:
    def context(self) -> Any:
        import ssl

        return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
