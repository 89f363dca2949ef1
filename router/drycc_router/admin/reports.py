"""What is in force right now, as JSON: the bodies of ``/routes``, ``/problems`` and ``/certificates``.

A snapshot is frozen, so its reports may be made in a thread; what the data plane says about itself must be asked on the
loop and is handed in. What must not enter: key material (a snapshot's reports have none), and HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from drycc_router.compile.revision import Snapshot

__all__ = ["certificates", "problems", "routes"]


def routes(
    snapshot: Snapshot | None,
    ports: Mapping[str, int | None],
    upstreams: Sequence[object],
    streams: Sequence[object] = (),
) -> bytes:
    """Every app with its state, names, endpoints and rules; the ports, and the addresses of the load balancer before
    them; every upstream and every stream route with its load."""
    return _json(
        snapshot,
        ports=ports,
        load_balancer=snapshot.balancers if snapshot else (),
        routes=snapshot.report_routes() if snapshot else [],
        upstreams=upstreams,
        streams=streams,
    )


def problems(snapshot: Snapshot | None) -> bytes:
    """Every Problem and note."""
    return _json(snapshot, problems=[problem.as_json() for problem in snapshot.problems] if snapshot else [])


def certificates(snapshot: Snapshot | None, now: datetime) -> bytes:
    """Every certificate in use, and when it expires; days are counted from ``now`` (aware)."""
    return _json(snapshot, certificates=snapshot.report_certificates(now) if snapshot else [])


def _json(snapshot: Snapshot | None, **parts: object) -> bytes:
    generation = snapshot.generation if snapshot else 0
    return json.dumps({"generation": generation, **parts}, indent=1).encode("ascii") + b"\n"
