"""The process: it says what it lacks, and ends when its parent has nothing more to say."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import asyncssh


def start(directory: Path, listening: socket.socket) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "proxy.ssh", str(directory), str(listening.fileno())]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, pass_fds=(listening.fileno(),))


def test_it_serves_until_standard_input_ends(tmp_path: Path) -> None:
    (tmp_path / "ssh_host_ed25519_key").write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        process = start(tmp_path, listening)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"event": "listening"}
        out, errors = process.communicate(b'{"builders": [["127.0.0.1", 1]], "connect_timeout": 1.0}\n', timeout=30)
    assert (process.returncode, out, errors) == (0, b"", b"")


def test_without_a_host_key_it_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        process = start(tmp_path, listening)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 64
    assert b"expected a file ssh_host_..._key" in errors
