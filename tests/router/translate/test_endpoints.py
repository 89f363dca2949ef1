"""Slices of one Service: which are looked at, what is remembered of them, and what stays where there is too much."""

from __future__ import annotations

import pytest

from drycc_router.model.address_policy import Fence, endpoint_address
from drycc_router.model.objects import EndpointSlice, ObjectKey, Service, ServicePort, SliceEndpoint, SlicePort
from drycc_router.model.problems import Reason
from drycc_router.model.quotas import ENDPOINTS, JUDGED, SLICES
from drycc_router.translate.endpoints import TOLD, Found, Judge, Meant, Verdict, find

PORT = ServicePort("http", 80, "TCP")


def web(cluster_ip: str = "10.96.0.9") -> Service:
    return Service(ObjectKey("Service", "shop", "web"), {}, {}, None, "ClusterIP", cluster_ip, (PORT,))


def piece(name: str, first: int, count: int, *, ready: bool = True, six: bool = False) -> EndpointSlice:
    """A slice with so many Pods, of either family."""
    form = "fd00::{:x}:{:x}" if six else "10.0.{}.{}"
    endpoints = tuple(
        SliceEndpoint((form.format(*divmod(number, 250)),), ready, ObjectKey("Pod", "shop", f"web-{number}"))
        for number in range(first, first + count)
    )
    key = ObjectKey("EndpointSlice", "shop", name)
    return EndpointSlice(key, "web", "IPv6" if six else "IPv4", endpoints, (SlicePort("http", 5000, "TCP"),))


class Counting(Judge):
    """Counts how many endpoints it is asked to judge."""

    def __init__(self) -> None:
        super().__init__(trusted=False)
        self.asked: list[str] = []

    def verdict(self, view: EndpointSlice, port: ServicePort, fence: Fence, meant: Meant) -> Verdict:
        self.asked.append(view.key.name)
        return super().verdict(view, port, fence, meant)


def test_no_more_slices_are_looked_at_than_there_may_be_endpoints() -> None:
    judge = Counting()
    slices = [piece(f"s{number:03}", number * 400, 400) for number in range(100)]

    found = find(web(), PORT, slices, Fence(), judge)

    assert len(found.addresses) == ENDPOINTS
    assert judge.asked == ["s000", "s001", "s002"]
    assert [problem.reason for problem in found.about_service] == [Reason.OVER_QUOTA]


def test_what_is_in_force_stays_whatever_slices_come_before_it() -> None:
    judge = Judge(trusted=False)
    old = [piece("m1", 0, 600), piece("m2", 600, 400)]
    before = find(web(), PORT, old, Fence(), judge)
    assert len(before.addresses) == ENDPOINTS
    assert before.about_service == ()

    after = find(web(), PORT, [piece("a0", 5000, 1000), *old, piece("z9", 9000, 1000)], Fence(), judge, before=before)

    assert after.addresses == before.addresses
    assert [problem.reason for problem in after.about_service] == [Reason.OVER_QUOTA]


def test_a_pod_of_two_families_is_one_endpoint_also_where_there_are_too_many() -> None:
    slices = [piece("a-six", 0, 1000, six=True), piece("b-four", 0, 1000), piece("c-six", 1000, 1000, six=True)]
    found = find(web(), PORT, slices, Fence(), Judge(trusted=False))
    assert len(found.addresses) == ENDPOINTS
    assert all("." in ip for ip, _ in found.addresses)

    few = [piece("a-six", 0, 300, six=True), piece("b-four", 0, 200)]
    found = find(web("fd00:96::1"), PORT, few, Fence(), Judge(trusted=False))
    assert sum(":" in ip for ip, _ in found.addresses) == len(found.addresses) == 300


def test_a_verdict_is_remembered_until_the_slice_or_the_fence_differs() -> None:
    judge = Judge(trusted=False)
    view = piece("s", 0, 100)
    first = judge.verdict(view, PORT, fence := Fence(), Meant.READY)
    assert judge.verdict(view, PORT, fence, Meant.READY) is first
    assert judge.verdict(piece("s", 0, 99), PORT, fence, Meant.READY) is not first

    denied = judge.verdict(view, PORT, Fence(denied=["10.0.0.0/24"]), Meant.READY)
    assert denied.found == ()
    assert denied.is_refused
    judge.forget(view.key)
    assert repr(judge) == "<Judge of 0 slices>"


@pytest.mark.parametrize("count", [JUDGED, JUDGED + 1])
def test_behind_the_service_s_own_address_there_may_be_as_many_as_can_be_judged(count: int) -> None:
    full, rest = divmod(count, 1000)
    slices = [piece(f"s{number}", number * 1000, 1000) for number in range(full)]
    slices.append(piece("rest", count - rest, rest))

    found = find(web(), PORT, slices, Fence(), Judge(trusted=False), own_address=True)

    if count <= JUDGED:
        assert found == Found((("10.96.0.9", 80),))
    else:
        assert found.addresses == ()
        assert [problem.reason for problem in found.about_service] == [Reason.OVER_QUOTA]


def test_of_many_bad_slices_some_are_told_and_the_others_counted() -> None:
    slices = [EndpointSlice(piece(f"s{n:03}", n, 1).key, "web", "FQDN", (), ()) for n in range(300)]

    found = find(web(), PORT, slices, Fence(), Judge(trusted=False))

    assert len(found.problems) == TOLD + 1
    assert found.problems[-1].message.endswith(f"{300 - TOLD} more slices are not in order")


def crowd(name: str, endpoints: int, addresses: int, target: str = "", octet: int = 10) -> EndpointSlice:
    """A slice whose endpoints have many addresses each; they may all say that they are the same Pod."""
    pod = ObjectKey("Pod", "shop", target) if target else None
    many = tuple(
        SliceEndpoint(tuple(f"{octet}.{first // 250}.{first % 250}.{each}" for each in range(addresses)), True, pod)
        for first in range(endpoints)
    )
    key = ObjectKey("EndpointSlice", "shop", name)
    return EndpointSlice(key, "web", "IPv4", many, (SlicePort("http", 5000, "TCP"),))


@pytest.mark.parametrize("octet", [10, 127])
def test_addresses_count_and_not_only_endpoints(monkeypatch: pytest.MonkeyPatch, octet: int) -> None:
    """An endpoint may have a hundred addresses: one slice took 0.3 s to judge, each time anything differed."""
    asked = 0

    def counting(text: str, fence: Fence, port: int | None = None, *, loopback_allowed: bool) -> str:
        nonlocal asked
        asked += 1
        return endpoint_address(text, fence, port, loopback_allowed=loopback_allowed)

    monkeypatch.setattr("drycc_router.translate.endpoints.endpoint_address", counting)
    found = find(web(), PORT, [crowd("s", 700, 100, octet=octet)], Fence(), Judge(trusted=False))

    assert asked <= 8 * ENDPOINTS  # ready ones, and if there is none, leaving ones
    assert Reason.OVER_QUOTA in {each.reason for each in (*found.problems, *found.about_service)}


def test_few_endpoints_with_many_addresses_are_remembered() -> None:
    judge = Judge(trusted=False)
    view = crowd("s", 7, 100)
    assert judge.verdict(view, PORT, fence := Fence(), Meant.READY) is judge.verdict(view, PORT, fence, Meant.READY)


def test_slices_that_all_name_the_same_pod_are_not_all_looked_at() -> None:
    judge = Counting()
    found = find(web(), PORT, [crowd(f"s{n:03}", 1000, 1, "same") for n in range(100)], Fence(), judge)
    assert len(judge.asked) <= 5
    assert [each.reason for each in found.about_service] == [Reason.OVER_QUOTA]


def test_slices_without_endpoints_that_count_are_not_all_looked_at() -> None:
    judge = Counting()
    find(web(), PORT, [crowd(f"s{n:05}", 1, 1, octet=127) for n in range(3 * SLICES)], Fence(), judge)
    assert len(judge.asked) <= 2 * SLICES


@pytest.mark.parametrize("slices", [[crowd("s", 200, 100)], [crowd(f"s{n}", 0, 0) for n in range(JUDGED + 1)]])
def test_behind_the_service_s_own_address_addresses_count(slices: list[EndpointSlice]) -> None:
    found = find(web(), PORT, slices, Fence(), Judge(trusted=False), own_address=True)
    assert found.addresses == ()
    assert [problem.reason for problem in found.about_service] == [Reason.OVER_QUOTA]
