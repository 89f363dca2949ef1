"""Changes in, snapshots out: the incremental compiler, pure and synchronous.

::

    Change → Cluster: does anything we read differ? → dirty apps
           → compile_app, each by itself → Claims: who holds what
           → settle the apps that this touches: rules, certificates, Problems → what differs → Snapshot

The cost is that of what changed: an app is compiled anew when one of *its* objects changed, settled anew when a name, a
path or a Secret it has to do with changed, and shipped only if the result differs. A change of the router's own
settings is a change of every app.

A compiler holds state (who holds which name, what was said last) and has one owner, who calls one of its methods at a
time, in whatever thread. Snapshots are frozen and may go anywhere.

What must not enter: I/O, clocks (``now`` is handed in), the meaning of any key (``annotations``, ``apps``, ``own``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Hashable, Iterable, Mapping, Set
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Generic, TypeVar, cast

import msgspec

from drycc_proxy.routing.definitions import Edge, HostRule, Route, StreamRoute, TableChange
from drycc_router.claims.arbiter import Claimant, Claims
from drycc_router.claims.record import ENTRY, UNREADABLE, ClaimKey, RecordError, claim_name, decode, stamp, weigh
from drycc_router.claims.unsynced import UNHEARD, Unheard
from drycc_router.compile.certificates import KeyPairReader, Pairs, judge, next_judgement
from drycc_router.compile.revision import AppReport, CertificateReport, HostReport, Role, RouteState, Snapshot
from drycc_router.model import hostnames
from drycc_router.model.address_policy import API_SERVER, OWN, Fence, forms
from drycc_router.model.cluster import Cluster
from drycc_router.model.objects import Change, ConfigMap, Deployment, ObjectKey, Service
from drycc_router.model.problems import Problem, ProblemIndex, Reason, bounded
from drycc_router.model.quotas import CERTIFICATES, DOMAINS, LOCATIONS, RECORD_OCTETS, Allowance
from drycc_router.model.spec import Builder
from drycc_router.translate import platform as own
from drycc_router.translate.annotations.reading import read_builder, read_router, written_as
from drycc_router.translate.annotations.schema import Place
from drycc_router.translate.endpoints import Judge
from drycc_router.translate.platform import OwnNames, OwnPorts
from drycc_router.translate.references import candidates
from drycc_router.translate.services import CompiledApp, compile_app, default_policy, names_nothing, routable
from drycc_router.translate.streams import compile_streams, targets
from drycc_tls.certificate import Certificate
from drycc_tls.policy import TlsPolicy
from drycc_tls.update import CertificateChange

__all__ = ["API_SERVICE", "Compiler", "OwnNames", "OwnPorts"]

DEFAULT_ROUTE: Final = "default"
"""Name of the route for unknown hosts; names of apps have a slash."""

API_SERVICE: Final = ObjectKey("Service", "default", "kubernetes")
"""The Service whose slices say where the API server is. Seen when all namespaces are watched, or that one."""

_NEVER: Final = datetime.max.replace(tzinfo=UTC)
_NOTHING: Final = frozenset[ObjectKey]()

_IN_FORCE: Final = frozenset({Reason.DOMAIN_WITHOUT_CERTIFICATE, Reason.CERTIFICATE_EXPIRES_SOON, Reason.HOST_BITS})
"""Problems of apps all of whose words are in force."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Locations(msgspec.Struct, frozen=True):
    """The paths of one app that other apps answer."""

    accepted: Mapping[str, str]
    """Prefix → route name."""
    refused: Mapping[str, list[Problem]]
    """Route name → why not."""


class _Settled(msgspec.Struct, frozen=True, gc=False):
    """What one app comes to among the others."""

    route: Route | None
    """None: nothing leads to it."""
    rules: Mapping[bytes, HostRule]
    locations: Mapping[str, str]
    """Prefix → route name: paths that other apps answer."""
    chosen: Mapping[str, ObjectKey]
    """Host → the Secret chosen for it, good or bad."""
    names: Mapping[str, str]
    """Host → id of the certificate presented for it, where there is one."""
    problems: tuple[Problem, ...]
    report: AppReport


class _Published(Generic[K, V]):
    """One part of what was published: what the data plane has by now."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries: dict[K, V] = {}

    def replace(self, stale: Iterable[K], fresh: Mapping[K, V]) -> tuple[dict[K, V], frozenset[K]]:
        """Let ``fresh`` take the place of the entries in ``stale``; returns what to tell: (new or different, gone)."""
        gone = frozenset(key for key in stale if key not in fresh and key in self.entries)
        different = {key: value for key, value in fresh.items() if self.entries.get(key) != value}
        for key in gone:
            del self.entries[key]
        self.entries.update(different)
        return different, gone


class Compiler:
    """See the module. ``trusted_endpoints``: the objects are the operator's own, so endpoints may be on loopback.
    ``fence``: addresses that no app may have. ``ports``: those that are spoken for. ``reader``: of certificates."""

    def __init__(
        self,
        names: OwnNames | None = None,
        *,
        trusted_endpoints: bool,
        fence: Fence | None = None,
        ports: OwnPorts | None = None,
        reader: KeyPairReader | None = None,
    ) -> None:
        self._own = names or OwnNames()
        self._ports = ports or OwnPorts()
        self._builder_keys = self._own.candidates("Service", self._own.builder)
        self._router_keys = self._own.candidates("Deployment", self._own.deployment)
        self._own_services = self._own.candidates("Service", self._own.deployment)
        self._trusted = trusted_endpoints
        self._judge = Judge(trusted=trusted_endpoints)
        self._told_fence = fence or Fence()
        self._fence = self._told_fence
        # What objects tell of addresses behind the fence: address → whose it is, and address → port → whose that is.
        self._learned: tuple[dict[str, str], dict[str, dict[int, str]]] = ({}, {})
        # What was said, and what each app comes to by itself.
        self._cluster = Cluster()
        self._config = read_router(self._router_keys[0], {}, None)[0]
        self._default_policy = default_policy(self._config)
        self._builder: Builder | None = None
        self._stream_targets: frozenset[ObjectKey] = frozenset()
        self._apps: dict[str, CompiledApp] = {}
        # Who has to do with whom.
        self._claims = Claims()
        self._unread_record = ""
        self._remembered: Collection[ClaimKey] = ()  # claims that another replica's record speaks of
        self._unheard = Unheard()
        self._domains = Allowance(DOMAINS, self.is_exempt)
        self._lines = Allowance(RECORD_OCTETS, self.is_exempt, weigh)
        """Claims, by what they are in the record."""
        self._secrets = Allowance(CERTIFICATES, self.is_exempt)
        self._contributors: dict[str, set[str]] = {}  # host → apps with paths for it
        self._users: dict[ObjectKey, set[str]] = {}  # Secret or ConfigMap → apps that name it
        # What they come to together.
        self._pairs = Pairs(self._cluster, reader)
        self._foreseen = Counter[str]()  # namespace → Secrets
        self._platform: Certificate | None = None
        self._settled: dict[str, _Settled] = {}
        self._chosen_for: dict[ObjectKey, set[str]] = {}  # Secret → hosts
        self._judge_again = _NEVER
        self._judged_at = _NEVER
        """When all certificates were judged last; never: not yet."""
        self._ledger = ProblemIndex()
        # What was published last, and its reports.
        self._generation = 0
        self._edge: Edge | None = None
        self._tls_policy: TlsPolicy | None = None
        self._routes = _Published[str, Route]()
        self._rules = _Published[bytes, HostRule]()
        self._names = _Published[str, str]()
        self._shields = _Published[str, str]()
        """Hosts that present the default certificate, though a wildcard above them has one: that of a stranger."""
        self._wildcards: set[str] = set()
        """Wildcards that have a certificate."""
        self._certificates = _Published[str, Certificate]()
        self._streams = _Published[str, StreamRoute]()
        self._default: str | None = None
        self._reports: dict[str, AppReport] = {}
        self._reported: Mapping[str, AppReport] = {}
        self._states = Counter[RouteState]()
        self._served: Mapping[str, CertificateReport] = {}
        # What to look at again.
        self._dirty_apps: dict[str, None] = {}
        """In the order in which they were heard of: what was heard of together lies together in memory, and so ten
        thousand apps are gone through faster than in the order of a set."""
        self._dirty_secrets: set[ObjectKey] = set()
        self._dirty_config = True
        self._dirty_record = False
        self._dirty_fence = False
        self._dirty_streams = True

    def __repr__(self) -> str:
        return f"<Compiler generation {self._generation}: {len(self._apps)} apps, {len(self._rules.entries)} hosts>"

    # ── notes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def apply(self, change: Change) -> bool:
        """Note one change. True if anything the router reads differs, so that compiling may come to something new."""
        if change.key.kind == UNHEARD:
            _add(self._dirty_apps, self._unheard.note(change))
            return True
        if change.key.kind == "Service":
            self._unheard.hear(change.key)
        touched = self._cluster.apply(change)
        for key in touched:
            match key.kind:
                case "Service":
                    self._dirty_apps[f"{key.namespace}/{key.name}"] = None
                    self._dirty_config |= key in self._builder_keys
                    self._dirty_fence |= key == API_SERVICE or key in self._own_services
                    self._dirty_streams |= key in self._stream_targets
                case "EndpointSlice":
                    self._judge.forget(key)
                case "Secret":
                    self._dirty_secrets.add(key)
                case "ConfigMap":
                    _add(self._dirty_apps, self._users.get(key, ()))
                    self._dirty_record |= key == self._own.record
                case "Deployment":
                    self._dirty_config |= key in self._router_keys
        if touched:
            problem = self._cluster.unreadable.get(change.key)
            self._ledger.put(("unreadable", change.key), (problem,) if problem else ())
        return bool(touched)

    @property
    def deployment(self) -> ObjectKey:
        """The router's own Deployment."""
        return ObjectKey("Deployment", self._own.namespace, self._own.deployment)

    def source_problems(self, source_id: str, problems: tuple[Problem, ...]) -> None:
        """Note the Problems that a source has itself, such as a file it cannot read; replaces what it had before."""
        self._ledger.put(("source", source_id), problems)

    def foresee(self, key: ObjectKey) -> None:
        """Have a Secret that was noted read while other things are noted, where somebody can. Not beside ``compile``.

        No more of a namespace than it may have: what is foreseen is read whether anybody turns out to use it or not.
        """
        if self._foreseen[key.namespace] < CERTIFICATES or self.is_exempt(key.namespace):
            self._foreseen[key.namespace] += 1
            self._pairs.foresee(key)

    # ── the one verb ──────────────────────────────────────────────────────────────────────────────────────────────

    def compile(self, now: datetime) -> Snapshot:
        """Bring everything up to date with what was noted.

        Certificates are judged by ``now`` (aware), so call this now and then, if only hourly, when nothing was noted.
        """
        milliseconds = int(now.timestamp() * 1000)
        if self._dirty_config or self._dirty_record:
            self._read_config()
            self._read_given()
        if self._dirty_record:
            self._read_record(milliseconds)
        if self._dirty_fence:
            self._read_fence()
        streams = self._read_streams() if self._dirty_streams else self._streams.entries
        affected = self._recompile(milliseconds)
        self._pairs.catch_up()
        secrets = set(self._dirty_secrets)
        for key in secrets:
            _add(affected, self._users.get(key, ()))
        platform = self._ours("Secret", self._own.platform_certificate)
        if self._read_platform_certificate(platform):
            _add(affected, self._apps)
        if now >= self._judge_again or now < self._judged_at:  # a clock may also be put right (hardening R-34)
            secrets |= self._chosen_for.keys()
        # Should anything below fail on a fault of ours, the next attempt begins with all of these.
        self._dirty_apps |= affected
        after = self._settle(affected)

        before = [self._settled[name] for name in affected if name in self._settled]
        self._note_settled(affected, after)
        secrets |= self._note_chosen(before, after)
        secrets.update(self._own.candidates("Secret", self._own.platform_certificate))
        table = self._table_change(affected, before, after, streams)
        certificates = self._certificate_change(before, after, secrets, platform, now)
        self._dirty_apps.clear()
        self._dirty_secrets.clear()
        self._dirty_streams = False
        return self._snapshot(affected, table, certificates, now)

    # ── the router's own objects ──────────────────────────────────────────────────────────────────────────────────

    def _ours(self, kind: str, name: str) -> ObjectKey:
        """One of the router's own objects: the first of its names under which there is one; another is a Problem."""
        names = self._own.candidates(kind, name)
        found = [key for key in names if key in self._cluster]
        shadowed = [
            Problem(Reason.SHADOWED_OBJECT, key, "", "", f"expected one of the two: {found[0].name} counts")
            for key in found[1:]
        ]
        self._ledger.put(("shadowed", kind), shadowed)
        return found[0] if found else names[0]

    def _read_config(self) -> None:
        """Read the router's Deployment and the builder Service; where a setting differs, every app is dirty."""
        self._dirty_config = False
        key = self._ours("Deployment", self._own.deployment)
        deployment = self._cluster.get(Deployment, key.namespace, key.name)
        config, problems = read_router(key, deployment.annotations if deployment else {}, self._config)
        self._ledger.put("router", problems)
        key = self._ours("Service", self._own.builder)
        builder = self._cluster.get(Service, key.namespace, key.name)
        self._builder, problems = read_builder(key, builder.annotations, self._builder) if builder else (None, ())
        self._ledger.put("builder", problems)
        self._dirty_streams = True
        if config != self._config:
            self._dirty_fence |= (config.denied_networks, config.allowed_networks) != (
                self._config.denied_networks,
                self._config.allowed_networks,
            )
            self._config = config
            self._default_policy = default_policy(config)
            _add(self._dirty_apps, (*self._apps, *self._unheard.apps()))

    def _read_given(self) -> None:
        """Read which names the operator gave to whom; where that differs, every app is dirty."""
        view = self._cluster.get(ConfigMap, self._own.record.namespace, self._own.record.name)
        platform = self._config.platform_domain
        given, bad = own.read_given(view.data.get(own.GIVEN, "") if view else "", platform)
        key = f"data[{own.GIVEN}]"
        problems = [Problem(Reason.BAD_ELEMENT, self._own.record, key, line, f"expected {why}") for line, why in bad]
        self._ledger.put("given", problems)
        if given != self._own.given:
            self._own = replace(self._own, given=given)
            _add(self._dirty_apps, (*self._apps, *self._unheard.apps()))
        # The platform's own wildcard stands behind everybody's names below its domain, and is in nobody's way.
        self._claims.set_common(frozenset(given) | ({f"*.{platform}"} if platform else set()))

    def _read_record(self, now: int) -> None:
        """Hear what the elected replica remembers of claims (contract 7). ``now``: Unix milliseconds.

        A text that cannot be read is as good as none: nobody loses anything by it while this process lives, and where
        one starts with it the age of Services decides. It is kept beside what is written in its place.
        """
        self._dirty_record = False
        key = self._own.record
        view = self._cluster.get(ConfigMap, key.namespace, key.name)
        text = view.data.get(ENTRY, "") if view else ""
        problems = []
        if view and UNREADABLE in view.data:
            message = "expected nothing here: this could not be read as the record of claims, and is kept to look at"
            problems.append(Problem(Reason.BAD_OBJECT, key, f"data[{UNREADABLE}]", "", message))
        self._unread_record = ""
        there = stamp(text)
        self._remembered = ()
        if there is not None and there.author == self._claims.author:
            self._claims.written(there)
        elif not text:
            self._claims.recall(None, now)
        else:
            try:
                record = decode(text)
                self._claims.recall(record, now)
                self._remembered = record.claims.keys()
                self._domains.defer_to(self._remembered)
                if self._lines.is_short:  # thousands of claims, as a rule for nobody
                    self._lines.defer_to({(claim_name(*key), key[1]) for key in self._remembered})
                _add(self._dirty_apps, self._unheard.recall(self._remembered))
            except RecordError as error:
                message = f"{error}; it is written anew, from what is known"
                problems.append(Problem(Reason.BAD_OBJECT, key, f"data[{ENTRY}]", "", message))
                self._unread_record = text
                self._claims.recall(None, now)
        self._ledger.put("record", problems)

    def _own_service_views(self) -> list[Service]:
        views = (self._cluster.get(Service, key.namespace, key.name) for key in self._own_services)
        return [view for view in views if view is not None]

    def _read_fence(self) -> None:
        """Learn where the router's replicas and the API server are, and what the operator says about networks; apps
        with endpoints there are dirty.

        Who could write these objects could do worse with them than to name somebody else's addresses there.
        """
        self._dirty_fence = False
        places: dict[str, str] = {}
        nodes: dict[str, dict[int, str]] = {}
        for service in self._own_service_views():
            places.update((form, OWN) for form in forms(service.cluster_ip))
            balancers = {form for text in service.balancers for form in forms(text)}
            if any(map(self._told_fence.is_node, balancers)):  # the balancer of a small cluster: its nodes themselves
                _put_ports(nodes, balancers, (port.port for port in service.ports), OWN)
            else:
                places.update(dict.fromkeys(balancers, OWN))
        for key in self._own_services:
            for view in self._cluster.slices(key):
                if self._told_fence.in_host_network:
                    _put_ports(nodes, view.addresses(), (port.port for port in view.ports), OWN)
                else:
                    places.update((form, OWN) for text in view.addresses() for form in forms(text))
        api = self._cluster.get(Service, API_SERVICE.namespace, API_SERVICE.name)
        places.update((form, API_SERVER) for form in forms(api.cluster_ip if api else ""))
        for view in self._cluster.slices(API_SERVICE):
            _put_ports(nodes, view.addresses(), (port.port for port in view.ports), API_SERVER)
        before_places, before_nodes = self._learned
        self._learned = places, nodes
        config = self._config
        self._fence = self._told_fence.beside(
            places, nodes, denied=config.denied_networks, allowed=config.allowed_networks
        )
        changed = {address for address, _ in places.items() ^ before_places.items()}
        changed.update(each for each in nodes.keys() | before_nodes.keys() if nodes.get(each) != before_nodes.get(each))
        if changed:
            _add(self._dirty_apps, (name for name, app in self._apps.items() if self._is_at(app, changed)))
        self._dirty_streams = True

    def _is_at(self, app: CompiledApp, places: Set[str]) -> bool:
        """Whether an app has an endpoint at one of these places, or may have one there that was refused."""
        if app.spec.upstream == "service":
            texts = (app.service.cluster_ip, *self._cluster.addresses(app.service.key))
            return any(form in places for text in texts for form in forms(text))
        for ip, _ in app.route.endpoints:
            if ip in places or (":" in ip and not places.isdisjoint(forms(ip))):
                return True
        return any(problem.reason is Reason.REFUSED_ADDRESS for problem in app.problems)

    def _read_streams(self) -> dict[str, StreamRoute]:
        """Every port that leads to one Service: they are few, so all are read when one may differ."""
        builder = self._ours("Service", self._own.builder)
        self._stream_targets = targets(self._config, builder)
        found = compile_streams(
            self._cluster,
            self._config,
            (builder, self._builder) if self._builder else None,
            deployment=self._ours("Deployment", self._own.deployment),
            ports=self._ports,
            trusted_endpoints=self._trusted,
            fence=self._fence,
            judge=self._judge,
        )
        self._ledger.put("streams", found.problems)
        return dict(found.routes)

    def _read_platform_certificate(self, key: ObjectKey) -> bool:
        """Whether the platform's certificate now covers other names than it did."""
        before = self._platform.names if self._platform else None
        pair = self._pairs.get(key)
        self._platform = pair.certificate if pair else None
        return before != (self._platform.names if self._platform else None)

    # ── each app by itself ────────────────────────────────────────────────────────────────────────────────────────

    def _recompile(self, now: int) -> dict[str, None]:
        """Compile the dirty apps and settle the claims; returns the apps whose standing may differ now.

        ``now``: Unix milliseconds, when claims that are new begin.
        """
        affected = self._dirty_apps.copy()
        for name in self._dirty_apps:
            before = self._apps.pop(name, None)
            if before is not None and before.contributes_to:
                _add(affected, self._owner_of_paths(before))
            after = self._compile(name, before)
            if after is not None:
                self._apps[name] = after
            self._index(name, before, after)
        _add(affected, self._share_out())
        for host in self._claims.settle(now):
            for claimant in self._claims.claimants(host):
                affected[claimant.app] = None
            if self._contributors:
                _add(affected, self._contributors.get(host, ()))
        # Paths tie an app to all that contribute to it: what one of them says may let or leave another in.
        if self._contributors:
            for name in list(affected):
                _add(affected, self._owner_of_paths(self._apps.get(name)))
            for name in list(affected):
                _add(affected, self._contributors_to(name))
        return affected

    def _compile(self, name: str, before: CompiledApp | None) -> CompiledApp | None:
        """One app by itself; None: there is no such Service, or it is not to be routed."""
        service = self._cluster.get(Service, *name.split("/", 1))
        selected, problems = routable(service) if service else (False, [])
        after = None
        if service is not None and selected:
            try:
                after = compile_app(
                    service, self._cluster, self._config, self._own, before, self._trusted, self._fence, self._judge
                )
            except Exception as error:  # a fault of ours in one app must not stop the others
                after = before
                message = f"expected nothing of the kind: the router failed on this object ({type(error).__name__})"
                problems.append(Problem(Reason.ROUTER_FAULT, service.key, "", "", message))
        self._ledger.put(("selected", name), problems)
        return after

    def _index(self, name: str, before: CompiledApp | None, after: CompiledApp | None) -> None:
        """Keep who names what: Secrets and pages, paths, hosts."""
        named_before, named_after = _named_by(before), _named_by(after)
        if named_before or named_after:
            for key in named_before - named_after:
                _discard(self._users, key, name)
            for key in named_after - named_before:
                self._users.setdefault(key, set()).add(name)
        if before and before.contributes_to:
            _discard(self._contributors, before.contributes_to, name)
        if after and after.contributes_to:
            self._contributors.setdefault(after.contributes_to, set()).add(name)
        created = after.claimant.created if after else _NEVER
        self._domains.put(name, created, after.hosts if after else (), self._remembered)
        certificates = dict.fromkeys(after.certificates.values()) if after and after.certificates else ()
        self._secrets.put(name, created, certificates)

    def is_exempt(self, namespace: str) -> bool:
        """Whether a namespace may have as much as it wants: its objects are the operator's own."""
        return self._trusted or self._own.is_platform(namespace)

    def _share_out(self) -> set[str]:
        """Settle what each namespace may have; returns the apps that have more or less of it now. What of their hosts
        they may have is what the dirty apps, and these, claim."""
        moved = self._domains.settle()
        changed = self._dirty_apps | dict.fromkeys(moved)
        remembered = _Lines(self._remembered)
        for name in changed:
            app = self._apps.get(name)
            refused = self._domains.refused(name)
            lines = [claim_name(host, name) for host in app.hosts if host not in refused] if app else ()
            self._lines.put(name, app.claimant.created if app else _NEVER, lines, remembered)
        surplus = self._lines.settle()
        for name in changed | dict.fromkeys(surplus):
            app = self._apps.get(name)
            if app is None:
                self._claims.put(Claimant.of(name, None), self._claimed_unheard(name))
            else:
                self._claims.put(app.claimant, self._within_quota(app))
        return moved | surplus | self._secrets.settle()

    def _within_quota(self, app: CompiledApp) -> Iterable[str]:
        """The hosts that an app may claim."""
        name = app.route.name
        refused, surplus = self._domains.refused(name), self._lines.refused(name)
        if not refused and not surplus:
            return app.hosts
        return [host for host in app.hosts if host not in refused and claim_name(host, name) not in surplus]

    def _claimed_unheard(self, name: str) -> list[str]:
        """What is claimed for an app that is not there, as nobody could hear of it: nothing that it may not have."""
        hosts = self._unheard.claimed_by(name)
        service = ObjectKey("Service", *name.split("/", 1))
        if not hosts or service in self._cluster:
            return []
        platform = self._config.platform_domain
        return [host for host in hosts if not self._own.objection(service.namespace, host, platform)]

    def _owner_of_paths(self, app: CompiledApp | None) -> set[str]:
        """The app whose paths ``app`` wants to answer, if anybody holds that name."""
        holder = self._claims.holder(app.contributes_to) if app and app.contributes_to else None
        return {holder} if holder else set()

    def _contributors_to(self, owner: str) -> set[str]:
        """The apps that want to answer paths of ``owner``."""
        if not self._contributors:
            return set()
        contributors = (self._contributors.get(host, set()) for host in self._claims.held_by(owner))
        return set().union(*contributors)

    # ── the apps among each other ─────────────────────────────────────────────────────────────────────────────────

    def _settle(self, affected: Iterable[str]) -> dict[str, _Settled]:
        """What those of the affected apps that exist come to now."""
        locations: dict[str, _Locations] = {}
        return {name: self._settle_app(self._apps[name], locations) for name in affected if name in self._apps}

    def _note_settled(self, affected: Iterable[str], after: Mapping[str, _Settled]) -> None:
        """Let ``after`` take the place of what the affected apps came to before."""
        for name in affected:
            self._settled.pop(name, None)
            self._ledger.put(("app", name), after[name].problems if name in after else [])
            report = self._reports.pop(name, None)
            if report is not None:
                self._states[report.state] -= 1
        self._settled.update(after)
        for name, settled in after.items():
            self._reports[name] = settled.report
            self._states[settled.report.state] += 1

    def _settle_app(self, app: CompiledApp, locations: dict[str, _Locations]) -> _Settled:
        name = app.route.name
        problems: list[Problem] = []
        held = []
        standings: dict[str, str] = {}
        refused_hosts, surplus = self._domains.refused(name), self._lines.refused(name)
        for host, written in app.hosts.items():
            if host in refused_hosts:
                standings[host] = ""
                message = f"expected at most {DOMAINS} names in one namespace; this one has that many already"
                problems.append(_about(app, Reason.OVER_QUOTA, "domains", written, message))
                continue
            if surplus and claim_name(host, name) in surplus:
                standings[host] = ""
                message = (
                    f"expected fewer or shorter names: those of all Services of this namespace together take more than "
                    f"{RECORD_OCTETS >> 10} KiB of the record of claims"
                )
                problems.append(_about(app, Reason.OVER_QUOTA, "domains", written, message))
                continue
            standing = self._claims.in_the_way(name, host)
            if standing is None:
                held.append(host)
            else:
                standings[host] = standing.holder.app
                message = f"expected a free name: Service {standing.holder.app} holds {standing.host}"
                problems.append(_about(app, Reason.DOMAIN_TAKEN, "domains", written, message))
        paths: Mapping[str, str] = self._locations_of(app, locations).accepted if self._contributors else {}
        contributes = False
        if app.contributes_to is not None:
            contributes, refused = self._contribution(app, locations)
            problems += refused
        chosen, names, found = self._choose_certificates(app, held)
        problems += found

        told = (*app.problems, *bounded(problems)) if problems else app.problems
        ordered: tuple[tuple[str, str], ...] = ()
        rule_paths: tuple[tuple[bytes, str], ...] = ()
        if paths:
            ordered = tuple(sorted(paths.items(), key=lambda item: (-len(item[0]), item[0])))
            rule_paths = tuple((prefix.encode(), route) for prefix, route in ordered)
        routed = bool(held) or contributes
        return _Settled(
            route=app.route if routed else None,
            rules={host: HostRule(host, name, rule_paths) for host in map(str.encode, held)},
            locations=paths,
            chosen=chosen,
            names=names,
            problems=told,
            report=AppReport(
                name=name,
                app=app.route.app,
                namespace=app.route.namespace,
                service=app.route.service,
                state=self._state(app, routed, told, chosen.values()),
                hosts=tuple(
                    HostReport(host, standings[host])
                    if host in standings
                    else HostReport(host, name, ordered, names.get(host))
                    for host in app.hosts
                ),
                endpoints=app.route.endpoints,
                policy=app.route.policy,
            ),
        )

    def _state(
        self, app: CompiledApp, routed: bool, problems: Iterable[Problem], secrets: Iterable[ObjectKey]
    ) -> RouteState:
        if not routed:
            return RouteState.IDLE if names_nothing(app.service) else RouteState.REJECTED
        for problem in problems:
            if problem.reason not in _IN_FORCE and not problem.is_note:
                return RouteState.DEGRADED
        unreadable = self._cluster.unreadable
        if unreadable:
            objects = [app.service.key, *(view.key for view in self._cluster.slices(app.service.key))]
            if any(key in unreadable for key in objects):
                return RouteState.DEGRADED
        for key in secrets:
            pair = self._pairs.get(key)
            if pair is not None and pair.problem is not None:
                return RouteState.DEGRADED
        return RouteState.LIVE

    def _locations_of(self, owner: CompiledApp, known: dict[str, _Locations]) -> _Locations:
        """Who answers which paths of ``owner``: whom its namespace or its own word lets in, the incumbent before the
        oldest. ``known`` keeps the answer for the rest of this compilation."""
        name = owner.route.name
        if name in known:
            return known[name]
        incumbents = self._settled[name].locations if name in self._settled else {}
        wanted: dict[str, list[str]] = {}
        refused: dict[str, list[Problem]] = {}
        contributors = (self._apps[contributor] for contributor in self._contributors_to(name))
        for app in sorted(contributors, key=lambda app: app.claimant):
            if app.route.namespace in (owner.route.namespace, *owner.spec.allow_locations_from):
                for prefix in app.spec.proxy_locations:
                    wanted.setdefault(prefix, []).append(app.route.name)
            else:
                message = f"expected Service {name} to name this namespace in allowLocationsFrom"
                problem = _about(app, Reason.LOCATIONS_NOT_ALLOWED, "proxyDomain", app.spec.proxy_domain or "", message)
                refused.setdefault(app.route.name, []).append(problem)
        accepted: dict[str, str] = {}
        for prefix, apps in sorted(wanted.items(), key=lambda item: item[0] not in incumbents):
            incumbent = incumbents.get(prefix)
            if len(accepted) == LOCATIONS:
                message = f"expected at most {LOCATIONS} paths below Service {name}, which has that many already"
                for loser in apps:
                    problem = _about(self._apps[loser], Reason.OVER_QUOTA, "proxyLocations", prefix, message)
                    refused.setdefault(loser, []).append(problem)
                continue
            accepted[prefix] = incumbent if incumbent in apps else apps[0]
            for loser in apps:
                if loser != accepted[prefix]:
                    message = f"expected a free path: Service {accepted[prefix]} answers it"
                    problem = _about(self._apps[loser], Reason.LOCATION_TAKEN, "proxyLocations", prefix, message)
                    refused.setdefault(loser, []).append(problem)
        known[name] = _Locations(accepted, refused)
        return known[name]

    def _contribution(self, app: CompiledApp, locations: dict[str, _Locations]) -> tuple[bool, list[Problem]]:
        """Whether any path of another app leads to ``app``, and why some do not."""
        owner = self._claims.holder(app.contributes_to) if app.contributes_to else None
        if owner is None or owner not in self._apps:  # who is unheard of lets nobody in
            message = "expected a name that an app holds"
            problem = _about(app, Reason.UNKNOWN_PROXY_DOMAIN, "proxyDomain", app.spec.proxy_domain or "", message)
            return False, [problem]
        found = self._locations_of(self._apps[owner], locations)
        return app.route.name in found.accepted.values(), found.refused.get(app.route.name, [])

    # ── certificates ──────────────────────────────────────────────────────────────────────────────────────────────

    def _choose_certificates(
        self, app: CompiledApp, held: Iterable[str]
    ) -> tuple[dict[str, ObjectKey], dict[str, str], list[Problem]]:
        """For each host held: the Secret that its mapping means, exact before the closest wildcard (contract 8).

        Returns the Secrets chosen, the ids of the certificates there are, and the Problems.
        """
        chosen: dict[str, ObjectKey] = {}
        names: dict[str, str] = {}
        problems: dict[Problem, None] = {}
        used = set()
        mappings = app.certificates
        refused = self._secrets.refused(app.route.name)
        if refused:
            mappings = {host: secret for host, secret in app.certificates.items() if secret not in refused}
            message = f"expected at most {CERTIFICATES} certificates in one namespace; this one has that many already"
            problems.update(
                (_about(app, Reason.OVER_QUOTA, "certificates", f"{host}:{secret}", message), None)
                for host, secret in app.certificates.items()
                if secret in refused
            )
        for host in held:
            if host.endswith(".*"):  # handshakes cannot look up a name below any suffix: they get the default one
                continue
            mapped = _mapping_for(host, mappings) if mappings else None
            if mapped is None:
                covered = self._platform is not None and self._platform.covers(host)
                if not covered and "." in app.hosts[host] and app.spec.ssl_enabled:
                    message = "expected a certificate for it: https answers with the default one"
                    problem = _about(app, Reason.DOMAIN_WITHOUT_CERTIFICATE, "domains", app.hosts[host], message)
                    problems[problem] = None
                continue
            used.add(mapped)
            secret = mappings[mapped]
            key = self._pairs.chosen(app.route.namespace, secret)
            flaw = self._flaw(key, app.route.namespace, secret)
            if flaw:
                problem = _about(app, Reason.CERTIFICATE_BAD, "certificates", f"{mapped}:{secret}", flaw)
                problems[problem] = None
            if key is None and (flaw or not app.spec.ssl_enabled):
                continue
            if key is None:
                message = f"expected a Secret {secret}-cert, {secret}-certificate or {secret} in the same namespace"
                problem = _about(app, Reason.CERTIFICATE_MISSING, "certificates", f"{mapped}:{secret}", message)
                problems[problem] = None
                continue
            chosen[host] = key
            pair = self._pairs.get(key)
            if pair is not None and pair.certificate is not None:
                names[host] = _id(key)
                if not pair.certificate.covers(host):
                    message = f"expected a certificate that covers {host}; it is served all the same"
                    value = f"{mapped}:{secret}"
                    problem = _about(app, Reason.CERTIFICATE_DOES_NOT_COVER, "certificates", value, message)
                    problems[problem] = None
        for mapped, secret in mappings.items():
            if mapped not in used:
                message = "is not used: the app holds no dotted name for it"
                problems[_about(app, Reason.CERTIFICATE_UNUSED, "certificates", f"{mapped}:{secret}", message)] = None
        return chosen, names, list(problems)

    def _flaw(self, chosen: ObjectKey | None, namespace: str, name: str) -> str:
        """What is wrong with the Secret that a mapping to ``name`` means; "" if nothing is, or there is none.

        Told on the Service too: its owner looks there, and may not be the one who wrote the Secret.
        """
        unreadable = self._cluster.unreadable
        for key in (chosen,) if chosen else candidates(namespace, name):
            problem = unreadable.get(key) if unreadable else None
            if problem is not None:
                kept = "; what it said before stays" if chosen else ""
                return f"{problem.message} at {problem.key} of Secret {key.name}{kept}"
        pair = self._pairs.get(chosen) if chosen else None
        return f"Secret {pair.secret.key.name}: {pair.problem.message}" if pair and pair.problem else ""

    def _note_chosen(self, before: Iterable[_Settled], after: Mapping[str, _Settled]) -> set[ObjectKey]:
        """Keep which Secrets serve which hosts; returns those that were or are chosen."""
        secrets = set()
        for settled in before:
            for host, key in settled.chosen.items():
                secrets.add(key)
                _discard(self._chosen_for, key, host)
        for settled in after.values():
            for host, key in settled.chosen.items():
                secrets.add(key)
                self._chosen_for.setdefault(key, set()).add(host)
        return secrets

    def _certificate_change(
        self,
        before: Iterable[_Settled],
        after: Mapping[str, _Settled],
        secrets: Iterable[ObjectKey],
        platform: ObjectKey,
        now: datetime,
    ) -> CertificateChange:
        """What differs in names and certificates; judges the certificates of ``secrets`` that are in use."""
        names, gone_names = self._names.replace(
            {host for settled in before for host in settled.names},
            {host: each for settled in after.values() for host, each in settled.names.items()},
        )
        shields, gone_shields = self._shield((*before, *after.values()), names, gone_names)
        names |= shields
        gone_names = (gone_names | gone_shields) - names.keys()
        if now >= self._judge_again or now < self._judged_at:
            self._judge_again = _NEVER
            self._judged_at = now
        reports = {}
        for key in secrets:
            problems = []
            if key not in self._chosen_for and key != platform:
                self._pairs.forget(key)
            pair = self._pairs.get(key) if key in self._chosen_for or key == platform else None
            if pair is not None and pair.problem is not None:
                problems.append(pair.problem)
            if pair is not None and pair.certificate is not None:
                problems += judge(key, pair.certificate, now)
                self._judge_again = min(self._judge_again, next_judgement(pair.certificate, now) or _NEVER)
                role = Role.PLATFORM if key == platform else Role.OWN
                serves = tuple(sorted(self._chosen_for.get(key, ())))
                reports[_id(key)] = CertificateReport(key.namespace, key.name, pair.certificate, serves, role)
            self._ledger.put(("certificate", key), problems)
        looked_at = {_id(key) for key in secrets}
        certificates, gone = self._certificates.replace(
            looked_at, {each: report.certificate for each, report in reports.items()}
        )
        if any(self._served.get(each) != reports.get(each) for each in looked_at):
            served = dict(self._served)  # thousands: copied, but not looked at one by one
            for each in looked_at:
                served.pop(each, None)
            served.update(reports)
            self._served = served
        default = _id(platform) if _id(platform) in self._certificates.entries else None
        policy = own.tls_policy(self._config)
        different = policy if policy != self._tls_policy else None
        self._tls_policy = policy
        return CertificateChange(0, certificates, gone, names, gone_names, default, different)

    def _shield(
        self, settled: Iterable[_Settled], names: Iterable[str], gone_names: Iterable[str]
    ) -> tuple[dict[str, str], frozenset[str]]:
        """Keep certificates at home: a host whose holder has none for it must not present that of a wildcard which
        another namespace holds. Both can be held where the operator gave names away, and below the platform's wildcard.

        ``names`` and ``gone_names``: what differs in the names that have certificates. Returns what differs.
        """
        came = {host for host in names if host.startswith("*.")}
        went = {host for host in gone_names if host.startswith("*.")}
        self._wildcards |= came
        self._wildcards -= went
        if not (self._wildcards or self._shields.entries):
            return {}, frozenset()
        hosts = {host.decode() for each in settled for host in each.rules}
        for wildcard in came | went:
            hosts |= self._claims.below(wildcard)
        return self._shields.replace(hosts, {host: "" for host in hosts if self._is_strangers(host)})

    def _is_strangers(self, host: str) -> bool:
        """Whether a handshake for a host would come to a certificate of another namespace."""
        presented = self._names.entries
        holder = self._claims.holder(host)
        if holder is None or host in presented:
            return False
        closest = next((each for name in hostnames.names_above(host) if (each := f"*.{name}") in self._wildcards), None)
        return closest is not None and presented[closest].partition("/")[0] != holder.partition("/")[0]

    # ── what differs ──────────────────────────────────────────────────────────────────────────────────────────────

    def _table_change(
        self,
        affected: Iterable[str],
        before: Iterable[_Settled],
        after: Mapping[str, _Settled],
        streams: Mapping[str, StreamRoute],
    ) -> TableChange:
        routes = {name: settled.route for name, settled in after.items() if settled.route is not None}
        default = self._default_route()
        if default is not None:
            routes[DEFAULT_ROUTE] = default
        new_routes, gone_routes = self._routes.replace([*affected, DEFAULT_ROUTE], routes)
        new_rules, gone_rules = self._rules.replace(
            {host for settled in before for host in settled.rules},
            {host: rule for settled in after.values() for host, rule in settled.rules.items()},
        )
        new_streams, gone_streams = self._streams.replace(list(self._streams.entries), streams)
        edge = own.edge(self._config, DEFAULT_ROUTE if default else "")
        different = edge if edge != self._edge else None
        self._edge = edge
        return TableChange(0, new_routes, gone_routes, new_rules, gone_rules, new_streams, gone_streams, edge=different)

    def _default_route(self) -> Route | None:
        """Who answers unknown hosts, if the operator named somebody (contract 4)."""
        config = self._config
        if not config.default_service_enabled or config.default_service_ip is None:
            return None
        return Route(
            name=DEFAULT_ROUTE,
            app=config.default_app_name,
            namespace=self._own.namespace,
            service="",
            endpoints=((config.default_service_ip, 80),),
            policy=self._default_policy,
        )

    def _snapshot(
        self, affected: Collection[str], table: TableChange, certificates: CertificateChange, now: datetime
    ) -> Snapshot:
        changed = any(
            (
                table.routes,
                table.gone_routes,
                table.hosts,
                table.gone_hosts,
                table.streams,
                table.gone_streams,
                table.edge,
                certificates.certificates,
                certificates.gone,
                certificates.names,
                certificates.gone_names,
                certificates.default != self._default,
                certificates.policy,
            )
        )
        self._default = certificates.default
        self._generation += changed
        if affected:
            self._reported = self._reports.copy()
        problems, new, gone = self._ledger.take()
        about = {problem.object for problem in (*new, *gone)} | set(
            self._own.candidates("Deployment", self._own.deployment)
        )
        record = self._claims.record()
        if record is not None and self._unread_record:
            record = replace(record, unread=self._unread_record)
        return Snapshot(
            generation=self._generation,
            table=replace(table, generation=self._generation),
            certificates=replace(certificates, generation=self._generation),
            problems=problems,
            problems_new=new,
            problems_gone=gone,
            changed=changed,
            at=now,
            apps=self._reported,
            states=self._states.copy(),
            served=self._served,
            default_policy=self._default_policy,
            streams=self._streams.entries.copy(),
            balancers=tuple(text for service in self._own_service_views() for text in service.balancers),
            uids={key: uid for key in about if (uid := self._cluster.uid(key)) is not None},
            record=record,
        )


class _Lines:
    """Remembered claims, as :class:`Allowance` asks for them: by (line, app)."""

    __slots__ = ("_claims",)

    def __init__(self, claims: Collection[ClaimKey]) -> None:
        self._claims = claims

    def __contains__(self, key: object) -> bool:
        line, app = cast(tuple[str, str], key)
        return bool(self._claims) and (line.partition(" ")[0], app) in self._claims


def _put_ports(nodes: dict[str, dict[int, str]], texts: Iterable[str], ports: Iterable[int], whose: str) -> None:
    """Note whose ``ports`` are, at each of these addresses."""
    there = dict.fromkeys(ports, whose)
    for text in texts:
        for form in forms(text):
            nodes.setdefault(form, {}).update(there)


def _about(app: CompiledApp, reason: Reason, key: str, value: str, message: str) -> Problem:
    """A Problem with one of the app's annotations."""
    written = written_as(Place.APP, key, app.service.annotations)
    return Problem(reason, app.service.key, written, value, message)


def _id(key: ObjectKey) -> str:
    """How certificates are called in what is published."""
    return f"{key.namespace}/{key.name}"


def _named_by(app: CompiledApp | None) -> Set[ObjectKey]:
    """The Secrets and ConfigMaps that an app may mean."""
    if app is None or not (app.certificates or app.spec.maintenance_page):
        return _NOTHING
    namespace = app.route.namespace
    named = {key for secret in app.certificates.values() for key in candidates(namespace, secret)}
    if app.spec.maintenance_page is not None:
        named.add(ObjectKey("ConfigMap", namespace, app.spec.maintenance_page))
    return named


def _mapping_for(host: str, mapped: Container[str]) -> str | None:
    """The name whose mapping counts for ``host``: itself, else the closest wildcard above it."""
    names = (host, *(f"*.{name}" for name in hostnames.names_above(host)))
    return next((name for name in names if name in mapped), None)


def _add(names: dict[str, None], more: Iterable[str]) -> None:
    """Put ``more`` into an ordered set."""
    for name in more:
        names[name] = None


def _discard(index: dict[K, set[str]], key: K, member: str) -> None:
    """Take ``member`` out of ``index``, which keeps no empty sets."""
    members = index.get(key)
    if members is not None:
        members.discard(member)
        if not members:
            del index[key]
