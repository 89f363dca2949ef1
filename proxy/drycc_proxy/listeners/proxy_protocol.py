"""The entrance: where a connection waits until it is clear whether a PROXY header comes first, and for whom it speaks.

Stands before HTTP and before TLS alike, and only while the operator asks for it (``useProxyProtocol``): then each new
connection passes here once, and the protocol behind takes its transport over with its first byte. Who may speak for
others is in ``proxyRealIpCidrs``; a trusted peer that sends no header speaks for itself, so load balancers can check
the same port without one, and so does a stranger. A stranger's header is refused (hardening P-02).

What must not enter: the header's format (``proxy_header``), HTTP, TLS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from drycc_proxy.errors import Failure
from drycc_proxy.http.deadlines import LEAVE_SECONDS, PROXY_SECONDS
from drycc_proxy.http1.downstream import Http1Downstream
from drycc_proxy.kernel.clock import FAR, now
from drycc_proxy.kernel.internal_errors import attempt, isolated, note
from drycc_proxy.kernel.sockets import peer_address
from drycc_proxy.listeners.proxy_header import BadHeader, read
from drycc_proxy.state.server_state import Core

__all__ = ["Entrance"]


class Entrance(asyncio.Protocol):
    """``enter`` makes the protocol for a client at an address. ``answers``: it can tell a peer why it is refused
    (HTTP in clear); otherwise whoever is refused finds the connection closed."""

    __slots__ = ("_address", "_answers", "_buffer", "_core", "_enter", "_transport", "deadline", "slot")

    def __init__(self, core: Core, enter: Callable[[str], asyncio.Protocol], answers: bool) -> None:
        self._core = core
        self._enter = enter
        self._answers = answers
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._address = ""
        self._buffer = b""
        self.deadline = FAR
        self.slot = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        try:
            self._wait_for_word()
        except Exception as error:
            self.fault(error)

    def _wait_for_word(self) -> None:
        self._address = peer_address(self._transport)
        core = self._core
        core.entering.add(self)
        core.admission.come()
        core.wheel.arm(self, now() + core.table.edge.head_timeout)

    @isolated
    def data_received(self, data: bytes) -> None:
        first = not self._buffer
        data = self._buffer + data
        try:
            header = read(data)
        except BadHeader:
            self._turn_away(Failure.BAD_PROXY_HEADER)
            return
        if header is None:
            self._buffer = data
            if first:
                self._core.wheel.arm(self, now() + PROXY_SECONDS)
            return
        address = self._address
        headers = self._core.counters.proxy_headers
        if header.size:
            if address not in self._core.table.edge.trusted:
                self._turn_away(Failure.UNTRUSTED_PROXY_HEADER)
                return
            if header.source is None:
                headers["own"] += 1
            else:
                headers["client"] += 1
                address = header.source[0]
        else:
            headers["none"] += 1
        self._pass_on(self._enter(address), data[header.size :])

    @isolated
    def connection_lost(self, error: Exception | None) -> None:
        self._gone()

    @isolated
    def overdue(self, now: float) -> None:
        """Nothing came, or not enough: what has not even begun to speak is closed like any silent client."""
        if self._buffer:
            self._core.counters.proxy_headers["late"] += 1
        self.abort_now()

    def fault(self, error: Exception) -> None:
        """A mistake of ours (``kernel.internal_errors``): the connection is reset."""
        counters = self._core.counters
        note(counters, "entrance", error)
        attempt(counters, "entrance", self._gone)
        attempt(counters, "entrance", self._transport.abort)

    @isolated
    def drain(self) -> None:
        """The router stops: who was only just accepted may say its first word."""
        leaves = now() + LEAVE_SECONDS
        if self.deadline > leaves:
            self._core.wheel.arm(self, leaves)

    @isolated
    def abort_now(self) -> None:
        """Give up at once."""
        self._gone()
        self._transport.abort()

    def _gone(self) -> None:
        self.slot = -1
        core = self._core
        if self in core.entering:
            core.entering.discard(self)
            core.admission.go()  # whoever is behind takes a place of its own

    def _turn_away(self, failure: Failure) -> None:
        outcome = "bad" if failure is Failure.BAD_PROXY_HEADER else "untrusted"
        self._core.counters.proxy_headers[outcome] += 1
        if not self._answers:
            self.abort_now()  # before the handshake there is nothing that a client could read
            return
        protocol = self._enter(self._address)
        self._pass_on(protocol, b"")
        cast("Http1Downstream", protocol).turn_away(failure)

    def _pass_on(self, protocol: asyncio.Protocol, rest: bytes) -> None:
        """Let ``protocol`` take over: from here on the connection costs what every other one does."""
        self._gone()
        transport = self._transport
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if rest:
            protocol.data_received(rest)
