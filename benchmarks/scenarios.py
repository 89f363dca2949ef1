"""The table of what is measured, and how one measurement of one proxy is made.

Each kind of scenario is a small frozen object with one verb, ``measure``; the table ``SCENARIOS`` is the only place
that lists them. What must not enter: rounds, medians, and anything that knows one proxy from another.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from benchmarks.clients import kernel_bytes, open_idle, open_stalled, still_open
from benchmarks.figures import percentile
from benchmarks.load import LoadReport, h2load, wrk
from benchmarks.openloop import client_context, openloop_command
from benchmarks.peers import Ports
from benchmarks.processes import Child, core_busy, cpu_time, resident_bytes
from benchmarks.tools import REPOSITORY
from benchmarks.workload import requests

__all__ = [
    "LOAD_CORE",
    "PROXY_CORE",
    "SCENARIOS",
    "Handshakes",
    "Idle",
    "Latency",
    "Scenario",
    "SlowReader",
    "Target",
    "Throughput",
]

PROXY_CORE: Final = 0
LOAD_CORE: Final = 1
"""For load generator, upstream and the benchmark itself."""
_TOLERATED: Final = 0.001
"""Share of failed requests beyond which a figure means nothing."""


@dataclass(frozen=True, slots=True)
class Target:
    """One running proxy."""

    name: str
    child: Child
    ports: Ports
    log: Path
    home: Path
    origin_port: int

    def port(self, scheme: str) -> int:
        """Return the port that speaks ``scheme``."""
        return self.ports.https if scheme == "https" else self.ports.http


class Scenario(Protocol):
    """One row of the results: ``headline`` is the metric to compare by, of which less is better."""

    @property
    def title(self) -> str: ...
    @property
    def headline(self) -> str: ...
    @property
    def fresh(self) -> bool:
        """Whether the proxy is started anew for it, and measured once: true of memory, which does not wobble."""

    def measure(self, target: Target, seconds: float) -> dict[str, float]:
        """Return one sample of ``target``."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """As many requests as it answers on a fixed number of connections."""

    title: str
    request: str
    scheme: str = "http"
    connections: int = 64
    headline: str = "cpu_us"
    fresh: bool = False
    core: int | str = LOAD_CORE

    def measure(self, target: Target, seconds: float) -> dict[str, float]:
        """Warm up for a second, load for ``seconds``, and share the processor time among the requests."""
        return _measure_load(self.load, target, seconds)

    def load(self, target: Target, seconds: float) -> LoadReport:
        """Load ``target`` once and return what wrk saw."""
        return wrk(
            requests[self.request],
            scheme=self.scheme,
            port=target.port(self.scheme),
            connections=self.connections,
            seconds=seconds,
            core=self.core,
            home=target.home,
        )


@dataclass(frozen=True, slots=True)
class Handshakes:
    """New TLS connections at a fixed rate, each with a full handshake and one request."""

    title: str
    rate: int = 500
    headline: str = "cpu_us"
    fresh: bool = False

    def measure(self, target: Target, seconds: float) -> dict[str, float]:
        """Warm up for a second, open connections for ``seconds``, and share the processor time among them."""
        return _measure_load(self._load, target, seconds)

    def _load(self, target: Target, seconds: float) -> LoadReport:
        return h2load(requests["small"], port=target.ports.https, rate=self.rate, seconds=seconds, core=LOAD_CORE)


def _measure_load(load: Callable[[Target, float], LoadReport], target: Target, seconds: float) -> dict[str, float]:
    load(target, 1)
    os.truncate(target.log, 0)
    meter = _Meter(target)
    report = load(target, seconds)
    figures = meter.per_request(report.requests)
    logged = target.log.stat().st_size
    if logged == 0:
        raise RuntimeError("no access log was written")
    failed = report.bad_status + report.broken
    if failed > report.requests * _TOLERATED:
        raise RuntimeError(f"{failed} of {report.requests} requests failed")
    return {
        **figures,
        "requests_per_second": report.requests / report.seconds,
        "megabytes_per_second": report.bytes / report.seconds / 1e6,
        "log_bytes": logged / report.requests,
        "failed": float(failed),
    }


@dataclass(frozen=True, slots=True)
class Latency:
    """Requests at a fixed rate, well below what the slowest proxy can do."""

    title: str
    scheme: str = "http"
    rate: int = 1000
    headline: str = "p99_us"
    fresh: bool = False

    def measure(self, target: Target, seconds: float) -> dict[str, float]:
        """Ask at the fixed rate for ``seconds``, after a second that does not count."""
        self._ask(target, 1)
        meter = _Meter(target)
        report = self._ask(target, seconds)
        ordered = sorted(report["latencies_us"])
        figures = meter.per_request(len(ordered))
        return {
            "p50_us": percentile(ordered, 0.5),
            "p99_us": percentile(ordered, 0.99),
            "p999_us": percentile(ordered, 0.999),
            "max_us": ordered[-1],
            **figures,
            "failed": float(report["failed"]),
        }

    def _ask(self, target: Target, seconds: float) -> dict[str, Any]:
        report = target.home / "openloop.json"
        port, tls = target.port(self.scheme), self.scheme == "https"
        command = openloop_command(port, report, tls=tls, rate=self.rate, seconds=seconds)
        subprocess.run(["taskset", "-c", str(LOAD_CORE), *command], check=True, timeout=seconds + 60, cwd=REPOSITORY)
        found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return found


class _Meter:
    """Reads the processor time that a proxy spends from now on, and how much of its core it did not have."""

    def __init__(self, target: Target) -> None:
        self._pid = target.child.pid
        self._since = time.perf_counter()
        self._core = core_busy(PROXY_CORE)
        self._cpu = cpu_time(self._pid)

    def per_request(self, count: int) -> dict[str, float]:
        """Share what was spent among ``count`` requests. Raises RuntimeError if there were none."""
        if count == 0:
            raise RuntimeError("not one request was answered")
        spent = cpu_time(self._pid) - self._cpu
        core = core_busy(PROXY_CORE) - self._core
        elapsed = time.perf_counter() - self._since
        total = spent.user + spent.system
        return {
            "cpu_us": total / count * 1e6,
            "user_us": spent.user / count * 1e6,
            "system_us": spent.system / count * 1e6,
            "busy": total / elapsed,
            "others_busy": max(core - total, 0.0) / elapsed,
        }


_SETTLE: Final = 2.0
"""Seconds a proxy gets to finish what it does after the last byte."""


@dataclass(frozen=True, slots=True)
class Idle:
    """Kept-alive connections that were used once and now sit there: resident memory of each."""

    title: str
    scheme: str = "http"
    connections: int = 10_000
    headline: str = "resident_bytes"
    fresh: bool = True

    def measure(self, target: Target, seconds: float) -> dict[str, float]:
        """Compare the resident memory after a few connections with that after all of them."""
        port = target.port(self.scheme)
        tls = client_context() if self.scheme == "https" else None
        _close(open_idle(port, 200, tls=tls))
        time.sleep(_SETTLE)
        before = resident_bytes(target.child.pid)
        opened = open_idle(port, self.connections, tls=tls)
        try:
            time.sleep(_SETTLE)
            grown = resident_bytes(target.child.pid) - before
            alive = still_open(opened)
        finally:
            _close(opened)
        return {
            "resident_bytes": grown / self.connections,
            "base_megabytes": before / 1e6,
            "failed": float(self.connections - alive),
        }


@dataclass(frozen=True, slots=True)
class SlowReader:
    """Clients that ask for an endless answer and do not read it: what each of them costs, kernel included."""

    title: str
    scheme: str = "http"
    connections: int = 50
    headline: str = "total_bytes"
    fresh: bool = True

    def measure(self, target: Target, seconds: float) -> dict[str, float]:
        """Let all of them stall until nothing moves any more, then count what is held."""
        port = target.port(self.scheme)
        tls = client_context() if self.scheme == "https" else None
        _close(open_idle(port, 200, tls=tls))
        time.sleep(_SETTLE)
        before = resident_bytes(target.child.pid)
        opened = open_stalled(port, self.connections, tls=tls)
        try:
            time.sleep(2 * _SETTLE)
            resident = resident_bytes(target.child.pid) - before
            to_clients = kernel_bytes(f"sport = :{port}")
            from_app = kernel_bytes(f"dport = :{target.origin_port}")
            time.sleep(_SETTLE)
            later = resident_bytes(target.child.pid) - before
        finally:
            _close(opened)
        return {
            "total_bytes": (later + to_clients + from_app) / self.connections,
            "resident_bytes": later / self.connections,
            "kernel_to_clients_bytes": to_clients / self.connections,
            "kernel_from_app_bytes": from_app / self.connections,
            "still_growing_bytes": (later - resident) / self.connections,
            "failed": 0.0,
        }


def _close(connections: list[socket.socket]) -> None:
    for connection in connections:
        connection.close()


SCENARIOS: Final[dict[str, Scenario]] = {
    "plain": Throughput("small answers, HTTP/1.1", "small"),
    "plain-varied": Throughput("the same, no two requests alike", "varied"),
    "plain-apps": Throughput("the same, over all 1,000 apps", "apps"),
    "tls": Throughput("small answers, TLS kept alive", "small", scheme="https"),
    "handshake": Handshakes("full TLS handshake, one request"),
    "resumption": Throughput("resumed TLS session, one request", "close", scheme="https"),
    "body-1m": Throughput("1 MiB answers", "download", connections=16),
    "body-1m-upload": Throughput("1 MiB uploads", "upload", connections=16),
    "latency": Latency("1,000 requests/s, HTTP/1.1"),
    "latency-tls": Latency("1,000 requests/s, TLS kept alive", scheme="https"),
    "idle": Idle("10,000 idle connections"),
    "idle-tls": Idle("10,000 idle TLS connections", scheme="https"),
    "slow-reader": SlowReader("endless answer, nobody reads"),
    "slow-reader-tls": SlowReader("endless answer over TLS, nobody reads", scheme="https"),
}
"""Every scenario by the name that ``--scenarios`` takes."""
