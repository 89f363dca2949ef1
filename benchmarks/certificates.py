"""One self-signed P-256 certificate for ``*.bench.test``, given to every proxy alike."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks.workload import SITE_DOMAIN

__all__ = ["Pair", "make_pair"]


@dataclass(frozen=True, slots=True)
class Pair:
    """Where the certificate lies: as two files, and as one for proxies that want both together."""

    certificate: Path
    key: Path
    both: Path


def make_pair(home: Path, names: tuple[str, ...] = (f"*.{SITE_DOMAIN}",)) -> Pair:
    """Make a key and a certificate for ``names`` and write them into ``home``.

    Valid for 30 days: below 14 the router reports a Problem.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    home.mkdir(parents=True, exist_ok=True)
    pair = Pair(home / "tls.crt", home / "tls.key", home / "tls.pem")
    pair.certificate.write_bytes(certificate_pem)
    for path, content in ((pair.key, key_pem), (pair.both, certificate_pem + key_pem)):
        path.touch(mode=0o600)
        path.write_bytes(content)
    return pair
