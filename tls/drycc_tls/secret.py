"""The data of a TLS Secret → a Certificate.

What must not enter: Kubernetes objects; this takes a mapping of bytes, from wherever it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from drycc_tls.certificate import Certificate, parse
from drycc_tls.errors import BadCertificate

__all__ = ["CERTIFICATE", "KEY", "read_pair"]

CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"


def read_pair(data: Mapping[str, bytes]) -> Certificate:
    """Read ``tls.crt`` and ``tls.key``; other entries are ignored.

    Raises :class:`~drycc_tls.errors.BadCertificate`. The error leaves without the frames that held the material, so
    that a traceback printed with local variables shows none of it (hardening K-01).
    """
    try:
        return parse(data.get(CERTIFICATE, b""), data.get(KEY, b""))
    except BadCertificate as bad:
        flaw = bad.flaw
    del data
    raise BadCertificate(flaw)
