"""Options set on real sockets, through the loop that serves."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from typing import cast

import pytest
import uvloop

from drycc_proxy.kernel.sockets import (
    RECEIVE_BUFFER,
    UNSENT_LOW_WATER,
    bind,
    descriptors,
    has_news,
    kernel_unsent,
    limit_unsent,
    peer_address,
    reset_on_close,
    set_app_options,
    set_inherited,
    unread,
)
from tests.fakes.transport import FakeTransport


class Accepted(asyncio.Protocol):
    """Hands its transport to the test."""

    def __init__(self, made: asyncio.Future[asyncio.Transport]) -> None:
        self.made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made.set_result(cast(asyncio.Transport, transport))


async def connected() -> tuple[asyncio.AbstractServer, asyncio.Transport, socket.socket]:
    """A server, the transport of one accepted connection, and the client's blocking socket."""
    loop = asyncio.get_running_loop()
    made: asyncio.Future[asyncio.Transport] = loop.create_future()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    limit_unsent(listening)
    server = await loop.create_server(lambda: Accepted(made), sock=listening)
    client = socket.create_connection(listening.getsockname())
    client.settimeout(5)
    return server, await asyncio.wait_for(made, 5), client


@pytest.mark.parametrize("reset", [False, True], ids=["plain close", "reset"])
def test_a_close_becomes_a_reset_when_asked(reset: bool) -> None:
    async def story() -> bytes:
        server, transport, client = await connected()
        with client:
            if reset:
                reset_on_close(transport)
            transport.abort()
            try:
                return await asyncio.to_thread(client.recv, 1)
            finally:
                server.close()

    if reset:
        with pytest.raises(ConnectionResetError):
            uvloop.run(story())
    else:
        assert uvloop.run(story()) == b""


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="the option is Linux's")
def test_the_kernels_share_is_bounded_also_for_accepted_connections() -> None:
    async def story() -> tuple[int, int]:
        server, transport, client = await connected()
        with client:
            inherited = option(transport)
            limit_unsent(transport)
            own = option(transport)
            transport.abort()
            server.close()
        return inherited, own

    def option(transport: asyncio.Transport) -> int:
        with socket.fromfd(transport.get_extra_info("socket").fileno(), socket.AF_INET, socket.SOCK_STREAM) as sock:
            return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)

    assert uvloop.run(story()) == (UNSENT_LOW_WATER, UNSENT_LOW_WATER)


def test_what_the_kernel_takes_from_an_app_is_bounded() -> None:
    async def story() -> int:
        server, transport, client = await connected()
        with client:
            set_app_options(transport)
            descriptor = transport.get_extra_info("socket").fileno()
            with socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as sock:
                size = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            transport.abort()
            server.close()
        return size

    assert uvloop.run(story()) <= 2 * RECEIVE_BUFFER


def asks_for_life(sock: socket.socket) -> bool:
    """Whether the kernel asks a silent peer for life, within minutes."""
    idle = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
    every = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
    times = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) and idle + every * times <= 120


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="the option is Linux's")
def test_the_kernel_asks_both_sides_for_life() -> None:
    with bind("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert asks_for_life(accepted)

    async def story() -> bool:
        server, transport, client = await connected()
        with client:
            descriptor = transport.get_extra_info("socket").fileno()
            with socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as sock:
                before = asks_for_life(sock)
                set_app_options(transport)
                after = asks_for_life(sock)
            transport.abort()
            server.close()
        return after and not before

    assert uvloop.run(story())


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="the option is Linux's")
def test_a_socket_that_another_version_bound_is_brought_up_to_date() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        set_inherited(listening)
        with socket.create_connection(listening.getsockname()):
            accepted, _ = listening.accept()
            with accepted:
                assert asks_for_life(accepted)


def test_a_connection_that_is_gone_is_left_alone() -> None:
    class Gone(asyncio.Transport):
        def get_extra_info(self, name: str, default: object = None) -> object:
            return None

    reset_on_close(Gone())
    limit_unsent(Gone())
    set_app_options(Gone())
    assert Gone().get_extra_info("socket") is None


@pytest.mark.parametrize(("host", "client"), [("127.0.0.1", "127.0.0.1"), ("::", "127.0.0.1")])
def test_a_bound_socket_listens_on_a_port_of_its_own(host: str, client: str) -> None:
    with bind(host, 0) as listening:
        port = listening.getsockname()[1]
        assert port
        assert not listening.getblocking()
        assert listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT_LOW_WATER
        with socket.create_connection((client, port), 5):
            listening.accept()[0].close()
        with pytest.raises(OSError, match=f"cannot listen on {host} port {port}: Address already in use"):
            bind(host, port)


def test_what_the_peer_has_yet_to_take_is_counted() -> None:
    async def story() -> list[int]:
        server, transport, client = await connected()
        with client:
            transport.write(2_000_000 * b"x")  # more than the window of a peer that has read nothing yet
            counts = [kernel_unsent(transport)]
            taken = 0
            while taken < 2_000_000:
                taken += len(await asyncio.to_thread(client.recv, 65536))
            counts.append(kernel_unsent(transport))
            transport.abort()
            await asyncio.sleep(0)
            counts.append(kernel_unsent(transport))
            server.close()
        return counts

    full, taken, gone = uvloop.run(story())
    assert full > 0
    assert (taken, gone) == (0, 0)


def test_a_transport_without_a_socket_has_nothing_in_the_kernel() -> None:
    assert kernel_unsent(asyncio.Transport()) == 0


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (("203.0.113.7", 1), "203.0.113.7"),
        (("2001:db8::7", 1, 0, 0), "2001:db8::7"),
        (("fe80::1%eth0", 1, 0, 2), "fe80::1"),
        (("::ffff:203.0.113.7", 1, 0, 0), "203.0.113.7"),
        (("::ffff:cb00", 1, 0, 0), "::ffff:cb00"),
        (None, "0.0.0.0"),
        ("", "0.0.0.0"),
    ],
)
def test_a_peer_has_one_address(name: object, address: str) -> None:
    """A client of IPv4 is the same on a socket that takes both."""
    transport = FakeTransport(lambda *_: None, cast("tuple[str, int]", name))
    assert peer_address(transport) == address


@pytest.mark.parametrize("said", ["nothing", "bytes", "its end", "a reset"])
def test_what_the_kernel_knows_before_the_loop_does(said: str) -> None:
    async def story() -> None:
        server, transport, client = await connected()
        async with server:
            assert not has_news(transport)
            if said == "bytes":
                client.sendall(b"x")
            elif said == "its end":
                client.shutdown(socket.SHUT_WR)
            elif said == "a reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.close()
            # The loop has not turned since; on loopback the kernel knows at once.
            assert has_news(transport) == (said != "nothing")
            client.close()
            transport.abort()

    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(story())


def test_a_transport_without_a_socket_has_no_news() -> None:
    assert not has_news(asyncio.BaseTransport())


def test_what_was_received_before_a_reset_can_still_be_read() -> None:
    """A write fails first, as it does when the reset is here and the loop has not turned since."""

    async def story() -> None:
        server, transport, client = await connected()
        async with server:
            transport.write(b"more than is read")
            client.recv(4)
            client.sendall(100_000 * b"x")
            client.close()  # with unread bytes: a reset
            transport.write(b"fails")
            assert transport.is_closing()
            assert b"".join(unread(transport)) == 100_000 * b"x"
            assert b"".join(unread(transport)) == b""

    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(story())


def test_no_more_is_read_of_a_broken_connection_than_a_socket_holds() -> None:
    async def story() -> None:
        server, transport, client = await connected()
        async with server:
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):  # noqa: TID251 -- a test fills the socket
                while True:
                    client.send(bytes(1 << 20))
            assert len(b"".join(unread(transport))) <= 2 * RECEIVE_BUFFER + (64 << 10)
            client.close()
            transport.abort()

    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(story())


def test_a_transport_without_a_socket_has_nothing_unread() -> None:
    assert list(unread(asyncio.BaseTransport())) == []


def test_how_many_descriptors_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1024))
    assert descriptors() == 256
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert descriptors() == 1 << 20
