"""What a second worker costs is told by the rounds' own ratios."""

from __future__ import annotations

from pathlib import Path

from benchmarks.certificates import make_pair
from benchmarks.cores import SCENARIOS, TOGETHER, summary, workers_of
from benchmarks.peers import Drycc, Nginx, Ports, Site


def sample(cpu: float, rate: float) -> dict[str, float]:
    return {"cpu_us": cpu, "requests_per_second": rate}


def test_the_summary_compares_one_worker_with_two() -> None:
    samples = {"drycc-1": [sample(100, 5000), sample(120, 4000)], "drycc-2": [sample(105, 8000), sample(126, 7000)]}
    assert summary({"plain": {"samples": samples}}) == [
        "plain: drycc with one worker → two: 110.0 us, 4,500/s → 115.5 us, 7,500/s; CPU per request x 1.05",
        "plain: nginx was not measured",
    ]


def test_two_on_their_own_are_one_figure_to_compare_with() -> None:
    samples = {"nginx-1": [sample(90, 5000)], "nginx-1b": [sample(110, 6000)], "nginx-2": [sample(105, 8000)]}
    assert summary({"tls": {"samples": samples}})[1] == (
        "tls: nginx with one worker → two: 100.0 us, 5,500/s → 105.0 us, 8,000/s; CPU per request x 1.05"
    )
    assert [workers_of(name) for name in samples] == [1, 1, 2]


def test_both_are_told_how_many_workers_there_are(tmp_path: Path) -> None:
    ports = Ports(1, 2, 3)
    command = Drycc("drycc-2", 2).command(ports, tmp_path)
    assert command[command.index("--workers") + 1] == "2"
    site = Site(("a.test",), (("127.0.0.1", 1),), make_pair(tmp_path / "certificates"))
    [text] = Nginx("nginx-2", Path("/nginx"), 2).files(site, ports, tmp_path).values()
    assert "worker_processes 2;" in text
    assert SCENARIOS.keys() == TOGETHER.keys() == {"plain", "tls"}
