"""What became current, for people who read the log: which apps, hosts and certificates, and how long it took.

One line a second at most: what follows sooner is counted together and told when the second is over.

What must not enter: what is wrong (``model.problems``), and anything of a certificate but its Secret's name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Final, Protocol

from drycc_router.compile.revision import Snapshot

__all__ = ["ChangeLog", "Later"]

log = logging.getLogger(__name__)

EVERY: Final = 1.0
"""Seconds between two lines."""
NAMED: Final = 5
"""Apps, hosts and certificates that are named in a line; the others are counted."""


class Later(Protocol):
    """What is asked of ``asyncio.AbstractEventLoop.call_later``."""

    def __call__(self, delay: float, callback: Callable[[], None], /) -> object:
        """Call back after so many seconds."""


class ChangeLog:
    """One per process. ``clock``: monotonic seconds."""

    __slots__ = ("_clock", "_first", "_is_waiting", "_last", "_later", "_next", "_other", "_parts", "_took")

    def __init__(self, clock: Callable[[], float], later: Later) -> None:
        self._clock = clock
        self._later = later
        self._next = float("-inf")
        """When the next line may be written."""
        self._is_waiting = False
        self._first = self._last = 0
        self._took = 0.0
        self._parts: dict[str, dict[str, bool]] = {}
        """Kind → name → whether it is there (else it is gone)."""
        self._other = False

    def note(self, snapshot: Snapshot, took: float) -> None:
        """Take a snapshot that became current ``took`` seconds after the first of its Changes was heard of."""
        if not snapshot.changed:
            return
        self._first = self._first or snapshot.generation
        self._last, self._took = snapshot.generation, took
        table, certificates = snapshot.table, snapshot.certificates
        self._add("app", table.routes, table.gone_routes)
        hosts = (name.decode("ascii", "replace") for name in table.hosts)
        self._add("host", list(hosts), [name.decode("ascii", "replace") for name in table.gone_hosts])
        self._add("certificate", certificates.certificates, certificates.gone)
        self._add("stream", table.streams, table.gone_streams)
        self._other |= table.edge is not None or certificates.policy is not None
        wait = self._next - self._clock()
        if wait <= 0.0:
            self._write()
        elif not self._is_waiting:
            self._is_waiting = True
            self._later(wait, self._write)

    def _add(self, kind: str, there: Collection[str], gone: Collection[str]) -> None:
        if there or gone:
            part = self._parts.setdefault(kind, {})
            part.update(dict.fromkeys(there, True))
            part.update(dict.fromkeys(gone, False))

    def _write(self) -> None:
        told = "; ".join(_told(kind, names) for kind, names in self._parts.items())
        settings = "the router's settings" if self._other else ""
        which = (
            f"generation {self._last} is"
            if self._first == self._last
            else f"generations {self._first} to {self._last} are"
        )
        what = "; ".join(part for part in (told, settings) if part) or "nothing that routes"
        log.info("%s current after %.0f ms: %s", which, self._took * 1000, what)
        self._next = self._clock() + EVERY
        self._is_waiting = False
        self._first = 0
        self._parts = {}
        self._other = False


def _told(kind: str, names: dict[str, bool]) -> str:
    """``2 apps (blog/web, shop/web)``, ``1 app gone (shop/old)``, or both."""
    parts = []
    for is_there, word in ((True, ""), (False, " gone")):
        found = [name for name, there in names.items() if there is is_there]
        if found:
            more = len(found) - NAMED
            listed = ", ".join(sorted(found)[:NAMED])
            listed += f" and {more} more" if more > 0 else ""
            parts.append(f"{len(found)} {kind}{'' if len(found) == 1 else 's'}{word} ({listed})")
    return ", ".join(parts)
