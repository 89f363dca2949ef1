"""Behind a load balancer that passes bytes on: whom its PROXY header speaks for, and who may send one (hardening P)."""

from __future__ import annotations

import struct

import pytest

from drycc_proxy.listeners.proxy_header import SIGNATURE
from tests.fakes.story import GET, HOST, Story, fields_of

BALANCER = "10.0.0.9"
STRANGER = "203.0.113.66"
LINE = b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n"
BINARY = SIGNATURE + b"\x21\x11\x00\x0c" + bytes([203, 0, 113, 7, 192, 0, 2, 1]) + struct.pack("!HH", 56324, 443)
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def behind(story: Story) -> Story:
    """The operator says that PROXY headers come, and from where."""
    story.is_set(proxy_protocol=True, trusted=("10.0.0.0/24",))
    return story


def outcomes(story: Story) -> dict[str, int]:
    return {outcome: count for outcome, count in story.core.counters.proxy_headers.items() if count}


def asked_by(story: Story) -> tuple[bytes, bytes]:
    """What the app hears about the client; it answers."""
    app = story.lends(reused=bool(story.apps))
    fields = fields_of(app.hears(...))
    app.says(OK)
    story.client_hears(..., b"ok")
    (chain,), (client,) = fields[b"x-forwarded-for"], fields[b"x-real-ip"]
    return chain, client


@pytest.mark.parametrize("header", [LINE, BINARY])
def test_the_client_is_whom_the_header_names(behind: Story, header: bytes) -> None:
    behind.calls(BALANCER)
    behind.client(header + GET)
    assert asked_by(behind) == (b"203.0.113.7", b"203.0.113.7")
    behind.client(GET)
    assert asked_by(behind) == (b"203.0.113.7", b"203.0.113.7")
    assert {line["downstream_remote_address"] for line in behind.lines()} == {"203.0.113.7"}
    assert outcomes(behind) == {"client": 1}
    assert behind.caller.is_kept


@pytest.mark.parametrize("header", [LINE, BINARY])
def test_in_any_pieces(behind: Story, header: bytes) -> None:
    behind.calls(BALANCER)
    behind.client(*(bytes([byte]) for byte in header + GET))
    assert asked_by(behind) == (b"203.0.113.7", b"203.0.113.7")


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x21\x00\x00\x00"])
def test_a_balancer_that_speaks_for_itself_is_the_client(behind: Story, header: bytes) -> None:
    behind.calls(BALANCER)
    behind.client(header + GET)
    assert asked_by(behind) == (b"10.0.0.9", b"10.0.0.9")
    assert outcomes(behind) == {"own": 1}


def test_a_health_check_without_a_header_is_answered(behind: Story) -> None:
    behind.calls(BALANCER)
    behind.client(b"GET /healthz HTTP/1.1\r\nHost: 10.1.2.3\r\n\r\n")
    behind.client_hears(b"HTTP/1.1 200 OK\r\n", ...)
    behind.client(GET)
    assert asked_by(behind) == (b"10.0.0.9", b"10.0.0.9")
    assert outcomes(behind) == {"none": 1}


def test_a_check_that_only_connects_costs_nothing(behind: Story) -> None:
    behind.calls(BALANCER)
    behind.client_leaves()
    assert not behind.core.entering
    assert behind.core.counters.accepted["http"] == 0


def test_a_stranger_without_a_header_is_served(behind: Story) -> None:
    behind.calls(STRANGER)
    behind.client(b"GET / HTTP/1.1\r\nX-Forwarded-For: 127.0.0.1\r\n" + HOST + b"\r\n")
    assert asked_by(behind) == (b"203.0.113.66", b"203.0.113.66")


@pytest.mark.parametrize("header", [LINE, BINARY, LOCAL, b"PROXY UNKNOWN\r\n"])
def test_a_stranger_with_a_header_is_refused(behind: Story, header: bytes) -> None:
    behind.calls(STRANGER)
    behind.client(header + GET)
    behind.answer("untrusted_proxy_header", 400)
    assert not behind.caller.is_kept
    assert outcomes(behind) == {"untrusted": 1}
    (line,) = behind.lines()
    assert (line["downstream_remote_address"], line["error_reason"]) == (STRANGER, "untrusted_proxy_header")


@pytest.mark.parametrize("header", [LINE, BINARY])
def test_nobody_may_send_one_where_they_are_not_expected(story: Story, header: bytes) -> None:
    story.is_set(trusted=("10.0.0.0/24",))
    story.calls(BALANCER)
    story.client(header + GET)
    story.answer("bad_request", 400)
    assert not story.caller.is_kept


@pytest.mark.parametrize("second", [LINE, BINARY, LOCAL])
@pytest.mark.parametrize("first", [LINE, BINARY, LOCAL])
def test_a_second_header_is_refused(behind: Story, first: bytes, second: bytes) -> None:
    behind.calls(BALANCER)
    behind.client(first + second + GET)
    behind.answer("bad_request", 400)
    assert not behind.caller.is_kept


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 203.0.113.7\r\n",
        b"PROXY UNKNOWN " + 100 * b"x",
        SIGNATURE + b"\x21\x11\xff\xff" + bytes(100),
        SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
        SIGNATURE + b"\x21\x41\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x13" + bytes(12) + b"\x03\x00\x04" + b"oops",
    ],
)
def test_a_bad_header_is_refused_at_once(behind: Story, header: bytes) -> None:
    behind.calls(BALANCER)
    behind.client(header)
    behind.answer("bad_proxy_header", 400)
    assert not behind.caller.is_kept
    assert outcomes(behind) == {"bad": 1}


@pytest.mark.parametrize("header", [LINE, BINARY])
def test_a_header_that_drips_is_not_waited_for(behind: Story, header: bytes) -> None:
    """One byte a second, however steady."""
    behind.calls(BALANCER)
    for byte in header[:3]:
        behind.client(bytes([byte]))
        behind.passes(0.9)
    assert not behind.caller.is_cut
    behind.passes(0.5)
    assert behind.caller.is_cut
    assert outcomes(behind) == {"late": 1}
    assert not behind.core.entering


def test_who_says_nothing_at_all_has_the_time_of_any_head(behind: Story) -> None:
    behind.calls(BALANCER)
    behind.passes(9.8)
    assert not behind.caller.is_cut
    behind.passes(0.4)
    assert behind.caller.is_cut
    assert outcomes(behind) == {}


def test_after_its_header_a_connection_has_the_time_of_any_other(behind: Story) -> None:
    behind.calls(BALANCER)
    behind.client(LINE)
    behind.passes(5)
    assert behind.caller.is_kept
    behind.passes(6)
    assert not behind.caller.is_kept


def test_switching_it_on_and_off_concerns_new_connections(story: Story) -> None:
    story.is_set(trusted=("10.0.0.0/24",))
    before = story.calls(BALANCER)
    before.says(GET)
    asked_by(story)
    story.is_set(proxy_protocol=True)
    before.says(GET)
    assert asked_by(story) == (b"10.0.0.9", b"10.0.0.9")
    between = story.calls(BALANCER)
    between.says(LINE + GET)
    assert asked_by(story) == (b"203.0.113.7", b"203.0.113.7")
    story.is_set(proxy_protocol=False)
    between.says(GET)
    assert asked_by(story) == (b"203.0.113.7", b"203.0.113.7")
    story.calls(BALANCER)
    story.client(LINE + GET)
    story.answer("bad_request", 400)


def test_lists_go_by_the_address_in_the_header(behind: Story) -> None:
    behind.serves(deny=("203.0.113.7/32",))
    behind.calls(BALANCER)
    behind.client(LINE + GET)
    behind.answer("access_denied", 403)
    behind.calls(BALANCER)
    behind.client(LINE.replace(b"203.0.113.7", b"203.0.113.8") + GET)
    assert asked_by(behind) == (b"203.0.113.8", b"203.0.113.8")


FORWARDED = b"GET / HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6, 198.51.100.5\r\n" + HOST + b"\r\n"


def test_what_a_stranger_behind_the_balancer_forwards_counts_for_nothing(behind: Story) -> None:
    """The header's client is the peer from then on, and judged as one."""
    behind.calls(BALANCER)
    behind.client(LINE + FORWARDED)
    assert asked_by(behind) == (b"203.0.113.7", b"203.0.113.7")


def test_what_a_trusted_proxy_behind_the_balancer_forwards_is_believed(behind: Story) -> None:
    """client → HTTP proxy at 10.0.0.5 → balancer at 10.0.0.9 → router: one chain, walked from the right."""
    behind.calls(BALANCER)
    behind.client(b"PROXY TCP4 10.0.0.5 192.0.2.1 1 80\r\n" + FORWARDED)
    assert asked_by(behind) == (b"198.51.100.5, 10.0.0.5", b"198.51.100.5")


def test_a_trusted_proxy_may_go_on_without_headers(behind: Story) -> None:
    behind.calls(BALANCER)
    behind.client(FORWARDED)
    assert asked_by(behind) == (b"198.51.100.5, 10.0.0.9", b"198.51.100.5")


def test_an_address_of_ipv6(behind: Story) -> None:
    behind.calls(BALANCER)
    behind.client(b"PROXY TCP6 2001:DB8::0007 ::1 1 80\r\n" + GET)
    assert asked_by(behind) == (b"2001:db8::7", b"2001:db8::7")


def test_waiting_connections_go_when_the_router_does(behind: Story) -> None:
    behind.calls(BALANCER)
    behind.client(LINE[:10])
    for waiting in list(behind.core.entering):
        waiting.abort_now()
    behind.loop.settle()
    assert behind.caller.is_cut
