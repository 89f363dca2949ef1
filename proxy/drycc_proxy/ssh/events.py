"""The way between this process and those that started it: datagrams, an object of JSON each, in both directions.

Its other end is kept open by whoever starts this process, and lent to the one that controls it. When that one dies,
nothing ends here: what is told waits in the kernel and, when that is full, here, for the next one to hear.

What must not enter: what is said.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Final

__all__ = ["Teller", "Way"]

MAX_SAID: Final = 1 << 18
"""Bytes of one datagram: more than a socket lends."""
MAX_WAITING: Final = 1024
"""Events that wait for somebody to hear them; then the oldest goes to standard error instead."""
MAX_MESSAGE: Final = 2000
"""Characters of a line for the router's own log."""


class Way:
    """This process's end. ``heard`` gets what is said; ``gone`` is called when nobody is left at the other."""

    def __init__(self, end: socket.socket, heard: Callable[[Any], None], gone: Callable[[], None]) -> None:
        end.setblocking(False)
        self._end = end
        self._heard = heard
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[bytes] = deque()
        self._empty = asyncio.Event()
        self._empty.set()
        self._loop.add_reader(end, self._read)

    def tell(self, event: dict[str, Any]) -> None:
        """Say something, now or when it can be heard; never blocks."""
        self._waiting.append(json.dumps(event).encode("ascii"))
        if len(self._waiting) > MAX_WAITING:
            _say_aloud(self._waiting.popleft())
        if self._empty.is_set():
            self._empty.clear()
            self._write()

    async def finish(self, seconds: float) -> None:
        """Wait for that long until all is said, and close."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            for event in self._waiting:
                _say_aloud(event)
        self._loop.remove_reader(self._end)
        self._loop.remove_writer(self._end)
        self._end.close()

    def _write(self) -> None:
        try:
            while self._waiting:
                self._end.send(self._waiting[0])
                self._waiting.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._end, self._write)
            return
        except OSError:
            while self._waiting:  # everybody is gone
                _say_aloud(self._waiting.popleft())
        self._loop.remove_writer(self._end)
        self._empty.set()

    def _read(self) -> None:
        while True:
            try:
                data = self._end.recv(MAX_SAID)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._loop.remove_reader(self._end)
                self._gone()
                return
            self._heard(json.loads(data))


def _say_aloud(event: bytes) -> None:
    """Where there is nobody to tell it to, standard error may have a reader."""
    sys.stderr.write(event.decode("ascii") + "\n")


class Teller(logging.Handler):
    """Tells lines for the router's own log; exceptions by their type alone, for their texts may quote a client."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        self._way = way

    def emit(self, record: logging.LogRecord) -> None:
        """Never blocks, never raises."""
        try:
            error = record.exc_info[1] if record.exc_info else None
            message = record.getMessage()[:MAX_MESSAGE] + (f" ({type(error).__name__})" if error else "")
            self._way.tell({"event": "log", "level": record.levelname.lower(), "message": message})
        except Exception:
            self.handleError(record)
