"""A worker in this process: what control sends becomes what clients meet. (The process: test_supervisor.py.)"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drycc_proxy.kernel.sockets import bind
from drycc_proxy.routing.definitions import HostRule, Route, TableChange
from drycc_router.process.messages import (
    Begin,
    Commit,
    Drain,
    Link,
    Serving,
    Stopped,
    TablePart,
    decode_for_supervisor,
    encode,
)
from drycc_router.roles.fanout import FanOut
from drycc_router.roles.worker import Meter, Start, Worker
from drycc_router.settings import LogTo, Settings
from drycc_tls import context
from drycc_tls.certificate import Certificate
from drycc_tls.policy import TlsPolicy
from drycc_tls.self_signed import self_signed
from drycc_tls.store import AT_ONCE
from drycc_tls.update import CertificateChange

PAIR = self_signed(datetime(2026, 1, 1, tzinfo=UTC))


class Told:
    """What a supervisor sees of one worker, and what it says to it."""

    def __init__(self, end: socket.socket, port: int, fan: FanOut) -> None:
        self.end = end
        self.port = port
        self.fan = fan

    async def hears(self, kind: type[object]) -> None:
        loop = asyncio.get_running_loop()
        while not isinstance(decode_for_supervisor(await asyncio.wait_for(loop.sock_recv(self.end, 100), 5)), kind):
            pass

    async def links(self) -> None:
        """A control process that knows nothing yet."""
        one, other = socket.socketpair()
        socket.send_fds(self.end, [encode(Link(0, 0))], [one.fileno()])
        one.close()
        await self.fan.link(0, os.getpid(), other)

    async def status(self, host: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % host)
        line = await asyncio.wait_for(reader.readline(), 5)
        await reader.read()
        writer.close()
        await writer.wait_closed()
        return line.split()[1]


@asynccontextmanager
async def worker() -> AsyncIterator[Told]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    sockets = {"http": bind("127.0.0.1", 0), "https": bind("127.0.0.1", 0)}
    port = sockets["http"].getsockname()[1]
    settings = Settings(manifests=Path("."), access_log=LogTo.NOWHERE, drain_grace=1.0)
    fan = FanOut(1)
    serving = asyncio.ensure_future(Worker(Start(settings, 0, theirs, sockets, PAIR, None), None, Meter(), 0).serve())
    told = Told(ours, port, fan)
    try:
        await told.links()
        yield told
    finally:
        try:
            ours.send(encode(Drain(0.5)))
        except BrokenPipeError:
            pass  # it has drained already
        await asyncio.wait_for(serving, 5)
        told.fan.close()
        ours.close()
        await asyncio.sleep(0.01)


def table(generation: int, *names: str, gone: tuple[str, ...] = ()) -> TableChange:
    hosts = [HostRule(b"%b.example" % name.encode(), f"shop/{name}") for name in names]
    return TableChange(
        generation,
        routes={f"shop/{name}": Route(f"shop/{name}", name, "shop", name) for name in names},
        gone_routes=frozenset(f"shop/{name}" for name in gone),
        hosts={rule.host: rule for rule in hosts},
        gone_hosts=frozenset(b"%b.example" % name.encode() for name in gone),
    )


def test_it_accepts_once_it_has_a_table_and_follows_changes() -> None:
    async def story() -> None:
        async with worker() as told:
            await told.fan.publish(CertificateChange(1), table(1, "a"))
            await told.hears(Serving)
            assert await told.status(b"a.example") == b"503"
            assert await told.status(b"b.example") == b"404"
            await told.fan.publish(
                CertificateChange(2), table(2, *(f"n{number}" for number in range(700)), gone=("a",))
            )
            assert await told.status(b"a.example") == b"404"
            assert await told.status(b"n699.example") == b"503"
            await told.fan.count()
            assert told.fan.sums().unrouted.requests == {(404, "GET", "http/1.1"): 2}

    asyncio.run(story())


def test_a_new_control_process_that_sends_everything_changes_only_what_differs() -> None:
    async def story() -> None:
        async with worker() as told:
            await told.fan.publish(
                CertificateChange(5, {"shop/c": PAIR}, names={"a.example": "shop/c"}), table(5, "a", "b")
            )
            await told.status(b"a.example")
            await told.fan.count()
            before = told.fan.sums().routes["shop/a"].requests
            told.fan.close()
            told.fan = FanOut(1)
            await told.links()
            await told.fan.publish(CertificateChange(1), table(1, "a", "c"))
            assert await told.status(b"a.example") == b"503"
            assert await told.status(b"b.example") == b"404"
            assert await told.status(b"c.example") == b"503"
            await told.fan.count()
            after = told.fan.sums().routes["shop/a"].requests  # the upstream lived on, and so did its counters
            assert sum(after.values()) == sum(before.values()) + 1

    asyncio.run(story())


def test_a_change_that_cannot_be_made_is_said_and_what_was_before_stays(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with worker() as told:
            await told.fan.publish(CertificateChange(1), table(1, "a"))
            broken = replace(table(2, "b"), routes={})  # a host whose route is not there
            for message in (Begin(False), TablePart(broken), Commit(2)):
                told.fan.lanes[0].sent = 2
                told.fan.lanes[0].settled.clear()
                told.fan.lanes[0].say(message)
            await asyncio.wait_for(told.fan.lanes[0].settled.wait(), 5)
            assert await told.status(b"a.example") == b"503"
            assert "is sent everything" in caplog.text

    asyncio.run(story())


def test_a_pair_that_openssl_refuses_later_is_told_of_and_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many certificates the contexts are built after the commit: then control has heard "applied" already."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    pairs = {f"shop/c{number}": self_signed(now) for number in range(AT_ONCE + 1)}
    bad = pairs["shop/c7"]
    build = context.presenting

    def refusing(certificate: Certificate, policy: TlsPolicy) -> ssl.SSLContext:
        if certificate.fingerprint == bad.fingerprint:  # it came here through a message
            raise ssl.SSLError("no")
        return build(certificate, policy)

    monkeypatch.setattr(context, "presenting", refusing)

    async def story() -> None:
        async with worker() as told:
            heard = asyncio.Event()
            told.fan.refusals = heard.set
            await told.fan.publish(CertificateChange(1, pairs), table(1, "a"))
            await asyncio.wait_for(heard.wait(), 20)
            assert told.fan.refused == {"shop/c7"}
            await told.fan.publish(CertificateChange(2), table(2, "b"))
            assert told.fan.refused == {"shop/c7"}, "a later change says nothing about it"
            await told.fan.publish(CertificateChange(3, {"shop/c7": PAIR}), table(3))
            assert told.fan.refused == frozenset()

    asyncio.run(story())


def test_it_drains_when_it_is_told_to_and_when_its_supervisor_is_gone() -> None:
    async def story() -> None:
        async with worker() as told:
            await told.fan.publish(CertificateChange(1), table(1, "a"))
            told.end.send(encode(Drain(1.0)))
            await told.hears(Stopped)
        async with worker() as told:
            await told.fan.publish(CertificateChange(1), table(1, "a"))
            await told.hears(Serving)
            told.end.shutdown(socket.SHUT_RDWR)

    asyncio.run(story())


def test_the_meter_reads_what_this_process_uses() -> None:
    used = Meter().read()
    assert used["cpu_seconds"] > 0
    assert used["resident_bytes"] > 1_000_000
