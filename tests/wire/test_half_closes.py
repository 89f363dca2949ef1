"""Who says its last word, when, and what becomes of it: every cell of ``docs/half-closes.md`` but those of TCP streams
(``tests/wire/test_streams.py``), byte for byte."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from drycc_tls.secret import read_pair
from examples.authority import Authority
from tests.fakes.handshakes import trusting
from tests.fakes.wired import HOST, Standing, on_loop, standing

AUTHORITY = Authority()
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
UPGRADE = b"GET / HTTP/1.1\r\n" + HOST + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"
GRANT = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n"


class Client:
    """A client that can end its side and go on reading; over TLS it says so with a close_notify, and no FIN."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tls: ssl.SSLContext | None) -> None:
        self._reader = reader
        self._writer = writer
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = None if tls is None else tls.wrap_bio(self._in, self._out, server_hostname="shop.example")

    async def _until_it_can(self, what: Callable[[], bytes | None]) -> bytes | None:
        while True:
            try:
                return what()
            except ssl.SSLWantReadError:
                self._flush()
                data = await self._reader.read(65536)
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
            finally:
                self._flush()

    def _flush(self) -> None:
        if self._out.pending:
            self._writer.write(self._out.read())

    async def begins(self) -> None:
        if self._tls is not None:
            await self._until_it_can(self._tls.do_handshake)

    def says(self, data: bytes) -> None:
        if self._tls is None:
            self._writer.write(data)
        else:
            self._tls.write(data)
            self._flush()

    def ends(self) -> None:
        if self._tls is None:
            self._writer.write_eof()
            return
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass  # the router has not said goodbye yet
        self._flush()

    async def hears(self, length: int) -> bytes:
        heard = b""
        while len(heard) < length:
            heard += await self._some()
        return heard

    async def _some(self) -> bytes:
        if self._tls is None:
            return await self._reader.read(65536)
        tls = self._tls
        return await self._until_it_can(lambda: tls.read(65536)) or b""

    async def hears_the_rest(self) -> bytes:
        """To the end. Raises ConnectionResetError, or ssl.SSLError for an end without a close_notify."""
        heard = b""
        while True:
            try:
                data = await self._some()
            except ssl.SSLZeroReturnError:
                return heard
            if not data:
                return heard
            heard += data


class App:
    """One connection of an app, which does what the test says."""

    def __init__(self, listening: socket.socket) -> None:
        self.listening = listening
        self.listening.setblocking(False)
        self._sock = self.listening
        self._socks = [self.listening]

    async def is_called(self) -> None:
        self._sock, _ = await asyncio.get_running_loop().sock_accept(self.listening)
        self._sock.setblocking(False)
        self._socks.append(self._sock)

    async def hears(self, end: bytes) -> bytes:
        heard = b""
        while not heard.endswith(end):
            heard += await asyncio.get_running_loop().sock_recv(self._sock, 65536)
        return heard

    async def hears_the_end(self) -> bytes:
        heard = b""
        while data := await asyncio.get_running_loop().sock_recv(self._sock, 65536):
            heard += data
        return heard

    async def says(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    def ends(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for sock in self._socks:
            sock.close()


@pytest.fixture(scope="module")
def program() -> Iterator[Standing]:
    with standing(pair=read_pair(AUTHORITY.issue("shop.example").secret_data())) as running:
        yield running


@asynccontextmanager
async def between(router: Standing, tls: bool, request: bytes) -> AsyncIterator[tuple[Client, App]]:
    """A client that has asked and an app that has heard it."""
    app = App(router.socket_of_the_app())
    reader, writer = await asyncio.open_connection("127.0.0.1", router.https if tls else router.http)
    client = Client(reader, writer, trusting(AUTHORITY) if tls else None)
    try:
        await client.begins()
        client.says(request)
        await app.is_called()
        await app.hears(b"\r\n\r\n")
        yield client, app
    finally:
        app.close()
        writer.transport.abort()


async def client_before(client: Client, app: App, router: Standing) -> None:
    client.ends()
    await app.says(HEAD + b"complete")
    heard = await client.hears_the_rest()
    assert heard.startswith(b"HTTP/1.1 200 OK\r\n")
    assert heard.endswith(b"\r\n\r\ncomplete")


async def client_mid(client: Client, app: App, router: Standing) -> None:
    await app.says(HEAD + b"comp")
    heard = await client.hears(100)
    client.ends()
    await app.says(b"lete")
    heard += await client.hears_the_rest()
    assert heard.endswith(b"\r\n\r\ncomplete")


async def client_after(client: Client, app: App, router: Standing) -> None:
    await app.says(HEAD + b"complete")
    heard = await client.hears(100)
    client.ends()
    assert (heard + await client.hears_the_rest()).endswith(b"\r\n\r\ncomplete")
    await router.until_metric('router_upstream_connections{state="idle"}', 1)  # nothing to the app


async def app_before(client: Client, app: App, router: Standing) -> None:
    app.ends()
    heard = await client.hears(200)
    assert heard.startswith(b"HTTP/1.1 502 ")
    assert b"X-Router-Error: upstream_reset\r\n" in heard
    assert await app.hears_the_end() == b""


async def app_mid(client: Client, app: App, router: Standing) -> None:
    await app.says(HEAD + b"comp")
    heard = await client.hears(100)
    app.ends()
    with pytest.raises((ConnectionResetError, ssl.SSLError)):
        heard += await client.hears_the_rest()
    assert heard.endswith(b"\r\n\r\ncomp")


async def app_after(client: Client, app: App, router: Standing) -> None:
    await app.says(HEAD + b"complete")
    heard = await client.hears(100)
    app.ends()
    await router.until_metric('router_upstream_connections{state="open"}', 0)
    assert heard.endswith(b"\r\n\r\ncomplete")
    client.says(GET)  # the client's connection is none the worse
    await app.is_called()
    await app.hears(b"\r\n\r\n")
    await app.says(HEAD + b"the next")
    assert (await client.hears(100)).endswith(b"the next")


async def tunnel_client_before(client: Client, app: App, router: Standing) -> None:
    client.ends()
    await app.says(GRANT + b"frames")
    assert await app.hears_the_end() == b""
    await app.says(b" more")
    app.ends()
    assert (await client.hears_the_rest()).endswith(b"\r\n\r\nframes more")


async def tunnel_client_mid(client: Client, app: App, router: Standing) -> None:
    await app.says(GRANT)
    await client.hears(50)
    client.says(b"last words")
    client.ends()
    assert await app.hears_the_end() == b"last words"
    await app.says(b"heard")
    assert await client.hears(5) == b"heard"


async def tunnel_client_after(client: Client, app: App, router: Standing) -> None:
    before = await router.metric('router_websocket_closed_total{reason="app_closed"}')
    await app.says(GRANT)
    await client.hears(50)
    app.ends()
    assert await client.hears_the_rest() == b""
    client.says(b"last words")
    client.ends()
    assert await app.hears_the_end() == b"last words"
    await router.until_metric('router_websocket_closed_total{reason="app_closed"}', before + 1)
    assert await router.metric("router_websocket_open") == 0


async def tunnel_app_mid(client: Client, app: App, router: Standing) -> None:
    await app.says(GRANT + b"bye")
    app.ends()
    assert (await client.hears_the_rest()).endswith(b"\r\n\r\nbye")
    client.says(b"heard")
    assert await app.hears(b"heard") == b"heard"


async def tunnel_app_after(client: Client, app: App, router: Standing) -> None:
    before = await router.metric('router_websocket_closed_total{reason="client_closed"}')
    await app.says(GRANT)
    await client.hears(50)
    client.ends()
    assert await app.hears_the_end() == b""
    await app.says(b"last words")
    app.ends()
    assert await client.hears_the_rest() == b"last words"
    await router.until_metric('router_websocket_closed_total{reason="client_closed"}', before + 1)
    assert await router.metric("router_websocket_open") == 0


Cell = Callable[[Client, App, Standing], Awaitable[None]]
ANSWERS: dict[tuple[str, str], Cell] = {
    ("client", "before"): client_before,
    ("client", "in the middle"): client_mid,
    ("client", "after"): client_after,
    ("app", "before"): app_before,
    ("app", "in the middle"): app_mid,
    ("app", "after"): app_after,
}
TUNNELS: dict[tuple[str, str], Cell] = {
    ("client", "before"): tunnel_client_before,
    ("client", "in the middle"): tunnel_client_mid,
    ("client", "after"): tunnel_client_after,
    ("app", "before"): app_before,  # there is no tunnel yet
    ("app", "in the middle"): tunnel_app_mid,
    ("app", "after"): tunnel_app_after,
}


def told(program: Standing, cell: Cell, tls: bool, request: bytes) -> None:
    async def story() -> None:
        async with between(program, tls, request) as (client, app):
            await cell(client, app, program)

    on_loop(story())


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("cell", ANSWERS.values(), ids=[" ".join(cell) for cell in ANSWERS])
def test_an_answer(program: Standing, cell: Cell, tls: bool) -> None:
    told(program, cell, tls, GET)


@pytest.mark.parametrize("cell", TUNNELS.values(), ids=[" ".join(cell) for cell in TUNNELS])
def test_a_tunnel(program: Standing, cell: Cell) -> None:
    told(program, cell, False, UPGRADE)


def test_the_page_has_every_cell() -> None:
    page = (Path(__file__).parents[2] / "docs" / "half-closes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (client|app) \| (\w[\w ]*) \|((?:[^|\n]+\|){4})$", page, re.MULTILINE)
    assert {(who, when) for who, when, _ in rows} == ANSWERS.keys() == TUNNELS.keys()
    assert len(rows) == 6
