"""Namespaces that are to be watched and were never heard of completely: for their Services the record speaks.

A router that starts and may not read one of several namespaces serves the others (hardening R-13). Which Services that
one has it does not know, and not to know is not to be told that they are gone: what is remembered of them (contract 7)
stays claimed, so nobody takes their names, and stays in the record. A Service that is known speaks for itself.

Until when, and why no longer:

- A complete list was heard: what it does not have is gone, and its names are free. Losing the right later takes nothing
  back, as what was told stays; so a namespace is heard of at last, and no claim is kept for ever by accident.
- Namespaces that are not (or no longer) watched: their claims end, as they always did. The operator took them out of
  this router's hands, nobody will ever hear of them, and names would be blocked for ever. Where all are watched
  together there is one list, and nothing is published before that is complete.
- Where the right stays missing, the operator may give the name away (``own.OwnNames.given``): that beats the record.

What must not enter: who wins (``claims.arbiter``), and what is wrong with a namespace.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Final

from drycc_router.claims.record import ClaimKey
from drycc_router.model.objects import Change, ObjectKey

__all__ = ["UNHEARD", "Unheard", "unheard"]

UNHEARD: Final = "Unheard"
"""Kind of Changes about no object, but about what is known of a namespace; it keeps its place among the others."""


def unheard(namespace: str, *, still: bool = True) -> Change:
    """Say that nobody knows which Services a namespace has; not ``still``: it is known, and all of them were told.

    To be said before the first table is complete: what was heard of once is not unheard of again.
    """
    return Change(ObjectKey(UNHEARD, namespace, "*"), {} if still else None)


class Unheard:
    """What is remembered of such namespaces. One writer. All that returns apps says whose claims may differ by it."""

    __slots__ = ("_heard", "_remembered")

    def __init__(self) -> None:
        self._remembered: dict[str, dict[str, list[str]]] = {}
        """Namespace → app → hosts."""
        self._heard: dict[str, set[str]] = {}
        """Namespace → apps of which something was told since, if only that they are gone."""

    def __repr__(self) -> str:
        return f"<Unheard of: {', '.join(self._remembered) or 'nobody'}>"

    def note(self, change: Change) -> Set[str]:
        """Take what :func:`unheard` said."""
        namespace = change.key.namespace
        if change.object is not None:
            self._remembered.setdefault(namespace, {})
            self._heard.setdefault(namespace, set())
            return frozenset()
        self._heard.pop(namespace, None)
        return self._remembered.pop(namespace, {}).keys()

    def hear(self, service: ObjectKey) -> None:
        """Something is told of a Service: from now on it speaks for itself, also where it is gone."""
        heard = self._heard.get(service.namespace)
        if heard is not None:
            heard.add(f"{service.namespace}/{service.name}")

    def recall(self, claims: Iterable[ClaimKey]) -> Set[str]:
        """Take the word of another replica in place of what was remembered before.

        That there is no record, or none that can be read, is no word: it takes nothing from anybody.
        """
        before = self.apps()
        self._remembered = {namespace: {} for namespace in self._remembered}
        if self._remembered:
            for host, app in claims:
                apps = self._remembered.get(app.partition("/")[0])
                if apps is not None:
                    apps.setdefault(app, []).append(host)
        return before | self.apps()

    def apps(self) -> Set[str]:
        """Everybody for whom the record speaks."""
        return {app for apps in self._remembered.values() for app in apps}

    def claimed_by(self, app: str) -> list[str]:
        """The hosts that an app claims by the record's word."""
        namespace = app.partition("/")[0]
        if app in self._heard.get(namespace, ()):
            return []
        return self._remembered.get(namespace, {}).get(app, [])
