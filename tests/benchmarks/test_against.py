"""Two commits are compared by what a request costs each of them, measured at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from benchmarks import against
from benchmarks.__main__ import _options
from benchmarks.against import SCENARIOS, Before, checked_out, is_comparable, median_interval, resolve, summary
from benchmarks.peers import Drycc, Ports
from benchmarks.processes import Children
from benchmarks.run import Bench, Measured
from benchmarks.scenarios import Target
from benchmarks.tools import REPOSITORY

PORTS = Ports(18080, 18443, 19090)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one commit, in which the router has an option that it has no more."""
    tree = tmp_path / "repository"
    (tree / "benchmarks").mkdir(parents=True)
    (tree / "benchmarks" / "__init__.py").write_text("")
    (tree / "benchmarks" / "peers.py").write_text(
        "from collections import namedtuple\n"
        "Ports = namedtuple('Ports', 'http https admin')\n"
        "class Drycc:\n"
        "    def command(self, ports, home):\n"
        "        return ['python', '-m', 'router', '--as-it-was', str(ports.https), home / 'manifests']\n"
    )
    git = ["git", "-C", str(tree), "-c", "user.name=Somebody", "-c", "user.email=somebody@example.test"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "As it was"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(against, "REPOSITORY", tree)
    return tree


def test_a_commit_is_there_for_as_long_as_it_is_measured(repository: Path) -> None:
    name = resolve("HEAD")
    assert len(name) == 10
    with checked_out(name) as tree:
        assert (tree / "benchmarks" / "peers.py").exists()
        assert tree != repository
    assert not tree.exists()
    worktrees = subprocess.run(
        ["git", "-C", str(repository), "worktree", "list"], check=True, capture_output=True, text=True
    )
    assert len(worktrees.stdout.splitlines()) == 1


def test_what_is_no_commit_is_said_by_its_name(repository: Path) -> None:
    with pytest.raises(ValueError, match="no commit 'yesterday'"):
        resolve("yesterday")
    with pytest.raises(RuntimeError, match="no worktree of yesterday"), checked_out("yesterday"):
        pass


def test_the_commit_itself_says_how_its_router_is_started(repository: Path) -> None:
    before = Before("drycc-before", repository)
    assert before.command(PORTS, Path("/home")) == [
        "python",
        "-m",
        "router",
        "--as-it-was",
        "18443",
        "/home/manifests",
    ]
    assert before.directory() == repository


@pytest.mark.parametrize("inside", ["drycc_proxy", "proxy/drycc_proxy"])
def test_the_router_of_a_commit_runs_its_own_code_wherever_its_packages_lie(tmp_path: Path, inside: str) -> None:
    """The same name is installed here, and found where ``-m`` does not look first."""
    package = tmp_path / inside
    package.mkdir(parents=True)
    for each in ("", "http"):
        (package / each).mkdir(exist_ok=True)
        (package / each / "__init__.py").write_text("")
    before = Before("drycc-before", tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", "import drycc_proxy; print(drycc_proxy.__file__)"],
        check=True,
        capture_output=True,
        text=True,
        cwd=before.directory(),
        env={**os.environ, **before.environment()},
    )
    assert done.stdout.strip() == str(package / "__init__.py")


def test_the_present_one_is_started_here_and_is_asked_in_the_same_way() -> None:
    now = Drycc()
    assert now.directory() == REPOSITORY
    assert Before("drycc-now", REPOSITORY).command(PORTS, Path("/home")) == now.command(PORTS, Path("/home"))
    assert now.command(PORTS, Path("/home"))[:3] == [sys.executable, "-m", "drycc_router"]


def test_scenarios_are_those_that_cost_processor_time_unless_others_are_named() -> None:
    assert _options(["--against", "820f306"]).scenarios == list(SCENARIOS)
    assert _options(["--against", "820f306", "--scenarios", "tls"]).scenarios == ["tls"]
    assert {"idle", "changes", *SCENARIOS} <= set(_options([]).scenarios)
    assert all(map(is_comparable, SCENARIOS))
    assert not any(map(is_comparable, ("idle", "latency", "changes")))


def test_scenarios_of_other_figures_are_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _options(["--against", "820f306", "--scenarios", "plain,idle,changes"])
    assert "of which these tell nothing: idle, changes" in capsys.readouterr().err


class Meeting:
    """A scenario that two proxies have to be measured in at the same time. One of them may fail in it."""

    title, headline, fresh = "a meeting", "cpu_us", False

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self._both = threading.Barrier(2, timeout=10)

    def measure(self, target: Target, seconds: float) -> dict[str, float]:
        self._both.wait()
        if target.name == self.fails:
            raise RuntimeError("it fails")
        return {"cpu_us": seconds}


def test_both_are_measured_at_once_and_a_round_counts_for_both_or_neither(tmp_path: Path) -> None:
    told: list[str] = []
    bench = object.__new__(Bench)  # which would start an origin
    bench.tell = told.append
    with Children() as children:
        child = children.start("sleep", ["sleep", "60"], core="0-1", output=tmp_path / "output")
        both = [Target(name, child, PORTS, tmp_path, tmp_path, 1) for name in ("now", "before")]
        whole, broken = Measured(), Measured()
        bench._sample_together(whole, "1/1", Meeting(), both, 2.0)
        bench._sample_together(broken, "1/1", Meeting("before"), both, 2.0)
    assert whole.samples == {"now": [{"cpu_us": 2.0}], "before": [{"cpu_us": 2.0}]}
    assert not whole.errors
    assert not broken.samples
    assert broken.errors == ["before: it fails"]
    assert len(told) == 4


def test_both_figures_and_both_ratios_are_told() -> None:
    samples = {
        "drycc": [{"cpu_us": cpu} for cpu in (105.0, 220.0, 99.0, 130.0)],
        "drycc-old": [{"cpu_us": cpu} for cpu in (100.0, 200.0, 100.0, 100.0)],
    }
    [line] = summary({"plain": {"samples": samples}}, "drycc", "drycc-old")
    assert line == (
        "plain: 100.0 → 117.5 us of CPU per request; x 1.075 (median of 4 pairs, 95 % interval 0.990 to 1.300), "
        "x 1.108 (sums)"
    )
    one_less = {"drycc": samples["drycc"][:3], "drycc-old": samples["drycc-old"]}
    assert summary({"plain": {"samples": one_less}}, "drycc", "drycc-old") == [
        "plain: not compared; 4 samples before, 3 now"
    ]


@pytest.mark.parametrize(
    ("count", "ranks"), [(1, (1, 1)), (5, (1, 5)), (6, (1, 6)), (10, (2, 9)), (20, (6, 15)), (30, (10, 21))]
)
def test_the_interval_of_a_median_is_that_of_the_sign_test(count: int, ranks: tuple[int, int]) -> None:
    """The ranks are those of tables for a confidence of 95 %."""
    assert median_interval(range(count, 0, -1)) == ranks
