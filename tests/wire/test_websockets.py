"""WebSockets through the router: a real client and a real server find nothing between them, in clear and over TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.frames import CloseCode
from websockets.typing import Subprotocol

from drycc_proxy.routing.definitions import Address
from drycc_tls.certificate import Certificate
from drycc_tls.secret import read_pair
from examples.authority import Authority
from tests.fakes.handshakes import trusting
from tests.fakes.wired import HOST, Reached, installed, on_loop, wired

AUTHORITY = Authority()
CHAT = Subprotocol("chat")
BIG = 3 * 2**20
GOODBYE = "close 4001"


@pytest.fixture
def pair() -> Certificate:
    return read_pair(AUTHORITY.issue("shop.example").secret_data())


async def echo(socket: ServerConnection) -> None:
    """An app that says what it hears, and goodbye when it is asked to."""
    async for message in socket:
        if message == GOODBYE:
            await socket.close(4001, "as you wish")
            return
        await socket.send(message)


@asynccontextmanager
async def app(**options: Any) -> AsyncIterator[Address]:
    server = await serve(echo, "127.0.0.1", 0, max_size=2 * BIG, subprotocols=[CHAT], **options)
    async with server:
        address: Address = next(iter(server.sockets)).getsockname()
        yield address


def client(router: Reached, tls: ssl.SSLContext | None, **options: Any) -> connect:
    """The client library, pointed at the router whatever the name in the URL."""
    scheme, port = ("wss", router.https) if tls else ("ws", router.http)
    return connect(
        f"{scheme}://shop.example/chat",
        host="127.0.0.1",
        port=port,
        ssl=tls,
        max_size=2 * BIG,
        proxy=None,
        subprotocols=[CHAT],
        **options,
    )


SECURE = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])


@SECURE
def test_a_conversation(pair: Certificate, secure: bool) -> None:
    async def story() -> None:
        tls = trusting(AUTHORITY) if secure else None
        async with app() as address, installed(at=address, pair=pair) as router, client(router, tls) as socket:
            assert socket.subprotocol == CHAT
            assert [each.name for each in socket.protocol.extensions] == ["permessage-deflate"]
            for message in ("", "hello", "é" * 100_000, b"", bytes(range(256)) * (BIG // 256)):
                await socket.send(message)
                assert await socket.recv() == message
            await socket.send(iter(["in ", "three ", "pieces"]))
            assert await socket.recv() == "in three pieces"
            await (await socket.ping(b"are you there?"))

    on_loop(story())


@SECURE
def test_goodbyes_of_either_side_reach_the_other_as_they_were_said(pair: Certificate, secure: bool) -> None:
    async def story() -> None:
        tls = trusting(AUTHORITY) if secure else None
        async with app() as address, installed(at=address, pair=pair) as router:
            async with client(router, tls) as socket:
                await socket.send(GOODBYE)
                with pytest.raises(ConnectionClosedError) as said:
                    await socket.recv()
                assert said.value.rcvd is not None
                assert (said.value.rcvd.code, said.value.rcvd.reason) == (4001, "as you wish")
            async with client(router, tls) as socket:
                await socket.close(CloseCode.NORMAL_CLOSURE)
                with pytest.raises(ConnectionClosedOK):
                    await socket.recv()

    on_loop(story())


def test_an_app_that_refuses_is_heard() -> None:
    async def story() -> None:
        async with app(origins=["https://shop.example"]) as address, installed(at=address) as router:
            with pytest.raises(InvalidStatus) as refused:
                await client(router, None, origin="https://elsewhere.example")
            assert refused.value.response.status_code == 403
            async with client(router, None, origin="https://shop.example") as socket:
                await socket.send("hello")
                assert await socket.recv() == "hello"

    on_loop(story())


def test_two_hundred_at_once_each_hear_their_own_words() -> None:
    async def story() -> None:
        async with app() as address, installed(at=address) as router:

            async def talk(number: int) -> None:
                socket: ClientConnection
                async with client(router, None, compression=None) as socket:
                    for turn in range(5):
                        await socket.send(f"{number} {turn}")
                        assert await socket.recv() == f"{number} {turn}"

            await asyncio.gather(*(talk(number) for number in range(200)))

    on_loop(story())


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An app that grants a tunnel and pours into it."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    poured.clear()
    while True:
        writer.write(bytes(64 * 1024))
        await writer.drain()
        poured.append(64 * 1024)


poured: list[int] = []
ASKING = b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def test_a_client_that_does_not_read_stops_the_app_and_reads_on_later() -> None:
    """Hardening W-03: what is in between stays bounded, whatever the app would like to send."""

    async def story() -> None:
        async with installed(endless) as router, router.caller() as caller:
            transport = caller.writer.transport
            await caller.asks(ASKING)
            await caller.head()
            transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads
            before = -1
            while len(poured) != before:  # until a whole round of everybody's turns moves nothing any more
                before = len(poured)
                for _ in range(200):
                    await asyncio.sleep(0)
            stuck = sum(poured)
            assert stuck < 16 * 2**20
            transport.resume_reading()  # type: ignore[attr-defined]  # as above
            await caller.reader.readexactly(stuck + 2**20)

    on_loop(story())


# ── what a direct connection would have heard: hardening W-09 ─────────────────────────────────────────────────────────
MASK = b"\x01\x02\x03\x04"


def frame(opcode: int, payload: bytes = b"", *, last: bool = True, reserved: int = 0, masked: bool = True) -> bytes:
    """One frame of a client (RFC 6455 5.2)."""
    head = bytes([(0x80 if last else 0) | reserved << 4 | opcode])
    size = len(payload)
    mark = 0x80 if masked else 0
    if size < 126:
        head += bytes([mark | size])
    elif size < 1 << 16:
        head += bytes([mark | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([mark | 127]) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))


def goodbye(code: int = 1000, reason: bytes = b"") -> bytes:
    return frame(8, code.to_bytes(2, "big") + reason)


TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
FRAMES: dict[str, bytes] = {
    **{f"text of {size}": frame(TEXT, size * b"a") for size in (0, 1, 125, 126, 127, 128, 65535, 65536)},
    "a mebibyte": frame(BINARY, bytes(range(256)) * 4096),
    "three pieces": frame(TEXT, b"a", last=False) + frame(0, b"b", last=False) + frame(0, b"c"),
    "a ping between pieces": frame(TEXT, b"a", last=False) + frame(PING, b"?") + frame(0, b"b"),
    "a thousand pieces": frame(TEXT, b"a", last=False) + 998 * frame(0, b"b", last=False) + frame(0, b"c"),
    "pings": frame(PING) + frame(PING, 125 * b"p") + frame(PONG, b"unasked"),
    "a ping that is too long": frame(PING, 126 * b"p"),
    "a ping in pieces": frame(PING, b"p", last=False),
    "letters of two bytes in two pieces": frame(TEXT, b"\xc3", last=False) + frame(0, b"\xa9"),
    "no text": frame(TEXT, b"\xff\xfe"),
    "half a letter": frame(TEXT, b"\xc3"),
    "bit 1": frame(TEXT, b"a", reserved=4),
    "bit 2": frame(TEXT, b"a", reserved=2),
    "bit 3": frame(TEXT, b"a", reserved=1),
    "no mask": frame(TEXT, b"a", masked=False),
    "a continuation of nothing": frame(0, b"a"),
    "two beginnings": frame(TEXT, b"a", last=False) + frame(TEXT, b"b"),
    "a length with its first bit": bytes([0x82, 0xFF, 0x80]) + bytes(7) + MASK,
    **{f"opcode {opcode}": frame(opcode, b"a") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    **{
        f"goodbye {code}": goodbye(code, b"because")
        for code in (0, 999, *range(1000, 1012), 1015, 2999, 3000, 4999)
    },
    "a goodbye of nothing": frame(CLOSE),
    "a goodbye of a byte": frame(CLOSE, b"\x03"),
    "a goodbye that is no text": goodbye(1000, b"\xff"),
    "a goodbye of 125 bytes": goodbye(1000, 123 * b"x"),
    "a goodbye that is too long": goodbye(1000, 124 * b"x"),
    "words after goodbye": goodbye() + frame(TEXT, b"still here"),
    "another protocol": b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n",
}  # fmt: skip
HANDSHAKE = (
    b"GET /chat HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: chat\r\n\r\n"
)


async def heard_of(port: int, frames: bytes, piece: int) -> bytes:
    """All that comes back behind the handshake until the app has said goodbye; ``piece``: bytes of each write."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
    try:
        writer.write(HANDSHAKE)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        for at in range(0, len(frames), piece):
            writer.write(frames[at : at + piece])
            await writer.drain()
        return await reader.read()
    except ConnectionResetError:
        return b"reset"
    finally:
        writer.transport.abort()


def test_sixty_conversations_sound_as_over_a_direct_connection() -> None:
    """Good frames and bad ones: the router is neither heard nor missed. Each ends in a goodbye, if not before."""

    async def story() -> None:
        # Not the program: what a server says to a frame and a goodbye that come at once depends on how they arrive, and
        # on one loop they arrive through the router as they do without it.
        async with wired(alone="compares with a direct connection on one loop") as router, app() as address:
            router.publish(address)
            for name, frames in FRAMES.items():
                said = frames + goodbye(1000, b"done")
                direct = await heard_of(address[1], said, len(said))
                assert direct, name
                assert await heard_of(router.http, said, len(said)) == direct, name
                if len(said) < 2000:
                    assert await heard_of(router.http, said, 1) == direct, name

    assert len(FRAMES) == 60
    on_loop(story())
