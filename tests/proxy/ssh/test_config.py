"""What stands in the gateway's directory, and what happens when it changes."""

from __future__ import annotations

import logging
from pathlib import Path

import asyncssh
import pytest

from drycc_proxy.ssh.config import Directory, Person


def key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


def put(path: Path, made: asyncssh.SSHKey) -> None:
    path.write_bytes(made.export_private_key())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    put(tmp_path / "ssh_host_ed25519_key", key())
    return tmp_path


def test_what_may_stand_there(path: Path) -> None:
    put(path / "builder_client_key", key())
    (path / "api_url").write_text("http://drycc-controller.drycc.svc/\n")
    (path / "api_key").write_text("canary\n")
    told = Directory(path).now()
    assert len(told.host_keys) == 1
    assert told.client_key is not None and told.user_ca is None
    assert (told.api_url, told.api_key, told.api_header) == (
        "http://drycc-controller.drycc.svc",
        "canary",
        "X-Deis-Builder-Auth",
    )
    assert (told.builder_user, told.known_hosts, told.maintenance) == ("git", None, "")
    assert "canary" not in repr(told)


def test_there_must_be_a_host_key(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ssh_host_"):
        Directory(tmp_path)


def test_people_by_the_file(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    alice, root = key(), key()

    def public(made: asyncssh.SSHKey) -> str:
        return made.export_public_key().decode().strip()

    (path / "keys").write_text(
        f"# people\n\nalice shop,blog {public(alice)} laptop\nroot * {public(root)}\nbob shop ssh-ed25519 nonsense\n"
    )
    people = Directory(path).now().people
    assert people == {
        alice.get_fingerprint(): Person("alice", frozenset({"shop", "blog"})),
        root.get_fingerprint(): Person("root", None),
    }
    assert "line 5" in caplog.text and "nonsense" not in caplog.text


def test_builders_of_their_own(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (path / "builders").write_text(
        "# who has one\n\nshop builder.shop.svc:2223\nblog 10.0.0.7:22\nsix [2001:db8::1]:22\n"
        "bad\nbad host:\nbad host:0\nbad host:70000\nBad host:1\nbad ho st:1\n"
    )
    assert Directory(path).now().builders == {
        "shop": ("builder.shop.svc", 2223),
        "blog": ("10.0.0.7", 22),
        "six": ("2001:db8::1", 22),
    }
    assert [line for line in range(1, 12) if f"builders, line {line}:" in caplog.text] == [6, 7, 8, 9, 10, 11]


def test_a_name_is_the_whole_name() -> None:
    person = Person("alice", frozenset({"foobar"}))
    assert person.may("foobar")
    assert not any(person.may(app) for app in ("foo", "bar", "foobar2", "", "FOOBAR"))
    assert Person("root", None).may("anything")


def test_a_change_is_seen_and_a_broken_one_changes_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watched = Directory(path)
    first = watched.now()
    assert watched.now() is first
    put(path / "ssh_host_ed25519_key", key())
    second = watched.now()
    assert second.host_keys != first.host_keys

    caplog.set_level(logging.INFO)
    (path / "ssh_host_rsa_key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\ncanary\n")
    assert watched.now() is second
    assert "ssh_host_rsa_key: expected a private key" in caplog.text
    assert "canary" not in caplog.text
    (path / "ssh_host_rsa_key").unlink()
    assert len(watched.now().host_keys) == 1
