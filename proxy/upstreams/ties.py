"""A tie: the one connection to an app that belongs to one client connection, because the app knows the client by it.

NTLM and Negotiate authenticate a connection and not a request (RFC 4559 6): whatever comes over it afterwards is that
user's, with or without credentials. So such a connection never goes back to the pool, where the next request would be a
stranger's. It serves its client only, its client's requests to that app go nowhere else, and both end together.

What must not enter: who is authenticated, and how (``http1.parser`` knows the schemes).
"""

from __future__ import annotations

from typing import Protocol, cast

from proxy.errors import Failure
from proxy.http.exchange import App, Exchange, Lender
from proxy.http1.upstream import Http1Upstream
from proxy.metrics import Counters
from proxy.upstreams.heads import Heads
from proxy.upstreams.upstream import Upstream

__all__ = ["Tie"]


class Tied(Protocol):
    """The client connection."""

    def untie(self) -> None:
        """Its connection to the app has ended: it is to end as well, in order."""


class Tie:
    """Implements ``proxy.http.exchange.Lender`` for the client, and ``proxy.http1.upstream.Home`` for the connection.

    A client connection has one at most: where it uses several apps that authenticate connections, the last one has it.
    """

    __slots__ = ("_client", "_connection", "_served", "_upstream", "is_cut", "totals")

    totals: Counters

    def __init__(self, client: Tied) -> None:
        self._client = client
        self._upstream: Upstream | None = None
        """The app; None: no request for it came yet."""
        self._connection: Http1Upstream | None = None
        self._served = False
        """An answer came over it, so the app may know the client by it."""
        self.is_cut = False
        """It had a connection that ended."""

    def __repr__(self) -> str:
        return f"<Tie {self._connection!r}{' cut' if self.is_cut else ''}>"

    # ── for the client ────────────────────────────────────────────────────────────────────────────────────────────

    def over(self, upstream: Upstream, binds: bool) -> Lender:
        """Who lends connections for the client's next request, which is for this app. ``binds``: its credentials are
        those of the connection."""
        if self._upstream is upstream:
            return self
        if not binds:
            return upstream
        self._begin(upstream)
        return self

    def keep(self, connection: Http1Upstream, upstream: Upstream) -> None:
        """Take a connection that is lent from its pool."""
        if self._connection is connection:
            return
        if self._upstream is not upstream or self._connection is not None:
            self._begin(upstream)
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

    def _begin(self, upstream: Upstream) -> None:
        self.end()
        self._upstream = upstream
        self.totals = upstream.totals
        self._served = self.is_cut = False

    # ── the lender of an exchange ─────────────────────────────────────────────────────────────────────────────────

    def lend(self, exchange: Exchange, fresh: bool) -> App | None:
        upstream = cast(Upstream, self._upstream)
        if self._connection is not None:
            return upstream.lend_tied(self._connection, exchange)
        app = upstream.lend(exchange, fresh)
        if app is not None:
            self.lent(exchange, app)
        return app

    def lent(self, exchange: Exchange, app: App) -> None:
        if exchange.fields.binds:
            self.keep(cast(Http1Upstream, app), cast(Upstream, self._upstream))

    def forget(self, exchange: Exchange) -> None:
        cast(Upstream, self._upstream).forget(exchange)

    def retried(self, failure: Failure) -> bool:
        """Not where the app knew the client: on another connection it would be asked as a stranger."""
        return not self.is_cut and cast(Upstream, self._upstream).retried(failure)

    # ── the home of the connection ────────────────────────────────────────────────────────────────────────────────

    @property
    def heads(self) -> Heads:
        """Who remembers a large head."""
        return cast(Upstream, self._upstream).heads

    def give_back(self, connection: Http1Upstream, reusable: bool) -> None:
        cast(Upstream, self._upstream).leave(connection)
        self._served = True
        if not reusable or connection.endpoint.gone:
            self._lost(connection)
            connection.close()

    def leave(self, connection: Http1Upstream) -> None:
        cast(Upstream, self._upstream).leave(connection)
        self._lost(connection)

    def lost_idle(self, connection: Http1Upstream) -> None:
        self._lost(connection)

    def _lost(self, connection: Http1Upstream) -> None:
        self._untie(connection)
        if self._connection is connection:
            self._connection = None
            if self._served:
                self.is_cut = True
                self._client.untie()

    def _untie(self, connection: Http1Upstream) -> None:
        tied = connection.endpoint.tied
        if tied is not None:
            tied.discard(connection)
