"""A tie: the one connection to an app that belongs to one client connection, because the app knows the client by it.

NTLM and Negotiate authenticate a connection and not a request (RFC 4559 6): whatever comes over it afterwards is that
user's, with or without credentials. So such a connection never goes back to the pool, where the next request would be a
stranger's. It serves its client only, its client's requests to that app go nowhere else, and both end together.

What must not enter: who is authenticated, and how (``http1.parser`` knows the schemes).
"""

from __future__ import annotations

from typing import Protocol, cast

from drycc_proxy.errors import Failure
from drycc_proxy.http.exchange import Exchange, Lender, UpstreamStream
from drycc_proxy.metrics import Counters
from drycc_proxy.upstreams.interfaces import Pool, PooledConnection
from drycc_proxy.upstreams.remembered_heads import Heads

__all__ = ["Tie"]


class Tied(Protocol):
    """The client connection."""

    def untie(self) -> None:
        """Its connection to the app has ended: it is to end as well, in order."""


class Tie:
    """Implements ``http.exchange.Lender`` for the client, and ``interfaces.Home`` for the connection.

    A client connection has one at most: where it uses several apps that authenticate connections, the last one has it.
    """

    __slots__ = ("_client", "_connection", "_pool", "_served", "is_cut", "totals")

    totals: Counters

    def __init__(self, client: Tied) -> None:
        self._client = client
        self._pool: Pool | None = None
        """The app; None: no request for it came yet."""
        self._connection: PooledConnection | None = None
        self._served = False
        """An answer came over it, so the app may know the client by it."""
        self.is_cut = False
        """It had a connection that ended."""

    def __repr__(self) -> str:
        return f"<Tie {self._connection!r}{' cut' if self.is_cut else ''}>"

    # ── for the client ────────────────────────────────────────────────────────────────────────────────────────────

    def over(self, pool: Pool, binds: bool) -> Lender:
        """Who lends connections for the client's next request, which is for this app. ``binds``: its credentials are
        those of the connection."""
        if self._pool is pool:
            return self
        if not binds:
            return pool
        self._begin(pool)
        return self

    def keep(self, connection: PooledConnection) -> None:
        """Take a connection that is lent from its pool."""
        if self._connection is connection:
            return
        if self._pool is not connection.pool or self._connection is not None:
            self._begin(connection.pool)
        self._connection = connection
        endpoint = connection.endpoint
        if endpoint.tied is None:
            endpoint.tied = set()
        endpoint.tied.add(connection)
        connection.tie(self)

    def end(self) -> None:
        """The client is gone, or another app takes its place."""
        connection = self._connection
        self._connection = None
        if connection is not None:
            self._untie(connection)
            connection.close()

    def _begin(self, pool: Pool) -> None:
        self.end()
        self._pool = pool
        self.totals = pool.totals
        self._served = self.is_cut = False

    # ── the lender of an exchange ─────────────────────────────────────────────────────────────────────────────────

    def lend(self, exchange: Exchange, fresh: bool) -> UpstreamStream | None:
        pool = cast(Pool, self._pool)
        if self._connection is not None:
            return pool.lend_tied(self._connection, exchange)
        app = pool.lend(exchange, fresh)
        if app is not None:
            self.lent(exchange, app)
        return app

    def lent(self, exchange: Exchange, app: UpstreamStream) -> None:
        if exchange.fields.binds:
            self.keep(cast(PooledConnection, app))

    def forget(self, exchange: Exchange) -> None:
        cast(Pool, self._pool).forget(exchange)

    def retried(self, failure: Failure) -> bool:
        """Not where the app knew the client: on another connection it would be asked as a stranger."""
        return not self.is_cut and cast(Pool, self._pool).retried(failure)

    # ── the home of the connection ────────────────────────────────────────────────────────────────────────────────

    @property
    def heads(self) -> Heads:
        """Who remembers a large head."""
        return cast(Pool, self._pool).heads

    def give_back(self, connection: PooledConnection, reusable: bool) -> None:
        cast(Pool, self._pool).leave(connection)
        self._served = True
        if not reusable or connection.endpoint.gone:
            self._lost(connection)
            connection.close()

    def leave(self, connection: PooledConnection) -> None:
        cast(Pool, self._pool).leave(connection)
        self._lost(connection)

    def lost_idle(self, connection: PooledConnection) -> None:
        self._lost(connection)

    def _lost(self, connection: PooledConnection) -> None:
        self._untie(connection)
        if self._connection is connection:
            self._connection = None
            if self._served:
                self.is_cut = True
                self._client.untie()

    def _untie(self, connection: PooledConnection) -> None:
        tied = connection.endpoint.tied
        if tied is not None:
            tied.discard(connection)
