"""A transport without a socket: what the router writes to it, the test hears; what the test says, the router reads.

It keeps the promises of a real one that the router relies on: nothing arrives while reading is paused, a close flushes
first and ends with ``connection_lost``, and whoever does not read fills a buffer until ``pause_writing``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import EllipsisType
from typing import Any

__all__ = ["End", "FakeTransport", "Part", "matches"]

Part = bytes | EllipsisType


def matches(heard: bytes, parts: tuple[Part, ...]) -> bool:
    """Whether ``heard`` is these parts in their order; ``...`` stands for any bytes, also none."""
    at = 0
    loose = False
    for place, part in enumerate(parts, 1):
        if isinstance(part, EllipsisType):
            loose = True
            continue
        if not loose:
            found = at if heard.startswith(part, at) else -1
        elif place < len(parts):
            found = heard.find(part, at)
        else:  # the last words are at the end
            found = len(heard) - len(part) if heard.endswith(part) else -1
        if found < at:
            return False
        at = found + len(part)
        loose = False
    return loose or at == len(heard)


class FakeTransport(asyncio.Transport):
    """The router's end of a connection."""

    def __init__(self, call_soon: Callable[..., object], peername: tuple[str, int], tls: object = None) -> None:
        super().__init__()
        self._call_soon = call_soon
        self._extra_info = {"peername": peername, "ssl_object": tls}
        self.protocol: Any = None
        self.heard = bytearray()
        """What left the router and was taken by the other end, and not yet asked for."""
        self.unread: list[bytes] = []
        """What left the router while the other end does not read."""
        self.inbox: list[bytes | None] = []
        """What the other end said while the router does not read; None is its end."""
        self.reads = True
        """Whether the other end reads."""
        self.paused = False
        """Whether the router has stopped reading."""
        self.ended = False
        """The router said its last word (FIN)."""
        self.aborted = False
        self.closing = False
        self.lost = False
        self._high = 64 * 1024
        self._full = False

    # ── what the router does with it ──────────────────────────────────────────────────────────────────────────────

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._extra_info.get(name, default)

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * 1024 if high is None else high

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.unread))

    def write(self, data: Any) -> None:
        assert not self.ended, "written after the end was said"
        if self.closing or self.aborted or not data:
            return
        if self.reads:
            self.heard += data
            return
        self.unread.append(bytes(data))
        if not self._full and self.get_write_buffer_size() > self._high:
            self._full = True
            self.protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return not self.paused

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            if not self.unread:
                self._call_soon(self.lose, None)

    def abort(self) -> None:
        if not self.lost:
            self.closing = self.aborted = True
            self.unread.clear()
            self._call_soon(self.lose, None)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        if self.paused:
            self.paused = False
            self._call_soon(self.deliver)

    # ── what the other end does with it ───────────────────────────────────────────────────────────────────────────

    def lose(self, error: Exception | None) -> None:
        """The connection is gone."""
        if not self.lost:
            self.lost = self.closing = True
            self.protocol.connection_lost(error)

    def deliver(self) -> None:
        """Hand over what waits, as far as the router reads."""
        while self.inbox and not self.paused and not self.closing:
            data = self.inbox.pop(0)
            if data is not None:
                self.protocol.data_received(data)
            elif not self.protocol.eof_received():
                self.close()

    def take(self) -> None:
        """The other end reads what waits for it."""
        for data in self.unread:
            self.heard += data
        self.unread.clear()
        if self._full:
            self._full = False
            self.protocol.resume_writing()
        if self.closing and not self.lost:
            self._call_soon(self.lose, None)


class End:
    """The other end of a connection of the router: a client, or an app."""

    def __init__(self, name: str, transport: FakeTransport, settle: Callable[[], None]) -> None:
        self._name = name
        self._settle = settle
        self.transport = transport

    # ── it acts ───────────────────────────────────────────────────────────────────────────────────────────────────

    def says(self, *pieces: bytes) -> None:
        """Send; each piece arrives as a segment of its own."""
        for piece in pieces:
            self.transport.inbox.append(piece)
            self.transport.deliver()
            self._settle()

    def says_in_one_go(self, *pieces: bytes) -> None:
        """Send records of TLS that are read together: stopping to read after the first does not stop the others."""
        for piece in pieces:
            self.transport.protocol.data_received(piece)
        self._settle()

    def closes(self) -> None:
        """It has said everything (FIN); it can still read."""
        self.transport.inbox.append(None)
        self.transport.deliver()
        self._settle()

    def resets(self) -> None:
        """It is gone (RST)."""
        self.transport.lose(ConnectionResetError("reset by the story"))
        self._settle()

    leaves = resets

    def stops_reading(self) -> None:
        """From now on nothing that is sent to it gets through."""
        self.transport.reads = False

    def reads_again(self) -> None:
        """It takes everything that waits."""
        self.transport.reads = True
        self.transport.take()
        self._settle()

    def reads_a_little(self, count: int) -> None:
        """It takes ``count`` bytes of what waits, too few for the router to go on."""
        waiting = self.transport.unread
        rest = b"".join(waiting)
        self.transport.heard += rest[:count]
        waiting[:] = [rest[count:]]

    # ── it is asked ───────────────────────────────────────────────────────────────────────────────────────────────

    def hears(self, *parts: Part) -> bytes:
        """It heard exactly these bytes since it was last asked; ``...`` stands for anything. Returns them."""
        heard = bytes(self.transport.heard)
        self.transport.heard.clear()
        wanted = " ".join("..." if isinstance(part, EllipsisType) else repr(part) for part in parts)
        assert matches(heard, parts), f"\n{self._name} was to hear {wanted}\n{self._name} heard {heard!r}"
        return heard

    def hears_nothing(self) -> None:
        """It heard nothing since it was last asked."""
        self.hears()

    def hears_without(self, *absent: bytes) -> bytes:
        """None of these is in what it heard, whatever the letter case. Returns what it heard."""
        heard = self.hears(...)
        for part in absent:
            assert part.lower() not in heard.lower(), f"{part!r} is in {heard!r}"
        return heard

    @property
    def is_kept(self) -> bool:
        """The router has not closed the connection and has not said its last word."""
        return not self.transport.closing and not self.transport.ended

    @property
    def is_cut(self) -> bool:
        """The router broke the connection off: nobody can take it for an orderly end."""
        return self.transport.aborted

    @property
    def is_heeded(self) -> bool:
        """The router reads what it says."""
        return not self.transport.paused
