"""The one door of the data plane: listen, publish, drain, close.

Everything above this line of the house talks to the data plane through :class:`Gateway` and the plain definitions of
``proxy.routes``; nothing above it may import what lies behind.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass

from proxy.core import Core, TlsFront
from proxy.entrance import Entrance
from proxy.http1.downstream import Http1Downstream
from proxy.metrics import Counters
from proxy.routes import TableChange
from proxy.sockets import BACKLOG, bind
from proxy.stream import Bind, Streams
from proxy.tls_channel import TlsChannel

__all__ = ["Gateway", "Ports", "TlsFront"]


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports that are listened on; 0 was asked for, these were chosen."""

    http: int
    https: int | None


class Gateway:
    """One data plane in one process, on one loop."""

    __slots__ = ("_core", "_loop", "_servers", "_streams")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        tls: TlsFront | None = None,
        log: Callable[[bytes], bool] | None = None,
    ) -> None:
        """``log`` takes batches of access-log lines; it must not block, and returns False when it had to drop them."""
        self._loop = loop
        self._core = Core(loop, tls, log)
        self._streams = Streams(self._core)
        self._servers: list[asyncio.AbstractServer] = []

    def __repr__(self) -> str:
        core = self._core
        return (
            f"<Gateway table={core.table.generation} hosts={len(core.table.hosts)} upstreams={len(core.registry)} "
            f"connections={len(core.connections)}{' draining' if core.draining else ''}>"
        )

    @property
    def counters(self) -> Counters:
        """What was counted so far."""
        return self._core.counters

    async def listen(self, host: str, http_port: int, https_port: int | None) -> Ports:
        """Bind and accept. Port 0 picks a free one; ``https_port`` None: no TLS. Raises OSError.

        Both sockets are bound before either accepts: a port in use fails the start, not half of it. Ports of streams
        come and go with their routes, on the same address; one that is in use is tried again and again.
        """
        plain = bind(host, http_port)
        try:
            secure = None if https_port is None else bind(host, https_port)
        except OSError:
            plain.close()
            raise
        return await self.accept(plain, secure, lambda port: bind(host, port))

    async def accept(self, plain: socket.socket, secure: socket.socket | None, streams: Bind | None = None) -> Ports:
        """Accept from sockets that listen already (``proxy.sockets.bind``), and own them from now on.

        Others may accept from the same sockets: whoever is free takes the next connection. ``streams`` gives the
        sockets of streams' ports when there is a route for them; None: streams are not served here.
        """
        core = self._core
        core.wheel.start()
        self._servers.append(await self._loop.create_server(lambda: http_connection(core), sock=plain, backlog=BACKLOG))
        if secure is not None:
            if core.tls is None:
                secure.close()
                raise ValueError("an https port needs tls")
            front = core.tls
            self._servers.append(
                await self._loop.create_server(lambda: https_connection(core, front), sock=secure, backlog=BACKLOG)
            )
        if streams is not None:
            self._streams.listen(streams)
        return Ports(plain.getsockname()[1], None if secure is None else secure.getsockname()[1])

    def publish(self, change: TableChange) -> None:
        """Make a change current for every request that begins from now on; those under way keep what they have."""
        self._core.table.apply(change)
        self._streams.apply(change.streams, change.gone_streams)
        edge = self._core.table.edge.definition
        self._core.log.configure(edge.log_format, edge.log_enabled)

    def report(self) -> list[dict[str, object]]:
        """Every upstream with its endpoints, loads and idle connections."""
        return self._core.registry.report()

    def report_streams(self) -> list[dict[str, object]]:
        """Every stream route with its port, endpoints and loads."""
        return self._streams.report()

    def stream_port(self, name: str) -> int | None:
        """The port that is listened on for a stream route; None: there is none."""
        return self._streams.port(name)

    async def drain(self, grace: float) -> None:
        """Stop accepting, let exchanges finish (each answer says ``Connection: close``), at most ``grace`` seconds."""
        core = self._core
        core.draining = True
        for server in self._servers:
            server.close()
        for waiting in list(core.entering):
            waiting.abort_now()
        self._streams.close_ports()
        for connection in list(core.connections):
            connection.drain()
        if core.connections:
            core.emptied = asyncio.Event()
            try:
                async with asyncio.timeout(grace):
                    await core.emptied.wait()
            except TimeoutError:
                pass

    def close(self) -> None:
        """Give everything up at once."""
        core = self._core
        for server in self._servers:
            server.close()
        for waiting in list(core.entering):
            waiting.abort_now()
        self._streams.close()
        for connection in list(core.connections):
            connection.abort_now()
        core.registry.close()
        core.wheel.stop()
        core.log.flush()


def http_connection(core: Core) -> asyncio.Protocol:
    """What meets a new connection on the http port."""
    if core.table.edge.proxy_protocol:
        return Entrance(core, lambda address: Http1Downstream(core, False, 80, address), answers=True)
    return Http1Downstream(core, False, 80)


def https_connection(core: Core, front: TlsFront) -> asyncio.Protocol:
    """What meets a new connection on the https port."""

    def secured(address: str) -> TlsChannel:
        return TlsChannel(front.context(), lambda: Http1Downstream(core, True, 443, address), core.wheel, core.counters)

    if core.table.edge.proxy_protocol:
        return Entrance(core, secured, answers=False)
    return secured("")
