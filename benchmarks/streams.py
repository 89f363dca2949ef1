"""Streams: what a large push costs, through the router, nginx's stream module and HAProxy in TCP mode.

    python -m benchmarks.streams [--megabytes N] [--rounds N]

One connection carries the bytes of a push to a sink that only counts them. The figure is megabytes per second of CPU
time of the process in the middle; what the clock says is told beside it, and means little where everything shares two
cores. ``direct`` is the same without anybody in the middle.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks.tools import REPOSITORY

__all__ = ["Middle", "Outcome", "carry", "configuration", "main", "middles"]

LOOPBACK: Final = "127.0.0.1"
PIECE: Final = 256 * 1024
SOON: Final = 20.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_STREAM_MODULES: Final = ("/usr/lib/nginx/modules/ngx_stream_module.so",)


class Outcome:
    """One push: what it took on the clock, and of CPU in the middle."""

    def __init__(self, size: int, seconds: float, cpu: float | None) -> None:
        self.size = size
        self.seconds = seconds
        self.cpu = cpu

    @property
    def per_cpu_second(self) -> float | None:
        """Megabytes per second of CPU; None: nobody was in the middle."""
        return self.size / 1e6 / max(self.cpu, 1 / _TICKS) if self.cpu is not None else None


class Middle:
    """A process in the middle, and the port to push to."""

    def __init__(self, port: int, process: subprocess.Popen[str] | None) -> None:
        self.port = port
        self.process = process

    def cpu(self) -> float | None:
        """CPU seconds so far, of the process and those it started."""
        if self.process is None:
            return None
        return sum(_cpu(pid) for pid in _family(self.process.pid))


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _family(int(child)))]


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextlib.contextmanager
def _sink() -> Iterator[int]:
    """Takes whatever comes, and ends when its client does."""

    def take(connection: socket.socket) -> None:
        with connection:
            buffer = bytearray(1 << 20)
            while connection.recv_into(buffer):
                pass

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=take, args=(connection,), daemon=True).start()

    with socket.create_server((LOOPBACK, 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def carry(middle: Middle, size: int) -> Outcome:
    """Push ``size`` bytes, and wait until the other end has had them all."""
    piece = bytes(PIECE)
    before, began = middle.cpu(), time.monotonic()
    with socket.create_connection((LOOPBACK, middle.port), SOON) as connection:
        for _ in range(size // PIECE):
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(PIECE):
            pass
    seconds, after = time.monotonic() - began, middle.cpu()
    return Outcome(size, seconds, None if after is None or before is None else after - before)


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def configuration(name: str, port: int, sink: int, home: Path) -> str:
    """What a peer is told: one TCP port, one server behind it, one worker."""
    if name == "nginx":
        modules = "".join(f"load_module {path};\n" for path in _STREAM_MODULES if Path(path).exists())
        return (
            f"{modules}daemon off; worker_processes 1; pid {home}/pid; error_log {home}/error.log;\n"
            "events { worker_connections 64; }\n"
            f"stream {{ server {{ listen {LOOPBACK}:{port}; proxy_pass {LOOPBACK}:{sink}; }} }}\n"
        )
    if name == "haproxy":
        return (
            "global\n  nbthread 1\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n"
            f"  timeout server 60s\nlisten git\n  bind {LOOPBACK}:{port}\n  server builder {LOOPBACK}:{sink}\n"
        )
    objects = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "drycc-builder", "namespace": "drycc"},
            "spec": {"ports": [{"name": "ssh", "port": 2222}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "drycc-builder-1",
                "namespace": "drycc",
                "labels": {"kubernetes.io/service-name": "drycc-builder"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "ssh", "port": sink}],
            "endpoints": [{"addresses": [LOOPBACK]}],
        },
    ]
    return "---\n".join(json.dumps(each) + "\n" for each in objects)


@contextlib.contextmanager
def _running(command: Sequence[str], port: int) -> Iterator[Middle]:
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            deadline = time.monotonic() + SOON
            while True:
                try:
                    socket.create_connection((LOOPBACK, port), SOON).close()
                    break
                except OSError:
                    if time.monotonic() > deadline or process.poll() is not None:
                        raise SystemExit(f"did not start: {command}") from None
                    time.sleep(0.05)
            yield Middle(port, process)
        finally:
            process.terminate()


def middles(sink: int, home: Path) -> Iterator[tuple[str, Callable[[], contextlib.AbstractContextManager[Middle]]]]:
    """Who is measured: each by name, and how it is started."""
    yield "direct", lambda: contextlib.nullcontext(Middle(sink, None))
    ways = {
        "drycc": (sys.executable, ["-m", "router", "run", "--access-log", "off", "--bind", LOOPBACK]),
        "nginx": (shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"), ["-c"]),
        "haproxy": (shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin"), ["-db", "-f"]),
    }
    for name, (program, arguments) in ways.items():
        if program is None:
            print(f"{name} is missing and is left out", file=sys.stderr)
            continue
        port = _free_port()
        directory = home / name
        directory.mkdir()
        file = directory / "configuration.yaml"
        file.write_text(configuration(name, port, sink, directory))
        command = [program, *arguments, str(file)]
        if name == "drycc":
            free = [f"--{each}-port=0" for each in ("http", "https", "admin")]
            command = [program, *arguments, *free, f"--git-port={port}", f"--manifests={directory}"]
        yield name, lambda command=command, port=port: _running(command, port)  # type: ignore[misc]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    size = options.megabytes * 1_000_000 // PIECE * PIECE
    outcomes: dict[str, list[Outcome]] = {}
    with tempfile.TemporaryDirectory() as home, _sink() as sink, contextlib.ExitStack() as stack:
        started = {name: stack.enter_context(start()) for name, start in middles(sink, Path(home))}
        for _ in range(options.rounds):
            for name, middle in started.items():  # in turn, so that a busy minute is everybody's
                outcomes.setdefault(name, []).append(carry(middle, size))
    print("| through | MB per CPU second | seconds on the clock |\n|---|--:|--:|")
    for name, each in outcomes.items():
        figures = [figure for outcome in each if (figure := outcome.per_cpu_second) is not None]
        median = f"{statistics.median(figures):,.0f}" if figures else ""
        print(f"| {name} | {median} | {statistics.median(outcome.seconds for outcome in each):.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
