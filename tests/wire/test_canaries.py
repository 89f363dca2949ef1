"""Secrets through every path that fails, none of them in anything that leaves the router (hardening K-01, K-02, K-04).

A real process at level debug: its log, its access log, its reports, its metrics, its error pages, its command line and
environment. What objects say of themselves is told in ``tests/stories/test_reprs.py``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from drycc_tls.certificate import Certificate
from drycc_tls.self_signed import self_signed
from tests.fakes.process import SOON, manifest, router, secret, soon

WORDS = (
    "authorization basic", "authorization bearer", "cookie", "set-cookie", "query", "referer query", "api key", "body",
    "proxy-authorization", "bad chunk", "trailer", "user in a target", "connect target", "bad field", "bad host",
    "bad length", "early answer", "answer field", "broken answer", "answer body", "request id", "secret key",
    "secret other", "secret broken", "yaml", "json",
)  # fmt: skip
CANARY = {word: "c4n4ry" + word.encode().hex() for word in WORDS}


def mark(word: str) -> bytes:
    return CANARY[word].encode()


# ── an app that says secrets ──────────────────────────────────────────────────────────────────────────────────────────
ANSWERS: dict[bytes, bytes] = {
    b"/good": b"HTTP/1.1 200 OK\r\nSet-Cookie: s=%b\r\nX-Token: %b\r\nContent-Length: 2\r\n\r\nok"
    % (mark("set-cookie"), mark("answer field")),
    b"/broken": b"HTTP/1.1 200 OK\r\nSet-Cookie : %b\r\n\r\n" % mark("broken answer"),
    b"/no-http": b"%b\r\n\r\n" % mark("broken answer"),
    b"/cut": b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\nSet-Cookie: %b\r\n\r\n%b"
    % (mark("set-cookie"), mark("answer body")),
    b"/bad-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%b\r\n" % mark("answer body"),
    b"/early": b"HTTP/1.1 403 No\r\nContent-Length: 0\r\nX-Token: %b\r\n\r\n" % mark("early answer"),
    b"/gone": b"",
    b"/switch": b"HTTP/1.1 101 %b\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" % mark("answer field"),
}  # fmt: skip


class Talker:
    """Answers by path, closes, and is quiet about what it heard."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(SOON)
                head = b""
                with contextlib.ExitStack() as stack:
                    stack.push(lambda kind, error, trace: isinstance(error, OSError))
                    while b"\r\n\r\n" not in head and (data := connection.recv(65536)):
                        head += data
                    path = head.split(b" ")[1].partition(b"?")[0] if head.count(b" ") > 1 else b""
                    connection.sendall(ANSWERS.get(path, ANSWERS[b"/good"]))
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.push(lambda kind, error, trace: isinstance(error, OSError))
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(SOON)


@pytest.fixture
def talker() -> Iterator[Talker]:
    app = Talker()
    yield app
    app.close()


SECRETS = b"".join(
    b"%b: %b\r\n" % (name, mark(word))
    for name, word in (
        (b"Authorization", "authorization bearer"),
        (b"Cookie", "cookie"),
        (b"Proxy-Authorization", "proxy-authorization"),
        (b"X-Api-Key", "api key"),
        (b"Referer", "referer query"),
    )
).replace(b"Referer: ", b"Referer: http://web.localhost/?token=") + b"Authorization: Basic %b\r\n" % mark(
    "authorization basic"
)
WEB = b"Host: web.localhost\r\n"


def asking(path: bytes, method: bytes = b"GET", more: bytes = b"", body: bytes = b"", host: bytes = WEB) -> bytes:
    target = path + b"?token=%b" % mark("query")
    return b"%b %b HTTP/1.1\r\n%b%bConnection: close\r\n%b\r\n%b" % (method, target, host, SECRETS, more, body)


REQUESTS: tuple[bytes, ...] = (
    *(asking(path) for path in ANSWERS),
    asking(b"/", host=b"Host: nobody.localhost\r\n"),
    asking(b"/", host=b"Host: closed.localhost\r\n"),
    asking(b"/", host=b"Host: empty.localhost\r\n"),
    asking(b"/%b" % b"redirected", host=b"Host: moved.localhost\r\n"),
    asking(b"/", b"POST", b"Content-Length: %d\r\n" % len(mark("body")), mark("body")),
    asking(b"/early", b"POST", b"Content-Length: 90000\r\n", mark("body")),
    asking(b"/", b"POST", b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n%b\r\n" % mark("bad chunk")),
    asking(b"/", b"POST", b"Transfer-Encoding: chunked\r\n", b"0\r\nX: %b\x00\r\n\r\n" % mark("trailer")),
    asking(b"/", b"POST", b"Content-Length: %b\r\n" % mark("bad length")),
    asking(b"/", b"POST", b"Transfer-Encoding: %b\r\n" % mark("bad length")),
    asking(b"/", b"POST", b"Content-Length: 5\r\nExpect: %b\r\n" % mark("bad field")),
    asking(b"/", more=b"Cookie : %b\r\n" % mark("bad field")),
    asking(b"/", more=b" folded %b\r\n" % mark("bad field")),
    asking(b"/", more=b"X: %b\x00\r\n" % mark("bad field")),
    asking(b"/", more=b"X-Request-Id: <%b>\r\n" % mark("request id")),
    asking(b"/", more=b"X-Correlation-Id: <%b>\r\n" % mark("request id")),
    asking(b"/", more=b"X: %b\r\n" % (40_000 * b"x" + mark("bad field"))),
    asking(b"/", host=b"Host: %b %b\r\n" % (mark("bad host"), mark("bad host"))),
    asking(b"/" + 17_000 * b"x"),
    asking(b"/", b"TRACE"),
    asking(b"/", b"get"),
    asking(b"http://user:%b@web.localhost/" % mark("user in a target")),
    asking(b"ftp://%b/" % mark("user in a target")),
    b"CONNECT user:%b@web.localhost:80 HTTP/1.1\r\n%b%b\r\n" % (mark("connect target"), WEB, SECRETS),
    b"%b\r\n\r\n" % mark("bad field"),
    b"GET /?%b HTTP/2.0\r\n%b\r\n" % (mark("query"), SECRETS),
    b"GET /?%b HTTP/1.1\r\n%b" % (mark("query"), SECRETS),  # and then it goes away
)


def says(port: int, request: bytes) -> bytes:
    """Everything that comes back."""
    heard = b""
    with socket.create_connection(("127.0.0.1", port), SOON) as connection, contextlib.ExitStack() as stack:
        stack.push(lambda kind, error, trace: isinstance(error, OSError))
        connection.sendall(request)
        if request.endswith(b"\r\n\r\n") or b"\r\n\r\n" in request:
            while data := connection.recv(65536):
                heard += data
    return heard


def spoiled(pair: Certificate) -> dict[str, str]:
    """Files that hold secrets and are not in order."""
    other = self_signed(datetime(2026, 1, 1, tzinfo=UTC))

    def written(name: str, certificate: bytes, key: bytes) -> str:
        data = {"tls.crt": certificate, "tls.key": key, "password": mark("secret other")}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": "shop"},
                "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
            }
        )

    key = mark("secret key").decode()
    broken = CANARY["secret broken"]
    return {
        "mismatch.json": written("mismatch-cert", pair.chain_pem, other.key_pem),
        "garbage.json": written("garbage-cert", pair.chain_pem, mark("secret key")),
        "half.json": written("half-cert", pair.chain_pem, pair.key_pem[:200] + mark("secret key")),
        "no-base64.json": json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "none-cert", "namespace": "shop"},
                "data": {"tls.crt": f"*{broken}", "tls.key": [broken]},
            }
        ),
        "broken.yaml": f"kind: Secret\nstringData:\n  tls.key: '{CANARY['yaml']}\n  x: {key}",
        "broken.json": f'{{"kind": "Secret", "stringData": {{"tls.key": "{CANARY["json"]}"',
    }


def test_twenty_canaries_and_none_of_them_sings(tmp_path: Path, talker: Talker) -> None:
    assert len(CANARY) >= 20
    pair = self_signed(datetime(2026, 1, 1, tzinfo=UTC))
    app: Any = talker
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    names = ("mismatch", "garbage", "half", "none", "web")
    (manifests / "web.yaml").write_text(
        manifest(
            "shop/web",
            app,
            certificates=",".join(f"{name}.localhost:{name}" for name in names),
            domains=",".join(f"{name}.localhost" for name in names),
        )
    )
    (manifests / "closed.yaml").write_text(manifest("shop/closed", app, whitelist="192.0.2.1"))
    (manifests / "moved.yaml").write_text(manifest("shop/moved", app, **{"ssl.enforce": "true"}))
    (manifests / "empty.yaml").write_text(manifest("shop/empty"))
    (manifests / "web-cert.json").write_text(secret("shop/web-cert", pair))
    for name, text in spoiled(pair).items():
        (manifests / name).write_text(text)
    log = tmp_path / "access.log"

    with router(manifests, "--log-level", "debug", "--access-log", str(log)) as child:
        said_by_the_router = [child.certificate().encode()]
        for request in REQUESTS:
            heard = says(child.ports["http"], request)
            if b"X-Router-Error: " in heard and b"Location: " not in heard:
                said_by_the_router.append(heard)
        soon(lambda: log.exists() and log.read_bytes().count(b"\n") >= len(REQUESTS) - 1)
        pages = ("/routes", "/problems", "/certificates", "/metrics")
        said_by_the_router += [child.admin(page)[1].encode() for page in pages]
        said_by_the_router += [
            Path(f"/proc/{child.process.pid}/{file}").read_bytes()
            for file in ("cmdline", "environ")
            if os.geteuid() == 0  # nobody else may read them
        ]
        child.process.terminate()
        _, stderr = child.process.communicate(timeout=SOON)
    said_by_the_router += [stderr.encode(), log.read_bytes()]

    assert b"invalid" in stderr.encode() or b"unreadable" in stderr.encode(), "the spoiled files were not looked at"
    for line in log.read_bytes().splitlines():
        json.loads(line)
    keys = [line for line in pair.key_pem.splitlines() if not line.startswith(b"-")]
    forbidden = [*(mark(word) for word in WORDS), *keys, base64.b64encode(pair.key_pem)[40:80]]
    found = {
        needle: said[max(0, said.index(needle) - 200) : said.index(needle) + 100]
        for said in said_by_the_router
        for needle in [*forbidden, *(base64.b64encode(mark(word))[:16] for word in WORDS)]
        if needle in said
    }
    assert found == {}
    assert len(said_by_the_router) > 20
