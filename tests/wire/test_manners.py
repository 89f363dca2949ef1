"""Manners on the wire, shown by the program as it ships: what an app hears and a client gets, with a worker between."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

import pytest

from tests.fakes.handshakes import trusting
from tests.fakes.process import SOON, App, Router, deployment, manifest, router, soon
from tests.fakes.story import fields_of

PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
RIVALS = b"strict-transport-security: max-age=1\r\nReferrer-Policy: unsafe-url\r\n"


class Echo(socketserver.ThreadingTCPServer):
    """An app that answers with the bytes of the request, and with fields that the router may set, too."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.name = name
        self.port = self.server_address[1]


class Exchange(socketserver.StreamRequestHandler):
    """One connection: heads, and bodies of stated length."""

    def handle(self) -> None:
        while (line := self.rfile.readline()) not in (b"", b"\r\n"):
            head = line
            while line not in (b"", b"\r\n"):
                line = self.rfile.readline()
                head += line
            [size] = fields_of(head).get(b"content-length", [b"0"])
            told = cast(Echo, self.server).name.encode() + b" heard " + head + self.rfile.read(int(size))
            self.wfile.write(3 * PROCESSING if b"/slow " in head else b"")
            self.wfile.write(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (RIVALS, len(told), told))


@contextmanager
def serving(name: str) -> Iterator[Echo]:
    with Echo(name) as app:
        thread = threading.Thread(target=app.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield app
        finally:
            app.shutdown()
            thread.join()


LEAVING = {"ready": False, "serving": True, "terminating": True}


class House:
    """A running router and the apps behind it."""

    def __init__(self, running: Router, web: Echo) -> None:
        self.running = running
        self.web = web

    def dials(self, door: str = "http") -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.running.ports[door]), SOON)

    def asks(self, request: bytes, door: str = "http") -> bytes:
        """What comes back until the connection ends; the request says that it is the last one."""
        sock = self.dials(door)
        if door == "https":
            [name] = fields_of(request)[b"host"]
            sock = trusting(None).wrap_socket(sock, server_hostname=name.decode())
        with closing(sock):
            sock.sendall(request)
            return b"".join(iter(lambda: sock.recv(65536), b""))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    manifests = tmp_path_factory.mktemp("manifests")
    with serving("web") as web, serving("api") as api:
        leaving = manifest("shop/last", cast(App, web)).replace(
            '{"addresses": ["127.0.0.1"]}', json.dumps({"addresses": ["127.0.0.1"], "conditions": LEAVING})
        )
        assert "terminating" in leaving
        strict = {"ssl.hsts.enabled": "true", "referrerPolicy": "no-referrer", "domains": "strict.localhost"}
        texts = {
            "web": manifest("shop/web", cast(App, web)),
            "api": manifest("shop/api", cast(App, api), proxyDomain="web.localhost", proxyLocations="/ap%69"),
            "strict": manifest("shop/strict", cast(App, web), **strict),
            "last": leaving,
            "own": deployment(keepAliveTimeout="1s"),
        }
        for name, text in texts.items():
            (manifests / f"{name}.yaml").write_text(text, encoding="utf-8")
        with router(manifests, "--workers", "1") as running:
            assert "worker-0" in running.children()
            soon(lambda: running.get()[0] == 200)
            yield House(running, web)


def get(path: bytes = b"/", host: bytes = b"web.localhost", *lines: bytes) -> bytes:
    fields = b"".join(line + b"\r\n" for line in (b"Host: " + host, *lines, b"Connection: close"))
    return b"GET %b HTTP/1.1\r\n%b\r\n" % (path, fields)


def test_an_idle_connection_is_kept_for_as_long_as_the_operator_says(house: House) -> None:
    """The default is longer than this test may take."""
    with closing(house.dials()) as sock:
        sock.sendall(get().replace(b"Connection: close\r\n", b""))
        heard = b""
        while data := sock.recv(65536):
            heard += data
        assert heard.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Connection: close" not in heard.partition(b"\r\n\r\n")[0]


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the table is Linux's")
def test_the_kernel_asks_clients_and_apps_for_life(house: House) -> None:
    def asked(local: int | None, remote: int) -> bool:
        """Whether a connection between these ports has its keep-alive timer running (its kind is 2)."""
        rows = [row.split() for row in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
        return any(
            int(there.rpartition(":")[2], 16) == remote
            and (local is None or int(here.rpartition(":")[2], 16) == local)
            and state == "01"
            and timer.startswith("02:")
            for _, here, there, state, _, timer, *_ in rows
        )

    with closing(house.dials()) as sock:
        sock.sendall(get().replace(b"Connection: close\r\n", b""))
        assert sock.recv(12) == b"HTTP/1.1 200"
        soon(lambda: asked(house.running.ports["http"], sock.getsockname()[1]))
        soon(lambda: asked(None, house.web.port))


def test_http_in_clear_on_the_port_for_https_is_told_so_in_clear(house: House) -> None:
    with closing(house.dials("https")) as sock:
        sock.sendall(get())
        heard = b"".join(iter(lambda: sock.recv(65536), b""))
    assert heard.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert fields_of(heard)[b"x-router-error"] == [b"plain_http"]
    assert b"This port speaks https" in heard
    soon(lambda: 'reason="plain_http"' in house.running.admin("/metrics")[1])


def test_a_chunked_request_in_one_piece_has_a_length(house: House) -> None:
    heard = house.asks(
        b"POST / HTTP/1.1\r\nHost: web.localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        b"5\r\nhello\r\n7\r\n, world\r\n0\r\nX-Sum: 1\r\n\r\n"
    )
    told = heard.partition(b"\r\n\r\n")[2]
    assert b"\r\nContent-Length: 12\r\n" in told
    assert b"Transfer-Encoding" not in told
    assert told.endswith(b"\r\n\r\nhello, world")


@pytest.mark.parametrize("door", ["http", "https"])
def test_nobody_says_by_another_name_who_the_client_is(house: House, door: str) -> None:
    names = (b"X.Forwarded.For", b"X!Real!IP", b"x_forwarded_proto", b"X~Request-Id", b"Content|Length")
    heard = house.asks(get(b"/", b"web.localhost", *(name + b": 6" for name in names)), door)
    told = heard.partition(b"\r\n\r\n")[2]
    assert b"X-Forwarded-For: 127.0.0.1\r\n" in told
    assert [name for name in names if name.lower() in told.lower()] == []


def test_a_field_that_app_and_router_set_appears_once(house: House) -> None:
    fields = fields_of(house.asks(get(b"/", b"strict.localhost"), "https"))
    assert fields[b"strict-transport-security"] == [b"max-age=15552000"]
    assert fields[b"referrer-policy"] == [b"no-referrer"]
    fields = fields_of(house.asks(get(), "https"))  # an app for which the router sets nothing
    assert fields[b"strict-transport-security"] == [b"max-age=1"]
    assert fields[b"referrer-policy"] == [b"unsafe-url"]


def test_interim_answers_pass(house: House) -> None:
    heard = house.asks(get(b"/slow"))
    assert heard.startswith(3 * PROCESSING + b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(("path", "app"), [(b"/api", b"api"), (b"/%61%70i/x?y", b"api"), (b"/ap%2fi", b"web")])
def test_paths_are_compared_by_what_they_say(house: House, path: bytes, app: bytes) -> None:
    told = house.asks(get(path)).partition(b"\r\n\r\n")[2]
    assert told.startswith(b"%b heard GET %b HTTP/1.1\r\n" % (app, path))


def test_the_last_endpoint_serves_until_it_is_gone(house: House) -> None:
    assert house.asks(get(b"/", b"last.localhost")).startswith(b"HTTP/1.1 200 OK\r\n")
