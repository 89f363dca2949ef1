"""Streams are measured with every byte counted and every peer told the same."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from benchmarks import streams
from benchmarks.streams import PIECE, Middle, Outcome, Pusher, carry, carry_both, configuration
from tests.fakes.builder import needs_git


def test_a_push_arrives_whole_before_the_clock_is_read() -> None:
    with streams._sink() as sink:
        outcome = carry(Middle(sink, None), 10 * PIECE)
    assert (outcome.size, outcome.cpu, outcome.per_cpu_second) == (10 * PIECE, None, None)


def test_both_ways_arrive_whole_or_the_run_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with streams._talker(10 * PIECE) as talker:
        assert carry_both(Middle(talker, None), 10 * PIECE).size == 20 * PIECE
        monkeypatch.setattr(streams, "_hear", lambda connection, size: 1)
        with pytest.raises(ValueError, match="not what was sent"):
            carry_both(Middle(talker, None), 10 * PIECE)


@needs_git
@pytest.mark.peer
def test_git_pushes_to_the_builder_again_and_again(tmp_path: Path) -> None:
    with streams._builder(tmp_path) as builder:
        pusher = Pusher(tmp_path, 10_000_000)
        for _ in range(2):
            assert pusher.push(Middle(builder, None), 10_000_000).seconds > 0
        names = {path.name for path in pusher.gateway().iterdir()}
    assert names == {"ssh_host_ed25519_key", "ssh_host_ed25519_key.pub", "builder_client_key", "keys"}
    subprocess.run(["git", "-C", str(tmp_path / "builder" / "shop.git"), "fsck", "--full", "--strict"], check=True)


def test_the_figure_is_megabytes_for_a_second_of_cpu() -> None:
    assert Outcome(2_000_000, 9.0, 0.5).per_cpu_second == 4.0


def test_everybody_listens_on_one_port_and_has_one_server_behind_it(tmp_path: Path) -> None:
    for name in ("nginx", "haproxy"):
        text = configuration(name, 4001, 4002, tmp_path)
        assert "127.0.0.1:4001" in text and "127.0.0.1:4002" in text
    service, slice_ = yaml.safe_load_all(configuration("drycc", 4001, 4002, tmp_path))
    assert (service["metadata"]["name"], slice_["ports"][0]["port"]) == ("drycc-builder", 4002)
