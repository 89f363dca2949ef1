"""What each step on the loop costs: instructions that the interpreter executes, and bytes that it copies and compares.

A step is whatever the loop calls once: a segment that arrives, a callback, a tick. Instructions are counted by a trace.
Bytes are counted by what is read: a segment arrives as :class:`Counted`, which knows how many bytes each of its methods
passes over, and so does whatever the modules of :data:`READERS` make of it. What C does beyond that (a pattern, a join,
a cipher) is linear in what it is given.

What must not enter: clocks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import FrameType
from typing import Any

import pytest

from tests.fakes.transport import FakeTransport

__all__ = ["Step", "Steps"]

READERS = (
    "drycc_proxy.listeners.client_hello",
    "drycc_proxy.listeners.proxy_protocol",
    "drycc_proxy.http1.chunks",
    "drycc_proxy.http1.downstream",
    "drycc_proxy.http1.upstream",
    "drycc_proxy.listeners.proxy_header",
    "drycc_proxy.listeners.tls_channel",
)
"""Modules that read what arrives."""


@dataclass(slots=True)
class Step:
    """One of them."""

    received: int
    """Bytes that arrived with it."""
    instructions: int = 0
    touched: int = 0
    """Bytes copied and compared."""

    @property
    def cost(self) -> int:
        return self.instructions + self.touched


_now: Step = Step(0)
"""The step that is being taken."""


def _touch(size: int) -> None:
    _now.touched += size


def _searched(self: Any, found: int, start: int) -> int:
    """Bytes that a search has passed over."""
    return max((found if found >= 0 else len(self)) - start, 0)


class Counted(bytes):
    """Bytes that know how many of them are looked at."""

    def __getitem__(self, at: Any) -> Any:
        got = super().__getitem__(at)
        if isinstance(at, slice):
            _touch(len(got))
            return Counted(got)
        return got

    def __add__(self, other: Any) -> Counted:
        _touch(len(self) + len(other))
        return Counted(super().__add__(other))

    def __radd__(self, other: Any) -> Any:
        if isinstance(other, bytearray):  # in place: Python asks here before it asks the bytearray
            _touch(len(self))
            other.extend(self)
            return other
        _touch(len(self) + len(other))
        return Counted(bytes(other) + bytes(self))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, bytes | bytearray) and len(other) == len(self):
            _touch(len(self))
        return super().__eq__(other)

    __hash__ = bytes.__hash__

    def __contains__(self, other: Any) -> bool:
        _touch(_searched(self, super().find(other), 0))
        return super().__contains__(other)

    def find(self, sub: Any, start: int = 0, *end: int) -> int:  # type: ignore[override]
        found = super().find(sub, start, *end)
        _touch(_searched(self, found, start))
        return found

    def count(self, *args: Any) -> int:
        _touch(len(self))
        return super().count(*args)

    def startswith(self, *args: Any) -> bool:
        _touch(min(len(args[0]), len(self)))
        return super().startswith(*args)

    def endswith(self, *args: Any) -> bool:
        _touch(min(len(args[0]), len(self)))
        return super().endswith(*args)


class CountedArray(bytearray):
    """The same of a bytearray. What is deleted at its beginning is counted: for that much is moved in the long run."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        _touch(len(self))

    def __getitem__(self, at: Any) -> Any:
        got = super().__getitem__(at)
        if isinstance(at, slice):
            _touch(len(got))
        return got

    def __delitem__(self, at: Any) -> None:
        before = len(self)
        super().__delitem__(at)
        _touch(before - len(self))

    def __iadd__(self, other: Any) -> CountedArray:
        _touch(len(other))
        super().__iadd__(other)
        return self

    def __add__(self, other: Any) -> Any:
        _touch(len(self) + len(other))
        return super().__add__(other)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, bytes | bytearray) and len(other) == len(self):
            _touch(len(self))
        return super().__eq__(other)

    __hash__ = None

    def find(self, sub: Any, start: int = 0, *end: int) -> int:  # type: ignore[override]
        found = super().find(sub, start, *end)
        _touch(_searched(self, found, start))
        return found

    def count(self, *args: Any) -> int:
        _touch(len(self))
        return super().count(*args)


def _copied(value: Any = b"") -> Counted:
    """``bytes(...)`` in a module that reads."""
    _touch(len(value))
    return Counted(value)


class Steps:
    """Takes the steps of a story one by one and keeps what each of them cost."""

    segment: type[bytes] = Counted
    """What a segment arrives as."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.taken: list[Step] = []
        for name in READERS if self.segment is Counted else ():
            patch.setattr(import_module(name), "bytearray", CountedArray, raising=False)
        for name in ("drycc_proxy.http1.downstream", "drycc_proxy.http1.upstream") if self.segment is Counted else ():
            patch.setattr(import_module(name), "bytes", _copied, raising=False)

        def deliver(transport: FakeTransport) -> None:
            self._deliver(transport)

        patch.setattr(FakeTransport, "deliver", deliver)

    @property
    def worst(self) -> Step:
        return max(self.taken, key=lambda step: step.cost)

    @property
    def cost(self) -> int:
        """Of all of them."""
        return sum(step.cost for step in self.taken)

    def take(self, call: Callable[[], object], received: int = 0) -> None:
        """One step."""
        global _now
        step = _now = Step(received)
        count = 0

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal count
            if frame.f_code.co_filename == __file__ or frame.f_code.co_filename.endswith("transport.py"):
                return None  # the tools of the test are not the router's work
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
            count += event == "opcode"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            call()
        finally:
            sys.settrace(before)
            step.instructions = count
            self.taken.append(step)

    def on(self, loop: Any) -> None:
        """Each callback of a story's loop is a step from now on."""

        def settle() -> None:
            while loop._soon:
                callback, args = loop._soon.popleft()
                if getattr(callback, "__func__", None) is FakeTransport.deliver:
                    callback(*args)  # not a step by itself: each segment is one
                else:
                    self.take(lambda callback=callback, args=args: callback(*args))  # type: ignore[misc]

        loop.settle = settle

    def _deliver(self, transport: FakeTransport) -> None:
        while transport.inbox and not transport.paused and not transport.closing:
            data = transport.inbox.pop(0)
            if data is not None:
                segment = self.segment(data)
                self.take(lambda segment=segment: transport.protocol.data_received(segment), len(segment))  # type: ignore[misc]
            else:
                self.take(lambda: transport.close() if not transport.protocol.eof_received() else None)
