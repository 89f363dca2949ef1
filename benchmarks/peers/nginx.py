"""nginx: a ``server`` and an ``upstream`` block per app, the access log buffered as its manual advises."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.base import Peer, Ports, Site

__all__ = ["Nginx"]

_FIELDS = {
    "time": "$time_iso8601",
    "request_id": "$request_id",
    "client": "$remote_addr",
    "host": "$host",
    "method": "$request_method",
    "target": "$request_uri",
    "protocol": "$server_protocol",
    "status": "$status",
    "bytes_out": "$body_bytes_sent",
    "bytes_in": "$request_length",
    "duration": "$request_time",
    "upstream": "$upstream_addr",
    "upstream_duration": "$upstream_response_time",
    "referer": "$http_referer",
    "user_agent": "$http_user_agent",
}


class Nginx(Peer):
    """nginx, from PyPI or from the distribution: the same configuration fits both."""

    def __init__(self, name: str, program: Path, workers: int = 1) -> None:
        """As many workers as cores, as its manual advises too."""
        super().__init__(name, program)
        self.workers = workers

    def files(self, site: Site, ports: Ports, home: Path) -> dict[str, str]:
        """Return ``nginx.conf``."""
        log_format = "{" + ",".join(f'"{name}":"{variable}"' for name, variable in _FIELDS.items()) + "}"
        apps = "\n".join(_app(number, host, site, ports) for number, host in enumerate(site.hosts))
        text = f"""\
daemon off;
worker_processes {self.workers};
worker_rlimit_nofile 20000;
pid {home}/nginx.pid;
error_log {home}/error.log crit;
events {{ worker_connections 19000; }}
http {{
  log_format bench escape=json '{log_format}';
  access_log {self.log(home)} bench buffer=64k flush=1s;
  default_type application/octet-stream;
  client_body_temp_path {home}/client_body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  client_max_body_size 0;
  keepalive_timeout 300s;
  keepalive_requests 1000000000;
  server_tokens off;
  server_names_hash_max_size 8192;
  server_names_hash_bucket_size 128;
  ssl_certificate {site.pair.certificate};
  ssl_certificate_key {site.pair.key};
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_session_cache shared:tls:10m;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $remote_addr;
  proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Forwarded-Host $http_host;
  proxy_set_header X-Forwarded-Port $server_port;
  proxy_set_header X-Real-IP $remote_addr;
  proxy_set_header X-Request-Id $request_id;
{apps}
}}
"""
        return {"nginx.conf": text}

    def command(self, ports: Ports, home: Path) -> list[str]:
        """Return the command of the master, in the foreground."""
        return [str(self.program), "-p", str(home), "-e", f"{home}/error.log", "-c", f"{home}/nginx.conf"]

    def version_command(self) -> list[str]:
        """Return the command that names version and build."""
        return [str(self.program), "-V"]


def _app(number: int, host: str, site: Site, ports: Ports) -> str:
    endpoints = " ".join(f"server {address}:{port};" for address, port in site.endpoints)
    return f"""\
  upstream app_{number:04d} {{ {endpoints} keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{ports.http};
    listen 127.0.0.1:{ports.https} ssl;
    server_name {host};
    location / {{ proxy_pass http://app_{number:04d}; }}
  }}"""
