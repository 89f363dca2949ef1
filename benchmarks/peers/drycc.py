"""Drycc Router: a directory of manifests, one file per app, as an operator would keep it."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

from benchmarks.peers.base import Peer, Ports, Site

__all__ = ["PLATFORM_SECRET", "Drycc", "manifest", "secret"]

PLATFORM_SECRET = "drycc-router-platform-cert"  # noqa: S105 -- the name of an object, not a secret
_NAMESPACE = "bench"
_CREATED = "2026-01-01T00:00:00Z"


class Drycc(Peer):
    """This repository's router, run by the Python that runs the benchmarks."""

    def __init__(self, name: str = "drycc", workers: int = 0) -> None:
        """Without ``workers`` all of it is one process."""
        super().__init__(name, Path(sys.executable))
        self.workers = workers

    def files(self, site: Site, ports: Ports, home: Path) -> dict[str, str]:
        """Return one manifest per app, and the platform certificate."""
        files = {
            f"manifests/app-{number:04d}.yaml": manifest(f"app-{number:04d}", (host,), site.endpoints)
            for number, host in enumerate(site.hosts)
        }
        certificate, key = site.pair.certificate.read_bytes(), site.pair.key.read_bytes()
        return {**files, "manifests/platform-certificate.yaml": secret("drycc", PLATFORM_SECRET, certificate, key)}

    def command(self, ports: Ports, home: Path) -> list[str]:
        """Return the command line of the router."""
        return [
            *(str(self.program), "-m", "drycc_router", "run"),
            *("--manifests", f"{home}/manifests", "--bind", "127.0.0.1"),
            *("--http-port", str(ports.http), "--https-port", str(ports.https), "--admin-port", str(ports.admin)),
            *("--access-log", str(self.log(home)), "--workers", str(self.workers), "--drain-delay", "0"),
        ]

    def version_command(self) -> list[str]:
        """Return the command that names the version."""
        return [str(self.program), "-m", "drycc_router", "version"]


def manifest(
    name: str,
    domains: tuple[str, ...],
    endpoints: tuple[tuple[str, int], ...],
    annotations: dict[str, str] | None = None,
    *,
    namespace: str = _NAMESPACE,
) -> str:
    """Return the YAML of one app: a Service, and an EndpointSlice per port in use."""
    lines = "".join(f"    router.drycc.cc/{key}: '{value}'\n" for key, value in (annotations or {}).items())
    service = f"""\
apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: {namespace}
  creationTimestamp: '{_CREATED}'
  labels:
    app: {name}
    router.drycc.cc/routable: 'true'
  annotations:
    router.drycc.cc/domains: '{",".join(domains)}'
{lines}spec:
  type: ClusterIP
  clusterIP: 10.0.0.1
  ports:
  - {{name: http, port: 80, protocol: TCP, targetPort: 8000}}
"""
    slices = [
        _slice(name, namespace, port, [address for address, its_port in endpoints if its_port == port])
        for port in sorted({port for _, port in endpoints})
    ]
    return "---\n".join([service, *slices])


def _slice(name: str, namespace: str, port: int, addresses: list[str]) -> str:
    endpoints = "".join(f"- {{addresses: ['{address}'], conditions: {{ready: true}}}}\n" for address in addresses)
    return f"""\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-{port}
  namespace: {namespace}
  labels:
    kubernetes.io/service-name: {name}
addressType: IPv4
ports:
- {{name: http, port: {port}, protocol: TCP}}
endpoints:
{endpoints}"""


def secret(namespace: str, name: str, certificate: bytes, key: bytes) -> str:
    """Return the YAML of a TLS Secret."""
    encoded = base64.b64encode
    return f"""\
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata:
  name: {name}
  namespace: {namespace}
data:
  tls.crt: {encoded(certificate).decode()}
  tls.key: {encoded(key).decode()}
"""
