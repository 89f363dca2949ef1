"""A little certificate authority of one's own, for the demo and the tests. Never for anything that is served for real.

Its key lives in memory and dies with the process.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes as SigningKey
from cryptography.x509.oid import ExtendedKeyUsageOID

__all__ = ["Authority", "Pair", "SigningKey", "pem"]


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, both PEM."""

    chain: bytes
    key: bytes = field(repr=False)

    def secret_data(self) -> dict[str, bytes]:
        """As the entries of a ``kubernetes.io/tls`` Secret."""
        return {"tls.crt": self.chain, "tls.key": self.key}


def new_key() -> ec.EllipticCurvePrivateKey:
    """A P-256 key: small and quick to use."""
    return ec.generate_private_key(ec.SECP256R1())


def pem(key: SigningKey) -> bytes:
    """PKCS #8, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class Authority:
    """Issues leaf certificates that programs trusting ``certificate`` accept; with ``issuer`` an intermediate."""

    def __init__(self, name: str = "Drycc Router example authority", issuer: Authority | None = None) -> None:
        self._key = new_key()
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        self._certificate = (
            _builder(
                self._name,
                issuer._name if issuer else self._name,
                self._key,
                now - timedelta(days=1),
                now + timedelta(days=365),
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(issuer._key if issuer else self._key, hashes.SHA256())
        )

    @property
    def certificate(self) -> bytes:
        """What clients have to trust, PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        *names: str,
        key: SigningKey | None = None,
        start: datetime | None = None,
        days: float = 90,
    ) -> Pair:
        """A pair for ``names`` (DNS names and IP addresses), valid ``days`` days from ``start`` (a minute ago)."""
        key = key or new_key()
        start = start or datetime.now(UTC) - timedelta(minutes=1)
        subject = names[0][:64] if names else "nobody"
        builder = (
            _builder(
                x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]),
                self._name,
                key,
                start,
                start + timedelta(days=days),
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(_general_names(names)), critical=False)
        leaf = builder.sign(self._key, hashes.SHA256())
        return Pair(leaf.public_bytes(serialization.Encoding.PEM), pem(key))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: SigningKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    general: list[x509.GeneralName] = []
    for name in names:
        try:
            general.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            general.append(x509.DNSName(name))
    return general
