"""The living certificates: which context answers which name.

Two steps, so that building costs no request anything: ``prepare`` builds in a thread and touches nothing that is in
use, ``swap`` makes the result current on the loop. One writer (the publisher, one change at a time), one reader (the
SNI callback, on the same loop as ``swap``).

A context costs OpenSSL a millisecond, nearly all of it to read the key. So of many certificates that are all new, as at
the start, the contexts are built afterwards (``finish``), or by the first handshake that wants one: 2,000 of them would
keep a router from being ready for seconds.

What must not enter: the loop, sockets, Kubernetes.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final
from weakref import WeakValueDictionary

from drycc_tls import context, hostnames
from drycc_tls.certificate import Certificate
from drycc_tls.policy import TlsPolicy
from drycc_tls.update import CertificateChange

__all__ = ["AT_ONCE", "CertificateStore", "Prepared", "Served"]

FALLBACK: Final = ""
"""The id of the certificate of last resort; no Secret has it."""
AT_ONCE: Final = 64
"""New certificates of one change from which on their contexts are built afterwards."""


class Served:
    """A certificate bound to its context; shared by every name and id that presents it."""

    __slots__ = ("__weakref__", "_context", "certificate", "names", "policy")

    def __init__(self, certificate: Certificate, policy: TlsPolicy) -> None:
        self.certificate = certificate
        self.policy = policy
        self.names = frozenset(name.encode() for name in certificate.names)
        self._context: ssl.SSLContext | None = None

    @property
    def is_built(self) -> bool:
        """Whether asking for the context costs nothing."""
        return self._context is not None

    @property
    def context(self) -> ssl.SSLContext:
        """Built when first asked for; by a thread and the loop at once, both are as good. Raises ssl.SSLError."""
        if self._context is None:
            self._context = context.presenting(self.certificate, self.policy)
        return self._context

    def covers(self, host: bytes) -> bool:
        """Whether the certificate covers canonical ``host``; two set look-ups (``hostnames.covers``, over bytes)."""
        return host in self.names or b"*." + host.partition(b".")[2] in self.names


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A change whose contexts are built, but for those that may wait, ready to be swapped in."""

    change: CertificateChange
    policy: TlsPolicy
    served: Mapping[str, Served]
    refused: frozenset[str]
    """ids that OpenSSL would not take although they were judged good; what they presented before stays."""


class CertificateStore:
    """Starts with ``fallback`` (see ``self_signed``) for every name, and the default policy."""

    __slots__ = ("_built", "_default", "_names", "_policy", "_served", "_unfinished", "listening", "refused")

    def __init__(self, fallback: Certificate) -> None:
        self._policy = TlsPolicy()
        self.listening = context.listening(self._policy)
        """Where every handshake begins: one object for the life of the store, and with it the keys of its tickets."""
        self._built: WeakValueDictionary[tuple[Certificate, TlsPolicy], Served] = WeakValueDictionary()
        """Contexts by what they were built from, while anything uses them: equal pairs in two Secrets share one."""
        self._names: dict[str, str] = {}
        self._default = _serve(fallback, self._policy)
        self._served: dict[str, Served] = {FALLBACK: self._default}
        self._unfinished: dict[str, Served] = {}
        """Those whose context was not built when they became current."""
        self.refused: frozenset[str] = frozenset()
        """ids of certificates that OpenSSL would not take; what they presented before stays, or the default one."""

    def __repr__(self) -> str:
        return f"<CertificateStore {len(self._served) - 1} certificates, {len(self._names)} names>"

    def prepare(self, change: CertificateChange) -> Prepared:
        """Build what ``change`` needs and nothing else; a new policy means every context. For a thread.

        One pair that OpenSSL refuses stops no other: its id is in ``refused``. What takes the place of something is
        built here whatever it costs, so that what is there stays if OpenSSL refuses it.
        """
        policy = change.policy or self._policy
        wanted = dict(change.certificates)
        if policy != self._policy:
            in_use = {ident: served.certificate for ident, served in self._served.items() if ident not in change.gone}
            wanted = in_use | wanted
        served: dict[str, Served] = {}
        fresh: dict[Certificate, Served] = {}
        refused: set[str] = set()
        may_wait = sum(ident not in self._served for ident in wanted) > AT_ONCE
        for ident, certificate in wanted.items():
            each = self._built.get((certificate, policy)) or fresh.get(certificate) or Served(certificate, policy)
            try:
                if ident in self._served or not may_wait:
                    each.context  # noqa: B018 -- builds it
                served[ident] = fresh[certificate] = each
            except ssl.SSLError:
                refused.add(ident)
        return Prepared(change, policy, served, frozenset(refused))

    def swap(self, prepared: Prepared) -> None:
        """Make ``prepared`` current: the next handshake meets all of it. On the loop; costs the size of the change."""
        change = prepared.change
        for ident in change.gone:
            self._served.pop(ident, None)
            self._unfinished.pop(ident, None)
        for name in change.gone_names:
            self._names.pop(name, None)
        self._served.update(prepared.served)
        self._names.update(change.names)
        for ident, served in prepared.served.items():
            self._built[served.certificate, prepared.policy] = served
            if served.is_built:
                self._unfinished.pop(ident, None)
            else:
                self._unfinished[ident] = served
        self.refused = self.refused.difference(prepared.served, change.gone) | prepared.refused
        self._default = self._served.get(change.default or FALLBACK, self._served[FALLBACK])
        if prepared.policy != self._policy:
            self._policy = prepared.policy
            context.tune(self.listening, self._policy)

    @property
    def is_unfinished(self) -> bool:
        """Whether contexts that are current wait for being built."""
        return bool(self._unfinished)

    def finish(self, count: int) -> None:
        """Build up to ``count`` contexts that wait. For a thread, but never beside ``prepare`` or ``swap``.

        Those that OpenSSL will not take are in :attr:`refused` then: their names present the default certificate.
        """
        for ident, served in list(islice(self._unfinished.items(), count)):
            try:
                served.context  # noqa: B018 -- builds it
            except ssl.SSLError:
                self.refused |= {ident}
                self._served[ident] = self._default
            del self._unfinished[ident]

    def choose(self, name: str | None) -> Served:
        """What a client that asked for ``name`` (canonical; None: no SNI) is shown: a few dict look-ups.

        Own certificate of the name, exact, then the closest wildcard above it; else the default one (contract 8), so
        that no client can make the router pick some app's certificate.
        """
        ident = hostnames.find(self._names, name) if name else None
        if not ident:
            return self._default
        served = self._served.get(ident, self._default)
        if not served.is_built:
            try:
                served.context  # noqa: B018 -- builds it
            except ssl.SSLError:  # ``finish`` will say so
                return self._default
        return served


def _serve(certificate: Certificate, policy: TlsPolicy) -> Served:
    served = Served(certificate, policy)
    served.context  # noqa: B018 -- builds it
    return served
