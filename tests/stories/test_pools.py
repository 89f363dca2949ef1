"""Connections to apps when Pods come and go: nothing of one namespace ever reaches another (hardening M-18, R-20)."""

from __future__ import annotations

import random

import pytest

from drycc_proxy.routing.definitions import Address, Policy, Route, TableChange
from tests.fakes.story import GET, POD, POD_2, POD_3, AppEnd, Story

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BLOG = b"GET / HTTP/1.1\r\nHost: blog.example\r\n\r\n"


def routed(name: str, *endpoints: Address) -> Route:
    namespace, service = name.split("/")
    return Route(name, namespace, namespace, service, endpoints, Policy())


def test_a_removed_endpoint_loses_its_idle_connections_in_the_same_publish(story: Story) -> None:
    story.serves(endpoints=(POD, POD_2))
    idle: dict[Address, AppEnd] = {}
    while len(idle) < 2:  # until both have been chosen
        story.calls()
        story.client(GET)
        if story.dialled:
            app = story.lends()
            idle[app.address] = app
        else:
            app = story.lends(reused=True)
        app.hears(...)
        app.says(OK)
    story.core.table.apply(TableChange(9, routes={"shop/web": routed("shop/web", POD_2)}))
    # The loop has not turned since: it is the publish itself that closed them.
    assert not idle[POD].is_kept
    assert idle[POD_2].is_kept
    assert story.core.counters.upstream_idle == 1


def test_one_address_in_two_namespaces_is_two_pools(story: Story) -> None:
    story.serves(b"blog.example", route="blog/web", endpoints=(POD,))
    shops = story.keeps_warm()
    story.client(BLOG)
    assert story.dialled == [POD]
    blogs = story.lends()
    blogs.hears(b"GET / HTTP/1.1\r\nHost: blog.example\r\n", ...)
    shops.hears_nothing()
    blogs.says(OK)
    story.client_hears(..., b"ok")

    for request, app in ((GET, shops), (BLOG, blogs)):
        story.client(request)
        assert story.lends(reused=True) is app
        app.hears(...)
        app.says(OK)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_a_client_that_is_full_with_the_last_piece_holds_nobody_who_comes_after_it(story: Story, chunked: bool) -> None:
    pieces = [b"a" * 60_000, b"b" * 60_000]
    caller = story.client(GET)
    app = story.lends()
    app.hears(...)
    caller.stops_reading()
    if chunked:
        app.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"ea60\r\n%b\r\n" % pieces[0])
        app.says(b"ea60\r\n%b\r\n0\r\n\r\n" % pieces[1])
    else:
        app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 120000\r\n\r\n" + pieces[0], pieces[1])
    # The answer is complete for the app, though not for its client: the connection serves the next one.
    assert app.is_heeded
    story.calls("198.51.100.2")
    story.client(GET)
    story.lends(reused=True).hears(...)
    app.says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")
    caller.reads_again()
    assert caller.hears(...).count(b"b") >= 60_000


def test_a_connection_in_use_when_its_endpoint_goes_is_closed_after_its_exchange(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    story.serves(endpoints=(POD_2,))
    assert app.is_kept
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
    assert app.is_kept
    app.says(b"lf")
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"half")
    assert not app.is_kept
    assert story.core.counters.upstream_idle == 0


def test_an_address_that_moves_to_another_service_starts_with_fresh_connections(story: Story) -> None:
    story.serves(endpoints=(POD, POD_2))
    story.serves(b"blog.example", route="blog/web", endpoints=(POD_3,))
    story.serves(endpoints=(POD,))
    idle = story.keeps_warm()
    story.client(GET)
    busy = story.lends(reused=True)
    assert busy is idle
    story.publishes(TableChange(0, routes={"shop/web": routed("shop/web", POD_2), "blog/web": routed("blog/web", POD)}))
    reader = story.calls()
    reader.says(BLOG)
    assert story.dialled == [POD]
    blogs = story.lends()
    blogs.hears(b"GET / HTTP/1.1\r\nHost: blog.example\r\n", ...)
    blogs.says(OK)
    reader.hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")
    busy.hears(b"GET / HTTP/1.1\r\nHost: shop.example\r\n", ...)
    busy.says(OK)
    assert not busy.is_kept
    reader.says(BLOG)
    assert story.lends(reused=True) is blogs
    blogs.says(OK)


def test_a_pod_that_moves_while_it_is_dialled_never_hears_its_former_owner(story: Story) -> None:
    """The Pod of shop is gone and a Pod of blog has got its address, before the connection was made."""
    story.serves(b"blog.example", route="blog/web", endpoints=(POD_3,))
    story.client(GET)
    assert story.dialled == [POD]
    story.publishes(TableChange(0, routes={"shop/web": routed("shop/web", POD_2), "blog/web": routed("blog/web", POD)}))
    assert story.dialled == [POD_2]
    app = story.lends()
    app.hears(b"GET / HTTP/1.1\r\nHost: shop.example\r\n", ...)
    app.says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")


def test_a_namespace_that_comes_back_starts_with_fresh_connections(story: Story) -> None:
    idle = story.keeps_warm()
    story.publishes(TableChange(0, gone_routes=frozenset({"shop/web"}), gone_hosts=frozenset({b"shop.example"})))
    story.serves(b"shop.example")
    assert not idle.is_kept
    story.client(GET)
    assert story.dialled == [POD]


@pytest.mark.parametrize("seed", range(25))
def test_whatever_happens_a_connection_has_one_owner_and_nobody_new_comes_to_what_is_gone(
    story: Story, seed: int
) -> None:
    """A random history of two apps that take each other's addresses, with requests and answers in between."""
    fate = random.Random(seed)
    table: dict[str, list[Address]] = {"shop": [POD], "blog": [POD]}
    story.serves(b"blog.example", route="blog/web", endpoints=(POD,))
    owners: dict[AppEnd, bytes] = {}
    busy: list[AppEnd] = []
    retired: set[AppEnd] = set()

    def hear() -> None:
        for app in story.apps:
            heard = app.hears(...)
            if heard:
                host = heard.split(b"Host: ")[1].split(b"\r\n")[0]
                assert owners.setdefault(app, host) == host
                assert app not in retired
                assert app.address in table[host.split(b".")[0].decode()]
                busy.append(app)

    for _ in range(60):
        match fate.randrange(4):
            case 0:
                namespace = fate.choice(("shop", "blog"))
                table[namespace] = fate.sample([POD, POD_2, POD_3], fate.randrange(4))
                name = f"{namespace}/web"
                story.publishes(TableChange(0, routes={name: routed(name, *table[namespace])}))
                retired |= {
                    end
                    for end, host in owners.items()
                    if host.startswith(namespace.encode()) and end.address not in table[namespace]
                }
            case 1:
                host = fate.choice((GET, BLOG))
                story.calls().says(host)
            case 2 if story.dialled:
                story.lends()
            case _ if busy:
                busy.pop(fate.randrange(len(busy))).says(OK)
            case _:
                pass
        hear()
    for app in retired:
        assert app in busy or not app.is_kept
    assert len(owners) > 1
