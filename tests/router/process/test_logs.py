"""One line per record, nothing of an exception but its type and where it passed, and nobody waits for the reader."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from drycc_proxy.telemetry.log_sink import LIMIT
from drycc_router.process import logs

CANARY = "c4n4ry-s3cr3t"


class Reader:
    """The other end of our stderr."""

    def __init__(self) -> None:
        self._end, self.descriptor = os.pipe()

    def lines(self) -> list[dict[str, Any]]:
        """Everything that was logged so far."""
        flush()
        return [json.loads(line) for line in os.read(self._end, 1 << 20).decode("ascii").splitlines()]

    def close(self) -> None:
        os.close(self._end)  # first, so that whoever waits for us to read is let go
        flush()
        os.close(self.descriptor)


def flush() -> None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logs.LineHandler):
            handler.close()


@pytest.fixture
def reader() -> Iterator[Reader]:
    """The root logger writes to it for the length of a test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    reader = Reader()
    logs.start(logging.INFO, reader.descriptor)
    yield reader
    reader.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_record_is_one_line_of_json(reader: Reader) -> None:
    logging.getLogger("router.x").warning("two\nlines, %s", "é\x1b[31m")
    logging.getLogger("router.x").debug("not at this level")
    [record] = reader.lines()
    assert record.pop("time").endswith("+00:00")
    assert record == {"level": "warning", "logger": "router.x", "message": "two\nlines, é\x1b[31m"}


def test_an_exception_is_told_without_its_text(reader: Reader) -> None:
    def fail(secret: str) -> None:
        raise ValueError(secret)

    try:
        fail(CANARY)
    except ValueError:
        logging.getLogger("router.x").exception("it failed")
    [record] = reader.lines()
    assert CANARY not in json.dumps(record)
    assert (record["level"], record["message"], record["error"]) == ("error", "it failed", "ValueError")
    assert record["trace"][-1].endswith(" fail")


def test_a_group_of_exceptions_is_told_one_by_one(reader: Reader) -> None:
    try:
        raise ExceptionGroup(CANARY, [ValueError(CANARY), ExceptionGroup(CANARY, [KeyError(CANARY)])])
    except* ValueError:
        logging.getLogger("router.x").exception("some failed")
    except* KeyError:
        logging.getLogger("router.x").exception("others failed")
    some, others = reader.lines()
    assert CANARY not in json.dumps([some, others])
    assert [each["error"] for each in some["errors"]] == ["ValueError"]
    assert [each["error"] for each in others["errors"][0]["errors"]] == ["KeyError"]


def test_starting_again_replaces_what_was_set_up(reader: Reader) -> None:
    other = Reader()
    logs.start(logging.ERROR, other.descriptor)
    logging.getLogger("router.x").warning("too quiet")
    logging.getLogger("router.x").error("loud")
    assert [record["message"] for record in other.lines()] == ["loud"]
    other.close()


def test_nobody_waits_for_a_reader_that_stopped(reader: Reader) -> None:
    began = time.monotonic()
    text = "x" * 100_000
    for _ in range(2 * LIMIT // len(text)):
        logging.getLogger("router.x").info(text)
    assert time.monotonic() - began < 20


def test_a_record_that_cannot_be_written_raises_nothing(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logging.getLogger("router.x").info("%d", "not a number")
    logging.getLogger("router.x").info("the next one")
    assert [record["message"] for record in reader.lines()] == ["the next one"]
    assert capsys.readouterr().err == ""


def test_a_line_is_written_at_once_or_not_at_all() -> None:
    reader, writer = os.pipe()
    try:
        fits = 0
        while logs.write_if_possible(writer, b"x" * 4095 + b"\n"):
            fits += 1
        assert fits > 1
        assert os.get_blocking(writer), "others may rely on it"
        os.read(reader, 4096)
        assert logs.write_if_possible(writer, b"y" * 4095 + b"\n")
    finally:
        os.close(reader)
        os.close(writer)
