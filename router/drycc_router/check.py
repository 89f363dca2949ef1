"""``drycc-router check``: what manifests would come to, without serving anything.

The same code from the first Change on as in ``run``, with the same settings; only the source looks once, and nobody is
published to. Beside what a router would say it tells where in the files that is, and what is odd though nothing is
wrong. What must not enter: printing and exit statuses (``cli``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from drycc_router.compile.compiler import Compiler, OwnNames
from drycc_router.compile.oddities import Oddity, of_objects, of_other_kinds
from drycc_router.compile.revision import AppReport, RouteState, Snapshot
from drycc_router.model.objects import ObjectKey
from drycc_router.model.problems import Problem, Reason, shorten
from drycc_router.settings import Settings
from drycc_router.sources.manifest_index import Shelf
from drycc_router.sources.manifest_objects import RawObject, file_key, line_of, unreadable
from drycc_router.sources.manifests import names_below, parse, read_once
from drycc_router.sources.places import Object, objects_in
from drycc_router.translate.platform import OwnPorts
from drycc_router.translate.references import wishes

__all__ = ["STDIN", "Checked", "Location", "as_json", "as_lines", "as_text", "checked", "compiled"]

STDIN = "<stdin>"
"""What the standard input is called, which is written ``-``."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where something stands."""

    file: str
    """As whoever asks can open it."""
    line: int


@dataclass(frozen=True, slots=True)
class Checked:
    """What manifests come to, and where everything that is said about them stands."""

    snapshot: Snapshot
    oddities: tuple[tuple[Oddity, Location | None], ...]
    places: Mapping[Problem, Location]
    apps: Mapping[ObjectKey, str]
    """Object → the app it belongs to."""

    def app(self, about: ObjectKey | None) -> str:
        """The group in which something about an object is told; "" for the router and files."""
        return self.apps.get(about, "") if about else ""


@dataclass(slots=True)
class _Files:
    """What was looked at: files by the name under which they are told."""

    texts: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    """Name → as whoever asks can open it."""
    shelf: Shelf = field(default_factory=Shelf)
    problems: list[Problem] = field(default_factory=list)

    def take(self, name: str, path: str, data: bytes) -> None:
        self.paths[name] = path
        self.texts[name] = data.decode("utf-8-sig", "replace")
        self.shelf.put(name, parse(name, data))

    def read(self, name: str, path: Path) -> None:
        try:
            data = read_once(path)
        except ValueError as error:
            self.paths[name] = str(path)
            self.shelf.put(name, unreadable(name, str(error)))
        else:
            self.take(name, str(path), data)

    def look(self, path: Path, *, alone: bool) -> None:
        """Take a file, or what is below a directory: as ``run`` names it, where it is ``alone``."""
        if not path.is_dir():
            self.read(str(path), path)
            return
        names, problems = names_below(path)
        self.problems += problems
        for name in names:
            self.read(name if alone else str(path / name), path / name)


def compiled(directory: Path, namespace: str) -> Snapshot:
    """The snapshot that the manifests in ``directory`` come to now. ``namespace``: the router's own."""
    return checked([directory], Settings(namespace=namespace)).snapshot


def checked(sources: Sequence[Path], settings: Settings, stdin: bytes = b"") -> Checked:
    """What the manifests come to now. ``sources``: directories and files; ``-`` is ``stdin``, in YAML or JSON."""
    files = _Files()
    for source in sources:
        if str(source) == "-":
            files.take(STDIN, STDIN, stdin)
        else:
            files.look(source, alone=len(sources) == 1)
    own = OwnNames.of(settings.name, settings.namespace)
    taken = frozenset({settings.http_port, settings.https_port, settings.admin_port})
    compiler = Compiler(own, trusted_endpoints=True, ports=OwnPorts(settings.git_port, taken))
    batch = files.shelf.settle()
    for change in batch.changes:
        compiler.apply(change)
    for source_id, problems in batch.problems.items():
        compiler.source_problems(source_id, problems)
    compiler.source_problems("directories", tuple(files.problems))
    snapshot = compiler.compile(datetime.now(UTC))
    objects = {change.key: change.object for change in batch.changes if change.object is not None}
    found = _Findings(files)
    odd = [(oddity, found.place(oddity.object, oddity.key)) for oddity in of_objects(objects, own)]
    for name, there in found.objects.items():
        for number, oddity in of_other_kinds([each.value for each in there]):
            odd.append((oddity, Location(files.paths[name], there[number].line_of(oddity.key))))
    places = {problem: place for problem in snapshot.problems if (place := found.of(problem)) is not None}
    return Checked(snapshot, tuple(odd), places, _apps(objects))


class _Findings:
    """The lines of everything that was looked at."""

    def __init__(self, files: _Files) -> None:
        self._files = files
        self.objects = {
            name: objects_in(text, is_json=name.endswith(".json")) for name, text in sorted(files.texts.items())
        }
        self._by_key: dict[ObjectKey, list[tuple[str, Object]]] = {}
        for name, objects in self.objects.items():
            for each in objects:
                if each.key is not None:
                    self._by_key.setdefault(each.key, []).append((name, each))
        self._names = {file_key(name).name: name for name in files.paths}

    def of(self, problem: Problem) -> Location | None:
        """Where a Problem stands."""
        if problem.object.kind == "File":
            name = self._names.get(problem.object.name)
            if name is None:
                return None
            line = line_of(problem) or 1
            there = next((each for each in self.objects.get(name, ()) if each.document == line), None)
            return Location(self._files.paths[name], there.line_in_document(problem.key) if there else line)
        known = self._by_key.get(problem.object, [])
        if problem.reason is Reason.DUPLICATE_OBJECT and len(known) > 1:
            others = [(name, each) for name, each in known[1:] if problem.value in ("", shorten(name))] or known[1:]
            return Location(self._files.paths[others[0][0]], others[0][1].line)
        return self.place(problem.object, problem.key, problem.value)

    def place(self, about: ObjectKey | None, key: str, value: str = "") -> Location | None:
        """Where a part of an object stands; within a text of several lines, where its element does."""
        if about is None or about not in self._by_key:
            return None
        name, there = self._by_key[about][0]
        line = there.line_of(key) if key else there.line
        if value:
            rows = self._files.texts[name].split("\n")[line - 1 : there.end_of(line) - 1]
            line += next((number for number, row in enumerate(rows) if value in row), 0)
        return Location(self._files.paths[name], line)


def _apps(objects: Mapping[ObjectKey, RawObject]) -> dict[ObjectKey, str]:
    """Which app an object belongs to: a Service's slices, and the Secrets and pages that the first Service names."""
    apps: dict[ObjectKey, str] = {}
    for key in sorted(objects):
        if key.kind == "Service":
            app = f"{key.namespace}/{key.name}"
            apps[key] = app
            for wish in wishes(key, objects[key]):
                for each in wish:
                    apps.setdefault(each, app)
    for key in objects:
        if key.kind == "EndpointSlice":
            metadata = objects[key].get("metadata")
            labels = metadata.get("labels") if isinstance(metadata, dict) else None
            service = labels.get("kubernetes.io/service-name") if isinstance(labels, dict) else None
            apps[key] = apps.get(ObjectKey("Service", key.namespace, str(service)), "")
    return apps


# ── how it is told ────────────────────────────────────────────────────────────────────────────────────────────────────


def as_json(outcome: Checked) -> str:
    """The reports of the operator's port, in one object, with file and line of each Problem; and what is odd."""
    snapshot = outcome.snapshot
    report = {
        "routes": snapshot.report_routes(),
        "streams": snapshot.report_streams(),
        "certificates": snapshot.report_certificates(),
        "problems": [
            {**problem.as_json(), "app": outcome.app(problem.object), **_place(outcome.places.get(problem))}
            for problem in snapshot.problems
        ],
        "odd": [
            {
                "kind": oddity.object.kind if oddity.object else "",
                "namespace": oddity.object.namespace if oddity.object else "",
                "name": oddity.object.name if oddity.object else "",
                "key": oddity.key,
                "message": oddity.message,
                "app": outcome.app(oddity.object),
                **_place(place),
            }
            for oddity, place in outcome.oddities
        ],
    }
    return json.dumps(report, indent=2)


def _place(place: Location | None) -> dict[str, object]:
    return {"file": place.file if place else "", "line": place.line if place else 0}


def as_lines(outcome: Checked) -> str:
    """One line each, as editors and compilers have it: ``file:line: error: …``; sorted by file and line.

    What stands in no file comes first, without one: ``drycc-router: error: …``.
    """
    lines = []
    for problem in outcome.snapshot.problems:
        kind = "note" if problem.is_note else "error"
        lines.append((outcome.places.get(problem), kind, str(problem)))
    lines += [(place, "warning", _odd(oddity)) for oddity, place in outcome.oddities]
    lines.sort(key=lambda each: (each[0].file, each[0].line) if each[0] else ("", 0))
    return "\n".join(f"{_where(place) or 'drycc-router'}: {kind}: {text}" for place, kind, text in lines)


def _where(place: Location | None) -> str:
    return f"{place.file}:{place.line}" if place else ""


def _odd(oddity: Oddity) -> str:
    about = f"{oddity.object}" if oddity.object else ""
    return ": ".join(part for part in (about, oddity.key, oddity.message) if part)


def as_text(outcome: Checked) -> str:
    """The routing table, one line per name; then, app by app, every Problem, every note and what is odd."""
    snapshot = outcome.snapshot
    rows = [("STATE", "ROUTE", "HOST", "GOES TO")]
    for name in sorted(snapshot.apps):
        rows.extend(_rows(snapshot.apps[name]))
    for stream in snapshot.streams.values():
        endpoints = ", ".join(f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip, port in stream.endpoints)
        where = f"{stream.namespace}/{stream.service}"
        rows.append(("live", where, f"port {stream.port}", endpoints or "nothing ready (closed at once)"))
    problems = [problem for problem in snapshot.problems if not problem.is_note]
    notes = [problem for problem in snapshot.problems if problem.is_note]
    said: list[tuple[str, list[tuple[str, Location | None, str]]]] = [
        (title, [(outcome.app(each.object), outcome.places.get(each), str(each)) for each in found])
        for title, found in (("Problems", problems), ("Notes", notes))
    ]
    odd = [(outcome.app(oddity.object), place, _odd(oddity)) for oddity, place in outcome.oddities]
    said.append(("Odd, though nothing is wrong", odd))
    parts = [_table(rows), *(_section(title, lines) for title, lines in said if lines)]
    counts = ((len(snapshot.apps), "route"), (len(problems), "problem"), (len(notes), "note"))
    parts.append(", ".join(_count(number, thing) for number, thing in counts))
    return "\n\n".join(parts)


def _rows(app: AppReport) -> Iterable[tuple[str, str, str, str]]:
    endpoints = ", ".join(f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip, port in app.endpoints)
    state, name = app.state.value, app.name
    if not app.hosts:
        yield state, name, "-", "names nothing" if app.state is RouteState.IDLE else endpoints or "nothing ready (503)"
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


def _section(title: str, said: list[tuple[str, Location | None, str]]) -> str:
    """What is said, app by app: what belongs to none comes first."""
    lines = [f"{title}:"]
    for app in sorted({app for app, _, _ in said}):
        mine = [(place, text) for group, place, text in said if group == app]
        mine.sort(key=lambda each: (each[0].file, each[0].line) if each[0] else ("", 0))
        lines.append(f"  {app or 'the router and its files'}")
        lines += [f"    {_where(place)}: {text}" if place else f"    {text}" for place, text in mine]
    return "\n".join(lines)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
