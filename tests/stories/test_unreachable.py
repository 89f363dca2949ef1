"""Endpoints that cannot be connected to are left out for a while, and come back without anybody paying for it."""

from __future__ import annotations

import errno

import pytest

from drycc_proxy.errors import Failure
from drycc_proxy.routing.definitions import Address
from drycc_proxy.upstreams.endpoint import Endpoint
from drycc_proxy.upstreams.interfaces import PooledConnection
from drycc_proxy.upstreams.outliers import FAILURES
from tests.fakes.story import GET, POD, POD_2, POD_3, AppEnd, Story

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GONE = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
POD_4: Address = ("10.0.0.4", 8080)


def report(story: Story) -> dict[str, bool]:
    """Which endpoints are ejected."""
    upstream = story.core.table.routes["shop/web"].upstream
    return {str(entry["address"]): bool(entry["ejected"]) for entry in upstream.report()}


def ask(story: Story, *dead: Address) -> tuple[AppEnd, list[Address]]:
    """A new client asks; ``dead`` ones refuse whoever dials. Returns who answered and whom the router tried in vain."""
    story.calls()
    story.client(GET)
    refused = []
    while story.dialled[0] in dead:
        refused += story.dialled
        story.refuses()
    app = story.lends()
    app.hears(b"GET / HTTP/1.1\r\n", ...)
    app.says(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")
    return app, refused


def until_ejected(story: Story, dead: Address) -> None:
    """Clients come until the dead endpoint is left out; each of them is served."""
    for _ in range(200):
        ask(story, dead)
        if any(report(story).values()):
            return
    pytest.fail("it was never ejected")


def test_five_failed_connects_in_a_row_eject_an_endpoint(story: Story) -> None:
    story.serves(endpoints=(POD, POD_2, POD_3))
    until_ejected(story, POD)
    counters = story.core.counters.routes["shop/web"]
    assert counters.retries == {Failure.CONNECT_FAILED: FAILURES}
    assert (counters.ejections, counters.ejected) == (1, 1)
    assert report(story) == {"10.0.0.1:8080": True, "10.0.0.2:8080": False, "10.0.0.3:8080": False}
    assert counters.errors == {}
    for _ in range(50):
        assert ask(story, POD)[1] == []


def test_one_good_connect_ends_the_row(story: Story) -> None:
    story.serves(endpoints=(POD, POD_2))
    for _ in range(3):
        refused = 0
        while refused < FAILURES - 1:
            refused += len(ask(story, POD)[1])
        while ask(story)[0].address != POD:
            pass
    assert not any(report(story).values())


def test_when_the_time_is_over_the_router_looks_by_itself_and_keeps_the_connection(story: Story) -> None:
    story.serves(endpoints=(POD, POD_2))
    until_ejected(story, POD)
    story.passes(9.8)
    assert story.dialled == []
    story.passes(0.4)
    assert story.dialled == [POD]
    assert report(story)["10.0.0.1:8080"]  # not before it has answered
    assert ask_another_way(story) == POD_2
    app = story.lends()
    app.hears_nothing()
    assert not any(report(story).values())
    assert app.is_kept
    for _ in range(50):
        story.calls()
        story.client(GET)
        if app.transport.heard:
            return
        story.lends().says(GONE)
    pytest.fail("nobody came to the endpoint that is back")


def ask_another_way(story: Story) -> Address:
    """A client asks while somebody else is dialled; returns who answered."""
    story.calls()
    story.client(GET)
    attempt = story.loop.attempts[-1]
    app = AppEnd(attempt.succeeds(True), story)
    story.apps.append(app)
    story.loop.settle()
    app.says(GONE)
    story.client_hears(b"HTTP/1.1 204 No Content\r\n", ...)
    return app.address


@pytest.mark.parametrize("deaf", [False, True], ids=["refuses", "never answers"])
def test_who_is_not_back_is_left_out_for_twice_as_long(story: Story, deaf: bool) -> None:
    story.serves(endpoints=(POD, POD_2), connect_timeout=1.0)
    until_ejected(story, POD)
    for seconds in (10, 20, 40):
        story.passes(seconds - 0.4)
        assert story.dialled == []
        story.passes(0.6)
        assert story.dialled == [POD]
        if deaf:
            story.passes(1.2)
        else:
            story.refuses()
        assert story.dialled == []
        assert report(story)["10.0.0.1:8080"]
    assert story.core.counters.routes["shop/web"].ejections == 1


def test_one_that_never_answers_is_ejected_like_one_that_refuses(story: Story) -> None:
    story.serves(endpoints=(POD, POD_2), connect_timeout=2.0)
    deaf = 0
    while deaf < FAILURES:
        story.calls()
        story.client(GET)
        if story.dialled == [POD]:
            story.passes(2.2)
            deaf += 1
        app = story.lends()
        assert app.address == POD_2
        app.says(GONE)
        story.client_hears(b"HTTP/1.1 204 No Content\r\n", ...)
    assert report(story)["10.0.0.1:8080"]


def test_never_more_than_half_are_left_out_and_the_one_that_is_left_still_serves(story: Story) -> None:
    story.serves(endpoints=(POD, POD_2, POD_3, POD_4))
    for _ in range(100):
        story.calls()
        story.client(GET)
        while story.dialled and story.dialled != [POD_4]:
            story.refuses()
        if story.dialled:
            story.lends().says(GONE)
            story.client_hears(b"HTTP/1.1 204 No Content\r\n", ...)
        else:
            story.answer("connect_failed", 502)  # three were tried
        if sum(report(story).values()) == 2:
            break
    for _ in range(50):
        assert ask(story, POD, POD_2, POD_3)[0].address == POD_4
    assert sum(report(story).values()) == 2
    assert story.core.counters.routes["shop/web"].ejected == 2


def test_the_only_endpoint_is_never_left_out(story: Story) -> None:
    for _ in range(3 * FAILURES):
        story.client(GET)
        story.refuses()
        story.answer("connect_failed", 502)
    assert not any(report(story).values())
    ask(story)


def test_when_the_others_go_those_that_were_left_out_are_used_again(story: Story) -> None:
    story.serves(endpoints=(POD, POD_2))
    until_ejected(story, POD)
    story.serves(endpoints=(POD,))
    story.calls()
    story.client(GET)
    assert story.dialled == [POD]
    assert story.core.counters.routes["shop/web"].ejected == 0


def test_an_ejected_endpoint_that_the_table_drops_is_not_looked_for(story: Story) -> None:
    story.serves(endpoints=(POD, POD_2))
    until_ejected(story, POD)
    story.serves(endpoints=(POD_2, POD_3))
    story.passes(11)
    assert story.dialled == []
    story.serves(endpoints=(POD, POD_2))
    assert not any(report(story).values())  # the same address, another Pod


def test_a_late_success_brings_it_back_before_its_time(story: Story) -> None:
    story.serves(endpoints=(POD, POD_2))
    clients = [story.calls() for _ in range(2 * FAILURES + 2)]
    for client in clients:
        client.says(GET)
    slow = [attempt for attempt in story.loop.attempts if attempt.address == POD]
    assert len(slow) == FAILURES + 1  # loads are even
    for attempt in slow[1:]:
        attempt.fails(ConnectionRefusedError())
    story.loop.settle()
    assert report(story)["10.0.0.1:8080"]
    slow[0].succeeds(True)
    story.loop.settle()
    assert not any(report(story).values())
    waiting = story.dialled
    story.passes(11)
    assert story.dialled == waiting  # nobody has to look for it any more


def endpoint_at(story: Story, address: Address) -> Endpoint[PooledConnection]:
    return story.core.table.routes["shop/web"].upstream._endpoints[address]


@pytest.mark.parametrize("number", [errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE])
def test_a_lack_of_the_routers_own_is_a_503_and_no_fault_of_the_endpoint(story: Story, number: int) -> None:
    for _ in range(2 * FAILURES):
        story.client(GET)
        story.refuses(OSError(number, "not enough"))
        story.answer("router_exhausted", 503)
        story.passes(1.2)
    assert endpoint_at(story, POD).standing.failures == 0


def test_an_endpoint_without_a_port_left_is_not_tried_again_for_a_second(story: Story) -> None:
    """The kernel would look at every port, each time."""
    story.client(GET)
    story.refuses(OSError(errno.EADDRNOTAVAIL, "no port"))
    story.answer("router_exhausted", 503)
    story.client(GET)
    assert story.dialled == []
    story.answer("router_exhausted", 503)
    story.passes(1.2)
    story.client(GET)
    story.lends().says(OK)
    story.client_hears(..., b"ok")


def test_another_endpoint_has_other_ports(story: Story) -> None:
    story.serves(endpoints=(POD, POD_2))
    story.client(GET)
    [first] = story.dialled
    story.refuses(OSError(errno.EADDRNOTAVAIL, "no port"))
    [second] = story.dialled
    assert second != first
    story.lends().says(OK)
    story.client_hears(..., b"ok")


def test_a_lack_of_descriptors_costs_idle_connections(story: Story) -> None:
    idle = story.keeps_warm()
    story.serves(b"blog.example", route="blog/web", endpoints=(POD_2,))
    story.client(b"GET / HTTP/1.1\r\nHost: blog.example\r\n\r\n")
    story.refuses(OSError(errno.EMFILE, "too many open files"))
    assert not idle.is_kept
