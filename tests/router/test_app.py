"""The whole process: manifests in, traffic through it, signals out."""

from __future__ import annotations

import asyncio
import json
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drycc_router.app import _first_of
from drycc_tls.self_signed import self_signed
from tests.fakes.process import SOON, App, Router, manifest, router, running, secret, soon


@pytest.fixture
def app() -> Iterator[App]:
    with running("first") as app:
        yield app


# ── stories ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_request_meets_its_app_and_an_edit_is_live_while_traffic_flows(tmp_path: Path, app: App) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(manifest("shop/web", app))
    with router(tmp_path) as child, running("second") as second:
        assert child.ports["event"] == "listening"
        assert child.ports["pid"] == child.process.pid
        assert child.ports["git"] is None
        assert child.get() == (200, "first")  # the start line says: the first table is in force
        assert child.get(host="other.localhost")[0] == 404
        assert child.admin("/readyz")[0] == 200

        file.write_text(manifest("shop/web", second))
        soon(lambda: child.get() == (200, "second"))
        file.write_text(manifest("shop/web", second, maintenance="true"))
        soon(lambda: child.get()[0] == 503)
        file.write_text(manifest("shop/web", second)[:-40])  # broken off in the middle: what was good stays
        soon(lambda: "unreadable_file" in child.admin("/problems")[1])
        assert child.get()[0] == 503
        file.write_text(manifest("shop/web", second))
        soon(lambda: child.get() == (200, "second"))
        file.unlink()
        soon(lambda: child.get()[0] == 404)


def test_the_operator_s_port_tells_what_is_in_force(tmp_path: Path, app: App) -> None:
    (tmp_path / "shop.yaml").write_text(manifest("shop/web", app))
    with router(tmp_path) as child:
        child.get()
        report = json.loads(child.admin("/routes")[1])
        assert report["ports"] == {name: child.ports[name] for name in ("http", "https", "git", "admin")}
        assert [(route["name"], route["state"]) for route in report["routes"]] == [("shop/web", "live")]
        assert [upstream["route"] for upstream in report["upstreams"]] == ["shop/web"]
        assert child.admin("/healthz") == (200, "ok\n")
        assert 'router_requests_total{app="shop/web"' in child.admin("/metrics")[1]


def test_the_git_port_is_open_while_there_is_a_builder(tmp_path: Path, app: App) -> None:
    (tmp_path / "shop.yaml").write_text(manifest("shop/web", app))
    builder = tmp_path / "builder.yaml"
    with router(tmp_path, "--git-port", "0") as child:

        def port() -> int | None:
            number: int | None = json.loads(child.admin("/routes")[1])["ports"]["git"]
            return number

        assert child.ports["git"] is None
        builder.write_text(manifest("drycc/drycc-builder", app))
        soon(lambda: port() is not None)
        with socket.create_connection(
            ("127.0.0.1", port() or 0), SOON
        ) as git:  # to an app that speaks HTTP: any will do
            git.sendall(b"GET / HTTP/1.1\r\nHost: git\r\nConnection: close\r\n\r\n")
            git.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: git.recv(1000), b""))
        assert answer.endswith(b"first")
        (stream,) = json.loads(child.admin("/routes")[1])["streams"]
        assert (stream["stream"], stream["app"]) == ("git", "drycc/drycc-builder")
        builder.unlink()
        soon(lambda: port() is None)


def test_a_replaced_certificate_meets_the_next_handshake(tmp_path: Path, app: App) -> None:
    pairs = [self_signed(datetime(2026, 1, 1, tzinfo=UTC)) for _ in range(2)]

    def shown() -> str:
        return child.certificate().strip()

    (tmp_path / "shop.yaml").write_text(manifest("shop/web", app, certificates="web.localhost:web"))
    (tmp_path / "secret.json").write_text(secret("shop/web-cert", pairs[0]))
    with router(tmp_path) as child:
        assert shown() == pairs[0].chain_pem.decode().strip()
        (tmp_path / "secret.json").write_text(secret("shop/web-cert", pairs[1]))
        soon(lambda: shown() == pairs[1].chain_pem.decode().strip())
        child.process.terminate()
        status, said = child.ends()
        assert status == 0
        assert "PRIVATE" not in json.dumps(said)


def refused(child: Router) -> bool:
    """Whether nobody listens on the port of http any more."""
    try:
        socket.create_connection(("127.0.0.1", child.ports["http"]), SOON).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass  # it was waiting to be accepted when the port was closed
    return False


def test_sigterm_finishes_what_is_under_way_and_takes_nothing_new(tmp_path: Path, app: App) -> None:
    (tmp_path / "shop.yaml").write_text(manifest("shop/web", app))
    with router(tmp_path) as child:
        answers: queue.Queue[tuple[int, str]] = queue.Queue()
        client = threading.Thread(target=lambda: answers.put(child.get("/slow")))
        client.start()
        assert app.asked.get(timeout=SOON) == "/slow"
        child.process.send_signal(signal.SIGTERM)
        soon(lambda: child.admin("/readyz") == (503, "draining\n"))
        soon(lambda: refused(child))  # each worker closes the port when it is told to
        assert child.process.poll() is None
        app.go.set()
        assert answers.get(timeout=SOON) == (200, "first")
        client.join()
        status, said = child.ends()
    assert status == 0
    assert [line["level"] for line in said if str(line["message"]).startswith("draining")] == ["info"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(tmp_path: Path, app: App, number: signal.Signals) -> None:
    (tmp_path / "shop.yaml").write_text(manifest("shop/web", app))
    with router(tmp_path) as child:
        with socket.create_connection(("127.0.0.1", child.ports["http"]), SOON) as client:
            client.sendall(b"GET /slow HTTP/1.1\r\nHost: web.localhost\r\n\r\n")
            assert app.asked.get(timeout=SOON) == "/slow"
            child.process.send_signal(number)
            soon(lambda: child.admin("/readyz") == (503, "draining\n"))
            child.process.send_signal(number)
            status, _ = child.ends()
            assert status == 128 + number
        app.go.set()


def test_a_second_signal_does_not_wait_for_a_reader_of_manifests(tmp_path: Path) -> None:
    busy = "import sys, threading, time, drycc_router.sources.manifests as m\n"
    busy += "m.ManifestTree.sweep = lambda self: (sys.stderr.write('busy\\n'), sys.stderr.flush(), time.sleep(60))\n"
    busy += "from drycc_router.cli import main; main(sys.argv[1:])"
    arguments = ["run", "--manifests", str(tmp_path), "--bind", "127.0.0.1"]
    arguments += ["--http-port", "0", "--https-port", "0", "--admin-port", "0"]
    arguments += ["--workers", "0"]  # the supervisor would end control by a signal: this is about a loop that waits
    with subprocess.Popen([sys.executable, "-c", busy, *arguments], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == "busy\n"
            process.terminate()
            assert '"draining' in process.stderr.readline()
            process.terminate()
            assert process.wait(SOON) == 128 + signal.SIGTERM
        finally:
            process.kill()


def test_draining_has_an_end(tmp_path: Path, app: App) -> None:
    (tmp_path / "shop.yaml").write_text(manifest("shop/web", app))
    with (
        router(tmp_path, "--drain-grace", "0.1") as child,
        socket.create_connection(("127.0.0.1", child.ports["http"]), SOON) as client,
    ):
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: web.localhost\r\n\r\n")
        assert app.asked.get(timeout=SOON) == "/slow"
        child.process.terminate()
        status, _ = child.ends()
        app.go.set()
    assert status == 0


def test_the_access_log_follows_a_rotation(tmp_path: Path, app: App) -> None:
    manifests, log = tmp_path / "manifests", tmp_path / "access.log"
    manifests.mkdir()
    (manifests / "shop.yaml").write_text(manifest("shop/web", app))

    def logged(file: Path) -> list[str]:
        return [json.loads(line)["path"] for line in file.read_text().splitlines()] if file.exists() else []

    with router(manifests, "--access-log", str(log)) as child:
        child.get("/before")
        soon(lambda: logged(log) == ["/before"])
        log.rename(tmp_path / "access.log.1")
        child.process.send_signal(signal.SIGHUP)
        soon(log.exists)
        child.get("/after")
        child.process.terminate()
        assert child.ends()[0] == 0
    assert logged(log) == ["/after"]
    assert logged(tmp_path / "access.log.1") == ["/before"]


@pytest.mark.parametrize("flag", ["--http-port", "--https-port", "--admin-port"])
def test_a_port_that_is_taken_is_named(tmp_path: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with router(tmp_path, flag, str(port)) as child:
            status, said = child.ends()
    assert status == 71
    assert str(port) in str(said[-1]["message"])


def test_the_first_of_several_waits_decides_and_the_others_are_given_up() -> None:
    given_up = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            given_up.append(True)
            raise

    async def fails() -> None:
        raise OSError("no such port")

    async def story() -> None:
        await _first_of(asyncio.sleep(0), forever())
        assert given_up == [True]
        with pytest.raises(OSError, match="no such port"):
            await _first_of(forever(), fails())

    asyncio.run(story())
