"""The demo: what README's first command does, from the first file to the last child."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from examples import demo
from examples.authority import Authority

SCRIPT = Path(demo.__file__)


def test_the_manifests_in_the_repository_and_those_of_the_demo_are_clean(tmp_path: Path) -> None:
    demo.prepare(tmp_path, Authority(), {"hello": [5001], "shop": [5002, 5003], "ticker": [5004]})

    for manifests in (SCRIPT.parent / "manifests", tmp_path / "manifests"):
        checked = subprocess.run(
            [sys.executable, "-m", "router", "check", str(manifests)], capture_output=True, text=True, timeout=30
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert all(f"{app}.localhost" in checked.stdout for app in demo.APPS)


def test_what_it_writes_can_be_written_again_and_the_key_is_for_this_user_alone(tmp_path: Path) -> None:
    for port in (5001, 6001):
        demo.prepare(tmp_path, Authority(), {"hello": [port], "shop": [], "ticker": []})

    (secret,) = yaml.safe_load_all((tmp_path / "manifests" / "certificate.yaml").read_text())
    (endpoints,) = yaml.safe_load_all((tmp_path / "manifests" / "endpoints.yaml").read_text())
    assert secret["metadata"]["name"] == "drycc-router-platform-cert"
    assert endpoints["ports"][0]["port"] == 6001
    readable = [
        path.name for path in sorted(tmp_path.rglob("*.*")) if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)
    ]
    assert "certificate.yaml" not in readable
    assert "PRIVATE" not in (tmp_path / "ca.pem").read_text()


def test_a_port_that_is_taken_is_left_to_the_router_to_choose() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert demo.free(port) == 0
    assert demo.free(port) == port


def test_it_does_what_it_promises(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, SCRIPT, "--free-ports", "--check", "--directory", tmp_path],
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert told.returncode == 0, told.stdout + told.stderr
    lines = told.stdout.splitlines()
    assert len(lines) == 8 + (shutil.which("ssh") is not None)
    assert all(line.startswith("yes: ") for line in lines)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(SCRIPT), "--free-ports", "--directory", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_every_child_it_started(running: subprocess.Popen[str], how: signal.Signals) -> None:
    assert running.stdout
    for line in running.stdout:
        if "/problems" in line:
            break
    children = [int(pid) for pid in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()]
    assert len(children) == 3  # the apps, the builder, the router

    running.send_signal(how)

    assert running.wait(20) == 0
    assert [pid for pid in children if os.path.exists(f"/proc/{pid}")] == []


def test_an_endless_answer_is_waited_for_until_the_second_signal(running: subprocess.Popen[str]) -> None:
    assert running.stdout
    told = iter(running.stdout)
    address = next(line for line in told if "http://ticker.localhost" in line)
    port = int(address.rstrip("/\n").rpartition(":")[2])
    next(line for line in told if "/problems" in line)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client, client.makefile("rb") as answer:
        client.sendall(b"GET / HTTP/1.1\r\nHost: ticker.localhost\r\n\r\n")
        assert b"data: 0\n" in iter(answer.readline, b"")

        running.send_signal(signal.SIGINT)
        next(line for line in told if "again" in line)
        assert b"data: 1\n" in iter(answer.readline, b"")

        running.send_signal(signal.SIGINT)
        assert running.wait(10) is not None
