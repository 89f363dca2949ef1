"""One counter of versions, lists at one of them, and a past that is told once, in order, or said to be gone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.fakes.apiserver.kinds import NAMESPACES, kind_of
from tests.fakes.apiserver.objects import endpoint_slice, service
from tests.fakes.apiserver.refusals import Refused
from tests.fakes.apiserver.selectors import labels_of
from tests.fakes.apiserver.store import EVERYTHING, Revision, Selection, Store

SERVICES = kind_of({"kind": "Service", "apiVersion": "v1"})
SLICES = kind_of({"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1"})
LEASES = kind_of({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1"})
ROUTABLE = Selection(labels=labels_of("router.drycc.cc/routable=true"))


def store(**options: Any) -> Store:
    return Store(now=lambda: datetime(2026, 1, 31, 12, tzinfo=UTC), **options)


def told(revisions: list[Revision], selection: Selection = EVERYTHING) -> list[tuple[str, str, int]]:
    """Type, name and version of what a watch hears."""
    lines = [json.loads(line) for line in (revision.line(selection) for revision in revisions) if line]
    return [
        (line["type"], line["object"]["metadata"]["name"], int(line["object"]["metadata"]["resourceVersion"]))
        for line in lines
    ]


def code(refusal: pytest.ExceptionInfo[Refused]) -> tuple[int, str]:
    return refusal.value.code, refusal.value.document["reason"]


def test_an_object_is_born_with_what_the_server_gives_it() -> None:
    objects = store()
    before = objects.version

    stored = objects.put(SLICES, endpoint_slice("shop", "web", ["10.0.0.1"]))

    metadata = stored.document["metadata"]
    assert metadata["creationTimestamp"] == "2026-01-31T12:00:00Z"
    assert metadata["generation"] == 1
    assert len(metadata["uid"]) == 36
    assert int(metadata["resourceVersion"]) == stored.version == before + 2, "the namespace came first"


def test_versions_grow_with_every_write_of_any_kind() -> None:
    objects = store()

    versions = [
        objects.put(SERVICES, service("shop", "web")).version,
        objects.put(SLICES, endpoint_slice("shop", "web", ["10.0.0.1"])).version,
        objects.put(SERVICES, service("shop", "api")).version,
    ]

    assert versions == sorted(set(versions))


def test_a_write_that_changes_nothing_is_no_write() -> None:
    objects = store()
    first = objects.put(SERVICES, service("shop", "web"))

    again = objects.put(SERVICES, service("shop", "web"))

    assert again.version == first.version == objects.version
    assert objects.since(SERVICES, first.version) == []


def test_generation_counts_the_desired_state_only() -> None:
    objects = store()
    objects.put(SLICES, endpoint_slice("shop", "web", ["10.0.0.1"]))

    touched = endpoint_slice("shop", "web", ["10.0.0.1"])
    touched["metadata"]["annotations"] = {"a": "b"}
    assert objects.put(SLICES, touched).document["metadata"]["generation"] == 1

    moved = objects.put(SLICES, endpoint_slice("shop", "web", ["10.0.0.2"]))
    assert moved.document["metadata"]["generation"] == 2


def test_of_two_writers_that_read_the_same_state_the_second_is_refused() -> None:
    objects = store()
    read = objects.put(SERVICES, service("shop", "web")).document
    objects.update(SERVICES, {**read, "spec": {"clusterIP": "10.0.0.1"}})

    with pytest.raises(Refused) as refusal:
        objects.update(SERVICES, {**read, "spec": {"clusterIP": "10.0.0.2"}})

    assert code(refusal) == (409, "Conflict")
    assert objects.get(SERVICES, "shop", "web").document["spec"] == {"clusterIP": "10.0.0.1"}


def test_an_update_meant_for_an_object_that_was_made_anew_is_refused() -> None:
    objects = store()
    read = objects.put(SERVICES, service("shop", "web")).document
    objects.delete(SERVICES, "shop", "web")
    objects.put(SERVICES, service("shop", "web"))
    del read["metadata"]["resourceVersion"]

    with pytest.raises(Refused) as refusal:
        objects.update(SERVICES, read)

    assert code(refusal) == (409, "Conflict")


def test_a_lease_is_never_updated_blindly() -> None:
    objects = store()
    lease = {"metadata": {"namespace": "default", "name": "router"}, "spec": {}}
    objects.create(LEASES, lease)

    with pytest.raises(Refused) as refusal:
        objects.update(LEASES, lease)

    assert code(refusal) == (422, "Invalid")


def test_what_is_there_cannot_be_created_and_what_is_not_cannot_be_changed() -> None:
    objects = store()
    objects.put(SERVICES, service("shop", "web"))

    with pytest.raises(Refused) as there:
        objects.create(SERVICES, service("shop", "web"))
    with pytest.raises(Refused) as absent:
        objects.update(SERVICES, service("shop", "api"))
    with pytest.raises(Refused) as gone:
        objects.delete(SERVICES, "shop", "api")
    with pytest.raises(Refused) as homeless:
        objects.create(SERVICES, service("nowhere", "web"))

    assert [code(refusal) for refusal in (there, absent, gone, homeless)] == [
        (409, "AlreadyExists"),
        (404, "NotFound"),
        (404, "NotFound"),
        (404, "NotFound"),
    ]


def test_a_deletion_can_be_bound_to_one_life_of_an_object() -> None:
    objects = store()
    uid = objects.put(SERVICES, service("shop", "web")).document["metadata"]["uid"]

    with pytest.raises(Refused) as refusal:
        objects.delete(SERVICES, "shop", "web", {"uid": "another"})
    assert code(refusal) == (409, "Conflict")

    objects.delete(SERVICES, "shop", "web", {"uid": uid})
    assert objects.count(SERVICES) == 0


def test_a_namespace_takes_everything_in_it_along() -> None:
    objects = store()
    objects.put(SERVICES, service("shop", "web"))
    objects.put(SLICES, endpoint_slice("shop", "web", ["10.0.0.1"]))
    kept = objects.put(SERVICES, service("blog", "web"))

    objects.delete(NAMESPACES, "", "shop")

    assert objects.selected(SERVICES) == (kept,)
    assert objects.count(SLICES) == 0
    assert told(objects.since(SERVICES, kept.version))[0][:2] == ("DELETED", "web")


def test_the_past_is_told_once_and_in_order() -> None:
    objects = store()
    start = objects.put(SERVICES, service("shop", "web")).version
    objects.put(SLICES, endpoint_slice("shop", "web", ["10.0.0.1"]))
    made = objects.put(SERVICES, service("shop", "api")).version
    changed = objects.put(SERVICES, service("shop", "web", domains="a.example")).version
    objects.delete(SERVICES, "shop", "api")

    assert told(objects.since(SERVICES, start)) == [
        ("ADDED", "api", made),
        ("MODIFIED", "web", changed),
        ("DELETED", "api", objects.version),
    ]
    assert told(objects.since(SERVICES, changed)) == [("DELETED", "api", objects.version)]


def test_an_object_that_begins_or_ceases_to_match_is_born_or_dies_for_a_watcher() -> None:
    objects = store()
    start = objects.put(SERVICES, service("shop", "web", routable=False, cluster_ip="10.0.0.1")).version
    objects.put(SERVICES, service("shop", "web", cluster_ip="10.0.0.2"))
    objects.put(SERVICES, service("shop", "web", cluster_ip="10.0.0.3"))
    objects.put(SERVICES, service("shop", "web", routable=False, cluster_ip="10.0.0.4"))
    objects.delete(SERVICES, "shop", "web")

    past = objects.since(SERVICES, start)

    assert [line[0] for line in told(past, ROUTABLE)] == ["ADDED", "MODIFIED", "DELETED"]
    last = json.loads(past[2].line(ROUTABLE) or b"")["object"]
    assert last["spec"]["clusterIP"] == "10.0.0.3", "the last state that matched"
    assert int(last["metadata"]["resourceVersion"]) == past[2].version, "at the version of the write that ended it"


def test_listeners_hear_of_a_write_within_it() -> None:
    objects = store()
    heard: list[int] = []
    forget = objects.listen(SERVICES, lambda revision: heard.append(revision.version))

    first = objects.put(SERVICES, service("shop", "web")).version
    forget()
    objects.put(SERVICES, service("shop", "api"))

    assert heard == [first]


def test_a_past_that_was_compacted_is_said_to_be_gone() -> None:
    objects = store()
    start = objects.put(SERVICES, service("shop", "web")).version
    objects.put(SERVICES, service("shop", "api"))
    objects.compact()

    assert objects.since(SERVICES, objects.version) == []
    with pytest.raises(Refused) as refusal:
        objects.since(SERVICES, start)
    assert code(refusal) == (410, "Expired")


def test_a_long_past_is_forgotten_from_its_beginning() -> None:
    objects = store(history=3)
    versions = [objects.put(SERVICES, service("shop", "web", domains=f"{n}.example")).version for n in range(20)]

    assert [line[2] for line in told(objects.since(SERVICES, versions[-3]))] == versions[-2:]
    with pytest.raises(Refused) as refusal:
        objects.since(SERVICES, versions[0])
    assert code(refusal) == (410, "Expired")


def test_all_pages_of_a_list_show_one_state() -> None:
    objects = store()
    for name in ("a", "b", "c", "d", "e"):
        objects.put(SERVICES, service("shop", name))

    first = objects.page(SERVICES, EVERYTHING, limit=2)
    objects.delete(SERVICES, "shop", "c")
    objects.put(SERVICES, service("shop", "bb"))
    second = objects.page(SERVICES, EVERYTHING, 2, first.version, first.following)
    third = objects.page(SERVICES, EVERYTHING, 2, first.version, second.following)

    pages = [first, second, third]
    assert [[stored.name for stored in page.items] for page in pages] == [["a", "b"], ["c", "d"], ["e"]]
    assert [page.rest for page in pages] == [3, 1, 0]
    assert {page.version for page in pages} == {first.version}


@pytest.mark.parametrize("written_since", [True, False])
def test_a_list_that_expired_cannot_be_continued(written_since: bool) -> None:
    objects = store()
    for name in ("a", "b", "c"):
        objects.put(SERVICES, service("shop", name))
    first = objects.page(SERVICES, EVERYTHING, limit=2)
    if written_since:
        objects.put(SERVICES, service("shop", "d"))
    objects.expire_pages()

    with pytest.raises(Refused) as refusal:
        objects.page(SERVICES, EVERYTHING, 2, first.version, first.following)
    assert code(refusal) == (410, "Expired")

    rest = objects.page(SERVICES, EVERYTHING, after=first.following)
    assert [stored.name for stored in rest.items] == (["c", "d"] if written_since else ["c"]), "as things are now"


def test_items_of_lists_do_not_name_their_kind_and_whole_documents_do() -> None:
    stored = store().put(SERVICES, service("shop", "web"))

    assert {"kind", "apiVersion"}.isdisjoint(json.loads(stored.raw))
    assert (stored.document["kind"], stored.document["apiVersion"]) == ("Service", "v1")


def test_tests_may_say_when_an_object_was_made() -> None:
    old = service("shop", "web")
    old["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"

    assert store().put(SERVICES, old).document["metadata"]["creationTimestamp"] == "2020-01-01T00:00:00Z"
