"""``make conformance``: build the cluster if it is not in the cache yet, then run the tests of this directory with it.

Arguments are pytest's; ``--record`` before them writes ``recorded.json`` anew. Without Go, and without a cache that has
the binaries already, nothing runs and the last line says so; the exit status is 0 then, and ``.ci/run`` looks at Go.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.conformance import building

SKIPPED = "conformance: SKIPPED, nothing was compared with a real API server"


def main(arguments: list[str]) -> int:
    if not building.is_built():
        if building.go() is None:
            print(f"{SKIPPED}: there is no Go command here (Go 1.26 or newer builds it)")
            return 0
        try:
            building.build()
        except subprocess.CalledProcessError as error:
            print(f"conformance: FAILED, the API server could not be built (go build: status {error.returncode})")
            return 1
    os.environ[building.ASKED] = "record" if "--record" in arguments else "run"
    arguments = [each for each in arguments if each != "--record"]
    if not any(each.startswith("tests/") for each in arguments):
        arguments = ["tests/conformance", *arguments]
    alone = ["-n0"] if find_spec("xdist") else []  # the tests share one cluster
    status = int(pytest.main([*arguments, *alone]))
    print(f"conformance: {'passed' if status == 0 else 'FAILED'} with kube-apiserver {building.VERSION}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
