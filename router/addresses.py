"""Which addresses an app's endpoints may have (contract 7, hardening M-13, M-14 and M-16).

An owner can write any address into an EndpointSlice, and the router stands where the owner does not. Refused is what
would turn it into a door to itself, to its node, to the API server or to cloud metadata; *special* addresses wherever
the router runs, and those behind its :class:`Fence` where it runs here. Every form of an address is judged: IPv6 has
half a dozen ways to carry an IPv4 one.

What must not enter: name resolution. Names are not addresses, and neither are the other ways to spell a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

__all__ = ["API_SERVER", "OWN", "AddressRefused", "Fence", "endpoint_address", "forms"]

METADATA: Final = frozenset(
    map(ip_address, ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"))
)
"""What clouds tell their machines, and only them, outside of the link-local range that most of them use."""
METADATA_NETWORK: Final = IPv6Network("fd00:ec2::/32")

_NUMBER: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4: Final = re.compile(rf"({_NUMBER})\.(?:{_NUMBER})\.(?:{_NUMBER})\.(?:{_NUMBER})", re.ASCII)
"""An IPv4 address in its canonical form, as nearly all are; ``ipaddress`` takes forty times as long to judge one."""
_METADATA_TEXTS: Final = frozenset(map(str, METADATA))

COMPATIBLE: Final = IPv6Network("::/96")
TRANSLATED: Final = IPv6Network("::ffff:0:0:0/96")
NAT64: Final = IPv6Network("64:ff9b::/96")
NAT64_LOCAL: Final = IPv6Network("64:ff9b:1::/48")
"""Where a site puts its own translator (RFC 8215). Where in it the IPv4 address stands is the site's secret."""
ISATAP: Final = frozenset({0x0000_5EFE, 0x0200_5EFE})
"""The upper half of an interface identifier whose lower half is an IPv4 address (RFC 5214, 6.1)."""

OWN: Final = "the router's own"
NODE: Final = "that of the router's node"
API_SERVER: Final = "the API server's"
DENIED: Final = "one in a network that the operator denies"

_VARIABLES: Final = {
    "POD_IP": OWN,
    "POD_IPS": OWN,
    "HOST_IP": NODE,
    "HOST_IPS": NODE,
    "KUBERNETES_SERVICE_HOST": API_SERVER,
}
"""What Kubernetes and the chart put into the environment → whose address it is. Where two agree, the first counts."""


class AddressRefused(ValueError):
    """The address is none, or one that no app may have; the text says what was expected."""


class Fence:
    """Addresses that are in order in general, but not here, because of who lives there.

    ``places``: canonical address → whose it is. ``networks``: CIDR text; a handful, each is asked in turn.
    """

    __slots__ = ("_networks", "_places")

    def __init__(self, places: Mapping[str, str] | None = None, networks: Iterable[str] = ()) -> None:
        self._places = dict(places or {})
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(ip_network(text) for text in networks)

    @classmethod
    def around(cls, environment: Mapping[str, str], denied: Iterable[str] = ()) -> Fence:
        """What the process was told: by its environment, and by the operator (``denied``: networks, CIDR text)."""
        places: dict[str, str] = {}
        for variable, whose in _VARIABLES.items():
            for text in environment.get(variable, "").split(","):
                for address in forms(text.strip()):  # none: KUBERNETES_SERVICE_HOST may be a name
                    places.setdefault(address, whose)
        return cls(places, denied)

    def beside(self, learned: Mapping[str, str]) -> Fence:
        """The same fence, with more places behind it."""
        return Fence({**learned, **self._places}, map(str, self._networks))

    def behind(self, address: str) -> str | None:
        """Whose address (canonical) it is, if it is behind the fence."""
        whose = self._places.get(address)
        if whose is None and self._networks:
            number = ip_address(address)
            whose = DENIED if any(number in network for network in self._networks) else None
        return whose

    def __repr__(self) -> str:
        return f"<Fence around {len(self._places)} addresses and {len(self._networks)} networks>"


def endpoint_address(text: str, fence: Fence, *, loopback_allowed: bool) -> str:
    """The canonical form of an endpoint's address; IPv4 written as mapped IPv6 becomes plain IPv4.

    Raises:
        AddressRefused: not an IP address; or in one of its forms loopback (unless allowed), link-local, metadata,
            multicast, unspecified or otherwise reserved, or behind the fence.
    """
    found = forms(text)
    if not found:
        raise AddressRefused("expected an IP address such as 10.0.0.7 or 2001:db8::7")
    address = found[0]
    if loopback_allowed and _is_loopback(address):
        return address
    if _is_special(text):
        raise AddressRefused("expected the address of a pod, not loopback, link-local, metadata or multicast")
    for form in found:
        whose = fence.behind(form)
        if whose is not None:
            raise AddressRefused(f"expected the address of a pod, not {whose}")
    return address


@lru_cache(maxsize=1 << 16)  # every recompilation of an app judges all of its addresses
def forms(text: str) -> tuple[str, ...]:
    """The canonical address that ``text`` is, then the IPv4 addresses that it carries; none: it is no address."""
    if _IPV4.fullmatch(text):
        return (text,)
    # Zone identifiers name an interface of this machine, and only link-local addresses have them.
    try:
        address = ip_address(text) if "%" not in text else None
    except ValueError:
        address = None
    if address is None:
        return ()
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return (str(address), *map(str, _carried(address)))


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


@lru_cache(maxsize=1 << 16)
def _is_special(text: str) -> bool:
    """Whether one of the forms of an address is in nobody's cluster, or in everybody's."""
    if plain := _IPV4.fullmatch(text):
        # As _is_out_of_reach has it: "this" network, loopback, link-local, multicast, reserved.
        first = int(plain[1])
        return first in (0, 127) or first >= 224 or text.startswith("169.254.") or text in _METADATA_TEXTS
    found = [ip_address(form) for form in forms(text)]
    return any(map(_is_out_of_reach, found)) or found[0] in NAT64_LOCAL


def _is_out_of_reach(address: IPv4Address | IPv6Address) -> bool:
    return (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address in METADATA
        or address in METADATA_NETWORK
        or (isinstance(address, IPv4Address) and (address.is_reserved or address.packed[0] == 0))
    )


def _carried(address: IPv4Address | IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses inside an IPv6 one: NAT64, SIIT, 6to4, Teredo, ISATAP and the compatible form of old."""
    if isinstance(address, IPv4Address):
        return
    number = int(address)
    inside = address in COMPATIBLE and number > 1
    if inside or address in NAT64 or address in TRANSLATED or number >> 32 & 0xFFFF_FFFF in ISATAP:
        yield IPv4Address(number & 0xFFFF_FFFF)
    if address.sixtofour:
        yield address.sixtofour
    if address.teredo:
        yield from address.teredo
