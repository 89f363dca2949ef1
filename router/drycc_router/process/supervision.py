"""What holds a child to its supervisor: orders one way, signs of life the other, descriptors beside them.

Datagrams over a socketpair. When the supervisor is gone, however it went, the kernel says so here: nobody is orphaned.

What must not enter: what an order means.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final

from drycc_router.process.messages import BadMessage, Beat, ForChild, Message, decode_for_child, encode

__all__ = ["BEAT_SECONDS", "MAX_ORDER", "Reins"]

BEAT_SECONDS: Final = 0.5
"""Between two signs of life, as long as the loop turns."""
MAX_ORDER: Final = 4096
"""Bytes of one datagram."""
_MAX_DESCRIPTORS: Final = 4


class Reins:
    """The child's end. ``heard`` gets each order with the descriptors beside it, which are its own to close."""

    def __init__(
        self, end: socket.socket, heard: Callable[[ForChild, list[int]], None], orphaned: Callable[[], None]
    ) -> None:
        self._end = end
        self._heard = heard
        self._orphaned = orphaned
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beat: asyncio.TimerHandle | None = None

    def take(self) -> None:
        """Begin to listen, and to give signs of life."""
        self._loop = asyncio.get_running_loop()
        self._end.setblocking(False)
        self._loop.add_reader(self._end.fileno(), self._read)
        self._give_sign()

    def say(self, message: Message, *descriptors: int) -> None:
        """Tell the supervisor something. What it cannot take now it will not miss: it is gone, or has signs enough."""
        try:
            socket.send_fds(self._end, [encode(message)], list(descriptors))
        except OSError:
            pass

    def drop(self) -> None:
        """Neither listen nor speak any more."""
        if self._loop is not None and self._end.fileno() >= 0:
            self._loop.remove_reader(self._end.fileno())
        if self._beat is not None:
            self._beat.cancel()
        self._end.close()

    def _give_sign(self) -> None:
        assert self._loop is not None  # noqa: S101 -- taken
        self._beat = self._loop.call_later(BEAT_SECONDS, self._give_sign)
        self.say(Beat())

    def _read(self) -> None:
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._end, MAX_ORDER, _MAX_DESCRIPTORS)
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self.drop()
                self._orphaned()
                return
            try:
                self._heard(decode_for_child(data), descriptors)
            except BadMessage:
                for each in descriptors:
                    os.close(each)
