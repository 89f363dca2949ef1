"""What a proxy under measurement is: files to write, a command to run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.certificates import Pair
from benchmarks.tools import REPOSITORY

__all__ = ["Peer", "Ports", "Site"]


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a proxy listens, on 127.0.0.1. ``admin`` is for those that have such a port."""

    http: int
    https: int
    admin: int


@dataclass(frozen=True, slots=True)
class Site:
    """What every proxy serves: one app per host, each with the same endpoints behind it, and one certificate."""

    hosts: tuple[str, ...]
    endpoints: tuple[tuple[str, int], ...]
    pair: Pair


class Peer(ABC):
    """One proxy. ``files`` is pure: what it says is written by whoever starts the proxy."""

    def __init__(self, name: str, program: Path) -> None:
        self.name = name
        self.program = program

    @abstractmethod
    def files(self, site: Site, ports: Ports, home: Path) -> dict[str, str]:
        """Return the configuration: file name inside ``home`` → text."""

    @abstractmethod
    def command(self, ports: Ports, home: Path) -> list[str]:
        """Return the command that serves in the foreground."""

    @abstractmethod
    def version_command(self) -> list[str]:
        """Return the command whose output names the version."""

    def log(self, home: Path) -> Path:
        """Return the file that gets the access log."""
        return home / "access.log"

    def environment(self) -> Mapping[str, str]:
        """Return what to add to the environment."""
        return {}

    def directory(self) -> Path:
        """Return the directory in which its commands run."""
        return REPOSITORY
