"""The gateway's process: ``python -m proxy.ssh DIRECTORY FD``.

Its parent gives it a listening socket, tells it on standard input, a line of JSON each, where the builder is, and reads
events from its standard output. It ends when standard input does, once its sessions are over or its parent kills it.

What must not enter: anything that a session needs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import socket
import sys
from pathlib import Path

import asyncssh

from proxy.ssh.directory import Directory
from proxy.ssh.server import Event, GitServer

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Serve. Exit status 64: the directory cannot be used."""
    path, descriptor = arguments
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would have every private key in it
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    asyncssh.set_log_level(logging.ERROR)  # its words quote what clients send
    try:
        directory = Directory(Path(path))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"the git gateway cannot begin: {error}\n")
        return 64
    try:
        asyncio.run(_serve(directory, socket.socket(fileno=int(descriptor))))
    except KeyboardInterrupt:
        pass
    return 0


async def _serve(directory: Directory, listening: socket.socket) -> None:
    server = GitServer(directory, _tell)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    accepting = asyncio.create_task(server.listen(listening), name="accept")
    _tell({"event": "listening"})
    try:
        while line := await reader.readline():
            said = json.loads(line)
            server.serve_from([(host, port) for host, port in said["builders"]], said["connect_timeout"])
        accepting.cancel()
        while server.sessions:  # noqa: ASYNC110 -- at the end of the process, and its parent sets the limit
            await asyncio.sleep(0.1)
    finally:
        accepting.cancel()
        await server.close()


def _tell(event: Event) -> None:
    os.write(1, json.dumps(event).encode("ascii") + b"\n")  # one write, so that lines stay whole; a pipe takes it


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
