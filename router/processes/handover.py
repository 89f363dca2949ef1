"""One router takes over from another on the same machine: the sockets that listen, and the key of session tickets.

::

    new                                   old
    connects to the path            →
                                    ←     the sockets, beside what they are for
    starts control and workers            serves on, as if nothing were
    every worker accepts: "ready"   →
    listens at the path itself            its workers accept nothing more, and drain

The sockets are never closed in between, so nobody is refused. A new one that fails at any step before its "ready" ends,
and the old one has noticed nothing but a connection. Whoever may connect may take the ports, so the path has mode 0600
and only the same user, or root, is answered.

What must not enter: when to start or to drain (``router.processes.supervisor``).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["Door", "Taken", "take"]

MAX_GIVEN: Final = 16 * 1024
MAX_SOCKETS: Final = 64
SECONDS: Final = 5.0
"""How long the old one may take to answer; it is asked once."""
READY: Final = b"ready"


class Given(msgspec.Struct, frozen=True, array_like=True):
    """What comes with the sockets."""

    version: str
    names: list[str]
    """What each socket is for: ``http``, ``https``, ``admin``, or the number of a port for streams."""
    ticket_key: bytes | None


@dataclass(frozen=True, slots=True)
class Taken:
    """What the old one gave, and the way to tell it that it may go."""

    version: str
    sockets: Mapping[str, socket.socket]
    ticket_key: bytes | None = field(repr=False)
    _way: socket.socket = field(repr=False)

    def ready(self) -> None:
        """The new one serves: let the old one go."""
        try:
            self._way.send(READY)
        except OSError:
            pass  # it has gone already
        self._way.close()

    def forget(self) -> None:
        """In a child: the way is its parent's."""
        self._way.close()

    def close(self) -> None:
        """Nothing came of it."""
        self._way.close()
        for each in self.sockets.values():
            each.close()


def take(path: Path) -> Taken | None:
    """The sockets of the router that listens at ``path``; None: nobody does.

    Raises OSError when somebody does and does not answer as it should.
    """
    way = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    way.settimeout(SECONDS)
    try:
        way.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        way.close()
        return None
    except OSError:
        way.close()
        raise
    try:
        data, descriptors, _, _ = socket.recv_fds(way, MAX_GIVEN, MAX_SOCKETS)
        sockets = [socket.socket(fileno=each) for each in descriptors]
        given = msgspec.msgpack.decode(data, type=Given)
        if len(given.names) != len(sockets):
            raise ValueError
    except (OSError, ValueError, msgspec.DecodeError):
        way.close()
        raise OSError(f"the router at {path} does not hand over its sockets") from None
    for each in sockets:
        each.setblocking(False)
    return Taken(given.version, dict(zip(given.names, sockets, strict=True)), given.ticket_key, way)


class Door:
    """Where a successor knocks. Raises OSError when it cannot be made; an old one there is replaced in one step."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        before = os.umask(0o177)
        try:
            self.socket.bind(str(aside))
            self.socket.listen(1)
            os.rename(aside, path)
        except OSError as error:
            self.socket.close()
            raise OSError(error.errno, f"cannot listen at {path}: {error.strerror}") from None
        finally:
            os.umask(before)
        self.socket.setblocking(False)

    def answer(
        self, version: str, sockets: Mapping[str, socket.socket], ticket_key: bytes | None
    ) -> socket.socket | None:
        """Give the sockets to whoever knocked. Returns the way on which it will say that it is ready."""
        try:
            way, _ = self.socket.accept()
        except OSError:
            return None
        way.setblocking(False)
        try:
            _, user, _ = struct.unpack("3i", way.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if user not in (0, os.geteuid()):
                raise PermissionError
            given = msgspec.msgpack.encode(Given(version, list(sockets), ticket_key))
            socket.send_fds(way, [given], [each.fileno() for each in sockets.values()])
        except OSError:
            way.close()
            return None
        return way

    def close(self) -> None:
        """Nobody is answered any more."""
        self.socket.close()
