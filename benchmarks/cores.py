"""Two workers on two cores: ``python -m benchmarks.cores``, beside nginx with as many.

Nothing is pinned: proxy, load generator and origin share both cores, which is the same for everybody. So a figure of
throughput says how much of the machine the load and the origin left, and the one to look at is processor time per
request: what a second worker adds to it, control and supervisor included (goal: within 5 % of one worker's).

One after the other, one worker has a core to itself and leaves some of the other one idle, while two workers meet a
machine that is full: what a full machine costs everybody is counted as theirs. ``--together`` loads one worker and two
of the same proxy at the same time, so both meet the same machine, and the figure is the second worker's alone.

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
from pathlib import Path
from typing import Any, Final

from benchmarks.peers import Drycc, Nginx, Peer
from benchmarks.processes import Children
from benchmarks.run import Bench, Measured, results_as_json, version_of
from benchmarks.scenarios import Scenario, Throughput
from benchmarks.tools import REPOSITORY, MissingToolError, commit, machine, prepare

__all__ = ["SCENARIOS", "main", "summary"]

_BOTH: Final = "0-1"
SCENARIOS: Final[dict[str, Scenario]] = {
    "plain": Throughput("http, small answers, both cores", "small", core=_BOTH),
    "tls": Throughput("https, small answers, both cores", "small", scheme="https", core=_BOTH),
}


def summary(scenarios: dict[str, Any]) -> list[str]:
    """A line for each scenario and proxy: both figures with one worker and with two, and what the second one costs."""
    lines = []
    for name, measured in scenarios.items():
        for proxy in ("drycc", "nginx"):
            one, two = (measured["samples"].get(f"{proxy}-{workers}", []) for workers in (1, 2))
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
    parser.add_argument("--together", action="store_true", help="load one worker and two at the same time")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks/results", help="where the result goes")
    options = parser.parse_args(words)
    try:
        tools = prepare()
    except MissingToolError as error:
        print(error, file=sys.stderr)
        return 2
    nginx = tools.system_nginx or tools.nginx
    ours: list[Peer] = [Drycc(f"drycc-{workers}", workers) for workers in (1, 2)]
    theirs: list[Peer] = [Nginx(f"nginx-{workers}", nginx, workers) for workers in (1, 2)]
    peers = [ours[0], theirs[0], ours[1], theirs[1]]
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
            measured = {name: Measured() for name in SCENARIOS}
            for each in (ours, theirs) if options.together else (peers,):
                found = bench.measure(SCENARIOS, each, options.rounds, options.seconds, together=options.together)
                for name, into in measured.items():
                    into.samples |= found[name].samples
                    into.errors += found[name].errors
    finally:
        shutil.rmtree(home, ignore_errors=True)
    results["scenarios"] = results_as_json(measured, SCENARIOS)
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
