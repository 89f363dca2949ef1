"""One module per proxy: how it is told to serve the same site with the same duties.

Every one of them: one worker on one thread; keep-alive on both sides; an access-log line per request in JSON, batched
where the proxy can batch; ``X-Forwarded-For`` (the client's address only), ``-Proto``, ``-Host``, ``X-Real-IP``; a
request id where the proxy can make one; TLS 1.2 and 1.3 with the same certificate, HTTP/1.1 only; a thousand apps, each
with two endpoints of its own. Beyond that, every proxy keeps its defaults: they are what people run.
"""

from __future__ import annotations

from benchmarks.peers.base import Peer, Ports, Site
from benchmarks.peers.caddy import Caddy
from benchmarks.peers.drycc import Drycc
from benchmarks.peers.envoy import Envoy
from benchmarks.peers.haproxy import HAProxy
from benchmarks.peers.nginx import Nginx
from benchmarks.peers.traefik import Traefik

__all__ = ["Caddy", "Drycc", "Envoy", "HAProxy", "Nginx", "Peer", "Ports", "Site", "Traefik"]
