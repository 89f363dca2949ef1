"""The gateway from outside: streams led to it, where the builder is told to it, and what it tells counted."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncssh
import pytest

from drycc_proxy.routing.definitions import StreamRoute, TableChange
from drycc_router.git.gateway import GitGateway, keep
from drycc_router.git.process import GitProcess
from drycc_router.process import restart_policy

GIT = StreamRoute("git", 2222, "builder", "drycc", "drycc-builder", (("10.0.0.7", 2223),), connect_timeout=3.0)
DATABASE = StreamRoute("tcp-5432", 5432, "db", "shop", "db", (("10.0.0.8", 5432),))
HERE = ("127.0.0.1", 4000)
BUILDERS = {"builders": [["10.0.0.7", 2223]], "connect_timeout": 3.0}


@pytest.fixture
def way() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setblocking(False)
    far.settimeout(20)
    with near, far:
        yield near, far


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 -- counters have no event
        await asyncio.sleep(0.005)


def test_gits_streams_are_led_to_it_and_no_others(way: tuple[socket.socket, socket.socket]) -> None:
    gateway = GitGateway(HERE, way[0], None)
    first = gateway.lead(TableChange(1, streams={"git": GIT, "tcp-5432": DATABASE}))
    second = gateway.lead(TableChange(2, gone_streams=frozenset({"git"})))
    assert first.streams["tcp-5432"] == DATABASE
    git = first.streams["git"]
    assert (git.port, git.proxy_protocol, git.endpoints) == (2222, "v2", (HERE,))
    assert second.gone_streams == {"git"}


def test_each_gateway_is_told_where_the_builder_is(way: tuple[socket.socket, socket.socket]) -> None:
    near, far = way

    async def story() -> None:
        gateway = GitGateway(HERE, near, None)
        gateway.lead(TableChange(1, streams={"git": GIT}))
        gateway.listen()
        assert json.loads(far.recv(1000)) == BUILDERS
        far.send(b'{"event": "listening"}')  # another one
        assert json.loads(await asyncio.to_thread(far.recv, 1000)) == BUILDERS
        gateway.close()

    asyncio.run(story())


def test_a_gateway_that_does_not_listen_is_told_when_it_does(way: tuple[socket.socket, socket.socket]) -> None:
    near, far = way

    async def story() -> None:
        gateway = GitGateway(HERE, near, None)
        gateway.listen()
        for number in range(3000):  # more than the kernel keeps
            gateway.lead(TableChange(number, streams={"git": GIT}))
        last = StreamRoute("git", 2222, "builder", "drycc", "drycc-builder", (("10.0.0.9", 2223),))
        gateway.lead(TableChange(3000, streams={"git": last}))

        def hear() -> bytes:
            while b"10.0.0.9" not in (said := far.recv(1000)):
                pass
            return said

        assert json.loads(await asyncio.to_thread(hear))["builders"] == [["10.0.0.9", 2223]]
        gateway.close()

    asyncio.run(story())


def test_what_it_tells_is_counted_and_written_down_to_the_last_word(way: tuple[socket.socket, socket.socket]) -> None:
    near, far = way
    lines: list[bytes] = []
    for event in (
        {"event": "session", "service": "git-receive-pack", "outcome": "ok", "bytes_in": 7},
        {"event": "session", "service": "git-upload-pack", "outcome": "ok", "bytes_in": 5},
        {"event": "session", "outcome": "bad_command", "bytes_in": 0},
        {"event": "what"},
        {"event": "denied", "reason": "unknown_key", "client": "192.0.2.1"},
    ):
        far.send(json.dumps(event).encode())

    def write(line: bytes) -> bool:
        lines.append(line)
        return True

    async def story() -> None:
        gateway = GitGateway(HERE, near, write)
        gateway.listen()
        await until(lambda: len(lines) == 4)
        assert gateway.sessions == {
            ("git-receive-pack", "ok"): 1,
            ("git-upload-pack", "ok"): 1,
            ("none", "bad_command"): 1,
        }
        far.send(b"this is no event")
        far.send(b'{"event": "session", "outcome": "ok", "bytes_in": 1}')
        gateway.close()
        assert (gateway.push_bytes, gateway.denied) == (7, {"unknown_key": 1})

    asyncio.run(story())
    assert [json.loads(line)["event"] for line in lines] == ["session", "session", "session", "denied", "session"]


def test_its_lines_go_to_the_routers_log(
    way: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    near, far = way

    async def story() -> None:
        gateway = GitGateway(HERE, near, None)
        far.send(b'{"event": "log", "level": "warning", "message": "100%s of it"}')
        far.send(b'{"event": "log", "level": "what", "message": "more"}')
        gateway.listen()
        gateway.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(story())
    said = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert said == [(logging.WARNING, "100%s of it"), (logging.ERROR, "more")]


def test_a_gateway_that_ends_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart_policy, "FIRST", 0.01)

    async def story() -> None:
        process = GitProcess.prepare()
        gateway = GitGateway(process.listening.getsockname(), process.near, None)
        gateway.listen()
        running = asyncio.create_task(keep(process, tmp_path))

        async def greeted() -> bytes:
            """What whoever comes is told; they wait while it is not there."""
            reader, writer = await asyncio.open_connection(*process.listening.getsockname())
            gateway_header = b"PROXY TCP4 192.0.2.1 198.51.100.7 40000 2222\r\n"
            writer.write(gateway_header + b"SSH-2.0-git\r\n")
            try:
                return await asyncio.wait_for(reader.readline(), 30)
            finally:
                writer.transport.abort()

        def children() -> list[int]:
            text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
            named = [(int(pid), Path(f"/proc/{pid}/comm")) for pid in text.split()]
            return [pid for pid, comm in named if comm.exists() and comm.read_text() == "drycc-git\n"]

        first = asyncio.create_task(greeted())
        await until(lambda: len(children()) == 1)  # it ends at once: its directory is empty
        await until(lambda: not children())
        key = asyncssh.generate_private_key("ssh-ed25519")
        (tmp_path / "ssh_host_ed25519_key").write_bytes(key.export_private_key())
        assert (await first).startswith(b"SSH-2.0-drycc")
        os.kill(children()[0], signal.SIGKILL)
        assert (await greeted()).startswith(b"SSH-2.0-drycc")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert not children()
        gateway.close()
        process.close()

    asyncio.run(story())
