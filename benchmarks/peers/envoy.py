"""Envoy: ``--concurrency 1``, a static configuration with a virtual host and a cluster per app."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.peers.base import Peer, Ports, Site

__all__ = ["Envoy"]

_FIELDS = {
    "time": "%START_TIME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "host": "%REQ(:AUTHORITY)%",
    "method": "%REQ(:METHOD)%",
    "target": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "bytes_out": "%BYTES_SENT%",
    "bytes_in": "%BYTES_RECEIVED%",
    "duration": "%DURATION%",
    "upstream": "%UPSTREAM_HOST%",
    "upstream_duration": "%RESPONSE_DURATION%",
    "referer": "%REQ(REFERER)%",
    "user_agent": "%REQ(USER-AGENT)%",
}
_TYPE = "type.googleapis.com/envoy.extensions"


class Envoy(Peer):
    """Envoy."""

    def files(self, site: Site, ports: Ports, home: Path) -> dict[str, str]:
        """Return ``envoy.json``."""
        clusters = [_cluster(number, site) for number in range(len(site.hosts))]
        tls = {
            "name": "tls",
            "typed_config": {
                "@type": f"{_TYPE}.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "alpn_protocols": ["http/1.1"],
                    "tls_params": {
                        "tls_minimum_protocol_version": "TLSv1_2",
                        "tls_maximum_protocol_version": "TLSv1_3",
                    },
                    "tls_certificates": [
                        {
                            "certificate_chain": {"filename": str(site.pair.certificate)},
                            "private_key": {"filename": str(site.pair.key)},
                        }
                    ],
                },
            },
        }
        listeners = [
            {
                "name": name,
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                "filter_chains": [{"filters": [self._manager(name, site, port, home)], **extra}],
            }
            for name, port, extra in (("http", ports.http, {}), ("https", ports.https, {"transport_socket": tls}))
        ]
        return {"envoy.json": json.dumps({"static_resources": {"listeners": listeners, "clusters": clusters}})}

    def _manager(self, name: str, site: Site, port: int, home: Path) -> dict[str, Any]:
        return {
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": name,
                "codec_type": "HTTP1",
                "use_remote_address": True,
                "generate_request_id": True,
                "server_header_transformation": "PASS_THROUGH",
                "access_log": [
                    {
                        "name": "file",
                        "typed_config": {
                            "@type": f"{_TYPE}.access_loggers.file.v3.FileAccessLog",
                            "path": str(self.log(home)),
                            "log_format": {"json_format": _FIELDS},
                        },
                    }
                ],
                "http_filters": [
                    {"name": "router", "typed_config": {"@type": f"{_TYPE}.filters.http.router.v3.Router"}}
                ],
                "route_config": {
                    "name": name,
                    "request_headers_to_add": [
                        _set("X-Real-IP", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
                        _set("X-Forwarded-Host", "%REQ(:AUTHORITY)%"),
                        _set("X-Forwarded-Port", str(port)),
                    ],
                    "virtual_hosts": [
                        {
                            "name": host,
                            "domains": [host],
                            "routes": [
                                {"match": {"prefix": "/"}, "route": {"cluster": f"app_{number:04d}", "timeout": "0s"}}
                            ],
                        }
                        for number, host in enumerate(site.hosts)
                    ],
                },
            },
        }

    def command(self, ports: Ports, home: Path) -> list[str]:
        """Return the command, with its log quiet and flushed as often as the others' (every second)."""
        return [
            str(self.program),
            *("-c", f"{home}/envoy.json", "--concurrency", "1", "--log-level", "error"),
            *("--disable-hot-restart", "--file-flush-interval-msec", "1000"),
        ]

    def version_command(self) -> list[str]:
        """Return the command that names version and build."""
        return [str(self.program), "--version"]


def _set(name: str, value: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _cluster(number: int, site: Site) -> dict[str, Any]:
    name = f"app_{number:04d}"
    endpoints = [
        {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}}
        for address, port in site.endpoints
    ]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "30s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }
