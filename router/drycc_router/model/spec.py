"""What was asked for, typed: seconds, bytes, canonical names and networks. Frozen, comparable, in nobody's syntax.

``App`` is what one routable Service says, ``RouterConfig`` what the router's own Deployment says, ``Builder`` what the
builder Service says. Which annotation
fills which field, in which grammar and with which default, is ``translate.annotations.schema``' business; None means
"not said" wherever somebody else's word counts then.

What must not enter: annotation keys, defaults, Kubernetes objects.
"""

from __future__ import annotations

import msgspec

__all__ = ["App", "Builder", "RouterConfig"]


class App(msgspec.Struct, frozen=True, gc=False):
    """One routable Service, as its owner described it (contract 3)."""

    domains: tuple[str, ...]
    """Canonical, not yet resolved: ``a.example``, ``*.a.example`` or the short ``shop``."""
    certificates: tuple[tuple[str, str], ...]
    """(canonical name, what the Secret is called without ``-cert``)."""
    allow: tuple[str, ...] | None
    """None: no list of its own. Empty: a list in which nothing was usable."""
    deny: tuple[str, ...]
    connect_timeout: float
    tcp_timeout: float | None
    request_timeout: float
    body_size: int | None
    body_timeout: float
    """0: none."""
    body_rate: int
    """Bytes a second; 0: none."""
    maintenance: bool
    maintenance_page: str | None
    ssl_enabled: bool
    """False: a missing certificate is no Problem, and what the router says of https does not apply."""
    ssl_enforce: bool | None
    hsts_enabled: bool | None
    hsts_max_age: int | None
    hsts_include_subdomains: bool | None
    hsts_preload: bool | None
    port: str | int | None
    upstream: str
    """``endpoints`` or ``service``."""
    referrer_policy: str | None
    proxy_domain: str | None
    proxy_locations: tuple[str, ...]
    allow_locations_from: tuple[str, ...]
    disable_request_start: bool


class RouterConfig(msgspec.Struct, frozen=True):
    """The operator's settings that apply live (contract 4)."""

    platform_domain: str | None
    tcp_ports: tuple[tuple[int, str, str, str | int | None], ...]
    """(port to listen on, namespace, Service, its port or None for the only one)."""
    default_timeout: float
    body_size: int
    max_head: int
    max_fields: int
    app_requests: int
    app_queue: int
    app_queue_timeout: float
    upstream_idle: int
    upstream_idle_timeout: float
    keepalive_timeout: float
    max_target: int
    max_connections: int
    max_per_client: int
    max_requests: int
    trusted: tuple[str, ...]
    denied_networks: tuple[str, ...]
    allowed_networks: tuple[str, ...]
    proxy_protocol: bool
    https_port: int
    enforce_allow: bool
    default_allow: tuple[str, ...] | None
    allow_mode: str
    """``extend`` or ``override``."""
    request_ids: bool
    request_start: bool
    default_service_enabled: bool
    default_app_name: str
    default_service_ip: str | None
    referrer_policy: str | None
    log_format: str
    log_enabled: bool
    ssl_enforce: bool
    ssl_protocols: tuple[str, ...]
    ssl_ciphers: tuple[str, ...]
    ssl_session_tickets: bool
    hsts_enabled: bool
    hsts_max_age: int
    hsts_include_subdomains: bool
    hsts_preload: bool


class Builder(msgspec.Struct, frozen=True):
    """The Service that git pushes go to."""

    connect_timeout: float
    tcp_timeout: float
    proxy_protocol: str | None
    """``v1`` or ``v2``: it wants to be told who comes."""
    connections_per_client: int
    connection_rate: int
