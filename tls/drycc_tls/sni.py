"""Where a handshake gets its certificate: the listening context, whose callback asks the store by the name sent.

Resumption needs no rule of its own. The callback runs then too, and what is remembered is one name with the context
and the coverage that belong to it: the name sent now (TLS 1.3), or the one the session was made for (TLS 1.2, where
OpenSSL reports that one). Client certificates, the one thing a ticket could carry from one name to another
(CVE-2025-23419), are not asked for; every rule of an app is applied per request, by its Host.

What must not enter: HTTP, Kubernetes, anything slow: the callback runs on the loop, once per handshake.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable
from typing import TypeAlias

from drycc_tls import hostnames
from drycc_tls.store import CertificateStore, Served

__all__ = ["Front", "without_undecodable_names"]

UnraisableHook: TypeAlias = "Callable[[sys.UnraisableHookArgs], object]"


class Connection(ssl.SSLObject):
    """The TLS side of one connection, and what its handshake settled."""

    name: bytes = b""
    served: Served | None = None


class Front:
    """The listening side of a :class:`~drycc_tls.store.CertificateStore`. One per store."""

    __slots__ = ("_store",)

    def __init__(self, store: CertificateStore) -> None:
        self._store = store
        store.listening.sslobject_class = Connection
        # Not set_servername_callback: it runs names through the IDNA codec first, which raises on "a..b".
        store.listening.sni_callback = self._choose

    def context(self) -> ssl.SSLContext:
        """What to accept TLS connections with."""
        return self._store.listening

    def server_name(self, connection: object) -> bytes:
        """The name the client asked for, canonical (lower case, no trailing dot); empty if it sent none."""
        return connection.name if isinstance(connection, Connection) else b""

    def covers(self, connection: object, host: bytes) -> bool:
        """Whether the certificate chosen for this connection covers canonical ``host``."""
        return isinstance(connection, Connection) and connection.served is not None and connection.served.covers(host)

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        """Called by OpenSSL in the middle of the handshake; ``name`` is ASCII, at most 255 characters, without NUL."""
        if name is not None:
            name = hostnames.canonical(name)
        served = self._store.choose(name)
        connection.context = served.context
        if isinstance(connection, Connection):
            connection.served = served
            connection.name = name.encode() if name else b""


def without_undecodable_names(hook: UnraisableHook) -> UnraisableHook:
    """Wrap ``sys.unraisablehook`` so that a server name which is not ASCII leaves no traceback.

    CPython refuses such a handshake with an alert before any callback of ours, and then reports the UnicodeDecodeError
    with the name as its object: a line of log for every hostile hello. For the composition root to install.
    """

    def filtered(unraisable: sys.UnraisableHookArgs) -> object:
        if isinstance(unraisable.exc_value, UnicodeDecodeError) and isinstance(unraisable.object, bytes):
            return None
        return hook(unraisable)

    return filtered
