"""Limits as control groups state them: files that a test writes, and those of this machine."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from drycc_proxy.kernel import memory
from drycc_proxy.kernel.memory import OWN_MEMORY, Memory, find, trim

MIB = 1 << 20


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


def group(folder: Path, limit: object, used: int, cache: int = 0, *, version: int = 2) -> None:
    """Write one control group."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    total = "total_" if version == 1 else ""
    (folder / "memory.stat").write_text(f"anon 1\nfile 2\n{total}inactive_file {cache}\nactive_file 5\n")


def own(groups: Path, *lines: str) -> Path:
    """Write what the process's groups are."""
    file = groups.parent / "own"
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


@pytest.mark.parametrize(
    ("version", "folder", "line"),
    [
        (2, "", "0::/"),
        (2, "kubepods/pod1", "0::/kubepods/pod1"),
        (1, "memory", "4:memory:/"),
        (1, "memory/kubepods/pod1", "9:cpu,memory:/kubepods/pod1"),
    ],
)
def test_the_limit_of_the_group_is_found_and_its_use_read(groups: Path, version: int, folder: str, line: str) -> None:
    group(groups / folder, 512 * MIB, 128 * MIB, version=version)
    found = find(groups=groups, own=own(groups, "8:pids:/x", line))
    assert found.limit == 512 * MIB
    assert found.share() == 0.25
    assert found.used == 128 * MIB
    group(groups / folder, 512 * MIB, 256 * MIB, version=version)
    assert found.share() == 0.5
    found.close()
    assert found.share() == 0.0


@pytest.mark.parametrize("version", [1, 2])
def test_cache_that_can_be_dropped_is_no_use(groups: Path, version: int) -> None:
    folder = groups if version == 2 else groups / "memory"
    group(folder, 1000, 950, 500, version=version)
    found = find(groups=groups, own=own(groups, "0::/" if version == 2 else "4:memory:/"))
    assert found.share() == 0.45
    found.close()


def test_the_tightest_limit_above_counts(groups: Path) -> None:
    group(groups / "pod/container", "max", 10)
    group(groups / "pod", 100, 60)
    group(groups, 1000, 70)
    found = find(groups=groups, own=own(groups, "0::/pod/container"))
    assert (found.limit, found.share()) == (100, 0.6)
    found.close()


def test_a_path_that_this_container_cannot_see_means_its_root(groups: Path) -> None:
    group(groups, 100, 60)
    for line in ("0::/kubepods/burstable/pod1/abc", "0::/../../other"):
        found = find(groups=groups, own=own(groups, line))
        assert found.share() == 0.6
        found.close()


@pytest.mark.parametrize("limit", ["max", 0x7FFFFFFFFFFFF000, "nonsense", ""])
def test_without_a_limit_nothing_is_read(groups: Path, limit: object) -> None:
    group(groups, limit, 60)
    found = find(groups=groups, own=own(groups, "0::/"))
    assert (found.limit, found.share(), found.used) == (0, 0.0, 0)
    found.close()


def test_without_control_groups_nothing_is_read(groups: Path) -> None:
    assert find(groups=groups, own=groups / "missing").limit == 0
    assert find(groups=groups, own=own(groups, "0::/", "nonsense")).limit == 0


def test_a_group_that_goes_away_is_no_error(groups: Path) -> None:
    group(groups, 100, 90)
    found = find(groups=groups, own=own(groups, "0::/"))
    (groups / "memory.stat").unlink()
    assert found.share() == 0.9
    (groups / "memory.current").write_text("")
    assert found.share() == 0.0
    found.close()


def test_a_stated_limit_is_held_against_what_is_resident(groups: Path) -> None:
    group(groups, 100, 90)
    found = find(10_000 * MIB, groups=groups, own=own(groups, "0::/"))
    assert found.limit == 10_000 * MIB
    assert 0.0 < found.share() < 1.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert MIB < found.used <= 2 * peak  # the kernel counts both in batches
    found.close()


def test_this_machine_can_be_looked_at() -> None:
    found = find()
    assert 0.0 <= found.share() <= 1.5
    found.close()


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(OWN_MEMORY.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_that_is_free_can_be_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(memory._C, "malloc_trim"):
        pytest.skip("NOT SHOWN: memory given back; this C library does that by itself, or never")
    kept = [bytearray(30_000) for _ in range(2000)]
    for block in kept:
        block[::4096] = b"x" * len(block[::4096])  # it is there only once it was written to
    last = bytearray(30_000)  # in front of the end of the heap, which shrinks by itself
    full = resident()
    kept.clear()
    trim()
    assert full - resident() > 40 * 2**20
    assert len(last) == 30_000
    monkeypatch.setattr(memory, "_C", object())
    trim()  # another C library has no such thing


def test_a_limit_of_nothing_opens_nothing() -> None:
    nothing = Memory(0, OWN_MEMORY)
    assert nothing.share() == 0.0
    nothing.close()
