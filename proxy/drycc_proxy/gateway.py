"""The one door of the data plane: listen, publish, drain, close.

Everything above this line of the house talks to the data plane through :class:`Gateway` and the plain definitions of
``routing.definitions``; nothing above it may import what lies behind.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from drycc_proxy.http1.upstream import Http1Upstream
from drycc_proxy.kernel.clock import TICK, now
from drycc_proxy.kernel.memory import Memory
from drycc_proxy.kernel.sockets import BACKLOG, bind, descriptors, open_descriptors
from drycc_proxy.listeners.protocols import http_connection, https_connection
from drycc_proxy.metrics import Counters
from drycc_proxy.routing.definitions import TableChange
from drycc_proxy.state.server_state import Core, TlsFront
from drycc_proxy.streams.listener import Bind, Streams

__all__ = ["Gateway", "Ports", "TlsFront"]

REPORTED_AT_ONCE: Final = 100
"""Upstreams that are told of per turn of the loop: less than a millisecond."""
DRAINED_AT_ONCE: Final = 256
"""Connections that are told of a drain per turn of the loop."""
MEASURE_SECONDS: Final = 1.0
"""Between two looks at how many descriptors there may be."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports that are listened on; 0 was asked for, these were chosen."""

    http: int
    https: int | None


class _Listener:
    """A socket that listens, what meets who comes through it, and the server that accepts; None: nobody is accepted."""

    __slots__ = ("meet", "server", "sock")

    def __init__(self, sock: socket.socket, meet: Callable[[], asyncio.Protocol]) -> None:
        self.sock = sock
        self.meet = meet
        self.server: asyncio.AbstractServer | None = None


class Gateway:
    """One data plane in one process, on one loop."""

    __slots__ = ("_core", "_doors", "_in_use", "_loop", "_measure_at", "_reopening", "_streams")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        tls: TlsFront | None = None,
        log: Callable[[bytes], bool] | None = None,
        memory: Memory | None = None,
    ) -> None:
        """``log`` takes batches of access-log lines; it must not block, and returns False when it had to drop them.

        ``memory``: the limit that must not be met; None: there is none.
        """
        self._loop = loop
        self._core = Core(loop, tls, log, Http1Upstream, memory)
        self._streams = Streams(self._core)
        self._doors: list[_Listener] = []
        self._reopening: asyncio.Task[None] | None = None
        self._in_use = 0
        self._measure_at = 0.0

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

    @property
    def one_peer(self) -> str:
        """The one untrusted address that nearly all clients come from while places are few; empty: there is none."""
        return self._core.one_peer

    def tell_of_one_peer(self, told: Callable[[], None]) -> None:
        """``told`` is called whenever :attr:`one_peer` has changed."""
        self._core.on_one_peer = told

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
        """Accept from sockets that listen already (``kernel.sockets.bind``), and own them from now on.

        Others may accept from the same sockets: whoever is free takes the next connection. ``streams`` gives the
        sockets of streams' ports when there is a route for them; None: streams are not served here.
        """
        core = self._core
        core.wheel.start()
        self._doors.append(_Listener(plain, lambda: http_connection(core)))
        if secure is not None:
            if core.tls is None:
                secure.close()
                raise ValueError("an https port needs tls")
            front = core.tls
            self._doors.append(_Listener(secure, lambda: https_connection(core, front)))
        self._in_use = open_descriptors() + len(self._doors)
        self._measure()
        core.on_tick = self._watch
        core.admission.on_full = self._pause
        await self._open()
        if streams is not None:
            self._streams.listen(streams)
        return Ports(plain.getsockname()[1], None if secure is None else secure.getsockname()[1])

    # ── places ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _measure(self) -> None:
        """How many places there are may change while we serve: by the operator's setting, and by ``prlimit``."""
        core = self._core
        core.admission.allow(core.table.edge.definition.max_connections, descriptors(), self._in_use)
        self._measure_at = now() + MEASURE_SECONDS

    def _watch(self) -> None:
        """Ten times a second: make room before there is none, and accept again as soon as there is some."""
        core = self._core
        moment = now()
        if moment >= self._measure_at:
            self._measure()
        admission = core.admission
        core.counters.places, core.counters.places_taken = admission.most, admission.connections
        if admission.excess > 0 and not core.draining:
            if admission.excess_files > 0:
                core.registry.close_idle(max(0, core.counters.upstream_idle - admission.excess_files))
            core.relieve(moment)
        if admission.is_full:
            self._pause()
        elif self._reopening is None and not core.draining and any(door.server is None for door in self._doors):
            self._reopening = self._loop.create_task(self._open(), name="accept again")

    def _pause(self) -> None:
        """Accept nobody for a while: the kernel keeps them waiting, which costs neither them nor us anything."""
        paused = False
        for door in self._doors:
            if door.server is not None:
                door.server.close()
                door.server = None
                paused = True
        self._core.counters.accept_pauses += paused

    async def _open(self) -> None:
        """Accept at every door that is closed."""
        try:
            for door in self._doors:
                if door.server is None:
                    # The server owns and closes what it gets, so it gets a second descriptor of the same socket.
                    door.server = await self._loop.create_server(door.meet, sock=door.sock.dup(), backlog=BACKLOG)
        finally:
            self._reopening = None

    def _shut(self) -> None:
        """Accept nobody any more; who waits in the kernel finds the connection reset, unless others accept it."""
        if self._reopening is not None:
            self._reopening.cancel()
        for door in self._doors:
            if door.server is not None:
                door.server.close()
                door.server = None
            door.sock.close()
        self._doors.clear()

    # ── what is told ──────────────────────────────────────────────────────────────────────────────────────────────

    def publish(self, change: TableChange) -> None:
        """Make a change current for every request that begins from now on; those under way keep what they have."""
        self._core.table.apply(change)
        self._streams.apply(change.streams, change.gone_streams)
        edge = self._core.table.edge.definition
        self._core.log.configure(edge.log_format, edge.log_enabled)

    def report(self) -> list[dict[str, object]]:
        """Every upstream with its endpoints, loads and idle connections."""
        return list(self._core.registry.report())

    def report_in_parts(self, size: int = REPORTED_AT_ONCE) -> Iterator[list[dict[str, object]]]:
        """The same, so many at a time: ten thousand at once would keep requests waiting for 70 ms."""
        upstreams = self._core.registry.report()
        while part := list(islice(upstreams, size)):
            yield part

    def report_streams(self) -> list[dict[str, object]]:
        """Every stream route with its port, endpoints and loads."""
        return self._streams.report()

    def rebind(self, port: int) -> None:
        """Ask again for the socket of a port for streams."""
        self._streams.rebind(port)

    def stream_port(self, name: str) -> int | None:
        """The port that is listened on for a stream route; None: there is none."""
        return self._streams.port(name)

    async def drain(self, grace: float) -> None:
        """Stop accepting, let exchanges finish (each answer says ``Connection: close``), at most ``grace`` seconds."""
        core = self._core
        core.begin_draining()
        self._shut()
        for waiting in list(core.entering):
            waiting.drain()
        self._streams.close_ports()
        for number, connection in enumerate(list(core.connections), 1):
            connection.drain()
            if number % DRAINED_AT_ONCE == 0:
                await asyncio.sleep(0)
        try:
            async with asyncio.timeout(grace):
                # They have their own deadlines, and become connections, or not.
                while core.entering or core.counters.tls_pending:  # noqa: ASYNC110 -- no event, as requests would pay
                    await asyncio.sleep(TICK)
                if core.connections:
                    core.emptied = asyncio.Event()
                    await core.emptied.wait()
        except TimeoutError:
            pass

    def close(self) -> None:
        """Give everything up at once."""
        core = self._core
        self._shut()
        for waiting in list(core.entering):
            waiting.abort_now()
        self._streams.close()
        for connection in list(core.connections):
            connection.abort_now()
        core.registry.close()
        core.wheel.stop()
        core.log.flush()
