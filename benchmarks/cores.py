"""Two workers on two cores: ``python -m benchmarks.cores``, beside nginx with as many.

Nothing is pinned: proxy, load generator and origin share both cores, which is the same for everybody. So a figure of
throughput says how much of the machine the load and the origin left, and the one to look at is processor time per
request: what a second worker adds to it, control and supervisor included (goal: within 5 % of one worker's).

One after the other, one worker has a core to itself and leaves some of the other one idle, while two workers meet a
machine that is full: what a full machine costs everybody is counted as theirs. ``--together`` loads, all at the same
time, two proxies of one worker each and one of two, with as many connections for each worker: all four meet the same
machine and have the same work, and what two in one proxy cost more than two on their own is the figure.

What must not enter: how a proxy is loaded and measured (``benchmarks.run``, ``benchmarks.scenarios``).
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.load import LoadReport, wrk
from benchmarks.peers import Drycc, Nginx, Peer
from benchmarks.processes import Children
from benchmarks.run import Bench, Measured, results_as_json, version_of
from benchmarks.scenarios import Scenario, Target, Throughput
from benchmarks.tools import REPOSITORY, MissingToolError, commit, machine, prepare
from benchmarks.workload import requests

__all__ = ["SCENARIOS", "TOGETHER", "main", "summary"]

_BOTH: Final = "0-1"
_EACH: Final = 32
"""Connections of each worker, when several proxies are loaded together."""


@dataclass(frozen=True, slots=True)
class Shared(Throughput):
    """As many connections for each worker, whatever proxy it is in."""

    def load(self, target: Target, seconds: float) -> LoadReport:
        """Load ``target`` once and return what wrk saw."""
        return wrk(
            requests[self.request],
            scheme=self.scheme,
            port=target.port(self.scheme),
            connections=_EACH * workers_of(target.name),
            seconds=seconds,
            core=self.core,
            home=target.home,
        )


def workers_of(name: str) -> int:
    """How many a proxy has: ``drycc-2`` two, ``drycc-1b`` one."""
    return int(name.rpartition("-")[2][0])


SCENARIOS: Final[dict[str, Scenario]] = {
    "plain": Throughput("http, small answers, both cores", "small", core=_BOTH),
    "tls": Throughput("https, small answers, both cores", "small", scheme="https", core=_BOTH),
}
TOGETHER: Final[dict[str, Scenario]] = {
    "plain": Shared("http, small answers, all at once", "small", core=_BOTH),
    "tls": Shared("https, small answers, all at once", "small", scheme="https", core=_BOTH),
}


def summary(scenarios: dict[str, Any]) -> list[str]:
    """A line for each scenario and proxy: both figures with one worker and with two, and what the second one costs.

    Where there were two proxies of one worker each, one worker's figure is the mean of theirs.
    """
    lines = []
    for name, measured in scenarios.items():
        for proxy in ("drycc", "nginx"):
            one, twin, two = (measured["samples"].get(f"{proxy}-{suffix}", []) for suffix in ("1", "1b", "2"))
            if twin:
                one = [{key: (a[key] + b[key]) / 2 for key in a} for a, b in zip(one, twin, strict=False)]
            if not one or not two:
                lines.append(f"{name}: {proxy} was not measured")
                continue
            cost = statistics.median(b["cpu_us"] / a["cpu_us"] for a, b in zip(one, two, strict=False))
            figures = " → ".join(
                f"{statistics.median(each['cpu_us'] for each in samples):.1f} us, "
                f"{statistics.median(each['requests_per_second'] for each in samples):,.0f}/s"
                for samples in (one, two)
            )
            lines.append(f"{name}: {proxy} with one worker → two: {figures}; CPU per request x {cost:.2f}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the result file, print the summary. Return 0, or 2 if something is missing."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cores", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=5, help="length of one measurement (default %(default)s)")
    parser.add_argument("--together", action="store_true", help="load two proxies of one worker and one of two at once")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks/results", help="where the result goes")
    options = parser.parse_args(words)
    try:
        tools = prepare()
    except MissingToolError as error:
        print(error, file=sys.stderr)
        return 2
    nginx = tools.system_nginx or tools.nginx
    suffixes = ("1", "1b", "2") if options.together else ("1", "2")
    ours: list[Peer] = [Drycc(f"drycc-{suffix}", int(suffix[0])) for suffix in suffixes]
    theirs: list[Peer] = [Nginx(f"nginx-{suffix}", nginx, int(suffix[0])) for suffix in suffixes]
    peers = [peer for pair in zip(ours, theirs, strict=True) for peer in pair]
    scenarios = TOGETHER if options.together else SCENARIOS
    results: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
        "command": " ".join(["python -m benchmarks.cores", *words]),
        "machine": machine(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "versions": {peer.name: version_of(peer) for peer in peers},
    }
    home = Path(tempfile.mkdtemp(prefix="drycc-bench-", dir="/dev/shm"))
    home.chmod(0o711)  # workers that gave up root have to find their way to what they serve
    try:
        with Children() as children:
            bench = Bench(tools, children, home, tell=lambda line: print(line, flush=True), proxy=_BOTH, load=_BOTH)
            measured = {name: Measured() for name in scenarios}
            for each in (ours, theirs) if options.together else (peers,):
                found = bench.measure(scenarios, each, options.rounds, options.seconds, together=options.together)
                for name, into in measured.items():
                    into.samples |= found[name].samples
                    into.errors += found[name].errors
    finally:
        shutil.rmtree(home, ignore_errors=True)
    results["scenarios"] = results_as_json(measured, scenarios)
    for scenario in results["scenarios"].values():
        for sample in (sample for samples in scenario["samples"].values() for sample in samples):
            del sample["others_busy"]  # there is no core of the proxy's own
    options.out.mkdir(parents=True, exist_ok=True)
    name = "cores-together" if options.together else "cores"
    (options.out / f"{results['date']}-{results['commit']}-{name}.json").write_text(
        json.dumps(results, indent=1) + "\n", encoding="utf-8"
    )
    print("\n".join(summary(results["scenarios"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
