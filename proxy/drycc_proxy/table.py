"""The table bound to living upstreams: what a request reads once, at its start, and keeps to its end.

``LiveTable.apply`` takes a change of the definitions and does work in proportion to that change, within one call on the
loop: a request sees all of it or nothing. Everything that can be decided about a route is decided here, as bytes and
booleans, so that the request path only looks.

What must not enter: bytes from the wire, and Kubernetes.
"""

from __future__ import annotations

import json
from typing import Final

from drycc_proxy.http.client_address import NetworkSet
from drycc_proxy.http.deadlines import BODY_GRACE
from drycc_proxy.http.forwarding import route_fields
from drycc_proxy.kernel.clock import FAR, wall
from drycc_proxy.routing.definitions import Edge, HostRule, Route, TableChange, canonical_path
from drycc_proxy.routing.hosts import HostIndex
from drycc_proxy.upstreams.registry import Registry
from drycc_proxy.upstreams.upstream import Upstream

__all__ = ["LiveEdge", "LiveHost", "LiveRoute", "LiveTable"]

_NOBODY: Final = NetworkSet(())


class LiveEdge:
    """The operator's settings, with networks ready to ask. Replaced, never changed: identity tells a change."""

    __slots__ = (
        "definition",
        "head_timeout",
        "https_port",
        "https_suffix",
        "keepalive_timeout",
        "max_fields",
        "max_head",
        "max_per_client",
        "max_requests",
        "max_target",
        "metered",
        "proxy_protocol",
        "request_ids",
        "trusted",
    )

    def __init__(self, definition: Edge) -> None:
        self.definition = definition
        self.head_timeout = definition.head_timeout
        self.https_port = b"%d" % definition.https_port
        self.https_suffix = b"" if definition.https_port == 443 else b":" + self.https_port
        """What follows the host in a URL that leads to https: nothing where the port is the scheme's own."""
        self.keepalive_timeout = definition.keepalive_timeout
        self.max_fields = definition.max_fields
        self.max_head = definition.max_head
        self.max_target = definition.max_target
        self.max_per_client = definition.max_per_client
        self.max_requests = definition.max_requests
        self.metered = bool(definition.max_requests or (definition.max_per_client and definition.trusted))
        """Whether requests are counted on their connections."""
        self.proxy_protocol = definition.proxy_protocol
        self.request_ids = definition.request_ids
        self.trusted = NetworkSet(definition.trusted) if definition.trusted else _NOBODY


class LiveRoute:
    """One app, ready to serve. Immutable: an exchange keeps the one it started with."""

    __slots__ = (
        "_label",
        "allow",
        "app",
        "available",
        "body_grace",
        "body_pace",
        "body_size",
        "body_timeout",
        "counters",
        "dated",
        "definition",
        "deny",
        "enforce_https",
        "fields_plain",
        "fields_tls",
        "first_timeout",
        "gated_plain",
        "gated_tls",
        "idle_timeout",
        "maintenance",
        "maintenance_page",
        "namespace",
        "request_timeout",
        "upstream",
    )

    def __init__(self, definition: Route, upstream: Upstream, request_start: bool) -> None:
        policy = definition.policy
        self.definition = definition
        self.app = definition.app
        self.namespace = definition.namespace
        self._label = b""
        self.upstream = upstream
        self.counters = upstream.counters
        self.allow = None if policy.allow is None else NetworkSet(policy.allow)
        self.deny = NetworkSet(policy.deny) if policy.deny else None
        self.enforce_https = policy.enforce_https
        self.maintenance = policy.maintenance
        self.maintenance_page = policy.maintenance_page
        self.available = bool(definition.endpoints)
        self.body_size = policy.body_size
        self.body_timeout = policy.body_timeout or FAR
        self.body_pace = 1 / policy.body_rate if policy.body_rate else 0.0
        """Seconds that each byte of a body may take on average."""
        self.body_grace = BODY_GRACE if policy.body_rate else FAR
        """Seconds before that counts."""
        self.idle_timeout = policy.idle_timeout
        self.request_timeout = policy.request_timeout
        self.first_timeout = min(policy.idle_timeout, policy.request_timeout or policy.idle_timeout)
        self.fields_plain = route_fields(policy.referrer_policy, b"")
        self.fields_tls = route_fields(policy.referrer_policy, policy.hsts)
        self.gated_tls = bool(
            self.allow is not None or self.deny or self.maintenance or not self.available or self.body_size
        )
        self.gated_plain = self.gated_tls or self.enforce_https
        self.dated = policy.request_start or request_start
        """Whether requests carry ``request_fields``."""

    def __repr__(self) -> str:
        return f"<LiveRoute {self.definition.name} {self.upstream!r}>"

    @property
    def label(self) -> bytes:
        """Its part of a JSON log line. Made when first asked for: of ten thousand apps, most are asleep."""
        if not self._label:
            mine = self.definition
            names = {"app": mine.app, "namespace": mine.namespace, "service": mine.service}
            self._label = json.dumps(names)[1:-1].encode("ascii")
        return self._label

    def request_fields(self) -> bytes:
        """Lines that differ with each request, for apps that want to know how long it waited."""
        return b"X-Request-Start: t=%.3f\r\n" % wall()


class LiveHost:
    """One name: its owner and the paths that other apps answer."""

    __slots__ = ("_most", "paths", "route")

    def __init__(self, route: LiveRoute, paths: tuple[tuple[bytes, LiveRoute], ...]) -> None:
        self.route = route
        self.paths = paths
        self._most = max((3 * len(prefix) + 6 for prefix, _ in paths), default=0)
        """Bytes of a target that can matter: an escape has three."""

    def at(self, target: bytes) -> LiveRoute:
        """Who answers this target: the longest contributed prefix of whole segments, else the owner."""
        if 0x25 in target or not target.isascii():
            target = canonical_path(target.partition(b"?")[0][: self._most])
        for prefix, route in self.paths:
            if target.startswith(prefix):
                end = len(prefix)
                if len(target) == end or target[end] in b"/?" or prefix.endswith(b"/"):
                    return route
        return self.route


class LiveTable:
    """Names and routes as they are now."""

    __slots__ = ("_registry", "_rules", "_users", "edge", "generation", "hosts", "routes")

    def __init__(self, registry: Registry) -> None:
        self.generation = 0
        self.edge = LiveEdge(Edge())
        self.routes: dict[str, LiveRoute] = {}
        self.hosts: HostIndex[LiveHost] = HostIndex()
        self._registry = registry
        self._rules: dict[bytes, HostRule] = {}
        self._users: dict[str, set[bytes]] = {}
        """Route name → hosts whose rules name it."""

    def apply(self, change: TableChange) -> None:
        """Make the change current. Raises KeyError when a rule names a route that does not exist (a caller's bug)."""
        edge = change.edge
        restart = edge is not None and edge.request_start != self.edge.definition.request_start
        if edge is not None:
            self.edge = LiveEdge(edge)
            self._registry.configure(edge)
        touched: set[bytes] = set(change.hosts)
        for name, route in change.routes.items():
            self._bind(route)
            touched |= self._users.get(name, set())
        if restart:
            for name in self.routes.keys() - change.routes.keys():
                self._bind(self.routes[name].definition)
            touched |= self._rules.keys()
        for host in change.gone_hosts:
            self._unrule(host)
            self.hosts.discard(host)
            touched.discard(host)
        for host, rule in change.hosts.items():
            self._unrule(host)
            self._rules[host] = rule
            for name in _names(rule):
                self._users.setdefault(name, set()).add(host)
        for host in touched:
            rule = self._rules[host]
            paths = tuple((prefix, self.routes[name]) for prefix, name in rule.paths)
            self.hosts.put(host, LiveHost(self.routes[rule.route], paths))
        for name in change.gone_routes:
            self.routes.pop(name, None)
            self._registry.retire(name)
        default = self.routes.get(self.edge.definition.default_route)
        self.hosts.default = None if default is None else LiveHost(default, ())
        self.generation = change.generation

    def _bind(self, route: Route) -> None:
        upstream = self._registry.adopt(route)
        self.routes[route.name] = LiveRoute(route, upstream, self.edge.definition.request_start)

    def _unrule(self, host: bytes) -> None:
        rule = self._rules.pop(host, None)
        if rule is None:
            return
        for name in _names(rule):
            users = self._users.get(name)
            if users is not None:
                users.discard(host)
                if not users:
                    del self._users[name]


def _names(rule: HostRule) -> list[str]:
    return [rule.route, *(name for _, name in rule.paths)]
