"""Traefik: ``GOMAXPROCS=1``, the file provider with a router and a service per app. It makes no request ids."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers.base import Peer, Ports, Site

__all__ = ["Traefik"]


class Traefik(Peer):
    """Traefik."""

    def files(self, site: Site, ports: Ports, home: Path) -> dict[str, str]:
        """Return ``site.yml`` (JSON is YAML)."""
        routers: dict[str, Any] = {}
        services: dict[str, Any] = {}
        for number, host in enumerate(site.hosts):
            name = f"app_{number:04d}"
            servers = [{"url": f"http://{address}:{port}"} for address, port in site.endpoints]
            services[name] = {"loadBalancer": {"servers": servers}}
            rule = {"rule": f"Host(`{host}`)", "service": name}
            routers[name] = {**rule, "entryPoints": ["http"]}
            routers[f"{name}_tls"] = {**rule, "entryPoints": ["https"], "tls": {}}
        certificate = {"certFile": str(site.pair.certificate), "keyFile": str(site.pair.key)}
        tls = {
            "certificates": [certificate],
            "options": {"default": {"minVersion": "VersionTLS12", "alpnProtocols": ["http/1.1"]}},
            "stores": {"default": {"defaultCertificate": certificate}},
        }
        return {"site.yml": json.dumps({"http": {"routers": routers, "services": services}, "tls": tls})}

    def command(self, ports: Ports, home: Path) -> list[str]:
        """Return the command, everything static being a flag. It must not ask the network whether it is up to date."""
        return [
            str(self.program),
            "--global.checknewversion=false",
            "--global.sendanonymoususage=false",
            "--log.level=ERROR",
            f"--accesslog.filepath={self.log(home)}",
            "--accesslog.format=json",
            "--accesslog.bufferingsize=100",
            "--accesslog.fields.headers.names.User-Agent=keep",
            "--accesslog.fields.headers.names.Referer=keep",
            f"--entrypoints.http.address=127.0.0.1:{ports.http}",
            f"--entrypoints.https.address=127.0.0.1:{ports.https}",
            "--entrypoints.http.transport.respondingtimeouts.idletimeout=300s",
            "--entrypoints.https.transport.respondingtimeouts.idletimeout=300s",
            f"--providers.file.filename={home}/site.yml",
            "--providers.file.watch=false",
        ]

    def version_command(self) -> list[str]:
        """Return the command that names version and build."""
        return [str(self.program), "version"]

    def environment(self) -> Mapping[str, str]:
        """Return the limit to one core."""
        return {"GOMAXPROCS": "1"}
