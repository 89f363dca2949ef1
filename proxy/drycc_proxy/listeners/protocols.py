"""Doors: what meets a new connection, on each port. Everything about a connection that depends on settings is decided
here, when it is accepted, so that a setting that is off costs its requests nothing.

What must not enter: listening (``gateway``), and anything that happens later on a connection.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

from drycc_proxy.errors import Failure
from drycc_proxy.http1.downstream import Http1Downstream
from drycc_proxy.http1.metered import MeteredDownstream
from drycc_proxy.kernel.internal_errors import attempt, note
from drycc_proxy.kernel.sockets import peer_address
from drycc_proxy.listeners.proxy_protocol import Entrance
from drycc_proxy.listeners.reject import Refusal
from drycc_proxy.listeners.tls_channel import TlsChannel
from drycc_proxy.state.server_state import Core, TlsFront

__all__ = ["http_connection", "https_connection"]


def http_connection(core: Core) -> asyncio.Protocol:
    """What meets a new connection on the http port."""
    if core.refusing:
        return Refusal(core.counters)
    edge = core.table.edge
    kind = MeteredDownstream if edge.metered else Http1Downstream
    if edge.proxy_protocol:
        return Entrance(core, lambda address: kind(core, False, address), answers=True)
    return kind(core, False)


def https_connection(core: Core, front: TlsFront) -> asyncio.Protocol:
    """What meets a new connection on the https port."""
    if core.refusing:
        return Refusal(core.counters)
    if core.table.edge.proxy_protocol:
        return Entrance(core, lambda address: SecureDoor(front, Visit(core, address)), answers=False)
    return SecureDoor(front, Visit(core))


class Visit:
    """What a TLS connection has before its client is heard."""

    __slots__ = ("address", "core", "counted")

    def __init__(self, core: Core, address: str = "") -> None:
        self.core = core
        self.address = address
        self.counted = False

    def inside(self) -> Http1Downstream:
        """The protocol that speaks once the handshake is done."""
        core = self.core
        kind = MeteredDownstream if core.table.edge.metered else Http1Downstream
        return kind(core, True, self.address)


_IN_CLEAR: Final = re.compile(rb"(?!PROXY )[A-Z]{1,16}(?: |$)")
"""How HTTP begins that is not encrypted, as far as it is here. TLS begins with a byte that is no letter."""


class SecureDoor(TlsChannel):
    """A channel that is counted from its first moment: who only begins a handshake takes a place as well."""

    __slots__ = ("_visit",)

    def __init__(self, front: TlsFront, visit: Visit) -> None:
        core = visit.core
        super().__init__(front.context(), visit.inside, core.wheel, core.counters, core.handshakes)
        self._visit = visit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        visit = self._visit
        try:
            visit.address = visit.address or peer_address(transport)
            visit.counted = visit.core.arrived(visit.address)
        except Exception as error:
            note(visit.core.counters, "tls", error)
        if not visit.counted:
            # An answer would take a handshake first, which costs more than it is worth to refuse: nothing is written.
            transport.abort()  # type: ignore[attr-defined]  # an accepted connection has one
            return
        super().connection_made(transport)

    def _diverts(self, data: bytes) -> bool:
        """HTTP in clear is answered in clear, so that people see what is wrong: browsers show a reset as an outage."""
        if _IN_CLEAR.match(data) is None:
            return False
        visit = self._visit
        transport = self._leave()
        visit.counted = False
        visit.core.departed(visit.address)  # who answers takes a place of its own
        kind = MeteredDownstream if visit.core.table.edge.metered else Http1Downstream
        protocol = kind(visit.core, False, visit.address)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.turn_away(Failure.PLAIN_HTTP)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        visit = self._visit
        if visit.counted:
            visit.counted = False
            attempt(visit.core.counters, "tls", visit.core.departed, visit.address)
