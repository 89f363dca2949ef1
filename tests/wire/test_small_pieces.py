"""The smallest pieces through the program, with its own loop and real sockets: all of them arrive, in their order.

What each step costs is counted in ``tests/fuzz/test_steps.py``; here reading is stopped and taken up again for real.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.fakes.hellos import record
from tests.fakes.process import SOON, Router, manifest, router

BODY = bytes(b"abcdefghijklmnopqrstuvwxyz"[number * number % 26] for number in range(60_000))
HEAD = b"POST / HTTP/1.1\r\nHost: web.localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"


def in_chunks(body: bytes) -> bytes:
    """In chunks of one byte."""
    return b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"


def joined(chunked: bytes) -> bytes:
    """The payload of a whole chunked body."""
    payload, at = b"", 0
    while match := re.compile(rb"([0-9a-f]+)\r\n").match(chunked, at):
        size = int(match[1], 16)
        payload += chunked[match.end() : match.end() + size]
        at = match.end() + size + 2
        if not size:
            assert at == len(chunked), "something follows the body"
            return payload
    raise AssertionError("the body does not end")


class Echo:
    """An app that reads a body and says it again, in chunks of one byte."""

    def __init__(self) -> None:
        self.port = 0
        self.heard: list[bytes] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if length is not None:
            body = await reader.readexactly(int(length[1]))
        else:
            chunked = b""
            while not chunked.endswith(b"\r\n0\r\n\r\n"):
                chunked += await reader.read(65536)
            body = joined(chunked)
        self.heard.append(body)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + in_chunks(body))
        await writer.drain()
        writer.close()


@contextlib.contextmanager
def echo() -> Iterator[Echo]:
    app, loop, ready, over = Echo(), asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with await asyncio.start_server(app.answer, "127.0.0.1", 0) as server:
            app.port = server.sockets[0].getsockname()[1]
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(SOON)
    try:
        yield app
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(SOON)
        loop.close()


def everything(client: socket.socket) -> bytes:
    got = b""
    while data := client.recv(65536):
        got += data
    return got


def in_clear(held: Router, app: Echo) -> None:
    with socket.create_connection(("127.0.0.1", held.ports["http"]), SOON) as client:
        sender = threading.Thread(target=client.sendall, args=(HEAD + in_chunks(BODY),))
        sender.start()
        got = everything(client)
        sender.join(SOON)
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert joined(body) == BODY
    assert app.heard == [BODY]


def test_chunks_of_one_byte_in_requests_and_in_answers(tmp_path: Path) -> None:
    with echo() as app:
        (tmp_path / "web.yaml").write_text(manifest("shop/web", app))  # type: ignore[arg-type]  # has a port
        with router(tmp_path) as held:
            in_clear(held, app)


def test_records_of_one_byte_from_the_hello_on(tmp_path: Path) -> None:
    body = BODY[:3000]
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # and no list of protocols
    with echo() as app:
        (tmp_path / "web.yaml").write_text(manifest("shop/web", app))  # type: ignore[arg-type]  # has a port
        with (
            router(tmp_path) as held,
            socket.create_connection(("127.0.0.1", held.ports["https"]), SOON) as client,
        ):
            inside, outside = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(inside, outside, server_hostname="web.localhost")
            first = True
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    said = outside.read()
                    client.sendall(record(said[5:], 1) if first else said)
                    first = False
                    inside.write(client.recv(65536))
            for byte in HEAD + in_chunks(body):
                tls.write(bytes([byte]))
            client.sendall(outside.read())
            got = b""
            while not got.endswith(b"\r\n0\r\n\r\n"):
                try:
                    got += tls.read(65536)
                except ssl.SSLWantReadError:
                    inside.write(client.recv(65536))
    assert joined(got.partition(b"\r\n\r\n")[2]) == body
    assert app.heard == [body]
