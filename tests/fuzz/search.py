"""A search for inputs that tell our parsers from others, guided by what the parsers say (``make fuzz``).

Inputs grow out of kept ones by small changes: bytes dropped, doubled, swapped, replaced by what parsers trip over, two
inputs joined. One that makes its target say what it never said is kept in ``corpus/``, in its shortest form seen; one
that a target fails on is kept as well, printed, and fails the tests until somebody mends what it shows.

What must not enter: what is right and wrong (``targets``).
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.targets import Target

__all__ = ["CORPUS", "Search", "keep", "kept"]

CORPUS = Path(__file__).parent / "corpus"
LONGEST = 600
"""Bytes of an input: what goes wrong goes wrong in less."""
MOST = 400
"""Inputs kept for a target; the shortest."""

DIRT = (
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\x00", b"\t", b" ", b"\x0b", b"\x0c", b"\x7f", b"\x80", b"\x85", b"\xa0",
    b"\xff", b"\xb2", b"\xd9\xa5", b"\xe2\x84\xaa", b":", b";", b",", b"=", b'"', b"\\", b"_", b"-", b"+", b"0x",
    b"0", b"5", b"f", b"/", b"//", b"..", b"/../", b"%2e", b"%00", b"%2f", b"?", b"#", b"*", b"@", b"[", b"]",
    b"\r\n ", b"\r\n\t", b": ", b" :", b"Content-Length: ", b"Transfer-Encoding: ", b"chunked", b"identity",
    b"gzip, chunked", b"Host: shop.example\r\n", b"Connection: ", b"close", b"keep-alive", b"Upgrade",
    b"Upgrade: websocket\r\n", b"Expect: 100-continue\r\n", b"TE: trailers\r\n", b"X-Forwarded-For: 1.2.3.4\r\n",
    b"X_Real_IP: 1\r\n", b"X-Request-Id: a\r\n", b"Keep-Alive: timeout=5\r\n", b"Date: x\r\n", b"Cookie: a=b\r\n",
    b"GET ", b"POST ", b"HEAD ", b"CONNECT ", b"OPTIONS * ", b" HTTP/1.1", b" HTTP/1.0", b"HTTP/1.1 ",
    b"http://shop.example", b"101", b"204", b"304", b"100", b"9223372036854775807", b"9223372036854775808",
    b"0\r\n\r\n", b"5\r\nhello\r\n", b";a=\"b\"",
)  # fmt: skip
"""What parsers trip over."""

SEEDS: dict[str, tuple[bytes, ...]] = {
    "head": (
        b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n",
        b"POST http://a.example/a HTTP/1.0\r\nHost: a.example\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n",
        b"PUT /a?b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: x, close\r\nX: y\r\n\r\n",
    ),
    "chunks": (b"5\r\nhello\r\n0\r\n\r\n", b'1;a="b"; c=d\r\nx\r\nA\r\n0123456789\r\n00\r\nX: y\r\n\r\nGET'),
    "response": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: x\r\n\r\n",
        b"HTTP/1.0 404 No\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a\r\n\r\n",
    ),
    "proxy_header": (
        b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET",
        b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.2 1 65535\r\n",
        b"PROXY UNKNOWN x\r\n",
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\xdc\x04\x01\xbbGET",
        b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00",
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x27" + 36 * b"\x01" + b"\x04\x00\x00",
    ),
    "conversation": (
        b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\nGET /2 HTTP/1.1\r\nHost: shop.example\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.0\r\n\r\n",
    ),
}


def kept(name: str) -> list[bytes]:
    """The inputs kept for a target."""
    path = CORPUS / f"{name}.txt"
    if not path.exists():
        return []
    return [json.loads(line).encode("latin-1") for line in path.read_text(encoding="ascii").splitlines()]


def keep(name: str, inputs: Iterable[bytes]) -> None:
    """Write a target's corpus: one JSON string per line, a character per byte, the shortest first."""
    CORPUS.mkdir(exist_ok=True)
    ordered = sorted(set(inputs), key=lambda data: (len(data), data))
    lines = [json.dumps(data.decode("latin-1")) + "\n" for data in ordered]
    (CORPUS / f"{name}.txt").write_text("".join(lines), encoding="ascii")


@dataclass
class Search:
    """One target's search: what was said so far, and by which input."""

    name: str
    target: Target
    random: random.Random
    said: dict[Hashable, bytes] = field(default_factory=dict)
    failures: list[tuple[bytes, BaseException]] = field(default_factory=list)
    tried: int = 0

    def begin(self) -> None:
        """Go through the seeds and everything kept."""
        for data in (*SEEDS.get(self.name, ()), *kept(self.name)):
            self.look(data)

    def look(self, data: bytes) -> None:
        """Try one input."""
        self.tried += 1
        try:
            word = self.target(data)
        except Exception as error:  # whatever it is: a parser that raises it would have crashed
            if len(self.failures) < 20:
                self.failures.append((data, error))
            return
        known = self.said.get(word)
        if known is None or len(data) < len(known):
            self.said[word] = data

    def run(self, cpu_seconds: float) -> None:
        """Search for so long."""
        end = time.process_time() + cpu_seconds
        while time.process_time() < end and not self.failures:
            pool = list(self.said.values())
            for _ in range(500):
                self.look(self._grown(pool))

    def _grown(self, pool: list[bytes]) -> bytes:
        """An input that is a little different from kept ones."""
        pick = self.random
        data = pick.choice(pool)
        for _ in range(pick.choice((1, 1, 1, 2, 2, 3, 5))):
            at = pick.randint(0, len(data))
            match pick.randint(0, 7):
                case 0 | 1 | 2:
                    data = data[:at] + pick.choice(DIRT) + data[at + pick.choice((0, 0, 1, 2)) :]
                case 3:
                    data = data[:at] + data[at + pick.choice((1, 1, 2, 4, 16)) :]
                case 4:
                    data = data[:at] + bytes([pick.randrange(256)]) + data[at + 1 :]
                case 5:
                    size = pick.choice((1, 2, 8, 32))
                    data = data[: at + size] + data[at:]
                case 6:
                    other = pick.choice(pool)
                    data = data[:at] + other[pick.randint(0, len(other)) :]
                case _:
                    lines = data.split(b"\r\n")
                    first, second = pick.randrange(len(lines)), pick.randrange(len(lines))
                    lines[first], lines[second] = lines[second], pick.choice((lines[first], lines[second], b""))
                    data = b"\r\n".join(lines)
        return data[:LONGEST]

    def end(self) -> None:
        """Keep what was found."""
        shortest = sorted(self.said.values(), key=lambda data: (len(data), data))[:MOST]
        keep(self.name, [*shortest, *(data for data, _ in self.failures)])
