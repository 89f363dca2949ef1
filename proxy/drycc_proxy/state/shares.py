"""Shares of the places: who may take another one while few are left.

While at most two thirds of the places are taken by exchanges under way, anybody may have any of them. Beyond that a new
exchange is refused if its app, its namespace or its client holds more than a share already, so that whoever takes most
stops at two thirds and the last third is left to others:

::

    of one app          a sixth     requests and tunnels under way
    of one namespace    a quarter   those of all its apps
    of one client       a sixth     tunnels; connections are judged when they are accepted (``core``)

Where only one app is served, or the apps of only one namespace, there are no others, and it has no share.

What is counted per namespace and per client are tunnels, which come and go seldom: no request pays for it. Requests of
a namespace are added up now and then, while it matters.

What must not enter: connections, clocks, and what is done with who is refused.
"""

from __future__ import annotations

from typing import Final

from drycc_proxy.errors import Failure
from drycc_proxy.http.client_address import client_key
from drycc_proxy.metrics import Counters
from drycc_proxy.state.admission import LEAST_PLACES, Admission

__all__ = ["APP_SHARE", "CLIENT_SHARE", "CROWDED", "NAMESPACE_SHARE", "OTHERS", "Shares"]

CROWDED: Final = 2 / 3
"""Of the places, taken: from here on shares act."""
APP_SHARE: Final = 1 / 6
NAMESPACE_SHARE: Final = 1 / 4
CLIENT_SHARE: Final = 1 / 6
OTHERS: Final = 1 / 8
"""Where fewer than this are somebody else's, everybody comes from one address, which is not one client's: a load
balancer that nobody told us of. To refuse it would be an outage."""


class Shares:
    """One per data plane."""

    __slots__ = ("_admission", "_clients", "_counters", "_namespaces", "apps", "crowded", "loads", "owners")

    def __init__(self, admission: Admission, counters: Counters) -> None:
        self._admission = admission
        self._counters = counters
        self._namespaces: dict[str, int] = {}
        """Tunnels."""
        self._clients: dict[str, int] = {}
        """Tunnels, by :func:`drycc_proxy.http.client_address.client_key`."""
        self.loads: dict[str, int] = {}
        """Exchanges under way by namespace, when they were last added up."""
        self.apps = self.owners = 2
        """Apps that are served, and namespaces that have some, when they were last counted."""
        self.crowded = False
        """Shares act."""

    def look(self, streamed: int) -> None:
        """See whether they act. ``streamed``: places that streams have."""
        places = self._admission.most
        taken = self._counters.in_flight + streamed
        self.crowded = places >= LEAST_PLACES and taken > places * CROWDED

    def opened(self, namespace: str, client: str) -> None:
        """A tunnel began."""
        key = client_key(client)
        self._namespaces[namespace] = self._namespaces.get(namespace, 0) + 1
        self._clients[key] = self._clients.get(key, 0) + 1

    def closed(self, namespace: str, client: str) -> None:
        """It is over."""
        for counts, key in ((self._namespaces, namespace), (self._clients, client_key(client))):
            left = counts.get(key, 1) - 1
            if left:
                counts[key] = left
            else:
                counts.pop(key, None)

    def judge(self, namespace: str, load: int, client: str = "") -> Failure | None:
        """Why another exchange must be refused while shares act; None: it need not. ``load``: places that its app has;
        ``client``: who asks for a tunnel."""
        places = self._admission.most
        if load > places * APP_SHARE and self.apps > 1:
            return Failure.APP_SHARE
        if (
            self.owners > 1
            and max(self.loads.get(namespace, 0), self._namespaces.get(namespace, 0)) > places * NAMESPACE_SHARE
        ):
            return Failure.NAMESPACE_SHARE
        if client:
            held = self._clients.get(client_key(client), 0)
            everybody = self._counters.tunnels_open
            if held > places * CLIENT_SHARE and everybody - held >= everybody * OTHERS:
                return Failure.CLIENT_SHARE
        return None
