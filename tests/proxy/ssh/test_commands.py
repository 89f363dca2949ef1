"""One command, one app; and whatever else somebody may write is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drycc_proxy.ssh.commands import Command, CommandRefused, parse, protocol_version


@pytest.mark.parametrize(
    ("line", "service", "app"),
    [
        ("git-receive-pack 'shop.git'", "git-receive-pack", "shop"),
        ("git-receive-pack '/shop.git'", "git-receive-pack", "shop"),
        ("git-upload-pack 'shop'", "git-upload-pack", "shop"),
        ("git upload-pack '/my-shop-2.git/'", "git-upload-pack", "my-shop-2"),
        ("git-receive-pack shop.git", "git-receive-pack", "shop"),
    ],
)
def test_what_git_writes(line: str, service: str, app: str) -> None:
    command = parse(line)
    assert command == Command(service, app)
    assert str(command) == f"{service} '{app}.git'"
    assert command.is_push == (service == "git-receive-pack")


HOSTILE = [
    "",
    "sh",
    "git-receive-pack",
    "git-receive-pack ",
    "git-receive-pack ''",
    "git-receive-pack 'shop.git';id",
    "git-receive-pack 'shop.git' 'blog.git'",
    "git-receive-pack 'shop.git'\nid",
    "git-receive-pack '$(id).git'",
    "git-receive-pack '`id`.git'",
    "git-receive-pack 'shop'\\''.git'",
    "git-receive-pack '../shop.git'",
    "git-receive-pack 'a/../shop.git'",
    "git-receive-pack '//shop.git'",
    "git-receive-pack '-upload.git'",
    "git-receive-pack 'Shop.git'",
    "git-receive-pack 'sh\u043ep.git'",
    "git-receive-pack 'shop.git",
    'git-receive-pack "shop.git"',
    "git-receive-pack --help",
    "git-upload-archive 'shop.git'",
    "GIT-RECEIVE-PACK 'shop.git'",
    " git-receive-pack 'shop.git'",
    "git-receive-pack  'shop.git'",
    "git-receive-pack 'shop.git'\x00",
    "git-receive-pack '" + 64 * "a" + "'",
    "git-receive-pack '" + 10_000 * "a" + "'",
    "scp -t /",
    "env X=1 git-receive-pack 'shop.git'",
]


@pytest.mark.parametrize("line", HOSTILE)
def test_whatever_else_is_refused(line: str) -> None:
    with pytest.raises(CommandRefused) as refused:
        parse(line)
    assert refused.value.reason == "bad_command"


def test_a_shell_is_refused() -> None:
    with pytest.raises(CommandRefused, match="no shell") as refused:
        parse(None)
    assert refused.value.reason == "no_command"


@given(st.text(max_size=80))
def test_what_goes_to_the_builder_has_no_character_that_a_shell_minds(text: str) -> None:
    try:
        command = parse(f"git-receive-pack '{text}'")
    except CommandRefused:
        return
    assert set(command.app) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not command.app.startswith("-")


@pytest.mark.parametrize(
    ("environment", "version"),
    [
        ({"GIT_PROTOCOL": "version=2"}, "version=2"),
        ({"GIT_PROTOCOL": b"version=1"}, "version=1"),
        ({"GIT_PROTOCOL": "version=2:evil"}, ""),
        ({"GIT_PROTOCOL": "$(id)"}, ""),
        ({"PATH": "/bin"}, ""),
        ({}, ""),
        (None, ""),
    ],
)
def test_only_gits_protocol_version_is_passed_on(environment: object, version: str) -> None:
    assert protocol_version(environment) == version
