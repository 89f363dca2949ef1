"""How many cores this process may use: the machine's, less what an affinity or a container's limit takes away.

A worker more than there are cores only makes requests wait for each other. Kubernetes writes a limit of CPU into the
control group of the container; nobody should have to say it twice.

What must not enter: what is done with the number.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

__all__ = ["allowed_cores"]

GROUPS: Final = Path("/sys/fs/cgroup")


def allowed_cores(groups: Path = GROUPS) -> int:
    """Whole cores, at least one. Half a core more is left to the control process."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(groups)
    return cores if quota is None else max(1, min(cores, int(quota)))


def _quota(groups: Path) -> float | None:
    """Cores by the limit of the control group, version 2 and then 1; None: no limit."""
    for quota_file, period_file in (
        ("cpu.max", None),
        ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"),
        ("cpu,cpuacct/cpu.cfs_quota_us", "cpu,cpuacct/cpu.cfs_period_us"),
    ):
        try:
            words = (groups / quota_file).read_text().split()
            if period_file is not None:
                words += (groups / period_file).read_text().split()
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):  # not this version, or "max"
            continue
        if quota > 0 and period > 0:
            return quota / period
    return None
