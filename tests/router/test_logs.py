"""One line per record, and nothing of an exception but its type and where it passed."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from router import logs

CANARY = "c4n4ry-s3cr3t"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the root logger writes for the length of a test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.start(logging.INFO, stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_record_is_one_line_of_json(stream: io.StringIO) -> None:
    logging.getLogger("router.x").warning("two\nlines, %s", "é\x1b[31m")
    logging.getLogger("router.x").debug("not at this level")
    [line] = stream.getvalue().splitlines()
    record = json.loads(line)
    assert record.pop("time").endswith("+00:00")
    assert record == {"level": "warning", "logger": "router.x", "message": "two\nlines, é\x1b[31m"}


def test_an_exception_is_told_without_its_text(stream: io.StringIO) -> None:
    def fail(secret: str) -> None:
        raise ValueError(secret)

    try:
        fail(CANARY)
    except ValueError:
        logging.getLogger("router.x").exception("it failed")
    assert CANARY not in stream.getvalue()
    record = json.loads(stream.getvalue())
    assert (record["level"], record["message"], record["error"]) == ("error", "it failed", "ValueError")
    assert record["trace"][-1].endswith(" fail")


def test_starting_again_replaces_what_was_set_up(stream: io.StringIO) -> None:
    other = io.StringIO()
    logs.start(logging.ERROR, other)
    logging.getLogger("router.x").warning("too quiet")
    logging.getLogger("router.x").error("loud")
    assert stream.getvalue() == ""
    assert json.loads(other.getvalue())["message"] == "loud"
