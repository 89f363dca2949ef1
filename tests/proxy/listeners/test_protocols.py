"""Doors: what a new connection meets, and that a TLS connection is counted before its handshake."""

from __future__ import annotations

from typing import cast

import pytest

from drycc_proxy.listeners.protocols import SecureDoor, https_connection
from drycc_proxy.state.server_state import TlsFront
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


@pytest.mark.parametrize("first", [
    b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.1\r\n", b"G", b"GET", b"GET ", b"OPTIONS * HTTP/1.1\r\n",
    b"CONNECT shop.example:443 HTTP/1.1\r\n", b"GET http://shop.example/ HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n",
])  # fmt: skip
def test_http_in_clear_is_answered_in_clear(story: Story, first: bytes) -> None:
    transport = comes(story)
    transport.protocol.data_received(first)
    assert bytes(transport.heard).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"X-Router-Error: plain_http\r\n" in transport.heard
    assert b"Connection: close\r\n" in transport.heard
    assert transport.ended and not transport.aborted
    admission = story.core.admission
    assert (admission.connections, admission.clients, len(story.core.connections)) == (1, 1, 1)
    counters = story.core.counters
    assert (counters.tls_failures, counters.tls_pending) == (1, 0)
    transport.protocol.data_received(10_000 * b"x")  # what it still sends is dropped, so that it can read the answer
    assert not transport.aborted
    transport.lose(None)
    assert (admission.connections, admission.clients, len(story.core.connections)) == (0, 0, 0)


@pytest.mark.parametrize(
    "first",
    [
        b"SSH-2.0-x\r\n",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n",
        b"get / http\r\n",
        b"\x80\x2e\x01\x00\x02",
        b"\r\n",
    ],
)
def test_other_protocols_are_left_to_tls(story: Story, first: bytes) -> None:
    transport = comes(story)
    transport.protocol.data_received(first)
    story.loop.settle()
    assert b"HTTP/1.1" not in transport.heard
    transport.lose(None)
    assert story.core.admission.connections == 0


def test_a_request_in_clear_within_a_handshake_is_no_request(story: Story) -> None:
    transport = comes(story)
    transport.protocol.data_received(b"\x16\x03\x01")
    transport.protocol.data_received(b"GET / HTTP/1.1\r\n\r\n")
    story.loop.settle()
    assert b"HTTP/1.1" not in transport.heard
    transport.lose(None)


def test_in_clear_behind_a_proxy_header_it_is_the_client_who_is_answered(story: Story) -> None:
    story.is_set(proxy_protocol=True, trusted=("10.0.0.9",), max_per_client=1)
    transport = comes(story, "10.0.0.9")
    transport.protocol.data_received(b"PROXY TCP4 203.0.113.1 192.0.2.1 1 2\r\nGET / HTTP/1.1\r\n\r\n")
    assert b"X-Router-Error: plain_http\r\n" in transport.heard
    assert story.lines()[-1]["downstream_remote_address"] == "203.0.113.1"
    transport.lose(None)
    assert (story.core.admission.connections, story.core.admission.clients) == (0, 0)


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
