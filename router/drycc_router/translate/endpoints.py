"""Where requests to a Service go: its slices and its own address in, addresses and Problems out. Pure.

An owner may write as many slices as the API server takes, a thousand endpoints in each. So what a slice comes to is
remembered until it differs (:class:`Judge`), and of all slices of a Service no more are looked at than are needed for
the endpoints that an app may have: the cost of a change is that of the slice that changed and of what is in force.

What must not enter: annotations, which port is meant, and which addresses are in order (``model.address_policy``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec

from drycc_proxy.routing.definitions import Address
from drycc_router.model.address_policy import AddressRefused, Fence, endpoint_address
from drycc_router.model.objects import EndpointSlice, ObjectKey, Service, ServicePort
from drycc_router.model.problems import Problem, Reason, bounded
from drycc_router.model.quotas import ENDPOINTS, JUDGED, SLICES

__all__ = ["Found", "Judge", "Meant", "Verdict", "find"]

_REMEMBERED: Final = 8
"""Addresses from which on a slice's verdict is remembered. Nearly all slices are smaller, and soon judged anew."""
_ADDRESSES: Final = 4 * ENDPOINTS
"""Addresses of one Service's endpoints that are looked at, and of one slice that are judged. An endpoint may have a
hundred of them, although no controller writes more than one; a Pod of two families has one in each of two slices."""
TOLD: Final = 20
"""Slices of one Service whose Problems are told one by one."""

_NO_PORT: Final[tuple[int | None, ...]] = (None,)

_Pair = tuple[ObjectKey | Address, Address]
"""What an endpoint is (a Pod, or its address where it does not say), and where."""


class Meant(Enum):
    """Which endpoints of a Service's slices count."""

    READY = "ready"
    LEAVING = "leaving"
    """None is ready: those that terminate and still serve, as kube-proxy does it (KEP-1669)."""
    EVERY = "every"

    __hash__ = object.__hash__


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What one slice comes to, at one port."""

    found: tuple[_Pair, ...]
    is_meant: bool
    """Whether it has an endpoint that is meant, in order or not, at the port."""
    is_refused: bool
    """Whether it has an address that no app may have."""
    problems: tuple[Problem, ...]
    judged: int = 0
    """Addresses that were judged for it, once for each port."""


class Judge:
    """Judges slices, and remembers their verdicts. One writer. ``trusted``: the objects are the operator's own, so
    endpoints may be on loopback."""

    __slots__ = ("_known", "trusted")

    def __init__(self, *, trusted: bool) -> None:
        self.trusted = trusted
        self._known: dict[ObjectKey, dict[tuple[str, str, Meant], tuple[EndpointSlice, Fence, Verdict]]] = {}

    def __repr__(self) -> str:
        return f"<Judge of {len(self._known)} slices>"

    def forget(self, key: ObjectKey) -> None:
        """A slice differs, or is gone."""
        self._known.pop(key, None)

    def verdict(self, view: EndpointSlice, port: ServicePort, fence: Fence, meant: Meant) -> Verdict:
        """What a slice comes to."""
        endpoints = view.endpoints
        if len(endpoints) < _REMEMBERED and sum(len(each.addresses) for each in endpoints) < _REMEMBERED:
            return _judged(view, port, fence, self.trusted, meant)
        ways = self._known.setdefault(view.key, {})
        way = (port.name, port.protocol, meant)
        known = ways.get(way)
        if known is not None and known[0] is view and known[1] is fence:
            return known[2]
        verdict = _judged(view, port, fence, self.trusted, meant)
        ways[way] = view, fence, verdict
        return verdict


def _judged(view: EndpointSlice, port: ServicePort, fence: Fence, trusted: bool, meant: Meant) -> Verdict:
    """The addresses of the endpoints that are meant, at the port that bears the Service port's name (as kube-proxy
    matches them). Where a slice has no such port an address is judged as a whole."""
    if view.address_type == "FQDN":
        message = "expected IPv4 or IPv6: names are not looked up"
        problem = Problem(Reason.REFUSED_ADDRESS, view.key, "addressType", view.address_type, message)
        return Verdict((), False, False, (problem,))
    numbers = [each.port for each in view.ports if each.name == port.name and each.protocol == port.protocol]
    problems = []
    if view.endpoints and not numbers:
        called = f"named {port.name!r}" if port.name and port.name.isascii() else "without a name"
        message = f"expected a TCP port {called}, as the Service calls it"
        problems.append(Problem(Reason.NO_PORT, view.key, "ports", "", message))
    found: list[_Pair] = []
    is_meant = is_refused = False
    left = most = JUDGED if meant is Meant.EVERY else _ADDRESSES
    for position, endpoint in enumerate(view.endpoints):
        if not (endpoint.ready if meant is Meant.READY else meant is Meant.EVERY or endpoint.leaving):
            continue
        is_meant = is_meant or endpoint.ready or endpoint.leaving
        target = endpoint.target
        if target and (target.kind == "Node" or target.namespace not in ("", view.key.namespace)):
            is_refused = True
            message = "expected a Pod of the same namespace"
            where = f"endpoints[{position}].targetRef"
            problems.append(Problem(Reason.REFUSED_ADDRESS, view.key, where, str(target), message))
            continue
        left -= len(endpoint.addresses) * len(numbers or _NO_PORT)
        if left < 0:
            is_refused = True
            message = f"expected at most {most} addresses in a slice; the others are left out"
            problems.append(Problem(Reason.OVER_QUOTA, view.key, f"endpoints[{position}].addresses", "", message))
            break
        for text in endpoint.addresses:
            for number in numbers or _NO_PORT:
                try:
                    ip = endpoint_address(text, fence, number, loopback_allowed=trusted)
                except AddressRefused as refused:
                    is_refused = True
                    where = f"endpoints[{position}].addresses"
                    problems.append(Problem(Reason.REFUSED_ADDRESS, view.key, where, text, str(refused)))
                    continue
                if number is not None:
                    address = (ip, number)
                    found.append((target if target and target.name else address, address))
    return Verdict(
        tuple(found), is_meant and bool(numbers), is_refused, bounded(problems) if problems else (), most - left
    )


@dataclass(slots=True)
class Found:
    """Where requests go; no address: nowhere, which visitors see as 503."""

    addresses: tuple[Address, ...] = ()
    """Sorted, each once."""
    slices: tuple[ObjectKey, ...] = ()
    """Those that some of them come from."""
    problems: tuple[Problem, ...] = ()
    """About slices, bounded."""
    about_service: tuple[Problem, ...] = ()


def find(
    service: Service,
    port: ServicePort | None,
    slices: Iterable[EndpointSlice],
    fence: Fence,
    judge: Judge,
    *,
    own_address: bool = False,
    before: Found | None = None,
) -> Found:
    """What a Service comes to at one of its ports. ``own_address``: requests go to the Service's own address, and the
    cluster chooses among its endpoints. ``before``: what it came to before; that stays where there is too much."""
    if service.type == "ExternalName":
        message = "expected a Service with endpoints: names outside of the cluster are refused"
        problem = Problem(Reason.EXTERNAL_NAME, service.key, "spec.type", service.type, message)
        return Found(about_service=(problem,))
    if port is None:
        return Found()
    views = list(slices)
    if own_address:
        return _own_address(service, port, views, fence, judge)
    # A Service that was deleted and created anew has its own slices soon; until then those of the old one linger.
    views = [view for view in views if not (view.owner and service.uid and view.owner != service.uid)]
    return _endpoints(service, port, views, fence, judge, before)


# ── endpoints ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _endpoints(
    service: Service, port: ServicePort, views: list[EndpointSlice], fence: Fence, judge: Judge, before: Found | None
) -> Found:
    """The addresses of the endpoints that are ready; else of those that terminate and still serve.

    A Pod of a dual-stack cluster stands in a slice of either family and is one endpoint all the same: it is asked at
    the address of the family that its Service's own address has (headless: IPv4), so that it gets a Pod's share.
    """
    six = ":" in service.cluster_ip
    if len(views) > 1:
        views = _in_order(views, six, before)
    for meant in (Meant.READY, Meant.LEAVING):
        found: dict[ObjectKey | Address, set[Address]] = {}
        verdicts: list[tuple[EndpointSlice, Verdict]] = []
        is_more = is_meant = False
        looked_at = 0
        for view in views:
            if len(found) > ENDPOINTS or looked_at > _ADDRESSES or len(verdicts) >= SLICES:
                is_more = True
                break
            verdict = judge.verdict(view, port, fence, meant)
            verdicts.append((view, verdict))
            looked_at += len(verdict.found)
            for identity, address in verdict.found:
                found.setdefault(identity, set()).add(address)
            is_meant = is_meant or verdict.is_meant
        if is_meant:
            break
    if len(found) == 1:
        [several] = found.values()
        addresses = _of_one_family(several, six)
    else:
        addresses = {address for each in found.values() for address in _of_one_family(each, six)}
    result = Found(_at_most(addresses, before))
    if len(addresses) > ENDPOINTS or is_more:
        message = f"expected at most {ENDPOINTS} endpoints; the others are left out"
        result.about_service = (Problem(Reason.OVER_QUOTA, service.key, "", "", message),)
    if len(views) > 1:
        result.slices = tuple(sorted(view.key for view, verdict in verdicts if verdict.found))
    result.problems = _told(service, [verdict for _, verdict in verdicts])
    return result


def _in_order(views: list[EndpointSlice], six: bool, before: Found | None) -> list[EndpointSlice]:
    """Slices of endpoints that are in force first, then those of the Service's own family, then by name."""
    in_force = frozenset(before.slices if before else ())
    return sorted(
        views,
        key=lambda view: (view.key not in in_force, (view.address_type == "IPv6") is not six, view.key),
    )


def _at_most(addresses: Iterable[Address], before: Found | None) -> tuple[Address, ...]:
    """Sorted, and no more than an app may have: those that it had before, then the first ones."""
    wanted = sorted(addresses)
    if len(wanted) > ENDPOINTS:
        known = set(before.addresses if before else ())
        wanted = sorted(sorted(wanted, key=lambda address: address not in known)[:ENDPOINTS])
    return tuple(wanted)


def _of_one_family(addresses: set[Address], six: bool) -> set[Address]:
    if len(addresses) > 1:
        preferred = {(ip, port) for ip, port in addresses if (":" in ip) is six}
        return preferred or addresses
    return addresses


# ── the Service's own address ─────────────────────────────────────────────────────────────────────────────────────────


def _own_address(service: Service, port: ServicePort, views: list[EndpointSlice], fence: Fence, judge: Judge) -> Found:
    """The Service's address, while every address behind it is in order and one is ready.

    kube-proxy chooses among all slices with the Service's label, whoever owns them, and by conditions of its own: it
    sends to a terminating endpoint that says it is ready. So every address in them has to be in order.
    """
    result = Found()
    verdicts = []
    judged = 0
    for view in views:
        verdicts.append(judge.verdict(view, port, fence, Meant.EVERY))
        judged += verdicts[-1].judged
        if judged > JUDGED or len(verdicts) > JUDGED:
            message = f"expected at most {JUDGED} addresses behind the Service's own address, each of which is judged"
            result.about_service = (Problem(Reason.OVER_QUOTA, service.key, "", "", message),)
            return result
    result.problems = _told(service, verdicts)
    is_ready = any(verdict.is_meant for verdict in verdicts) and any(verdict.found for verdict in verdicts)
    if not service.cluster_ip:
        return result
    try:
        ip = endpoint_address(service.cluster_ip, fence, port.port, loopback_allowed=judge.trusted)
    except AddressRefused as refused:
        problem = Problem(Reason.REFUSED_ADDRESS, service.key, "spec.clusterIP", service.cluster_ip, str(refused))
        result.about_service = (problem,)
        return result
    if not any(verdict.is_refused for verdict in verdicts) and (is_ready or (judge.trusted and not views)):
        result.addresses = ((ip, port.port),)
    return result


def _told(service: Service, verdicts: Iterable[Verdict]) -> tuple[Problem, ...]:
    """What is wrong with slices: of some of them, and of how many others."""
    bad = [verdict.problems for verdict in verdicts if verdict.problems]
    if not bad:
        return ()
    told = [problem for problems in bad[:TOLD] for problem in problems]
    if len(bad) > TOLD:
        message = f"expected other endpoints; {len(bad) - TOLD} more slices are not in order"
        told.append(Problem(bad[TOLD][0].reason, service.key, "", "", message))
    return tuple(told)
