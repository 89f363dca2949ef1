"""A connection that there is no room for hears at once that it is refused."""

from __future__ import annotations

import asyncio

import pytest

from drycc_proxy.listeners.reject import Refusal
from drycc_proxy.metrics import Counters
from tests.fakes.wired import on_loop


def test_it_is_reset_and_counted() -> None:
    counters = Counters()

    async def story() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: Refusal(counters), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        for _ in range(3):
            with pytest.raises(ConnectionResetError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    await reader.readexactly(1)
                finally:
                    writer.close()
        server.close()

    on_loop(story())
    assert counters.refused == 3
