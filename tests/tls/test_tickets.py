"""Ticket keys that several contexts share, on real handshakes in memory."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

import pytest

from drycc_tls import tickets
from drycc_tls.self_signed import self_signed
from drycc_tls.sni import Front
from drycc_tls.store import CertificateStore

PAIR = self_signed(datetime(2026, 1, 1, tzinfo=UTC))
KEYS = [bytes([number]) * tickets.KEY_BYTES for number in range(2)]


def front() -> ssl.SSLContext:
    return Front(CertificateStore(PAIR)).context()


def resumed(
    server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[bool, ssl.SSLSession]:
    """Whether a handshake resumed ``session``, and the session it left."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = client.wrap_bio(to_client, to_server, server_hostname="shop.example", session=session)
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (theirs, ours):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
    ours.write(b"hello")
    assert theirs.read(5) == b"hello"  # and the ticket before it
    assert theirs.session is not None
    return bool(theirs.session_reused), theirs.session


def test_this_python_lets_us() -> None:
    assert tickets.works()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_resumes_where_the_key_is_the_same_and_nowhere_else(version: ssl.TLSVersion) -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.minimum_version = client.maximum_version = version
    one, other = front(), front()
    _, session = resumed(one, client, None)
    assert not resumed(other, client, session)[0]
    for each in (one, other):
        tickets.use(each, KEYS[0])
    _, session = resumed(one, client, None)
    assert resumed(other, client, session)[0]
    tickets.use(other, KEYS[1])
    assert not resumed(other, client, session)[0]
    assert resumed(one, client, session)[0]


def test_a_key_has_a_length() -> None:
    with pytest.raises(ValueError, match="80 bytes"):
        tickets.use(front(), b"short")


def test_where_it_does_not_work_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "_control", lambda *_: 0)
    assert not tickets.works()
    with pytest.raises(OSError, match="does not take"):
        tickets.use(front(), KEYS[0])
