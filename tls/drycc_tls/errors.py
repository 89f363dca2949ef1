"""What can be wrong with a certificate somebody handed us, as one table.

Every sentence here is a constant: nothing of the material (names, bytes, parser messages) can ever reach a log line, a
Problem or an error page through it (contract 8, hardening K-01).

What must not enter: OpenSSL, files, and anything that formats input into a message.
"""

from __future__ import annotations

import enum

__all__ = ["BadCertificate", "Flaw", "TlsError"]


class Flaw(enum.Enum):
    """Machine name and a sentence that says what was expected."""

    sentence: str

    def __new__(cls, name: str, sentence: str) -> Flaw:
        member = object.__new__(cls)
        member._value_ = name
        member.sentence = sentence
        return member

    NO_CERTIFICATE = "no_certificate", "expected a PEM certificate chain in tls.crt, which is missing or empty"
    NO_KEY = "no_key", "expected a PEM private key in tls.key, which is missing or empty"
    TOO_LARGE = "certificate_too_large", "expected at most 128 KiB in tls.crt and 32 KiB in tls.key"
    CERTIFICATE_NOT_PEM = "certificate_not_pem", "expected PEM in tls.crt (-----BEGIN CERTIFICATE-----), not DER"
    KEY_NOT_PEM = "key_not_pem", "expected PEM in tls.key (-----BEGIN PRIVATE KEY-----), not DER"
    UNREADABLE_CERTIFICATE = "unreadable_certificate", "expected tls.crt to hold X.509 certificates; it does not parse"
    UNREADABLE_KEY = "unreadable_key", "expected tls.key to hold one private key; it does not parse"
    ENCRYPTED_KEY = "encrypted_key", "expected a private key without a passphrase in tls.key"
    MISMATCH = "certificate_mismatch", "expected the key in tls.key to belong to a certificate in tls.crt"
    UNSUPPORTED_KEY = (
        "unsupported_key",
        "expected a key that TLS clients accept: RSA, P-256, P-384, P-521, Ed25519 or Ed448",
    )
    UNSUPPORTED_CURVE = "unsupported_curve", "expected an elliptic curve key on P-256, P-384 or P-521"
    WEAK_KEY = "weak_key", "expected RSA keys of at least 2048 bits, also in the chain"
    HUGE_KEY = "huge_key", "expected an RSA key of at most 4096 bits: larger ones hold up everybody's handshakes"
    BAD_PRIMES = (
        "bad_primes",
        "expected an RSA key made of exactly two primes, each half as long as the key; others hold up handshakes",
    )
    BAD_EXPONENT = "bad_exponent", "expected an RSA key with a public exponent of at most 33 bits, such as 65537"
    WEAK_SIGNATURE = (
        "weak_signature",
        "expected certificates signed with SHA-256 or better; clients refuse MD5 and SHA-1",
    )


class TlsError(Exception):
    """Whatever this package raises."""


class BadCertificate(TlsError):
    """A pair that cannot be served. Whoever holds a previous good one keeps it (contract 8).

    ``reason`` is the machine name, ``message`` the sentence of the :class:`Flaw`; neither quotes the material.
    """

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(flaw.sentence)
        self.flaw = flaw

    @property
    def reason(self) -> str:
        """Machine name, such as ``certificate_mismatch``."""
        name: str = self.flaw.value
        return name

    @property
    def message(self) -> str:
        """One sentence that says what was expected."""
        return self.flaw.sentence
