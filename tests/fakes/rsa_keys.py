"""RSA keys that no program makes."""

from __future__ import annotations

import math
import secrets
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

__all__ = ["MULTI_PRIME", "made_of", "with_composite", "without_primes"]

E: Final = 65537


def made_of(p: int, q: int, e: int = E) -> rsa.RSAPrivateKey:
    """The key of two factors, whatever they are."""
    d = pow(e, -1, math.lcm(p - 1, q - 1))
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(e, p * q))
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


def without_primes() -> rsa.RSAPrivateKey:
    """One whose numbers fit together, but of which one factor is no prime: what it signs nobody can verify."""
    half = rsa.generate_private_key(E, 1088).private_numbers()  # noqa: S505 -- for its primes
    return made_of(half.p * half.q, rsa.generate_private_key(E, 2048).private_numbers().p)


def with_composite(length: int, bits: int = 2048) -> rsa.RSAPrivateKey:
    """One of so many bits with two factors: one of ``length`` bits, which is a prime, and one that is not."""
    while True:
        parts = rsa.generate_private_key(E, bits - length).private_numbers()
        composite, p = parts.p * parts.q, _prime(length)
        if (composite * p).bit_length() == bits and math.gcd(E, math.lcm(composite - 1, p - 1)) == 1:
            return made_of(composite, p)


def _prime(bits: int) -> int:
    """A prime of so many bits: one that OpenSSL made, or where it makes none as short, one that passes some tests."""
    if bits >= 512:
        return rsa.generate_private_key(E, 2 * bits).private_numbers().p
    while True:
        candidate = secrets.randbits(bits) | 1 | 3 << bits - 2
        if all(pow(base, candidate - 1, candidate) == 1 for base in (2, 3, 5, 7)):
            return candidate


MULTI_PRIME: Final = b"""-----BEGIN PRIVATE KEY-----
MIIE9AIBADANBgkqhkiG9w0BAQEFAASCBN4wggTaAgEBAoIBAQDIVIPGGW/TNci6
VOK3kC9OUkb4LQX6vAai2WzXOVmCjti15fYFzR5F8JSE4t51hcf2lYJC6AHeirvB
ZOnARMzQyBt1r6jQWdNT/TUnvjK/rwnm9Qa728lIXA+rgo/y+06SB1IraBbmvNF8
TVBKxFBp6L6baKyIuJ/O1mZawTaVKopnBqJ3dRncYB4K/OlU0c6G4jsDtVAbC2S1
Z0WNPT0qREybMDFseAXatLfJc4aH4ei6qrVbSj2WmUXsO7I9e+1WBJnk+XLgmVol
VVvE/2T6+baNJH7zxJfFDpe69X3TpKT1rrKyIiztJbv0svHNpmZTAEIvxDdHW3hZ
2qmILUSlAgMBAAECggEBALtjSuvn6VFBEyUwt+4LAiUaE2ab/ubeMLrt9MCR1aep
ZQ8pL2uXxgSYGOUAriRyYmzGx1U8XltDnIM3mOuPr6JwPDdme9uA2ovK44jsgd4J
ppKSipyT1UKEaDaUS48rClTwrVwPf1CfT+NzjIDUiS3Ie2udiJAnY/tIiguBH5sC
ROHEtpFeJgG2988amGl0Ppr2FpZb7HGXLeXFzE3yNW/va0ePei+KX1USLUKNlseO
ku0/DcGFgLAmUJNLtZXGVXKYc9VLAdNZ21KTwQsL258Gi7HKQ7YTPI8z3ygYiAX0
FOrTXJ4jSCI8qNiwqjP9UuHpqSA/8vxx/KVkBnjiHXECVgdTVRPEE5VQrRMHCJoY
r4DTxjCRb6LuYimL4Na4hmF3SSCBvritZMOsyrKIiCR6YDEmk+qfn+ErzxPr5f7s
y1ABf52Jg0WiJNI43dOFMpsuUjuT7OHnAlYHPTOza3HcNrNN5oGaO0gmwzuKVsAY
kl0f2D2anByNwrn2yyLwT2a02lZL3SWCI3Y8jXsanfgoCG4x2O+VXz0L9Ff7f7US
/Ygur4EN6YVuvUPz4P6btwJWA+cAi2cIh6JSkLBOhMhhtd8a1QSk08bpw/gf7kKe
U42YBxkW4Ip+Az8pO7I/1C7cz1Iduf8OzITp61LfUs4SAKzLrsByjcWyl8pzYRqz
urcSV2qV5kECVgY1WPfReC8SwqhWvmQV34VO/utgBxOLw04iWIMWy+5QSMj94pMS
pdUJQ+WAXkDERQ0dkax8Om2q/UbG9IK40VRFVIefOR52TassXZQe6I7Wx0aLehD1
AlYBxi0yTNawOh32Z41ICNtrWTkbN6iQJIEPf3c5mESV0V//hGGDIAjFpMLxLNsI
B0MLVGEhhotx+YsXdGmL1MYsJVEKEMx1VLhQKgM0+KWbs4PuIACKGjCCAQwwggEI
AlYDxxYRu2qlt7u1O/ASGKmWiWq79TGY5rL24E9ahqT1SxAKv8TJD6RTj83SgTr0
7l+YFOB2sHKMT0A+4vUYXFrIosvpKJU7oxYbEoNobZrNHvbxn2GnBQJWATBCzkNj
002SHfwElPzzZixHy2jiONPkXG3IKZgRECeUnX0mIYftUGj+/YqxDNxucP+oe08a
SvCoKuDm8cokudkWRH4DLacqzkut0k4hlQV39h8J7y0CVgG8HTd3dDC1brcYLbWT
UA3Sek5Mqi20Ls5S2K4L36ZlMxZNbWlQvSknS/Ip+zxNPahrC1xHXd0S0Hoin32L
KQ2e3yOAWxZEGmsfYrXGHfWOmSq5gMab
-----END PRIVATE KEY-----
"""
"""A key of three primes, in PKCS #8, made by ``openssl genrsa -primes 3 2048``."""
