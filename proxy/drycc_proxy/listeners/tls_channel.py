"""TLS between a socket and a protocol that thinks it speaks in clear: one object, two faces.

Towards the loop it is a protocol that takes ciphertext; towards the protocol inside it is a transport. The loop's own
TLS would do, but costs a third more per request and hides what we must see: it asks OpenSSL once more than there is to
read and pays an exception each time, reads through a quarter-megabyte buffer, and tells nobody about failed handshakes
or about the state in which a peer stopped.

What must not enter: HTTP, the choice of certificates (``ssl.SSLContext`` comes from whoever knows), application data.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from drycc_proxy.http.deadlines import GOODBYE_SECONDS, HANDSHAKE_SECONDS
from drycc_proxy.kernel.clock import FAR, Wheel, now
from drycc_proxy.kernel.internal_errors import FaultCounters, attempt, isolated, note
from drycc_proxy.listeners.client_hello import NO_APPLICATION_PROTOCOL, ClientHello
from drycc_proxy.state.handshakes import Handshakes

__all__ = ["TlsChannel", "TlsEvents"]

PIECE: Final = 64 * 1024
"""Bytes that pass OpenSSL at a time: its buffers keep the size they once needed for as long as they live."""
RECORD: Final = 16 * 1024
"""Bytes that one record holds at most (RFC 8446 5.1): a read never gives more."""
SMALL: Final = 4 * 1024
"""Bytes of ciphertext below which a read is given no more room than they can need: room costs, used or not."""

MAX_RECORDS: Final = 256
"""Records that are read in one turn of the loop: 64 KiB may hold three thousand of one byte each."""
SHAKEN: Final = 16 * 1024
"""Bytes that one step of a handshake has OpenSSL read, for the same reason."""

MAX_FRUITLESS: Final = 128 * 1024
"""Bytes of records that carry nothing for the protocol inside (new keys, pleas to renegotiate) before the next byte
that does. A record that is not complete counts too until it is, so it must be several records' worth."""
MAX_DEMANDS: Final = 32
"""Times that a peer may make us answer something that is no part of the conversation, such as new keys for new keys:
peers in earnest change theirs once in many gigabytes (hardening T-01, T-02)."""
_NAMED: Final = b"\x08http/1.1"
"""How the one protocol that may be agreed on stands in a hello; a client that names others only is told so. A hello in
which it stands elsewhere deceives only its own client."""


class TlsEvents(FaultCounters, Protocol):
    """Who counts handshakes."""

    tls_handshakes: int
    tls_failures: int


class TlsChannel(asyncio.Transport, asyncio.Protocol):
    """One TLS connection of the accepting side. The inner protocol is made when the handshake is done."""

    __slots__ = (
        "_ahead",
        "_begun",
        "_closing",
        "_demands",
        "_events",
        "_fruitless",
        "_handshakes",
        "_held",
        "_hello",
        "_inner",
        "_inside",
        "_left",
        "_make_inner",
        "_outside",
        "_raw",
        "_resting",
        "_short",
        "_stopped",
        "_tls",
        "_wheel",
        "deadline",
        "slot",
    )

    def __init__(
        self,
        context: ssl.SSLContext,
        make_inner: Callable[[], asyncio.Protocol],
        wheel: Wheel,
        events: TlsEvents,
        handshakes: Handshakes,
    ) -> None:
        super().__init__()
        self._make_inner = make_inner
        self._inner: asyncio.Protocol | None = None
        self._raw: asyncio.Transport = cast(asyncio.Transport, None)
        self._inside = ssl.MemoryBIO()
        """Ciphertext from the peer."""
        self._outside = ssl.MemoryBIO()
        """Ciphertext for the peer."""
        self._tls = context.wrap_bio(self._inside, self._outside, server_side=True)
        self._wheel = wheel
        self._events = events
        self._begun = False
        """The peer has sent something: a probe that only connects is no failed handshake."""
        self._closing = False
        self._held = False
        """The protocol inside wants no more now."""
        self._resting = False
        """Reading goes on with the next turn of the loop."""
        self._handshakes = handshakes
        self._hello: ClientHello | None = None
        """The client's hello, while it is judged."""
        self._ahead: bytes | bytearray = b""
        """Ciphertext that OpenSSL has yet to be given: it follows what is in ``_inside``."""
        self._stopped = False
        """Nothing is read until the handshake has gone on with what is ahead."""
        self._left = False
        """OpenSSL has more than was read in this turn."""
        self._fruitless = 0
        self._demands = 0
        self._short = 0
        """Bytes below which what comes is read the short way (``data_received``): SMALL, or 0 during the handshake, and
        while something is ahead of it or belongs to the same record (``_settle``)."""
        self.deadline = FAR
        self.slot = 0

    # ── towards the loop ──────────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast(asyncio.Transport, transport)
        try:
            self._wheel.arm(self, now() + HANDSHAKE_SECONDS)
            self._handshakes.begin(self)
        except Exception as error:
            self.fault(error)

    def data_received(self, data: bytes) -> None:
        size = len(data)
        try:
            if size >= self._short:
                self._take(data, size)
                return
            # The warm path: one record, which is a request. No part of one came earlier, so a read with as much room as
            # there is ciphertext takes all of it; if anything else is there, then some of it is still in ``inside``.
            inside = self._inside
            inside.write(data)
            try:
                clear = self._tls.read(size)
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                clear = b""  # the next read says so again
            except ssl.SSLError:
                self._break_off()
                return
            if not clear or inside.pending:
                self._hand_in(size, False, clear)
                self._settle()
                return
            self._inner.data_received(clear)  # type: ignore[union-attr]  # made by the handshake
            if self._outside.pending:
                self._meet_demand()
        except Exception as error:
            self.fault(error)

    def _take(self, data: bytes, size: int) -> None:
        """What comes, unless it goes the short way."""
        if self._inner is None:
            self._greet(data)
            return
        if self._ahead:
            self._ahead += data
        elif size <= PIECE:
            self._inside.write(data)
            self._hand_in(size, False)
        else:
            self._ahead = bytearray(data)
            self._go_through()
            self._rest()
        self._settle()

    def _settle(self) -> None:
        """See whether what comes next may be read the short way."""
        self._short = 0 if self._inner is None or self._ahead or self._fruitless else SMALL

    def _go_through(self) -> None:
        """Have OpenSSL read what is ahead, no more of it at a time than it should have."""
        while self._ahead and not self._is_stopped():
            self._hand_in(self._give(PIECE), False)

    def _give(self, most: int) -> int:
        """Give OpenSSL at most so many bytes of what is ahead; how many there were."""
        ahead = self._ahead
        piece = ahead[:most]
        del ahead[:most]  # type: ignore[union-attr]  # what is ahead is a bytearray
        self._inside.write(piece)
        return len(piece)

    def _is_stopped(self) -> bool:
        return self._left or self._raw.is_closing()

    def _rest(self) -> None:
        """Do no more for this client in this turn of the loop: while a socket fills whole buffers, or holds thousands
        of records, nobody else would have a turn (W-05)."""
        if not self._resting and not self._raw.is_closing():
            self._resting = True
            self._raw.pause_reading()
            self._wheel.next_turn(self._wake)

    @isolated
    def _wake(self) -> None:
        """Everybody has had a turn."""
        self._resting = False
        if self._held or self._raw.is_closing():
            return
        if self._left:
            self._left = False
            self._hand_in(self._inside.pending, False)
        if self._ahead:
            self._go_through()
        self._settle()
        if self._left or self._ahead:
            self._rest()
        elif self._may_read():
            self._raw.resume_reading()

    def _may_read(self) -> bool:
        return not (self._held or self._raw.is_closing())

    def _greet(self, data: bytes) -> None:
        """Some of the handshake, or what follows it at once."""
        if self._closing or (not self._begun and self._diverts(data)):
            return
        if self._hello is not None:
            self._hello.add(data)
        elif not self._begun and _NAMED not in data:  # nearly everybody names it, and then there is nothing to look for
            self._hello = ClientHello()
            self._hello.add(data)
        self._begun = True
        if self._ahead:
            self._ahead += data
        elif self._hello is None and self._inside.pending + len(data) <= SHAKEN:
            self._inside.write(data)
        else:
            self._ahead = bytearray(data)
        if self._inside.pending + len(self._ahead) > 4 * PIECE:
            self.give_up()  # it does not wait for its turn, and no handshake is as large
        else:
            if len(self._ahead) > PIECE and not self._stopped:
                self._stopped = True
                self._raw.pause_reading()
            self._handshakes.step(self)

    def _judge(self, hello: ClientHello) -> bool:
        """Whether OpenSSL is to answer the hello, as far as it was looked at."""
        if not hello.complete:
            return False
        if hello.protocols is not None and _NAMED not in hello.protocols:
            self._refuse(NO_APPLICATION_PROTOCOL)
            return False
        self._hello = None
        return True

    def go_on(self) -> bool:
        """The handshake's turn: what has come of it waits in ``_inside``, and behind that in ``_ahead``."""
        try:
            if self._closing or self._inner is not None:
                return False
            hello = self._hello
            if hello is not None:
                more = hello.look()
                if not self._judge(hello):
                    return more
            if self._ahead:
                self._give(SHAKEN)
            done = self._shake_hands()
            if self._stopped and (done or len(self._ahead) <= PIECE):
                self._stopped = False
                if not self._raw.is_closing():
                    self._raw.resume_reading()
            if done:
                # Asking for what has not come would only raise.
                waiting = self._inside.pending
                if waiting or self._tls.pending():
                    self._hand_in(waiting, True)
                if self._ahead:
                    self._rest()
                self._settle()
            return bool(self._ahead) and self._inner is None
        except Exception as error:
            self.fault(error)
            return False

    def _diverts(self, data: bytes) -> bool:
        """Whether somebody else takes the connection, whose first bytes these are. For who knows more than TLS."""
        return False

    def _leave(self) -> asyncio.Transport:
        """Give the transport up to another protocol; here it counts as a handshake that failed."""
        self._fail()
        self.slot = -1
        self._tls = cast(ssl.SSLObject, None)
        return self._raw

    @isolated
    def give_up(self) -> None:
        """No handshake will come of it."""
        self._fail()
        self._raw.abort()

    def _hand_in(self, size: int, fresh: bool, first: bytes = b"") -> None:
        """``size`` bytes of ciphertext wait. ``fresh``: the handshake has just been done. ``first``: what was read of
        them already."""
        inside = self._inside
        tls = self._tls
        # What is not complete OpenSSL keeps, and then it may give more than has just come.
        room = size if 0 < size < SMALL and not self._fruitless else RECORD
        pieces = [first] if first else []
        for _ in range(MAX_RECORDS):
            try:
                clear = tls.read(room)
            except ssl.SSLWantReadError:
                self._fruitless += size
                if self._fruitless > MAX_FRUITLESS:
                    self._pass_on(pieces)
                    self._raw.abort()
                    return
                break
            except ssl.SSLZeroReturnError:
                clear = b""  # how the peer's goodbye is told once we have said ours
            except ssl.SSLError:
                self._pass_on(pieces)
                self._break_off()
                return
            if not clear:
                self._pass_on(pieces)
                self._peer_ended()
                return
            if self._fruitless:
                self._fruitless = 0
            pieces.append(clear)
            # Asking once more when nothing is there would only raise. A read that was not full has left nothing.
            if not inside.pending and (len(clear) < room or not tls.pending()):
                break
        else:
            self._left = True
            self._rest()
        self._pass_on(pieces)
        if not fresh and self._outside.pending:
            self._meet_demand()

    def _break_off(self) -> None:
        """What came is not what the peer's own TLS would send."""
        if self._closing:
            self._raw.close()  # after our goodbye what is already on its way still goes out
        else:
            self._raw.abort()

    def _meet_demand(self) -> None:
        """Send what a demand of the peer has made OpenSSL say, unless there were too many."""
        self._demands += 1
        if self._demands > MAX_DEMANDS:
            self._raw.abort()
        else:
            self._raw.write(self._outside.read())

    def _pass_on(self, pieces: list[bytes]) -> None:
        """What was read in one turn goes inside as one: records of one byte are no more work there than one record."""
        if pieces:
            clear = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._inner.data_received(clear)  # type: ignore[union-attr]  # made by the handshake

    def _shake_hands(self) -> bool:
        """One step of the handshake; whether it is done."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._raw.write(self._outside.read())
            return False
        except (ssl.SSLError, ValueError):
            # ValueError: a server name that is no text. The alert, if there is one, tells the client why.
            self._refuse(self._outside.read())
            return False
        self._events.tls_handshakes += 1
        self._handshakes.end(self)
        self.slot = -1
        # In TLS 1.3 only a session ticket waits here, and that may travel with the first answer: a write saved.
        if self._outside.pending and self._tls.version() != "TLSv1.3":
            self._raw.write(self._outside.read())
        self._inner = inner = self._make_inner()
        inner.connection_made(self)
        return True

    def _peer_ended(self) -> None:
        """The peer's close_notify: the end of what it sends, as a FIN is in clear."""
        inner = self._inner
        if inner is None or not inner.eof_received():
            self.close()

    @isolated
    def eof_received(self) -> bool:
        """A FIN without close_notify: whether a message was whole is for the protocol inside to judge by its length."""
        if self._inner is None or self._closing:
            return False
        return bool(self._inner.eof_received())

    def connection_lost(self, error: Exception | None) -> None:
        self.slot = -1
        inner, self._inner = self._inner, None
        try:
            if inner is not None:
                inner.connection_lost(error)
            elif self._begun:
                self._fail()
            else:
                self._handshakes.end(self)
        except Exception as fault:
            self.fault(fault)
        # The wheel knows us for some seconds yet, and OpenSSL's part of a connection is fifty kilobytes: a thousand
        # short ones a second would fill hundreds of megabytes with what is over.
        self._closing = True
        self._hello = None
        self._ahead = b""
        self._short = 0
        self._tls = cast(ssl.SSLObject, None)

    @isolated
    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    @isolated
    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    @isolated
    def overdue(self, now: float) -> None:
        """The handshake takes too long, or the alert that ends it is not taken."""
        self._begun = True
        self.deadline = FAR
        self._fail()
        self._raw.abort()

    def fault(self, error: Exception) -> None:
        """A mistake of ours (``kernel.internal_errors``): the connection is reset. The protocol inside looks after its
        own."""
        note(self._events, "tls", error)
        attempt(self._events, "tls", self._fail)
        self._closing = True
        attempt(self._events, "tls", self._handshakes.end, self)
        attempt(self._events, "tls", self._raw.abort)

    def _refuse(self, alert: bytes) -> None:
        """Tell the client why there will be no handshake, if there is a word for it."""
        self._fail()
        if alert:
            # The one answer that does not linger: whoever shakes hands says nothing more before it has read this.
            self._raw.write(alert)
        self._wheel.arm(self, now() + GOODBYE_SECONDS)
        self._raw.close()

    def _fail(self) -> None:
        """No handshake will come of it; counted once."""
        self._handshakes.end(self)
        if not self._closing:
            self._closing = True
            self._events.tls_failures += 1

    # ── towards the protocol inside ───────────────────────────────────────────────────────────────────────────────

    def write(self, data: bytes | bytearray | memoryview) -> None:
        raw = self._raw
        if self._closing or raw.is_closing():
            return
        tls = self._tls
        outside = self._outside
        if len(data) <= PIECE:
            try:
                tls.write(data)
            except ssl.SSLError:
                raw.abort()
                return
            raw.write(outside.read())
            return
        view = memoryview(data)
        for at in range(0, len(data), PIECE):
            try:
                tls.write(view[at : at + PIECE])
            except ssl.SSLError:
                raw.abort()
                return
            raw.write(outside.read())

    def write_eof(self) -> None:
        """Say that nothing more comes, as TLS says it and as TCP does."""
        self._say_goodbye()
        if not self._raw.is_closing():
            self._raw.write_eof()

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self._say_goodbye()
        self._raw.close()

    def _say_goodbye(self) -> None:
        if self._closing:
            return
        self._closing = True
        # ``unwrap`` looks for the peer's goodbye as well, and data that it finds instead makes the connection useless
        # for reading: it must find nothing.
        unread = self._inside.read()
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # the peer has not said goodbye yet: it need not, before the connection closes (RFC 8446 6.1)
        if unread:
            self._inside.write(unread)
        if self._outside.pending and not self._raw.is_closing():
            self._raw.write(self._outside.read())

    def abort(self) -> None:
        self._closing = True
        self._raw.abort()

    def is_closing(self) -> bool:
        return self._closing or self._raw.is_closing()

    def pause_reading(self) -> None:
        self._held = True
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._held = False
        if self._left or self._ahead:
            self._rest()
        elif not self._resting:
            self._raw.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high=high, low=low)

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._tls if name == "ssl_object" else self._raw.get_extra_info(name, default)
