"""The pages as a user reads them: blocks to type, commands in the text, examples of annotations."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PAGES", "PROGRAMS", "ROOT", "Block", "Command", "blocks", "commands", "prose"]

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *(path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"),
        *(ROOT / "docs").glob("*.md"),
        *ROOT.glob("*/README.md"),
    ]
)
"""Every page that tells a user what to type. The changelog tells what was."""

PROGRAMS = frozenset(
    [".venv/bin/drycc-router", "curl", "drycc-router", "git", "helm", "kubectl", "make", "mkdir", "podman", "python"]
)
"""What a command may begin with."""

_OTHERS = frozenset(["git", "helm", "kubectl"])
"""Programs of which the text speaks by their verbs: ``kubectl describe`` alone is no command."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_COMMENT = re.compile(r"\s{2,}# .*$", re.MULTILINE)
_ASSIGNMENT = re.compile(r"^(?:[A-Z_]+=(?:\"[^\"]*\"|\S*) )+")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str
    language: str
    text: str

    @property
    def lines(self) -> list[str]:
        """Its commands: lines joined where they go on, without comments."""
        joined = _COMMENT.sub("", self.text.replace("\\\n", " "))
        return [re.sub(r"\s+", " ", line).strip() for line in joined.splitlines() if line.strip()]

    @property
    def is_typed(self) -> bool:
        """Whether it is there to be typed: its first line is a command."""
        return not self.language and bool(self.lines) and program(self.lines[0]) in PROGRAMS


@dataclass(frozen=True)
class Command:
    """One command, of a block or of the text."""

    page: str
    text: str
    fenced: bool

    @property
    def program(self) -> str:
        return program(self.text)

    @property
    def words(self) -> list[str]:
        """Without assignments before it."""
        return shlex.split(_ASSIGNMENT.sub("", self.text))

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"


def program(line: str) -> str:
    words = _ASSIGNMENT.sub("", line).split()
    return words[0] if words else ""


def blocks() -> Iterator[Block]:
    for page in PAGES:
        for found in _FENCE.finditer(page.read_text(encoding="utf-8")):
            yield Block(str(page.relative_to(ROOT)), found[1], found[2])


def prose(page: Path) -> str:
    """A page without its blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def commands() -> Iterator[Command]:
    """Every command that a page shows, once for each page. A program's name alone is no command."""
    seen = set()
    for block in blocks():
        if block.is_typed:
            for line in block.lines:
                seen.add(Command(block.page, line, True))
    for page in PAGES:
        for found in _SPAN.finditer(prose(page)):
            words = found[1].split()
            if program(found[1]) in PROGRAMS and len(words) > (2 if words[0] in _OTHERS else 1):
                seen.add(Command(str(page.relative_to(ROOT)), found[1], False))
    yield from sorted(seen, key=str)
