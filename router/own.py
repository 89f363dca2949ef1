"""What belongs to the router itself: the names of its objects and of its platform, and what its settings come to.

What must not enter: anything about one app (``router.apps``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.routes import Edge
from router.annotations import domains
from router.model import RouterConfig
from router.objects import ObjectKey
from tls.policy import CIPHERS, TlsPolicy, Version

__all__ = ["OwnNames", "edge", "tls_policy"]

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
        """Whether only the platform may claim ``host``: its names, its domain, and every wildcard that stands for that.

        Without a platform domain its names live below any suffix, so they are reserved below all of them.
        """
        first, _, rest = host.partition(".")
        if platform_domain is None:
            return first in self.platform_names
        if host == platform_domain or domains.covers(host, platform_domain):
            return True
        return rest == platform_domain and (first == "*" or first in self.platform_names)


def edge(config: RouterConfig, default_route: str) -> Edge:
    """The settings that hold for every connection."""
    return Edge(
        trusted=config.trusted,
        request_ids=config.request_ids,
        request_start=config.request_start,
        max_head=config.max_head,
        max_fields=config.max_fields,
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
