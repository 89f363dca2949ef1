"""Which name answers which: two different questions about wildcards, kept apart.

*Coverage* is X.509's: ``*.example`` in a certificate stands for exactly one label (RFC 9525, 6.3).
*Lookup* is the router's: a domain ``*.example`` of an app stands for one or more labels (contract 3), never the apex.

Both work on canonical names: lower case, A-labels, no trailing dot. What must not enter: certificates, contexts, I/O.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import Final, TypeVar

__all__ = ["canonical", "covers", "find", "presentable"]

T = TypeVar("T")

LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
PRESENTABLE: Final = re.compile(rf"(?:\*\.)?(?:{LABEL}\.)*(?=[a-z0-9-]*[a-z]){LABEL}", re.ASCII)
"""At most one ``*``, alone in the first label; the last label is not a number, so no IP address passes."""


def canonical(name: str) -> str:
    """Lower-case ``name`` and cut one trailing dot; the same folding that the proxy gives to Host."""
    return name.lower().removesuffix(".")


def presentable(name: str) -> bool:
    """Whether a canonical dNSName of a certificate can match any host at all.

    ``*``, ``*.*.example``, ``f*.example``, addresses, names with NUL or blanks or beyond 253 characters cannot.
    """
    return len(name) <= 253 and PRESENTABLE.fullmatch(name) is not None


def covers(names: Container[str], host: str) -> bool:
    """Whether a certificate for ``names`` is valid for ``host``: the name itself, or ``*`` in place of its first label.

    ``host`` may be a wildcard domain ``*.example``: only that very name covers it.
    """
    return host in names or f"*.{host.partition('.')[2]}" in names


def find(table: Mapping[str, T], host: str) -> T | None:
    """What ``table`` has for ``host``: the exact name, else the closest wildcard above it, else None.

    One look-up per label; a wildcard never answers for its own apex.
    """
    found = table.get(host)
    dot = host.find(".")
    while found is None and dot >= 0:
        found = table.get("*" + host[dot:])
        dot = host.find(".", dot + 1)
    return found
