"""Sockets from one router to the next, and what stays as it is when that fails."""

from __future__ import annotations

import os
import socket
import stat
import struct
import threading
from pathlib import Path

import pytest

from proxy.sockets import bind
from router.processes import handover
from router.processes.handover import Door, take


def knock(path: Path) -> tuple[threading.Thread, list[object]]:
    """Somebody who takes over, in a thread."""
    got: list[object] = []

    def ask() -> None:
        try:
            got.append(take(path))
        except OSError as error:
            got.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, got


def test_the_sockets_arrive_and_the_word_that_it_serves(tmp_path: Path) -> None:
    path = tmp_path / "way"
    door = Door(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    door.socket.setblocking(True)
    with bind("127.0.0.1", 0) as http, bind("127.0.0.1", 0) as git:
        thread, got = knock(path)
        way = door.answer("1.0", {"http": http, "2222": git}, b"key")
        thread.join()
        [taken] = got
        assert isinstance(taken, handover.Taken)
        assert (taken.version, set(taken.sockets), taken.ticket_key) == ("1.0", {"http", "2222"}, b"key")
        assert taken.sockets["http"].getsockname() == http.getsockname()
        assert "key" not in repr(taken)
        assert way is not None
        way.setblocking(True)
        taken.ready()
        assert way.recv(100) == handover.READY
        assert way.recv(100) == b""
        way.close()
        for each in taken.sockets.values():
            each.close()
        taken.ready()  # it has gone already
    door.close()


def test_nobody_there_is_no_mistake(tmp_path: Path) -> None:
    assert take(tmp_path / "way") is None
    door = Door(tmp_path / "way")
    door.close()
    assert take(tmp_path / "way") is None
    again = Door(tmp_path / "way")  # what is left of the one before is replaced
    again.close()
    with pytest.raises(OSError, match="cannot listen at"):
        Door(tmp_path / "nowhere" / "way")


def test_one_that_fails_is_noticed(tmp_path: Path) -> None:
    door = Door(tmp_path / "way")
    door.socket.setblocking(True)
    with bind("127.0.0.1", 0) as http:
        thread, got = knock(tmp_path / "way")
        way = door.answer("1.0", {"http": http}, None)
        thread.join()
        [taken] = got
        assert isinstance(taken, handover.Taken)
        assert way is not None
        way.setblocking(True)
        taken.close()
        assert way.recv(100) == b""
        way.close()
    door.close()


def test_strangers_are_given_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    monkeypatch.setattr(struct, "unpack", lambda *_: (1, 4711, 4711))
    door = Door(tmp_path / "way")
    door.socket.setblocking(True)
    with bind("127.0.0.1", 0) as http:
        thread, got = knock(tmp_path / "way")
        assert door.answer("1.0", {"http": http}, None) is None
        thread.join()
    assert isinstance(got[0], OSError)
    door.close()
    assert door.answer("1.0", {}, None) is None


def test_nonsense_is_not_taken(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as strange:
        strange.bind(str(tmp_path / "way"))
        strange.listen()
        thread, got = knock(tmp_path / "way")
        other, _ = strange.accept()
        other.send(b"hello")
        thread.join()
        other.close()
    assert "does not hand over its sockets" in str(got[0])
