"""What a second worker costs is told by the rounds' own ratios."""

from __future__ import annotations

from pathlib import Path

from benchmarks.certificates import make_pair
from benchmarks.cores import SCENARIOS, summary
from benchmarks.peers import Drycc, Nginx, Ports, Site


def sample(cpu: float, rate: float) -> dict[str, float]:
    return {"cpu_us": cpu, "requests_per_second": rate}


def test_the_summary_compares_one_worker_with_two() -> None:
    samples = {"drycc-1": [sample(100, 5000), sample(120, 4000)], "drycc-2": [sample(105, 8000), sample(126, 7000)]}
    assert summary({"plain": {"samples": samples}}) == [
        "plain: drycc with one worker → two: 110.0 us, 4,500/s → 115.5 us, 7,500/s; CPU per request x 1.05",
        "plain: nginx was not measured",
    ]


def test_both_are_told_how_many_workers_there_are(tmp_path: Path) -> None:
    ports = Ports(1, 2, 3)
    command = Drycc("drycc-2", 2).command(ports, tmp_path)
    assert command[command.index("--workers") + 1] == "2"
    site = Site(("a.test",), (("127.0.0.1", 1),), make_pair(tmp_path / "certificates"))
    [text] = Nginx("nginx-2", Path("/nginx"), 2).files(site, ports, tmp_path).values()
    assert "worker_processes 2;" in text
    assert SCENARIOS.keys() == {"plain", "tls"}
