"""PROXY headers on real sockets, before clear text and before TLS, from those who send them: HAProxy, nginx, curl."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from drycc_proxy.listeners.proxy_header import SIGNATURE, crc32c
from drycc_tls.certificate import Certificate
from drycc_tls.secret import read_pair
from examples.authority import Authority
from tests.fakes.handshakes import trusting
from tests.fakes.process import deployment
from tests.fakes.wired import HOST, Caller, Standing, head_of, on_loop, standing

AUTHORITY = Authority()
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
LINE = b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n"
_ADDRESSES = bytes([203, 0, 113, 7, 192, 0, 2, 1]) + struct.pack("!HH", 56324, 443)
BINARY = SIGNATURE + b"\x21\x11\x00\x0c" + _ADDRESSES
_OPEN = SIGNATURE + b"\x21\x11\x00\x13" + _ADDRESSES + b"\x03\x00\x04" + bytes(4)
CHECKED = _OPEN[:-4] + struct.pack("!I", crc32c(_OPEN))

HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
needs_haproxy = pytest.mark.skipif(HAPROXY is None, reason="haproxy is missing: its PROXY headers are NOT tested")
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
needs_nginx_stream = pytest.mark.skipif(
    NGINX is None or not STREAM.exists(), reason="nginx's stream module is missing: its PROXY headers are NOT tested"
)
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing: its PROXY header is NOT tested")


@pytest.fixture(scope="module")
def pair() -> Certificate:
    return read_pair(AUTHORITY.issue("shop.example").secret_data())


@pytest.fixture(scope="module")
def program(pair: Certificate) -> Iterator[Standing]:
    """The router behind a balancer at this machine's address."""
    with standing(deployment(useProxyProtocol="true", proxyRealIpCidrs="127.0.0.1"), pair=pair) as running:
        yield running


@pytest.fixture(scope="module")
def elsewhere(pair: Certificate) -> Iterator[Standing]:
    """The router behind a balancer that is somewhere else."""
    with standing(deployment(useProxyProtocol="true", proxyRealIpCidrs="192.0.2.0/24"), pair=pair) as running:
        yield running


async def tells(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, checked: asyncio.Event | None = None
) -> None:
    """An app that answers with who its client is, and tells when it was checked."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        if checked is not None and head.startswith(b"GET /check "):
            checked.set()
        fields = head_of(head)
        said = b"%b %b" % (fields[b"x-forwarded-for"], fields[b"x-forwarded-proto"])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))
        await writer.drain()


async def begin_tls(router: Standing, first: bytes) -> Caller:
    """A client on the https port whose first bytes are in clear. The caller closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", router.https)
    writer.write(first)
    await writer.start_tls(trusting(AUTHORITY), server_hostname="shop.example")
    return Caller(reader, writer)


@pytest.mark.parametrize("header", [LINE, BINARY, CHECKED])
def test_before_clear_text(program: Standing, header: bytes) -> None:
    async def story() -> None:
        async with program.serves(tells) as router, router.caller() as caller:
            await caller.asks(header + GET)
            assert await caller.answer() == b"203.0.113.7 http"
            await caller.asks(GET)
            assert await caller.answer() == b"203.0.113.7 http"

    on_loop(story())


@pytest.mark.parametrize("header", [LINE, BINARY, CHECKED, b""])
def test_before_tls(program: Standing, header: bytes) -> None:
    """Bytes in clear, then a ClientHello; also none."""

    async def story() -> None:
        async with program.serves(tells) as router:
            caller = await begin_tls(router, header)
            try:
                await caller.asks(GET)
                assert await caller.answer() == (b"203.0.113.7 https" if header else b"127.0.0.1 https")
            finally:
                caller.writer.transport.abort()

    on_loop(story())


OUTCOME = 'router_proxy_headers_total{outcome="%s"}'
OUTCOMES = ("client", "own", "bad", "untrusted", "none")
HANDSHAKES = ("router_tls_handshakes_total", "router_tls_handshake_failures_total")


async def counted(router: Standing, *names: str) -> list[float]:
    return [await router.metric(name) for name in names]


@pytest.mark.parametrize("trusted", [True, False])
def test_what_is_refused_before_tls_is_closed(program: Standing, elsewhere: Standing, trusted: bool) -> None:
    """A bad header of a trusted peer, a good one of a stranger."""
    asked = program if trusted else elsewhere

    async def story() -> None:
        async with asked.serves(tells) as router:
            before = await counted(router, *HANDSHAKES)
            with pytest.raises((ssl.SSLError, OSError)):
                await begin_tls(router, LINE.replace(b"TCP4", b"TCP6") if trusted else LINE)
            assert await counted(router, *HANDSHAKES) == before

    on_loop(story())


def test_a_second_header_before_tls_is_refused(program: Standing) -> None:
    async def story() -> None:
        async with program.serves(tells) as router:
            before = await router.metric("router_tls_handshakes_total")
            with pytest.raises((ssl.SSLError, OSError)):
                await begin_tls(router, LINE + LINE)
            assert await router.metric("router_tls_handshakes_total") == before

    on_loop(story())


def test_checks_and_clients_on_the_same_port(program: Standing) -> None:
    """A load balancer sends some connections with a header and some without, in any order."""

    async def story() -> None:
        async with program.serves(tells) as router:
            for number in range(20):
                async with router.caller() as caller:
                    header = b"PROXY TCP4 203.0.113.%d 192.0.2.1 1 80\r\n" % number if number % 3 else b""
                    await caller.asks(header + GET)
                    said = b"203.0.113.%d http" % number if number % 3 else b"127.0.0.1 http"
                    assert await caller.answer() == said

    on_loop(story())


@pytest.mark.peer
@needs_curl
def test_curl(program: Standing) -> None:
    async def story() -> bytes:
        async with program.serves(tells) as router:
            before = await router.metric(OUTCOME % "client")
            process = await asyncio.create_subprocess_exec(
                "curl", "--silent", "--show-error", "--max-time", "20", "--noproxy", "*", "--haproxy-protocol",
                "--interface", "127.0.0.1", "--resolve", f"shop.example:{router.http}:127.0.0.1",
                f"http://shop.example:{router.http}/",
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            output, _ = await process.communicate()
            assert await router.metric(OUTCOME % "client") == before + 1
            return output

    assert on_loop(story()) == b"127.0.0.1 http"


def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


async def ask_through(port: int, tls: ssl.SSLContext | None = None) -> bytes:
    """Ask at a load balancer's port, from an address of our own, once it listens."""
    while True:
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1",
                port,
                local_addr=("127.0.0.77", 0),
                ssl=tls,
                server_hostname="shop.example" if tls else None,
            )
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)  # it is starting
            continue
        try:
            caller = Caller(reader, writer)
            await caller.asks(GET)
            return await caller.answer()
        finally:
            writer.transport.abort()


HAPROXY_CONFIGURATION = """
global
    maxconn 100
defaults
    mode tcp
    timeout connect 5s
    timeout client 20s
    timeout server 20s
    option httpchk
    http-check send meth GET uri /check ver HTTP/1.1 hdr Host shop.example
frontend clear
    bind 127.0.0.1:{clear}
    default_backend clear
frontend secure
    bind 127.0.0.1:{secure}
    default_backend secure
backend clear
    server router 127.0.0.1:{http} source 127.0.0.1 check inter 20ms {how}
backend secure
    server router 127.0.0.1:{https} source 127.0.0.1 {how}
"""


@pytest.mark.peer
@needs_haproxy
@pytest.mark.parametrize(
    "how", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id,ssl,cert-cn"]
)
def test_haproxy(program: Standing, tmp_path: Path, how: str) -> None:
    """Both versions, with a checksum, before clear text and TLS; its health checks speak for themselves."""

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await tells(reader, writer, checked)

    checked = asyncio.Event()

    async def story() -> None:
        assert HAPROXY is not None
        async with program.serves(app) as router:
            clear, secure = unused_port(), unused_port()
            (tmp_path / "haproxy.cfg").write_text(
                HAPROXY_CONFIGURATION.format(clear=clear, secure=secure, http=router.http, https=router.https, how=how)
            )
            process = await asyncio.create_subprocess_exec(
                HAPROXY, "-f", str(tmp_path / "haproxy.cfg"), "-db", "-q", stderr=asyncio.subprocess.DEVNULL
            )
            before = {name: await router.metric(OUTCOME % name) for name in OUTCOMES}
            try:
                assert await ask_through(clear) == b"127.0.0.77 http"
                assert await ask_through(secure, trusting(AUTHORITY)) == b"127.0.0.77 https"
                await checked.wait()
                came = {name: await router.metric(OUTCOME % name) - before[name] for name in OUTCOMES}
                if how != "send-proxy":  # in version 1 it speaks for itself by its address
                    assert came["client"] == 2
                    assert came["own"] > 0
                assert came["bad"] == came["untrusted"] == came["none"] == 0
            finally:
                process.terminate()
                await process.wait()

    on_loop(story())


NGINX_CONFIGURATION = """
load_module {module};
daemon off; worker_processes 1; pid {root}/pid; error_log {root}/error.log;
events {{ worker_connections 64; }}
stream {{
    server {{ listen 127.0.0.1:{clear}; proxy_pass 127.0.0.1:{http}; proxy_protocol on; proxy_bind 127.0.0.1; }}
    server {{ listen 127.0.0.1:{secure}; proxy_pass 127.0.0.1:{https}; proxy_protocol on; proxy_bind 127.0.0.1; }}
}}
"""


@pytest.mark.peer
@needs_nginx_stream
def test_nginx(program: Standing, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    async def story() -> None:
        assert NGINX is not None
        async with program.serves(tells) as router:
            clear, secure = unused_port(), unused_port()
            (tmp_path / "nginx.conf").write_text(
                NGINX_CONFIGURATION.format(
                    root=tmp_path, module=STREAM, clear=clear, secure=secure, http=router.http, https=router.https
                )
            )
            process = await asyncio.create_subprocess_exec(
                NGINX, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path), "-e", str(tmp_path / "error.log"),
                "-g", "user root;" if os.geteuid() == 0 else "",
            )  # fmt: skip
            try:
                assert await ask_through(clear) == b"127.0.0.77 http"
                assert await ask_through(secure, trusting(AUTHORITY)) == b"127.0.0.77 https"
            finally:
                process.terminate()
                await process.wait()

    on_loop(story())
