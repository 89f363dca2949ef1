"""The certificate that every proxy gets."""

import stat
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.certificates import make_pair


def test_the_pair_is_p256_for_the_names_and_its_key_is_for_the_owner_only(tmp_path: Path) -> None:
    pair = make_pair(tmp_path / "room", ("a.test", "*.b.test"))
    certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    public = certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.curve.name == "secp256r1"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.test", "*.b.test"]
    assert pair.both.read_bytes() == pair.certificate.read_bytes() + pair.key.read_bytes()
    for secret in (pair.key, pair.both):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
