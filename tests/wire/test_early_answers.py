"""Clients that send their whole request before they read: each gets the answer that came early, ours or the app's."""

from __future__ import annotations

import contextlib
import functools
import http.client
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from drycc_tls.self_signed import self_signed
from tests.fakes.process import SOON, App, Router, deployment, manifest, router, secret, soon

LARGE = bytes(8 << 20)
"""More than the sockets between a client and the router hold."""
ANSWERS = {
    "limit": (413, {"bodySize": "1m"}),
    "secure": (308, {"ssl.enforce": "true"}),
    "denied": (403, {"denylist": "127.0.0.0/8"}),
    "closed": (503, {"maintenance": "true"}),
    "away": (503, {}),
    "early": (401, {}),
    "leaves": (401, {}),
}
"""Service → the status of its early answer, and the annotations that make it so."""


class EarlyApp:
    """An app that answers each request with 401 as soon as it has the head, and reads no body. ``closes``: it closes
    after that, and its kernel resets what arrives later."""

    def __init__(self, closes: bool) -> None:
        self._closes = closes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # the test is over
            self._connections.append(connection)
            connection.settimeout(SOON)
            head = b""
            with contextlib.suppress(OSError):  # noqa: TID251 -- a test; the router may give the connection up at any time
                while b"\r\n\r\n" not in head:
                    head += connection.recv(1024)
                connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nauth")
                if self._closes:
                    connection.close()

    def ends(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for connection in self._connections:
            connection.close()


@dataclass
class Town:
    router: Router
    directory: Path

    def port(self, secure: bool) -> int:
        return cast(int, self.router.ports["https" if secure else "http"])


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """The router as it ships, with one worker, and a Service for each kind of early answer."""
    directory = tmp_path_factory.mktemp("town")
    manifests = directory / "manifests"
    manifests.mkdir()
    early, leaves = EarlyApp(closes=False), EarlyApp(closes=True)
    try:
        for name, (_, annotations) in ANSWERS.items():
            apps = () if name == "away" else (cast(App, leaves if name == "leaves" else early),)
            (manifests / f"{name}.yaml").write_text(manifest(f"{name}/{name}", *apps, **annotations))
        (manifests / "pair.yaml").write_text(secret("early/early", self_signed(datetime.now(UTC))))
        (directory / "large").write_bytes(LARGE)
        with router(manifests, "--workers", "1") as started:
            soon(lambda: started.get(host="closed.localhost")[0] == 503)
            yield Town(started, directory)
    finally:
        early.ends()
        leaves.ends()


def context() -> ssl.SSLContext:
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    return anybody


# ── clients: each returns the statuses of its uploads ─────────────────────────────────────────────────────────────────
Client = Callable[[Town, Sequence[str], bool], list[int]]
"""Uploads to each of these hosts, in clear or over TLS."""


def one_by_one(upload: Callable[[Town, str, bool], int]) -> Client:
    @functools.wraps(upload)
    def uploads(town: Town, hosts: Sequence[str], secure: bool) -> list[int]:
        return [upload(town, host, secure) for host in hosts]

    return uploads


@one_by_one
def http_client(town: Town, host: str, secure: bool) -> int:
    port = town.port(secure)
    connection = (
        http.client.HTTPSConnection("127.0.0.1", port, context=context(), timeout=SOON)
        if secure
        else http.client.HTTPConnection("127.0.0.1", port, timeout=SOON)
    )
    with contextlib.closing(connection):
        connection.request("POST", "/up", LARGE, {"Host": host})
        answer = connection.getresponse()
        assert answer.getheader("Connection") == "close"
        assert answer.read()
        return answer.status


@one_by_one
def http_client_in_chunks(town: Town, host: str, secure: bool) -> int:
    port = town.port(secure)
    connection = (
        http.client.HTTPSConnection("127.0.0.1", port, context=context(), timeout=SOON)
        if secure
        else http.client.HTTPConnection("127.0.0.1", port, timeout=SOON)
    )
    pieces = (LARGE[at : at + 100_000] for at in range(0, len(LARGE), 100_000))
    with contextlib.closing(connection):
        connection.request("POST", "/up", pieces, {"Host": host}, encode_chunked=True)
        return connection.getresponse().status


@one_by_one
def urllib_request(town: Town, host: str, secure: bool) -> int:
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    opener = urllib.request.build_opener(Stay, urllib.request.HTTPSHandler(context=context()))
    url = f"{'https' if secure else 'http'}://127.0.0.1:{town.port(secure)}/up"
    request = urllib.request.Request(url, LARGE, {"Host": host}, method="PUT")  # noqa: S310 -- this file's own URL
    with pytest.raises(urllib.error.HTTPError) as refused:
        opener.open(request, timeout=SOON)
    with refused.value as answer:
        return answer.code


AIOHTTP = """
import asyncio, io, sys, aiohttp

async def uploads(url, *hosts):
    for host in hosts:
        await upload(url, host)

async def upload(url, host):
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session,
        session.post(
            url, data=io.BytesIO(bytes(8 << 20)), headers={"Host": host}, ssl=False, allow_redirects=False
        ) as answer,
    ):
        await answer.read()
        print(answer.status)

asyncio.run(uploads(*sys.argv[1:]))
"""


def aiohttp_client(town: Town, hosts: Sequence[str], secure: bool) -> list[int]:
    """A process of its own: it leaves the rest of its uploads behind when it ends."""
    url = f"{'https' if secure else 'http'}://127.0.0.1:{town.port(secure)}/up"
    return [int(line) for line in ran(sys.executable, "-c", AIOHTTP, url, *hosts).split()]


def ran(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=SOON).stdout


@one_by_one
def curl(town: Town, host: str, secure: bool) -> int:
    """It waits for a 100 before it sends so much."""
    return curls(town, host, secure)


@one_by_one
def curl_without_expect(town: Town, host: str, secure: bool) -> int:
    return curls(town, host, secure, "-H", "Expect:")


def curls(town: Town, host: str, secure: bool, *flags: str) -> int:
    url = f"{'https' if secure else 'http'}://{host}:{town.port(secure)}/up"
    large = f"@{town.directory / 'large'}"
    common = ("-sS", "-k", "--noproxy", "*", "-o", "/dev/null", "-w", "%{http_code}", "--http1.1")
    return int(
        ran("curl", *common, *flags, "--resolve", f"{host}:{town.port(secure)}:127.0.0.1", "--data-binary", large, url)
    )


NODE = """
const [port, secure, ...hosts] = process.argv.slice(1);
const upload = host => new Promise((resolve, reject) => {
  const options = {port, host: '127.0.0.1', method: 'POST', path: '/up', rejectUnauthorized: false,
    headers: {Host: host, 'Content-Length': 8 << 20}};
  const request = require(secure === 'true' ? 'https' : 'http').request(options, answer => {
    answer.on('end', () => resolve(answer.statusCode)).resume();
  });
  request.on('error', reject);
  request.end(Buffer.alloc(8 << 20));
});
(async () => { for (const host of hosts) console.log(await upload(host)); })();
"""


def node(town: Town, hosts: Sequence[str], secure: bool) -> list[int]:
    return [int(line) for line in ran("node", "-e", NODE, str(town.port(secure)), str(secure).lower(), *hosts).split()]


def program(client: Client, name: str) -> object:
    """A client that is a program of its own: without it nobody knows whether it gets its answers."""
    missing = shutil.which(name) is None
    marks = [pytest.mark.peer, pytest.mark.skipif(missing, reason=f"{name} is missing: what it would see is NOT known")]
    return pytest.param(client, marks=marks, id=client.__name__)


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize(
    "client",
    [
        http_client,
        http_client_in_chunks,
        urllib_request,
        aiohttp_client,
        program(curl, "curl"),
        program(curl_without_expect, "curl"),
        program(node, "node"),
    ],
)
def test_who_is_still_uploading_gets_the_answer(town: Town, client: Client, secure: bool) -> None:
    wanted = {"nobody": 404}
    for name, (status, _) in ANSWERS.items():
        # Over TLS nothing is redirected. Of chunks nobody knows the length: the app is asked, and answers first.
        if not (secure and status == 308) and not (client is http_client_in_chunks and status == 413):
            wanted[name] = status
    seen = client(town, [f"{name}.localhost" for name in wanted], secure)
    assert dict(zip(wanted, seen, strict=True)) == wanted


def refused(router: Router, first: bytes, port: str = "http") -> bytes:
    """The answer to a client that has sent its whole request of a megabyte, behind ``first``, before it reads."""
    with socket.create_connection(("127.0.0.1", router.ports[port]), SOON) as client:
        client.sendall(
            first
            + b"POST /metrics HTTP/1.1\r\nHost: limit.localhost\r\nContent-Length: 1048576\r\n\r\n"
            + bytes(1 << 20)
        )
        answer = b""
        while piece := client.recv(65536):
            answer += piece
            if port == "admin" and answer.endswith(b"405: Method Not Allowed"):
                break  # it keeps its connection
        return answer


@pytest.mark.parametrize("proxied", [b"", b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\r\n"], ids=["direct", "proxied"])
def test_a_client_with_too_many_connections_gets_the_answer(tmp_path: Path, proxied: bytes) -> None:
    """It is refused before a byte of it was read, and may have sent all of its request by then."""
    settings = {"maxConnectionsPerClient": "2", "proxyRealIpCidrs": "127.0.0.1", "useProxyProtocol": "true"}
    if not proxied:
        settings = {"maxConnectionsPerClient": "2"}
    (tmp_path / "router.yaml").write_text(deployment(**settings))
    # One worker: each counts for itself.
    with router(tmp_path, "--workers", "1") as held, contextlib.ExitStack() as stack:
        for _ in range(2):
            first = stack.enter_context(socket.create_connection(("127.0.0.1", held.ports["http"]), SOON))
            first.sendall(proxied + b"GET / HTTP/1.1\r\nHost: nobody.localhost\r\n\r\n")
            assert first.recv(65536).startswith(b"HTTP/1.1 404 ")
        for _ in range(10):
            head, _, body = refused(held, proxied).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 429 ") and b"\r\nConnection: close" in head
            assert b"Too many connections" in body


def test_a_stranger_with_a_proxy_header_gets_the_answer(tmp_path: Path) -> None:
    (tmp_path / "router.yaml").write_text(deployment(useProxyProtocol="true", proxyRealIpCidrs="192.0.2.7"))
    with router(tmp_path) as held:
        for first in (b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\r\n", b"PROXY nonsense\r\n"):
            for _ in range(10):
                assert refused(held, first).startswith(b"HTTP/1.1 400 ")


def test_http_on_the_port_of_https_and_an_upload_to_the_admin_port_get_the_answer(town: Town) -> None:
    for _ in range(10):
        assert refused(town.router, b"", "https").startswith(b"HTTP/1.1 400 ")
        assert refused(town.router, b"", "admin").startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize("size", [500_000, 4_000_000])
def test_the_answer_of_an_app_that_closes_at_once_is_not_lost_to_its_reset(town: Town, size: int) -> None:
    """Whichever the router meets first, the answer or the reset: forty times, as that is chance."""
    seen = Counter(http_client_of(town, "leaves.localhost", bytes(size)) for _ in range(40))
    assert seen == {401: 40}


def http_client_of(town: Town, host: str, body: bytes) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", town.port(False), timeout=SOON)
    with contextlib.closing(connection):
        connection.request("POST", "/up", body, {"Host": host})
        return connection.getresponse().status
