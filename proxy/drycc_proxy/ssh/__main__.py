"""The gateway's process: ``python -m drycc_proxy.ssh DIRECTORY LISTENING WAY``, the last two being descriptors.

Whoever starts it gives it a listening socket and one end of a way (``ssh.events``), on which it hears where the
builder is and tells what happens. SIGUSR1 ends it: the router's streams are over by then, and its sessions have a
moment. When nobody is left at the other end of the way it accepts nothing more, and ends once its sessions have.

What must not enter: anything that a session needs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import sys
from pathlib import Path
from typing import Any, Final

import asyncssh
import uvloop

import drycc_proxy
from drycc_proxy.kernel.sandbox import confine, forget_environment, harden, name_process, own_files
from drycc_proxy.ssh.config import Directory
from drycc_proxy.ssh.events import Teller, Way
from drycc_proxy.ssh.server import GitServer

__all__ = ["main"]

log = logging.getLogger(__name__)

RESOLVER: Final = ("hosts", "resolv.conf", "nsswitch.conf", "host.conf", "gai.conf", "services", "protocols")
AUTHORITIES: Final = (Path("/etc/ssl/certs"), Path("/usr/share/ca-certificates"), Path("/etc/pki/ca-trust"))
NO_HOME: Final = "/nonexistent"
END_SECONDS: Final = 1.0
"""How long sessions may take to end once the router has, and how long the last events may take to be heard."""


def main(arguments: list[str]) -> int:
    """Serve. Exit status 64: the directory cannot be used."""
    path, listening, end = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # sent to all processes at once: the router says when sessions are to end
    name_process("drycc-git")
    # What the supervisor set up for itself ended with the start of another program.
    harden()
    forget_environment()
    # asyncssh looks for its user's home with every connection. This process has none: without the variable the account
    # would be looked up, in a file that it may not read and that need not name it.
    os.environ["HOME"] = NO_HOME
    landlock = confine([*own_files(drycc_proxy), *_to_be_read(path)])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(path, socket.socket(fileno=listening), socket.socket(fileno=end), landlock))


def _to_be_read(directory: Path) -> list[Path]:
    """The gateway's own directory, and what it takes to find the builder and the platform's API and to know the latter:
    files of the resolver, and authorities. Nothing else of this machine, so not the token of the Pod either."""
    trusted = ssl.get_default_verify_paths()
    wanted = [directory, *(Path(f"/etc/{name}") for name in RESOLVER), *AUTHORITIES]
    wanted += [Path(each) for each in (trusted.cafile, trusted.capath, trusted.openssl_cafile) if each]
    return sorted({path.resolve() for path in wanted if path.exists()})


async def _serve(path: Path, listening: socket.socket, end: socket.socket, landlock: int) -> int:
    gone, told_to_end = asyncio.Event(), asyncio.Event()

    def heard(said: dict[str, Any]) -> None:  # not before there is a server: nothing is awaited until then
        server.serve_from([(host, port) for host, port in said["builders"]], said["connect_timeout"])

    def end_now() -> None:
        told_to_end.set()
        gone.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, end_now)
    way = Way(end, heard, gone.set)
    logging.basicConfig(level=logging.INFO, handlers=[Teller(way)])
    asyncssh.set_log_level(logging.ERROR)  # its words quote what clients send
    try:
        server = GitServer(Directory(path), way.tell)
    except (OSError, ValueError) as error:
        log.error("the git gateway cannot begin: %s", error)
        await way.finish(END_SECONDS)
        return 64
    accepting = asyncio.create_task(server.listen(listening), name="accept")
    told = asyncio.create_task(told_to_end.wait(), name="told to end")
    way.tell({"event": "listening", "landlock": landlock})
    await gone.wait()
    accepting.cancel()
    over = asyncio.create_task(server.over(), name="sessions are over")
    await asyncio.wait((over, told), return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait((over,), timeout=END_SECONDS)
    for task in (over, told):
        task.cancel()
    await server.close(END_SECONDS)
    await way.finish(END_SECONDS)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
