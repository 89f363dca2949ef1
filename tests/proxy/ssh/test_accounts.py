"""Whose key it is: known for a moment, strangers never remembered, an API that fails lets nobody in."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncssh
import pytest

from drycc_proxy.ssh import accounts
from drycc_proxy.ssh.accounts import People
from drycc_proxy.ssh.commands import CommandRefused
from drycc_proxy.ssh.config import Person, Told
from tests.fakes.platform_api import SECRET, PlatformApi, platform_api

KEY = asyncssh.generate_private_key("ssh-ed25519")
MD5 = KEY.get_fingerprint("md5").removeprefix("MD5:")


def ask(api: PlatformApi, times: int = 1, **told: Any) -> list[Person | None]:
    async def story() -> list[Person | None]:
        everybody = People()
        said = Told((), api_url=api.url, **{"api_key": SECRET} | told)
        try:
            return [await everybody.whose(KEY, said) for _ in range(times)]
        finally:
            await everybody.close()

    return asyncio.run(story())


def test_somebody_is_asked_for_once_and_known_for_a_while() -> None:
    with platform_api() as api:
        api.people[MD5] = {"username": "alice", "apps": ["shop"]}
        assert ask(api, 3) == [Person("alice", frozenset({"shop"}))] * 3
        assert api.asked == [MD5]


def test_a_stranger_is_asked_for_each_time() -> None:
    with platform_api() as api:
        assert ask(api, 2) == [None, None]
        assert api.asked == [MD5, MD5]


@pytest.mark.parametrize(
    "answer", [None, [], {"username": "alice"}, {"username": 7, "apps": []}, {"username": "alice", "apps": "shop"}]
)
def test_an_answer_that_is_none_lets_nobody_in(answer: object) -> None:
    with platform_api() as api:
        api.people[MD5] = answer
        with pytest.raises(CommandRefused) as refused:
            ask(api)
    assert refused.value.reason == "api_unavailable"


@pytest.mark.parametrize("status", [301, 401, 500, 503])
def test_an_api_that_fails_lets_nobody_in(status: int) -> None:
    with platform_api() as api:
        api.people[MD5] = {"username": "alice", "apps": ["shop"]}
        api.status = status
        with pytest.raises(CommandRefused):
            ask(api)


def test_the_wrong_key_for_the_api_lets_nobody_in_and_is_not_shown() -> None:
    with platform_api() as api:
        api.people[MD5] = {"username": "alice", "apps": ["shop"]}
        with pytest.raises(CommandRefused) as refused:
            ask(api, api_key="canary")
    assert "canary" not in str(refused.value)


def test_a_slow_api_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "API_SECONDS", 0.1)
    with platform_api() as api:
        api.people[MD5] = {"username": "alice", "apps": ["shop"]}
        api.delay = 5.0
        with pytest.raises(CommandRefused):
            ask(api)


def test_without_an_api_the_file_counts() -> None:
    async def story() -> None:
        everybody = People()
        alice = Person("alice", None)
        assert await everybody.whose(KEY, Told((), people={KEY.get_fingerprint(): alice})) == alice
        assert await everybody.whose(KEY, Told(())) is None

    asyncio.run(story())
