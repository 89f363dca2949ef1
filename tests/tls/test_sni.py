"""The front: real handshakes, in memory, with every name a client may send."""

import asyncio
import shutil
import ssl
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import uvloop

from drycc_tls.secret import read_pair
from drycc_tls.self_signed import NAME, self_signed
from drycc_tls.sni import Front, without_undecodable_names
from drycc_tls.store import CertificateStore
from drycc_tls.update import CertificateChange
from examples.authority import Authority
from tests.fakes.handshakes import shake, trusting

AUTHORITY = Authority()
PAIRS = {name: read_pair(AUTHORITY.issue(f"{name}.example").secret_data()) for name in ("a", "b", "xn--bcher-kva")}
V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture
def front() -> Front:
    store = CertificateStore(self_signed(datetime.now(UTC)))
    store.swap(store.prepare(CertificateChange(1, dict(PAIRS), names={f"{name}.example": name for name in PAIRS})))
    return Front(store)


@pytest.mark.parametrize("version", [V1_2, V1_3])
@pytest.mark.parametrize("name", ["a.example", "b.example", "xn--bcher-kva.example"])
def test_each_name_meets_its_own_certificate(front: Front, name: str, version: ssl.TLSVersion) -> None:
    ends = shake(front.context(), trusting(AUTHORITY, version), name)

    assert ends.names_shown() == [name]
    assert front.server_name(ends.server) == name.encode()
    assert front.covers(ends.server, name.encode())
    assert not front.covers(ends.server, b"other.example")


@pytest.mark.parametrize(
    ("sent", "remembered"),
    [("A.Example", b"a.example"), ("a.example.", b"a.example"), ("A.EXAMPLE.", b"a.example")],
)
def test_case_and_the_last_dot_are_folded(front: Front, sent: str, remembered: bytes) -> None:
    ends = shake(front.context(), trusting(None), sent)

    assert ends.names_shown() == ["a.example"]
    assert front.server_name(ends.server) == remembered


@pytest.mark.parametrize(
    "sent",
    [
        None,
        "unknown.example",
        "a.example.org",
        "sub.a.example",
        "example",
        "a" * 63 + ".example",
        "_",
        "*",
        "*.example",
    ],
)
def test_any_other_name_meets_the_default_certificate(front: Front, sent: str | None) -> None:
    ends = shake(front.context(), trusting(None), sent)

    assert ends.names_shown() == [NAME]
    assert front.server_name(ends.server) == (sent or "").encode()
    assert not front.covers(ends.server, b"a.example")


def hello(name: bytes) -> bytes:
    """A ClientHello whose server name is ``name``, which Python's own client would refuse to send."""
    outgoing = ssl.MemoryBIO()
    placeholder = ("p" * 50 + "." + "q" * 50 + "." + "r" * 50 + "." + "s" * 50 + "." + "t" * 50)[: len(name)]
    client = trusting(None).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=placeholder)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read().replace(placeholder.encode(), name)


def answer_to(front: Front, name: bytes) -> str:
    """The certificate of the connection, or the alert's name."""
    incoming = ssl.MemoryBIO()
    incoming.write(hello(name))
    server = front.context().wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
    try:
        server.do_handshake()
    except ssl.SSLWantReadError:
        return "default" if not front.covers(server, b"a.example") else "a.example"
    except ssl.SSLError as error:
        return str(error.reason)
    raise AssertionError("no handshake ends with a hello")


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        (b"a.example", "a.example"),
        (b"192.0.2.1", "default"),
        (b"[2001:db8::1]", "default"),
        (b"a..example", "default"),
        (b"..........", "default"),
        (b"a.example/path", "default"),
        (b"a.example\r\nX: y", "default"),
        (b"a" * 250, "default"),
    ],
)
def test_names_that_no_honest_client_sends_meet_the_default_too(front: Front, name: bytes, answer: str) -> None:
    assert answer_to(front, name) == answer


def test_a_name_with_nul_is_refused_by_openssl(front: Front) -> None:
    assert answer_to(front, b"a.example\0.evil.example") == "BAD_EXTENSION"


def test_a_name_that_is_not_ascii_is_refused_and_leaves_no_traceback(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", without_undecodable_names(reported.append))

    assert answer_to(front, "bücher.example".encode()) == "CALLBACK_FAILED"
    assert reported == []


def test_other_unraisable_errors_are_still_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unlucky:
        def __del__(self) -> None:
            raise RuntimeError("in a finalizer")

    reported: list[sys.UnraisableHookArgs] = []
    monkeypatch.setattr(sys, "unraisablehook", without_undecodable_names(reported.append))

    Unlucky()

    assert [type(unraisable.exc_value) for unraisable in reported] == [RuntimeError]


@pytest.mark.parametrize(("version", "judged"), [(V1_2, "a.example"), (V1_3, "b.example")])
def test_a_ticket_of_one_name_gives_no_mixture_of_two(front: Front, version: ssl.TLSVersion, judged: str) -> None:
    """A client that resumes under another name counts as that name or as its first one, with that one's coverage."""
    client = trusting(AUTHORITY, version)
    session = shake(front.context(), client, "a.example").client.session

    same = shake(front.context(), client, "a.example", session)
    other = shake(front.context(), client, "b.example", session)

    assert same.client.session_reused
    assert front.server_name(same.server) == b"a.example"
    assert front.covers(same.server, b"a.example")
    assert other.client.session_reused
    assert front.server_name(other.server) == judged.encode()
    assert [name for name in PAIRS if front.covers(other.server, f"{name}.example".encode())] == [judged[0]]


def test_a_session_outlives_the_rotation_of_its_certificate(front: Front) -> None:
    client = trusting(AUTHORITY)
    session = shake(front.context(), client, "a.example").client.session
    renewed = read_pair(AUTHORITY.issue("a.example").secret_data())

    front._store.swap(front._store.prepare(CertificateChange(2, {"a": renewed})))

    assert shake(front.context(), client, "a.example", session).client.session_reused


def test_a_connection_of_another_kind_covers_nothing(front: Front) -> None:
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)

    assert front.server_name(stranger) == b""
    assert not front.covers(stranger, b"a.example")


def test_before_the_hello_nothing_is_known(front: Front) -> None:
    silent = front.context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)

    assert front.server_name(silent) == b""
    assert not front.covers(silent, b"a.example")


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_both_loops_hand_out_the_object_that_remembers(
    front: Front, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    met: list[tuple[bytes, bool]] = []

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("ssl_object")
        met.append((front.server_name(connection), front.covers(connection, b"b.example")))
        writer.close()

    async def story() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=front.context())
        async with server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=trusting(AUTHORITY), server_hostname="b.example"
            )
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(story())
    assert met == [(b"b.example", True)]


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed: renegotiation goes untested")
def test_renegotiation_is_refused(front: Front) -> None:
    """Hardening T-01. ``R`` at the beginning of a line makes s_client ask for it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
        writer.close()

    async def story() -> str:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=front.context())
        async with server:
            port = server.sockets[0].getsockname()[1]
            client = await asyncio.create_subprocess_exec(
                *("openssl", "s_client", "-tls1_2", "-servername", "a.example", "-connect", f"127.0.0.1:{port}"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            assert client.stdin
            assert client.stdout
            client.stdin.write(b"before\n")
            await client.stdout.readuntil(b"BEFORE\n")
            client.stdin.write(b"R\n")
            await client.stdout.readuntil(b"RENEGOTIATING\n")
            told, _ = await client.communicate()
            return told.decode()

    assert "no renegotiation" in asyncio.run(story())
