"""Real bodies over real sockets: every byte arrives, and a slow reader holds the app back, not the router's memory."""

from __future__ import annotations

import asyncio
import hashlib
import random

import pytest

from drycc_proxy.http1.downstream import Http1Downstream
from tests.fakes.wired import HOST, Caller, Handler, head_of, installed, on_loop, wired

MIB = 1024 * 1024
BODY = random.Random(7).randbytes(20 * MIB)
DIGEST = hashlib.sha256(BODY).hexdigest().encode()


async def read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """The body of a message, by either framing."""
    fields = head_of(head)
    if b"content-length" in fields:
        return await reader.readexactly(int(fields[b"content-length"]))
    body = bytearray()
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        assert await reader.readexactly(2) == b"\r\n"
    assert await reader.readline() == b"\r\n"
    return bytes(body)


async def digests(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An app that answers with the digest of what it was sent."""
    while True:
        body = await read_body(reader, await reader.readuntil(b"\r\n\r\n"))
        answer = hashlib.sha256(body).hexdigest().encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))
        await writer.drain()


def sends(framing: str) -> Handler:
    """An app that sends the great body."""

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if framing == "length":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        elif framing == "chunked":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for at in range(0, len(BODY), 100_000):
            piece = BODY[at : at + 100_000]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunked" else piece)
            await writer.drain()
        if framing == "chunked":
            writer.write(b"0\r\n\r\n")
        await writer.drain()

    return app


async def uploads(caller: Caller, chunked: bool) -> bytes:
    if chunked:
        await caller.asks(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
        sizes = random.Random(8)
        at = 0
        while at < len(BODY):
            piece = BODY[at : at + sizes.randint(1, 300_000)]
            await caller.asks(b"%X;x=y\r\n%b\r\n" % (len(piece), piece))
            at += len(piece)
        await caller.asks(b"0\r\n\r\n")
    else:
        await caller.asks(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(BODY))
        await caller.asks(BODY)
    return await caller.answer()


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_twenty_mebibytes_up(chunked: bool) -> None:
    async def story() -> None:
        async with installed(digests) as router, router.caller() as caller:
            assert await uploads(caller, chunked) == DIGEST
            # and once more over the same connections
            await caller.asks(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc")
            assert await caller.answer() == hashlib.sha256(b"abc").hexdigest().encode()
            assert await router.metric("router_upstream_connects_total") == 1

    on_loop(story())


@pytest.mark.parametrize("framing", ["length", "chunked", "until close"])
def test_twenty_mebibytes_down(framing: str) -> None:
    async def story() -> None:
        async with installed(sends(framing)) as router, router.caller() as caller:
            await caller.asks(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
            body = await read_body(caller.reader, await caller.head())
            assert hashlib.sha256(body).hexdigest().encode() == DIGEST

    on_loop(story())


def test_twenty_mebibytes_to_a_client_of_1_0() -> None:
    async def story() -> None:
        async with installed(sends("chunked")) as router, router.caller() as caller:
            await caller.asks(b"GET / HTTP/1.0\r\n" + HOST + b"\r\n")
            await caller.head()
            assert hashlib.sha256(await caller.rest()).hexdigest().encode() == DIGEST

    on_loop(story())


def test_fifty_clients_at_once_each_get_their_own_bytes() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            body = await read_body(reader, await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()

    async def story() -> None:
        async with installed(echo, echo, echo) as router:

            async def client(number: int) -> None:
                dice = random.Random(number)
                async with router.caller() as caller:
                    for _ in range(5):
                        body = dice.randbytes(dice.randint(0, 200_000))
                        await caller.asks(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body))
                        await caller.asks(body)
                        assert await caller.answer() == body

            await asyncio.gather(*(client(number) for number in range(50)))
            labels = 'app="shop",code="200",method="POST",namespace="shop",protocol="http/1.1",service="shop"'
            assert await router.metric(f"router_requests_total{{{labels}}}") == 250
            assert await router.metric("router_requests_in_flight") == 0

    on_loop(story())


def test_a_client_that_does_not_read_holds_the_app_back() -> None:
    """An endless answer, a client that takes nothing: the app gets rid of no more than what sockets hold."""
    sent = 0
    full = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        piece = bytes(64 * 1024)
        while True:
            writer.write(piece)
            try:
                async with asyncio.timeout(1.0):
                    await writer.drain()
            except TimeoutError:
                full.set()
                await reader.read()
                return
            sent += len(piece)

    async def story() -> None:
        # Not the program: what is judged is how much one connection of the router holds, which no figure tells.
        async with wired(endless, alone="reads what the connection holds") as router, router.caller() as caller:
            await caller.asks(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
            await caller.head()
            caller.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads
            await full.wait()
            [connection] = router.gateway._core.connections
            assert isinstance(connection, Http1Downstream)
            held = connection._transport.get_write_buffer_size()
            assert held <= 512 * 1024  # hardening, gate 12
            assert sent < 32 * MIB

    on_loop(story())


def test_an_app_that_does_not_read_holds_the_client_back() -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads
        await asyncio.Event().wait()

    async def story() -> None:
        async with installed(deaf) as router, router.caller() as caller:
            await caller.asks(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 10000000000\r\n\r\n")
            sent = 0
            piece = bytes(64 * 1024)
            try:
                while True:
                    async with asyncio.timeout(1.0):
                        await caller.asks(piece)
                    sent += len(piece)
            except TimeoutError:
                pass
            assert sent < 32 * MIB
            assert await router.metric("router_requests_in_flight") == 1

    on_loop(story())
