"""The process: it says what it lacks, and ends when it is told to or nobody is left who could."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh
import pytest

from drycc_proxy.kernel.sandbox import landlock_abi


@contextmanager
def started(directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """The process, and the near end of the way to it."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.settimeout(30)
    with socket.create_server(("127.0.0.1", 0)) as listening, near, far:
        given = (listening.fileno(), far.fileno())
        command = [sys.executable, "-m", "drycc_proxy.ssh", str(directory), *map(str, given)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=given)
        far.close()
        yield process, near


@pytest.mark.parametrize("how", ["told to end", "left alone"])
def test_it_serves_to_the_end(tmp_path: Path, how: str) -> None:
    (tmp_path / "ssh_host_ed25519_key").write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    with started(tmp_path) as (process, near):
        assert json.loads(near.recv(100)) == {"event": "listening", "landlock": landlock_abi()}
        near.send(b'{"builders": [["127.0.0.1", 1]], "connect_timeout": 1.0}')
        if how == "told to end":
            process.send_signal(signal.SIGUSR1)
        else:
            near.close()
        out, errors = process.communicate(timeout=30)
    assert (process.returncode, out, errors) == (0, b"", b"")


def test_who_has_no_account_is_served_as_well(tmp_path: Path) -> None:
    """In a container the router is a number without an account, and the file of accounts is closed to this process."""
    (tmp_path / "ssh_host_ed25519_key").write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    nobody = (
        "import os, pwd, runpy, sys\n"
        "def unknown(number): raise KeyError(number)\n"
        "pwd.getpwuid = unknown\n"
        "os.environ.pop('HOME', None)\n"
        "runpy.run_module('drycc_proxy.ssh', run_name='__main__', alter_sys=True)\n"
    )
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.settimeout(30)
    with socket.create_server(("127.0.0.1", 0)) as listening, near, far:
        given = (listening.fileno(), far.fileno())
        command = [sys.executable, "-c", nobody, str(tmp_path), *map(str, given)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=given)
        far.close()
        assert json.loads(near.recv(100))["event"] == "listening"
        with socket.create_connection(listening.getsockname(), 30) as client:
            client.sendall(b"PROXY TCP4 192.0.2.1 198.51.100.7 40000 2222\r\nSSH-2.0-git\r\n")
            assert client.recv(100).startswith(b"SSH-2.0-drycc")
        process.send_signal(signal.SIGUSR1)
        assert process.communicate(timeout=30) == (b"", b"")
    assert process.returncode == 0


def test_without_a_host_key_it_says_so(tmp_path: Path) -> None:
    with started(tmp_path) as (process, near):
        said = json.loads(near.recv(1000))
        out, errors = process.communicate(timeout=30)
    assert (process.returncode, out, errors) == (64, b"", b"")
    assert (said["event"], said["level"]) == ("log", "error")
    assert "expected a file ssh_host_..._key" in said["message"]


def test_nobody_looks_into_it(tmp_path: Path) -> None:
    look = (
        "import ctypes, resource, sys, drycc_proxy.ssh.__main__ as m\n"
        "async def look(*given):\n"
        "    print([ctypes.CDLL(None).prctl(option, 0, 0, 0, 0) for option in (3, 39)], flush=True)\n"
        "    print(resource.getrlimit(resource.RLIMIT_CORE), flush=True)\n"
        "    return 0\n"
        "m._serve = look\n"
        "sys.exit(m.main(sys.argv[1:]))"
    )
    near, far = socket.socketpair()
    with near, far:
        given = [near.fileno(), far.fileno()]
        command = [sys.executable, "-c", look, str(tmp_path), *map(str, given)]
        done = subprocess.run(command, pass_fds=given, capture_output=True, text=True, timeout=30)
    # Not dumpable, no new privileges: PR_GET_DUMPABLE and PR_GET_NO_NEW_PRIVS.
    assert (done.returncode, done.stdout) == (0, "[0, 1]\n(0, 0)\n"), done.stderr


CONFINED = """
import os, socket, subprocess, sys
import drycc_proxy.ssh.__main__ as m

def tries(what, *arguments):
    try:
        return what(*arguments)
    except OSError as error:
        return type(error).__name__

async def look(path, *given):
    print(tries((path / "told").read_text))
    print(tries((path / "link").read_text))
    print(tries(os.listdir, path.parent))
    print(tries(open, path / "new", "w"))
    print(tries(os.execv, sys.executable, [sys.executable, "-c", "print('ran')"]))
    print(tries(socket.create_server, ("127.0.0.1", 0)))
    print(tries(os.kill, os.getppid(), 0))
    print(dict(os.environ))
    print(tries(socket.getaddrinfo, "localhost", 22) != [], flush=True)
    return 0

m._serve = look
sys.exit(m.main(sys.argv[1:]))
"""


@pytest.mark.skipif(not landlock_abi(), reason="this kernel has no Landlock")
def test_it_reads_its_directory_and_nothing_else_and_runs_binds_and_signals_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "gateway"
    directory.mkdir()
    (tmp_path / "token").write_text("c4n4ry")
    (directory / "told").write_text("told")
    (directory / "link").symlink_to(tmp_path / "token")
    near, far = socket.socketpair()
    with near, far:
        given = [near.fileno(), far.fileno()]
        command = [sys.executable, "-c", CONFINED, str(directory), *map(str, given)]
        done = subprocess.run(command, pass_fds=given, capture_output=True, text=True, timeout=30)
    refused = "PermissionError"
    signalled = refused if landlock_abi() >= 6 else "None"
    bound = refused if landlock_abi() >= 4 else "<socket.socket"
    told, link, listed, written, ran, listening, killed, environment, resolved = done.stdout.splitlines()
    assert (told, link, listed, written, ran) == ("told", refused, refused, refused, refused), done.stderr
    assert listening.startswith(bound)
    assert killed == signalled
    assert environment.strip() == "{'HOME': '/nonexistent'}"
    assert resolved == "True"
