"""One app: its Service, slices and page in; its claims, its route and its Problems out. Pure, app by app.

Nothing here looks at another app; who gets a name, and which paths other apps contribute, is settled in ``compile``.

What must not enter: claims' outcome, certificates' contents, deltas.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec

from drycc_proxy.routing.definitions import Address, Policy, Route
from drycc_router.claims.arbiter import Claimant
from drycc_router.model import hostnames
from drycc_router.model.address_policy import Fence
from drycc_router.model.cluster import Cluster
from drycc_router.model.objects import PREFIXES, ConfigMap, ObjectKey, Service, ServicePort
from drycc_router.model.problems import Problem, Reason, bounded
from drycc_router.model.quotas import CONNECT_TIMEOUT, PAGE_BYTES, SILENCE
from drycc_router.model.spec import App, RouterConfig
from drycc_router.translate.annotations.reading import read_app, written_as
from drycc_router.translate.annotations.schema import Place, defaults
from drycc_router.translate.endpoints import Found, Judge, find
from drycc_router.translate.platform import OwnNames

__all__ = ["CompiledApp", "compile_app", "default_policy", "names_nothing", "routable", "stream_target"]

T = TypeVar("T")

PAGE: Final = "index.html"

_PLAIN: Final = App(**defaults(Place.APP))
"""An app that says nothing."""

_LABELS: Final = tuple(f"{prefix}routable" for prefix in PREFIXES)

_HEADLESS: Final = "expected endpoints: a headless Service has no address of its own"

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
    slices: tuple[ObjectKey, ...] = ()
    """Those that its endpoints come from, where it has several."""


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
    judge: Judge | None = None,
) -> CompiledApp:
    """Read one routable Service and what belongs to it. ``previous`` gives the last good values (contract 2), ``judge``
    remembers what its slices came to."""
    name = f"{service.key.namespace}/{service.key.name}"
    if previous and previous.service.annotations == service.annotations:  # only endpoints or settings differ
        spec, found = previous.spec, previous.found
    else:
        spec, found = read_app(service.key, service.annotations, previous.spec if previous else None)
    says = _Voice(service, list(found))
    hosts = _hosts(spec, config, own, says)
    _https(spec, says)
    port = _port(spec.port, service, previous.port if previous else None, says)
    there = find(
        service,
        port,
        cluster.slices(service.key),
        fence,
        judge or Judge(trusted=trusted_endpoints),
        own_address=spec.upstream == "service",
        before=Found(previous.route.endpoints, previous.slices) if previous else None,
    )
    says.problems += there.about_service
    if spec.upstream == "service" and port and not service.cluster_ip:
        says.say(Reason.NO_ADDRESS, "upstream", "service", _HEADLESS)
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
            endpoints=there.addresses,
            policy=_policy(_limited(spec, config, says), config, _page(spec, service, cluster, says)),
        ),
        problems=(*bounded(says.problems), *there.problems),
        slices=there.slices,
    )


def stream_target(
    service: Service,
    port: ServicePort | None,
    cluster: Cluster,
    trusted_endpoints: bool,
    fence: Fence,
    judge: Judge | None = None,
) -> tuple[str, tuple[Address, ...], tuple[Problem, ...]]:
    """What a Service comes to as the target of a stream: its app's name, its endpoints at ``port``, its Problems."""
    says = _Voice(service)
    there = find(service, port, cluster.slices(service.key), fence, judge or Judge(trusted=trusted_endpoints))
    return _app_name(service, says), there.addresses, (*says.problems, *there.about_service, *there.problems)


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
        host = hostnames.resolve(name, config.platform_domain)
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
        host = hostnames.resolve(name, config.platform_domain)
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
    return hostnames.resolve(spec.proxy_domain, config.platform_domain)


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
