"""The operator's port, asked over HTTP, on the loop that serves traffic."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import aiohttp
import pytest
import uvloop

from drycc_proxy.metrics import Counters
from drycc_proxy.routing.definitions import TableChange
from drycc_router.admin.health import Health
from drycc_router.admin.metrics import RouterMetrics
from drycc_router.admin.server import AdminServer
from drycc_router.compile.compiler import Compiler
from drycc_router.publish.publisher import Publisher
from drycc_router.publish.reconcile import Reconciler
from drycc_tls.self_signed import self_signed
from drycc_tls.store import CertificateStore

Ask = Callable[[str], Awaitable[tuple[int, str, str]]]
"""Path → status, content type, body."""


class NoGateway:
    def publish(self, change: TableChange) -> None:
        raise AssertionError("nothing is published here")


async def upstreams() -> list[object]:
    return [{"route": "shop/web"}]


def idle_reconciler() -> Reconciler:
    store = CertificateStore(self_signed(datetime(2026, 1, 1, tzinfo=UTC)))
    return Reconciler(Compiler(trusted_endpoints=True), Publisher(store, NoGateway()))


def play(story: Callable[[Ask, Health, Reconciler], Awaitable[None]], bind: str = "127.0.0.1") -> None:
    async def stage() -> None:
        health, counters = Health(), Counters()
        reconciler = idle_reconciler()
        metrics = RouterMetrics(lambda: counters, reconciler, "1.2.3")
        ports: dict[str, int | None] = {"http": 1, "https": 2, "git": None}
        server = AdminServer(health, reconciler, metrics.page, upstreams, ports)
        ports["admin"] = await server.listen(bind, 0)
        try:
            async with (
                asyncio.timeout(20),
                aiohttp.ClientSession(f"http://127.0.0.1:{ports['admin']}") as client,
            ):

                async def ask(path: str) -> tuple[int, str, str]:
                    async with client.get(path) as answer:
                        return answer.status, answer.content_type, await answer.text()

                await story(ask, health, reconciler)
        finally:
            await server.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(stage())


def test_liveness_asks_for_nothing_but_an_answer() -> None:
    async def story(ask: Ask, health: Health, _: Reconciler) -> None:
        assert await ask("/healthz") == (200, "text/plain", "ok\n")
        health.drain()
        assert (await ask("/healthz"))[0] == 200

    play(story)


def test_work_is_done_beforehand_for_as_long_as_the_port_is_served() -> None:
    async def stage() -> None:
        reconciler = idle_reconciler()
        server = AdminServer(Health(), reconciler, RouterMetrics(Counters, reconciler, "1").page, upstreams, {})
        await server.listen("127.0.0.1", 0)
        by: list[str] = []
        await server.prepare(lambda: by.append(threading.current_thread().name))
        await server.close()
        await server.prepare(lambda: by.append("after the end"))
        assert [name.rpartition("_")[0] for name in by] == ["metrics"]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(stage())


def test_readiness_says_why_not() -> None:
    async def story(ask: Ask, health: Health, _: Reconciler) -> None:
        assert await ask("/readyz") == (503, "text/plain", "the first table is not published yet\n")
        health.serve()
        assert await ask("/readyz") == (200, "text/plain", "ok\n")
        health.drain()
        assert await ask("/readyz") == (503, "text/plain", "draining\n")

    play(story)


def test_metrics_in_the_format_that_is_asked_for() -> None:
    async def story(ask: Ask, _: Health, __: Reconciler) -> None:
        status, content_type, body = await ask("/metrics")
        assert (status, content_type) == (200, "text/plain")
        assert "# TYPE router_requests_in_flight gauge" in body

    play(story)


def test_reports_are_json_before_and_after_the_first_snapshot() -> None:
    async def story(ask: Ask, health: Health, reconciler: Reconciler) -> None:
        for _ in range(2):
            for path in ("/routes", "/problems", "/certificates"):
                status, content_type, body = await ask(path)
                assert (status, content_type) == (200, "application/json")
                assert path[1:] in json.loads(body)
            reconciler.snapshot = Compiler(trusted_endpoints=True).compile(datetime(2026, 1, 1, tzinfo=UTC))
        report = json.loads((await ask("/routes"))[2])
        assert report["ports"].keys() == {"http", "https", "git", "admin"}
        assert report["upstreams"] == [{"route": "shop/web"}]

    play(story)


def test_who_has_just_connected_is_answered_by_a_server_that_closes() -> None:
    async def story() -> None:
        health, reconciler = Health(), idle_reconciler()
        server = AdminServer(health, reconciler, RouterMetrics(Counters, reconciler, "1.2.3").page, upstreams, {})
        port = await server.listen("127.0.0.1", 0)
        silent, sender = await asyncio.open_connection("127.0.0.1", port)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            assert (await client.get("/healthz")).status == 200  # connected later, so the other one is accepted too
        closing = asyncio.create_task(server.close())
        await asyncio.sleep(0)  # it has begun
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        sender.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        said = await silent.read()
        assert said.startswith(b"HTTP/1.1 200 OK\r\n") and b"Connection: close\r\n" in said
        sender.close()
        await closing

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(story(), 20))


def test_there_is_nothing_else() -> None:
    async def story(ask: Ask, _: Health, __: Reconciler) -> None:
        assert (await ask("/"))[0] == 404

    play(story)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_every_address_means_ipv4_too() -> None:
    async def story(ask: Ask, _: Health, __: Reconciler) -> None:
        assert (await ask("/healthz"))[0] == 200  # the client asks 127.0.0.1

    play(story, bind="::")


def test_a_port_that_is_taken_is_named() -> None:
    async def story(server: AdminServer, port: int) -> None:
        with pytest.raises(OSError, match=str(port)):
            await server.listen("127.0.0.1", port)
        await server.close()

    reconciler = idle_reconciler()
    metrics = RouterMetrics(Counters, reconciler, "1.2.3").page
    with socket.create_server(("127.0.0.1", 0)) as taken:
        asyncio.run(story(AdminServer(Health(), reconciler, metrics, upstreams, {}), taken.getsockname()[1]))
