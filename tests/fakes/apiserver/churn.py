"""Writes at a steady rate over the Services that are there: most change nothing that the router reads."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from itertools import cycle

from tests.fakes.apiserver.kinds import kind_of
from tests.fakes.apiserver.objects import PREFIX
from tests.fakes.apiserver.refusals import Refused
from tests.fakes.apiserver.store import Store

__all__ = ["Churn"]

SERVICES = kind_of({"kind": "Service", "apiVersion": "v1"})
TICK = 0.01
"""Seconds between bursts; within a burst nothing else runs, as in a server with many writers."""
REAL = f"{PREFIX}/connectTimeout"
NOOP = "example.com/touched"


class Churn:
    """``rate`` updates a second; a share of ``noop_share`` touches only an annotation of somebody else.

    ``made`` counts the updates, ``real`` those among them that change what the router does. The order is random, and
    the same every time.
    """

    def __init__(self, store: Store, rate: float, noop_share: float = 0.9) -> None:
        self.made = 0
        self.real = 0
        self._store = store
        self._rate = rate
        self._noop_share = noop_share
        self._chance = random.Random(2)

    async def run(self, seconds: float | None = None) -> None:
        """Write for ``seconds``, or until cancelled. Lost time is made up for, so the rate holds on a busy machine."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        keys = self._keys()
        while seconds is None or loop.time() - start < seconds:
            for _ in range(int((loop.time() - start) * self._rate) - self.made):
                self._write(*next(keys))
            await asyncio.sleep(TICK)

    def _keys(self) -> Iterator[tuple[str, str]]:
        keys = [stored.key for stored in self._store.selected(SERVICES)]
        self._chance.shuffle(keys)
        return cycle(keys)

    def _write(self, namespace: str, name: str) -> None:
        self.made += 1
        try:
            document = self._store.get(SERVICES, namespace, name).document
        except Refused:
            return  # somebody deleted it; the churn goes on over the others
        annotations = document["metadata"].setdefault("annotations", {})
        if self._chance.random() < self._noop_share:
            annotations[NOOP] = str(self.made)
        else:
            self.real += 1
            annotations[REAL] = "31s" if annotations.get(REAL) != "31s" else "30s"
        self._store.update(SERVICES, document)
