"""Sockets from one router to the next, and what stays as it is when that fails."""

from __future__ import annotations

import os
import socket
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from drycc_proxy.kernel.sandbox import landlock_abi
from drycc_proxy.kernel.sockets import bind
from drycc_router.process import hot_restart
from drycc_router.process.hot_restart import HandoverListener, take


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


def answer(
    door: HandoverListener, sockets: Mapping[str, socket.socket], key: bytes | None = None
) -> socket.socket | None:
    """What the supervisor does about one who knocks, one step after the other."""
    door.socket.setblocking(True)
    way = door.admit()
    if way is None:
        return None
    way.setblocking(True)
    if not door.is_proven(way) or not door.give(way, "1.0", sockets, key):
        way.close()
        return None
    return way


def test_the_sockets_arrive_and_the_word_that_it_serves(tmp_path: Path) -> None:
    path = tmp_path / "way"
    door = HandoverListener(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with bind("127.0.0.1", 0) as http, bind("127.0.0.1", 0) as git:
        thread, got = knock(path)
        way = answer(door, {"http": http, "2222": git}, b"key")
        thread.join()
        [taken] = got
        assert isinstance(taken, hot_restart.Taken)
        assert (taken.version, set(taken.sockets), taken.ticket_key) == ("1.0", {"http", "2222"}, b"key")
        assert taken.sockets["http"].getsockname() == http.getsockname()
        assert "key" not in repr(taken)
        assert way is not None
        taken.ready()
        assert way.recv(100) == hot_restart.READY
        assert way.recv(100) == b""
        way.close()
        for each in taken.sockets.values():
            each.close()
        taken.ready()  # it has gone already
    door.close()


def test_nobody_there_is_no_mistake(tmp_path: Path) -> None:
    assert take(tmp_path / "way") is None
    door = HandoverListener(tmp_path / "way")
    door.close()
    assert take(tmp_path / "way") is None
    again = HandoverListener(tmp_path / "way")  # what is left of the one before is replaced
    again.close()
    with pytest.raises(OSError, match="cannot listen at"):
        HandoverListener(tmp_path / "nowhere" / "way")


def test_one_that_fails_is_noticed(tmp_path: Path) -> None:
    door = HandoverListener(tmp_path / "way")
    with bind("127.0.0.1", 0) as http:
        thread, got = knock(tmp_path / "way")
        way = answer(door, {"http": http})
        thread.join()
        [taken] = got
        assert isinstance(taken, hot_restart.Taken)
        assert way is not None
        taken.close()
        assert way.recv(100) == b""
        way.close()
    door.close()


def test_strangers_are_given_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    monkeypatch.setattr(struct, "unpack", lambda *_: (1, 4711, 4711))
    door = HandoverListener(tmp_path / "way")
    with bind("127.0.0.1", 0) as http:
        thread, got = knock(tmp_path / "way")
        assert answer(door, {"http": http}) is None
        thread.join()
    assert isinstance(got[0], OSError)
    door.close()
    assert door.admit() is None


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


CONFINED = """
import os, socket, sys
from pathlib import Path
import drycc_proxy, drycc_router, drycc_tls
from drycc_proxy.kernel.sandbox import confine, forget_environment, harden, own_files
from drycc_router.process.hot_restart import PROOF, take

path = Path(sys.argv[1])
harden()
forget_environment()
if not confine(own_files(drycc_proxy, drycc_router, drycc_tls), [path.parent]):
    sys.exit("no Landlock")
try:
    take(path)
except OSError as error:
    print(error.strerror)
for flags in (os.O_PATH | os.O_DIRECTORY, os.O_PATH):
    way = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    way.settimeout(20)
    way.connect(str(path))
    way.recv(100)
    socket.send_fds(way, [PROOF], [os.open(path.parent if flags & os.O_DIRECTORY else path, flags)])
    print(socket.recv_fds(way, 1000, 10)[:2])
way = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
way.settimeout(20)
way.connect(str(path))
way.recv(100)
way.send(PROOF)
print(socket.recv_fds(way, 1000, 10)[:2])
"""
"""What whoever took over a worker could try. The directory may be written, as that of a log file may be."""


def test_a_confined_process_of_the_same_user_is_given_nothing(tmp_path: Path) -> None:
    if not landlock_abi():
        pytest.skip("this kernel has no Landlock: nobody is confined")
    door = HandoverListener(tmp_path / "way")
    thief = subprocess.Popen(
        [sys.executable, "-c", CONFINED, str(tmp_path / "way")], stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    with bind("127.0.0.1", 0) as http:
        for _ in range(4):
            assert answer(door, {"http": http}, b"key") is None
    said, _ = thief.communicate(timeout=20)
    assert said.splitlines() == [
        f"cannot read {tmp_path}, which the router there asks for as a proof",
        *3 * ["(b'', [])"],
    ]
    door.close()


@pytest.mark.parametrize("witness", ["another directory", "a file", "two", "none", "open for writing"])
def test_only_the_directory_itself_open_for_reading_is_a_proof(tmp_path: Path, witness: str) -> None:
    (tmp_path / "file").touch()
    opened = {
        "another directory": [os.open("/", os.O_RDONLY)],
        "a file": [os.open(tmp_path / "file", os.O_RDONLY)],
        "two": [os.open(tmp_path, os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)],
        "none": [],
        "open for writing": [os.open(tmp_path / "file", os.O_WRONLY)],
    }[witness]
    door = HandoverListener(tmp_path / "way")
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        socket.send_fds(far, [hot_restart.PROOF], opened)
        before = len(os.listdir("/proc/self/fd"))
        assert not door.is_proven(near)
        assert len(os.listdir("/proc/self/fd")) == before
    for each in opened:
        os.close(each)
    door.close()


def test_a_path_that_workers_may_read_below_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="workers may read below"):
        HandoverListener(tmp_path / "way", [tmp_path.parent.resolve()])


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_is_not_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "way"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    before = path.lstat()
    with pytest.raises(OSError, match="no socket"):
        HandoverListener(path)
    assert path.lstat().st_ino == before.st_ino
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_that_cannot_be_taken_leaves_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="cannot listen"):
        HandoverListener(tmp_path / "way")
    assert list(tmp_path.iterdir()) == []


def test_a_router_of_before_the_proof_is_taken_over_from(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as old,
        bind("127.0.0.1", 0) as http,
    ):
        old.bind(str(tmp_path / "way"))
        old.listen()
        thread, got = knock(tmp_path / "way")
        way, _ = old.accept()
        given = msgspec.msgpack.encode(hot_restart.Given("0.9", ["http"], b"key"))
        socket.send_fds(way, [given], [http.fileno()])
        thread.join()
        [taken] = got
        assert isinstance(taken, hot_restart.Taken)
        assert taken.version == "0.9"
        taken.ready()
        assert way.recv(100) == hot_restart.READY
        way.close()
        for each in taken.sockets.values():
            each.close()
