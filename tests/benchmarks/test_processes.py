"""Children end with their owner, whatever they started; their processor time is read right."""

import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks.processes import (
    Children,
    CpuTime,
    busy_of_stat,
    cpu_of_stat,
    cpu_time,
    memory_of_status,
    resident_bytes,
    resident_of_each,
    tree,
)

TICK = os.sysconf("SC_CLK_TCK")
CORE = min(os.sched_getaffinity(0))
STAT = "42 (a) name (odd)) S 1 42 42 0 -1 4194304 90 80 0 0 {user} {system} {cuser} {csystem} 20 0 1 0 100 1000 200"
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"])
time.sleep(60)
"""


def test_processor_time_counts_the_process_and_its_ended_children_under_any_name() -> None:
    stat = STAT.format(user=1 * TICK, system=2 * TICK, cuser=4 * TICK, csystem=8 * TICK)
    assert cpu_of_stat(stat) == CpuTime(user=5.0, system=10.0)


def test_processor_times_add_and_subtract() -> None:
    assert CpuTime(3.0, 4.0) - CpuTime(1.0, 1.0) == CpuTime(2.0, 3.0)
    assert CpuTime(3.0, 4.0) + CpuTime(1.0, 1.0) == CpuTime(4.0, 5.0)


def test_a_core_is_busy_with_everything_but_idling_and_waiting() -> None:
    worked = f"cpu0 {TICK} {TICK} {TICK} 999 999 {TICK} {TICK} {TICK} 0 0"
    stat = f"cpu  9 9 9 9 9 9 9 9 0 0\n{worked}\ncpu1 0 0 0 1 0 0 0 0 0 0\n"
    assert busy_of_stat(stat, 0) == 6.0
    assert busy_of_stat(stat, 1) == 0.0
    with pytest.raises(ValueError, match="no core 7"):
        busy_of_stat(stat, 7)


def test_resident_memory_is_read_in_bytes_and_a_dying_process_has_none() -> None:
    assert memory_of_status("Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t1\n") == 2 * 1024 * 1024
    assert memory_of_status("Name:\tx\nState:\tZ (zombie)\n") == 0


def test_this_process_has_time_and_memory_and_an_unknown_one_has_none() -> None:
    assert resident_bytes(os.getpid()) > 1024 * 1024
    assert max(resident_of_each(os.getpid())) > 1024 * 1024
    assert cpu_time(os.getpid()).user > 0
    assert cpu_time(2**30) == CpuTime(0.0, 0.0)


def test_leaving_the_block_ends_children_and_what_they_started(tmp_path: Path) -> None:
    output = tmp_path / "output"
    with Children() as children:
        child = children.start("parent", [sys.executable, "-c", PARENT], core=CORE, output=output)
        family = _family_of_two(child.pid, output)
    assert not [pid for pid in family if _is_running(pid)]


def test_a_child_that_ended_is_told_with_what_it_printed(tmp_path: Path) -> None:
    with Children() as children:
        command = [sys.executable, "-c", "import sys; print('no such file'); sys.exit(3)"]
        child = children.start("short", command, core=CORE, output=tmp_path / "output")
        child.process.wait(30)
        with pytest.raises(RuntimeError, match=r"short ended with 3: …no such file"):
            child.require_running()


def _family_of_two(pid: int, output: Path) -> list[int]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if output.read_text() == "up\n":
            family = tree(pid)
            assert len(family) == 2
            return family
        time.sleep(0.01)
    raise AssertionError("the grandchild never came up")


def _is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
