"""Who the client really is: the socket's peer, or what a *trusted* peer says about it (contract 5 and 6).

What must not enter: sockets and requests; addresses come as text.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

__all__ = ["NetworkSet", "client_address", "client_key"]

MOST_ENTRIES: Final = 64
"""Of ``X-Forwarded-For``, that are looked at: proxies that a request has passed, one behind the other."""
_FOUR = 4
_SIX = 6


def _numbers(address: IPv4Address | IPv6Address) -> tuple[int, int]:
    """``(family, value)``, with IPv4 in its IPv6-mapped form unwrapped: one client must not have two faces."""
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        if mapped is not None:
            return _FOUR, int(mapped)
        return _SIX, int(address)
    return _FOUR, int(address)


def client_key(address: str) -> str:
    """What is counted as one client: an IPv4 address, or the /64 of an IPv6 one, all of which one client may use."""
    if ":" not in address:
        return address
    try:
        six = IPv6Address(address)
    except ValueError:
        return address
    return str(six.ipv4_mapped) if six.ipv4_mapped else str(IPv6Address(int(six) >> 64 << 64))


class NetworkSet:
    """A set of IPv4 and IPv6 networks; ``in`` costs one binary search however many there are."""

    __slots__ = ("_ends", "_starts", "size")

    def __init__(self, networks: Iterable[str]) -> None:
        """``networks`` are addresses or CIDR texts. Raises ValueError for anything else."""
        ranges: dict[int, list[tuple[int, int]]] = {_FOUR: [], _SIX: []}
        self.size = 0
        for text in networks:
            network = ip_network(text, strict=False)
            family, start = _numbers(network.network_address)
            if family != network.version and network.prefixlen < 96:
                family, start = _SIX, int(network.network_address)
            ranges[family].append((start, start + network.num_addresses - 1))
            self.size += 1
        self._starts: dict[int, list[int]] = {}
        self._ends: dict[int, list[int]] = {}
        for family, spans in ranges.items():
            starts: list[int] = []
            ends: list[int] = []
            for start, end in sorted(spans):
                if ends and start <= ends[-1] + 1:
                    ends[-1] = max(ends[-1], end)
                else:
                    starts.append(start)
                    ends.append(end)
            self._starts[family] = starts
            self._ends[family] = ends

    def __contains__(self, address: object) -> bool:
        """Whether an address (text) is in one of the networks; what is not an address is in none."""
        if not self.size or not isinstance(address, str):
            return False
        try:
            family, value = _numbers(ip_address(address))
        except ValueError:
            return False
        at = bisect_right(self._starts[family], value) - 1
        return at >= 0 and value <= self._ends[family][at]


def client_address(peer: str, forwarded_for: Sequence[bytes], trusted: NetworkSet) -> tuple[str, list[str]]:
    """``(client, chain)``: the client's address, and the addresses that a trusted chain vouches for, left to right.

    ``forwarded_for`` are the values of ``X-Forwarded-For`` in the order of their lines. The list is walked from the
    right past trusted addresses; the first one that is not trusted is the client. An entry that is not an address ends
    the walk: what stands left of it could have been written by anybody. Empty entries are skipped (RFC 9110 5.6.1.2),
    and an IPv4-mapped address is the IPv4 address that it holds, so that logs, limits and apps see one client once.
    After :data:`MOST_ENTRIES` the walk ends: a head has room for thousands, and each takes some microseconds.
    """
    if peer not in trusted:
        return peer, []
    chain: list[str] = []
    client = peer
    for entry in _from_the_right(forwarded_for):
        if not entry:
            continue
        address = _address(entry)
        if address is None:
            break
        chain.append(address)
        client = address
        if address not in trusted:
            break
    chain.reverse()
    return client, chain


def _from_the_right(values: Sequence[bytes]) -> Iterator[bytes]:
    """The last :data:`MOST_ENTRIES` entries, the last one first."""
    left = MOST_ENTRIES
    for value in reversed(values):
        for entry in reversed(value.rsplit(b",", left)):
            if not left:
                return  # here stands everything that was not split
            left -= 1
            yield entry.strip(b" \t")


def _address(entry: bytes) -> str | None:
    """An entry of ``X-Forwarded-For`` as an address, with the port that some load balancers add cut off."""
    try:
        text = entry.decode("ascii")
    except UnicodeDecodeError:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    if "%" in text:  # what stands behind it, a zone, is free text
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
