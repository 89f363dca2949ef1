"""The app's side of HTTP/1.1: one connection to one endpoint, lent to one exchange at a time.

It reads responses strictly (an app's owner may be anybody) and goes back to its pool only when nothing at all is in
doubt: response complete by its own framing, request sent to its last byte, not a byte left over (hardening 2.2).

What must not enter: what a response means for the client, retries, routes.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec, TypeVar, cast

from drycc_proxy.errors import Failure
from drycc_proxy.http.deadlines import STALL_SECONDS
from drycc_proxy.http.exchange import Exchange
from drycc_proxy.http.messages import CHUNKED, UNTIL_CLOSE, Malformed, ResponseHead
from drycc_proxy.http1.chunks import LAST_CHUNK, ChunkDecoder, encode
from drycc_proxy.http1.parser import parse_response
from drycc_proxy.kernel.clock import FAR, HORIZON, Wheel, now
from drycc_proxy.kernel.internal_errors import attempt, note
from drycc_proxy.kernel.sockets import has_news, set_app_options, unread
from drycc_proxy.upstreams.endpoint import Endpoint
from drycc_proxy.upstreams.interfaces import Home, Pool, PooledConnection
from drycc_proxy.upstreams.remembered_heads import SMALL

__all__ = ["Http1Upstream"]

MAX_HEAD: Final = 64 * 1024
"""Bytes of a response's head: apps set large cookies and policies, and memory per connection stays bounded."""
MAX_FIELDS: Final = 256
MAX_INTERIM: Final = 16
"""1xx responses that may come at once before the final one."""
INTERIM_RATE: Final = 4
"""1xx responses a second that may go on coming after that, for as long as the request is worked on: a WebDAV server
says 102 every some seconds (RFC 2518 10.1), a resumable upload 104."""
INTERIM_BYTES: Final = 4 * 1024
"""Bytes of a 1xx response that count as one of those; a larger one counts as so many more."""

MAX_WHOLE: Final = 64 * 1024
"""Bytes of a chunked request body that go to the app with a length, if all of it is here when the request is sent."""

_IDLE: Final = 0
_HEAD: Final = 1
_LENGTH: Final = 2
_CHUNKED: Final = 3
_UNTIL_CLOSE: Final = 4
_TUNNEL: Final = 5
_CLOSED: Final = 6

_UPGRADE: Final = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


P = ParamSpec("P")
R = TypeVar("R")


def _isolated(
    callback: Callable[Concatenate[Http1Upstream, P], R],
) -> Callable[Concatenate[Http1Upstream, P], R | None]:
    """As ``kernel.internal_errors.isolated``, for the exchange that the connection had before the callback let go of
    it too."""

    def guarded(self: Http1Upstream, /, *args: P.args, **kwargs: P.kwargs) -> R | None:
        exchange = self._exchange
        try:
            return callback(self, *args, **kwargs)
        except Exception as error:
            self.fault(error, exchange)
            return None

    functools.update_wrapper(guarded, callback)
    return guarded


class Http1Upstream(PooledConnection):
    """Implements ``http.exchange.UpstreamStream``."""

    __slots__ = (
        "_buffer",
        "_chunked_request",
        "_clean",
        "_decoder",
        "_exchange",
        "_head",
        "_held",
        "_home",
        "_idle_timeout",
        "_interim",
        "_interim_at",
        "_known",
        "_left",
        "_lost",
        "_request_timeout",
        "_resting",
        "_seen",
        "_sent_last",
        "_state",
        "_taken",
        "_transport",
        "_wheel",
    )

    def __init__(self, pool: Pool, endpoint: Endpoint[PooledConnection], wheel: Wheel) -> None:
        # per connection
        super().__init__(pool, endpoint)
        self._home: Home = pool
        self._wheel = wheel
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._state = _IDLE
        self._known = b""
        """The last final head: what begins with it again says the same. Empty: none yet."""
        self._head: ResponseHead = cast(ResponseHead, None)
        self._taken = False
        self._lost = False
        """The transport is over; what is read now was received before that."""
        # per exchange
        self._exchange: Exchange | None = None
        self._buffer: bytes | bytearray = b""
        """The beginning of a head that is not complete; a bytearray unless it is empty."""
        self._seen = 0
        """Bytes of it that were looked at."""
        self._left = 0
        self._decoder: ChunkDecoder | None = None
        self._chunked_request = False
        self._clean = False
        """The kernel had the whole request when its answer began: only then can the connection serve another."""
        self._interim = 0.0
        """1xx responses, less those that time has made up for; 0: none came."""
        self._interim_at = 0.0
        self._sent_last = 0.0
        """When the last piece of a body was sent that did not go with its head."""
        self._held = False
        self._resting = False
        """Reading goes on with the next turn of the loop."""
        self._idle_timeout = 0.0
        self._request_timeout = 0.0

    def __repr__(self) -> str:
        names = ("idle", "head", "length", "chunked", "until close", "tunnel", "closed")
        return f"<Http1Upstream {self.endpoint.label.decode()} {names[self._state]}>"

    # ── what the loop says ────────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        try:
            set_app_options(transport)
        except Exception as error:
            self.fault(error, None)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        try:
            state = self._state
            if state == _HEAD:
                try:
                    self._read_head(data)
                except Malformed as error:
                    self._broken(error.failure)
            elif state == _LENGTH:
                self._extend()
                left = self._left - len(data)
                if left > 0:
                    self._left = left
                    exchange.response_body(data)  # type: ignore[union-attr]  # in this state there is one
                elif left == 0:
                    self._last(data, True)
                else:
                    self._last(data[:left], False)
            elif state == _CHUNKED:
                self._extend()
                self._read_chunks(data)
            elif state in (_UNTIL_CLOSE, _TUNNEL):
                self._extend()
                exchange.response_body(data)  # type: ignore[union-attr]  # in these states there is one
            elif state == _IDLE:
                # Bytes that nobody asked for must never be taken for the next answer (RFC 9112 11.1).
                self.close()
        except Exception as fault:
            self.fault(fault, exchange)

    @_isolated
    def eof_received(self) -> bool:
        if self._state == _UNTIL_CLOSE:
            self._last(b"", False)
        elif self._state == _IDLE:
            self._ended_idle()
            self.close()  # now, not when the loop gets round to it: nobody may be lent what is over
        elif self._state == _TUNNEL and self._exchange is not None:
            self._exchange.app_ended()
            return True  # what the client still has to say reaches the app
        return False

    @_isolated
    def connection_lost(self, error: Exception | None) -> None:
        if error is not None and self._exchange is not None:
            attempt(self._home.totals, "app", self._read_unread)
        state = self._state
        exchange = self._exchange
        self._state = _CLOSED
        self.slot = -1
        attempt(self._home.totals, "app", self._drop_head)
        if self._taken:
            self._taken = False
            self._home.totals.upstream_open -= 1
        if state == _IDLE:
            self._ended_idle()
            self._home.lost_idle(self)
        self._home.leave(self)
        if exchange is not None:
            self._exchange = None
            if state == _HEAD:
                heard = self._buffer or self._interim
                exchange.failed(Failure.BAD_RESPONSE if heard else Failure.UPSTREAM_RESET)
            elif state == _UNTIL_CLOSE and error is None:
                exchange.response_end()
            elif state == _TUNNEL:
                exchange.failed(Failure.UPSTREAM_RESET)
            else:
                exchange.failed(Failure.RESPONSE_TRUNCATED)

    def pause_writing(self) -> None:
        exchange = self._exchange
        if exchange is not None:
            try:
                exchange.app_full()
            except Exception as error:
                # The loop calls this from within a write, and whoever writes goes on.
                note(self._home.totals, "app", error)
                self._wheel.next_turn(lambda: self._crash(exchange))

    @_isolated
    def resume_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.app_ready()

    @_isolated
    def overdue(self, now: float) -> None:
        """Idle for too long, or the app is silent for too long."""
        if self._state == _IDLE:
            self.close()
        elif self._held:
            self.deadline = FAR  # it is the client that is slow, and the client's own deadline that counts
        elif self._state == _HEAD:
            self._broken(Failure.RESPONSE_TIMEOUT)
        elif self._state == _TUNNEL:
            self._broken(Failure.TUNNEL_IDLE)
        elif self._state == _CLOSED:
            self._transport.abort()
        else:
            self._broken(Failure.RESPONSE_STALLED)

    # ── what the exchange says ────────────────────────────────────────────────────────────────────────────────────

    def request(self, exchange: Exchange, data: bytes, last: bool) -> None:
        fields = exchange.fields
        line = exchange.line
        route = exchange.route
        assert route is not None  # noqa: S101 -- a connection is lent for the app of a route
        self._exchange = exchange
        self._state = _HEAD
        self._interim = 0.0
        added = route.request_fields() if route.dated and not fields.dated else b""
        if fields.length:
            self._chunked_request = fields.length == CHUNKED
            if self._chunked_request:
                if last and len(data) <= MAX_WHOLE:
                    # All of it is here: its length is known (RFC 9112 6.1). WSGI servers read nothing without one.
                    self._chunked_request = False
                    added += b"Content-Length: %d\r\n" % len(data)
                else:
                    added += b"Transfer-Encoding: chunked\r\n"
                    data = (encode(data) if data else b"") + (LAST_CHUNK if last else b"")
        if fields.upgrade and _may_switch(exchange):
            added += _UPGRADE
        identity = exchange.identity
        if identity:
            correlation = fields.correlation_id
            self._transport.write(
                b"%b %b HTTP/1.1\r\n%bX-Request-Id: %b\r\nX-Correlation-Id: %b\r\n%b\r\n%b"
                % (
                    line.method,
                    line.target,
                    fields.outgoing,
                    identity,
                    b"%b,%b" % (correlation, identity) if correlation else identity,
                    added,
                    data,
                )
            )
        else:
            self._transport.write(
                b"%b %b HTTP/1.1\r\n%b%b\r\n%b" % (line.method, line.target, fields.outgoing, added, data)
            )
        self._idle_timeout = route.idle_timeout
        self._request_timeout = route.request_timeout
        timeout = route.first_timeout if last else route.idle_timeout
        self.deadline = deadline = exchange.sent_at + timeout
        if timeout < HORIZON or self.slot == 0:
            self._wheel.arm(self, deadline)

    def send(self, data: bytes, last: bool) -> None:
        if self._chunked_request:
            data = (encode(data) if data else b"") + (LAST_CHUNK if last else b"")
        if data:
            self._transport.write(data)
        if self._state == _HEAD:
            timeout = self._idle_timeout
            moment = now()
            if last and self._request_timeout:
                timeout = min(timeout, self._request_timeout)
                self._sent_last = moment
            self._wheel.arm(self, moment + timeout)
        elif self._state == _TUNNEL:
            self._extend()

    def hold(self) -> None:
        self._held = True
        self._transport.pause_reading()

    def resume(self) -> None:
        if self._held:
            self._held = False
            self._extend()
            if self._state == _HEAD:
                self._bound_wait()
            if self._decoder is not None and self._decoder.more:
                self._rest()
            elif not self._resting:
                self._transport.resume_reading()

    def end(self) -> None:
        self._transport.write_eof()

    def part(self) -> None:
        self._exchange = None
        self._home.leave(self)
        self._state = _CLOSED
        self._wheel.arm(self, now() + STALL_SECONDS)  # an app that takes nothing any more must not keep it for ever
        self._transport.close()

    def quiet_since(self) -> float:
        return self.deadline - self._idle_timeout

    def abandon(self) -> None:
        if self.lent:
            self._exchange = None
            self._home.give_back(self, False)

    # ── mistakes of ours ──────────────────────────────────────────────────────────────────────────────────────────

    def fault(self, error: Exception, exchange: Exchange | None) -> None:
        """A callback raised: this connection is given up, and the client whose exchange it had."""
        note(self._home.totals, "app", error)
        self._crash(exchange)

    def _crash(self, exchange: Exchange | None) -> None:
        """Raises nothing, and leaves nothing behind."""
        totals = self._home.totals
        exchange = exchange or self._exchange
        self._exchange = None
        attempt(totals, "app", self._home.give_back, self, False)
        attempt(totals, "app", self.close)
        if exchange is not None:
            exchange.client.crash()

    # ── pool ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def take(self) -> bool:
        """Whoever dialled has it from now on; False: it has broken already. Its end counts only after that: what is
        given up in the midst of being made never was a connection."""
        self._taken = self._state != _CLOSED
        return self._taken

    def tie(self, home: Home) -> None:
        """From now on it belongs there, and is in no pool any more."""
        self._home = home

    def is_quiet(self) -> bool:
        """Whether the app has said nothing, not even its end, since this connection became idle. Asks the kernel."""
        return not has_news(self._transport)

    def rest(self, moment: float) -> None:
        """Become idle: a deadline for staying so."""
        self._state = _IDLE
        seconds = self.endpoint.idle_seconds
        self.deadline = deadline = moment + seconds
        if seconds < HORIZON or self.slot == 0:
            self._wheel.arm(self, deadline)

    def close(self) -> None:
        """Close without ceremony; whatever the connection was doing is given up."""
        if self._state == _CLOSED:
            return
        if self._state == _IDLE:
            self._home.lost_idle(self)
        if self._transport is not None:
            self._transport.abort()
        self._state = _CLOSED
        self.slot = -1

    def _read_unread(self) -> None:
        """The connection broke while we wrote: what the app answered before that may still wait in the socket. An app
        that refuses a body and closes does just this, as its kernel resets what arrives after that."""
        self._lost = True
        for data in unread(self._transport):
            if self._exchange is None:
                return
            self.data_received(data)

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _read_head(self, data: bytes) -> None:
        if self._buffer:
            self._buffer += data
            if self._buffer.find(b"\r\n\r\n", max(self._seen - 3, 0)) < 0:
                self._check_partial(self._buffer)
                return
            data = bytes(self._buffer)
            self._buffer = b""
            self._seen = 0
        exchange = self._exchange
        assert exchange is not None  # noqa: S101 -- bytes are read as a head only while lent
        known = self._known
        if known and data.startswith(known):
            end, head = len(known) - 4, self._head
        else:
            end, head = self._judge_head(data, exchange)
            if end < 0:
                return
        moment = now()
        self._clean = exchange.request_done and not (self._lost or self._transport.get_write_buffer_size())
        body = data[end + 4 :]
        length = head.length
        if exchange.line.method == b"HEAD" or head.status == 304 or head.status == 204:
            length = 0
        if length >= 0:
            size = len(body)
            if size >= length:
                # The whole answer at once: the warm path.
                if size > length:
                    body = body[:length]
                self._release(head, size == length and self._clean, moment)
                exchange.response(head, body, True, moment)
                return
            self._state = _LENGTH
            self._left = length - size
            self.deadline = moment + self._idle_timeout
            exchange.response(head, body, False, moment)
        elif length == CHUNKED:
            self._state = _CHUNKED
            self._decoder = decoder = ChunkDecoder(Failure.BAD_RESPONSE)
            self._extend()
            payload = decoder.feed(body)
            if decoder.more:
                self._rest()
            if decoder.done:
                self._release(head, not decoder.rest and self._clean, moment)
                exchange.response(head, payload, True, moment)
            else:
                exchange.response(head, payload, False, moment)
        elif length == UNTIL_CLOSE:
            self._state = _UNTIL_CLOSE
            self._extend()
            exchange.response(head, body, False, moment)

    def _judge_head(self, data: bytes, exchange: Exchange) -> tuple[int, ResponseHead]:
        """Read a head that differs from the last one, and pass on the interim responses before it.

        Returns where it ends in ``data``, and what it says; -1: more must come first, or nothing of it is a head any
        more. Raises Malformed.
        """
        at = 0
        while True:
            known = self._known
            if known and data.startswith(known, at):
                return at + len(known) - 4, self._head
            end = data.find(b"\r\n\r\n", at)
            if end < 0 or end - at > MAX_HEAD:
                self._buffer = bytearray(data[at:])
                self._check_partial(self._buffer)
                return -1, self._head
            head = parse_response(data[at:end], MAX_FIELDS)
            if head.status == 101 and head.upgrade == b"websocket" and _may_switch(exchange):
                self._switch(exchange, head, data[end + 4 :])
                return -1, head
            if head.status >= 200:
                self._remember(data[at : end + 4])
                self._head = head
                return end, head
            if head.status == 101:
                raise Malformed(Failure.BAD_RESPONSE, "a 101 that nobody asked for")
            self._count_interim(end + 4 - at)
            self._extend()
            self._bound_wait()
            exchange.interim(head)
            at = end + 4
            if self._exchange is not exchange or at == len(data):
                return -1, head

    def _count_interim(self, size: int) -> None:
        """An interim response of ``size`` bytes came: judge how many came lately. Raises Malformed."""
        moment = now()
        made_up = (moment - self._interim_at) * INTERIM_RATE
        self._interim_at = moment
        self._interim = max(self._interim - made_up, 0.0) + max(size / INTERIM_BYTES, 1.0)
        if self._interim > MAX_INTERIM:
            raise Malformed(Failure.BAD_RESPONSE, "too many interim responses, or too large ones, in too short a time")

    def _bound_wait(self) -> None:
        """A sign of life before the head of the answer buys no more than the time that the owner allows for that."""
        exchange = self._exchange
        if self._request_timeout and exchange is not None and exchange.request_done:
            asked = max(self._sent_last, exchange.sent_at)
            if self.deadline > asked + self._request_timeout:
                self._wheel.arm(self, asked + self._request_timeout)

    def _remember(self, known: bytes) -> None:
        """Remember the head that was just read, if there is room for it."""
        heads = self._home.heads
        if len(known) > SMALL:
            self._known = known if heads.hold(self, len(known)) else b""
        else:
            if len(self._known) > SMALL:
                heads.drop(self)
            self._known = known

    def _drop_head(self) -> None:
        """The connection is over, but the wheel knows it for some seconds yet: what is large must not wait for that."""
        if len(self._known) > SMALL:
            self._home.heads.drop(self)
        self.forget_head()

    def forget_head(self) -> None:
        """Read the next head anew. The one under way was passed on already, and keeps what its end needs."""
        self._known = b""
        head = cast("ResponseHead | None", self._head)
        if head is not None:
            head.fields = head.framed = head.beside = b""
            head.without = None

    def _check_partial(self, data: bytes | bytearray) -> None:
        """A head that is not complete must not be too large, and must still be able to become a good one. Only what has
        come since the last look is looked at, with the CR before it."""
        if len(data) > MAX_HEAD:
            raise Malformed(Failure.RESPONSE_HEAD_TOO_LARGE, f"a head of more than {MAX_HEAD} bytes")
        seen = self._seen
        fresh = data[seen - 1 if seen and data[seen - 1] == 13 else seen :]
        if fresh.count(b"\n") != fresh.count(b"\r\n"):
            raise Malformed(Failure.BAD_RESPONSE, "a bare LF in the head")
        self._seen = len(data)

    def _switch(self, exchange: Exchange, head: ResponseHead, data: bytes) -> None:
        """What was asked for is granted: from here on nothing that comes is HTTP."""
        self._state = _TUNNEL
        self._chunked_request = False
        self._extend()
        exchange.switched(head, data, now())

    def _read_chunks(self, data: bytes) -> None:
        decoder = self._decoder
        exchange = self._exchange
        assert decoder is not None and exchange is not None  # noqa: S101 -- this state has both
        try:
            payload = decoder.feed(data)
        except Malformed:
            self._broken(Failure.RESPONSE_TRUNCATED)
            return
        if decoder.done:
            self._last(payload, not decoder.rest)
            return
        if decoder.more:
            self._rest()
        if payload:
            exchange.response_body(payload)

    def _rest(self) -> None:
        """Read no more of this answer in this turn of the loop."""
        if not self._resting:
            self._resting = True
            self._transport.pause_reading()
            self._wheel.next_turn(self._go_on)

    @_isolated
    def _go_on(self) -> None:
        """Everybody has had a turn."""
        self._resting = False
        if self._held or self._state == _CLOSED:
            return
        if self._state == _CHUNKED and self._exchange is not None:
            self._read_chunks(b"")
        if self._may_read():
            self._transport.resume_reading()

    def _may_read(self) -> bool:
        return not (self._resting or self._held or self._transport.is_closing())

    def _last(self, data: bytes, clean: bool) -> None:
        """The last piece of the body is here. ``clean``: nothing came behind it."""
        exchange = self._exchange
        assert exchange is not None  # noqa: S101 -- a body is read only while lent
        head = self._head
        if data:
            exchange.response_body(data)  # while it is still lent: a client that is full with it holds nobody else
        self._release(head, clean and self._clean, now())
        exchange.response_end()

    def _release(self, head: ResponseHead, clean: bool, moment: float) -> None:
        """Back to the pool before the client hears the end: its next request may want this very connection.

        ``clean``: both messages were complete, and nothing is left over."""
        exchange = self._exchange
        self._exchange = None
        self._decoder = None
        if head.idle and head.idle - 1.0 < self.endpoint.idle_seconds:
            self.endpoint.is_patient(head.idle)  # Keep-Alive: timeout=N
        if self._held:
            self._held = False
            self._transport.resume_reading()
        if clean and head.reusable and self._state != _CLOSED:
            self.rest(moment)
            self._home.give_back(self, True)
        elif clean and head.binds and self._state != _CLOSED and exchange is not None:
            exchange.client.tie(self)
            self.rest(moment)
            self._home.give_back(self, True)
        else:
            self._home.give_back(self, False)

    def _ended_idle(self) -> None:
        """The app closed what it was not asked to: perhaps it always does after so long."""
        endpoint = self.endpoint
        moment = now()
        before = endpoint.idle_seconds
        if not self._taken or not endpoint.closed_idle(moment - (self.deadline - before), moment):
            return
        sooner = before - endpoint.idle_seconds
        for connection in endpoint.idle:
            self._wheel.arm(connection, connection.deadline - sooner)

    def _extend(self) -> None:
        """The app gave a sign of life."""
        deadline = now() + self._idle_timeout
        if self._idle_timeout < HORIZON:
            self._wheel.arm(self, deadline)
        else:
            self.deadline = deadline

    def _broken(self, failure: Failure) -> None:
        """What came, or did not come, ends this connection."""
        exchange = self._exchange
        self._exchange = None
        self._home.give_back(self, False)
        if exchange is not None:
            exchange.failed(failure)


def _may_switch(exchange: Exchange) -> bool:
    """Whether the request may become a tunnel: a websocket's GET without a body (contract 6); 1.0 never asks."""
    fields = exchange.fields
    return fields.upgrade == b"websocket" and exchange.line.method == b"GET" and fields.length == 0
