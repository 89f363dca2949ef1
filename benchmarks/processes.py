"""Children with an owner: started pinned to a core, measured through ``/proc``, ended with all they started.

``Children`` is the one place that starts and ends programs. What must not enter: what the programs are for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

__all__ = [
    "Child",
    "Children",
    "CpuTime",
    "busy_of_stat",
    "core_busy",
    "cpu_of_stat",
    "cpu_time",
    "memory_of_status",
    "resident_bytes",
    "resident_of_each",
    "tree",
]

_TICK: Final = os.sysconf("SC_CLK_TCK")
_PATIENCE: Final = 5.0
"""Seconds between asking a child to end and making it end."""


@dataclass(frozen=True, slots=True)
class CpuTime:
    """Seconds of processor time."""

    user: float
    system: float

    def __sub__(self, other: CpuTime) -> CpuTime:
        return CpuTime(self.user - other.user, self.system - other.system)

    def __add__(self, other: CpuTime) -> CpuTime:
        return CpuTime(self.user + other.user, self.system + other.system)


def cpu_of_stat(stat: str) -> CpuTime:
    """Read user and system time, those of ended children included, out of the text of ``/proc/PID/stat``."""
    fields = stat[stat.rindex(")") + 2 :].split()  # the name before it may hold spaces and parentheses
    user, system, children_user, children_system = (int(text) / _TICK for text in fields[11:15])
    return CpuTime(user + children_user, system + children_system)


def busy_of_stat(stat: str, core: int) -> float:
    """Read the seconds that ``core`` was busy, whoever's doing, out of the text of ``/proc/stat``.

    What the hypervisor gave to others counts as busy too. Raises ValueError if there is no such core.
    """
    for line in stat.splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _waiting, interrupts, soft, stolen = map(int, line.split()[1:9])
            return (user + nice + system + interrupts + soft + stolen) / _TICK
    raise ValueError(f"/proc/stat has no core {core}")


def core_busy(core: int) -> float:
    """Return the seconds that ``core`` has been busy since the machine started."""
    return busy_of_stat(_text(Path("/proc/stat")), core)


def memory_of_status(status: str) -> int:
    """Read the resident bytes out of the text of ``/proc/PID/status``; 0 for a process that is ending."""
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def tree(pid: int) -> list[int]:
    """Return ``pid`` and all its living descendants."""
    found = [pid]
    for parent in found:  # grows while it is walked
        for task in _listing(Path(f"/proc/{parent}/task")):
            found += [int(child) for child in _text(task / "children").split()]
    return found


def cpu_time(pid: int) -> CpuTime:
    """Return the processor time of ``pid`` and its descendants so far (ticks of 10 ms)."""
    total = CpuTime(0.0, 0.0)
    for member in tree(pid):
        if stat := _text(Path(f"/proc/{member}/stat")):
            total += cpu_of_stat(stat)
    return total


def resident_bytes(pid: int) -> int:
    """Return the resident memory of ``pid`` and its descendants; pages they share count for each."""
    return sum(memory_of_status(_text(Path(f"/proc/{member}/status"))) for member in tree(pid))


def resident_of_each(pid: int) -> list[int]:
    """Return the resident memory of ``pid`` and of each of its descendants, the largest first."""
    return sorted((memory_of_status(_text(Path(f"/proc/{member}/status"))) for member in tree(pid)), reverse=True)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):  # it ended between being listed and being looked at
        return ""


def _listing(path: Path) -> list[Path]:
    try:
        return list(path.iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []


@dataclass(frozen=True, slots=True)
class Child:
    """A program that was started, and the file that has what it printed."""

    name: str
    process: subprocess.Popen[bytes]
    output: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def require_running(self) -> None:
        """Raise RuntimeError, with the end of what it printed, if it has ended."""
        if (code := self.process.poll()) is not None:
            raise RuntimeError(f"{self.name} ended with {code}: …{_text(self.output)[-2000:]}")


class Children:
    """The owner of every program that a run starts. Leaving the ``with`` block ends them all."""

    __slots__ = ("_living",)

    def __init__(self) -> None:
        self._living: list[Child] = []

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        while self._living:
            self.end(self._living[-1])

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        core: int | str,
        output: Path,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> Child:
        """Start ``command`` on ``core`` (several: ``0,1``), in ``directory``; all it prints is appended to ``output``.

        It gets a process group of its own, so that Ctrl-C reaches it only through its owner, in order. Not a session of
        its own: of each session Linux makes one group of what it shares the processors among (autogroup, sched(7)), so
        that two workers of one proxy would get as much together as another proxy's only one.
        """
        with output.open("ab") as sink:
            process = subprocess.Popen(
                ["taskset", "-c", str(core), *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=directory,
                process_group=0,
            )
        child = Child(name, process, output)
        self._living.append(child)
        return child

    def end(self, child: Child) -> None:
        """Ask ``child`` to end, wait, then end by force whatever is left of it and of what it started."""
        self._living.remove(child)
        family = tree(child.pid)
        child.process.terminate()
        try:
            child.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
        for member in family[1:]:
            _end_orphan(member)


def _end_orphan(pid: int) -> None:
    """Wait for a grandchild whose parent has ended; if it lingers, end it by force, and wait for that."""
    if not _gone_within(1.0, pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        _gone_within(1.0, pid)


def _gone_within(seconds: float, pid: int) -> bool:
    deadline = time.monotonic() + seconds
    while ") Z " not in (stat := _text(Path(f"/proc/{pid}/stat"))) and stat:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
