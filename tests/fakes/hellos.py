"""ClientHellos byte by byte, also those that no TLS library would send."""

from __future__ import annotations

__all__ = ["ECDSA_GCM", "alert", "hello", "record", "server_name"]

ECDSA_GCM = (0xC02B, 0xC02F, 0xC02C, 0xC030)
"""What a TLS 1.2 client of today offers."""


def block(data: bytes, size: int = 2) -> bytes:
    """Length and bytes."""
    return len(data).to_bytes(size) + data


def server_name(*names: bytes) -> bytes:
    """The body of a server_name extension (RFC 6066 3)."""
    return block(b"".join(b"\x00" + block(name) for name in names))


def hello(
    *,
    sni: bytes | None = None,
    ciphers: tuple[int, ...] = ECDSA_GCM,
    version: int = 0x0303,
    compression: bytes = b"\x00",
    alpn: tuple[bytes, ...] = (),
    more: bytes = b"",
) -> bytes:
    """The handshake message of a client that speaks ``version`` at most (TLS 1.2: 0x0303). ``sni``: the extension."""
    extensions = b"\x00\x0a" + block(block(b"\x00\x1d\x00\x17"))  # groups: X25519, P-256
    extensions += b"\x00\x0b" + block(block(b"\x00", 1))  # points: uncompressed
    extensions += b"\x00\x0d" + block(block(bytes.fromhex("040308040401050308050501")))  # signatures
    if sni is not None:
        extensions += b"\x00\x00" + block(sni)
    if alpn:
        extensions += b"\x00\x10" + block(block(b"".join(block(name, 1) for name in alpn)))
    extensions += more
    body = version.to_bytes(2) + bytes(range(32)) + block(b"", 1)
    body += block(b"".join(cipher.to_bytes(2) for cipher in ciphers)) + block(compression, 1) + block(extensions)
    return b"\x01" + block(body, 3)


def record(message: bytes, size: int = 16384) -> bytes:
    """A handshake message in records of ``size`` bytes."""
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + block(piece) for piece in pieces)


def alert(said: bytes) -> int | None:
    """The number of the fatal alert that ``said`` begins with."""
    return said[6] if said[:1] == b"\x15" and said[5:6] == b"\x02" else None
