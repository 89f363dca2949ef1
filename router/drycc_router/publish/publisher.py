"""Where a snapshot goes: certificates first, then routes, so that no route sends anybody to an https not there yet.

Snapshots are differences. One that could not be published must not be lost, so it is kept and the next one is laid on
top of it: what is behind is caught up with the next attempt.

What must not enter: how a snapshot came about, and when to publish (``publish.reconcile``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from drycc_proxy.routing.definitions import TableChange
from drycc_tls.store import CertificateStore
from drycc_tls.update import CertificateChange

__all__ = ["FINISHED_AT_ONCE", "DataPlane", "Publisher", "lay_certificates", "lay_table"]

FINISHED_AT_ONCE: Final = 16
"""TLS contexts that are built in one go: so many milliseconds for which a change may have to wait."""


class DataPlane(Protocol):
    """What the publisher asks of ``gateway.Gateway``."""

    def publish(self, change: TableChange) -> None:
        """Make a change current for every request that begins from now on."""


class Publisher:
    """One home of snapshots: this process."""

    __slots__ = ("_certificates", "_gateway", "_store", "_table", "one_peer", "peers", "refusals")

    def __init__(self, store: CertificateStore, gateway: DataPlane) -> None:
        self._store = store
        self._gateway = gateway
        self._certificates: CertificateChange | None = None
        self._table: TableChange | None = None
        self.refusals: Callable[[], None] = lambda: None
        """Never called: here what is refused differs only by :meth:`publish` and :meth:`finish`."""
        self.peers: Callable[[], None] = lambda: None
        """Called when :attr:`one_peer` has changed."""
        self.one_peer = ""
        """See ``gateway.Gateway``."""

    def note_peer(self, address: str) -> None:
        """The gateway has found out who that is."""
        self.one_peer = address
        self.peers()

    @property
    def refused(self) -> frozenset[str]:
        """ids of certificates that OpenSSL would not take; what they presented before stays."""
        return self._store.refused

    @property
    def behind(self) -> bool:
        """Whether something that was handed in has not been published."""
        return self._certificates is not None or self._table is not None

    async def publish(
        self, certificates: CertificateChange, table: TableChange, passed: Callable[[str], None] = lambda _: None
    ) -> None:
        """Make both current, with everything an earlier call failed to publish. One call at a time, on the loop.

        ``passed`` is told the name of each stage that is done. Raises whatever building or binding raises; then
        :attr:`behind` holds.
        """
        self._certificates = lay_certificates(self._certificates, certificates)
        self._table = lay_table(self._table, table)
        prepared = await asyncio.to_thread(self._store.prepare, self._certificates)
        self._store.swap(prepared)
        self._certificates = None
        passed("certificates")
        self._gateway.publish(self._table)
        self._table = None
        passed("publish")

    @property
    def is_unfinished(self) -> bool:
        """Whether TLS contexts of certificates that are published wait for being built."""
        return self._store.is_unfinished

    async def finish(self) -> None:
        """Build some of those. Not beside :meth:`publish`."""
        await asyncio.to_thread(self._store.finish, FINISHED_AT_ONCE)


def lay_table(below: TableChange | None, above: TableChange) -> TableChange:
    """One change with the effect of two, ``below`` first."""
    if below is None:
        return above
    return TableChange(
        generation=above.generation,
        routes={name: route for name, route in below.routes.items() if name not in above.gone_routes}
        | dict(above.routes),
        gone_routes=(below.gone_routes - above.routes.keys()) | above.gone_routes,
        hosts={host: rule for host, rule in below.hosts.items() if host not in above.gone_hosts} | dict(above.hosts),
        gone_hosts=(below.gone_hosts - above.hosts.keys()) | above.gone_hosts,
        streams={name: stream for name, stream in below.streams.items() if name not in above.gone_streams}
        | dict(above.streams),
        gone_streams=(below.gone_streams - above.streams.keys()) | above.gone_streams,
        edge=below.edge if above.edge is None else above.edge,
    )


def lay_certificates(below: CertificateChange | None, above: CertificateChange) -> CertificateChange:
    """One change with the effect of two, ``below`` first."""
    if below is None:
        return above
    return CertificateChange(
        generation=above.generation,
        certificates={ident: pair for ident, pair in below.certificates.items() if ident not in above.gone}
        | dict(above.certificates),
        gone=(below.gone - above.certificates.keys()) | above.gone,
        names={name: ident for name, ident in below.names.items() if name not in above.gone_names} | dict(above.names),
        gone_names=(below.gone_names - above.names.keys()) | above.gone_names,
        default=above.default,
        policy=below.policy if above.policy is None else above.policy,
    )
