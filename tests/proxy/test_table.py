"""The table bound to living upstreams: a change costs what it changes, and is seen whole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from drycc_proxy.routing.definitions import Edge, HostRule, Policy, Route, TableChange
from drycc_proxy.routing.hosts import HostIndex
from drycc_proxy.table import LiveHost, LiveRoute
from tests.fakes.story import POD, POD_2, Story


def found(story: Story, name: bytes) -> LiveRoute | None:
    host = story.core.table.hosts.find(name)
    return None if host is None else host.route


def route(name: str, **policy: Any) -> Route:
    namespace, _, service = name.partition("/")
    return Route(name, namespace, namespace, service, (POD,), Policy(**policy))


def test_a_changed_route_is_bound_anew_and_its_upstream_kept(story: Story) -> None:
    before = found(story, b"shop.example")
    story.serves(endpoints=(POD_2,))
    after = found(story, b"shop.example")
    assert before is not None and after is not None
    assert after is not before
    assert after.upstream is before.upstream
    assert before.definition.endpoints == (POD,)  # whoever holds it keeps what it says


def test_what_a_change_does_not_name_is_not_touched(story: Story) -> None:
    story.serves(b"other.example", route="other/web")
    shop = story.core.table.hosts.find(b"shop.example")
    story.serves(route="other/web", body_size=5)
    assert story.core.table.hosts.find(b"shop.example") is shop


def test_a_changed_contributor_reaches_every_host_that_names_it(story: Story) -> None:
    story.serves(route="shop/api")
    for host in (b"a.example", b"b.example"):
        story.serves(host, route="shop/web", paths=((b"/api", "shop/api"),))
    story.serves(route="shop/api", body_size=5)
    for host in (b"a.example", b"b.example"):
        live = story.core.table.hosts.find(host)
        assert live is not None
        assert live.at(b"/api").body_size == 5
        assert live.at(b"/").body_size == 0


def test_a_host_that_moved_no_longer_follows_its_old_route(story: Story) -> None:
    story.serves(b"shop.example", route="shop/new")
    moved = story.core.table.hosts.find(b"shop.example")
    story.serves(route="shop/web", body_size=5)
    assert story.core.table.hosts.find(b"shop.example") is moved


def test_a_route_and_its_host_go_in_one_change(story: Story) -> None:
    story.publishes(TableChange(0, gone_routes=frozenset({"shop/web"}), gone_hosts=frozenset({b"shop.example"})))
    assert found(story, b"shop.example") is None
    assert story.core.table.routes == {}
    assert len(story.core.registry) == 0


def test_a_host_changes_hands_while_its_old_route_goes(story: Story) -> None:
    story.publishes(
        TableChange(
            0,
            routes={"new/web": route("new/web")},
            gone_routes=frozenset({"shop/web"}),
            hosts={b"shop.example": HostRule(b"shop.example", "new/web")},
        )
    )
    live = found(story, b"shop.example")
    assert live is not None and live.definition.name == "new/web"


def test_what_is_gone_already_may_go_again(story: Story) -> None:
    story.publishes(TableChange(0, gone_routes=frozenset({"never/was"}), gone_hosts=frozenset({b"never.example"})))
    assert found(story, b"shop.example") is not None


def test_a_rule_for_a_route_that_does_not_exist_is_the_callers_bug(story: Story) -> None:
    with pytest.raises(KeyError):
        story.core.table.apply(TableChange(9, hosts={b"x.example": HostRule(b"x.example", "no/route")}))


def test_the_generation_is_the_changes(story: Story) -> None:
    story.core.table.apply(TableChange(42))
    assert story.core.table.generation == 42


def test_settings_are_replaced_never_changed(story: Story) -> None:
    before = story.core.table.edge
    story.core.table.apply(TableChange(2, edge=Edge(trusted=("10.0.0.0/8",), max_head=100)))
    after = story.core.table.edge
    assert after is not before
    assert "10.0.0.1" in after.trusted
    assert (after.max_head, before.max_head) == (100, 32 * 1024)
    story.core.table.apply(TableChange(3))
    assert story.core.table.edge is after


def test_request_start_for_everybody_reaches_routes_that_did_not_change(story: Story) -> None:
    story.is_set(request_start=True)
    live = found(story, b"shop.example")
    assert live is not None and live.dated
    story.is_set(request_start=True, max_fields=7)
    assert found(story, b"shop.example") is live  # nothing that concerns it


def test_the_default_route_follows_changes(story: Story) -> None:
    story.is_set(default_route="shop/web")
    story.serves(body_size=9)
    live = found(story, b"nobody.example")
    assert live is not None and live.body_size == 9
    story.publishes(TableChange(0, gone_routes=frozenset({"shop/web"}), gone_hosts=frozenset({b"shop.example"})))
    assert found(story, b"nobody.example") is None


@pytest.mark.parametrize(
    ("policy", "plain", "tls"),
    [
        ({}, False, False),
        ({"enforce_https": True}, True, False),
        ({"hsts": b"max-age=1"}, False, False),
        ({"allow": ()}, True, True),
        ({"deny": ("10.0.0.0/8",)}, True, True),
        ({"maintenance": True}, True, True),
        ({"body_size": 1}, True, True),
    ],
)
def test_only_routes_that_ask_something_stop_at_the_gate(
    story: Story, policy: dict[str, Any], plain: bool, tls: bool
) -> None:
    story.serves(**policy)
    live = found(story, b"shop.example")
    assert live is not None
    assert (live.gated_plain, live.gated_tls) == (plain, tls)


def test_without_endpoints_the_gate_speaks(story: Story) -> None:
    story.serves(endpoints=())
    live = found(story, b"shop.example")
    assert live is not None
    assert live.gated_plain and live.gated_tls and not live.available


def test_the_shorter_of_two_times_counts_until_the_head(story: Story) -> None:
    for idle, request, first in ((10.0, 0.0, 10.0), (10.0, 5.0, 5.0), (5.0, 10.0, 5.0)):
        story.serves(idle_timeout=idle, request_timeout=request)
        live = found(story, b"shop.example")
        assert live is not None and live.first_timeout == first


def test_paths_are_matched_by_whole_segments() -> None:
    owner, api, deep = (object.__new__(LiveRoute) for _ in range(3))
    host = LiveHost(owner, ((b"/api/v2/", deep), (b"/api", api)))
    for target, expected in (
        (b"/", owner),
        (b"/api", api),
        (b"/api/", api),
        (b"/api?x", api),
        (b"/apix", owner),
        (b"/api/v2", api),
        (b"/api/v2/", deep),
        (b"/api/v2/x", deep),
    ):
        assert host.at(target) is expected, target


def test_the_label_of_a_route_is_safe_in_json(story: Story) -> None:
    name = 'a"b/c\\d\n'
    story.core.table.apply(TableChange(2, routes={name: Route(name, 'a"b', 'a"b', "c\\d\n", (), Policy())}))
    label = story.core.table.routes[name].label
    assert json.loads(b"{" + label + b"}") == {"app": 'a"b', "namespace": 'a"b', "service": "c\\d\n"}


def test_reprs_are_for_people(story: Story) -> None:
    assert "shop/web" in repr(found(story, b"shop.example"))
    assert isinstance(story.core.table.hosts, HostIndex)
