"""Access log: one line per request or stream, made in batches away from the request, in one of three formats.

``json`` is for machines (names as Envoy's where Envoy has one), ``combined`` is what every log reader knows, ``deis``
is the ancestors' fourteen fields for parsers that exist. Query strings, cookies and credentials never enter a line;
what came from a stranger is escaped so that one request is always one line.

What must not enter: files and pipes (``telemetry.log_sink``), and any look at a request before it is over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from time import gmtime
from typing import Final, Protocol

from drycc_proxy.errors import Failure
from drycc_proxy.http.exchange import Exchange
from drycc_proxy.http.forwarding import Peer
from drycc_proxy.http.messages import RequestLine
from drycc_proxy.kernel.clock import now, wall
from drycc_proxy.kernel.internal_errors import note
from drycc_proxy.metrics import Counters
from drycc_proxy.routing.definitions import StreamRoute

__all__ = ["FORMATS", "AccessLog"]

MAX_BATCH: Final = 256
"""Lines gathered before they are written, if a tenth of a second does not pass first."""
MAX_MADE: Final = 32
"""Exchanges gathered before their lines are made: one whose fields are all doubtful takes forty microseconds."""
MAX_STRAYS: Final = 1000
"""Lines a second about requests that met no route: scanners and floods fill no disk (hardening S-11)."""
MAX_FIELD: Final = 1024
"""Bytes of a value that came from a stranger, as they stand in a line. There are three of them, beside names that are
short by their grammar, so that a line has at most the 4,096 bytes that a pipe takes from one process at a time."""

_UNSAFE: Final = re.compile(rb"[^\x20\x21\x23-\x5b\x5d-\x7e]")
"""Control bytes, the quote, the backslash and everything beyond ASCII."""
_SAFE: Final = bytes(byte for byte in range(256) if _UNSAFE.match(bytes([byte])) is None)
"""All others. Taking them away to see what is left is twice as fast as the search."""
_WHOLE: Final = re.compile(rb"(?:[^\\]|\\u[0-9a-f]{4}|\\x[0-9A-F]{2}|\\[^ux])*")
"""Escapes that are complete, and everything else."""
_SEPARATOR: Final = re.compile(rb"(?<= )-(?= )")
"""What readers of the deis format split on; inside a field it would shift all that follow."""
_THOUSANDTHS: Final = tuple(b"%03d" % number for number in range(1000))
"""Three digits each: a look-up costs less than a format with a width."""
_MONTHS: Final = (b"", b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")


def json_text(value: bytes) -> bytes:
    """The inside of a JSON string: ASCII only, bytes beyond it as the Latin-1 code points they are on the wire."""
    value = value[:MAX_FIELD]
    if not value.translate(None, _SAFE):
        return value
    return _cut(json.dumps(value.decode("latin-1"))[1:-1].encode("ascii"))


def quoted_text(value: bytes) -> bytes:
    """The inside of a quoted field of the text formats: ``-`` when empty, everything doubtful as ``\\xHH``."""
    value = value[:MAX_FIELD]
    if not value:
        return b"-"
    return _cut(_UNSAFE.sub(lambda match: b"\\x%02X" % match.group()[0], value))


def _cut(escaped: bytes) -> bytes:
    """As much as may stand in a line, with no escape cut in two."""
    if len(escaped) <= MAX_FIELD:
        return escaped
    match = _WHOLE.match(escaped, 0, MAX_FIELD)
    return match.group() if match else b""


def _path(line: RequestLine) -> bytes:
    """The target without its query."""
    target = line.target
    mark = target.find(b"?")
    return target if mark < 0 else target[:mark]


def _request(line: RequestLine) -> bytes:
    """The request line of the text formats, without its query; ``-`` for what was no request line."""
    if not line.method:
        return b"-"
    return b"%b %b HTTP/1.%d" % (line.method, quoted_text(_path(line)), line.minor)


class FinishedStream(Protocol):
    """What a line says of a connection on a port of its own that is over (``streams.listener.Stream``)."""

    @property
    def route(self) -> StreamRoute: ...
    @property
    def client_address(self) -> str: ...
    @property
    def endpoint_label(self) -> bytes: ...
    @property
    def started(self) -> float:
        """Monotonic seconds."""

    @property
    def took(self) -> float: ...
    @property
    def dialled(self) -> float:
        """Seconds until an endpoint had been reached; negative: none was."""

    @property
    def attempts(self) -> int: ...
    @property
    def bytes_in(self) -> int: ...
    @property
    def bytes_out(self) -> int: ...
    @property
    def failure(self) -> Failure | None: ...
    @property
    def reason(self) -> str:
        """Why it ended: the failure's name, or who said the last word first."""


class AccessLog:
    """Gathers exchanges that are over and hands finished lines to a sink."""

    __slots__ = (
        "_counters",
        "_day",
        "_format",
        "_iso",
        "_lines",
        "_pending",
        "_second",
        "_sink",
        "_strays",
        "_strays_second",
        "_strays_seen",
        "_stream_format",
        "_streams",
        "active",
    )

    def __init__(self, sink: Callable[[bytes], bool] | None, counters: Counters) -> None:
        self._sink = sink
        self._counters = counters
        self._format: Callable[[AccessLog, Exchange, Peer, float], bytes] = AccessLog._json
        self._stream_format: Callable[[AccessLog, FinishedStream, float], bytes] = AccessLog._json_stream
        self._pending: list[tuple[Exchange, Peer]] = []
        self._streams: list[FinishedStream] = []
        self._lines: list[bytes] = []
        """Made, and not handed over yet."""
        self._strays = 0
        self._strays_second = 0
        self._strays_seen = 0
        self._second = -1
        self._iso = b""
        self._day = b""
        self.active = sink is not None

    def configure(self, name: str, enabled: bool) -> None:
        """Switch format, or off. Lines gathered so far are written as they were meant."""
        self.flush()
        self._format = FORMATS[name]
        self._stream_format = STREAM_FORMATS[name]
        self.active = enabled and self._sink is not None

    def add(self, exchange: Exchange, peer: Peer) -> None:
        """Note an exchange that is over."""
        pending = self._pending
        pending.append((exchange, peer))
        if len(pending) >= MAX_MADE:
            self._make()

    def add_stream(self, stream: FinishedStream) -> None:
        """Note a stream that is over."""
        self._streams.append(stream)
        if len(self._streams) >= MAX_MADE:
            self._make()

    def flush(self) -> None:
        """Write what was gathered. Called at every turn of the wheel; never blocks."""
        self._make()
        self._hand_over()

    def _make(self) -> None:
        """Make the lines of what was gathered, and hand them over if there are many."""
        if (self._pending or self._streams) and self._sink is not None:
            pending, self._pending = self._pending, []
            streams, self._streams = self._streams, []
            try:
                self._write(pending, streams)
            except Exception as error:
                note(self._counters, "log", error)
                self._counters.log_dropped += len(pending) + len(streams)
            if len(self._lines) >= MAX_BATCH:
                self._hand_over()

    def _hand_over(self) -> None:
        """Give the sink the lines that were made."""
        lines, self._lines = self._lines, []
        if not lines or self._sink is None:
            return
        counters = self._counters
        try:
            counters.log_lines += len(lines)
            if not self._sink(b"".join(lines)):
                counters.log_dropped += len(lines)
        except Exception as error:
            note(counters, "log", error)
            counters.log_dropped += len(lines)

    def _write(self, pending: list[tuple[Exchange, Peer]], streams: list[FinishedStream]) -> None:
        pending = self._spare(pending)
        offset = wall() - now()
        make = self._format
        try:
            lines = [make(self, exchange, peer, offset) for exchange, peer in pending]
        except Exception as error:
            lines = self._one_by_one(make, pending, offset, error)
        if streams:
            make_stream = self._stream_format
            lines += [make_stream(self, stream, offset) for stream in streams]
        self._lines += lines

    def _one_by_one(
        self,
        make: Callable[[AccessLog, Exchange, Peer, float], bytes],
        pending: list[tuple[Exchange, Peer]],
        offset: float,
        error: Exception,
    ) -> list[bytes]:
        """One line could not be made, which is a mistake of ours: the others of its batch are."""
        note(self._counters, "log", error)
        lines = []
        for exchange, peer in pending:
            try:
                lines.append(make(self, exchange, peer, offset))
            except Exception:  # told already, by the first of them
                self._counters.log_dropped += 1
        return lines

    def _spare(self, pending: list[tuple[Exchange, Peer]]) -> list[tuple[Exchange, Peer]]:
        """Leave out requests that met no route beyond :data:`MAX_STRAYS` a second. Told from counters that are there
        anyhow, so that looking costs a batch something and a request nothing."""
        second = int(now())
        if second != self._strays_second:
            self._strays_second = second
            self._strays = 0
        seen = sum(self._counters.unrouted.requests.values())
        fresh, self._strays_seen = seen - self._strays_seen, seen
        room = MAX_STRAYS - self._strays
        self._strays += fresh
        if fresh <= room:
            return pending
        kept = []
        for each in pending:
            if each[0].route is None:
                room -= 1
                if room < 0:
                    continue
            kept.append(each)
        self._counters.log_spared += len(pending) - len(kept)
        return kept

    def _stamp(self, at: float) -> None:
        """Make the texts of a second that was not seen last time."""
        second = int(at)
        if second != self._second:
            self._second = second
            t = gmtime(second)
            self._iso = b"%04d-%02d-%02dT%02d:%02d:%02d" % t[:6]
            self._day = b"%02d/%b/%04d:%02d:%02d:%02d +0000" % (t[2], _MONTHS[t[1]], t[0], t[3], t[4], t[5])

    def _json(self, exchange: Exchange, peer: Peer, offset: float) -> bytes:
        fields = exchange.fields
        route = exchange.route
        if fields.log and fields.log_route is route:
            tail = fields.log
        else:
            tail = _json_tail(exchange, peer)
            fields.log = tail
            fields.log_route = route
        line = exchange.line
        start = line.log
        if not start:
            start = line.log = _json_line(line)
        began = exchange.started + offset
        if int(began) != self._second:
            self._stamp(began)
        failure = exchange.failure
        header = exchange.header_seconds
        if header >= 0.0:
            times = b'"ttfb_ms":%.3f,"overhead_ms":%.3f' % (header * 1e3, (exchange.sent_at - exchange.started) * 1e3)
        else:
            times = b'"ttfb_ms":null,"overhead_ms":null'
        return (
            b'{"time":"%b.%bZ","response_code":%d,%b,"duration_ms":%.3f,%b,"upstream_host":"%b","attempts":%d,'
            b'"bytes_in":%d,"bytes_out":%d,"error_reason":"%b","request_id":"%b",%b}\n'
        ) % (
            self._iso,
            _THOUSANDTHS[int(began * 1000) % 1000],
            exchange.status,
            start,
            exchange.took * 1e3,
            times,
            exchange.endpoint,
            exchange.attempts,
            exchange.bytes_in,
            exchange.bytes_out,
            failure.value.encode() if failure is not None else b"",
            exchange.identity,
            tail,
        )

    def _combined(self, exchange: Exchange, peer: Peer, offset: float) -> bytes:
        fields = exchange.fields
        self._stamp(exchange.started + offset)
        return b'%b - - [%b] "%b" %d %d "%b" "%b"\n' % (
            (fields.client or peer.address).encode(),
            self._day,
            _request(exchange.line),
            exchange.status,
            exchange.bytes_out,
            quoted_text(_without_query(fields.referer)),
            quoted_text(fields.user_agent),
        )

    def _deis(self, exchange: Exchange, peer: Peer, offset: float) -> bytes:
        """Fields and order of lineage 2.8; readers split on `` - ``."""
        fields = exchange.fields
        route = exchange.route
        app = route.app if route is not None else "router-default-vhost"
        self._stamp(exchange.started + offset)
        header = exchange.header_seconds
        return b'[%b+00:00] - %b - %b - %b - %d - "%b" - %d - "%b" - "%b" - "%b" - %b - %b - %b - %b\n' % (
            self._iso,
            app.encode(),
            (fields.client or peer.address).encode(),
            b"-",
            exchange.status,
            _request(exchange.line),
            exchange.bytes_out,
            _cut(_SEPARATOR.sub(rb"\\x2D", quoted_text(_without_query(fields.referer)))),
            _cut(_SEPARATOR.sub(rb"\\x2D", quoted_text(fields.user_agent))),
            quoted_text(fields.name),
            exchange.endpoint or b"-",
            quoted_text(fields.host),
            b"%.3f" % header if header >= 0.0 else b"-",
            b"%.3f" % exchange.took,
        )

    # ── streams ───────────────────────────────────────────────────────────────────────────────────────────────────
    # They have no request. Codes are those of nginx's stream module: 200 for whatever ended by itself.

    def _json_stream(self, stream: FinishedStream, offset: float) -> bytes:
        route = stream.route
        began = stream.started + offset
        self._stamp(began)
        names = {"app": route.app, "namespace": route.namespace, "service": route.service}
        failure = stream.failure
        return (
            b'{"time":"%b.%03dZ","response_code":%d,"protocol":"tcp","stream":"%b","duration_ms":%.3f,'
            b'"dial_ms":%b,"upstream_host":"%b","attempts":%d,"bytes_in":%d,"bytes_out":%d,"error_reason":"%b",'
            b'"close_reason":"%b",%b,"downstream_remote_address":"%b"}\n'
        ) % (
            self._iso,
            int(began * 1000) % 1000,
            (failure.status if failure else 0) or 200,
            route.name.encode(),
            stream.took * 1e3,
            b"%.3f" % (stream.dialled * 1e3) if stream.dialled >= 0.0 else b"null",
            stream.endpoint_label,
            stream.attempts,
            stream.bytes_in,
            stream.bytes_out,
            failure.value.encode() if failure else b"",
            stream.reason.encode(),
            json.dumps(names)[1:-1].encode(),
            stream.client_address.encode(),
        )

    def _combined_stream(self, stream: FinishedStream, offset: float) -> bytes:
        self._stamp(stream.started + offset)
        failure = stream.failure
        return b'%b - - [%b] "TCP %b" %d %d "-" "-"\n' % (
            stream.client_address.encode(),
            self._day,
            stream.route.name.encode(),
            (failure.status if failure else 0) or 200,
            stream.bytes_out,
        )

    def _deis_stream(self, stream: FinishedStream, offset: float) -> bytes:
        self._stamp(stream.started + offset)
        failure = stream.failure
        return b'[%b+00:00] - %b - %b - - - %d - "TCP %b" - %d - "-" - "-" - "-" - %b - - - - - %.3f\n' % (
            self._iso,
            stream.route.app.encode(),
            stream.client_address.encode(),
            (failure.status if failure else 0) or 200,
            stream.route.name.encode(),
            stream.bytes_out,
            stream.endpoint_label or b"-",
            stream.took,
        )


def _json_tail(exchange: Exchange, peer: Peer) -> bytes:
    """The part of a line that repeats while the same client asks the same app with the same fields."""
    fields = exchange.fields
    route = exchange.route
    label = route.label if route is not None else b'"app": "", "namespace": "", "service": ""'
    host, agent, referer = fields.host, fields.user_agent, _without_query(fields.referer)
    if len(agent) > MAX_FIELD or len(referer) > MAX_FIELD or (host + agent + referer).translate(None, _SAFE):
        host, agent, referer = json_text(host), json_text(agent), json_text(referer)
    return (b'%b,"authority":"%b","scheme":"%b","downstream_remote_address":"%b","user_agent":"%b","referer":"%b"') % (
        label,
        host,
        fields.scheme or (b"https" if peer.secure else b"http"),
        (fields.client or peer.address).encode(),
        agent,
        referer,
    )


def _json_line(line: RequestLine) -> bytes:
    """Method, path and protocol; all empty for what was no request line."""
    if not line.method:
        return b'"method":"","path":"","protocol":""'
    return b'"method":"%b","path":"%b","protocol":"HTTP/1.%d"' % (line.method, json_text(_path(line)), line.minor)


def _without_query(url: bytes) -> bytes:
    """A Referer's query is as secret as a request's."""
    mark = url.find(b"?")
    return url if mark < 0 else url[:mark]


FORMATS: Final[dict[str, Callable[[AccessLog, Exchange, Peer, float], bytes]]] = {
    "json": AccessLog._json,
    "combined": AccessLog._combined,
    "deis": AccessLog._deis,
}
"""By the name the operator writes (``accessLog.format``)."""

STREAM_FORMATS: Final[dict[str, Callable[[AccessLog, FinishedStream, float], bytes]]] = {
    "json": AccessLog._json_stream,
    "combined": AccessLog._combined_stream,
    "deis": AccessLog._deis_stream,
}
