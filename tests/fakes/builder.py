"""A builder: bare repositories behind a real OpenSSH server, a developer with a key, and git to push with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

__all__ = ["Builder", "Developer", "builder", "builder_manifest", "needs_git", "waits_for"]

SSHD: Final = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin")
_MISSING: Final = [name for name in ("git", "ssh", "ssh-keygen") if shutil.which(name) is None]
needs_git = pytest.mark.skipif(
    SSHD is None or bool(_MISSING),
    reason=f"OpenSSH or git is missing ({', '.join([*_MISSING, *([] if SSHD else ['sshd'])])}): git push is NOT tested",
)

SECONDS: Final = 150.0
"""That one git command may take on a busy machine."""


def make_key(path: Path) -> Path:
    """An Ed25519 key without passphrase; its public half stands beside it."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return path


class Builder:
    """An OpenSSH server that is started for each connection, as inetd would: nothing of it runs when nobody comes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.host_key = make_key(directory / "host_key")
        self.authorized = directory / "authorized_keys"
        self.authorized.write_text("")
        self.config = directory / "sshd_config"
        self.config.write_text(
            f"HostKey {self.host_key}\nAuthorizedKeysFile {self.authorized}\nStrictModes no\nUsePAM no\n"
            "PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "AcceptEnv GIT_PROTOCOL DRYCC_*\nPidFile none\nLogLevel ERROR\n"
            f'ForceCommand cd {directory} && exec git-shell -c "$SSH_ORIGINAL_COMMAND"\n'
        )
        self.log = directory / "sshd.log"
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where it puts its unprivileged half; nothing is written there
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listening.getsockname()[1]
        self._servers: list[subprocess.Popen[bytes]] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        assert SSHD is not None
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection, self.log.open("ab") as log:
                descriptor = connection.fileno()
                self._servers.append(
                    subprocess.Popen(
                        [SSHD, "-i", "-e", "-f", str(self.config)], stdin=descriptor, stdout=descriptor, stderr=log
                    )
                )

    def repository(self, name: str, hook: str = "") -> Path:
        """A bare repository; ``hook``: its pre-receive, a shell script."""
        path = self.directory / f"{name}.git"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(path)], check=True)
        if hook:
            script = path / "hooks" / "pre-receive"
            script.write_text(f"#!/bin/sh\n{hook}\n")
            script.chmod(0o755)
        return path

    def admit(self, key: Path, options: str = "") -> None:
        """Let whoever has this key in."""
        with self.authorized.open("a") as file:
            file.write(f"{options} {key.with_suffix('.pub').read_text()}".lstrip())

    def trust(self, ca: Path) -> None:
        """Let in whoever has a certificate of this authority."""
        with self.config.open("a") as file:
            file.write(f"TrustedUserCAKeys {ca.with_suffix('.pub')}\n")

    def close_port(self) -> None:
        """Nobody can connect any more."""
        if self._listening.fileno() >= 0:
            self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            self._thread.join()

    def close(self) -> None:
        self.close_port()
        for server in self._servers:
            if server.poll() is None:
                server.kill()
            server.wait()


def waits_for(go: Path, building: Path) -> str:
    """A hook that makes one file when it begins, and builds until there is another one."""
    build = f"echo building; [ -e {go} ] && exit 0; sleep 0.1"
    return f"touch {building}; for i in $(seq 600); do {build}; done; exit 1"


@contextmanager
def builder(directory: Path) -> Iterator[Builder]:
    it = Builder(directory)
    try:
        yield it
    finally:
        it.close()


def builder_manifest(*ports: int, **annotations: str) -> str:
    """The Service ``drycc-builder`` and its endpoints on loopback."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "drycc-builder",
            "namespace": "drycc",
            "annotations": {f"router.drycc.cc/{key}": value for key, value in annotations.items()},
        },
        "spec": {"ports": [{"name": "ssh", "port": 2222}]},
    }
    slices = [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"drycc-builder-{number}",
                "namespace": "drycc",
                "labels": {"kubernetes.io/service-name": "drycc-builder"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "ssh", "port": port}],
            "endpoints": [{"addresses": ["127.0.0.1"]}],
        }
        for number, port in enumerate(ports)
    ]
    return "---\n".join(json.dumps(each) + "\n" for each in (service, *slices))


class Developer:
    """Somebody with a key and a working copy."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.key = make_key(directory / "key")
        self.copy = directory / "copy"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSH_VARIANT": "ssh",
            "GIT_SSH_COMMAND": f"ssh -F none -i {self.key} -o IdentitiesOnly=yes -o StrictHostKeyChecking=accept-new "
            f"-o UserKnownHostsFile={directory / 'known_hosts'} -o LogLevel=ERROR -o ConnectTimeout=20",
        }
        for key, value in (("user.name", "Developer"), ("user.email", "developer@shop.example")):
            self.git("config", "--global", key, value)
        # What is pushed here is random: to squeeze it would be for nothing.
        for key, value in (("core.compression", "0"), ("pack.window", "0"), ("gc.auto", "0")):
            self.git("config", "--global", key, value)
        subprocess.run(["git", "init", "-q", "-b", "main", str(self.copy)], check=True, env=self.environment)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """A git command in the working copy, in a process group of its own."""
        where = ["-C", str(self.copy)] if self.copy.exists() else []
        return subprocess.Popen(
            ["git", *where, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment | environment,
            start_new_session=True,
        )

    def tries(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Exit status and what the terminal shows."""
        process = self.start(*arguments, **environment)
        try:
            said, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            self.interrupt(process)
            raise
        return process.returncode, said

    def git(self, *arguments: str, **environment: str) -> str:
        """What a git command says that succeeds."""
        status, said = self.tries(*arguments, **environment)
        assert status == 0, said
        return said.strip()

    def commit(self, size: int = 1000) -> str:
        """A commit with a file of so many random bytes; its id."""
        (self.copy / "file").write_bytes(os.urandom(size))
        self.git("add", "file")
        self.git("commit", "-q", "-m", "Change")
        return self.git("rev-parse", "HEAD")

    @staticmethod
    def interrupt(process: subprocess.Popen[str]) -> None:
        """Kill git and everything that it started, as a closed terminal does."""
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=SECONDS)
