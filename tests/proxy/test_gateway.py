"""The one door, on real sockets: listen, publish, report, drain, close."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime
from typing import cast

import pytest

from drycc_proxy.gateway import Gateway
from drycc_proxy.kernel.sockets import bind
from drycc_proxy.routing.definitions import StreamRoute, TableChange
from drycc_tls.self_signed import self_signed
from drycc_tls.sni import Front
from drycc_tls.store import CertificateStore
from tests.fakes.handshakes import trusting
from tests.fakes.wired import HOST, on_loop, wired

GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"


async def greeter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An app that answers whatever it is asked."""
    while True:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


def test_port_zero_is_a_port_of_its_own_and_told() -> None:
    async def story() -> None:
        async with wired(greeter, alone="the test of this module") as served, served.caller() as caller:
            await caller.asks(GET)
            assert await caller.answer() == b"hello"

    on_loop(story())


def test_a_port_in_use_is_named() -> None:
    async def story() -> None:
        gateway = Gateway(asyncio.get_running_loop())
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {port}: Address already in use"):
                await gateway.listen("127.0.0.1", port, None)
        gateway.close()

    on_loop(story())


def test_https_without_tls_is_a_mistake_of_the_caller() -> None:
    async def story() -> None:
        gateway = Gateway(asyncio.get_running_loop())
        try:
            with pytest.raises(ValueError, match="needs tls"):
                await gateway.listen("127.0.0.1", 0, 0)
        finally:
            gateway.close()
        await asyncio.sleep(0)

    on_loop(story())


def test_two_gateways_accept_from_one_socket_and_the_other_goes_on_when_one_closes() -> None:
    async def story() -> None:
        plain = bind("127.0.0.1", 0)
        port = plain.getsockname()[1]
        gateways = [Gateway(asyncio.get_running_loop()) for _ in range(2)]
        try:
            for gateway in gateways:
                await gateway.accept(plain.dup(), None)
            plain.close()
            for gateway in gateways:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: nobody.example\r\n\r\n")
                assert b" 200 " in await asyncio.wait_for(reader.readline(), 5)
                writer.close()
                await writer.wait_closed()
                gateway.close()
                await asyncio.sleep(0)
        finally:
            for gateway in gateways:
                gateway.close()
        await asyncio.sleep(0)

    on_loop(story())


def test_an_empty_change_leaves_everything_as_it_is() -> None:
    async def story() -> None:
        async with wired(greeter, alone="the test of this module") as served:
            before = served.gateway.report()
            served.gateway.publish(TableChange(7))
            assert served.gateway.report() == before
            assert "table=7" in repr(served.gateway)

    on_loop(story())


def test_the_report_tells_endpoints_and_what_they_do() -> None:
    async def story() -> None:
        async with wired(greeter, alone="the test of this module") as served, served.caller() as caller:
            await caller.asks(GET)
            await caller.answer()
            (upstream,) = served.gateway.report()
            assert upstream["route"] == "shop/shop.example"
            (endpoint,) = cast(list[dict[str, object]], upstream["endpoints"])
            assert (endpoint["load"], endpoint["idle"]) == (0, 1)
            assert list(served.gateway.report_in_parts(1)) == [[upstream]]

    on_loop(story())


def test_draining_closes_what_is_idle_and_comes_to_an_end() -> None:
    async def story() -> None:
        async with wired(greeter, alone="the test of this module") as served, served.caller() as caller:
            await caller.asks(GET)
            await caller.answer()
            await served.gateway.drain(20.0)
            assert await caller.rest() == b""
            with pytest.raises(OSError):
                async with served.caller():
                    pass

    on_loop(story())


@pytest.mark.parametrize("port", ["http", "https"])
def test_when_memory_is_gone_new_connections_are_reset_and_old_ones_served(
    port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "drycc_proxy.state.server_state.Core._look_around", lambda core: None
    )  # which would find that there is memory

    async def story() -> None:
        front = Front(CertificateStore(self_signed(datetime.now(UTC))))
        tls = trusting(None) if port == "https" else None
        async with wired(greeter, tls=front, alone="the test of this module") as served, served.caller(tls) as old:
            core = served.gateway._core
            core.refusing = True
            with pytest.raises(ConnectionResetError):
                async with served.caller(tls) as new:
                    await new.head()
            assert served.gateway.counters.refused == 1
            await old.asks(GET)
            assert await old.answer() == b"hello"
            core.refusing = False
            async with served.caller(tls) as new:
                await new.asks(GET)
                assert await new.answer() == b"hello"

    on_loop(story())


def test_draining_waits_no_longer_than_it_is_told() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await asyncio.Event().wait()

    asked = asyncio.Event()

    async def story() -> None:
        async with wired(silent, alone="the test of this module") as served, served.caller() as caller:
            await caller.asks(GET)
            await asked.wait()
            await served.gateway.drain(0.05)
            assert "connections=1 draining" in repr(served.gateway)

    on_loop(story())


def test_a_port_for_streams_that_somebody_else_binds_is_open_as_soon_as_they_say_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No error of ours until then, and afterwards what they have bound last."""
    bound: list[socket.socket] = []

    def given(_: int) -> socket.socket:
        if not bound:
            raise BlockingIOError("it is in use")
        return bound[-1].dup()

    async def story() -> None:
        gateway = Gateway(asyncio.get_running_loop())

        def told() -> tuple[object, object]:
            [report] = gateway.report_streams()
            return report["port"], report["error"]

        try:
            await gateway.accept(bind("127.0.0.1", 0), None, given)
            gateway.publish(TableChange(1, streams={"tcp": StreamRoute("tcp", 5432, "db", "shop", "db")}))
            assert told() == (None, "it is in use")
            for _ in range(2):
                with bind("127.0.0.1", 0) as one:
                    bound.append(one)
                    gateway.rebind(2222)  # another one
                    assert told()[0] != one.getsockname()[1]
                    gateway.rebind(5432)
                    assert told() == (one.getsockname()[1], None)
            bound.clear()
            gateway.rebind(5432)
            assert told() == (None, "it is in use")
        finally:
            gateway.close()
        await asyncio.sleep(0)

    on_loop(story())
    assert caplog.records == []
