"""A router as a child process, an app to stand behind it, and questions to ask them."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import queue
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from drycc_tls.certificate import Certificate

__all__ = [
    "SOON",
    "App",
    "Router",
    "deployment",
    "manifest",
    "open_files",
    "router",
    "running",
    "same_ports",
    "secret",
    "soon",
]

SOON = 90.0
"""Seconds that anything here may take on a busy machine."""


def open_files(pid: int) -> int:
    """How many files a process has open. Nobody but root may list those of a process that is not to be looked into;
    since Linux 6.2 the size of the directory tells their number to everybody."""
    directory = Path(f"/proc/{pid}/fd")
    return directory.stat().st_size or len(list(directory.iterdir()))


# ── an app ────────────────────────────────────────────────────────────────────────────────────────────────────────────
class App(ThreadingHTTPServer):
    """Answers every request with its name; ``/slow`` only after :attr:`go` is set."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.name = name
        self.go = threading.Event()
        self.asked: queue.Queue[str] = queue.Queue()
        self.port = self.server_address[1]

    def handle_error(self, *_: object) -> None:
        """A router that ends at once breaks its connections off: no word about it."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, App)
        self.server.asked.put(self.path)
        if self.path == "/slow":
            self.server.go.wait(SOON)
        body = self.server.name.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def running(name: str) -> Iterator[App]:
    with App(name) as app:
        thread = threading.Thread(target=app.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield app
        finally:
            app.shutdown()
            thread.join()


# ── what is written about it ──────────────────────────────────────────────────────────────────────────────────────────
def manifest(name: str, *apps: App | int, **annotations: str) -> str:
    """A Service ``namespace/service`` for ``<service>.localhost``, if not said otherwise, and slices with the apps (or
    their ports)."""
    namespace, service = name.split("/")
    keys = {"domains": f"{service}.localhost", **annotations}
    objects = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": service,
                "namespace": namespace,
                "labels": {"router.drycc.cc/routable": "true"},
                "annotations": {f"router.drycc.cc/{key}": value for key, value in keys.items()},
            },
            "spec": {"ports": [{"name": "http", "port": 80}]},
        },
        *(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": f"{service}-{number}",
                    "namespace": namespace,
                    "labels": {"kubernetes.io/service-name": service},
                },
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": app if isinstance(app, int) else app.port}],
                "endpoints": [{"addresses": ["127.0.0.1"]}],
            }
            for number, app in enumerate(apps)
        ),
    ]
    return "---\n".join(json.dumps(each) + "\n" for each in objects)


def deployment(**annotations: str) -> str:
    """The router's own Deployment, with these settings."""
    keys = {f"router.drycc.cc/{key}": value for key, value in annotations.items()}
    metadata = {"name": "drycc-router", "namespace": "drycc", "annotations": keys}
    return json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {}}) + "\n"


def secret(name: str, pair: Certificate) -> str:
    """A TLS Secret ``namespace/name``."""
    namespace, _, own = name.partition("/")
    data = {"tls.crt": pair.chain_pem, "tls.key": pair.key_pem}
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": own, "namespace": namespace},
        "data": {key: base64.b64encode(pem).decode() for key, pem in data.items()},
    }
    return json.dumps(manifest) + "\n"


# ── the router, as a child ────────────────────────────────────────────────────────────────────────────────────────────
class Router:
    """A started router: its ports, and questions to ask it."""

    def __init__(self, process: subprocess.Popen[str], ports: dict[str, Any]) -> None:
        self.process = process
        self.ports = ports

    def get(self, path: str = "/", host: str = "web.localhost", port: str = "http") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[port], timeout=SOON)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def admin(self, path: str) -> tuple[int, str]:
        return self.get(path, "localhost", "admin")

    def certificate(self, name: str = "web.localhost") -> str:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", self.ports["https"]), SOON) as raw,
            context.wrap_socket(raw, server_hostname=name) as secure,
        ):
            return ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True) or b"")

    def children(self) -> dict[str, int]:
        """Name and process id of each of its processes, if it has any."""
        found = {}
        for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # noqa: TID251 -- a test; it may just have ended
                found[Path(f"/proc/{pid}/comm").read_text().strip().removeprefix("drycc-")] = int(pid)
        return found

    def metric(self, line: str) -> float:
        """The value of a metric, by its name and labels as they are printed; 0 if it is not there."""
        for each in self.admin("/metrics")[1].splitlines():
            if each.startswith(line + " "):
                return float(each.rpartition(" ")[2])
        return 0.0

    def ends(self) -> tuple[int, list[dict[str, object]]]:
        """Its exit status and what it said about itself, once it has ended."""
        _, said = self.process.communicate(timeout=SOON)
        return self.process.returncode, [json.loads(line) for line in said.splitlines()]


@contextlib.contextmanager
def router(manifests: Path, *arguments: str, files: int = 0, before: str = "") -> Iterator[Router]:
    """The production shape: supervisor, control and two workers. A test that says ``--workers 0`` says why beside it.

    ``files``: the most it may have open, if it matters. ``before``: Python that is run before it starts.
    """
    command = [sys.executable, "-m", "drycc_router", "run", "--manifests", str(manifests), "--bind", "127.0.0.1"]
    free = ["--http-port", "0", "--https-port", "0", "--admin-port", "0", "--drain-delay", "0"]
    shape = [] if "--workers" in arguments else ["--workers", "2"]
    if before:
        command[1:3] = ["-c", f"{before}\nimport sys; from drycc_router.cli import main; sys.exit(main(sys.argv[1:]))"]
    if files:
        limited = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))"
        command = [sys.executable, "-c", f"{limited}; os.execv(sys.argv[1], sys.argv[1:])", *command]
    process = subprocess.Popen(
        [*command, *free, *shape, "--access-log", "off", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield Router(process, json.loads(line) if line else {})
    finally:
        process.kill()
        if process.stdout is not None and not process.stdout.closed:  # nobody has read it to its end
            process.communicate(timeout=SOON)


def same_ports(before: Router) -> list[str]:
    """Flags of a router that is to take over from another one."""
    return [word for name in ("http", "https", "admin") for word in (f"--{name}-port", str(before.ports[name]))]


def soon(condition: Callable[[], bool]) -> None:
    """Wait until the router has noticed."""
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "it was never noticed"
        time.sleep(0.005)  # between two questions, to leave the machine to those who answer them
