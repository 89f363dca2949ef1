"""What the operator allows on the wire, for every name alike: frozen and checked, so that no handshake meets nonsense.

What must not enter: ``ssl``. ``context`` turns a policy into OpenSSL's settings.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

__all__ = ["CIPHERS", "CIPHERS_1_3", "TlsPolicy", "Version"]


class Version(enum.Enum):
    """Protocol versions on offer, oldest first, under the names that ``ssl.protocols`` uses. Older ones are gone."""

    TLS_1_2 = "TLSv1.2"
    TLS_1_3 = "TLSv1.3"


CIPHERS: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
"""All that may be chosen for TLS 1.2: forward secrecy and authenticated encryption, nothing else (hardening T-10)."""

CIPHERS_1_3: Final = ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256")
"""Always on with TLS 1.3: Python offers no way to choose among them. May be written, without effect."""


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """Raises ValueError where no handshake could succeed, or a cipher is not one of ``CIPHERS``."""

    minimum: Version = Version.TLS_1_2
    maximum: Version = Version.TLS_1_3
    ciphers: tuple[str, ...] = CIPHERS
    """For TLS 1.2, in the router's order of preference."""
    session_tickets: bool = True
    """Whether clients may resume. How long they may is OpenSSL's two hours: Python offers no way to set it."""

    def __post_init__(self) -> None:
        versions = list(Version)
        if versions.index(self.minimum) > versions.index(self.maximum):
            raise ValueError("the minimum version is above the maximum")
        if not self.ciphers or not set(self.ciphers) <= set(CIPHERS):
            raise ValueError("expected one or more names from drycc_tls.policy.CIPHERS")
