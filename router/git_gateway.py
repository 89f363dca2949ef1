"""The git gateway from outside: its process, what it is told, and what it tells.

The gateway is a process of its own (``proxy.ssh``), which is given a listening socket on loopback. The data plane
serves the git port as ever; all that differs is where its streams go: :meth:`GitGateway.lead` puts the gateway in
the place of the builder's endpoints, has a PROXY header say who comes, and tells the gateway where the builder is.

A gateway that ends is started again, later each time. Its socket stays: whoever comes meanwhile waits.

What must not enter: keys, and anything of SSH.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from proxy.routes import StreamRoute, TableChange
from router.streams import GIT

__all__ = ["GitGateway"]

log = logging.getLogger(__name__)

FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 10.0
"""Seconds before a gateway that ended is started again; doubled each time, back to the first after a minute."""
END_SECONDS: Final = 2.0
"""How long a gateway that is no longer needed may take to end."""


class GitGateway:
    """One gateway for this router. ``write`` takes lines for the log; it must not block."""

    def __init__(self, directory: Path, write: Callable[[bytes], bool] | None) -> None:
        self._directory = directory
        self._write = write
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._child: asyncio.subprocess.Process | None = None
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
            self._tell(git)
            address: tuple[str, int] = self._listening.getsockname()
            led = replace(git, endpoints=(address,), proxy_protocol="v2")
            change = replace(change, streams={**change.streams, GIT: led})
        return change

    def _tell(self, git: StreamRoute) -> None:
        said = {"builders": git.endpoints, "connect_timeout": git.connect_timeout}
        self._told = json.dumps(said).encode("ascii") + b"\n"
        if self._child is not None and self._child.stdin is not None:
            self._child.stdin.write(self._told)

    # ── its process ───────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Keep a gateway running."""
        wait = FIRST_WAIT
        loop = asyncio.get_running_loop()
        try:
            while True:
                began = loop.time()
                status = await self._run_once()
                wait = FIRST_WAIT if loop.time() - began > 60 else min(2 * wait, LONGEST_WAIT)
                log.error("the git gateway ended with status %s; it is started again in %g s", status, wait)
                await asyncio.sleep(wait)
        finally:
            self._listening.close()

    async def _run_once(self) -> int | None:
        descriptor = self._listening.fileno()
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "proxy.ssh",
            str(self._directory),
            str(descriptor),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(descriptor,),
            start_new_session=True,  # a Ctrl-C is for the router, which lets sessions end
        )
        assert child.stdin is not None and child.stdout is not None  # noqa: S101 -- pipes were asked for
        self._child = child
        child.stdin.write(self._told)
        try:
            while line := await child.stdout.readline():
                try:
                    self._hear(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    log.error("the git gateway said something that is no event")
            return await child.wait()
        finally:
            self._child = None
            child.stdin.close()
            try:
                async with asyncio.timeout(END_SECONDS):
                    await child.wait()
            except TimeoutError:
                child.kill()
                await child.wait()

    def _hear(self, event: dict[str, Any]) -> None:
        """Count an event, and write it down."""
        match event["event"]:
            case "session":
                key = (str(event.get("service", "none")), str(event["outcome"]))
                self.sessions[key] = self.sessions.get(key, 0) + 1
                if key[0] == "git-receive-pack":
                    self.push_bytes += int(event["bytes_in"])
            case "denied":
                reason = str(event["reason"])
                self.denied[reason] = self.denied.get(reason, 0) + 1
            case _:
                return
        if self._write is not None:
            now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            line = {"time": now, "protocol": "git", **event}
            self._write(json.dumps(line).encode("ascii") + b"\n")
