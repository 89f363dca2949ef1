"""How much work something is: instructions that the interpreter executes. What C does in one call is not seen."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Work"]


class Work:
    """Instructions of Python, by the part of the way on which they were executed."""

    def __init__(self, *, watched: bool = True) -> None:
        self.done: Counter[str] = Counter()
        self._watched = watched

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        if not self._watched:
            yield
            return
        with _counting() as count:
            try:
                yield
            finally:
                self.done[part] += count()


if sys.version_info >= (3, 12):
    _TOOL = 4
    """An id of sys.monitoring that is nobody's: debuggers, profilers and coverage have their own."""

    @contextmanager
    def _counting() -> Iterator[Callable[[], int]]:
        """Python 3.13's settrace misses instructions of code that was traced before, so its successor counts."""
        count, thread = 0, threading.get_ident()

        def executed(*_: object) -> None:
            nonlocal count
            count += threading.get_ident() == thread

        monitoring = sys.monitoring
        monitoring.use_tool_id(_TOOL, "work")
        monitoring.register_callback(_TOOL, monitoring.events.INSTRUCTION, executed)
        monitoring.set_events(_TOOL, monitoring.events.INSTRUCTION)
        try:
            yield lambda: count
        finally:
            monitoring.set_events(_TOOL, monitoring.events.NO_EVENTS)
            monitoring.register_callback(_TOOL, monitoring.events.INSTRUCTION, None)
            monitoring.free_tool_id(_TOOL)

else:

    @contextmanager
    def _counting() -> Iterator[Callable[[], int]]:
        count = 0

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal count
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
            count += event == "opcode"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            yield lambda: count
        finally:
            sys.settrace(before)
