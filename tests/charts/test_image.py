"""The image, built for real and run as the chart runs it: no root, no capability, nothing to write on.

The base is a Debian made here and the wheels come from a directory, so that no registry is needed, and no network while
building. It takes two minutes, root, and what Debian calls mmdebstrap, buildah, podman and runc.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import pytest
import yaml

from tests.charts.rendering import CHART, rendered

ROOT = CHART.parents[1]
TOOLS = ("mmdebstrap", "buildah", "podman", "runc")
MISSING = [tool for tool in TOOLS if not shutil.which(tool)]

pytestmark = [
    pytest.mark.peer,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed, so no image was built: {', '.join(MISSING)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="not root, so no image was built"),
]

DEBIAN = ("bookworm", "3.11")
"""The release that the base is made of, and its Python."""


def call(*command: str | Path, timeout: float = 200) -> str:
    """Run to the end; what it said on standard output. Fails with all that it said."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


@dataclass(frozen=True)
class Engine:
    """buildah and podman on a store of their own, which goes with the test."""

    store: Path

    def _store(self) -> tuple[str, ...]:
        return ("--storage-driver", "vfs", "--root", f"{self.store}/root", "--runroot", f"{self.store}/run")

    def buildah(self, *arguments: str | Path) -> str:
        return call("buildah", *self._store(), *arguments)

    def podman(self, *arguments: str | Path) -> list[str]:
        """The command line for podman, where it need not ask systemd."""
        return ["podman", *self._store(), "--runtime=runc", "--cgroup-manager=cgroupfs", *map(str, arguments)]

    def run(self, *arguments: str | Path) -> list[str]:
        """The command that starts a container as restricted as a Pod of the chart."""
        limits = ["--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"]
        context = rendered().container()["securityContext"]
        assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
        restricted = ["--read-only", "--read-only-tmpfs=false", "--security-opt=no-new-privileges"]
        restricted += [f"--cap-drop={name}" for name in context["capabilities"]["drop"]]
        return self.podman("run", "--rm", *limits, *restricted, *arguments)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    directory = Path(tempfile.mkdtemp(prefix="image-"))  # podman takes no more than 50 characters of a run root
    try:
        yield built(directory)
    finally:
        shutil.rmtree(directory)


def built(directory: Path) -> Engine:
    """The image, in a store below the directory."""
    engine = Engine(directory / "store")
    release, python = DEBIAN
    packages, wheels = directory / "base.tar", directory / "wheels"
    unread = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
    call("mmdebstrap", "--quiet", "--variant=essential", "--include=python3,python3-venv", *unread, release, packages)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--only-binary=:all:"]
    call(*pip, f"--python-version={python}", "--requirement", ROOT / "requirements.lock", "--dest", wheels)
    container = engine.buildah("from", "scratch")
    engine.buildah("add", "--quiet", container, packages, "/")
    engine.buildah("commit", "--quiet", "--rm", container, "localhost/base")
    arguments = {"BASE": "localhost/base", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "REVISION": "abc123"}
    engine.buildah(
        "build",
        "--isolation=chroot",
        *(f"--build-arg={name}={value}" for name, value in arguments.items()),
        f"--volume={wheels}:/wheels:ro",
        f"--file={ROOT / 'Containerfile'}",
        "--tag=localhost/router",
        ROOT,
    )
    return engine


def test_it_says_what_it_is_and_asks_for_no_root(engine: Engine) -> None:
    made = json.loads(engine.buildah("inspect", "--type=image", "localhost/router"))["OCIv1"]["config"]
    pod = rendered().pods()["spec"]["securityContext"]
    assert made["User"] == f"{pod['runAsUser']}:{pod['runAsGroup']}"
    assert {f"{port['containerPort']}/tcp" for port in rendered().container()["ports"]} == set(made["ExposedPorts"])
    assert made["Labels"]["org.opencontainers.image.revision"] == "abc123"
    version = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"]
    assert made["Labels"]["org.opencontainers.image.version"] == version
    assert call(*engine.run("localhost/router", "version")) == f"drycc-router {version}"


LOOK = """
import json, os, pathlib, sys
packages = pathlib.Path(sys.prefix, "lib", "python%d.%d" % sys.version_info[:2], "site-packages")
compiled = list(packages.glob("drycc_router/__pycache__/*.pyc"))
print(json.dumps({
    "who": [os.getuid(), os.getgid(), os.getgroups()],
    "packages": sorted(path.name.partition("-")[0].lower() for path in packages.glob("*.dist-info")),
    "writable": [path for path in ("/", "/tmp", "/opt/drycc-router", "/var/tmp") if os.access(path, os.W_OK)],
    "pth": [path.name for path in packages.glob("*.pth")],
    "unchecked": [int.from_bytes(path.read_bytes()[4:8], "little") for path in compiled],
}))
"""


def test_it_holds_the_locked_packages_and_nothing_can_be_written(engine: Engine) -> None:
    python = "/opt/drycc-router/bin/python"
    seen = json.loads(call(*engine.run(f"--entrypoint={python}", "localhost/router", "-I", "-c", LOOK)))
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = {line.partition("==")[0].replace("-", "_") for line in lock.splitlines() if "==" in line}
    assert seen["who"] == [10001, 10001, [10001]]
    assert set(seen["packages"]) <= (locked | {"drycc_router"}) - {"setuptools"}
    assert {"drycc_router", "uvloop", "cryptography"} <= set(seen["packages"])
    assert seen["writable"] == []
    assert seen["pth"] == []
    assert set(seen["unchecked"]) == {1}, "bytecode depends on when it was made"


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def manifests(tmp_path: Path) -> Iterator[Path]:
    """A directory with one app, whose endpoint answers hello."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Hello) as app:
        threading.Thread(target=app.serve_forever, daemon=True).start()
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "hello",
                "namespace": "hello",
                "labels": {"router.drycc.cc/routable": "true"},
                "annotations": {"router.drycc.cc/domains": "hello"},
            },
            "spec": {"ports": [{"name": "http", "port": 80}]},
        }
        endpoints = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "hello-1",
                "namespace": "hello",
                "labels": {"kubernetes.io/service-name": "hello"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": app.server_port}],
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
        }
        (tmp_path / "hello.yaml").write_text(yaml.safe_dump_all([service, endpoints]), encoding="utf-8")
        tmp_path.chmod(0o755)
        yield tmp_path
        app.shutdown()


def test_it_serves_without_root_or_anything_to_write_on_and_drains_when_told(engine: Engine, manifests: Path) -> None:
    ports = [f"--{name}-port=0" for name in ("http", "https", "admin")]
    command = engine.run(
        "--name=serving",
        "--network=host",
        f"--volume={manifests}:/manifests:ro",
        "localhost/router",
        "run",
        "--manifests=/manifests",
        "--bind=127.0.0.1",
        *ports,
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as router:
        try:
            assert router.stdout
            listening = first_line(router.stdout, router)
            assert fetch(listening["admin"], "/readyz") == b"ok\n"
            assert json.loads(fetch(listening["admin"], "/problems"))["problems"] == []
            assert fetch(listening["http"], "/", host="hello.example") == b"hello"
            router.terminate()  # podman passes the signal on
            assert router.wait(timeout=30) == 0
        finally:
            if router.poll() is None:
                call(*engine.podman("kill", "serving"))


def first_line(stream: IO[str], process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the router says once it listens. Fails with what it said instead."""
    line = stream.readline()
    assert line, process.stderr and process.stderr.read()
    ports: dict[str, Any] = json.loads(line)
    return ports


def fetch(port: int, path: str, host: str = "localhost") -> bytes:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host})
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - as above
        body: bytes = response.read()
        return body
