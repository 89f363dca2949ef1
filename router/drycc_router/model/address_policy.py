"""Which addresses an app's endpoints may have (contract 7, hardening M-13, M-14 and M-16).

An owner can write any address into an EndpointSlice, and the router stands where the owner does not. Refused is what
would turn it into a door to itself, to a node's components, to the API server or to cloud metadata: *special* addresses
wherever the router runs, and those behind its :class:`Fence` where it runs here. Every form of an address is judged:
IPv6 has half a dozen ways to carry an IPv4 one.

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
COMPONENT: Final = "where a component of Kubernetes or the router listens on nodes"
API_SERVER: Final = "the API server's"
DENIED: Final = "one in a network that the operator denies"

KUBELET_PORTS: Final = frozenset({10250, *range(10255, 10260)})
"""Ports of kubelet, kube-proxy, cloud-controller-manager, kube-controller-manager and kube-scheduler. Refused at every
address: the router has no right to list nodes, so any address may be one."""
CONTROL_PLANE_PORTS: Final = frozenset({6443, 2379, 2380})
"""Ports of the API server and of etcd. Refused at the addresses of nodes; apps in Pods may use them."""

_VARIABLES: Final = {"POD_IP": OWN, "POD_IPS": OWN, "KUBERNETES_SERVICE_HOST": API_SERVER}
"""What Kubernetes and the chart put into the environment → whose address it is. Where two agree, the first counts."""
_NODE_VARIABLES: Final = ("HOST_IP", "HOST_IPS")
_NODE_PORTS: Final = "HOST_PORTS"
"""Set by the chart: ports of the node that lead to the router."""

_NODE_COMPONENTS: Final = KUBELET_PORTS | CONTROL_PLANE_PORTS

Networks = tuple[IPv4Network | IPv6Network, ...]
Ports = Mapping[int, str]
"""Port → whose it is."""
_NONE: Final[Ports] = {}


class AddressRefused(ValueError):
    """The address is none, or one that no app may have; the text says what was expected."""


class Fence:
    """Addresses that no app may have in this cluster, because of who listens there. Immutable.

    ``places``: canonical address → whose it is; refused on every port. ``nodes``: canonical address → ports that are
    refused there, and whose they are; an app in the host network has its node's address, so a node is never refused as
    a whole.
    ``everywhere``: ports that are refused at every address. ``denied``, ``allowed``: networks (CIDR text), few, each is
    asked in turn; what is in an allowed one is refused for no reason but that it is no unicast address.
    """

    __slots__ = ("_allowed", "_denied", "_everywhere", "_node_ports", "_nodes", "_places", "in_host_network")

    def __init__(
        self,
        places: Mapping[str, str] | None = None,
        denied: Iterable[str] = (),
        *,
        nodes: Mapping[str, Ports] | None = None,
        everywhere: frozenset[int] = frozenset(),
        allowed: Iterable[str] = (),
        node_ports: Iterable[int] = _NODE_COMPONENTS,
        in_host_network: bool = False,
    ) -> None:
        self._node_ports: Ports = dict.fromkeys(node_ports, COMPONENT)
        """Ports that are refused at every address of a node, besides those that stand in ``nodes``."""
        self.in_host_network = in_host_network
        """Whether the router's addresses are those of its nodes."""
        self._places = dict(places or {})
        self._nodes = dict(nodes or {})
        self._everywhere = everywhere
        self._denied = _networks(denied)
        self._allowed = _networks(allowed)

    @classmethod
    def around(
        cls,
        environment: Mapping[str, str],
        denied: Iterable[str] = (),
        *,
        interfaces: Iterable[str] = (),
        api: Iterable[tuple[str, int]] = (),
        ports: Iterable[int] = (),
        sees_api: bool = True,
    ) -> Fence:
        """The fence of a router in a cluster.

        ``environment``: of the process. ``interfaces``: addresses of this machine or Pod. ``api``: (address, port) of
        the API server, as the credentials name it. ``ports``: on which the router listens. ``sees_api``: whether
        objects tell where the API server's endpoints are; if not, its ports are refused at every address.
        """
        places: dict[str, str] = {}
        own_ports = {int(text) for text in environment.get(_NODE_PORTS, "").split(",") if text.strip().isdecimal()}
        node_ports = _NODE_COMPONENTS | own_ports | frozenset(ports)
        on_a_node: Ports = dict.fromkeys(node_ports, COMPONENT)
        machine = [address for variable in _NODE_VARIABLES for address in _written(environment.get(variable, ""))]
        nodes: dict[str, Ports] = dict.fromkeys(machine, on_a_node)
        for text, port in api:
            for address in forms(text):
                nodes[address] = {**nodes.get(address, on_a_node), port: API_SERVER}
        for variable, whose in _VARIABLES.items():
            for address in _written(environment.get(variable, "")):
                places.setdefault(address, whose)
        for text in interfaces:
            for address in forms(text):
                places.setdefault(address, OWN)
        shared = {address for address in machine if places.get(address) == OWN}
        for address in shared:  # in the host network
            del places[address]
        return cls(
            places,
            denied,
            nodes=nodes,
            everywhere=KUBELET_PORTS if sees_api else _NODE_COMPONENTS,
            node_ports=node_ports,
            in_host_network=bool(shared),
        )

    def beside(
        self,
        learned: Mapping[str, str],
        nodes: Mapping[str, Ports] | None = None,
        *,
        denied: Iterable[str] = (),
        allowed: Iterable[str] = (),
    ) -> Fence:
        """The same fence with more behind it. An address in ``nodes`` is refused on the ports of components, too."""
        more = {
            address: {**self._nodes.get(address, self._node_ports), **ports} for address, ports in (nodes or {}).items()
        }
        return Fence(
            {**{address: whose for address, whose in learned.items() if address not in self._nodes}, **self._places},
            (*map(str, self._denied), *denied),
            nodes={**self._nodes, **more},
            everywhere=self._everywhere,
            allowed=(*map(str, self._allowed), *allowed),
            node_ports=self._node_ports,
            in_host_network=self.in_host_network,
        )

    def behind(self, address: str, port: int | None = None) -> str | None:
        """Whose address (canonical) it is at this port, if it is behind the fence. No port: as a whole."""
        whose = self._places.get(address)
        if whose is None and port is not None:
            whose = self._nodes.get(address, _NONE).get(port, COMPONENT if port in self._everywhere else None)
            if whose is COMPONENT:
                return f"port {port}, {COMPONENT}"
        if whose is None and self._denied:
            return DENIED if _is_in(address, self._denied) else None
        return whose

    def is_node(self, address: str) -> bool:
        """Whether an address (canonical) is known to be that of a node."""
        return address in self._nodes

    def allows(self, address: str) -> bool:
        """Whether the operator makes an exception for an address (canonical)."""
        return bool(self._allowed) and _is_in(address, self._allowed)

    def __repr__(self) -> str:
        return f"<Fence: {self.summary}>"

    @property
    def summary(self) -> str:
        """How much is refused, for the log."""
        nodes, networks = len(self._nodes), len(self._denied)
        return (
            f"{len(self._places)} addresses, ports of components at {nodes} node addresses, {networks} denied networks"
        )


def _networks(texts: Iterable[str]) -> Networks:
    return tuple(ip_network(text) for text in texts)


def _is_in(address: str, networks: Networks) -> bool:
    number = ip_address(address)
    return any(number in network for network in networks)


def _written(text: str) -> Iterator[str]:
    """The addresses in a list of them, canonical; none where it is a name."""
    for part in text.split(","):
        yield from forms(part.strip())


def endpoint_address(text: str, fence: Fence, port: int | None = None, *, loopback_allowed: bool) -> str:
    """The canonical form of an endpoint's address; IPv4 written as mapped IPv6 becomes plain IPv4.

    Raises:
        AddressRefused: not an IP address; or in one of its forms loopback (unless allowed), link-local, metadata,
            multicast, unspecified or otherwise reserved, or behind the fence at ``port``. Exceptions that the operator
            makes count for every form but multicast, unspecified and reserved addresses.
    """
    found = forms(text)
    if not found:
        raise AddressRefused("expected an IP address such as 10.0.0.7 or 2001:db8::7")
    address = found[0]
    in_order = loopback_allowed and _is_loopback(address)
    if not in_order and _is_special(text) and not all(_is_excepted(form, fence) for form in found):
        raise AddressRefused("expected the address of a pod, not loopback, link-local, metadata or multicast")
    for form in found:
        whose = fence.behind(form, port)
        if whose is not None and not fence.allows(form):
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


def _is_excepted(form: str, fence: Fence) -> bool:
    """Whether one form of a special address, taken alone, is in order: nothing special, or allowed by the operator."""
    address = ip_address(form)
    if not _is_out_of_reach(address) and address not in NAT64_LOCAL:
        return True
    return fence.allows(form) and not _is_no_unicast(address)


def _is_no_unicast(address: IPv4Address | IPv6Address) -> bool:
    """Whether no machine can have the address. Linux takes unspecified ones for loopback."""
    if address.is_multicast or address.is_unspecified:
        return True
    return isinstance(address, IPv4Address) and (address.is_reserved or address.packed[0] == 0)


def _is_out_of_reach(address: IPv4Address | IPv6Address) -> bool:
    return (
        address.is_loopback
        or address.is_link_local
        or address in METADATA
        or address in METADATA_NETWORK
        or _is_no_unicast(address)
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
