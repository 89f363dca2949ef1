"""Who holds a name (contract 7, hardening 5.3).

A name belongs to a namespace, and within it to one Service. In ten lines:

- A *claim* is (host, Service). It is as old as the moment a router first saw it; of those seen at once the older
  Service comes first, then the name. The age of a Service proves nothing else.
- Whoever holds a host keeps it while it claims it. A holder that stops is followed by an heir in its namespace, else by
  the oldest claim. Nothing that others do is noticed by a holder.
- Between namespaces a wildcard and a name below it exclude each other: whichever holds keeps the other waiting, and a
  waiting wildcard is admitted when the last stranger below it is gone.
- All that is remembered (``claims.record``) by one replica, the author of the *record*. For every other replica
  the record's word counts: claims are as old as it says, and a holder that it names holds, whatever was decided here.
- Its own word is no news to a replica: the author goes on from what it knows, which is more than it had written.
- What the record does not mention is younger than all that it does, and decided here until the next record.

So replicas agree as soon as a record that knows every claim was read by all, also those that start later. The record is
always a little old, but its word about a claim that went away and came back stands until the next one: the author may
not have seen it go, and then only its word makes all agree. After a minute away its word is over all the same, so that
a record which nobody may write any more gives nothing back to somebody who left long ago. Without a record, everything
seen when the router starts was seen at once, and so the age of Services decides.

Cost follows the change: settling looks at the hosts whose claims changed, and at those that a released host kept
waiting.

What must not enter: why a claim is valid at all (``compile`` refuses names before they get here), and Problems.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, NamedTuple

from drycc_router.claims.record import Book, ClaimKey, Record, Recorded, Stamp
from drycc_router.model.hostnames import names_above

__all__ = ["AWAY", "Claimant", "Claims", "Standing"]

AWAY: Final = 60_000
"""Milliseconds without a claim after which nothing that was remembered of it counts any more. Longer than an elected
replica may be deaf and still be elected."""

_LAST: Final = datetime.max.replace(tzinfo=UTC)


class Claimant(NamedTuple):
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
    """Every claim, and who holds what. One writer. ``author``: by what its records are known, for tests."""

    __slots__ = (
        "_author",
        "_away",
        "_below",
        "_changed",
        "_claims",
        "_common",
        "_ended",
        "_entries",
        "_holders",
        "_hosts",
        "_latest",
        "_named",
        "_record",
        "_serial",
        "_there",
        "_word",
    )

    def __init__(self, author: str = "") -> None:
        self._claims: dict[str, dict[str, Claimant]] = {}
        """host → app → claimant."""
        self._hosts: dict[str, frozenset[str]] = {}
        """app → its hosts."""
        self._holders: dict[str, Claimant] = {}
        self._below: dict[str, set[str]] = {}
        """name → claimed hosts below it, wildcards too: what ``*.name`` would stand for."""
        self._changed: dict[str, None] = {}
        """Hosts to decide upon, in the order in which they were put: ten thousand are gone through faster in that."""
        self._common: frozenset[str] = frozenset()
        # What is to be remembered.
        self._entries = Book()
        """Every claim that was settled."""
        self._latest = 0
        """No claim begins before it: clocks of replicas differ, and new claims are younger than remembered ones."""
        self._author = author or secrets.token_hex(8)
        self._serial = 0
        self._record: Record | None = None
        """The entries as they were handed out, until they change."""
        # What is remembered.
        self._there: Stamp | None = None
        """Which record is there."""
        self._word: Mapping[ClaimKey, Recorded] = {}
        """What it says, if it is another's."""
        self._named: dict[str, str] = {}
        """host → who holds it by that word."""
        self._ended: set[ClaimKey] = set()
        """Claims it speaks of that ended since the last time claims were settled."""
        self._away: dict[ClaimKey, int] = {}
        """Claims it speaks of that nobody makes here, since when."""

    def __repr__(self) -> str:
        return f"<Claims {len(self._claims)} hosts of {len(self._hosts)} apps, {len(self._holders)} held>"

    # ── writing ───────────────────────────────────────────────────────────────────────────────────────────────────

    def put(self, claimant: Claimant, hosts: Iterable[str]) -> None:
        """Replace what an app claims; no hosts: it claims nothing any more."""
        before = self._hosts.get(claimant.app, frozenset())
        after = frozenset(hosts)
        for host in before - after:
            self._end(host, claimant.app)
            del self._claims[host][claimant.app]
            if not self._claims[host]:
                del self._claims[host]
                for name in names_above(host):
                    self._below[name].discard(host)
                    if not self._below[name]:
                        del self._below[name]
            self._changed[host] = None
        for host in after:
            claims = self._claims.get(host)
            if claims is None:
                claims = self._claims[host] = {}
                for name in names_above(host):
                    self._below.setdefault(name, set()).add(host)
            if claims.get(claimant.app) != claimant:
                claims[claimant.app] = claimant
                self._changed[host] = None
        if after:
            self._hosts[claimant.app] = after
        else:
            self._hosts.pop(claimant.app, None)

    def set_common(self, hosts: frozenset[str]) -> None:
        """Name the hosts that exclude nothing: the platform's own wildcard, which stands behind everybody's names, and
        those that the operator gave to somebody, which nobody else claims."""
        if hosts != self._common:
            self._common = hosts
            self._changed.update(dict.fromkeys(self._claims))

    def settle(self, now: int = 0) -> set[str]:
        """Decide what has changed since the last time; returns the hosts on which anybody's standing may differ.

        ``now``: Unix milliseconds, the time at which claims that are new began.
        """
        self._latest = max(self._latest, now)
        for key in self._ended:
            self._away[key] = now
        self._ended.clear()
        undisputed = self._give_undisputed(now)
        for host in undisputed:
            del self._changed[host]
        self._begin(now)
        freed = self._vacate()
        candidates = set(self._changed).union(freed, *(self._related(host) for host in freed))
        self._changed.clear()
        changed = candidates | self._give(candidates, freed)
        for host in candidates:
            holder = self.holder(host)
            for app in self._claims.get(host, ()):
                self._enter((host, app), Recorded(self._entries[host, app].since, app == holder))
        return changed | undisputed

    def _give_undisputed(self, now: int) -> set[str]:
        """Give the hosts that one app claims and that exclude no other host: nearly all, nearly always.

        Without this they would get them just so: nobody comes first, and nobody else is to be kept waiting or let in.
        """
        given = set()
        for host in self._changed:
            claims = self._claims.get(host, {})
            if len(claims) == 1 and next(self._related(host), None) is None:
                [(app, claimant)] = claims.items()
                self._holders[host] = claimant
                self._enter((host, app), Recorded(self._since(host, app, now), held=True))
                given.add(host)
        return given

    def _begin(self, now: int) -> None:
        """Give every new claim its age."""
        for host in self._changed:
            for app in self._claims.get(host, ()):
                if (host, app) not in self._entries:
                    self._enter((host, app), Recorded(self._since(host, app, now), held=False))

    def _since(self, host: str, app: str, now: int) -> int:
        """When a claim began: for a new one what is remembered of it, else the present."""
        entry = self._entries.find((host, app))
        if entry is not None:
            return entry.since
        said = self._said(host, app, now)
        return said.since if said else self._latest

    def _vacate(self) -> dict[str, Claimant]:
        """Take hosts from those who claim them no more, and from those in the way of a holder that the record names.

        Returns whom they were taken from.
        """
        freed: dict[str, Claimant] = {}
        for host in self._changed:
            holder = self._holders.get(host)
            rightful = self._rightful(host)
            vacant = []
            if rightful is not None and (holder is None or holder.app != rightful.app):
                vacant = [host, *(other for other in self._related(host) if self._must_yield(other, rightful))]
            elif holder is not None and holder.app not in self._claims.get(host, ()):
                vacant = [host]
            elif holder is not None:
                self._holders[host] = self._claims[host][holder.app]
            freed.update((each, self._holders.pop(each)) for each in vacant if each in self._holders)
        return freed

    def _must_yield(self, host: str, rightful: Claimant) -> bool:
        """Whether a stranger holds ``host`` whom the record does not name."""
        holder = self._holders.get(host)
        if holder is None or holder.namespace == rightful.namespace:
            return False
        named = self._rightful(host)
        return named is None or named.app != holder.app

    def _give(self, candidates: Iterable[str], freed: Mapping[str, Claimant]) -> set[str]:
        """Give the hosts that nobody holds to whoever comes first; returns those which that keeps waiting."""

        def rank(wish: tuple[Claimant, str]) -> tuple[int, int, datetime, str, str]:
            """Whom the record names, then the heirs of whoever held it last, then the oldest claim."""
            claimant, host = wish
            named = self._named.get(host, "")
            last = freed[host].app if host in freed else named
            distance = 0 if claimant.app == named else 1 if last.startswith(f"{claimant.namespace}/") else 2
            return distance, self._entries[host, claimant.app].since, claimant.created, claimant.app, host

        changed: set[str] = set()
        wishes = [(each, host) for host in candidates if host not in self._holders for each in self.claimants(host)]
        for claimant, host in sorted(wishes, key=rank):
            if host not in self._holders and self._excluding(host, claimant.namespace) is None:
                self._holders[host] = claimant
                changed.update(self._related(host))
        return changed

    # ── remembering ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def author(self) -> str:
        """By what the records of this replica are known. Another one at every start: what an earlier process of this
        Pod wrote is the word of another."""
        return self._author

    def record(self) -> Record | None:
        """What whoever is elected should write; None: it stands there already, under this replica's name.

        Also when another's record says the same, so that every word that counts is that of the one who decides. The
        same object until something else should be written.
        """
        if self._record is None:
            self._serial += 1
            self._record = Record(Stamp(self._author, self._serial), self._entries.hand_out(), self._there)
        elif self._record.stamp == self._there:
            return None
        elif self._record.after != self._there:
            self._record = replace(self._record, after=self._there)
        return self._record

    def recall(self, record: Record | None, now: int = 0) -> None:
        """Take the word of another replica in place of what was remembered before; None: there is no record.

        ``now``: as for :meth:`settle`. Nothing is decided until then.
        """
        self._there = record.stamp if record else None
        self._word = record.claims if record else {}
        self._named = {host: app for (host, app), (_, held) in self._word.items() if held}
        self._ended.clear()
        away: dict[ClaimKey, int] = {}
        for key, said in self._word.items():
            entry = self._entries.get(key)
            if entry is None and key[1] not in self._claims.get(key[0], ()):
                away[key] = self._away.get(key, now)
            elif entry is not None and entry != said:
                self._enter(key, Recorded(said.since, entry.held))
                self._changed[key[0]] = None
        self._away = away
        if record:
            younger = max((said.since for said in self._word.values()), default=0) + 1
            self._latest = max(self._latest, younger)
            for key in self._entries.keys() - self._word.keys():
                entry = self._entries[key]
                self._enter(key, Recorded(max(entry.since, younger), entry.held))

    def written(self, stamp: Stamp) -> None:
        """Note that a record of this replica's own is there now: what it says is known, and all that came after."""
        self._there = stamp
        self._word = {}
        self._named = {}
        self._ended = set()
        self._away = {}

    def _end(self, host: str, app: str) -> None:
        """Forget a claim, but not that it ended."""
        if (host, app) in self._entries:
            self._enter((host, app), None)
        if (host, app) in self._word:
            self._ended.add((host, app))

    def _said(self, host: str, app: str, now: int) -> Recorded | None:
        """What the record says of a claim that begins here, unless that is over."""
        if not self._word:
            return None
        if now - self._away.pop((host, app), now) <= AWAY:
            return self._word.get((host, app))
        if self._named.get(host) == app:
            del self._named[host]
        return None

    def _rightful(self, host: str) -> Claimant | None:
        """Whom the record names as the holder, if it claims the host."""
        return self._claims.get(host, {}).get(self._named.get(host, ""))

    def _enter(self, key: ClaimKey, entry: Recorded | None) -> None:
        """The one place where entries change."""
        if entry == self._entries.find(key):
            return
        self._entries.put(key, entry)
        self._record = None

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

    def below(self, wildcard: str) -> Set[str]:
        """The hosts claimed below a wildcard, other wildcards too."""
        return self._below.get(wildcard.removeprefix("*."), frozenset())

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
        if host in self._common:
            return
        for name in names_above(host):
            wildcard = f"*.{name}"
            if wildcard in self._claims and wildcard not in self._common:
                yield wildcard
        if host.startswith("*."):
            yield from (other for other in self._below.get(host[2:], ()) if other not in self._common)
