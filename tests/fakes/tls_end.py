"""The other end of a connection of the router, over TLS: a client that is OpenSSL in memory, behind a real channel."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from types import EllipsisType

from drycc_tls.self_signed import self_signed
from drycc_tls.store import CertificateStore
from tests.fakes.handshakes import trusting
from tests.fakes.transport import End, FakeTransport, Part, matches

__all__ = ["TlsEnd", "listening"]


@lru_cache(1)
def listening() -> ssl.SSLContext:
    """A context to accept connections with; it shows everybody the same certificate of no authority."""
    return CertificateStore(self_signed(datetime.now(UTC))).choose(None).context


class TlsEnd(End):
    """As :class:`End`; what it says and hears is clear text, what travels is not."""

    def __init__(self, name: str, transport: FakeTransport, settle: Callable[[], None]) -> None:
        super().__init__(name, transport, settle)
        self._from_router, self._to_router = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = trusting(None).wrap_bio(self._from_router, self._to_router, server_hostname="shop.example")

    @property
    def raw(self) -> End:
        """The same end below TLS: what it says are the bytes on the wire."""
        return End(self._name, self.transport, self._settle)

    def greets(self) -> bytes:
        """The bytes of its hello, not sent yet."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return self._to_router.read()

    def shakes_hands(self) -> None:
        """The whole handshake."""
        super().says(self.greets())
        self._from_router.write(self._taken())
        self.tls.do_handshake()
        super().says(self._to_router.read())

    def says(self, *pieces: bytes) -> None:
        """Send; each piece is a segment of its own."""
        for piece in pieces:
            self.tls.write(piece)
            super().says(self._to_router.read())

    def encrypted(self, *pieces: bytes) -> bytes:
        """The records of these pieces, not sent yet."""
        for piece in pieces:
            self.tls.write(piece)
        return self._to_router.read()

    def closes(self) -> None:
        """It has said everything: close_notify and FIN."""
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            pass  # the router has not said goodbye yet
        super().says(self._to_router.read())
        super().closes()

    def hears(self, *parts: Part) -> bytes:
        """It heard exactly this clear text since it was last asked."""
        self._from_router.write(self._taken())
        heard = b""
        try:
            while data := self.tls.read(65536):
                heard += data
        except ssl.SSLWantReadError:
            pass
        wanted = " ".join("..." if isinstance(part, EllipsisType) else repr(part) for part in parts)
        assert matches(heard, parts), f"\n{self._name} was to hear {wanted}\n{self._name} heard {heard!r}"
        return heard

    def _taken(self) -> bytes:
        taken = bytes(self.transport.heard)
        self.transport.heard.clear()
        return taken
