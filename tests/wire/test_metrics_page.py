"""The metrics page of the router that ships, two workers and a git gateway, as Prometheus itself reads it."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from drycc_tls.certificate import parse
from examples.authority import Authority
from tests.fakes.builder import needs_git
from tests.fakes.process import SOON, Router, manifest, router, running, secret, soon
from tests.fakes.prometheus import needs_prometheus, needs_promtool, prometheus
from tests.wire.test_git_gateway import Town, make_town


def make_traffic(town: Town, problems: bool = True) -> None:
    """Requests, handshakes, a stream, a push, and (``problems``) a bad value and a file whose name is not UTF-8."""
    it = town.router
    town.meets_git()
    town.builder.repository("shop")
    town.alice.commit()
    town.alice.git("push", town.url("shop"), "main")
    with running("shop") as app:
        manifests = town.base / "manifests"
        keys = {"certificates": "web.localhost:web"} | ({"connectTimeout": "soon"} if problems else {})
        issued = Authority().issue("web.localhost")
        pair = secret("shop/web-cert", parse(issued.chain, issued.key))
        (manifests / "web.yaml").write_text(manifest("shop/web", app, **keys) + "---\n" + pair)
        if problems:
            (manifests / os.fsdecode(b"caf\xe9.yaml")).write_text("{")
            soon(lambda: b"caf" in page(it, "text/plain"))
        soon(lambda: it.get()[0] == 200)
        for _ in range(20):
            assert it.get() == (200, "shop")
            assert it.get(host="nobody.example")[0] == 404
        it.certificate()
        with socket.create_connection(("127.0.0.1", it.ports["git"]), SOON) as stream:
            assert stream.recv(7) == b"SSH-2.0"


def page(it: Router, accept: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", it.ports["admin"], timeout=SOON)
    with closing(connection):
        connection.request("GET", "/metrics", headers={"Accept": accept})
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_no_section_is_left_out(tmp_path: Path, workers: str) -> None:
    with running("web") as app:
        (tmp_path / "web.yaml").write_text(manifest("shop/web", app))
        with router(tmp_path, "--workers", workers) as it:
            assert it.get()[0] == 200
            told = page(it, "text/plain").decode()
            assert "# TYPE router_metrics_section_failures_total counter" in told
            assert "router_metrics_section_failures_total{" not in told
            assert "\nrouter_overload_level 0\n" in told


@pytest.mark.peer
@needs_git
@needs_prometheus
@needs_promtool
def test_prometheus_accepts_every_line_of_a_router_with_workers(tmp_path: Path) -> None:
    with make_town(tmp_path, "--workers", "2") as town:
        make_traffic(town)
        plain = page(town.router, "text/plain")
        checked = subprocess.run(["promtool", "check", "metrics"], input=plain, capture_output=True, timeout=SOON)
        assert checked.returncode == 0, checked.stderr.decode() + checked.stdout.decode()
        families = {family.name: family for family in text_string_to_metric_families(plain.decode())}
        assert {sample.labels["worker"] for sample in families["router_worker_up"].samples} == {"0", "1"}
        assert families["router_ssh_sessions"].samples
        assert families["router_route_invalid"].samples
        assert not families["router_metrics_section_failures"].samples
        with prometheus(tmp_path, {"router": [town.router.ports["admin"]]}) as server:
            target = server.scraped("router")
            assert not target["lastError"]
            # A query sees a sample a moment after the scrape that brought it.
            names = {sample.name for family in families.values() for sample in family.samples}
            soon(lambda: names <= set(server.ask("label/__name__/values")))
            soon(lambda: server.query("sum(router_worker_up)") == {frozenset(): 2.0})
