"""Connections are kept, lent again, and never trusted beyond what was seen on them."""

from __future__ import annotations

from tests.fakes.story import GET, HOST, POD, POD_2, AppEnd, Story

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_two_requests_of_one_client_use_one_connection_to_the_app(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    app.hears(b"GET / HTTP/1.1\r\n", ..., b"\r\n\r\n")
    app.says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"Content-Length: 2\r\n", ..., b"\r\n\r\nok")
    story.client(GET)
    again = story.lends(reused=True)
    assert again is app
    again.says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"\r\n\r\nok")
    again.hears(...)
    assert story.caller.is_kept


def test_requests_of_two_clients_at_once_use_two_connections(story: Story) -> None:
    first, second = story.calls(), story.calls()
    first.says(GET)
    second.says(GET)
    assert story.dialled == [POD, POD]
    one, other = story.lends(), story.lends()
    other.says(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond")
    one.says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")
    first.hears(..., b"\r\n\r\nfirst")
    second.hears(..., b"\r\n\r\nsecond")


def test_the_most_recently_used_connection_is_lent_first(story: Story) -> None:
    first, second = story.calls(), story.calls()
    first.says(GET)
    second.says(GET)
    one, other = story.lends(), story.lends()
    for app in (other, one):
        app.hears(...)
        app.says(OK)
    second.says(GET)
    assert story.lends(reused=True) is one
    one.hears(...)


def test_an_app_that_says_close_is_not_asked_again_on_that_connection(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert not app.is_kept
    heard = story.client_hears(b"HTTP/1.1 200 OK\r\n", ...)
    assert b"Connection: close" not in heard  # the app's wish is about the app's connection
    assert story.caller.is_kept


def test_an_app_of_1_0_is_kept_only_when_it_says_so(story: Story) -> None:
    story.client(GET)
    once = story.lends()
    once.says(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert not once.is_kept
    story.client(GET)
    kept = story.lends()
    kept.says(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n")
    assert kept.is_kept
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"HTTP/1.1 200 OK\r\n", ...)


def test_bytes_on_an_idle_connection_close_it(story: Story) -> None:
    app = story.keeps_warm()
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned")
    assert not app.is_kept
    story.client(GET)
    fresh = story.lends()
    fresh.says(OK)
    story.client_hears(..., b"\r\n\r\nok")


def test_bytes_behind_an_answer_close_the_connection_and_reach_nobody(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    app.says(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned")
    assert not app.is_kept
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"\r\n\r\nok")
    story.client(GET)
    assert story.dialled == [POD]


def test_an_idle_connection_that_the_app_closes_is_forgotten(story: Story) -> None:
    app = story.keeps_warm()
    app.closes()
    story.client(GET)
    assert story.dialled == [POD]


def test_an_idle_connection_is_closed_a_second_before_the_app_would(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n")
    story.passes(3.8)
    assert app.is_kept
    story.passes(0.4)
    assert not app.is_kept


def test_an_idle_connection_is_closed_after_a_minute(story: Story) -> None:
    app = story.keeps_warm()
    story.passes(59)
    assert app.is_kept
    story.passes(2)
    assert not app.is_kept


def first_burst(story: Story) -> list[AppEnd]:
    """70 requests at once, and the connections that were made for them."""
    for client in [story.calls() for _ in range(70)]:
        client.says(GET)
    apps = [story.lends() for _ in range(70)]
    for app in apps:
        app.hears(...)
        app.says(OK)
    return apps


def test_connections_of_a_burst_are_kept_for_the_next_one(story: Story) -> None:
    apps = first_burst(story)
    dialled = list(story.dialled)
    story.passes(0.5)
    for client in [story.calls() for _ in apps]:
        client.says(GET)
    for app in apps:
        app.hears(...)
        app.says(OK)
    assert story.dialled == dialled
    assert story.core.counters.upstream_idle == 70


def test_of_those_that_nobody_wanted_for_a_second_64_are_kept_per_endpoint(story: Story) -> None:
    apps = first_burst(story)
    client = story.calls()
    for _ in range(10):
        story.passes(1.1)
        client.says(GET)
        apps[-1].hears(...)
        apps[-1].says(OK)
    assert story.core.counters.upstream_idle == 64
    assert [app.is_kept for app in apps] == [False] * 6 + [True] * 64  # the least recently used went first


def test_a_removed_endpoint_loses_its_idle_connections_at_once(story: Story) -> None:
    app = story.keeps_warm()
    story.serves(endpoints=(POD_2,))
    assert not app.is_kept
    story.client(GET)
    assert story.dialled == [POD_2]


def test_a_busy_connection_of_a_removed_endpoint_finishes_and_closes(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    story.serves(endpoints=(POD_2,))
    assert app.is_kept
    app.says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"\r\n\r\nok")
    assert not app.is_kept


def test_an_endpoint_that_stays_keeps_its_connections_through_a_change(story: Story) -> None:
    app = story.keeps_warm()
    story.serves(endpoints=(POD, POD_2), body_size=1000)
    assert app.is_kept


def test_connections_are_never_shared_between_apps_even_at_one_address(story: Story) -> None:
    story.serves(b"other.example", route="other/web", endpoints=(POD,))
    story.keeps_warm(host=b"shop.example")
    story.client(b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n")
    assert story.dialled == [POD]


def test_a_client_of_1_0_is_answered_and_let_go(story: Story) -> None:
    story.client(b"GET / HTTP/1.0\r\n" + HOST + b"\r\n")
    app = story.lends()
    app.hears(b"GET / HTTP/1.1\r\n", ...)
    app.says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"Connection: close\r\n\r\nok")
    assert not story.caller.is_kept
    assert app.is_kept


def test_a_client_of_1_0_may_ask_to_be_kept(story: Story) -> None:
    story.client(b"GET / HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\n\r\n")
    story.lends().says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"Connection: keep-alive\r\n\r\nok")
    assert story.caller.is_kept


def test_a_client_that_says_close_hears_it_back_and_is_let_go(story: Story) -> None:
    story.client(b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    app = story.lends()
    assert b"connection: close" not in app.hears(b"GET / HTTP/1.1\r\n", ...).lower()
    app.says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"Connection: close\r\n\r\nok")
    assert not story.caller.is_kept
    assert app.is_kept


def test_what_a_client_says_after_the_goodbye_is_not_a_request(story: Story) -> None:
    story.client(b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    story.lends().says(OK)
    story.client_hears(..., b"\r\n\r\nok")
    story.client(GET)
    assert story.dialled == []
    story.client_hears_nothing()


def test_a_client_that_is_idle_for_75_seconds_is_let_go(story: Story) -> None:
    story.client(GET)
    story.lends().says(OK)
    story.client_hears(..., b"ok")
    story.passes(74)
    assert story.caller.is_kept
    story.passes(2)
    assert not story.caller.is_kept
    story.client_hears_nothing()


def test_the_idle_time_of_a_client_is_the_operators_to_set(story: Story) -> None:
    story.is_set(keepalive_timeout=3.0)
    story.client(GET)
    story.lends().says(OK)
    story.client_hears(..., b"ok")
    story.passes(2.8)
    assert story.caller.is_kept
    story.passes(0.4)
    assert not story.caller.is_kept


# ── apps that close idle connections without having said when ─────────────────────────────────────────────────────────


def test_an_idle_connection_that_the_app_ended_is_not_lent_in_the_same_breath(story: Story) -> None:
    app = story.keeps_warm()
    story.calls()
    app.transport.inbox.append(None)
    app.transport.deliver()  # the loop has not turned since
    story.caller.transport.protocol.data_received(GET)
    assert not app.is_kept
    story.loop.settle()
    assert story.dialled == [POD]


def test_an_app_that_closes_twice_after_the_same_time_is_not_waited_for_again(story: Story) -> None:
    for _ in range(2):
        app = story.keeps_warm()
        story.passes(5.0)
        app.closes()
        assert not app.is_kept
    app = story.keeps_warm()
    story.passes(3.8)
    assert app.is_kept
    story.passes(0.4)
    assert not app.is_kept


def test_what_one_connection_taught_holds_for_those_that_are_idle_already(story: Story) -> None:
    first = story.keeps_warm()
    story.passes(2.0)
    first.closes()
    clients = [story.calls() for _ in range(2)]
    for client in clients:
        client.says(GET)
    one, other = story.lends(), story.lends()
    one.says(OK)
    story.passes(0.5)
    other.says(OK)
    story.passes(1.5)
    one.closes()
    assert other.is_kept
    story.passes(0.2)
    assert not other.is_kept  # idle for more than a second: half of what the app waits


def test_a_process_that_ends_does_not_teach_patience(story: Story) -> None:
    clients = [story.calls() for _ in range(5)]
    for client in clients:
        client.says(GET)
    for app in [story.lends() for _ in clients]:
        app.says(OK)
    story.passes(0.3)
    for app in story.apps:
        app.closes()
    app = story.keeps_warm()
    story.passes(59)
    assert app.is_kept


def test_the_operator_says_how_long_idle_connections_are_kept(story: Story) -> None:
    old = story.keeps_warm()
    story.is_set(upstream_idle_timeout=2.0)
    story.client(GET)
    assert story.lends(reused=True) is old
    old.says(OK)
    story.passes(1.8)
    assert old.is_kept
    story.passes(0.4)
    assert not old.is_kept
