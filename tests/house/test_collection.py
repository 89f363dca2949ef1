"""The processes that share the tests name them alike: an id holds nothing that differs from one process to another."""

import os
import subprocess
import sys
from difflib import unified_diff
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def collect(seed: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.Popen(
        [*command, "-o", "addopts=--import-mode=importlib", "tests"],
        env=own | {"PYTHONHASHSEED": str(seed), "PYTHONDONTWRITEBYTECODE": ""},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.timeout(300)
def test_every_collection_finds_the_same_tests_in_the_same_order() -> None:
    """Two processes differ in hashes of strings, addresses of objects, and keys and times that are made on import."""
    processes = [collect(1), collect(2)]
    one, another = [process.communicate(timeout=280)[0].splitlines() for process in processes]

    assert [process.returncode for process in processes] == [0, 0]
    one, another = [[line for line in found if "::" in line] for found in (one, another)]  # not how long it took
    assert len(one) > 1000
    assert list(unified_diff(one, another, "one process", "another", lineterm="", n=0)) == []
