"""However what is said is cut, no step on the loop is long, and all of them together are linear in what is said.

A hostile peer chooses its units (fields, chunks, records, frames, vectors) and its segments; both are made up here.
What a step costs is counted, in instructions and in bytes (``tests.fakes.steps``), so that no clock decides.

::

    one step         at most A_STEP, and A_BYTE for each byte that arrived with it
    all of them      at most EACH for each step, and EACH_BYTE for each byte that arrived

The first bound is what everybody else waits. The second one finds what is done again with every segment: the square of
the bytes, however small each step looks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes import hellos
from tests.fakes.clock import FakeClock
from tests.fakes.steps import Steps
from tests.fakes.story import Story
from tests.fakes.tls_end import TlsEnd

A_STEP = 200_000
"""Instructions and bytes: about a millisecond, half of what a step may take (``python -m benchmarks steps``)."""
A_BYTE = 8
"""Long pieces are copied a few times, at ten gigabytes a second."""
EACH = 3_000
"""A step is a callback of the loop: a request, an answer, or a piece of one."""
EACH_BYTE = 250
"""A chunk of one byte takes six, a request for nobody at least thirty."""

HOST = b"Host: shop.example\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
UPLOAD = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GRANTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
ASKING = b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
TRUSTED = "203.0.113.7"
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def units(size: int, total: int, make: Callable[[bytes], bytes]) -> bytes:
    """``total`` bytes, at most, in units whose content has so many bytes."""
    unit = make(size * b"z")
    return unit * max(1, total // len(unit))


class Conversation:
    """One story whose steps are counted. ``unit``, ``segment``: bytes of each of them; ``total``: of all."""

    def __init__(self, steps: Steps, clock: FakeClock, unit: int, segment: int, total: int, over_tls: bool) -> None:
        self.unit, self.segment, self.total = unit, segment, total
        self.story = Story(clock, over_tls=over_tls)
        self.steps = steps
        steps.on(self.story.loop)

    def client(self, data: bytes) -> None:
        caller = self.story.caller
        for piece in cut(data, self.segment):
            if caller.transport.closing:
                break
            caller.says(piece)

    def raw(self, data: bytes) -> None:
        """The client sends below TLS."""
        caller = self.story.caller
        assert isinstance(caller, TlsEnd)
        for piece in cut(data, self.segment):
            if not caller.transport.closing:
                caller.raw.says(piece)

    def chunks(self) -> bytes:
        return units(self.unit, self.total, lambda data: b"%x\r\n%b\r\n" % (len(data), data))


def fields(talk: Conversation) -> None:
    """A head of many fields that is not complete for long."""
    size = min(talk.total, 30_000)
    block = units(talk.unit, size, lambda data: b"%b: %b\r\n" % (data[:100], data))
    talk.client((b"GET / HTTP/1.1\r\n" + HOST + block)[:size] + b"\r\n")


def long_field(talk: Conversation) -> None:
    """A head of one long field."""
    talk.client(b"GET / HTTP/1.1\r\n" + HOST + b"Cookie: " + min(talk.total, 30_000) * b"c" + b"\r\n\r\n")
    if talk.story.dialled:
        talk.story.lends().says(OK)


def long_target(talk: Conversation) -> None:
    talk.client(b"GET /" + min(talk.total, 7000) * b"t" + b" HTTP/1.1\r\n" + HOST + b"\r\n")


def pipelined(talk: Conversation) -> None:
    """Requests that the router answers itself."""
    request = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (min(talk.unit, 500) * b"a")
    talk.client(request * max(1, talk.total // len(request)))


def pipelined_to_an_app(talk: Conversation) -> None:
    """Requests that wait, with bodies: one after the other is taken off what came."""
    story = talk.story
    data = min(talk.unit, 500) * b"a"
    request = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n%b" % (len(data), data)
    talk.client(request * max(1, talk.total // len(request)))
    answer_all(talk)
    assert story.caller.is_kept


def pipelined_chunks(talk: Conversation) -> None:
    """The same with chunked bodies."""
    request = UPLOAD + b"1\r\na\r\n" * min(talk.unit, 20) + b"0\r\n\r\n"
    talk.client(request * max(1, talk.total // len(request)))
    answer_all(talk)


def answer_all(talk: Conversation) -> None:
    story = talk.story
    app = story.lends()
    for _ in range(talk.total):
        if not app.transport.heard or app.transport.closing:
            break
        app.transport.heard.clear()
        app.says(OK)
        if app.transport.closing and story.dialled:
            app = story.lends()


def chunked_upload(talk: Conversation) -> None:
    talk.client(UPLOAD + talk.chunks() + b"0\r\n\r\n")
    app = talk.story.lends()
    app.says(OK)
    talk.story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")


def chunked_upload_to_an_app_that_reads_slowly(talk: Conversation) -> None:
    story = talk.story
    talk.client(UPLOAD)
    app = story.lends(reads=False)
    talk.client(talk.chunks() + b"0\r\n\r\n")
    app.reads_again()
    app.says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")


def trailers(talk: Conversation) -> None:
    talk.client(UPLOAD + b"0\r\n" + units(talk.unit, 8000, lambda data: b"t:%b\r\n" % data)[:8000])


def extensions(talk: Conversation) -> None:
    talk.client(UPLOAD + units(talk.unit, talk.total, lambda data: b"20;%b\r\n%b\r\n" % (data[:200], 32 * b"a")))


def answer_head(talk: Conversation) -> None:
    talk.story.client(GET)
    app = talk.story.lends()
    head = b"HTTP/1.1 200 OK\r\n" + units(talk.unit, min(talk.total, 60_000), lambda data: b"X: %b\r\n" % data)
    for piece in cut(head, talk.segment):
        if not app.transport.closing:
            app.says(piece)


def interim(talk: Conversation) -> None:
    """An app that says 103 again and again."""
    talk.story.client(GET)
    app = talk.story.lends()
    data = units(talk.unit, talk.total, lambda data: b"HTTP/1.1 103 Early Hints\r\nLink: %b\r\n\r\n" % data)
    for piece in cut(data, talk.segment):
        if not app.transport.closing:
            app.says(piece)


def chunked_answer(talk: Conversation) -> None:
    story = talk.story
    story.client(GET)
    app = story.lends()
    for piece in cut(CHUNKED + talk.chunks() + b"0\r\n\r\n", talk.segment):
        app.says(piece)
    heard = story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"0\r\n\r\n")
    assert heard.partition(b"\r\n\r\n")[2].count(b"z") == talk.chunks().count(b"z")
    story.client(GET)
    story.lends(reused=True).says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")


def chunked_answer_to_a_client_that_reads_slowly(talk: Conversation) -> None:
    story = talk.story
    story.client(GET)
    app = story.lends()
    story.caller.stops_reading()
    for piece in cut(CHUNKED + talk.chunks() + b"0\r\n\r\n", talk.segment):
        app.says(piece)
    story.caller.reads_again()
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"0\r\n\r\n")


def frames(talk: Conversation) -> None:
    """A WebSocket's frames, both ways."""
    story = talk.story
    story.client(ASKING)
    app = story.lends()
    app.says(GRANTED)
    data = units(min(talk.unit, 125), talk.total // 2, lambda data: b"\x82%c%b" % (len(data), data))
    talk.client(data)
    for piece in cut(data, talk.segment):
        app.says(piece)


def proxy_v1(talk: Conversation) -> None:
    talk.story.is_set(proxy_protocol=True, trusted=(TRUSTED,))
    talk.client(b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n" + GET)
    talk.story.lends().says(OK)


def proxy_v2(talk: Conversation) -> None:
    """Vectors as small as they can be, and a checksum over them."""
    talk.story.is_set(proxy_protocol=True, trusted=(TRUSTED,))
    room = min(talk.total, 4096) - 16 - 12 - 7
    size = min(talk.unit, 255) - 1
    vectors = b"\x03\x00\x04\x00\x00\x00\x00" + (b"\xe0\x00%c%b" % (size, size * b"v")) * (room // (3 + size))
    body = b"\xc0\x00\x02\x01\xc0\x00\x02\x02\xdc\x04\x01\xbb" + vectors
    talk.client(SIGNATURE + b"\x21\x11" + len(body).to_bytes(2) + body)


PLAIN = (
    fields,
    long_field,
    long_target,
    pipelined,
    pipelined_to_an_app,
    pipelined_chunks,
    chunked_upload,
    chunked_upload_to_an_app_that_reads_slowly,
    trailers,
    extensions,
    answer_head,
    interim,
    chunked_answer,
    chunked_answer_to_a_client_that_reads_slowly,
    frames,
    proxy_v1,
    proxy_v2,
)


def hello_records(talk: Conversation) -> None:
    """A hello that names no protocol of ours and is never complete, in small records."""
    talk.story.callers.append(talk.story.connects())
    message = b"\x01" + (60_000).to_bytes(3) + b"\x03\x03" + talk.total * b"a"
    talk.raw(hellos.record(message, talk.unit)[: talk.total])


def hello_extensions(talk: Conversation) -> None:
    talk.story.callers.append(talk.story.connects())
    empty = b"".join(kind.to_bytes(2) + b"\x00\x00" for kind in range(0x4000, 0x4000 + talk.total // 24))
    talk.raw(hellos.record(hellos.hello(alpn=(b"foo",), more=empty), talk.unit))


def request_records(talk: Conversation) -> None:
    """A request whose head comes in records of few bytes each, which arrive together."""
    story = talk.story
    caller = story.calls()
    assert isinstance(caller, TlsEnd)
    head = b"GET / HTTP/1.1\r\n" + HOST + b"Cookie: " + min(talk.total // 24 * talk.unit, 30_000) * b"c" + b"\r\n\r\n"
    talk.raw(caller.encrypted(*cut(head, talk.unit)))
    story.lends().says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")


def upload_records(talk: Conversation) -> None:
    """Chunks in records."""
    story = talk.story
    caller = story.calls()
    assert isinstance(caller, TlsEnd)
    caller.says(UPLOAD)
    app = story.lends()
    data = b"1\r\na\r\n" * (talk.total // 48) + b"0\r\n\r\n"
    talk.raw(caller.encrypted(*cut(data, talk.unit)))
    app.says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")


OVER_TLS = (hello_records, hello_extensions, request_records, upload_records)


S = TypeVar("S", bound=Steps)


def hold(kind: Callable[[Conversation], None], unit: int, segment: int, total: int, meter: type[S]) -> S:
    """Hold a conversation of a kind; its steps."""
    with pytest.MonkeyPatch.context() as patch:
        clock = FakeClock()
        clock.install(patch)
        steps = meter(patch)
        kind(Conversation(steps, clock, unit, segment, total, kind in OVER_TLS))
        return steps


def is_bounded(kind: Callable[[Conversation], None], unit: int, segment: int, total: int) -> None:
    steps = hold(kind, unit, segment, total, Steps)
    for step in steps.taken:
        assert step.cost <= A_STEP + A_BYTE * step.received, f"{step} of {kind.__name__}({unit}, {segment}, {total})"
    received = sum(step.received for step in steps.taken)
    most = EACH * len(steps.taken) + EACH_BYTE * received
    assert steps.cost <= most, f"{steps.cost} of {most}: {kind.__name__}({unit}, {segment}, {total}), {steps.worst}"


SMALL = [(1, 1), (1, 1 << 18), (7, 6), (100, 1), (1000, 1400)]


@pytest.mark.parametrize(("unit", "segment"), SMALL)
@pytest.mark.parametrize("kind", [*PLAIN, *OVER_TLS], ids=lambda kind: kind.__name__)
def test_the_smallest_units_and_segments(kind: Callable[[Conversation], None], unit: int, segment: int) -> None:
    is_bounded(kind, unit, segment, 2_000 if segment < 100 else 20_000)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    st.sampled_from([*PLAIN, *OVER_TLS]),
    st.one_of(st.integers(1, 8), st.integers(1, 2000)),
    st.one_of(st.integers(1, 40), st.integers(1, 1 << 18)),
    st.integers(100, 3000),
)
def test_any_units_and_segments(kind: Callable[[Conversation], None], unit: int, segment: int, total: int) -> None:
    is_bounded(kind, unit, segment, total)
