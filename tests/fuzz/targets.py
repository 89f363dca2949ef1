"""What is fuzzed: each target judges any bytes, compares with the other readers, and says in a word what happened.

The word (a tuple) is what guides the search: an input that makes a target say something it never said is kept. What our
parsers refuse is told by the text of the refusal, so every line of them that refuses has a word of its own.

What must not enter: how inputs are made up (``search``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from itertools import pairwise

import h11
import httptools
import pytest

from drycc_proxy.http.messages import CHUNKED, UNTIL_CLOSE, Malformed, RequestFields, RequestLine
from drycc_proxy.http1.parser import METHODS, parse_fields, parse_request_line, parse_response
from drycc_proxy.listeners.proxy_header import MAX_V2, BadHeader, ProxyHeader
from drycc_proxy.listeners.proxy_header import read as read_proxy_header
from tests.fakes.clock import FakeClock
from tests.fakes.story import AppEnd, Story
from tests.fuzz.test_chunks import by_the_grammar, ours
from tests.fuzz.test_proxy_headers import by_the_tables

__all__ = ["TARGETS", "Target"]

Target = Callable[[bytes], Hashable]
"""Judges an input. Returns what happened; raises AssertionError when somebody else reads it another way."""

END = b"\r\n\r\n"


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """``data`` in pieces."""
    edges = [0, *sorted({place % len(data) for place in places} - {0}), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


def some_places(data: bytes) -> list[int]:
    """Where to cut: the same for the same input, and close to what a parser looks for."""
    return [place + 1 for place, byte in enumerate(data) if byte in b"\r\n:"] + [len(data) // 2, 7 * len(data) // 8]


# ── heads of requests ─────────────────────────────────────────────────────────────────────────────────────────────────
class _Heard:
    """What httptools tells."""

    def __init__(self) -> None:
        self.url = b""
        self.status = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


def _pairs(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)]


def head(data: bytes) -> Hashable:
    """A request's head: what we accept h11 and httptools accept too, and read alike."""
    text, end, _ = data.partition(END)
    if not end or b"\r\n" not in text:
        return "no head"
    first, _, block = text.partition(b"\r\n")
    words: list[Hashable] = []
    read: tuple[RequestLine, RequestFields] | None = None
    for again in range(3):  # the second time its good lines are remembered, the third time what it begins with
        try:
            opening, last = (read[1].opening, block) if again and read else (None, b"")
            read = parse_request_line(first, 16 * 1024), parse_fields(block, 100, opening, last)
        except Malformed as error:
            words.append((error.failure.name, str(error)))
        else:
            words.append("accepted")
    assert words[0] == words[1] == words[2], "judged differently another time"
    if read is None:
        return words[0]
    line, fields = read
    _agrees_with_h11(line, fields, text + END)
    _agrees_with_httptools(line, fields, text + END)
    return (
        "accepted",
        line.minor,
        line.target[:1] == b"/",
        min(fields.length, 1),
        fields.close,
        fields.expect,
        fields.upgrade,
        bool(fields.host),
        bool(fields.forwarded_for or fields.forwarded),
        bool(fields.aliases),
        len(fields.lines) < len(block.split(b"\r\n")) - 2,
    )


def _agrees_with_h11(line: RequestLine, fields: RequestFields, text: bytes) -> None:
    if not line.target.isascii() or (line.minor and not fields.host) or re.search(rb" HTTP/1\.[2-9]\r\n", text):
        return  # h11 knows no such targets and versions; the presence of Host is asked for by ``http1.downstream``
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=10**6)
    server.receive_data(text)
    event = server.next_event()
    assert isinstance(event, h11.Request), "accepted by us, refused by h11"
    assert (event.method, event.target) == (line.method, line.target)
    coded = [value for name, value in event.headers if name == b"transfer-encoding"]
    stated = [value for name, value in event.headers if name == b"content-length"]
    assert fields.length == (CHUNKED if coded else int(stated[0]) if stated else 0), "h11 reads another length"
    assert b"".join(value for name, value in event.headers if name == b"host") == fields.host


def _agrees_with_httptools(line: RequestLine, fields: RequestFields, text: bytes) -> None:
    if (
        line.method not in METHODS - {b"CONNECT"}
        or line.target[:1] != b"/"
        or not line.target.isascii()
        or b"upgrade" in text.lower()
        or re.search(rb" HTTP/1\.[2-9]\r\n", text)
    ):
        return  # llhttp knows a list of methods and versions, and stops at upgrades on its own terms
    heard = _Heard()
    parser = httptools.HttpRequestParser(heard)
    parser.feed_data(text)
    assert heard.complete, "accepted by us, not by httptools"
    assert (parser.get_method(), heard.url) == (line.method, line.target)
    names = [name for name, _ in heard.fields]
    coded, stated = names.count(b"transfer-encoding"), names.count(b"content-length")
    assert (coded, stated) == (int(fields.length == CHUNKED), int(fields.stated)), "httptools reads another framing"
    assert heard.fields == _pairs(text[: -len(END)].split(b"\r\n")[1:])


# ── chunks ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def chunks(data: bytes) -> Hashable:
    """A chunked body: our decoder is the grammar, however it is cut."""
    expected = by_the_grammar(data)
    for places in ([], some_places(data), list(range(len(data)))):
        got = ours(data, places)
        assert got == expected or (expected == "more" and got == "bad"), "not what the grammar says"
    if isinstance(expected, str):
        return expected, got, min(data.count(b"\r\n"), 6), data[:1].isalnum()
    payload, rest = expected
    return "good", min(len(payload), 2), bool(rest), min(data.count(b";"), 3), min(data.count(b"\r\n"), 8)


# ── heads of answers ──────────────────────────────────────────────────────────────────────────────────────────────────
def response(data: bytes) -> Hashable:
    """An answer's head: what we accept h11 accepts too, and reads alike."""
    text, end, _ = data.partition(END)
    if not end:
        return "no head"
    words: list[Hashable] = []
    read = None
    for _again in range(2):
        try:
            read = parse_response(text, 100)
        except Malformed as error:
            words.append((error.failure.name, str(error)))
        else:
            words.append("accepted")
    assert words[0] == words[1], "judged differently the second time"
    if read is None:
        return words[0]
    if 200 <= read.status < 600 and text[12:13] == b" ":  # h11 takes no status without a reason, nor beyond 599
        client = h11.Connection(h11.CLIENT, max_incomplete_event_size=10**6)
        client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
        client.send(h11.EndOfMessage())
        client.receive_data(text + END)
        event = client.next_event()
        assert isinstance(event, h11.Response), "accepted by us, refused by h11"
        assert event.status_code == read.status
        coded = any(name == b"transfer-encoding" for name, _ in event.headers)
        stated = [value for name, value in event.headers if name == b"content-length"]
        if read.status not in (204, 304):
            assert read.length == (CHUNKED if coded else int(stated[0]) if stated else UNTIL_CLOSE)
    return (
        "accepted",
        read.status if read.status in (100, 101, 204, 304) else read.status // 100,
        read.minor,
        min(read.length, 1),
        read.stated,
        read.reusable,
        read.has_date,
        bool(read.idle),
        read.upgrade if read.upgrade == b"websocket" else bool(read.upgrade),
        bool(read.framed),
        min(len(_pairs(text.split(b"\r\n")[1:])) - read.fields.count(b"\r\n"), 3),
    )


# ── PROXY headers ─────────────────────────────────────────────────────────────────────────────────────────────────────
def proxy_header(data: bytes) -> Hashable:
    """A PROXY header: ours is the specification's tables, and what came so far is never judged otherwise than more."""
    expected = by_the_tables(data)
    try:
        read: ProxyHeader | str | None = read_proxy_header(data)
    except BadHeader as error:
        read = "bad"
        word = str(error)
    else:
        word = "more" if read is None else "read"
    assert read == expected or (expected is None and read == "bad"), "not what the tables say"
    if isinstance(read, ProxyHeader):
        assert read.size <= min(len(data), MAX_V2)
        for end in range(len(data)):
            try:
                early = read_proxy_header(data[:end])
            except BadHeader:
                raise AssertionError("refused before it was whole") from None
            assert early is None or early == read, "judged otherwise before it was whole"
        return word, min(read.size, 1), data[:1], read.source is None, ":" in read.source[0] if read.source else ""
    return word, data[:1]


# ── whole conversations ───────────────────────────────────────────────────────────────────────────────────────────────
_ANSWER = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5\r\n\r\nhello"
_PARTING = b"Connection: close\r\n"
_OWN = re.compile(rb"[0-9a-f]{32}")
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
_TOLD = re.compile(rb"X-Router-Error: (\w+)")


class _App:
    """An app that is h11: it takes nothing that is not HTTP, and answers what is complete."""

    def __init__(self, end: AppEnd) -> None:
        self.end = end
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=10**6)
        self._asked = b""

    def listen(self) -> bytes:
        """Take what came; the request, if it is complete."""
        heard = bytes(self.end.transport.heard)
        self.end.transport.heard.clear()
        self._h11.receive_data(heard)
        while (event := self._h11.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Request):
                self._asked = b"%b %b " % (event.method, event.target)
            elif isinstance(event, h11.Data):
                self._asked += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self._h11.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                self._h11.send(h11.EndOfMessage())
                self._h11.start_next_cycle()
                asked, self._asked = self._asked, b""
                return asked
        return b""


def _converse(pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    """``(requests that were whole for an app, what the client heard)``, and the next client is served."""
    asked: list[bytes] = []
    apps: dict[AppEnd, _App] = {}

    def attend() -> None:
        busy = True
        while busy:
            busy = False
            if story.dialled:
                story.lends()
                busy = True
            for end in story.apps:
                if end.transport.heard and not end.transport.closing:
                    request = apps.setdefault(end, _App(end)).listen()
                    busy = True
                    if request:
                        asked.append(request)
                        end.says(_ANSWER)

    with pytest.MonkeyPatch.context() as patch:
        clock = FakeClock()
        clock.install(patch)
        story = Story(clock)
        story.calls()
        for piece in pieces:
            if not story.caller.transport.closing:
                story.client(piece)
                attend()
        heard = story.client_hears(...)
        story.calls()
        story.client(b"GET /next HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        attend()
        assert asked.pop() == b"GET /next ", "the next client is not served"
        story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"hello")
        story.ends()
    return asked, _OWN.sub(b"ID", heard)


def conversation(data: bytes) -> Hashable:
    """Whatever a client sends: apps hear nothing but HTTP, and cuts of the network change nothing."""
    if not data:
        return "nothing"
    if re.search(rb"[\x80-\xff]", b"".join(re.findall(rb"(?m)^[!-~]+ ([^\r\n]*)HTTP/1\.", data))):
        return "h11 knows no such target"
    asked, heard = _converse([data])
    asked_cut, heard_cut = _converse(cut(data, some_places(data)))
    if _PARTING in heard_cut:
        # Who can be answered before its body is here is answered at once, whatever the body would have been, and parted
        # from, since nobody knows how long a chunked body is: the last answer may be another one.
        told = heard_cut.replace(_PARTING, b"").split(b"HTTP/1.1 ")[:-1]
        whole = heard.replace(_PARTING, b"").split(b"HTTP/1.1 ")[: len(told)]
        assert (asked_cut, told) == (asked[: len(asked_cut)], whole), "cuts change what happens"
    else:
        assert (asked_cut, heard_cut) == (asked, heard), "cuts change what happens"
    return tuple(_STATUS.findall(heard)[:4]), tuple(_TOLD.findall(heard)[:4]), min(len(asked), 3)


TARGETS: dict[str, Target] = {
    "head": head,
    "chunks": chunks,
    "response": response,
    "proxy_header": proxy_header,
    "conversation": conversation,
}
"""By the name of the file in ``corpus/`` that keeps what was found."""
