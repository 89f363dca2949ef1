"""A change costs what it is large: told twice, with two hundred apps and with two thousand, it is the same work.

Work is what the interpreter executes, instruction by instruction, from the file to the live table of two workers; no
clock is asked, so nobody's machine is too slow. What is sent is measured in messages and bytes. A loop over all apps
anywhere on the way would be ten times as much; what C does in one call (copying a dict) is not seen.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest

from drycc_proxy.gateway import Gateway
from drycc_proxy.routing.definitions import TableChange
from drycc_router.compile.compiler import Compiler
from drycc_router.model.objects import Change
from drycc_router.process.messages import Applied, Begin, CertificatePart, Commit, TablePart, decode_for_worker, encode
from drycc_router.publish.batches import Known
from drycc_router.roles.fanout import FanOut, Lane
from drycc_router.sources.manifest_index import Shelf
from drycc_router.sources.manifest_objects import Contents
from drycc_tls.update import CertificateChange
from examples.authority import Authority
from tests.fakes.instructions import Work
from tests.fakes.kube import NOW, endpoints, secret, service

FEW, MANY = 200, 2_000
NEARLY = 60
"""Instructions by which both may differ: a search among ten times as many takes three steps more."""

_AUTHORITY = Authority()
_PAIRS = [_AUTHORITY.issue("*.example", start=NOW - timedelta(days=1), days=365) for _ in range(2)]


class Wire:
    """The channel to a worker, and the worker: what it is sent is current at once, and it says so."""

    def __init__(self, lane: Lane, gateway: Gateway) -> None:
        self._lane = lane
        self._gateway = gateway
        self._known = Known()
        self.sizes: list[int] = []
        """Bytes of each message."""

    def send(self, data: bytes) -> None:
        self.sizes.append(len(data))
        match decode_for_worker(data):
            case TablePart(change):
                self._gateway.publish(change)
                self._known.note_table(change)
            case CertificatePart(certificates):
                self._known.note_certificates(certificates)
            case Commit(generation):
                self._lane.hear(encode(Applied(generation, ())))
            case Begin() | _:
                pass


class Town:
    """So many apps with a certificate each, one in a file, and a router with two workers that serves them."""

    def __init__(self, apps: int) -> None:
        self._shelf = Shelf()
        self._compiler = Compiler(trusted_endpoints=True)
        self._fan = FanOut(2)
        self.wires: list[Wire] = []
        for number in range(2):
            lane = Lane(self._fan, number, 100 + number)
            wire = Wire(lane, Gateway(asyncio.get_running_loop()))
            lane.channel = cast(Any, wire)  # as much of a channel as a lane needs to send
            self._fan._lanes[number] = lane
            self.wires.append(wire)
        self.files = {f"{number:04}.yaml": app(f"town/app-{number:04}") for number in range(apps)}

    async def opens(self) -> None:
        for name, objects in self.files.items():
            self._shelf.put(name, _contents(objects))
        await self._reconciles(Work(watched=False))

    async def hears(self, name: str, *objects: Change) -> tuple[Counter[str], list[int]]:
        """One file says this now, and nothing if there is nothing: how much work that is, and what is sent."""
        work = Work()
        for wire in self.wires:
            wire.sizes.clear()
        with work.on("file"):
            if objects:
                self._shelf.put(name, _contents(objects))
            else:
                self._shelf.drop(name)
        await self._reconciles(work)
        return work.done, self.wires[0].sizes + self.wires[1].sizes

    async def _reconciles(self, work: Work) -> None:
        with work.on("file"):
            changes = self._shelf.settle().changes
        with work.on("compile"):
            for change in changes:
                self._compiler.apply(change)
            snapshot = self._compiler.compile(NOW)
        await self._publishes(work, snapshot.certificates, snapshot.table)

    async def _publishes(self, work: Work, certificates: CertificateChange, table: TableChange) -> None:
        with work.on("publish"):
            await self._fan.publish(certificates, table)
        assert not any(lane.late for lane in self._fan.lanes)


def _contents(objects: tuple[Change, ...]) -> Contents:
    return Contents({change.key: change.object for change in objects if change.object is not None})


def app(name: str, says: dict[str, str] | None = None, address: str = "10.0.0.1", pair: int = 0) -> tuple[Change, ...]:
    """Everything one file has."""
    host = f"{name.removeprefix('town/')}.example"
    asked = {"domains": host, "certificates": f"{host}:{name.removeprefix('town/')}", **(says or {})}
    return service(name, asked), endpoints(name, address), secret(name, _PAIRS[pair])


NAME, FILE = "town/app-0100", "0100.yaml"
CHANGES: dict[str, Callable[[], tuple[Change, ...]]] = {
    "an annotation": lambda: app(NAME, {"bodySize": "1m"}),
    "its endpoints": lambda: app(NAME, address="10.0.0.2"),
    "its names": lambda: app(NAME, {"domains": "app-0100.example,other.example"}),
    "its certificate": lambda: app(NAME, pair=1),
    "a mistake": lambda: app(NAME, {"bodySize": "ten"}),
    "a name that somebody has": lambda: app(NAME, {"domains": "app-0100.example,app-0007.example"}),
    "another app in its place": lambda: app("town/app-9999"),
    "its end": tuple,
}


@pytest.mark.parametrize("change", CHANGES)
def test_one_change_is_the_same_work_among_ten_times_as_many(change: str) -> None:
    async def story() -> None:
        costs = []
        for apps in (FEW, FEW, MANY):  # the first time for what is remembered of values ever after
            town = Town(apps)
            await town.opens()
            costs.append(await town.hears(FILE, *CHANGES[change]()))
        _, (few, sent_few), (many, sent_many) = costs
        assert few.keys() == many.keys() == {"file", "compile", "publish"}
        for part, instructions in few.items():
            assert instructions > 100, "nothing was measured"
            assert abs(many[part] - instructions) <= NEARLY, (part, instructions, many[part])
        assert sent_few
        assert len(sent_few) == len(sent_many)
        assert sum(sent_many) - sum(sent_few) <= 8, "generations and ports, but no further entry"

    asyncio.run(story())
