"""The scenarios of processes that come and go: on a very small scale, where nobody may fail."""

from __future__ import annotations

from typing import Any

import pytest
import uvloop

from benchmarks import lives


def played(name: str, share: float) -> dict[str, Any]:
    return uvloop.run(lives.run(name, share))


@pytest.mark.parametrize("name", ["kills", "upgrades"])
def test_no_new_connection_fails(name: str) -> None:
    result = played(name, 0.03)
    assert result["failed"] == 0, result
    assert result["connections"] > 100
    assert result["p99_ms"] <= result["max_ms"]


def test_a_connection_that_is_refused_is_a_failure() -> None:
    async def story() -> None:
        left = iter(range(3))
        outcomes, latencies = await lives.newcomers(1, 100.0, lambda: next(left, None) is None)
        assert outcomes == {"ConnectionRefusedError": 3}
        assert len(latencies) == 3

    uvloop.run(story())
