"""A start costs as much as it has apps, and no more than it did: from an API server's list to the table of a worker.

Work is what the interpreter executes, instruction by instruction, as in ``test_what_a_change_costs``; how long it takes
is for ``python -m benchmarks coldstart`` to say, which nobody runs with every change.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import Any

from drycc_proxy.gateway import Gateway
from drycc_router.compile.compiler import Compiler
from drycc_router.process.messages import TablePart, decode_for_worker
from drycc_router.roles.fanout import Parcel
from drycc_router.sources.fingerprints import Sights, narrow
from drycc_router.sources.pending_services import Newcomers
from drycc_router.translate.references import wishes
from tests.fakes.apiserver.objects import apps
from tests.fakes.instructions import Work

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EACH = 7_400
"""Instructions for one app and its slice: 7,100 with Python 3.11. It was 6,100 before each namespace had a share of the
record of claims, verdicts on slices were kept, and addresses were held against the fence of the cluster."""
NEARLY = 0.03
"""Share by which an app of many may cost more than one of few."""


def work_of(first: int, count: int) -> int:
    """Instructions for ``count`` apps that nobody saw before, all told at once."""
    work = Work()
    documents = list(apps(count, start=first, spread=True))
    for number, document in enumerate(documents):
        version = {"uid": f"uid-{number}", "resourceVersion": str(number), "creationTimestamp": "2026-01-01T00:00:00Z"}
        document["metadata"].update(version)

    async def story() -> None:
        worker = Gateway(asyncio.get_running_loop())
        with work.on("start"):
            starts(worker, documents)
        assert worker._core.table.generation == 1
        assert len(worker._core.table.routes) == count
        worker.close()

    asyncio.run(story())
    return work.done["start"]


def starts(worker: Gateway, documents: list[dict[str, Any]]) -> None:
    compiler, newcomers = Compiler(trusted_endpoints=False), Newcomers()
    for kind in ("Service", "EndpointSlice"):
        listed = [narrow(kind)(document) for document in documents if document["kind"] == kind]
        sights = Sights(kind)
        changes = sights.listed(listed)
        sights.missed(listed)
        for change in changes:
            assert change.object is not None
            if kind == "Service":
                assert not wishes(change.key, change.object)
                newcomers.holds(change, is_new=False)
            else:
                newcomers.hear(change)
            compiler.apply(change)
    snapshot = compiler.compile(NOW)
    for frame in Parcel(snapshot.certificates, snapshot.table).frames:
        match decode_for_worker(frame):
            case TablePart(part):
                worker.publish(part)
            case _:
                pass


def test_each_app_of_a_start_costs_the_same_and_no_more_than_it_did() -> None:
    work_of(0, 10)  # what is done once is done
    few, some, many = (work_of(first, count) for first, count in ((1_000, 50), (2_000, 100), (3_000, 300)))
    each = (many - some) / 200

    assert abs(each - (some - few) / 50) <= each * NEARLY, "an app of many costs more than one of few"
    if sys.version_info < (3, 12):  # others have other instructions
        assert each <= EACH, "a start has become dearer"
