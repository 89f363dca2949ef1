"""The binaries of the cluster: built once from the pinned Go module of this directory, and kept outside the checkout.

The cache is named after the digest of ``go.mod`` and ``go.sum``, so another version is another cache, and a fresh clone
does not build again what the last one built.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["ASKED", "BINARIES", "VERSION", "build", "cache", "go", "is_built"]

ASKED: Final = "DRYCC_CONFORMANCE"
"""Environment variable: set by ``make conformance`` while it runs the tests of this directory."""
MODULE: Final = Path(__file__).parent
BINARIES: Final = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
}
"""Name in the cache → package."""


def _version() -> str:
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)", (MODULE / "go.mod").read_text(encoding="utf-8"), re.MULTILINE)
    assert found, "go.mod requires k8s.io/kubernetes"
    return found[1]


VERSION: Final = _version()
"""Of Kubernetes."""


def go() -> str | None:
    """The Go command; None: there is none here."""
    return shutil.which("go")


def cache() -> Path:
    """The directory of the binaries, whether they are there or not."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    pinned = b"".join((MODULE / name).read_bytes() for name in ("go.mod", "go.sum"))
    return root / "drycc-router" / f"kubernetes-{VERSION}-{hashlib.sha256(pinned).hexdigest()[:16]}"


def is_built() -> bool:
    return all((cache() / name).is_file() for name in BINARIES)


def build() -> Path:
    """The directory of the binaries, which are built if they are not there. Raises CalledProcessError.

    One build at a time: whoever else wants one waits for it. An interrupted build leaves nothing in the cache.
    """
    directory = cache()
    directory.parent.mkdir(parents=True, exist_ok=True)
    with open(directory.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_built():
            return directory
        print(f"Building kube-apiserver {VERSION}, kube-controller-manager and etcd into {directory}:", flush=True)
        print("about seven minutes of processor time, once", flush=True)
        fresh = Path(tempfile.mkdtemp(dir=directory.parent, prefix="build-"))
        try:
            for name, package in BINARIES.items():
                _build(package, fresh / name)
            shutil.rmtree(directory, ignore_errors=True)
            fresh.replace(directory)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return directory


def _build(package: str, to: Path) -> None:
    command = go()
    assert command, "there is a Go command"
    named = f"-s -w -X k8s.io/component-base/version.gitVersion={VERSION}"
    subprocess.run(
        [
            "nice",
            command,
            "build",
            "-p",
            "2",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags",
            named,
            "-o",
            str(to),
            package,
        ],
        cwd=MODULE,
        check=True,
        stdout=sys.stderr,
        env={**os.environ, "CGO_ENABLED": "0"},
    )
