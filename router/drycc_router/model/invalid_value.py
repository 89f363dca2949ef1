"""How a grammar says no.

What must not enter: the offending value; whoever catches this has it and shortens it.
"""

from __future__ import annotations

from drycc_router.model.problems import Reason

__all__ = ["Unfit"]


class Unfit(ValueError):
    """A written value that is not in order: ``expected`` says what would have been, ``reason`` under which name.

    Without a ``reason`` the reader takes the general one, for a value or for an element. ``taken``: what is in force
    all the same, because it is what the text can only mean; None: nothing.
    """

    def __init__(self, expected: str, reason: Reason | None = None, taken: str | None = None) -> None:
        super().__init__(f"expected {expected}")
        self.expected = expected
        self.reason = reason
        self.taken = taken
