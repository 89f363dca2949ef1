"""Doors: what a new connection meets, and that a TLS connection is counted before its handshake."""

from __future__ import annotations

from typing import cast

from proxy.core import TlsFront
from proxy.doors import SecureDoor, https_connection
from tests.fakes.story import FakeTls, Story
from tests.fakes.transport import FakeTransport


def comes(story: Story, address: str = "203.0.113.7") -> FakeTransport:
    """A connection on the https port that says nothing."""
    transport = FakeTransport(story.loop.call_soon, (address, 1))
    transport.protocol = https_connection(story.core, cast(TlsFront, FakeTls()))
    transport.protocol.connection_made(transport)
    return transport


def test_who_only_begins_a_handshake_takes_a_place(story: Story) -> None:
    transport = comes(story)
    assert isinstance(transport.protocol, SecureDoor)
    admission = story.core.admission
    assert (admission.connections, admission.clients) == (1, 1)
    transport.lose(None)
    assert (admission.connections, admission.clients) == (0, 0)


def test_a_whole_connection_takes_one_place(story: Story) -> None:
    caller = story.connects()
    caller.shakes_hands()
    admission = story.core.admission
    assert (admission.connections, admission.clients, len(story.core.connections)) == (1, 1, 1)
    caller.resets()
    assert (admission.connections, admission.clients, len(story.core.connections)) == (0, 0, 0)


def test_who_has_too_many_is_reset_before_the_handshake(story: Story) -> None:
    story.is_set(max_per_client=1)
    first = comes(story)
    second = comes(story)
    assert second.aborted
    assert not second.heard
    story.loop.settle()
    assert story.core.counters.connections_refused == 1
    assert story.core.counters.tls_failures == 0
    assert story.core.admission.connections == 1
    first.lose(None)
    story.loop.settle()
    third = comes(story)
    assert not third.aborted
    third.lose(None)


def test_behind_a_proxy_header_it_is_the_clients_place(story: Story) -> None:
    story.is_set(max_per_client=1, proxy_protocol=True, trusted=("10.0.0.9",))
    kept = []
    for number, refused in ((1, False), (2, False), (1, True)):
        transport = comes(story, "10.0.0.9")
        transport.protocol.data_received(b"PROXY TCP4 203.0.113.%d 192.0.2.1 1 2\r\n" % number)
        assert transport.aborted == refused
        kept.append(transport)
    story.loop.settle()
    for transport in kept:
        transport.lose(None)
