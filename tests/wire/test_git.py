"""git push through the router, with the git and OpenSSH that everybody uses: whole, refused, interrupted, patient."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from drycc_tls.self_signed import self_signed
from tests.fakes.builder import Builder, Developer, builder, builder_manifest, needs_git, waits_for
from tests.fakes.process import Router, manifest, router, running, same_ports, secret, soon

pytestmark = [pytest.mark.peer, needs_git]

MANIFEST = "builder.yaml"


def shows(router: Router, chain: str) -> bool:
    """Whether a client is shown this certificate by now."""
    return router.certificate().strip() == chain.strip()


class Town:
    """A router, a builder behind it, and a developer whom the builder knows."""

    def __init__(self, manifests: Path, router: Router, builder: Builder, developer: Developer) -> None:
        self.manifests = manifests
        self.router = router
        self.builder = builder
        self.developer = developer

    def url(self, name: str) -> str:
        user = os.environ.get("USER") or "root"
        return f"ssh://{user}@127.0.0.1:{self.router.ports['git']}{self.builder.directory / name}.git"

    def head(self, name: str) -> str:
        """What the builder has, judged whole."""
        path = str(self.builder.directory / f"{name}.git")
        subprocess.run(["git", "-C", path, "fsck", "--full", "--strict"], check=True, capture_output=True)
        return subprocess.run(
            ["git", "-C", path, "rev-parse", "main"], check=True, capture_output=True, text=True
        ).stdout.strip()

    def says(self, **annotations: str) -> None:
        """What stands on the builder Service."""
        (self.manifests / MANIFEST).write_text(builder_manifest(self.builder.port, **annotations))

    def meets_git(self) -> None:
        """Wait until git's port is open; where there are workers, that is soon after the other ports."""
        self.router.ports["git"] = None

        def is_told() -> bool:
            self.router.ports["git"] = json.loads(self.router.admin("/routes")[1])["ports"]["git"]
            return self.router.ports["git"] is not None

        soon(is_told)

    def count(self, metric: str) -> float:
        lines = self.router.admin("/metrics")[1].splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(metric))


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    manifests, home = tmp_path / "manifests", tmp_path / "builder"
    manifests.mkdir()
    home.mkdir()
    with builder(home) as it:
        developer = Developer(tmp_path / "developer")
        it.admit(developer.key)
        (manifests / MANIFEST).write_text(builder_manifest(it.port, connectionRate="0"))
        with router(manifests, "--git-port", "0", "--drain-grace", "25") as child:
            yield Town(manifests, child, it, developer)


def test_what_is_pushed_is_what_arrives_and_what_is_cloned(town: Town) -> None:
    town.builder.repository("shop")
    pushed = town.developer.commit()
    town.developer.git("push", town.url("shop"), "main")
    assert town.head("shop") == pushed

    clone = town.developer.directory / "clone"
    town.developer.git("clone", "-q", town.url("shop"), str(clone))
    assert (clone / "file").read_bytes() == (town.developer.copy / "file").read_bytes()
    said = town.developer.git("-c", "protocol.version=2", "ls-remote", town.url("shop"), GIT_TRACE_PACKET="1")
    assert "version 2" in said
    assert town.count('router_stream_connections_total{app="drycc/drycc-builder"') == 3


def test_a_hundred_megabytes_arrive_whole(town: Town) -> None:
    town.builder.repository("shop")
    pushed = town.developer.commit(100 * 2**20)
    town.developer.git("push", "-q", town.url("shop"), "main")
    assert town.head("shop") == pushed
    soon(lambda: town.count("router_stream_received_bytes_total") > 100 * 2**20)


def test_a_push_that_was_interrupted_succeeds_when_it_is_repeated(town: Town) -> None:
    path = town.builder.repository("shop")
    pushed = town.developer.commit(30 * 2**20)
    push = town.developer.start("push", "-q", town.url("shop"), "main")
    soon(lambda: any((path / "objects").glob("tmp_objdir-incoming-*")) or push.poll() is not None)
    town.developer.interrupt(push)
    soon(lambda: town.count("router_stream_open") == 0)

    town.developer.git("push", "-q", town.url("shop"), "main")
    assert town.head("shop") == pushed


def test_two_push_at_once(town: Town, tmp_path: Path) -> None:
    other = Developer(tmp_path / "other")
    town.builder.admit(other.key)
    # Each waits until the other one's push is under way, too.
    met = "[ -e ../blog.git.here -a -e ../shop.git.here ]"
    meet = f"touch $PWD.here; for i in $(seq 200); do {met} && exit 0; sleep 0.1; done; exit 1"
    for name in ("shop", "blog"):
        town.builder.repository(name, meet)
    commits = [developer.commit(3 * 2**20) for developer in (town.developer, other)]
    pushes = [
        developer.start("push", town.url(name), "main")
        for developer, name in ((town.developer, "shop"), (other, "blog"))
    ]
    for push in pushes:
        said, _ = push.communicate(timeout=50)
        assert push.returncode == 0, said
    assert [town.head("shop"), town.head("blog")] == commits


def test_a_refusal_reaches_the_developers_terminal(town: Town) -> None:
    town.builder.repository("shop", 'echo "Another git push is ongoing" >&2; exit 1')
    town.developer.commit()
    status, said = town.developer.tries("push", town.url("shop"), "main")
    assert status == 1
    assert "remote: Another git push is ongoing" in said
    assert "pre-receive hook declined" in said

    status, said = town.developer.tries("push", town.url("nothing-there"), "main")
    assert status == 128
    assert "does not appear to be a git repository" in said


def test_a_stranger_is_refused_by_the_builder(town: Town, tmp_path: Path) -> None:
    town.builder.repository("shop")
    stranger = Developer(tmp_path / "stranger")
    stranger.commit()
    status, said = stranger.tries("push", town.url("shop"), "main")
    assert (status, "Permission denied (publickey)" in said) == (128, True)


def test_a_long_build_lives_by_the_dots_it_prints_and_a_silent_one_ends(town: Town) -> None:
    """Minutes of work and twenty of patience, made short: a dot twice a second where silence may last three."""
    town.says(tcpTimeout="3s", connectionRate="0")
    soon(lambda: '"idle_timeout": 3.0' in town.router.admin("/routes")[1])
    town.builder.repository("shop", "for i in $(seq 10); do echo ...; sleep 0.5; done")
    pushed = town.developer.commit()
    said = town.developer.git("push", town.url("shop"), "main")
    assert said.count("remote: ...") == 10
    assert town.head("shop") == pushed

    town.builder.repository("silent", "sleep 30")
    status, said = town.developer.tries("push", town.url("silent"), "main")
    assert status != 0
    assert town.count('router_stream_closed_total{reason="tunnel_idle"') == 1


def test_a_push_lives_through_changes_a_rotation_and_a_drain(town: Town, tmp_path: Path) -> None:
    go, running_now = tmp_path / "go", tmp_path / "running"
    town.builder.repository("shop", waits_for(go, running_now))
    pushed = town.developer.commit(5 * 2**20)
    push = town.developer.start("push", town.url("shop"), "main")
    soon(running_now.exists)

    with running("web") as app:
        shop = manifest("shop/web", app, certificates="web.localhost:web")
        for _ in range(2):
            pair = self_signed(datetime.now(UTC))
            (town.manifests / "shop.yaml").write_text(shop + "---\n" + secret("shop/web-cert", pair))
            soon(partial(shows, town.router, pair.chain_pem.decode()))
        assert town.router.get() == (200, "web")
    (town.manifests / MANIFEST).unlink()  # even the end of the builder's Service is not that of a push
    soon(lambda: '"git": null' in town.router.admin("/routes")[1])
    town.router.process.send_signal(signal.SIGTERM)
    soon(lambda: town.router.admin("/readyz")[0] == 503)
    assert push.poll() is None

    go.touch()
    said, _ = push.communicate(timeout=50)
    assert push.returncode == 0, said
    assert town.head("shop") == pushed
    assert town.router.ends()[0] == 0


def test_a_push_lives_through_an_upgrade_in_place(tmp_path: Path) -> None:
    """One router takes over from another while a push is on its way to the builder, and again while it builds."""
    manifests, home, go, building = (tmp_path / name for name in ("manifests", "builder", "go", "building"))
    manifests.mkdir()
    home.mkdir()
    flags = ("--git-port", "0", "--workers", "1", "--drain-grace", "60", "--handover", str(tmp_path / "way"))
    with builder(home) as it:
        developer, other = Developer(tmp_path / "developer"), Developer(tmp_path / "other")
        for each in (developer, other):
            it.admit(each.key)
        (manifests / MANIFEST).write_text(builder_manifest(it.port, connectionRate="0"))
        with router(manifests, *flags) as old:
            town = Town(manifests, old, it, developer)
            town.meets_git()
            path = it.repository("shop", waits_for(go, building))
            it.repository("blog")
            pushed = developer.commit(40 * 2**20)
            push = developer.start("push", town.url("shop"), "main")
            soon(lambda: any((path / "objects").glob("tmp_objdir-incoming-*")) or push.poll() is not None)
            os.killpg(push.pid, signal.SIGSTOP)  # in the middle of it

            with router(manifests, *flags, *same_ports(old)) as new:
                os.killpg(push.pid, signal.SIGCONT)
                soon(building.exists)
                after = Town(manifests, new, it, other)
                after.meets_git()
                assert new.ports["git"] == old.ports["git"]
                blogged = other.commit()
                other.git("push", "-q", after.url("blog"), "main")
                assert after.head("blog") == blogged
                with router(manifests, *flags, *same_ports(new)) as newest:
                    assert new.ends()[0] == 0
                    assert (old.process.poll(), push.poll()) == (None, None)
                    go.touch()
                    said, _ = push.communicate(timeout=50)
                    assert push.returncode == 0, said
                    assert town.head("shop") == pushed
                    assert old.ends()[0] == 0
                    newest.process.terminate()
                    assert newest.ends()[0] == 0
