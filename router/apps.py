"""One app: its Service, slices and page in; its claims, its route and its Problems out. Pure, app by app.

Nothing here looks at another app; who gets a name, and which paths other apps contribute, is settled in ``compile``.

What must not enter: claims' outcome, certificates' contents, deltas.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec

from proxy.routes import Address, Policy, Route
from router.addresses import AddressRefused, Fence, endpoint_address
from router.annotations import domains
from router.annotations.fields import Place, defaults
from router.annotations.reading import read_app, written_as
from router.claims import Claimant
from router.cluster import Cluster
from router.model import App, RouterConfig
from router.objects import PREFIXES, ConfigMap, EndpointSlice, ObjectKey, Service, ServicePort
from router.own import OwnNames
from router.problems import Problem, Reason, bounded
from router.quotas import CONNECT_TIMEOUT, ENDPOINTS, PAGE_BYTES, SILENCE

__all__ = ["CompiledApp", "compile_app", "default_policy", "names_nothing", "routable", "stream_target"]

T = TypeVar("T")

PAGE: Final = "index.html"

_PLAIN: Final = App(**defaults(Place.APP))
"""An app that says nothing."""

_LABELS: Final = tuple(f"{prefix}routable" for prefix in PREFIXES)

_APP_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


class CompiledApp(msgspec.Struct, frozen=True, gc=False):
    """What one Service comes to, taken by itself."""

    service: Service
    claimant: Claimant
    spec: App
    found: tuple[Problem, ...]
    """Problems of the annotations taken by themselves; ``problems`` has these too."""
    hosts: Mapping[str, str]
    """Host claimed → the name as its owner's grammar gave it, in the order written."""
    certificates: Mapping[str, str]
    """Host mapped → what the Secret is called."""
    contributes_to: str | None
    """Host of the app whose paths this one answers."""
    port: ServicePort | None
    route: Route
    problems: tuple[Problem, ...]


def routable(service: Service) -> tuple[bool, list[Problem]]:
    """Whether the label says exactly ``true``; of two labels that differ, the one of the first prefix counts."""
    there = [label for label in _LABELS if label in service.labels]
    if not there:
        return False, []
    problems = []
    for label in there[1:]:
        message = f"expected it once: the label {there[0]} counts"
        problems.append(Problem(Reason.SHADOWED_KEY, service.key, label, service.labels[label], message))
    return service.labels[there[0]] == "true", problems


def names_nothing(service: Service) -> bool:
    """Whether its owner wrote no name and no path, so that nothing is to be routed to it. That is no fault."""
    keys = (written_as(Place.APP, key, service.annotations) for key in ("domains", "proxyDomain", "proxyLocations"))
    return not any(service.annotations.get(key, "").strip(" \t\r\n,") for key in keys)


def compile_app(
    service: Service,
    cluster: Cluster,
    config: RouterConfig,
    own: OwnNames,
    previous: CompiledApp | None,
    trusted_endpoints: bool,
    fence: Fence,
) -> CompiledApp:
    """Read one routable Service and what belongs to it. ``previous`` gives the last good values (contract 2)."""
    name = f"{service.key.namespace}/{service.key.name}"
    if previous and previous.service.annotations == service.annotations:  # only endpoints or settings differ
        spec, found = previous.spec, previous.found
    else:
        spec, found = read_app(service.key, service.annotations, previous.spec if previous else None)
    says = _Voice(service, list(found))
    hosts = _hosts(spec, config, own, says)
    _https(spec, says)
    port = _port(spec.port, service, previous.port if previous else None, says)
    addresses = _addresses(spec, service, port, cluster.slices(service.key), _Door(fence, trusted_endpoints), says)
    return CompiledApp(
        service=service,
        claimant=Claimant.of(name, service.created),
        spec=spec,
        found=found,
        hosts=hosts,
        certificates=_certificates(spec, config, says),
        contributes_to=_contributes_to(spec, config, says),
        port=port,
        route=Route(
            name=name,
            app=_app_name(service, says),
            namespace=service.key.namespace,
            service=service.key.name,
            endpoints=_at_most(addresses, previous.route.endpoints if previous else (), says),
            policy=_policy(_limited(spec, config, says), config, _page(spec, service, cluster, says)),
        ),
        problems=bounded(says.problems),
    )


def stream_target(
    service: Service,
    port: ServicePort | None,
    cluster: Cluster,
    trusted_endpoints: bool,
    fence: Fence,
) -> tuple[str, tuple[Address, ...], tuple[Problem, ...]]:
    """What a Service comes to as the target of a stream: its app's name, its endpoints at ``port``, its Problems."""
    says = _Voice(service)
    door = _Door(fence, trusted_endpoints)
    addresses = _addresses(_PLAIN, service, port, cluster.slices(service.key), door, says)
    return _app_name(service, says), tuple(sorted(addresses)), tuple(says.problems)


@dataclass(slots=True)
class _Voice:
    """Collects the Problems of one Service."""

    service: Service
    problems: list[Problem] = field(default_factory=list)

    def say(self, reason: Reason, key: str, value: str, message: str) -> None:
        """About one of our keys."""
        written = written_as(Place.APP, key, self.service.annotations)
        self.problems.append(Problem(reason, self.service.key, written, value, message))

    def say_about(self, reason: Reason, object: ObjectKey, path: str, value: str, message: str) -> None:
        """About a field of an object."""
        self.problems.append(Problem(reason, object, path, value, message))


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _app_name(service: Service, says: _Voice) -> str:
    """What logs and metrics call it: the label, else the Service's name; with its namespace where that differs."""
    name = service.labels.get("app", service.key.name)
    if not _APP_NAME.fullmatch(name):
        says.say_about(Reason.BAD_VALUE, service.key, "metadata.labels[app]", name, "expected the name of an app")
        name = service.key.name
    return name if name == service.key.namespace else f"{service.key.namespace}/{name}"


def _hosts(spec: App, config: RouterConfig, own: OwnNames, says: _Voice) -> dict[str, str]:
    """The hosts that the Service may claim, each with the name it was written as."""
    hosts: dict[str, str] = {}
    for name in spec.domains:
        host = domains.resolve(name, config.platform_domain)
        if len(host) > 253:
            says.say(Reason.BAD_ELEMENT, "domains", name, "expected a name that fits below the platform's domain")
        elif objection := own.objection(says.service.key.namespace, host, config.platform_domain):
            says.say(Reason.RESERVED_DOMAIN, "domains", name, objection)
        else:
            hosts.setdefault(host, name)
    if names_nothing(says.service):
        says.say(Reason.NO_DOMAINS, "domains", "", "names nothing, so nothing is routed to it")
    return hosts


def _https(spec: App, says: _Voice) -> None:
    """Whoever wants no https and asks for it all the same is told which word counts."""
    if spec.ssl_enabled:
        return
    for key, asked in (("ssl.enforce", spec.ssl_enforce), ("ssl.hsts.enabled", spec.hsts_enabled)):
        if asked:
            says.say(Reason.BAD_VALUE, "ssl.enabled", "false", f"expected no {key} beside it, which is in force")


def _certificates(spec: App, config: RouterConfig, says: _Voice) -> dict[str, str]:
    mapped: dict[str, str] = {}
    for name, secret in spec.certificates:
        host = domains.resolve(name, config.platform_domain)
        if mapped.setdefault(host, secret) != secret:
            says.say(Reason.BAD_ELEMENT, "certificates", f"{name}:{secret}", "expected one certificate for each name")
    return mapped


def _contributes_to(spec: App, config: RouterConfig, says: _Voice) -> str | None:
    if bool(spec.proxy_domain) != bool(spec.proxy_locations):
        there, missing = ("proxyDomain", "proxyLocations") if spec.proxy_domain else ("proxyLocations", "proxyDomain")
        if written_as(Place.APP, missing, says.service.annotations) not in says.service.annotations:
            says.say(Reason.BAD_VALUE, there, "", f"expected {missing} beside it")
    if not (spec.proxy_domain and spec.proxy_locations):
        return None
    return domains.resolve(spec.proxy_domain, config.platform_domain)


# ── where requests go ─────────────────────────────────────────────────────────────────────────────────────────────────


def _port(wanted: str | int | None, service: Service, previous: ServicePort | None, says: _Voice) -> ServicePort | None:
    """The port that was asked for; else ``http``, else 80, else the only one (contract 3)."""
    ports = [port for port in service.ports if port.protocol == "TCP"]
    if wanted is not None:
        for port in ports:
            if wanted in (port.name, port.port):
                return port
        numbers = ", ".join(str(port.port) for port in ports)
        message = f"expected one of the Service's TCP ports: {numbers or 'it has none'}"
        says.say(Reason.NO_PORT, "port", str(wanted), message)
        if previous in ports:  # the last good one
            return previous
    for port in ports:
        if port.name == "http":
            return port
    for port in ports:
        if port.port == 80:
            return port
    if len(ports) == 1:
        return ports[0]
    if wanted is None and service.type != "ExternalName":
        message = "expected a TCP port named http, or 80, or only one; the key port can name another"
        says.say_about(Reason.NO_PORT, service.key, "spec.ports", "", message)
    return None


@dataclass(slots=True)
class _Door:
    """Which addresses this router lets requests out to."""

    fence: Fence
    trusted: bool
    """Whether the objects are the operator's own: then loopback is in order."""

    def address(self, text: str, port: int | None = None) -> str:
        """The canonical address, if it may be connected to at this port. Raises AddressRefused."""
        return endpoint_address(text, self.fence, port, loopback_allowed=self.trusted)


def _addresses(
    spec: App,
    service: Service,
    port: ServicePort | None,
    slices: Iterable[EndpointSlice],
    door: _Door,
    says: _Voice,
) -> Iterable[Address]:
    """Where requests go, each address once. None: nowhere, which visitors see as 503.

    A Pod of a dual-stack cluster stands in a slice of either family and is one endpoint all the same: it is asked at
    the address of the family that its Service's own address has (headless: IPv4), so that it gets a Pod's share.
    """
    if service.type == "ExternalName":
        message = "expected a Service with endpoints: names outside of the cluster are refused"
        says.say_about(Reason.EXTERNAL_NAME, service.key, "spec.type", service.type, message)
        return ()
    if port is None:
        return ()
    found: dict[ObjectKey | Address, set[Address]] = {}
    refused = False
    own_address = spec.upstream == "service"
    views = list(slices)
    if not own_address:
        # A Service that was deleted and created anew has its own slices soon; until then those of the old one linger.
        views = [view for view in views if not (view.owner and service.uid and view.owner != service.uid)]
    meant = _Meant.EVERY if own_address else _Meant.READY
    if not own_address and not any(each.ready for view in views if _numbers(view, port) for each in view.endpoints):
        meant = _Meant.LEAVING
    for view in views:
        for target, address in _slice_addresses(view, port, door, says, meant):
            if address is None:
                refused = True
            else:
                found.setdefault(target if target and target.name else address, set()).add(address)
    if own_address:
        # kube-proxy chooses among all slices with the Service's label, whoever owns them, and by conditions of its own:
        # it sends to a terminating endpoint that says it is ready. So every address in them has to be in order.
        ready = any(endpoint.ready or endpoint.leaving for view in views for endpoint in view.endpoints)
        own = _cluster_address(service, port, door, says)
        return own if not refused and ((found and ready) or (door.trusted and not views)) else ()
    six = ":" in service.cluster_ip
    if len(found) == 1:
        [addresses] = found.values()
        return _of_one_family(addresses, six)
    return {address for addresses in found.values() for address in _of_one_family(addresses, six)}


def _at_most(addresses: Iterable[Address], before: tuple[Address, ...], says: _Voice) -> tuple[Address, ...]:
    """Sorted, and no more than an app may have: those that it had before, then the first ones."""
    wanted = sorted(addresses)
    if len(wanted) > ENDPOINTS:
        message = f"expected at most {ENDPOINTS} endpoints; the others are left out"
        says.say_about(Reason.OVER_QUOTA, says.service.key, "", "", message)
        known = set(before)
        wanted = sorted(sorted(wanted, key=lambda address: address not in known)[:ENDPOINTS])
    return tuple(wanted)


def _of_one_family(addresses: set[Address], six: bool) -> Iterable[Address]:
    if len(addresses) > 1:
        preferred = {(ip, port) for ip, port in addresses if (":" in ip) is six}
        return preferred or addresses
    return addresses


def _cluster_address(service: Service, port: ServicePort, door: _Door, says: _Voice) -> Iterable[Address]:
    if not service.cluster_ip:
        message = "expected endpoints: a headless Service has no address of its own"
        says.say(Reason.NO_ADDRESS, "upstream", "service", message)
        return ()
    try:
        return {(door.address(service.cluster_ip, port.port), port.port)}
    except AddressRefused as refused:
        says.say_about(Reason.REFUSED_ADDRESS, service.key, "spec.clusterIP", service.cluster_ip, str(refused))
        return ()


class _Meant(Enum):
    """Which endpoints of a Service's slices count."""

    READY = "ready"
    LEAVING = "leaving"
    """None is ready: those that terminate and still serve, as kube-proxy does it (KEP-1669)."""
    EVERY = "every"


def _numbers(view: EndpointSlice, port: ServicePort) -> list[int]:
    """The slice's numbers of the port that bears the Service port's name, as kube-proxy matches them."""
    return [each.port for each in view.ports if each.name == port.name and each.protocol == port.protocol]


def _slice_addresses(
    view: EndpointSlice, port: ServicePort, door: _Door, says: _Voice, meant: _Meant
) -> Iterator[tuple[ObjectKey | None, Address | None]]:
    """The addresses of a slice's endpoints that are ``meant``, each with what its endpoint says it is; None for one
    that is refused."""
    if view.address_type == "FQDN":
        message = "expected IPv4 or IPv6: names are not looked up"
        says.say_about(Reason.REFUSED_ADDRESS, view.key, "addressType", view.address_type, message)
        return
    numbers: Sequence[int | None] = _numbers(view, port)
    if view.endpoints and not numbers:
        called = f"named {port.name!r}" if port.name and port.name.isascii() else "without a name"
        message = f"expected a TCP port {called}, as the Service calls it"
        says.say_about(Reason.NO_PORT, view.key, "ports", "", message)
    for number, endpoint in enumerate(view.endpoints):
        if not (meant is _Meant.EVERY or (endpoint.leaving if meant is _Meant.LEAVING else endpoint.ready)):
            continue
        target = endpoint.target
        if target and (target.kind == "Node" or target.namespace not in ("", view.key.namespace)):
            message = "expected a Pod of the same namespace"
            says.say_about(Reason.REFUSED_ADDRESS, view.key, f"endpoints[{number}].targetRef", str(target), message)
            yield target, None
            continue
        for text in endpoint.addresses:
            for each in numbers or [None]:
                try:
                    address = door.address(text, each)
                except AddressRefused as refused:
                    where = f"endpoints[{number}].addresses"
                    says.say_about(Reason.REFUSED_ADDRESS, view.key, where, text, str(refused))
                    yield target, None
                else:
                    if each is not None:
                        yield target, (address, each)


# ── under which rules ─────────────────────────────────────────────────────────────────────────────────────────────────


def _page(spec: App, service: Service, cluster: Cluster, says: _Voice) -> bytes:
    if spec.maintenance_page is None:
        return b""
    view = cluster.get(ConfigMap, service.key.namespace, spec.maintenance_page)
    page = _encoded(view.data.get(PAGE, "")) if view else b""
    if not page:
        message = f"expected a ConfigMap of that name, with {PAGE}, in the Service's namespace"
        says.say(Reason.PAGE_MISSING, "maintenance.page", spec.maintenance_page, message)
    if len(page) > PAGE_BYTES:
        message = f"expected a page of at most {PAGE_BYTES >> 10} KiB; the built-in one is shown"
        says.say(Reason.OVER_QUOTA, "maintenance.page", spec.maintenance_page, message)
        return b""
    return page


@lru_cache(maxsize=1000)
def _encoded(page: str) -> bytes:
    """All apps that show a page show the same bytes."""
    return page.encode(errors="replace")


def _limited(spec: App, config: RouterConfig, says: _Voice) -> App:
    """Numbers beyond what an app may ask for become the largest that it may. The operator's own word may be larger."""
    silence = max(SILENCE, config.default_timeout)
    longest = max(spec.tcp_timeout or 0.0, spec.request_timeout, spec.body_timeout)
    if spec.connect_timeout <= CONNECT_TIMEOUT and longest <= silence:
        return spec  # as nearly everybody
    limits = (
        ("connectTimeout", "connect_timeout", CONNECT_TIMEOUT),
        ("tcpTimeout", "tcp_timeout", silence),
        ("requestTimeout", "request_timeout", silence),
        ("bodyTimeout", "body_timeout", silence),
    )
    limited: dict[str, Any] = {}
    for key, attribute, most in limits:
        seconds = getattr(spec, attribute)
        if seconds is not None and seconds > most:
            limited[attribute] = most
            says.say(Reason.OVER_LIMIT, key, f"{seconds:g}s", f"expected at most {most:g}s, which is in force")
    return msgspec.structs.replace(spec, **limited) if limited else spec


def default_policy(config: RouterConfig) -> Policy:
    """The rules of an app that says nothing."""
    return _policy(App(**defaults(Place.APP)), config, b"")


def _policy(spec: App, config: RouterConfig, page: bytes) -> Policy:
    """What most apps say of it is the same, and then it is one and the same object."""
    hsts = _hsts(spec, config)
    referrer = _said(spec.referrer_policy, config.referrer_policy)
    return _shared(
        connect_timeout=spec.connect_timeout,
        idle_timeout=_said(spec.tcp_timeout, config.default_timeout),
        request_timeout=spec.request_timeout,
        body_size=_said(spec.body_size, config.body_size),
        body_timeout=spec.body_timeout,
        body_rate=spec.body_rate,
        maintenance=spec.maintenance,
        maintenance_page=page,
        enforce_https=bool(hsts) or _said(spec.ssl_enforce, config.ssl_enforce and spec.ssl_enabled),
        hsts=hsts,
        referrer_policy=b"" if referrer in (None, "none") else referrer.encode(),
        allow=_allow(spec.allow, config),
        deny=spec.deny,
        request_start=config.request_start and not spec.disable_request_start,
    )


_shared: Final = lru_cache(maxsize=1000)(Policy)


def _said(own: T | None, routers: T) -> T:
    return routers if own is None else own


def _hsts(spec: App, config: RouterConfig) -> bytes:
    """The value of Strict-Transport-Security (RFC 6797, 6.1); empty: none is sent."""
    if not _said(spec.hsts_enabled, config.hsts_enabled and spec.ssl_enabled):
        return b""
    value = f"max-age={_said(spec.hsts_max_age, config.hsts_max_age)}"
    if _said(spec.hsts_include_subdomains, config.hsts_include_subdomains):
        value += "; includeSubDomains"
    if _said(spec.hsts_preload, config.hsts_preload):
        value += "; preload"
    return value.encode()


def _allow(own: tuple[str, ...] | None, config: RouterConfig) -> tuple[str, ...] | None:
    """Who may come (contract 5): None everybody, empty nobody.

    A list in which nothing was usable still is a list: it adds nothing, and it opens nothing.
    """
    if own is None and config.default_allow is None:
        return () if config.enforce_allow else None
    if own is None or config.default_allow is None:
        return own if config.default_allow is None else config.default_allow
    if config.allow_mode == "override":
        return own
    return tuple(dict.fromkeys((*own, *config.default_allow)))
