"""A Lease as plain data: nobody's times are believed, and what is written is what a server can decode."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from drycc_router.status.lease import LONGEST, SECONDS, Lease, Observation, claimed, released

WHOLE_SECOND = datetime(2026, 1, 31, 12, tzinfo=UTC)


def raw(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "drycc-router", "resourceVersion": "7"}, "spec": spec}


def test_a_lease_without_a_word_is_nobodys() -> None:
    assert Lease.read({"metadata": {"name": "drycc-router"}}) == Lease("", SECONDS, "", 0)


@pytest.mark.parametrize("spec", [None, [], {"holderIdentity": 7, "leaseDurationSeconds": "long", "renewTime": []}])
def test_what_has_another_shape_counts_as_not_said(spec: object) -> None:
    assert Lease.read({"spec": spec}) == Lease()


def test_nobody_can_be_waited_for_for_ever() -> None:
    assert Lease.read(raw(holderIdentity="other", leaseDurationSeconds=10**9)).seconds == LONGEST
    assert Lease.read(raw(holderIdentity="other", leaseDurationSeconds=-1)).seconds == 1


def test_it_is_free_once_it_did_not_change_for_as_long_as_it_is_good() -> None:
    seen = Observation()
    held = Lease("other", 15.0, "2099-01-01T00:00:00.000000Z")  # its clock is wrong, which does not matter
    assert seen.free_in("me", 100.0) == 0.0
    seen.see(held, 100.0)
    assert seen.free_in("me", 100.0) == 15.0
    seen.see(held, 110.0)
    assert seen.free_in("me", 110.0) == 5.0
    seen.see(Lease("other", 15.0, "1970-01-01T00:00:00.000000Z"), 114.0)
    assert seen.free_in("me", 115.0) == 14.0
    assert seen.free_in("me", 129.0) == 0.0
    assert seen.free_in("other", 115.0) == 0.0


def test_a_lease_that_was_given_back_is_free_at_once() -> None:
    seen = Observation()
    seen.see(Lease("", 1.0, "2026-01-31T12:00:00.000000Z", 4), 100.0)
    assert seen.free_in("me", 100.0) == 0.0


def test_taking_it_counts_and_renewing_it_does_not() -> None:
    first = claimed({"metadata": {"name": "drycc-router", "resourceVersion": "7"}}, "me", WHOLE_SECOND)
    assert first["metadata"]["resourceVersion"] == "7"
    assert first["spec"] == {
        "holderIdentity": "me",
        "leaseDurationSeconds": SECONDS,
        "acquireTime": "2026-01-31T12:00:00.000000Z",
        "renewTime": "2026-01-31T12:00:00.000000Z",
        "leaseTransitions": 1,
    }
    later = claimed(first, "me", WHOLE_SECOND.replace(second=3, microsecond=5))
    assert later["spec"] == {**first["spec"], "renewTime": "2026-01-31T12:00:03.000005Z"}
    assert claimed(later, "other", WHOLE_SECOND)["spec"]["leaseTransitions"] == 2


def test_giving_it_back_leaves_nobody_and_keeps_the_count() -> None:
    mine = claimed(raw(leaseTransitions=3, strategy="OldestEmulationVersion"), "me", WHOLE_SECOND)
    free = Lease.read(released(mine, WHOLE_SECOND))
    assert (free.holder, free.seconds, free.transitions) == ("", 1.0, 4)
    assert released(mine, WHOLE_SECOND)["spec"]["strategy"] == "OldestEmulationVersion"
