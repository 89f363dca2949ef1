"""What the real server would refuse to store, for the kinds that the router writes: Events, Leases, ConfigMaps.

A fake that stores anything would hide the mistakes that matter most. Kinds the router only reads are checked no
further than their names: tests have to be able to store strange ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.fakes.apiserver.kinds import Kind, text_at
from tests.fakes.apiserver.refusals import Refused, bad_request, invalid

__all__ = ["check", "check_change"]

Document = Mapping[str, Any]
Faults = list[tuple[str, str]]

NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
"""A DNS subdomain ("Object Names and IDs"); at most 253 characters."""
MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)")
"""The server decodes a MicroTime only with exactly six digits of fraction; a whole second is a decoding error."""
CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
CONFIG_LIMIT = 1024 * 1024
"""Bytes of all values of a ConfigMap together."""
EVENT_LIMITS = {"action": 128, "reason": 128, "reportingInstance": 128}
NOTE_LIMIT = 1024

MICRO_TIMES = {
    "Lease": (("spec", "acquireTime"), ("spec", "renewTime")),
    "Event": (("eventTime",), ("series", "lastObservedTime")),
}


def check(kind: Kind, document: Document) -> None:
    """Judge a document that is about to be stored.

    Raises:
        Refused: 400 if the real server could not decode it, 422 if it would not accept it.
    """
    name = text_at(document, ("metadata", "name"))
    for path in MICRO_TIMES.get(kind.name, ()):
        text = text_at(document, path)
        if text and not MICRO_TIME.fullmatch(text):
            form = "2006-01-02T15:04:05.000000Z07:00"
            raise _not_decoded(kind, f'parsing time "{text}" as "{form}": cannot parse "Z" as ".000000"')
    faults: Faults = []
    if not NAME.fullmatch(name) or len(name) > 253:
        faults.append(("metadata.name", f'Invalid value: "{name}": a lowercase RFC 1123 subdomain is expected'))
    faults += _RULES.get(kind.name, _no_rules)(kind, document)
    if faults:
        raise invalid(kind, name, faults)


def check_change(kind: Kind, old: Document, new: Document) -> None:
    """Judge a document that is about to replace another one.

    An Event of ``events.k8s.io`` only ever changes its series: everything it says is immutable.

    Raises:
        Refused: as ``check``.
    """
    check(kind, new)
    if kind.group == "events.k8s.io":
        said = (
            "regarding",
            "reason",
            "note",
            "type",
            "eventTime",
            "action",
            "reportingController",
            "reportingInstance",
        )
        changed = [field for field in said if old.get(field) != new.get(field)]
        if changed:
            complaints = [(field, "Invalid value: field is immutable") for field in changed]
            raise invalid(kind, text_at(new, ("metadata", "name")), complaints)


def _no_rules(_kind: Kind, _document: Document) -> Faults:
    return []


def _lease(_kind: Kind, document: Document) -> Faults:
    spec = document.get("spec") or {}
    faults: Faults = []
    if (seconds := spec.get("leaseDurationSeconds")) is not None and seconds <= 0:
        faults.append(("spec.leaseDurationSeconds", f"Invalid value: {seconds}: must be greater than 0"))
    if (transitions := spec.get("leaseTransitions")) is not None and transitions < 0:
        faults.append(("spec.leaseTransitions", f"Invalid value: {transitions}: must be greater than or equal to 0"))
    return faults


def _config_map(kind: Kind, document: Document) -> Faults:
    data = document.get("data") or {}
    if not all(isinstance(value, str) for value in data.values()):
        raise _not_decoded(kind, "cannot unmarshal into a field of type string")
    faults: Faults = [
        (f"data[{key}]", f'Invalid value: "{key}": a valid config key must consist of alphanumerics, -, _ or .')
        for key in data
        if not CONFIG_KEY.fullmatch(key)
    ]
    if sum(len(value.encode()) for value in data.values()) > CONFIG_LIMIT:
        faults.append(("", f"Too long: may not be more than {CONFIG_LIMIT} bytes"))
    return faults


def _event(kind: Kind, document: Document) -> Faults:
    """Both event APIs; the newer one demands that who reports, what was done and when are always told."""
    about = "regarding" if kind.group else "involvedObject"
    note = "note" if kind.group else "message"
    reporter = "reportingController" if kind.group else "reportingComponent"
    namespace = text_at(document, ("metadata", "namespace"))
    theirs = text_at(document, (about, "namespace"))
    dated = bool(document.get("eventTime"))
    faults: Faults = []
    homeless = ("default", "kube-system") if dated else ("default",)
    if (not dated and namespace != theirs) if theirs else (namespace not in homeless):
        faults.append((f"{about}.namespace", f'Invalid value: "{theirs}": does not match event.namespace'))
    if dated:
        faults += [(field, "Required value") for field in (reporter, *EVENT_LIMITS) if not document.get(field)]
        faults += [
            (field, f'Invalid value: "": can have at most {limit} characters')
            for field, limit in {**EVENT_LIMITS, note: NOTE_LIMIT}.items()
            if len(str(document.get(field, "")).encode()) > limit
        ]
    if kind.group:
        if not dated:
            faults.append(("eventTime", "Required value"))
        if document.get("type") not in ("Normal", "Warning"):
            faults.append(("type", f'Invalid value: "": has invalid value: {document.get("type", "")}'))
        if (series := document.get("series")) is not None and series.get("count", 0) < 2:
            faults.append(("series.count", 'Invalid value: "": should be at least 2'))
    return faults


_RULES: dict[str, Callable[[Kind, Document], Faults]] = {"Event": _event, "Lease": _lease, "ConfigMap": _config_map}


def _not_decoded(kind: Kind, why: str) -> Refused:
    return bad_request(f'{kind.name} in version "{kind.version}" cannot be handled as a {kind.name}: {why}')
