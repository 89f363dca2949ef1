"""Hellos of OpenSSL, whole, cut in pieces and mutilated."""

from __future__ import annotations

import random
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drycc_proxy.listeners.client_hello import A_STEP, MAX_HELLO, ClientHello
from tests.fakes.instructions import Work


def read(data: bytes, step: int = 1 << 20) -> ClientHello:
    """What is known of these bytes, which come ``step`` at a time."""
    found = ClientHello()
    for at in range(0, max(len(data), 1), step):
        found.add(data[at : at + step])
        while found.look():
            pass
        if found.complete:
            break
    return found


def names(found: ClientHello) -> tuple[bytes, ...] | None:
    """The names in a list of protocols (RFC 7301 3.1)."""
    if found.protocols is None:
        return None
    block, at, said = found.protocols, 0, []
    while at < len(block):
        said.append(block[at + 1 : at + 1 + block[at]])
        at += 1 + block[at]
    return tuple(said)


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
        for step in (1, 7, 1 << 20):
            found = read(data, step)
            assert (found.complete, names(found)) == (True, wanted)
            found = read(data + b"\x14\x03\x03\x00\x01\x01", step)
            assert (found.complete, names(found)) == (True, wanted)


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


def test_a_size_that_is_never_read_to_its_end_is_left_to_openssl_at_once() -> None:
    """The client gets OpenSSL's alert before it has sent more than a channel keeps of a handshake."""
    header = b"\x16\x03\x01\x40\x00\x01"
    assert read(header + MAX_HELLO.to_bytes(3)).complete
    assert not read(header + (MAX_HELLO - 4).to_bytes(3)).complete


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
            assert len(found.protocols) < end, "no more is read than there is"
        assert said in (None, found.protocols or b""), "it says something else now"
        said = found.protocols or b""


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


def extensions(*kinds: int, size: int = 0) -> bytes:
    """A hello, in its message, with these empty extensions."""
    block = b"".join(kind.to_bytes(2) + size.to_bytes(2) + size * b"x" for kind in kinds)
    body = b"\x03\x03" + 32 * b"r" + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00" + len(block).to_bytes(2) + block
    return b"\x16\x03\x01\x00\x00" + b"\x01" + len(body).to_bytes(3) + body


@pytest.mark.parametrize("record", [1, 2, 16384])
@pytest.mark.parametrize("segment", [1, 6, 1400, 1 << 18])
def test_a_step_is_bounded_and_all_of_them_are_linear(record: int, segment: int) -> None:
    """A hello of one-byte records was read from its beginning with every segment: eight milliseconds for six bytes."""
    data = in_records(extensions(*(7 for _ in range(3000))), record)[: MAX_HELLO - 1000]
    found, work, worst = ClientHello(), Work(), 0
    for at in range(0, len(data), segment):
        more = True
        found.add(data[at : at + segment])
        while more:
            before = work.done["look"]
            with work.on("look"):
                more = found.look()
            worst = max(worst, work.done["look"] - before)

    assert worst < 40 * A_STEP
    assert work.done["look"] < 200 * -(-len(data) // segment) + 50 * len(data)
