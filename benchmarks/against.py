"""What changes cost: the router as it is here beside the router of another commit.

``python -m benchmarks --against COMMIT`` checks the commit out beside this one (a worktree that is gone afterwards),
starts both routers on one core and loads both at the same time, so that whatever else happens on the machine slows both
down alike. What is compared is processor time per request: by the median of the rounds' own ratios with its 95 %
interval, and by the ratio of the sums. Absolute figures are higher than those of a router that has its core, and its
caches, for itself.

What must not enter: how a proxy is loaded and measured (``benchmarks.run``, ``benchmarks.scenarios``).
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.peers import Drycc, Ports
from benchmarks.scenarios import SCENARIOS as ALL
from benchmarks.tools import REPOSITORY

__all__ = ["SCENARIOS", "Before", "checked_out", "is_comparable", "median_interval", "resolve", "summary"]

SCENARIOS: Final = ("plain", "plain-varied", "tls", "handshake", "body-1m")
"""Measured unless others are named: each way that requests take through the code."""

_HOW: Final = """\
import json, sys
from pathlib import Path
from benchmarks.peers import Drycc, Ports
http, https, admin = map(int, sys.argv[1:4])
print(json.dumps([str(word) for word in Drycc().command(Ports(http, https, admin), Path(sys.argv[4]))]))
"""
"""Options come and go: the benchmarks of the commit know best how its router is started."""


class Before(Drycc):
    """The router in ``tree``, run by the Python, and with the packages, that run the benchmarks."""

    def __init__(self, name: str, tree: Path) -> None:
        super().__init__(name)
        self.tree = tree

    def command(self, ports: Ports, home: Path) -> list[str]:
        """Return the command line that the benchmarks in ``tree`` use. Raises CalledProcessError if they have none."""
        words = [*map(str, (ports.http, ports.https, ports.admin)), str(home)]
        done = subprocess.run(
            [str(self.program), "-c", _HOW, *words],
            check=True,
            stdout=subprocess.PIPE,
            cwd=self.tree,
            env={**os.environ, **self.environment()},
            timeout=60,
        )
        return [str(word) for word in json.loads(done.stdout)]

    def directory(self) -> Path:
        """Return its tree: a Python that is told ``-m`` looks for modules there first."""
        return self.tree

    def environment(self) -> Mapping[str, str]:
        """Return where its packages are, if they lie in rooms: those that are installed are the working tree's."""
        packages = [found.parent for found in self.tree.glob("*/*/__init__.py")]
        rooms = {package.parent for package in packages if not (package.parent / "__init__.py").exists()}
        return {"PYTHONPATH": os.pathsep.join(map(str, sorted(rooms)))} if rooms else {}


def is_comparable(scenario: str) -> bool:
    """Whether ``scenario`` tells what processor time a request takes, of routers that share a core."""
    found = ALL.get(scenario)
    return found is not None and found.headline == "cpu_us" and not found.fresh


def resolve(name: str) -> str:
    """Return the short hash of the commit that is called ``name``. Raises ValueError if there is none."""
    done = _git("rev-parse", "--verify", "--quiet", "--short=10", f"{name}^{{commit}}")
    if done.returncode:
        raise ValueError(f"there is no commit {name!r} in this repository")
    return done.stdout.strip()


@contextmanager
def checked_out(name: str) -> Iterator[Path]:
    """Have the files of the commit ``name`` in a worktree for as long as this lasts. Raises RuntimeError."""
    with tempfile.TemporaryDirectory(prefix="drycc-against-") as home:
        tree = Path(home) / name
        done = _git("worktree", "add", "--detach", str(tree), name)
        if done.returncode:
            raise RuntimeError(f"git has no worktree of {name}: {done.stderr.strip()}")
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(REPOSITORY), *words], check=False, capture_output=True, text=True)


def summary(scenarios: Mapping[str, Any], ours: str, before: str) -> list[str]:
    """A line for each scenario: both medians of processor time per request, and how they compare."""
    lines = []
    for name, measured in scenarios.items():
        old, new = (_figures(measured["samples"].get(peer, [])) for peer in (before, ours))
        pairs = list(zip(old, new, strict=False))
        if not pairs or len(old) != len(new):
            lines.append(f"{name}: not compared; {len(old)} samples before, {len(new)} now")
            continue
        ratios = sorted(b / a for a, b in pairs)
        low, high = median_interval(ratios)
        lines.append(
            f"{name}: {statistics.median(old):.1f} → {statistics.median(new):.1f} us of CPU per request; "
            f"x {statistics.median(ratios):.3f} (median of {len(pairs)} pairs, 95 % interval {low:.3f} to {high:.3f}), "
            f"x {sum(new) / sum(old):.3f} (sums)"
        )
    return lines


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return the bounds between which the median of what ``values`` are drawn from lies with this confidence.

    They are two of the values, by their ranks (the interval of the sign test), so nothing is assumed of how values are
    distributed. With fewer than six values no rank is far enough out, and the bounds are the least and the greatest.
    """
    ordered, count = sorted(values), len(values)
    rank, tail = 0, 0.5**count
    while tail <= (1 - confidence) / 2 and rank < count // 2:
        rank += 1
        tail += math.comb(count, rank) * 0.5**count
    rank = max(rank - 1, 0)
    return ordered[rank], ordered[-1 - rank]


def _figures(samples: Sequence[Mapping[str, float]]) -> list[float]:
    return [sample["cpu_us"] for sample in samples]
