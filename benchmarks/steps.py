"""How long the longest step on the loop takes: ``python -m benchmarks steps``. Nobody else is served meanwhile.

The conversations are those of ``tests/fuzz/test_steps.py``, which bounds the same steps by counting: hostile requests,
answers, records, PROXY headers and frames, in the smallest units and in segments of any size. Here the processor time
of this thread is measured for each step, without sockets. A conversation is held ``--rounds`` times and the shortest
time of each step counts, so that what else the machine does is left out; the longest of those is reported. Where a
handshake is made its signature, with a P-256 key, is among the steps: it is one that cannot be divided.

One line of JSON: the figure of each conversation in milliseconds, the longest of all, and the goal.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Final

from benchmarks.tools import commit, machine
from tests.fakes.steps import Steps
from tests.fuzz.test_steps import OVER_TLS, PLAIN, Conversation, hold

__all__ = ["main"]

GOAL_MS: Final = 2.0
"""What one step may take."""
TOTAL: Final = 256 * 1024
"""Bytes of a conversation: what the loop reads at once."""
CUTS: Final = ((1, 1 << 18), (7, 1 << 18), (1000, 1 << 18), (1, 1400), (1, 1))
"""Bytes of a unit, and of a segment."""


class Timed(Steps):
    """Takes the steps of a story and notes how long each of them takes, in milliseconds."""

    segment = bytes

    def take(self, call: Callable[[], object], received: int = 0) -> None:
        """One step."""
        began = time.thread_time()
        call()
        self.times.append((time.thread_time() - began) * 1e3)

    @cached_property
    def times(self) -> list[float]:
        """In the order in which they were taken."""
        return []


def _longest(kind: Callable[[Conversation], None], unit: int, segment: int, rounds: int) -> float:
    total = TOTAL if segment > 1 else 4096
    shortest = hold(kind, unit, segment, total, Timed).times
    for _ in range(rounds - 1):
        shortest = [min(pair) for pair in zip(shortest, hold(kind, unit, segment, total, Timed).times, strict=False)]
    return max(shortest)


def main(arguments: Sequence[str]) -> int:
    """Measure and print. Return 0, or 1 if a step took longer than the goal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks steps", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="times that each conversation is held")
    parser.add_argument("--only", default="", help="a comma list of conversations")
    options = parser.parse_args(arguments)
    names = [name for name in options.only.split(",") if name]
    longest: dict[str, float] = {}
    for kind in (*PLAIN, *OVER_TLS):
        if not names or kind.__name__ in names:
            longest[kind.__name__] = max(_longest(kind, unit, segment, options.rounds) for unit, segment in CUTS)
    worst = max(longest.values())
    figures = {name: round(value, 3) for name, value in longest.items()}
    print(json.dumps({"commit": commit(), "machine": machine(), "ms": figures, "worst": worst, "goal": GOAL_MS}))
    return 0 if worst <= GOAL_MS else 1
