"""Documents as owners, the Workflow controller and Kubernetes itself write them, for filling a fake cluster."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from examples.authority import Authority, SigningKey

__all__ = ["Document", "apps", "config_map", "deployment", "endpoint_slice", "secret", "service"]

Document = dict[str, Any]
PREFIX = "router.drycc.cc"


def service(
    namespace: str,
    name: str,
    *,
    domains: str | None = None,
    annotations: Mapping[str, str] | None = None,
    routable: bool = True,
    cluster_ip: str = "10.96.0.10",
    port: int = 80,
) -> Document:
    """An app's Service; ``annotations`` without a prefix get the router's."""
    written = {key if "/" in key else f"{PREFIX}/{key}": value for key, value in (annotations or {}).items()}
    if domains is not None:
        written[f"{PREFIX}/domains"] = domains
    labels = {"app": name, "heritage": "drycc", **({f"{PREFIX}/routable": "true"} if routable else {})}
    return {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {"namespace": namespace, "name": name, "labels": labels, "annotations": written},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": cluster_ip,
            "selector": {"app": name, "heritage": "drycc"},
            "ports": [{"name": "http", "port": port, "targetPort": 5000, "protocol": "TCP"}],
        },
    }


def endpoint_slice(
    namespace: str,
    owner: str,
    addresses: Sequence[str],
    *,
    port: int = 5000,
    suffix: str = "abcde",
    ready: bool = True,
    terminating: bool = False,
) -> Document:
    """One slice of the Service ``owner``. A terminating pod that still serves is not ready, as Kubernetes has it."""
    conditions = {"ready": ready and not terminating, "serving": ready, "terminating": terminating}
    return {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "namespace": namespace,
            "name": f"{owner}-{suffix}",
            "labels": {
                "kubernetes.io/service-name": owner,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
        },
        "addressType": "IPv6" if any(":" in address for address in addresses) else "IPv4",
        "endpoints": [{"addresses": [address], "conditions": conditions} for address in addresses],
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    }


def secret(namespace: str, name: str, data: Mapping[str, bytes], type_: str = "Opaque") -> Document:
    return {
        "kind": "Secret",
        "apiVersion": "v1",
        "metadata": {"namespace": namespace, "name": name},
        "type": type_,
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }


def config_map(namespace: str, name: str, data: Mapping[str, str]) -> Document:
    return {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"namespace": namespace, "name": name},
        "data": dict(data),
    }


def deployment(
    annotations: Mapping[str, str] | None = None, *, namespace: str = "drycc", name: str = "drycc-router"
) -> Document:
    """The router's own Deployment, down to what it reads of it."""
    written = {key if "/" in key else f"{PREFIX}/{key}": value for key, value in (annotations or {}).items()}
    return {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"namespace": namespace, "name": name, "annotations": written},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}}},
    }


def apps(
    count: int,
    *,
    start: int = 0,
    address: str = "10.1.0.1",
    port: int = 5000,
    certificates: int = 0,
    rsa: bool = False,
    spread: bool = False,
) -> Iterable[Document]:
    """``count`` apps as Workflow has them: ``app-00000`` is Service, slice and namespace, and ``app-00000.example``.

    The first ``certificates`` of them have one each, for their name: Secret ``own-cert``, with a key of its own, or one
    of a few RSA keys. ``spread``: ``app-00001`` is at the address behind ``app-00000``'s, and so on, as Pods are.
    """
    authority = Authority() if certificates else None
    keys: list[SigningKey | None] = [None]
    if authority and rsa:
        keys = [generate_private_key(public_exponent=65537, key_size=2048) for _ in range(8)]
    for number in range(start, start + count):
        name = f"app-{number:05}"
        host = f"{name}.example"
        if authority and number < start + certificates:
            yield service(name, name, domains=host, annotations={"certificates": f"{host}:own"})
            pair = authority.issue(host, key=keys[number % len(keys)])
            yield secret(name, "own-cert", pair.secret_data(), "kubernetes.io/tls")
        else:
            yield service(name, name, domains=host)
        where = str(ip_address(address) + number) if spread else address
        yield endpoint_slice(name, name, [where], port=port)
