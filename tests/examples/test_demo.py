"""The demo: what README's first command does, from the first file to the last child."""

import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from examples import demo
from examples.authority import Authority

SCRIPT = Path(demo.__file__)


def test_the_manifests_in_the_repository_and_those_of_the_demo_are_clean(tmp_path: Path) -> None:
    demo.prepare(tmp_path, Authority(), {"hello": [5001], "shop": [5002, 5003], "ticker": [5004]})

    for manifests in (SCRIPT.parent / "manifests", tmp_path / "manifests"):
        checked = subprocess.run(
            [sys.executable, "-m", "drycc_router", "check", str(manifests)], capture_output=True, text=True, timeout=30
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert all(f"{app}.localhost" in checked.stdout for app in demo.APPS)


def test_what_it_writes_can_be_written_again_and_the_key_is_for_this_user_alone(tmp_path: Path) -> None:
    for port in (5001, 6001):
        demo.prepare(tmp_path, Authority(), {"hello": [port], "shop": [], "ticker": []})

    (secret,) = yaml.safe_load_all((tmp_path / "manifests" / "certificate.yaml").read_text())
    (endpoints,) = yaml.safe_load_all((tmp_path / "manifests" / "endpoints.yaml").read_text())
    assert secret["metadata"]["name"] == "drycc-router-platform-cert"
    assert endpoints["ports"][0]["port"] == 6001
    readable = [
        path.name for path in sorted(tmp_path.rglob("*.*")) if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)
    ]
    assert "certificate.yaml" not in readable
    assert "PRIVATE" not in (tmp_path / "ca.pem").read_text()


ENDPOINTS = {"hello": [5001], "shop": [5002, 5003], "ticker": [5004]}


def test_what_a_user_edited_added_or_removed_stays_until_the_tour_begins_anew(tmp_path: Path) -> None:
    manifests = tmp_path / "manifests"

    def begins(**options: bool) -> list[str]:
        return demo.prepare(tmp_path, Authority(), ENDPOINTS, **options)

    assert begins() == []
    demo.name_public_port(manifests / "router.yaml", 12345)  # which is no edit of the user's
    assert begins() == []
    edited = (manifests / "shop.yaml").read_text().replace("domains: shop", "domains: shop, market")
    (manifests / "shop.yaml").write_text(edited)
    (manifests / "mine.yaml").write_text("# mine\n")
    (manifests / "hello.yaml").unlink()

    for _ in range(2):
        kept = begins()
        assert kept == ["hello.yaml (removed)", "mine.yaml (added)", "shop.yaml (edited)"]
        assert (manifests / "shop.yaml").read_text() == edited
        assert not (manifests / "hello.yaml").exists()
    told = demo.invitation(tmp_path, demo.Ports(1, 2, 3, 4), kept)
    assert all(name in told for name in (*kept, "ARGS=--anew"))

    assert begins(anew=True) == []
    assert {path.name for path in manifests.iterdir()} >= {"hello.yaml", "shop.yaml"}
    assert not (manifests / "mine.yaml").exists()
    assert (tmp_path / "manifests.old" / "shop.yaml").read_text() == edited


def test_edits_from_before_the_tour_remembered_what_it_had_copied_stay_too(tmp_path: Path) -> None:
    demo.prepare(tmp_path, Authority(), ENDPOINTS)
    shutil.rmtree(tmp_path / "originals")
    (tmp_path / "manifests" / "shop.yaml").write_text("# mine\n")

    assert demo.prepare(tmp_path, Authority(), ENDPOINTS) == ["shop.yaml (edited)"]
    assert (tmp_path / "manifests" / "shop.yaml").read_text() == "# mine\n"


def test_what_nobody_edited_follows_the_repository(tmp_path: Path) -> None:
    demo.prepare(tmp_path, Authority(), ENDPOINTS)
    for directory in ("manifests", "originals"):
        (tmp_path / directory / "shop.yaml").write_text("# an earlier version\n")

    assert demo.prepare(tmp_path, Authority(), ENDPOINTS) == []
    assert (tmp_path / "manifests" / "shop.yaml").read_text() == (demo.MANIFESTS / "shop.yaml").read_text()


def test_the_public_port_is_named_where_the_key_stands(tmp_path: Path) -> None:
    manifest = tmp_path / "router.yaml"
    demo.name_public_port(manifest, 8443)
    assert not manifest.exists()
    manifest.write_text("a: 1\n")
    demo.name_public_port(manifest, 8443)
    assert manifest.read_text() == "a: 1\n"
    manifest.write_bytes((demo.MANIFESTS / "router.yaml").read_bytes())
    demo.name_public_port(manifest, 12345)
    annotations = yaml.safe_load(manifest.read_text())["metadata"]["annotations"]
    assert annotations["router.drycc.cc/httpsPort"] == "12345"


def test_a_port_that_is_taken_is_left_to_the_router_to_choose() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert demo.free(port) == 0
    assert demo.free(port) == port


def test_it_does_what_it_promises(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, SCRIPT, "--free-ports", "--check", "--directory", tmp_path],
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert told.returncode == 0, told.stdout + told.stderr
    lines = told.stdout.splitlines()
    assert len(lines) == 12 + (shutil.which("ssh") is not None)
    assert all(line.startswith("yes: ") for line in lines)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(SCRIPT), "--free-ports", "--directory", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.terminate()  # it ends its children, which a kill would leave behind
        try:
            process.wait(60)
        finally:
            process.kill()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_every_child_it_started(running: subprocess.Popen[str], how: signal.Signals) -> None:
    assert running.stdout
    for line in running.stdout:
        if "/problems" in line:
            break
    children = [int(pid) for pid in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()]
    assert len(children) == 3  # the apps, the builder, the router

    running.send_signal(how)

    assert running.wait(20) == 0
    assert [pid for pid in children if os.path.exists(f"/proc/{pid}")] == []


def test_an_endless_answer_is_waited_for_until_the_second_signal(running: subprocess.Popen[str]) -> None:
    assert running.stdout
    told = iter(running.stdout)
    address = next(line for line in told if "http://ticker.localhost" in line)
    port = int(address.rstrip("/\n").rpartition(":")[2])
    next(line for line in told if "/problems" in line)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client, client.makefile("rb") as answer:
        client.sendall(b"GET / HTTP/1.1\r\nHost: ticker.localhost\r\n\r\n")
        assert b"data: 0\n" in iter(answer.readline, b"")

        running.send_signal(signal.SIGINT)
        next(line for line in told if "again" in line)
        assert b"data: 1\n" in iter(answer.readline, b"")

        running.send_signal(signal.SIGINT)
        assert running.wait(10) is not None


# ── what its manifests and its invitation suggest ─────────────────────────────────────────────────────────────────────


class Tour:
    """A demo that runs, as its invitation describes it."""

    def __init__(self, directory: Path, invitation: str) -> None:
        self.directory = directory
        self.invitation = invitation
        http, https, admin = (
            int(port) for port in re.findall(r"^ {4}(?:http|https|admin) +\S+:(\d+)/", invitation, re.MULTILINE)
        )
        self.ports = demo.Ports(http, https, admin, 0)

    def edits(self, key: str, value: str) -> None:
        """Let the shop's manifest say this beside what it says from the beginning."""
        manifest = yaml.safe_load((demo.MANIFESTS / "shop.yaml").read_text())
        manifest["metadata"]["annotations"][f"router.drycc.cc/{key}"] = value
        (self.directory / "manifests" / "shop.yaml").write_text(yaml.safe_dump(manifest))

    def status(self, host: str = "shop") -> int:
        return demo.ask(self.ports, host).status

    def curl(self, url: str) -> subprocess.CompletedProcess[str]:
        """What a user does who trusts the tour's authority and follows redirects."""
        command = ["curl", "--silent", "--show-error", "--location", "--max-time", "5", "--cacert"]
        return subprocess.run(
            [*command, str(self.directory / "ca.pem"), url], capture_output=True, text=True, timeout=30, check=False
        )


@pytest.fixture
def tour(running: subprocess.Popen[str], tmp_path: Path) -> Tour:
    assert running.stdout
    lines = []
    for line in running.stdout:
        lines.append(line)
        if "git push" in line:
            break
    return Tour(tmp_path, "".join(lines))


def soon(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it was never noticed"
        time.sleep(0.02)


SUGGESTIONS: dict[str, Callable[[Tour], object]] = {
    "maintenance": lambda tour: tour.status() == 503,
    "whitelist": lambda tour: tour.status() == 403,
    "domains": lambda tour: (
        tour.status("market") == 200 and "Welcome" in tour.curl(f"https://market.localhost:{tour.ports.https}/").stdout
    ),
    "ssl.enforce": lambda tour: "Welcome" in tour.curl(f"http://shop.localhost:{tour.ports.http}/").stdout,
    "connectTimeout": lambda tour: '"soon"' in demo.ask_admin(tour.ports, "/problems").text and tour.status() == 200,
}
"""What each edit that the shop's manifest suggests comes to."""


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl, with which the tour is made")
def test_every_edit_that_the_manifest_suggests_does_what_it_says(tour: Tour) -> None:
    text = (demo.MANIFESTS / "shop.yaml").read_text()
    suggested = re.findall(r"^#   (\S+): (.+?) {3,}", text, re.MULTILINE)
    assert [key for key, _ in suggested] == list(SUGGESTIONS)

    for key, value in suggested:
        tour.edits(key, yaml.safe_load(value))
        soon(lambda key=key: SUGGESTIONS[key](tour))  # type: ignore[misc]  # mypy cannot type a lambda with a default


PROMISED = {
    "curl http://shop": "Welcome to the shop",
    "curl --cacert": "Welcome to the shop",
    "curl --no-buffer": "data: 0",
    "/routes": '"shop.localhost"',
    "/problems": '"problems": []',
    "git push": "refs/heads/main is here",
}
"""Part of a command of the invitation → what is printed by it."""


@pytest.mark.skipif(not all(map(shutil.which, ("curl", "git", "ssh"))), reason="no curl, git or ssh, as the tour uses")
def test_every_command_of_the_invitation_does_what_it_says(tour: Tour, tmp_path: Path) -> None:
    commands = [line.strip() for line in tour.invitation.splitlines() if re.match(r" {4}(?:curl|GIT_SSH)", line)]
    assert len(commands) == len(PROMISED)
    pushed = tmp_path / "pushed"
    who = ["-c", "user.name=Demo", "-c", "user.email=demo@localhost"]
    subprocess.run(["git", "init", "--quiet", pushed], check=True)
    subprocess.run(["git", "-C", pushed, *who, "commit", "--quiet", "--allow-empty", "-m", "Demo"], check=True)

    for command, (part, promised) in zip(commands, PROMISED.items(), strict=True):
        assert part in command
        endless = command.replace("curl", "curl --max-time 2") if "ticker" in command else command
        done = subprocess.run(
            ["bash", "-c", endless], cwd=pushed, capture_output=True, text=True, timeout=30, check=False
        )
        assert promised in done.stdout + done.stderr, command


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl, with which the tour is made")
def test_the_invitation_names_what_is_listened_on(tour: Tour) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", tour.ports.admin, timeout=10)
    connection.request("GET", "/routes")
    said = connection.getresponse().read().decode()
    connection.close()
    for port in (tour.ports.http, tour.ports.https, tour.ports.admin):
        assert str(port) in said

    def heard() -> tuple[str, str]:
        fields = json.loads(tour.curl(f"https://hello.localhost:{tour.ports.https}/").stdout)["headers"]
        return fields["X-Forwarded-Proto"], fields["X-Forwarded-Port"]

    soon(lambda: heard() == ("https", str(tour.ports.https)))  # the demo names it once it knows it
    assert shlex.quote(str(tour.directory / "git" / "key")) in tour.invitation
