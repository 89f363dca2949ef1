"""What belongs to the router itself: the names of its objects and of its platform, and what its settings come to; and
which names its operator gave to whom.

What must not enter: anything about one app (``translate.services``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from drycc_proxy.routing.definitions import Edge
from drycc_router.model import hostnames
from drycc_router.model.invalid_value import Unfit
from drycc_router.model.objects import ObjectKey
from drycc_router.model.spec import RouterConfig
from drycc_tls.policy import CIPHERS, TlsPolicy, Version

__all__ = ["GIVEN", "OwnNames", "OwnPorts", "edge", "read_given", "tls_policy"]

GIVEN: Final = "given"
"""The entry of the ConfigMap of claims in which the operator gives names to namespaces: a line for each, ``shop.example
shop``. The router only reads it."""

_GIVEN: Final = re.compile(r"(\S{1,1000}) ([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)")

_PLATFORM_NAMES: Final = frozenset(
    f"{prefix}{name}"
    for prefix in ("drycc", "deis")
    for name in ("", "-builder", "-controller", "-registry", "-router", "-workflow-manager")
) | {"grafana", "influx", "influxapi"}


@dataclass(frozen=True, slots=True)
class OwnNames:
    """What the router's objects and its platform are called (contract 1 and 7); process settings."""

    namespace: str = "drycc"
    deployment: str = "drycc-router"
    platform_certificate: str = "drycc-router-platform-cert"
    builder: str = "drycc-builder"
    claims: str = "drycc-router-claims"
    """The ConfigMap with the record of held claims."""
    platform_namespaces: frozenset[str] = frozenset()
    """Namespaces, besides the router's own, that may claim the platform's names."""
    platform_names: frozenset[str] = _PLATFORM_NAMES
    """Short names that only the platform may claim."""
    given: Mapping[str, str] = field(default_factory=dict)
    """Host → the one namespace that may claim it, whatever else would be decided. No process setting: it is live."""

    @classmethod
    def of(cls, name: str, namespace: str) -> OwnNames:
        """Everything is called after the router's own name, but the builder, which is not its own."""
        return cls(
            namespace=namespace,
            deployment=name,
            platform_certificate=f"{name}-platform-cert",
            claims=f"{name}-claims",
        )

    @property
    def record(self) -> ObjectKey:
        """The ConfigMap with the record of claims: the ancestors had none."""
        return ObjectKey("ConfigMap", self.namespace, self.claims)

    def candidates(self, kind: str, name: str) -> tuple[ObjectKey, ...]:
        """One of the router's own objects: under its name and, where that begins with ``drycc-``, the ancestors'."""
        names = [name]
        if name.startswith("drycc-"):
            names.append(f"deis-{name.removeprefix('drycc-')}")
        return tuple(ObjectKey(kind, self.namespace, each) for each in names)

    def is_platform(self, namespace: str) -> bool:
        """Whether Services there may claim the platform's names."""
        return namespace == self.namespace or namespace in self.platform_namespaces

    def is_reserved(self, host: str, platform_domain: str | None) -> bool:
        """Whether only the platform may claim ``host``: its domain, its names there and what is below these, and every
        wildcard that stands for any of them.

        Without a platform domain its names live below any suffix, so they are reserved below all of them; what is below
        such a name is not, as any domain may contain the same word.
        """
        if platform_domain is None:
            return host.partition(".")[0] in self.platform_names
        if host == platform_domain or hostnames.covers(host, platform_domain):
            return True
        below = host.removesuffix(f".{platform_domain}")
        return below != host and (below == "*" or below.rpartition(".")[2] in self.platform_names)

    def objection(self, namespace: str, host: str, platform_domain: str | None) -> str:
        """Why Services of a namespace may not claim a host at all; "" if they may.

        The operator's word beats everything (contract 7), and holds also for names below a wildcard that was given and
        for wildcards above a name that was.
        """
        if host in self.given:
            return "" if self.given[host] == namespace else _GIVEN_AWAY
        if not self.is_platform(namespace) and self.is_reserved(host, platform_domain):
            return "expected another name: this one is the platform's"
        if not self.given:
            return ""
        above = (f"*.{name}" for name in hostnames.names_above(host))
        closest = next((wildcard for wildcard in above if wildcard in self.given), None)
        if closest is not None:
            return "" if self.given[closest] == namespace else _GIVEN_AWAY
        below = (owner for name, owner in self.given.items() if hostnames.covers(host, name))
        return _GIVEN_AWAY if any(owner != namespace for owner in below) else ""


@dataclass(frozen=True, slots=True)
class OwnPorts:
    """Which ports are spoken for (contract 10); process settings."""

    git: int = 2222
    """Where git pushes come; 0 picks a free one."""
    taken: frozenset[int] = frozenset({8080, 8443, 9090})
    """Ports that the router listens on for other purposes."""

    def objection(self, port: int) -> str:
        """Why a port may not be given to a Service; "" if it may."""
        if port in self.taken or port == self.git or port in _WELL_KNOWN:
            return "expected another port: this one is the router's or the node's own"
        return ""


_WELL_KNOWN: Final = frozenset({22, 80, 443})
"""Nobody may pretend to be the machine's own SSH or the router's front door (hardening P-08)."""

_GIVEN_AWAY: Final = "expected another name: the operator gave this one to another namespace"


def read_given(text: str, platform_domain: str | None) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Read the entry :data:`GIVEN`: names as in ``domains``, empty lines and those that begin with ``#`` left out.

    Returns host → namespace, and of each line that is not in order (the line, what was expected).
    """
    given: dict[str, str] = {}
    bad = []
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith("#"):
            continue
        match = _GIVEN.fullmatch(line)
        try:
            if match is None:
                raise Unfit("a name and a namespace, with one space between them")
            host = hostnames.resolve(hostnames.canonical(match[1]), platform_domain)
            if given.setdefault(host, match[2]) != match[2]:
                raise Unfit("each name once: the first line counts")
        except Unfit as unfit:
            bad.append((line, unfit.expected))
    return given, bad


def edge(config: RouterConfig, default_route: str) -> Edge:
    """The settings that hold for every connection."""
    return Edge(
        trusted=config.trusted,
        proxy_protocol=config.proxy_protocol,
        https_port=config.https_port,
        request_ids=config.request_ids,
        request_start=config.request_start,
        max_head=config.max_head,
        max_fields=config.max_fields,
        app_requests=config.app_requests,
        app_queue=config.app_queue,
        app_queue_timeout=config.app_queue_timeout,
        upstream_idle=config.upstream_idle,
        upstream_idle_timeout=config.upstream_idle_timeout,
        keepalive_timeout=config.keepalive_timeout,
        max_target=config.max_target,
        max_connections=config.max_connections,
        max_per_client=config.max_per_client,
        max_requests=config.max_requests,
        default_route=default_route,
        log_format=config.log_format,
        log_enabled=config.log_enabled,
    )


def tls_policy(config: RouterConfig) -> TlsPolicy:
    """The settings that hold for every handshake. Naming only ciphers of TLS 1.3 leaves those of 1.2 as they are."""
    offered = [version for version in Version if version.value in config.ssl_protocols]
    return TlsPolicy(
        minimum=offered[0],
        maximum=offered[-1],
        ciphers=tuple(cipher for cipher in config.ssl_ciphers if cipher in CIPHERS) or CIPHERS,
        session_tickets=config.ssl_session_tickets,
    )
