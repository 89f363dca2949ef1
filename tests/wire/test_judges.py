"""Programs whose trade it is to find fault, or that have opinions: slowhttptest, sslscan, Chromium."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import Iterable
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import cast
from urllib.parse import unquote

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from drycc_proxy.errors import Failure
from drycc_proxy.http1.downstream import Http1Downstream
from drycc_proxy.routing.definitions import Address, Edge, TableChange
from drycc_tls.secret import read_pair
from examples.authority import Authority
from tests.fakes.wired import Wired, installed, on_loop, wired
from tests.wire.test_bodies import read_body

pytestmark = pytest.mark.peer


def needs(program: str) -> pytest.MarkDecorator:
    missing = shutil.which(program) is None
    return pytest.mark.skipif(missing, reason=f"{program} is missing: what it would find is NOT known")


async def runs(program: str, *arguments: str) -> str:
    """What a program prints, without its colours."""
    process = await asyncio.create_subprocess_exec(
        program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return re.sub(r"\x1b\[[0-9;]*m", "", output.decode("utf-8", "replace"))


# ── slow clients: hardening S-01 to S-03 ──────────────────────────────────────────────────────────────────────────────
ATTACKERS = 150


async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers what it is asked, ``/large`` at length, and a POST when it has read it."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST "):
            await read_body(reader, head)
        body = bytes(2**20) if head.startswith(b"GET /large ") else b"ok"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()


async def attack(router: Wired, path: str, *arguments: str) -> str:
    """The report of slowhttptest; meanwhile somebody else is served, whatever it does."""
    router._generation += 1
    settings = replace(Edge(), head_timeout=2.0)
    router.gateway.publish(TableChange(router._generation, edge=settings))
    over = asyncio.Event()

    async def somebody() -> int:
        served = 0
        async with router.caller() as caller:
            while not over.is_set():
                await caller.asks(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
                assert await caller.answer() == b"ok"
                served += 1
                await asyncio.sleep(0.02)  # a visitor, not a flood
        return served

    visit = asyncio.ensure_future(somebody())
    url = f"http://127.0.0.1:{router.http}{path}"
    try:
        report = await runs(
            "slowhttptest", "-c", str(ATTACKERS), "-r", str(ATTACKERS), "-p", "5", "-l", "10", "-u", url, *arguments
        )
    finally:
        over.set()
    assert await visit > 10
    assert re.search(r"service available:\s+YES", report), report
    assert "service available:   NO" not in report
    return report


@needs("slowhttptest")
class TestSlowClients:
    def test_slow_heads_are_answered_and_closed(self) -> None:
        async def story() -> None:
            async with wired(app, alone="counts every attacker by its failure") as router:
                report = await attack(router, "/", "-H", "-i", "1")
                assert "No open connections left" in report
                assert router.gateway.counters.unrouted.errors[Failure.HEAD_TIMEOUT] == ATTACKERS

        on_loop(story())

    def test_slow_bodies_are_answered_and_closed(self) -> None:
        async def story() -> None:
            async with wired(app, alone="counts every attacker by its failure") as router:
                [route] = router.gateway._core.table.routes.values()
                router.publish(*route.definition.endpoints, host=b"127.0.0.1", body_timeout=2.0)
                report = await attack(router, "/", "-B", "-i", "4", "-s", "8192")
                assert "No open connections left" in report
                errors = router.gateway.counters.routes["shop/127.0.0.1"].errors
                assert errors.get(Failure.BODY_TIMEOUT, 0) + errors.get(Failure.CLIENT_GONE, 0) == ATTACKERS

        on_loop(story())

    def test_slow_readers_hold_nobody_up_and_little_memory(self) -> None:
        async def story() -> None:
            async with wired(app, alone="reads what each connection holds") as router:
                [route] = router.gateway._core.table.routes.values()
                router.publish(*route.definition.endpoints, host=b"127.0.0.1")
                most = 0

                async def watch() -> None:
                    nonlocal most
                    while True:
                        clients = cast(Iterable[Http1Downstream], router.gateway._core.connections)
                        held = [each._transport.get_write_buffer_size() for each in clients]
                        most = max(most, *held, 0)
                        await asyncio.sleep(0.05)

                watcher = asyncio.ensure_future(watch())
                await attack(router, "/large", "-X", "-w", "1", "-y", "1", "-n", "2", "-z", "1", "-k", "3")
                watcher.cancel()
                assert 0 < most <= 512 * 1024

        on_loop(story())


# ── TLS: hardening T-10 ───────────────────────────────────────────────────────────────────────────────────────────────
@needs("sslscan")
def test_what_the_default_policy_offers() -> None:
    pair = read_pair(Authority().issue("shop.example").secret_data())

    async def story() -> str:
        async with installed(app, pair=pair) as router:
            return await runs("sslscan", "--no-colour", "--sni-name=shop.example", f"127.0.0.1:{router.https}")

    report = on_loop(story())
    for version in ("SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1"):
        assert re.search(rf"^{re.escape(version)}\s+disabled$", report, re.MULTILINE), report
    for version in ("TLSv1.2", "TLSv1.3"):
        assert re.search(rf"^{re.escape(version)}\s+enabled$", report, re.MULTILINE), report
    assert "Compression enabled" not in report
    assert re.search(r"Session renegotiation not supported|Secure session renegotiation supported", report)
    assert "not vulnerable to heartbleed" in report
    assert "vulnerable to heartbleed" not in report.replace("not vulnerable to heartbleed", "")
    offered = re.findall(r"^(?:Preferred|Accepted)\s+(TLSv1\.[23])\s+(\d+) bits\s+(\S+)", report, re.MULTILINE)
    assert {version for version, _, _ in offered} == {"TLSv1.2", "TLSv1.3"}
    for version, bits, cipher in offered:
        assert int(bits) >= 128
        assert re.search(r"GCM|CHACHA20", cipher), cipher  # authenticated
        assert version == "TLSv1.3" or cipher.startswith(("ECDHE-", "DHE-")), cipher  # forward secret


# ── a browser ─────────────────────────────────────────────────────────────────────────────────────────────────────────
PAGE = """<!doctype html><title>WebSocket</title><script>
async function talk(url) {
  const socket = new WebSocket(url, ["other", "chat"]);
  socket.binaryType = "arraybuffer";
  const queue = [], waiting = [];
  const push = (what) => waiting.length ? waiting.shift()(what) : queue.push(what);
  const next = () => queue.length ? Promise.resolve(queue.shift()) : new Promise((done) => waiting.push(done));
  socket.onopen = () => push("open");
  socket.onmessage = (event) => push(event.data);
  socket.onclose = (event) => push(`closed ${event.code} ${event.reason} ${event.wasClean}`);
  const told = [await next(), socket.protocol, socket.extensions];
  socket.send("h\\u00e9llo"); told.push(await next());
  const large = new Uint8Array(1 << 20).map((_, at) => at * 31);
  socket.send(large);
  const back = new Uint8Array(await next());
  told.push(back.length === large.length && back.every((byte, at) => byte === large[at]));
  socket.send("close 4001"); told.push(await next());
  return told;
}
(async () => {
  const told = [];
  for (const url of URLS) {
    try { told.push(await talk(url)); } catch (error) { told.push(String(error)); }
  }
  await fetch("/report?" + encodeURIComponent(JSON.stringify(told)));
})();
</script>"""


@needs("chromium")
def test_a_browsers_websocket(tmp_path: Path) -> None:
    """Chromium, in clear and over TLS: subprotocol, compression, text, a mebibyte, and the app's own close code."""
    pair = read_pair(Authority().issue("shop.example").secret_data())
    reported: asyncio.Queue[str] = asyncio.Queue()
    urls: list[str] = []

    def page(connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/chat":
            return None
        if request.path.startswith("/report?"):
            reported.put_nowait(unquote(request.path.partition("?")[2]))
            return connection.respond(HTTPStatus.OK, "thanks")
        response = connection.respond(HTTPStatus.OK, PAGE.replace("URLS", json.dumps(urls)))
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "text/html"
        return response

    async def echo(socket: ServerConnection) -> None:
        async for message in socket:
            if message == "close 4001":
                await socket.close(4001, "as you wish")
                return
            await socket.send(message)

    async def story() -> list[list[object]]:
        chat = Subprotocol("chat")
        server = await serve(echo, "127.0.0.1", 0, process_request=page, subprotocols=[chat], max_size=2**21)
        address: Address = next(iter(server.sockets)).getsockname()
        async with server, installed(at=address, pair=pair) as router:
            urls.extend([f"ws://shop.example:{router.http}/chat", f"wss://shop.example:{router.https}/chat"])
            browser = await asyncio.create_subprocess_exec(
                "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync",
                "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
                "--no-first-run", "--ignore-certificate-errors", f"--user-data-dir={tmp_path}",
                "--host-resolver-rules=MAP shop.example 127.0.0.1", "--no-proxy-server", "--remote-debugging-port=0",
                f"http://shop.example:{router.http}/",
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            try:
                told: list[list[object]] = json.loads(await reported.get())
            finally:
                os.killpg(browser.pid, signal.SIGKILL)
                await browser.wait()
            return told

    told = on_loop(story(), within=90.0)
    for words in told:
        assert words[:2] == ["open", "chat"]
        assert str(words[2]).startswith("permessage-deflate")
        assert words[3:] == ["héllo", True, "closed 4001 as you wish true"]
    assert len(told) == 2
