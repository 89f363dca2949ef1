"""``drycc-router check``: what a directory of manifests would come to, without serving anything.

The same code from the first Change on as in ``run``; only the source looks once, and nobody is published to. What must
not enter: printing and exit statuses (``router.cli``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from router.compile import Compiler, OwnNames
from router.snapshot import AppReport, Snapshot
from router.sources.manifests import ManifestTree

__all__ = ["as_json", "as_text", "compiled"]


def compiled(directory: Path, namespace: str) -> Snapshot:
    """The snapshot that the manifests in ``directory`` come to now. ``namespace``: the router's own."""
    tree = ManifestTree(directory, still=0, settle=0)
    tree.sweep()
    batch = tree.settle()
    compiler = Compiler(OwnNames(namespace=namespace), trusted_endpoints=True)
    for change in batch.changes:
        compiler.apply(change)
    for source, problems in batch.problems.items():
        compiler.source_problems(source, problems)
    return compiler.compile(datetime.now(UTC))


def as_json(snapshot: Snapshot) -> str:
    """The reports of the operator's port, in one object."""
    report = {
        "routes": snapshot.report_routes(),
        "streams": snapshot.report_streams(),
        "certificates": snapshot.report_certificates(),
        "problems": [problem.as_json() for problem in snapshot.problems],
    }
    return json.dumps(report, indent=2)


def as_text(snapshot: Snapshot) -> str:
    """The routing table, one line per name, then every Problem, then every note."""
    problems = [str(problem) for problem in snapshot.problems if not problem.is_note]
    notes = [str(problem) for problem in snapshot.problems if problem.is_note]
    rows = [("STATE", "ROUTE", "HOST", "GOES TO")]
    for name in sorted(snapshot.apps):
        rows.extend(_rows(snapshot.apps[name]))
    for stream in snapshot.streams.values():
        endpoints = ", ".join(f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip, port in stream.endpoints)
        where = f"{stream.namespace}/{stream.service}"
        rows.append(("live", where, f"port {stream.port}", endpoints or "nothing ready (closed at once)"))
    summary = f"{_count(len(snapshot.apps), 'route')}, {_count(len(problems), 'problem')}, {_count(len(notes), 'note')}"
    parts = [_table(rows), *_section("Problems", problems), *_section("Notes", notes), summary]
    return "\n\n".join(parts)


def _rows(app: AppReport) -> Iterable[tuple[str, str, str, str]]:
    endpoints = ", ".join(f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip, port in app.endpoints)
    state, name = app.state.value, app.name
    if not app.hosts:
        yield state, name, "-", endpoints or "nothing ready (503)"
    for host in app.hosts:
        mine = host.owner == app.name
        goes_to = (endpoints or "nothing ready (503)") if mine else f"{host.owner or 'nobody'} (not this route)"
        yield state, name, host.host, goes_to
        for prefix, route in host.paths if mine else ():
            yield "", "", f"  {host.host}{prefix}", route
        state = name = ""


def _table(rows: list[tuple[str, str, str, str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = (
        "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3])) for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _section(title: str, lines: list[str]) -> list[str]:
    return ["\n".join([f"{title}:", *(f"  {line}" for line in lines)])] if lines else []


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
