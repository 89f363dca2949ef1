"""The git gateway from outside: what it is told, what it tells, and in a router of one process the process that it is.

The gateway is a process of its own (``ssh``), which is given a listening socket on loopback. The data plane
serves the git port as ever; all that differs is where its streams go: :meth:`GitGateway.lead` puts the gateway in
the place of the builder's endpoints, has a PROXY header say who comes, and tells the gateway where the builder is.

Where there are several processes the supervisor starts the gateway, so that pushes go on when control dies and is
started again. In a router of one process :func:`keep` does. A gateway that ends is started again, later each time; its
socket stays, so whoever comes meanwhile waits.

What must not enter: keys, and anything of SSH.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from drycc_proxy.routing.definitions import Address, TableChange
from drycc_router.git.process import END_SECONDS, END_SIGNAL, LONG_ENOUGH, GitProcess
from drycc_router.process.restart_policy import LAST, Respawn
from drycc_router.translate.streams import GIT

__all__ = ["GitGateway", "keep"]

log = logging.getLogger(__name__)

MAX_TOLD: Final = 1 << 18
"""Bytes of one event; more than a socket lends."""
LEVELS: Final = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.CRITICAL}
SERVICES: Final = frozenset({"git-receive-pack", "git-upload-pack", "none"})
OUTCOMES: Final = frozenset(
    {"ok", "failed", "broken_off", "no_command", "bad_command", "maintenance", "not_your_app"}
    | {"builder_unavailable", "api_unavailable"}
)
DENIALS: Final = frozenset(
    {"too_many_strangers", "too_many_keys", "bad_user", "unknown_key", "api_unavailable", "maintenance"}
)
"""Labels of metrics. The process reads what strangers send, so any other word of it counts as ``other``."""
MOST_BYTES: Final = 1 << 50
"""Bytes of one push that are believed."""
MAX_MESSAGE: Final = 2000
"""Characters of one log line of the process."""
MAX_BUILDERS: Final = 256
"""Endpoints of the builder that the gateway is told of: more than anybody has."""


class GitGateway:
    """The one gateway of this router, for who controls it. ``address`` is where it listens, ``way`` the near end of the
    way to it. ``write`` takes lines for the log; it must not block."""

    def __init__(self, address: Address, way: socket.socket, write: Callable[[bytes], bool] | None) -> None:
        self._address = address
        self._way = way
        self._write = write
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = b""
        self.sessions: dict[tuple[str, str], int] = {}
        """(service, outcome) → sessions that are over."""
        self.denied: dict[str, int] = {}
        """Reason → clients that proved no key."""
        self.push_bytes = 0
        """Bytes that pushes sent."""

    def lead(self, change: TableChange) -> TableChange:
        """The change with git's streams led here."""
        git = change.streams.get(GIT)
        if git is not None:
            said = {"builders": git.endpoints[:MAX_BUILDERS], "connect_timeout": git.connect_timeout}
            self._told = json.dumps(said).encode("ascii")
            self._tell()
            led = replace(git, endpoints=(self._address,), proxy_protocol="v2")
            change = replace(change, streams={**change.streams, GIT: led})
        return change

    def listen(self) -> None:
        """Hear what it tells, from now on and what waits from before."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._way, self._read)
        self._tell()

    def close(self) -> None:
        """Hear what it told last, and listen no longer."""
        if self._loop is not None:
            self._read()
            self._loop.remove_reader(self._way)
            self._loop.remove_writer(self._way)
            self._loop = None

    def _tell(self) -> None:
        """Say where the builder is, as soon as the gateway can hear it; only the last word counts."""
        if self._loop is None or not self._told:
            return
        try:
            self._way.send(self._told)
        except BlockingIOError:
            self._loop.add_writer(self._way, self._tell)
            return
        except OSError as error:
            log.error("the git gateway cannot be told where the builder is: %s", error.strerror)
        self._loop.remove_writer(self._way)

    def _read(self) -> None:
        while True:
            try:
                data = self._way.recv(MAX_TOLD)
            except OSError:
                return  # nothing more, for now
            if not data:
                if self._loop is not None:
                    self._loop.remove_reader(self._way)
                return
            try:
                self._hear(json.loads(data))
            except (ValueError, KeyError, TypeError):
                log.error("the git gateway said something that is no event")

    def _hear(self, event: dict[str, Any]) -> None:
        """Count an event, and write it down."""
        match event["event"]:
            case "session":
                key = (_one_of(SERVICES, event.get("service", "none")), _one_of(OUTCOMES, event["outcome"]))
                self.sessions[key] = self.sessions.get(key, 0) + 1
                if key[0] == "git-receive-pack":
                    self.push_bytes += min(max(int(event["bytes_in"]), 0), MOST_BYTES)
            case "denied":
                reason = _one_of(DENIALS, event["reason"])
                self.denied[reason] = self.denied.get(reason, 0) + 1
            case "listening":
                if not event.get("landlock"):
                    log.warning("this kernel has no Landlock: the git gateway could read what its user may read")
                self._tell()  # a new one
                return
            case "log":
                log.log(LEVELS.get(str(event["level"]), logging.ERROR), "%s", str(event["message"])[:MAX_MESSAGE])
                return
            case _:
                return
        if self._write is not None:
            now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            line = event | {"time": now, "protocol": "git"}
            self._write(json.dumps(line).encode("ascii") + b"\n")


def _one_of(known: frozenset[str], word: object) -> str:
    return word if isinstance(word, str) and word in known else "other"


async def keep(process: GitProcess, directory: Path) -> None:
    """Keep a gateway running in a process of its own; when this is cancelled, it ends."""
    loop = asyncio.get_running_loop()
    lives = Respawn()
    while True:
        began = loop.time()
        status = await _run_once(process, directory)
        wait = lives.died(loop.time(), loop.time() - began > LONG_ENOUGH) or LAST
        log.error("the git gateway ended with status %s; it is started again in %g s", status, wait)
        await asyncio.sleep(wait)


async def _run_once(process: GitProcess, directory: Path) -> int:
    child = await asyncio.create_subprocess_exec(
        *process.command(directory),
        pass_fds=process.descriptors,
        env=process.environment(),
        start_new_session=True,  # a Ctrl-C is for the router, which lets sessions end
    )
    try:
        return await child.wait()
    finally:
        if child.returncode is None:
            child.send_signal(END_SIGNAL)
            try:
                async with asyncio.timeout(END_SECONDS):
                    await child.wait()
            except TimeoutError:
                child.kill()
                await child.wait()
