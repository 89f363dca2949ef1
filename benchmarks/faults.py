"""Apps that fail, and how many requests feel it: ``python -m benchmarks.faults``. Counts of failures, not throughput.

One router (a child process, as it ships, on a directory of manifests), apps and clients in this process. Each scenario
is one row of hardening 3.4 and ends in one line of JSON:

    rolling    R-20  endpoints replaced one after the other under a steady rate; every other one dies before it is said
    race       R-21  an app that closes idle connections just when the next request comes, every second
    broken     R-24  answers that break off, by FIN or RST, of stated length or chunked, in clear and over TLS
    leaving    R-26  clients that go away while their app works
    crowd      M-12  thousands of requests for an app that does not answer, and what its neighbour feels
    pools      R-39  ten thousand endpoints, all asked

Nothing is pinned to a core: the rates are well below what one core does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, cast

import uvloop

from benchmarks.figures import percentile
from benchmarks.openloop import openloop_command
from benchmarks.peers.drycc import manifest
from benchmarks.tools import REPOSITORY

__all__ = ["SCENARIOS", "Origin", "Router", "ask", "open_loop"]

_RESET: Final = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER with no time: a close is a reset."""
_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_PATIENCE: Final = 5.0
"""Seconds after which a request without an answer has failed."""


# ── apps ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
class Origin:
    """One endpoint on loopback. ``answer`` is written for each request; empty: it never answers."""

    def __init__(
        self, answer: bytes = _OK, *, idle: float = 0.0, then: Callable[[asyncio.Transport], None] | None = None
    ) -> None:
        """``idle``: close a connection that long after its last answer. ``then`` is called after each answer."""
        self.answer = answer
        self.idle = idle
        self.then = then
        self.port = 0
        self.asked = 0
        self.last_asked = 0.0
        self.lost = 0
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def open(self, host: str = "127.0.0.1") -> Origin:
        """Begin to listen."""
        self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), host, 0, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def refuse(self) -> None:
        """Accept nobody any more; who is there stays."""
        if self._server is not None:
            self._server.close()

    def close(self) -> None:
        """Be gone."""
        self.refuse()
        for connection in list(self.connections):
            connection.transport.abort()


class _Connection(asyncio.Protocol):
    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._heard = b""
        self._timer: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._origin.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._origin.connections.discard(self)
        self._origin.lost += 1
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        origin = self._origin
        self._heard += data
        while (end := self._heard.find(b"\r\n\r\n")) >= 0:
            stated = re.search(rb"Content-Length: (\d+)", self._heard[:end])
            size = end + 4 + (int(stated[1]) if stated else 0)
            if len(self._heard) < size:
                return
            self._heard = self._heard[size:]
            origin.asked += 1
            origin.last_asked = time.monotonic()
            if not origin.answer:
                continue
            self.transport.write(origin.answer)
            if origin.then is not None:
                origin.then(self.transport)
            if origin.idle:
                if self._timer is not None:
                    self._timer.cancel()
                self._timer = asyncio.get_running_loop().call_later(origin.idle, self.transport.close)


# ── the router ────────────────────────────────────────────────────────────────────────────────────────────────────────
class Router:
    """A router as it ships, in front of what :meth:`serve` writes."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._manifests = home / "manifests"
        self._manifests.mkdir()
        self._process: subprocess.Popen[str] | None = None
        self._origins: list[Origin] = []
        self.http = self.https = self.admin = 0

    def serve(self, name: str, endpoints: Sequence[tuple[str, int]]) -> None:
        """Write an app; it answers ``<name>.test``."""
        self._write(f"{name}.yaml", manifest(name, (f"{name}.test",), tuple(endpoints)))

    def set(self, **annotations: str) -> None:
        """Write the operator's settings."""
        keys = {f"router.drycc.cc/{key}": value for key, value in annotations.items()}
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "drycc-router", "namespace": "drycc", "annotations": keys},
        }
        self._write("router.yaml", json.dumps(deployment))

    def _write(self, file: str, text: str) -> None:
        draft = self._manifests / f".{file}.draft"
        draft.write_text(text, encoding="utf-8")
        draft.replace(self._manifests / file)

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        line = json.loads(await asyncio.to_thread(self._start))
        self.http, self.https, self.admin = line["http"], line["https"], line["admin"]

    def _start(self) -> str:
        ports = [word for name in ("http", "https", "admin") for word in (f"--{name}-port", "0")]
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "drycc_router", "run", "--manifests", str(self._manifests)),
                *("--bind", "127.0.0.1", "--access-log", "off", "--log-level", "error", "--git-port", "0", *ports),
            ],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    async def app(self, origin: Origin, host: str = "127.0.0.1") -> Origin:
        """Open an app, which ends with the router."""
        self._origins.append(origin)
        return await origin.open(host)

    async def stop(self) -> None:
        """End it, and the apps."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        for origin in self._origins:
            origin.close()
        await asyncio.sleep(0)  # closing sockets takes the loop one more turn

    async def metric(self, name: str) -> float:
        """The sum of a metric's series; ``name`` may go on with labels."""

        def scrape() -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=30) as answer:
                return str(answer.read(), "utf-8")

        text = await asyncio.to_thread(scrape)
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


# ── clients ───────────────────────────────────────────────────────────────────────────────────────────────────────────
class Failed(Exception):
    """A request without a good answer; the text says in a word why."""


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, *, post: bool = False) -> None:
    """One request on an open connection. Raises Failed."""
    line, body = (b"POST", b"Content-Length: 2\r\n\r\nhi") if post else (b"GET", b"\r\n")
    writer.write(b"%b / HTTP/1.1\r\nHost: %b\r\n%b" % (line, host.encode(), body))
    try:
        async with asyncio.timeout(_PATIENCE):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            answer = await reader.readexactly(int(length[1]) if length else 0)
    except TimeoutError:
        raise Failed("timeout") from None
    except (OSError, asyncio.IncompleteReadError) as error:
        raise Failed(type(error).__name__) from None
    if not head.startswith(b"HTTP/1.1 200 ") or answer != b"ok":
        reason = re.search(rb"X-Router-Error: (\w+)", head)
        raise Failed(head[9:12].decode() + (f" {reason[1].decode()}" if reason else ""))


@contextlib.asynccontextmanager
async def _connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def open_loop(
    port: int, host: str | Callable[[], str], rate: float, over: Callable[[], bool]
) -> tuple[list[float], Counter[str]]:
    """GETs at even distances until ``over``; latencies in seconds from when each fell due, and failures by reason.

    ``host``: always that one, or whatever it says each time.
    """
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    latencies: list[float] = []
    failures: Counter[str] = Counter()

    async def one(due: float) -> None:
        pair = free.pop() if free else await asyncio.open_connection("127.0.0.1", port)
        try:
            await ask(*pair, host if isinstance(host, str) else host())
        except Failed as failed:
            failures[str(failed)] += 1
            pair[1].transport.abort()
        else:
            free.append(pair)
        latencies.append(time.monotonic() - due)

    due = time.monotonic()
    async with asyncio.TaskGroup() as requests:
        while not over():
            requests.create_task(one(due))
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
    for _, writer in free:
        writer.transport.abort()
    return latencies, failures


def _milliseconds(latencies: list[float]) -> dict[str, float]:
    ordered = sorted(latencies)
    return {
        "p50_ms": round(percentile(ordered, 0.5) * 1e3, 2),
        "p99_ms": round(percentile(ordered, 0.99) * 1e3, 2),
        "max_ms": round(ordered[-1] * 1e3, 2),
    }


# ── scenarios ─────────────────────────────────────────────────────────────────────────────────────────────────────────
async def rolling(router: Router, share: float) -> dict[str, Any]:
    """Three endpoints; each replacement starts a new one and ends the oldest, announced or not."""
    replacements, rate, pause = max(4, round(20 * share)), 500.0, 6.0
    alive = [await router.app(Origin()) for _ in range(3)]

    def publish() -> None:
        router.serve("shop", [("127.0.0.1", origin.port) for origin in alive])

    publish()
    await router.start()
    over = False
    load = asyncio.create_task(open_loop(router.http, "shop.test", rate, lambda: over))
    await asyncio.sleep(1)
    late: list[float] = []
    for number in range(replacements):
        alive.append(await router.app(Origin()))
        old = alive.pop(0)
        if number % 2:
            old.close()  # it dies, and the table hears of it a moment later
            await asyncio.sleep(0.3)
        publish()
        said = time.monotonic()
        if not number % 2:
            await asyncio.sleep(0.25)
            old.refuse()
        await asyncio.sleep(pause - 0.3)
        old.close()
        if not number % 2:
            late.append(old.last_asked - said)
    over = True
    latencies, failures = await load
    return {
        "replacements": replacements,
        "requests": len(latencies),
        "failed": failures.total(),
        "failures": failures,
        "last_request_after_the_event_ms": round(max(late) * 1e3),
        "retries": await router.metric("router_retries_total"),
        **_milliseconds(latencies),
    }


async def race(router: Router, share: float) -> dict[str, Any]:
    """Each client has an app of its own, so that each request comes a second, give or take 5 ms, after the last."""
    gets, posts, rounds = 100, 10, max(5, round(100 * share))
    closing = await router.app(Origin(idle=1.0))
    for number in range(gets + posts):
        router.serve(f"app-{number}", [("127.0.0.1", closing.port)])
    await router.start()
    failures = {"GET": Counter[str](), "POST": Counter[str]()}
    start = asyncio.get_running_loop().time() + 1.0

    async def client(number: int) -> None:
        dice = random.Random(number)
        post = number >= gets
        async with _connection(router.http) as pair:
            await asyncio.sleep(max(0.0, start - asyncio.get_running_loop().time()) + dice.random())
            for _ in range(rounds):
                try:
                    await ask(*pair, f"app-{number}.test", post=post)
                except Failed as failed:
                    failures["POST" if post else "GET"][str(failed)] += 1
                await asyncio.sleep(1.0 + dice.uniform(-0.005, 0.005))

    async with asyncio.TaskGroup() as clients:
        for number in range(gets + posts):
            clients.create_task(client(number))
    return {
        "gets": gets * rounds,
        "gets_failed": failures["GET"].total(),
        "posts": posts * rounds,
        "posts_failed": failures["POST"].total(),
        "failures": failures["GET"] + failures["POST"],
        "retries": await router.metric("router_retries_total"),
    }


_BEGINNINGS: Final = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
}


def _cut(transport: asyncio.Transport) -> None:
    transport.close()


def _reset(transport: asyncio.Transport) -> None:
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.close()


def _is_broken(port: int, host: str, tls: ssl.SSLContext | None) -> bool:
    """Whether a client can tell that what it got is not the whole."""
    with socket.create_connection(("127.0.0.1", port), _PATIENCE) as raw:
        client = raw
        if tls is not None:
            client = tls.wrap_socket(raw, server_hostname=host, suppress_ragged_eofs=False)
        with client:
            client.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            try:
                while client.recv(65536):
                    pass
            except (ConnectionResetError, ssl.SSLError):
                return True
            return False


async def broken(router: Router, share: float) -> dict[str, Any]:
    """A thousand of each kind."""
    count = max(10, round(1000 * share))
    kinds = {}
    for framing, beginning in _BEGINNINGS.items():
        for how, then in (("fin", _cut), ("rst", _reset)):
            name = f"{framing}-{how}"
            kinds[name] = await router.app(Origin(beginning, then=then))
            router.serve(name, [("127.0.0.1", kinds[name].port)])
    await router.start()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    await asyncio.to_thread(_is_broken, router.https, "length-fin.test", context)
    before = await router.metric("process_open_fds")
    clean: Counter[str] = Counter()
    gate = asyncio.Semaphore(8)

    async def one(name: str, tls: ssl.SSLContext | None) -> None:
        async with gate:
            port = router.http if tls is None else router.https
            if not await asyncio.to_thread(_is_broken, port, f"{name}.test", tls):
                clean[f"{name}-{'tls' if tls else 'plain'}"] += 1

    for tls in (None, context):
        for name in kinds:
            await asyncio.gather(*(one(name, tls) for _ in range(count)))
    asked = sum(origin.asked for origin in kinds.values())
    await asyncio.sleep(1.5)
    return {
        "answers_cut": 2 * count * len(kinds),
        "seen_as_whole": clean.total(),
        "which": clean,
        "asked_twice": asked - 2 * count * len(kinds) - 1,
        "descriptors_left_over": await router.metric("process_open_fds") - before,
    }


async def leaving(router: Router, share: float) -> dict[str, Any]:
    """A thousand clients ask and go, half of them by a reset, half in order (who may yet wait for an answer)."""
    count = max(20, round(1000 * share))
    silent = await router.app(Origin(b""))
    router.serve("shop", [("127.0.0.1", silent.port)])
    await router.start()
    await router.metric("router_build_info")
    before = await router.metric("process_open_fds")
    slowest = 0.0
    for batch in range(0, count, 100):
        writers = []
        for _ in range(min(100, count - batch)):
            _, writer = await asyncio.open_connection("127.0.0.1", router.http)
            writer.write(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
            writers.append(writer)
        goal = batch + len(writers)
        while silent.asked < goal:  # noqa: ASYNC110 -- another process decides
            await asyncio.sleep(0.001)
        for number, writer in enumerate(writers):
            if number % 2:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        began = time.monotonic()
        while silent.lost < goal and time.monotonic() < began + _PATIENCE:  # noqa: ASYNC110 -- the same
            await asyncio.sleep(0.001)
        slowest = max(slowest, time.monotonic() - began)
    await asyncio.sleep(0.5)
    return {
        "clients": count,
        "apps_told": silent.lost,
        "slowest_s": round(slowest, 2),
        "upstream_connections_left_over": await router.metric("router_upstream_connections"),
        "descriptors_left_over": await router.metric("process_open_fds") - before,
    }


async def crowd(router: Router, share: float) -> dict[str, Any]:
    """A neighbour at 200 requests a second, alone and beside a crowd at an app that does not answer.

    The neighbour's clients are a process of their own: the crowd must not keep them waiting, only what it does to the
    router.
    """
    size, limit, seconds = max(200, round(5000 * share)), 1000, max(3.0, 20 * share)
    quick, silent = await router.app(Origin()), await router.app(Origin(b""))
    router.serve("quiet", [("127.0.0.1", quick.port)])
    router.serve("noisy", [("127.0.0.1", silent.port)])
    router.set(maxRequestsPerApp=str(limit))
    await router.start()

    async def neighbour() -> dict[str, Any]:
        report = router.home / "openloop.json"
        command = openloop_command(
            router.http, report, tls=False, rate=200.0, seconds=seconds, connections=16, hosts=["quiet.test"]
        )
        child = await asyncio.create_subprocess_exec(*command, cwd=REPOSITORY)
        await child.wait()
        found: dict[str, Any] = json.loads(await asyncio.to_thread(report.read_text, "utf-8"))
        latencies = [latency / 1e6 for latency in found["latencies_us"]]
        return {"sent": found["sent"], "failed": found["failed"], **_milliseconds(latencies)}

    alone = await neighbour()
    told: Counter[str] = Counter()

    async def one_of_many() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", router.http)
        try:
            while True:
                writer.write(b"GET / HTTP/1.1\r\nHost: noisy.test\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                told[head[9:12].decode()] += 1
                await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
                await asyncio.sleep(random.uniform(5.0, 15.0))
        finally:
            writer.transport.abort()

    many = []
    for number in range(size):
        many.append(asyncio.create_task(one_of_many()))
        if number % 50 == 0:
            await asyncio.sleep(0.05)
    await asyncio.sleep(2.0)
    beside = await neighbour()
    in_flight = len(silent.connections)
    for task in many:
        task.cancel()
    await asyncio.gather(*many, return_exceptions=True)
    return {
        "crowd": size,
        "under_way_at_the_app": in_flight,
        "told": told,
        "neighbour_alone": alone,
        "neighbour_beside": beside,
    }


async def pools(router: Router, share: float) -> dict[str, Any]:
    """Services of five endpoints each, all on one listener, asked until every endpoint was."""
    services = max(50, round(2000 * share))
    everywhere = await router.app(Origin(), "0.0.0.0")
    for number in range(services):
        hosts = [number * 5 + place for place in range(5)]
        addresses = [f"127.{1 + host // 62500}.{host // 250 % 250}.{1 + host % 250}" for host in hosts]
        router.serve(f"app-{number}", [(address, everywhere.port) for address in addresses])
    await router.start()
    most_idle = most_files = 0.0
    failures: Counter[str] = Counter()

    async def client(numbers: range) -> None:
        async with asyncio.TaskGroup() as group:

            async def one(number: int) -> None:
                async with _connection(router.http) as pair:
                    for _ in range(3):
                        try:
                            await ask(*pair, f"app-{number}.test")
                        except Failed as failed:
                            failures[str(failed)] += 1

            for number in numbers:
                for _ in range(5):  # at once, so that all five endpoints are asked
                    group.create_task(one(number))

    for first in range(0, services, 20):
        await client(range(first, min(first + 20, services)))
        if first % 200 == 0:
            most_idle = max(most_idle, await router.metric('router_upstream_connections{state="idle"}'))
            most_files = max(most_files, await router.metric("process_open_fds"))
    await asyncio.sleep(1.0)
    return {
        "endpoints": 5 * services,
        "connections_made": await router.metric("router_upstream_connects_total"),
        "failed": failures.total(),
        "failures": failures,
        "idle_at_most": most_idle,
        "idle_in_the_end": await router.metric('router_upstream_connections{state="idle"}'),
        "descriptors_at_most": most_files,
        "descriptors_allowed": await router.metric("process_max_fds"),
    }


SCENARIOS: Final[dict[str, Callable[[Router, float], Awaitable[dict[str, Any]]]]] = {
    "rolling": rolling,
    "race": race,
    "broken": broken,
    "leaving": leaving,
    "crowd": crowd,
    "pools": pools,
}


async def run(name: str, share: float) -> dict[str, Any]:
    """One scenario with a router of its own. ``share`` of the full counts."""
    with tempfile.TemporaryDirectory(prefix="drycc-faults-") as home:
        router = Router(Path(home))
        try:
            return await SCENARIOS[name](router, share)
        finally:
            await router.stop()


def main() -> None:
    """Run what the command line asks for; a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--only", default=",".join(SCENARIOS), help="comma list of scenarios (default: all)")
    parser.add_argument("--share", type=float, default=1.0, help="of the full counts (default %(default)s)")
    options = parser.parse_args()
    for name in options.only.split(","):
        began = time.monotonic()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(run(name, options.share))
        print(json.dumps({"scenario": name, **result, "seconds": round(time.monotonic() - began, 1)}), flush=True)


if __name__ == "__main__":
    main()
