"""What owners ask for in annotations, and what they are told, by a router as it is shipped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.process import App, Router, manifest, router, running

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
