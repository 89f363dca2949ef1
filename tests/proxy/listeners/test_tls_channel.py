"""The TLS channel between a fake socket and a protocol that notes what it is told; the client is OpenSSL in memory."""

from __future__ import annotations

import asyncio
import datetime
import random
import ssl
import weakref
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from drycc_proxy.http.deadlines import GOODBYE_SECONDS, HANDSHAKE_SECONDS
from drycc_proxy.kernel.clock import Wheel
from drycc_proxy.listeners.tls_channel import MAX_DEMANDS, MAX_FRUITLESS, PIECE, TlsChannel
from drycc_proxy.metrics import Counters
from drycc_proxy.state.handshakes import Handshakes
from drycc_tls.self_signed import self_signed
from drycc_tls.store import CertificateStore
from tests.fakes.clock import FakeClock
from tests.fakes.handshakes import trusting
from tests.fakes.instructions import Work
from tests.fakes.loop import FakeLoop


class Wire(asyncio.Transport):
    """The raw transport: collects ciphertext, remembers how it was treated."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.closed = self.aborted = self.ended = self.paused = False

    def write(self, data: Any) -> None:
        assert not self.aborted
        self.sent.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.sent))


class Inner(asyncio.Protocol):
    """The protocol inside: hears clear text."""

    def __init__(self) -> None:
        self.heard = b""
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.full: list[str] = []
        self.eof = False
        self.keep_open = True
        self.lost: list[Exception | None] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def eof_received(self) -> bool:
        self.eof = True
        return self.keep_open

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.append(error)

    def pause_writing(self) -> None:
        self.full.append("pause")

    def resume_writing(self) -> None:
        self.full.append("resume")


class Conversation:
    """A channel, its wire and a client."""

    def __init__(
        self,
        context: ssl.SSLContext,
        wheel: Wheel,
        version: ssl.TLSVersion | None = None,
        client: ssl.SSLContext | None = None,
    ) -> None:
        self.counters = Counters()
        self.inner = Inner()
        self.wire = Wire()
        self.loop = FakeLoop()
        handshakes = Handshakes(self.loop.call_soon, self.counters)
        self.channel = TlsChannel(context, lambda: self.inner, wheel, self.counters, handshakes)
        self.channel.connection_made(self.wire)
        self.from_router, self.to_router = ssl.MemoryBIO(), ssl.MemoryBIO()
        offered = client or trusting(None, version)
        self.client = offered.wrap_bio(self.from_router, self.to_router, server_hostname="a.test")

    def deliver(self, segment: int = 1 << 20) -> None:
        """Carry what the client has said to the router, in segments."""
        data = self.to_router.read()
        for at in range(0, len(data), segment):
            self.channel.data_received(data[at : at + segment])
            self.loop.settle()
        self.hear()

    def hear(self) -> None:
        """Carry what the router has said to the client."""
        for data in self.wire.sent:
            self.from_router.write(data)
        self.wire.sent.clear()

    def shake(self, segment: int = 1 << 20) -> None:
        """Complete the handshake."""
        for _ in range(6):
            try:
                self.client.do_handshake()
                self.deliver(segment)
                return
            except ssl.SSLWantReadError:
                self.deliver(segment)
        raise AssertionError("no end of the handshake")

    def client_reads(self, count: int) -> bytes:
        """Exactly this many bytes of clear text."""
        self.hear()
        heard = b""
        while len(heard) < count:
            heard += self.client.read(count - len(heard))
        return heard


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    for module in ("drycc_proxy.kernel.clock", "drycc_proxy.listeners.tls_channel"):
        monkeypatch.setattr(f"{module}.now", clock.now)
    return clock


@pytest.fixture
def wheel(clock: FakeClock) -> Iterator[Wheel]:
    loop = asyncio.new_event_loop()
    yield Wheel(loop)
    loop.close()


@pytest.fixture(scope="module")
def context() -> ssl.SSLContext:
    return CertificateStore(self_signed(datetime.datetime.now(datetime.UTC))).choose(None).context


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def talk(request: pytest.FixtureRequest, context: ssl.SSLContext, wheel: Wheel) -> Conversation:
    return Conversation(context, wheel, request.param)


@pytest.mark.parametrize("segment", [1, 7, 1 << 20])
def test_what_is_said_arrives_in_whatever_segments_it_comes(talk: Conversation, segment: int) -> None:
    talk.shake(segment)
    talk.client.write(b"GET / HTTP/1.1\r\n\r\n")
    talk.deliver(segment)
    assert talk.inner.heard == b"GET / HTTP/1.1\r\n\r\n"
    talk.channel.write(b"HTTP/1.1 200 OK\r\n\r\n")
    assert talk.client_reads(19) == b"HTTP/1.1 200 OK\r\n\r\n"
    assert (talk.counters.tls_handshakes, talk.counters.tls_failures) == (1, 0)


def test_a_request_on_a_warm_connection_costs_the_channel_little(talk: Conversation) -> None:
    talk.shake()
    request, answer = b"GET / HTTP/1.1\r\nHost: a.test\r\nCookie: %b\r\n\r\n" % (600 * b"c"), 230 * b"a"
    work = Work()
    for asked in range(1, 21):
        talk.client.write(request)
        data = talk.to_router.read()
        with work.on("warm") if asked > 10 else nullcontext():
            talk.channel.data_received(data)
            talk.channel.write(answer)
        talk.hear()
        assert talk.client_reads(len(answer)) == answer
        assert talk.inner.heard == asked * request
    # What the fakes do included. Reading by the way that expects anything would be 70 more.
    assert work.done["warm"] / 10 < 200


@pytest.mark.parametrize("seed", range(4))
def test_records_of_any_size_arrive_in_order_however_they_are_cut(talk: Conversation, wheel: Wheel, seed: int) -> None:
    """What is read the short way never overtakes what waits."""

    def everybody_has_turns() -> None:
        for _ in range(1000):
            if not talk.wire.paused:
                break
            wheel._loop.run_until_complete(asyncio.sleep(0))

    chance = random.Random(seed)
    talk.shake()
    said = bytearray()
    for _ in range(40):
        count = chance.choice((1, 1, 2, 12, 3000))
        sizes = {12: (16_384,), 3000: (1, 30)}.get(count, (1, 30, 700, 4000, 16_384))
        for _ in range(count):
            piece = chance.randbytes(chance.choice(sizes))
            talk.client.write(piece)
            said += piece
        data = talk.to_router.read()
        while data:
            size = chance.choice((5, 300, 4000, 30_000, 1 << 18))
            talk.channel.data_received(data[:size])
            data = data[size:]
            if chance.random() < 0.8:  # else more comes although nothing more is to be read
                everybody_has_turns()
    everybody_has_turns()
    assert talk.inner.heard == said
    assert not talk.counters.faults


def test_bytes_behind_the_handshake_in_one_segment_are_not_lost(context: ssl.SSLContext, wheel: Wheel) -> None:
    talk = Conversation(context, wheel)
    for _ in range(2):
        try:
            talk.client.do_handshake()
        except ssl.SSLWantReadError:
            talk.deliver()
    talk.client.write(b"early")
    talk.deliver()
    assert talk.inner.heard == b"early"


def test_a_large_message_passes_in_pieces_each_way(talk: Conversation) -> None:
    talk.shake()
    large = bytes(range(256)) * 4096  # 1 MiB
    talk.client.write(large)
    talk.deliver(200_000)
    assert talk.inner.heard == large
    talk.channel.write(large)
    assert len(talk.wire.sent) == len(large) // PIECE
    assert talk.client_reads(len(large)) == large


def test_the_inner_protocol_sees_tls_and_the_socket(talk: Conversation) -> None:
    talk.shake()
    tls = talk.inner.transport.get_extra_info("ssl_object")
    assert isinstance(tls, ssl.SSLObject) and tls.version() in ("TLSv1.2", "TLSv1.3")


def test_what_is_not_tls_is_refused_and_counted(context: ssl.SSLContext, wheel: Wheel) -> None:
    talk = Conversation(context, wheel)
    talk.channel.data_received(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
    assert talk.wire.closed and talk.inner.transport is None
    talk.channel.connection_lost(None)
    assert (talk.counters.tls_handshakes, talk.counters.tls_failures) == (0, 1)


def test_a_record_that_was_tampered_with_ends_the_connection(talk: Conversation) -> None:
    talk.shake()
    talk.client.write(b"GET / HTTP/1.1\r\n\r\n")
    record = bytearray(talk.to_router.read())
    record[-1] ^= 1
    talk.channel.data_received(bytes(record))
    assert talk.wire.aborted and talk.inner.heard == b""


@pytest.mark.parametrize("parted", [False, True], ids=["open", "parted"])
@pytest.mark.parametrize("before", [0, 1, 2])
def test_what_came_before_a_record_that_was_tampered_with_is_heard(
    talk: Conversation, before: int, parted: bool
) -> None:
    talk.shake()
    if parted:
        talk.channel.write_eof()
    for _ in range(before + 1):
        talk.client.write(b"word ")
    records = bytearray(talk.to_router.read())
    records[-1] ^= 1
    talk.channel.data_received(bytes(records))
    assert talk.inner.heard == before * b"word "
    assert (talk.wire.closed, talk.wire.aborted) == (parted, not parted)


class NewKeys:
    """Records with nothing in them but a change of keys (RFC 8446 4.6.3), made from what a client logs of its own."""

    def __init__(self, talk: Conversation, log: Path) -> None:
        name, self.size = (
            ("SHA384", 32) if "256" in cast(tuple[str, str, int], talk.client.cipher())[0] else ("SHA256", 16)
        )
        self.hash = hashes.SHA384() if name == "SHA384" else hashes.SHA256()
        [line] = [line for line in log.read_text().splitlines() if line.startswith("CLIENT_TRAFFIC_SECRET_0")]
        self.secret = bytes.fromhex(line.split()[2])

    def _expand(self, label: bytes, size: int) -> bytes:
        label = b"tls13 " + label
        info = size.to_bytes(2) + bytes([len(label)]) + label + b"\0"
        return HKDFExpand(self.hash, size, info).derive(self.secret)

    def record(self, asks: bool) -> bytes:
        """The next one; ``asks``: the router shall change its keys too."""
        inner = b"\x18\x00\x00\x01" + bytes([asks]) + b"\x16"
        header = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2)
        sealed = AESGCM(self._expand(b"key", self.size)).encrypt(self._expand(b"iv", 12), inner, header)
        self.secret = self._expand(b"traffic upd", self.hash.digest_size)
        return header + sealed


@pytest.mark.parametrize(("asks", "at_a_time", "most"), [(True, 1, MAX_DEMANDS), (False, 200, MAX_FRUITLESS // 27)])
def test_new_keys_may_be_asked_for_a_few_times_and_no_more(
    context: ssl.SSLContext, wheel: Wheel, tmp_path: Path, asks: bool, at_a_time: int, most: int
) -> None:
    client = trusting(None, ssl.TLSVersion.TLSv1_3)
    client.keylog_filename = str(tmp_path / "keys")
    talk = Conversation(context, wheel, client=client)
    talk.shake()
    keys = NewKeys(talk, tmp_path / "keys")
    for _ in range(min(most, 5)):
        talk.channel.data_received(keys.record(asks))
    assert not talk.wire.aborted
    sent = 5
    while not talk.wire.aborted:
        talk.channel.data_received(b"".join(keys.record(asks) for _ in range(at_a_time)))
        sent += at_a_time
        assert sent <= most + at_a_time + 5
    assert sent >= most - at_a_time
    assert talk.inner.heard == b""


def test_new_keys_between_what_is_said_are_fine(context: ssl.SSLContext, wheel: Wheel, tmp_path: Path) -> None:
    """A large upload in small records, most of them incomplete when they are looked at, is no flood."""
    talk = Conversation(context, wheel, ssl.TLSVersion.TLSv1_3)
    talk.shake()
    said = 0
    for _ in range(40):
        talk.client.write(16_384 * b"x")
        said += 16_384
        data = talk.to_router.read()
        for at in range(0, len(data), 1000):
            talk.channel.data_received(data[at : at + 1000])
    assert not talk.wire.aborted
    assert len(talk.inner.heard) == said


def test_a_handshake_that_stops_is_cut_after_its_time(context: ssl.SSLContext, wheel: Wheel, clock: FakeClock) -> None:
    talk = Conversation(context, wheel)
    with pytest.raises(ssl.SSLWantReadError):
        talk.client.do_handshake()
    talk.channel.data_received(talk.to_router.read()[:5])
    clock.seconds += HANDSHAKE_SECONDS - 1
    wheel.advance(clock.now())
    assert not talk.wire.aborted
    clock.seconds += 1.2
    wheel.advance(clock.now())
    assert talk.wire.aborted and talk.counters.tls_failures == 1


def test_a_refusal_that_is_not_taken_is_given_up(context: ssl.SSLContext, wheel: Wheel, clock: FakeClock) -> None:
    talk = Conversation(context, wheel)
    with pytest.raises(ssl.SSLWantReadError):
        talk.client.do_handshake()
    talk.channel.data_received(talk.to_router.read())
    talk.channel.data_received(b"\x17\x03\x03\x00\x20" + 32 * b"x")
    talk.loop.settle()
    assert talk.wire.closed and not talk.wire.aborted
    clock.seconds += GOODBYE_SECONDS + 0.2
    wheel.advance(clock.now())
    assert talk.wire.aborted and talk.counters.tls_failures == 1


def test_the_handshakes_limit_ends_with_the_handshake(talk: Conversation, wheel: Wheel, clock: FakeClock) -> None:
    talk.shake()
    clock.seconds += 10 * HANDSHAKE_SECONDS
    wheel.advance(clock.now())
    assert not talk.wire.is_closing()


def test_a_client_that_leaves_in_the_handshake_is_counted_once(context: ssl.SSLContext, wheel: Wheel) -> None:
    talk = Conversation(context, wheel)
    talk.channel.data_received(b"\x16\x03\x01")
    assert not talk.channel.eof_received()
    talk.channel.connection_lost(None)
    assert talk.counters.tls_failures == 1 and talk.inner.lost == []


def test_a_probe_that_only_connects_is_no_failure(context: ssl.SSLContext, wheel: Wheel) -> None:
    talk = Conversation(context, wheel)
    assert not talk.channel.eof_received()
    talk.channel.connection_lost(None)
    assert talk.counters.tls_failures == 0


def test_close_notify_from_the_client_is_the_end_of_what_it_says(talk: Conversation) -> None:
    talk.shake()
    with pytest.raises(ssl.SSLWantReadError):
        talk.client.unwrap()
    talk.deliver()
    assert talk.inner.eof and not talk.wire.is_closing()
    talk.channel.write(b"answer")
    assert talk.wire.sent, "an answer still goes out"


def test_an_inner_protocol_that_has_nothing_to_say_lets_the_connection_end(talk: Conversation) -> None:
    talk.shake()
    talk.inner.keep_open = False
    with pytest.raises(ssl.SSLWantReadError):
        talk.client.unwrap()
    talk.deliver()
    assert talk.wire.closed


def test_closing_says_goodbye_so_that_the_client_knows_it_has_everything(talk: Conversation) -> None:
    talk.shake()
    talk.channel.write(b"bye")
    talk.channel.close()
    assert talk.client_reads(3) == b"bye"
    assert talk.client.read(1) == b""
    assert talk.wire.closed


def test_saying_the_last_word_leaves_the_other_direction_open(talk: Conversation) -> None:
    talk.shake()
    talk.channel.write_eof()
    assert talk.wire.ended and not talk.wire.closed
    talk.client.write(b"late")
    talk.channel.data_received(talk.to_router.read())
    assert not talk.wire.aborted, "a reset would take the answer with it"


@pytest.mark.parametrize("records", [1, 2, 5])
def test_a_last_word_between_two_records_leaves_the_others_readable(talk: Conversation, records: int) -> None:
    """Said while the first is read, with the others still to be decrypted: they are no reason to break off."""
    talk.shake()
    heard = talk.inner.data_received

    def answers_at_once(data: bytes) -> None:
        heard(data)
        talk.channel.write_eof()

    talk.inner.data_received = answers_at_once  # type: ignore[method-assign]  # what a protocol may do
    for _ in range(records):
        talk.client.write(1000 * b"x")
    data = talk.to_router.read()
    talk.channel.data_received(data[:-7])
    talk.channel.data_received(data[-7:])
    talk.client.write(b"late")
    talk.channel.data_received(talk.to_router.read())
    assert talk.inner.heard == records * 1000 * b"x" + b"late"
    assert talk.wire.ended and not talk.wire.is_closing()


def test_the_clients_goodbye_is_heard_also_after_ours(talk: Conversation) -> None:
    talk.shake()
    talk.channel.write_eof()
    talk.hear()
    talk.client.write(b"late")
    talk.client.unwrap()
    talk.channel.data_received(talk.to_router.read())
    assert talk.inner.heard == b"late" and talk.inner.eof
    assert not talk.wire.closed, "the protocol inside keeps it open"


def test_an_aborted_connection_says_no_goodbye(talk: Conversation) -> None:
    talk.shake()
    talk.hear()
    talk.channel.abort()
    assert talk.wire.aborted and talk.wire.sent == []
    talk.channel.write(b"too late")
    assert talk.wire.sent == []


def test_flow_control_passes_through(talk: Conversation) -> None:
    talk.shake()
    talk.channel.pause_writing()
    talk.channel.resume_writing()
    talk.inner.transport.pause_reading()
    assert talk.inner.full == ["pause", "resume"] and talk.wire.paused
    talk.inner.transport.resume_reading()
    assert not talk.wire.paused


def test_after_a_large_read_the_others_have_a_turn(talk: Conversation, wheel: Wheel) -> None:
    def turn() -> None:
        wheel._loop.run_until_complete(asyncio.sleep(0))

    talk.shake()
    talk.client.write(bytes(2 * PIECE))
    talk.deliver()
    assert talk.wire.paused
    talk.inner.transport.resume_reading()
    assert talk.wire.paused, "who wants to read waits for its turn all the same"
    turn()
    assert not talk.wire.paused
    talk.client.write(bytes(2 * PIECE))
    talk.deliver()
    talk.inner.transport.pause_reading()
    turn()
    assert talk.wire.paused, "who does not want to read is not made to"
    talk.inner.transport.resume_reading()
    assert not talk.wire.paused
    talk.client.write(bytes(100))
    talk.deliver()
    assert not talk.wire.paused


def test_the_loss_of_the_connection_reaches_the_inner_protocol(talk: Conversation) -> None:
    talk.shake()
    error = ConnectionResetError()
    talk.channel.connection_lost(error)
    assert talk.inner.lost == [error]


def test_what_is_over_keeps_nothing_of_openssl_while_the_wheel_still_knows_it(talk: Conversation) -> None:
    talk.shake()
    state = weakref.ref(talk.inner.transport.get_extra_info("ssl_object"))
    assert state() is not None
    talk.channel.connection_lost(None)
    assert state() is None
    talk.channel.data_received(b"late")
    talk.channel.write(b"late")
    talk.channel.close()
    talk.channel.abort()
    assert not talk.counters.faults
