"""Who may take another place while few are left."""

from __future__ import annotations

import pytest

from drycc_proxy.errors import Failure
from drycc_proxy.metrics import Counters
from drycc_proxy.state.admission import LEAST_PLACES, Admission
from drycc_proxy.state.shares import Shares


class World:
    def __init__(self, places: int) -> None:
        self.counters = Counters()
        self.admission = Admission(self.counters)
        self.admission.most = places
        self.shares = Shares(self.admission, self.counters)

    def tunnels(self, count: int, namespace: str, client: str) -> None:
        for _ in range(count):
            self.counters.tunnels_open += 1
            self.counters.in_flight += 1
            self.shares.opened(namespace, client)


@pytest.fixture
def world() -> World:
    return World(600)


@pytest.mark.parametrize(("taken", "streamed", "crowded"), [(400, 0, False), (401, 0, True), (201, 200, True)])
def test_shares_act_once_more_than_two_thirds_are_taken(world: World, taken: int, streamed: int, crowded: bool) -> None:
    world.counters.in_flight = taken
    world.shares.look(streamed)
    assert world.shares.crowded is crowded


def test_of_a_handful_of_places_nobody_has_a_share() -> None:
    world = World(LEAST_PLACES - 1)
    world.counters.in_flight = LEAST_PLACES - 1
    world.shares.look(0)
    assert not world.shares.crowded


def test_an_app_has_a_sixth(world: World) -> None:
    assert world.shares.judge("ns", 100) is None
    assert world.shares.judge("ns", 101) is Failure.APP_SHARE


def test_a_namespace_has_a_quarter_whichever_way_it_is_counted(world: World) -> None:
    world.shares.loads = {"evil": 150, "other": 151}
    assert world.shares.judge("evil", 1) is None
    assert world.shares.judge("other", 1) is Failure.NAMESPACE_SHARE
    world.tunnels(151, "evil", "203.0.113.1")
    assert world.shares.judge("evil", 1) is Failure.NAMESPACE_SHARE
    assert world.shares.judge("good", 1) is None


def test_the_only_app_and_the_only_namespace_may_have_all(world: World) -> None:
    world.shares.loads = {"ns": 500}
    world.shares.owners = 1
    assert world.shares.judge("ns", 101) is Failure.APP_SHARE
    assert world.shares.judge("ns", 100) is None
    world.shares.apps = 1
    assert world.shares.judge("ns", 599) is None


def test_a_client_has_a_sixth_in_tunnels(world: World) -> None:
    for number in range(101):
        world.tunnels(1, f"ns-{number}", "2001:db8::1")
    world.tunnels(20, "ns", "203.0.113.1")
    assert world.shares.judge("good", 1, "2001:db8::ffff") is Failure.CLIENT_SHARE, "the whole /64 is one client"
    assert world.shares.judge("good", 1, "203.0.113.1") is None
    assert world.shares.judge("good", 1) is None, "a request that asks for no tunnel"


def test_nobody_is_refused_for_an_address_that_everybody_has(world: World) -> None:
    for number in range(300):
        world.tunnels(1, f"ns-{number}", "10.0.0.1")
    world.tunnels(30, "ns", "203.0.113.1")
    assert world.shares.judge("good", 1, "10.0.0.1") is None


def test_what_is_over_is_counted_no_more(world: World) -> None:
    world.tunnels(151, "evil", "203.0.113.1")
    world.shares.closed("evil", "203.0.113.1")
    assert world.shares.judge("evil", 1) is None
    for _ in range(150):
        world.shares.closed("evil", "203.0.113.1")
    assert (world.shares._namespaces, world.shares._clients) == ({}, {})
