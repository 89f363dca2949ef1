"""Streams are measured with every byte counted and every peer told the same."""

from __future__ import annotations

from pathlib import Path

import yaml

from benchmarks import streams
from benchmarks.streams import PIECE, Middle, Outcome, carry, configuration


def test_a_push_arrives_whole_before_the_clock_is_read() -> None:
    with streams._sink() as sink:
        outcome = carry(Middle(sink, None), 10 * PIECE)
    assert (outcome.size, outcome.cpu, outcome.per_cpu_second) == (10 * PIECE, None, None)


def test_the_figure_is_megabytes_for_a_second_of_cpu() -> None:
    assert Outcome(2_000_000, 9.0, 0.5).per_cpu_second == 4.0


def test_everybody_listens_on_one_port_and_has_one_server_behind_it(tmp_path: Path) -> None:
    for name in ("nginx", "haproxy"):
        text = configuration(name, 4001, 4002, tmp_path)
        assert "127.0.0.1:4001" in text and "127.0.0.1:4002" in text
    service, slice_ = yaml.safe_load_all(configuration("drycc", 4001, 4002, tmp_path))
    assert (service["metadata"]["name"], slice_["ports"][0]["port"]) == ("drycc-builder", 4002)
