"""The rule of ownership (contract 7, hardening 5.3) written down once more, with neither speed nor memory in mind."""

from __future__ import annotations

from collections.abc import Mapping

from drycc_router.model.hostnames import covers

__all__ = ["Registrar", "namespace"]


def namespace(app: str) -> str:
    return app.partition("/")[0]


class Registrar:
    """One who sees every claim come and go, forgets nothing, and never restarts: what all replicas together should be.

    ``created``: app → when its Service was made, in any unit.
    """

    def __init__(self, created: Mapping[str, int]) -> None:
        self.created = created
        self.since: dict[tuple[str, str], int] = {}
        self.holders: dict[str, str] = {}

    def hears(self, claims: Mapping[str, frozenset[str]], now: int) -> None:
        """What every app claims from now on."""
        standing = {(host, app) for app, hosts in claims.items() for host in hosts}
        self.since = {key: self.since.get(key, now) for key in standing}
        turn = sorted((since, self.created[app], app, host) for (host, app), since in self.since.items())
        left = {host: holder for host, holder in self.holders.items() if (host, holder) not in standing}
        for host, holder in left.items():
            del self.holders[host]
            heirs = [app for *_, app, wanted in turn if wanted == host and namespace(app) == namespace(holder)]
            if heirs:
                self.holders[host] = heirs[0]
        for *_, app, host in turn:
            strangers = [other for other, holder in self.holders.items() if namespace(holder) != namespace(app)]
            if host not in self.holders and not any(covers(host, other) or covers(other, host) for other in strangers):
                self.holders[host] = app

    def answers(self, name: str) -> str | None:
        """Who may hear a request for a name: whoever holds it, else whoever holds the closest wildcard above it."""
        if name in self.holders:
            return self.holders[name]
        above = [host for host in self.holders if covers(host, name)]
        return self.holders[max(above, key=len)] if above else None
