"""Search for so many minutes of processor time, shared among the targets: ``python -m tests.fuzz --minutes 60``."""

from __future__ import annotations

import argparse
import random
import resource
import sys
import traceback

from tests.fuzz.search import Search
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Search, keep what was found, and return 1 when a target failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="processor time for all targets together")
    parser.add_argument("--only", default=",".join(TARGETS), help=f"some of {','.join(TARGETS)}")
    parser.add_argument("--seed", type=int, default=None, help="of the random numbers; default: another one each time")
    given = parser.parse_args()
    names = given.only.split(",")
    seed = given.seed if given.seed is not None else random.SystemRandom().getrandbits(32)
    print(f"seed {seed}", flush=True)
    failed = False
    for name in names:
        search = Search(name, TARGETS[name], random.Random(f"{seed} {name}"))
        search.begin()
        before = len(search.said)
        search.run(given.minutes * 60 / len(names))
        search.end()
        print(f"{name}: {search.tried} inputs, {before} -> {len(search.said)} outcomes", flush=True)
        for data, error in search.failures[:1]:
            failed = True
            print(f"{name} FAILS on {data!r}", flush=True)
            traceback.print_exception(error)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(f"{(used.ru_utime + used.ru_stime) / 60:.1f} minutes of processor time")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
