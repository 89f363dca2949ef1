"""What processes tell each other: every message there is, typed, and decoded by its type alone.

A worker reads hostile bytes, so what comes from one is judged like any input: a frame that is too long, of an unknown
kind or of the wrong shape ends the channel (:class:`BadMessage`); nothing that is decoded can run. msgspec makes the
frozen definitions of ``routing.definitions`` and ``update`` out of MessagePack by their own annotations, so a new field
there needs nothing here.

What must not enter: sockets, loops, and what anybody does about a message.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from drycc_proxy.metrics import Counters, RouteCounters
from drycc_proxy.routing.definitions import TableChange
from drycc_tls.certificate import Certificate
from drycc_tls.errors import Flaw
from drycc_tls.update import CertificateChange

__all__ = [
    "MAX_FRAME",
    "Applied",
    "Ask",
    "BadMessage",
    "Beat",
    "Begin",
    "CertificatePart",
    "Commit",
    "Counted",
    "Drain",
    "Draining",
    "Estate",
    "Failed",
    "Hush",
    "Link",
    "Listen",
    "Lost",
    "OnePeer",
    "PairRead",
    "ReadPair",
    "ReopenLog",
    "Serving",
    "Stopped",
    "StreamPort",
    "TablePart",
    "Tickets",
    "Upstreams",
    "Wish",
    "WorkerHello",
    "decode_for_child",
    "decode_for_control",
    "decode_for_reader",
    "decode_for_supervisor",
    "decode_for_worker",
    "decode_from_reader",
    "encode",
]

MAX_FRAME: Final = 16 * 1024 * 1024
"""Bytes of one message. The largest are one app with a page of its own, and the report of a worker with many apps."""


class BadMessage(Exception):
    """Not a message of ours; never quotes it (there may be keys in it)."""


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """One message, tagged with the name of its class."""


# ── control → worker: changes in parts, each small enough to be read between two requests ─────────────────────────────
class Begin(Message, frozen=True, tag=True, array_like=True):
    """A change follows in parts. ``whole``: everything there is, whatever the worker has heard before."""

    whole: bool


class CertificatePart(Message, frozen=True, tag=True, array_like=True):
    """Some of the certificates of the change."""

    change: CertificateChange


class TablePart(Message, frozen=True, tag=True, array_like=True):
    """Some of the table of the change."""

    change: TableChange


class Commit(Message, frozen=True, tag=True, array_like=True):
    """That was all of it: certificates first, then routes, then say so."""

    generation: int


class Ask(Message, frozen=True, tag=True, array_like=True):
    """Say how things are: ``counters``, ``upstreams`` or ``streams``."""

    number: int
    what: str


# ── worker → control ──────────────────────────────────────────────────────────────────────────────────────────────────
class WorkerHello(Message, frozen=True, tag=True, array_like=True):
    """The first word on a new channel."""

    number: int
    pid: int
    landlock: int
    """ABI of the kernel's Landlock that confines this worker; 0: the kernel has none."""
    tickets: bool
    """Whether session tickets are shared with the other workers."""


class Applied(Message, frozen=True, tag=True, array_like=True):
    """This generation is current here. ``refused``: certificates that OpenSSL would not take."""

    generation: int
    refused: tuple[str, ...]


class RefusedLater(Message, frozen=True, tag=True, array_like=True):
    """What OpenSSL would not take by now, in place of what was said before: some contexts are built after a commit."""

    refused: tuple[str, ...]


class OnePeer(Message, frozen=True, tag=True, array_like=True):
    """Places are few, and nearly all clients come from this address, which is not trusted; empty: that is over."""

    address: str


class Failed(Message, frozen=True, tag=True, array_like=True):
    """This generation could not be made current; the one before it stays. ``error`` is the type of what went wrong."""

    generation: int
    error: str


class Counted(Message, frozen=True, tag=True, array_like=True):
    """Counters, those of some routes or (with ``last``) of the process: see ``roles.counter_sums``."""

    number: int
    routes: dict[str, RouteCounters]
    totals: Counters | None
    process: dict[str, float]
    last: bool


class Upstreams(Message, frozen=True, tag=True, array_like=True):
    """Upstreams, or stream routes, with their endpoints and loads; with ``last``, that was all of them."""

    number: int
    report: list[dict[str, Any]]
    last: bool


# ── supervisor → child, by datagram; descriptors travel beside ────────────────────────────────────────────────────────
class Link(Message, frozen=True, tag=True, array_like=True):
    """Beside this comes one end of a channel between control and the worker of this number and process."""

    number: int
    pid: int


class Lost(Message, frozen=True, tag=True, array_like=True):
    """The worker is gone; ``why`` is how."""

    number: int
    pid: int
    why: str


class StreamPort(Message, frozen=True, tag=True, array_like=True):
    """Beside this comes a socket that listens on a port, for streams; without one: that port is gone, or there is an
    ``error``."""

    wanted: int
    """As the route says; 0 picks a free one."""
    error: str = ""
    """Why it could not be bound. It is tried again."""


class Tickets(Message, frozen=True, tag=True, array_like=True):
    """The key of session tickets from now on."""

    key: bytes


class Draining(Message, frozen=True, tag=True, array_like=True):
    """The router is about to end: tell the probes, and serve on."""


class Hush(Message, frozen=True, tag=True, array_like=True):
    """Another router answers on the operator's port from now on."""


class Drain(Message, frozen=True, tag=True, array_like=True):
    """Accept nothing new, finish within ``grace`` seconds, and end."""

    grace: float


class ReopenLog(Message, frozen=True, tag=True, array_like=True):
    """Log files were moved away: open them again."""


# ── child → supervisor, by datagram ───────────────────────────────────────────────────────────────────────────────────
class Beat(Message, frozen=True, tag=True, array_like=True):
    """The loop turns."""


class Serving(Message, frozen=True, tag=True, array_like=True):
    """A worker accepts connections; control: every worker has a complete table."""


class Stopped(Message, frozen=True, tag=True, array_like=True):
    """A worker accepts nothing any more."""


class Estate(Message, frozen=True, tag=True, array_like=True):
    """Beside this comes a file in memory: what the next control process must know of this one."""


class Listen(Message, frozen=True, tag=True, array_like=True):
    """Control: these ports are wanted for streams, and no others."""

    ports: tuple[int, ...]


class Wish(Message, frozen=True, tag=True, array_like=True):
    """Control: end this worker, which does not do as it is told."""

    number: int
    pid: int


# ── control ↔ the process that reads pairs ahead ──────────────────────────────────────────────────────────────────────
class ReadPair(Message, frozen=True, tag=True, array_like=True):
    """Control: what is this chain and this key, both PEM?"""

    number: int
    chain: bytes
    key: bytes


class PairRead(Message, frozen=True, tag=True, array_like=True):
    """The reader: this certificate, or it is no pair, and why."""

    number: int
    certificate: Certificate | None
    flaw: Flaw | None


ForWorker: TypeAlias = Begin | CertificatePart | TablePart | Commit | Ask
ForControl: TypeAlias = WorkerHello | Applied | RefusedLater | OnePeer | Failed | Counted | Upstreams
ForChild: TypeAlias = Link | Lost | StreamPort | Tickets | Draining | Hush | Drain | ReopenLog
ForSupervisor: TypeAlias = Beat | Serving | Stopped | Estate | Listen | Wish

M = TypeVar("M")

_ENCODER: Final = msgspec.msgpack.Encoder()
_WORKER: Final[msgspec.msgpack.Decoder[ForWorker]] = msgspec.msgpack.Decoder(ForWorker)
_CONTROL: Final[msgspec.msgpack.Decoder[ForControl]] = msgspec.msgpack.Decoder(ForControl)
_CHILD: Final[msgspec.msgpack.Decoder[ForChild]] = msgspec.msgpack.Decoder(ForChild)
_SUPERVISOR: Final[msgspec.msgpack.Decoder[ForSupervisor]] = msgspec.msgpack.Decoder(ForSupervisor)
_READER: Final[msgspec.msgpack.Decoder[ReadPair]] = msgspec.msgpack.Decoder(ReadPair)
_READ: Final[msgspec.msgpack.Decoder[PairRead]] = msgspec.msgpack.Decoder(PairRead)


def encode(message: Message) -> bytes:
    """The bytes of a message. Raises BadMessage when there are too many of them."""
    data = _ENCODER.encode(message)
    if len(data) > MAX_FRAME:
        raise BadMessage(f"{type(message).__name__} is too long")
    return data


def decode_for_worker(data: bytes) -> ForWorker:
    """What control says to a worker. Raises BadMessage."""
    return _decode(_WORKER, data)


def decode_for_control(data: bytes) -> ForControl:
    """What a worker says to control. Raises BadMessage."""
    return _decode(_CONTROL, data)


def decode_for_child(data: bytes) -> ForChild:
    """What the supervisor says. Raises BadMessage."""
    return _decode(_CHILD, data)


def decode_for_supervisor(data: bytes) -> ForSupervisor:
    """What a child says to the supervisor. Raises BadMessage."""
    return _decode(_SUPERVISOR, data)


def decode_for_reader(data: bytes) -> ReadPair:
    """What control asks the reader of pairs. Raises BadMessage."""
    return _decode(_READER, data)


def decode_from_reader(data: bytes) -> PairRead:
    """What that answers. Raises BadMessage."""
    return _decode(_READ, data)


def _decode(decoder: msgspec.msgpack.Decoder[M], data: bytes) -> M:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        pass  # their texts may quote what they read
    raise BadMessage("not a message of this version")
