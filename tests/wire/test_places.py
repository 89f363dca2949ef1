"""The program under owners who hold what they can: others are served, and the operator hears what is going on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.process import SOON, Router, manifest, router, running, soon

FILES = 1000
GRANTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


class Sockets:
    """An app whose WebSockets say nothing."""

    def __init__(self) -> None:
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    async def _open(self) -> None:
        self._server = server = await asyncio.start_server(self._grant, "127.0.0.1", 0, backlog=4096)
        self.port = server.sockets[0].getsockname()[1]

    async def _grant(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(GRANTED)
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # let go, or the test is over
        writer.close()

    def __enter__(self) -> Sockets:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(SOON)
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            self._server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for each in others:
                each.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(SOON)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SOON)
        self._loop.close()


@contextlib.contextmanager
def holding() -> Iterator[list[socket.socket]]:
    """Connections that end with the test."""
    kept: list[socket.socket] = []
    try:
        yield kept
    finally:
        for each in kept:
            each.close()


def places_of(held: Router) -> int:
    """How many there are; known with the first tick."""
    soon(lambda: held.metric('router_connection_places{state="all"}') > 0)
    return int(held.metric('router_connection_places{state="all"}'))


def opened(held: Router, kept: list[socket.socket], host: str, most: int) -> tuple[int, bytes]:
    """Open so many WebSockets, or as many as are granted; how many were, and what the refused one was told."""
    asked = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode()
    for number in range(most):
        client = socket.create_connection(("127.0.0.1", held.ports["http"]), SOON)
        kept.append(client)
        client.sendall(asked)
        answer = client.recv(4096)
        if not answer.startswith(b"HTTP/1.1 101 "):
            return number, answer
    return most, b""


def test_idle_websockets_of_one_owner_leave_places_to_others(tmp_path: Path) -> None:
    """Two apps of one owner took every place, and nobody else was served. One worker: the places are one worker's."""
    with Sockets() as sockets, running("good") as good:
        for name in ("one", "two", "three"):
            (tmp_path / f"{name}.yaml").write_text(manifest(f"evil/{name}", sockets))  # type: ignore[arg-type]  # has a port
        (tmp_path / "web.yaml").write_text(manifest("good/web", good))
        with router(tmp_path, "--workers", "1", files=FILES) as held, holding() as kept:
            assert held.get() == (200, "good")
            places = places_of(held)
            granted = []
            for name in ("one", "two", "three"):
                count, refused = opened(held, kept, f"{name}.localhost", places)
                granted.append(count)
                assert b" 503 " in refused.split(b"\r\n")[0]
                assert b"X-Router-Error: " in refused
                assert [held.get() for _ in range(4)] == 4 * [(200, "good")]

            assert places / 6 < sum(granted) < places * 0.7
            assert sum(granted[1:]) < places / 20, "the namespace holds more than its share"
            soon(lambda: held.metric("router_connection_places_crowded") == 1)
            assert held.metric("router_websocket_open") == sum(granted)
            reasons = [
                line for line in held.admin("/metrics")[1].splitlines() if line.startswith("router_errors_total")
            ]
            assert any('reason="namespace_share"' in line for line in reasons)
            # Everybody comes from loopback, which nobody trusts: told, and no reason to refuse anybody.
            soon(lambda: "one_peer" in held.admin("/problems")[1])
            told = json.loads(held.admin("/problems")[1])
            assert [each["value"] for each in _all(told) if each.get("reason") == "one_peer"] == ["127.0.0.1"]
            assert held.metric("router_connections_over_share_total") == 0


def _all(report: object) -> Iterator[dict[str, object]]:
    """Every object of a report, wherever it stands in it."""
    if isinstance(report, dict):
        yield report
        for each in report.values():
            yield from _all(each)
    elif isinstance(report, list):
        for each in report:
            yield from _all(each)


def test_tunnels_that_are_idle_longest_make_room(tmp_path: Path) -> None:
    """Apps of many owners, none of which holds much: nobody stands out, and who comes finds a place all the same."""
    with Sockets() as sockets, running("good") as good:
        for number in range(9):
            (tmp_path / f"{number}.yaml").write_text(manifest(f"ns-{number}/app{number}", sockets))  # type: ignore[arg-type]  # has a port
        (tmp_path / "web.yaml").write_text(manifest("good/web", good))
        with router(tmp_path, "--workers", "1", files=400) as held, holding() as kept:
            assert held.get() == (200, "good")
            places = places_of(held)
            for number in range(9):
                opened(held, kept, f"app{number}.localhost", places // 10)
            soon(lambda: held.metric('router_websocket_closed_total{reason="tunnel_let_go"}') > 0)
            assert held.get() == (200, "good")
            with pytest.raises(ConnectionResetError):
                kept[0].recv(1)  # the oldest one went first
