"""What the router says about itself: one JSON object per line, on stderr.

An exception is told by its type and by where it passed, never by its text: texts quote values, and a value may be a
secret (hardening K-01). And as everything that leaves the process, the lines go through a ``LineSink``: whoever stopped
reading our stderr does not stop the traffic (R-36).

What must not enter: the access log (``telemetry.access_log``).
"""

from __future__ import annotations

import json
import logging
import os
import traceback
from datetime import UTC, datetime
from typing import Final

from drycc_proxy.telemetry.log_sink import LineSink

__all__ = ["DirectHandler", "JsonLines", "LineHandler", "start", "start_directly", "write_if_possible"]

STDERR: Final = 2
FLUSH_SECONDS: Final = 1.0
"""How long the end of the process waits for the reader."""


class JsonLines(logging.Formatter):
    """``{"time", "level", "logger", "message"}``, with ``error`` and ``trace`` where there is an exception."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; control characters are escaped by JSON."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        error = record.exc_info[1] if record.exc_info else None
        return json.dumps(line | (_told(error) if error else {}))


def _told(error: BaseException) -> dict[str, object]:
    told: dict[str, object] = {
        "error": type(error).__name__,
        "trace": [
            f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
        ],
    }
    if isinstance(error, BaseExceptionGroup):
        told["errors"] = [_told(each) for each in error.exceptions]
    return told


class LineHandler(logging.Handler):
    """Hands records to a sink; what the sink has no room for is lost. The lock of ``logging`` makes it one writer."""

    def __init__(self, sink: LineSink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        """Never blocks, never raises."""
        try:
            self._sink.write(self.format(record).encode("ascii") + b"\n")
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Write what waits; called at the end of the process."""
        self._sink.close(FLUSH_SECONDS)
        super().close()


def start(level: int, descriptor: int = STDERR) -> None:
    """Send everything from ``level`` up to ``descriptor``, in place of whatever was set up before."""
    handler = LineHandler(LineSink(descriptor))
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)


def write_if_possible(descriptor: int, line: bytes) -> bool:
    """Write a line at once, or not: False where whoever reads has left no room for it. Raises OSError.

    The descriptor does not block meanwhile. Those who share it and meet that moment wait for the reader by ``select``.
    """
    blocks = os.get_blocking(descriptor)
    os.set_blocking(descriptor, False)
    try:
        os.write(descriptor, line)
    except BlockingIOError:
        return False
    finally:
        os.set_blocking(descriptor, blocks)
    return True


class DirectHandler(logging.Handler):
    """Writes records itself, for a process that must have no second thread; what would block is lost."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        """Never blocks, never raises."""
        try:
            write_if_possible(self._descriptor, self.format(record).encode("ascii") + b"\n")
        except Exception:
            self.handleError(record)


def start_directly(level: int, descriptor: int = STDERR) -> None:
    """As :func:`start`, without a thread."""
    handler = DirectHandler(descriptor)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
