"""One certificate with its chain and key: read once, judged, and from then on plain frozen data.

Everything that could make OpenSSL, or most clients, refuse the pair is found here, so that a bad one is its owner's
Problem and never an error of a handshake. Being expired, or not covering a domain, is *not* found here: such a pair is
served all the same (contract 8), and who looks at the clock is the control plane.

What must not enter: ``ssl``, files, clocks, Kubernetes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from tls import names
from tls.errors import BadCertificate, Flaw

__all__ = ["MAX_CHAIN", "MAX_KEY", "Certificate", "parse"]

MAX_CHAIN: Final = 128 * 1024
"""Bytes of PEM. OpenSSL clients give up beyond 100 KiB of chain; 2,000 names need 40 KiB."""
MAX_KEY: Final = 32 * 1024
"""Bytes of PEM. A 4096-bit RSA key needs 3.3 KiB."""
MAX_NAME: Final = 200
"""Characters kept of a subject or issuer, which are only ever shown to people."""

CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
PEM: Final = serialization.Encoding.PEM
DER: Final = serialization.Encoding.DER


@dataclass(frozen=True, slots=True)
class Certificate:
    """A pair that can be served. Equal material is equal, whatever its PEM looked like; the key is never shown."""

    names: tuple[str, ...]
    """Canonical dNSNames that can match a host, in the order written. The common name is not one (RFC 9525, 2)."""
    subject: str
    issuer: str
    serial: str
    """Upper-case hexadecimal."""
    not_before: datetime
    not_after: datetime
    """Both aware, UTC."""
    fingerprint: str
    """SHA-256 of the leaf alone, lower-case hexadecimal: what ``openssl x509 -fingerprint -sha256`` shows."""
    chain_pem: bytes = field(repr=False)
    """The leaf first, then the others in the order written."""
    key_pem: bytes = field(repr=False)
    """PKCS #8, not encrypted."""

    def covers(self, name: str) -> bool:
        """Whether a client that asked for canonical ``name`` (or the wildcard domain ``*.x``) would accept this."""
        return names.covers(self.names, name)


def parse(chain_pem: bytes, key_pem: bytes) -> Certificate:
    """Read a PEM chain and its PEM key.

    The leaf is the certificate that the key belongs to, wherever it stands in the chain. Raises
    :class:`~tls.errors.BadCertificate`, which never quotes the material.
    """
    if len(chain_pem) > MAX_CHAIN or len(key_pem) > MAX_KEY:
        raise BadCertificate(Flaw.TOO_LARGE)
    chain = _read_chain(chain_pem)
    key = _read_key(key_pem)
    try:
        return _judge(chain, key)
    except BadCertificate:
        raise
    except Exception:  # cryptography parses parts lazily, and says "cannot" in a dozen types, some quoting the input
        raise BadCertificate(Flaw.UNREADABLE_CERTIFICATE) from None


def _read_chain(pem: bytes) -> list[x509.Certificate]:
    if not pem.strip():
        raise BadCertificate(Flaw.NO_CERTIFICATE)
    if b"-----BEGIN" not in pem:
        raise BadCertificate(Flaw.CERTIFICATE_NOT_PEM)
    try:
        return x509.load_pem_x509_certificates(pem)
    except Exception:  # ValueError today; whatever it is, its text may quote the input
        raise BadCertificate(Flaw.UNREADABLE_CERTIFICATE) from None


def _read_key(pem: bytes) -> PrivateKeyTypes:
    if not pem.strip():
        raise BadCertificate(Flaw.NO_KEY)
    if b"-----BEGIN" not in pem:
        raise BadCertificate(Flaw.KEY_NOT_PEM)
    try:
        # An RSA key is judged in _judge_rsa, which takes next to nothing; here it would take fifty milliseconds.
        return serialization.load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)
    except TypeError:  # how cryptography says that a passphrase is needed
        raise BadCertificate(Flaw.ENCRYPTED_KEY) from None
    except Exception:  # ValueError, UnsupportedAlgorithm; whatever it is, its text may quote the input
        raise BadCertificate(Flaw.UNREADABLE_KEY) from None


def _judge(chain: list[x509.Certificate], key: PrivateKeyTypes) -> Certificate:
    public = key.public_key()
    _judge_key(public)
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size > 4096:
            raise BadCertificate(Flaw.HUGE_KEY)
        _judge_rsa(key)
    leaf = next((one for one in chain if one.public_key() == public), None)
    if leaf is None:
        raise BadCertificate(Flaw.MISMATCH)
    for one in chain:
        if one is not leaf:  # whose key is the one that was judged
            _judge_key(one.public_key())
        _judge_signature(one)
    subject, issuer = leaf.subject, leaf.issuer
    shown = _shown(subject)
    return Certificate(
        names=_dns_names(leaf),
        subject=shown,
        issuer=shown if issuer == subject else _shown(issuer),
        serial=f"{leaf.serial_number:X}",
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        fingerprint=hashlib.sha256(leaf.public_bytes(DER)).hexdigest(),
        chain_pem=b"".join(one.public_bytes(PEM) for one in (leaf, *(one for one in chain if one is not leaf))),
        key_pem=key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _judge_key(public: object) -> None:
    """Refuse what OpenSSL at security level 2, or clients at large, would refuse."""
    match public:
        case rsa.RSAPublicKey():
            if public.key_size < 2048:
                raise BadCertificate(Flaw.WEAK_KEY)
        case ec.EllipticCurvePublicKey():
            if not isinstance(public.curve, CURVES):
                raise BadCertificate(Flaw.UNSUPPORTED_KEY)
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            pass
        case _:
            raise BadCertificate(Flaw.UNSUPPORTED_KEY)


def _judge_rsa(key: rsa.RSAPrivateKey) -> None:
    """Refuse a key whose numbers do not fit together (RFC 8017, 3.2), whatever may have happened to it.

    That its primes are primes is not asked, as OpenSSL would. Proving it takes fifty milliseconds, and signing to see
    whether that works takes four times as long as everything else here; but no accident makes a key with other factors
    that fits together. Who writes one by hand has handshakes that fail, for their own names alone.
    """
    try:
        numbers = key.private_numbers()
        p, q, d = numbers.p, numbers.q, numbers.d
        n, e = numbers.public_numbers.n, numbers.public_numbers.e
        fits = (
            min(p, q, e) > 2
            and p * q == n
            and d < n
            and d * e % (p - 1) == d * e % (q - 1) == 1
            and (numbers.dmp1, numbers.dmq1) == (d % (p - 1), d % (q - 1))
            and numbers.iqmp * q % p == 1
        )
    except Exception:  # what OpenSSL finds itself
        fits = False
    if not fits:
        raise BadCertificate(Flaw.UNREADABLE_KEY)


def _judge_signature(certificate: x509.Certificate) -> None:
    """Refuse MD5 and SHA-1, except on self-signed ones: nobody ever checks that signature."""
    weak = isinstance(certificate.signature_hash_algorithm, (hashes.MD5, hashes.SHA1))
    if weak and certificate.issuer != certificate.subject:
        raise BadCertificate(Flaw.WEAK_SIGNATURE)


def _dns_names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    written = extension.value.get_values_for_type(x509.DNSName)
    return tuple(filter(names.presentable, dict.fromkeys(map(names.canonical, written))))


def _shown(name: x509.Name) -> str:
    """A distinguished name for people: RFC 4514, printable, shortened."""
    text = name.rfc4514_string()[:MAX_NAME]
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)
