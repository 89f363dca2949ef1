"""What the router answers itself: every failure that a request can meet, and what all these answers have in common."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from docs.generate import errors_page
from drycc_proxy.errors import Failure, Side
from tests.fakes.story import GET, HOST, Story, fields_of
from tests.fakes.transport import End

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def says(*pieces: bytes) -> Callable[[Story], None]:
    def meet(story: Story) -> None:
        story.client(*pieces)

    return meet


def set_so(request: bytes = GET, **policy: Any) -> Callable[[Story], None]:
    def meet(story: Story) -> None:
        story.serves(**policy)
        story.client(request)

    return meet


def app_says(answer: bytes) -> Callable[[Story], None]:
    def meet(story: Story) -> None:
        story.client(GET)
        story.lends().says(answer)

    return meet


def connects_late(story: Story) -> None:
    story.client(GET)
    story.passes(31)


def refuses(story: Story) -> None:
    story.client(GET)
    story.refuses()


def refuses_a_port(story: Story) -> None:
    story.client(GET)
    story.refuses(OSError(errno.EADDRNOTAVAIL, "no port"))


def comes_in_a_crowd(story: Story) -> None:
    story.is_set(app_requests=1, app_queue=0)
    story.calls().says(GET)
    story.calls()
    story.client(GET)


def resets(story: Story) -> None:
    story.client(GET)
    story.lends().resets()


def answers_late(story: Story) -> None:
    story.serves(request_timeout=1.0)
    story.client(GET)
    story.lends()
    story.passes(1.2)


def head_late(story: Story) -> None:
    story.client(b"GET")
    story.passes(11)


def body_late(story: Story) -> None:
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n")
    story.lends()
    story.passes(31)


def other_name(story: Story) -> None:
    story.serves(b"other.example", route="other/web")
    story.calls(secure=True, sni=b"shop.example")
    story.client(b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n")


def behind_a_balancer(trusted: str) -> Callable[[Story], None]:
    def meet(story: Story) -> None:
        story.is_set(proxy_protocol=True, trusted=(trusted,))
        story.calls("203.0.113.9")
        story.client(b"PROXY nonsense\r\n" if trusted == "203.0.113.9" else b"PROXY UNKNOWN\r\n")

    return meet


def one_too_many(story: Story) -> None:
    """Two clients share a connection of their proxy; the first one's request is under way on another."""
    story.is_set(trusted=("10.0.0.9",), max_per_client=1)
    forwarded = b"GET / HTTP/1.1\r\nX-Forwarded-For: 203.0.113.7\r\n" + HOST + b"\r\n"
    story.calls("10.0.0.9")
    story.client(forwarded)
    story.calls("10.0.0.9")
    story.client(forwarded)


def in_clear(story: Story) -> None:
    """A client connects to the port for TLS and speaks HTTP."""
    greeted = story.connects()
    story.callers[-1] = End("the client", greeted.transport, story.loop.settle)
    story.client(GET)


MEETINGS: dict[Failure, Callable[[Story], None]] = {
    Failure.BAD_REQUEST: says(b"GET / HTTP/1.1\r\nHost : x\r\n\r\n"),
    Failure.BAD_PROXY_HEADER: behind_a_balancer("203.0.113.9"),
    Failure.UNTRUSTED_PROXY_HEADER: behind_a_balancer("203.0.113.10"),
    Failure.BAD_FRAMING: says(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: x\r\n\r\n"),
    Failure.BAD_HOST: says(b"GET / HTTP/1.1\r\n\r\n"),
    Failure.BAD_CHUNK: says(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n"),
    Failure.HEAD_TOO_LARGE: says(b"GET / HTTP/1.1\r\n" + HOST + 33 * (b"X: " + 1000 * b"x" + b"\r\n") + b"\r\n"),
    Failure.TARGET_TOO_LONG: says(b"GET /" + 17_000 * b"x" + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    Failure.HEAD_TIMEOUT: head_late,
    Failure.BODY_TIMEOUT: body_late,
    Failure.CODING_NOT_IMPLEMENTED: says(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: br, chunked\r\n\r\n"),
    Failure.METHOD_NOT_IMPLEMENTED: says(b"CONNECT shop.example:443 HTTP/1.1\r\n" + HOST + b"\r\n"),
    Failure.METHOD_NOT_ALLOWED: says(b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n"),
    Failure.VERSION_NOT_SUPPORTED: says(b"GET / HTTP/2.0\r\n" + HOST + b"\r\n"),
    Failure.EXPECTATION_FAILED: says(b"GET / HTTP/1.1\r\n" + HOST + b"Expect: a miracle\r\n\r\n"),
    Failure.PLAIN_HTTP: in_clear,
    Failure.TOO_MANY_CONNECTIONS: one_too_many,
    Failure.UNKNOWN_HOST: says(b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n"),
    Failure.MISDIRECTED: other_name,
    Failure.ACCESS_DENIED: set_so(deny=("203.0.113.0/24",)),
    Failure.HTTPS_REQUIRED: set_so(enforce_https=True),
    Failure.MAINTENANCE: set_so(maintenance=True),
    Failure.BODY_TOO_LARGE: set_so(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc", body_size=2),
    Failure.NO_ENDPOINT: set_so(endpoints=()),
    Failure.LOOP_DETECTED: says(b"GET / HTTP/1.1\r\n" + HOST + b"X-Router-Hops: 5\r\n\r\n"),
    Failure.APP_BUSY: comes_in_a_crowd,
    Failure.CONNECT_FAILED: refuses,
    Failure.CONNECT_TIMEOUT: connects_late,
    Failure.UPSTREAM_RESET: resets,
    Failure.BAD_RESPONSE: app_says(b"what?\r\n\r\n"),
    Failure.RESPONSE_HEAD_TOO_LARGE: app_says(b"HTTP/1.1 200 OK\r\n" + 300 * b"X: y\r\n" + b"\r\n"),
    Failure.RESPONSE_TIMEOUT: answers_late,
    Failure.ROUTER_EXHAUSTED: refuses_a_port,
}
WITHOUT_ANSWER = {
    Failure.CLIENT_GONE,  # nobody is there
    Failure.CLIENT_TOO_SLOW,  # nothing gets through
    Failure.RESPONSE_TRUNCATED,  # another answer is under way
    Failure.RESPONSE_STALLED,  # another answer is under way
    Failure.TUNNEL_IDLE,  # the answer was 101: see test_tunnels
    Failure.TUNNEL_LET_GO,  # the answer was 101: see test_places
}
BY_NO_REQUEST = {
    Failure.CLIENT_SILENT,  # of a stream: see tests/wire/test_streams.py
    Failure.TOO_MANY_CONNECTIONS,  # of a stream: see tests/wire/test_streams.py
    Failure.DRAINING,  # nothing is accepted any more
    Failure.OVERLOADED,  # memory would have to be short: see test_hard_times
    Failure.APP_SHARE,  # places would have to be few: see test_places
    Failure.NAMESPACE_SHARE,  # the same
    Failure.CLIENT_SHARE,  # the same
    Failure.INTERNAL_ERROR,  # a bug would be needed
}


def test_every_failure_is_met_or_has_a_reason_not_to_be() -> None:
    assert MEETINGS.keys() | WITHOUT_ANSWER | BY_NO_REQUEST == set(Failure)


@pytest.mark.parametrize("failure", MEETINGS, ids=lambda failure: failure.value)
def test_a_failure_is_named_in_the_answer_the_log_and_the_counters(story: Story, failure: Failure) -> None:
    MEETINGS[failure](story)
    status = 301 if failure is Failure.HTTPS_REQUIRED else failure.status
    heard = story.answer(failure.value, status)
    assert re.search(rf"^\| `{failure.value}` \| [^|]*\b{status}\b", errors_page(), re.MULTILINE)
    fields = fields_of(heard)
    assert fields[b"content-type"] == [b"text/html; charset=utf-8"]
    assert fields[b"cache-control"] == [b"no-store"]
    assert b"server" not in fields
    [identity] = fields[b"x-request-id"]
    assert re.fullmatch(rb"[0-9a-f]{32}", identity)
    assert identity in heard.partition(b"\r\n\r\n")[2]
    assert failure.sentence.encode() in heard.replace(b"&#x27;", b"'")
    [line] = story.lines()
    assert (line["response_code"], line["error_reason"]) == (status, failure.value)
    assert line["request_id"] == identity.decode()
    counters = story.core.counters
    errors = [route.errors for route in (*counters.routes.values(), counters.unrouted) if route.errors]
    assert errors == [{failure: 1}]


@pytest.mark.parametrize("failure", MEETINGS, ids=lambda failure: failure.value)
def test_a_failure_closes_only_when_the_connection_can_no_longer_be_read(story: Story, failure: Failure) -> None:
    MEETINGS[failure](story)
    heard = story.client_hears(...)
    not_http = failure.side is Side.CLIENT or failure is Failure.LOOP_DETECTED  # a loop is taken apart
    assert (b"Connection: close\r\n" in heard) == not_http
    assert story.caller.is_kept != not_http


def test_who_cannot_be_understood_is_logged_by_its_own_address(story: Story) -> None:
    for address in ("203.0.113.1", "203.0.113.2"):
        story.calls(address)
        story.client(b"nonsense\r\n\r\n")
    assert [line["downstream_remote_address"] for line in story.lines()] == ["203.0.113.1", "203.0.113.2"]


def test_json_for_clients_that_prefer_it(story: Story) -> None:
    story.client(b"GET / HTTP/1.1\r\nHost: nobody.example\r\nAccept: application/json\r\nX-Request-Id: abc-1\r\n\r\n")
    heard = story.answer("unknown_host", 404)
    assert fields_of(heard)[b"content-type"] == [b"application/json"]
    assert json.loads(heard.partition(b"\r\n\r\n")[2]) == {
        "error": "unknown_host",
        "status": 404,
        "message": "No app is served under this name.",
        "request_id": "abc-1",
    }


@pytest.mark.parametrize(
    "accept", [b"*/*", b"text/html,application/xhtml+xml,application/xml;q=0.9", b"text/html, application/json", b""]
)
def test_html_for_everybody_else(story: Story, accept: bytes) -> None:
    story.client(b"GET / HTTP/1.1\r\nHost: nobody.example\r\nAccept: " + accept + b"\r\n\r\n")
    assert b"Content-Type: text/html; charset=utf-8\r\n" in story.answer("unknown_host", 404)


def test_head_hears_the_length_and_no_body(story: Story) -> None:
    story.client(b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n")
    with_body = story.answer("unknown_host", 404)
    story.client(b"HEAD / HTTP/1.1\r\nHost: nobody.example\r\n\r\n")
    without = story.client_hears(b"HTTP/1.1 404 Not Found\r\n", ..., b"\r\n\r\n")
    assert without.count(b"\r\n\r\n") == 1
    assert fields_of(without)[b"content-length"] == fields_of(with_body)[b"content-length"]
    story.client(GET)
    story.lends()  # the connection goes on undisturbed


def test_nothing_of_the_request_is_repeated_in_a_page(story: Story) -> None:
    story.client(
        b"GET /<script>alert(1)</script>?<script> HTTP/1.1\r\nHost: nobody.example\r\nReferer: <script>\r\n\r\n"
    )
    assert b"<script>" not in story.answer("unknown_host", 404)


def test_an_id_that_could_be_a_script_is_replaced(story: Story) -> None:
    story.client(b"GET / HTTP/1.1\r\nHost: nobody.example\r\nX-Request-Id: <script>\r\n\r\n")
    assert b"<script>" not in story.answer("unknown_host", 404)


def test_healthz_answers_only_where_no_app_does(story: Story) -> None:
    for path, status in ((b"/healthz", 200), (b"/healthz/", 200), (b"/healthz/x", 404), (b"/healthzx", 404)):
        story.client(b"GET %b HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n" % path)
        story.client_hears(b"HTTP/1.1 %d " % status, ...)
    story.client(b"POST /healthz HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n")
    story.answer("unknown_host", 404)
    story.client(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
    story.lends().hears(b"GET /healthz HTTP/1.1\r\n", ...)


def test_healthz_without_a_host_in_1_0(story: Story) -> None:
    story.client(b"GET /healthz HTTP/1.0\r\n\r\n")
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"Content-Length: 0\r\n", ..., b"Connection: close\r\n\r\n")


def test_options_about_the_server_are_answered_by_the_server(story: Story) -> None:
    story.client(b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n")
    heard = story.client_hears(b"HTTP/1.1 204 No Content\r\n", ..., b"\r\n\r\n")
    assert b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n" in heard
    assert story.caller.is_kept


def test_a_star_is_for_options_only(story: Story) -> None:
    story.client(b"GET * HTTP/1.1\r\n" + HOST + b"\r\n")
    story.answer("bad_request", 400)


@pytest.mark.parametrize("target", [b"shop.example:443", b"/", b"169.254.169.254:80", b"u:secret@shop.example:443"])
def test_connect_is_not_offered_and_its_payload_never_read(story: Story, target: bytes) -> None:
    story.client(b"CONNECT " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n" + GET)
    story.answer("method_not_implemented", 501)
    assert not story.caller.is_kept
    assert story.dialled == []
    assert "secret" not in str(story.lines())


def test_a_password_in_a_refused_target_stays_out_of_the_log(story: Story) -> None:
    story.client(b"GET http://user:secret@shop.example/ HTTP/1.1\r\n" + HOST + b"\r\n")
    story.answer("bad_request", 400)
    assert "secret" not in str(story.lines())


@pytest.mark.parametrize(
    "first",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS on the port for clear text
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + GET,
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + GET,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\n" + GET,
        b" " + GET,
        b"GET / HTTP/1.1\n" + HOST + b"\n",
        b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n",
        b"GET /\r\n\r\n",
        b"GET / http/1.1\r\n" + HOST + b"\r\n",
        b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /a\x00b HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n",
        b"G(T / HTTP/1.1\r\n" + HOST + b"\r\n",
        33 * b"G" + b" / HTTP/1.1\r\n" + HOST + b"\r\n",
    ],
)
def test_what_is_not_http_is_refused_once_and_the_connection_closed(story: Story, first: bytes) -> None:
    story.client(first)
    while not story.caller.transport.heard:
        story.passes(1)  # some beginnings could still become a request
    heard = story.client_hears(b"HTTP/1.1 ", ...)
    assert heard[9:12] in (b"400", b"505", b"408")
    assert heard.count(b"X-Router-Error: ") == 1
    assert not story.caller.is_kept
    assert story.dialled == []
