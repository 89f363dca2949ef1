"""What a confined process cannot do any more, tried in a child of its own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import drycc_proxy
import drycc_router
import drycc_tls
from drycc_proxy.kernel.sandbox import confine, die_with_parent, forget_environment, harden, landlock_abi, own_files

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # the timer of the tests
LANDLOCK = pytest.mark.skipif(
    not landlock_abi(), reason="this kernel has no Landlock: what it takes away cannot be seen"
)


def in_a_child(act: Callable[[], object]) -> str:
    """What ``act`` returned, or the type of what it raised, in a process that ends with it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            told = str(act())
        except BaseException as error:
            told = type(error).__name__
        os.write(writer, told.encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as said:
        told = said.read().decode()
    os.waitpid(pid, 0)
    return told


def confined() -> None:
    confine(own_files(drycc_router, drycc_proxy, drycc_tls))


@LANDLOCK
@pytest.mark.parametrize("where", ["token", "/etc/hostname", "/proc/self/environ", "/proc/1/status"])
def test_a_confined_process_reads_nothing_but_its_own_program(tmp_path: Path, where: str) -> None:
    (tmp_path / "token").write_text("c4n4ry")
    path = tmp_path / where  # an absolute path stands for itself

    def read() -> object:
        assert path.exists()
        confined()
        return path.read_text()

    assert in_a_child(read) == "PermissionError"


@LANDLOCK
def test_an_api_server_tells_it_nothing(tmp_path: Path) -> None:
    """It may find the server, as endpoints may be anywhere; it has nothing to show there, and is
    told what strangers are told: the version."""
    kubeconfig = tmp_path / "kubeconfig"
    command = [sys.executable, "-m", "tests.fakes.apiserver", "--apps", "1", "--kubeconfig", str(kubeconfig)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        url = json.loads(server.stdout.readline())["url"]
        host, _, port = url.removeprefix("http://").partition(":")
        token = kubeconfig.with_name("kubeconfig.token")
        paths = ("/api/v1/services", "/api/v1/namespaces/app-00000/secrets/x", "/version")

        def ask(authorization: str) -> list[int]:
            statuses = []
            for path in paths:
                with closing(http.client.HTTPConnection(host, int(port), timeout=20)) as connection:
                    connection.request("GET", path, headers={"Authorization": authorization} if authorization else {})
                    statuses.append(connection.getresponse().status)
            return statuses

        def ask_confined() -> object:
            confined()
            try:
                return ask(f"Bearer {token.read_text()}")
            except PermissionError:
                return ask(""), ask("Bearer guessed")

        try:
            assert ask(f"Bearer {token.read_text().strip()}") == [200, 404, 200], "who has the token is told"
            assert in_a_child(ask_confined) == str(([401, 401, 200], [401, 401, 200]))
        finally:
            server.terminate()


@LANDLOCK
def test_it_writes_only_where_logs_are_made(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()

    def write() -> str:
        confine([], [logs])
        (logs / "access.log").open("ab").close()
        try:
            (tmp_path / "elsewhere").open("ab").close()
        except PermissionError:
            return "only there"
        return "anywhere"

    assert in_a_child(write) == "only there"


@LANDLOCK
def test_it_imports_late_what_is_its_own() -> None:
    def late() -> str:
        confined()
        import this as poem  # noqa: F401 -- that it can be imported is what is tested

        return "imported"

    assert "imported" in in_a_child(late)


@pytest.mark.skipif(landlock_abi() < 4, reason="this kernel's Landlock does not know the network")
def test_it_binds_no_port() -> None:
    def bind() -> None:
        confined()
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))

    assert in_a_child(bind) == "PermissionError"


@pytest.mark.skipif(landlock_abi() < 6, reason="this kernel's Landlock does not know signals")
def test_it_signals_nobody() -> None:
    def kill() -> None:
        confined()
        os.kill(os.getppid(), 0)

    assert in_a_child(kill) == "PermissionError"


def test_nothing_of_what_is_readable_leads_to_a_token() -> None:
    for path in own_files(drycc_router, drycc_proxy, drycc_tls):
        for secret in (Path("/run/secrets"), Path("/var/run/secrets")):
            assert path not in {secret, *secret.parents}


def test_a_kernel_without_landlock_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drycc_proxy.kernel.sandbox.landlock_abi", lambda: 0)
    assert confine([]) == 0
    assert Path("/proc/self/stat").read_text()


def test_the_environment_is_gone_also_where_the_kernel_shows_it() -> None:
    code = (
        "import os; from drycc_proxy.kernel.sandbox import *; forget_environment();"
        "print(os.environ.get('CANARY'), b'c4n4ry' in open('/proc/self/environ', 'rb').read())"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"CANARY": "c4n4ry"}, capture_output=True, text=True, check=True
    )
    assert told.stdout == "None False\n"
    assert callable(forget_environment)  # the same as in the child


def test_nobody_of_the_same_user_looks_into_it_and_it_leaves_no_core() -> None:
    def look() -> str:
        harden()
        status = Path("/proc/self/status").read_text()
        limits = Path("/proc/self/limits").read_text()
        core = next(line.split()[4] for line in limits.splitlines() if line.startswith("Max core"))
        bound = "NoNewPrivs:\t1" in status
        return f"{bound} {core}"

    assert in_a_child(look) == "True 0"


def test_a_child_hears_when_its_parent_ends() -> None:
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        parent = os.getpid()
        ready, tell = os.pipe()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, lambda *_: (os.write(writer, b"heard"), os._exit(0)))
            assert die_with_parent(parent)
            os.write(tell, b".")
            signal.pause()
        os.read(ready, 1)
        os._exit(0)
    os.close(writer)
    os.waitpid(middle, 0)
    with open(reader, "rb") as said:
        assert said.read() == b"heard"
