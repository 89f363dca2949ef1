"""The operator's figures, or shares of what there is."""

from __future__ import annotations

import pytest

from drycc_proxy.routing.definitions import Edge
from drycc_proxy.upstreams.limits import Limits


@pytest.mark.parametrize(
    ("descriptors", "requests", "idle"), [(256, 76, 64), (20_000, 6000, 5000), (1 << 20, 10_000, 1 << 18), (1, 1, 1)]
)
def test_shares_of_the_descriptors(descriptors: int, requests: int, idle: int) -> None:
    limits = Limits(Edge(), descriptors)
    assert (limits.requests, limits.idle) == (requests, idle)
    assert (limits.queue, limits.queue_seconds, limits.idle_seconds) == (100, 1.0, 60.0)


def test_what_the_operator_says() -> None:
    limits = Limits(Edge(), 1000)
    limits.configure(
        Edge(app_requests=7, app_queue=8, app_queue_timeout=0.5, upstream_idle=9, upstream_idle_timeout=4.0), 1000
    )
    assert (limits.requests, limits.queue, limits.queue_seconds, limits.idle, limits.idle_seconds) == (7, 8, 0.5, 9, 4)
