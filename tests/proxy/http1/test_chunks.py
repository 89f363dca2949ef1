"""The chunked coding: decoded strictly in whatever pieces it comes, encoded in one line."""

from __future__ import annotations

import pytest

from drycc_proxy.errors import Failure
from drycc_proxy.http.messages import Malformed
from drycc_proxy.http1.chunks import LAST_CHUNK, MAX_LINES, ChunkDecoder, encode
from tests.fakes.instructions import Work


def decode(*pieces: bytes) -> tuple[bytes, bytes]:
    """``(payload, rest)`` of a body that must come to its end with the last piece."""
    decoder = ChunkDecoder(Failure.BAD_CHUNK)
    payload = b""
    for number, piece in enumerate(pieces, 1):
        assert not decoder.done, f"done before piece {number}"
        payload += decoder.feed(piece)
    assert decoder.done
    return payload, bytes(decoder.rest)


def one_by_one(body: bytes) -> list[bytes]:
    return [body[at : at + 1] for at in range(len(body))]


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc"),
        (b"00005\r\nhello\r\n000\r\n\r\n", b"hello"),
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        (b"5;name=value\r\nhello\r\n0;last\r\n\r\n", b"hello"),
        (b'5 ; a = "q\\"uo;ted" ; b\r\nhello\r\n0\r\n\r\n', b"hello"),
        (b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nY: \xff\r\n\r\n", b"hello"),
    ],
)
def test_bodies(body: bytes, payload: bytes) -> None:
    assert decode(body) == (payload, b"")
    assert decode(*one_by_one(body)) == (payload, b"")
    assert decode(body + b"GET /") == (payload, b"GET /")


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b" 5\r\n",
        b"5 \r\n",
        b"0x5\r\n",
        b"5_0\r\n",
        b"\xd9\xa5\r\n",
        b"5\n",
        b"5\r\r\n",
        b"5\rhello",
        b"5;\r\n",
        b"5;a=\r\n",
        b"5;a b\r\n",
        b'5;a="\x00"\r\n',
        b'5;a="open\r\n',
        b"5;a\n\r\n",
        b"10000000000000000\r\n",
        b"8000000000000000\r\n",
        b"5\r\nhello0\r\n",
        b"5\r\nhello\n0\r\n",
        b"5\r\nhello\r0\r\n",
        b"5\r\nhello\r\n\r\n",
        b"0\r\nX : 1\r\n\r\n",
        b"0\r\n folded: 1\r\n\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\nX: \x00\r\n\r\n",
        b"0\r\nX: 1\n\r\n",
        b"0\r\n\n",
        b"0\n\n",
    ],
)
def test_everything_else_is_refused_in_whatever_pieces_it_comes(body: bytes) -> None:
    for pieces in ([body], one_by_one(body), [body[:1], body[1:]], [body[:-1], body[-1:]]):
        decoder = ChunkDecoder(Failure.BAD_CHUNK)
        with pytest.raises(Malformed) as caught:
            for piece in pieces:
                decoder.feed(piece)
        assert caught.value.failure is Failure.BAD_CHUNK


def test_what_can_no_longer_become_good_is_refused_at_once() -> None:
    """Nobody waits for the end of a bad line."""
    for beginning in (b"x", b"\n", b"5\rx", 300 * b"5", b"5;" + 300 * b"a", b"0\r\n" + 9000 * b"x", b"5\r\nhellox"):
        with pytest.raises(Malformed):
            ChunkDecoder(Failure.BAD_CHUNK).feed(beginning)


def test_the_largest_size_is_a_size() -> None:
    decoder = ChunkDecoder(Failure.BAD_CHUNK)
    assert decoder.feed(b"7fffffffffffffff\r\nabc") == b"abc"
    assert not decoder.done


def test_the_name_of_the_failure_is_the_callers() -> None:
    with pytest.raises(Malformed) as caught:
        ChunkDecoder(Failure.BAD_RESPONSE).feed(b"x")
    assert caught.value.failure is Failure.BAD_RESPONSE


def test_extensions_are_counted_against_the_payload() -> None:
    chunk = b"1;" + 200 * b"e" + b"\r\nx\r\n"
    decoder = ChunkDecoder(Failure.BAD_CHUNK)
    with pytest.raises(Malformed):
        for _ in range(100):
            decoder.feed(chunk)
    generous = ChunkDecoder(Failure.BAD_CHUNK)
    for _ in range(100):
        generous.feed(b"100;" + 200 * b"e" + b"\r\n" + 256 * b"x" + b"\r\n")


def test_trailers_are_counted() -> None:
    decoder = ChunkDecoder(Failure.BAD_CHUNK)
    decoder.feed(b"0\r\n")
    with pytest.raises(Malformed):
        for _ in range(100):
            decoder.feed(b"X: " + 100 * b"t" + b"\r\n")


def test_a_large_payload_is_not_copied_together() -> None:
    """The piece that lies inside one chunk is handed on as it is."""
    decoder = ChunkDecoder(Failure.BAD_CHUNK)
    decoder.feed(b"100000\r\n")
    piece = bytes(65536)
    assert decoder.feed(piece) is piece


def test_encoding() -> None:
    assert encode(b"hello") == b"5\r\nhello\r\n"
    assert encode(300 * b"x") == b"12c\r\n" + 300 * b"x" + b"\r\n"
    assert decode(encode(b"one") + encode(b"two") + LAST_CHUNK) == (b"onetwo", b"")


def test_one_call_reads_so_many_chunks_and_no_more() -> None:
    """A read of 256 KiB holds forty thousand chunks of one byte: 280 ms in one step."""
    body = 1000 * b"1\r\na\r\n" + LAST_CHUNK + b"GET /"
    decoder, work = ChunkDecoder(Failure.BAD_CHUNK), Work()
    payload, calls, worst = decoder.feed(bytearray(body)), 1, 0
    assert (len(payload), decoder.more) == (MAX_LINES, True)
    while decoder.more:
        before = work.done["feed"]
        with work.on("feed"):
            piece = decoder.feed(b"")
        assert len(piece) <= MAX_LINES
        payload += piece
        calls += 1
        worst = max(worst, work.done["feed"] - before)

    assert (payload, calls) == (1000 * b"a", -(-1001 // MAX_LINES))
    assert decoder.done
    assert decoder.rest == b"GET /"
    assert worst < 300 * MAX_LINES


def test_what_comes_while_chunks_are_left_comes_behind_them() -> None:
    decoder = ChunkDecoder(Failure.BAD_CHUNK)
    payload = decoder.feed(300 * b"1\r\na\r\n")
    assert decoder.more
    payload += decoder.feed(b"1\r\nb\r\n0\r\n\r\n")
    assert (payload, decoder.done, decoder.more) == (300 * b"a" + b"b", True, False)


def test_trailers_are_few() -> None:
    decoder = ChunkDecoder(Failure.BAD_CHUNK)
    assert decoder.feed(b"0\r\n" + 128 * b"a:\r\n" + b"\r\n") == b""
    assert decoder.done
    with pytest.raises(Malformed):
        ChunkDecoder(Failure.BAD_CHUNK).feed(b"0\r\n" + 129 * b"a:\r\n")
