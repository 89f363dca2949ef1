"""All processes together: what serves, what is killed, what goes on, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import queue
import re
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from drycc_proxy.kernel.sandbox import landlock_abi
from drycc_tls.self_signed import self_signed
from tests.fakes.process import SOON, App, Router, manifest, router, running, same_ports, secret, soon

IMPATIENT = "import drycc_router.roles.supervisor as s; s.STALL_SECONDS = 1.0; s.WATCH_SECONDS = s.ABORT_SECONDS = 0.2"
REQUESTS = (
    'router_requests_total{app="shop/web",code="200",method="GET",namespace="shop",protocol="http/1.1",service="web"}'
)


@pytest.fixture
def app() -> Iterator[App]:
    with running("first") as app:
        yield app


@pytest.fixture
def manifests(tmp_path: Path, app: App) -> Path:
    (tmp_path / "shop.yaml").write_text(manifest("shop/web", app))
    return tmp_path


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def all_workers_serve(child: Router, count: int = 2) -> bool:
    return sum(child.metric(f'router_worker_up{{worker="{number}"}}') for number in range(count)) == count


class Crowd:
    """Somebody who asks all the time, each time over a new connection."""

    def __init__(self, child: Router) -> None:
        self._child = child
        self._over = threading.Event()
        self.answers: list[object] = []
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Crowd:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.rests()

    def rests(self) -> None:
        """Ask no more."""
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.is_set():
            try:
                self.answers.append(self._child.get()[0])
            except (OSError, http.client.HTTPException) as error:
                self.answers.append(error)

    def asked(self, more: int = 20) -> None:
        """Wait until it has asked that often since now."""
        goal = len(self.answers) + more
        soon(lambda: len(self.answers) >= goal)


# ── life ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_two_workers_serve_one_table_and_are_counted_as_one(manifests: Path, app: App) -> None:
    (manifests / "builder.yaml").write_text(manifest("drycc/drycc-builder", app))
    with router(manifests, "--workers", "2", "--git-port", "0") as child, running("second") as second:
        with socket.create_connection(("127.0.0.1", child.ports["git"]), SOON):
            pass  # the port in the first line is one that is listened on
        assert set(child.children()) == {"control", "worker-0", "worker-1"}
        assert child.ports["pid"] == child.process.pid
        for _ in range(50):
            assert child.get() == (200, "first")
        assert child.metric(REQUESTS) == 50
        assert child.metric("router_requests_in_flight") == 0
        assert [child.metric(f'router_worker_generation{{worker="{number}"}}') for number in (0, 1)] == [1, 1]
        upstreams = json.loads(child.admin("/routes")[1])["upstreams"]
        [upstream] = [each for each in upstreams if each["route"] == "shop/web"]
        assert [endpoint["address"] for endpoint in upstream["endpoints"]] == [f"127.0.0.1:{app.port}"]
        (manifests / "shop.yaml").write_text(manifest("shop/web", second))
        soon(lambda: child.metric('router_worker_generation{worker="1"}') == 2)
        for _ in range(20):
            assert child.get() == (200, "second")
        child.process.terminate()
        assert child.ends()[0] == 0


def replaced(child: Router, name: str, before: int) -> bool:
    """Whether another process has the name by now."""
    return child.children().get(name, before) != before


def test_a_killed_worker_is_replaced_and_nobody_new_notices(manifests: Path) -> None:
    with router(manifests, "--workers", "2") as child:
        with Crowd(child) as crowd:
            for _ in range(4):
                for name in ("worker-0", "worker-1"):
                    before = child.children()[name]
                    counted = child.metric(REQUESTS)
                    os.kill(before, signal.SIGKILL)
                    soon(partial(replaced, child, name, before))
                    soon(lambda: all_workers_serve(child))
                    crowd.asked()
                    assert child.metric(REQUESTS) >= counted
        lost = [answer for answer in crowd.answers if answer != 200]
        assert len(lost) <= 8  # one at most each time: the request that the worker was about
        assert not any(isinstance(answer, ConnectionRefusedError) for answer in lost)
        assert child.metric('router_worker_deaths_total{reason="killed",worker="0"}') == 4
        child.process.terminate()
        status, said = child.ends()
    assert status == 0
    assert [line["message"] for line in said if line["level"] == "error"].count("worker 0 killed (status -9)") == 4


def test_without_control_traffic_flows_and_the_next_one_takes_over(manifests: Path, app: App) -> None:
    with router(manifests, "--workers", "2") as child, running("second") as second:
        for _ in range(10):
            child.get()
        os.kill(child.children()["worker-0"], signal.SIGKILL)
        soon(lambda: child.metric('router_worker_deaths_total{reason="killed",worker="0"}') == 1)
        soon(lambda: all_workers_serve(child))
        counted = child.metric(REQUESTS)
        workers = {name: pid for name, pid in child.children().items() if name != "control"}
        with Crowd(child) as crowd:
            before = child.children()["control"]
            os.kill(before, signal.SIGKILL)
            crowd.asked()
            soon(lambda: child.children().get("control", before) != before)
            soon(lambda: child.admin("/readyz")[0] == 200)  # the port is never closed: who asks early waits
            crowd.asked()
        assert set(crowd.answers) == {200}
        assert child.metric(REQUESTS) == counted + len(crowd.answers)
        (manifests / "shop.yaml").write_text(manifest("shop/web", second))
        soon(lambda: child.get() == (200, "second"))
        assert workers.items() <= child.children().items()


def test_a_worker_that_is_stuck_keeps_nobody_waiting_and_is_replaced(manifests: Path) -> None:
    with router(manifests, "--workers", "2", before=IMPATIENT) as child:
        stuck = child.children()["worker-1"]
        os.kill(stuck, signal.SIGSTOP)
        with Crowd(child) as crowd:
            soon(lambda: not alive(stuck))
            crowd.asked()
        soon(lambda: child.metric('router_worker_deaths_total{reason="stalled",worker="1"}') == 1)
        lost = [answer for answer in crowd.answers if answer != 200]
        assert len(lost) <= 1


def test_a_loop_that_is_stuck_leaves_its_stack(manifests: Path) -> None:
    block = "import time, drycc_router.roles.worker as w, drycc_router.process.restart_policy as r\n"
    block += "def blocked(self): time.sleep(60)\n"
    block += "w.Worker._take_tickets = lambda self, key: w.asyncio.get_running_loop().call_soon(blocked, self)\n"
    block += "s.START_SECONDS = 1.0; r.FIRST = r.LAST = 0.01; r.DEATHS = 2"
    with router(manifests, "--workers", "1", before=f"{IMPATIENT}\n{block}") as child:
        _, said = child.process.communicate(timeout=SOON)
    assert "in blocked" in said


BLOCKABLE = """
import signal
from drycc_proxy.kernel.sandbox import name_process
def block(number, frame):
    name_process("drycc-blocked")
    signal.sigwait({signal.SIGUSR2})
    name_process("drycc-worker-1")
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
signal.signal(signal.SIGUSR1, block)
"""
"""SIGUSR1 blocks the loop of worker 1 until SIGUSR2 comes."""


def test_while_a_loop_is_blocked_the_other_worker_serves_and_nobody_is_replaced(manifests: Path) -> None:
    """Hardening R-35: shorter than the watchdog's patience, it costs those who are served by that worker, alone."""
    with router(manifests, "--workers", "2", before=BLOCKABLE) as child:
        pid = child.children()["worker-1"]
        for _ in range(3):
            os.kill(pid, signal.SIGUSR1)
            soon(lambda: child.children().get("blocked") == pid)
            with Crowd(child) as crowd:
                crowd.asked()
            assert set(crowd.answers) == {200}
            assert child.children().get("blocked") == pid
            assert (child.admin("/healthz")[0], child.admin("/readyz")[0]) == (200, 200)
            os.kill(pid, signal.SIGUSR2)
            soon(lambda: child.children().get("worker-1") == pid)
        deaths = [
            line for line in child.admin("/metrics")[1].splitlines() if line.startswith("router_worker_deaths_total{")
        ]
        assert {line.rpartition(" ")[2] for line in deaths} == {"0"}


def test_a_worker_that_cannot_start_ends_the_router_which_the_others_serve_to_the_end(manifests: Path) -> None:
    broken = "import drycc_router.roles.worker as w, drycc_router.process.restart_policy as r\n"
    broken += "r.FIRST = r.LAST = 0.01; begin = w.main\n"
    broken += "w.main = lambda start: 1 if start.number else begin(start)"
    with router(manifests, "--workers", "2", before=broken) as child:
        status, said = child.ends()
    assert status == 70
    critical = [line["message"] for line in said if line["level"] == "critical"]
    assert critical == ["worker 1 dies again and again before it serves: the router gives up"]
    assert sum("worker 1 exited (status 1)" in str(line["message"]) for line in said) == 10


def test_nobody_is_orphaned(manifests: Path, app: App) -> None:
    with router(manifests, "--workers", "2") as child:
        children = child.children()
        answers: queue.Queue[tuple[int, str]] = queue.Queue()
        client = threading.Thread(target=lambda: answers.put(child.get("/slow")))
        client.start()
        assert app.asked.get(timeout=SOON) == "/slow"
        child.process.kill()
        soon(lambda: not alive(children["control"]))
        app.go.set()
        assert answers.get(timeout=SOON) == (200, "first")  # what was under way is finished all the same
        client.join()
        soon(lambda: not any(alive(pid) for pid in children.values()))
        child.process.communicate()


# ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_it_leaves_the_load_balancer_first_and_finishes_what_is_under_way(manifests: Path, app: App) -> None:
    with router(manifests, "--workers", "2", "--drain-delay", "1") as child:
        answers: queue.Queue[tuple[int, str]] = queue.Queue()
        client = threading.Thread(target=lambda: answers.put(child.get("/slow")))
        client.start()
        assert app.asked.get(timeout=SOON) == "/slow"
        child.process.terminate()
        soon(lambda: child.admin("/readyz") == (503, "draining\n"))
        assert child.get() == (200, "first")  # still accepted
        soon(lambda: refused(child))
        assert child.admin("/readyz") == (503, "draining\n")  # to the end
        assert child.process.poll() is None
        app.go.set()
        assert answers.get(timeout=SOON) == (200, "first")
        client.join()
        status, said = child.ends()
    assert status == 0
    assert not [line for line in said if line["level"] in ("error", "critical")]


def test_a_signal_to_the_whole_group_is_the_supervisors_alone(manifests: Path) -> None:
    """As a shell, an init system or a process manager sends it: nobody ends before the supervisor says so."""
    group = "import os; os.setsid()"
    with router(manifests, "--workers", "2", "--drain-delay", "1h", before=group) as child:
        children = child.children()
        os.killpg(child.process.pid, signal.SIGTERM)
        soon(lambda: child.admin("/readyz") == (503, "draining\n"))
        for name, pid in children.items():  # ignored, so that nothing happens later either
            ignored = int(re.findall(r"(?m)^SigIgn:\s*([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text())[0], 16)
            assert ignored >> (signal.SIGTERM - 1) & 1, name
        for _ in range(20):
            assert child.get() == (200, "first")
        assert child.children() == children
        os.killpg(child.process.pid, signal.SIGKILL)


def test_a_signal_to_the_whole_group_ends_without_a_line_of_error(manifests: Path) -> None:
    with router(manifests, "--workers", "2", "--drain-delay", "100ms", before="import os; os.setsid()") as child:
        os.killpg(child.process.pid, signal.SIGTERM)
        status, said = child.ends()
    assert status == 0
    assert [line for line in said if line["level"] in ("error", "critical")] == []
    words = [str(line["message"]) for line in said]
    for name in ("worker 0", "worker 1", "control"):
        assert any(re.match(rf"{name} serves \(process \d+\), ", word) for word in words), name
        assert any(re.match(rf"{name} has ended \(process \d+, status 0\)", word) for word in words), name


def refused(child: Router) -> bool:
    try:
        child.get()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def test_a_second_signal_ends_it_at_once(manifests: Path, app: App) -> None:
    with router(manifests, "--workers", "2", "--drain-delay", "30") as child:
        children = child.children()
        child.process.terminate()
        soon(lambda: child.admin("/readyz") == (503, "draining\n"))
        child.process.terminate()
        assert child.ends()[0] == 128 + signal.SIGTERM
        soon(lambda: not any(alive(pid) for pid in children.values()))


@pytest.mark.parametrize("flag", ["--http-port", "--admin-port"])
def test_a_port_that_is_taken_is_named_before_anybody_is_started(manifests: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with router(manifests, "--workers", "1", flag, str(port)) as child:
            status, said = child.ends()
    assert status == 71
    assert str(port) in str(said[-1]["message"])


def test_the_access_log_is_written_by_all_and_follows_a_rotation(manifests: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    log = logs / "access.log"

    def logged(file: Path) -> set[str]:
        return {json.loads(line)["path"] for line in file.read_text().splitlines()} if file.exists() else set()

    with router(manifests, "--workers", "2", "--access-log", str(log)) as child:
        before = {f"/before/{number}" for number in range(10)}
        for path in before:
            child.get(path)
        soon(lambda: logged(log) == before)
        log.rename(logs / "access.log.1")
        child.process.send_signal(signal.SIGHUP)
        soon(log.exists)
        child.process.terminate()
        assert child.ends()[0] == 0


# ── the next version ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_new_version_takes_over_and_nobody_notices(manifests: Path, app: App, tmp_path: Path) -> None:
    way = ["--workers", "1", "--handover", str(tmp_path / "way")]
    with router(manifests, *way) as old:
        same = same_ports(old)
        answers: queue.Queue[tuple[int, str]] = queue.Queue()
        client = threading.Thread(target=lambda: answers.put(old.get("/slow")))
        client.start()
        assert app.asked.get(timeout=SOON) == "/slow"
        with Crowd(old) as crowd, router(manifests, *way, *same) as new:
            assert new.ports == old.ports | {"pid": new.process.pid}
            crowd.asked()
            assert new.admin("/readyz")[0] == 200
            assert old.process.poll() is None  # it finishes what it is about
            app.go.set()
            assert answers.get(timeout=SOON) == (200, "first")
            client.join()
            assert old.ends()[0] == 0
            crowd.asked()
            with router(manifests, *way, *same) as newest:
                crowd.asked()
                assert new.ends()[0] == 0
                crowd.asked()
                crowd.rests()
                newest.process.terminate()
                assert newest.ends()[0] == 0
        assert set(crowd.answers) == {200}
        assert len(crowd.answers) > 80


def test_a_new_version_that_fails_leaves_the_old_one_alone(manifests: Path, tmp_path: Path) -> None:
    way = ["--workers", "1", "--handover", str(tmp_path / "way")]
    broken = "import drycc_router.roles.worker as w, drycc_router.process.restart_policy as r\n"
    broken += "r.FIRST = r.LAST = 0.01; w.main = lambda start: 1"
    with router(manifests, *way) as old, Crowd(old) as crowd:
        with router(manifests, *way, "--http-port", str(old.ports["http"]), before=broken) as new:
            assert new.ends()[0] == 70
        with router(manifests, *way, "--http-port", "many") as new:
            assert new.process.wait(SOON) == 64
            new.process.communicate()
        crowd.asked()
        assert set(crowd.answers) == {200}
        assert old.process.poll() is None
        assert old.admin("/readyz")[0] == 200


THIEF = """
import threading, drycc_router.roles.worker as w
from pathlib import Path
from drycc_router.process import hot_restart

serve = w.Worker.serve

async def steal(self):
    def knock():
        path = Path({path!r})
        while not path.exists():
            threading.Event().wait(0.01)
        try:
            taken = hot_restart.take(path)
            Path(path.with_name("stolen")).write_text(str(taken))
            taken.ready()
        except OSError as error:
            w.log.error("not stolen: %s", error.strerror)
    threading.Thread(target=knock, daemon=True).start()
    await serve(self)

w.Worker.serve = steal
"""
"""Code in a worker that wants the router's sockets, as the next version would."""


@pytest.mark.skipif(not landlock_abi(), reason="this kernel has no Landlock")
def test_code_in_a_worker_does_not_get_the_sockets(manifests: Path, tmp_path: Path) -> None:
    way = ["--workers", "1", "--handover", str(tmp_path / "way")]
    with router(manifests, *way, before=THIEF.format(path=str(tmp_path / "way"))) as old:
        assert old.process.stderr is not None
        said = ""
        while "not stolen" not in said:
            said = old.process.stderr.readline()
            assert said, "the router ended"
        assert "which the router there asks for as a proof" in said
        assert old.admin("/readyz")[0] == old.get()[0] == 200
        with router(manifests, *way, *same_ports(old)) as new:
            assert new.get()[0] == 200
            assert old.ends()[0] == 0


# ── secrets ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def seen_of(pid: int, name: str) -> bytes:
    """A file of /proc about a process. One that is not dumpable shows its own user nothing, only root."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except PermissionError:
        assert os.geteuid() != 0
        return b""


def test_a_worker_reads_no_token_and_shows_nothing(manifests: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("c4n4ry")
    curious = (
        "import ctypes, logging, os, socket, drycc_router.roles.worker as w; serve = w.Worker.serve\n"
        "async def look(self):\n"
        f"    for path in ({str(token)!r}, '/etc/hostname'):\n"
        "        try: logging.error('read %s', open(path).read())\n"
        "        except OSError as error: logging.error('not read: %s', error.strerror)\n"
        "    logging.error('environment: %s', sorted(os.environ))\n"
        "    logging.error('dumpable: %s', ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"
        "    await serve(self)\n"
        "w.Worker.serve = look"
    )
    pair = self_signed(datetime(2026, 1, 1, tzinfo=UTC))
    (manifests / "secret.json").write_text(secret("shop/web-cert", pair))
    with router(manifests, "--workers", "1", before=curious) as child:
        worker = child.children()["worker-0"]
        assert seen_of(worker, "environ").strip(b"\0") == b""
        entries = ""
        for pid in (child.process.pid, *child.children().values()):
            limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
            assert [line.split()[4:6] for line in limits if line.startswith("Max core file size")] == [["0", "0"]]
            entries += "".join(
                seen_of(pid, name).decode("latin-1")
                for name in ("cmdline", "comm", "environ", "status", "maps", "mountinfo")
            )
        shown = "".join(child.admin(path)[1] for path in ("/metrics", "/routes", "/problems", "/certificates"))
        child.process.terminate()
        _, said = child.ends()
    messages = [line["message"] for line in said if line["logger"] == "root"]
    assert messages == ["not read: Permission denied", "not read: Permission denied", "environment: []", "dumpable: 0"]
    for canary in ("c4n4ry", "PRIVATE", pair.key_pem.decode().splitlines()[1]):
        assert canary not in shown + entries + json.dumps(said)


# ── TLS ───────────────────────────────────────────────────────────────────────────────────────────────────────────────
def shakes_hands(child: Router, session: ssl.SSLSession | None, context: ssl.SSLContext) -> tuple[bool, ssl.SSLSession]:
    """Whether the session was resumed, and the one to come back with."""
    with (
        socket.create_connection(("127.0.0.1", child.ports["https"]), SOON) as raw,
        context.wrap_socket(raw, server_hostname="web.localhost", session=session) as secure,
    ):
        secure.sendall(b"GET / HTTP/1.1\r\nHost: web.localhost\r\n\r\n")
        assert secure.recv(65536)
        assert secure.session is not None
        return bool(secure.session_reused), secure.session


T = TypeVar("T")


def elsewhere(child: Router, name: str, act: Callable[[], T]) -> T:
    """Do something while one worker is stopped, so that the other one is met."""
    pid = child.children()[name]
    os.kill(pid, signal.SIGSTOP)
    try:
        return act()
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_of_one_worker_resumes_at_the_other_also_when_the_certificate_changed(
    manifests: Path, app: App, version: ssl.TLSVersion
) -> None:
    pairs = [self_signed(datetime(2026, 1, 1, tzinfo=UTC)) for _ in range(2)]
    (manifests / "shop.yaml").write_text(manifest("shop/web", app, certificates="web.localhost:web"))
    (manifests / "secret.json").write_text(secret("shop/web-cert", pairs[0]))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    with router(manifests, "--workers", "2") as child:
        assert child.certificate().strip() == pairs[0].chain_pem.decode().strip()
        reused, session = elsewhere(child, "worker-1", lambda: shakes_hands(child, None, context))
        assert not reused
        reused, session = elsewhere(child, "worker-0", partial(shakes_hands, child, session, context))
        assert reused
        (manifests / "secret.json").write_text(secret("shop/web-cert", pairs[1]))
        soon(lambda: child.metric('router_worker_generation{worker="1"}') >= 2)
        soon(lambda: child.certificate().strip() == pairs[1].chain_pem.decode().strip())
        reused, _ = elsewhere(child, "worker-1", partial(shakes_hands, child, session, context))
        assert reused


def test_the_key_of_tickets_changes(manifests: Path) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with router(
        manifests, "--workers", "1", before="import drycc_router.roles.supervisor as s; s.TICKET_SECONDS = 0.2"
    ) as child:
        _, session = shakes_hands(child, None, context)
        soon(lambda: not shakes_hands(child, session, context)[0])


FORGING = """
from drycc_router.roles.counter_sums import Reporter

totals = Reporter.totals

def forged(self):
    counted = totals(self)
    counted.tunnels_closed = {'x"} 1\\nrouter_leader 1\\n#': 1}
    return counted

Reporter.totals = forged
"""
"""Workers report what would be a line of its own on the metrics page."""


def test_what_a_worker_reports_is_checked_before_it_reaches_the_metrics_page(manifests: Path) -> None:
    with router(manifests, "--workers", "2", before=FORGING) as child:
        before = {name: pid for name, pid in child.children().items() if name.startswith("worker")}
        assert len(before) == 2
        assert "router_leader" not in child.admin("/metrics")[1]
        soon(lambda: all(child.children().get(name) not in (None, pid) for name, pid in before.items()))
