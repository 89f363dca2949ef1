"""Where log lines leave the process: a queue with a bound, and one thread that may wait for a slow reader.

A pipe whose reader stopped, a full disk or a slow file system must never hold up a request. So the loop only ever puts
batches into a queue; when more than ``LIMIT`` bytes wait, the batch is refused and the caller counts its lines as
dropped. Nobody waits for the log, not even the end of the process for longer than it is told to.

What must not enter: what a line says (``telemetry.access_log``), and any lock that the loop could wait for.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["LIMIT", "LineSink"]

log = logging.getLogger(__name__)

LIMIT: Final = 8 * 1024 * 1024
"""Bytes that may wait for the reader."""

_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


def whole_lines(batch: bytes) -> Iterator[bytes]:
    """A batch in pieces that end with a line and that a pipe takes at once: lines of several processes never mix.

    POSIX promises that for ``PIPE_BUF`` bytes, and no line of the access log is longer (``telemetry.access_log``). One
    that is would be a piece of its own, which another process's may cut.
    """
    start = 0
    while len(batch) - start > select.PIPE_BUF:
        end = batch.rfind(b"\n", start, start + select.PIPE_BUF) + 1
        if not end:
            end = batch.find(b"\n", start) + 1 or len(batch)
        yield batch[start:end]
        start = end
    if start < len(batch):
        yield batch[start:]


class _Reopen:
    """In the queue: what follows goes into a new file."""


class _Close:
    """In the queue: nothing follows."""


class LineSink:
    """Lines to a file, or to an open descriptor. ``write`` from one thread only.

    A file is created with mode 0640, appended to, and can be opened anew (:meth:`reopen`) after it was moved away.
    Raises OSError when it cannot be opened.
    """

    __slots__ = (
        "_cut",
        "_descriptor",
        "_lost",
        "_path",
        "_piped",
        "_queue",
        "_taken",
        "_thread",
        "_warned",
        "_written",
    )

    def __init__(self, to: Path | int) -> None:
        self._path = to if isinstance(to, Path) else None
        self._descriptor = os.open(to, _FLAGS, 0o640) if isinstance(to, Path) else to
        self._piped = stat.S_ISFIFO(os.fstat(self._descriptor).st_mode)
        self._queue: queue.SimpleQueue[bytes | _Reopen | _Close] = queue.SimpleQueue()
        # Two totals with one writer each instead of one level with two: no lock is needed to compare them.
        self._taken = 0
        self._written = 0
        self._lost = 0
        self._cut = False
        """The file ends in the middle of a line, since it could not be written to the end."""
        self._warned = False
        self._thread = threading.Thread(target=self._run, name="log-sink", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Lines that were taken and could not be written: the reader is gone, the disk is full."""
        return self._lost

    def write(self, batch: bytes) -> bool:
        """Take a batch of whole lines. Never blocks; False: too much is waiting, the batch was dropped."""
        if self._taken - self._written + len(batch) > LIMIT:
            return False
        self._taken += len(batch)
        self._queue.put(batch)
        return True

    def reopen(self) -> None:
        """What is written from now on goes to a file newly opened under the same name. No effect on a descriptor."""
        self._queue.put(_Reopen())

    def close(self, timeout: float) -> bool:
        """Write what waits, for at most ``timeout`` seconds. False: something was left unwritten."""
        self._queue.put(_Close())
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # ── the thread ────────────────────────────────────────────────────────────────────────────────────────────────
    def _run(self) -> None:
        while not isinstance(batch := self._queue.get(), _Close):
            if isinstance(batch, _Reopen):
                self._open_again()
                continue
            try:
                self._write_all(batch)
            except OSError as error:
                self._lost += batch.count(b"\n")
                if not self._warned:  # once: the log of a log must not become the next flood
                    self._warned = True
                    log.warning("log lines are being lost: %s", error.strerror)
            else:
                self._warned = False
            self._written += len(batch)
        if self._path is not None:
            os.close(self._descriptor)

    def _write_all(self, batch: bytes) -> None:
        for piece in whole_lines(batch) if self._piped else (batch,):
            self._write_piece(piece)

    def _write_piece(self, piece: bytes) -> None:
        if self._cut:
            piece = b"\n" + piece  # or the first whole line behind it would be lost with it
        rest = memoryview(piece)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # somebody who shares our stdout made it non-blocking
                select.select([], [self._descriptor], [])
            except OSError:
                if written := len(piece) - len(rest):
                    self._cut = piece[written - 1] != 10
                raise
        self._cut = False

    def _open_again(self) -> None:
        if self._path is None:
            return
        try:
            fresh = os.open(self._path, _FLAGS, 0o640)
        except OSError as error:
            log.warning("the log file could not be opened again, the old one stays: %s", error.strerror)
            return
        os.close(self._descriptor)
        self._descriptor = fresh
        self._cut = False
