"""A Prometheus server on loopback that scrapes what it is told to, and answers queries."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import subprocess
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.process import SOON, soon

__all__ = ["Prometheus", "Series", "needs_prometheus", "needs_promtool", "prometheus"]

needs_prometheus = pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus (Debian) is not installed")
needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool (Debian: prometheus) is not installed"
)

Series = dict[frozenset[tuple[str, str]], float]
"""Labels → value, of one instant."""


class Prometheus:
    """A server that runs."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self.log = log

    def ask(self, path: str, **parameters: str) -> Any:
        """``data`` of one answer of its API. Fails the test if the server refuses the question."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SOON)
        with contextlib.closing(connection):
            connection.request("GET", f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
            answer = json.loads(connection.getresponse().read())
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> Series:
        """The value of an expression now."""
        data = self.ask("query", query=expression)
        if data["resultType"] == "scalar":
            return {frozenset(): float(data["result"][1])}
        return {frozenset(one["metric"].items()): float(one["value"][1]) for one in data["result"]}

    def scraped(self, job: str) -> dict[str, Any]:
        """What it says of its only target in this job, once it has scraped that with success."""
        found: dict[str, Any] = {}

        def look() -> bool:
            targets = [one for one in self.ask("targets")["activeTargets"] if one["labels"]["job"] == job]
            found.update(targets[0] if targets else {})
            assert found.get("health") != "down", found["lastError"]
            return found.get("health") == "up"

        soon(look)
        return found

    def alerts(self) -> list[dict[str, Any]]:
        """Alerts that are pending or firing."""
        alerts: list[dict[str, Any]] = self.ask("alerts")["alerts"]
        return alerts


@contextlib.contextmanager
def prometheus(
    base: Path, jobs: Mapping[str, list[int]], rules: Path | None = None, every: str = "1s"
) -> Iterator[Prometheus]:
    """``jobs``: name → ports on loopback, scraped every so often. ``rules``: a file that is evaluated as often."""
    directory = base / "prometheus"
    directory.mkdir()
    config: dict[str, Any] = {
        "global": {"scrape_interval": every, "evaluation_interval": every},
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
            for job, ports in jobs.items()
        ],
        "rule_files": [str(rules)] if rules else [],
    }
    (directory / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    log = directory / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                "--web.listen-address=127.0.0.1:0",
                "--log.format=json",
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Prometheus(_port(process.pid, log), log)
    finally:
        process.kill()
        process.wait(SOON)


def _port(pid: int, log: Path) -> int:
    """The port that the kernel gave it: Prometheus prints only the one it was told, which is 0."""
    found: list[int] = []

    def look() -> bool:
        sockets = set()
        with contextlib.suppress(FileNotFoundError):  # noqa: TID251 -- a test; a descriptor may be closed meanwhile
            sockets = {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                found.append(int(words[1].rpartition(":")[2], 16))
        return bool(found) and "Server is ready" in log.read_text()

    soon(look)
    return found[0]
