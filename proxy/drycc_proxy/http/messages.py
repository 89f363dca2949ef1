"""Messages: what a request and a response say, whatever protocol brought them. Read once, shared by what repeats them.

What must not enter: how a protocol writes them, sockets, clocks.
"""

from __future__ import annotations

import re
from typing import Final

from drycc_proxy.errors import Failure

__all__ = [
    "CHUNKED",
    "HOST_VALUE",
    "MAX_PORT",
    "PROXY_METHODS",
    "UNTIL_CLOSE",
    "Malformed",
    "Opening",
    "RequestFields",
    "RequestLine",
    "ResponseHead",
    "is_host",
    "is_plain",
    "set_fields",
]

CHUNKED: Final = -1
"""A body whose length is told chunk by chunk."""
UNTIL_CLOSE: Final = -2
"""A response body that ends when its connection does."""

HOST_VALUE: Final = re.compile(rb"(?:([0-9A-Za-z._-]{1,255})|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{0,5}))?")
"""``name``, ``name:port`` or ``[address]:port`` (RFC 9110 7.2)."""
MAX_PORT: Final = 65535
PROXY_METHODS: Final = frozenset((b"CONNECT", b"TRACE"))
"""Those that no app ever sees (RFC 9110 9.3.6 and 9.3.8)."""


class Malformed(Exception):
    """These bytes are not what they should be. ``failure`` says what to answer, the text says what was wrong."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure


class RequestLine:
    """A request line, judged once and shared by every request that repeats it."""

    __slots__ = ("log", "method", "minor", "plain", "target")

    def __init__(self, method: bytes, target: bytes, minor: int, plain: bool = False) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.plain = plain
        """Whether it asks for a path, as it is written, with a method that apps answer (``is_plain``)."""
        self.log = b""
        """Cache: its part of an access-log line."""


class Opening:
    """The first lines of a header section, as far as they usually repeat: Host, User-Agent, ``Connection: keep-alive``,
    each at most once, and those that only the app understands.

    A header section that begins with the same bytes says the same with them.
    """

    __slots__ = ("count", "host", "keep_alive", "kept", "name", "raw", "user_agent")

    def __init__(self, raw: bytes, count: int) -> None:
        self.raw = raw
        """As they came, each with its CRLF."""
        self.count = count
        """How many lines they are."""
        self.kept = b""
        """Those that the app hears, each with its CRLF; Host is not among them."""
        self.host = b""
        self.name = b""
        self.user_agent = b""
        self.keep_alive = False


class RequestFields:
    """A request's header section, judged once. Immutable after it was parsed apart from the two caches.

    The field lines that the app hears are those of the ``opening``, if there is one, and then ``rest``: without CRLF,
    byte for byte as they came; Host, framing, hop-by-hop and forwarded fields are not among them.
    """

    __slots__ = (
        "aliases",
        "binds",
        "client",
        "close",
        "correlation_id",
        "dated",
        "expect",
        "forwarded",
        "forwarded_for",
        "hops",
        "host",
        "keep_alive",
        "length",
        "log",
        "log_route",
        "name",
        "opening",
        "outgoing",
        "referer",
        "request_id",
        "rest",
        "scheme",
        "stated",
        "upgrade",
        "user_agent",
    )

    def __init__(self) -> None:
        self.opening: Opening | None = None
        self.rest: list[bytes] = []
        self.host = b""
        """The Host value as it came, port included; empty when there was none."""
        self.name = b""
        """Host in canonical form: lower case, no port, no trailing dot."""
        self.length = 0
        """Bytes of the body, or CHUNKED."""
        self.stated = False
        """Whether Content-Length was written (a POST of nothing says 0)."""
        self.close = False
        self.keep_alive = False
        self.expect = False
        self.upgrade = b""
        """The one token of ``Upgrade`` when ``Connection`` names it, lower case."""
        self.forwarded_for: tuple[bytes, ...] = ()
        self.forwarded: tuple[bytes, ...] = ()
        """Other lines about the client, as they came (for trusted peers)."""
        self.hops = 0
        """How often the request has passed a router like this one already (hardening M-16)."""
        self.request_id = b""
        """An incoming id, when it is well formed."""
        self.correlation_id = b""
        self.user_agent = b""
        self.referer = b""
        self.aliases = 0
        """Lines dropped because their names are aliases of the router's own."""
        self.binds = False
        """Its credentials are those of whoever speaks on the connection: what carries it to the app carries nobody
        else's requests."""
        self.dated = False
        """``outgoing`` says when the request started: a trusted peer said it."""
        self.client = ""
        """The client's address, and ``scheme`` how it came: filled with ``outgoing``, for one connection."""
        self.scheme = b""
        self.outgoing = b""
        """Cache: the field block that goes to the app, built by ``http.forwarding`` for one connection."""
        self.log = b""
        """Cache: the part of an access-log line that repeats, valid for ``log_route``."""
        self.log_route: object = None

    @property
    def lines(self) -> list[bytes]:
        """All field lines that the app hears."""
        opening = self.opening
        return self.rest if opening is None else [*opening.kept.split(b"\r\n")[:-1], *self.rest]


class ResponseHead:
    """A response's head, judged once.

    ``fields`` is the kept field block, each line with its CRLF, without framing and hop-by-hop fields. ``length`` is
    the body's length, CHUNKED, or UNTIL_CLOSE, before the request's method is considered; ``stated`` tells whether the
    length was written (HEAD and 304 repeat it).
    """

    __slots__ = (
        "beside",
        "binds",
        "fields",
        "framed",
        "has_date",
        "idle",
        "length",
        "line",
        "minor",
        "reusable",
        "stated",
        "status",
        "upgrade",
        "without",
    )

    def __init__(self, status: int, line: bytes, minor: int) -> None:
        self.status = status
        self.line = line
        self.minor = minor
        self.fields = b""
        self.length = UNTIL_CLOSE
        self.stated = False
        self.reusable = minor == 1
        self.binds = False
        """It would be reusable, but for one client only: it asks for credentials that are those of the connection."""
        self.has_date = False
        self.idle = 0
        """Seconds that ``Keep-Alive: timeout=`` promises; 0: not said."""
        self.upgrade = b""
        self.framed = b""
        """Start line, fields and Content-Length in one piece, when nothing else can be needed."""
        self.beside = b""
        """Cache: the router's fields that :func:`drycc_proxy.http.forwarding.stand_beside` last compared this head
        with."""
        self.without: ResponseHead | None = None
        """Cache: this head without the fields whose names stand in ``beside``; None: it has none of them."""


def is_plain(method: bytes, target: bytes) -> bool:
    """Whether a request goes to an app as it is: its target is a path without dot segments and percent-encoding, and
    its method none that only proxies answer.

    A byte is looked for as a number: CPython makes and drops an exception for every ``bytes in bytes``.
    """
    return (
        target[0] == 0x2F
        and 0x25 not in target
        and (0x2E not in target or target.find(b"/.") < 0)
        and method not in PROXY_METHODS
    )


def is_host(value: bytes) -> bool:
    """Whether :func:`drycc_proxy.http1.parser.canonical_name` takes it."""
    match = HOST_VALUE.fullmatch(value)
    return match is not None and (not match.group(2) or int(match.group(2)) <= MAX_PORT)


def set_fields(head: ResponseHead, lines: list[bytes]) -> None:
    """Make these lines, which have no CRLF, the fields of a head that is complete otherwise."""
    head.fields = b"\r\n".join((*lines, b""))
    if head.length >= 0 and head.stated and head.has_date:
        head.framed = b"%b%bContent-Length: %d\r\n" % (head.line, head.fields, head.length)
