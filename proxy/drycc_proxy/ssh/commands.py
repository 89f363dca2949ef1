"""The one command line that a git client may send: which service, which app.

Read by a grammar, never by a shell: whatever is not exactly what git writes is refused. The app's name is compared with
others as a whole, so it has one form: as the platform writes it.

What must not enter: sessions, and who may do what.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["Command", "CommandRefused", "parse", "protocol_version"]

_COMMAND: Final = re.compile(
    r"(git-receive-pack|git-upload-pack|git receive-pack|git upload-pack) "
    r"(?:'/?([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(?:\.git)?/?'|/?([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(?:\.git)?/?)"
)
"""What git writes: the service, and its argument in single quotes. Names of apps are DNS labels."""

_PROTOCOL: Final = re.compile(r"version=[012]")


class CommandRefused(Exception):
    """It cannot be done. The text is for the developer's terminal; ``reason`` is its machine name."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Command:
    """What a session is for."""

    service: str
    """``git-receive-pack`` (push) or ``git-upload-pack`` (clone, fetch)."""
    app: str

    @property
    def is_push(self) -> bool:
        """Whether it may change anything."""
        return self.service == "git-receive-pack"

    def __str__(self) -> str:
        """For the builder, as git writes it. The name has no character that means anything to a shell."""
        return f"{self.service} '{self.app}.git'"


def parse(line: str | None) -> Command:
    """Read a command line; None: a shell was asked for. Raises :class:`CommandRefused`."""
    if line is None:
        raise CommandRefused("no_command", "This is for git alone: there is no shell here.")
    match = _COMMAND.fullmatch(line) if len(line) < 256 else None
    if match is None:
        raise CommandRefused("bad_command", "Only git push, fetch and clone of one app are served here.")
    return Command(match[1].replace(" ", "-"), match[2] or match[3])


def protocol_version(environment: object) -> str:
    """``GIT_PROTOCOL`` of a client's environment, if it is one that git writes; else empty."""
    text = environment.get("GIT_PROTOCOL") if isinstance(environment, dict) else None
    if isinstance(text, bytes):
        text = text.decode("ascii", "replace")
    return text if isinstance(text, str) and _PROTOCOL.fullmatch(text) else ""
