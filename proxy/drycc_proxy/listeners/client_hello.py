"""The client's hello, as far as it must be judged before OpenSSL answers it (RFC 8446 4.1.2; RFC 7301).

OpenSSL as Python offers it goes on without ALPN when the client named only protocols that are not spoken here, and both
sides then speak different ones; RFC 7301 3.2 wants an alert. So the list is looked for here, before the handshake goes
on, in whatever records and segments the hello came. Everything else about it OpenSSL judges.

What must not enter: sockets, answers, and names (``sni`` is asked by OpenSSL).
"""

from __future__ import annotations

import struct
from typing import Final

__all__ = ["A_STEP", "MAX_HELLO", "NO_APPLICATION_PROTOCOL", "ClientHello"]

MAX_HELLO: Final = 64 * 1024
"""Bytes of a hello that are looked at; what is larger OpenSSL refuses by itself at twice this size."""
A_STEP: Final = 2 * 1024
"""Bytes that one step looks at: in records of one byte they take half a millisecond."""
NO_APPLICATION_PROTOCOL: Final = b"\x15\x03\x03\x00\x02\x02\x78"
"""The fatal alert 120 as a record in clear: nothing is encrypted before the server's hello."""

_CLIENT_HELLO: Final = 0x01
_ALPN: Final = 0x10
_extension: Final = struct.Struct(">HH").unpack_from
"""Kind and size of one extension, at an offset."""
_SESSION: Final = 4 + 34
"""Where the session id stands in the message: behind the message's kind and length, the version and the random."""


class ClientHello:
    """Reads a hello as it comes, whatever it is cut into; the work is linear in its bytes.

    ``complete``: what follows changes nothing. ``protocols``: then, the names of the client's list as they stand in it,
    each behind its length (RFC 7301 3.1); None: there is no list, or no well-formed hello.
    """

    __slots__ = ("_at", "_data", "_end", "_left", "_list", "_message", "_size", "complete", "protocols")

    def __init__(self) -> None:
        self._data = bytearray()
        """What came and was not looked at."""
        self._size = 0
        """Bytes that were."""
        self._left = 0
        """Bytes that the record at the beginning of ``_data`` still has; 0: its header is next."""
        self._message = bytearray()
        """The contents of the records."""
        self._at = 0
        """Where the next extension stands in it; 0: it is not known yet where the first one does."""
        self._end = 0
        """Where the extensions end."""
        self._list: slice | None = None
        """Where the list of protocols stands."""
        self.complete = False
        self.protocols: bytes | None = None

    def add(self, data: bytes) -> None:
        """More has come."""
        self._data += data

    def look(self) -> bool:
        """Look at what has come, at most at :data:`A_STEP` bytes of it. Whether some is left that may change what is
        known. Raises nothing."""
        data = self._data
        message = self._message
        end = min(len(data), A_STEP)
        left = self._left
        at = 0
        is_over = False
        while at < end:
            if left:
                size = min(left, end - at)
                message += data[at : at + size]
                at += size
                left -= size
                continue
            header = data[at : at + 5]
            if header[0] != 0x16 or (len(header) > 1 and header[1] != 0x03):
                is_over = True  # no record of a handshake
                break
            if len(header) < 5:
                break
            at += 5
            left = header[3] << 8 | header[4]
        self._left = left
        self._size += at
        waiting = at >= end and at < len(data)
        del data[:at]
        self._read_message(message)
        if is_over or self._size > MAX_HELLO:
            self.complete = True
        return waiting and not self.complete

    def _read_message(self, message: bytearray) -> None:
        if message and message[0] != _CLIENT_HELLO:
            self.complete = True
        elif len(message) >= 4:
            whole = 4 + int.from_bytes(message[1:4])
            if whole > MAX_HELLO:
                # It would not be looked at to its end. OpenSSL sends an alert for a size beyond its own limit as soon
                # as it reads this header, so the client is told before it has sent more than the channel keeps.
                self.complete = True
                return
            if self._at or self._find_extensions(message):
                self._walk(message, min(len(message), whole))
            if whole > MAX_HELLO:
                self.complete = True
            elif len(message) >= whole:
                self.complete = True
                if self._list is not None and self._end <= whole:
                    self.protocols = bytes(message[self._list])

    def _find_extensions(self, message: bytearray) -> bool:
        """Whether the message has come as far as to the first extension."""
        at = _SESSION
        at += 1 + (message[at] if at < len(message) else 0)
        at += 2 + int.from_bytes(message[at : at + 2])  # ciphers
        at += 1 + (message[at] if at < len(message) else 0)  # compression
        if at + 2 > len(message):
            return False
        self._at = at + 2
        self._end = self._at + int.from_bytes(message[at : at + 2])
        return True

    def _walk(self, message: bytearray, size: int) -> None:
        """Pass over the extensions that have begun within ``size`` bytes, and find the list among them."""
        at = self._at
        end = min(size, self._end) - 4
        while at <= end and self._list is None:
            kind, length = _extension(message, at)
            at += 4
            if kind == _ALPN:
                self._list = slice(at + 2, at + length)
            at += length
        self._at = at
