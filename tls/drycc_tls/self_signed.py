"""The certificate of last resort, made at start: what a name without any other certificate is answered with.

It covers nothing that can be routed, so no client takes it for the real one. What must not enter: files; it lives and
dies with the process.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from drycc_tls.certificate import Certificate, parse

__all__ = ["self_signed"]

NAME: Final = "default-certificate.invalid"
"""Reserved never to exist (RFC 2606)."""
CLOCK_SKEW: Final = timedelta(days=1)
LIFETIME: Final = timedelta(days=3650)
"""Longer than any process runs."""


def self_signed(now: datetime) -> Certificate:
    """A fresh P-256 pair, valid from a day before ``now`` (aware)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return parse(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
