"""A timer that stands among the sockets, so that a loop with its hands full hears it in its turn.

libuv takes 1,024 events from the kernel at a time. While there are as many it takes the next ones, 48 times over,
before it looks at its own timers and at what was to be called soon. With more than a thousand clients talking at once
that is seconds, in which no deadline ends anything, although each of those clients waits for a tenth of that. The
kernel's timer (timerfd) is read like a socket, so it is late by as much as a client waits, and no more.

What must not enter: what is done when it rings.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Alarm"]

_FLAGS: Final = os.O_NONBLOCK | os.O_CLOEXEC
"""``TFD_NONBLOCK`` and ``TFD_CLOEXEC`` are defined as these (timerfd_create(2))."""


class _Times(ctypes.Structure):
    """``struct itimerspec``: the interval of a timer that repeats, then the time to the first ring."""

    _fields_ = (("interval", ctypes.c_long * 2), ("value", ctypes.c_long * 2))


def _functions() -> tuple[Callable[..., int], Callable[..., int]] | None:
    """``timerfd_create`` and ``timerfd_settime`` of the C library (``os`` has them from Python 3.13 on); None elsewhere
    than on Linux."""
    try:
        library = ctypes.CDLL(None)
        return library.timerfd_create, library.timerfd_settime
    except (OSError, AttributeError):
        return None


_LIBC: Final = _functions()


class Alarm:
    """Rings once each time it is set. Without a timer of the kernel it is the loop's."""

    __slots__ = ("_descriptor", "_handle", "_loop", "_ring")

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._descriptor = -1
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Make the timer; not set yet."""
        if _LIBC is None or self._descriptor >= 0:
            return
        self._descriptor = _LIBC[0](ctypes.c_int(time.CLOCK_MONOTONIC), ctypes.c_int(_FLAGS))
        if self._descriptor >= 0:
            self._loop.add_reader(self._descriptor, self._heard)

    def set(self, seconds: float) -> None:
        """Ring once, so many seconds from now; what was set before is forgotten."""
        if self._descriptor >= 0 and _LIBC is not None:
            whole = int(seconds)
            # Never nothing: that would mean that it is not to ring at all.
            times = _Times((0, 0), (whole, max(1, int((seconds - whole) * 1e9))))
            if _LIBC[1](ctypes.c_int(self._descriptor), ctypes.c_int(0), ctypes.byref(times), None) == 0:
                return
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop.call_later(seconds, self._ring)

    def stop(self) -> None:
        """Ring no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._descriptor >= 0:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _heard(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return  # set anew since the kernel said so
        self._ring()
