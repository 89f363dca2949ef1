"""What every process sets up: limits, hooks, the log."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from drycc_proxy.state.admission import for_clients
from drycc_router.process import runtime
from drycc_router.process.logs import JsonLines
from drycc_router.process.runtime import log_unhandled
from drycc_router.settings import LogTo


def test_what_nobody_caught_is_logged_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(log_unhandled)
        task = asyncio.ensure_future(asyncio.sleep(0))
        context = {"message": "callback failed", "exception": ValueError("c4n4ry"), "future": task}
        loop.call_exception_handler(context)
        await task

    asyncio.run(story())
    [record] = caplog.records
    assert record.getMessage() == "callback failed"
    assert record.exc_info
    assert "c4n4ry" not in JsonLines().format(record)


def test_limits_are_raised_and_nobody_looks_into_its_memory() -> None:
    """Hardening K-04: no core dumps, and what /proc tells of a process is root's alone."""
    asked = (
        "import ctypes, os, resource, drycc_router.process.runtime as runtime; runtime.prepare();"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE),"
        "len(set(resource.getrlimit(resource.RLIMIT_NOFILE))), os.stat('/proc/self/fd').st_uid)"
    )
    said = subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True, timeout=50)
    assert said.stdout == "0 (0, 0) 1 0\n"


@pytest.mark.parametrize(("files", "enough"), [(256, False), (8192, True)])
def test_few_open_files_are_warned_of_at_the_start(files: int, enough: bool) -> None:
    asked = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}));"
        "from drycc_router.process import logs, runtime; logs.start(0); runtime.warn_of_few_places()"
    )
    said = subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True, timeout=50).stderr
    if enough:
        assert said == ""
        return
    words = re.search(r"a limit of 256 open files leaves each worker (\d+) places for clients: raise it to (\d+)", said)
    assert words is not None
    assert int(words[1]) < runtime.FEW_PLACES
    assert runtime.FEW_PLACES <= for_clients(int(words[2]), 32) < runtime.FEW_PLACES + 100


def test_the_access_log_goes_where_it_is_told(tmp_path: Path) -> None:
    assert runtime.open_log(LogTo.NOWHERE) is None
    runtime.close_log(None)
    sink = runtime.open_log(tmp_path / "access.log")
    assert sink is not None
    sink.write(b"line\n")
    runtime.close_log(sink)
    assert (tmp_path / "access.log").read_bytes() == b"line\n"
    with pytest.raises(OSError, match="No such file"):
        runtime.open_log(tmp_path / "nowhere" / "access.log")
