"""How connections end: half closed, cut off, refused, drained."""

from __future__ import annotations

import asyncio
import socket

import pytest

from drycc_proxy.gateway import Gateway
from tests.fakes.wired import HOST, Handler, installed, on_loop, wired

GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"


async def quick(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An app that answers each request with two bytes."""
    while True:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()


def cuts(beginning: bytes, *, reset: bool) -> Handler:
    """An app that breaks off after these bytes."""

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(beginning)
        await writer.drain()
        if reset:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    return app


def test_a_client_that_has_said_everything_gets_its_answer() -> None:
    async def story() -> None:
        async with installed(quick) as router, router.caller() as caller:
            await caller.asks(GET + GET)
            caller.writer.write_eof()
            answers = await caller.rest()
            assert answers.count(b"HTTP/1.1 200 OK\r\n") == 2
            assert answers.endswith(b"\r\n\r\nok")

    on_loop(story())


@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
@pytest.mark.parametrize(
    ("request_line", "beginning"),
    [
        (b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
        (b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        (b"GET / HTTP/1.0\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        (b"GET / HTTP/1.0\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
    ],
    ids=["length", "chunked", "chunked to 1.0", "length to 1.0"],
)
def test_half_an_answer_ends_in_a_reset(request_line: bytes, beginning: bytes, reset: bool) -> None:
    """Whatever the framing, no client can take it for the whole."""

    async def story() -> None:
        async with installed(cuts(beginning, reset=reset)) as router, router.caller() as caller:
            await caller.asks(request_line + HOST + b"\r\n")
            with pytest.raises(ConnectionResetError):
                await caller.rest()
                await caller.rest()  # where the beginning came alone

    on_loop(story())


def test_half_an_answer_until_close_that_is_reset_ends_in_a_reset() -> None:
    async def story() -> None:
        app = cuts(b"HTTP/1.1 200 OK\r\n\r\nhalf", reset=True)
        async with installed(app) as router, router.caller() as caller:
            await caller.asks(b"GET / HTTP/1.0\r\n" + HOST + b"\r\n")
            with pytest.raises(ConnectionResetError):
                await caller.rest()

    on_loop(story())


def test_an_endpoint_that_died_is_a_502_and_its_neighbour_serves() -> None:
    async def story() -> None:
        with socket.socket() as gone:
            gone.bind(("127.0.0.1", 0))  # bound, never listening: refused
            async with wired(quick, alone="publishes tables between two requests") as router:
                [endpoint] = router.gateway._core.table.routes["shop/shop.example"].definition.endpoints
                router.publish(gone.getsockname())
                async with router.caller() as caller:
                    await caller.asks(GET)
                    assert b"X-Router-Error: connect_failed\r\n" in await caller.head()
                router.publish(gone.getsockname(), endpoint)
                for _ in range(10):
                    async with router.caller() as caller:
                        await caller.asks(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n")
                        assert await caller.answer() == b"ok"

    on_loop(story())


def test_an_answer_with_goodbye_survives_bytes_that_nobody_reads() -> None:
    """A close with unread bytes would be a reset, and a reset may overtake the answer."""

    async def story() -> None:
        async with installed(quick, bodySize="10") as router, router.caller() as caller:
            await caller.asks(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000\r\n\r\n" + bytes(50_000))
            answer = await caller.rest()
            assert answer.startswith(b"HTTP/1.1 413 ")
            assert b"Connection: close\r\n" in answer
            assert answer.endswith(b"</html>\n")

    on_loop(story())


def test_draining_closes_what_is_idle_and_finishes_what_is_not() -> None:
    async def story() -> None:
        asked, go = asyncio.Event(), asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            await go.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
            await writer.drain()

        async with (
            wired(slow, alone="drains between two steps of the loop") as router,
            router.caller() as idle,
            router.caller() as busy,
        ):
            await busy.asks(GET)
            await asked.wait()
            drained = asyncio.ensure_future(router.gateway.drain(20.0))
            assert await idle.rest() == b""
            with pytest.raises(ConnectionRefusedError):
                async with router.caller():
                    pass
            assert not drained.done()
            go.set()
            answer = await busy.rest()
            assert b"Connection: close\r\n" in answer
            assert answer.endswith(b"\r\n\r\nlate")
            await drained
            assert router.gateway.counters.open_connections == {"http": 0, "https": 0}

    on_loop(story())


def test_draining_waits_no_longer_than_its_grace() -> None:
    async def story() -> None:
        asked = asyncio.Event()

        async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            await reader.read()

        async with wired(never, alone="drains between two steps of the loop") as router, router.caller() as busy:
            await busy.asks(GET)
            await asked.wait()
            await router.gateway.drain(0.2)
            router.gateway.close()
            with pytest.raises(ConnectionResetError):
                await busy.rest()

    on_loop(story())


def test_a_port_in_use_is_said_so_and_nothing_is_left_open() -> None:
    async def story() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            gateway = Gateway(asyncio.get_running_loop())
            with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {port}: Address already in use"):
                await gateway.listen("127.0.0.1", port, None)
            with pytest.raises(OSError, match=f"port {port}"):
                await gateway.listen("127.0.0.1", 0, port)
            gateway.close()

    on_loop(story())
