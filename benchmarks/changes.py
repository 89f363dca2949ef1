"""Edits under load: manifests change while requests keep coming; no request may fail, every edit must be seen soon.

Five apps are edited in turn, each in its own way; every other edit replaces the file, the ones between write it in
place, as editors do. The constant load asks for three of the five (a domain added, an endpoint moved, a certificate
replaced must not be felt) and for a hundred bystanders, over HTTP and over TLS. The two whose edit makes the app refuse
(allow-list, maintenance) are asked by the probe alone, which knows what it expects.

An edit's time runs from just before its write until the first answer that shows it.
"""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import os
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.certificates import make_pair
from benchmarks.figures import percentile
from benchmarks.openloop import client_context, openloop_command
from benchmarks.origin import ADDRESSES
from benchmarks.peers import Drycc
from benchmarks.peers.drycc import manifest, secret
from benchmarks.processes import Child
from benchmarks.run import Bench
from benchmarks.scenarios import LOAD_CORE, Target
from benchmarks.tools import REPOSITORY
from benchmarks.workload import SITE_DOMAIN, SMALL_ANSWER, host_of

__all__ = ["EDITS", "RATE", "Edit", "edits", "measure_changes", "summary"]

EDITS: Final = 200
RATE: Final = 300.0
"""Requests per second, a third of them over TLS."""
_LIMIT: Final = 5.0
"""Seconds after which an edit counts as not seen."""
_PAUSE: Final = 0.05
"""Seconds between an edit's effect and the next edit."""
_PROBE_EVERY: Final = 0.001
_MOVED_ANSWER: Final = b"hello from the other application server\n"
_GROWING, _MOVING, _LISTED, _MAINTAINED, _RENEWED = range(1, 6)
_LOADED: Final = (_GROWING, _MOVING, _RENEWED, *range(100, 200))
"""Apps that the constant load asks for."""

Endpoints = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit: the file's new text, and how the app looks once it is live.

    ``expected`` is the beginning of ``"status body"``, or, of a certificate edit, the certificate's SHA-256.
    """

    kind: str
    file: str
    text: str
    host: str
    expected: str
    certificate: bool = False


def edits(here: Endpoints, there: Endpoints, home: Path) -> Iterator[Edit]:
    """Yield edits without end, the five kinds in turn; each undoes or outdoes the one before of its kind.

    ``here`` is where the apps live, ``there`` where the moving one goes and comes back from. Certificates are made in
    ``home``. The first of every kind finds the app as ``benchmarks.peers.drycc`` wrote it.
    """
    welcome = f"200 {SMALL_ANSWER.decode()}"
    moved = f"200 {_MOVED_ANSWER.decode()}"
    for count in itertools.count():
        back = count % 2 == 1
        added = f"new-{count}.{SITE_DOMAIN}"
        yield _edit("domain added", _GROWING, here, added, welcome, domains=(host_of(_GROWING), added))
        yield _edit("endpoint moved", _MOVING, here if back else there, host_of(_MOVING), welcome if back else moved)
        networks = "127.0.0.0/8" if back else "192.0.2.0/24"
        yield _edit("allow-list", _LISTED, here, host_of(_LISTED), welcome if back else "403", {"whitelist": networks})
        shut = "false" if back else "true"
        yield _edit(
            "maintenance", _MAINTAINED, here, host_of(_MAINTAINED), welcome if back else "503", {"maintenance": shut}
        )
        yield _renewal(here, home / f"renewal-{count}")


def _edit(
    kind: str,
    app: int,
    endpoints: Endpoints,
    host: str,
    expected: str,
    annotations: dict[str, str] | None = None,
    *,
    domains: tuple[str, ...] = (),
) -> Edit:
    name = f"app-{app:04d}"
    text = manifest(name, domains or (host_of(app),), endpoints, annotations)
    return Edit(kind, f"{name}.yaml", text, host, expected)


def _renewal(endpoints: Endpoints, home: Path) -> Edit:
    """Return the edit that gives the app a certificate it has not had before. App and Secret share a file."""
    host = host_of(_RENEWED)
    pair = make_pair(home, (host,))
    app = manifest(f"app-{_RENEWED:04d}", (host,), endpoints, {"certificates": f"{host}:renewed"})
    whole = app + "---\n" + secret("bench", "renewed-cert", pair.certificate.read_bytes(), pair.key.read_bytes())
    presented = ssl.PEM_cert_to_DER_cert(pair.certificate.read_text(encoding="ascii"))
    expected = hashlib.sha256(presented).hexdigest()
    return Edit("certificate replaced", f"app-{_RENEWED:04d}.yaml", whole, host, expected, certificate=True)


def measure_changes(bench: Bench, count: int, rate: float) -> dict[str, Any]:
    """Make ``count`` edits under ``rate`` requests per second; return counts, and how soon the edits were live."""
    there = ((ADDRESSES[0], bench.start_origin("moved", answer=_MOVED_ANSWER)),)
    target = bench.start(Drycc())
    manifests = target.home / "manifests"
    loads = [
        _start_load(bench, target, rate * 2 / 3, tls=False),
        _start_load(bench, target, rate / 3, tls=True),
    ]
    seen: list[tuple[str, float]] = []
    unseen: list[str] = []
    for number, edit in enumerate(itertools.islice(edits(bench.site.endpoints, there, target.home), count)):
        started = time.perf_counter()
        _write(manifests / edit.file, edit.text, in_place=number % 2 == 1)
        if _wait_for(edit, target, started + _LIMIT):
            seen.append((edit.kind, (time.perf_counter() - started) * 1e3))
        else:
            unseen.append(f"edit {number}: {edit.kind}")
        time.sleep(_PAUSE)
    reports = []
    for load, report in loads:
        load.require_running()
        bench.children.end(load)
        reports.append(json.loads(report.read_text(encoding="utf-8")))
    bench.end(target)
    result = summary(rate, seen, unseen, reports)
    bench.tell(f"changes: {json.dumps(result)}")
    return result


def summary(
    rate: float, seen: list[tuple[str, float]], unseen: list[str], reports: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return what the result file holds under ``changes``. ``seen`` has kind and milliseconds of every edit."""
    times = sorted(milliseconds for _, milliseconds in seen)
    kinds: dict[str, list[float]] = {}
    for kind, milliseconds in seen:
        kinds.setdefault(kind, []).append(milliseconds)
    latencies = sorted(value for report in reports for value in report["latencies_us"])
    return {
        "edits": len(seen) + len(unseen),
        "unseen": unseen,
        "rate": rate,
        "sent": sum(report["sent"] for report in reports),
        "failed": sum(report["failed"] for report in reports),
        "failures": [failure for report in reports for failure in report["failures"]],
        "reopened": sum(report["reopened"] for report in reports),
        "p50_ms": percentile(times, 0.5),
        "p99_ms": percentile(times, 0.99),
        "max_ms": times[-1],
        "kinds": {
            kind: {"p50_ms": percentile(sorted(values), 0.5), "max_ms": max(values)} for kind, values in kinds.items()
        },
        "request_p50_us": percentile(latencies, 0.5),
        "request_p99_us": percentile(latencies, 0.99),
        "request_p999_us": percentile(latencies, 0.999),
    }


def _start_load(bench: Bench, target: Target, rate: float, *, tls: bool) -> tuple[Child, Path]:
    scheme = "https" if tls else "http"
    report = target.home / f"load-{scheme}.json"
    hosts = [host_of(app) for app in _LOADED]
    command = openloop_command(
        target.port(scheme), report, tls=tls, rate=rate, seconds=3600, connections=16, hosts=hosts
    )
    child = bench.children.start(
        f"load {scheme}",
        command,
        core=LOAD_CORE,
        output=target.home / f"load-{scheme}.output",
        directory=REPOSITORY,
    )
    return child, report


def _write(path: Path, text: str, *, in_place: bool) -> None:
    if in_place:
        path.write_text(text, encoding="utf-8")
        return
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


def _wait_for(edit: Edit, target: Target, deadline: float) -> bool:
    """Ask until the edit shows or ``deadline`` (of ``perf_counter``) has passed; return whether it showed."""
    connection = http.client.HTTPConnection("127.0.0.1", target.ports.http, timeout=_LIMIT)
    try:
        while time.perf_counter() < deadline:
            if edit.certificate:
                found = _presented(target.ports.https, edit.host)
            else:
                connection.request("GET", "/", headers={"Host": edit.host})
                answer = connection.getresponse()
                found = f"{answer.status} {answer.read().decode('latin-1')}"
            if found.startswith(edit.expected):
                return True
            time.sleep(_PROBE_EVERY)
    finally:
        connection.close()
    return False


def _presented(port: int, host: str) -> str:
    """Return the SHA-256 of the certificate that a new handshake for ``host`` gets."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=_LIMIT) as raw,
        client_context().wrap_socket(raw, server_hostname=host) as connection,
    ):
        return hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()
