"""A test that hangs fails under its name, whatever it hangs in, and the others still run (tests/conftest.py)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

HUNG = """
import asyncio, itertools, threading
import pytest, uvloop

def test_waits_for_a_lock():
    threading.Event().wait()

def test_computes_for_ever():
    while True:
        pass

def test_waits_in_a_loop_in_c():
    uvloop.run(asyncio.Event().wait())

def test_keeps_the_interpreter():
    sum(itertools.repeat(0))

def test_catches_what_ends_it():
    while True:
        try:
            threading.Event().wait()
        except BaseException:
            pass

@pytest.fixture
def never_ends():
    yield
    threading.Event().wait()

def test_is_torn_down_for_ever(never_ends):
    pass

@pytest.mark.parametrize("number", range(20))
def test_passes(number):
    pass
"""
HANGS = [
    "test_waits_for_a_lock",
    "test_computes_for_ever",
    "test_waits_in_a_loop_in_c",
    "test_keeps_the_interpreter",
    "test_catches_what_ends_it",
    "test_is_torn_down_for_ever",
]


def test_a_hung_test_fails_under_its_name_and_the_others_run(tmp_path: Path) -> None:
    (tmp_path / "test_hung.py").write_text(HUNG)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path)]
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}

    ran = subprocess.run(
        [*command, "-n", "2", "--dist", "worksteal", "--timeout", "3", "-rA", "-p", "tests.conftest", str(tmp_path)],
        env=own | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=250,
    )

    said = ran.stdout.splitlines()
    assert [name for name in HANGS if not any(re.match(rf"(FAILED|ERROR) \S+::{name} ", line) for line in said)] == []
    assert sum(line.startswith("PASSED test_hung.py::test_passes[") for line in said) == 20
    assert re.fullmatch(r"=+ .*5 failed, 21 passed, 1 error in .* =+", said[-1])
    # Each is named once or twice: where a service runs the tests (CI in the environment), the summary repeats messages.
    crashed = set(re.findall(r"crashed while running '([^']+)'", ran.stdout))
    assert len(crashed) == 3, "the other hung tests left their process to the next test"
    assert "in test_keeps_the_interpreter" in ran.stderr, "the stack"
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED
