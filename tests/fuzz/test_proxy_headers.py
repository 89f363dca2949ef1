"""PROXY headers, made and soiled, in any segmentation, against a reader written from the specification's tables."""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

from hypothesis import given
from hypothesis import strategies as st

from drycc_proxy.listeners.proxy_header import MAX_V1, MAX_V2, PLAIN, SIGNATURE, BadHeader, ProxyHeader, crc32c, read

PORTS = st.integers(0, 65535)
PAIRS = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)), st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6))
)
VECTORS = st.lists(st.tuples(st.sampled_from([1, 2, 4, 5, 0x20, 0x30, 0xEA]), st.binary(max_size=30)), max_size=4)


@st.composite
def first_version(draw: st.DrawFn) -> bytes:
    source, destination = draw(PAIRS)
    family = b"TCP%d" % source.version
    words = [family, *(str(word).encode() for word in (source, destination, draw(PORTS), draw(PORTS)))]
    return draw(
        st.sampled_from([b"PROXY " + b" ".join(words) + b"\r\n", b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN x y\r\n"])
    )


@st.composite
def second_version(draw: st.DrawFn) -> bytes:
    source, destination = draw(PAIRS)
    family = 0x11 if source.version == 4 else 0x21
    body = source.packed + destination.packed + struct.pack("!HH", draw(PORTS), draw(PORTS))
    body += b"".join(struct.pack("!BH", kind, len(value)) + value for kind, value in draw(VECTORS))
    checksum = draw(st.booleans())
    if checksum:
        body += b"\x03\x00\x04" + bytes(4)
    command = draw(st.sampled_from([0x20, 0x21, 0x21, 0x21]))
    family = draw(st.sampled_from([family, family, family, 0x00, 0x31]))
    header = SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body
    return header[:-4] + struct.pack("!I", crc32c(header)) if checksum else header


@st.composite
def soiled(draw: st.DrawFn) -> bytes:
    header = draw(first_version() | second_version())
    at = draw(st.integers(0, len(header)))
    dirt = draw(st.sampled_from([b"", b" ", b"\r", b"\n", b"0", b"\x00", b"\xff", b"x"]) | st.binary(max_size=3))
    return header[:at] + dirt + header[at + draw(st.integers(0, 2)) :]


STREAM = st.builds(
    lambda header, behind: header + behind,
    first_version() | second_version() | soiled(),
    st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", SIGNATURE, b"PROXY "]),
)

Verdict = ProxyHeader | str | None


def by_the_tables(data: bytes) -> Verdict:
    """What the specification says of a stream; "bad" for what begins as a header and is none."""
    if data[: len(SIGNATURE)] == SIGNATURE:
        return second_by_the_tables(data)
    if data[:6] == b"PROXY ":
        return first_by_the_tables(data)
    return None if SIGNATURE[: len(data)] == data or b"PROXY "[: len(data)] == data else PLAIN


def first_by_the_tables(data: bytes) -> Verdict:
    lines = data[:MAX_V1].split(b"\n", 1)
    if len(lines) == 1:
        return "bad" if len(data) >= MAX_V1 else None
    size = len(lines[0]) + 1
    if lines[0][-1:] != b"\r" or b"\r" in lines[0][:-1]:
        return "bad"
    words = lines[0][:-1].decode("latin-1").split(" ")
    if words[1] == "UNKNOWN":
        return ProxyHeader(size)
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        return "bad"
    try:
        pair = [ip_address(word) for word in words[2:4]]
    except ValueError:
        return "bad"
    if any(f"TCP{address.version}" != words[1] for address in pair) or "%" in words[2] + words[3]:
        return "bad"
    if any(len(word) > 39 for word in words[2:4]):
        return "bad"
    if not all(re.fullmatch("0|[1-9][0-9]{0,4}", word) and int(word) < 65536 for word in words[4:]):
        return "bad"
    return ProxyHeader(size, (bare(pair[0]), int(words[4])), (bare(pair[1]), int(words[5])))


def second_by_the_tables(data: bytes) -> Verdict:
    if len(data) < 16:
        return None
    version, command, family, transport = data[12] >> 4, data[12] & 15, data[13] >> 4, data[13] & 15
    size = 16 + (data[14] << 8) + data[15]
    if version != 2 or command > 1 or size > MAX_V2:
        return "bad"
    wanted = {0: 0, 1: 12, 2: 36, 3: 216}.get(family)
    if command and (wanted is None or transport != min(family, 1) or size < 16 + wanted):
        return "bad"
    if len(data) < size:
        return None
    if not command or not family:
        return ProxyHeader(size)
    assert wanted is not None
    addresses, vectors = data[16 : 16 + wanted], data[16 + wanted : size]
    sums = []
    while vectors:
        length = int.from_bytes(vectors[1:3], "big")
        if len(vectors) < 3 + length or len(vectors) < 3:
            return "bad"
        if vectors[0] == 3:
            sums.append((size - len(vectors) + 3, vectors[3 : 3 + length]))
        vectors = vectors[3 + length :]
    if len(sums) > 1:
        return "bad"
    for at, value in sums:
        if len(value) != 4 or crc32c(data[:at] + bytes(4) + data[at + 4 : size]) != int.from_bytes(value, "big"):
            return "bad"
    if family == 3:
        return ProxyHeader(size)
    half = (wanted - 4) // 2
    from_port, to_port = struct.unpack("!HH", addresses[-4:])
    pair = [ip_address(addresses[:half]), ip_address(addresses[half : 2 * half])]
    return ProxyHeader(size, (bare(pair[0]), from_port), (bare(pair[1]), to_port))


def bare(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def ours(data: bytes) -> Verdict:
    try:
        return read(data)
    except BadHeader:
        return "bad"


@given(STREAM)
def test_it_is_what_the_tables_say(stream: bytes) -> None:
    assert ours(stream) == by_the_tables(stream)


@given(STREAM)
def test_every_beginning_leads_to_the_same_end(stream: bytes) -> None:
    """However it is cut: nothing is said too early that more bytes would have to take back."""
    whole = ours(stream)
    for end in range(len(stream)):
        assert ours(stream[:end]) in (None, whole)


@given(
    st.binary(max_size=300)
    | st.binary(max_size=300).map(SIGNATURE.__add__)
    | st.binary(max_size=120).map(b"PROXY ".__add__)
)
def test_no_bytes_raise_anything_but_a_refusal(stream: bytes) -> None:
    assert ours(stream) == by_the_tables(stream)
