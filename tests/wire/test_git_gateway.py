"""The git gateway with the git and the OpenSSH that everybody uses, on both sides of it: who may push what."""

from __future__ import annotations

import getpass
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from drycc_proxy.ssh.server import MAX_STRANGERS
from drycc_tls.self_signed import self_signed
from tests.fakes.builder import Builder, Developer, builder, builder_manifest, make_key, needs_git, waits_for
from tests.fakes.platform_api import SECRET, PlatformApi, platform_api
from tests.fakes.process import Router, manifest, router, running, same_ports, secret, soon

pytestmark = [pytest.mark.peer, needs_git]


class Town:
    """A router with the gateway, a builder that trusts it, the platform's API, and a developer."""

    def __init__(
        self, base: Path, router: Router, builder: Builder, api: PlatformApi, flags: tuple[str, ...] = ()
    ) -> None:
        self.base = base
        self.flags = flags
        self.gateway = base / "gateway"
        self.router = router
        self.builder = builder
        self.api = api
        self.alice = Developer(base / "alice")
        self.knows(self.alice, "alice", "shop", "foobar")

    @staticmethod
    def fingerprint(developer: Developer) -> str:
        key = asyncssh.read_public_key(developer.key.with_suffix(".pub"))
        return key.get_fingerprint("md5").removeprefix("MD5:")

    def knows(self, developer: Developer, name: str, *apps: str) -> None:
        """The platform has somebody's key."""
        self.api.people[self.fingerprint(developer)] = {"username": name, "apps": list(apps)}

    def url(self, app: str) -> str:
        return f"ssh://git@127.0.0.1:{self.router.ports['git']}/{app}.git"

    def head(self, app: str) -> str:
        command = ["git", "-C", str(self.builder.directory / f"{app}.git"), "rev-parse", "main"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def meets_git(self) -> None:
        """Wait until git's port is open; where there are workers, that is soon after the other ports."""

        def is_told() -> bool:
            self.router.ports["git"] = json.loads(self.router.admin("/routes")[1])["ports"]["git"]
            return self.router.ports["git"] is not None

        soon(is_told)

    @contextmanager
    def builds(self, size: int = 1000) -> Iterator[Build]:
        """A push to ``shop`` that builds until it is let go."""
        go, building = self.base / "go", self.base / "building"
        self.builder.repository("shop", waits_for(go, building))
        pushed = self.alice.commit(size)
        push = self.alice.start("push", self.url("shop"), "main")
        try:
            soon(lambda: building.exists() or push.poll() is not None)
            yield Build(self, push, pushed, go)
        finally:
            if push.poll() is None:
                self.alice.interrupt(push)

    def events(self) -> list[dict[str, Any]]:
        """What the log says about git."""
        lines = (self.base / "log").read_text().splitlines()
        return [line for line in map(json.loads, lines) if line.get("protocol") == "git"]

    def told(self, **facts: object) -> dict[str, Any]:
        """The event with these facts, once it is there."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = [event for event in self.events() if facts.items() <= event.items()]
            return bool(found)

        soon(look)
        return found[-1]

    def host_keys(self) -> set[str]:
        """What the gateway shows who comes."""
        command = ["ssh-keyscan", "-T", "20", "-p", str(self.router.ports["git"]), "127.0.0.1"]
        lines = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.splitlines()
        return {line.split()[2] for line in lines if not line.startswith("#")}

    def wanted_host_keys(self) -> set[str]:
        return {path.read_text().split()[1] for path in self.gateway.glob("ssh_host_*_key.pub")}

    def metric(self, line: str) -> float:
        lines = self.router.admin("/metrics")[1].splitlines()
        return next((float(each.rpartition(" ")[2]) for each in lines if each.startswith(line)), 0.0)


class Build:
    """A push that is under way."""

    def __init__(self, town: Town, push: subprocess.Popen[str], pushed: str, go: Path) -> None:
        self._town = town
        self.push = push
        self._pushed = pushed
        self._go = go

    def ends_well(self) -> None:
        """Let it go: it arrives whole, the developer hears of it, and it is written down."""
        assert self.push.poll() is None, self.push.communicate()
        self._go.touch()
        said, _ = self.push.communicate(timeout=50)
        assert self.push.returncode == 0, said
        assert "remote: building" in said
        assert self._town.head("shop") == self._pushed
        event = self._town.told(event="session", service="git-receive-pack", app="shop")
        assert (event["outcome"], event["exit_status"]) == ("ok", 0)


def make_gateway(base: Path, it: Builder, api: PlatformApi) -> Path:
    """The gateway's directory; and the builder has a certificate authority to trust, and an account called git."""
    gateway = base / "gateway"
    gateway.mkdir()
    for kind, bits in (("ed25519", "256"), ("rsa", "3072")):
        command = ["ssh-keygen", "-q", "-t", kind, "-b", bits, "-N", "", "-f", str(gateway / f"ssh_host_{kind}_key")]
        subprocess.run(command, check=True)
    (gateway / "builder_known_hosts").write_text(f"[127.0.0.1]:{it.port} {it.host_key.with_suffix('.pub').read_text()}")
    (gateway / "builder_user").write_text(getpass.getuser())
    (gateway / "api_url").write_text(api.url + "\n")
    (gateway / "api_key").write_text(SECRET + "\n")
    return gateway


@contextmanager
def make_town(base: Path, *flags: str) -> Iterator[Town]:
    """Everything started; ``flags`` are the router's."""
    manifests, home = base / "manifests", base / "builder"
    manifests.mkdir()
    home.mkdir()
    with builder(home) as it, platform_api() as api:
        gateway = make_gateway(base, it, api)
        it.trust(make_key(gateway / "builder_user_ca"))
        (manifests / "builder.yaml").write_text(builder_manifest(it.port, connectionRate="0"))
        log = ("--access-log", str(base / "log"))
        all_flags = ("--git-port", "0", "--git-gateway", str(gateway), *log, *flags)
        with router(manifests, *all_flags) as child:
            yield Town(base, child, it, api, all_flags)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with make_town(tmp_path) as it:
        yield it


def test_workers_lead_to_one_gateway_and_its_lines_follow_a_rotation(tmp_path: Path) -> None:
    with make_town(tmp_path, "--workers", "2") as town:
        town.meets_git()
        (tmp_path / "log").rename(tmp_path / "log.1")
        town.router.process.send_signal(signal.SIGHUP)
        soon((tmp_path / "log").exists)
        town.builder.repository("shop")
        pushed = town.alice.commit()
        town.alice.git("push", town.url("shop"), "main")
        assert town.head("shop") == pushed
        assert town.told(event="session")["user"] == "alice"


# ── what a push lives through ─────────────────────────────────────────────────────────────────────────────────────────
def test_a_push_lives_through_changes_rotations_and_a_drain(tmp_path: Path) -> None:
    with make_town(tmp_path, "--workers", "1", "--drain-grace", "60") as town, running("web") as app:
        town.meets_git()
        with town.builds(5 * 2**20) as build:
            pair = self_signed(datetime.now(UTC))
            shop = manifest("shop/web", app, certificates="web.localhost:web")
            (town.base / "manifests" / "shop.yaml").write_text(shop + "---\n" + secret("shop/web-cert", pair))
            soon(lambda: town.router.certificate().strip() == pair.chain_pem.decode().strip())
            fresh = make_key(town.base / "fresh")
            os.replace(fresh.with_suffix(".pub"), town.gateway / "ssh_host_ed25519_key.pub")
            os.replace(fresh, town.gateway / "ssh_host_ed25519_key")
            assert town.host_keys() == town.wanted_host_keys()
            town.api.people.clear()
            (town.base / "manifests" / "builder.yaml").unlink()  # even the end of the builder's Service is not its own
            soon(lambda: '"git": null' in town.router.admin("/routes")[1])
            town.router.process.terminate()
            soon(lambda: town.router.admin("/readyz")[0] == 503)
            build.ends_well()
        status, said = town.router.ends()
        assert status == 0
        assert not [line for line in said if line["level"] in ("error", "critical")]


def test_a_push_lives_through_the_death_of_control_and_others_begin_meanwhile(tmp_path: Path) -> None:
    with make_town(tmp_path, "--workers", "1") as town:
        town.meets_git()
        town.builder.repository("foobar")
        with town.builds() as build:
            children = town.router.children()
            before = children["control"]
            os.kill(before, signal.SIGSTOP)  # as good as dead, and no other one comes so soon
            bob = Developer(town.base / "bob")
            town.knows(bob, "bob", "foobar")
            pushed = bob.commit()
            bob.git("push", "-q", town.url("foobar"), "main")
            assert town.head("foobar") == pushed
            os.kill(before, signal.SIGKILL)
            soon(lambda: town.router.children().get("control", before) != before)
            soon(lambda: town.router.admin("/readyz")[0] == 200)
            assert town.told(user="bob")["outcome"] == "ok"  # what was told while nobody heard it
            build.ends_well()
            assert town.router.children()["git"] == children["git"]
        assert town.metric('router_ssh_sessions_total{outcome="ok",service="git-receive-pack"}') == 2


def test_a_push_lives_through_an_upgrade_in_place(tmp_path: Path) -> None:
    flags = ("--workers", "1", "--drain-grace", "60", "--handover", str(tmp_path / "way"))
    with make_town(tmp_path, *flags) as town:
        town.meets_git()
        town.builder.repository("foobar")
        with town.builds(5 * 2**20) as build:
            old = town.router
            with router(tmp_path / "manifests", *town.flags, *same_ports(old)) as new:
                town.router = new
                town.meets_git()
                assert new.ports["git"] == old.ports["git"]
                bob = Developer(town.base / "bob")
                town.knows(bob, "bob", "foobar")
                pushed = bob.commit()
                bob.git("push", "-q", town.url("foobar"), "main")
                assert town.head("foobar") == pushed
                assert old.process.poll() is None
                build.ends_well()
                assert old.ends()[0] == 0
                new.process.terminate()
                assert new.ends()[0] == 0


def test_what_outlasts_the_grace_is_cut_and_written_down(tmp_path: Path) -> None:
    with make_town(tmp_path, "--workers", "1", "--drain-grace", "0.5") as town:
        town.meets_git()
        with town.builds() as build:
            town.router.process.terminate()
            said, _ = build.push.communicate(timeout=50)
            assert build.push.returncode != 0, said
            assert town.router.ends()[0] == 0
        assert town.told(event="session", app="shop")["outcome"] == "broken_off"


def test_a_gateway_that_dies_is_replaced(tmp_path: Path) -> None:
    with make_town(tmp_path, "--workers", "1") as town:
        town.meets_git()
        town.builder.repository("shop")
        soon(lambda: "git" in town.router.children())  # it has its name once everything it needs is imported
        before = town.router.children()["git"]
        os.kill(before, signal.SIGKILL)
        pushed = town.alice.commit()
        town.alice.git("push", "-q", town.url("shop"), "main")
        assert town.head("shop") == pushed
        assert town.router.children()["git"] != before
        town.router.process.terminate()
        assert town.router.ends()[0] == 0


# ── who may do what ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_who_may_push_pushes_and_it_is_written_down(town: Town) -> None:
    town.builder.repository("shop", 'echo "Welcome, $DRYCC_USER" >&2')
    pushed = town.alice.commit(5 * 2**20)
    said = town.alice.git("push", town.url("shop"), "main")
    assert "remote: Welcome, alice" in said
    assert town.head("shop") == pushed

    event = town.told(event="session", service="git-receive-pack")
    key = asyncssh.read_public_key(town.alice.key.with_suffix(".pub")).get_fingerprint()
    assert (event["user"], event["fingerprint"], event["app"], event["client"]) == ("alice", key, "shop", "127.0.0.1")
    assert (event["outcome"], event["exit_status"]) == ("ok", 0)
    assert event["refs"] == [{"ref": "refs/heads/main", "old": "0" * 40, "new": pushed}]
    assert event["bytes_in"] > 5 * 2**20
    assert town.metric('router_ssh_sessions_total{outcome="ok",service="git-receive-pack"}') == 1
    assert town.metric("router_ssh_push_bytes_total") == event["bytes_in"]
    assert SECRET not in (town.base / "log").read_text()

    clone = town.base / "clone"
    town.alice.git("clone", "-q", town.url("shop"), str(clone))
    assert (clone / "file").read_bytes() == (town.alice.copy / "file").read_bytes()
    assert "refs" not in town.told(event="session", service="git-upload-pack")
    traced = town.alice.git("-c", "protocol.version=2", "ls-remote", town.url("shop"), GIT_TRACE_PACKET="1")
    assert "version 2" in traced


def test_an_app_may_have_a_builder_of_its_own_and_a_builder_may_know_the_gateways_key(town: Town) -> None:
    town.builder.repository("foobar")
    home = town.base / "own"
    home.mkdir()
    with builder(home) as own:
        repository = own.repository("shop")
        own.admit(make_key(town.gateway / "builder_client_key"))  # and trusts no certificate
        with (town.gateway / "builder_known_hosts").open("a") as known:
            known.write(f"[127.0.0.1]:{own.port} {own.host_key.with_suffix('.pub').read_text()}")
        (town.gateway / "builders").write_text(f"shop 127.0.0.1:{own.port}\n")
        pushed = town.alice.commit()
        town.alice.git("push", "-q", town.url("shop"), "main")
        command = ["git", "-C", str(repository), "rev-parse", "main"]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == pushed

        (town.gateway / "builder_client_key").unlink()
        town.alice.git("push", "-q", town.url("foobar"), "main")  # goes where it always did
        assert town.head("foobar") == pushed
        status, said = town.alice.tries("push", town.url("shop"), "main:other")
        assert (status, "The builder is not available" in said) == (128, True)


def test_a_builder_with_another_host_key_gets_nothing(town: Town) -> None:
    repository = town.builder.repository("shop")
    other = make_key(town.base / "other")
    (town.gateway / "builder_known_hosts").write_text(
        f"[127.0.0.1]:{town.builder.port} {other.with_suffix('.pub').read_text()}"
    )
    town.alice.commit()
    status, said = town.alice.tries("push", town.url("shop"), "main")
    assert (status, "The builder is not available" in said) == (128, True)
    assert not list((repository / "refs" / "heads").iterdir())


def test_where_there_is_no_platform_a_file_of_keys_serves(town: Town) -> None:
    town.builder.repository("shop")
    (town.gateway / "api_url").unlink()
    (town.gateway / "keys").write_text(f"bob shop {town.alice.key.with_suffix('.pub').read_text()}")
    pushed = town.alice.commit()
    town.alice.git("push", "-q", town.url("shop"), "main")
    assert town.head("shop") == pushed
    assert town.told(outcome="ok")["user"] == "bob"
    assert town.api.asked == []


def test_a_builders_refusal_comes_with_its_sentence_and_status(town: Town) -> None:
    town.builder.repository("shop", 'echo "Another git push is ongoing" >&2; exit 1')
    town.alice.commit()
    status, said = town.alice.tries("push", town.url("shop"), "main")
    assert (status, "remote: Another git push is ongoing" in said) == (1, True)


def test_access_to_foobar_is_not_access_to_foo(town: Town) -> None:
    for name in ("foo", "foobar"):
        town.builder.repository(name)
    town.alice.commit()
    status, said = town.alice.tries("push", town.url("foo"), "main")
    assert status == 128
    assert "alice has no app called foo" in said
    town.alice.git("push", town.url("foobar"), "main")
    assert town.told(outcome="not_your_app")["app"] == "foo"


def test_a_stranger_reads_why_and_may_come_back_with_a_key_that_is_known(town: Town) -> None:
    bob = Developer(town.base / "bob")
    bob.environment["GIT_SSH_COMMAND"] = bob.environment["GIT_SSH_COMMAND"].replace("LogLevel=ERROR", "LogLevel=INFO")
    town.builder.repository("shop")
    bob.commit()
    status, said = bob.tries("push", town.url("shop"), "main")
    assert status == 128
    assert "Nobody on the platform has the key SHA256:" in said
    assert "Permission denied (publickey)" in said
    soon(lambda: town.metric('router_ssh_denied_total{reason="unknown_key"}') == 1)

    town.knows(bob, "bob", "shop")  # nothing remembers that nobody had it
    bob.git("push", town.url("shop"), "main")


@pytest.mark.parametrize("how", ["down", "failing", "slow", "talking nonsense"])
def test_nobody_is_let_in_by_an_api_that_fails(town: Town, how: str) -> None:
    town.builder.repository("shop")
    town.alice.commit()
    town.alice.environment["GIT_SSH_COMMAND"] += " -o LogLevel=INFO"
    town.alice.environment["GIT_SSH_COMMAND"] = town.alice.environment["GIT_SSH_COMMAND"].replace("=ERROR", "=INFO")
    match how:
        case "down":
            with socket.create_server(("127.0.0.1", 0)) as nobody:
                closed = nobody.getsockname()[1]
            (town.gateway / "api_url").write_text(f"http://127.0.0.1:{closed}")
        case "failing":
            town.api.status = 500
        case "slow":
            town.api.delay = 60.0  # would answer well, were it waited for
        case _:
            town.api.people = {key: {"username": "alice", "apps": "shop"} for key in town.api.people}
    status, said = town.alice.tries("push", town.url("shop"), "main")
    assert status == 128
    assert "The platform cannot tell at the moment who you are" in said
    assert town.told(event="denied")["reason"] == "api_unavailable"
    if how == "slow":
        town.api.delay = 1.0  # not slower than may be
        town.alice.git("push", town.url("shop"), "main")


def test_what_is_no_git_is_refused(town: Town) -> None:
    ssh = town.alice.environment["GIT_SSH_COMMAND"].split()
    port = str(town.router.ports["git"])
    for command, sentence in (
        (["id"], "Only git push, fetch and clone"),
        (["git-receive-pack '../../etc.git'"], "Only git push, fetch and clone"),
        (["git-receive-pack 'shop.git'; touch " + str(town.base / "owned")], "Only git push, fetch and clone"),
        (["git-upload-archive 'shop.git'"], "Only git push, fetch and clone"),
        ([], "there is no shell here"),
    ):
        done = subprocess.run(
            [*ssh, "-T", "-p", port, "git@127.0.0.1", *command],
            capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, env=town.alice.environment,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (128, "")
        assert sentence in done.stderr
    assert not (town.base / "owned").exists()
    assert town.told(outcome="no_command")["exit_status"] == 128
    assert len([event for event in town.events() if event.get("outcome") == "bad_command"]) == 4
    # Nor is it a way into the cluster, in either direction, or to files.
    for options, command in (
        (["-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1"], []),
        (["-W", f"127.0.0.1:{town.builder.port}"], []),
        (["-s"], ["sftp"]),
    ):
        forward = [*ssh, *options, "-p", port, "git@127.0.0.1", *command]
        done = subprocess.run(
            forward, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, env=town.alice.environment
        )
        assert (done.returncode, done.stdout) == (255, "")


def test_without_a_builder_the_sentence_says_so(town: Town) -> None:
    town.alice.commit()
    town.builder.close_port()
    status, said = town.alice.tries("push", town.url("shop"), "main")
    assert status == 128
    assert "The builder is not available" in said


def test_maintenance_is_a_sentence_and_reading_goes_on(town: Town) -> None:
    town.builder.repository("shop")
    town.alice.commit()
    town.alice.git("push", town.url("shop"), "main")
    (town.gateway / "maintenance").write_text("The platform is being repaired until noon.")
    status, said = town.alice.tries("push", town.url("shop"), "main:other")
    assert (status, "being repaired until noon" in said) == (128, True)
    town.alice.git("ls-remote", town.url("shop"))


def test_host_keys_rotate_live_and_a_bad_one_changes_nothing(town: Town) -> None:
    before = town.wanted_host_keys()
    assert town.host_keys() == before
    fresh = make_key(town.base / "fresh")
    os.replace(fresh.with_suffix(".pub"), town.gateway / "ssh_host_ed25519_key.pub")
    os.replace(fresh, town.gateway / "ssh_host_ed25519_key")
    assert town.host_keys() == town.wanted_host_keys() != before

    (town.gateway / "ssh_host_rsa_key").write_text("-----BEGIN canary\n")
    assert town.host_keys() == town.wanted_host_keys()


def test_an_interrupted_push_leaves_nothing_and_is_repeated(town: Town) -> None:
    path = town.builder.repository("shop")
    pushed = town.alice.commit(20 * 2**20)
    push = town.alice.start("push", "-q", town.url("shop"), "main")
    soon(lambda: any((path / "objects").glob("tmp_objdir-incoming-*")) or push.poll() is not None)
    town.alice.interrupt(push)
    assert town.told(service="git-receive-pack")["outcome"] == "broken_off"
    town.alice.git("push", "-q", town.url("shop"), "main")
    assert town.head("shop") == pushed


def test_a_thousand_strangers_are_in_nobodys_way(town: Town) -> None:
    """They come from fifty addresses, so that the router's own limit does not do all the work."""
    town.builder.repository("shop")
    pushed = town.alice.commit()
    strangers = []
    try:
        for number in range(1000):
            sock = socket.socket()
            sock.bind((f"127.1.0.{number % 50 + 1}", 0))
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", town.router.ports["git"]))
            strangers.append(sock)
        town.alice.git("push", "-q", town.url("shop"), "main")
        assert town.head("shop") == pushed
        # Nor did the gateway wait for them to go by themselves.
        soon(lambda: town.metric('router_ssh_denied_total{reason="too_many_strangers"}') >= 1000 - MAX_STRANGERS)
    finally:
        for sock in strangers:
            sock.close()


LATER = "does not provide protection against post-quantum attacks"
AUDIT = Path(sys.executable).with_name("ssh-audit")


@pytest.mark.skipif(not AUDIT.exists(), reason="ssh-audit is missing: the gateway's algorithms are NOT judged")
def test_nothing_on_offer_is_weak(town: Town) -> None:
    def judged() -> tuple[list[str], dict[str, list[str]]]:
        """Key exchanges on offer, the first choice first; and whatever is weak, with why."""
        command = [str(AUDIT), "--json", "--port", str(town.router.ports["git"]), "--skip-rate-test", "127.0.0.1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        report = json.loads(done.stdout)
        bad = {
            each["algorithm"]: why
            for kind in ("kex", "key", "enc", "mac")
            for each in report[kind]
            if (why := [*each["notes"].get("fail", []), *each["notes"].get("warn", [])])
        }
        return [each["algorithm"] for each in report["kex"]], bad

    kex, bad = judged()
    assert kex[0] == "mlkem768x25519-sha256"
    # What is left is for clients as old as this machine's OpenSSH may be, whatever else they know.
    assert bad == {name: [LATER] for name in ("curve25519-sha256", "curve25519-sha256@libssh.org")}
    (town.gateway / "post_quantum_only").touch()
    kex, bad = judged()
    assert kex[0] == "mlkem768x25519-sha256"
    assert bad == {}


def test_a_git_of_the_last_years_connects(town: Town) -> None:
    """By what it knows: X25519 since OpenSSH 6.5, and none of what came later."""
    town.builder.repository("shop")
    pushed = town.alice.commit()
    old = " -o KexAlgorithms=curve25519-sha256@libssh.org -o Ciphers=aes256-ctr -o MACs=hmac-sha2-256-etm@openssh.com"
    old += " -o HostKeyAlgorithms=rsa-sha2-512 -o PubkeyAcceptedAlgorithms=ssh-ed25519"
    town.alice.environment["GIT_SSH_COMMAND"] += old
    town.alice.git("push", "-q", town.url("shop"), "main")
    assert town.head("shop") == pushed
