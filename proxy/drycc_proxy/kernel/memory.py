"""How much memory the process may use, and how much it does: read from where the kernel decides whom to kill.

In a container that is its control group, version 2 (``memory.max``, ``memory.current``) or 1
(``memory.limit_in_bytes``, ``memory.usage_in_bytes``), also those above it that are visible; the tightest counts. What
the group uses includes buffers of sockets and the page cache; of the latter what can be dropped at once
(``inactive_file``) is not counted, as Kubernetes does. Where an operator states a limit instead, the resident memory of
this process is held against it.

Reading is a few microseconds and never waits for a disk: these files are made by the kernel when they are read.

What must not enter: what to do about it (``overload``).
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

__all__ = ["Memory", "find", "trim"]

CGROUPS: Final = Path("/sys/fs/cgroup")
OWN_GROUPS: Final = Path("/proc/self/cgroup")
OWN_MEMORY: Final = Path("/proc/self/statm")
UNLIMITED: Final = 1 << 60
"""Version 1 says "no limit" with a number near 2^63."""
LOOK_CLOSER: Final = 0.8
"""Share of the limit from which it is worth to find out how much of the use is cache."""
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Memory:
    """One limit and the file that tells the use. ``limit`` 0: there is none, and nothing is ever read."""

    __slots__ = ("_statistics", "_use", "limit", "used")

    def __init__(self, limit: int, use: Path = OWN_MEMORY, statistics: Path | None = None) -> None:
        """``use``: a control group's file of bytes, or ``statm`` of a process. ``statistics``: the group's counters."""
        self.limit = limit
        self.used = 0
        """Bytes in use at the last look."""
        # Opened once and for all: a worker may open nothing later on.
        self._use = os.open(use, os.O_RDONLY | os.O_CLOEXEC) if limit else -1
        self._statistics = os.open(statistics, os.O_RDONLY | os.O_CLOEXEC) if limit and statistics else -1

    def share(self) -> float:
        """The share of the limit that is in use now; 0 where there is no limit or nothing can be read."""
        if self._use < 0:
            return 0.0
        try:
            text = os.pread(self._use, 256, 0).split()
            self.used = int(text[1]) * _PAGE if len(text) > 1 else int(text[0])
            if self._statistics >= 0 and self.used > self.limit * LOOK_CLOSER:
                self.used -= _droppable(os.pread(self._statistics, 65536, 0))
        except (OSError, ValueError, IndexError):
            return 0.0
        return self.used / self.limit

    def close(self) -> None:
        """Look no more."""
        for descriptor in {self._use, self._statistics} - {-1}:
            os.close(descriptor)
        self._use = self._statistics = -1


def find(stated: int = 0, groups: Path = CGROUPS, own: Path = OWN_GROUPS) -> Memory:
    """The limit that holds for this process: the one ``stated`` in bytes, else its control group's. Raises nothing."""
    if stated:
        return Memory(stated)
    best = Memory(0)
    for folder, limit, use in _folders(groups, own):
        try:
            text = (folder / limit).read_text().strip()
            found = int(text) if text != "max" else 0
            if 0 < found < UNLIMITED and (not best.limit or found < best.limit):
                candidate = Memory(found, folder / use, folder / "memory.stat")
                best.close()
                best = candidate
        except (OSError, ValueError):
            continue
    return best


def _folders(groups: Path, own: Path) -> list[tuple[Path, str, str]]:
    """Where limits may stand: this process's groups and those above them, as far as they are mounted here."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    found: list[tuple[Path, str, str]] = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            root, files = groups, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root, files = groups / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        folder = root / path.lstrip("/")
        if ".." in folder.parts:  # a group outside of what this container sees
            folder = root
        while True:
            found.append((folder, *files))
            if folder == root:
                break
            folder = folder.parent
    return found


def _droppable(statistics: bytes) -> int:
    """Bytes of page cache that the kernel drops before it kills anybody."""
    for name in (b"total_inactive_file ", b"inactive_file "):
        at = statistics.find(name)
        if at >= 0:
            return int(statistics[at + len(name) :].split(b"\n", 1)[0])
    return 0


def trim() -> None:
    """Give memory that is free back to the kernel: the C library keeps what it may need again, which counts as used."""
    give_back = getattr(_C, "malloc_trim", None)
    if give_back is not None:
        give_back(0)


_C: Final = ctypes.CDLL(None)
