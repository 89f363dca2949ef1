"""A pool takes any connection that keeps the interface, and a protocol cannot leave part of it out."""

from __future__ import annotations

import pytest

from drycc_proxy.http1.upstream import Http1Upstream
from drycc_proxy.kernel.clock import FAR
from drycc_proxy.upstreams.interfaces import PooledConnection
from tests.fakes.story import Story


def test_a_protocol_that_leaves_something_out_is_no_connection() -> None:
    class Half(PooledConnection):
        __slots__ = ()

        def close(self) -> None: ...

    with pytest.raises(TypeError, match="abstract"):
        Half(None, None)  # type: ignore[abstract, arg-type]  # that is what is tried


def test_http1_keeps_it_all_and_has_no_dictionary(story: Story) -> None:
    upstream = story.core.table.routes["shop/web"].upstream
    endpoint = next(iter(upstream._endpoints.values()))

    connection = Http1Upstream(upstream, endpoint, story.core.wheel)

    assert (connection.pool, connection.endpoint) == (upstream, endpoint)
    assert (connection.lent, connection.reused, connection.deadline, connection.slot) == (False, False, FAR, 0)
    assert not hasattr(connection, "__dict__")
