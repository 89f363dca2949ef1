"""Which addresses an app's endpoints may have (contract 7, hardening M-13 and M-14).

An owner can write any address into an EndpointSlice, and the router stands where the owner does not: refused is
whatever would turn it into a door to itself, to its node or to cloud metadata, also inside IPv6 forms that carry an
IPv4 address.

What must not enter: name resolution. Names are not addresses.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

__all__ = ["AddressRefused", "endpoint_address"]

METADATA: Final = frozenset({ip_address("100.100.100.200"), ip_address("fd00:ec2::254")})
"""Metadata services outside of the link-local range that all others use."""

NAT64: Final = IPv6Network("64:ff9b::/96")
COMPATIBLE: Final = IPv6Network("::/96")


class AddressRefused(ValueError):
    """The address is none, or one that no app may have; the text says what was expected."""


@lru_cache(maxsize=1 << 15)  # every recompilation of an app judges all of its addresses
def endpoint_address(text: str, *, loopback_allowed: bool) -> str:
    """The canonical form of an endpoint's address; IPv4 written as mapped IPv6 becomes plain IPv4.

    Raises:
        AddressRefused: not an IP address, or loopback (unless allowed), link-local, metadata, multicast, unspecified or
            otherwise reserved, in whatever form.
    """
    # Zone identifiers name an interface of this machine, and only link-local addresses have them.
    try:
        address = ip_address(text) if "%" not in text else None
    except ValueError:
        address = None
    if address is None:
        raise AddressRefused("expected an IP address such as 10.0.0.7 or 2001:db8::7")
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_loopback and loopback_allowed:
        return str(address)
    for form in (address, *_carried(address)):
        if (
            form.is_loopback
            or form.is_link_local
            or form.is_multicast
            or form.is_unspecified
            or form in METADATA
            or (isinstance(form, IPv4Address) and (form.is_reserved or form.packed[0] == 0))
        ):
            raise AddressRefused("expected the address of a pod, not loopback, link-local, metadata or multicast")
    return str(address)


def _carried(address: IPv4Address | IPv6Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses inside an IPv6 one: NAT64, 6to4, Teredo and the compatible form of old."""
    if isinstance(address, IPv4Address):
        return ()
    carried: list[IPv4Address] = []
    if address in NAT64 or (address in COMPATIBLE and int(address) > 1):
        carried.append(IPv4Address(int(address) & 0xFFFFFFFF))
    if address.sixtofour:
        carried.append(address.sixtofour)
    if address.teredo:
        carried.extend(address.teredo)
    return tuple(carried)
