"""PROXY headers, byte by byte: what is one, what is none, and what only looks like one."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest

from drycc_proxy.listeners.proxy_header import (
    MAX_V1,
    MAX_V2,
    PLAIN,
    SIGNATURE,
    BadHeader,
    ProxyHeader,
    crc32c,
    read,
    written,
)
from drycc_proxy.routing.definitions import Address

REST = b"GET / HTTP/1.1\r\n"
LINE = b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n"


def v2(family: int, body: bytes, command: int = 0x21, length: int | None = None) -> bytes:
    """A version 2 header."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(body) if length is None else length) + body


def tcp(source: str, destination: str, ports: tuple[int, int] = (56324, 443), vectors: bytes = b"") -> bytes:
    """A version 2 header about a TCP connection."""
    packed = [ip_address(address).packed for address in (source, destination)]
    family = 0x11 if len(packed[0]) == 4 else 0x21
    return v2(family, b"".join(packed) + struct.pack("!HH", *ports) + vectors)


def vector(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def checked(vectors: bytes = b"", flip: int = 0, behind: bytes = b"") -> bytes:
    """A header with a checksum that is right, unless bits of it are flipped."""
    bare = tcp("203.0.113.7", "192.0.2.1", vectors=vectors + vector(3, bytes(4)) + behind)
    at = len(bare) - 4 - len(behind)
    return bare[:at] + struct.pack("!I", crc32c(bare) ^ flip) + bare[at + 4 :]


@pytest.mark.parametrize(
    ("data", "header"),
    [
        (LINE, ProxyHeader(len(LINE), ("203.0.113.7", 56324), ("192.0.2.1", 443))),
        (
            b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
            ProxyHeader(44, ("0.0.0.0", 0), ("255.255.255.255", 65535)),
        ),
        (b"PROXY TCP6 2001:DB8::7 ::1 1 2\r\n", ProxyHeader(32, ("2001:db8::7", 1), ("::1", 2))),
        (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n", ProxyHeader(39, ("203.0.113.7", 1), ("::1", 2))),
        (
            b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n",
            ProxyHeader(104, ("ffff:" * 7 + "ffff", 65535), ("ffff:" * 7 + "ffff", 65535)),
        ),
        (b"PROXY UNKNOWN\r\n", ProxyHeader(15)),
        (b"PROXY UNKNOWN ffff::1 whatever 1 2\r\n", ProxyHeader(36)),
        (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", ProxyHeader(MAX_V1)),
        (tcp("203.0.113.7", "192.0.2.1"), ProxyHeader(28, ("203.0.113.7", 56324), ("192.0.2.1", 443))),
        (tcp("2001:db8::7", "::1"), ProxyHeader(52, ("2001:db8::7", 56324), ("::1", 443))),
        (tcp("::ffff:203.0.113.7", "::1"), ProxyHeader(52, ("203.0.113.7", 56324), ("::1", 443))),
        (v2(0x31, b"/run/a".ljust(108, b"\0") * 2), ProxyHeader(232)),
        (v2(0x00, b"anything"), ProxyHeader(24)),
        (v2(0x00, b"", 0x20), ProxyHeader(16)),
        (v2(0x11, b"short", 0x20), ProxyHeader(21)),
        (v2(0xFF, b"", 0x20), ProxyHeader(16)),
        (
            tcp("203.0.113.7", "192.0.2.1", vectors=vector(4, b"") + vector(0xEA, b"\x01vpce-1")),
            ProxyHeader(41, ("203.0.113.7", 56324), ("192.0.2.1", 443)),
        ),
        (checked(), ProxyHeader(35, ("203.0.113.7", 56324), ("192.0.2.1", 443))),
        (checked(vector(4, b"abc"), 0, vector(4, b"")), ProxyHeader(44, ("203.0.113.7", 56324), ("192.0.2.1", 443))),
    ],
)
def test_headers(data: bytes, header: ProxyHeader) -> None:
    assert read(data) == header
    assert read(data + REST) == header
    for end in range(len(data)):
        assert read(data[:end]) is None, end


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXX TCP4",
        b"PUT / HTTP/1.1\r\n",
        b"PROXYTCP4",
        b"proxy TCP4 203.0.113.7 192.0.2.1 1 2\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"\r\nGET / HTTP/1.1\r\n",
        b"\r\n\r\n\x00\r\nQUIT\r",
        b"\n",
        b"\x00",
    ],
)
def test_what_is_the_clients_own(data: bytes) -> None:
    assert read(data) is PLAIN


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY / HTTP/1.1\r\n",
        b"PROXY \r\n",
        b"PROXY  TCP4 203.0.113.7 192.0.2.1 1 2\r\n",
        b"PROXY TCP4  203.0.113.7 192.0.2.1 1 2\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2 \r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2 3\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 1\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 1 65536\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 1 01\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 1 00\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 -1 2\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 \xd9\xa1 2\r\n",
        b"PROXY TCP4 203.0.113.256 192.0.2.1 1 2\r\n",
        b"PROXY TCP4 203.0.113 192.0.2.1 1 2\r\n",
        b"PROXY TCP4 0203.0.113.7 192.0.2.1 1 2\r\n",
        b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
        b"PROXY TCP4 203.0.113.7 ::1 1 2\r\n",
        b"PROXY TCP6 203.0.113.7 192.0.2.1 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        b"PROXY TCP6 ::: ::1 1 2\r\n",
        b"PROXY tcp4 203.0.113.7 192.0.2.1 1 2\r\n",
        b"PROXY UDP4 203.0.113.7 192.0.2.1 1 2\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY UNKNOWN\n",
        b"PROXY UNKNOWN a\rb\r\n",
        b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
        b"PROXY " + b"x" * 101,
        v2(0x11, bytes(12), 0x22),
        v2(0x11, bytes(12), 0x11),
        v2(0x11, bytes(12), 0x31),
        v2(0x11, bytes(12), 0x01),
        v2(0x12, bytes(12)),
        v2(0x10, bytes(12)),
        v2(0x22, bytes(36)),
        v2(0x41, bytes(216)),
        v2(0x01, b""),
        v2(0x11, bytes(11)),
        v2(0x21, bytes(35)),
        v2(0x31, bytes(215)),
        v2(0x11, b""),
        tcp("203.0.113.7", "192.0.2.1", vectors=b"\x04"),
        tcp("203.0.113.7", "192.0.2.1", vectors=b"\x04\x00"),
        tcp("203.0.113.7", "192.0.2.1", vectors=b"\x04\x00\x01"),
        tcp("203.0.113.7", "192.0.2.1", vectors=vector(3, bytes(3))),
        tcp("203.0.113.7", "192.0.2.1", vectors=vector(3, bytes(5))),
        checked(vector(3, bytes(4))),
        checked(flip=1),
        checked(flip=0x80000000),
    ],
)
def test_what_only_looks_like_one(data: bytes) -> None:
    with pytest.raises(BadHeader):
        read(data + REST)
    with pytest.raises(BadHeader):
        read(data)


@pytest.mark.parametrize("command", [0x20, 0x21])
def test_a_header_that_is_too_long_is_refused_when_it_says_so(command: int) -> None:
    """Nobody waits for 64 KiB of vectors."""
    with pytest.raises(BadHeader, match="more than 4096"):
        read(v2(0x11, b"", command, 0xFFFF))
    with pytest.raises(BadHeader):
        read(v2(0x11, b"", command, MAX_V2 - 15))
    assert read(v2(0x11, b"", command, MAX_V2 - 16)) is None


def test_what_cannot_become_good_is_refused_before_it_is_whole() -> None:
    for hopeless in (v2(0x11, b"", 0x21, 11), v2(0x12, b"", 0x21, 12), v2(0x11, b"", 0x40, 12)):
        with pytest.raises(BadHeader):
            read(hopeless[:16])


def test_the_checksum_is_that_of_the_specification() -> None:
    """RFC 3720 appendix B.4 has these."""
    assert crc32c(b"") == 0
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(
    ("source", "destination"),
    [
        (("192.0.2.1", 40000), ("198.51.100.7", 2222)),
        (("2001:db8::1", 40000), ("2001:db8::2", 2222)),
        (("192.0.2.1", 1), ("2001:db8::2", 65535)),
    ],
)
def test_what_is_written_for_an_app_reads_as_the_same(version: str, source: Address, destination: Address) -> None:
    header = written(version, source, destination)
    assert read(header + b"SSH-2.0-git") == ProxyHeader(len(header), source, destination)
