"""Kubernetes objects in a line each, and a compiler with a data plane behind it that only remembers."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from drycc_proxy.routing.definitions import Edge, HostRule, Route, StreamRoute
from drycc_router.compile.compiler import Compiler, OwnNames
from drycc_router.compile.revision import AppReport, Snapshot
from drycc_router.model.address_policy import Fence
from drycc_router.model.objects import Change, ObjectKey
from drycc_router.model.problems import Problem, Reason
from drycc_tls.certificate import Certificate
from examples.authority import Pair

__all__ = ["NOW", "PREFIX", "World", "deployment", "endpoints", "gone", "page", "secret", "service"]

PREFIX = "router.drycc.cc/"
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
HTTP = ({"name": "http", "port": 80},)


def _key(kind: str, name: str) -> ObjectKey:
    return ObjectKey(kind, *name.split("/"))


def _under(prefix: str, words: Mapping[str, str]) -> dict[str, str]:
    return {f"{prefix}{key}": text for key, text in words.items()}


def service(
    name: str,
    says: Mapping[str, str] | None = None,
    *,
    prefix: str = PREFIX,
    labels: Mapping[str, str] | None = None,
    created: str | None = None,
    uid: str = "",
    ports: Iterable[Mapping[str, object]] = HTTP,
    **spec: object,
) -> Change:
    """A routable Service; ``says``: its annotations without their prefix."""
    return Change(
        _key("Service", name),
        {
            "metadata": {
                "labels": {f"{prefix}routable": "true"} if labels is None else labels,
                "annotations": _under(prefix, says or {}),
                "creationTimestamp": created,
                "uid": uid,
            },
            "spec": {"clusterIP": "10.96.0.1", "ports": list(ports), **spec},
        },
    )


def endpoints(
    name: str,
    *addresses: str | Mapping[str, object],
    port: int = 5000,
    called: str = "http",
    slice_: str = "1",
    owner: str = "",
    **fields: object,
) -> Change:
    """A slice of a Service with ready endpoints; one that is more than its address is written out."""
    key = _key("EndpointSlice", f"{name}-{slice_}")
    owners = [{"apiVersion": "v1", "kind": "Service", "uid": owner}] if owner else []
    return Change(
        key,
        {
            "metadata": {
                "labels": {"kubernetes.io/service-name": name.split("/")[1]},
                "ownerReferences": owners,
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [each]} if isinstance(each, str) else each for each in addresses],
            "ports": [{"name": called, "port": port}],
            **fields,
        },
    )


def secret(name: str, pair: Pair | None) -> Change:
    """A Secret with a pair; None: with something else."""
    material = (b"canary", b"canary") if pair is None else (pair.chain, pair.key)
    data = dict(zip(("tls.crt", "tls.key"), (base64.b64encode(each).decode() for each in material), strict=True))
    return Change(_key("Secret", name), {"data": data})


def page(name: str, html: str) -> Change:
    """A ConfigMap with a page."""
    return Change(_key("ConfigMap", name), {"data": {"index.html": html}})


def deployment(says: Mapping[str, str], name: str = "drycc/drycc-router", prefix: str = PREFIX) -> Change:
    """The router's own Deployment."""
    return Change(_key("Deployment", name), {"metadata": {"annotations": _under(prefix, says)}})


def gone(change: Change) -> Change:
    """The end of an object."""
    return Change(change.key, None)


class World:
    """Says Changes to a compiler, and keeps what a data plane would have after each snapshot."""

    def __init__(
        self, names: OwnNames | None = None, *, trusted_endpoints: bool = False, fence: Fence | None = None
    ) -> None:
        self.compiler = Compiler(names, trusted_endpoints=trusted_endpoints, fence=fence)
        self.routes: dict[str, Route] = {}
        self.hosts: dict[str, HostRule] = {}
        self.streams: dict[str, StreamRoute] = {}
        self.edge: Edge | None = None
        self.certificates: dict[str, Certificate] = {}
        self.names: dict[str, str] = {}
        self.default: str | None = None
        self.last: Snapshot = self._publish(NOW)

    def hears(self, *changes: Change, now: datetime = NOW) -> Snapshot:
        """Note ``changes``, compile once, and publish."""
        for change in changes:
            self.compiler.apply(change)
        return self._publish(now)

    def _publish(self, now: datetime) -> Snapshot:
        self.last = snapshot = self.compiler.compile(now)
        table, certificates = snapshot.table, snapshot.certificates
        assert not table.routes.keys() & table.gone_routes
        assert not table.hosts.keys() & table.gone_hosts
        assert table.gone_routes <= self.routes.keys(), "only what was there can go"
        assert {host.decode() for host in table.gone_hosts} <= self.hosts.keys()
        assert certificates.gone <= self.certificates.keys()
        assert certificates.gone_names <= self.names.keys()
        assert not table.streams.keys() & table.gone_streams
        for name in table.gone_streams:
            del self.streams[name]
        self.streams.update(table.streams)
        for name in table.gone_routes:
            del self.routes[name]
        for host in table.gone_hosts:
            del self.hosts[host.decode()]
        for ident in certificates.gone:
            del self.certificates[ident]
        for name in certificates.gone_names:
            del self.names[name]
        self.routes.update(table.routes)
        self.hosts.update((host.decode(), rule) for host, rule in table.hosts.items())
        self.certificates.update(certificates.certificates)
        self.names.update(certificates.names)
        self.edge = table.edge or self.edge
        self.default = certificates.default
        for rule in self.hosts.values():
            assert {rule.route, *(route for _, route in rule.paths)} <= self.routes.keys()
        assert set(self.names.values()) <= {"", *self.certificates.keys()}
        assert self.default is None or self.default in self.certificates
        return snapshot

    def owners(self) -> dict[str, str]:
        """Host → the app that answers it."""
        return {host: rule.route for host, rule in self.hosts.items()}

    def report(self, name: str) -> AppReport:
        """What is reported about one app."""
        return self.last.apps[name]

    def problems(self, reason: Reason | None = None) -> list[Problem]:
        """What there is to mend, or everything there is for one reason."""
        return [each for each in self.last.problems if (each.reason is reason if reason else not each.is_note)]
