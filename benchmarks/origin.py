"""The app behind every proxy: one nginx worker on the load's core, listening on two loopback addresses.

It answers small bodies from memory, 1 MiB from a file in memory, an endless one from a file full of holes, reads
uploads to their end before it answers, and shows the forwarded headers it was given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.workload import MIB, SMALL_ANSWER

__all__ = ["ADDRESSES", "INSPECTED", "origin_command", "origin_configuration", "write_bodies"]

ADDRESSES: Final = ("127.0.0.1", "127.0.0.2")
_ENDLESS: Final = 1 << 40

INSPECTED: Final = (
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Real-IP",
    "X-Request-Id",
)
"""What ``/inspect`` tells, one ``name=value`` per line: proof that all proxies do the same work."""


def origin_configuration(port: int, home: Path, answer: bytes = SMALL_ANSWER) -> str:
    """Return the nginx configuration of the origin; ``answer`` is one line of printable ASCII."""
    listen = "\n".join(f"    listen {address}:{port} backlog=4096;" for address in ADDRESSES)
    shown = "".join(f"{name}=$http_{name.lower().replace('-', '_')}\\n" for name in INSPECTED)
    small = answer.decode("ascii").replace("\n", "\\n")
    return f"""\
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {home}/origin.pid;
error_log {home}/error.log crit;
events {{ worker_connections 19000; }}
http {{
  access_log off;
  sendfile on;
  default_type text/plain;
  client_body_temp_path {home}/client_body;
  proxy_temp_path {home}/proxy;
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  server {{
{listen}
    location / {{ return 200 "{small}"; }}
    location = /inspect {{ return 200 "{shown}"; }}
    location = /one-mib {{ root {home}/bodies; }}
    location = /endless {{ root {home}/bodies; send_timeout 1h; }}
    location = /upload {{
      client_max_body_size 0;
      client_body_buffer_size 2m;
      echo_read_request_body;
      echo -n "received";
    }}
  }}
}}
"""


def write_bodies(home: Path) -> None:
    """Make the files that are served: 1 MiB of text, and one that has no end worth waiting for."""
    bodies = home / "bodies"
    bodies.mkdir(parents=True, exist_ok=True)
    (bodies / "one-mib").write_bytes(b"0123456789abcde\n" * (MIB // 16))
    with (bodies / "endless").open("wb") as endless:
        endless.truncate(_ENDLESS)


def origin_command(program: Path, home: Path) -> list[str]:
    """Return the command that serves in the foreground."""
    return [str(program), "-p", str(home), "-e", f"{home}/error.log", "-c", f"{home}/origin.conf"]
