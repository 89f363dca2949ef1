"""Limits on clients: in all, from one address, per connection; and who goes when places are few (S-06, S-08)."""

from __future__ import annotations

import pytest

from tests.fakes.story import GET, HOST, Story, fields_of
from tests.fakes.transport import End

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PROXY = "10.0.0.9"


def forwarded(client: bytes, version: bytes = b"1.1") -> bytes:
    return b"GET / HTTP/" + version + b"\r\nX-Forwarded-For: " + client + b"\r\n" + HOST + b"\r\n"


def answered(story: Story) -> None:
    """The app answers what it was asked last."""
    app = story.lends(reused=not story.dialled)
    app.hears(...)
    app.says(OK)
    story.client_hears(..., b"ok")


def turned_back(caller: End) -> bool:
    heard = caller.hears(...)
    if not heard:
        return False
    assert heard.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert fields_of(heard)[b"x-router-error"] == [b"too_many_connections"]
    assert not caller.is_kept
    return True


# ── from one address ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_an_address_has_so_many_connections(story: Story) -> None:
    story.is_set(max_per_client=2)
    first = story.calls("203.0.113.7")
    story.calls("203.0.113.7")
    assert turned_back(story.calls("203.0.113.7"))
    assert not turned_back(story.calls("203.0.113.8"))
    first.resets()
    assert not turned_back(story.calls("203.0.113.7"))
    assert story.core.counters.connections_refused == 1
    assert story.core.counters.open_connections["http"] == 3


def test_who_is_turned_back_takes_a_place_until_it_is_gone_and_none_of_its_clients(story: Story) -> None:
    """Its connection lingers, so that it can read its answer whatever it still sends; it counts as nobody's."""
    story.is_set(max_per_client=1)
    first = story.calls()
    late = story.calls()
    late.says(GET, 100_000 * b"x")
    story.passes(1)
    assert turned_back(late)
    assert not late.transport.closing
    assert story.core.admission.connections == 2
    assert story.core.counters.open_connections["http"] == 1
    first.closes()
    story.passes(2)
    assert not turned_back(story.calls())
    late.closes()
    assert late.transport.closing and not late.is_cut
    assert story.core.admission.connections == 1


def test_who_is_turned_back_has_five_seconds_and_goes_first_when_places_are_few(story: Story) -> None:
    story.is_set(max_per_client=1)
    story.calls()
    late, last = story.calls(), story.calls()
    story.passes(4.5)
    last.says(b"x")
    assert not late.transport.closing
    story.passes(0.8)
    assert late.is_cut and not last.is_cut
    story.core.admission.most = 1
    story.core.relieve(story.clock.seconds)
    assert last.is_cut
    story.core.admission.most = 1 << 30


def test_only_so_many_who_are_turned_back_linger(story: Story) -> None:
    """A quarter of the places, as with everybody who is answered and still sends."""
    story.is_set(max_per_client=1)
    story.core.admission.most = 12
    story.calls()
    late = [story.calls() for _ in range(5)]
    assert [caller.is_cut for caller in late] == [True, True, False, False, False]
    assert all(turned_back(caller) for caller in late)
    assert story.core.admission.connections == 4
    story.core.admission.most = 1 << 30


def test_a_router_that_leaves_waits_for_who_was_turned_back(story: Story) -> None:
    story.is_set(max_per_client=1)
    first, late = story.calls(), story.calls()
    story.drains()
    first.closes()
    assert story.core.connections
    late.closes()
    assert not story.core.connections and not story.core.over_limit


def test_a_network_of_ipv6_is_one_client(story: Story) -> None:
    story.is_set(max_per_client=2)
    assert not turned_back(story.calls("2001:db8:0:1::1"))
    assert not turned_back(story.calls("2001:db8:0:1:ffff::2"))
    assert turned_back(story.calls("2001:db8:0:1:5::3"))
    assert not turned_back(story.calls("2001:db8:0:2::1"))


def test_what_is_turned_back_is_not_heard(story: Story) -> None:
    story.is_set(max_per_client=1)
    story.calls()
    late = story.calls()
    late.transport.protocol.data_received(GET)
    late.transport.protocol.eof_received()
    assert turned_back(late)
    assert not story.dialled


def test_without_a_limit_nobody_is_turned_back(story: Story) -> None:
    for _ in range(200):
        assert not turned_back(story.calls())


def test_a_limit_holds_from_when_it_is_set(story: Story) -> None:
    for _ in range(3):
        story.calls()
    story.is_set(max_per_client=2)
    assert turned_back(story.calls())
    assert sum(caller.is_kept for caller in story.callers) == 3
    story.is_set(max_per_client=0)
    assert not turned_back(story.calls())


def test_a_balancer_is_no_client(story: Story) -> None:
    """Who speaks for many is not counted for itself (S-08)."""
    story.is_set(max_per_client=1, trusted=(PROXY,))
    for _ in range(5):
        assert not turned_back(story.calls(PROXY))


def test_the_address_is_that_of_the_proxy_header(story: Story) -> None:
    story.is_set(max_per_client=1, trusted=(PROXY,), proxy_protocol=True)
    line = b"PROXY TCP4 203.0.113.%d 192.0.2.1 1 2\r\n"
    for number, refused in ((7, False), (8, False), (7, True)):
        caller = story.calls(PROXY)
        caller.says(line % number)
        assert turned_back(caller) == refused


def test_clients_behind_a_proxy_are_counted_by_what_they_have_under_way(story: Story) -> None:
    story.is_set(max_per_client=2, trusted=(PROXY,))
    busy = []
    for _ in range(2):
        story.calls(PROXY)
        story.client(forwarded(b"203.0.113.7"))
        busy.append((story.caller, story.lends()))
    story.calls(PROXY)
    story.client(forwarded(b"203.0.113.7"))
    story.answer("too_many_connections", 429)
    assert story.caller.is_kept  # it is the proxy's, who will ask for others over it
    story.client(forwarded(b"203.0.113.8"))
    busy.append((story.caller, story.lends()))
    for caller, app in busy:
        app.hears(...)
        app.says(OK)
        caller.hears(..., b"ok")
    for _ in range(3):  # nothing is under way any more
        story.client(forwarded(b"203.0.113.7"))
        answered(story)
    story.client(GET)  # the proxy for itself
    answered(story)
    assert story.core.counters.connections_refused == 1


@pytest.mark.parametrize("end", ["client", "app", "refused"])
def test_what_ends_badly_is_counted_down_too(story: Story, end: str) -> None:
    story.is_set(max_per_client=1, trusted=(PROXY,))
    for _ in range(3):
        story.calls(PROXY)
        story.client(forwarded(b"203.0.113.7"))
        if end == "refused":
            story.refuses()
            story.answer("connect_failed", 502)
            continue
        app = story.lends()
        if end == "client":
            story.client_leaves()
        else:
            app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            app.resets()
    assert story.core.counters.connections_refused == 0


# ── per connection ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_connection_makes_so_many_requests(story: Story) -> None:
    story.is_set(max_requests=3)
    story.calls()
    for last in (False, False, True):
        story.client(GET)
        app = story.lends(reused=bool(story.apps))
        app.hears(...)
        app.says(OK)
        heard = story.client_hears(..., b"ok")
        assert (b"Connection: close\r\n" in heard) == last
    assert not story.caller.is_kept


def test_pipelined_requests_count(story: Story) -> None:
    story.is_set(max_requests=2)
    story.client(b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n" * 5)
    heard = story.client_hears(...)
    assert heard.count(b"HTTP/1.1 404 ") == 2
    assert heard.count(b"Connection: close") == 1
    assert not story.caller.is_kept


def test_without_a_limit_a_connection_is_kept(story: Story) -> None:
    for _ in range(1200):
        story.client(b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n")
        story.client_hears(b"HTTP/1.1 404 ", ...)
    assert story.caller.is_kept


# ── in all ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_longest_idle_go_first(story: Story) -> None:
    story.core.admission.allow(10, 100_000, 0)
    idle = []
    for _ in range(9):
        idle.append(story.calls())
        story.passes(0.5)
    assert story.core.relieve(story.clock.seconds) == 1
    story.loop.settle()
    assert [caller.is_kept for caller in idle] == [False] + 8 * [True]
    assert story.core.counters.idle_closed == 1


def test_who_was_served_long_ago_is_idle_longer_than_who_came_just_now(story: Story) -> None:
    """Whatever time each of them still had."""
    served = story.calls()
    story.client(GET)
    answered(story)
    story.passes(3)
    fresh = story.calls()
    story.passes(1.5)
    story.core.admission.allow(2, 100_000, 0)
    assert story.core.relieve(story.clock.seconds) == 1
    story.loop.settle()
    assert (served.is_kept, fresh.is_kept) == (False, True)


def test_who_is_at_work_stays_and_so_does_who_has_just_come(story: Story) -> None:
    story.core.admission.allow(1, 100_000, 0)
    waiting = story.calls()
    waiting.says(GET)
    app = story.lends()
    begun = story.calls()
    begun.says(b"GET / HT")
    story.passes(2)
    fresh = story.calls()
    story.passes(0.3)
    assert story.core.relieve(story.clock.seconds) == 0
    app.hears(...)
    app.says(OK)
    waiting.hears(..., b"ok")
    story.passes(0.3)
    assert story.core.relieve(story.clock.seconds) == 1
    story.loop.settle()
    assert (waiting.is_kept, begun.is_kept, fresh.is_kept) == (True, True, False)


def test_under_pressure_nobody_is_idle_for_long(story: Story) -> None:
    story.core.admission.allow(100, 100_000, 0)
    idle = [story.calls() for _ in range(5)]
    story.passes(5.1)
    assert all(caller.is_kept for caller in idle)
    assert story.core.relieve(story.clock.seconds) == 5  # only called when there is pressure
    story.loop.settle()
    assert not any(caller.is_kept for caller in idle)


def test_who_waits_at_the_entrance_takes_a_place(story: Story) -> None:
    story.is_set(proxy_protocol=True, trusted=(PROXY,))
    story.calls(PROXY)
    assert (story.core.admission.connections, story.core.admission.clients) == (1, 0)
    story.client(b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\r\n")
    assert (story.core.admission.connections, story.core.admission.clients) == (1, 1)
    story.client_leaves()
    assert (story.core.admission.connections, story.core.admission.clients) == (0, 0)


def test_a_thousand_requests_in_one_segment_are_one_at_a_time(story: Story) -> None:
    """S-10: what is sent at once waits in a bounded buffer, and one request is under way."""
    story.calls()
    story.client(GET * 1000)
    assert story.core.counters.in_flight == 1
    app = story.lends()
    for _ in range(999):
        app.hears(b"GET / HTTP/1.1\r\n", ...)
        app.says(OK)
    app.hears(b"GET / HTTP/1.1\r\n", ...)
    app.says(OK)
    assert story.client_hears(...).count(b"HTTP/1.1 200 OK") == 1000
    assert len(story.apps) == 1
