"""What is remembered of claims, as the text that replicas share: one entry of one ConfigMap (contract 7).

The elected replica writes it, every replica reads it, so that they agree on who holds a name, also after all of them
were gone. It is lines of text, compressed, because twenty thousand claims must fit into one object::

    by 9f0c2e61aa73b0d4 17                  who wrote it, and which of its records this is
    shop.example shop/web + 1790000000123   host, claimant, + holds it or - waits, since (Unix milliseconds)

    kubectl get configmap drycc-router-claims -o jsonpath='{.data.v1}' | base64 -d | gunzip

The name of the entry is the version of the format: a router leaves entries that it does not know alone. A text that
cannot be read is never lost without a trace: whoever writes a record in its place keeps it beside, under
:data:`UNREADABLE`, for an operator to look at.

Who writes reads what is there, asks the record whether it ``follows`` that, and if so puts its ``entries`` in place
under the version that was read; else, and after a conflict, it waits for the next snapshot, which knows more.

What must not enter: who wins (``claims.arbiter``), and the API server.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Final, NamedTuple

__all__ = [
    "ENTRY",
    "MAX_ENCODED",
    "UNREADABLE",
    "Book",
    "ClaimKey",
    "Record",
    "RecordError",
    "Recorded",
    "Stamp",
    "claim_name",
    "decode",
    "encode",
    "entries",
    "fitted",
    "stamp",
    "weigh",
]

ENTRY: Final = "v1"
"""The entry of the ConfigMap that holds the text."""
UNREADABLE: Final = f"{ENTRY}.unreadable"
"""The entry that keeps the last text which could not be read."""
MAX_ENCODED: Final = 900 * 1024
"""Characters of all entries. An API server takes at most 1 MiB of a ConfigMap, and we leave others some of it."""
_MAX_TEXT: Final = 64 * 1024 * 1024
"""Bytes that are decompressed at most: far above what :data:`MAX_ENCODED` of claims come to, and not a bomb."""
_HEAD: Final = 4096
"""Characters of an entry that surely hold its first line, however it was compressed."""

_PAGES: Final = 256
_LINE_REST: Final = len(" + 1790000000123\n")
_CUT: Final = 0.98
"""What is left out when a text is too long is a little more than in proportion, so that few attempts are needed."""

_FIRST: Final = re.compile(r"by ([0-9a-z]{1,64}) ([0-9]{1,15})\n")
_LINE: Final = r"[-a-z0-9_.*]{1,255} [-a-z0-9.]{1,255}/[-a-z0-9.]{1,255} [+-] [0-9]{1,15}\n"
_TEXT: Final = re.compile(rf"{_FIRST.pattern}(?:{_LINE})*+")

ClaimKey = tuple[str, str]
"""(host, ``namespace/service``)."""


class Recorded(NamedTuple):
    """One claim: since when (Unix milliseconds) the router has seen it, and whether it holds the name."""

    since: int
    held: bool


class Book(Mapping[ClaimKey, Recorded]):
    """Claims as they are written down one by one. What was handed out does not change any more, and costs no copy:
    of its pages only those that are written on afterwards are copied."""

    __slots__ = ("_own", "_pages")

    def __init__(self, pages: list[dict[ClaimKey, Recorded]] | None = None) -> None:
        self._pages = pages or [{} for _ in range(_PAGES)]
        self._own = set() if pages else set(range(_PAGES))
        """Pages that nobody else looks at."""

    def put(self, key: ClaimKey, entry: Recorded | None) -> None:
        """Replace what there is about a claim; None: it ended."""
        number = hash(key) % _PAGES
        if number not in self._own:
            self._own.add(number)
            self._pages[number] = self._pages[number].copy()
        if entry is None:
            self._pages[number].pop(key, None)
        else:
            self._pages[number][key] = entry

    def hand_out(self) -> Mapping[ClaimKey, Recorded]:
        """All there is now, for readers in any thread."""
        self._own.clear()
        return Book(self._pages.copy())

    def find(self, key: ClaimKey) -> Recorded | None:
        """As ``get``, for those who ask often."""
        return self._pages[hash(key) % _PAGES].get(key)

    def __getitem__(self, key: ClaimKey) -> Recorded:
        return self._pages[hash(key) % _PAGES][key]

    def __contains__(self, key: object) -> bool:
        return key in self._pages[hash(key) % _PAGES]

    def __iter__(self) -> Iterator[ClaimKey]:
        return chain.from_iterable(self._pages)

    def __len__(self) -> int:
        return sum(map(len, self._pages))


class Stamp(NamedTuple):
    """Who wrote a record (a process, not a Pod: one that starts anew is another), and which of its records it is."""

    author: str
    serial: int


@dataclass(frozen=True, slots=True)
class Record:
    """Every claim there is, also those that wait, as one replica saw and decided it."""

    stamp: Stamp
    claims: Mapping[ClaimKey, Recorded] = field(repr=False)
    after: Stamp | None = None
    """The record that was known when this was decided; not part of the text."""
    unread: str = field(default="", repr=False)
    """The text that stood there and could not be read; it is kept."""

    def follows(self, text: str) -> bool:
        """Whether this was decided by one who knew ``text`` ("" for none), and so may be written in its place.

        If not, another replica wrote it meanwhile: its word has to be heard first, and then there is another record.
        """
        there = stamp(text)
        if there is None or text == self.unread:
            return text == self.unread
        return there.author == self.stamp.author or there == self.after


class RecordError(ValueError):
    """A text that is not a record. Says what was expected, never what stood there."""


def claim_name(host: str, app: str) -> str:
    """What a claim is called in its line."""
    return f"{host} {app}"


def weigh(name: str) -> int:
    """Octets of a claim's line, by its name."""
    return len(name) + _LINE_REST


def encode(record: Record) -> str:
    """The text of a record. May be longer than :data:`MAX_ENCODED`: see :func:`fitted`."""
    return _encode(record.stamp, record.claims.items())


def _encode(stamp: Stamp, claims: Iterable[tuple[ClaimKey, Recorded]]) -> str:
    lines = [f"{claim_name(host, app)} {'+' if held else '-'} {since}\n" for (host, app), (since, held) in claims]
    lines.sort()
    text = f"by {stamp.author} {stamp.serial}\n{''.join(lines)}"
    return base64.b64encode(gzip.compress(text.encode("ascii"), 6, mtime=0)).decode("ascii")


def entries(record: Record) -> dict[str, str]:
    """What to write into the ConfigMap; all its other entries stay as they are."""
    text = encode(record)
    kept = record.unread[: max(0, MAX_ENCODED - len(text))]
    return {ENTRY: text, UNREADABLE: kept} if kept else {ENTRY: text}


def fitted(record: Record) -> tuple[Record, Mapping[str, int]]:
    """As much of a record as fits into :data:`MAX_ENCODED`, and how many claims of each namespace are left out.

    Each namespace has the same share of the room, so none loses anything by what others write; what a small one leaves
    of its share is for the large ones. Of one namespace the names that it holds come first, then the oldest claims.
    Compresses a large record several times: not for the loop.
    """
    left_out: Counter[str] = Counter()
    if sum(weigh(claim_name(*key)) for key in record.claims) < MAX_ENCODED // 2:  # whatever its letters are
        return record, left_out
    length = len(encode(record))
    if length <= MAX_ENCODED:
        return record, left_out
    claims = _by_share(record.claims)
    kept = len(claims)
    while length > MAX_ENCODED:
        kept = int(kept * MAX_ENCODED / length * _CUT)
        length = len(_encode(record.stamp, claims[:kept]))
    left_out.update(app.partition("/")[0] for (_, app), _ in claims[kept:])
    return replace(record, claims=dict(claims[:kept])), left_out


def _by_share(claims: Mapping[ClaimKey, Recorded]) -> list[tuple[ClaimKey, Recorded]]:
    """The claims, those first that keep their places however few there are: by what stands before each of them in its
    own namespace."""
    ordered = sorted(claims.items(), key=lambda claim: (not claim[1].held, claim[1].since, claim[0]))
    used: Counter[str] = Counter()
    ranked = []
    for key, recorded in ordered:
        namespace = key[1].partition("/")[0]
        used[namespace] += weigh(claim_name(*key))
        ranked.append((used[namespace], key, recorded))
    ranked.sort()
    return [(key, recorded) for _, key, recorded in ranked]


def decode(text: str) -> Record:
    """Read a record.

    Raises:
        RecordError: it is not one. Nothing of it is usable then, as claims must be weighed against each other.
    """
    plain = _expanded(text)
    first = _FIRST.match(plain)
    if first is None or _TEXT.fullmatch(plain) is None:
        raise RecordError(
            "expected lines of: host, namespace/service, + or -, milliseconds; the first one says by whom"
        )
    words = plain[first.end() :].split()
    keys = zip(words[0::4], words[1::4], strict=True)
    values = map(Recorded, map(int, words[3::4]), map("+".__eq__, words[2::4]))
    return Record(Stamp(first[1], int(first[2])), dict(zip(keys, values, strict=True)))


def stamp(text: str) -> Stamp | None:
    """Who wrote a text and which of its records it is, at no cost worth mentioning; None: nobody can tell."""
    try:
        head = zlib.decompressobj(wbits=31).decompress(base64.b64decode(text[:_HEAD], validate=True), 128)
        first = _FIRST.match(head.decode("ascii"))
    except (binascii.Error, ValueError, zlib.error):
        return None
    return Stamp(first[1], int(first[2])) if first else None


def _expanded(text: str) -> str:
    expand = zlib.decompressobj(wbits=31)  # with the header and the checksum of gzip
    try:
        plain = expand.decompress(base64.b64decode(text, validate=True), _MAX_TEXT)
        if expand.eof and not expand.unused_data:
            return plain.decode("ascii")
    except (binascii.Error, ValueError, zlib.error):
        pass
    raise RecordError("expected ASCII lines, compressed by gzip, in base64")
