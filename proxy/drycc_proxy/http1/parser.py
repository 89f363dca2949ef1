"""HTTP/1.1 heads: bytes → what they say, or why they are refused. Strict, without I/O, and cheap when lines repeat.

The end of a head is found with ``bytes.find``, its lines with one ``split``; each line is looked up in a bounded memo
of lines that were validated before, so a real client's usual lines cost one look-up each. The lines that clients begin
with (Host, what they are, what they accept) are the same from one request of a connection to the next, even where what
follows differs (Referer, Cookie, a length): they are compared as one piece, the :class:`Opening`. A line not seen
before is judged in time that grows with its length alone. Values of ``Cookie``, ``Authorization`` and ``Referer`` never
enter the memo, nor do targets with a query.

What is refused, and why, is the table of RFC 9112 with its tolerances closed: a bare LF or CR, obs-fold, space before
a colon, an empty name, control bytes, a second Host, anything unclear about the body's length (RFC 9112 2.2, 5.1, 5.2,
6.1, 6.3; RFC 9110 5.5, 8.6). A proxy that guesses here lets a stranger's bytes become a neighbour's request.

What must not enter: sockets, clocks, routing, and the meaning of a field for the app.
"""

from __future__ import annotations

import re
from itertools import filterfalse
from typing import Final

from drycc_proxy.errors import Failure
from drycc_proxy.http.messages import (
    CHUNKED,
    HOST_VALUE,
    MAX_PORT,
    Malformed,
    Opening,
    RequestFields,
    RequestLine,
    ResponseHead,
    is_plain,
    set_fields,
)

__all__ = ["parse_fields", "parse_request_line", "parse_response"]

MEMO_LINES: Final = 4096
"""Lines remembered; then the memo starts again from empty (an attacker who floods it pays with their own time)."""
MEMO_LINE_BYTES: Final = 512

MEMO_NAMES: Final = 1024
"""Spellings of field names remembered, of at most ``MEMO_NAME_BYTES`` each."""
MEMO_NAME_BYTES: Final = 64

# One field line: a token, a colon, and a value without control bytes other than HTAB (RFC 9110 5.1, 5.5).
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE_BYTES: Final = bytes(byte for byte in range(256) if byte == 0x09 or (byte >= 0x20 and byte != 0x7F))
_REQUEST_LINE: Final = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([\x21\x22\x24-\x7e\x80-\xff]+) HTTP/([0-9])\.([0-9])"
)
_TARGET_BYTES: Final = bytes(byte for byte in range(256) if byte > 0x20 and byte not in b"#\x7f")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: ([\t \x21-\x7e\x80-\xff]*))?")
_LENGTH: Final = re.compile(rb"[0-9]{1,19}")
_CODINGS: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:[ \t]*,[ \t]*[!#$%&'*+\-.^_`|~0-9A-Za-z]+)*")
_REQUEST_ID: Final = re.compile(rb"[0-9A-Za-z._:/+=@-]{1,128}")
_HOPS: Final = re.compile(rb"[0-9]{1,3}")
_KEEP_ALIVE_TIMEOUT: Final = re.compile(rb"(?:^|[ \t,;])timeout=([0-9]{1,5})", re.IGNORECASE)
_MAX_LENGTH: Final = 2**63 - 1
# Schemes that authenticate a connection instead of a request: NTLM, Negotiate (RFC 4559 6) and its successor Nego2.
_CONNECTION_SCHEME: Final = rb"(?:ntlm|negotiate|nego2)(?![!#$%&'*+\-.^_`|~0-9A-Za-z])"
_CREDENTIALS: Final = re.compile(_CONNECTION_SCHEME, re.IGNORECASE)
_CHALLENGES: Final = re.compile(rb"(?:^|,)[ \t]*" + _CONNECTION_SCHEME, re.IGNORECASE)

# What a field line is to the router. KEEP must be 0: the hot loop tests for truth.
KEEP: Final = 0
DROP: Final = 1
HOST: Final = 2
LENGTH: Final = 3
CODING: Final = 4
CONNECTION: Final = 5
EXPECT: Final = 6
UPGRADE: Final = 7
FORWARDED_FOR: Final = 8
FORWARDED_OTHER: Final = 9
REQUEST_ID: Final = 10
CORRELATION_ID: Final = 11
USER_AGENT: Final = 12
REFERER: Final = 13
TE: Final = 14
DATE: Final = 15
KEEP_ALIVE: Final = 16
SECRET: Final = 17  # kept
ALIAS: Final = 18  # dropped, and counted
HOPS: Final = 19
AUTHORIZATION: Final = 20  # kept
CHALLENGE: Final = 21  # kept
PROXY_CHALLENGE: Final = 22

_OPENS: Final = frozenset((HOST, USER_AGENT, CONNECTION))
_NOT_REMEMBERED: Final = frozenset((SECRET, REFERER, AUTHORIZATION, CHALLENGE, PROXY_CHALLENGE))
"""Lines that tell a secret, as the query of a page may be one too."""

_REQUEST_KINDS: Final = {
    b"host": HOST,
    b"content-length": LENGTH,
    b"transfer-encoding": CODING,
    b"connection": CONNECTION,
    b"expect": EXPECT,
    b"upgrade": UPGRADE,
    b"te": TE,
    b"user-agent": USER_AGENT,
    b"referer": REFERER,
    b"cookie": SECRET,
    b"authorization": AUTHORIZATION,
    b"x-request-id": REQUEST_ID,
    b"x-correlation-id": CORRELATION_ID,
    b"x-router-hops": HOPS,
    # hop by hop (RFC 9110 7.6.1) and what would make an app believe in another proxy (httpoxy)
    b"keep-alive": DROP,
    b"proxy-connection": DROP,
    b"proxy-authorization": DROP,
    b"proxy": DROP,
    b"http2-settings": DROP,
    b"trailer": DROP,
    # who the client is: the router's word, or a trusted peer's
    b"x-forwarded-for": FORWARDED_FOR,
    b"x-forwarded-proto": FORWARDED_OTHER,
    b"x-forwarded-host": FORWARDED_OTHER,
    b"x-forwarded-port": FORWARDED_OTHER,
    b"x-real-ip": FORWARDED_OTHER,
    b"forwarded": FORWARDED_OTHER,
    b"x-request-start": FORWARDED_OTHER,
}
_FORWARDED: Final = b"x-forwarded-"
"""Every name that begins so says something about the client, whatever follows: -Prefix, -Ssl, -User, -Client-Cert."""
_ROUTER_OWNED: Final = frozenset(
    name for name, kind in _REQUEST_KINDS.items() if kind not in (USER_AGENT, REFERER, SECRET, AUTHORIZATION, TE)
)
"""Names whose aliases are dropped. An alias is a name that equals one of them after :func:`_folded`."""
_PUNCTUATION: Final = bytes.maketrans(b"!#$%&'*+.^_`|~", b"-" * 14)
"""Every character of a token that is neither a letter nor a digit (RFC 9110 5.6.2) becomes ``-``."""

_RESPONSE_KINDS: Final = {
    b"content-length": LENGTH,
    b"transfer-encoding": CODING,
    b"connection": CONNECTION,
    b"upgrade": UPGRADE,
    b"date": DATE,
    b"keep-alive": KEEP_ALIVE,
    b"proxy-connection": DROP,
    b"www-authenticate": CHALLENGE,
    b"proxy-authenticate": PROXY_CHALLENGE,
    b"trailer": DROP,
    b"x-request-id": DROP,
    b"x-correlation-id": DROP,
    b"x-router-error": DROP,
    b"set-cookie": SECRET,
}
METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"))
"""Those of RFC 9110 and RFC 5789. They are case-sensitive, and there are apps that do not know."""
_usual_methods: Final = {method: method for method in METHODS}
"""So that there is one of each in memory."""
_NEVER_BY_CONNECTION: Final = frozenset(
    _ROUTER_OWNED | {b"set-cookie", b"content-type", b"cookie", b"authorization"}
) - {b"keep-alive", b"te", b"proxy-connection"}
"""Names that ``Connection: name`` cannot remove: framing, routing and what the router itself vouches for."""


Judged = tuple[int, bytes, bytes]
"""``(kind, value, line)`` of a field line."""


class Memo:
    """Lines that were judged before. Bounded: when it is full it starts again from empty.

    ``plain`` holds the lines that are kept as they are, ``special`` those that mean something to the router, with what
    they mean: ``line → (kind, value, line)``. ``names`` has the kinds of names as they were spelt.
    """

    __slots__ = ("kinds", "names", "plain", "special")

    def __init__(self, kinds: dict[bytes, int]) -> None:
        self.kinds = kinds
        self.names: dict[bytes, int] = {}
        self.plain: set[bytes] = set()
        self.special: dict[bytes, Judged] = {}


_request_memo: Final = Memo(_REQUEST_KINDS)
_response_memo: Final = Memo(_RESPONSE_KINDS)
_line_memo: Final[dict[bytes, RequestLine]] = {}


def parse_request_line(line: bytes, max_target: int) -> RequestLine:
    """Judge a request line (RFC 9112 3). Raises Malformed: bad_request, target_too_long or version_not_supported."""
    known = _line_memo.get(line)
    if known is not None:
        return known
    # The usual line needs no search for words: a method of the list, and nothing in between that is no target.
    method = _usual_methods.get(line[: line.find(b" ")], b"")
    target = line[len(method) + 1 : -9]
    minor = 1
    if not (method and target and line.endswith(b" HTTP/1.1") and not target.translate(None, _TARGET_BYTES)):
        method, target, minor = _read_words(line)
    if len(target) > max_target:
        raise Malformed(Failure.TARGET_TOO_LONG, f"the target has more than {max_target} bytes")
    known = RequestLine(method, target, minor, is_plain(method, target))
    # Queries carry tokens: those lines are never remembered.
    if len(line) <= MEMO_LINE_BYTES and 0x3F not in target:
        if len(_line_memo) >= MEMO_LINES:
            _line_memo.clear()
        _line_memo[line] = known
    return known


def _read_words(line: bytes) -> tuple[bytes, bytes, int]:
    """``(method, target, minor version)`` of any request line. Raises Malformed."""
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise Malformed(Failure.BAD_REQUEST, "the request line is not 'method SP target SP HTTP/1.1'")
    method, target, major, minor = match.groups()
    if major != b"1":
        raise Malformed(Failure.VERSION_NOT_SUPPORTED, "the major version is not 1")
    if method not in METHODS and method.upper() in METHODS:
        # RFC 9110 9.1: another method. Apps that take it for the usual one would be asked what the gate did not judge.
        raise Malformed(Failure.BAD_REQUEST, "a method in the wrong letter case")
    # A higher minor version of the same major is answered as 1.1 (RFC 9110 2.5).
    return method, target, 0 if minor == b"0" else 1


def _judge(line: bytes, memo: Memo) -> Judged:
    """What a field line is that is not remembered; remembers it. Raises Malformed bad_request."""
    spelt, colon, value = line.partition(b":")
    kind = memo.names.get(spelt, -1)
    if kind < 0:
        kind = _judge_name(spelt, memo)
    if not colon or line.translate(None, _VALUE_BYTES):
        raise Malformed(Failure.BAD_REQUEST, "a field line is not 'name: value'")
    if kind in _NOT_REMEMBERED:
        return kind, value.strip(b" \t"), line
    if kind == KEEP:
        if len(line) <= MEMO_LINE_BYTES:
            if len(memo.plain) >= MEMO_LINES:
                memo.plain.clear()
            memo.plain.add(line)
        return kind, value, line
    judged = kind, value.strip(b" \t"), line
    if len(line) <= MEMO_LINE_BYTES:
        if len(memo.special) >= MEMO_LINES:
            memo.special.clear()
        memo.special[line] = judged
    return judged


def _judge_name(spelt: bytes, memo: Memo) -> int:
    """The kind of fields of a name that was not spelt so before. Raises Malformed bad_request."""
    if _TOKEN.fullmatch(spelt) is None:
        raise Malformed(Failure.BAD_REQUEST, "a field line is not 'name: value'")
    name = spelt.lower()
    kind = memo.kinds.get(name, KEEP)
    if kind == KEEP:
        asked = memo.kinds is _REQUEST_KINDS
        if asked and name.startswith(_FORWARDED):
            kind = FORWARDED_OTHER
        else:
            meant = _folded(name)
            if meant != name and (meant in _ROUTER_OWNED or (asked and meant.startswith(_FORWARDED))):
                kind = ALIAS
    if len(spelt) <= MEMO_NAME_BYTES:
        if len(memo.names) >= MEMO_NAMES:
            memo.names.clear()
        memo.names[spelt] = kind
    return kind


def _folded(name: bytes) -> bytes:
    """A field name in lower case as servers read it that make an environment variable of it (RFC 3875 4.1.18): CGI,
    WSGI and PHP turn ``-`` and every other character that is neither a letter nor a digit into the same ``_``."""
    return name.translate(_PUNCTUATION)


def _sort(lines: list[bytes], memo: Memo) -> tuple[list[bytes], list[Judged]]:
    """``(lines to keep, special lines)``, each in order.

    The usual head has no plain line that was not seen before: two passes in C sort it. Otherwise the lines are taken
    one by one, so that repeated fields keep their order (RFC 9110 5.3).
    """
    known = memo.plain.__contains__
    keep = list(filter(known, lines))
    special: list[Judged] = []
    if len(keep) != len(lines):
        recall = memo.special.get
        for line in filterfalse(known, lines):
            judged = recall(line) or _judge(line, memo)
            if not judged[0]:
                break
            special.append(judged)
        else:
            return keep, special
        keep.clear()
        special.clear()
        for line in lines:
            if line in memo.plain:
                keep.append(line)
                continue
            judged = recall(line) or _judge(line, memo)
            if judged[0]:
                special.append(judged)
            else:
                keep.append(line)
    return keep, special


def parse_fields(
    block: bytes, max_fields: int, before: Opening | None = None, last: bytes = b"", at: int = 0
) -> RequestFields:
    """Judge a request's header section: the bytes between the request line's CRLF and the empty line.

    ``last`` is the head that came before it on its connection, whose header section begins ``at`` and has the opening
    ``before``, if any: what begins as that did is judged only from there on. An opening is made of what is there for
    the second time, so that it costs those nothing who ask but once, and little who never repeat anything.

    Lines that mean something to the router move behind the others, which changes nothing for the app: only the order of
    lines of one name counts (RFC 9110 5.3), and that is kept. Raises Malformed with bad_request, bad_host, bad_framing,
    coding_not_implemented, expectation_failed or head_too_large (too many fields).
    """
    fields = RequestFields()
    if not block:
        return fields
    if before is not None and block.startswith(before.raw):
        lines = block[len(before.raw) :].split(b"\r\n")
        if len(lines) + before.count > max_fields:
            raise Malformed(Failure.HEAD_TOO_LARGE, f"more than {max_fields} fields")
        fields.rest, special = _sort(lines, _request_memo)
        opening: Opening | None = before
    else:
        lines = block.split(b"\r\n")
        if len(lines) > max_fields:
            raise Malformed(Failure.HEAD_TOO_LARGE, f"more than {max_fields} fields")
        fields.rest, special = _sort(lines, _request_memo)
        opening = _take_opening(block, last, at, fields, special) if last else None
    if opening is not None:
        fields.opening = opening
        fields.host = opening.host
        fields.name = opening.name
        fields.user_agent = opening.user_agent
        fields.keep_alive = opening.keep_alive
    if special:
        _read_special(fields, special)
    return fields


def _take_opening(block: bytes, last: bytes, at: int, fields: RequestFields, special: list[Judged]) -> Opening | None:
    """Take the opening of a block off its sorted lines, if the last one began like it, and another line follows.

    Raises Malformed bad_host.
    """
    seen = 0
    count = 0
    behind = b""
    for kind, value, line in special:
        if seen & 1 << kind:
            return None  # of whatever should be there once, let nothing be overlooked
        if kind not in _OPENS or (kind == CONNECTION and value.lower() != b"keep-alive"):
            behind = line
            break
        seen |= 1 << kind
        count += 1
    if not behind or not seen & 1 << HOST:
        return None
    end = block.find(b"\r\n" + behind) + 2  # no line before it has its name
    raw = block[:end]
    if not last.startswith(raw, at):
        return None
    opening = Opening(raw, raw.count(b"\r\n"))
    plain = opening.count - count
    kept = fields.rest[:plain]
    for kind, value, line in special[:count]:
        if kind == HOST:
            opening.host = value
            opening.name = _names.get(value) or _remember_name(value)
        elif kind == USER_AGENT:
            opening.user_agent = value
            kept.append(line)
        else:
            opening.keep_alive = True
    kept.append(b"")
    opening.kept = b"\r\n".join(kept)
    del fields.rest[:plain]
    del special[:count]
    return opening


def _read_special(fields: RequestFields, special: list[Judged]) -> None:
    """What the lines that mean something to the router say, taken together."""
    hosts = 0 if fields.opening is None else 1
    lengths: list[bytes] | None = None
    codings: list[bytes] | None = None
    named: list[bytes] | None = None
    upgrade: bytes | None = None
    trailers = False
    for kind, value, line in special:
        if kind == HOST:
            hosts += 1
            fields.host = value
        elif kind == USER_AGENT:
            fields.user_agent = value
            fields.rest.append(line)
        elif kind == REFERER:
            fields.referer = value
            fields.rest.append(line)
        elif kind == SECRET:
            fields.rest.append(line)
        elif kind == AUTHORIZATION:
            fields.rest.append(line)
            if _CREDENTIALS.match(value) is not None:
                fields.binds = True
        elif kind == CONNECTION:
            named = _read_connection(fields, value, named)
        elif kind == LENGTH:
            lengths = [value] if lengths is None else [*lengths, value]
        elif kind == CODING:
            codings = [value] if codings is None else [*codings, value]
        elif kind == FORWARDED_FOR:
            fields.forwarded_for = (*fields.forwarded_for, value)
        elif kind == FORWARDED_OTHER:
            fields.forwarded = (*fields.forwarded, line)
        elif kind == REQUEST_ID:
            if fields.request_id == b"" and _REQUEST_ID.fullmatch(value) is not None:
                fields.request_id = value
        elif kind == CORRELATION_ID:
            if fields.correlation_id == b"" and _REQUEST_ID.fullmatch(value) is not None:
                fields.correlation_id = value
        elif kind == HOPS:
            if _HOPS.fullmatch(value) is not None:
                fields.hops = max(fields.hops, int(value))
        elif kind == EXPECT:
            if value.lower() != b"100-continue" or fields.expect:
                raise Malformed(Failure.EXPECTATION_FAILED, "an expectation other than 100-continue")
            fields.expect = True
        elif kind == UPGRADE:
            upgrade = value.lower() if upgrade is None else b"more than one"
        elif kind == ALIAS:
            fields.aliases += 1
        elif kind == TE:
            trailers = trailers or b"trailers" in [part.strip(b" \t") for part in value.lower().split(b",")]
    if hosts > 1:
        raise Malformed(Failure.BAD_HOST, "more than one Host")
    if not fields.name and fields.host:
        fields.name = _names.get(fields.host) or _remember_name(fields.host)
    if lengths is not None or codings is not None:
        _read_framing(fields, lengths or [], codings or [])
    if named is not None:
        if upgrade == b"websocket" and b"upgrade" in named:
            fields.upgrade = b"websocket"
        if fields.opening is not None:  # what it names may be anywhere
            fields.rest = fields.lines
            fields.opening = None
        _remove_named(fields.rest, named)
    if trailers:  # after the removal: whoever sends it as it should be sent names it in Connection
        fields.rest.append(b"TE: trailers")


def _read_connection(fields: RequestFields, value: bytes, named: list[bytes] | None) -> list[bytes] | None:
    """Note ``close`` and ``keep-alive``; return the other names listed so far."""
    low = value.lower()
    if low == b"keep-alive":
        fields.keep_alive = True
    elif low == b"close":
        fields.close = True
    else:
        named = [] if named is None else named
        for part in low.split(b","):
            name = part.strip(b" \t")
            if name == b"close":
                fields.close = True
            elif name == b"keep-alive":
                fields.keep_alive = True
            elif name:
                named.append(name)
    return named


def _remove_named(lines: list[bytes], named: list[bytes]) -> None:
    """Remove the fields that ``Connection`` lists, except those that nobody may remove that way (RFC 9110 7.6.1)."""
    gone = {name for name in named if name not in _NEVER_BY_CONNECTION}
    if gone:
        lines[:] = [line for line in lines if line[: line.index(b":")].lower() not in gone]


def _read_framing(fields: RequestFields, lengths: list[bytes], codings: list[bytes]) -> None:
    """How long the body is (RFC 9112 6.1 and 6.3), with every doubt refused."""
    if codings:
        if lengths:
            raise Malformed(Failure.BAD_FRAMING, "both Content-Length and Transfer-Encoding")
        if len(codings) == 1 and codings[0].lower() == b"chunked":
            fields.length = CHUNKED
            return
        if len(codings) == 1 and _CODINGS.fullmatch(codings[0]) is not None:
            last = codings[0].rpartition(b",")[2].strip(b" \t")
            if last.lower() != b"chunked":
                # RFC 9112 6.3: the length of the body cannot be determined.
                raise Malformed(Failure.BAD_FRAMING, "the last transfer coding is not chunked")
            raise Malformed(Failure.CODING_NOT_IMPLEMENTED, "a transfer coding other than chunked")
        raise Malformed(Failure.BAD_FRAMING, "Transfer-Encoding is not exactly one 'chunked'")
    if lengths:
        fields.length = parse_length(lengths)
        fields.stated = True


def parse_length(values: list[bytes]) -> int:
    """The one Content-Length: 1 to 19 ASCII digits, at most 2^63 - 1 (RFC 9110 8.6). Repeats are refused, equal or not.

    ``int()`` alone would take ``+5``, ``1_0`` and digits of other scripts.
    """
    if len(values) != 1 or _LENGTH.fullmatch(values[0]) is None:
        raise Malformed(Failure.BAD_FRAMING, "Content-Length is not one decimal number")
    length = int(values[0])
    if length > _MAX_LENGTH:
        raise Malformed(Failure.BAD_FRAMING, "Content-Length is beyond 2^63 - 1")
    return length


_names: Final[dict[bytes, bytes]] = {}


def _remember_name(host: bytes) -> bytes:
    """:func:`canonical_name`, remembered."""
    name = canonical_name(host)
    if len(_names) >= MEMO_LINES:
        _names.clear()
    _names[host] = name
    return name


def canonical_name(host: bytes) -> bytes:
    """The name in a Host value: lower case, without port and trailing dot (RFC 9110 7.2). Empty Host stays empty.

    Raises Malformed bad_host for anything but LDH names with dots and underscores, or bracketed IPv6, and for a port
    above 65535.
    """
    if not host:
        return b""
    match = HOST_VALUE.fullmatch(host)
    if match is None:
        raise Malformed(Failure.BAD_HOST, "Host is not 'name' or 'name:port'")
    name, port = match.groups()
    if port and int(port) > MAX_PORT:
        raise Malformed(Failure.BAD_HOST, "the port in Host is above 65535")
    if name is None:  # a bracketed IPv6 address
        return host[: host.index(b"]") + 1].lower()
    name = name.lower()
    return name[:-1] if name.endswith(b".") else name


def parse_response(block: bytes, max_fields: int) -> ResponseHead:
    """Judge a response's head: the bytes before the empty line, status line first.

    Raises Malformed bad_response (RFC 9112 4, 6.3): the app's answer is never repaired, because what one parser repairs
    another reads differently.
    """
    lines = block.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(lines[0])
    if match is None:
        raise Malformed(Failure.BAD_RESPONSE, "the status line is not 'HTTP/1.1 SP status SP reason'")
    if len(lines) - 1 > max_fields:
        raise Malformed(Failure.RESPONSE_HEAD_TOO_LARGE, f"more than {max_fields} fields")
    minor = 0 if match.group(1) == b"0" else 1  # a higher minor version is read as 1.1 (RFC 9110 2.5)
    status = int(match.group(2))
    head = ResponseHead(status, b"HTTP/1.1 %d %b\r\n" % (status, match.group(3) or b""), minor)
    try:
        keep, special = _sort(lines[1:], _response_memo)
        if special:
            _read_response_special(head, keep, special)
    except Malformed as error:
        raise Malformed(Failure.BAD_RESPONSE, str(error)) from None
    if status < 200 or status == 204:
        # Such a response has no body, and may not say how long it is (RFC 9110 8.6, RFC 9112 6.1).
        head.length = 0
        head.stated = False
    elif status == 304 and head.length < 0:
        head.length = 0
        head.stated = False
    set_fields(head, keep)
    return head


def _read_response_special(head: ResponseHead, keep: list[bytes], special: list[Judged]) -> None:
    """What a response's framing and connection fields say, taken together."""
    lengths: list[bytes] = []
    codings: list[bytes] = []
    named: list[bytes] = []
    binds = False
    for kind, value, line in special:
        if kind == LENGTH:
            lengths.append(value)
        elif kind == DATE:
            head.has_date = True
            keep.append(line)
        elif kind == SECRET:
            keep.append(line)
        elif kind == CONNECTION:
            for part in value.lower().split(b","):
                name = part.strip(b" \t")
                if name == b"close":
                    head.reusable = False
                elif name == b"keep-alive":
                    head.reusable = True
                elif name:
                    named.append(name)
        elif kind == CODING:
            codings.append(value)
        elif kind == KEEP_ALIVE:
            match = _KEEP_ALIVE_TIMEOUT.search(value)
            if match is not None:
                head.idle = int(match.group(1))
        elif kind == UPGRADE:
            head.upgrade = b"more than one" if head.upgrade else value.lower()
        elif kind in (CHALLENGE, PROXY_CHALLENGE):
            binds = binds or _CHALLENGES.search(value) is not None
            if kind == CHALLENGE:
                keep.append(line)
    if binds and head.reusable:
        head.binds = True
        head.reusable = False
    if head.upgrade and b"upgrade" not in named:
        head.upgrade = b""  # a field that is not meant for us (RFC 9110 7.8)
    if named:
        _remove_named(keep, named)
    if codings:
        if lengths or head.minor == 0 or len(codings) != 1 or codings[0].lower() != b"chunked":
            raise Malformed(Failure.BAD_RESPONSE, "the length of the body is not clear")
        head.length = CHUNKED
        head.stated = True
    elif lengths:
        head.length = parse_length(lengths)
        head.stated = True
