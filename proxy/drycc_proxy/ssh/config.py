"""What the gateway is told: a directory, as a mounted Secret is one, read again when anything in it changes.

===========================  ==========================================================================================
``ssh_host_*_key``           host keys, OpenSSH or PEM; at least one
``builder_client_key``       the key that the builder knows the gateway by, or
``builder_user_ca``          the key that signs a certificate for each person, for a builder that trusts it
``builder_user``             its account there; ``git`` if it is absent
``builder_known_hosts``      keys of the builder's hosts; without it any is taken (the network between is the cluster's)
``builders``                 apps with a builder of their own: ``app host:port`` in each line
``api_url``, ``api_key``     the platform's API (lineage 3.5), and the key that it knows the builder by
``api_header``               the header which that key goes into; ``X-Deis-Builder-Auth`` if it is absent
``keys``                     instead of an API: ``person app,app key-type key`` in each line; ``*``: every app
``maintenance``              a sentence; while it is there, nobody may push
``post_quantum_only``        while it is there, there is no key exchange that a quantum computer could undo later
===========================  ==========================================================================================

A key that cannot be read leaves what was there before in force, and is said once. Keys stay in this process.

What must not enter: sessions; and any byte of a private key in an error's text.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncssh

from drycc_proxy.routing.definitions import Address

__all__ = ["Directory", "Person", "Told"]

log = logging.getLogger(__name__)

LARGEST: Final = 1 << 20
"""Bytes of one file; what is larger is none of ours."""

_BUILDER: Final = re.compile(r"([a-z0-9-]{1,63}) +([A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})")
_LINE: Final = re.compile(r"([A-Za-z0-9@._+-]{1,100}) +([a-z0-9,*-]+) +((?:sk-)?(?:ssh|ecdsa)-\S+ +\S+)(?: .*)?")


@dataclass(frozen=True, slots=True)
class Person:
    """Whose key it is, and which apps they may push to and clone. ``apps`` None: all of them."""

    name: str
    apps: frozenset[str] | None

    def may(self, app: str) -> bool:
        """By exact name: ``foobar`` is not ``foo`` (lineage 3.5)."""
        return self.apps is None or app in self.apps


@dataclass(frozen=True, slots=True)
class Told:
    """Everything that stands in the directory, parsed."""

    host_keys: tuple[asyncssh.SSHKey, ...] = field(repr=False)
    client_key: asyncssh.SSHKey | None = field(default=None, repr=False)
    user_ca: asyncssh.SSHKey | None = field(default=None, repr=False)
    builder_user: str = "git"
    known_hosts: bytes | None = None
    builders: Mapping[str, Address] = field(default_factory=dict)
    """By app: where one of its own is."""
    api_url: str = ""
    api_key: str = field(default="", repr=False)
    api_header: str = "X-Deis-Builder-Auth"
    people: Mapping[str, Person] = field(default_factory=dict)
    """By fingerprint (SHA-256)."""
    maintenance: str = ""
    post_quantum_only: bool = False


class Directory:
    """The directory, and what it said when it was last looked at."""

    def __init__(self, path: Path) -> None:
        """Raises OSError or ValueError when there is nothing to begin with."""
        self._path = path
        self._seen: object = None
        self._seen = self._signature()
        self.told = self._read()

    def now(self) -> Told:
        """What holds for a session that begins now. To look costs microseconds, a key exchange thousands."""
        try:
            seen = self._signature()
            if seen != self._seen:
                self._seen = seen
                self.told = self._read()
                log.info("the gateway's directory was read again")
        except (OSError, ValueError) as error:
            log.error("the gateway's directory cannot be read, what it said before stays: %s", error)
        return self.told

    def _signature(self) -> object:
        """What differs whenever a file does; a mounted Secret is swapped as a whole."""
        entries = []
        for entry in os.scandir(self._path):
            if not entry.name.startswith("."):
                status = entry.stat()
                entries.append((entry.name, status.st_mtime_ns, status.st_ino, status.st_size))
        return sorted(entries)

    def _read(self) -> Told:
        names = sorted(path.name for path in self._path.iterdir() if path.name.startswith("ssh_host_"))
        host_keys = tuple(self._key(name) for name in names if name.endswith("_key"))
        if not host_keys:
            raise ValueError("expected a file ssh_host_..._key")
        known_hosts = self._text("builder_known_hosts")
        return Told(
            host_keys=host_keys,
            client_key=self._key("builder_client_key") if (self._path / "builder_client_key").exists() else None,
            user_ca=self._key("builder_user_ca") if (self._path / "builder_user_ca").exists() else None,
            builder_user=self._text("builder_user") or "git",
            known_hosts=known_hosts.encode() if known_hosts else None,
            builders=_builders(self._text("builders")),
            api_url=self._text("api_url").rstrip("/"),
            api_key=self._text("api_key"),
            api_header=self._text("api_header") or "X-Deis-Builder-Auth",
            people=_people(self._text("keys")),
            maintenance=self._text("maintenance"),
            post_quantum_only=(self._path / "post_quantum_only").exists(),
        )

    def _text(self, name: str) -> str:
        try:
            with (self._path / name).open("rb") as file:
                return file.read(LARGEST).decode("utf-8", "replace").strip()
        except FileNotFoundError:
            return ""

    def _key(self, name: str) -> asyncssh.SSHKey:
        try:
            return asyncssh.import_private_key(self._text(name))
        except asyncssh.KeyImportError:
            # The library's words may quote what stands there.
            raise ValueError(f"{name}: expected a private key without a passphrase") from None


def _builders(text: str) -> dict[str, Address]:
    builders: dict[str, Address] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _BUILDER.fullmatch(line.strip())
        if match is None or not 0 < int(match[3]) < 65536:
            log.error("builders, line %d: expected: app host:port; the others count", number)
            continue
        builders[match[1]] = match[2].strip("[]"), int(match[3])
    return builders


def _people(text: str) -> dict[str, Person]:
    people = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        try:
            if match is None:
                raise ValueError
            fingerprint = asyncssh.import_public_key(match[3]).get_fingerprint()
        except (ValueError, asyncssh.KeyImportError):
            log.error("keys, line %d: expected: person app,app key-type key; the others count", number)
            continue
        apps = None if match[2] == "*" else frozenset(match[2].split(","))
        people[fingerprint] = Person(match[1], apps)
    return people
