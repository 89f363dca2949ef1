"""What differs from what was seen before, and which list is not believed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drycc_router.model.objects import PREFIXES, Change, ObjectKey, parse_endpoint_slice, parse_secret, parse_service
from drycc_router.sources.fingerprints import HOLD, Sights, key_of, narrow
from tests.fakes.apiserver.objects import endpoint_slice, secret, service


def web(version: int = 1, name: str = "web", **annotations: str) -> dict[str, Any]:
    raw = service("shop", name, domains=f"{name}.example", annotations=annotations)
    raw["metadata"]["resourceVersion"] = str(version)
    return dict(narrow("Service")(raw))


WEB = ObjectKey("Service", "shop", "web")


def relist(sights: Sights, items: list[dict[str, Any]]) -> list[Change]:
    """What a complete list comes to."""
    return sights.listed(items) + sights.missed(items)


# ── events ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_an_object_is_told_when_it_comes_differs_and_goes() -> None:
    sights = Sights("Service")
    assert sights.seen("ADDED", web()) == Change(WEB, web())
    assert sights.seen("MODIFIED", web(2)) is None
    assert sights.seen("MODIFIED", web(3, connectTimeout="3")) == Change(WEB, web(3, connectTimeout="3"))
    assert sights.seen("DELETED", web(4)) == Change(WEB, None)
    assert sights.seen("DELETED", web(4)) is None
    assert sights.seen("ADDED", web(5)) == Change(WEB, web(5))


def test_a_service_that_is_made_anew_under_its_name_is_another_one() -> None:
    """Hardening R-17: also when its deletion fell into a gap."""
    sights = Sights("Service")
    first, second = web(), web(9)
    first["metadata"]["uid"], second["metadata"]["uid"] = "1", "2"
    sights.seen("ADDED", first)
    assert relist(sights, [second]) == [Change(WEB, second)]


@pytest.mark.parametrize("raw", [{}, {"metadata": None}, {"metadata": {}}, {"metadata": {"name": 7}}])
def test_what_has_no_name_is_nobody(raw: dict[str, Any]) -> None:
    sights = Sights("Service")
    assert key_of("Service", raw) is None
    assert sights.seen("ADDED", raw) is None
    assert relist(sights, [raw, web()]) == [Change(WEB, web())]


# ── lists ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_list_comes_to_its_difference() -> None:
    sights = Sights("Service")
    assert len(relist(sights, [web(1, "a"), web(1, "b"), web(1, "c")])) == 3
    changes = relist(sights, [web(9, "b"), web(9, "c", maintenance="true"), web(9, "d")])
    assert [(change.key.name, change.object is not None) for change in changes] == [
        ("c", True),
        ("d", True),
        ("a", False),
    ]


def test_of_a_first_list_that_broke_off_what_the_next_one_lacks_is_gone() -> None:
    sights = Sights("Service")
    assert sights.judge([web(1, "a"), web(1, "b")]) == 0.0
    sights.listed([web(1, "a")])
    assert sights.judge([web(1, "b")]) == 0.0
    assert [change.key.name for change in relist(sights, [web(1, "b")])] == ["b", "a"]


NAMES = st.sampled_from("abcdefgh")
WORLD = st.dictionaries(NAMES, st.sampled_from(["1s", "2s"]))


@given(st.lists(st.one_of(WORLD, st.tuples(NAMES, st.sampled_from(["1s", "2s", ""]))), max_size=20))
def test_changes_always_add_up_to_what_there_is(history: list[dict[str, str] | tuple[str, str]]) -> None:
    sights = Sights("Service")
    there: dict[str, str] = {}
    told: dict[str, Any] = {}
    for step in history:
        changes: list[Change | None]
        if isinstance(step, dict):
            there = dict(step)
            changes = [*relist(sights, [web(1, name, connectTimeout=text) for name, text in there.items()])]
        elif step[1]:
            there[step[0]] = step[1]
            changes = [sights.seen("MODIFIED", web(1, step[0], connectTimeout=step[1]))]
        else:
            there.pop(step[0], None)
            changes = [sights.seen("DELETED", web(1, step[0]))]
        for change in changes:
            if change is not None:
                assert told.get(change.key.name) != change.object, "nothing is told twice"
                told[change.key.name] = change.object
        assert {name for name, raw in told.items() if raw is not None} == set(there)
    for name, text in there.items():
        assert told[name]["metadata"]["annotations"]["router.drycc.cc/connectTimeout"] == text


# ── doubt ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def many(count: int) -> list[dict[str, Any]]:
    return [web(1, f"app-{number}") for number in range(count)]


def test_a_list_that_lost_more_than_half_is_asked_for_twice_again_and_then_obeyed() -> None:
    """Hardening R-11."""
    sights = Sights("Service")
    relist(sights, many(100))
    assert [sights.judge([]) for _ in range(3)] == [HOLD / 2, HOLD / 2, 0.0]
    assert not sights.in_doubt
    assert len(relist(sights, [])) == 100


def test_doubt_ends_with_a_list_that_is_whole_again() -> None:
    sights = Sights("Service")
    relist(sights, many(100))
    assert sights.judge(many(49)) > 0
    assert sights.in_doubt
    assert sights.judge(many(100)) == 0.0
    assert [sights.judge([]) for _ in range(3)] == [HOLD / 2, HOLD / 2, 0.0]


def test_as_many_others_in_their_place_are_no_comfort() -> None:
    sights = Sights("Service")
    relist(sights, many(100))
    assert sights.judge([web(1, f"other-{number}") for number in range(100)]) > 0


@pytest.mark.parametrize(("known", "listed"), [(0, 0), (0, 100), (10, 0), (100, 50), (100, 100), (15, 6)])
def test_other_lists_are_believed_at_once(known: int, listed: int) -> None:
    sights = Sights("Service")
    relist(sights, many(known))
    assert sights.judge(many(listed)) == 0.0


# ── what is kept of an object ─────────────────────────────────────────────────────────────────────────────────────────
def test_of_what_nobody_reads_nothing_is_kept() -> None:
    raw = service("shop", "web", domains="web.example")
    raw["metadata"] |= {"managedFields": ["x" * 5000], "generation": 7}
    raw["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = "x" * 5000
    raw["status"] = {"loadBalancer": {}}
    before = narrow("Service")(raw)
    raw["metadata"]["managedFields"] = ["y"]
    raw["metadata"]["labels"]["team"] = "y"
    raw["status"] = {"conditions": ["y"]}
    assert narrow("Service")(raw) == before
    assert len(str(before)) < 600


def test_of_a_secret_only_the_pair_is_kept() -> None:
    raw = secret("shop", "web-cert", {"tls.crt": b"a", "tls.key": b"b", "password": b"canary"})
    assert set(narrow("Secret")(raw)["data"]) == {"tls.crt", "tls.key"}


@pytest.mark.parametrize(
    ("kind", "raw", "parse"),
    [
        ("Service", service("shop", "web", domains="a.example", annotations={"other/x": "y"}), parse_service),
        ("EndpointSlice", endpoint_slice("shop", "web", ["10.0.0.1", "10.0.0.2"]), parse_endpoint_slice),
        ("Secret", secret("shop", "web-cert", {"tls.crt": b"a", "x": b"y"}), parse_secret),
    ],
)
def test_what_is_kept_reads_as_the_whole(kind: str, raw: dict[str, Any], parse: Any) -> None:
    key = ObjectKey(kind, "shop", "web")
    raw["metadata"]["creationTimestamp"] = "2026-01-31T12:00:00Z"
    before = copy.deepcopy(raw)
    assert parse(key, narrow(kind)(raw)) == parse(key, raw)
    assert raw == before


@given(
    st.dictionaries(st.sampled_from(["labels", "annotations", "name"]), st.one_of(st.none(), st.just([]), st.just(3)))
)
def test_strange_shapes_are_left_for_whoever_reads_them(metadata: dict[str, Any]) -> None:
    for kind in ("Service", "EndpointSlice", "Secret", "ConfigMap", "Deployment", "DaemonSet"):
        kept = narrow(kind)({"metadata": metadata, "spec": 3, "data": [], "endpoints": 3})
        assert isinstance(kept, dict)
    assert all(prefix.endswith("/") for prefix in PREFIXES)
