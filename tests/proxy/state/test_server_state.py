"""What all connections share: counting and logging of exchanges that are over."""

from __future__ import annotations

import pytest

from drycc_proxy.errors import Failure
from tests.fakes.story import GET, HOST, Story

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_a_request_is_counted_by_status_method_and_protocol(story: Story) -> None:
    for method, version, label, protocol in (
        (b"GET", b"1.1", "GET", "http/1.1"),
        (b"POST", b"1.0", "POST", "http/1.0"),
        (b"PROPFIND", b"1.1", "other", "http/1.1"),
        (b"purge", b"1.1", "other", "http/1.1"),
    ):
        story.calls()
        story.client(method + b" / HTTP/" + version + b"\r\n" + HOST + b"\r\n")
        app = story.lends(reused=True) if story.apps else story.lends()
        app.hears(...)
        app.says(OK)
        assert story.counted()[200, label, protocol] >= 1
    assert sum(story.counted().values()) == 4


def test_bytes_are_those_of_the_bodies(story: Story) -> None:
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc")
    story.lends().says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    counters = story.core.counters.routes["shop/web"]
    assert (counters.request_bytes, counters.response_bytes) == (3, 5)


def test_what_met_no_route_is_counted_together(story: Story) -> None:
    story.client(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
    story.client(b"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n")
    story.client(b"nonsense\r\n\r\n")
    unrouted = story.core.counters.unrouted
    assert unrouted.requests == {(404, "GET", "http/1.1"): 2, (400, "other", "http/1.1"): 1}
    assert unrouted.errors == {Failure.UNKNOWN_HOST: 2, Failure.BAD_REQUEST: 1}
    assert story.core.counters.routes["shop/web"].requests == {}


def test_times_are_told_apart(story: Story) -> None:
    """Two seconds to connect, one to answer, three for the body."""
    story.client(GET)
    story.passes(2)
    app = story.lends()
    story.passes(1)
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
    story.passes(3)
    app.says(b"k")
    counters = story.core.counters
    assert counters.overhead.total == pytest.approx(2)
    assert counters.header.total == pytest.approx(1)
    assert counters.routes["shop/web"].duration.total == pytest.approx(6)
    assert counters.connect.total == pytest.approx(2)
    [line] = story.lines()
    assert (line["overhead_ms"], line["ttfb_ms"], line["duration_ms"]) == (2000, 1000, 6000)


def test_own_answers_have_no_time_of_an_app(story: Story) -> None:
    story.serves(maintenance=True)
    story.client(GET)
    assert sum(story.core.counters.header.counts) == 0
    assert sum(story.core.counters.overhead.counts) == 0
    [line] = story.lines()
    assert (line["overhead_ms"], line["ttfb_ms"]) == (None, None)


def test_connections_are_counted_by_listener(story: Story) -> None:
    story.calls()
    story.calls(secure=True, sni=b"shop.example")
    counters = story.core.counters
    assert counters.accepted == counters.open_connections == {"http": 1, "https": 1}
    story.client_leaves()
    assert counters.accepted == {"http": 1, "https": 1}
    assert counters.open_connections == {"http": 1, "https": 0}


def test_connections_to_apps_are_counted(story: Story) -> None:
    counters = story.core.counters
    app = story.keeps_warm()
    assert (counters.upstream_connects, counters.upstream_open, counters.upstream_idle) == (1, 1, 1)
    story.client(GET)
    assert (counters.upstream_reused, counters.upstream_idle) == (1, 0)
    app.hears(...)
    app.says(OK)
    app.closes()
    assert (counters.upstream_open, counters.upstream_idle) == (0, 0)


def test_an_exchange_is_in_flight_until_it_is_over(story: Story) -> None:
    story.client(GET)
    assert story.core.counters.in_flight == 1
    story.lends().says(OK)
    assert story.core.counters.in_flight == 0


def test_without_a_log_nothing_is_gathered(story: Story) -> None:
    story.is_set(log_enabled=False)
    story.client(GET)
    story.lends().says(OK)
    assert story.lines() == []
    assert story.counted() == {(200, "GET", "http/1.1"): 1}
