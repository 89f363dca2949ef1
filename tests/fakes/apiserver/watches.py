"""One open watch: what it has still to be told, and how it ends. Sending is the server's business.

See "Efficient detection of changes" and "Watch bookmarks" in the Kubernetes API concepts.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable

from tests.fakes.apiserver.calls import Call
from tests.fakes.apiserver.refusals import Refused
from tests.fakes.apiserver.store import Revision, Stored, watch_line

__all__ = ["Watch", "added", "bookmark", "error"]


class Watch:
    """Lines gather here within each write, and go out together when the loop comes to it."""

    def __init__(self, call: Call, transport: asyncio.Transport) -> None:
        self.call = call
        self.transport = transport
        self.lines: list[bytes] = []
        self.ended = False
        self._wake = asyncio.Event()

    def tell(self, revision: Revision) -> None:
        line = revision.line(self.call.selection)
        if line is not None and not self.is_ahead_of(revision.version):
            self.send(line)

    def is_ahead_of(self, version: int) -> bool:
        """Whether it began at a later version: of what comes before that it is told nothing, not even by a bookmark."""
        return self.call.version.isdecimal() and int(self.call.version) > version

    def send(self, line: bytes) -> None:
        self.lines.append(line)
        self._wake.set()

    def end(self) -> None:
        """Let it end in order after what is waiting, as the server does when its time is up."""
        self.ended = True
        self._wake.set()

    async def wait(self) -> bytes:
        """All lines that wait, at least one unless the watch has ended."""
        while not self.lines and not self.ended:
            self._wake.clear()
            await self._wake.wait()
        data = b"".join(self.lines)
        self.lines.clear()
        return data


def added(objects: Iterable[Stored]) -> list[bytes]:
    """The synthetic events with which a watch without a version begins."""
    return [watch_line("ADDED", stored.whole) for stored in objects]


def bookmark(call: Call, version: int, *, initial_events_end: bool = False) -> bytes:
    """All changes up to ``version`` have been told: an object with a version and nothing else."""
    metadata: dict[str, object] = {"resourceVersion": str(version), "creationTimestamp": None}
    if initial_events_end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    return watch_line("BOOKMARK", call.kind.head + json.dumps({"metadata": metadata}).encode()[1:])


def error(refusal: Refused) -> bytes:
    """A refusal after the head of the answer is gone: as an event, whose object is a ``Status``."""
    return watch_line("ERROR", refusal.body)
