"""Every input that the search ever kept is judged again with each run of the tests (``tests/fuzz/corpus``)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.search import SEEDS, Search, keep, kept
from tests.fuzz.targets import TARGETS

MISREAD = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_kept_is_judged_as_it_must_be(name: str) -> None:
    inputs = [*SEEDS.get(name, ()), *kept(name)]
    assert len(inputs) > 15, "the corpus is missing"
    for data in inputs:
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
def test_a_search_goes_on_from_there_and_finds_no_fault(name: str) -> None:
    search = Search(name, TARGETS[name], random.Random(name))
    search.begin()
    search.run(0.5)
    assert search.tried > len(kept(name))
    assert search.failures == []


def test_a_fault_is_found_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A parser that takes what others refuse does not stay hidden: here one that believes two lengths."""
    monkeypatch.setattr("tests.fuzz.search.CORPUS", tmp_path)
    monkeypatch.setattr(
        "drycc_proxy.http1.parser.parse_length", lambda values: int(values[-1]) if values[-1].isdigit() else 0
    )
    search = Search("head", TARGETS["head"], random.Random(1))
    search.look(MISREAD)
    search.run(20)
    search.end()
    assert search.failures
    data, _ = search.failures[0]
    assert data in kept("head")


def test_inputs_are_written_a_line_each_the_shortest_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tests.fuzz.search.CORPUS", tmp_path)
    keep("x", [b"\xff\x00\r\n", b"a", b"a"])
    assert (tmp_path / "x.txt").read_text() == '"a"\n"\\u00ff\\u0000\\r\\n"\n'
    assert kept("x") == [b"a", b"\xff\x00\r\n"]
    assert kept("nothing yet") == []
