"""What the router says about itself: one JSON object per line, on stderr.

An exception is told by its type and by where it passed, never by its text: texts quote values, and a value may be a
secret (hardening K-01). What must not enter: the access log (``proxy.access_log``).
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import TextIO

__all__ = ["JsonLines", "start"]


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
        if error is not None:
            line["error"] = type(error).__name__
            line["trace"] = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)]
        return json.dumps(line)


def start(level: int, stream: TextIO = sys.stderr) -> None:
    """Send everything from ``level`` up to ``stream``, in place of whatever was set up before."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
