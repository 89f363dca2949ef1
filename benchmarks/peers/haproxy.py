"""HAProxy: one thread, a map from host to backend, a log line per request to its standard output (it never batches)."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.base import Peer, Ports, Site

__all__ = ["HAProxy"]

_FIELDS = {
    "time": "%tr",
    "request_id": "%ID",
    "client": "%ci",
    "host": "%[capture.req.hdr(0),json(utf8s)]",
    "method": "%HM",
    "target": "%[capture.req.uri,json(utf8s)]",
    "protocol": "%HV",
    "status": "%ST",
    "bytes_out": "%B",
    "bytes_in": "%U",
    "duration": "%Ta",
    "upstream": "%si:%sp",
    "upstream_duration": "%Tr",
    "referer": "%[capture.req.hdr(1),json(utf8s)]",
    "user_agent": "%[capture.req.hdr(2),json(utf8s)]",
}


class HAProxy(Peer):
    """HAProxy."""

    def files(self, site: Site, ports: Ports, home: Path) -> dict[str, str]:
        """Return ``haproxy.cfg`` and the map of hosts."""
        log_format = "{" + ",".join(f'"{name}":"{value}"' for name, value in _FIELDS.items()) + "}"
        quoted = log_format.replace("\\", "\\\\").replace('"', '\\"')
        backends = "\n".join(_backend(number, site) for number in range(len(site.hosts)))
        text = f"""\
global
  nbthread 1
  no strict-limits
  maxconn 12000
  log stdout format raw local0
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  log global
  option http-keep-alive
  timeout connect 30s
  timeout client 300s
  timeout server 300s
  timeout http-keep-alive 300s
  timeout http-request 30s
frontend site
  bind 127.0.0.1:{ports.http}
  bind 127.0.0.1:{ports.https} ssl crt {site.pair.both} alpn http/1.1
  declare capture request len 128
  declare capture request len 256
  declare capture request len 256
  http-request capture req.hdr(host) id 0
  http-request capture req.hdr(referer) id 1
  http-request capture req.hdr(user-agent) id 2
  unique-id-format %[uuid()]
  unique-id-header X-Request-Id
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Real-IP %[src]
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
  http-request set-header X-Forwarded-Proto http unless {{ ssl_fc }}
  log-format "{quoted}"
  use_backend %[req.hdr(host),lower,map({home}/hosts.map)]
{backends}
"""
        hosts = "".join(f"{host} app_{number:04d}\n" for number, host in enumerate(site.hosts))
        return {"haproxy.cfg": text, "hosts.map": hosts}

    def command(self, ports: Ports, home: Path) -> list[str]:
        """Return the command, in the foreground."""
        return [str(self.program), "-db", "-f", f"{home}/haproxy.cfg"]

    def version_command(self) -> list[str]:
        """Return the command that names version and build."""
        return [str(self.program), "-vv"]

    def log(self, home: Path) -> Path:
        """Return where its standard output goes."""
        return home / "output"


def _backend(number: int, site: Site) -> str:
    servers = "\n".join(f"  server s{index} {host}:{port}" for index, (host, port) in enumerate(site.endpoints))
    return f"backend app_{number:04d}\n{servers}"
