"""The scenarios of failing apps: that they notice failures, and one of them on a small scale."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
import uvloop

from benchmarks import faults
from benchmarks.faults import Failed, Origin, ask, open_loop


def on_loop(story: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 503 Busy\r\nX-Router-Error: app_busy\r\nContent-Length: 2\r\n\r\nno", "503 app_busy"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", "200"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "500"),
    ],
)
def test_what_is_no_good_answer_is_a_failure(answer: bytes, why: str) -> None:
    async def story() -> None:
        origin = await Origin(answer).open()
        reader, writer = await asyncio.open_connection("127.0.0.1", origin.port)
        with pytest.raises(Failed, match=f"^{why}$"):
            await ask(reader, writer, "a.test", post=True)
        assert origin.asked == 1
        writer.close()
        origin.close()
        await asyncio.sleep(0)

    on_loop(story())


def test_half_an_answer_and_none_at_all_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "_PATIENCE", 0.05)

    async def story() -> None:
        for origin, why in (
            (Origin(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", then=faults._cut), "IncompleteReadError"),
            (Origin(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", then=faults._reset), "ConnectionResetError"),
            (Origin(b""), "timeout"),
        ):
            await origin.open()
            reader, writer = await asyncio.open_connection("127.0.0.1", origin.port)
            with pytest.raises(Failed, match=f"^{why}$"):
                await ask(reader, writer, "a.test")
            writer.close()
            origin.close()
        await asyncio.sleep(0)

    on_loop(story())


def test_an_app_closes_what_is_idle_and_the_open_loop_goes_on() -> None:
    async def story() -> None:
        origin = await Origin(idle=30.0).open()
        latencies, failures = await open_loop(origin.port, "a.test", 1000.0, lambda: origin.asked >= 50)
        assert len(latencies) >= 50
        assert failures.total() == 0
        origin.close()
        await asyncio.sleep(0)

    on_loop(story())


def test_clients_that_leave_on_a_small_scale() -> None:
    async def story() -> None:
        result = await faults.run("leaving", 0.02)
        assert (result["clients"], result["apps_told"]) == (20, 20)
        assert result["upstream_connections_left_over"] == 0

    on_loop(story())
