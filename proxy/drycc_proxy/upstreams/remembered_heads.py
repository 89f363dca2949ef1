"""Large heads of answers that connections to apps remember, counted, and let go when memory is short.

A connection keeps its last head, since what an app says again need not be read again. Most heads are below
:data:`SMALL`, and cost what a connection costs anyhow. An app may send 64 KiB, which its connections hold three times
over: as it came, and as it is passed on with a length and without. Ten thousand of them are two gigabytes.

What must not enter: when memory is short (``core`` says so), and what a head means.
"""

from __future__ import annotations

from typing import Final, Protocol

__all__ = ["SMALL", "Heads"]

SMALL: Final = 4 * 1024
"""Bytes of a head that is always remembered."""
_COPIES: Final = 3


class Holder(Protocol):
    """A connection."""

    def forget_head(self) -> None:
        """Read the next head anew."""


class Heads:
    """Who holds a large one."""

    __slots__ = ("_holders", "held", "may_be_held")

    def __init__(self) -> None:
        self._holders: dict[Holder, int] = {}
        self.held = 0
        """Bytes in all of them."""
        self.may_be_held = True

    def hold(self, holder: Holder, size: int) -> bool:
        """Count a head of ``size`` bytes, in place of the holder's last one. False: it must not be remembered."""
        self.drop(holder)
        if self.may_be_held:
            self._holders[holder] = size * _COPIES
            self.held += size * _COPIES
        return self.may_be_held

    def drop(self, holder: Holder) -> None:
        """It holds none any more."""
        self.held -= self._holders.pop(holder, 0)

    def let_go(self, most: int) -> None:
        """Have at most so many holders forget theirs."""
        for _ in range(min(most, len(self._holders))):
            holder, size = self._holders.popitem()
            self.held -= size
            holder.forget_head()
