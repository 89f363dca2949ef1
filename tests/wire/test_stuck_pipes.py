"""Nobody reads what the router says, on stdout or stderr: it starts, serves, counts what is lost, and ends (R-36)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.process import SOON, Router, manifest, running, soon

LONG = "/" + "x" * 1000
REQUEST = b"GET %b HTTP/1.1\r\nHost: away.localhost\r\n\r\n" % LONG.encode()
BATCH = 50
ENOUGH = 12_000
"""Requests whose lines are more than the router keeps for a reader (``telemetry.log_sink.LIMIT``)."""


@contextlib.contextmanager
def full_pipe() -> Iterator[tuple[int, int]]:
    """A pipe, reader and writer, into which not a byte fits any more."""
    reader, writer = os.pipe()
    try:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(writer, False)
        try:
            while True:
                os.write(writer, b"\n" * 4096)
        except BlockingIOError:
            pass  # it is full
        os.set_blocking(writer, True)
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def answers(router: Router) -> bool:
    try:
        return router.get()[0] == 200
    except OSError:
        return False


def asks(port: int, count: int) -> None:
    """Requests that the router answers itself, one after the other."""
    with socket.create_connection(("127.0.0.1", port), SOON) as sock, sock.makefile("rb") as lines:
        for _ in range(0, count, BATCH):
            sock.sendall(REQUEST * BATCH)
            heard = 0
            while heard < BATCH:
                heard += lines.readline().startswith(b"HTTP/1.1 503")


def read_all(reader: int) -> bytes:
    os.set_blocking(reader, False)
    heard = b""
    try:
        while piece := os.read(reader, 65536):
            heard += piece
    except BlockingIOError:
        pass  # that is all for now
    return heard


@pytest.mark.parametrize("workers", ["0", "1"])
def test_nobody_reads_a_word(tmp_path: Path, workers: str) -> None:
    with full_pipe() as (hears, stdout), full_pipe() as (_, stderr), running("web") as app:
        (tmp_path / "apps.yaml").write_text(manifest("shop/web", app) + "---\n" + manifest("shop/away"))
        ports = {name: free_port() for name in ("http", "admin")}
        command = [sys.executable, "-m", "drycc_router", "run", "--manifests", str(tmp_path), "--bind", "127.0.0.1"]
        flags = ["--https-port", "0", "--drain-delay", "0", "--workers", workers, "--log-level", "debug"]
        places = [word for name, port in ports.items() for word in (f"--{name}-port", str(port))]
        process = subprocess.Popen(
            [*command, *flags, *places, "--access-log", "-"], stdout=stdout, stderr=stderr, text=True
        )
        router = Router(process, dict(ports))
        try:
            soon(lambda: answers(router))
            asks(ports["http"], ENOUGH)
            soon(lambda: router.metric("router_access_log_dropped_total") > 0)
            assert router.get() == (200, "web")
            process.send_signal(signal.SIGTERM)
            assert process.wait(SOON) == 0
        finally:
            process.kill()
            process.wait(SOON)
        assert not read_all(hears).strip(), "the pipe was not full"


def test_who_reads_late_hears_that_it_listens(tmp_path: Path) -> None:
    with full_pipe() as (hears, stdout), running("web") as app:
        (tmp_path / "apps.yaml").write_text(manifest("shop/web", app))
        command = [sys.executable, "-m", "drycc_router", "run", "--manifests", str(tmp_path), "--bind", "127.0.0.1"]
        port = free_port()
        flags = ["--http-port", str(port), "--https-port", "0", "--admin-port", "0", "--drain-delay", "0"]
        process = subprocess.Popen(
            [*command, *flags, "--workers", "1", "--access-log", "off"], stdout=stdout, text=True
        )
        try:
            router = Router(process, {"http": port})
            soon(lambda: answers(router))
            heard = b""

            def told() -> bool:
                nonlocal heard
                heard += read_all(hears)
                return bool(heard.strip())

            soon(told)
            assert json.loads(heard)["http"] == port
            process.send_signal(signal.SIGTERM)
            assert process.wait(SOON) == 0
        finally:
            process.kill()
            process.wait(SOON)
