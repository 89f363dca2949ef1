"""A fixed rate of requests, whatever the answers do: ``python -m benchmarks.openloop``, a program of its own.

Requests fall due at even distances and go out on the longest-idle of a fixed set of kept-alive connections. A latency
counts from the moment the request was sent, or, if no connection was free, from the moment it fell due: a proxy that
stalls cannot hide it by not being asked. (h2load's ``--rps`` sends from all its clients in the same instant, so it
measures bursts; hence this one.)

One thread, ``select`` with microseconds, no collector of garbage: its own share of a latency is a few dozen
microseconds, the same for every proxy.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import select
import signal
import socket
import ssl
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.workload import MEASURED, requests

__all__ = ["Answer", "OpenLoop", "OpenLoopReport", "client_context", "main", "openloop_command", "read_answer"]

_PATIENCE: Final = 10.0
"""Seconds after which an answer counts as failed."""
_SHOWN: Final = 20
"""Failures whose text is kept; all are counted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer, as far as a benchmark cares."""

    status: int
    body: bytes


def read_answer(data: bytes) -> Answer | None:
    """Return the answer that ``data`` holds, None if it is not whole yet. Only bodies with a Content-Length are read.

    Raises ValueError if it is not an answer, or if bytes follow that nobody asked for.
    """
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return None
    status_line, *lines = head.split(b"\r\n")
    version, _, rest = status_line.partition(b" ")
    if not version.startswith(b"HTTP/1."):
        raise ValueError(f"not an answer: {status_line[:80]!r}")
    fields = dict(line.lower().split(b":", 1) for line in lines)
    length = int(fields.get(b"content-length", b"0"))
    if len(body) > length:
        raise ValueError(f"{len(body) - length} bytes too many after the answer")
    return Answer(int(rest[:3]), body) if len(body) == length else None


@dataclass(slots=True)
class OpenLoopReport:
    """What happened. ``latencies_us`` has every good answer's, in the order of arrival."""

    sent: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    reopened: int = 0
    """Connections that the proxy closed while nothing was asked on them: allowed, and counted."""
    latencies_us: list[float] = field(default_factory=list)

    def fail(self, host: str, why: str) -> None:
        """Count a failure."""
        self.failed += 1
        if len(self.failures) < _SHOWN:
            self.failures.append(f"{host}: {why}")


class _Connection:
    __slots__ = ("data", "host", "since", "socket")

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.host = ""
        self.since = 0.0
        self.data = b""


class OpenLoop:
    """The generator. ``stop`` may be called from a signal handler."""

    def __init__(self, port: int, *, tls: bool, hosts: Sequence[str], rate: float, connections: int) -> None:
        self.report = OpenLoopReport()
        self._port = port
        self._tls = client_context() if tls else None
        self._heads = [(host, requests["small"].head().replace("{host}", host).encode()) for host in hosts]
        self._interval = 1 / rate
        self._idle = deque(self._connect() for _ in range(connections))
        self._busy: dict[int, _Connection] = {}
        self._late: deque[float] = deque()
        self._stopped = False

    def stop(self) -> None:
        """Ask nothing more; answers under way are still waited for."""
        self._stopped = True

    def run(self, seconds: float) -> OpenLoopReport:
        """Ask for ``seconds``, or until ``stop``; then wait for the last answers."""
        clock = time.perf_counter
        began = due = clock()
        count = 0
        # Counted, not added up: a sum of intervals has the error of the clock's reading, which grows with its value.
        wanted = math.ceil(round(seconds / self._interval, 6))
        while not self._stopped and count < wanted:
            now = clock()
            if now < due:
                self._wait(due - now)
                continue
            if self._idle:
                self._send(now)
            else:
                self._late.append(due)
            count += 1
            due = began + count * self._interval
        deadline = clock() + _PATIENCE
        while (self._busy or self._late) and clock() < deadline:
            self._wait(0.1)
        for connection in self._busy.values():
            self.report.fail(connection.host, "no answer")
        for connection in (*self._idle, *self._busy.values()):
            connection.socket.close()
        return self.report

    def _connect(self) -> _Connection:
        opened = socket.create_connection(("127.0.0.1", self._port), timeout=_PATIENCE)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            opened = self._tls.wrap_socket(opened, server_hostname=MEASURED)
        opened.setblocking(False)
        return _Connection(opened)

    def _send(self, since: float) -> None:
        connection = self._idle.popleft()
        connection.host, head = self._heads[self.report.sent % len(self._heads)]
        connection.since = since
        connection.data = b""
        self._busy[connection.socket.fileno()] = connection
        self.report.sent += 1
        try:
            connection.socket.sendall(head)
        except OSError as error:
            self._give_up(connection, f"sending failed: {error}")

    def _wait(self, seconds: float) -> None:
        idle = {connection.socket.fileno(): connection for connection in self._idle}
        readable, _, _ = select.select([*self._busy, *idle], [], [], seconds)
        for number in readable:
            if number in self._busy:
                self._read(self._busy[number])
            else:
                self._check_idle(idle[number])
        self._expire()
        while self._late and self._idle:
            self._send(self._late.popleft())

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError as error:
            self._give_up(connection, f"reading failed: {error}")
            return
        if not data:
            self._give_up(connection, f"closed after {len(connection.data)} bytes")
            return
        connection.data += data
        try:
            answer = read_answer(connection.data)
        except ValueError as error:
            self._give_up(connection, str(error))
            return
        if answer is None:
            return
        if answer.status == 200:
            self.report.latencies_us.append((time.perf_counter() - connection.since) * 1e6)
        else:
            self.report.fail(connection.host, f"status {answer.status}")
        del self._busy[connection.socket.fileno()]
        self._idle.append(connection)

    def _check_idle(self, connection: _Connection) -> None:
        try:
            if connection.socket.recv(1):
                self.report.fail(connection.host, "bytes that nobody asked for")
        except (BlockingIOError, ssl.SSLWantReadError):  # a TLS session ticket, for one
            return
        except OSError:  # reset while idle: like a close
            pass
        self._idle.remove(connection)
        connection.socket.close()
        self.report.reopened += 1
        self._idle.append(self._connect())

    def _expire(self) -> None:
        oldest = time.perf_counter() - _PATIENCE
        for connection in [one for one in self._busy.values() if one.since < oldest]:
            self._give_up(connection, "no answer in time")

    def _give_up(self, connection: _Connection, why: str) -> None:
        self.report.fail(connection.host, why)
        del self._busy[connection.socket.fileno()]
        connection.socket.close()
        self._idle.append(self._connect())


def client_context() -> ssl.SSLContext:
    """Return the settings of a client that speaks TLS 1.3 and believes any certificate: it is about time, not trust."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    return context


def openloop_command(
    port: int, report: Path, *, tls: bool, rate: float, seconds: float, connections: int = 64, hosts: Sequence[str] = ()
) -> list[str]:
    """Return the command that runs ``main`` with these options."""
    return [
        *(sys.executable, "-m", "benchmarks.openloop", "--port", str(port), "--report", str(report)),
        *("--rate", str(rate), "--seconds", str(seconds), "--connections", str(connections)),
        *("--hosts", ",".join(hosts or [MEASURED]), *(["--tls"] if tls else [])),
    ]


def main() -> None:
    """Run as the command line says; the report goes into ``--report`` as JSON."""
    parser = argparse.ArgumentParser(description="a fixed rate of requests to one proxy")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--rate", type=float, required=True, help="requests per second")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--hosts", default=MEASURED, help="comma list of names to ask for in turn")
    parser.add_argument("--report", type=Path, required=True)
    options = parser.parse_args()
    loop = OpenLoop(
        options.port,
        tls=options.tls,
        hosts=options.hosts.split(","),
        rate=options.rate,
        connections=options.connections,
    )
    signal.signal(signal.SIGTERM, lambda _number, _frame: loop.stop())
    gc.freeze()
    gc.disable()
    options.report.write_text(json.dumps(asdict(loop.run(options.seconds))))


if __name__ == "__main__":
    main()
