"""Two clients of an app that authenticates connections: neither ever speaks in the other's name."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
from pathlib import Path
from typing import cast

from tests.fakes.process import SOON, App, Router, manifest, router, soon
from tests.fakes.wired import head_of, on_loop, origin


async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Asks for NTLM credentials once for each connection, and calls whoever speaks on it by that name afterwards."""
    user = b""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        scheme, _, name = head_of(head).get(b"authorization", b"").partition(b" ")
        if scheme == b"NTLM":
            user = name
        if user:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(user), user))
        else:
            writer.write(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nContent-Length: 7\r\n\r\nwho is?")


class Listening:
    """An app as ``manifest`` wants it."""

    def __init__(self, port: int) -> None:
        self.port = port


class Client:
    def __init__(self, router: Router) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", router.ports["http"], timeout=SOON)

    def asks(self, **fields: str) -> tuple[int, bytes]:
        self._connection.request("GET", "/", headers={"Host": "web.localhost", **fields})
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def close(self) -> None:
        self._connection.close()


def visits(started: Router) -> None:
    soon(lambda: started.get()[0] == 401)
    with contextlib.closing(Client(started)) as alice, contextlib.closing(Client(started)) as mallory:
        assert alice.asks() == (401, b"who is?")
        assert alice.asks(Authorization="NTLM alice") == (200, b"alice")
        for _ in range(5):
            assert mallory.asks() == (401, b"who is?")
            assert alice.asks() == (200, b"alice")
    with contextlib.closing(Client(started)) as bob, contextlib.closing(Client(started)) as mallory:
        assert bob.asks(Authorization="NTLM bob") == (200, b"bob")
        assert mallory.asks() == (401, b"who is?")
        assert bob.asks() == (200, b"bob")
    with contextlib.closing(Client(started)) as mallory:
        assert mallory.asks() == (401, b"who is?")


def test_an_identity_stays_with_the_client_that_proved_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with origin(app) as (_, port):
            (tmp_path / "web.yaml").write_text(manifest("shop/web", cast(App, Listening(port))))
            with router(tmp_path, "--workers", "1") as started:
                await asyncio.to_thread(visits, started)

    on_loop(story(), 2 * SOON)
