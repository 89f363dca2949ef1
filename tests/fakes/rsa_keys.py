"""RSA keys that no program makes."""

from __future__ import annotations

import math

from cryptography.hazmat.primitives.asymmetric import rsa

__all__ = ["without_primes"]


def without_primes() -> rsa.RSAPrivateKey:
    """One whose numbers fit together, but of which one factor is no prime: what it signs nobody can verify."""
    half = rsa.generate_private_key(65537, 1088).private_numbers()  # noqa: S505 -- for its primes
    p, q = half.p * half.q, rsa.generate_private_key(65537, 2048).private_numbers().p
    d = pow(65537, -1, math.lcm(p - 1, q - 1))
    public = rsa.RSAPublicNumbers(65537, p * q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public)
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)
