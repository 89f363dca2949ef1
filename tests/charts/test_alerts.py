"""Each alert fires in a real Prometheus that scrapes a router with two workers in the state that the alert is about.

What the test changes of the rules is only how long a state must last (``for``), and two thresholds that a test cannot
wait for (:data:`SOONER`). Every panel of the dashboard is evaluated as well, and healthy routers raise no alarm.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from drycc_tls.certificate import parse
from examples.authority import Authority, Pair
from tests.charts.rendering import rendered
from tests.charts.test_in_cluster import installed
from tests.charts.test_observability import BOARD, RULES
from tests.charts.test_rbac import INSTALLED
from tests.fakes.apiserver.objects import service
from tests.fakes.builder import needs_git
from tests.fakes.process import SOON, App, Router, manifest, router, running, secret, soon
from tests.fakes.prometheus import Prometheus, needs_prometheus, prometheus
from tests.wire.test_git_gateway import make_town
from tests.wire.test_metrics_page import make_traffic

pytestmark = [pytest.mark.peer, needs_prometheus]

SOONER = {"RouterWatchStalled": ("> 300", "> 0.2"), "RouterEventsWait": ("> 100", "> 0")}
"""Alert → what stands in its expression, and what the test says instead."""


def rules(base: Path, *without: str) -> Path:
    """The rules of the chart, each firing as soon as its expression holds."""
    content = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    [group] = content["groups"]
    group["rules"] = [rule for rule in group["rules"] if rule["alert"] not in without]
    for rule in group["rules"]:
        rule.pop("for", None)
        if rule["alert"] in SOONER:
            before, after = SOONER[rule["alert"]]
            assert before in rule["expr"]
            rule["expr"] = rule["expr"].replace(before, after)
    path = base / "rules.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def firing(server: Prometheus) -> dict[str, list[dict[str, str]]]:
    """Alert → labels of each of its series that fires now."""
    found: dict[str, list[dict[str, str]]] = {}
    for alert in server.alerts():
        assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert "{{" not in str(alert["annotations"])
        assert "error" not in alert["annotations"]["summary"] or "errors" in alert["annotations"]["summary"]
        found.setdefault(alert["labels"]["alertname"], []).append(alert["labels"])
    return found


@contextmanager
def watched(base: Path, jobs: dict[str, list[Router]], *without: str, every: str = "1s") -> Iterator[Prometheus]:
    ports = {job: [each.ports["admin"] for each in routers] for job, routers in jobs.items()}
    with prometheus(base, ports, rules(base, *without), every) as server:
        yield server


def fires(server: Prometheus, *names: str, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Wait until all of these alerts have fired; ``meanwhile`` is done again and again."""
    missing = set(names)
    deadline = time.monotonic() + SOON
    while missing:
        assert time.monotonic() < deadline, f"did not fire: {missing}; fired: {sorted(firing(server))}"
        meanwhile()
        missing.difference_update(firing(server))
        time.sleep(0.05)  # between two questions, to leave the machine to those who answer them


def deployment(**annotations: str) -> str:
    keys = {f"router.drycc.cc/{key}": value for key, value in annotations.items()}
    metadata = {"name": "drycc-router", "namespace": "drycc", "annotations": keys}
    return "---\n" + json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}) + "\n"


@contextmanager
def two_workers(base: Path, content: str, *flags: str, name: str = "manifests", **how: Any) -> Iterator[Router]:
    manifests = base / name
    manifests.mkdir()
    (manifests / "all.yaml").write_text(content)
    with router(manifests, "--workers", "2", *flags, **how) as it:
        yield it


def pair(name: str, of: Pair) -> str:
    return secret(name, parse(of.chain, of.key))


def ask(it: Router, host: str, path: str = "/") -> int:
    with contextlib.suppress(OSError, http.client.HTTPException):  # noqa: TID251 -- a router in trouble may refuse
        return it.get(path, host)[0]
    return 0


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


EMPTY_WITHOUT_A_CLUSTER = {"Watch lag", "Failures of API requests", "Events waiting", "Leader"}
EMPTY_WITHOUT_TROUBLE = {"Problems", "Retries", "Endpoints ejected"}
"""Titles of panels."""


def empty(server: Prometheus) -> set[str]:
    """Panels of which no target has a value, each asked as Grafana would with all apps selected."""
    found = set()
    for panel in BOARD["panels"]:
        asked = [target["expr"].replace("$__rate_interval", "1m") for target in panel.get("targets", [])]
        told = [server.query(re.sub(r"\$(namespace|app)", ".*", expression)) for expression in asked]
        if asked and not any(told):
            found.add(panel["title"])
    return found


# ── what owners and their apps do ─────────────────────────────────────────────────────────────────────────────────────
def test_alerts_about_apps_and_certificates(tmp_path: Path) -> None:
    day = timedelta(days=1)
    now = datetime.now(UTC)
    dead = App("dead")
    dead.server_close()  # nobody listens there any more
    with ExitStack() as stack:
        web = stack.enter_context(running("web"))
        authority = Authority()
        objects = [
            manifest("shop/web", web),
            manifest("shop/old", web, certificates="old.localhost:old"),
            manifest("shop/soon", web, certificates="soon.localhost:soon"),
            pair("shop/old-cert", authority.issue("old.localhost", start=now - 60 * day, days=30)),
            pair("shop/soon-cert", authority.issue("soon.localhost", start=now - 27 * day, days=30)),
            manifest("shop/dead", dead),
            manifest("shop/half", dead, web),
            manifest("shop/empty"),
            manifest("shop/bad", web, bodySize="ten"),
            manifest("shop/refused", web, domains="*.com"),
            deployment(maxRequestsPerApp="1", queueTimeout="60s", tcpPorts=f"{closed_port()}:shop/dead:80"),
        ]
        it = stack.enter_context(two_workers(tmp_path, "---\n".join(objects)))
        server = stack.enter_context(watched(tmp_path, {"router": [it]}, "RouterAbsent"))
        server.scraped("router")
        stuck = [threading.Thread(target=ask, args=(it, "web.localhost", "/slow")) for _ in range(12)]
        for thread in stuck:
            thread.start()
        stack.callback(web.go.set)

        def meanwhile() -> None:
            for host in ("dead.localhost", "empty.localhost", "half.localhost", "half.localhost"):
                ask(it, host)
            for stream in json.loads(it.admin("/routes")[1])["streams"]:
                with contextlib.suppress(OSError):  # noqa: TID251 -- nobody listens behind it
                    socket.create_connection(("127.0.0.1", stream["port"]), SOON).close()
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", it.ports["https"]), SOON) as raw:
                    raw.sendall(b"\x16\x03\x01\x00\x05hello")
                    raw.recv(100)

        names = ["RouterCertificateExpired", "RouterCertificateExpiresSoon", "RouterAppUnreachable"]
        names += ["RouterEndpointsEjected", "RouterAppWithoutEndpoint", "RouterRequestsQueued", "RouterProblems"]
        fires(
            server, *names, "RouterRouteRejected", "RouterStreamsFail", "RouterTlsHandshakesFail", meanwhile=meanwhile
        )
        told = firing(server)
        assert {alert["app"] for alert in told["RouterAppWithoutEndpoint"]} == {"shop/empty"}
        assert {alert["secret"] for alert in told["RouterCertificateExpired"]} == {"old-cert"}
        assert {alert["secret"] for alert in told["RouterCertificateExpiresSoon"]} == {"soon-cert"}
        assert not EMPTY_WITHOUT_TROUBLE & empty(server)


# ── what happens to the router ────────────────────────────────────────────────────────────────────────────────────────
FAULTY = """
import time
from drycc_proxy.http.exchange import Exchange
from drycc_router.admin import metrics
from drycc_router.roles.fanout import FanOut

begin, publish = Exchange.begin, FanOut.publish

def slow_or_wrong(self, *arguments):
    if b"/slow" in self.line.target:
        time.sleep(0.3)
    if b"/bug" in self.line.target:
        raise RuntimeError("planted")
    return begin(self, *arguments)

async def once(self, *arguments):
    if self.everything():
        raise RuntimeError("planted")
    await publish(self, *arguments)

def broken(*arguments):
    raise RuntimeError("planted")

Exchange.begin, FanOut.publish, metrics._log = slow_or_wrong, once, broken
"""
"""Mistakes in a router: one target is slow within the router, one raises, changes after the first cannot be applied,
and a section of the metrics page cannot be written."""


def test_alerts_about_faults_of_the_router(tmp_path: Path) -> None:
    with (
        running("web") as web,
        two_workers(tmp_path, manifest("shop/web", web), before=FAULTY) as it,
        watched(tmp_path, {"router": [it]}) as server,
    ):
        server.scraped("router")
        web.go.set()
        (tmp_path / "manifests" / "more.yaml").write_text(manifest("shop/more", web))

        def meanwhile() -> None:
            assert ask(it, "web.localhost", "/bug") == 500
            assert ask(it, "web.localhost", "/slow") == 200

        names = ("RouterConfigNotApplied", "RouterInternalErrors", "RouterSlow", "RouterMetricsIncomplete")
        fires(server, *names, meanwhile=meanwhile)


def test_alerts_about_workers(tmp_path: Path) -> None:
    with (
        running("web") as web,
        two_workers(tmp_path, manifest("shop/web", web)) as it,
        # A worker that stands still is asked for three seconds what it has counted.
        watched(tmp_path, {"router": [it]}, every="4s") as server,
    ):
        server.scraped("router")
        soon(lambda: server.query("sum(router_worker_deaths_total)") == {frozenset(): 0.0})
        os.kill(it.children()["worker-0"], signal.SIGKILL)
        fires(server, "RouterWorkerDied")
        stopped = it.children()["worker-1"]
        os.kill(stopped, signal.SIGSTOP)
        (tmp_path / "manifests" / "more.yaml").write_text(manifest("shop/more", web))
        fires(server, "RouterWorkerBehind")
        with contextlib.suppress(ProcessLookupError):  # noqa: TID251 -- the supervisor may have ended it by now
            os.kill(stopped, signal.SIGCONT)


def test_alerts_about_what_is_short(tmp_path: Path) -> None:
    with ExitStack() as stack:
        web = stack.enter_context(running("web"))
        namespaces = [f"shop-{number}" for number in range(8)]
        several = "---\n".join(manifest(f"{each}/web", web, domains=f"{each}.localhost") for each in namespaces)
        # Lines are dropped once 64 KiB wait and not only after 8 MiB.
        short = "from drycc_proxy.telemetry import log_sink; log_sink.LIMIT = 65536"
        few = stack.enter_context(
            two_workers(tmp_path, several, "--access-log", "-", name="few", files=128, before=short)
        )
        small = stack.enter_context(two_workers(tmp_path, several, "--memory-limit", "8m", name="small"))
        held = "import os; held = [os.open('/dev/null', os.O_RDONLY) for _ in range(90)]"
        full = stack.enter_context(two_workers(tmp_path, several, name="full", files=128, before=held))
        server = stack.enter_context(watched(tmp_path, {"few": [few], "small": [small], "full": [full]}))
        server.scraped("few")
        said: dict[frozenset[tuple[str, str]], float] = {}

        def is_told() -> bool:
            said.update(server.query('router_connection_places{job="few",state="all"}'))
            return bool(said)

        soon(is_told)
        places = int(said.popitem()[1])
        clients: dict[int, socket.socket] = {}
        stack.callback(lambda: [stack.enter_context(client) for client in clients.values()])

        def meanwhile() -> None:
            """Take nearly every place, each client from an address of its own, for many apps (nobody has more than a
            share), and write more of the access log than an unread pipe takes."""
            request = f"GET /{200 * 'x'} HTTP/1.1\r\nHost: nobody.localhost\r\n"
            with socket.create_connection(("127.0.0.1", few.ports["http"]), SOON, ("127.0.2.1", 0)) as one:
                one.sendall((200 * f"{request}\r\n" + f"{request}Connection: close\r\n\r\n").encode())
                while one.recv(65536):
                    pass
            for number in range(int(places * 0.95)):
                host = f"{namespaces[number % len(namespaces)]}.localhost"
                try:
                    client = clients.get(number) or socket.create_connection(
                        ("127.0.0.1", few.ports["http"]), SOON, (f"127.0.1.{number + 1}", 0)
                    )
                    clients[number] = client
                    client.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                    if not client.recv(4096):
                        raise ConnectionResetError
                except OSError:
                    clients.pop(number).close()  # it was let go; it comes again

        names = ("RouterPlacesShort", "RouterOverloaded", "RouterMemoryShort", "RouterAccessLogDropped")
        fires(server, *names, "RouterOpenFilesShort", meanwhile=meanwhile)
        assert {alert["job"] for alert in firing(server)["RouterPlacesShort"]} == {"few"}
        assert "small" in {alert["job"] for alert in firing(server)["RouterOverloaded"]}
        assert {alert["job"] for alert in firing(server)["RouterOpenFilesShort"]} == {"full"}


# ── what happens around the router ────────────────────────────────────────────────────────────────────────────────────
def test_alerts_about_the_api_server(tmp_path: Path) -> None:
    """Rights to write are missing, and after a while the API server refuses every watch."""
    objects = rendered(INSTALLED["cluster"])
    for role in objects:
        for rule in role.get("rules", []):
            if "leases" in rule["resources"]:
                rule["verbs"] = ["get"]

    async def tell() -> None:
        async with asyncio.timeout(3 * SOON), installed(objects, tmp_path) as installation:
            with prometheus(tmp_path, {"router": [installation.ports["admin"]]}, rules(tmp_path)) as server:
                await asyncio.to_thread(fires, server, "RouterNobodyWrites")
                installation.server.fault("status", verb="watch", code=500)
                installation.server.fault("status", verb="list", code=500)
                installation.server.drop_watches("rst")
                await asyncio.to_thread(fires, server, "RouterApiFails", "RouterWatchStalled")
                assert not EMPTY_WITHOUT_A_CLUSTER & await asyncio.to_thread(empty, server)

    asyncio.run(tell())


def test_alert_about_events_that_wait(tmp_path: Path) -> None:
    """Many objects have a Problem, and the API server does not take Events."""

    async def tell() -> None:
        async with asyncio.timeout(3 * SOON), installed(rendered(INSTALLED["cluster"]), tmp_path) as installation:
            installation.server.fault("status", verb="create", resource="events", code=429, retry_after=60)
            for number in range(20):
                keys = {"bodySize": "ten"}
                installation.server.put(
                    service("shop", f"web-{number}", domains=f"web-{number}.example", annotations=keys)
                )
            with prometheus(tmp_path, {"router": [installation.ports["admin"]]}, rules(tmp_path)) as server:
                await asyncio.to_thread(fires, server, "RouterEventsWait")

    asyncio.run(tell())


def test_alerts_about_replicas_and_installations(tmp_path: Path) -> None:
    """Two replicas of one job disagree; a second installation has other apps, and that is no alarm."""
    with running("web") as web, ExitStack() as stack:
        one, two = manifest("shop/web", web), manifest("shop/web", web) + "---\n" + manifest("shop/more", web)
        a, b, other = (
            stack.enter_context(two_workers(tmp_path, content, name=name))
            for content, name in ((one, "a"), (two, "b"), (one, "other"))
        )
        with watched(tmp_path, {"first": [a, b], "second": [other]}) as server:
            fires(server, "RouterReplicasDisagree")
            server.scraped("second")
            assert {alert["job"] for alert in firing(server)["RouterReplicasDisagree"]} == {"first"}
            assert "RouterAbsent" not in firing(server)
            a.process.kill()
            a.process.communicate(timeout=SOON)
            fires(server, "RouterDown")
            assert {alert["instance"] for alert in firing(server)["RouterDown"]} == {f"127.0.0.1:{a.ports['admin']}"}
    (tmp_path / "none").mkdir()
    with prometheus(tmp_path / "none", {"router": [closed_port()]}, rules(tmp_path)) as server:
        fires(server, "RouterAbsent")


@needs_git
def test_healthy_routers_raise_no_alarm_and_every_panel_has_a_value(tmp_path: Path) -> None:
    with make_town(tmp_path, "--workers", "2") as town:
        make_traffic(town, problems=False)
        with watched(tmp_path, {"router": [town.router]}) as server:
            server.scraped("router")
            make_traffic(town, problems=False)
            soon(lambda: server.query("count_over_time(router_build_info[1m]) >= 3") != {})
            assert firing(server) == {}
            assert empty(server) == EMPTY_WITHOUT_TROUBLE | EMPTY_WITHOUT_A_CLUSTER
        town.builder.close_port()
        (tmp_path / "git").mkdir()
        with prometheus(tmp_path / "git", {"router": [town.router.ports["admin"]]}, rules(tmp_path)) as server:
            server.scraped("router")
            town.alice.commit()
            fires(server, "RouterGitSessionsFail", meanwhile=lambda: town.alice.tries("push", town.url("shop"), "main"))
