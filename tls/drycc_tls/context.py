"""Certificate and policy → ``ssl.SSLContext``. The only place that hands keys to OpenSSL.

OpenSSL takes what belongs to a connection (versions, options, tickets, groups) from the context the handshake *began*
with, and certificate, ciphers and ALPN from the one the SNI callback switched to. Hence two kinds of contexts: one that
listens, and one per certificate that presents.

Keys reach OpenSSL through an anonymous file in memory (``memfd_create``, Linux): ``load_cert_chain`` wants a path, and
nothing secret may touch a disk (hardening K-03). What must not enter: sockets, the loop, names.
"""

from __future__ import annotations

import fcntl
import os
import ssl
from typing import Final

from drycc_tls.certificate import Certificate
from drycc_tls.policy import TlsPolicy, Version

__all__ = ["listening", "presenting", "tune"]

VERSIONS: Final = {Version.TLS_1_2: ssl.TLSVersion.TLSv1_2, Version.TLS_1_3: ssl.TLSVersion.TLSv1_3}

TICKETS: Final = 1
"""Per TLS 1.3 handshake. OpenSSL's two serve clients that open several connections at once; each costs a write."""

ALPN: Final = ("http/1.1",)

SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


def listening(policy: TlsPolicy) -> ssl.SSLContext:
    """The context that handshakes begin with. It has no certificate; without an SNI callback every handshake fails."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tune(context, policy)
    return context


def tune(context: ssl.SSLContext, policy: TlsPolicy) -> None:
    """Make a listening context follow ``policy``, for the handshakes that begin from now on. Its ticket keys stay."""
    context.minimum_version = VERSIONS[policy.minimum]
    context.maximum_version = VERSIONS[policy.maximum]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    if policy.session_tickets:
        context.options &= ~ssl.OP_NO_TICKET
    else:
        context.options |= ssl.OP_NO_TICKET
    context.num_tickets = TICKETS if policy.session_tickets else 0


def presenting(certificate: Certificate, policy: TlsPolicy) -> ssl.SSLContext:
    """The context that presents ``certificate``. About 1 ms of CPU: not for the loop. Raises ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Level 2: nothing below 112 bits. drycc_tls.certificate refuses the same with a better sentence.
    context.set_ciphers(":".join(("@SECLEVEL=2", *policy.ciphers)))
    context.set_alpn_protocols(ALPN)
    file = os.memfd_create("certificate", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(file, "wb", closefd=False) as writer:
            writer.write(certificate.chain_pem + certificate.key_pem)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, SEALS)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
    return context
