"""The gateway from outside: streams led to it, where the builder is told to it, and what it tells counted."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import asyncssh
import pytest

from proxy.routes import StreamRoute, TableChange
from router import git_gateway
from router.git_gateway import GitGateway

GIT = StreamRoute("git", 2222, "builder", "drycc", "drycc-builder", (("10.0.0.7", 2223),), connect_timeout=3.0)
DATABASE = StreamRoute("tcp-5432", 5432, "db", "shop", "db", (("10.0.0.8", 5432),))


def test_gits_streams_are_led_to_it_and_no_others() -> None:
    gateway = GitGateway(Path("nowhere"), None)
    try:
        first = gateway.lead(TableChange(1, streams={"git": GIT, "tcp-5432": DATABASE}))
        second = gateway.lead(TableChange(2, gone_streams=frozenset({"git"})))
    finally:
        gateway._listening.close()
    assert first.streams["tcp-5432"] == DATABASE
    git = first.streams["git"]
    assert (git.port, git.proxy_protocol, git.endpoints[0][0]) == (2222, "v2", "127.0.0.1")
    assert json.loads(gateway._told) == {"builders": [["10.0.0.7", 2223]], "connect_timeout": 3.0}
    assert second.gone_streams == {"git"}


def test_what_it_tells_is_counted_and_written_down() -> None:
    lines: list[bytes] = []
    gateway = GitGateway(Path("nowhere"), lambda line: lines.append(line) is None)
    gateway._listening.close()
    for event in (
        {"event": "listening"},
        {"event": "session", "service": "git-receive-pack", "outcome": "ok", "bytes_in": 7},
        {"event": "session", "service": "git-upload-pack", "outcome": "ok", "bytes_in": 5},
        {"event": "session", "outcome": "bad_command", "bytes_in": 0},
        {"event": "denied", "reason": "unknown_key", "client": "192.0.2.1"},
    ):
        gateway._hear(event)
    assert gateway.sessions == {
        ("git-receive-pack", "ok"): 1,
        ("git-upload-pack", "ok"): 1,
        ("none", "bad_command"): 1,
    }
    assert (gateway.push_bytes, gateway.denied) == (7, {"unknown_key": 1})
    assert [json.loads(line)["event"] for line in lines] == ["session", "session", "session", "denied"]


def test_a_gateway_that_ends_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_gateway, "FIRST_WAIT", 0.01)

    async def story() -> None:
        gateway = GitGateway(tmp_path, None)
        running = asyncio.create_task(gateway.run())

        async def greeted() -> bytes:
            """What whoever comes is told; they wait while it is not there."""
            reader, writer = await asyncio.open_connection(*gateway._listening.getsockname())
            gateway_header = b"PROXY TCP4 192.0.2.1 198.51.100.7 40000 2222\r\n"
            writer.write(gateway_header + b"SSH-2.0-git\r\n")
            try:
                return await asyncio.wait_for(reader.readline(), 30)
            finally:
                writer.transport.abort()

        first = asyncio.create_task(greeted())
        await asyncio.sleep(0.5)  # it has ended by now, at least once: its directory is empty
        key = asyncssh.generate_private_key("ssh-ed25519")
        (tmp_path / "ssh_host_ed25519_key").write_bytes(key.export_private_key())
        assert (await first).startswith(b"SSH-2.0-drycc")
        child = gateway._child
        assert child is not None
        child.kill()
        assert (await greeted()).startswith(b"SSH-2.0-drycc")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(story())
