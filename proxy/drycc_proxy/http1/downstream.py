"""The client's side of HTTP/1.1: one connection, its requests one after the other.

Reads heads strictly, finds the app, lets the gate speak, and hands bytes to an exchange; writes what comes back. One
request is under way at a time, pipelined ones wait in a bounded buffer. A head that repeats byte for byte on its
connection — the usual case — is not parsed again.

What must not enter: which endpoint answers, retries, and what a failure means (``exchange`` decides).
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from drycc_proxy.errors import Failure, status_for
from drycc_proxy.http import gate, responses
from drycc_proxy.http.deadlines import (
    DRAIN_SECONDS,
    HALF_CLOSED_SECONDS,
    HALF_TUNNEL_SECONDS,
    LEAST_RATE,
    LEAVE_SECONDS,
    LINGER_SECONDS,
    LINGER_SILENCE,
    STALL_SECONDS,
)
from drycc_proxy.http.exchange import Exchange, UpstreamStream
from drycc_proxy.http.forwarding import Peer, build_outgoing, stand_beside
from drycc_proxy.http.messages import CHUNKED, PROXY_METHODS, Malformed, RequestFields, RequestLine, ResponseHead
from drycc_proxy.http1.chunks import LAST_CHUNK, ChunkDecoder, encode
from drycc_proxy.http1.parser import parse_fields, parse_request_line
from drycc_proxy.http1.target import origin_form
from drycc_proxy.kernel.clock import FAR, HORIZON, TICK, http_date, now
from drycc_proxy.kernel.internal_errors import attempt, isolated, note
from drycc_proxy.kernel.sockets import is_broken, kernel_unsent, peer_address, reset_on_close
from drycc_proxy.state.server_state import Core
from drycc_proxy.table import LiveEdge
from drycc_proxy.upstreams.interfaces import Pool, PooledConnection
from drycc_proxy.upstreams.ties import Tie

__all__ = ["Http1Downstream"]

MAX_WAITING: Final = 64 * 1024
"""Bytes of pipelined requests kept while one is under way; beyond it the socket is not read."""
TURN_BYTES: Final = 64 * 1024
"""A read of this many bytes is followed by everybody else's turn: the loop goes on reading while a socket fills whole
buffers, and one client on a fast line would have it for itself (hardening W-05)."""
TURN_HEADS: Final = 32
"""Requests that are answered without their app, one behind the other, before everybody else has a turn."""
LOOK_SECONDS: Final = 0.5
"""Between two looks whether a client that is not read is still there (hardening R-26)."""
MAX_HOPS: Final = 5
"""Routers that a request may have passed before (hardening M-16)."""

_HEAD: Final = 0  # between requests, or in the middle of a head
_BODY: Final = 1  # reading a request's body for an exchange
_WAIT: Final = 2  # the request is complete, the response is not
_LINGER: Final = 3  # said goodbye; read and drop so that the client can still read the answer
_TUNNEL: Final = 4  # upgraded: whatever comes goes to the app as it is
_CLOSED: Final = 5
_FULL: Final = 6  # between requests, but the client has yet to read what it was answered: the next one waits

_NOTHING: Final = 0  # of the last head is repeated
_FIELDS: Final = 1  # all but its request line
_ALL: Final = 2

_UPGRADE: Final = b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
_KEEP_ALIVE: Final = b"Connection: keep-alive\r\n"
_CLOSE: Final = b"Connection: close\r\n"
_NO_FIELDS: Final = RequestFields()
_NO_LINE: Final = RequestLine(b"", b"", 1)  # empty: "-" is a method that a client may send (RFC 9110 5.6.2)
_HEALTHY: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n"


class Http1Downstream(asyncio.Protocol):
    """Implements ``http.exchange.Client``."""

    __slots__ = (
        "_body_since",
        "_buffer",
        "_close",
        "_core",
        "_decoder",
        "_edge",
        "_ended",
        "_exchange",
        "_fields",
        "_forgiven",
        "_full",
        "_head",
        "_head_begun",
        "_held",
        "_held_at",
        "_left",
        "_line",
        "_line_begun",
        "_line_end",
        "_linger_until",
        "_parsing",
        "_peer",
        "_reencode",
        "_resting",
        "_seen",
        "_server_name",
        "_state",
        "_tie",
        "_tls",
        "_transport",
        "_unsent",
        "deadline",
        "slot",
    )

    def __init__(self, core: Core, secure: bool, address: str = "") -> None:
        """``address``: the client's, where somebody who is believed told it; else the socket's peer is the client."""
        # per process
        self._core = core
        # per connection
        self._edge: LiveEdge = core.table.edge
        self._peer = Peer(address, self._edge.https_port, secure, False)
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._tls: object = None
        self._server_name = b""
        self._state = _HEAD
        self._buffer: bytes | bytearray = b""
        """What came and was not read yet; a bytearray unless it is empty (``_keep``)."""
        self._seen = 0
        """Bytes at its beginning that were judged as part of a head that is not complete."""
        self._line_begun = False
        """The request line among them is not complete either."""
        self._parsing = False
        self._head_begun = True  # the first head has its time from the moment of accept
        self._forgiven = False
        """An empty line came before the next head."""
        self._ended = False
        self._full = False
        self._held = False
        """The exchange does not want more of the body now."""
        self._resting = False
        """Reading goes on with the next turn of the loop."""
        self._head = b""
        """The last head, up to its empty line: what is the same again says the same, and nothing is behind it. Empty:
        there is none, or none to go by."""
        self._line_end = 0
        """Where its request line ends: another head that is the same from there on has the same fields."""
        self._line = _NO_LINE
        self._fields = _NO_FIELDS
        self._tie: Tie | None = None
        """Of an app that knows this client by its connection."""
        self._unsent = 0
        self._linger_until = 0.0
        """When the connection is closed although the client still sends; 0: it does not linger."""
        self.deadline = FAR
        self.slot = 0
        # per request
        self._exchange: Exchange | None = None
        self._left = 0
        self._decoder: ChunkDecoder | None = None
        self._close = False
        self._reencode = False
        # ``_body_since`` and ``_held_at`` are set by ``_find_app`` for requests whose body is not complete.

    def __repr__(self) -> str:
        names = ("head", "body", "wait", "linger", "tunnel", "closed", "full")
        return f"<Http1Downstream {self._peer.address} {names[self._state]}>"

    # ── what the loop says ────────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        try:
            self._welcome(transport)
        except Exception as error:
            self.fault(error)

    def _welcome(self, transport: asyncio.BaseTransport) -> None:
        core = self._core
        self._transport.set_write_buffer_limits(high=core.write_high_water)
        peer = self._peer
        address = peer.address or peer_address(transport)
        self._peer = peer = Peer(address, peer.https_port, peer.secure, address in self._edge.trusted)
        if peer.secure and core.tls is not None:
            self._tls = transport.get_extra_info("ssl_object")
            self._server_name = core.tls.server_name(self._tls)
        elif not core.arrived(address):
            self._turn_back()
            return
        try:
            core.opened(self, peer.secure)  # from here on its place is given back when it is gone
        except Exception:
            if not peer.secure:
                core.departed(address)
            raise
        core.wheel.arm(self, now() + (LEAVE_SECONDS if core.draining else self._edge.head_timeout))

    def data_received(self, data: bytes) -> None:
        try:
            state = self._state
            if state == _HEAD:
                self._read_heads(data)
            elif state == _BODY:
                self._read_body(data)
                if len(data) >= TURN_BYTES and self._state == _BODY:
                    self._rest()
            elif state in (_WAIT, _FULL):
                self._keep(data)
                if len(self._buffer) > MAX_WAITING:
                    self._transport.pause_reading()
                    if not self._full:
                        self._core.wheel.arm(self, now() + LOOK_SECONDS)
            elif state == _TUNNEL:
                if self._exchange is not None:
                    self._exchange.request_body(data, False)
                    if len(data) >= TURN_BYTES and self._state == _TUNNEL:
                        self._rest()
            elif state == _LINGER:
                self._drop(len(data))
        except Exception as error:
            note(self._core.counters, "client", error)
            self._crash(asked=True)

    @isolated
    def eof_received(self) -> bool:
        """A client that has finished sending may still read (``nc -N``): it gets its answer, then it ends."""
        state = self._state
        self._ended = True
        if state == _WAIT and self._exchange is not None:
            if not self._exchange.responded and not self._full:
                self._core.wheel.arm(self, now() + HALF_CLOSED_SECONDS)
            return True
        if state == _TUNNEL and self._exchange is not None:
            if not self._full:
                self._core.wheel.arm(self, now() + HALF_TUNNEL_SECONDS)
            self._exchange.client_ended()
            return True
        if state == _FULL:
            return True
        if state == _BODY:
            self._gone(Failure.CLIENT_GONE)
        return state == _HEAD and self._parsing

    def connection_lost(self, error: Exception | None) -> None:
        try:
            self._gone(Failure.CLIENT_GONE)
            self._state = _CLOSED
            self.slot = -1
            # The wheel knows us for some seconds yet: what is large must not wait for that.
            self._tls = None
            self._buffer = self._head = b""
            self._line, self._fields = _NO_LINE, _NO_FIELDS
            tie, self._tie = self._tie, None
            if tie is not None:
                tie.end()
            self._core.closed(self, self._peer.secure)
        except Exception as fault:
            self.fault(fault)
            attempt(self._core.counters, "client", self._core.closed, self, self._peer.secure)

    def pause_writing(self) -> None:
        try:
            self._fill()
        except Exception as error:
            # The loop calls this from within a write, and whoever writes goes on.
            note(self._core.counters, "client", error)
            self._core.loop.call_soon(self.crash)

    def _fill(self) -> None:
        """The client reads too slowly."""
        self._full = True
        self._unsent = -1  # measured at the next tick: more may be on its way here, and asking the kernel is not free
        self._core.wheel.arm(self, now() + TICK)
        if self._state == _HEAD:
            self._state = _FULL
        if self._exchange is not None:
            self._exchange.client_full()

    @isolated
    def resume_writing(self) -> None:
        self._full = False
        state = self._state
        exchange = self._exchange
        if self._is_unheard():
            self._core.wheel.arm(self, now() + LOOK_SECONDS)
        elif state == _WAIT:
            self.deadline = FAR
        elif state == _FULL:
            self._head_begun = False
            if self._core.draining and not self._buffer:
                self._linger()
            else:
                self._next(now())
            return
        elif state == _BODY and exchange is not None:
            self._await_body(exchange.bytes_in, now())
        elif state == _TUNNEL and exchange is not None:
            self._core.wheel.arm(self, now() + HALF_TUNNEL_SECONDS if exchange.first_to_end else FAR)
        elif state == _LINGER:
            self._unsent = 0
            self._core.wheel.arm(self, self._goodbye_deadline(now()))
        if exchange is not None:
            exchange.client_ready()

    def _waiting(self) -> int:
        """Bytes that the client has yet to take: of ours, and of the kernel's."""
        return self._transport.get_write_buffer_size() + kernel_unsent(self._transport)

    @isolated
    def overdue(self, now: float) -> None:
        """Too slow in whatever the connection was doing."""
        state = self._state
        if (self._full or state == _LINGER) and self._transport.get_write_buffer_size():
            # An answer is on its way: what counts is how much of it the client takes.
            unsent = self._waiting()
            if self._unsent < 0 or self._unsent - unsent >= LEAST_RATE * STALL_SECONDS:
                self._unsent = unsent
                self.deadline = now + STALL_SECONDS
                return
            self._gone(Failure.CLIENT_TOO_SLOW)
            self._break_off()
        elif state == _HEAD:
            if self._buffer:
                self._refuse(Failure.HEAD_TIMEOUT)
            else:
                self._linger()
        elif self._is_unheard():
            self._look(now)
        elif state == _BODY:
            assert self._exchange is not None  # noqa: S101 -- this state has one
            self._refuse_exchange(self._exchange, Failure.BODY_TIMEOUT)
        elif state == _WAIT:
            exchange = self._exchange
            if self._ended and exchange is not None and not exchange.responded:
                self._gone(Failure.CLIENT_GONE)
                self._abort()
            self.deadline = FAR
        elif state == _TUNNEL:
            exchange = self._exchange
            if exchange is not None and exchange.first_to_end:
                exchange.part()
            self.deadline = FAR
        else:
            self._abort()

    def _is_unheard(self) -> bool:
        """Whether its exchange goes on while it is not read, and no other deadline is running."""
        state = self._state
        if state == _WAIT:
            return len(self._buffer) > MAX_WAITING
        exchange = self._exchange
        return self._held and (
            state == _BODY or (state == _TUNNEL and exchange is not None and not exchange.first_to_end)
        )

    def _look(self, now: float) -> None:
        """It is not read, so the loop does not tell whether it is still there."""
        if is_broken(self._transport):
            self._gone(Failure.CLIENT_GONE)
            self._abort()
        else:
            self.deadline = now + LOOK_SECONDS

    # ── fairness ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _rest(self) -> None:
        """Do no more for this client in this turn of the loop."""
        if not self._resting:
            self._resting = True
            self._transport.pause_reading()
            self._core.wheel.next_turn(self._wake)

    @isolated
    def _wake(self) -> None:
        """Everybody has had a turn."""
        self._resting = False
        if self._parsing:
            self._parsing = False
            if self._state == _HEAD:
                self._read_heads(b"")
                if self._parsing:
                    return  # not done yet: once more next turn
                if self._state == _HEAD and self._ended:
                    self._linger()
        elif self._state == _BODY and self._has_chunks() and not self._held:
            self._read_body(b"")
            if self._resting:
                return  # not done yet: once more next turn
        state = self._state
        if state in (_BODY, _TUNNEL):
            stopped = self._held
        elif state in (_WAIT, _FULL):
            stopped = len(self._buffer) > MAX_WAITING
        else:
            stopped = state not in (_HEAD, _LINGER)
        if not stopped:
            self._transport.resume_reading()

    # ── heads ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _keep(self, data: bytes | bytearray) -> None:
        """Put ``data`` behind what waits to be read. A bytearray grows at the end and shrinks at the beginning without
        being copied: what comes in many small pieces costs as much as what comes at once."""
        if self._buffer:
            self._buffer += data
        else:
            self._buffer = bytearray(data)

    def _take(self, size: int) -> bytes:
        """At most ``size`` bytes off the beginning of what waits."""
        buffer = self._buffer
        taken = bytes(buffer[:size])
        del buffer[:size]  # type: ignore[union-attr]  # what waits is a bytearray
        return taken

    def _read_heads(self, data: bytes) -> None:
        """Take complete heads off what waits and ``data`` behind it, until one of them is under way."""
        if self._parsing:
            if data:
                self._keep(data)
            return
        self._parsing = True
        turn = TURN_HEADS
        try:
            while True:
                if self._buffer or not data or data[0] == 13:
                    if data:
                        self._keep(data)
                    data = self._next_head()
                    if not data:
                        break
                head = self._head
                if data == head:
                    self._begin(data, self._line_end, len(data) - 4, _ALL)
                else:
                    line_end = data.find(b"\r\n")
                    if len(data) - line_end == len(head) - self._line_end and data.endswith(head[self._line_end :]):
                        self._begin(data, line_end, len(data) - 4, _FIELDS)
                    else:
                        end = data.find(b"\r\n\r\n")
                        if end < 0:
                            self._buffer = bytearray(data)
                            data = b""
                            continue
                        self._begin(data, line_end, end, _NOTHING)
                if self._state != _HEAD:
                    return
                data = b""
                turn -= 1
                if not turn:
                    break
        except Malformed as error:
            self._buffer = b""
            self._refuse(error.failure)
        finally:
            self._parsing = False
        if not turn and self._buffer:
            self._core.wheel.arm(self, now() + self._edge.head_timeout)
            self._parsing = True  # what else comes waits behind what is here
            self._rest()

    def _next_head(self) -> bytes:
        """Take the next head off what waits; empty: it is not complete."""
        buffer = self._buffer
        if buffer.startswith(b"\r\n") and not self._forgiven:
            # One empty line before a request is forgiven (RFC 9112 2.2), wherever somebody counted wrong; what begins
            # with more of them is judged as a head, and is none.
            self._forgiven = True
            self._take(2)
        if not buffer or buffer == b"\r":
            return b""
        end = buffer.find(b"\r\n\r\n", max(self._seen - 3, 0))
        if end < 0:
            self._check_partial(buffer)
            return b""
        self._seen = 0
        self._line_begun = False
        return self._take(end + 4)

    def _check_partial(self, buffer: bytes | bytearray) -> None:
        """A head that is not complete yet must still be able to become a good one; nobody waits for a bad one. Only
        what has come since the last look is looked at, with the CR before it."""
        edge = self._edge
        size = len(buffer)
        seen = self._seen
        fresh = buffer[seen - 1 if seen and buffer[seen - 1] == 13 else seen :]
        ends = fresh.count(b"\r\n")
        if ends:
            self._line_begun = False
        elif not seen:
            self._line_begun = True
        if self._line_begun and size > edge.max_target + 64:
            raise Malformed(Failure.TARGET_TOO_LONG, "the request line is too long")
        if size > edge.max_head:
            raise Malformed(Failure.HEAD_TOO_LARGE, "the head is too large")
        if buffer[0] < 0x21 or buffer[0] > 0x7E:
            raise Malformed(Failure.BAD_REQUEST, "this is not HTTP")
        if fresh.count(b"\n") != ends or fresh.count(b"\r", 0, -1) != ends:
            raise Malformed(Failure.BAD_REQUEST, "a bare LF or CR in the head")
        self._seen = size
        if not self._head_begun:
            # Counted from its first byte: more bytes, however steady, buy no more time.
            self._head_begun = True
            self._core.wheel.arm(self, now() + edge.head_timeout)

    def _begin(self, data: bytes, line_end: int, end: int, known: int) -> None:
        """One complete head: judge it, and take what there is of its body. ``known``: what it repeats of the last.

        What follows the head stands behind it in ``data``, or waits in ``_buffer``.
        """
        moment = now()
        self._head_begun = False
        self._forgiven = False
        core = self._core
        edge = core.table.edge
        if edge is not self._edge:
            self._refresh(edge)
            known = _NOTHING
        if known == _ALL:
            line = self._line
            fields = self._fields
        else:
            line, fields = self._read_head(data, line_end, end, known, edge)
        self._close = fields.close or core.closing or (not line.minor and not fields.keep_alive)
        identity = (fields.request_id or core.ids.next()) if edge.request_ids else b""
        exchange = Exchange(self, line, fields, identity, moment)
        core.counters.in_flight += 1
        self._exchange = exchange
        behind = end + 4
        size = len(data) - behind
        length = fields.length
        if length == 0:
            self._state = _WAIT
            self._left = 0
            self._decoder = None
            if size:
                self._buffer = bytearray(data[behind:])
            body, last = b"", True
        elif length > 0:
            self._decoder = None
            if self._buffer:
                body = self._take(length)
            elif size <= length:
                body = data[behind:]
            else:
                body = data[behind : behind + length]
                self._buffer = bytearray(data[behind + length :])
            last = len(body) == length
            self._state = _WAIT if last else _BODY
            self._left = length - len(body)
        else:
            self._state = _BODY
            self._left = 0
            self._decoder = decoder = ChunkDecoder(Failure.BAD_CHUNK)
            waiting, self._buffer = self._buffer, b""
            try:
                body = decoder.feed(waiting or data[behind:])
            except Malformed as error:
                self._refuse_exchange(exchange, error.failure)
                return
            last = decoder.done
            if last:
                self._state = _WAIT
                self._buffer = decoder.rest
            elif decoder.more:
                self._rest()
        self._find_app(exchange, body, last)

    def _find_app(self, exchange: Exchange, body: bytes, last: bool) -> None:
        """Who answers: the router itself, or the app that the gate lets through to."""
        core = self._core
        line, fields = exchange.line, exchange.fields
        target = line.target
        if not line.plain:
            # An authority may hold a password: what is not a path is not logged.
            exchange.line = RequestLine(line.method, target if target[0] == 0x2F else b"*", line.minor)
            if line.method not in PROXY_METHODS:
                try:
                    target = origin_form(target, fields.host)
                except Malformed as error:
                    self._refuse_exchange(exchange, error.failure)
                    return
                exchange.line.target = target
            if line.method in PROXY_METHODS or target[0] != 0x2F:
                self._unusual(exchange, line.method)
                return
        host = core.table.hosts.find(fields.name) if fields.name else None
        if host is None:
            self._unknown_host(exchange)
            return
        route = host.route if not host.paths else host.at(target)
        exchange.route = route
        if core.shedding and (refusal := core.refusal(route, fields)) is not None:
            self._answer(exchange, refusal)
            return
        if route.gated_tls or (route.gated_plain and fields.scheme != b"https"):
            failure = gate.check(route, fields.client, fields.scheme == b"https", max(fields.length, len(body)))
            if failure is not None:
                self._answer(exchange, failure)
                return
        if self._state == _BODY:
            # Who waits for a 100 is not slow: its time begins with that (``inform``).
            self._body_since = FAR if fields.expect and not body else exchange.started
            self._held_at = 0.0
            self._await_body(len(body), exchange.started)
        else:
            self.deadline = FAR
        if self._tie is None:
            exchange.begin(route.upstream, body, last, exchange.started)
        else:
            self._begin_tied(self._tie, route.upstream, exchange, body, last)

    def _begin_tied(self, tie: Tie, pool: Pool, exchange: Exchange, body: bytes, last: bool) -> None:
        """Ask the app, over the connection by which it knows this client if it is that app."""
        lender = tie.over(pool, exchange.fields.binds)
        if tie.is_cut:
            self._close = True
        exchange.begin(lender, body, last, exchange.started)

    def _read_head(
        self, data: bytes, line_end: int, end: int, known: int, edge: LiveEdge
    ) -> tuple[RequestLine, RequestFields]:
        """Judge a head that differs from the last one on this connection, and remember it as the last one."""
        if end > edge.max_head:
            if line_end > edge.max_target + 64:
                raise Malformed(Failure.TARGET_TOO_LONG, "the request line is too long")
            raise Malformed(Failure.HEAD_TOO_LARGE, "the head is too large")
        line = parse_request_line(data[:line_end], edge.max_target)
        # Version 1.0 has rules of its own for the same fields, and is rare: its heads are always judged.
        if known == _FIELDS and line.minor:
            fields = self._fields
        else:
            fields = self._read_fields(data[line_end + 2 : end], line.minor, edge)
            self._fields = fields
        if line.minor:
            self._head = data if end + 4 == len(data) else data[: end + 4]
            self._line_end = line_end
            self._line = line
        else:
            self._forget_head()
        return line, fields

    def _forget_head(self) -> None:
        """Whatever comes is judged."""
        self._head = b""
        self._line_end = 0

    def _read_fields(self, block: bytes, minor: int, edge: LiveEdge) -> RequestFields:
        """Judge a header section that differs from the last one on this connection."""
        try:
            fields = parse_fields(block, edge.max_fields, self._fields.opening, self._head, self._line_end + 2)
        except Malformed as error:
            if minor == 0 and error.failure is Failure.CODING_NOT_IMPLEMENTED:
                raise Malformed(Failure.BAD_FRAMING, "Transfer-Encoding in HTTP/1.0") from None
            raise
        if fields.aliases:
            self._core.counters.aliases += fields.aliases
        if not fields.host and minor:
            raise Malformed(Failure.BAD_HOST, "HTTP/1.1 without a Host")
        if minor == 0:
            if fields.length == CHUNKED:
                raise Malformed(Failure.BAD_FRAMING, "Transfer-Encoding in HTTP/1.0")
            fields.expect = False
            fields.upgrade = b""
        if fields.hops >= MAX_HOPS:
            raise Malformed(Failure.LOOP_DETECTED, "it has passed too many routers")
        build_outgoing(fields, self._peer, edge.trusted)
        if fields.binds and self._tie is None:
            self._tie = Tie(self)
        core = self._core
        name = self._server_name
        if name and name != fields.name and core.tls is not None:
            hosts = core.table.hosts
            if hosts.find(name) is not None and not core.tls.covers(self._tls, fields.name):
                raise Malformed(Failure.MISDIRECTED, "the connection was opened for another name")
        return fields

    def _refresh(self, edge: LiveEdge) -> None:
        """The operator's settings changed: what was derived from them is made anew."""
        self._edge = edge
        self._forget_head()
        peer = self._peer
        self._peer = Peer(peer.address, edge.https_port, peer.secure, peer.address in edge.trusted)

    def _unusual(self, exchange: Exchange, method: bytes) -> None:
        """Requests that no app ever sees (RFC 9110 9.3.6 to 9.3.8)."""
        if method == b"CONNECT":
            self._refuse_exchange(exchange, Failure.METHOD_NOT_IMPLEMENTED)
        elif method == b"TRACE":
            self._refuse_exchange(exchange, Failure.METHOD_NOT_ALLOWED)
        elif method == b"OPTIONS":  # OPTIONS *: about the server, so the server answers
            head = b"HTTP/1.1 204 No Content\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
            exchange.status = 204
            self._own(exchange, head, b"")
        else:
            self._refuse_exchange(exchange, Failure.BAD_REQUEST)

    def _unknown_host(self, exchange: Exchange) -> None:
        """404, but for load balancers that probe by address: they may ask for ``/healthz`` (lineage 2.1)."""
        if exchange.line.target in (b"/healthz", b"/healthz/") and exchange.line.method in (b"GET", b"HEAD"):
            exchange.status = 200
            self._own(exchange, _HEALTHY, b"")
        else:
            self._answer(exchange, Failure.UNKNOWN_HOST)

    # ── bodies ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _read_body(self, data: bytes) -> None:
        exchange = self._exchange
        assert exchange is not None  # noqa: S101 -- this state has one
        decoder = self._decoder
        if decoder is None:
            left = self._left - len(data)
            if left > 0:
                self._left = left
                last = False
            else:
                self._left = 0
                last = True
                if left:
                    self._buffer = bytearray(data[left:])
                    data = data[:left]
        else:
            try:
                data = decoder.feed(data)
            except Malformed as error:
                self._refuse_exchange(exchange, error.failure)
                return
            last = decoder.done
            if last:
                self._buffer = decoder.rest
            elif decoder.more:
                self._rest()
        route = exchange.route
        assert route is not None  # noqa: S101 -- a body is read for the app of a route
        if route.body_size and exchange.bytes_in + len(data) > route.body_size:
            self._refuse_exchange(exchange, Failure.BODY_TOO_LARGE)
            return
        if last:
            self._state = _WAIT
            self._held = False
            self._transport.resume_reading()  # TLS hands over all records of one read, whether or not it was stopped
            if not self._full:
                self.deadline = FAR
        elif not self._full:
            moment = now()
            if self._body_since == FAR:
                self._body_since = moment  # it does not wait for the 100
            # What TLS still hands over of one read is no reason to look for a client that is held back any later.
            if not self._held:
                self._await_body(exchange.bytes_in + len(data), moment)
        if data or last:
            exchange.request_body(data, last)

    def _has_chunks(self) -> bool:
        """Whether chunks of the body are here that everybody else's turn has kept from being read."""
        return self._decoder is not None and self._decoder.more

    def _await_body(self, received: int, moment: float) -> None:
        """Set the time for the next piece of a body of which so much has come: as its app's owner allows, and shorter
        for a trickle. Once the answer has begun a slow body is a conversation, and the app's silence is what counts."""
        exchange = self._exchange
        if self._body_since == FAR or exchange is None or exchange.responded:
            self.deadline = FAR
            return
        route = exchange.route
        assert route is not None  # noqa: S101 -- a body is awaited for the app of a route
        slowest = self._body_since + max(route.body_grace, received * route.body_pace)
        deadline = min(moment + route.body_timeout, slowest)
        if deadline - moment < HORIZON:
            self._core.wheel.arm(self, deadline)
        else:
            self.deadline = deadline

    # ── what the exchange says ────────────────────────────────────────────────────────────────────────────────────

    def respond(self, head: ResponseHead, data: bytes, last: bool, now: float) -> None:
        exchange = self._exchange
        assert exchange is not None  # noqa: S101 -- only the exchange under way responds
        route = exchange.route
        assert route is not None  # noqa: S101 -- nobody responds but the app of a route
        fields = route.fields_tls if exchange.fields.scheme == b"https" else route.fields_plain
        if fields:
            head = stand_beside(head, fields)
        identity = exchange.identity
        if not exchange.request_done:
            self._close = True  # who says keep-alive here would have to read a body of any length first
            if not (self._full or self._held):
                self.deadline = FAR
        if head.framed and identity and not self._close and exchange.line.minor and not exchange.fields.correlation_id:
            # The warm path: a length, a date, and nothing to add but what identifies the request.
            self._reencode = False
            self._transport.write(
                b"%b%bX-Request-Id: %b\r\nX-Correlation-Id: %b\r\n\r\n%b"
                % (head.framed, fields, identity, identity, data)
            )
        else:
            self._transport.write(self._response(exchange, head, fields, data, last))
        if last:
            self._finished(exchange, now)
        elif self._full:
            exchange.client_full()

    def _response(self, exchange: Exchange, head: ResponseHead, fields: bytes, data: bytes, last: bool) -> bytes:
        """The response's head and first piece of body, whatever its framing."""
        framing = b""
        self._reencode = False
        if head.length >= 0:
            if head.stated:
                framing = b"Content-Length: %d\r\n" % head.length
        elif exchange.line.method != b"HEAD":
            if exchange.line.minor:
                framing = b"Transfer-Encoding: chunked\r\n"
                self._reencode = True
            else:
                self._close = True
        parts = [head.line, head.fields, framing, fields]
        if not head.has_date:
            parts.append(b"Date: %b\r\n" % http_date())
        identity = exchange.identity
        if identity:
            correlation = exchange.fields.correlation_id
            parts.append(b"X-Request-Id: %b\r\nX-Correlation-Id: " % identity)
            parts.append(b"%b,%b\r\n" % (correlation, identity) if correlation else b"%b\r\n" % identity)
        if self._close:
            parts.append(_CLOSE)
        elif not exchange.line.minor:
            parts.append(_KEEP_ALIVE)
        parts.append(b"\r\n")
        if data:
            parts.append(encode(data) if self._reencode else data)
        if last and self._reencode:
            parts.append(LAST_CHUNK)
        return b"".join(parts)

    def inform(self, head: ResponseHead) -> None:
        self._transport.write(b"%b%b\r\n" % (head.line, head.fields))
        if self._state == _BODY and self._body_since == FAR and head.status == 100:
            self._body_since = moment = now()
            if not (self._full or self._held):
                self._await_body(0, moment)

    def send(self, data: bytes) -> None:
        self._transport.write(encode(data) if self._reencode else data)

    def finish(self) -> None:
        exchange = self._exchange
        assert exchange is not None  # noqa: S101 -- only the exchange under way finishes
        if self._reencode:
            self._transport.write(LAST_CHUNK)
        self._finished(exchange, now())

    # ── tunnels ───────────────────────────────────────────────────────────────────────────────────────────────────

    def switch(self, head: ResponseHead, data: bytes, now: float) -> None:
        exchange = self._exchange
        assert exchange is not None  # noqa: S101 -- only the exchange under way switches
        route = exchange.route
        assert route is not None  # noqa: S101 -- nobody switches but the app of a route
        fields = route.fields_tls if exchange.fields.scheme == b"https" else route.fields_plain
        parts = [head.line, stand_beside(head, fields).fields, fields]
        if exchange.identity:
            parts.append(b"X-Request-Id: %b\r\n" % exchange.identity)
        self._transport.write(b"".join((*parts, _UPGRADE, data)))
        self._state = _TUNNEL
        self._reencode = False
        self._forget_head()
        self.deadline = FAR
        self._core.tunnel_opened(exchange)
        early, self._buffer = bytes(self._buffer), b""
        if len(early) > MAX_WAITING:
            self._transport.resume_reading()
        if early:
            exchange.request_body(early, False)
        if self._full:
            exchange.client_full()
        if self._ended:
            self._core.wheel.arm(self, now + HALF_TUNNEL_SECONDS)
            exchange.client_ended()

    def end(self) -> None:
        self._transport.write_eof()
        if not self._full:
            self._core.wheel.arm(self, now() + HALF_TUNNEL_SECONDS)

    def part(self) -> None:
        exchange = self._exchange
        if exchange is not None:
            self._record(exchange)
        self._ended = True
        self._linger()

    def fail(self, failure: Failure) -> None:
        exchange = self._exchange
        assert exchange is not None  # noqa: S101 -- only the exchange under way fails
        self._answer(exchange, failure)

    def abort(self, failure: Failure) -> None:
        exchange = self._exchange
        if exchange is not None:
            self._record(exchange)
        self._break_off()

    def tie(self, app: UpstreamStream) -> None:
        exchange = self._exchange
        if exchange is not None:
            if self._tie is None:
                self._tie = Tie(self)
            self._tie.keep(cast(PooledConnection, app))

    def untie(self) -> None:
        if self._state == _HEAD and not self._buffer:
            self._transport.close()
        else:
            self._close = True  # and if its next request is on its way already, ``_begin_tied`` sees to it

    def hold(self) -> None:
        self._held = True
        self._transport.pause_reading()
        if self._state == _BODY:
            self._held_at = self._held_at or now()
            if not self._full:
                self._core.wheel.arm(self, now() + LOOK_SECONDS)  # it is not the client that is slow
        elif not self._full and self._is_unheard():
            self._core.wheel.arm(self, now() + LOOK_SECONDS)

    def resume(self) -> None:
        self._held = False
        if self._state == _BODY and self._has_chunks():
            self._rest()
        elif not self._resting:
            self._transport.resume_reading()
        if self._state == _BODY:
            moment = now()
            if self._held_at:
                self._body_since += moment - self._held_at
                self._held_at = 0.0
            if not self._full and self._exchange is not None:
                self._await_body(self._exchange.bytes_in, moment)
        elif self._state == _TUNNEL and not (self._full or (self._exchange and self._exchange.first_to_end)):
            self.deadline = FAR

    # ── answers of the router's own ───────────────────────────────────────────────────────────────────────────────

    def _answer(self, exchange: Exchange, failure: Failure) -> None:
        """Answer an exchange with a failure."""
        status = status_for(failure, exchange.line.method)
        location = b""
        page = b""
        route = exchange.route
        if failure is Failure.HTTPS_REQUIRED:
            location = b"https://%b%b%b" % (exchange.fields.name, self._edge.https_suffix, exchange.line.target)
        elif failure is Failure.MAINTENANCE and route is not None:
            page = route.maintenance_page
        exchange.failure = failure
        exchange.status = status
        exchange.over = True
        made = responses.answer(
            failure,
            as_json=responses.prefers_json(exchange.fields.outgoing),
            request_id=exchange.identity,
            location=location,
            page=page,
            status=status,
        )
        extra = b""
        if route is not None:
            extra = route.fields_tls if exchange.fields.scheme == b"https" else route.fields_plain
        self._own(exchange, made.line + made.fields + extra, made.body)

    def _refuse_exchange(self, exchange: Exchange, failure: Failure) -> None:
        """What the client sends cannot be understood or is too much: answer if possible, and close in any case."""
        self._close = True
        if exchange.app is not None or exchange.lender is not None:
            exchange.client_gone(failure)
        if exchange.responded:
            exchange.failure = failure
            self._record(exchange)
            self._break_off()
        else:
            self._answer(exchange, failure)

    def _refuse(self, failure: Failure) -> None:
        """A head that cannot be judged: no request came of it, so the answer names only the failure."""
        exchange = Exchange(self, _NO_LINE, RequestFields(), b"", now())  # its own: the log keeps things in it
        if self._edge.request_ids:
            exchange.identity = self._core.ids.next()
        self._core.counters.in_flight += 1
        self._exchange = exchange
        self._close = True
        self._left = 0
        self._decoder = None
        self._state = _BODY  # where the request ends is not known: the client may still be sending it
        self._answer(exchange, failure)

    def turn_away(self, failure: Failure) -> None:
        """Tell a client that has not said anything yet that it may not, and part."""
        if self._state == _HEAD:  # unless it was given up, or turned back, when it was made
            self._refuse(failure)

    def _own(self, exchange: Exchange, head: bytes, body: bytes) -> None:
        """Write an answer of the router's own, and go on as after any other."""
        if self._state == _BODY:
            self._close = True
        parts = [head, b"Date: %b\r\n" % http_date()]
        if exchange.identity:
            parts.append(b"X-Request-Id: %b\r\n" % exchange.identity)
        if self._close:
            parts.append(_CLOSE)
        elif not exchange.line.minor:
            parts.append(_KEEP_ALIVE)
        parts.append(b"\r\n")
        if exchange.line.method != b"HEAD":
            parts.append(body)
            exchange.bytes_out = len(body)
        exchange.over = True
        exchange.responded = True
        self._transport.write(b"".join(parts))
        self._finished(exchange, now())

    # ── between requests ──────────────────────────────────────────────────────────────────────────────────────────

    def _finished(self, exchange: Exchange, moment: float) -> None:
        """The response is written. Count it, then take the next request, or part."""
        exchange.took = moment - exchange.started
        self._core.record(exchange, self._peer)
        self._exchange = None
        state = self._state
        if self._close:
            if exchange.fields.close and state == _WAIT and not self._buffer:
                self._ended = True  # it said itself that nothing follows: there is nothing to linger for
            self._linger()
        elif state == _WAIT:
            self._next(moment)

    def _next(self, moment: float) -> None:
        """Ready for the next request, which may wait already."""
        if self._full:
            # Whoever reads no answers is not given more of them: a few bytes of pipelined requests could ask for any
            # amount of memory. Its time is running (``pause_writing``).
            self._state = _FULL
            return
        self._state = _HEAD
        if self._buffer:
            if len(self._buffer) > MAX_WAITING:
                self._transport.resume_reading()
            self._read_heads(b"")
            if self._state != _HEAD or self._parsing:
                return
        if self._ended:
            self._linger()
        elif not self._head_begun:
            timeout = self._edge.keepalive_timeout
            self.deadline = deadline = moment + timeout
            if timeout < HORIZON or self.slot == 0:
                self._core.wheel.arm(self, deadline)

    def _record(self, exchange: Exchange) -> None:
        if self._state == _TUNNEL:
            self._core.tunnel_closed(exchange)
        exchange.took = now() - exchange.started
        self._core.record(exchange, self._peer)
        self._exchange = None

    def _gone(self, failure: Failure) -> None:
        """The client will not get its answer."""
        exchange = self._exchange
        if exchange is not None:
            exchange.client_gone(failure)
            self._record(exchange)

    def _linger(self) -> None:
        """End the writing side only, and read and drop what still comes: a close with unread bytes would be a reset,
        which can take the answer away from a client that has not finished sending (RFC 9112 9.6)."""
        unfinished = self._state == _BODY
        self._buffer = b""
        self._state = _LINGER
        self._held = False
        self._unsent = self._waiting() if self._transport.get_write_buffer_size() else 0
        moment = now()
        self._linger_until = 0.0
        if self._ended:
            self._transport.close()
        else:
            if unfinished:
                self._linger_until = moment + LINGER_SECONDS
                self._core.lingers(self)
            self._transport.write_eof()
            self._transport.resume_reading()
        self._core.wheel.arm(self, moment + STALL_SECONDS if self._unsent else self._goodbye_deadline(moment))

    def _goodbye_deadline(self, moment: float) -> float:
        """When a client that is silent from now on is taken to have read its answer."""
        return min(moment + LINGER_SILENCE, self._linger_until) if self._linger_until else moment + DRAIN_SECONDS

    def _drop(self, size: int) -> None:
        """``size`` more bytes of what is not wanted any more."""
        moment = now()
        if not self._linger_until:  # nothing was missing, and yet it sends: pipelined requests, as a rule
            self._linger_until = moment + LINGER_SECONDS
            self._core.lingers(self)
        if not self._unsent:
            self.deadline = self._goodbye_deadline(moment)
        if size >= TURN_BYTES:
            self._rest()

    def _abort(self) -> None:
        """Close at once; what the kernel has of an answer still goes out."""
        self._state = _CLOSED
        self.slot = -1
        self._transport.abort()

    def _break_off(self) -> None:
        """A reset: nobody can take what was sent for the whole."""
        reset_on_close(self._transport)
        self._abort()

    # ── mistakes of ours ──────────────────────────────────────────────────────────────────────────────────────────

    def fault(self, error: Exception) -> None:
        """A callback raised: this connection is given up, and nothing else."""
        note(self._core.counters, "client", error)
        self._crash(asked=False)

    def crash(self) -> None:
        """Whoever works on this connection's exchange made a mistake."""
        self._crash(asked=False)

    def _crash(self, asked: bool) -> None:
        """Answer if that is still possible (``asked``: what came was about to become a request), and part in any case.
        Raises nothing, and leaves nothing behind, whatever state the mistake was made in."""
        counters = self._core.counters
        try:
            self._own_up(asked)
        except Exception as error:
            note(counters, "client", error)
            exchange = self._exchange
            if exchange is not None:
                attempt(counters, "client", exchange.end)
                attempt(counters, "client", self._record, exchange)
            attempt(counters, "client", self._break_off)

    def _own_up(self, asked: bool) -> None:
        exchange = self._exchange
        self._close = True
        if exchange is not None:
            begun = exchange.responded
            exchange.failure = Failure.INTERNAL_ERROR
            if not begun:
                exchange.status = Failure.INTERNAL_ERROR.status
            exchange.end()
            if begun or self._transport.is_closing():
                self._record(exchange)
                self._break_off()
            else:
                self._answer(exchange, Failure.INTERNAL_ERROR)
        elif self._transport.is_closing() or self._state in (_LINGER, _CLOSED):
            self._break_off()
        elif asked and self._state == _HEAD:
            self._refuse(Failure.INTERNAL_ERROR)
        else:
            self._linger()  # what was answered before is still on its way

    @property
    def address(self) -> str:
        """The client's, as the connection tells it."""
        return self._peer.address

    def idle_since(self) -> float:
        """Since when nothing is asked or answered here (monotonic seconds); FAR while something is."""
        if self._state == _LINGER:
            # Nobody waits for anything here, but as long as a client may be silent it may also read its answer.
            since = self._linger_until - LINGER_SECONDS
            return since if self._linger_until and now() - since >= LINGER_SILENCE else FAR
        if self._state != _HEAD or self._buffer or self._full:
            return FAR
        edge = self._edge
        return self.deadline - (edge.head_timeout if self._fields is _NO_FIELDS else edge.keepalive_timeout)

    def quiet_since(self) -> float:
        """Since when nothing has passed through its tunnel (monotonic seconds); FAR where there is none."""
        exchange = self._exchange
        if self._state != _TUNNEL or exchange is None or exchange.app is None or self._full:
            return FAR
        return exchange.app.quiet_since()

    def _turn_back(self) -> None:
        """Refuse a connection before anything is read. Its request is on its way here, or is here already: closing at
        once would be a reset, as after every other answer that comes early."""
        self._core.turned_back(self)
        self._state = _BODY
        made = responses.answer(Failure.TOO_MANY_CONNECTIONS)
        self._transport.write(b"".join((made.line, made.fields, _CLOSE, b"\r\n", made.body)))
        self._linger()

    @isolated
    def drain(self) -> None:
        """The router stops: a busy connection closes after its answer; an idle one soon, as its next request may be on
        its way here, and one that was only just made has not said anything yet."""
        self._close = True
        if self._state == _HEAD and not self._buffer:
            leaves = now() + LEAVE_SECONDS
            if self.slot < 0 or self.deadline > leaves:
                self._core.wheel.arm(self, leaves)
        elif self._state == _LINGER:
            self._linger_until = min(self._linger_until, now() + LINGER_SILENCE)

    @isolated
    def make_room(self) -> None:
        """Others need what an idle connection takes: it closes at once. A busy one closes after its answer."""
        if self._state == _HEAD and not self._buffer:
            self._transport.close()
        elif self._state == _LINGER:
            self._abort()
        else:
            self._close = True

    @isolated
    def let_go(self) -> None:
        """Others need what a tunnel takes through which nothing passes."""
        self._gone(Failure.TUNNEL_LET_GO)
        self._break_off()

    @isolated
    def abort_now(self) -> None:
        """Give up at once."""
        if self._state == _LINGER:
            self._abort()  # it has its whole answer
            return
        self._gone(Failure.DRAINING if self._state == _TUNNEL else Failure.CLIENT_GONE)
        self._break_off()
