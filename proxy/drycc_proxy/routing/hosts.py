"""Which name answers which: exact, then the longest wildcard, then a short name under any suffix, then the default.

Keys are canonical (lower case, A-labels, no port, no trailing dot); the look-up of an exact name is one dict access.
What must not enter: what the names are for.
"""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["HostIndex"]

T = TypeVar("T")


class HostIndex(Generic[T]):
    """Names → things. The three forms of a key are those of ``routing.definitions.HostRule.host``."""

    __slots__ = ("default", "exact", "labels", "wildcards")

    def __init__(self) -> None:
        self.exact: dict[bytes, T] = {}
        self.wildcards: dict[bytes, T] = {}
        """``*.example`` under ``example``."""
        self.labels: dict[bytes, T] = {}
        """``shop.*`` under ``shop``."""
        self.default: T | None = None

    def _shelf(self, host: bytes) -> tuple[dict[bytes, T], bytes]:
        if host.startswith(b"*."):
            return self.wildcards, host[2:]
        if host.endswith(b".*"):
            return self.labels, host[:-2]
        return self.exact, host

    def put(self, host: bytes, thing: T) -> None:
        """Add or replace what answers ``host``."""
        shelf, key = self._shelf(host)
        shelf[key] = thing

    def discard(self, host: bytes) -> None:
        """Remove ``host``; unknown names are no error."""
        shelf, key = self._shelf(host)
        shelf.pop(key, None)

    def find(self, name: bytes) -> T | None:
        """Who answers ``name``. A wildcard covers one or more labels below it, never its apex (contract 3)."""
        found = self.exact.get(name)
        if found is not None:
            return found
        dot = name.find(b".")
        if self.wildcards:
            at = dot
            while at >= 0:
                found = self.wildcards.get(name[at + 1 :])
                if found is not None:
                    return found
                at = name.find(b".", at + 1)
        if self.labels and dot > 0:
            found = self.labels.get(name[:dot])
            if found is not None:
                return found
        return self.default

    def __len__(self) -> int:
        return len(self.exact) + len(self.wildcards) + len(self.labels)
