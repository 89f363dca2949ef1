"""The little authority: what it issues is accepted by whoever trusts it, and by nobody else."""

import ssl

import pytest

from drycc_tls import context
from drycc_tls.policy import TlsPolicy
from drycc_tls.secret import read_pair
from examples.authority import Authority, Pair
from tests.fakes.handshakes import shake, trusting


def serving(pair: Pair) -> ssl.SSLContext:
    return context.presenting(read_pair(pair.secret_data()), TlsPolicy())


def test_its_leaf_is_accepted_for_its_names_by_whoever_trusts_it() -> None:
    authority = Authority()
    server = serving(authority.issue("shop.localhost", "hello.localhost", "127.0.0.1"))

    for name in ("shop.localhost", "hello.localhost", "127.0.0.1"):
        assert shake(server, trusting(authority), name).names_shown() == ["shop.localhost", "hello.localhost"]
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake(server, trusting(authority), "other.localhost")


def test_nobody_else_accepts_it() -> None:
    server = serving(Authority().issue("shop.localhost"))

    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        shake(server, trusting(Authority("another")), "shop.localhost")


def test_neither_shows_its_key() -> None:
    authority = Authority()

    assert "PRIVATE" not in repr(authority) + repr(authority.issue("shop.localhost"))
    assert b"PRIVATE" not in authority.certificate
