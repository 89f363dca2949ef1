"""The router in a cluster: how soon a change is live, what a change costs, how long a start takes, what faults do.

``python -m benchmarks NAME [--quick]``, one of :data:`MEASURES`. Each starts the fake API server, an app and the router
as processes of their own inside a network namespace without any way out, in which 10.1.0.0/16 is this machine: routers
refuse endpoints on loopback when a cluster names them. It needs root, or the right to make user namespaces.

The router has core 0 for itself; fake, app, load and this program share core 1. So times contain what the fake takes to
tell of a change. What must not enter: verdicts; who reads the figures knows the goals.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import datetime
import hashlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn, cast

from benchmarks.figures import percentile
from benchmarks.openloop import Answer, openloop_command, read_answer
from benchmarks.processes import Child, Children, cpu_time, resident_bytes, resident_of_each
from benchmarks.tools import REPOSITORY, commit, machine, prepare
from examples.authority import Authority

__all__ = ["MEASURES", "main"]

CORE, OTHERS = 0, 1
HERE, THERE = "10.1.0.1", "10.1.0.2"
"""Where apps live, and where one of them moves to."""
PORT: Final = 5000
RATE: Final = 300.0
"""Requests per second while something happens."""
LIMIT: Final = 20.0
"""Seconds after which a change counts as not seen."""
PEER_APPS: Final = 5_000
"""Apps up to which Traefik is measured: with more, each change takes it many seconds."""
_INSIDE: Final = "DRYCC_BENCH_NETWORK"


# ── what takes part ───────────────────────────────────────────────────────────────────────────────────────────────────
class Fake:
    """The fake API server, by its control port."""

    def __init__(self, child: Child, url: str, port: int, kubeconfig: Path) -> None:
        self.child = child
        self.url = url
        self.kubeconfig = kubeconfig
        self._port = port

    @property
    def token(self) -> str:
        """What whoever asks it has to show."""
        return self.kubeconfig.with_name(f"{self.kubeconfig.name}.token").read_text(encoding="utf-8").strip()

    def warnings(self) -> Counter[str]:
        """Namespace → warning Events there, as owners see them."""
        where = self.url.removeprefix("http://")
        with contextlib.closing(http.client.HTTPConnection(where, timeout=60)) as connection:
            connection.request("GET", "/api/v1/events", headers={"Authorization": f"Bearer {self.token}"})
            events = json.loads(connection.getresponse().read())["items"]
        return Counter(each["metadata"]["namespace"] for each in events if each["type"] == "Warning")

    def does(self, verb: str, **arguments: Any) -> Any:
        """One verb of the control port. Raises RuntimeError."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)) as connection:
            connection.request("POST", f"/{verb}", json.dumps(arguments))
            answer = json.loads(connection.getresponse().read())
        if "error" in answer:
            raise RuntimeError(f"{verb}: {answer['error']}")
        return answer["result"]

    def puts(self, *documents: dict[str, Any]) -> None:
        """Create or replace objects."""
        self.does("put", text="---\n".join(json.dumps(document) + "\n" for document in documents))

    def calls(self) -> int:
        """Requests it had so far."""
        return int(self._report()["requests"])

    def watches(self, resource: str) -> int:
        """Watches that are open."""
        return sum(each["resource"] == resource for each in self._report()["watches"])

    def _report(self) -> Any:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)) as connection:
            connection.request("GET", "/report")
            return json.loads(connection.getresponse().read())


class Proxy:
    """A started proxy, and one connection to it."""

    def __init__(self, child: Child, port: int) -> None:
        self.child = child
        self.http = port
        self._connection = self._connect()
        self._used = time.monotonic()

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.http))

    def ask(self, host: str) -> Answer:
        """One request on a kept-alive connection; on a new one where that was idle for so long that it may be over."""
        now, before = time.monotonic(), self._used
        self._used = now
        if now - before > 30.0:
            self._connection.close()
            self._connection = self._connect()
        self._connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        data = b""
        while (answer := read_answer(data)) is None:
            received = self._connection.recv(65536)
            if not received:
                raise ConnectionError("closed in an answer")
            data += received
        return answer

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far."""
        used = cpu_time(self.child.pid)
        return used.user + used.system


class Router(Proxy):
    """Ours, and what it says about itself."""

    def __init__(self, child: Child, ports: dict[str, int], ready: float) -> None:
        super().__init__(child, ports["http"])
        self.https, self._admin = ports["https"], ports["admin"]
        self.ready = ready
        """Seconds from its start until it was."""

    def report(self, path: str) -> Any:
        """A report of the operator's port."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._admin, timeout=60)) as connection:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())

    def fingerprint(self, name: str) -> str:
        """SHA-256 of the certificate that a handshake for ``name`` is shown."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", self.https), LIMIT) as raw,
            context.wrap_socket(raw, server_hostname=name) as secure,
        ):
            return hashlib.sha256(secure.getpeercert(binary_form=True) or b"").hexdigest()

    @property
    def mebibytes(self) -> float:
        """Resident memory of all its processes."""
        return resident_bytes(self.child.pid) / 2**20

    @property
    def mebibytes_of_each(self) -> list[int]:
        """Resident memory of each of them: control, workers, supervisor."""
        return [round(size / 2**20) for size in resident_of_each(self.child.pid)]


class Peer(Proxy):
    """Traefik, following the same API server by its Ingress provider: the same objects, an Ingress for each app.

    ``ready``: seconds from its start until it answered for the hosts that were asked for.
    """

    ready = 0.0


class Room:
    """One run: starts what takes part, and ends it. ``peer``: Traefik's program, where it is to be measured, too."""

    def __init__(self, home: Path, children: Children, quick: bool, peer: Path | None = None) -> None:
        self.home = home
        self.quick = quick
        self.measures_peer = peer is not None
        self._peer = peer
        self._children = children
        self._count = 0
        os.sched_setaffinity(0, {OTHERS})
        self._start("app", [sys.executable, "-m", "benchmarks.cluster", "app"], OTHERS, lambda line: line == "app\n")

    def fake(self, apps: int, certificates: int = 0, *flags: str) -> Fake:
        """A fake API server with apps in it. ``flags``: see ``tests.fakes.apiserver``."""
        kubeconfig = self.home / f"kubeconfig-{self._count}"
        command = [sys.executable, "-m", "tests.fakes.apiserver", "--apps", str(apps), "--address", HERE]
        command += ["--certificates", str(certificates), "--kubeconfig", str(kubeconfig), *flags]
        child, line = self._start("fake", command, OTHERS, _is_listening)
        told = json.loads(line)
        return Fake(child, told["url"], int(told["control"].rpartition(":")[2]), kubeconfig)

    def router(self, fake: Fake, core: int | str = CORE) -> Router:
        """A router that follows it, ready. It has a worker for each core it is given."""
        command = [
            sys.executable,
            "-m",
            "drycc_router",
            "run",
            "--kubeconfig",
            str(fake.kubeconfig),
            "--bind",
            "127.0.0.1",
        ]
        command += ["--http-port", "0", "--https-port", "0", "--admin-port", "0"]
        command += ["--access-log", str(self.home / "access.log")]
        started = time.monotonic()
        child, line = self._start("router", command, core, _is_listening)
        return Router(child, json.loads(line), time.monotonic() - started)

    def peer(self, fake: Fake, hosts: Sequence[str], core: int | str = CORE) -> Peer:
        """Traefik, once it answers for ``hosts``. Told to wait for nothing between two changes, as we do."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [
            str(self._peer),
            "--global.checknewversion=false",
            "--global.sendanonymoususage=false",
            "--log.level=ERROR",
            f"--accesslog.filepath={self.home}/peer.log",
            "--accesslog.bufferingsize=100",
            f"--entrypoints.http.address=127.0.0.1:{port}",
            f"--providers.kubernetesingress.endpoint={fake.url}",
            f"--providers.kubernetesingress.token={fake.token}",
            "--providers.kubernetesingress.disableclusterscoperesources=true",
            "--providers.providersthrottleduration=0",
        ]
        self._count += 1
        output = self.home / f"traefik-{self._count}"
        threads = {"GOMAXPROCS": str(len(str(core).split(",")))}
        started = time.monotonic()
        child = self._children.start("traefik", command, core=core, output=output, environment=threads)
        until = started + 120
        while True:
            try:
                peer = Peer(child, port)
                if all(peer.ask(host).status == 200 for host in hosts):
                    peer.ready = time.monotonic() - started
                    return peer
            except OSError:
                pass
            child.require_running()
            if time.monotonic() > until:
                raise RuntimeError("traefik does not serve what it was told of")
            time.sleep(0.05)

    def end(self, *parts: Fake | Proxy) -> None:
        """End some of what takes part."""
        for part in parts:
            self._children.end(part.child)

    @contextlib.contextmanager
    def load(self, router: Proxy, hosts: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Steady requests while the block lasts; afterwards the dictionary says what became of them."""
        self._count += 1
        report = self.home / f"load-{self._count}.json"
        command = openloop_command(router.http, report, tls=False, rate=RATE, seconds=3600, hosts=hosts)
        child = self._children.start("load", command, core=OTHERS, output=self.home / "load", directory=REPOSITORY)
        said: dict[str, Any] = {}
        time.sleep(1)  # so that it is under way
        try:
            yield said
        finally:
            child.require_running()
            self._children.end(child)
            told = json.loads(report.read_text(encoding="utf-8"))
            took = sorted(told["latencies_us"]) or [0.0]
            said.update(
                sent=told["sent"],
                failed=told["failed"],
                failures=told["failures"],
                p50_us=round(percentile(took, 0.5)),
                p99_us=round(percentile(took, 0.99)),
            )

    def _start(self, name: str, command: list[str], core: int | str, begun: Callable[[str], bool]) -> tuple[Child, str]:
        self._count += 1
        output = self.home / f"{name}-{self._count}"
        child = self._children.start(name, command, core=core, output=output, directory=REPOSITORY)
        while True:
            for line in output.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
                if line.endswith("\n") and begun(line):
                    return child, line
            child.require_running()
            time.sleep(0.005)


def _is_listening(line: str) -> bool:
    return '"event": "listening"' in line


# ── one change ────────────────────────────────────────────────────────────────────────────────────────────────────────
def _slice(number: int, address: str) -> dict[str, Any]:
    name = f"app-{number:05}"
    return {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "namespace": name,
            "name": f"{name}-abcde",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
    }


def _secret(number: int, authority: Authority) -> tuple[dict[str, Any], str]:
    """A new certificate of an app, and what a handshake knows it by."""
    name = f"app-{number:05}"
    pair = authority.issue(f"{name}.example")
    data = {key: base64.b64encode(text).decode() for key, text in pair.secret_data().items()}
    metadata = {"namespace": name, "name": "own-cert"}
    document = {"kind": "Secret", "apiVersion": "v1", "type": "kubernetes.io/tls", "metadata": metadata, "data": data}
    return document, hashlib.sha256(ssl.PEM_cert_to_DER_cert(pair.chain.decode())).hexdigest()


def _introduce(fake: Fake, size: int, certificates: int = 0) -> None:
    """Tell Traefik of all apps, the first of which have certificates."""
    for start in range(0, size, 500):
        fake.puts(*(_ingress(number, number < certificates) for number in range(start, min(start + 500, size))))


def _ingress(number: int, has_certificate: bool = False) -> dict[str, Any]:
    """What Traefik is told of an app by."""
    name = f"app-{number:05}"
    tls = [{"hosts": [_host(number)], "secretName": "own-cert"}] if has_certificate else []
    backend = {"service": {"name": name, "port": {"name": "http"}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    return {
        "kind": "Ingress",
        "apiVersion": "networking.k8s.io/v1",
        "metadata": {"namespace": name, "name": name},
        "spec": {"rules": [{"host": _host(number), "http": {"paths": [path]}}], "tls": tls},
    }


def _host(number: int) -> str:
    return f"app-{number:05}.example"


def _comes_from(router: Proxy, number: int, address: str) -> bool:
    return router.ask(_host(number)).body == address.encode()


def _until(seen: Callable[[], bool], limit: float = LIMIT) -> float | None:
    """Milliseconds until it is; None: not within ``limit`` seconds."""
    began = time.perf_counter()
    while not seen():
        if time.perf_counter() - began > limit:
            return None
        time.sleep(0.001)
    return (time.perf_counter() - began) * 1e3


def _creates(fake: Fake, router: Proxy, first: int, count: int) -> dict[str, Any]:
    """Create apps one by one, and poll each from before it is there until 404 has become 200."""
    times: list[float | None] = []
    between: set[int] = set()
    for number in range(first, first + count):
        host = _host(number)
        if router.ask(host).status != 404:
            raise RuntimeError(f"{host} is there already")
        began = time.perf_counter()
        fake.does("load", count=1, start=number, address=HERE)
        if isinstance(router, Peer):
            fake.puts(_ingress(number))

        def seen(host: str = host) -> bool:
            status = router.ask(host).status
            if status not in (200, 404):
                between.add(status)
            return status == 200

        times.append(None if _until(seen) is None else (time.perf_counter() - began) * 1e3)
        time.sleep(0.02)
    return {**_figures(times), "other_answers": sorted(between)}


def _edits(fake: Fake, router: Proxy, number: int, count: int) -> dict[str, Any]:
    """Move a live app to and fro, and poll it until the answer comes from where it is now."""
    times: list[float | None] = []
    for turn in range(count):
        address = THERE if turn % 2 == 0 else HERE
        began = time.perf_counter()
        fake.puts(_slice(number, address))
        seen = _until(partial(_comes_from, router, number, address))
        times.append(None if seen is None else (time.perf_counter() - began) * 1e3)
        time.sleep(0.02)
    return _figures(times)


def _figures(times: Sequence[float | None]) -> dict[str, Any]:
    """Of times in milliseconds."""
    seen = sorted(each for each in times if each is not None)
    if not seen:
        return {"changes": len(times), "unseen": len(times)}
    return {
        "changes": len(times),
        "unseen": len(times) - len(seen),
        "p50_ms": round(percentile(seen, 0.5), 1),
        "p99_ms": round(percentile(seen, 0.99), 1),
        "max_ms": round(seen[-1], 1),
    }


# ── what is measured ──────────────────────────────────────────────────────────────────────────────────────────────────
def propagation(room: Room, apps: Sequence[int]) -> Any:
    """Event to live on requests, idle and under 100 changes a second; with the processor time and API calls of each."""
    count = 60 if room.quick else 500
    results = []
    for size in apps or ([1_000, 5_000] if room.quick else [1_000, 5_000, 20_000]):
        fake = room.fake(size)
        router = room.router(fake)
        results += [_propagates(room, fake, router, size, count, turn) for turn in (0, 1)]
        room.end(router)
        if room.measures_peer and size <= PEER_APPS:
            _introduce(fake, size)
            peer = room.peer(fake, [_host(0), _host(size - 1)])
            results += [_propagates(room, fake, peer, size, min(count, 20), turn) for turn in (2, 3)]
            room.end(peer)
        room.end(fake)
    return results


def _propagates(room: Room, fake: Fake, router: Proxy, size: int, count: int, turn: int) -> dict[str, Any]:
    """One of them: in every other turn under changes. ``turn`` is told from others by the apps it creates."""
    changes = 100 if turn % 2 else 0
    if changes:
        fake.does("churn", rate=changes, noop_share=0.0)
    result: dict[str, Any] = {
        "proxy": "traefik" if isinstance(router, Peer) else "drycc",
        "apps": size,
        "changes_per_second": changes,
    }
    began, cpu, calls = time.monotonic(), router.cpu, fake.calls()
    result["create"] = _creates(fake, router, size + 1_000 * turn, count)
    with room.load(router, [_host(number) for number in range(0, size, size // 100)]) as said:
        result["edit"] = _edits(fake, router, 0, count)
    result["requests"] = said
    seconds = time.monotonic() - began
    made = 2 * count + changes * seconds
    result["cpu_share"] = round((router.cpu - cpu) / seconds, 3)
    result["cpu_ms_per_change"] = round((router.cpu - cpu) * 1e3 / made, 2)
    result["api_calls"] = fake.calls() - calls
    result["seconds"] = round(seconds, 1)
    fake.does("stop-churn")
    return _told(result)


def churn(room: Room, apps: Sequence[int]) -> Any:
    """Hardening R-01: 1,000 updates a second, nine of ten of which change nothing that is read, under traffic."""
    (size,) = apps or [10_000]
    seconds = 15 if room.quick else 60
    fake = room.fake(size)
    router = room.router(fake)
    result: dict[str, Any] = {"apps": size, "updates_per_second": 1_000, "memory_before_mib": round(router.mebibytes)}
    hosts = [_host(number) for number in range(0, size, size // 100)]
    with room.load(router, hosts) as idle:
        cpu = router.cpu
        time.sleep(5)
        result["router_cpu_share_of_traffic"] = round((router.cpu - cpu) / 5, 3)
    result["requests_idle"] = idle
    with room.load(router, hosts) as said:
        fake.does("churn", rate=1_000, noop_share=0.9)
        cpu, began = router.cpu, time.monotonic()
        result["create"] = _creates(fake, router, size, seconds * 5)
        result["router_cpu_share"] = round((router.cpu - cpu) / (time.monotonic() - began), 3)
        fake.does("stop-churn")
    result["requests"] = said
    result["memory_after_mib"] = round(router.mebibytes)
    result["routes_missing"] = size + seconds * 5 - len(router.report("/routes")["routes"])
    room.end(router, fake)
    return _told(result)


def coldstart(room: Room, apps: Sequence[int]) -> Any:
    """Hardening R-02: from the start of the process until it is ready, and whether everything answers then.

    Here the router has both cores, as one that is installed has all of its machine; the fake needs little of them.
    Pods have an address each. Certificates have P-256 keys, and then RSA keys, as most have.
    How long it takes says as much about the machine as about the router, so with ``--peer`` Traefik starts in turn
    with it, until it answers for one app in twenty.
    """
    (size,) = apps or [10_000]
    results = []
    cores = f"{CORE},{OTHERS}"
    for certificates, keys in ((0, ""), (size // 5, "p-256"), (size // 5, "rsa-2048")):
        fake = room.fake(size, certificates, "--spread", *(["--rsa"] if keys == "rsa-2048" else []))
        if room.measures_peer:
            _introduce(fake, size, certificates)
        for _ in range(1 if room.quick else 5):
            if room.measures_peer:
                results.append(_told(_peer_starts(room, fake, size, certificates, cores)))
            calls = fake.calls()
            router = room.router(fake, cores)
            result: dict[str, Any] = {
                "proxy": "drycc",
                "apps": size,
                "certificates": certificates,
                "keys": keys,
                "ready_s": round(router.ready, 2),
                "cpu_s": round(router.cpu, 2),
                "memory_of_each_mib": router.mebibytes_of_each,
                "api_calls": fake.calls() - calls,
                "wrong_answers": sum(router.ask(_host(number)).status != 200 for number in range(0, size, 20)),
            }
            time.sleep(10 if certificates else 1)  # contexts are built behind the table
            result["memory_of_each_later_mib"] = router.mebibytes_of_each
            room.end(router)
            results.append(_told(result))
        room.end(fake)
    return results


def _peer_starts(room: Room, fake: Fake, size: int, certificates: int, cores: str) -> dict[str, Any]:
    calls = fake.calls()
    peer = room.peer(fake, [_host(number) for number in range(0, size, 20)], cores)
    result = {
        "proxy": "traefik",
        "apps": size,
        "certificates": certificates,
        "ready_s": round(peer.ready, 2),
        "cpu_s": round(peer.cpu, 2),
        "memory_mib": round(resident_bytes(peer.child.pid) / 2**20),
        "api_calls": fake.calls() - calls,
    }
    room.end(peer)
    return result


def certificates(room: Room, apps: Sequence[int]) -> Any:
    """Hardening C-06 and C-01: 2,000 certificates and what they weigh; then a hundred of 450, ten rotations a second.

    Up to 500 objects are watched by name; of more, those beyond are asked for in turn, twenty a second (see
    ``sources.objects_by_name``), and a rotation is live when their turn comes.
    """
    (size,) = apps or [2_000]
    fake = room.fake(size, 0)
    router = room.router(fake)
    without = router.mebibytes
    room.end(router, fake)
    fake = room.fake(size, size)
    router = room.router(fake)
    result: dict[str, Any] = {"certificates": size, "ready_s": round(router.ready, 2)}
    time.sleep(10)  # the contexts are built behind the table
    result["kib_each"] = round((router.mebibytes - without) * 1024 / size, 1)
    room.end(router, fake)
    return _told(result | _rotations(room, 450, 15 if room.quick else 120))


def _rotations(room: Room, size: int, seconds: int) -> dict[str, Any]:
    authority = Authority()
    fake = room.fake(size, size)
    router = room.router(fake)
    watched = _until(lambda: fake.watches("secrets") >= size, 60.0)
    result: dict[str, Any] = {"all_watched_s": None if watched is None else round(watched / 1e3, 1)}
    before, handshakes, failed = router.mebibytes, 0, 0
    times: list[float | None] = []
    rotations = [(number % 100, *_secret(number % 100, authority)) for number in range(seconds * 10)]
    began = time.monotonic()
    for turn, (number, document, wanted) in enumerate(rotations):
        time.sleep(max(0.0, began + turn / 10 - time.monotonic()))
        put = time.perf_counter()
        fake.puts(document)
        while time.perf_counter() - put < LIMIT:
            handshakes += 1
            try:
                if router.fingerprint(_host(number)) == wanted:
                    times.append((time.perf_counter() - put) * 1e3)
                    break
            except OSError:
                failed += 1
            time.sleep(0.01)
        else:
            times.append(None)
    result["rotations"] = _figures(times)
    result["handshakes"], result["failed_handshakes"] = handshakes, failed
    result["memory_growth_mib"] = round(router.mebibytes - before, 1)
    result["foreign_secret_reads"] = len(fake.does("foreign-secret-reads"))
    room.end(router, fake)
    return result


def malformed(room: Room, apps: Sequence[int]) -> Any:
    """Hardening R-14: one Service in twenty becomes what no owner should write, under traffic to the others."""
    (size,) = apps or [10_000]
    bad = size // 20
    words = [
        ("bodySize", "-1"),
        ("bodySize", "1e309"),
        ("connectTimeout", "9" * 400),
        ("domains", "x" * 50_000),
        ("whitelist", "10.0.0.0/33"),
        ("denylist", "\x00"),
        ("certificates", "../../etc/passwd"),
        ("proxyLocations", "(((((a+)+)+)+)+$"),
        ("referrerPolicy", "no\r\nSet-Cookie: x=1"),
        ("domains", "\u202e.example"),
    ]
    fake = room.fake(size)
    its = {"namespace": "drycc", "name": "drycc-router"}  # the chart makes it; whoever has it writes the Events
    fake.puts({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": its, "spec": {}})
    router = room.router(fake)
    result: dict[str, Any] = {"apps": size, "bad": bad, "create_before": _creates(fake, router, size, 50)}
    with room.load(router, [_host(number) for number in range(bad, size, size // 100)]) as said:
        cpu, began = router.cpu, time.monotonic()
        for number in range(bad):
            name = f"app-{number:05}"
            key, text = words[number % len(words)]
            annotations = {"router.drycc.cc/domains": _host(number), f"router.drycc.cc/{key}": text}
            metadata = {"namespace": name, "name": name, "annotations": annotations}
            labels = {"app": name, "router.drycc.cc/routable": "true"}
            spec = {"clusterIP": "10.96.0.10", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}
            fake.puts({"kind": "Service", "apiVersion": "v1", "metadata": {**metadata, "labels": labels}, "spec": spec})
        concerned: set[str] = set()

        def all_told() -> bool:
            reasons = ("bad_value", "bad_element", "nothing_allowed", "over_quota")
            told = router.report("/problems")["problems"]
            concerned.update(each["namespace"] for each in told if each["reason"] in reasons)
            return len(concerned) >= bad

        result["all_told_ms"] = _until(all_told)
        result["router_cpu_share"] = round((router.cpu - cpu) / (time.monotonic() - began), 3)
        result["create_after"] = _creates(fake, router, size + 50, 50)
    result["requests"] = said
    result["told_of"] = len(concerned)
    # Events are rationed: fifty at once, then five a second.
    owners = {f"app-{number:05}" for number in range(bad)}
    took = _until(lambda: owners <= fake.warnings().keys(), 180.0)
    result["warned_s"] = None if took is None else round(took / 1e3, 1)
    events = fake.warnings()
    result["warned"] = sum(name in events for name in owners)
    result["events_of_each"] = sorted({events[name] for name in owners})
    statuses = [router.ask(_host(number)).status for number in range(bad)]
    result["bad_answers"] = {str(status): statuses.count(status) for status in sorted(set(statuses))}
    room.end(router, fake)
    return _told(result)


def outage(room: Room, apps: Sequence[int]) -> Any:
    """Hardening R-05 and R-08: watches dropped every five seconds, then no API server at all, under traffic."""
    (size,) = apps or [5_000]
    drops, away = (3, 10) if room.quick else (12, 600)
    fake = room.fake(size)
    router = room.router(fake)
    result: dict[str, Any] = {"apps": size, "drops": drops, "away_s": away}
    number = size
    with room.load(router, [_host(number) for number in range(0, size, size // 100)]) as said:
        recovered: list[float | None] = []
        for turn in range(drops):
            fake.does("drop-watches", how=("fin", "rst", "truncated", "end")[turn % 4])
            fake.does("load", count=1, start=number, address=HERE)
            recovered.append(_until(partial(_comes_from, router, number, HERE)))
            number += 1
            time.sleep(5)
        result["after_drop"] = _figures(recovered)
        memory, cpu = router.mebibytes, router.cpu
        fake.does("down")
        fake.does("load", count=1, start=number, address=HERE)
        time.sleep(away)
        result["unseen_while_away"] = router.ask(_host(number)).status == 404
        result["memory_growth_mib"] = round(router.mebibytes - memory, 1)
        result["router_cpu_share_with_traffic"] = round((router.cpu - cpu) / away, 3)
        fake.does("up")
        back = _until(partial(_comes_from, router, number, HERE))
        result["after_return_ms"] = None if back is None else round(back)
    result["requests"] = said
    room.end(router, fake)
    return _told(result)


MEASURES: Final[dict[str, Callable[[Room, Sequence[int]], Any]]] = {
    "propagation": propagation,
    "churn": churn,
    "coldstart": coldstart,
    "certificates": certificates,
    "malformed": malformed,
    "outage": outage,
}


def _told(result: dict[str, Any]) -> dict[str, Any]:
    print(json.dumps(result), flush=True)
    return result


# ── running ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def main(arguments: Sequence[str]) -> int:
    """Measure one of :data:`MEASURES` and keep the result; 0, or 2 where no network namespace can be made."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="the router in a cluster")
    parser.add_argument("name", choices=[*MEASURES, "app"])
    parser.add_argument("--quick", action="store_true", help="a short look: fewer changes, shorter faults")
    parser.add_argument(
        "--peer", action="store_true", help="propagation, coldstart: Traefik on the same API server, too"
    )
    parser.add_argument("--apps", type=int, nargs="*", default=[], help="how many there are (propagation: several)")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks/results", help="where the result goes")
    options = parser.parse_args(arguments)
    if options.name == "app":
        _serve()
        return 0
    if os.environ.get(_INSIDE) is None:
        if options.peer:
            prepare()  # while there is a way out to install it
        alone = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
        if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode != 0:
            print("skipped: no network namespace can be made here (unshare --net), and it takes one", file=sys.stderr)
            return 2
        command = [*alone, sys.executable, "-m", "benchmarks", *arguments]
        os.execvpe(command[0], command, {**os.environ, _INSIDE: "yes"})  # noqa: S606 -- our own, without a shell
    signal.signal(signal.SIGTERM, _stop)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "route", "add", "local", "10.1.0.0/16", "dev", "lo"], check=True)
    results: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
        "command": "python -m benchmarks " + " ".join(arguments),
        "machine": machine(),
    }
    with tempfile.TemporaryDirectory(prefix="drycc-bench-") as home, Children() as children:
        peer = prepare().traefik if options.peer else None
        results[options.name] = MEASURES[options.name](Room(Path(home), children, options.quick, peer), options.apps)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{results['date']}-{results['commit']}-{options.name}.json"
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(path)
    return 0


def _stop(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt  # so that SIGTERM ends the children in the same way as Ctrl-C


def _serve() -> None:
    """The app: it answers with the address that it was asked at."""
    import asyncio

    import uvloop

    class App(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.Transport, transport)
            name = transport.get_extra_info("sockname")[0].encode()
            self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(name), name)
            self.rest = b""

        def data_received(self, data: bytes) -> None:
            *heads, self.rest = (self.rest + data).split(b"\r\n\r\n")
            self.transport.write(self.answer * len(heads))

    async def serve() -> None:
        await asyncio.get_running_loop().create_server(App, "0.0.0.0", PORT, backlog=1024)
        print("app", flush=True)
        await asyncio.Event().wait()

    uvloop.run(serve())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
