"""What the git gateway's process is given: a socket that listens on loopback, and one end of a way.

Whoever starts that process keeps all of it, and lends the near end of the way to whoever controls the gateway
(``git.gateway``). So nobody who comes while there is no process is refused, and nothing that is told while there
is no control is lost.

It is another program, not a fork: it reads what strangers send, and has no use for what the supervisor keeps in memory,
such as the key of session tickets.

What must not enter: when to start it, and what is said on the way.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["END_SECONDS", "END_SIGNAL", "LONG_ENOUGH", "GitProcess"]

END_SIGNAL: Final = signal.SIGUSR1
"""Ends the process and its sessions. SIGTERM and SIGINT may be sent to all processes at once, long before that."""
END_SECONDS: Final = 4.0
"""How long the process may take to end once it was told to."""
LONG_ENOUGH: Final = 60.0
"""Seconds after which one that ends has come to do its work."""
INHERITED: Final = ("LD_LIBRARY_PATH", "PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONHOME", "PYTHONPATH", "SSL_CERT_FILE")
"""Variables without which a Python may not start or not know whom to trust; the process forgets them once it runs."""


@dataclass(frozen=True, slots=True)
class GitProcess:
    """The sockets, which outlive the processes that use them."""

    listening: socket.socket
    near: socket.socket
    """For who controls the gateway."""
    far: socket.socket
    """For the process."""

    @classmethod
    def prepare(cls) -> GitProcess:
        """Sockets for a first process."""
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for each in (near, far):
            each.setblocking(False)
        return cls(socket.create_server(("127.0.0.1", 0), backlog=512), near, far)

    def command(self, directory: Path) -> list[str]:
        """What to run. Its descriptors have these numbers there, too."""
        return [sys.executable, "-m", "drycc_proxy.ssh", str(directory), *map(str, self.descriptors)]

    @property
    def descriptors(self) -> tuple[int, int]:
        """What the process inherits."""
        return self.listening.fileno(), self.far.fileno()

    @staticmethod
    def environment() -> dict[str, str]:
        """Its environment: nothing of what the supervisor was started with but what a Python needs."""
        return {name: os.environ[name] for name in INHERITED if name in os.environ}

    def become(self, directory: Path) -> None:
        """In a child: be the process. Returns only by raising OSError."""
        os.setsid()  # a Ctrl-C is for the router, which lets sessions end
        for each in self.descriptors:
            os.set_inheritable(each, True)
        command = self.command(directory)
        os.execve(command[0], command, self.environment())  # noqa: S606 -- that there is no shell is what is wanted

    def close(self) -> None:
        """Nobody is to use them any more."""
        for each in (self.listening, self.near, self.far):
            each.close()
