"""How much work something is: instructions that the interpreter executes. What C does in one call is not seen."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
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
            yield
        finally:
            sys.settrace(before)
            self.done[part] += count
