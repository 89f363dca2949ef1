"""Caddy: ``GOMAXPROCS=1``, its JSON configuration with a route per app, as its Caddyfile adapter would write it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers.base import Peer, Ports, Site

__all__ = ["Caddy"]


class Caddy(Peer):
    """Caddy."""

    def files(self, site: Site, ports: Ports, home: Path) -> dict[str, str]:
        """Return ``caddy.json``."""
        routes = [_route(host, site) for host in site.hosts]
        common = {
            "routes": routes,
            "protocols": ["h1"],
            "idle_timeout": "300s",
            "automatic_https": {"disable": True},
            "logs": {},
        }
        servers = {
            "http": {**common, "listen": [f"127.0.0.1:{ports.http}"]},
            "https": {
                **common,
                "listen": [f"127.0.0.1:{ports.https}"],
                "tls_connection_policies": [{"protocol_min": "tls1.2", "alpn": ["http/1.1"]}],
            },
        }
        certificate = {"certificate": str(site.pair.certificate), "key": str(site.pair.key)}
        configuration = {
            "admin": {"disabled": True, "config": {"persist": False}},
            "logging": {
                "logs": {
                    "default": {
                        "level": "INFO",
                        "writer": {"output": "file", "filename": str(self.log(home)), "roll": False},
                        "encoder": {"format": "json"},
                    }
                }
            },
            "storage": {"module": "file_system", "root": str(home)},
            "apps": {"http": {"servers": servers}, "tls": {"certificates": {"load_files": [certificate]}}},
        }
        return {"caddy.json": json.dumps(configuration)}

    def command(self, ports: Ports, home: Path) -> list[str]:
        """Return the command."""
        return [str(self.program), "run", "--config", f"{home}/caddy.json"]

    def version_command(self) -> list[str]:
        """Return the command that names the version."""
        return [str(self.program), "version"]

    def environment(self) -> Mapping[str, str]:
        """Return the limit to one core."""
        return {"GOMAXPROCS": "1"}


def _route(host: str, site: Site) -> dict[str, Any]:
    set_headers = {
        "X-Real-IP": ["{http.request.remote.host}"],
        "X-Forwarded-Port": ["{http.request.local.port}"],
        "X-Request-Id": ["{http.request.uuid}"],
    }
    proxy = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"{address}:{port}"} for address, port in site.endpoints],
        "headers": {"request": {"set": set_headers}},
    }
    return {"match": [{"host": [host]}], "handle": [proxy], "terminal": True}
