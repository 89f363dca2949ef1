"""Certificates: what is read out of a good pair, and every way in which a bad one is refused."""

import base64
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from drycc_tls import certificate
from drycc_tls.certificate import Certificate, parse
from drycc_tls.errors import BadCertificate, Flaw
from examples.authority import Authority, Pair, SigningKey, pem
from tests.fakes.instructions import Work
from tests.fakes.rsa_keys import MULTI_PRIME, made_of, with_composite, without_primes

AUTHORITY = Authority()
GOOD = AUTHORITY.issue("shop.example")
DER = serialization.Encoding.DER


def read(pair: Pair) -> Certificate:
    return parse(pair.chain, pair.key)


def flaw_of(chain: bytes, key: bytes) -> Flaw:
    with pytest.raises(BadCertificate) as caught:
        parse(chain, key)
    return caught.value.flaw


def leaf_of(pair: Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.chain)


def test_what_a_good_pair_says() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    pair = AUTHORITY.issue("shop.example", "*.shop.example", start=start, days=90)
    leaf = leaf_of(pair)

    read_back = read(pair)

    assert read_back.names == ("shop.example", "*.shop.example")
    assert read_back.subject == "CN=shop.example"
    assert read_back.issuer == "CN=Drycc Router example authority"
    assert int(read_back.serial, 16) == leaf.serial_number
    assert (read_back.not_before, read_back.not_after) == (start, start + timedelta(days=90))
    assert read_back.fingerprint == leaf.fingerprint(hashes.SHA256()).hex()
    assert read_back.covers("shop.example")
    assert read_back.covers("a.shop.example")
    assert not read_back.covers("a.b.shop.example")


def test_the_key_is_not_shown() -> None:
    shown = repr(read(GOOD))

    assert "shop.example" in shown
    assert "PRIVATE KEY" not in shown
    assert all(line not in shown for line in GOOD.key.decode().splitlines())


def test_equal_material_is_equal_however_it_was_written() -> None:
    key = serialization.load_pem_private_key(GOOD.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    traditional = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )

    rewritten = parse(b"subject: a comment\r\n" + GOOD.chain.replace(b"\n", b"\r\n") + b"\n\n", traditional)

    assert rewritten == read(GOOD)
    assert hash(rewritten) == hash(read(GOOD))


def test_another_intermediate_makes_another_certificate_with_the_same_fingerprint() -> None:
    with_intermediate = parse(GOOD.chain + AUTHORITY.certificate, GOOD.key)

    assert with_intermediate != read(GOOD)
    assert with_intermediate.fingerprint == read(GOOD).fingerprint


def test_the_leaf_comes_first_wherever_it_was_written() -> None:
    other = Authority("another").certificate

    reordered = parse(AUTHORITY.certificate + GOOD.chain + other, GOOD.key)

    assert reordered.names == ("shop.example",)
    assert reordered.chain_pem == GOOD.chain + AUTHORITY.certificate + other


def test_names_are_folded_and_those_that_can_match_nothing_are_left_out() -> None:
    pair = AUTHORITY.issue(
        "Shop.EXAMPLE.",
        "shop.example",
        "*",
        "*.*.x",
        "f*.example",
        "a\0b.example",
        "192.0.2.1",
        "xn--bcher-kva.example",
    )

    assert read(pair).names == ("shop.example", "xn--bcher-kva.example")


def test_a_common_name_is_not_a_name() -> None:
    nameless = read(AUTHORITY.issue())

    assert nameless.names == ()
    assert not nameless.covers("nobody")


def test_2000_names_are_read_within_50_ms() -> None:
    pair = AUTHORITY.issue(*(f"host-{number}.example" for number in range(2000)))

    took = min(_timed(pair) for _ in range(3))

    assert len(read(pair).names) == 2000
    assert took < 0.05


def _timed(pair: Pair) -> float:
    start = time.process_time()
    read(pair)
    return time.process_time() - start


@pytest.mark.parametrize(
    ("start", "days"), [(datetime(2020, 1, 1, tzinfo=UTC), 1), (datetime(2120, 1, 1, tzinfo=UTC), 1)]
)
def test_the_clock_is_none_of_its_business(start: datetime, days: int) -> None:
    assert read(AUTHORITY.issue("shop.example", start=start, days=days)).not_before == start


def test_what_is_shown_of_a_subject_is_short_and_printable() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.COMMON_NAME, "a\x1b[31m\nb"),
            *(x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "u" * 60) for _ in range(9)),
        ]
    )

    shown = read(_self_signed(name, key)).subject

    assert shown.isprintable()
    assert len(shown) == certificate.MAX_NAME


@pytest.mark.parametrize(
    "make_key",
    [
        lambda: rsa.generate_private_key(65537, 2048),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate,
        ed448.Ed448PrivateKey.generate,
    ],
    ids=["rsa-2048", "p-384", "p-521", "ed25519", "ed448"],
)
def test_keys_that_clients_accept(make_key: Callable[[], SigningKey]) -> None:
    assert read(AUTHORITY.issue("shop.example", key=make_key())).names == ("shop.example",)


@pytest.mark.parametrize(
    ("make_key", "flaw"),
    [
        (lambda: rsa.generate_private_key(65537, 1024), Flaw.WEAK_KEY),  # noqa: S505 -- weak on purpose
        (lambda: rsa.generate_private_key(65537, 4104), Flaw.HUGE_KEY),
        (lambda: ec.generate_private_key(ec.SECP256K1()), Flaw.UNSUPPORTED_CURVE),
        (lambda: ec.generate_private_key(ec.SECP224R1()), Flaw.UNSUPPORTED_CURVE),
        (lambda: dsa.generate_private_key(2048), Flaw.UNSUPPORTED_KEY),
    ],
    ids=["rsa-1024", "rsa-4104", "secp256k1", "secp224r1", "dsa"],
)
def test_keys_that_are_refused(make_key: Callable[[], SigningKey], flaw: Flaw) -> None:
    pair = AUTHORITY.issue("shop.example", key=make_key())

    assert flaw_of(pair.chain, pair.key) is flaw


RSA_KEY = rsa.generate_private_key(65537, 2048)
RSA = RSA_KEY.private_numbers()
RSA_PAIR = AUTHORITY.issue("shop.example", key=RSA_KEY)


@pytest.mark.parametrize("part", ["p", "q", "d", "dmp1", "dmq1", "iqmp"])
def test_an_rsa_key_whose_numbers_do_not_fit_together_is_refused(part: str) -> None:
    written = getattr(RSA, part)
    size = (written.bit_length() + 7) // 8
    der = RSA_KEY.private_bytes(DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    other = der.replace(written.to_bytes(size, "big"), (written + 2).to_bytes(size, "big"))
    key = b"-----BEGIN PRIVATE KEY-----\n" + base64.encodebytes(other) + b"-----END PRIVATE KEY-----\n"

    assert other != der
    assert flaw_of(RSA_PAIR.chain, key) is Flaw.UNREADABLE_KEY


@pytest.mark.parametrize(
    "make_key",
    [
        without_primes,
        lambda: with_composite(64),
        lambda: with_composite(64, 4096),
        lambda: with_composite(512),
        lambda: with_composite(1024),
        lambda: with_composite(2048, 4096),
    ],
    ids=["1024-bit-prime", "64", "64-of-4096", "512", "1024", "2048-of-4096"],
)
def test_an_rsa_key_that_is_not_made_of_two_primes_of_half_its_length_is_refused(
    make_key: Callable[[], rsa.RSAPrivateKey],
) -> None:
    """With such a factor a signature takes up to ten times as long as the size of the key says."""
    pair = AUTHORITY.issue("shop.example", key=make_key())

    assert flaw_of(pair.chain, pair.key) is Flaw.BAD_PRIMES


def test_an_rsa_key_of_two_primes_of_different_lengths_is_refused() -> None:
    """Its signatures are right, but the longer factor takes the time of a key of twice its length."""
    larger = rsa.generate_private_key(65537, 3072).private_numbers().p
    key = made_of(larger, rsa.generate_private_key(65537, 1024).private_numbers().q)  # noqa: S505 -- for its primes
    pair = AUTHORITY.issue("shop.example", key=key)

    assert flaw_of(pair.chain, pair.key) is Flaw.BAD_PRIMES


@pytest.mark.parametrize("traditional", [False, True])
def test_an_rsa_key_of_three_primes_is_refused_for_that(traditional: bool) -> None:
    lines = MULTI_PRIME.splitlines()
    inner = base64.b64decode(b"".join(lines[1:-1]))[26:]
    written = b"-----BEGIN RSA PRIVATE KEY-----\n%b-----END RSA PRIVATE KEY-----\n" % base64.encodebytes(inner)

    assert flaw_of(RSA_PAIR.chain, written if traditional else MULTI_PRIME) is Flaw.BAD_PRIMES


@pytest.mark.parametrize(("exponent", "flaw"), [(3, None), (2**33 - 1, None), (2**33 + 17, Flaw.BAD_EXPONENT)])
def test_a_public_exponent_has_at_most_33_bits(exponent: int, flaw: Flaw | None) -> None:
    while True:
        numbers = rsa.generate_private_key(65537, 2048).private_numbers()
        try:
            key = made_of(numbers.p, numbers.q, exponent)
        except ValueError:
            continue  # it has no inverse modulo these primes
        break
    pair = AUTHORITY.issue("shop.example", key=key)

    if flaw is None:
        assert read(pair).names == ("shop.example",)
    else:
        assert flaw_of(pair.chain, pair.key) is flaw


@pytest.mark.parametrize("bits", [2048, 2049, 2050, 3072, 4095, 4096])
def test_rsa_keys_of_every_length_in_between_are_accepted(bits: int) -> None:
    assert read(AUTHORITY.issue("shop.example", key=rsa.generate_private_key(65537, bits))).names == ("shop.example",)


def test_judging_a_key_of_4096_bits_takes_no_more_instructions_than_one_of_2048() -> None:
    work = Work()
    pairs = {bits: AUTHORITY.issue("shop.example", key=rsa.generate_private_key(65537, bits)) for bits in (2048, 4096)}
    read(RSA_PAIR)  # what is imported on first use is
    for bits, pair in pairs.items():
        with work.on(str(bits)):
            read(pair)

    assert work.done["4096"] <= work.done["2048"] + 50


def test_an_rsa_key_that_belongs_to_another_certificate_is_refused() -> None:
    other = rsa.generate_private_key(65537, 2048)

    assert flaw_of(AUTHORITY.issue("shop.example", key=other).chain, RSA_PAIR.key) is Flaw.MISMATCH


def test_a_weak_key_in_the_chain_is_refused_too() -> None:
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 -- weak on purpose
    weak = AUTHORITY.issue("weak.example", key=key)

    assert flaw_of(GOOD.chain + weak.chain, GOOD.key) is Flaw.WEAK_KEY


def test_a_sha1_signature_is_refused_unless_nobody_checks_it() -> None:
    key = rsa.generate_private_key(65537, 2048)
    someone, another = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("a", "b"))

    issued = _signed_with_sha1(_self_signed(someone, key, issuer=another))
    self_signed = _signed_with_sha1(_self_signed(someone, key))

    assert flaw_of(issued.chain, issued.key) is Flaw.WEAK_SIGNATURE
    assert flaw_of(GOOD.chain + issued.chain, GOOD.key) is Flaw.WEAK_SIGNATURE
    assert read(self_signed).subject == "CN=a"


def test_an_encrypted_key_is_refused() -> None:
    key = serialization.load_pem_private_key(GOOD.key, None)
    for form in serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL:
        encrypted = key.private_bytes(
            serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"passphrase")
        )

        assert flaw_of(GOOD.chain, encrypted) is Flaw.ENCRYPTED_KEY


def test_der_is_refused_with_a_hint() -> None:
    key = serialization.load_pem_private_key(GOOD.key, None)
    der = key.private_bytes(DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

    assert flaw_of(leaf_of(GOOD).public_bytes(DER), GOOD.key) is Flaw.CERTIFICATE_NOT_PEM
    assert flaw_of(GOOD.chain, der) is Flaw.KEY_NOT_PEM


@pytest.mark.parametrize(
    ("chain", "key", "flaw"),
    [
        (b"", GOOD.key, Flaw.NO_CERTIFICATE),
        (b" \n", GOOD.key, Flaw.NO_CERTIFICATE),
        (GOOD.chain, b"", Flaw.NO_KEY),
        (GOOD.chain, AUTHORITY.issue("other.example").key, Flaw.MISMATCH),
        (GOOD.key, GOOD.chain, Flaw.UNREADABLE_CERTIFICATE),
        (GOOD.chain[:200], GOOD.key, Flaw.UNREADABLE_CERTIFICATE),
        (GOOD.chain.replace(b"M", b"N", 1), GOOD.key, Flaw.UNREADABLE_CERTIFICATE),
        (GOOD.chain, GOOD.key[:100], Flaw.UNREADABLE_KEY),
        (GOOD.chain, GOOD.chain, Flaw.UNREADABLE_KEY),
        (GOOD.chain * 2000, GOOD.key, Flaw.TOO_LARGE),
        (GOOD.chain, GOOD.key * 2000, Flaw.TOO_LARGE),
    ],
    ids=range(11),  # keys are new in each process
)
def test_broken_material_is_refused(chain: bytes, key: bytes, flaw: Flaw) -> None:
    assert flaw_of(chain, key) is flaw


@given(st.binary(max_size=64), st.integers(0, len(GOOD.chain) - 1), st.integers(0, 64))
def test_whatever_the_bytes_are_the_answer_is_a_certificate_or_a_flaw(noise: bytes, at: int, cut: int) -> None:
    for chain, key in (
        (GOOD.chain[:at] + noise + GOOD.chain[at + cut :], GOOD.key),
        (GOOD.chain, GOOD.key[:at] + noise + GOOD.key[at + cut :]),
        (noise, noise),
    ):
        try:
            assert parse(chain, key).key_pem
        except BadCertificate as bad:
            assert bad.flaw in Flaw


def _self_signed(subject: x509.Name, key: SigningKey, issuer: x509.Name | None = None) -> Pair:
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return Pair(made.public_bytes(serialization.Encoding.PEM), pem(key))


def _signed_with_sha1(pair: Pair) -> Pair:
    """Rename the algorithm in place: libraries refuse to sign with SHA-1 nowadays, and nobody verifies it here."""
    sha256_with_rsa, sha1_with_rsa = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    der = leaf_of(pair).public_bytes(DER)
    assert der.count(sha256_with_rsa) == 2
    renamed = x509.load_der_x509_certificate(der.replace(sha256_with_rsa, sha1_with_rsa))
    return Pair(renamed.public_bytes(serialization.Encoding.PEM), pair.key)
