"""One run: start the origin and the proxies, measure in turn, round after round, and hand back the results.

What must not enter: how anything is measured (``scenarios``) or shown (``report``, ``picture``).
"""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.certificates import make_pair
from benchmarks.clients import ask
from benchmarks.figures import Sample, medians
from benchmarks.openloop import client_context
from benchmarks.origin import ADDRESSES, origin_command, origin_configuration, write_bodies
from benchmarks.peers import Caddy, Drycc, Envoy, HAProxy, Nginx, Peer, Ports, Site, Traefik
from benchmarks.processes import Child, Children
from benchmarks.scenarios import LOAD_CORE, PROXY_CORE, Scenario, Target
from benchmarks.tools import Tools
from benchmarks.workload import APPS, host_of

__all__ = ["Bench", "Measured", "free_port", "pick_peers", "results_as_json", "version_of"]

_START_LIMIT: Final = 60.0
"""Seconds a proxy may take until it serves all thousand apps on both ports."""
_FILES: Final = 20_000


@dataclass(slots=True)
class Measured:
    """The samples of one scenario, and what went wrong instead of a sample."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def pick_peers(tools: Tools) -> list[Peer]:
    """Return every proxy there is, ours first. The distribution's nginx is built for speed, so it counts too."""
    peers: list[Peer] = [Drycc(), Nginx("nginx", tools.nginx)]
    if tools.system_nginx is not None:
        peers.append(Nginx("nginx-system", tools.system_nginx))
    return [
        *peers,
        HAProxy("haproxy", tools.haproxy),
        Envoy("envoy", tools.envoy),
        Traefik("traefik", tools.traefik),
        Caddy("caddy", tools.caddy),
    ]


def version_of(peer: Peer) -> str:
    """Return the line in which ``peer`` names its version, without where on this machine it lies."""
    done = subprocess.run(
        peer.version_command(), check=False, capture_output=True, text=True, cwd=peer.directory(), timeout=30
    )
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if any(map(str.isdigit, line))]
    return lines[0].replace(str(peer.program), peer.name) if lines else "unknown"


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Bench:
    """Everything one run has started. All files lie under ``home`` (a tmpfs, so that no disk is measured)."""

    def __init__(
        self,
        tools: Tools,
        children: Children,
        home: Path,
        tell: Callable[[str], None],
        *,
        proxy: int | str = PROXY_CORE,
        load: int | str = LOAD_CORE,
    ) -> None:
        """``proxy`` and ``load`` are the cores of either side; origins and this process are on that of the load."""
        self.home = home
        self._proxy_core = proxy
        self._load_core = load
        self.features: dict[str, dict[str, str]] = {}
        """Peer → what its requests looked like at the origin: the proof that all do the same work."""
        self._tools = tools
        self.children = children
        self.tell = tell
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = hard if hard != resource.RLIM_INFINITY else _FILES
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        if load == LOAD_CORE:
            os.sched_setaffinity(0, {LOAD_CORE})
        self.origin_port = self.start_origin("origin")
        pair = make_pair(home / "certificates")
        hosts = tuple(host_of(app) for app in range(APPS))
        self.site = Site(hosts, tuple((address, self.origin_port) for address in ADDRESSES), pair)

    def start_origin(self, name: str, **options: bytes) -> int:
        """Start an origin (see ``origin_configuration`` for ``options``) and return its port."""
        home = self.home / name
        write_bodies(home)
        port = free_port()
        (home / "origin.conf").write_text(origin_configuration(port, home, **options))
        command = origin_command(self._tools.nginx, home)
        child = self.children.start(name, command, core=self._load_core, output=home / "output")
        _wait_until(child, lambda: socket.create_connection((ADDRESSES[0], port), timeout=1).close())
        return port

    def start(self, peer: Peer) -> Target:
        """Start ``peer`` in a room of its own and return it once it serves both schemes."""
        home = self.home / f"{peer.name}-{time.monotonic_ns()}"
        ports = Ports(free_port(), free_port(), free_port())
        for name, text in peer.files(self.site, ports, home).items():
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        child = self.children.start(
            peer.name,
            peer.command(ports, home),
            core=self._proxy_core,
            output=home / "output",
            environment=peer.environment(),
            directory=peer.directory(),
        )
        _wait_until(child, lambda: _require_serving(ports))
        self.features[peer.name] = _features(ports)
        return Target(peer.name, child, ports, peer.log(home), home, self.origin_port)

    def end(self, target: Target) -> None:
        """End a proxy that ``start`` returned."""
        self.children.end(target.child)

    def measure(
        self,
        scenarios: dict[str, Scenario],
        peers: Sequence[Peer],
        rounds: int,
        seconds: float,
        *,
        together: bool = False,
    ) -> dict[str, Measured]:
        """Measure every scenario: A B C … A B C …; those of memory once, each with a new process.

        ``together``: all of them at the same time in each round, so that whatever disturbs one disturbs the others.
        """
        results = {name: Measured() for name in scenarios}
        lasting = {name: scenario for name, scenario in scenarios.items() if not scenario.fresh}
        if lasting:
            targets = [self.start(peer) for peer in peers]
            for name, scenario in lasting.items():
                for number in range(1, rounds + 1):
                    label = f"{name} {number}/{rounds}"
                    if together:
                        self._sample_together(results[name], label, scenario, targets, seconds)
                        continue
                    for target in targets:
                        self._sample(results[name], label, scenario, target, seconds)
            for target in targets:
                self.end(target)
        for name, scenario in scenarios.items():
            if scenario.fresh:
                for peer in peers:
                    target = self.start(peer)
                    self._sample(results[name], name, scenario, target, seconds)
                    self.end(target)
        return results

    def _sample_together(
        self, into: Measured, label: str, scenario: Scenario, targets: Sequence[Target], seconds: float
    ) -> None:
        """Add one sample of each; there are none of a round in which somebody failed."""
        mine = Measured()
        with ThreadPoolExecutor(len(targets)) as pool:
            for done in [pool.submit(self._sample, mine, label, scenario, each, seconds) for each in targets]:
                done.result()
        into.errors += mine.errors
        if len(mine.samples) == len(targets):
            for name, samples in mine.samples.items():
                into.samples.setdefault(name, []).extend(samples)

    def _sample(self, into: Measured, label: str, scenario: Scenario, target: Target, seconds: float) -> None:
        """Add one sample; a proxy that fails a scenario costs that sample, not the run."""
        try:
            target.child.require_running()
            sample = scenario.measure(target, seconds)
        except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
            into.errors.append(f"{target.name}: {error}")
            self.tell(f"{label:24} {target.name:14} FAILED: {error}")
            return
        into.samples.setdefault(target.name, []).append(sample)
        shown = "  ".join(f"{metric} {value:,.1f}" for metric, value in sample.items())
        self.tell(f"{label:24} {target.name:14} {shown}")


def _wait_until(child: Child, attempt: Callable[[], None]) -> None:
    """Repeat ``attempt`` until it raises nothing. Raises RuntimeError if the child ends or takes too long."""
    deadline = time.monotonic() + _START_LIMIT
    while True:
        child.require_running()
        try:
            attempt()
            return
        except (OSError, ValueError) as error:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{child.name} did not serve within {_START_LIMIT:.0f} s: {error}") from error
        time.sleep(0.05)


def _require_serving(ports: Ports) -> None:
    """Raise OSError unless both ports answer for the measured app."""
    for port, tls in ((ports.http, None), (ports.https, client_context())):
        status, _ = ask(port, tls=tls)
        if status != 200:
            raise ConnectionError(f"port {port} answers {status}")


def _features(ports: Ports) -> dict[str, str]:
    """Return what the origin saw of one request over TLS, values cut to their shape."""
    _, body = ask(ports.https, tls=client_context())
    return {name: value for name, _, value in (line.partition("=") for line in body.splitlines())}


def results_as_json(results: dict[str, Measured], scenarios: dict[str, Scenario]) -> dict[str, Any]:
    """Return what the result file holds under ``scenarios``."""
    return {
        name: {
            "title": scenarios[name].title,
            "headline": scenarios[name].headline,
            "medians": {peer: medians(samples) for peer, samples in measured.samples.items()},
            "samples": measured.samples,
            "errors": measured.errors,
        }
        for name, measured in results.items()
    }
