"""A client connection on which requests are counted: how many it may still make, and for whom a trusted proxy asks.

Made instead of the plain one while the operator sets a limit that needs it (``listeners.protocols``), so that without
one no request pays for the counting.

What must not enter: anything else about requests.
"""

from __future__ import annotations

from drycc_proxy.errors import Failure
from drycc_proxy.http.exchange import Exchange
from drycc_proxy.http1.downstream import Http1Downstream
from drycc_proxy.state.server_state import Core

__all__ = ["MeteredDownstream"]


class MeteredDownstream(Http1Downstream):
    """Counts a connection's requests, and what clients behind a trusted proxy have under way."""

    __slots__ = ("_charged", "_made")

    def __init__(self, core: Core, secure: bool, address: str = "") -> None:
        super().__init__(core, secure, address)
        self._made = 0
        self._charged = ""
        """The client whom the request under way is counted for."""

    def _find_app(self, exchange: Exchange, body: bytes, last: bool) -> None:
        core = self._core
        edge = self._edge
        self._made += 1
        if edge.max_requests and self._made >= edge.max_requests:
            self._close = True
        client = exchange.fields.client
        peer = self._peer
        # A trusted peer's connections are not counted for itself: what it has under way is, for each of its clients.
        if edge.max_per_client and peer.trusted and client != peer.address:
            if not core.admission.take(client, edge.max_per_client):
                core.counters.connections_refused += 1
                self._answer(exchange, Failure.TOO_MANY_CONNECTIONS)
                return
            self._charged = client
        super()._find_app(exchange, body, last)

    def _finished(self, exchange: Exchange, moment: float) -> None:
        self._settle()
        super()._finished(exchange, moment)

    def _record(self, exchange: Exchange) -> None:
        self._settle()
        super()._record(exchange)

    def _settle(self) -> None:
        if self._charged:
            self._core.admission.give(self._charged)
            self._charged = ""
