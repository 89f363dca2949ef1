"""Framed messages between two processes over a socketpair, one at a time per turn of the loop.

Four bytes of length, then the message. However much arrives at once, one message is handled per turn of the loop, so
that a large change never keeps a request waiting for longer than one of its parts; meanwhile the socket is not read.

What must not enter: what messages mean (``process.messages``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from drycc_router.process.messages import MAX_FRAME

__all__ = ["Channel"]

_LENGTH: Final = 4
_ENOUGH: Final = 256 * 1024
"""Bytes of further messages that may wait here before the socket is not read any more."""


class Channel(asyncio.Protocol):
    """One end. ``heard`` gets each message's bytes; what it raises ends the channel. ``ended`` is called once."""

    def __init__(self, heard: Callable[[bytes], None], ended: Callable[[Exception | None], None]) -> None:
        self._heard = heard
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._buffer = bytearray()
        self._waiting = False
        self._error: Exception | None = None
        self._over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._waiting:
            self._turn()
        elif len(self._buffer) > _ENOUGH and self._complete():
            self._transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._over = True
        self._ended(self._error or error)

    def send(self, message: bytes) -> None:
        """Send one message. What the other side does not read waits here: who sends must know when to stop."""
        if not self._transport.is_closing():
            self._transport.write(len(message).to_bytes(_LENGTH, "big") + message)

    @property
    def unsent(self) -> int:
        """Bytes that wait for the other side."""
        return 0 if self._transport.is_closing() else self._transport.get_write_buffer_size()

    def close(self) -> None:
        """Send what waits, and end."""
        self._transport.close()

    def _complete(self) -> bool:
        buffer = self._buffer
        return len(buffer) >= _LENGTH and len(buffer) >= _LENGTH + int.from_bytes(buffer[:_LENGTH], "big")

    def _turn(self) -> None:
        """Handle the first message that is complete; the next one has its own turn."""
        self._waiting = False
        buffer = self._buffer
        if self._over or len(buffer) < _LENGTH:
            return
        length = int.from_bytes(buffer[:_LENGTH], "big")
        try:
            if length > MAX_FRAME:
                raise ValueError("a message is too long")
            if not self._complete():
                self._transport.resume_reading()
                return
            message = bytes(memoryview(buffer)[_LENGTH : _LENGTH + length])
            del buffer[: _LENGTH + length]
            self._heard(message)
        except Exception as error:  # what the other side said did harm here, and whoever owns the channel is told
            self._error = error
            self._transport.abort()
            return
        if self._complete():
            self._waiting = True
            self._loop.call_soon(self._turn)
        else:
            self._transport.resume_reading()
