"""Secrets: two entries become a pair, and a bad one leaves no trace of its key anywhere."""

import base64
import traceback

import pytest
from cryptography.hazmat.primitives import serialization

from drycc_tls.errors import BadCertificate, Flaw
from drycc_tls.secret import read_pair
from examples.authority import Authority

AUTHORITY = Authority()
PAIR = AUTHORITY.issue("shop.example")


def test_a_tls_secret_is_read_and_other_entries_are_ignored() -> None:
    assert read_pair({**PAIR.secret_data(), "ca.crt": b"whatever"}).names == ("shop.example",)


@pytest.mark.parametrize(("missing", "flaw"), [("tls.crt", Flaw.NO_CERTIFICATE), ("tls.key", Flaw.NO_KEY)])
def test_a_missing_entry_is_a_flaw(missing: str, flaw: Flaw) -> None:
    data = {name: value for name, value in PAIR.secret_data().items() if name != missing}

    with pytest.raises(BadCertificate) as caught:
        read_pair(data)

    assert caught.value.flaw is flaw


def _canaries() -> list[str]:
    key = serialization.load_pem_private_key(PAIR.key, None)
    der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return [*PAIR.key.decode().splitlines(), base64.b64encode(der).decode()[:40], repr(der)[2:42], "PRIVATE KEY"]


@pytest.mark.parametrize(
    ("chain", "key"),
    [
        (AUTHORITY.issue("other.example").chain, PAIR.key),
        (PAIR.key, PAIR.key),
        (b"", PAIR.key),
        (PAIR.chain, PAIR.key[:-40]),
        (PAIR.chain, PAIR.key.replace(b"BEGIN PRIVATE", b"BEGIN STRANGE")),
        (PAIR.chain, PAIR.key * 1000),
        (PAIR.chain[:300] + PAIR.key, PAIR.key),
    ],
    ids=["mismatch", "key as certificate", "no certificate", "cut", "strange", "huge", "key inside the chain"],
)
def test_no_error_shows_the_key_even_in_a_traceback_with_local_variables(chain: bytes, key: bytes) -> None:
    data = {"tls.crt": chain, "tls.key": key}

    with pytest.raises(BadCertificate) as caught:
        read_pair(data)

    bad = caught.value
    assert bad.__context__ is None
    own_frames = bad.with_traceback(bad.__traceback__.tb_next if bad.__traceback__ else None)
    report = traceback.TracebackException.from_exception(own_frames, capture_locals=True)
    shown = "".join(report.format()) + repr(bad) + str(bad) + bad.message + bad.reason
    assert "read_pair" in shown
    assert [canary for canary in _canaries() if canary in shown] == []
