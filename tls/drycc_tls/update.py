"""What the control plane hands down about certificates: the difference to what it handed down before, frozen.

What must not enter: contexts, ``ssl``, Kubernetes; an id is an opaque word here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from drycc_tls.certificate import Certificate
from drycc_tls.policy import TlsPolicy

__all__ = ["CertificateChange"]


@dataclass(frozen=True, slots=True)
class CertificateChange:
    """Applied as one: a handshake sees either all of it or none.

    A name stands in at most one of ``names`` and ``gone_names`` (the same holds for ids).
    """

    generation: int
    certificates: Mapping[str, Certificate] = field(default_factory=dict)
    """id ("namespace/secret") → pair, new or replaced."""
    gone: frozenset[str] = frozenset()
    """ids that nothing names any more."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Canonical host (``a.example``, or ``*.example`` for one or more labels) → id of the certificate to present; "" is
    the default one, where a wildcard above has another."""
    gone_names: frozenset[str] = frozenset()
    default: str | None = None
    """id of the default (platform) certificate, always stated; None: the self-signed one made at start."""
    policy: TlsPolicy | None = None
    """None: unchanged."""
