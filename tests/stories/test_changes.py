"""Changes are published under traffic: each request keeps the table that it began with."""

from __future__ import annotations

from drycc_proxy.routing.definitions import TableChange
from tests.fakes.story import GET, HOST, POD, POD_2, Story

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_a_request_under_way_keeps_its_route(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    story.serves(maintenance=True)
    app.says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")
    story.client(GET)
    story.answer("maintenance", 503)


def test_the_next_request_of_the_same_connection_meets_the_new_table(story: Story) -> None:
    story.client(GET)
    story.lends().says(OK)
    story.serves(b"shop.example", route="shop/new", endpoints=(POD_2,))
    story.client(GET)
    assert story.dialled == [POD_2]


def test_a_body_under_way_keeps_the_limit_it_began_with(story: Story) -> None:
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
    app = story.lends()
    story.serves(body_size=2)
    story.client(b"5\r\nhello\r\n0\r\n\r\n")
    app.says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")


def test_a_route_that_goes_lets_its_requests_finish(story: Story) -> None:
    idle = story.keeps_warm()
    story.client(GET)
    app = story.lends(reused=True)
    story.publishes(TableChange(0, gone_routes=frozenset({"shop/web"}), gone_hosts=frozenset({b"shop.example"})))
    assert app is idle
    app.says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")
    assert not app.is_kept
    story.client(GET)
    story.answer("unknown_host", 404)


def test_a_route_that_goes_closes_what_is_idle(story: Story) -> None:
    app = story.keeps_warm()
    story.publishes(TableChange(0, gone_routes=frozenset({"shop/web"}), gone_hosts=frozenset({b"shop.example"})))
    assert not app.is_kept


def test_no_endpoint_left_is_a_503_and_a_new_one_serves_at_once(story: Story) -> None:
    story.serves(endpoints=())
    story.client(GET)
    assert b"Retry-After: 5\r\n" in story.answer("no_endpoint", 503)
    story.serves(endpoints=(POD_2,))
    story.client(GET)
    assert story.dialled == [POD_2]


def test_the_last_endpoint_goes_while_it_is_dialled(story: Story) -> None:
    story.client(GET)
    story.serves(endpoints=())
    assert story.dialled == []
    assert b"Retry-After: 5\r\n" in story.answer("no_endpoint", 503)


def test_the_last_endpoint_goes_before_a_retry(story: Story) -> None:
    story.keeps_warm()
    story.client(GET)
    app = story.lends(reused=True)
    story.serves(endpoints=())
    app.resets()
    assert b"Retry-After: 5\r\n" in story.answer("no_endpoint", 503)


def test_an_endpoint_that_goes_while_it_is_dialled_is_left_for_one_that_is_there(story: Story) -> None:
    story.client(GET)
    story.serves(endpoints=(POD_2,))
    assert story.dialled == [POD_2]
    story.lends().says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")


def test_a_refusal_is_followed_by_an_endpoint_of_now(story: Story) -> None:
    story.client(GET)
    story.serves(endpoints=(POD, POD_2))
    story.refuses()
    assert story.dialled == [POD_2]


def test_a_route_that_goes_leaves_a_second_to_those_who_are_being_connected(story: Story) -> None:
    """They have nowhere else to go; and a second is too short for the address to be somebody else's by then."""
    quick, slow = story.calls(), story.calls()
    quick.says(GET)
    slow.says(GET)
    story.publishes(TableChange(0, gone_routes=frozenset({"shop/web"}), gone_hosts=frozenset({b"shop.example"})))
    app = story.lends()
    app.says(OK)
    quick.hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")
    assert not app.is_kept
    assert story.dialled == [POD]
    story.passes(1.2)
    assert story.dialled == []
    slow.hears(b"HTTP/1.1 504 ", ...)


def test_operator_settings_hold_from_the_next_request_on(story: Story) -> None:
    story.client(GET)
    story.lends().says(OK)
    story.client_hears(..., b"ok")
    story.is_set(request_ids=False)
    story.client(GET)
    story.apps[0].says(OK)
    assert b"X-Request-Id" not in story.client_hears(..., b"ok")


def test_trust_that_is_given_reaches_open_connections(story: Story) -> None:
    story.calls("10.9.9.9")
    story.client(b"GET / HTTP/1.1\r\n" + HOST + b"X-Forwarded-For: 203.0.113.1\r\n\r\n")
    app = story.lends()
    assert b"X-Forwarded-For: 10.9.9.9\r\n" in app.hears(...)
    app.says(OK)
    story.is_set(trusted=("10.0.0.0/8",))
    story.client(b"GET / HTTP/1.1\r\n" + HOST + b"X-Forwarded-For: 203.0.113.1\r\n\r\n")
    assert b"X-Forwarded-For: 203.0.113.1, 10.9.9.9\r\n" in app.hears(...)
    app.says(OK)
    story.client_hears(...)


def test_counters_survive_a_change_and_go_with_the_route(story: Story) -> None:
    story.client(GET)
    story.lends().says(OK)
    story.serves(endpoints=(POD_2,))
    assert story.counted() == {(200, "GET", "http/1.1"): 1}
    story.publishes(TableChange(0, gone_routes=frozenset({"shop/web"}), gone_hosts=frozenset({b"shop.example"})))
    assert "shop/web" not in story.core.counters.routes
