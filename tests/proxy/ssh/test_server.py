"""The server by itself: who does not speak as the router does, and who is certified for what. Sessions are shown with
git and OpenSSH in ``tests/wire``."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.public_key import SSHOpenSSHCertificate

from drycc_proxy.listeners.proxy_header import written
from drycc_proxy.ssh import server
from drycc_proxy.ssh.config import Directory, Person
from drycc_proxy.ssh.server import Event, GitServer


def test_a_certificate_says_for_whom_it_is_and_lives_for_minutes() -> None:
    ca = asyncssh.generate_private_key("ssh-ed25519")
    key, certificate = server._certified(ca, "git", Person("alice", None), "SHA256:x")
    assert isinstance(certificate, SSHOpenSSHCertificate)
    assert certificate.principals == ["git"]
    assert certificate.key.get_fingerprint() == key.get_fingerprint()
    certificate.validate(asyncssh.public_key.CERT_TYPE_USER, "git")


def test_only_the_router_is_listened_to(tmp_path: Path) -> None:
    (tmp_path / "ssh_host_ed25519_key").write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    events: list[Event] = []

    async def story() -> None:
        git = GitServer(Directory(tmp_path), events.append)
        listening = socket.create_server(("127.0.0.1", 0))
        accepting = asyncio.create_task(git.listen(listening))

        async def said(data: bytes) -> bytes:
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(data)
            try:
                return await asyncio.wait_for(reader.readline(), 10)
            except ConnectionResetError:
                return b""
            finally:
                writer.transport.abort()

        header = written("v2", ("192.0.2.1", 40000), ("198.51.100.7", 2222))
        assert (await said(header + b"SSH-2.0-git\r\n")).startswith(b"SSH-2.0-drycc")
        assert await said(b"SSH-2.0-git\r\n") == b""
        assert await said(header[:12] + b"\xff" * 20) == b""
        accepting.cancel()
        listening.close()
        await git.close(1.0)

    asyncio.run(story())


def test_who_comes_alone_is_in_nobodys_crowd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ssh_host_ed25519_key").write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    monkeypatch.setattr(server, "MAX_STRANGERS", 4)
    events: list[Event] = []

    async def story() -> None:
        git = GitServer(Directory(tmp_path), events.append)
        listening = socket.create_server(("127.0.0.1", 0))
        accepting = asyncio.create_task(git.listen(listening))

        async def comes(client: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(written("v2", (client, 40000), ("198.51.100.7", 2222)) + b"SSH-2.0-git\r\n")
            assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"SSH-2.0-drycc")
            return reader, writer

        alone = await comes("192.0.2.1")
        crowd = [await comes("203.0.113.9") for _ in range(9)]
        assert [event["client"] for event in events] == ["203.0.113.9"] * 6
        assert {event["reason"] for event in events} == {"too_many_strangers"}
        await asyncio.wait_for(alone[0].readuntil(b"mlkem768x25519"), 10)  # it still hears the key exchange begin
        assert not alone[0].at_eof()
        for _, writer in (alone, *crowd):
            writer.transport.abort()
        accepting.cancel()
        listening.close()
        await git.close(1.0)

    asyncio.run(story())


# ── limits of one client ──────────────────────────────────────────────────────────────────────────────────────────────
class Served:
    """A server that knows one key, and clients of it."""

    def __init__(self, git: GitServer, address: tuple[str, int], events: list[Event], key: asyncssh.SSHKey) -> None:
        self.git = git
        self._address = address
        self.events = events
        self.key = key

    async def connect(self, *keys: asyncssh.SSHKey, user: str = "git") -> asyncssh.SSHClientConnection:
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, self._address)
        await loop.sock_sendall(sock, written("v2", ("192.0.2.1", 40000), ("198.51.100.7", 2222)))
        return await asyncssh.connect(
            sock=sock, config=None, username=user, client_keys=list(keys), agent_path=None, known_hosts=None,
            preferred_auth="publickey",
        )  # fmt: skip

    async def is_let_in(self, *keys: asyncssh.SSHKey, user: str = "git") -> bool:
        try:
            connection = await self.connect(*keys, user=user)
        except asyncssh.PermissionDenied:
            return False
        connection.abort()
        return True


def serve(directory: Path, story: Callable[[Served], Coroutine[Any, Any, None]]) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    (directory / "ssh_host_ed25519_key").write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    (directory / "keys").write_text(f"alice * {key.export_public_key().decode()}")
    events: list[Event] = []

    async def main() -> None:
        git = GitServer(Directory(directory), events.append)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            accepting = asyncio.create_task(git.listen(listening))
            async with asyncio.timeout(40):
                await story(Served(git, listening.getsockname(), events, key))
            accepting.cancel()
            await git.close(5.0)

    asyncio.run(main())


def test_so_many_keys_may_be_offered_and_no_more(tmp_path: Path) -> None:
    async def story(it: Served) -> None:
        wrong = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(server.MAX_KEYS)]
        assert await it.is_let_in(*wrong[:-1], it.key)
        assert not await it.is_let_in(*wrong, it.key)
        assert {event["reason"] for event in it.events} == {"unknown_key"}

    serve(tmp_path, story)


def test_there_is_one_user(tmp_path: Path) -> None:
    async def story(it: Served) -> None:
        assert not await it.is_let_in(it.key, user="root")
        assert it.events == [{"event": "denied", "reason": "bad_user", "client": "192.0.2.1"}]

    serve(tmp_path, story)


def test_who_proves_no_key_in_time_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LOGIN_SECONDS", 0.5)

    async def story(it: Served) -> None:
        reader, writer = await asyncio.open_connection(*it._address)
        writer.write(written("v2", ("192.0.2.1", 40000), ("198.51.100.7", 2222)) + b"SSH-2.0-slow\r\n")
        try:
            assert b"SSH-2.0-drycc" in await reader.read()  # to the end, which comes by itself
        except ConnectionResetError:
            pass
        writer.transport.abort()

    serve(tmp_path, story)


def test_one_connection_has_so_many_sessions_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_SESSIONS", 2)

    async def story(it: Served) -> None:
        with socket.create_server(("127.0.0.1", 0)) as deaf:  # a builder that never says a word
            it.git.serve_from([deaf.getsockname()], 20.0)
            connection = await it.connect(it.key)
            for _ in range(2):
                await connection.create_process("git-upload-pack 'shop'")
            refused = await connection.run("git-upload-pack 'shop'")
            assert refused.exit_status == server.GIT_FAILS
            assert it.events == []  # the two are under way
            connection.abort()

    serve(tmp_path, story)
