"""The edits that are made under load, and what is told about them."""

import itertools
from pathlib import Path

import pytest
import yaml

from benchmarks.changes import edits, summary

HERE = (("127.0.0.1", 9000), ("127.0.0.2", 9000))
THERE = (("127.0.0.1", 9001),)


def test_every_edit_changes_its_file_and_is_yaml(tmp_path: Path) -> None:
    made = list(itertools.islice(edits(HERE, THERE, tmp_path), 20))
    last: dict[str, str] = {}
    for edit in made:
        assert edit.text != last.get(edit.file)
        last[edit.file] = edit.text
        assert list(yaml.safe_load_all(edit.text))
    assert len({edit.kind for edit in made}) == 5


def test_an_edit_expects_an_answer_that_the_one_before_of_its_kind_did_not_give(tmp_path: Path) -> None:
    made = list(itertools.islice(edits(HERE, THERE, tmp_path), 20))
    for kind in {edit.kind for edit in made}:
        series = [(edit.host, edit.expected) for edit in made if edit.kind == kind]
        assert all(one != another for one, another in itertools.pairwise(series))


def test_the_summary_counts_what_was_sent_failed_and_seen() -> None:
    reports = [
        {"sent": 200, "failed": 1, "failures": ["a.test: status 502"], "reopened": 0, "latencies_us": [100.0, 300.0]},
        {"sent": 100, "failed": 0, "failures": [], "reopened": 2, "latencies_us": [200.0]},
    ]
    seen = [("domain added", 80.0), ("domain added", 120.0), ("maintenance", 100.0)]
    found = summary(300, seen, ["edit 3: allow-list"], reports)
    assert (found["edits"], found["unseen"]) == (4, ["edit 3: allow-list"])
    assert (found["sent"], found["failed"], found["failures"], found["reopened"]) == (300, 1, ["a.test: status 502"], 2)
    assert (found["p50_ms"], found["p99_ms"], found["max_ms"]) == (100.0, 120.0, 120.0)
    assert found["kinds"]["domain added"] == {"p50_ms": 80.0, "max_ms": 120.0}
    assert found["request_p50_us"] == pytest.approx(200.0)
