"""Our head parser against two others and against the grammar itself.

What we accept, h11 and httptools must accept too and read alike: method, target, fields, framing. What a strict reading
of the grammar accepts, we must accept. Where they differ on purpose:

- h11 refuses bytes beyond ASCII in a target; browsers send them (RFC 9112 3.2 is silent on obs-text there).
- we refuse repeated Content-Length, every coding but one ``chunked``, and lists of lengths; others repair them.
"""

from __future__ import annotations

import contextlib
import re

import h11
import httptools
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from drycc_proxy.http.messages import CHUNKED, Malformed, Opening, RequestFields
from drycc_proxy.http1.parser import parse_fields, parse_request_line, parse_response

TOKEN = st.text(alphabet="!#$%&'*+-.^_`|~0123456789abcXYZ", min_size=1, max_size=12).map(str.encode)
VALUE = st.text(alphabet=[chr(n) for n in (9, *range(32, 127), 0x80, 0xE9, 0xFF)], max_size=20).map(
    lambda text: text.encode("latin-1")
)
KNOWN = st.sampled_from(
    [
        b"Host: a.example",
        b"host:b.example:80",
        b"Content-Length: 5",
        b"Content-Length:05",
        b"Content-Length: 5, 5",
        b"Content-Length: +5",
        b"Transfer-Encoding: chunked",
        b"transfer-encoding: Chunked ",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: xchunked",
        b"Connection: close",
        b"Connection: keep-alive, X",
        b"Expect: 100-continue",
        b"X: y",
        b"Cookie: a=b",
        b"TE: trailers",
        b"Upgrade: websocket",
        b"X-Forwarded-For: 1.2.3.4",
    ]
)
DIRT = st.sampled_from(
    [
        b"",
        b" ",
        b"\t",
        b"\r",
        b"\n",
        b"\x00",
        b"\x0b",
        b"\x7f",
        b"\xa0",
        b"\x85",
        b":",
        b" :",
        b"\r\n",
        b",",
        b";",
        b"_",
        b"\xff",
    ]
)
GOOD_LINE = st.builds(
    lambda name, pad, value: name + b":" + pad + value, TOKEN, st.sampled_from([b"", b" ", b"\t "]), VALUE
)


@st.composite
def soiled(draw: st.DrawFn, clean: st.SearchStrategy[bytes]) -> bytes:
    """A clean thing with a little dirt somewhere."""
    thing = draw(clean)
    at = draw(st.integers(0, len(thing)))
    cut = draw(st.integers(0, 1))
    return thing[:at] + draw(DIRT) + thing[at + cut :]


LINE = st.one_of(KNOWN, KNOWN, GOOD_LINE, soiled(KNOWN), soiled(GOOD_LINE))
LINES = st.lists(LINE, max_size=6)
TARGET = st.text(alphabet="/abc.%2eE?&=*:@!$'(),;[]\"<>|\\^`{}~-_\u00e9", min_size=1, max_size=16).map(
    lambda text: b"/" + text.encode("latin-1")
)
REQUEST_LINE = st.builds(
    lambda method, target, version: b"%b %b HTTP/%b" % (method, target, version),
    TOKEN,
    TARGET,
    st.sampled_from([b"1.1", b"1.1", b"1.0"]),
)


def ours(line: bytes, block: bytes) -> tuple[bytes, bytes, int, RequestFields] | None:
    """What we make of a head; None: refused. The same again, when its lines are remembered, and its opening is."""
    outcomes: list[tuple[bytes, bytes, int, RequestFields] | None] = []
    opening: Opening | None = None
    last = b""
    for _ in range(3):
        try:
            parsed = parse_request_line(line, 16 * 1024)
            fields = parse_fields(block, 100, opening, last)
        except Malformed:
            outcomes.append(None)
        else:
            opening, last = fields.opening, block
            outcomes.append((parsed.method, parsed.target, parsed.minor, fields))
    first = outcomes[0]
    for again in outcomes[1:]:
        if first is None or again is None:
            assert first is again, "judged differently another time"
        else:
            assert first[:3] == again[:3]
            assert_same(first[3], again[3])
    return first


SAID = tuple(name for name in RequestFields.__slots__ if name not in ("opening", "rest"))
"""What a header section says, but for the lines that the app hears."""


def assert_same(one: RequestFields, other: RequestFields) -> None:
    """Both say the same, and the app hears the same: lines of one name in the same order."""
    for name in SAID:
        assert getattr(one, name) == getattr(other, name), name
    for called in {line.partition(b":")[0].lower() for line in (*one.lines, *other.lines)}:
        [mine, theirs] = (
            [line for line in fields.lines if line.partition(b":")[0].lower() == called] for fields in (one, other)
        )
        assert mine == theirs, called


def pairs(block: bytes) -> list[tuple[bytes, bytes]]:
    """Names and values of a block of lines that is known to be good."""
    lines = block.split(b"\r\n") if block else []
    return [(name.lower(), value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)]


class Heard:
    """What httptools tells."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


@given(REQUEST_LINE | soiled(REQUEST_LINE), LINES)
@example(b"GET / HTTP/1.1", [b"Host: a", b"Content-Length: 5", b"Content-Length: 5"])
@example(b"GET / HTTP/1.1", [b"Host: a", b"Transfer-Encoding: chunked", b"Content-Length: 5"])
@example(b"GET / HTTP/1.1", [b"Host: a", b"Transfer-Encoding:\x0bchunked"])
def test_what_we_accept_h11_accepts_and_reads_alike(line: bytes, lines: list[bytes]) -> None:
    block = b"\r\n".join(lines)
    read = ours(line, block)
    assume(read is not None)
    assert read is not None
    method, target, minor, fields = read
    if minor:
        assume(fields.host)  # the presence of Host is asked for elsewhere (http1.downstream)
    assume(target.isascii())
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(line + b"\r\n" + (block + b"\r\n" if block else b"") + b"\r\n")
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    assert (event.method, event.target) == (method, target)
    assert event.http_version == (b"1.1" if minor else b"1.0")
    framing = (b"content-length", b"transfer-encoding")
    theirs = [(name, value) for name, value in event.headers.raw_items()]
    assert [(name.lower(), value) for name, value in theirs if name.lower() not in framing] == [
        pair for pair in pairs(block) if pair[0] not in framing
    ]
    coded = [value for name, value in event.headers if name == b"transfer-encoding"]
    stated = [value for name, value in event.headers if name == b"content-length"]
    assert fields.length == (CHUNKED if coded else int(stated[0]) if stated else 0)


@given(REQUEST_LINE.filter(lambda line: line.startswith((b"GET", b"POST"))) | st.just(b"POST /a HTTP/1.1"), LINES)
def test_what_we_accept_httptools_accepts_and_reads_alike(line: bytes, lines: list[bytes]) -> None:
    block = b"\r\n".join(lines)
    read = ours(line, block)
    assume(read is not None)
    assert read is not None
    assume(not read[3].upgrade)  # httptools stops there on its own terms
    heard = Heard()
    parser = httptools.HttpRequestParser(heard)
    parser.feed_data(line + b"\r\n" + (block + b"\r\n" if block else b"") + b"\r\n")
    assert heard.complete
    assert parser.get_method() == read[0]
    assert heard.url == read[1]
    assert heard.fields == pairs(block)


_STRICT_LINE = re.compile(
    rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[ \t]*(?:[!-~\x80-\xff](?:[ \t!-~\x80-\xff]*[!-~\x80-\xff])?)?[ \t]*"
)
MEANINGFUL = {b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"te"}


@given(st.lists(GOOD_LINE | soiled(GOOD_LINE), max_size=8))
def test_what_the_grammar_accepts_we_accept_and_nothing_more(lines: list[bytes]) -> None:
    """RFC 9110 5.1 and 5.5, for fields that mean nothing to the router."""
    block = b"\r\n".join(lines)
    lines = block.split(b"\r\n") if block else []  # dirt may have split a line
    assume(not {line.partition(b":")[0].lower() for line in lines} & MEANINGFUL)
    good = all(_STRICT_LINE.fullmatch(line) for line in lines)
    assert (ours(b"GET / HTTP/1.1", block) is not None) == good


@given(LINES, st.booleans())
def test_framing_is_accepted_only_when_there_is_one_way_to_read_it(lines: list[bytes], chunked: bool) -> None:
    """An oracle written from RFC 9112 6.3 with its tolerances closed."""
    lines = [*lines, b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 7"]
    read = ours(b"POST / HTTP/1.1", b"\r\n".join(lines))
    assume(read is not None)
    assert read is not None
    said = pairs(b"\r\n".join(lines))
    lengths = [value for name, value in said if name == b"content-length"]
    codings = [value for name, value in said if name == b"transfer-encoding"]
    assert (len(lengths), len(codings)) == ((0, 1) if chunked else (1, 0))
    if chunked:
        assert codings[0].lower() == b"chunked"
    assert read[3].length == (CHUNKED if chunked else 7)


STATUS_LINE = st.builds(
    lambda version, status, reason: b"HTTP/%b %b %b" % (version, status, reason),
    st.sampled_from([b"1.1", b"1.1", b"1.0"]),
    st.sampled_from([b"200", b"204", b"206", b"304", b"404", b"500", b"599"]),
    VALUE,
)


@given(STATUS_LINE | soiled(STATUS_LINE), LINES)
def test_answers_that_we_accept_h11_accepts_and_reads_alike(line: bytes, lines: list[bytes]) -> None:
    block = b"\r\n".join([line, *lines])
    try:
        head = parse_response(block, 100)
    except Malformed:
        assume(False)
    assume(head.status >= 200)
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(block + b"\r\n\r\n")
    event = connection.next_event()
    assert isinstance(event, h11.Response)
    assert event.status_code == head.status
    coded = [value for name, value in event.headers if name == b"transfer-encoding"]
    stated = [value for name, value in event.headers if name == b"content-length"]
    if head.status not in (204, 304):
        assert (head.length == CHUNKED) == bool(coded)
        if head.length >= 0:
            assert head.length == int(stated[0])


@given(st.lists(st.one_of(GOOD_LINE, KNOWN), max_size=5), LINES, LINES)
def test_what_begins_like_another_head_is_read_as_if_it_did_not(
    beginning: list[bytes], one: list[bytes], other: list[bytes]
) -> None:
    try:
        first = b"\r\n".join([b"Host: a.example", *beginning, *one])
        opening = parse_fields(first, 100, None, first).opening
    except Malformed:
        opening = None
    assume(opening is not None)
    block = b"\r\n".join([b"Host: a.example", *beginning, *other])
    try:
        alone = parse_fields(block, 100)
    except Malformed as error:
        with pytest.raises(Malformed) as caught:
            parse_fields(block, 100, opening)
        assert caught.value.failure is error.failure
    else:
        assert_same(parse_fields(block, 100, opening), alone)


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_refusal(data: bytes) -> None:
    line, _, block = data.partition(b"\r\n")
    for judge in (
        lambda: parse_request_line(line, 100),
        lambda: parse_fields(block, 100),
        lambda: parse_response(data, 100),
    ):
        with contextlib.ExitStack() as stack:
            stack.push(lambda kind, error, trace: isinstance(error, Malformed))
            judge()
