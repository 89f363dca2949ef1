"""The tour: three demo apps, a builder to push to, and the router in front of them, on this machine alone.

    python examples/demo.py              until Ctrl-C
    python examples/demo.py --check      try the four things by itself, and end
    python examples/demo.py --anew       begin with fresh manifests; earlier ones are moved to ``manifests.old``

Everything it writes is in ``.demo/``: the manifests to play with (copies of ``examples/manifests``, the endpoints of
what it started, a certificate), ``ca.pem`` for clients to trust, the access log, and in ``git`` the builder's
repository and a key to push with. The key of that certificate authority stays in memory and ends with the demo.

Manifests that were edited, added or removed stay as they are from one tour to the next. The certificate covers every
name that the router serves: while the tour runs it asks the router for its names, and issues another certificate when
one is new.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import re
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
PATIENCE = 60.0
"""Seconds to wait for a child to say where it listens, or for an edit to show."""
LOOK = 0.2
"""Seconds between two looks at the names that the router serves."""

MANIFESTS = ROOT / "examples" / "manifests"
OWN = frozenset({"builder.yaml", "certificate.yaml", "endpoints.yaml"})
"""Manifests that the tour writes at each start: they hold ports and keys of the processes of this tour."""
PUBLIC_PORT = re.compile(r"^( *router\.drycc\.cc/httpsPort: ).*$", re.MULTILINE)


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
            kept = prepare(options.directory, authority, said_by(apps), anew=options.anew)
            built = said_by(builder)
            (options.directory / "manifests" / "builder.yaml").write_text(builder_service(built["port"]))
            with child("drycc_router", "run", *flags(options.directory, wanted)) as router:
                line = said_by(router)
                ports = Ports(line["http"], line["https"], line["admin"], line["git"])
                name_public_port(options.directory / "manifests" / "router.yaml", ports.https)
                known = f"[{LOOPBACK}]:{ports.git} {built['host_key']}\n"
                (options.directory / "git" / "known_hosts").write_text(known)
                certificates = Certificates(options.directory, ports, authority)
                certificates.follow()
                if options.check:
                    check(options.directory, ports, authority, certificates)
                    return 0
                return until_it_ends(router, invitation(options.directory, ports, kept), certificates)
    except KeyboardInterrupt:
        return 130


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The router in front of three demo apps and a builder.")
    parser.add_argument("--free-ports", action="store_true", help="take any ports instead of 8080, 8443, 9090 and 2222")
    parser.add_argument("--check", action="store_true", help="try the four things by itself, and end")
    parser.add_argument("--anew", action="store_true", help="fresh manifests; earlier ones go to manifests.old")
    parser.add_argument("--directory", type=Path, default=ROOT / ".demo", help="where to write (default: .demo)")
    return parser.parse_args(arguments)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


# ── what is written ───────────────────────────────────────────────────────────────────────────────────────────────────


def prepare(
    directory: Path, authority: Authority, endpoints: Mapping[str, Sequence[int]], *, anew: bool = False
) -> list[str]:
    """Write manifests and ``ca.pem``. Returns what differs from a first tour and stays so: ``shop.yaml (edited)``.

    ``anew``: nothing stays; the manifests of earlier tours are moved to ``manifests.old``.
    """
    manifests = directory / "manifests"
    if anew and manifests.exists():
        shutil.rmtree(directory / "manifests.old", ignore_errors=True)
        shutil.rmtree(directory / "originals", ignore_errors=True)
        manifests.rename(directory / "manifests.old")
    manifests.mkdir(parents=True, exist_ok=True)
    (directory / "ca.pem").write_bytes(authority.certificate)
    kept = copy_originals(manifests, directory / "originals")
    slices = [endpoint_slice(app, number, port) for app in APPS for number, port in enumerate(endpoints[app], 1)]
    (manifests / "endpoints.yaml").write_text(yaml.safe_dump_all(slices, sort_keys=False))
    write_certificate(manifests, authority, {f"{app}.localhost" for app in APPS})
    return kept


def copy_originals(manifests: Path, originals: Path) -> list[str]:
    """Copy ``examples/manifests``, but keep what a user edited, added or removed. Returns what was kept.

    ``originals`` has each file as it was copied last: what differs from that was edited, and what does not is brought
    up to date.
    """
    originals.mkdir(exist_ok=True)
    ours = {path.name for path in MANIFESTS.glob("*.yaml")}
    kept = [f"{path.name} (added)" for path in manifests.iterdir() if path.name not in ours | OWN]
    for name in sorted(ours):
        copy, remembered = manifests / name, originals / name
        original = (MANIFESTS / name).read_text(encoding="utf-8")
        was = remembered.read_text(encoding="utf-8") if remembered.exists() else original
        if copy.exists() and not same_manifest(copy.read_text(encoding="utf-8", errors="replace"), was):
            kept.append(f"{name} (edited)")
        elif remembered.exists() and not copy.exists():
            kept.append(f"{name} (removed)")
        else:
            copy.write_text(original, encoding="utf-8")
            remembered.write_text(original, encoding="utf-8")
    return sorted(kept)


def same_manifest(one: str, other: str) -> bool:
    """Whether two texts are equal but for the public port, which the tour itself writes."""
    return PUBLIC_PORT.sub("", one) == PUBLIC_PORT.sub("", other)


def name_public_port(manifest: Path, port: int) -> None:
    """Write into the router's annotation ``httpsPort``, where it stands, by which port clients reach https."""
    if not manifest.exists():  # removed by the user
        return
    text = manifest.read_text(encoding="utf-8", errors="surrogateescape")
    named = PUBLIC_PORT.sub(rf'\g<1>"{port}"', text)
    if named != text:
        manifest.write_text(named, encoding="utf-8", errors="surrogateescape")


def write_certificate(manifests: Path, authority: Authority, names: set[str]) -> None:
    """Write the platform's certificate for these names."""
    secret = certificate_secret(authority.issue("localhost", *sorted(names)))
    write_privately(manifests / "certificate.yaml", yaml.safe_dump(secret, sort_keys=False))


class Certificates:
    """Sees to it that the platform's certificate covers every name that the router serves."""

    def __init__(self, directory: Path, ports: Ports, authority: Authority) -> None:
        self._manifests = directory / "manifests"
        self._ports = ports
        self._authority = authority
        self._names = {f"{app}.localhost" for app in APPS}

    def follow(self) -> None:
        """Ask the router for its names; issue another certificate if there are new ones."""
        try:
            routes = json.loads(ask_admin(self._ports, "/routes").text)["routes"]
        except (OSError, http.client.HTTPException, ValueError):
            return  # the router is ending, or starting its control process again: asked once more soon
        names = {host["host"] for route in routes for host in route["hosts"]}
        new = {name for name in names if "*" not in name.removeprefix("*.")} - self._names
        if new:
            self._names |= new
            write_certificate(self._manifests, self._authority, self._names)


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
    """Write a file that only this user can read, from its first byte on, and put it in its place as a whole."""
    new = path.with_name(f".{path.name}.new")  # the router ignores names that begin with a dot
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)


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


def until_it_ends(router: subprocess.Popen[str], greeting: str, certificates: Certificates) -> int:
    """Greet and wait; an interrupt lets the router finish what it has under way, a second one stops it at once."""
    while True:
        try:
            # In here, because whoever reads it may interrupt before the next line runs.
            if greeting:
                print(greeting, flush=True)
                greeting = ""
            while True:
                try:
                    return router.wait(LOOK)
                except subprocess.TimeoutExpired:
                    certificates.follow()
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


def invitation(directory: Path, ports: Ports, kept: Sequence[str] = ()) -> str:
    """Addresses, and four things to try; before them, what stays from an earlier tour."""
    shown = directory.relative_to(Path.cwd()) if directory.is_relative_to(Path.cwd()) else directory
    found = f"""
Kept from an earlier tour in {shown}/manifests: {", ".join(kept)}.
`make run ARGS=--anew` begins with fresh manifests and moves these to {shown}/manifests.old.
"""
    return f"""{found if kept else ""}
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


def check(directory: Path, ports: Ports, authority: Authority, certificates: Certificates) -> None:
    """Do what the invitation says, and exit with a sentence where it does not come out as promised."""
    expect("both instances of the shop answer", lambda: len({ask(ports, "shop").text for _ in range(8)}) == 2)
    expect("TLS with the demo's own authority", lambda: ask(ports, "hello", trust=authority).status == 200)

    manifest = directory / "manifests" / "shop.yaml"
    edited = manifest.read_bytes() if manifest.exists() else None
    try:
        check_edits(manifest, ports, authority, certificates)
    finally:
        manifest.unlink() if edited is None else manifest.write_bytes(edited)
    if shutil.which("ssh"):
        expect("git push reaches the builder", lambda: push(directory, ports))


def check_edits(manifest: Path, ports: Ports, authority: Authority, certificates: Certificates) -> None:
    """Edit the shop as the invitation and the manifest's own comments suggest."""
    original = (MANIFESTS / "shop.yaml").read_text()
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

    manifest.write_text(original.replace("domains: shop", "domains: shop, market"))
    expect("another name is served", lambda: ask(ports, "market").status == 200)
    certificates.follow()
    expect("over TLS as well", lambda: answers_over_tls(ports, "market", authority))
    manifest.write_text(original.replace("connectTimeout: 5s", 'ssl.enforce: "true"'))
    expect("https only", lambda: ask(ports, "shop").location == f"https://shop.localhost:{ports.https}/")
    expect("and the redirect leads to it", lambda: ask(ports, "shop", trust=authority).status == 200)


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
    location: str | None
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


def answers_over_tls(ports: Ports, app: str, authority: Authority) -> bool:
    """Whether its certificate covers the name by now."""
    try:
        return ask(ports, app, trust=authority).status == 200
    except ssl.SSLCertVerificationError:
        return False


def ask_admin(ports: Ports, path: str) -> Answer:
    """GET a report of the admin port."""
    return _answer(http.client.HTTPConnection(LOOPBACK, ports.admin, timeout=PATIENCE), path)


def _answer(connection: http.client.HTTPConnection, path: str) -> Answer:
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        text = response.read().decode()
        return Answer(response.status, response.getheader("X-Router-Error"), response.getheader("Location"), text)
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
