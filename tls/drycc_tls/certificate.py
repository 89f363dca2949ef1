"""One certificate with its chain and key: read once, judged, and from then on plain frozen data.

Everything that could make OpenSSL, or most clients, refuse the pair is found here, so that a bad one is its owner's
Problem and never an error of a handshake. Being expired, or not covering a domain, is *not* found here: such a pair is
served all the same (contract 8), and who looks at the clock is the control plane.

What must not enter: ``ssl``, files, clocks, Kubernetes.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from drycc_tls import hostnames
from drycc_tls.errors import BadCertificate, Flaw

__all__ = ["MAX_CHAIN", "MAX_KEY", "Certificate", "parse"]

MAX_CHAIN: Final = 128 * 1024
"""Bytes of PEM. OpenSSL clients give up beyond 100 KiB of chain; 2,000 names need 40 KiB."""
MAX_KEY: Final = 32 * 1024
"""Bytes of PEM. A 4096-bit RSA key needs 3.3 KiB."""
MAX_NAME: Final = 200
"""Characters kept of a subject or issuer, which are only ever shown to people."""

RSA_LEAST: Final = 2048
"""Bits of an RSA modulus that OpenSSL at security level 2 and today's clients ask for at least."""
RSA_MOST: Final = 4096
"""Bits of a served RSA modulus at most: the time of a signature grows with the third power."""
EXPONENT_MOST: Final = 33
"""Bits of a public exponent at most: clients refuse longer ones (BoringSSL), and OpenSSL checks every signature that
it makes with this exponent, which takes time in proportion to its length."""
CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
PEM: Final = serialization.Encoding.PEM
DER: Final = serialization.Encoding.DER
_MANY_PRIMES: Final = re.compile(
    rb"(?s)(?:\x30\x82..\x02\x01\x00\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x04\x82..)?"
    rb"\x30\x82..\x02\x01\x01\x02\x82"
)
"""How such a key begins: RSAPrivateKey of version 1, by itself (PKCS #1) or within PKCS #8."""
_SHA256: Final = hashes.SHA256()
_PSS: Final = padding.PSS(padding.MGF1(_SHA256), _SHA256.digest_size)


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
        return hostnames.covers(self.names, name)


def parse(chain_pem: bytes, key_pem: bytes) -> Certificate:
    """Read a PEM chain and its PEM key.

    The leaf is the certificate that the key belongs to, wherever it stands in the chain. Raises
    :class:`~drycc_tls.errors.BadCertificate`, which never quotes the material.
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
    except UnsupportedAlgorithm:
        raise BadCertificate(Flaw.UNSUPPORTED_KEY) from None
    except Exception:  # ValueError; whatever it is, its text may quote the input
        raise BadCertificate(Flaw.BAD_PRIMES if _has_many_primes(pem) else Flaw.UNREADABLE_KEY) from None


def _has_many_primes(pem: bytes) -> bool:
    """Whether a key that cannot be read is RSA with more than two primes, which its version says (RFC 8017, A.1.2)."""
    try:
        return _MANY_PRIMES.match(b64decode(b"".join(pem.split(b"-----")[2].split()))) is not None
    except (IndexError, ValueError):
        return False


def _judge(chain: list[x509.Certificate], key: PrivateKeyTypes) -> Certificate:
    public = key.public_key()
    _judge_key(public)
    if isinstance(key, rsa.RSAPrivateKey):
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
            if public.key_size < RSA_LEAST:
                raise BadCertificate(Flaw.WEAK_KEY)
        case ec.EllipticCurvePublicKey():
            if not isinstance(public.curve, CURVES):
                raise BadCertificate(Flaw.UNSUPPORTED_CURVE)
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            pass
        case _:
            raise BadCertificate(Flaw.UNSUPPORTED_KEY)


def _judge_rsa(key: rsa.RSAPrivateKey) -> None:
    """Refuse a key whose numbers do not fit together (RFC 8017, 3.2), or whose signatures take longer than its size
    says.

    The time of a signature follows from the lengths of the factors, of the private exponents and of the public one, so
    each of them is bounded. That the factors are primes is tested by one signature, which is a Fermat test of both to
    a random base, at a twentieth of the cost of a proof: with a composite factor OpenSSL finds its result wrong,
    computes it again without the factors in five times the time, and the signature does not verify. What passes
    nevertheless: a Carmichael number, with which signatures are right and take no longer, and a composite for which
    the base happens to be a liar, at most every second one.
    """
    if key.key_size > RSA_MOST:
        raise BadCertificate(Flaw.HUGE_KEY)
    try:
        numbers = key.private_numbers()
        public = numbers.public_numbers
        p, q, d, n, e = numbers.p, numbers.q, numbers.d, public.n, public.e
    except Exception:  # what OpenSSL finds itself
        raise BadCertificate(Flaw.UNREADABLE_KEY) from None
    if e.bit_length() > EXPONENT_MOST:
        raise BadCertificate(Flaw.BAD_EXPONENT)
    half = key.key_size // 2
    lengths = (half, key.key_size - half)
    if p.bit_length() not in lengths or q.bit_length() not in lengths:
        raise BadCertificate(Flaw.BAD_PRIMES)
    if not (
        p * q == n
        and e > 2
        and d < n
        and d * e % (p - 1) == d * e % (q - 1) == 1
        and (numbers.dmp1, numbers.dmq1) == (d % (p - 1), d % (q - 1))
        and 0 < numbers.iqmp < p
        and numbers.iqmp * q % p == 1
    ):
        raise BadCertificate(Flaw.UNREADABLE_KEY)
    if not _signs(key):
        raise BadCertificate(Flaw.BAD_PRIMES)


def _signs(key: rsa.RSAPrivateKey) -> bool:
    """Whether a signature with a random salt, made with ``key``, is one of ``key``."""
    try:
        signature = key.sign(b"", _PSS, _SHA256)
        key.public_key().verify(signature, b"", _PSS, _SHA256)
    except (InvalidSignature, ValueError):  # ValueError: OpenSSL could not make it
        return False
    return True


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
    return tuple(filter(hostnames.presentable, dict.fromkeys(map(hostnames.canonical, written))))


def _shown(name: x509.Name) -> str:
    """A distinguished name for people: RFC 4514, printable, shortened."""
    text = name.rfc4514_string()[:MAX_NAME]
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)
