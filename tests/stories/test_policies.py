"""What an app's owner asked for: https, maintenance, access, size, fields of every answer (contract 3 and 5)."""

from __future__ import annotations

from typing import Any

import pytest

from drycc_proxy.http.forwarding import route_fields
from tests.fakes.story import GET, HOST, Story, fields_of

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"PROPFIND"]
HSTS = b"max-age=15552000; includeSubDomains"


@pytest.mark.parametrize("method", METHODS)
def test_https_is_enforced_for_every_method(story: Story, method: bytes) -> None:
    story.serves(enforce_https=True)
    story.client(method + b" /a%20b?q=1&r=%2f HTTP/1.1\r\nHost: Shop.Example:8080\r\n\r\n")
    heard = story.answer("https_required", 301 if method in (b"GET", b"HEAD") else 308)
    assert fields_of(heard)[b"location"] == [b"https://shop.example/a%20b?q=1&r=%2f"]
    assert story.caller.is_kept


def test_the_redirect_names_the_public_port_of_https(story: Story) -> None:
    story.serves(enforce_https=True)
    story.client(GET)
    story.answer("https_required", 301)
    for port, location in ((8443, b"https://shop.example:8443/"), (443, b"https://shop.example/")):
        story.is_set(https_port=port)  # while the connection is open
        story.client(GET)
        assert fields_of(story.answer("https_required", 301))[b"location"] == [location]
    story.is_set(https_port=8443)
    story.client(b"POST /a HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\nContent-Length: 0\r\n\r\n")
    story.answer("unknown_host", 404)
    story.serves(b"[2001:db8::1]", route="six/web", enforce_https=True)
    story.client(b"POST /a HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\nContent-Length: 0\r\n\r\n")
    assert fields_of(story.answer("https_required", 308))[b"location"] == [b"https://[2001:db8::1]:8443/a"]


def test_over_tls_nothing_is_redirected(story: Story) -> None:
    story.serves(enforce_https=True)
    story.calls(secure=True, sni=b"shop.example")
    story.client(GET)
    story.lends()


def test_a_stranger_cannot_claim_https(story: Story) -> None:
    story.serves(enforce_https=True)
    story.client(b"GET / HTTP/1.1\r\n" + HOST + b"X-Forwarded-Proto: https\r\n\r\n")
    story.answer("https_required", 301)


def test_a_trusted_peer_can(story: Story) -> None:
    story.serves(enforce_https=True)
    story.is_set(trusted=("203.0.113.7/32",))
    story.client(b"GET / HTTP/1.1\r\n" + HOST + b"X-Forwarded-Proto: https\r\n\r\n")
    story.lends()


def test_a_redirect_never_leaves_the_host(story: Story) -> None:
    story.serves(enforce_https=True)
    story.client(b"GET //evil.example/%2e%2e HTTP/1.1\r\n" + HOST + b"\r\n")
    [location] = fields_of(story.answer("https_required", 301))[b"location"]
    assert location == b"https://shop.example//"


def test_hsts_is_said_on_https_only(story: Story) -> None:
    story.serves(hsts=HSTS)
    story.client(GET)
    app = story.lends()
    app.says(OK)
    story.caller.hears_without(b"Strict-Transport-Security")
    story.calls(secure=True, sni=b"shop.example")
    story.client(GET)
    app.says(OK)
    assert fields_of(story.client_hears(...))[b"strict-transport-security"] == [HSTS]


def test_hsts_is_said_behind_a_trusted_peer_that_speaks_https(story: Story) -> None:
    story.serves(hsts=HSTS)
    story.is_set(trusted=("203.0.113.7/32",))
    story.client(b"GET / HTTP/1.1\r\n" + HOST + b"X-Forwarded-Proto: https\r\n\r\n")
    story.lends().says(OK)
    assert fields_of(story.client_hears(...))[b"strict-transport-security"] == [HSTS]


def test_hsts_stands_on_own_answers_too(story: Story) -> None:
    story.serves(hsts=HSTS, maintenance=True)
    story.calls(secure=True, sni=b"shop.example")
    story.client(GET)
    assert fields_of(story.answer("maintenance", 503))[b"strict-transport-security"] == [HSTS]


def test_the_referrer_policy_stands_on_every_answer(story: Story) -> None:
    story.serves(referrer_policy=b"no-referrer")
    story.client(GET)
    app = story.lends()
    app.says(OK)
    assert fields_of(story.client_hears(...))[b"referrer-policy"] == [b"no-referrer"]
    story.serves(referrer_policy=b"no-referrer", maintenance=True)
    story.client(GET)
    assert fields_of(story.answer("maintenance", 503))[b"referrer-policy"] == [b"no-referrer"]


RIVALS = b"strict-Transport-security: max-age=1\r\nREFERRER-POLICY: unsafe-url\r\n"


@pytest.mark.parametrize("framing", [
    b"Content-Length: 2\r\n\r\nok", b"Date: then\r\nContent-Length: 2\r\n\r\nok",
    b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
])  # fmt: skip
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_field_that_app_and_router_both_set_appears_once(story: Story, framing: bytes, version: bytes) -> None:
    """Every name that the router adds to an app's responses: the router's value stands, with every form of head."""
    story.serves(hsts=HSTS, referrer_policy=b"no-referrer")
    names = [line.partition(b":")[0] for line in route_fields(b"no-referrer", HSTS).split(b"\r\n")[:-1]]
    rivals = b"".join(b"%b: the app's\r\n%b: again\r\n" % (name.lower(), name.upper()) for name in names)
    app = None
    for _ in range(3):  # a head that repeats is judged once
        story.calls(secure=True, sni=b"shop.example")
        story.client(b"GET / HTTP/%b\r\nConnection: keep-alive\r\n" % version + HOST + b"\r\n")
        app = story.lends(reused=app is not None)
        app.hears(...)
        app.says(b"HTTP/1.1 200 OK\r\nX-Before: 1\r\n" + rivals + b"X-Behind: 2\r\n" + framing)
        heard = story.client_hears(b"HTTP/1.1 200 OK\r\n", ...)
        fields = fields_of(heard)
        assert {name: values for name, values in fields.items() if len(values) > 1} == {}
        assert [fields[name.lower()] for name in names] == [[b"no-referrer"], [HSTS]]
        assert (fields[b"x-before"], fields[b"x-behind"]) == ([b"1"], [b"2"])
        assert b"ok" in heard
        assert app.is_kept


def test_what_the_router_does_not_set_is_the_apps_to_say(story: Story) -> None:
    story.serves(hsts=HSTS)
    story.client(GET)  # in clear: no Strict-Transport-Security of the router's
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\n" + RIVALS + b"Content-Length: 2\r\n\r\nok")
    fields = fields_of(story.client_hears(...))
    assert fields[b"strict-transport-security"] == [b"max-age=1"]
    assert fields[b"referrer-policy"] == [b"unsafe-url"]
    story.serves(hsts=b"", referrer_policy=b"origin")  # a change counts for a head that was judged before
    story.client(GET)
    app.says(b"HTTP/1.1 200 OK\r\n" + RIVALS + b"Content-Length: 2\r\n\r\nok")
    fields = fields_of(story.client_hears(...))
    assert fields[b"strict-transport-security"] == [b"max-age=1"]
    assert fields[b"referrer-policy"] == [b"origin"]


def test_a_field_that_both_set_appears_once_on_a_101_too(story: Story) -> None:
    story.serves(referrer_policy=b"origin")
    story.client(b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    app = story.lends()
    app.says(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + RIVALS + b"\r\n")
    fields = fields_of(story.client_hears(b"HTTP/1.1 101 ", ...))
    assert fields[b"referrer-policy"] == [b"origin"]
    assert fields[b"strict-transport-security"] == [b"max-age=1"]


@pytest.mark.parametrize("method", METHODS)
def test_maintenance_is_for_every_method(story: Story, method: bytes) -> None:
    story.serves(maintenance=True)
    story.client(method + b" / HTTP/1.1\r\n" + HOST + b"\r\n")
    assert fields_of(story.answer("maintenance", 503))[b"retry-after"] == [b"120"]
    assert story.dialled == []


def test_an_app_may_bring_its_own_maintenance_page(story: Story) -> None:
    story.serves(maintenance=True, maintenance_page=b"<h1>Back at noon</h1>")
    story.client(GET)
    assert story.answer("maintenance", 503).endswith(b"\r\n\r\n<h1>Back at noon</h1>")


def test_maintenance_is_believed_even_without_endpoints(story: Story) -> None:
    story.serves(maintenance=True, endpoints=())
    story.client(GET)
    story.answer("maintenance", 503)


def test_who_is_on_the_deny_list_is_refused(story: Story) -> None:
    story.serves(deny=("203.0.113.0/24", "2001:db8::/32"))
    for address, allowed in (("203.0.113.9", False), ("203.0.114.9", True), ("2001:db8::1", False), ("::1", True)):
        story.calls(address)
        story.client(GET)
        if allowed:
            story.lends().says(OK)
            story.client_hears(b"HTTP/1.1 200 OK\r\n", ...)
            story.serves(deny=("203.0.113.0/24", "2001:db8::/32"), endpoints=(("10.0.0.7", 1),))
        else:
            story.answer("access_denied", 403)


def test_with_an_allow_list_only_its_members_come(story: Story) -> None:
    story.serves(allow=("203.0.113.7/32",))
    story.calls("203.0.113.8")
    story.client(GET)
    story.answer("access_denied", 403)
    story.calls("203.0.113.7")
    story.client(GET)
    story.lends()


def test_an_empty_allow_list_allows_nobody(story: Story) -> None:
    story.serves(allow=())
    story.client(GET)
    story.answer("access_denied", 403)


def test_the_deny_list_wins_over_the_allow_list(story: Story) -> None:
    story.serves(allow=("203.0.113.0/24",), deny=("203.0.113.7/32",))
    story.client(GET)
    story.answer("access_denied", 403)


def test_an_address_in_its_ipv6_disguise_is_the_same_address(story: Story) -> None:
    story.serves(deny=("203.0.113.7/32",))
    story.calls("::ffff:203.0.113.7")
    story.client(GET)
    story.answer("access_denied", 403)


def test_access_is_asked_about_the_client_behind_a_trusted_peer(story: Story) -> None:
    story.is_set(trusted=("10.0.0.0/8",))
    story.serves(deny=("203.0.113.0/24",))
    story.calls("10.1.1.1")
    story.client(b"GET / HTTP/1.1\r\n" + HOST + b"X-Forwarded-For: 203.0.113.99\r\n\r\n")
    story.answer("access_denied", 403)
    story.client(b"GET / HTTP/1.1\r\n" + HOST + b"X-Forwarded-For: 203.0.113.99, 198.51.100.1\r\n\r\n")
    story.lends()


def test_a_stranger_cannot_talk_itself_into_the_allow_list(story: Story) -> None:
    story.serves(allow=("10.0.0.0/8",))
    story.client(b"GET / HTTP/1.1\r\n" + HOST + b"X-Forwarded-For: 10.0.0.1\r\nX-Real-IP: 10.0.0.1\r\n\r\n")
    story.answer("access_denied", 403)


@pytest.mark.parametrize(
    ("policy", "answer"),
    [
        ({"allow": (), "enforce_https": True, "maintenance": True, "endpoints": ()}, ("access_denied", 403)),
        ({"enforce_https": True, "maintenance": True, "endpoints": ()}, ("https_required", 308)),
        ({"maintenance": True, "endpoints": (), "body_size": 1}, ("maintenance", 503)),
        ({"endpoints": (), "body_size": 1}, ("no_endpoint", 503)),
        ({"body_size": 1}, ("body_too_large", 413)),
    ],
)
def test_the_order_of_the_questions(story: Story, policy: dict[str, Any], answer: tuple[str, int]) -> None:
    story.serves(**policy)
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc")
    story.answer(*answer)


def test_a_body_of_the_allowed_size_passes(story: Story) -> None:
    story.serves(body_size=3)
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc")
    story.lends().hears(..., b"abc")


def test_a_body_that_is_said_to_be_too_large_reaches_no_app(story: Story) -> None:
    story.serves(body_size=3)
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\n")
    story.answer("body_too_large", 413)
    assert story.dialled == []


def test_a_body_that_turns_out_too_large_is_cut_off_from_the_app(story: Story) -> None:
    story.serves(body_size=10)
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n")
    app = story.lends()
    app.hears(..., b"8\r\n12345678\r\n")
    story.client(b"3\r\nabc\r\n0\r\n\r\n")
    assert b"Connection: close\r\n" in story.answer("body_too_large", 413)
    assert app.is_cut
    app.hears_nothing()


def test_a_chunked_body_that_came_whole_and_is_too_large(story: Story) -> None:
    story.serves(body_size=3)
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n")
    story.answer("body_too_large", 413)
    assert story.dialled == []


def test_a_chunked_body_of_exactly_the_allowed_size(story: Story) -> None:
    story.serves(body_size=4)
    story.client(
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", b"2\r\ncd\r\n0\r\n\r\n"
    )
    app = story.lends()
    app.hears(..., b"0\r\n\r\n")
    app.says(OK)
    story.client_hears(..., b"ok")


def test_a_body_that_turns_out_too_large_after_the_answer_began_breaks_it_off(story: Story) -> None:
    story.serves(body_size=4)
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    story.client(b"3\r\nabc\r\n")
    story.client_hears(..., b"half")
    assert story.caller.is_cut
    assert app.is_cut


def test_request_start_is_added_when_asked_for(story: Story) -> None:
    story.serves(request_start=True)
    story.client(b"GET / HTTP/1.1\r\n" + HOST + b"X-Request-Start: t=1\r\n\r\n")
    assert fields_of(story.lends().hears(...))[b"x-request-start"] == [b"t=1790000000.000"]


def test_request_start_may_be_asked_for_by_the_operator(story: Story) -> None:
    story.is_set(request_start=True)
    story.passes(1.5)
    story.client(GET)
    app = story.lends()
    assert fields_of(app.hears(...))[b"x-request-start"] == [b"t=1790000001.500"]
    app.says(OK)
    story.is_set(request_start=False)
    story.client(GET)
    assert b"x-request-start" not in fields_of(app.hears(...))


def test_request_start_of_a_trusted_peer_is_kept_and_said_once(story: Story) -> None:
    """The peer had the request first."""
    story.serves(request_start=True)
    story.is_set(trusted=("203.0.113.7/32",))
    story.client(b"GET / HTTP/1.1\r\n" + HOST + b"X-Request-Start: t=1\r\nX-Request-Start: t=2\r\n\r\n")
    app = story.lends()
    assert fields_of(app.hears(...))[b"x-request-start"] == [b"t=1"]
    app.says(OK)
    story.client(GET)
    assert fields_of(app.hears(...))[b"x-request-start"] == [b"t=1790000000.000"]


def test_a_client_cannot_say_when_its_request_started(story: Story) -> None:
    story.client(b"GET / HTTP/1.1\r\n" + HOST + b"X-Request-Start: t=1\r\nX_Request_Start: t=2\r\n\r\n")
    story.lends().hears_without(b"request-start", b"request_start")
