"""The chunked coding, both ways (RFC 9112 7.1): a strict decoder that is fed as bytes come, and one line to encode.

The decoder forgives nothing: a size line ends in CRLF and only in CRLF, a chunk ends in CRLF, extensions are
short and counted, trailers are judged like fields and dropped. Each tolerance that parsers differ in has been
somebody's request smuggling.

What must not enter: sockets, and any meaning of the payload.
"""

from __future__ import annotations

import re
from typing import Final

from drycc_proxy.errors import Failure
from drycc_proxy.http.messages import Malformed

__all__ = ["LAST_CHUNK", "MAX_LINES", "ChunkDecoder", "encode"]

LAST_CHUNK: Final = b"0\r\n\r\n"

MAX_LINES: Final = 256
"""Chunks (lines of sizes and of trailers) that one call reads: a read of 256 KiB may hold forty thousand chunks of one
byte, and everybody else would wait for a quarter of a second."""
_MAX_EXTENSION: Final = 256
"""Bytes of extensions on one chunk."""
_MAX_OVERHEAD: Final = 16 * 1024
"""Bytes of extensions on a whole body, or as many as its payload, whichever is larger."""
_MAX_TRAILERS: Final = 8 * 1024
"""Bytes of all trailers."""
_LEAST_TRAILER: Final = 64
"""Bytes that each trailer counts for at least: there are never more than 128."""

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_SIZE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16})((?:[ \t]*;[ \t]*"
    + _TOKEN
    + rb"(?:[ \t]*=[ \t]*(?:"
    + _TOKEN
    + rb'|"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"))?)*)'
)
_TRAILER: Final = re.compile(_TOKEN + rb":[\t \x21-\x7e\x80-\xff]*")
_MAX_SIZE: Final = 2**63 - 1

_AT_SIZE: Final = 0
_IN_DATA: Final = 1
_AFTER_DATA: Final = 2
_IN_TRAILERS: Final = 3


def encode(data: bytes) -> bytes:
    """One chunk; ``data`` must not be empty (an empty chunk would end the body)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class ChunkDecoder:
    """Decodes one body. Feed it until ``done``; then ``rest`` holds the bytes behind the body.

    Raises Malformed(``failure``) at the first byte that is wrong; it is of no use afterwards. One call reads at most
    :data:`MAX_LINES` chunks: if ``more`` is set afterwards, bytes of this call are left, and ``feed(b"")`` in a later
    turn of the loop goes on with them. The work of all calls together is linear in the bytes fed, however they are cut.
    """

    __slots__ = (
        "_buffer",
        "_failure",
        "_left",
        "_overhead",
        "_payload",
        "_searched",
        "_state",
        "_trailers",
        "done",
        "more",
        "rest",
    )

    def __init__(self, failure: Failure) -> None:
        self._failure = failure
        self._state = _AT_SIZE
        self._left = 0
        self._buffer: bytes | bytearray = b""
        """What was fed and is not decoded yet."""
        self._searched = 0
        """Bytes at its beginning in which no line ends."""
        self._payload = 0
        self._overhead = 0
        self._trailers = 0
        self.done = False
        self.more = False
        self.rest: bytes | bytearray = b""

    def feed(self, data: bytes | bytearray) -> bytes:
        """The payload in ``data``, joined; may be empty. The first ``data`` may be a bytearray: it is taken over, and
        becomes ``rest`` without being copied."""
        if self._buffer:
            self._buffer += data
            data = self._buffer
        self.more = False
        pieces: list[bytes | bytearray] = []
        lines = MAX_LINES
        at = 0
        end = len(data)
        while at < end:
            if self._state == _IN_DATA:
                piece = data[at : at + self._left] if at or self._left < end else data
                at += len(piece)
                self._left -= len(piece)
                pieces.append(piece)
                if not self._left:
                    self._state = _AFTER_DATA
            elif self._state == _AFTER_DATA:
                if not data.startswith(b"\r\n", at):
                    if end - at == 1 and data[at] == 13:
                        break
                    raise Malformed(self._failure, "a chunk does not end in CRLF")
                at += 2
                self._state = _AT_SIZE
            else:
                if not lines:
                    self.more = True
                    break
                lines -= 1
                stop = data.find(b"\n", at + self._searched)
                if stop < 0:
                    self._check_partial(data, at)
                    self._searched = end - at
                    break
                self._searched = 0
                if data[stop - 1] != 13 or stop == at:
                    raise Malformed(self._failure, "a line of the chunked body does not end in CRLF")
                line = data[at : stop - 1]
                at = stop + 1
                if self._state == _AT_SIZE:
                    self._read_size(line)
                elif not line:
                    self.done = True
                    break
                else:
                    self._read_trailer(line)
        payload = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if isinstance(payload, bytearray):
            payload = bytes(payload)  # before the buffer changes: it may be the buffer
        self._keep(data, at)
        return payload

    def _keep(self, data: bytes | bytearray, at: int) -> None:
        """Keep what stands behind ``at``: the rest if the body is over, else what is to be decoded later."""
        left: bytes | bytearray
        if isinstance(data, bytearray):
            del data[:at]  # moves where it begins; nothing is copied
            left = data
        else:
            left = bytearray(data[at:]) if at < len(data) else b""
        if self.done:
            self.rest, self._buffer = left, b""
        else:
            self._buffer = left

    def _check_partial(self, data: bytes | bytearray, at: int) -> None:
        """A line that has not ended yet must still be able to become a good one, so that nobody waits for a bad one."""
        length = len(data) - at
        limit = 16 + _MAX_EXTENSION + 1 if self._state == _AT_SIZE else _MAX_TRAILERS
        if length > limit:
            raise Malformed(self._failure, "a line of the chunked body is too long")
        cr = data.find(b"\r", at + max(self._searched - 1, 0))
        if 0 <= cr < len(data) - 1:
            raise Malformed(self._failure, "a bare CR in the chunked body")
        if self._state == _AT_SIZE and data[at] not in b"0123456789abcdefABCDEF":
            raise Malformed(self._failure, "a chunk size is not hexadecimal")

    def _read_size(self, line: bytes | bytearray) -> None:
        match = _SIZE.fullmatch(line) if len(line) <= 16 + _MAX_EXTENSION else None
        if match is None:
            raise Malformed(self._failure, "a chunk size is not hexadecimal, or its extension is not valid")
        size = int(match.group(1), 16)
        if size > _MAX_SIZE:
            raise Malformed(self._failure, "a chunk size is beyond 2^63 - 1")
        self._overhead += len(match.group(2))
        self._payload += size
        if self._overhead > _MAX_OVERHEAD and self._overhead > self._payload:
            raise Malformed(self._failure, "more chunk extensions than payload")
        if size:
            self._left = size
            self._state = _IN_DATA
        else:
            self._state = _IN_TRAILERS

    def _read_trailer(self, line: bytes | bytearray) -> None:
        """Trailers are judged and dropped: merged into the head they would be a way around every check."""
        self._trailers += max(len(line) + 2, _LEAST_TRAILER)
        if self._trailers > _MAX_TRAILERS or _TRAILER.fullmatch(line) is None:
            raise Malformed(self._failure, "a trailer is not 'name: value', or there are too many")
