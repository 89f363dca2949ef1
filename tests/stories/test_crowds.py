"""More requests than an app may have under way: a few wait for a moment, the rest are told at once (hardening M-12)."""

from __future__ import annotations

import pytest

from drycc_proxy.routing.definitions import TableChange
from tests.fakes.story import GET, HOST, POD, POD_2, AppEnd, Story
from tests.fakes.transport import End

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BLOG = b"GET / HTTP/1.1\r\nHost: blog.example\r\n\r\n"


@pytest.fixture
def narrow(story: Story) -> Story:
    """An app may have two requests under way, and three that wait."""
    story.is_set(app_requests=2, app_queue=3, app_queue_timeout=1.0)
    return story


def crowd(story: Story, size: int) -> tuple[list[End], list[AppEnd]]:
    """So many clients ask at once; the app has taken the first two. Returns clients and the app's ends."""
    clients = [story.calls() for _ in range(size)]
    for client in clients:
        client.says(GET)
    apps = [story.lends() for _ in story.dialled[:2]]
    for app in apps:
        app.hears(...)
    assert story.dialled == []
    return clients, apps


def in_flight(story: Story) -> tuple[int, int]:
    """The app's requests under way, and those that wait."""
    upstream = story.core.table.routes["shop/web"].upstream
    return upstream.load, upstream.queued


def test_who_waits_is_served_in_the_order_of_asking(narrow: Story) -> None:
    clients, apps = crowd(narrow, 4)
    assert in_flight(narrow) == (2, 2)
    assert narrow.core.counters.queued == 2
    for client, app in zip(clients, apps, strict=False):
        app.says(OK)
        client.hears(..., b"ok")
    assert in_flight(narrow) == (2, 0)
    for client, app in zip(clients[2:], apps, strict=True):
        app.hears(b"GET / HTTP/1.1\r\n", ...)  # over the connections that are there
        app.says(OK)
        client.hears(..., b"ok")
    assert in_flight(narrow) == (0, 0)


def test_who_finds_the_queue_full_is_told_at_once(narrow: Story) -> None:
    clients, _ = crowd(narrow, 6)
    assert in_flight(narrow) == (2, 3)
    answer = clients[-1].hears(b"HTTP/1.1 503 ", ...)
    assert b"X-Router-Error: app_busy\r\n" in answer
    assert b"Retry-After: 1\r\n" in answer
    assert clients[-1].is_kept
    for client in clients[:-1]:
        client.hears_nothing()


def test_nobody_waits_for_longer_than_a_moment(narrow: Story) -> None:
    clients, _ = crowd(narrow, 4)
    narrow.passes(0.8)
    clients[2].hears_nothing()
    narrow.passes(0.4)
    for client in clients[2:]:
        assert b"X-Router-Error: app_busy\r\n" in client.hears(b"HTTP/1.1 503 ", ...)
    assert in_flight(narrow) == (2, 0)


def test_a_newcomer_does_not_overtake_who_waits(narrow: Story) -> None:
    clients, apps = crowd(narrow, 3)
    late = narrow.calls()
    narrow.loop.settle()
    apps[0].transport.inbox.append(OK)
    apps[0].transport.deliver()  # the loop has not turned since: the place is free, and promised
    late.transport.protocol.data_received(GET)
    narrow.loop.settle()
    apps[0].hears(...)
    apps[0].says(OK)
    clients[2].hears(..., b"ok")
    late.hears_nothing()


def test_who_leaves_the_queue_leaves_no_gap(narrow: Story) -> None:
    clients, apps = crowd(narrow, 5)
    clients[2].leaves()
    assert in_flight(narrow) == (2, 2)
    apps[0].says(OK)
    apps[0].hears(b"GET / HTTP/1.1\r\n", ...)
    apps[0].says(OK)
    clients[3].hears(..., b"ok")
    assert narrow.counted()[499, "GET", "http/1.1"] == 1


def test_a_body_waits_with_its_head(narrow: Story) -> None:
    _, apps = crowd(narrow, 2)
    writer = narrow.calls()
    writer.says(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 6\r\n\r\nabc")
    assert not writer.is_heeded
    apps[0].says(OK)
    writer.says(b"def")
    apps[0].hears(b"POST / HTTP/1.1\r\n", ..., b"abcdef")


def test_a_place_is_passed_on_when_the_app_breaks_off_or_the_client_leaves(narrow: Story) -> None:
    clients, apps = crowd(narrow, 4)
    apps[0].resets()
    clients[1].leaves()
    assert in_flight(narrow) == (2, 0)
    for client in clients[2:]:
        app = narrow.lends()
        app.says(OK)
        client.hears(..., b"ok")


def test_a_place_is_passed_on_when_nobody_can_be_reached(narrow: Story) -> None:
    clients = [narrow.calls() for _ in range(4)]
    for client in clients:
        client.says(GET)
    while narrow.dialled:
        narrow.refuses()
    for client in clients:
        client.hears(b"HTTP/1.1 502 ", ...)
    assert in_flight(narrow) == (0, 0)


def test_one_app_does_not_stand_in_anothers_way(narrow: Story) -> None:
    narrow.serves(b"blog.example", route="blog/web", endpoints=(POD,))
    crowd(narrow, 9)
    narrow.calls()
    narrow.client(BLOG)
    narrow.lends().says(OK)
    narrow.client_hears(..., b"ok")


def test_tunnels_count_too(narrow: Story) -> None:
    narrow.is_set(app_queue=0)
    upgrade = GET.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    tunnels = [narrow.calls() for _ in range(2)]
    for tunnel in tunnels:
        tunnel.says(upgrade)
        narrow.lends().says(switched)
    narrow.calls()
    narrow.client(GET)
    narrow.answer("app_busy", 503)
    tunnels[0].leaves()
    narrow.client(GET)
    narrow.lends().says(OK)
    narrow.client_hears(..., b"ok")


def test_more_may_be_allowed_while_some_wait_and_fewer_too(narrow: Story) -> None:
    clients, apps = crowd(narrow, 5)
    narrow.is_set(app_requests=1)
    apps[0].says(OK)
    assert in_flight(narrow) == (1, 3)  # there were too many: nobody takes the place
    narrow.is_set(app_requests=3)
    apps[1].says(OK)
    assert in_flight(narrow) == (1, 2)
    clients[1].hears(..., b"ok")


def test_waiting_for_an_app_that_goes_is_over(narrow: Story) -> None:
    clients, apps = crowd(narrow, 3)
    narrow.publishes(TableChange(0, gone_routes=frozenset({"shop/web"}), gone_hosts=frozenset({b"shop.example"})))
    assert b"X-Router-Error: no_endpoint\r\n" in clients[2].hears(b"HTTP/1.1 503 ", ...)
    for client, app in zip(clients, apps, strict=False):
        app.says(OK)
        client.hears(..., b"ok")


def test_waiting_counts_as_the_routers_own_share(narrow: Story) -> None:
    clients, apps = crowd(narrow, 3)
    narrow.passes(0.5)
    apps[0].says(OK)
    apps[0].says(OK)
    clients[2].hears(..., b"ok")
    waited = narrow.lines()[-1]
    assert waited["overhead_ms"] == pytest.approx(500, abs=1)
    assert waited["ttfb_ms"] == 0


def test_idle_connections_are_bounded_in_all_and_the_oldest_go_first(story: Story) -> None:
    story.is_set(upstream_idle=10)
    story.serves(b"blog.example", route="blog/web", endpoints=(POD_2,))
    for request, size in ((GET, 6), (BLOG, 5)):
        clients = [story.calls() for _ in range(size)]
        for client in clients:
            client.says(request)
        for app in [story.lends() for _ in clients]:
            app.says(OK)
            story.passes(0.1)
    story.passes(0.6)
    assert story.core.counters.upstream_idle == 9
    assert [app.is_kept for app in story.apps] == [False] * 2 + [True] * 9
    story.is_set(upstream_idle=5)
    story.passes(0.6)
    assert [app.is_kept for app in story.apps] == [False] * 7 + [True] * 4
