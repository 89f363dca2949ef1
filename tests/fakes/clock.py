"""A clock that moves only when a test says so."""

from __future__ import annotations

import sys

import pytest

from drycc_proxy.kernel import clock

__all__ = ["FakeClock"]

TICK = clock.TICK


class FakeClock:
    """Monotonic seconds start at 1,000; the wall clock stands at a fixed moment of 2026 plus what has passed."""

    BEGINNING = 1_000.0
    WALL = 1_790_000_000.0

    def __init__(self) -> None:
        self.seconds = self.BEGINNING

    def now(self) -> float:
        """Replaces ``kernel.clock.now``."""
        return self.seconds

    def wall(self) -> float:
        """Replaces ``kernel.clock.wall``."""
        return self.WALL + self.seconds - self.BEGINNING

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Replace both clocks in every module of the data plane that took them by name."""
        replaced = {id(clock.now): self.now, id(clock.wall): self.wall}
        for name, module in list(sys.modules.items()):
            if name.startswith("drycc_proxy."):
                for attribute in ("now", "wall"):
                    fake = replaced.get(id(getattr(module, attribute, None)))
                    if fake is not None:
                        patch.setattr(module, attribute, fake)
