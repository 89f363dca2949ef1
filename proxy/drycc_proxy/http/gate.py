"""What is answered without asking the app, in the order of contract 5.

Access comes before every redirect, so that a stranger learns nothing; maintenance before availability, so that an
owner who takes an app down on purpose is believed. What must not enter: bytes of answers (``answers``), sockets.
"""

from __future__ import annotations

from typing import Protocol

from drycc_proxy.errors import Failure
from drycc_proxy.http.client_address import NetworkSet

__all__ = ["Gated", "check"]


class Gated(Protocol):
    """What the gate reads of a live route."""

    allow: NetworkSet | None
    deny: NetworkSet | None
    enforce_https: bool
    maintenance: bool
    available: bool
    body_size: int


def check(route: Gated, client: str, secure: bool, length: int) -> Failure | None:
    """Why this request does not reach its app, or None. ``length`` is the stated body length in bytes, or negative."""
    if route.deny is not None and client in route.deny:
        return Failure.ACCESS_DENIED
    if route.allow is not None and client not in route.allow:
        return Failure.ACCESS_DENIED
    if route.enforce_https and not secure:
        return Failure.HTTPS_REQUIRED
    if route.maintenance:
        return Failure.MAINTENANCE
    if not route.available:
        return Failure.NO_ENDPOINT
    if route.body_size and length > route.body_size:
        return Failure.BODY_TOO_LARGE
    return None
