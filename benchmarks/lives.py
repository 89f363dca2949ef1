"""Processes that come and go under load: ``python -m benchmarks.lives``. Counts of failures, not throughput.

One router with two workers (as it ships, on a directory of manifests), one app and the clients in this process. Each
scenario is one row of hardening 3.5 or 3.2 and ends in one line of JSON:

    kills      L-05  one of two workers is killed every half second, under 200 new connections a second
    upgrades   L-04  a new router takes over in place, a hundred times, under 200 new connections a second
    idle, busy R-01  10,000 apps and 300 requests a second: without changes, and with files rewritten all the time
    spread           connections kept open, and who of the workers has them
    rolling    L-03  two replicas behind a TCP balancer, restarted ten times in turn, under 300 requests a second and
                     20 WebSockets (needs haproxy)
    scrape           10,000 apps that all were asked, and 300 requests a second while metrics are read once a second:
                     with the budget of series as it is, and with room for everybody

A request that was under way in a killed worker is lost with it, and counted as ``under way``, which is no failure where
workers are killed, and one where nobody is; a connection that was refused, or not accepted in five seconds, is
``failed``.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks.faults import Origin, ask, open_loop
from benchmarks.figures import percentile
from benchmarks.peers.drycc import manifest
from benchmarks.processes import cpu_time
from benchmarks.replicas import Balancer, clients, tunnels
from benchmarks.run import free_port
from benchmarks.tools import REPOSITORY, commit, machine
from benchmarks.tunnels import EchoApp

__all__ = ["SCENARIOS", "Running", "newcomers"]

RATE: Final = 200.0
LONGEST: Final = 600.0
"""Seconds that one scenario may take."""
_REQUEST: Final = b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n"
_PATIENCE: Final = 5.0


class Running:
    """One router with its processes."""

    def __init__(self, home: Path, ports: dict[str, int] | None = None, *options: str) -> None:
        """``options`` of the command line come last, so they hold."""
        self.home = home
        self._options = options
        self._ports = ports or {"http": 0, "https": 0, "admin": 0}
        self.process: subprocess.Popen[str]
        self.line: dict[str, Any] = {}

    async def start(self) -> Running:
        """Start it, and wait until it serves."""
        self.line = json.loads(await asyncio.to_thread(self._start))
        return self

    def _start(self) -> str:
        ports = [word for name, port in self._ports.items() for word in (f"--{name}-port", str(port))]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "drycc_router", "run", "--manifests", str(self.home / "manifests")),
                *("--bind", "127.0.0.1", "--access-log", "off", "--log-level", "error", "--git-port", "0"),
                *("--workers", "2", "--drain-delay", "0", "--handover", str(self.home / "way"), *ports, *self._options),
            ],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    @property
    def ports(self) -> dict[str, int]:
        """Those it listens on."""
        return {name: self.line[name] for name in ("http", "https", "admin")}

    def workers(self) -> dict[str, int]:
        """Name and process id of each."""
        found = {}
        pid = self.process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            try:
                name = Path(f"/proc/{child}/comm").read_text().strip()
            except OSError:
                continue
            if name.startswith("drycc-worker"):
                found[name] = int(child)
        return found

    async def stop(self) -> int:
        """End it; returns its status."""
        if self.process.poll() is None:
            self.process.terminate()
        return await self.ended()

    async def ended(self) -> int:
        """Wait for its end; returns its status."""
        await asyncio.to_thread(self.process.communicate, None, 40)
        return self.process.returncode


async def newcomers(port: int, rate: float, over: Callable[[], bool]) -> tuple[Counter[str], list[float]]:
    """One request on each new connection, at a steady rate until ``over``: outcomes, and latencies in seconds."""
    outcomes: Counter[str] = Counter()
    latencies: list[float] = []

    async def one(due: float) -> None:
        asked = False
        try:
            async with asyncio.timeout(_PATIENCE):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    writer.write(_REQUEST)
                    asked = True
                    answer = await reader.read()
                finally:
                    writer.transport.abort()
            outcomes["ok" if answer.startswith(b"HTTP/1.1 200") else "under way"] += 1
        except (OSError, TimeoutError) as error:
            outcomes["under way" if asked and isinstance(error, ConnectionResetError) else type(error).__name__] += 1
        latencies.append(time.monotonic() - due)

    due = time.monotonic()
    async with asyncio.TaskGroup() as connections:
        while not over():
            connections.create_task(one(due))
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
    return outcomes, latencies


def _report(outcomes: Counter[str], latencies: list[float], excused: str = "") -> dict[str, Any]:
    ordered = sorted(latencies)
    return {
        "connections": outcomes.total(),
        "failed": outcomes.total() - outcomes["ok"] - outcomes[excused],
        "outcomes": dict(outcomes),
        "p50_ms": round(percentile(ordered, 0.5) * 1e3, 1),
        "p99_ms": round(percentile(ordered, 0.99) * 1e3, 1),
        "max_ms": round(ordered[-1] * 1e3, 1),
    }


def _write_apps(home: Path, port: int, count: int) -> None:
    """``app.test``, and others beside it, a hundred in a file."""
    (home / "manifests").mkdir()
    endpoint = (("127.0.0.1", port),)
    (home / "manifests" / "app.yaml").write_text(manifest("app", ("app.test",), endpoint))
    for start in range(0, count, 100):
        others = [manifest(f"other-{n:05}", (f"other-{n:05}.test",), endpoint) for n in range(start, start + 100)]
        (home / "manifests" / f"others-{start:05}.yaml").write_text("---\n".join(others))


async def kills(home: Path, port: int, share: float) -> dict[str, Any]:
    """L-05."""
    _write_apps(home, port, 0)
    router = await Running(home).start()
    rounds = max(4, round(60 * share))
    asking = asyncio.ensure_future(newcomers(router.ports["http"], RATE, lambda: killing.done()))

    async def kill() -> int:
        killed = 0
        for number in range(rounds):
            await asyncio.sleep(0.5)
            pid = router.workers().get(f"drycc-worker-{number % 2}")
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                killed += 1
        return killed

    killing = asyncio.ensure_future(kill())
    outcomes, latencies = await asking
    return {"kills": await killing, **_report(outcomes, latencies, "under way"), "status": await router.stop()}


async def upgrades(home: Path, port: int, share: float) -> dict[str, Any]:
    """L-04."""
    _write_apps(home, port, 0)
    router = await Running(home).start()
    first = router.ports
    rounds = max(2, round(100 * share))
    statuses: Counter[int] = Counter()

    async def upgrade() -> None:
        nonlocal router
        for _ in range(rounds):
            old, router = router, await Running(home, first).start()
            statuses[await old.ended()] += 1

    upgrading = asyncio.ensure_future(upgrade())
    outcomes, latencies = await newcomers(first["http"], RATE, upgrading.done)
    await upgrading
    await router.stop()
    return {"upgrades": rounds, "old_ended_with": dict(statuses), **_report(outcomes, latencies)}


async def _configured(home: Path, port: int, share: float, changes: float) -> dict[str, Any]:
    """R-01, with so many apps rewritten a second, one in ten of them differently."""
    _write_apps(home, port, max(500, round(10_000 * share) // 100 * 100))
    router = await Running(home).start()
    files = sorted((home / "manifests").glob("others-*.yaml"))
    texts = {file: file.read_text() for file in files}
    seconds = max(3.0, 60 * share)
    end = time.monotonic() + seconds
    written = 0

    async def rewrite() -> None:
        nonlocal written
        began = time.monotonic()
        while changes and time.monotonic() < end:
            file = files[written % len(files)]
            real = f"router.drycc.cc/tcpTimeout: '{written + 100}s'\n    router.drycc.cc/domains"
            text = texts[file].replace("router.drycc.cc/domains", real, 10)  # ten of the hundred in it
            draft = file.with_name(f".{file.name}.draft")
            draft.write_text(text)
            draft.replace(file)
            written += 1
            await asyncio.sleep(max(0.0, began + written * 100 / changes - time.monotonic()))

    rewriting = asyncio.ensure_future(rewrite())
    before = {name: cpu_time(pid) for name, pid in router.workers().items()}
    latencies, failures = await open_loop(router.ports["http"], "app.test", 300.0, lambda: time.monotonic() > end)
    used = [cpu_time(pid) - before[name] for name, pid in router.workers().items()]
    await rewriting
    await router.stop()
    return {
        "apps_rewritten_per_s": round(written * 100 / seconds),
        "requests": len(latencies),
        "failures": dict(failures),
        "p50_ms": round(percentile(sorted(latencies), 0.5) * 1e3, 2),
        "p99_ms": round(percentile(sorted(latencies), 0.99) * 1e3, 2),
        "cpu_of_workers": round(sum(each.user + each.system for each in used) / seconds, 3),
    }


async def idle(home: Path, port: int, share: float) -> dict[str, Any]:
    """R-01, the line to compare with."""
    return await _configured(home, port, share, 0.0)


async def busy(home: Path, port: int, share: float) -> dict[str, Any]:
    """R-01."""
    return await _configured(home, port, share, 1000.0)


async def spread(home: Path, port: int, share: float) -> dict[str, Any]:
    """Connections that stay: which worker has how many, by the sockets it has open."""
    _write_apps(home, port, 0)
    router = await Running(home).start()
    found = {}
    for count, pause in ((64, 0.0), (64, 0.005), (256, 0.0)):
        before = {name: _sockets(pid) for name, pid in router.workers().items()}
        pairs = []
        for _ in range(count):
            pairs.append(await asyncio.open_connection("127.0.0.1", router.ports["http"]))
            await asyncio.sleep(pause)
        await asyncio.sleep(0.2)
        held = [_sockets(pid) - before[name] for name, pid in router.workers().items()]
        found[f"{count} at once" if not pause else f"{count} one by one"] = sorted(held)
        for _, writer in pairs:
            writer.transport.abort()
        await asyncio.sleep(0.2)
    await router.stop()
    return {"connections": found}


def _sockets(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


async def rolling(home: Path, port: int, share: float) -> dict[str, Any]:
    """L-03."""
    _write_apps(home, port, 0)
    app = await asyncio.get_running_loop().create_server(EchoApp, "127.0.0.1", 0)
    endpoint = ("127.0.0.1", app.sockets[0].getsockname()[1])
    (home / "manifests" / "chat.yaml").write_text(manifest("chat", ("chat.test",), (endpoint,)))
    ports = [{name: free_port() for name in ("http", "https", "admin")} for _ in range(2)]
    entrance = free_port()

    async def replica(number: int) -> Running:
        room = home / f"replica{number}"
        room.mkdir(exist_ok=True)
        (room / "manifests").unlink(missing_ok=True)
        (room / "manifests").symlink_to(home / "manifests")
        return await Running(room, ports[number], "--drain-delay", "3", "--drain-grace", "2").start()

    running: list[Running] = []
    balancer = Balancer(home, entrance, [(mine["http"], mine["admin"]) for mine in ports])
    statuses: Counter[int] = Counter()
    rounds = max(1, round(10 * share))

    async def restart() -> None:
        for number in [0, 1] * rounds:
            statuses[await running[number].stop()] += 1
            running[number] = await replica(number)
            await asyncio.sleep(3.5)  # until the balancer has seen it thrice

    async def stop() -> None:
        for each in running:
            await each.stop()

    async with AsyncExitStack() as stack:  # after a failure too: a child that is left keeps the loop from closing
        stack.callback(app.close)
        stack.push_async_callback(stop)
        for number in range(2):
            running.append(await replica(number))  # noqa: PERF401 -- the first one is stopped if the second does not start
        await balancer.start()
        stack.push_async_callback(balancer.stop)
        async with asyncio.TaskGroup() as group:
            restarting = group.create_task(restart())
            talking = group.create_task(tunnels(entrance, "chat.test", 20, restarting.done))
            counts, latencies = await clients(entrance, "app.test", 300.0, restarting.done)
        ends = talking.result()
    again = counts.pop("asked again")
    ordered = sorted(latencies)
    return {
        "restarts": 2 * rounds,
        "ended_with": dict(statuses),
        "requests": counts.total(),
        "failed": counts.total() - counts["ok"],
        "asked_again": again,
        "outcomes": dict(counts),
        "websockets": dict(ends),
        "p50_ms": round(percentile(ordered, 0.5) * 1e3, 1),
        "p99_ms": round(percentile(ordered, 0.99) * 1e3, 1),
    }


async def scrape(home: Path, port: int, share: float) -> dict[str, Any]:
    """What reading the metrics of very many apps takes, and what requests notice of it."""
    count = max(100, round(10_000 * share) // 100 * 100)
    seconds = max(2.0, 10 * share)
    _write_apps(home, port, count)
    return {
        "apps": count,
        "budget as it is": await _scraped(await Running(home).start(), count, seconds),
        "budget for everybody": await _scraped(
            await Running(home, None, "--metric-series", str(100 * count)).start(), count, seconds
        ),
    }


async def _scraped(router: Running, count: int, seconds: float) -> dict[str, Any]:
    http, admin = router.ports["http"], router.ports["admin"]
    hosts = itertools.cycle([f"other-{number:05}.test" for number in range(count)])
    left = iter(range(count))
    await asyncio.gather(*(_ask_all(http, hosts, left) for _ in range(32)))

    async def asked() -> tuple[list[float], Counter[str]]:
        end = time.monotonic() + seconds
        return await open_loop(http, lambda: next(hosts), 300.0, lambda: time.monotonic() > end)

    quiet, failures = await asked()
    before = _cpu_of_workers(router)
    asking = asyncio.ensure_future(asked())
    times, sizes = await _scrapes(admin, asking.done)
    noisy, more = await asking
    used = _cpu_of_workers(router) - before
    await router.stop()
    return {
        "scrape_ms": [round(each * 1e3, 1) for each in times],
        "page_bytes": max(sizes),
        "failures": dict(failures + more),
        "p99_ms_without": round(percentile(sorted(quiet), 0.99) * 1e3, 2),
        "p99_ms_with": round(percentile(sorted(noisy), 0.99) * 1e3, 2),
        "cpu_of_workers": round(used / seconds, 3),
    }


async def _ask_all(port: int, hosts: Iterator[str], left: Iterator[int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in left:
        await ask(reader, writer, next(hosts))
    writer.transport.abort()


async def _scrapes(port: int, over: Callable[[], bool]) -> tuple[list[float], list[int]]:
    """Once a second; by another process, so that reading megabytes costs the clients here nothing."""
    times, sizes = [], []
    while not over():
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-S", "-c", _SCRAPER, str(port)), stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        took, size = output.split()
        times.append(float(took))
        sizes.append(int(size))
        await asyncio.sleep(1)
    return times, sizes


_SCRAPER: Final = """
import socket, sys, time
began = time.monotonic()
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as peer:
    peer.sendall(b"GET /metrics HTTP/1.1\\r\\nHost: admin\\r\\nConnection: close\\r\\n\\r\\n")
    buffer, size = bytearray(1 << 20), 0
    while count := peer.recv_into(buffer):
        size += count
print(time.monotonic() - began, size)
"""


def _cpu_of_workers(router: Running) -> float:
    times = [cpu_time(pid) for pid in router.workers().values()]
    return sum(each.user + each.system for each in times)


SCENARIOS: Final[dict[str, Callable[[Path, int, float], Awaitable[dict[str, Any]]]]] = {
    "kills": kills,
    "upgrades": upgrades,
    "idle": idle,
    "busy": busy,
    "spread": spread,
    "rolling": rolling,
    "scrape": scrape,
}


async def run(name: str, share: float) -> dict[str, Any]:
    """One scenario, in a directory of its own."""
    with tempfile.TemporaryDirectory() as home:
        origin = await Origin().open()
        try:
            async with asyncio.timeout(LONGEST):
                return await SCENARIOS[name](Path(home), origin.port, share)
        finally:
            origin.close()
            await asyncio.sleep(0)


def _keep(found: dict[str, Any], out: Path, share: float) -> None:
    date, version = datetime.datetime.now(datetime.UTC).date().isoformat(), commit()
    results = {
        "date": date,
        "commit": version,
        "command": " ".join(["python -m benchmarks.lives", *sys.argv[1:]]),
        "machine": machine(),
        "share": share,
        "scenarios": found,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{date}-{version}-lives.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Run what the command line asks for; a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--only", default=",".join(SCENARIOS), help="comma list of scenarios (default: all)")
    parser.add_argument("--out", type=Path, default=None, help="directory for a file with the results (default: none)")
    parser.add_argument("--share", type=float, default=1.0, help="of the full counts (default %(default)s)")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for name in options.only.split(","):
        began = time.monotonic()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(run(name, options.share))
        found[name] = {**result, "seconds": round(time.monotonic() - began, 1)}
        print(json.dumps({"scenario": name, **found[name]}), flush=True)
        if options.out is not None:  # anew after each: what was measured is kept when a later one fails
            _keep(found, options.out, options.share)


if __name__ == "__main__":
    main()
