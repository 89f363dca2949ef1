"""What a push asks for: which names of the repository are to point where, read in passing.

A client of ``git-receive-pack`` says it before it sends a pack (gitprotocol-pack, "Reference Update Request"), in
lines with their length before them, the last of which is empty::

    old SP new SP name [NUL capabilities]

A signed push has the same lines within a certificate. Whether a builder agrees is another matter: that is what its exit
status and the developer's terminal say.

What must not enter: anything that holds up, changes or judges what passes.
"""

from __future__ import annotations

import json
import re
from typing import Final

__all__ = ["Pushed"]

MAX_READ: Final = 256 * 1024
"""Bytes that are looked at; a push that asks for more at once, thousands of names, is told of in part."""
MAX_TOLD: Final = 2400
"""Characters of JSON that the names of one push may take: with the rest, a line that a pipe takes as a whole."""
MAX_NAME: Final = 255
"""Bytes of a name, after which it is cut."""
_LENGTH: Final = re.compile(rb"[0-9a-fA-F]{4}")
_UPDATE: Final = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64}) ([0-9a-f]{40}|[0-9a-f]{64}) ([^\0\n]+)")


class Pushed:
    """One push, as far as it was read."""

    __slots__ = ("_rest", "_room", "_seen", "more", "over", "updates")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._room = MAX_TOLD
        self._seen = 0
        self.updates: list[dict[str, str]] = []
        """``ref``, ``old``, ``new``; all zeros: it was not there, or is not to be there any more."""
        self.more = 0
        """Updates that are not among them."""
        self.over = False
        """There is nothing more to read: the pack follows, or what came was not of this kind."""

    def read(self, data: bytes) -> None:
        """Look at the next bytes that a client sent."""
        if self.over:
            return
        self._seen += len(data)
        rest = self._rest
        rest += data
        at = 0
        while len(rest) - at >= 4:
            head = rest[at : at + 4]
            size = int(head, 16) if _LENGTH.fullmatch(head) else -1
            if size < 4:  # the empty line, or nothing that we know
                self.over = True
                break
            if len(rest) - at < size:
                break
            self._take(bytes(rest[at + 4 : at + size]))
            at += size
        self.over = self.over or self._seen > MAX_READ
        del rest[: len(rest) if self.over else at]

    def _take(self, line: bytes) -> None:
        update = _UPDATE.match(line)
        if update is None:
            return
        name = update[3][:MAX_NAME].decode("utf-8", "backslashreplace")
        told = {"ref": name, "old": update[1].decode(), "new": update[2].decode()}
        size = len(json.dumps(told)) + 2
        if size > self._room:
            self._room = 0  # not a later one instead, that happens to be shorter
            self.more += 1
        else:
            self._room -= size
            self.updates.append(told)

    def facts(self) -> dict[str, object]:
        """For the audit line."""
        return {"refs": self.updates, **({"refs_more": self.more} if self.more else {})} if self.updates else {}
