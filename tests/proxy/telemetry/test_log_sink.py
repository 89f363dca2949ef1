"""Lines leave without anybody waiting for them, whatever the reader does."""

from __future__ import annotations

import os
import resource
import select
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drycc_proxy.telemetry.log_sink import LIMIT, LineSink, whole_lines

ENOUGH = 10.0
"""Seconds that a thread gets to do what takes it microseconds."""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_pieces_for_a_pipe_are_whole_lines_that_it_takes_at_once() -> None:
    lines = [b"x" * (number % 700) + b"\n" for number in range(200)]
    pieces = list(whole_lines(b"".join(lines)))
    assert b"".join(pieces) == b"".join(lines)
    assert all(len(piece) <= select.PIPE_BUF and piece.endswith(b"\n") for piece in pieces)
    long = b"y" * 3 * select.PIPE_BUF + b"\n"
    assert list(whole_lines(b"a\n" + long + b"b\n")) == [b"a\n", long, b"b\n"]
    assert list(whole_lines(b"z" * 2 * select.PIPE_BUF)) == [b"z" * 2 * select.PIPE_BUF]
    assert list(whole_lines(b"")) == []


def test_two_writers_of_one_pipe_never_mix_their_lines(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    sinks = [LineSink(writer) for _ in range(2)]
    wanted = 2 * 50 * 200
    for _ in range(50):
        for name, sink in zip(b"ab", sinks, strict=True):
            sink.write(b"".join(bytes([name]) * 300 + b"\n" for _ in range(200)))
    read = b""
    while read.count(b"\n") < wanted:
        read += os.read(reader, 1 << 20)
    assert {line for line in read.split(b"\n") if line} == {b"a" * 300, b"b" * 300}
    assert all(sink.close(ENOUGH) for sink in sinks)


def test_lines_arrive_in_order_and_are_appended(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    file.write_bytes(b"before\n")
    sink = LineSink(file)
    assert sink.write(b"one\ntwo\n")
    assert sink.write(b"three\n")
    assert sink.close(ENOUGH)
    assert file.read_bytes() == b"before\none\ntwo\nthree\n"
    assert sink.lost == 0


def test_a_new_log_is_not_for_everybody_to_read(tmp_path: Path) -> None:
    sink = LineSink(tmp_path / "access.log")
    assert sink.close(ENOUGH)
    assert stat.S_IMODE((tmp_path / "access.log").stat().st_mode) & 0o137 == 0


def test_a_log_that_cannot_be_opened_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LineSink(tmp_path / "missing" / "access.log")


def test_reopening_follows_a_rotated_file(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    sink = LineSink(file)
    sink.write(b"old\n")
    file.rename(tmp_path / "access.log.1")  # whatever is written until reopen() goes where the file went
    sink.reopen()
    sink.write(b"new\n")
    assert sink.close(ENOUGH)
    assert (tmp_path / "access.log.1").read_bytes() == b"old\n"
    assert file.read_bytes() == b"new\n"


def test_a_file_that_cannot_be_reopened_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    sink = LineSink(folder / "access.log")
    folder.rename(tmp_path / "moved")
    sink.reopen()
    sink.write(b"line\n")
    assert sink.close(ENOUGH)
    assert (tmp_path / "moved" / "access.log").read_bytes() == b"line\n"
    assert "the old one stays" in caplog.text


def test_a_descriptor_is_written_to_and_left_open(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    sink = LineSink(writer)
    sink.reopen()
    sink.write(b"line\n")
    assert sink.close(ENOUGH)
    assert os.read(reader, 100) == b"line\n"
    os.fstat(writer)


@pytest.mark.parametrize("blocking", [True, False])
def test_a_reader_that_stopped_holds_up_nobody(pipe: tuple[int, int], blocking: bool) -> None:
    reader, writer = pipe
    os.set_blocking(writer, blocking)
    sink = LineSink(writer)
    batch = b"x" * 65535 + b"\n"
    began = time.monotonic()
    taken = 0
    while sink.write(batch):
        taken += 1
    assert taken * len(batch) <= LIMIT + 65536  # the queue, and what the pipe itself holds
    assert not sink.write(batch)
    assert not sink.close(0.01)
    assert time.monotonic() - began < ENOUGH

    received = 0  # the reader wakes up: nothing that was taken is missing
    while received < taken * len(batch):
        received += len(os.read(reader, 1 << 20))
    assert sink.close(ENOUGH)


def test_room_comes_back_when_the_reader_does(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    sink = LineSink(writer)
    batch = b"x" * (LIMIT // 2)
    assert sink.write(batch)
    assert sink.write(batch)
    assert not sink.write(b"one more\n")
    received = 0
    while received < LIMIT:
        received += len(os.read(reader, 1 << 20))
    deadline = time.monotonic() + ENOUGH
    while not sink.write(b"one more\n"):
        assert time.monotonic() < deadline
    assert sink.close(ENOUGH)
    assert os.read(reader, 100) == b"one more\n"


def test_lines_without_a_reader_are_counted_and_complained_about_once(caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    sink = LineSink(writer)
    assert sink.write(b"one\ntwo\n")
    assert sink.write(b"three\n")
    assert sink.close(ENOUGH)
    assert sink.lost == 3
    assert len(caplog.records) == 1
    os.close(writer)


def test_a_line_that_a_full_disk_cut_does_not_spoil_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    sink = LineSink(path)
    try:
        # A file that may not grow beyond this takes a part of what is written, as a disk that gets full does.
        resource.setrlimit(resource.RLIMIT_FSIZE, (12, limits[1]))
        sink.write(b"first\nsecond\nthird\n")
        deadline = time.monotonic() + ENOUGH
        while not sink.lost:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        assert path.read_bytes() == b"first\nsecond"
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        sink.write(b"fourth\n")
        assert sink.close(ENOUGH)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"first\nsecond\nfourth\n"
