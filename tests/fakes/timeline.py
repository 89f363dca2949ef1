"""A real asyncio loop on which no time is spent: whenever nothing is ready, its clock leaps to the next timer."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

__all__ = ["Timeline", "play"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
ENDLESS = 1_000_000.0
"""Seconds after which a story has gone on for too long."""


class _Leaping(selectors.SelectSelector):
    """Instead of waiting, lets time pass."""

    leap: Callable[[float], None]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and (timeout is None or timeout > 0.0):
            assert timeout is not None, "nothing will ever happen again"
            self.leap(timeout)
        return ready


class Timeline(asyncio.SelectorEventLoop):
    """Stories on it take as long as their work. What is for a thread is done at once."""

    def __init__(self) -> None:
        selector = _Leaping()
        self.seconds = 1_000.0
        selector.leap = self._leap
        super().__init__(selector)

    def time(self) -> float:
        return self.seconds

    def _leap(self, seconds: float) -> None:
        self.seconds += seconds
        assert self.seconds < ENDLESS, "this story never ends"

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        done: asyncio.Future[T] = self.create_future()
        done.set_result(func(*args))
        return done


def play(story: Coroutine[Any, Any, T]) -> T:
    """Run a story to its end, and whatever it started."""
    with asyncio.Runner(loop_factory=Timeline) as runner:
        return runner.run(story)
