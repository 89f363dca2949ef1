"""The server by itself: who does not speak as the router does, and who is certified for what. Sessions are shown with
git and OpenSSH in ``tests/wire``."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import asyncssh
import pytest

from proxy.proxy_header import written
from proxy.ssh import server
from proxy.ssh.directory import Directory, Person
from proxy.ssh.server import Event, GitServer


def test_a_certificate_says_for_whom_it_is_and_lives_for_minutes() -> None:
    ca = asyncssh.generate_private_key("ssh-ed25519")
    key, certificate = server._certified(ca, "git", Person("alice", None), "SHA256:x")
    assert isinstance(certificate, asyncssh.SSHCertificate)
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
