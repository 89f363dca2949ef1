"""The door closed: a new connection that there is no room for is reset before anything is made for it.

Not accepting would leave it in the kernel's queue, where it costs as much, waits for nothing and keeps others out; a
reset tells its client at once to try elsewhere. Nothing is written that could be lost, so it need not linger, which
would cost what is lacking. What must not enter: when to refuse (``overload`` knows).
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from drycc_proxy.kernel.internal_errors import FaultCounters, attempt
from drycc_proxy.kernel.sockets import reset_on_close

__all__ = ["Refusal"]


class RejectCounters(FaultCounters, Protocol):
    """Who counts them."""

    refused: int


class Refusal(asyncio.Protocol):
    """One refused connection."""

    __slots__ = ("_counters",)

    def __init__(self, counters: RejectCounters) -> None:
        self._counters = counters

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._counters.refused += 1
        attempt(self._counters, "refusal", reset_on_close, transport)
        cast(asyncio.Transport, transport).abort()
