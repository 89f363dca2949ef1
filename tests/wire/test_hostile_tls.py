"""TLS from strangers, over real sockets: what no library would send, and what a library sends in bad faith."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Iterator

import pytest
from cryptography import x509

from drycc_tls.secret import read_pair
from examples.authority import Authority
from tests.fakes.handshakes import trusting
from tests.fakes.hellos import ECDSA_GCM, alert, hello, record, server_name
from tests.fakes.process import secret
from tests.fakes.wired import HOST, Standing, head_of, on_loop, standing

AUTHORITY = Authority()
NAMES = ("shop.example", "other.example")
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
LAST = b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
FALLBACK = "self-signed"
FAILURES = "router_tls_handshake_failures_total"


@pytest.fixture(scope="module")
def program() -> Iterator[Standing]:
    """Two apps with a certificate each, and one that answers for everything else. Whatever is sent to it, it writes no
    line of log that warns, and no traceback: each of its lines is read as one of log."""
    pairs = {name: read_pair(AUTHORITY.issue(name).secret_data()) for name in NAMES}
    other = {"other": {"certificates": "other.example:other"}}
    more = secret("shop/other-cert", pairs["other.example"])
    with standing(more, pair=pairs["shop.example"], beside=other) as running:
        yield running
    assert [
        line for line in running.said if line["level"] == "warning" and str(line["logger"]).startswith("proxy")
    ] == []


async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


async def says(router: Standing, *pieces: bytes, until: bytes = b"") -> bytes:
    """Send bytes to the port for TLS, and hear what comes back: to its end, or until ``until`` is in it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", router.https)
    heard = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        while not (until and until in heard):
            data = await reader.read(65536)
            if not data:
                break
            heard += data
    except OSError:
        pass
    finally:
        writer.transport.abort()
    return heard


DONE = b"\x0e\x00\x00\x00"
"""ServerHelloDone: the end of what a TLS 1.2 server says in clear."""


def shown(said: bytes) -> str:
    """The name on the certificate in a TLS 1.2 server's flight."""
    message, at = b"", 0
    while said[at : at + 1] == b"\x16":
        size = int.from_bytes(said[at + 3 : at + 5])
        message += said[at + 5 : at + 5 + size]
        at += 5 + size
    at = 0
    while message[at] != 11:
        at += 4 + int.from_bytes(message[at + 1 : at + 4])
    size = int.from_bytes(message[at + 7 : at + 10])
    certificate = x509.load_der_x509_certificate(message[at + 10 : at + 10 + size])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    [name] = names.get_values_for_type(x509.DNSName)
    return name if name in NAMES else FALLBACK


async def still_serves(router: Standing) -> None:
    async with router.caller(trusting(AUTHORITY)) as caller:
        await caller.asks(GET)
        assert await caller.answer() == b"hello"


def against(program: Standing, *pieces: bytes, until: bytes = b"", failures: int = 1) -> bytes:
    """What a router says to these bytes; afterwards it serves as before."""

    async def story() -> bytes:
        before = await program.metric(FAILURES)
        async with program.serves(greets) as router:
            heard = await says(router, *pieces, until=until)
            await still_serves(router)
            await router.until_metric("router_tls_handshakes_pending", 0)
            await router.until_metric(FAILURES, before + failures)
            return heard

    return on_loop(story())


# ── names (T-05, T-06) ────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("sni", "name"),
    [
        (None, FALLBACK),
        (server_name(b"shop.example"), "shop.example"),
        (server_name(b"SHOP.Example"), "shop.example"),
        (server_name(b"shop.example."), "shop.example"),
        (server_name(b"other.example"), "other.example"),
        (server_name(b"unknown.example"), FALLBACK),
        (server_name(b"127.0.0.1"), FALLBACK),
        (server_name(b"[::1]"), FALLBACK),
        (server_name(b"shop.example:443"), FALLBACK),
        (server_name(b"*.example"), FALLBACK),
        (server_name(b"a..b"), FALLBACK),
        (server_name(b"../../shop.example"), FALLBACK),
        (server_name(b"x" * 255), FALLBACK),
        (server_name(b""), FALLBACK),
    ],
    ids=repr,
)
def test_a_name_meets_its_certificate_or_the_default_one(program: Standing, sni: bytes | None, name: str) -> None:
    assert shown(against(program, record(hello(sni=sni)), until=DONE)) == name


@pytest.mark.parametrize(
    "sni",
    [
        server_name(b"x" * 256),
        server_name(b"x" * 5000),
        server_name(b"shop.example\x00.evil"),
        server_name("münchen.example".encode()),
        server_name(b"\xff\xfe"),
        server_name(b"shop.example", b"other.example"),
        b"",
        b"\x00",
        b"\x00\x05\x00\x00\x09shop",
    ],
    ids=repr,
)
def test_a_name_that_is_none_is_refused_without_a_word_in_the_log(program: Standing, sni: bytes) -> None:
    said = against(program, record(hello(sni=sni)))
    assert alert(said) is not None or said == b""


# ── hellos (T-03, T-04, T-09, T-10) ───────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("size", [1, 16, 100])
def test_a_hello_in_many_records_and_segments(program: Standing, size: int) -> None:
    data = record(hello(sni=server_name(b"other.example")), size)
    assert shown(against(program, data, until=DONE)) == "other.example"
    pieces = [data[at : at + 1] for at in range(len(data))]
    assert shown(against(program, *pieces, until=DONE)) == "other.example"


def test_a_hello_of_64_kibibytes_is_answered_or_refused(program: Standing) -> None:
    padding = b"\x00\x15" + (60_000).to_bytes(2) + bytes(60_000)
    said = against(program, record(hello(sni=server_name(b"shop.example"), more=padding)), until=DONE)
    assert alert(said) is not None or shown(said) == "shop.example"


def test_a_hello_that_never_ends_is_refused(program: Standing) -> None:
    endless = b"\x01\xff\xff\xff" + 400_000 * b"x"
    assert alert(against(program, record(endless))) is not None


def test_values_that_nobody_knows_are_ignored(program: Standing) -> None:
    """GREASE (RFC 8701), and a key share as large as those after quantum computers."""
    grease = b"\x0a\x0a\x00\x00" + b"\x1a\x1a\x00\x01\x00" + b"\x00\x33" + (1222).to_bytes(2)
    grease += (1220).to_bytes(2) + b"\x63\x99" + (1216).to_bytes(2) + bytes(1216)
    data = record(hello(sni=server_name(b"shop.example"), ciphers=(0x2A2A, *ECDSA_GCM), more=grease))
    assert shown(against(program, data, until=DONE)) == "shop.example"


@pytest.mark.parametrize("version", [0x0300, 0x0301, 0x0302], ids=["ssl3", "1.0", "1.1"])
def test_old_versions_are_refused(program: Standing, version: int) -> None:
    assert alert(against(program, record(hello(version=version)))) in (40, 70)


@pytest.mark.parametrize(
    "ciphers",
    [
        (0x0005, 0xC011, 0xC007),  # RC4
        (0x000A, 0xC012, 0xC008),  # 3DES
        (0xC013, 0xC014, 0xC009, 0xC00A, 0x002F, 0x0035),  # CBC with SHA-1
        (0xC023, 0xC024, 0xC027, 0xC028, 0x003C),  # CBC with SHA-2
        (0x009C, 0x009D),  # no forward secrecy
        (0x0018, 0x0034, 0xC018, 0x00A6),  # anonymous
        (0x0003, 0x0008, 0x0014),  # export
        (0x0000, 0x003B, 0xC006),  # no encryption
    ],
    ids=["rc4", "3des", "cbc-sha1", "cbc-sha2", "rsa", "anonymous", "export", "null"],
)
def test_weak_ciphers_are_refused(program: Standing, ciphers: tuple[int, ...]) -> None:
    assert alert(against(program, record(hello(ciphers=ciphers)))) == 40


def test_compression_is_not_agreed_on(program: Standing) -> None:
    said = against(program, record(hello(compression=b"\x01\x00")), until=DONE)
    assert said[5 + 4 + 2 + 32 + 1 + said[43] + 2] == 0


@pytest.mark.parametrize("protocols", [(b"foo",), (b"h2",), (b"http/1.0", b"http/0.9"), (b"",)], ids=repr)
def test_who_names_only_protocols_not_spoken_here_is_told_so(program: Standing, protocols: tuple[bytes, ...]) -> None:
    assert alert(against(program, record(hello(alpn=protocols)))) in (120, 50)


@pytest.mark.parametrize("protocols", [None, ["http/1.1"], ["foo", "http/1.1"], ["h2", "http/1.1"]], ids=repr)
def test_http_1_1_is_agreed_on_where_it_is_named(program: Standing, protocols: list[str] | None) -> None:
    async def story() -> None:
        tls = trusting(AUTHORITY)
        if protocols:
            tls.set_alpn_protocols(protocols)
        async with program.serves(greets) as router, router.caller(tls) as caller:
            await caller.asks(GET)
            assert await caller.answer() == b"hello"
            agreed = caller.writer.get_extra_info("ssl_object").selected_alpn_protocol()
            assert agreed == ("http/1.1" if protocols else None)

    on_loop(story())


def test_http_2_without_agreement_is_400(program: Standing) -> None:
    async def story() -> None:
        async with program.serves(greets) as router, router.caller(trusting(AUTHORITY)) as caller:
            await caller.asks(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            head = await caller.head()
            assert head.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 505 "))
            assert head_of(head)[b"connection"] == b"close"

    on_loop(story())


# ── after the handshake (T-01, T-02, T-12, T-14) ──────────────────────────────────────────────────────────────────────
class Shaken:
    """A client of its own, so that the bytes between it and the router can be looked at and repeated."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: ssl.TLSVersion) -> None:
        self.reader, self.writer = reader, writer
        self.inside, self.outside = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = trusting(AUTHORITY, version).wrap_bio(self.inside, self.outside, server_hostname="shop.example")

    async def shake(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
                await self.flush()
                return
            except ssl.SSLWantReadError:
                await self.flush()
                self.inside.write(await self.reader.read(65536))

    async def flush(self) -> None:
        self.writer.write(self.outside.read())
        await self.writer.drain()


def with_openssl(port: int | None, *arguments: str, script: str) -> str:
    """What ``openssl s_client`` prints."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "shop.example", *arguments]
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=20)
    return done.stdout + done.stderr


@pytest.mark.peer("openssl")
def test_a_client_that_wants_to_renegotiate_is_refused(program: Standing) -> None:
    async def story() -> None:
        async with program.serves(greets) as router:
            before = await router.metric("router_tls_handshakes_total")
            said = await asyncio.to_thread(with_openssl, router.https, "-tls1_2", script="R\n")
            assert "no renegotiation" in said, said
            assert await router.metric("router_tls_handshakes_total") == before + 1
            await still_serves(router)

    on_loop(story())


@pytest.mark.peer("openssl")
def test_no_early_data_is_offered(program: Standing) -> None:
    async def story() -> None:
        async with program.serves(greets) as router:
            said = await asyncio.to_thread(with_openssl, router.https, "-tls1_3", "-ign_eof", script=LAST.decode())
            assert "Max Early Data: 0" in said, said

    on_loop(story())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_body_cut_off_without_a_goodbye_is_not_taken_for_whole(program: Standing, version: ssl.TLSVersion) -> None:
    heard: list[bytes] = []
    half, gone = asyncio.Event(), asyncio.Event()

    async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            while data := await reader.read(65536):
                heard.append(data)
                half.set()
        except OSError:
            pass
        gone.set()

    async def story() -> None:
        async with program.serves(listens) as router:
            shaken = Shaken(*await asyncio.open_connection("127.0.0.1", router.https), version)
            await shaken.shake()
            shaken.tls.write(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
            await shaken.flush()
            await half.wait()
            shaken.writer.write_eof()  # FIN, and no close_notify
            await gone.wait()
            assert not b"".join(heard).endswith(b"0\r\n\r\n")
            shaken.writer.transport.abort()

    on_loop(story())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_record_that_was_tampered_with_reaches_no_app(program: Standing, version: ssl.TLSVersion) -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise AssertionError("nothing may arrive")

    async def story() -> None:
        async with program.serves(never) as router:
            shaken = Shaken(*await asyncio.open_connection("127.0.0.1", router.https), version)
            await shaken.shake()
            shaken.tls.write(GET)
            data = bytearray(shaken.outside.read())
            data[-1] ^= 1
            shaken.writer.write(bytes(data))
            try:
                while await shaken.reader.read(65536):
                    pass
            except ConnectionResetError:
                pass
            await router.until_metric("router_requests_in_flight", 0)
            shaken.writer.transport.abort()

    on_loop(story())
