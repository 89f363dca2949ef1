"""Which upstreams live, and what survives a change."""

from __future__ import annotations

from drycc_proxy.http1.upstream import Http1Upstream
from drycc_proxy.routing.definitions import Edge, Policy, Route
from tests.fakes.instructions import Work
from tests.fakes.story import GET, POD, POD_2, Story


def definition(name: str, app: str = "app") -> Route:
    return Route(name, app, "ns", "svc", (POD, POD_2), Policy(connect_timeout=7.0))


def test_a_known_route_keeps_its_upstream_and_its_counters(story: Story) -> None:
    registry = story.core.registry
    upstream = registry.adopt(definition("ns/svc"))
    upstream.counters.request_bytes = 5
    again = registry.adopt(definition("ns/svc", "renamed"))
    assert again is upstream
    assert (again.counters.app, again.counters.request_bytes) == ("renamed", 5)
    assert again.connect_timeout == 7.0
    assert len(registry) == 2


def test_a_retired_route_takes_its_counters_along_and_comes_back_new(story: Story) -> None:
    registry = story.core.registry
    upstream = registry.adopt(definition("ns/svc"))
    registry.retire("ns/svc")
    registry.retire("ns/svc")
    assert "ns/svc" not in story.core.counters.routes
    assert registry.namespaces == 1
    assert registry.adopt(definition("ns/svc")) is not upstream
    assert registry.namespaces == 2


def test_the_report_is_sorted_and_says_who_is_busy(story: Story) -> None:
    story.core.registry.adopt(definition("a/b"))
    story.client(GET)
    story.lends()
    assert list(story.core.registry.report()) == [
        {
            "route": "a/b",
            "in_flight": 0,
            "queued": 0,
            "endpoints": [
                {"address": "10.0.0.1:8080", "load": 0, "idle": 0, "ejected": False},
                {"address": "10.0.0.2:8080", "load": 0, "idle": 0, "ejected": False},
            ],
        },
        {
            "route": "shop/web",
            "in_flight": 1,
            "queued": 0,
            "endpoints": [{"address": "10.0.0.1:8080", "load": 1, "idle": 0, "ejected": False}],
        },
    ]


def test_closing_stops_to_dial_and_closes_what_is_idle(story: Story) -> None:
    idle = story.keeps_warm()
    story.client(GET + GET)
    other = story.calls()
    other.says(GET)
    assert story.dialled == [POD]
    story.core.registry.close()
    story.loop.settle()
    assert story.dialled == []
    assert idle.transport.heard  # busy: it finishes what it has


def test_room_is_made_a_tenth_at_a_time(story: Story) -> None:
    story.is_set(upstream_idle=40)
    clients = [story.calls() for _ in range(41)]
    for client in clients:
        client.says(GET)
    for app in [story.lends() for _ in clients]:
        app.says(b"HTTP/1.1 204 No Content\r\n\r\n")
    story.passes(0.6)
    assert story.core.counters.upstream_idle == 36
    assert [app.is_kept for app in story.apps[:6]] == [False] * 5 + [True]


def test_idle_connections_are_closed_until_so_many_are_left(story: Story) -> None:
    idle = story.keeps_warm()
    story.core.registry.close_idle(1)
    assert idle.is_kept
    story.core.registry.close_idle(0)
    assert not idle.is_kept


def test_looking_for_idle_connections_is_bounded_however_many_apps_there_are(story: Story) -> None:
    story.keeps_warm()
    registry = story.core.registry
    for number in range(2000):
        registry.adopt(definition(f"ns/svc-{number}"))
    work, worst = Work(), 0
    with work.on("look"):
        registry.close_idle(0)
    soon = story.loop._soon
    while soon:
        callback, args = soon.popleft()
        before = work.done["look"]
        with work.on("look"):
            callback(*args)
        worst = max(worst, work.done["look"] - before)

    assert story.core.counters.upstream_idle == 0
    assert worst < 60_000


def test_new_limits_reach_everybody_a_bounded_number_at_a_time(story: Story) -> None:
    registry = story.core.registry
    for number in range(5000):
        registry.adopt(definition(f"a/{number}"))
    work = Work()

    with work.on("configure"):
        registry.configure(Edge(app_requests=7))
    registry.configure(Edge(app_requests=8))  # before everybody has heard of the first
    story.loop.settle()

    assert work.done["configure"] < 30_000
    assert {upstream.most for upstream in registry.upstreams()} == {8}


def test_what_closes_leaves_the_idle_ones_without_a_search(story: Story) -> None:
    """As many as the app had at once: the work of each is the same."""
    story.keeps_warm()
    upstream = story.core.table.routes["shop/web"].upstream
    [endpoint] = upstream._endpoints.values()
    crowd = [Http1Upstream(upstream, endpoint, story.core.wheel) for _ in range(1000)]
    for connection in crowd:
        endpoint.idle[connection] = None
    story.core.counters.upstream_idle += len(crowd)
    costs = []
    for connection in (crowd[0], crowd[500], crowd[999]):
        work = Work()
        with work.on("leave"):
            upstream.lost_idle(connection)
        upstream.lost_idle(connection)  # it is not there any more
        costs.append(work.done["leave"])
    assert max(costs) < 2 * min(costs)
    assert (len(endpoint.idle), story.core.counters.upstream_idle) == (998, 998)
    for other in list(endpoint.idle)[1:]:
        upstream.lost_idle(other)
