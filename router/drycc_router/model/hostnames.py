"""Names an app may ask for: how they are written, what they become, and which nobody may have (contract 3 and 7).

A name is *written* with a dot (as it is, or ``*.`` before it) or short (one label). Canonical means lower case,
A-labels, no trailing dot. Every comparison in the router is between canonical names, so that no spelling of a name can
pass for another one. A canonical name is *resolved* with the platform's domain into a host in one of the three forms
that ``routing.definitions.HostRule`` knows.

IDNA 2008 is preceded by the mapping of UTS 46 (not transitional): ``BÜCHER.example`` is the name its owner means, and
look-alikes such as full-width letters become the plain ones *before* they are judged.

What must not enter: who holds a name (``claims.arbiter``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Final

import idna
from publicsuffixlist import PublicSuffixList

from drycc_router.model import mistakes
from drycc_router.model.invalid_value import Unfit
from drycc_router.model.problems import Reason

__all__ = ["canonical", "covers", "names_above", "platform_domain", "resolve"]

LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
NAME: Final = re.compile(rf"{LABEL}(?:\.{LABEL})*")
NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label that makes browsers read the whole name as an IPv4 address (WHATWG URL, "ends in a number")."""

MAX_WRITTEN: Final = 1000
"""Characters looked at; no way of writing a name of 253 octets is longer."""

INTERNAL: Final = ("svc", "cluster.local", "kubernetes.default", "localdomain", "arpa")
"""Nobody may claim these or anything below them: inside a cluster they mean something else. ``.local`` itself is free:
platforms on a developer's machine live there."""

_BELOW_INTERNAL: Final = tuple(f".{suffix}" for suffix in INTERNAL)


def canonical(text: str) -> str:
    """The canonical form of one written name: ``a.example``, ``*.a.example`` or the short ``shop``.

    Raises:
        Unfit: it is not a name, or one that is refused for everyone: ``*``, wildcards of public suffixes, addresses,
            cluster-internal names, ``localhost`` itself (names below it are fine).
    """
    if text == "*":
        raise Unfit("a name: nobody may claim every name", Reason.REFUSED_DOMAIN)
    if text.startswith("*."):
        parent = _name(text[2:])
        if "." not in parent or _public_suffixes().is_public(parent):
            raise Unfit(
                "a wildcard of a domain of one's own: nobody may claim all names of a public suffix",
                Reason.REFUSED_DOMAIN,
            )
        return f"*.{_not_internal(parent)}"
    return _not_internal(_name(text))


def platform_domain(text: str) -> str:
    """The canonical form of ``platformDomain``: at least two labels, or ``localhost`` on a developer's machine.

    Raises:
        Unfit: it is anything else.
    """
    name = _name(text)
    if "." in name or name == "localhost":
        return name
    raise Unfit("a domain such as apps.example.com")


def resolve(name: str, platform: str | None) -> str:
    """The host that a canonical name stands for: a short one goes below the platform's domain, or below any suffix.

    The result may be longer than the 253 characters a host may have.
    """
    if "." in name:
        return name
    return f"{name}.{platform}" if platform else f"{name}.*"


def covers(wildcard: str, host: str) -> bool:
    """Whether ``*.x`` stands for ``host``: one or more labels below ``x``, deeper wildcards too, never ``x`` itself."""
    return wildcard.startswith("*.") and host.endswith(wildcard[1:]) and host != wildcard


def names_above(host: str) -> Iterator[str]:
    """The names above a host whose wildcards stand for it, the closest first; for ``*.b.example`` that is ``example``.

    ``shop.*`` has none: a name below any suffix is below nothing in particular.
    """
    if host.endswith(".*"):
        return
    name = host.removeprefix("*.")
    while dot := name.find(".") + 1:
        name = name[dot:]
        yield name


def _name(text: str) -> str:
    """One name without a wildcard, canonical."""
    name = text.removesuffix(".")
    if len(name) <= MAX_WRITTEN:
        if not name.isascii() or "xn--" in name.lower():
            try:
                name = idna.encode(name, uts46=True, std3_rules=True).decode("ascii")
            except UnicodeError:  # idna's own errors are UnicodeErrors; their texts quote the input
                raise Unfit(mistakes.in_name(text)) from None
        name = name.lower()
        if len(name) <= 253 and NAME.fullmatch(name):
            last = name.rpartition(".")[2]
            if "." not in name:
                return name
            if NUMBER.fullmatch(last):
                raise Unfit("a name, not an address", Reason.REFUSED_DOMAIN)
            if len(last) > 1:
                return name
    raise Unfit(mistakes.in_name(text))


def _not_internal(name: str) -> str:
    if name == "localhost" or ("." in name and f".{name}".endswith(_BELOW_INTERNAL)):
        raise Unfit("a name that is not internal to clusters or machines", Reason.REFUSED_DOMAIN)
    return name


@cache
def _public_suffixes() -> PublicSuffixList:
    """The list that the package brings along, read at the first wildcard (60 ms) and kept."""
    return PublicSuffixList()
