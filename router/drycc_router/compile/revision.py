"""What one compilation comes to: the difference to publish, and everything there is to report, frozen and numbered.

What must not enter: how it was compiled, and key material: reports are made of names, times and fingerprints.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime

import msgspec

from drycc_proxy.routing.definitions import Address, Policy, StreamRoute, TableChange
from drycc_router.claims.record import Record
from drycc_router.model.objects import ObjectKey
from drycc_router.model.problems import Problem
from drycc_tls.certificate import Certificate
from drycc_tls.update import CertificateChange

__all__ = ["AppReport", "CertificateReport", "HostReport", "Role", "RouteState", "Snapshot"]


class RouteState(enum.Enum):
    """How much of what an app asked for is in force."""

    LIVE = "live"
    """All of it."""
    DEGRADED = "degraded"
    """It is routed, and a Problem says what is not as its owner wrote it."""
    REJECTED = "rejected"
    """Nothing is routed to it, and a Problem says why."""
    IDLE = "idle"
    """Nothing is routed to it, for its owner names nothing: that is no fault."""

    __hash__ = object.__hash__  # a fifth of what enum's own costs, and members are compared by identity anyway


class Role(enum.Enum):
    """What a certificate is for."""

    OWN = "own"
    PLATFORM = "platform"


class HostReport(msgspec.Struct, frozen=True, gc=False):
    """One name an app claims."""

    host: str
    owner: str
    """Route name of who holds it: the app itself, or who is in its way ("" when that is nobody in particular)."""
    paths: tuple[tuple[str, str], ...] = ()
    """(prefix, route name) of other apps that answer below it."""
    certificate: str | None = None
    """``namespace/secret`` presented for it; None: the default one."""


class AppReport(msgspec.Struct, frozen=True, gc=False):
    """One routable Service as it stands."""

    name: str
    app: str
    namespace: str
    service: str
    state: RouteState
    hosts: tuple[HostReport, ...]
    endpoints: tuple[Address, ...]
    policy: Policy

    def as_json(self, default: Policy, platform: CertificateReport | None = None) -> dict[str, object]:
        """Plain data; of the policy only what differs from ``default``. ``platform``: what serves where it covers."""
        return {
            "name": self.name,
            "app": self.app,
            "namespace": self.namespace,
            "service": self.service,
            "state": self.state.value,
            "hosts": [
                {
                    "host": host.host,
                    "owner": host.owner,
                    "paths": [{"prefix": prefix, "route": route} for prefix, route in host.paths],
                    "certificate": host.certificate or (platform.stands_in_for(host.host) if platform else None),
                }
                for host in self.hosts
            ],
            "endpoints": [f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip, port in self.endpoints],
            "policy": _difference(self.policy, default),
        }


@dataclass(frozen=True, slots=True)
class CertificateReport:
    """One certificate in use."""

    namespace: str
    secret: str
    certificate: Certificate
    serves: tuple[str, ...]
    role: Role

    def stands_in_for(self, host: str) -> str | None:
        """The Secret as ``namespace/name`` when this certificate covers a host that has none of its own."""
        return f"{self.namespace}/{self.secret}" if self.certificate.covers(host) else None

    def as_json(self, now: datetime, also: Iterable[str] = ()) -> dict[str, object]:
        """Plain data: names, times and fingerprint, nothing of the key. ``also``: hosts it stands in for."""
        certificate = self.certificate
        return {
            "namespace": self.namespace,
            "secret": self.secret,
            "names": list(certificate.names),
            "subject": certificate.subject,
            "issuer": certificate.issuer,
            "serial": certificate.serial,
            "not_before": certificate.not_before.isoformat(),
            "not_after": certificate.not_after.isoformat(),
            "days_left": (certificate.not_after - now).days,
            "fingerprint": certificate.fingerprint,
            "serves": sorted({*self.serves, *also}),
            "role": self.role.value,
        }


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the data plane needs to hear, and operators may ask, after one compilation.

    ``table`` and ``certificates`` are differences to the snapshot before; publish certificates first. ``problems`` are
    all there are now, sorted, notes included. ``changed`` is False when there is nothing to publish; the problems and
    reports may differ all the same.
    """

    generation: int
    table: TableChange
    certificates: CertificateChange
    problems: tuple[Problem, ...]
    problems_new: tuple[Problem, ...]
    problems_gone: tuple[Problem, ...]
    changed: bool
    at: datetime
    """When it was compiled."""
    apps: Mapping[str, AppReport] = field(repr=False)
    """By route name."""
    states: Mapping[RouteState, int]
    """How many of them are in which."""
    served: Mapping[str, CertificateReport] = field(repr=False)
    """By ``namespace/secret``."""
    default_policy: Policy = field(repr=False)
    streams: Mapping[str, StreamRoute] = field(default_factory=dict, repr=False)
    """By name: every port that leads to one Service."""
    balancers: tuple[str, ...] = ()
    """Addresses or names of the load balancer before the router: where names of apps are to lead."""
    uids: Mapping[ObjectKey, str] = field(default_factory=dict, repr=False)
    """Of the objects that ``problems_new`` and ``problems_gone`` are about, and of the router's own, those that are
    there: what tells each from others of its name ("" if it does not say)."""
    record: Record | None = field(default=None, repr=False)
    """What the elected replica should write as the record of claims; None: nothing. The same object in the next
    snapshot if nothing else is to be written."""

    def report_routes(self) -> list[dict[str, object]]:
        """Every routable Service, by name, as plain data for ``/routes`` and ``check``."""
        platform = self._platform()
        return [self.apps[name].as_json(self.default_policy, platform) for name in sorted(self.apps)]

    def report_streams(self) -> list[dict[str, object]]:
        """Every port that leads to one Service, by name, as plain data for ``check``."""
        return [
            {
                "stream": name,
                "port": stream.port,
                "service": f"{stream.namespace}/{stream.service}",
                "endpoints": [f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip, port in stream.endpoints],
            }
            for name, stream in sorted(self.streams.items())
        ]

    def report_certificates(self, now: datetime | None = None) -> list[dict[str, object]]:
        """Every certificate in use, by Secret, for ``/certificates``; days count from ``now``, else from ``at``."""
        platform = self._platform()
        bare = [host.host for app in self.apps.values() for host in app.hosts if host.certificate is None]
        covered = [host for host in bare if platform is not None and platform.stands_in_for(host)]
        return [
            served.as_json(now or self.at, covered if served is platform else ())
            for _, served in sorted(self.served.items())
        ]

    def _platform(self) -> CertificateReport | None:
        """The certificate for names without one of their own (contract 8), if there is one."""
        return next((served for served in self.served.values() if served.role is Role.PLATFORM), None)


def _difference(policy: Policy, default: Policy) -> dict[str, object]:
    different = {}
    for each in fields(Policy):
        value = getattr(policy, each.name)
        if value != getattr(default, each.name):
            different[each.name] = _plain(value)
    return different


def _plain(value: object) -> object:
    match value:
        case bytes():
            return value.decode(errors="replace")
        case tuple():
            return list(value)
        case _:
            return value
