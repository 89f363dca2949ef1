"""The chunk decoder, in any segmentation, against a decoder written from the grammar and against h11."""

from __future__ import annotations

import re
from itertools import pairwise

import h11
from hypothesis import assume, given
from hypothesis import strategies as st

from drycc_proxy.errors import Failure
from drycc_proxy.http.messages import Malformed
from drycc_proxy.http1.chunks import LAST_CHUNK, ChunkDecoder, encode

EXTENSION = st.sampled_from([b"", b"", b";a", b";a=b", b' ; a = "q\\"\x80"', b";", b";a=", b"; ;", b' "x"', b";a\n"])
CHUNK = st.builds(
    lambda data, zeros, case, extension: (
        b"0" * zeros + (b"%X" if case else b"%x") % len(data) + extension + b"\r\n" + data + b"\r\n"
    ),
    st.binary(min_size=1, max_size=40),
    st.integers(0, 3),
    st.booleans(),
    EXTENSION,
)
TRAILER = st.sampled_from(
    [b"", b"", b"X: y\r\n", b"X:\r\n", b"X : y\r\n", b" X: y\r\n", b"nothing\r\n", b"X: \x00\r\n"]
)
BODY = st.builds(
    lambda chunks, extension, trailer: b"".join(chunks) + b"0" + extension + b"\r\n" + trailer + b"\r\n",
    st.lists(CHUNK, max_size=4),
    EXTENSION,
    TRAILER,
)


@st.composite
def soiled_body(draw: st.DrawFn) -> bytes:
    body: bytes = draw(BODY)
    at = draw(st.integers(0, len(body)))
    cut = draw(st.integers(0, 2))
    return (
        body[:at]
        + draw(st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b"0", b"x", b"\x00", b";"]))
        + body[at + cut :]
    )


STREAM = st.builds(lambda body, behind: body + behind, BODY | soiled_body(), st.sampled_from([b"", b"GET", b"\r\n"]))

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb"\"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t -~\x80-\xff])*\""
_VALUED = rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?"
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[ \t]*" + _TOKEN + _VALUED + rb")*\r\n")
_TRAILER = re.compile(_TOKEN + rb":[\t \x21-\x7e\x80-\xff]*\r\n")


def by_the_grammar(stream: bytes) -> tuple[bytes, bytes] | str:
    """``(payload, rest)``, or why not: "bad", or "more" where the stream ends too early to say."""
    payload = b""
    at = 0
    while True:
        match = _SIZE.match(stream, at)
        if match is None:
            return "more" if b"\n" not in stream[at:] else "bad"
        at = match.end()
        size = int(match[1], 16)
        if not size:
            break
        if len(stream) < at + size + 2:
            beginning = stream[at + size :]
            return "more" if b"\r\n".startswith(beginning) else "bad"
        payload += stream[at : at + size]
        if stream[at + size : at + size + 2] != b"\r\n":
            return "bad"
        at += size + 2
    while not stream.startswith(b"\r\n", at):
        match = _TRAILER.match(stream, at)
        if match is None:
            return "more" if b"\n" not in stream[at:] else "bad"
        at = match.end()
    return payload, stream[at + 2 :]


def ours(stream: bytes, cuts: list[int]) -> tuple[bytes, bytes] | str:
    """The same, by our decoder, from segments."""
    decoder = ChunkDecoder(Failure.BAD_CHUNK)
    payload = b""
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    for begin, end in pairwise(edges):
        try:
            payload += decoder.feed(stream[begin:end])
            while decoder.more:
                payload += decoder.feed(b"")
        except Malformed:
            return "bad"
        if decoder.done:
            return payload, bytes(decoder.rest) + stream[end:]
    return "more"


CUTS = st.lists(st.integers(0, 10_000), max_size=8)


@given(STREAM, CUTS)
def test_it_is_the_grammar_in_any_segmentation(stream: bytes, cuts: list[int]) -> None:
    expected = by_the_grammar(stream)
    for where in ([], cuts, list(range(len(stream)))):
        got = ours(stream, where)
        # A line that has not ended may be hopeless already: then it is refused at once.
        assert got == expected or (expected == "more" and got == "bad"), where


@given(STREAM, CUTS)
def test_what_can_still_become_good_is_not_refused(stream: bytes, cuts: list[int]) -> None:
    whole = by_the_grammar(stream)
    assume(isinstance(whole, tuple))
    for end in range(len(stream)):
        assert ours(stream[:end], cuts) != "bad"


@given(STREAM)
def test_what_we_accept_h11_accepts_and_reads_alike(stream: bytes) -> None:
    read = ours(stream, [])
    assume(isinstance(read, tuple))
    assert isinstance(read, tuple)
    assume(re.search(rb"(?m)^[0-9A-Fa-f]+[ \t]+[;\r]|\x80", stream) is None)  # h11 knows no space there, nor obs-text
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + stream)
    payload = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        assert event not in (h11.NEED_DATA, h11.PAUSED)
        if isinstance(event, h11.Data):
            payload += event.data
    assert payload == read[0]
    assert connection.trailing_data[0] == read[1]


@given(st.lists(st.binary(min_size=1, max_size=5000), max_size=5), CUTS)
def test_what_is_encoded_is_decoded(pieces: list[bytes], cuts: list[int]) -> None:
    assert ours(b"".join(map(encode, pieces)) + LAST_CHUNK, cuts) == (b"".join(pieces), b"")


@given(st.binary(max_size=200), CUTS)
def test_no_bytes_raise_anything_but_a_refusal(stream: bytes, cuts: list[int]) -> None:
    ours(stream, cuts)
