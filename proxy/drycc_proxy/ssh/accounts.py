"""Whose key is it? By the file, or by asking the platform's API, as the ancestors' builder did (lineage 3.5).

``GET <api_url>/v2/hooks/key/<fingerprint>``, with the key that the API knows the builder by in a header, answers
``{"username": "…", "apps": ["…"]}``, or 404 where nobody has this key. The fingerprint is the one the platform has kept
since its beginning: MD5, in pairs with colons. It is no secret and protects nothing here: who comes proves that they
have the key itself.

Somebody known stays known for a few seconds, because git comes twice for one push; a stranger is asked for each time,
because they may be adding their key this minute.

What must not enter: sessions; the API's key in any text.
"""

from __future__ import annotations

import json
import time
from typing import Final

import aiohttp
import asyncssh

from drycc_proxy.ssh.commands import CommandRefused
from drycc_proxy.ssh.config import Person, Told

__all__ = ["People"]

KNOWN_SECONDS: Final = 15.0
MOST_KNOWN: Final = 4096
API_SECONDS: Final = 5.0
"""Longest wait for the API, its connection included."""


class People:
    """Everybody whose key was looked up lately."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[float, Person]] = {}
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Give the connections to the API up."""
        if self._session is not None:
            await self._session.close()

    async def whose(self, key: asyncssh.SSHKey, told: Told) -> Person | None:
        """The person with this key; None: nobody. Raises :class:`CommandRefused` if that cannot be known now."""
        fingerprint = key.get_fingerprint()
        if not told.api_url:
            return told.people.get(fingerprint)
        now = time.monotonic()
        found = self._known.get((told.api_url, fingerprint))
        if found is not None and now - found[0] < KNOWN_SECONDS:
            return found[1]
        person = await self._ask(key.get_fingerprint("md5").removeprefix("MD5:"), told)
        if person is not None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[told.api_url, fingerprint] = now, person
        return person

    async def _ask(self, fingerprint: str, told: Told) -> Person | None:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=API_SECONDS))
        url = f"{told.api_url}/v2/hooks/key/{fingerprint}"
        try:
            async with self._session.get(
                url, headers={told.api_header: told.api_key, "Accept": "application/json"}, allow_redirects=False
            ) as answer:
                if answer.status == 404:
                    return None
                body = await answer.read()
                if answer.status != 200:
                    raise _unavailable()
                return _person(body)
        except (aiohttp.ClientError, TimeoutError, OSError):
            raise _unavailable() from None


def _person(body: bytes) -> Person:
    """What the API says. Raises :class:`CommandRefused` for what is no answer: nobody is let in by a
    misunderstanding."""
    try:
        answer = json.loads(body)
        name, apps = answer["username"], answer["apps"]
    except (ValueError, TypeError, KeyError):
        raise _unavailable() from None
    if not isinstance(name, str) or not isinstance(apps, list) or not all(isinstance(app, str) for app in apps):
        raise _unavailable()
    return Person(name, frozenset(apps))


def _unavailable() -> CommandRefused:
    return CommandRefused(
        "api_unavailable", "The platform cannot tell at the moment who you are. Try again in a minute."
    )
