"""What the real server refuses to store is refused here, so mistakes in Events, Leases and ConfigMaps come out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.apiserver.kinds import kind_of
from tests.fakes.apiserver.refusals import Refused
from tests.fakes.apiserver.validation import check, check_change

LEASE = {
    "kind": "Lease",
    "apiVersion": "coordination.k8s.io/v1",
    "metadata": {"namespace": "drycc", "name": "drycc-router"},
    "spec": {"leaseDurationSeconds": 15, "renewTime": "2026-01-31T12:00:00.000000Z"},
}
CONFIG_MAP = {
    "kind": "ConfigMap",
    "apiVersion": "v1",
    "metadata": {"namespace": "drycc", "name": "claims"},
    "data": {"claims.json": "{}"},
}
CORE_EVENT = {
    "kind": "Event",
    "apiVersion": "v1",
    "metadata": {"namespace": "shop", "name": "web.1"},
    "involvedObject": {"kind": "Service", "namespace": "shop", "name": "web"},
    "reason": "BadValue",
    "message": "expected a size",
}
EVENT = {
    "kind": "Event",
    "apiVersion": "events.k8s.io/v1",
    "metadata": {"namespace": "shop", "name": "web.1"},
    "regarding": {"kind": "Service", "namespace": "shop", "name": "web"},
    "reason": "BadValue",
    "action": "Reading",
    "type": "Warning",
    "note": "expected a size",
    "eventTime": "2026-01-31T12:00:00.000000Z",
    "reportingController": "drycc.cc/router",
    "reportingInstance": "drycc-router-0",
}


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """``document`` with another value at the dotted ``path``; None: without it."""
    head, _, rest = path.partition(".")
    if rest:
        return {**document, head: changed(document[head], rest, value)}
    return {**document, head: value} if value is not None else {key: document[key] for key in document if key != head}


@pytest.mark.parametrize("document", [LEASE, CONFIG_MAP, CORE_EVENT, EVENT], ids=lambda d: str(d["apiVersion"]))
def test_sound_documents_pass(document: dict[str, Any]) -> None:
    check(kind_of(document), document)


@pytest.mark.parametrize(
    ("document", "path", "value", "code", "about"),
    [
        (LEASE, "metadata.name", "Router", 422, "metadata.name"),
        (LEASE, "metadata.name", "a" * 254, 422, "metadata.name"),
        (LEASE, "spec.renewTime", "2026-01-31T12:00:00Z", 400, "parsing time"),
        (LEASE, "spec.leaseDurationSeconds", 0, 422, "spec.leaseDurationSeconds"),
        (LEASE, "spec.leaseTransitions", -1, 422, "spec.leaseTransitions"),
        (CONFIG_MAP, "data", {"a/b": ""}, 422, "data[a/b]"),
        (CONFIG_MAP, "data", {"a": 1}, 400, "cannot unmarshal"),
        (CONFIG_MAP, "data", {"a": "x" * 600_000, "b": "x" * 600_000}, 422, "Too long"),
        (CORE_EVENT, "involvedObject.namespace", "other", 422, "involvedObject.namespace"),
        (CORE_EVENT, "involvedObject.namespace", None, 422, "involvedObject.namespace"),
        (CORE_EVENT, "eventTime", "2026-01-31T12:00:00.000000Z", 422, "reportingInstance"),
        (EVENT, "eventTime", None, 422, "eventTime"),
        (EVENT, "eventTime", "2026-01-31T12:00:00Z", 400, "parsing time"),
        (EVENT, "reportingController", None, 422, "reportingController"),
        (EVENT, "reportingInstance", None, 422, "reportingInstance"),
        (EVENT, "action", None, 422, "action"),
        (EVENT, "reason", "x" * 129, 422, "reason"),
        (EVENT, "note", "x" * 1025, 422, "note"),
        (EVENT, "type", "Error", 422, "type"),
        (EVENT, "series", {"count": 1}, 422, "series.count"),
    ],
)
def test_what_the_real_server_refuses_is_refused(
    document: dict[str, Any], path: str, value: Any, code: int, about: str
) -> None:
    with pytest.raises(Refused) as refusal:
        check(kind_of(document), changed(document, path, value))

    assert refusal.value.code == code
    assert about in refusal.value.document["message"]


def test_of_an_event_only_its_series_changes() -> None:
    series = {"count": 2, "lastObservedTime": "2026-01-31T12:01:00.000000Z"}
    check_change(kind_of(EVENT), EVENT, changed(EVENT, "series", series))

    with pytest.raises(Refused) as refusal:
        check_change(kind_of(EVENT), EVENT, changed(EVENT, "note", "something else"))
    assert "note" in refusal.value.document["message"]
