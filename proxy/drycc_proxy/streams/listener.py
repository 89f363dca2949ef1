"""Streams: connections to a port of their own, joined byte for byte with one to an endpoint (git over SSH, and others).

::

    accept → who comes, and may they? → dial an endpoint, another one if that fails → two protocols, joined

A stream has one task, from accept until both sides are joined; from then on what arrives at one side is written to the
other within one callback. Half-closes pass on in either direction, a side that reads too slowly holds the other, and a
reset is passed on as a reset, so that nobody takes a part for the whole.

A port is listened on for as long as there is a route for it: without a builder there is no port 2222. Changes of routes
touch no stream that runs; it keeps the endpoint and the limits it began with.

What must not enter: HTTP, TLS, and what the bytes mean.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import Final, cast

from drycc_proxy.errors import Failure
from drycc_proxy.http.client_address import client_key
from drycc_proxy.http.deadlines import PROXY_SECONDS
from drycc_proxy.http.forwarding import printable
from drycc_proxy.kernel.clock import FAR, HORIZON, now
from drycc_proxy.kernel.internal_errors import attempt, isolated, note
from drycc_proxy.kernel.sockets import keep_alive, limit_unsent, reset_on_close
from drycc_proxy.listeners.proxy_header import BadHeader, read, written
from drycc_proxy.metrics import StreamCounters
from drycc_proxy.routing.definitions import Address, StreamRoute
from drycc_proxy.state.server_state import Core
from drycc_proxy.upstreams.balancing import choose

__all__ = ["Bind", "Stream", "Streams"]

log = logging.getLogger(__name__)

Bind = Callable[[int], socket.socket]
"""A listening socket for a port, not blocking. Raises OSError; BlockingIOError where somebody else sees to it, says why
there is none, and lets :meth:`Streams.rebind` be called."""

MAX_DIALS: Final = 3
"""Endpoints tried for one stream."""
MAX_ACCEPTS: Final = 64
"""Connections accepted in one turn of the loop."""
HIGH_WATER: Final = 256 * 1024
"""Bytes kept for a side that reads slowly before the other is not read any further: what one read can bring."""
RETRY_SECONDS: Final = 1.0
"""Until a port that could not be bound, or descriptors that ran out, are tried again."""
FULL_SECONDS: Final = 0.1
"""Until it is asked again whether there is a place, where there was none."""
BURST: Final = 10
"""Connections that a client may open at once before ``new_per_second`` holds it back."""
LOOKS: Final = 4
"""Clients that are looked at for each new one, whether they can be forgotten."""
_OUT_OF_RESOURCES: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class _StreamEndpoint:
    """One address of a stream route."""

    __slots__ = ("address", "label", "load")

    def __init__(self, address: Address) -> None:
        self.address = address
        self.label = printable(address)
        self.load = 0


class Doorkeeper:
    """Who may come: so many connections at once and so many new ones per second from one client address.

    Keeps nothing about an address that has no connection and has not come for a while.
    """

    __slots__ = ("_clients", "_route")

    def __init__(self, route: StreamRoute) -> None:
        self._route = route
        self._clients: OrderedDict[str, list[float]] = OrderedDict()
        """Client → [connections open, of the burst what is left, when that was so]; first who is looked at next."""

    def __len__(self) -> int:
        return len(self._clients)

    def change(self, route: StreamRoute) -> None:
        """Other limits hold from now on."""
        self._route = route

    def admit(self, client: str, at: float) -> bool:
        """Count a new connection, or refuse it. ``at``: monotonic seconds."""
        route = self._route
        if not route.connections_per_client and not route.new_per_second:
            return True
        entry = self._clients.get(client)
        if entry is None:
            self._forget(at)
            entry = self._clients[client] = [0, BURST, at]
        elif route.new_per_second:
            entry[1] = min(BURST, entry[1] + (at - entry[2]) * route.new_per_second)
            entry[2] = at
        if route.connections_per_client and entry[0] >= route.connections_per_client:
            return False
        if route.new_per_second:
            if entry[1] < 1:
                return False
            entry[1] -= 1
        entry[0] += 1
        return True

    def left(self, client: str) -> None:
        """A connection that was admitted is over."""
        entry = self._clients.get(client)
        if entry is not None and entry[0] > 0:
            entry[0] -= 1

    def _forget(self, at: float) -> None:
        """Forget who has no connection and could come again at once, or has not come for a minute. Each newcomer pays
        for a look at :data:`LOOKS` others, so that nobody pays for all of them."""
        refill = BURST / self._route.new_per_second if self._route.new_per_second else 0.0
        clients = self._clients
        for _ in range(min(LOOKS, len(clients))):
            client, entry = clients.popitem(last=False)
            if entry[0] or at - entry[2] < min(refill, 60.0):
                clients[client] = entry  # as the last one


# ── one stream ────────────────────────────────────────────────────────────────────────────────────────────────────────


class _StreamSide(asyncio.Protocol):
    """One of the two connections."""

    __slots__ = ("ended", "lost", "other", "stream", "transport")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.other: _StreamSide = self
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.ended = False
        """It has said its last word."""
        self.lost = True
        """There is no connection (yet, or any more)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.lost = False
        self.transport = cast(asyncio.Transport, transport)
        try:
            self._set_up(transport)
        except Exception as error:
            self.fault(error)

    def fault(self, error: Exception) -> None:
        """A mistake of ours (``kernel.internal_errors``): the stream is broken off."""
        self.stream.fault(error)

    def _set_up(self, transport: asyncio.BaseTransport) -> None:
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        limit_unsent(transport)
        keep_alive(transport)

    @isolated
    def eof_received(self) -> bool:
        if not self.ended:
            self.ended = True
            self.stream.side_ended(self)
        return True

    @isolated
    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self.stream.side_lost(self, error)

    @isolated
    def pause_writing(self) -> None:
        if not self.other.lost:
            self.other.transport.pause_reading()

    @isolated
    def resume_writing(self) -> None:
        self.other.resume_reading()

    def resume_reading(self) -> None:
        """Read on, if there is anything to come."""
        if not (self.lost or self.ended or self.transport.is_closing()):
            self.transport.resume_reading()


class _ClientSide(_StreamSide):
    __slots__ = ()

    @isolated
    def data_received(self, data: bytes) -> None:
        stream = self.stream
        if self.other.lost:
            return  # broken off already, and the news is on its way
        if not stream.bytes_in:
            stream.heard()
        stream.bytes_in += len(data)
        stream.deadline = now() + stream.idle_timeout
        self.other.transport.write(data)


class _AppSide(_StreamSide):
    __slots__ = ()

    @isolated
    def data_received(self, data: bytes) -> None:
        stream = self.stream
        stream.bytes_out += len(data)
        if stream.joining:
            stream.early += data
            self.transport.pause_reading()  # there is nobody yet to give it to
            return
        if stream.bytes_in or not stream.first_byte_timeout:
            stream.deadline = now() + stream.idle_timeout
        self.other.transport.write(data)


class Stream:
    """One client's connection and the one to an endpoint, and afterwards their record for the log."""

    __slots__ = (
        "_core",
        "_port",
        "app",
        "attempts",
        "bytes_in",
        "bytes_out",
        "client",
        "client_address",
        "client_port",
        "deadline",
        "destination",
        "dialled",
        "early",
        "endpoint",
        "failure",
        "first",
        "first_byte_timeout",
        "idle_timeout",
        "joining",
        "key",
        "over",
        "reason",
        "route",
        "slot",
        "started",
        "took",
    )

    def __init__(self, core: Core, port: _StreamListener, source: Address, destination: Address) -> None:
        self._core = core
        self._port = port
        self.route = port.route
        self.idle_timeout = port.route.idle_timeout
        self.first_byte_timeout = port.route.first_byte_timeout
        self.client_address, self.client_port = source
        self.destination = destination
        """Where the client connected to."""
        self.key = ""
        """Under which the doorkeeper counts it; empty: not at all."""
        self.first = b""
        """What the client said before anybody was there to hear it."""
        self.client: _StreamSide = _ClientSide(self)
        self.app: _StreamSide = _AppSide(self)
        self.client.other, self.app.other = self.app, self.client
        self.endpoint: _StreamEndpoint | None = None
        self.attempts = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.started = now()
        self.dialled = -1.0
        """Seconds until an endpoint had been reached; negative: none was."""
        self.took = 0.0
        self.failure: Failure | None = None
        self.reason = ""
        """Why it ended: the failure's name, or who said the last word first."""
        self.joining = True
        """The two connections are not both there yet."""
        self.early = b""
        """What the app said before that."""
        self.over = False
        self.deadline = FAR
        self.slot = 0

    def __repr__(self) -> str:
        return f"<Stream {self.route.name} {self.client_address} {self.reason or 'open'}>"

    @property
    def endpoint_label(self) -> bytes:
        """For log lines."""
        return self.endpoint.label if self.endpoint else b""

    def joined(self) -> None:
        """Both connections are there."""
        self.joining = False
        patience = self.idle_timeout
        if self.first_byte_timeout and not self.bytes_in:
            patience = min(patience, self.first_byte_timeout)
        self._core.wheel.arm(self, now() + patience)
        if self.first:
            self.bytes_in += len(self.first)
            self.app.transport.write(self.first)
            self.first = b""
        if self.early:
            self.client.transport.write(self.early)
            self.early = b""
        for side in (self.client, self.app):
            if side.ended:
                self.side_ended(side)
        self.app.resume_reading()

    def heard(self) -> None:
        """The client says its first word."""
        if self.idle_timeout < HORIZON:
            self._core.wheel.arm(self, now() + self.idle_timeout)

    def side_ended(self, side: _StreamSide) -> None:
        """One side has said its last word; the other may go on."""
        if self.joining:
            return  # it is told when both are there
        if not self.reason:
            self.reason = "client_closed" if side is self.client else "app_closed"
        other = side.other
        if other.ended:
            self.over = True
            for each in (self.client, self.app):
                if not each.lost:
                    each.transport.close()  # what is still to be written is written before
        elif not (other.lost or other.transport.is_closing()):
            other.transport.write_eof()

    def side_lost(self, side: _StreamSide, error: Exception | None) -> None:
        """One connection is gone; if that was not its orderly end, the other one is broken off."""
        if self.joining:
            return  # whoever joins them looks
        if not self.over:
            self._break_off(Failure.CLIENT_GONE if side is self.client else Failure.UPSTREAM_RESET)
        if self.client.lost and self.app.lost:
            self._finish()

    def fail(self, failure: Failure) -> None:
        """The two connections will not both be there."""
        self.joining = False
        self._break_off(failure)
        if self.client.lost and self.app.lost:
            self._finish()

    def _break_off(self, failure: Failure) -> None:
        self.over = True
        self.failure = self.failure or failure
        for side in (self.client, self.app):
            if not side.lost:
                reset_on_close(side.transport)
                side.transport.abort()

    def fault(self, error: Exception) -> None:
        """A mistake of ours (``kernel.internal_errors``): both sides are reset. Raises nothing."""
        counters = self._core.counters
        note(counters, "stream", error)
        attempt(counters, "stream", self._break_off, Failure.INTERNAL_ERROR)
        if not self.joining and self.client.lost and self.app.lost:
            attempt(counters, "stream", self._finish)

    def _finish(self) -> None:
        """Nothing is left of it but its record."""
        if self.slot < 0:
            return
        self.took = now() - self.started
        if self.failure is not None:
            self.reason = self.failure.value
        self._port.closed(self)
        self.slot = -1

    @isolated
    def overdue(self, now: float) -> None:
        """Nothing has passed for too long, or the client has never said a word."""
        silent = self.first_byte_timeout and not self.bytes_in and self.first_byte_timeout <= self.idle_timeout
        self.failure = self.failure or (Failure.CLIENT_SILENT if silent else Failure.TUNNEL_IDLE)
        self.over = True
        for side in (self.client, self.app):
            if not side.lost:
                side.transport.abort()
        self.deadline = FAR

    def idle_since(self) -> float:
        """Never: what passes here says nothing about when it is over."""
        return FAR

    def quiet_since(self) -> float:
        """Never either."""
        return FAR

    def let_go(self) -> None:
        """Never asked for."""

    def drain(self) -> None:
        """The router stops: a push that runs is let finish."""

    def make_room(self) -> None:
        """Never asked for: a stream is not idle."""

    @isolated
    def abort_now(self) -> None:
        """Give up at once. It is counted and logged now: the process may end before the loop turns again."""
        self._break_off(Failure.DRAINING)
        self._finish()


# ── ports ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class _StreamListener:
    """One route, its listening socket if it has one by now, and the streams that came in by it."""

    __slots__ = (
        "_core",
        "_paused",
        "_retry",
        "_tasks",
        "counters",
        "doorkeeper",
        "endpoints",
        "error",
        "number",
        "ready",
        "route",
        "sock",
    )

    def __init__(self, core: Core, route: StreamRoute) -> None:
        self._core = core
        self._paused = False
        """Somebody was made to wait because every place was taken, and nobody has been accepted since."""
        self._retry: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.counters = StreamCounters(route.app, route.namespace, route.service)
        self.doorkeeper = Doorkeeper(route)
        self.endpoints: dict[Address, _StreamEndpoint] = {}
        self.ready: list[_StreamEndpoint] = []
        self.route = route
        self.sock: socket.socket | None = None
        self.number: int | None = None
        """The port that is listened on."""
        self.error = ""
        """Why it is not listened on."""
        self.change(route)

    def __repr__(self) -> str:
        return f"<Port {self.route.name} {self.number or self.error or 'closed'} streams={self.counters.open}>"

    def change(self, route: StreamRoute) -> None:
        """Take a new definition. Streams that run keep what they have."""
        self.route = route
        self.counters.app = route.app
        self.doorkeeper.change(route)
        known = self.endpoints
        self.endpoints = {address: known.get(address) or _StreamEndpoint(address) for address in route.endpoints}
        self.ready = list(self.endpoints.values())

    # ── listening ─────────────────────────────────────────────────────────────────────────────────────────────────

    def open(self, bind: Bind) -> None:
        """Listen, now or as soon as it is possible."""
        self._cancel_retry()
        try:
            sock = bind(self.route.port)
        except BlockingIOError as error:
            self.error = str(error)
            return
        except OSError as error:
            if not self.error:
                log.error("stream %s: %s; it is tried again", self.route.name, error)
            self.error = str(error)
            self._retry = self._core.loop.call_later(RETRY_SECONDS, self.open, bind)
            return
        self.error = ""
        self.sock = sock
        self.number = sock.getsockname()[1]
        self._listen()

    def _listen(self) -> None:
        self._retry = None
        if self.sock is not None:
            self._core.loop.add_reader(self.sock, self._accept, self.sock)

    def close(self) -> None:
        """Listen no longer. Who has been accepted stays."""
        self._cancel_retry()
        if self.sock is not None:
            self._core.loop.remove_reader(self.sock)
            self.sock.close()
        self.sock = None
        self.number = None

    def abort(self) -> None:
        """Give up who is not joined yet; joined streams are the core's."""
        for task in list(self._tasks):
            task.cancel()

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(MAX_ACCEPTS):
            if self._core.admission.is_full:
                # Whoever comes waits in the kernel, as on every other port, or is accepted by another worker.
                self._core.counters.accept_pauses += not self._paused
                self._paused = True
                self._rest(listening, FULL_SECONDS)
                return
            try:
                sock, peer = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _OUT_OF_RESOURCES:
                    raise
                self._rest(listening, RETRY_SECONDS)
                log.warning("stream %s: %s; new connections wait", self.route.name, error.strerror)
                return
            self._paused = False
            try:
                sock.setblocking(False)
                self._welcome(sock, (_plain(peer[0]), peer[1]))
            except Exception as error:
                note(self._core.counters, "stream", error)
                sock.close()

    def _rest(self, listening: socket.socket, seconds: float) -> None:
        """Accept nobody for a while: the kernel would tell us at every turn that somebody waits."""
        self._core.loop.remove_reader(listening)
        self._retry = self._core.loop.call_later(seconds, self._listen)

    def _welcome(self, sock: socket.socket, source: Address) -> None:
        """Begin a stream, or turn its client away: closed without a word, as its protocol is not ours."""
        if self._core.refusing:
            self._core.counters.refused += 1
            sock.close()
            return
        here = sock.getsockname()
        stream = Stream(self._core, self, source, (_plain(here[0]), here[1]))
        # A balancer stands for all of its clients.
        if source[0] not in self._core.table.edge.trusted and not self._admit(stream):
            self._deny(Failure.TOO_MANY_CONNECTIONS)
            sock.close()
            return
        if self._core.shares.crowded:
            failure = self._core.shares.judge(self.route.namespace, 2 * self.counters.open)
            if failure is not None:
                self._deny(failure)
                sock.close()
                return
        self.counters.total += 1
        self.counters.open += 1
        self._core.joined(stream)
        task = self._core.loop.create_task(self._join(stream, sock), name=f"stream {self.route.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _admit(self, stream: Stream) -> bool:
        key = client_key(stream.client_address)
        if not self.doorkeeper.admit(key, now()):
            return False
        stream.key = key
        return True

    def _deny(self, failure: Failure) -> None:
        self.counters.denied[failure] = self.counters.denied.get(failure, 0) + 1

    # ── joining ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _join(self, stream: Stream, sock: socket.socket) -> None:
        """From a client's socket to a stream that runs, or to the end of it."""
        attached = False
        try:
            failure = await self._introduce(stream, sock) or await self._dial(stream)
            if failure is None:
                attached = True
                failure = await self._attach(stream, sock)
            if failure is None and not stream.over:
                stream.joined()
                return
        except asyncio.CancelledError:
            failure = Failure.DRAINING
        except Exception as error:
            note(self._core.counters, "stream", error)
            failure = Failure.INTERNAL_ERROR
        if not attached or stream.client.lost:
            sock.close()  # nobody else has it, or not any more
        attempt(self._core.counters, "stream", stream.fail, failure or Failure.DRAINING)

    async def _introduce(self, stream: Stream, sock: socket.socket) -> Failure | None:
        """Read for whom a balancer speaks, where the operator says that balancers do; None, or why not.

        A trusted peer that says something else, or nothing for a while, speaks for itself: servers of SSH speak first.
        """
        edge = self._core.table.edge
        if not edge.proxy_protocol or stream.client_address not in edge.trusted:
            return None
        data = b""
        try:
            async with asyncio.timeout(PROXY_SECONDS):
                while (header := read(data)) is None:
                    piece = await self._core.loop.sock_recv(sock, 4096)
                    if not piece:
                        return Failure.CLIENT_GONE
                    data += piece
        except TimeoutError:
            return Failure.BAD_PROXY_HEADER if data else None
        except BadHeader:
            self._deny(Failure.BAD_PROXY_HEADER)
            return Failure.BAD_PROXY_HEADER
        except OSError:
            return Failure.CLIENT_GONE
        stream.first = data[header.size :]
        if header.source is not None and header.destination is not None:
            stream.client_address, stream.client_port = header.source
            stream.destination = header.destination
            if stream.client_address not in edge.trusted and not self._admit(stream):
                self._deny(Failure.TOO_MANY_CONNECTIONS)
                return Failure.TOO_MANY_CONNECTIONS
        return None

    async def _dial(self, stream: Stream) -> Failure | None:
        """Connect to an endpoint; None, or why there is none."""
        tried: list[_StreamEndpoint] = []
        failure = Failure.NO_ENDPOINT
        while len(tried) < MAX_DIALS:
            endpoint = choose(self.ready, tried)
            if endpoint is None:
                break
            if tried:
                self.counters.retries[failure] = self.counters.retries.get(failure, 0) + 1
            tried.append(endpoint)
            stream.attempts += 1
            stream.endpoint = endpoint
            endpoint.load += 1
            try:
                async with asyncio.timeout(stream.route.connect_timeout):
                    await self._core.loop.create_connection(lambda: stream.app, *endpoint.address)
                stream.dialled = now() - stream.started
                if stream.route.proxy_protocol:
                    source = (stream.client_address, stream.client_port)
                    stream.app.transport.write(written(stream.route.proxy_protocol, source, stream.destination))
                return None
            except TimeoutError:
                failure = Failure.CONNECT_TIMEOUT
            except OSError as error:
                lacking = error.errno in _OUT_OF_RESOURCES or error.errno == errno.EADDRNOTAVAIL
                failure = Failure.ROUTER_EXHAUSTED if lacking else Failure.CONNECT_FAILED
            finally:
                if stream.dialled < 0.0:
                    endpoint.load -= 1
        return failure

    async def _attach(self, stream: Stream, sock: socket.socket) -> Failure | None:
        """Take the client's socket over; None, or who was gone by then."""
        try:
            await self._core.loop.connect_accepted_socket(lambda: stream.client, sock)
        except OSError:
            sock.close()
            return Failure.CLIENT_GONE
        if stream.client.lost:
            return Failure.CLIENT_GONE
        return Failure.UPSTREAM_RESET if stream.app.lost else None

    def closed(self, stream: Stream) -> None:
        """A stream is over: count it and log it."""
        counters = self.counters
        counters.open -= 1
        self._core.left(stream)
        try:
            self._record(stream)
        except Exception as error:
            note(self._core.counters, "stream", error)

    def _record(self, stream: Stream) -> None:
        counters = self.counters
        counters.received += stream.bytes_in
        counters.sent += stream.bytes_out
        counters.closed[stream.reason] = counters.closed.get(stream.reason, 0) + 1
        if stream.endpoint is not None and stream.dialled >= 0.0:
            stream.endpoint.load -= 1
        if stream.key:
            self.doorkeeper.left(stream.key)
        core = self._core
        if core.log.active:
            core.log.add_stream(stream)


def _plain(address: str) -> str:
    """An address as people write it: without zone, and IPv4 not in IPv6's clothes."""
    address = address.partition("%")[0]
    if ":" in address:
        six = ip_address(address)
        if isinstance(six, IPv6Address) and six.ipv4_mapped:
            return str(six.ipv4_mapped)
    return address


class Streams:
    """Every port with a route of its own."""

    __slots__ = ("_bind", "_core", "_ports")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._bind: Bind | None = None
        self._ports: dict[str, _StreamListener] = {}

    def __len__(self) -> int:
        return len(self._ports)

    def listen(self, bind: Bind) -> None:
        """Open the ports there are routes for, now and from now on. ``bind`` says where."""
        self._bind = bind
        for port in self._ports.values():
            if port.sock is None:
                port.open(bind)

    def apply(self, routes: Mapping[str, StreamRoute], gone: Iterable[str]) -> None:
        """Take a change of the routes; what did not change is not touched."""
        counters = self._core.counters.streams
        for name in gone:
            port = self._ports.pop(name, None)
            if port is not None:
                port.close()
                counters.pop(name, None)
        for name, route in routes.items():
            port = self._ports.get(name)
            moved = port is None or port.route.port != route.port
            if port is None:
                port = self._ports[name] = _StreamListener(self._core, route)
                counters[name] = port.counters
            else:
                port.change(route)
            if moved and self._bind is not None:
                port.close()
                port.open(self._bind)

    def rebind(self, wanted: int) -> None:
        """Ask again for the socket of a port, as routes say it: there is one now, another one, or none any more."""
        if self._bind is not None:
            for port in self._ports.values():
                if port.route.port == wanted:
                    port.close()
                    port.open(self._bind)

    def port(self, name: str) -> int | None:
        """The port that is listened on for a route, if it is."""
        port = self._ports.get(name)
        return port.number if port is not None else None

    def report(self) -> list[dict[str, object]]:
        """Every stream route for ``/routes``."""
        return [
            {
                "stream": name,
                "app": port.route.app,
                "port": port.number,
                "error": port.error or None,
                "open": port.counters.open,
                "idle_timeout": port.route.idle_timeout,
                "endpoints": [{"address": each.label.decode(), "load": each.load} for each in port.ready],
            }
            for name, port in sorted(self._ports.items())
        ]

    def close_ports(self) -> None:
        """Accept nobody any more, whatever is published."""
        self._bind = None
        for port in self._ports.values():
            port.close()

    def close(self) -> None:
        """Give up at once; joined streams are given up by whoever keeps the connections."""
        self.close_ports()
        for port in self._ports.values():
            port.abort()
