"""The addresses of this machine's or Pod's network interfaces, as the kernel lists them (rtnetlink(7), RTM_GETADDR).

Asked once when the router starts: the addresses of a Pod do not change during its life. The standard library only
names interfaces, and ``/proc/net`` has no plain list of their IPv4 addresses.

What must not enter: which of these addresses an app may have (``model.address_policy``).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Final

__all__ = ["addresses"]

_RTM_NEWADDR: Final = 20
_RTM_GETADDR: Final = 22
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_NLM_F_REQUEST_DUMP: Final = 0x301
"""NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH."""
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
"""The own address of a point-to-point interface, whose IFA_ADDRESS is the peer's."""
_HEADER: Final = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence, port."""
_IFADDRMSG: Final = struct.Struct("=BBBBI")
"""ifaddrmsg: family, prefix length, flags, scope, index of the interface."""
_ATTRIBUTE: Final = struct.Struct("=HH")
"""rtattr: length, type."""
_SECONDS: Final = 2.0
_READ: Final = 1 << 16


def addresses() -> list[str]:
    """Every address of every interface. Raises OSError if the kernel does not say."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(_SECONDS)
        kernel.bind((0, 0))
        body = _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        kernel.send(_HEADER.pack(_HEADER.size + len(body), _RTM_GETADDR, _NLM_F_REQUEST_DUMP, 1, 0) + body)
        found: dict[str, None] = {}
        while True:
            for kind, payload in _parts(kernel.recv(_READ), _HEADER):
                if kind == _NLMSG_DONE:
                    return list(found)
                if kind == _NLMSG_ERROR:
                    raise OSError("the kernel does not list the addresses of interfaces")
                if kind == _RTM_NEWADDR and (address := _address(payload)):
                    found[address] = None


def _address(payload: bytes) -> str | None:
    family, *_ = _IFADDRMSG.unpack_from(payload)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    attributes = dict(_parts(payload[_IFADDRMSG.size :], _ATTRIBUTE))
    packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    return socket.inet_ntop(family, packed) if packed else None


def _parts(data: bytes, header: struct.Struct) -> Iterator[tuple[int, bytes]]:
    """(type, payload) of messages or attributes, each padded to four bytes; both begin with length and type."""
    start = 0
    while len(data) - start >= header.size:
        length, kind, *_ = header.unpack_from(data, start)
        if length < header.size:
            return
        yield kind, data[start + header.size : start + length]
        start += (length + 3) & ~3
