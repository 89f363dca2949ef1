"""One router takes over from another on the same machine: the sockets that listen, and the key of session tickets.

::

    new                                   old
    connects to the path            →
                                    ←     "prove"
    its proof, beside a descriptor  →
                                    ←     the sockets, beside what they are for
    starts control and workers            serves on, as if nothing were
    every worker accepts: "ready"   →
    listens at the path itself            its workers accept nothing more, and drain

The sockets are never closed in between, so nobody is refused. A new one that fails at any step before its "ready" ends,
and the old one has noticed nothing but a connection.

Whoever is given the sockets may take the ports, so the path has mode 0600, and only the same user, or root, is served.
Who asks has to prove that it is not confined as a worker is: it sends a descriptor of the path's directory that is open
for reading. Landlock lets no worker open that, whatever runs in it, but does not restrict connecting to a Unix socket.
There is no secret, since a worker inherits what the supervisor has in memory. Where the kernel has no Landlock nothing
is proved, as nothing is confined.

A router of before this proof sends the sockets at once, and is taken over from all the same.

What must not enter: when to start or to drain (``roles.supervisor``).
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["HandoverListener", "Taken", "take"]

MAX_GIVEN: Final = 16 * 1024
MAX_SOCKETS: Final = 64
SECONDS: Final = 5.0
"""How long the old one may take to answer; it is asked once."""
READY: Final = b"ready"
PROVE: Final = b"prove"
PROOF: Final = b"proof"
WAITING: Final = 8
"""Connections that may wait until the supervisor looks."""


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
        if data == PROVE:
            witness = _witness(path.parent)
            try:
                socket.send_fds(way, [PROOF], [witness])
            finally:
                os.close(witness)
            data, descriptors, _, _ = socket.recv_fds(way, MAX_GIVEN, MAX_SOCKETS)
        sockets = [socket.socket(fileno=each) for each in descriptors]
        given = msgspec.msgpack.decode(data, type=Given)
        if len(given.names) != len(sockets):
            raise ValueError
    except _NoWitness:
        way.close()
        raise
    except (OSError, ValueError, msgspec.DecodeError):
        way.close()
        raise OSError(f"the router at {path} does not hand over its sockets") from None
    for each in sockets:
        each.setblocking(False)
    return Taken(given.version, dict(zip(given.names, sockets, strict=True)), given.ticket_key, way)


class _NoWitness(OSError):
    """The directory cannot be read, so there is nothing to prove with."""


def _witness(directory: Path) -> int:
    try:
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _NoWitness(error.errno, f"cannot read {directory}, which the router there asks for as a proof") from None


class HandoverListener:
    """Where a successor knocks. Raises OSError when it cannot be made; an old one there is replaced in one step, and
    nothing but a socket is: who mistypes the path must not lose a file.

    ``readable``: what confined processes may read; the path must not be below any of it.
    """

    def __init__(self, path: Path, readable: Iterable[Path] = ()) -> None:
        resolved = path.resolve()
        if within := next((each for each in readable if resolved.is_relative_to(each)), None):
            raise OSError(f"cannot listen at {path}: workers may read below {within}, so it would prove nothing")
        if os.path.lexists(path) and not path.is_socket():
            raise FileExistsError(errno.EEXIST, f"cannot listen at {path}: there is something that is no socket")
        self._directory = path.parent
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        before = os.umask(0o177)
        try:
            self.socket.bind(str(aside))
            try:
                self.socket.listen(WAITING)
                os.rename(aside, path)
            except OSError:
                aside.unlink(missing_ok=True)
                raise
        except OSError as error:
            self.socket.close()
            raise OSError(error.errno, f"cannot listen at {path}: {error.strerror}") from None
        finally:
            os.umask(before)
        self.socket.setblocking(False)

    def admit(self) -> socket.socket | None:
        """Ask whoever knocked for the proof. Returns the way on which it comes; None: it is nobody who may ask."""
        try:
            way, _ = self.socket.accept()
        except OSError:
            return None
        way.setblocking(False)
        try:
            _, user, _ = struct.unpack("3i", way.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if user not in (0, os.geteuid()):
                raise PermissionError
            way.send(PROVE)
        except OSError:
            way.close()
            return None
        return way

    def is_proven(self, way: socket.socket) -> bool:
        """Whether what has come on the way is the proof. The way can be read; whatever descriptors come are closed."""
        descriptors: list[int] = []
        try:
            word, descriptors, _, _ = socket.recv_fds(way, 64, 4)
            if word != PROOF or len(descriptors) != 1:
                return False
            [witness] = descriptors
            flags, told, wanted = fcntl.fcntl(witness, fcntl.F_GETFL), os.fstat(witness), os.stat(self._directory)
        except OSError:
            return False
        finally:
            for each in descriptors:
                os.close(each)
        # A descriptor with O_PATH can be had of what may not be read.
        is_open_for_reading = flags & os.O_ACCMODE == os.O_RDONLY and not flags & os.O_PATH
        is_the_directory = stat.S_ISDIR(told.st_mode) and (told.st_dev, told.st_ino) == (wanted.st_dev, wanted.st_ino)
        return is_open_for_reading and is_the_directory

    def give(
        self, way: socket.socket, version: str, sockets: Mapping[str, socket.socket], ticket_key: bytes | None
    ) -> bool:
        """Give the sockets to who has proven itself; False: it is gone."""
        given = msgspec.msgpack.encode(Given(version, list(sockets), ticket_key))
        try:
            socket.send_fds(way, [given], [each.fileno() for each in sockets.values()])
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Nobody is answered any more."""
        self.socket.close()
