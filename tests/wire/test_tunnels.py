"""Tunnels over real sockets: what they hold, how they end, what they leave behind (hardening 2.5)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from drycc_proxy.http1.downstream import Http1Downstream
from drycc_tls.secret import read_pair
from drycc_tls.self_signed import self_signed
from drycc_tls.sni import Front
from drycc_tls.store import CertificateStore
from drycc_tls.update import CertificateChange
from examples.authority import Authority
from tests.fakes.handshakes import trusting
from tests.fakes.process import open_files as files_of
from tests.fakes.wired import HOST, Standing, Wired, on_loop, standing, wired

AUTHORITY = Authority()
ASKING = b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
GRANTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
KIB = 1024


@pytest.fixture(scope="module")
def front() -> Front:
    store = CertificateStore(self_signed(datetime.now(UTC)))
    pair = read_pair(AUTHORITY.issue("shop.example").secret_data())
    store.swap(store.prepare(CertificateChange(1, {"shop": pair}, names={"shop.example": "shop"})))
    return Front(store)


@pytest.fixture(scope="module")
def program() -> Iterator[Standing]:
    with standing(pair=read_pair(AUTHORITY.issue("shop.example").secret_data())) as running:
        yield running


class Secure:
    """A client that speaks TLS through memory, so that it can say goodbye and still listen."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: ssl.TLSVersion) -> None:
        self._reader = reader
        self._writer = writer
        self._inside, self._outside = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = context.maximum_version = version
        self._tls = context.wrap_bio(self._inside, self._outside, server_hostname="shop.example")

    async def _does(self, act: Callable[[], bytes | int | None]) -> bytes | int | None:
        while True:
            try:
                done = act()
                self._writer.write(self._outside.read())
            except ssl.SSLWantReadError:
                self._writer.write(self._outside.read())
                data = await self._reader.read(64 * KIB)
                self._inside.write(data) if data else self._inside.write_eof()
            else:
                return done

    async def greets(self) -> None:
        await self._does(self._tls.do_handshake)

    async def says(self, data: bytes) -> None:
        await self._does(lambda: self._tls.write(data))

    async def hears(self, end: bytes) -> bytes:
        """What comes until this end of it."""
        heard = b""
        while not heard.endswith(end):
            piece = await self._does(lambda: self._tls.read(64 * KIB))
            assert isinstance(piece, bytes) and piece, f"it ended after {heard!r}"
            heard += piece
        return heard

    async def hears_the_end(self) -> None:
        try:
            assert await self._does(lambda: self._tls.read(1)) == b""
        except ssl.SSLZeroReturnError:
            pass  # the same, once it has said goodbye itself

    def says_goodbye(self) -> None:
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self._writer.write(self._outside.read())


# ── how they end: hardening W-06, R-41 ────────────────────────────────────────────────────────────────────────────────
class LastWords:
    """An app that grants a tunnel, ends its side first or last, and remembers what it heard."""

    def __init__(self, first: bool) -> None:
        self._first = first
        self.heard = b""
        self.done = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(GRANTED)
        if self._first:
            writer.write(b"bye")
            writer.write_eof()
        self.heard = await reader.read()
        if not self._first:
            writer.write(b"bye")
            writer.write_eof()
        self.done.set()


async def until(condition: Callable[[], bool]) -> None:
    """Until what the loop does by itself has come to this; the test's own bound ends it otherwise."""
    while not condition():  # noqa: ASYNC110 -- counters have no events
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("app_first", [True, False], ids=["app first", "client first"])
def test_half_a_tunnel_in_clear(program: Standing, app_first: bool) -> None:
    async def story() -> None:
        app = LastWords(app_first)
        closed = f'router_websocket_closed_total{{reason="{"app" if app_first else "client"}_closed"}}'
        before = await program.metric(closed)
        async with program.serves(app) as router, router.caller() as caller:
            await caller.asks(ASKING)
            await caller.head()
            if app_first:
                assert await caller.rest() == b"bye"
            await caller.asks(b"farewell")
            caller.writer.write_eof()
            await app.done.wait()
            assert app.heard == b"farewell"
            if not app_first:
                assert await caller.rest() == b"bye"
            await router.until_metric(closed, before + 1)

    on_loop(story())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("app_first", [True, False], ids=["app first", "client first"])
def test_half_a_tunnel_over_tls(program: Standing, app_first: bool, version: ssl.TLSVersion) -> None:
    async def story() -> None:
        app = LastWords(app_first)
        closed = f'router_websocket_closed_total{{reason="{"app" if app_first else "client"}_closed"}}'
        before = await program.metric(closed)
        async with program.serves(app) as router:
            reader, writer = await asyncio.open_connection("127.0.0.1", router.https)
            client = Secure(reader, writer, version)
            await client.greets()
            await client.says(ASKING)
            if app_first:
                await client.hears(b"\r\n\r\nbye")
                await client.hears_the_end()
            else:
                await client.hears(b"\r\n\r\n")
            await client.says(b"farewell")
            client.says_goodbye()
            await app.done.wait()
            assert app.heard == b"farewell"
            if not app_first:
                await client.hears(b"bye")
                await client.hears_the_end()
            await router.until_metric(closed, before + 1)
            writer.close()
            await writer.wait_closed()

    on_loop(story())


# ── what they hold: hardening W-03 ────────────────────────────────────────────────────────────────────────────────────
async def pours(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An app that grants a tunnel and pours into it."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(GRANTED)
    while True:
        writer.write(bytes(64 * KIB))
        await writer.drain()


async def listens_no_more(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An app that grants a tunnel and takes nothing from it."""
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads
    writer.write(GRANTED)
    await asyncio.Event().wait()


def held(router: Wired) -> int:
    """Bytes that the router itself keeps for both ends of its tunnels."""
    total = 0
    for connection in router.gateway._core.connections:
        assert isinstance(connection, Http1Downstream)
        total += connection._transport.get_write_buffer_size() + len(connection._buffer)
        exchange = connection._exchange
        if exchange is not None and exchange.app is not None:
            total += exchange.app._transport.get_write_buffer_size()  # type: ignore[attr-defined]  # HTTP/1.1's
    return total


async def settled(amount: Callable[[], int]) -> int:
    """What it comes to when nothing moves any more."""
    before = -1
    while (now := amount()) != before:
        before = now
        for _ in range(100):
            await asyncio.sleep(0.001)
    return now


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])
def test_a_client_that_reads_nothing_costs_at_most_256_kib(front: Front, secure: bool) -> None:
    async def story() -> int:
        tls = trusting(AUTHORITY) if secure else None
        async with (
            wired(pours, tls=front, alone="reads what its connections hold") as router,
            router.caller(tls) as caller,
        ):
            caller.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads
            await caller.asks(ASKING)
            await until(lambda: held(router) > 0)
            return await settled(lambda: held(router))

    assert 0 < on_loop(story()) <= 256 * KIB


def test_an_app_that_reads_nothing_costs_no_more_than_a_read_and_a_buffer() -> None:
    """A read is at most 250 KiB, and what is beyond 64 KiB stops the reading."""

    async def story() -> int:
        async with wired(listens_no_more, alone="reads what its connections hold") as router, router.caller() as caller:
            await caller.asks(ASKING)
            await caller.head()
            caller.writer.write(bytes(32 * KIB * KIB))
            await until(lambda: held(router) > 0)
            return await settled(lambda: held(router))

    assert 0 < on_loop(story()) <= (250 + 64) * KIB


# ── what they do to others: hardening W-05 ────────────────────────────────────────────────────────────────────────────
async def echoes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An app that answers requests, and says in tunnels what it hears."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"websocket" not in head:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            continue
        writer.write(GRANTED)
        while data := await reader.read(64 * KIB):
            writer.write(data)
            await writer.drain()
        return


def test_frames_of_a_byte_pass_untouched_while_others_are_served(program: Standing) -> None:
    """Ten tunnels send thousands of tiny frames; whoever asks meanwhile is answered between them."""

    async def story() -> None:
        async with program.serves(echoes) as router:
            served = 0
            stop = asyncio.Event()
            frame = b"\x81\x81\x00\x00\x00\x00a"

            async def flood() -> None:
                async with router.caller() as caller:
                    await caller.asks(ASKING)
                    await caller.head()
                    sent = 0
                    while not stop.is_set() or sent < 1000:
                        for _ in range(100):
                            caller.writer.write(frame)
                        sent += 100
                        assert await caller.reader.readexactly(100 * len(frame)) == 100 * frame
                    flooded.append(sent)

            async def ask() -> None:
                nonlocal served
                async with router.caller() as caller:
                    for _ in range(200):
                        await caller.asks(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
                        assert await caller.answer() == b"ok"
                        served += 1
                stop.set()

            flooded: list[int] = []
            await asyncio.gather(ask(), *(flood() for _ in range(10)))
            assert served == 200
            assert len(flooded) == 10 and min(flooded) >= 1000

    on_loop(story())


# ── what they leave behind: hardening W-07 ────────────────────────────────────────────────────────────────────────────
def open_files(router: Standing) -> int:
    """Of all workers."""
    workers = [pid for name, pid in router.router.children().items() if name.startswith("worker")]
    assert workers
    return sum(files_of(pid) for pid in workers)


CLOSED = 'router_websocket_closed_total{reason="client_closed"}'
GONE = 'router_websocket_closed_total{reason="client_gone"}'


@pytest.mark.parametrize("ending", ["reset", "end"])
def test_a_flood_of_upgrades_leaves_no_file_open(program: Standing, ending: str) -> None:
    async def story() -> None:
        async with program.serves(echoes) as router:

            async def comes_and_goes() -> None:
                async with router.caller() as caller:
                    await caller.asks(ASKING)
                    await caller.head()
                    if ending == "end":
                        caller.writer.write_eof()
                        assert await caller.rest() == b""

            async def is_over(tunnels: float) -> None:
                while await router.metric(CLOSED) + await router.metric(GONE) != tunnels:  # noqa: ASYNC110 -- figures have no events
                    await asyncio.sleep(0.01)
                await router.until_metric('router_upstream_connections{state="open"}', 0)
                await router.until_metric('router_open_connections{listener="http"}', 0)

            before = await router.metric(CLOSED) + await router.metric(GONE)
            await asyncio.gather(*(comes_and_goes() for _ in range(25)))  # both workers have opened what they keep open
            await is_over(before + 25)
            files = open_files(router)
            for _ in range(20):
                await asyncio.gather(*(comes_and_goes() for _ in range(25)))
            await is_over(before + 525)
            await until(lambda: open_files(router) <= files)
            assert await router.metric("router_requests_in_flight") == 0

    on_loop(story())


# ── what passes: hardening W-10 ───────────────────────────────────────────────────────────────────────────────────────
def test_the_handshakes_own_lines_pass_byte_for_byte(program: Standing) -> None:
    asked = [
        b"Origin:   https://shop.example  ",
        b"sec-websocket-KEY:dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Protocol: chat,  superchat",
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x;y=\"1\"",
    ]  # fmt: skip
    told = [
        b"sec-websocket-ACCEPT:   s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        b"Sec-WebSocket-Extensions: permessage-deflate",
        b"Sec-WebSocket-Protocol: chat",
    ]
    seen: list[bytes] = []

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n"))
        writer.write(GRANTED[:-2] + b"\r\n".join(told) + b"\r\n\r\n")
        await reader.read()

    async def story() -> list[bytes]:
        async with program.serves(app) as router, router.caller() as caller:
            await caller.asks(ASKING[:-2] + b"\r\n".join(asked) + b"\r\n\r\n")
            return (await caller.head()).split(b"\r\n")

    answered = on_loop(story())
    assert [line for line in seen if line in asked] == asked
    assert [line for line in answered if line in told] == told
