"""The field blocks that go to apps and the identities of requests."""

from __future__ import annotations

import re

import pytest

from drycc_proxy.http.client_address import NetworkSet
from drycc_proxy.http.forwarding import Peer, RequestIds, build_outgoing, printable, route_fields
from drycc_proxy.http.messages import RequestFields
from drycc_proxy.http1.parser import parse_fields

NOBODY = NetworkSet([])
TRUSTED = NetworkSet(["10.0.0.0/8"])


def outgoing(block: bytes, address: str = "203.0.113.7", *, secure: bool = False) -> RequestFields:
    fields = parse_fields(block, 100)
    build_outgoing(fields, Peer(address, b"443", secure, address in TRUSTED), TRUSTED)
    return fields


def test_the_block_of_a_stranger() -> None:
    fields = outgoing(b"Host: a.example\r\nAccept: x\r\nX-Forwarded-For: lie\r\nX-Forwarded-Proto: https")
    assert sorted(fields.outgoing.split(b"\r\n")) == [
        b"",
        b"Accept: x",
        b"Host: a.example",
        b"X-Forwarded-For: 203.0.113.7",
        b"X-Forwarded-Host: a.example",
        b"X-Forwarded-Port: 80",
        b"X-Forwarded-Proto: http",
        b"X-Real-IP: 203.0.113.7",
        b"X-Router-Hops: 1",
    ]
    assert fields.outgoing.startswith(b"Host: a.example\r\n")
    assert fields.outgoing.endswith(b"\r\n")
    assert (fields.client, fields.scheme) == ("203.0.113.7", b"http")


def test_the_block_of_a_trusted_peer() -> None:
    fields = outgoing(
        b"Host: a.example\r\nX-Forwarded-For: 198.51.100.9\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 1.1.1.1\r\n"
        b"X-Forwarded-Host: b.example\r\nForwarded: for=x",
        "10.0.0.1",
    )
    assert sorted(fields.outgoing.split(b"\r\n")) == [
        b"",
        b"Forwarded: for=x",
        b"Host: a.example",
        b"X-Forwarded-For: 198.51.100.9, 10.0.0.1",
        b"X-Forwarded-Host: b.example",
        b"X-Forwarded-Port: 443",
        b"X-Forwarded-Proto: https",
        b"X-Real-IP: 198.51.100.9",
        b"X-Router-Hops: 1",
    ]
    assert (fields.client, fields.scheme) == ("198.51.100.9", b"https")


@pytest.mark.parametrize(
    ("block", "line"),
    [
        (b"Content-Length: 0005", b"Content-Length: 5"),
        (b"Content-Length: 0", b"Content-Length: 0"),
        (b"Expect: 100-CONTINUE", b"Expect: 100-continue"),
    ],
)
def test_framing_is_written_anew(block: bytes, line: bytes) -> None:
    lines = outgoing(b"Host: a\r\n" + block).outgoing.split(b"\r\n")
    assert line in lines
    assert block == line or block not in lines


def test_over_tls() -> None:
    fields = outgoing(b"Host: a", secure=True)
    assert b"X-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\n" in fields.outgoing
    assert fields.scheme == b"https"


def test_ids_are_unique_here_and_elsewhere() -> None:
    one, other = RequestIds(1), RequestIds(2**64 + 2)
    made = [ids.next() for ids in (one, other) for _ in range(1000)]
    assert len(set(made)) == 2000
    assert all(re.fullmatch(rb"[0-9a-f]{32}", identity) for identity in made)
    assert made[:256] == [b"%016x%016x" % (1, count) for count in range(1, 257)]


def test_the_fields_of_a_policy() -> None:
    assert route_fields(b"", b"") == b""
    assert route_fields(b"no-referrer", b"max-age=1") == (
        b"Referrer-Policy: no-referrer\r\nStrict-Transport-Security: max-age=1\r\n"
    )


def test_addresses_are_printed_as_people_write_them() -> None:
    assert printable(("10.0.0.1", 8080)) == b"10.0.0.1:8080"
    assert printable(("fd00::1", 8080)) == b"[fd00::1]:8080"
