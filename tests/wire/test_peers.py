"""Programs that everybody uses, on either side: curl as the client, nginx as the app."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import socket
from pathlib import Path

import pytest

from tests.fakes.wired import Reached, installed, on_loop
from tests.wire.test_bodies import read_body

pytestmark = pytest.mark.peer

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing: its side of HTTP is NOT tested")
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is missing: its side of HTTP is NOT tested")

SQUEEZED = gzip.compress(b"squeezed " * 1000)


async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says what it was asked: method, path and how much body; ``/gzip`` is compressed, ``/expect`` grants first."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, _ = head.split(b" ", 2)
        fields = head.lower()
        if b"expect: 100-continue" in fields:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b""
        if b"content-length" in fields or b"transfer-encoding" in fields:
            body = await read_body(reader, head)
        said = SQUEEZED if path == b"/gzip" else b"%b %b %d" % (method, path, len(body))
        extra = b"Content-Encoding: gzip\r\n" if path == b"/gzip" else b""
        writer.write(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n" % (extra, len(said)))
        if method != b"HEAD":
            writer.write(said)
        await writer.drain()


async def curl(router: Reached, *arguments: str, stdin: bytes = b"") -> bytes:
    """What curl prints."""
    resolve = ("--resolve", f"shop.example:{router.http}:127.0.0.1")
    process = await asyncio.create_subprocess_exec(
        "curl", "--silent", "--show-error", "--max-time", "20", "--noproxy", "*", *resolve,
        *(argument.replace("APP", f"http://shop.example:{router.http}") for argument in arguments),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate(stdin)
    assert process.returncode == 0, errors
    return output


@needs_curl
class TestCurl:
    def test_it_keeps_its_connection(self) -> None:
        async def story() -> bytes:
            async with installed(app) as router:
                output = await curl(router, "-w", " %{num_connects}\n", "APP/1", "APP/2", "APP/3")
                assert await router.metric("router_upstream_connects_total") == 1
                return output

        assert on_loop(story()) == b"GET /1 0 1\nGET /2 0 0\nGET /3 0 0\n"

    def test_head(self) -> None:
        async def story() -> bytes:
            async with installed(app) as router:
                return await curl(router, "--head", "APP/x", "--next", "-s", "APP/y")

        output = on_loop(story())
        assert b"Content-Length: 9\r\n" in output
        assert output.endswith(b"\r\n\r\nGET /y 0")

    def test_a_chunked_upload(self) -> None:
        async def story() -> bytes:
            async with installed(app) as router:
                return await curl(router, "-T", "-", "-H", "Expect:", "APP/up", stdin=bytes(1_000_000))

        assert on_loop(story()) == b"PUT /up 1000000"

    def test_1_0(self) -> None:
        async def story() -> bytes:
            async with installed(app) as router:
                return await curl(router, "--http1.0", "-i", "APP/old")

        output = on_loop(story())
        assert b"\r\nConnection: close\r\n" in output
        assert output.endswith(b"\r\n\r\nGET /old 0")

    def test_an_expectation_with_two_mebibytes(self) -> None:
        async def story() -> bytes:
            async with installed(app) as router:
                return await curl(
                    router, "-i", "-H", "Expect: 100-continue", "--expect100-timeout", "15", "--data-binary", "@-",
                    "-w", " in time: %{time_total}", "APP/expect", stdin=bytes(2 * 1024 * 1024),
                )  # fmt: skip

        output = on_loop(story())
        assert output.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
        assert b"\r\n\r\nPOST /expect 2097152" in output
        assert float(output.rpartition(b" ")[2]) < 15  # curl was granted what it asked, it did not give up waiting

    def test_what_is_compressed_passes_as_it_is(self) -> None:
        async def story() -> tuple[bytes, bytes]:
            async with installed(app) as router:
                return await curl(router, "APP/gzip"), await curl(router, "--compressed", "APP/gzip")

        raw, unpacked = on_loop(story())
        assert raw == SQUEEZED
        assert unpacked == b"squeezed " * 1000


def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


CONFIGURATION = """
daemon off; worker_processes 1; pid {root}/pid; error_log {root}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off; client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/f;
    uwsgi_temp_path {root}/u; scgi_temp_path {root}/s; client_max_body_size 0; keepalive_timeout 2s 2s;
    server {{
        listen 127.0.0.1:{port};
        root {root}/www;
        gzip on; gzip_min_length 1; gzip_types *;
        location /echo {{ return 200 "$http_x_forwarded_for $http_x_forwarded_proto $host"; }}
    }}
}}
"""


@needs_nginx
def test_nginx_as_an_app(tmp_path: Path) -> None:
    """A file with and without compression (chunked by nginx), HEAD, 304, ranges, errors, and its keep-alive hint."""
    (tmp_path / "www").mkdir()
    content = b"".join(b"line %d\n" % number for number in range(20_000))
    (tmp_path / "www" / "file.txt").write_bytes(content)
    port = unused_port()
    (tmp_path / "nginx.conf").write_text(CONFIGURATION.format(root=tmp_path, port=port))
    tmp_path.chmod(0o755)

    async def story() -> None:
        assert NGINX is not None
        nginx = await asyncio.create_subprocess_exec(
            NGINX, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path), "-e", str(tmp_path / "error.log"),
            "-g", "user root;" if os.geteuid() == 0 else "",
        )  # fmt: skip
        try:
            async with installed(at=("127.0.0.1", port)) as router:
                while True:  # until it listens
                    async with router.caller() as caller:
                        await caller.asks(b"GET /echo HTTP/1.1\r\nHost: shop.example\r\n\r\n")
                        head = await caller.head()
                        if head.startswith(b"HTTP/1.1 200 "):
                            break
                    assert b"connect_failed" in head
                async with router.caller() as caller:
                    await caller.asks(b"GET /echo HTTP/1.1\r\nHost: shop.example\r\n\r\n")
                    assert await caller.answer() == b"127.0.0.1 http shop.example"

                    await caller.asks(b"GET /file.txt HTTP/1.1\r\nHost: shop.example\r\n\r\n")
                    head = await caller.head()
                    assert await read_body(caller.reader, head) == content
                    etag = head.partition(b"ETag: ")[2].partition(b"\r\n")[0]

                    squeeze = b"GET /file.txt HTTP/1.1\r\nHost: shop.example\r\nAccept-Encoding: gzip\r\n\r\n"
                    await caller.asks(squeeze)
                    head = await caller.head()
                    assert b"Transfer-Encoding: chunked\r\n" in head
                    assert gzip.decompress(await read_body(caller.reader, head)) == content

                    await caller.asks(b"HEAD /file.txt HTTP/1.1\r\nHost: shop.example\r\n\r\n")
                    assert b"Content-Length: %d\r\n" % len(content) in await caller.head()

                    same = b"GET /file.txt HTTP/1.1\r\nHost: shop.example\r\nIf-None-Match: " + etag + b"\r\n\r\n"
                    await caller.asks(same)
                    assert (await caller.head()).startswith(b"HTTP/1.1 304 ")

                    await caller.asks(b"GET /file.txt HTTP/1.1\r\nHost: shop.example\r\nRange: bytes=5-9\r\n\r\n")
                    assert await caller.answer() == content[5:10]

                    await caller.asks(b"GET /none HTTP/1.1\r\nHost: shop.example\r\n\r\n")
                    assert b"404 Not Found" in await caller.answer()
                    assert "router_retries_total{" not in (await asyncio.to_thread(router.router.admin, "/metrics"))[1]
        finally:
            nginx.terminate()
            await nginx.wait()

    on_loop(story())
