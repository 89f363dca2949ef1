"""What every source yields: a batch of Changes, and what is wrong with the source itself.

What must not enter: where a batch comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from drycc_router.model.objects import Change
from drycc_router.model.problems import Problem

__all__ = ["Batch"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes in the order they are to be applied.

    A source's first batch is complete: all there is at that moment, with what it told in parts before.
    """

    changes: tuple[Change, ...] = ()
    problems: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)
    """By an id of the source's choice: everything that is wrong under that id now, in place of what was said before."""
    is_part: bool = False
    """Whether the first complete one is still to come, as far as this one knows: alone it must not be published."""

    def __bool__(self) -> bool:
        """Whether it says anything."""
        return bool(self.changes or self.problems)
