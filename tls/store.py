"""The living certificates: which context answers which name.

Two steps, so that building costs no request anything: ``prepare`` builds in a thread and touches nothing that is in
use, ``swap`` makes the result current on the loop. One writer (the publisher, one change at a time), one reader (the
SNI callback, on the same loop as ``swap``).

What must not enter: the loop, sockets, Kubernetes.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

from tls import context, names
from tls.certificate import Certificate
from tls.change import CertificateChange
from tls.policy import TlsPolicy

__all__ = ["CertificateStore", "Prepared", "Served"]

FALLBACK: Final = ""
"""The id of the certificate of last resort; no Secret has it."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Served:
    """A certificate bound to its context; shared by every name and id that presents it."""

    certificate: Certificate
    names: frozenset[bytes]
    context: ssl.SSLContext

    def covers(self, host: bytes) -> bool:
        """Whether the certificate covers canonical ``host``; two set look-ups (``tls.names.covers``, over bytes)."""
        return host in self.names or b"*." + host.partition(b".")[2] in self.names


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A change whose contexts are built, ready to be swapped in."""

    change: CertificateChange
    policy: TlsPolicy
    served: Mapping[str, Served]
    refused: frozenset[str]
    """ids that OpenSSL would not take although they were judged good; what they presented before stays."""


class CertificateStore:
    """Starts with ``fallback`` (see ``tls.fallback``) for every name, and the default policy."""

    __slots__ = ("_built", "_default", "_names", "_policy", "_served", "listening")

    def __init__(self, fallback: Certificate) -> None:
        self._policy = TlsPolicy()
        self.listening = context.listening(self._policy)
        """Where every handshake begins: one object for the life of the store, and with it the keys of its tickets."""
        self._built: WeakValueDictionary[tuple[Certificate, TlsPolicy], Served] = WeakValueDictionary()
        """Contexts by what they were built from, while anything uses them: equal pairs in two Secrets share one."""
        self._names: dict[str, str] = {}
        self._default = _serve(fallback, self._policy)
        self._served: dict[str, Served] = {FALLBACK: self._default}

    def __repr__(self) -> str:
        return f"<CertificateStore {len(self._served) - 1} certificates, {len(self._names)} names>"

    def prepare(self, change: CertificateChange) -> Prepared:
        """Build what ``change`` needs and nothing else; a new policy means every context. For a thread.

        One pair that OpenSSL refuses stops no other: its id is in ``refused``.
        """
        policy = change.policy or self._policy
        wanted = dict(change.certificates)
        if policy != self._policy:
            in_use = {ident: served.certificate for ident, served in self._served.items() if ident not in change.gone}
            wanted = in_use | wanted
        served: dict[str, Served] = {}
        fresh: dict[Certificate, Served] = {}
        refused: set[str] = set()
        for ident, certificate in wanted.items():
            known = self._built.get((certificate, policy)) or fresh.get(certificate)
            try:
                served[ident] = fresh[certificate] = known or _serve(certificate, policy)
            except ssl.SSLError:
                refused.add(ident)
        return Prepared(change, policy, served, frozenset(refused))

    def swap(self, prepared: Prepared) -> None:
        """Make ``prepared`` current: the next handshake meets all of it. On the loop; costs the size of the change."""
        change = prepared.change
        for ident in change.gone:
            self._served.pop(ident, None)
        for name in change.gone_names:
            self._names.pop(name, None)
        self._served.update(prepared.served)
        self._names.update(change.names)
        for served in prepared.served.values():
            self._built[served.certificate, prepared.policy] = served
        self._default = self._served.get(change.default or FALLBACK, self._served[FALLBACK])
        if prepared.policy != self._policy:
            self._policy = prepared.policy
            context.tune(self.listening, self._policy)

    def choose(self, name: str | None) -> Served:
        """What a client that asked for ``name`` (canonical; None: no SNI) is shown: a few dict look-ups.

        Own certificate of the name, exact, then the closest wildcard above it; else the default one (contract 8), so
        that no client can make the router pick some app's certificate.
        """
        ident = names.find(self._names, name) if name else None
        return self._default if ident is None else self._served.get(ident, self._default)


def _serve(certificate: Certificate, policy: TlsPolicy) -> Served:
    covered = frozenset(name.encode() for name in certificate.names)
    return Served(certificate, covered, context.presenting(certificate, policy))
