"""What owners ask for in annotations, and what they are told, by a router as it is shipped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.process import App, Router, manifest, router, running, soon

ROUTER = """---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: drycc-router
  namespace: drycc
  annotations: {router.drycc.cc/ssl.enforce: "true", router.drycc.cc/ssl.hsts.enabled: "true"}
"""


@pytest.fixture
def app() -> Iterator[App]:
    with running("web") as app:
        yield app


def problems(child: Router) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(child.admin("/problems")[1])["problems"]
    return found


def test_an_app_that_wants_no_https_is_served_without_and_nothing_is_wrong(tmp_path: Path, app: App) -> None:
    plain = manifest("shop/plain", app, **{"domains": "plain.localhost", "ssl.enabled": "false"})
    idle = manifest("shop/idle", app, domains="")
    (tmp_path / "a.yaml").write_text("---\n".join([plain, idle, manifest("shop/web", app)]) + ROUTER)
    with router(tmp_path, "--workers", "1") as child:
        assert child.get(host="plain.localhost") == (200, "web")
        assert child.get(host="web.localhost")[0] == 301
        told = {(problem["name"], problem["reason"], problem["severity"]) for problem in problems(child)}
        assert told == {
            ("web", "domain_without_certificate", "problem"),
            ("idle", "no_domains", "note"),
        }
        states = {route["name"]: route["state"] for route in json.loads(child.admin("/routes")[1])["routes"]}
        assert states == {"shop/plain": "live", "shop/idle": "idle", "shop/web": "live"}
        assert child.metric('router_routes{state="rejected"}') == 0


def test_what_changes_is_told_in_the_log(tmp_path: Path, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRYCC_ROUTER_WORKRES", "3")
    (tmp_path / "a.yaml").write_text(manifest("shop/web", app))
    with router(tmp_path, "--workers", "1", files=512) as child:
        (tmp_path / "b.yaml").write_text(manifest("blog/web", app, domains="blog.localhost"))
        soon(lambda: child.get(host="blog.localhost") == (200, "web"))
        child.process.terminate()
        status, said = child.ends()
    assert status == 0
    words = [(str(line["level"]), str(line["message"])) for line in said]
    changes = [word for level, word in words if level == "info" and " current after " in word]
    assert re.fullmatch(
        r"generation 1 is current after \d+ ms: 1 app \(shop/web\); 1 host \(web.localhost\).*", changes[0]
    )
    if len(changes) > 1:  # the second one is told a second after the first, or not any more
        assert "1 app (blog/web); 1 host (blog.localhost)" in changes[1]
    warnings = [word for level, word in words if level == "warning"]
    assert any(
        "DRYCC_ROUTER_WORKRES in the environment" in word and "DRYCC_ROUTER_WORKERS?" in word for word in warnings
    )
    assert sum("a limit of 512 open files leaves each worker" in word for word in warnings) == 1
