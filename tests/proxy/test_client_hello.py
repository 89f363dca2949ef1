"""Hellos of OpenSSL, whole, cut in pieces and mutilated."""

from __future__ import annotations

import random
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.client_hello import MAX_HELLO, read


def hello(*protocols: str, name: str = "a.test", oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = oldest
    if protocols:
        context.set_alpn_protocols(list(protocols))
    outside = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outside, server_hostname=name).do_handshake()
    return outside.read()


def in_records(message: bytes, size: int) -> bytes:
    """The same message in records of at most ``size`` bytes."""
    whole = message[5:]
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2) + piece for piece in pieces)


@pytest.mark.parametrize("protocols", [(), ("foo",), ("h2", "http/1.1"), ("http/1.1",), 30 * ("x" * 255,)])
@pytest.mark.parametrize("oldest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_names_are_found_however_it_is_cut(protocols: tuple[str, ...], oldest: ssl.TLSVersion) -> None:
    whole = hello(*protocols, oldest=oldest)
    wanted = tuple(name.encode() for name in protocols) or None
    for size in (1, 5, 100, 16384):
        data = in_records(whole, size)
        found = read(data)
        assert (found.complete, found.protocols) == (True, wanted)
        found = read(data + b"\x14\x03\x03\x00\x01\x01")
        assert (found.complete, found.protocols) == (True, wanted)


def test_it_is_not_judged_before_it_is_whole() -> None:
    whole = hello("foo")
    for at in range(len(whole)):
        found = read(whole[:at])
        assert not found.complete, at
        assert found.protocols is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x80\x2e\x01\x03\x01",
        b"\x16\x02\x00\x00\x05hello",
        b"\x16\x03\x01\x00\x05\x02\x00\x00\x01x",
        b"\x16\x03\x01\xff\xff\x01\x00\xff\xff" + MAX_HELLO * b"x",
    ],
)
def test_what_is_none_is_left_to_openssl(data: bytes) -> None:
    found = read(data)
    assert (found.complete, found.protocols) == (True, None)


def is_sound(data: bytes, step: int = 1) -> None:
    """Whatever it is: nothing is said before it is whole, and what is said then is not taken back by what follows."""
    said = None
    for end in (*range(0, len(data), step), len(data)):
        found = read(data[:end])
        if not found.complete:
            assert found.protocols is None
            assert said is None, "it was whole already"
            continue
        if found.protocols is not None:
            assert data[0] == 0x16, "only a handshake names any"
            assert sum(len(name) + 1 for name in found.protocols) < end, "no more is read than there is"
        assert said in (None, found.protocols or ()), "it says something else now"
        said = found.protocols or ()


@given(st.binary(max_size=300))
def test_any_bytes_are_read(data: bytes) -> None:
    is_sound(data)
    is_sound(b"\x16\x03\x01" + data)
    body = b"\x01" + len(data).to_bytes(3) + data
    is_sound(b"\x16\x03\x01" + len(body).to_bytes(2) + body)


def test_mutilated_hellos_are_read() -> None:
    chance = random.Random(7)
    whole = hello("foo", "http/1.1")
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        is_sound(bytes(data[: chance.randint(1, len(data))]), step=37)
