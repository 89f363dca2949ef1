"""Where the router's own time goes: ``python -m benchmarks.profiler --scenario plain``.

The router runs under the same load as in the benchmark while two samplers look at it, one after the other, neither
inside of it: py-spy (from PyPI) for Python's functions and lines, and ``perf``, where it is installed, for the kernel,
OpenSSL, uvloop and the interpreter. Nothing is instrumented, so the proportions are those of the benchmark.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from benchmarks.peers import Drycc
from benchmarks.processes import Children
from benchmarks.run import Bench
from benchmarks.scenarios import LOAD_CORE, SCENARIOS, Target, Throughput
from benchmarks.tools import MissingToolError, Tools, prepare

__all__ = ["main", "own_shares", "total_shares"]

_SHOWN: Final = 30
_RATE: Final = 500
"""Samples per second."""


def own_shares(folded: Iterable[str]) -> list[tuple[str, float]]:
    """Return, for folded stacks (``a;b;c 12``), the share of samples each innermost frame has, largest first."""
    return _shares(folded, lambda frames: frames[-1:])


def total_shares(folded: Iterable[str]) -> list[tuple[str, float]]:
    """Return the share of samples that each frame is somewhere on the stack of, largest first."""
    return _shares(folded, lambda frames: sorted(set(frames)))


def _shares(folded: Iterable[str], pick: Callable[[list[str]], list[str]]) -> list[tuple[str, float]]:
    counts: Counter[str] = Counter()
    samples = 0
    for line in folded:
        stack, _, count = line.rpartition(" ")
        samples += int(count)
        for frame in pick(stack.split(";")):
            counts[frame] += int(count)
    return [(frame, count / samples) for frame, count in counts.most_common()]


def main() -> int:
    """Load the router as the scenario says, sample it, print what was found."""
    scenarios = {name: scenario for name, scenario in SCENARIOS.items() if isinstance(scenario, Throughput)}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiler", description=__doc__)
    parser.add_argument("--scenario", choices=list(scenarios), default="plain")
    parser.add_argument("--seconds", type=int, default=10, help="how long each sampler looks (default %(default)s)")
    parser.add_argument("--lines", action="store_true", help="tell lines apart, not only functions")
    options = parser.parse_args()
    try:
        tools = prepare()
    except MissingToolError as error:
        print(error, file=sys.stderr)
        return 2
    home = Path(tempfile.mkdtemp(prefix="drycc-profile-", dir="/dev/shm"))
    home.chmod(0o711)  # as in the benchmark itself
    try:
        with Children() as children:
            target = Bench(tools, children, home, tell=print).start(Drycc())
            scenario: Throughput = scenarios[options.scenario]
            scenario.load(target, 1)
            folded = _python_stacks(children, tools, scenario, target, options.seconds, lines=options.lines)
            _print("Python, own time", own_shares(folded))
            _print("Python, with what it calls", total_shares(folded))
            if shutil.which("perf"):
                print(_symbols(children, scenario, target, options.seconds))
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return 0


def _python_stacks(
    children: Children, tools: Tools, scenario: Throughput, target: Target, seconds: int, *, lines: bool
) -> list[str]:
    """Sample the router's Python stacks under load. It is not paused for it, so a few samples are torn and dropped."""
    found = target.home / "stacks"
    command = [
        *(str(tools.py_spy), "record", "--pid", str(target.child.pid), "--nonblocking"),
        *("--rate", str(_RATE), "--duration", str(seconds), "--format", "raw", "--output", str(found)),
        *([] if lines else ["--function"]),
    ]
    _sample(children, command, scenario, target, seconds)
    return found.read_text(encoding="utf-8").splitlines()


def _symbols(children: Children, scenario: Throughput, target: Target, seconds: int) -> str:
    """Sample the router's machine code under load and return perf's tables: by library, by symbol."""
    found = target.home / "perf.data"
    pid = str(target.child.pid)
    command = ["perf", "record", "-e", "cpu-clock", "-F", "999", "-p", pid, "-o", str(found), "sleep", str(seconds)]
    _sample(children, command, scenario, target, seconds)
    tables = []
    for sort in ("dso", "dso,symbol"):
        report = ["perf", "report", "-i", str(found), "--stdio", "--sort", sort, "--percent-limit", "0.7"]
        tables.append(subprocess.run(report, check=True, capture_output=True, text=True).stdout)
    lines = [line.rstrip() for table in tables for line in table.splitlines()]
    return "\n".join(["", "perf", *(line for line in lines if line and not line.startswith("#"))])


def _sample(children: Children, command: list[str], scenario: Throughput, target: Target, seconds: int) -> None:
    sampler = children.start(command[0], command, core=LOAD_CORE, output=target.home / "sampler")
    report = scenario.load(target, seconds + 1)
    sampler.process.wait(seconds + 30)
    print(f"{report.requests / report.seconds:,.0f} requests/s while {Path(command[0]).name} looked")


def _print(title: str, shares: list[tuple[str, float]]) -> None:
    print(f"\n{title}")
    for frame, share in shares[:_SHOWN]:
        print(f"  {share:6.1%}  {frame}")


if __name__ == "__main__":
    sys.exit(main())
