"""Narrow frozen views of Kubernetes objects: only what the router reads, checked once, at the edge.

Sources hand over raw JSON-like mappings (from the API server or from YAML on disk); ``parse_…`` turns one into a view
or raises :class:`ObjectError`, which names the path and what was expected there and never quotes a value. Two views are
equal exactly when nothing the router reads differs, which is how the many updates that touch other fields are told
apart from the few that matter.

What must not enter: annotations' *meaning* (``translate.annotations``), defaults, and any API client.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Final, NamedTuple

import msgspec

__all__ = [
    "KINDS",
    "PREFIXES",
    "Change",
    "ConfigMap",
    "Deployment",
    "EndpointSlice",
    "ObjectError",
    "ObjectKey",
    "Secret",
    "Service",
    "ServicePort",
    "SliceEndpoint",
    "SlicePort",
    "parse_config_map",
    "parse_deployment",
    "parse_endpoint_slice",
    "parse_secret",
    "parse_service",
]

PREFIXES: Final = ("router.drycc.cc/", "router.deis.io/")
"""Prefixes of our labels and annotations; where both stand, the first wins (contract 1)."""

KINDS: Final = frozenset({"Service", "EndpointSlice", "Secret", "ConfigMap", "Deployment"})
"""The kinds the router reads; a source need not deliver any other."""

_SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"
_PAIR: Final = ("tls.crt", "tls.key")

_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_Word = Annotated[str, msgspec.Meta(min_length=1)]


class ObjectError(ValueError):
    """An object that does not have the shape Kubernetes gives it.

    ``path`` is the field ("spec.ports[0].port"), ``expected`` what should stand there. Never quotes a value.
    """

    def __init__(self, path: str, expected: str) -> None:
        super().__init__(f"{path}: expected {expected}")
        self.path = path
        self.expected = expected


class ObjectKey(NamedTuple):
    """Which object: kind, namespace ("" where there is none) and name.

    A tuple, because everything is looked up by it: a hash costs a fifth of what a dataclass's costs.
    """

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Change:
    """One event about one object: what it is now (raw, JSON-like), or None when it is gone."""

    key: ObjectKey
    object: Mapping[str, Any] | None = field(repr=False)  # may be a Secret


class ServicePort(msgspec.Struct, frozen=True, gc=False):
    """One port of a Service; ``name`` is "" when it has none, as Kubernetes allows for a single port."""

    name: str
    port: _Port
    protocol: _Word


class Service(msgspec.Struct, frozen=True, gc=False):
    """A Service: ``annotations`` only ours, ``labels`` only the ones that select it or name its app."""

    key: ObjectKey
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    created: datetime | None
    type: str
    cluster_ip: str
    """"" for headless ("None") and for Services that have not been given one."""
    ports: tuple[ServicePort, ...]
    uid: str = ""
    """Tells it from others that had or will have the same name; "" in manifests."""
    balancers: tuple[str, ...] = ()
    """Addresses or names of the load balancer that leads to it, where there is one."""


class SliceEndpoint(msgspec.Struct, frozen=True, gc=False):
    """One endpoint of a slice. ``ready`` already means: may be given new connections (contract 1)."""

    addresses: tuple[str, ...]
    ready: bool
    target: ObjectKey | None = None
    """What it says it is: as a rule a Pod. Written by whoever wrote the slice."""
    leaving: bool = False
    """It terminates and still serves: it may be given new connections while no endpoint is ready."""


class SlicePort(msgspec.Struct, frozen=True, gc=False):
    """One port of a slice; a slice's port without a number means "all ports" and is left out when parsed."""

    name: str
    port: _Port
    protocol: _Word


class EndpointSlice(msgspec.Struct, frozen=True, gc=False):
    """An EndpointSlice; ``service`` is the Service it belongs to ("" for none), ``address_type`` IPv4, IPv6 or FQDN."""

    key: ObjectKey
    service: str
    address_type: str
    endpoints: tuple[SliceEndpoint, ...]
    ports: tuple[SlicePort, ...]
    owner: str = ""
    """The uid of the Service that it was made for; "" where it does not say."""

    def addresses(self) -> Iterator[str]:
        """Every address, ready or not, as written."""
        for endpoint in self.endpoints:
            yield from endpoint.addresses


@dataclass(frozen=True, slots=True)
class Secret:
    """A Secret: only ``tls.crt`` and ``tls.key``, decoded. Kept out of ``repr``."""

    key: ObjectKey
    data: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ConfigMap:
    """A ConfigMap: its texts."""

    key: ObjectKey
    data: Mapping[str, str] = field(repr=False)  # whole HTML pages


class Deployment(msgspec.Struct, frozen=True):
    """A Deployment: ``annotations`` only ours."""

    key: ObjectKey
    annotations: Mapping[str, str]


def parse_service(key: ObjectKey, raw: Mapping[str, Any]) -> Service:
    """Read a Service.

    Raises:
        ObjectError: some field the router reads has another shape than Kubernetes gives it.
    """
    return _usual_service(key, raw) or _any_service(key, raw)


def _any_service(key: ObjectKey, raw: Mapping[str, Any]) -> Service:
    metadata = _mapping(raw.get("metadata"), "metadata")
    spec = _mapping(raw.get("spec"), "spec")
    ports = []
    for path, item in _items(spec.get("ports"), "spec.ports"):
        ports.append(
            ServicePort(
                name=_text(item.get("name"), f"{path}.name"),
                port=_port(item.get("port"), f"{path}.port"),
                protocol=_text(item.get("protocol"), f"{path}.protocol") or "TCP",
            )
        )
    cluster_ip = _text(spec.get("clusterIP"), "spec.clusterIP")
    where = "status.loadBalancer"
    balancer = _mapping(_mapping(raw.get("status"), "status").get("loadBalancer"), where)
    balancers = [
        _text(item.get("ip"), f"{path}.ip") or _text(item.get("hostname"), f"{path}.hostname")
        for path, item in _items(balancer.get("ingress"), f"{where}.ingress")
    ]
    return Service(
        key=key,
        labels=_ours(metadata.get("labels"), "metadata.labels", "app"),
        annotations=_ours(metadata.get("annotations"), "metadata.annotations"),
        created=_time(metadata.get("creationTimestamp"), "metadata.creationTimestamp"),
        type=_text(spec.get("type"), "spec.type") or "ClusterIP",
        cluster_ip="" if cluster_ip == "None" else cluster_ip,
        ports=tuple(ports),
        uid=_text(metadata.get("uid"), "metadata.uid"),
        balancers=tuple(text for text in balancers if text),
    )


def parse_endpoint_slice(key: ObjectKey, raw: Mapping[str, Any]) -> EndpointSlice:
    """Read an EndpointSlice; an unset ``ready`` means ready, as the API defines it; terminating ones are never ready.
    An unset ``serving`` means serving, as kube-proxy reads it.

    Raises:
        ObjectError: some field the router reads has another shape than Kubernetes gives it.
    """
    return _usual_slice(key, raw) or _any_slice(key, raw)


def _any_slice(key: ObjectKey, raw: Mapping[str, Any]) -> EndpointSlice:
    metadata = _mapping(raw.get("metadata"), "metadata")
    labels = _mapping(metadata.get("labels"), "metadata.labels")
    owners = _items(metadata.get("ownerReferences"), "metadata.ownerReferences")
    endpoints = []
    for path, item in _items(raw.get("endpoints"), "endpoints"):
        conditions = _mapping(item.get("conditions"), f"{path}.conditions")
        ready = _flag(conditions.get("ready"), f"{path}.conditions.ready", absent=True)
        terminating = _flag(conditions.get("terminating"), f"{path}.conditions.terminating", absent=False)
        serving = _flag(conditions.get("serving"), f"{path}.conditions.serving", absent=True)
        addresses = _list(item.get("addresses"), f"{path}.addresses")
        endpoints.append(
            SliceEndpoint(
                addresses=tuple(_text(text, f"{path}.addresses[{n}]") for n, text in enumerate(addresses)),
                ready=ready and not terminating,
                target=_reference(item.get("targetRef"), f"{path}.targetRef"),
                leaving=terminating and serving,
            )
        )
    ports = []
    for path, item in _items(raw.get("ports"), "ports"):
        if item.get("port") is not None:
            ports.append(
                SlicePort(
                    name=_text(item.get("name"), f"{path}.name"),
                    port=_port(item.get("port"), f"{path}.port"),
                    protocol=_text(item.get("protocol"), f"{path}.protocol") or "TCP",
                )
            )
    return EndpointSlice(
        key=key,
        service=_text(labels.get(_SERVICE_NAME_LABEL), f"metadata.labels[{_SERVICE_NAME_LABEL}]"),
        address_type=_text(raw.get("addressType"), "addressType"),
        endpoints=tuple(endpoints),
        ports=tuple(ports),
        owner=next(
            (_text(owner.get("uid"), f"{at}.uid") for at, owner in owners if owner.get("kind") == "Service"), ""
        ),
    )


def parse_secret(key: ObjectKey, raw: Mapping[str, Any]) -> Secret:
    """Read the certificate and key of a Secret. ``stringData`` (only ever in manifests) wins over ``data``.

    Raises:
        ObjectError: some field the router reads has another shape; says which, never what stood there.
    """
    encoded = _mapping(raw.get("data"), "data")
    plain = _mapping(raw.get("stringData"), "stringData")
    data: dict[str, bytes] = {}
    for name in _PAIR:
        if plain.get(name) is not None:
            data[name] = _bytes(plain[name], f"stringData[{name}]")
        elif encoded.get(name) is not None:
            data[name] = _base64(encoded[name], f"data[{name}]")
    return Secret(key=key, data=data)


def parse_config_map(key: ObjectKey, raw: Mapping[str, Any]) -> ConfigMap:
    """Read the texts of a ConfigMap.

    Raises:
        ObjectError: ``data`` is not a mapping of texts.
    """
    data = _mapping(raw.get("data"), "data")
    return ConfigMap(key=key, data={name: _text(text, f"data[{_quotable(name)}]") for name, text in data.items()})


def parse_deployment(key: ObjectKey, raw: Mapping[str, Any]) -> Deployment:
    """Read a Deployment.

    Raises:
        ObjectError: its annotations are not a mapping of texts.
    """
    metadata = _mapping(raw.get("metadata"), "metadata")
    return Deployment(key=key, annotations=_ours(metadata.get("annotations"), "metadata.annotations"))


# ── the usual shape ───────────────────────────────────────────────────────────────────────────────────────────────────
#
# Nearly all Services and slices look as Kubernetes itself writes them, and thousands come at once when the router
# starts. What is read of those msgspec picks out in a third of the time that it takes to look at each part in turn.
# Whatever looks different in any way (a null, a part that is missing, a wrong type) is read above, with a word for what
# is wrong; both readers come to the same (there is a property test).


class _Metadata(msgspec.Struct, gc=False):
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    created: str | None = msgspec.field(name="creationTimestamp", default=None)
    uid: str = ""


class _Spec(msgspec.Struct, gc=False):
    type: _Word
    ports: tuple[ServicePort, ...]
    cluster_ip: str = msgspec.field(name="clusterIP", default="")


class _UsualService(msgspec.Struct, gc=False):
    metadata: _Metadata
    spec: _Spec
    status: None = None
    """Sources leave it out, but for Services with a load balancer."""


class _SliceLabels(msgspec.Struct, gc=False):
    service: str = msgspec.field(name=_SERVICE_NAME_LABEL)


class _Owner(msgspec.Struct, gc=False):
    kind: str
    uid: str


class _SliceMetadata(msgspec.Struct, gc=False):
    labels: _SliceLabels
    owners: tuple[_Owner, ...] = msgspec.field(name="ownerReferences", default=())


class _Conditions(msgspec.Struct, frozen=True, gc=False):
    ready: bool = True
    serving: bool = True
    terminating: bool = False


class _Target(msgspec.Struct, gc=False):
    kind: str = ""
    namespace: str = ""
    name: str = ""


class _UsualEndpoint(msgspec.Struct, gc=False):
    addresses: tuple[str, ...]
    conditions: _Conditions = _Conditions()
    target: _Target | None = msgspec.field(name="targetRef", default=None)


class _UsualSlice(msgspec.Struct, gc=False):
    metadata: _SliceMetadata
    address_type: str = msgspec.field(name="addressType")
    endpoints: tuple[_UsualEndpoint, ...]
    ports: tuple[SlicePort, ...]


def _usual_service(key: ObjectKey, raw: Mapping[str, Any]) -> Service | None:
    """None: it does not look as usual."""
    try:
        usual = msgspec.convert(raw, _UsualService)
        metadata, spec = usual.metadata, usual.spec
        created = _time(metadata.created, "metadata.creationTimestamp")
    except ValueError:  # also of a key that is not Unicode, and of a time that is none
        return None
    return Service(
        key,
        {name: text for name, text in metadata.labels.items() if name == "app" or name.startswith(PREFIXES)},
        {name: text for name, text in metadata.annotations.items() if name.startswith(PREFIXES)},
        created,
        spec.type,
        "" if spec.cluster_ip == "None" else spec.cluster_ip,
        spec.ports,
        metadata.uid,
    )


def _usual_slice(key: ObjectKey, raw: Mapping[str, Any]) -> EndpointSlice | None:
    """None: it does not look as usual."""
    try:
        usual = msgspec.convert(raw, _UsualSlice)
    except ValueError:
        return None
    endpoints = []
    for each in usual.endpoints:
        target = each.target
        endpoints.append(
            SliceEndpoint(
                each.addresses,
                each.conditions.ready and not each.conditions.terminating,
                None if target is None else ObjectKey(target.kind, target.namespace, target.name),
                each.conditions.terminating and each.conditions.serving,
            )
        )
    owner = ""
    for reference in usual.metadata.owners:
        if reference.kind == "Service":
            owner = reference.uid
            break
    return EndpointSlice(key, usual.metadata.labels.service, usual.address_type, tuple(endpoints), usual.ports, owner)


# ── the shapes of JSON ────────────────────────────────────────────────────────────────────────────────────────────────


def _mapping(value: object, path: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if type(value) is dict or isinstance(value, Mapping):  # the first costs a tenth of the second
        for name in value:
            if not isinstance(name, str):
                break
        else:
            return value
    raise ObjectError(path, "a mapping")


def _list(value: object, path: str) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, list):
        return value
    raise ObjectError(path, "a list")


def _items(value: object, path: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The mappings of a list, each with its path."""
    paths = ((f"{path}[{number}]", item) for number, item in enumerate(_list(value, path)))
    return [(at, _mapping(item, at)) for at, item in paths]


def _text(value: object, path: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    raise ObjectError(path, "a text (in YAML, put it in quotes)")


def _reference(value: object, path: str) -> ObjectKey | None:
    if value is None:
        return None
    found = _mapping(value, path)
    kind, namespace, name = (_text(found.get(part), f"{path}.{part}") for part in ("kind", "namespace", "name"))
    return ObjectKey(kind, namespace, name)


def _flag(value: object, path: str, *, absent: bool) -> bool:
    if value is None:
        return absent
    if isinstance(value, bool):
        return value
    raise ObjectError(path, "true or false")


def _port(value: object, path: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
        return value
    raise ObjectError(path, "a port number from 1 to 65535")


def _time(value: object, path: str) -> datetime | None:
    """RFC 3339, or what a YAML loader makes of it."""
    if value is None:
        return None
    try:
        when = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(when, datetime):
            return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # no date at all, or one at the edge of what datetime can hold
        pass
    raise ObjectError(path, "a time such as 2026-01-31T12:00:00Z")


def _ours(value: object, path: str, *others: str) -> Mapping[str, str]:
    """The entries of labels or annotations under our prefixes, and the named others."""
    return {
        name: text if isinstance(text, str) else _text(text, f"{path}[{_quotable(name)}]")
        for name, text in _mapping(value, path).items()
        if name.startswith(PREFIXES) or name in others
    }


def _bytes(value: object, path: str) -> bytes:
    try:
        return _text(value, path).encode()
    except UnicodeEncodeError:  # lone surrogates: JSON can carry them, PEM cannot
        pass
    raise ObjectError(path, "a text")


def _base64(value: object, path: str) -> bytes:
    # YAML's block scalars bring line ends along, which RFC 4648 tolerates and b64decode(validate=True) does not.
    try:
        return base64.b64decode("".join(_text(value, path).split()), validate=True)
    except (binascii.Error, ValueError):  # the exception's own words are dropped: nothing of a Secret is quoted
        pass
    raise ObjectError(path, "base64")


def _quotable(name: str) -> str:
    """An object's own key, fit for a sentence."""
    return name[:100].encode("ascii", "backslashreplace").decode()
