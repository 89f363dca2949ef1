"""The tour: three demo apps, a builder to push to, and the router in front of them, on this machine alone.

    python examples/demo.py              until Ctrl-C
    python examples/demo.py --check      try the four things by itself, and end

Everything it writes is in ``.demo/``: the manifests to play with (copies of ``examples/manifests``, the endpoints of
what it started, a certificate for the apps' names), ``ca.pem`` for clients to trust, the access log, and in ``git`` the
builder's repository and a key to push with. The key of that certificate authority stays in memory and ends with the
demo.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import select
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a script finds its own directory there instead

from examples.authority import Authority, Pair  # noqa: E402 -- after the path

APPS = ("hello", "shop", "ticker")
LOOPBACK = "127.0.0.1"
PATIENCE = 15.0
"""Seconds to wait for a child to say where it listens, or for an edit to show."""


@dataclass(frozen=True)
class Ports:
    """Where the router listens."""

    http: int
    https: int
    admin: int
    git: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Set up, start, and stay until the router ends. Returns the exit status."""
    options = _options(arguments)
    for ending in signal.SIGINT, signal.SIGTERM:
        signal.signal(ending, _interrupt)  # unwinds, so that whoever was started is ended
    authority = Authority()
    wanted = Ports(0, 0, 0, 0) if options.free_ports else Ports(free(8080), free(8443), free(9090), free(2222))
    try:
        with child("examples.apps") as apps, child("examples.builder", str(options.directory / "git")) as builder:
            prepare(options.directory, authority, said_by(apps))
            built = said_by(builder)
            (options.directory / "manifests" / "builder.yaml").write_text(builder_service(built["port"]))
            with child("router", "run", *flags(options.directory, wanted)) as router:
                line = said_by(router)
                ports = Ports(line["http"], line["https"], line["admin"], line["git"])
                known = f"[{LOOPBACK}]:{ports.git} {built['host_key']}\n"
                (options.directory / "git" / "known_hosts").write_text(known)
                if options.check:
                    check(options.directory, ports, authority)
                    return 0
                return until_it_ends(router, invitation(options.directory, ports))
    except KeyboardInterrupt:
        return 130


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The router in front of three demo apps and a builder.")
    parser.add_argument("--free-ports", action="store_true", help="take any ports instead of 8080, 8443, 9090 and 2222")
    parser.add_argument("--check", action="store_true", help="try the four things by itself, and end")
    parser.add_argument("--directory", type=Path, default=ROOT / ".demo", help="where to write (default: .demo)")
    return parser.parse_args(arguments)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


# ── what is written ───────────────────────────────────────────────────────────────────────────────────────────────────


def prepare(directory: Path, authority: Authority, endpoints: Mapping[str, Sequence[int]]) -> None:
    """Write manifests and ``ca.pem``; what was edited in an earlier tour is as in the beginning again."""
    manifests = directory / "manifests"
    manifests.mkdir(parents=True, exist_ok=True)
    (directory / "ca.pem").write_bytes(authority.certificate)
    for original in sorted((ROOT / "examples" / "manifests").glob("*.yaml")):
        (manifests / original.name).write_bytes(original.read_bytes())
    slices = [endpoint_slice(app, number, port) for app in APPS for number, port in enumerate(endpoints[app], 1)]
    (manifests / "endpoints.yaml").write_text(yaml.safe_dump_all(slices, sort_keys=False))
    secret = certificate_secret(authority.issue("localhost", *(f"{app}.localhost" for app in APPS)))
    write_privately(manifests / "certificate.yaml", yaml.safe_dump(secret, sort_keys=False))


def endpoint_slice(app: str, number: int, port: int) -> dict[str, Any]:
    """What Kubernetes would write about one ready instance. One slice each: they share the address, not the port."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{app}-{number}",
            "namespace": app,
            "labels": {"kubernetes.io/service-name": app},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [LOOPBACK], "conditions": {"ready": True}}],
    }


def builder_service(port: int) -> str:
    """The Service that git pushes go to, and its one endpoint."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "drycc-builder", "namespace": "drycc"},
        "spec": {"ports": [{"name": "ssh", "port": 2222}]},
    }
    endpoint = endpoint_slice("drycc-builder", 1, port)
    endpoint["metadata"]["namespace"] = "drycc"
    endpoint["ports"][0]["name"] = "ssh"
    return yaml.safe_dump_all([service, endpoint], sort_keys=False)


def certificate_secret(pair: Pair) -> dict[str, Any]:
    """The platform's certificate: what every name without one of its own is answered with."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": "drycc-router-platform-cert", "namespace": "drycc"},
        "data": {name: base64.b64encode(value).decode() for name, value in pair.secret_data().items()},
    }


def write_privately(path: Path, text: str) -> None:
    """Write a file that only this user can read, from its first byte on."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


# ── what is started ───────────────────────────────────────────────────────────────────────────────────────────────────


def free(port: int) -> int:
    """``port`` if nobody listens there, else 0: the router will pick one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return 0
    return port


def flags(directory: Path, ports: Ports) -> list[str]:
    """The router's command line."""
    pairs = {
        "--manifests": directory / "manifests",
        "--bind": LOOPBACK,
        "--http-port": ports.http,
        "--https-port": ports.https,
        "--admin-port": ports.admin,
        "--git-port": ports.git,
        "--access-log": directory / "access.log",
        "--workers": 0,
        "--drain-delay": 0,
    }
    return [str(word) for pair in pairs.items() for word in pair]


@contextmanager
def child(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A module run in a process that does not outlive this block. Ctrl-C is ours to pass on: it has its own session."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def said_by(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The one JSON line with which a child says that it is ready, and where."""
    output = process.stdout
    if output is None or not select.select([output], [], [], PATIENCE)[0] or not (line := output.readline()):
        raise SystemExit(f"did not start: {process.args!r}")
    said: dict[str, Any] = json.loads(line)
    return said


def until_it_ends(router: subprocess.Popen[str], greeting: str) -> int:
    """Greet and wait; an interrupt lets the router finish what it has under way, a second one stops it at once."""
    while True:
        try:
            # In here, because whoever reads it may interrupt before the next line runs.
            if greeting:
                print(greeting, flush=True)
                greeting = ""
            return router.wait()
        except KeyboardInterrupt:
            print("\nFinishing what is under way. Ctrl-C again stops at once.", flush=True)
            router.terminate()


def push_with(directory: Path) -> str:
    """What git is to call ssh as, so that it needs nothing of this user's own keys and settings."""
    git = directory.resolve() / "git"
    return (
        f"ssh -F none -i {shlex.quote(str(git / 'key'))} -o IdentitiesOnly=yes "
        f"-o UserKnownHostsFile={shlex.quote(str(git / 'known_hosts'))}"
    )


def push_to(ports: Ports) -> str:
    """Where the demo's app is pushed."""
    return f"ssh://git@{LOOPBACK}:{ports.git}/shop.git"


# ── what to try ───────────────────────────────────────────────────────────────────────────────────────────────────────


def invitation(directory: Path, ports: Ports) -> str:
    """Addresses, and four things to try."""
    shown = directory.relative_to(Path.cwd()) if directory.is_relative_to(Path.cwd()) else directory
    return f"""
Drycc Router is running in front of {", ".join(APPS)}. Ctrl-C ends it.

    http    http://shop.localhost:{ports.http}/
    https   https://shop.localhost:{ports.https}/
    admin   http://localhost:{ports.admin}/routes
    log     {shown}/access.log

1. Ask an app, in clear and over TLS. Ask twice: the shop has two instances.

    curl http://shop.localhost:{ports.http}/
    curl --cacert {shown}/ca.pem https://shop.localhost:{ports.https}/
    curl --no-buffer http://ticker.localhost:{ports.http}/

2. Change something while it runs: in {shown}/manifests/shop.yaml write

    router.drycc.cc/maintenance: "true"

   save, and ask again. The ticker does not notice.

3. See what the router makes of it, and what it could not honour (connectTimeout: soon).

    curl http://localhost:{ports.admin}/routes
    curl http://localhost:{ports.admin}/problems

4. Push what you have checked out here to the builder behind it.

    GIT_SSH_COMMAND="{push_with(directory)}" git push {push_to(ports)} HEAD:refs/heads/main
"""


def check(directory: Path, ports: Ports, authority: Authority) -> None:
    """Do what the invitation says, and exit with a sentence where it does not come out as promised."""
    expect("both instances of the shop answer", lambda: len({ask(ports, "shop").text for _ in range(8)}) == 2)
    expect("TLS with the demo's own authority", lambda: ask(ports, "hello", trust=authority).status == 200)

    manifest = directory / "manifests" / "shop.yaml"
    original = manifest.read_text()
    manifest.write_text(original.replace('maintenance: "false"', 'maintenance: "true"'))
    expect("the shop goes into maintenance", lambda: ask(ports, "shop").refusal == "maintenance")
    expect("the others do not", lambda: ask(ports, "hello").status == 200)
    manifest.write_text(original)
    expect("the shop opens again", lambda: ask(ports, "shop").status == 200)

    expect("no problems", lambda: json.loads(ask_admin(ports, "/problems").text)["problems"] == [])
    manifest.write_text(original.replace("connectTimeout: 5s", "connectTimeout: soon"))
    expect("a mistake is listed", lambda: "connectTimeout" in ask_admin(ports, "/problems").text)
    expect("and the shop stays open", lambda: ask(ports, "shop").status == 200)
    manifest.write_text(original)
    if shutil.which("ssh"):
        expect("git push reaches the builder", lambda: push(directory, ports))


def push(directory: Path, ports: Ports) -> bool:
    """Push an empty commit of a repository made for it, with the command that the invitation prints."""
    copy = str(directory / "git" / "copy")
    who = ["-c", "user.name=Demo", "-c", "user.email=demo@localhost"]
    subprocess.run(["git", "init", "--quiet", copy], check=True)
    subprocess.run(["git", "-C", copy, *who, "commit", "--quiet", "--allow-empty", "-m", "Demo"], check=True)
    command = ["git", "-C", copy, "push", "--quiet", "--force", push_to(ports), "HEAD:refs/heads/main"]
    done = subprocess.run(
        command,
        env={**os.environ, "GIT_SSH_COMMAND": push_with(directory)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    return done.returncode == 0 and "refs/heads/main is here" in done.stderr


def expect(what: str, holds: Callable[[], bool]) -> None:
    """Ask until it holds: an edit takes a moment to be noticed. Exits when patience ends."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"no: {what}")
        time.sleep(0.05)
    print(f"yes: {what}", flush=True)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    refusal: str | None
    """The machine name of the router's own answers."""
    text: str


def ask(ports: Ports, app: str, trust: Authority | None = None) -> Answer:
    """GET / of an app, over TLS if an authority is to be trusted."""
    host = f"{app}.localhost"
    connection = http.client.HTTPConnection(host, timeout=PATIENCE)
    # Not every resolver knows that names under localhost are this machine.
    connection.sock = socket.create_connection((LOOPBACK, ports.https if trust else ports.http), PATIENCE)
    if trust:
        context = ssl.create_default_context(cadata=trust.certificate.decode())
        connection.sock = context.wrap_socket(connection.sock, server_hostname=host)
    return _answer(connection, "/")


def ask_admin(ports: Ports, path: str) -> Answer:
    """GET a report of the admin port."""
    return _answer(http.client.HTTPConnection(LOOPBACK, ports.admin, timeout=PATIENCE), path)


def _answer(connection: http.client.HTTPConnection, path: str) -> Answer:
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return Answer(response.status, response.getheader("X-Router-Error"), response.read().decode())
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
