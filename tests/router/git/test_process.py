"""What the process is given is what it gets, and nobody who comes without it is refused."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import asyncssh

from drycc_proxy.kernel.sandbox import landlock_abi
from drycc_router.git.process import GitProcess


def test_a_child_becomes_the_process_with_the_sockets_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "ssh_host_ed25519_key").write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    process = GitProcess.prepare()
    with socket.create_connection(process.listening.getsockname(), 20) as early:  # before anybody is there
        pid = os.fork()
        if not pid:
            try:
                process.become(tmp_path)
            finally:
                os._exit(1)
        process.near.settimeout(20)
        assert json.loads(process.near.recv(1000)) == {"event": "listening", "landlock": landlock_abi()}
        early.sendall(b"PROXY TCP4 192.0.2.1 198.51.100.7 40000 2222\r\nSSH-2.0-git\r\n")
        assert early.recv(100).startswith(b"SSH-2.0-drycc")
        assert Path(f"/proc/{pid}/comm").read_text() == "drycc-git\n"
        assert os.getsid(pid) == pid
    process.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
