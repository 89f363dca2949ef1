"""Streams: what a large push costs, through the router, nginx's stream module and HAProxy in TCP mode.

    python -m benchmarks.streams [--megabytes N] [--rounds N] [--both | --gateway]

One connection carries the bytes of a push to a sink that only counts them. The figure is megabytes per second of CPU
time of the process in the middle; what the clock says is told beside it, and means little where everything shares two
cores. ``direct`` is the same without anybody in the middle.

``--both``: as many bytes in both directions at once, and each side's checksum compared with the other's (hardening
P-05); the figure counts both ways. ``--gateway``: git itself pushes one commit with a file of random bytes to a
builder, through the router as a stream and through its git gateway, which decrypts and encrypts all of it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
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
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks.tools import REPOSITORY

__all__ = ["Middle", "Outcome", "Pusher", "carry", "carry_both", "configuration", "main", "middles"]

LOOPBACK: Final = "127.0.0.1"
PIECE: Final = 256 * 1024
SOON: Final = 20.0
_FREE: Final = [f"--{each}-port=0" for each in ("http", "https", "admin")]
_ROUTER: Final = [
    *(sys.executable, "-m", "drycc_router", "run", "--access-log", "off", "--drain-delay", "0", "--bind", LOOPBACK),
    *_FREE,
]
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

    def __init__(self, port: int, process: subprocess.Popen[bytes] | None) -> None:
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


@contextlib.contextmanager
def _talker(size: int) -> Iterator[int]:
    """Takes and sends ``size`` bytes at the same time, and then the checksum of what it took."""

    def talk(connection: socket.socket) -> None:
        with connection:
            speaker = threading.Thread(target=_speak, args=(connection, size))
            speaker.start()
            try:
                heard = _hear(connection, size)
                speaker.join()
                connection.sendall(heard.to_bytes(4, "big"))
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(PIECE):
                    pass
            except (EOFError, OSError):
                pass  # somebody who only looked whether the port is open, or had heard enough

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    with socket.create_server((LOOPBACK, 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


_SAID: Final = os.urandom(PIECE + 4096)
"""What is said, from another place each time, so that no piece stands for another."""


def _piece(number: int) -> memoryview:
    start = number % 4096
    return memoryview(_SAID)[start : start + PIECE]


def _speak(connection: socket.socket, size: int) -> None:
    """Say so many bytes, as long as somebody hears them; who does not have them all, says so."""
    try:
        for number in range(size // PIECE):
            connection.sendall(_piece(number))
    except OSError:
        pass


def _hear(connection: socket.socket, size: int) -> int:
    """Take so many bytes; returns their checksum. Raises EOFError when there are fewer."""
    buffer, checksum = memoryview(bytearray(1 << 20)), 0
    while size:
        count = connection.recv_into(buffer[: min(size, len(buffer))])
        if not count:
            raise EOFError(f"{size} bytes are missing")
        checksum = zlib.crc32(buffer[:count], checksum)
        size -= count
    return checksum


def carry_both(middle: Middle, size: int) -> Outcome:
    """Send and take ``size`` bytes at the same time. Raises ValueError when they are not the same ones."""
    said = 0
    for number in range(size // PIECE):
        said = zlib.crc32(_piece(number), said)
    before, began = middle.cpu(), time.monotonic()
    with socket.create_connection((LOOPBACK, middle.port), SOON) as connection:
        connection.settimeout(None)
        speaker = threading.Thread(target=_speak, args=(connection, size))
        speaker.start()
        heard = _hear(connection, size)
        speaker.join()
        theirs = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")
        connection.shutdown(socket.SHUT_WR)
        rest = connection.recv(PIECE)
    if heard != said or theirs != said or rest:
        raise ValueError("what arrived is not what was sent")
    seconds, after = time.monotonic() - began, middle.cpu()
    return Outcome(2 * size, seconds, None if after is None or before is None else after - before)


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
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
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
        "drycc": (_ROUTER[0], _ROUTER[1:]),
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
            command = [program, *arguments, f"--git-port={port}", f"--manifests={directory}"]
        yield name, functools.partial(_running, command, port)


def _in_turn(home: Path, app: int, rounds: int, once: Callable[[Middle], Outcome]) -> dict[str, list[Outcome]]:
    outcomes: dict[str, list[Outcome]] = {}
    with contextlib.ExitStack() as stack:
        started = {name: stack.enter_context(start()) for name, start in middles(app, home)}
        for _ in range(rounds):
            for name, middle in started.items():  # in turn, so that a busy minute is everybody's
                outcomes.setdefault(name, []).append(once(middle))
    return outcomes


# ── git itself ────────────────────────────────────────────────────────────────────────────────────────────────────────
class Pusher:
    """A builder with an empty repository, and somebody with one commit to push to it."""

    def __init__(self, home: Path, size: int) -> None:
        self.home = home
        self._copy = home / "copy"
        ssh = f"ssh -F none -i {home / 'builder' / 'key'} -o IdentitiesOnly=yes -o LogLevel=ERROR"
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_SSH_COMMAND": f"{ssh} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
        }
        for key, value in (("user.name", "B"), ("user.email", "b@shop.example"), ("core.compression", "0")):
            self._git("config", "--global", key, value)
        self._git("init", "-q", "-b", "main", str(self._copy))
        (self._copy / "file").write_bytes(os.urandom(size))
        self._git("-C", str(self._copy), "add", "file")
        self._git("-C", str(self._copy), "commit", "-q", "-m", "One")

    def _git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], env=self._environment, check=True)

    def push(self, middle: Middle, size: int) -> Outcome:
        """Push the commit to a repository that has nothing yet."""
        repository = self.home / "builder" / "shop.git"
        shutil.rmtree(repository)
        self._git("init", "-q", "--bare", "-b", "main", str(repository))
        before, began = middle.cpu(), time.monotonic()
        self._git("-C", str(self._copy), "push", "-q", f"ssh://git@{LOOPBACK}:{middle.port}/shop.git", "main")
        seconds, after = time.monotonic() - began, middle.cpu()
        return Outcome(size, seconds, None if after is None or before is None else after - before)

    def gateway(self) -> Path:
        """What the git gateway is told: everybody's key is the builder's."""
        directory = self.home / "gateway"
        directory.mkdir()
        host_key = str(directory / "ssh_host_ed25519_key")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host_key], check=True)
        key = self.home / "builder" / "key"
        shutil.copy(key, directory / "builder_client_key")
        (directory / "keys").write_text(f"pusher * {key.with_suffix('.pub').read_text()}")
        return directory


@contextlib.contextmanager
def _builder(home: Path) -> Iterator[int]:
    command = [sys.executable, "-m", "examples.builder", str(home / "builder")]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["port"]
        finally:
            process.terminate()


def _pushes(home: Path, size: int, rounds: int) -> dict[str, list[Outcome]]:
    """git to a builder: directly, as a stream, through the gateway."""
    outcomes: dict[str, list[Outcome]] = {}
    with contextlib.ExitStack() as stack:
        builder = stack.enter_context(_builder(home))
        pusher = Pusher(home, size)
        manifests = home / "manifests"
        manifests.mkdir()
        (manifests / "builder.yaml").write_text(configuration("drycc", 0, builder, home))
        started = {"direct": Middle(builder, None)}
        for name, flags in (("drycc", []), ("drycc, git gateway", ["--git-gateway", str(pusher.gateway())])):
            port = _free_port()
            command = [*_ROUTER, f"--git-port={port}", f"--manifests={manifests}", *flags]
            started[name] = stack.enter_context(_running(command, port))
        for _ in range(rounds):
            for name, middle in started.items():
                outcomes.setdefault(name, []).append(pusher.push(middle, size))
    return outcomes


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--both", action="store_true", help="as many bytes in both directions at once")
    other.add_argument("--gateway", action="store_true", help="git pushes, also through the git gateway")
    options = parser.parse_args(arguments)
    size = options.megabytes * 1_000_000 // PIECE * PIECE
    with tempfile.TemporaryDirectory() as home:
        if options.gateway:
            outcomes = _pushes(Path(home), size, options.rounds)
        elif options.both:
            with _talker(size) as talker:
                outcomes = _in_turn(Path(home), talker, options.rounds, lambda middle: carry_both(middle, size))
        else:
            with _sink() as sink:
                outcomes = _in_turn(Path(home), sink, options.rounds, lambda middle: carry(middle, size))
    print("| through | MB per CPU second | seconds on the clock |\n|---|--:|--:|")
    for name, each in outcomes.items():
        figures = [figure for outcome in each if (figure := outcome.per_cpu_second) is not None]
        median = f"{statistics.median(figures):,.0f}" if figures else ""
        print(f"| {name} | {median} | {statistics.median(outcome.seconds for outcome in each):.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
