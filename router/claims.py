"""Who holds a name (contract 7, hardening 5.3).

A host belongs to a namespace, and within it to one Service. The holder keeps it for as long as it claims it; a free
host goes to the oldest claim, then by name; nothing a newcomer does is noticed by a holder. A wildcard and a name below
it exclude each other between namespaces, so a waiting wildcard is admitted when the last stranger below it is gone.

Cost follows the change: settling looks at the hosts whose claims changed, and at those that a released host kept
waiting.

What must not enter: why a claim is valid at all (``compile`` refuses names before they get here), and Problems.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from router.annotations.domains import names_above

__all__ = ["Claimant", "Claims", "Standing"]

_LAST: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True)
class Claimant:
    """An app that claims hosts. Ordered: the one that wins a free host first."""

    created: datetime
    app: str
    """``namespace/service``."""

    @classmethod
    def of(cls, app: str, created: datetime | None) -> Claimant:
        """Unknown times come last: they prove nothing against a known one."""
        return cls(_LAST if created is None else created, app)

    @property
    def namespace(self) -> str:
        """Whom the host belongs to when this app holds it."""
        return self.app.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Standing:
    """Why an app does not hold a host: ``holder`` holds ``host``, which is the one claimed or one that excludes it."""

    host: str
    holder: Claimant


class Claims:
    """Every claim, and who holds what. One writer."""

    __slots__ = ("_below", "_changed", "_claims", "_common", "_holders", "_hosts")

    def __init__(self) -> None:
        self._claims: dict[str, dict[str, Claimant]] = {}
        """host → app → claimant."""
        self._hosts: dict[str, frozenset[str]] = {}
        """app → its hosts."""
        self._holders: dict[str, Claimant] = {}
        self._below: dict[str, set[str]] = {}
        """name → claimed hosts below it, wildcards too: what ``*.name`` would stand for."""
        self._changed: set[str] = set()
        self._common = ""

    def __repr__(self) -> str:
        return f"<Claims {len(self._claims)} hosts of {len(self._hosts)} apps, {len(self._holders)} held>"

    # ── writing ───────────────────────────────────────────────────────────────────────────────────────────────────

    def put(self, claimant: Claimant, hosts: Iterable[str]) -> None:
        """Replace what an app claims; no hosts: it claims nothing any more."""
        before = self._hosts.get(claimant.app, frozenset())
        after = frozenset(hosts)
        for host in before - after:
            del self._claims[host][claimant.app]
            if not self._claims[host]:
                del self._claims[host]
                for name in names_above(host):
                    self._below[name].discard(host)
                    if not self._below[name]:
                        del self._below[name]
            self._changed.add(host)
        for host in after:
            if host not in self._claims:
                self._claims[host] = {}
                for name in names_above(host):
                    self._below.setdefault(name, set()).add(host)
            if self._claims[host].get(claimant.app) != claimant:
                self._claims[host][claimant.app] = claimant
                self._changed.add(host)
        if after:
            self._hosts[claimant.app] = after
        else:
            self._hosts.pop(claimant.app, None)

    def set_common(self, wildcard: str) -> None:
        """Name the one wildcard that excludes nothing: the platform's own, which stands behind everybody's names."""
        if wildcard != self._common:
            self._common = wildcard
            self._changed.update(self._claims)

    def settle(self) -> set[str]:
        """Decide what has changed since the last time; returns the hosts on which anybody's standing may differ."""
        candidates: set[str] = set()
        changed: set[str] = set()
        for host in self._changed:
            holder = self._holders.get(host)
            claims = self._claims.get(host, {})
            if holder is None:
                candidates.add(host)
            elif holder.app in claims:
                self._holders[host] = claims[holder.app]
            else:
                heirs = [other for other in claims.values() if other.namespace == holder.namespace]
                if heirs:
                    self._holders[host] = min(heirs)
                    changed.update(self._related(host))  # whoever it keeps waiting is told of the heir
                else:
                    del self._holders[host]
                    candidates.add(host)
                    candidates.update(self._related(host))
        changed |= self._changed | candidates
        self._changed = set()
        free = [host for host in candidates if host not in self._holders]
        for claimant, host in sorted((claimant, wanted) for wanted in free for claimant in self.claimants(wanted)):
            if host not in self._holders and self._excluding(host, claimant.namespace) is None:
                self._holders[host] = claimant
                changed.update(self._related(host))
        return changed

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────

    def holder(self, host: str) -> str | None:
        """The app that holds a host."""
        holder = self._holders.get(host)
        return None if holder is None else holder.app

    def claimants(self, host: str) -> Iterable[Claimant]:
        """Everybody who claims a host."""
        return self._claims.get(host, {}).values()

    def held_by(self, app: str) -> list[str]:
        """The hosts an app holds, sorted."""
        return sorted(host for host in self._hosts.get(app, ()) if self.holder(host) == app)

    def in_the_way(self, app: str, host: str) -> Standing | None:
        """What keeps an app from a host that it claims and does not hold; None if it holds it."""
        holder = self._holders.get(host)
        if holder is not None:
            return None if holder.app == app else Standing(host, holder)
        other = self._excluding(host, app.partition("/")[0])
        return None if other is None else Standing(other, self._holders[other])

    # ── wildcards ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _excluding(self, host: str, namespace: str) -> str | None:
        """A host held by another namespace that ``host`` cannot stand beside; the same one every time."""
        others = (
            other
            for other in self._related(host)
            if other in self._holders and self._holders[other].namespace != namespace
        )
        return min(others, default=None)

    def _related(self, host: str) -> Iterator[str]:
        """Claimed hosts that ``host`` excludes between namespaces: wildcards above it; below it, if it is one, all."""
        if host == self._common:
            return
        for name in names_above(host):
            if f"*.{name}" in self._claims and f"*.{name}" != self._common:
                yield f"*.{name}"
        if host.startswith("*."):
            yield from (other for other in self._below.get(host[2:], ()) if other != self._common)
