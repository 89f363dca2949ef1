"""The PROXY header, versions 1 and 2: what a load balancer that passes bytes on says about its client, before them.

From the protocol's specification ("The PROXY protocol", versions 1 and 2, revision 2020/03/05): bytes in, addresses
out. Read as strictly as HTTP is, because whoever is believed here chooses the address that lists and logs go by.

What must not enter: sockets, clocks, and who may be believed (``entrance`` asks ``peer``).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

from drycc_proxy.routing.definitions import Address

__all__ = ["MAX_V1", "MAX_V2", "PLAIN", "SIGNATURE", "BadHeader", "ProxyHeader", "read", "written"]

MAX_V1: Final = 107
"""Bytes of a version 1 line, its CRLF included (2.1)."""
MAX_V2: Final = 4096
"""Bytes of a version 2 header that are waited for. The format allows 64 KiB more; what load balancers send is below
one (nginx has the same bound)."""
SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
"""How version 2 begins (2.2)."""

_V1: Final = b"PROXY "
_V1_LINE: Final = re.compile(
    rb"PROXY (TCP[46]) ([0-9A-Fa-f:.]{2,39}) ([0-9A-Fa-f:.]{2,39}) ([0-9]{1,5}) ([0-9]{1,5})\r\n"
)
_V1_UNKNOWN: Final = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")

_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_UNSPECIFIED: Final = 0x00
_SIZES: Final = {0x11: 12, 0x21: 36, 0x31: 216}
"""Bytes of the addresses, by family and transport: TCP over IPv4 and IPv6, stream over Unix."""
_CHECKSUM: Final = 0x03
"""Type of the TLV with a CRC-32C of the whole header (2.2.3)."""


class BadHeader(Exception):
    """It begins as a PROXY header and is none. The text says what is wrong."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """One header. Without addresses its sender speaks for itself, or cannot say for whom."""

    size: int
    """Bytes it takes; behind it the client's own begin. 0: there is no header."""
    source: Address | None = None
    """The client's address as text, canonical, and its port."""
    destination: Address | None = None
    """What the client connected to."""


PLAIN: Final = ProxyHeader(0)
"""No header: the first byte is the client's own."""


def read(data: bytes) -> ProxyHeader | None:
    """Read the header that ``data`` begins with: :data:`PLAIN` if there is none, None if more bytes must tell.

    Raises :class:`BadHeader`. At most :data:`MAX_V2` bytes are ever waited for.
    """
    if data.startswith(_V1):
        return _read_v1(data)
    if data.startswith(SIGNATURE):
        return _read_v2(data)
    if _V1.startswith(data) or SIGNATURE.startswith(data):
        return None
    return PLAIN


def written(version: str, source: Address, destination: Address) -> bytes:
    """The header that tells an app who comes: ``v1`` or ``v2``, with two addresses as text and their ports.

    Addresses of two families, as when an IPv4 client comes by way of IPv6, are written as IPv6 both. The length of
    version 2 is counted from what is written (hardening P-03).
    """
    ends = [IPv6Address(ip) if ":" in ip else IPv4Address(ip) for ip, _ in (source, destination)]
    if ends[0].version != ends[1].version:
        ends = [end if isinstance(end, IPv6Address) else IPv6Address(f"::ffff:{end}") for end in ends]
    four = ends[0].version == 4
    if version == "v1":
        return f"PROXY TCP{4 if four else 6} {ends[0]} {ends[1]} {source[1]} {destination[1]}\r\n".encode("ascii")
    body = ends[0].packed + ends[1].packed + struct.pack("!HH", source[1], destination[1])
    return SIGNATURE + struct.pack("!BBH", _PROXY, 0x11 if four else 0x21, len(body)) + body


def _read_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\n", 0, MAX_V1) + 1
    if not end:
        if len(data) >= MAX_V1:
            raise BadHeader(f"its line has more than {MAX_V1} bytes")
        return None
    line = data[:end]
    if _V1_UNKNOWN.fullmatch(line) is not None:
        return ProxyHeader(end)
    match = _V1_LINE.fullmatch(line)
    if match is None:
        raise BadHeader("its line is not that of version 1")
    family, *words = match.groups()
    parse = IPv4Address if family == b"TCP4" else IPv6Address
    try:
        addresses = [_canonical(parse(word.decode("ascii"))) for word in words[:2]]
    except AddressValueError as error:
        raise BadHeader("an address is not of its family") from error
    return ProxyHeader(end, (addresses[0], _port(words[2])), (addresses[1], _port(words[3])))


def _port(word: bytes) -> int:
    port = int(word)
    if port > 0xFFFF or b"%d" % port != word:
        raise BadHeader("a port is not from 0 to 65535")
    return port


def _read_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < 16:
        return None
    command, family, length = struct.unpack_from("!BBH", data, 12)
    size = 16 + length
    if command not in (_LOCAL, _PROXY):
        raise BadHeader("its version or command is unknown")
    if size > MAX_V2:
        raise BadHeader(f"it has more than {MAX_V2} bytes")
    known = _SIZES.get(family)
    if command == _PROXY:
        if known is None and family != _UNSPECIFIED:
            raise BadHeader("its family or transport is not one of a stream")
        if length < (known or 0):
            raise BadHeader("it is too short for its addresses")
    if len(data) < size:
        return None
    if command == _LOCAL or known is None:
        return ProxyHeader(size)  # whatever stands in it is to be passed over (2.2)
    _check_tlvs(data[:size], 16 + known)
    if family == 0x11:
        source, destination, from_port, to_port = struct.unpack_from("!4s4sHH", data, 16)
    elif family == 0x21:
        source, destination, from_port, to_port = struct.unpack_from("!16s16sHH", data, 16)
    else:
        return ProxyHeader(size)  # a Unix socket has no address that anybody here could use
    make = IPv4Address if family == 0x11 else IPv6Address
    return ProxyHeader(size, (_canonical(make(source)), from_port), (_canonical(make(destination)), to_port))


def _canonical(address: IPv4Address | IPv6Address) -> str:
    """As text; IPv4 in its IPv6-mapped form unwrapped: one client must not have two faces."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _check_tlvs(header: bytes, at: int) -> None:
    """Walk the vectors behind the addresses: they must fill the header exactly, and a checksum must be right."""
    checksum = -1
    while at < len(header):
        if at + 3 > len(header):
            raise BadHeader("a vector is cut off")
        kind, length = struct.unpack_from("!BH", header, at)
        at += 3
        if at + length > len(header):
            raise BadHeader("a vector is longer than the header")
        if kind == _CHECKSUM:
            if length != 4 or checksum >= 0:
                raise BadHeader("its checksum is not one of 4 bytes")
            checksum = at
        at += length
    if checksum >= 0:
        stated = struct.unpack_from("!I", header, checksum)[0]
        if crc32c(header[:checksum] + b"\x00\x00\x00\x00" + header[checksum + 4 :]) != stated:
            raise BadHeader("its checksum is wrong")


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE: Final = _table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, RFC 9260 appendix A)."""
    crc = 0xFFFFFFFF
    table = _TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
