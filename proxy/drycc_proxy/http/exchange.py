"""One request and its response: the mind of the data plane, one method per wire event, no I/O.

An exchange stands between a :class:`Client` and an :class:`UpstreamStream`, the two tiny interfaces it declares.
Either may speak HTTP/1.1 or anything else; neither knows the other. What it decides: when to try again, what to answer
when something fails, whether what the client sees is an end or a break.

::

    begin ──► waiting for a connection ──► request under way ──► response under way ──► over
      │              │ failed: another endpoint, or an answer of our own      │ failed: cut, never a clean end
      └─ gate closed: an answer of our own     └─ 101: tunnel ──► over        └─ client gone: abandon the app

What must not enter: bytes of heads, sockets, clocks (times are handed in), and the choice of an endpoint.
"""

from __future__ import annotations

from typing import Final, Protocol

from drycc_proxy.errors import Failure, Retry
from drycc_proxy.http.messages import RequestFields, RequestLine, ResponseHead
from drycc_proxy.metrics import RouteCounters

__all__ = ["Client", "Exchange", "Lender", "Routed", "UpstreamStream"]

IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"))
"""Methods that may be sent twice (RFC 9110 9.2.2)."""
MAX_ATTEMPTS: Final = 3
MAX_KEPT: Final = 64 * 1024
"""Bytes of a request's body that are kept to be sent again."""


class Routed(Protocol):
    """What the exchange's two sides, its counters and its log line read of the app that was asked for
    (``table.LiveRoute``). Times are in seconds; FAR where there is no limit, 0 where that is said."""

    @property
    def app(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def label(self) -> bytes:
        """Its part of a JSON log line."""

    @property
    def counters(self) -> RouteCounters: ...
    @property
    def fields_plain(self) -> bytes:
        """Field lines that the router adds to each response in clear, and over TLS."""

    @property
    def fields_tls(self) -> bytes: ...
    @property
    def maintenance_page(self) -> bytes: ...
    @property
    def body_size(self) -> int:
        """Bytes that a request's body may have; 0: any number."""

    @property
    def body_timeout(self) -> float:
        """How long the client may be silent within a body."""

    @property
    def body_pace(self) -> float:
        """Seconds that each byte of a body may take on average, and ``body_grace`` how many before that counts."""

    @property
    def body_grace(self) -> float: ...
    @property
    def idle_timeout(self) -> float:
        """How long the app may be silent."""

    @property
    def request_timeout(self) -> float:
        """How long it may take until it answers; 0: as long as it likes."""

    @property
    def first_timeout(self) -> float:
        """The smaller of the two."""

    @property
    def dated(self) -> bool:
        """Whether requests carry :meth:`request_fields`."""

    def request_fields(self) -> bytes:
        """Lines that differ with each request."""


class Client(Protocol):
    """The side that asked."""

    def respond(self, head: ResponseHead, data: bytes, last: bool, now: float) -> None:
        """The response's head with the first piece of its body; ``last``: that is all of it."""

    def inform(self, head: ResponseHead) -> None:
        """An interim response (1xx)."""

    def send(self, data: bytes) -> None:
        """A piece of the response's body."""

    def finish(self) -> None:
        """The response is complete."""

    def fail(self, failure: Failure) -> None:
        """Nothing was sent yet: answer with the failure."""

    def abort(self, failure: Failure) -> None:
        """Break off so that the client cannot take what it has for the whole."""

    def switch(self, head: ResponseHead, data: bytes, now: float) -> None:
        """The app's 101, with the first bytes behind it: from here on bytes pass as they are."""

    def end(self) -> None:
        """Tunnel: the app has said its last word; the client may still speak."""

    def part(self) -> None:
        """Tunnel: both sides have said their last word, and what is on its way still goes out."""

    def tie(self, app: UpstreamStream) -> None:
        """The app is about to know the client by this connection, which is for no other client from here on."""

    def crash(self) -> None:
        """A mistake of ours: whatever this connection is doing ends, and it with it. Raises nothing."""

    def hold(self) -> None:
        """Stop reading the request's body."""

    def resume(self) -> None:
        """Go on reading the request's body."""


class UpstreamStream(Protocol):
    """The side that answers: one connection to one endpoint, lent to one exchange."""

    reused: bool
    """It carried another request before."""

    def request(self, exchange: Exchange, data: bytes, last: bool) -> None:
        """The request's head with the first piece of its body."""

    def send(self, data: bytes, last: bool) -> None:
        """A piece of the request's body; may be empty when ``last``."""

    def hold(self) -> None:
        """Stop reading the response."""

    def resume(self) -> None:
        """Go on reading the response."""

    def end(self) -> None:
        """Tunnel: the client has said its last word; the app may still speak."""

    def part(self) -> None:
        """Tunnel: both sides have said their last word, and what is on its way still goes out."""

    def quiet_since(self) -> float:
        """Since when nothing has passed in either direction (monotonic seconds)."""

    def abandon(self) -> None:
        """The exchange is over for this connection; it must not be reused."""


class Lender(Protocol):
    """Where connections come from."""

    def lend(self, exchange: Exchange, fresh: bool) -> UpstreamStream | None:
        """A connection at once, or None: then ``connected`` or ``failed`` will be called."""

    def lent(self, exchange: Exchange, app: UpstreamStream) -> None:
        """What ``lend`` could not give at once is there: called before ``connected``."""

    def forget(self, exchange: Exchange) -> None:
        """The exchange no longer waits for a connection."""

    def retried(self, failure: Failure) -> bool:
        """The request is about to be sent again: whether it may be, after so many others. Counts it if so."""


class Exchange:
    """One request and its response. Also the record that the access log and the counters read when it is over."""

    __slots__ = (
        "_body",
        "app",
        "attempts",
        "bytes_in",
        "bytes_out",
        "client",
        "endpoint",
        "failure",
        "fields",
        "first_to_end",
        "header_seconds",
        "identity",
        "lender",
        "line",
        "over",
        "request_done",
        "responded",
        "route",
        "sent_at",
        "started",
        "status",
        "took",
    )

    def __init__(
        self, client: Client, line: RequestLine, fields: RequestFields, identity: bytes, started: float
    ) -> None:
        self.client = client
        self.line = line
        self.fields = fields
        self.identity = identity
        """The request id; empty when the operator switched ids off."""
        self.started = started
        """Monotonic seconds when the head was complete."""
        self.app: UpstreamStream | None = None
        self.lender: Lender | None = None
        self.route: Routed | None = None
        """The app that was asked for; None: there is none of that name, or it is not known yet."""
        self.endpoint = b""
        """Who answered, printable; empty: nobody was asked."""
        self.failure: Failure | None = None
        self.status = 0
        self.attempts = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.sent_at = 0.0
        self.header_seconds = -1.0
        self.took = 0.0
        self.request_done = False
        self.responded = False
        self.over = False
        self._body: bytes | None = None
        # ``first_to_end`` is set by ``switched`` only: no other exchange pays for it.

    def __repr__(self) -> str:
        method = self.line.method.decode("ascii", "replace")
        return f"<Exchange {method} {self.status or 'under way'} attempts={self.attempts}>"

    # ── from the client ───────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, lender: Lender, data: bytes, last: bool, now: float) -> None:
        """The head is complete and the gate is open. ``data``: the body so far; ``last``: that is all of it."""
        self.lender = lender
        self.bytes_in = len(data)
        self.request_done = last
        self._body = data
        app = lender.lend(self, False)
        if app is not None:
            self.app = app
            self.connected(app, now)
        elif not last:
            self.client.hold()

    def request_body(self, data: bytes, last: bool) -> None:
        """More of the request's body."""
        self.bytes_in += len(data)
        if last:
            self.request_done = True
        app = self.app
        if app is not None:
            self._body = None  # part of it is gone: it cannot be sent again
            app.send(data, last)
        elif not self.over:
            self._body = (self._body or b"") + data

    def client_full(self) -> None:
        """The client reads too slowly."""
        if self.app is not None:
            self.app.hold()

    def client_ready(self) -> None:
        """The client reads again."""
        if self.app is not None:
            self.app.resume()

    def client_gone(self, failure: Failure) -> None:
        """The client's connection is lost, or it broke its own request off."""
        if self.over:
            return
        self.failure = failure
        if not self.responded:
            self.status = failure.status or 499
        self.end()

    # ── from the app ──────────────────────────────────────────────────────────────────────────────────────────────

    def connected(self, app: UpstreamStream, now: float) -> None:
        """A connection is lent: send what there is of the request."""
        body = self._body or b""
        if body and len(body) > MAX_KEPT:
            self._body = None
        self.app = app
        self.attempts += 1
        self.sent_at = now
        done = self.request_done
        if not done:
            self.client.resume()  # before the app can say that this is already too much for it
        app.request(self, body, done)

    def app_full(self) -> None:
        """The app reads too slowly."""
        if not self.request_done:
            self.client.hold()

    def app_ready(self) -> None:
        """The app reads again."""
        if not self.request_done:
            self.client.resume()

    def interim(self, head: ResponseHead) -> None:
        """A 1xx: passed on to those who understand it (RFC 9110 15.2)."""
        if self.line.minor:
            self.client.inform(head)

    def response(self, head: ResponseHead, data: bytes, last: bool, now: float) -> None:
        """The final head and the first piece of the body."""
        self.responded = True
        self.status = head.status
        self.header_seconds = now - self.sent_at
        self.bytes_out = len(data)
        if last:
            self.app = None
            self.over = True
        self.client.respond(head, data, last, now)

    def switched(self, head: ResponseHead, data: bytes, now: float) -> None:
        """The app agrees to the upgrade that the client asked for: a tunnel from here on (RFC 9110 7.8)."""
        self.responded = True
        self.status = head.status
        self.header_seconds = now - self.sent_at
        self.bytes_out = len(data)
        self.request_done = False  # from here on an app that reads too slowly holds its client
        self.first_to_end = b""
        self.client.switch(head, data, now)

    def response_body(self, data: bytes) -> None:
        """More of the response's body."""
        self.bytes_out += len(data)
        self.client.send(data)

    def response_end(self) -> None:
        """The response is complete, and its connection already taken back."""
        self.app = None
        self.over = True
        self.client.finish()

    def failed(self, failure: Failure) -> None:
        """The connection could not be made, or it broke, or what came over it was wrong."""
        if self.over:
            return
        app = self.app
        self.app = None
        if self.responded:
            self.failure = failure
            self.over = True
            self.client.abort(failure)
        elif self._may_retry(failure, app) and self.lender is not None and self.lender.retried(failure):
            fresh = self.lender.lend(self, True)
            if fresh is not None:
                self.app = fresh
                self.connected(fresh, self.sent_at)
        else:
            self.failure = failure
            self.over = True
            self.client.fail(failure)

    def _may_retry(self, failure: Failure, app: UpstreamStream | None) -> bool:
        """Contract 6: only what never reached an endpoint, or a reused connection that died before it answered."""
        if failure.retry is not Retry.IF_REUSED or app is None or not app.reused:
            return False
        return (
            self.request_done
            and self._body is not None
            and self.line.method in IDEMPOTENT
            and self.attempts < MAX_ATTEMPTS
        )

    # ── the ends of a tunnel ──────────────────────────────────────────────────────────────────────────────────────

    def client_ended(self) -> None:
        """The client has said its last word (FIN)."""
        self._half_ended(b"client")

    def app_ended(self) -> None:
        """The app has said its last word (FIN)."""
        self._half_ended(b"app")

    def _half_ended(self, side: bytes) -> None:
        """Tell the other side; when both have ended, the tunnel has."""
        app = self.app
        if self.over or app is None or self.first_to_end == side:
            return
        if self.first_to_end:
            self.part()
            return
        self.first_to_end = side
        if side == b"client":
            app.end()
        else:
            self.client.end()

    def part(self) -> None:
        """The tunnel is over, in order."""
        self.over = True
        app = self.app
        if app is not None:
            app.part()
            self.app = None
        self.client.part()

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

    def end(self) -> None:
        """Let go of the app, whatever it is doing."""
        self.over = True
        app = self.app
        if app is not None:
            app.abandon()
            self.app = None
        elif self.lender is not None:
            self.lender.forget(self)
