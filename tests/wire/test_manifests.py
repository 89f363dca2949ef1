"""Files that people and programs write in ways of their own, below a router that serves what they say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.process import App, manifest, router, running, soon


@pytest.fixture
def app() -> Iterator[App]:
    with running("web") as app:
        yield app


def test_a_manifest_that_is_emptied_and_written_again_takes_no_app_away(tmp_path: Path, app: App) -> None:
    """As ``kubectl get … > web.yaml`` does it."""
    web = tmp_path / "web.yaml"
    web.write_text(manifest("shop/web", app))
    (tmp_path / "away.yaml").write_text(manifest("shop/away", app))
    with router(tmp_path, "--workers", "1", "--manifests-settle", "1h") as child:
        web.write_text("")
        (tmp_path / "away.yaml").unlink()
        (tmp_path / "later.yaml").write_text(manifest("shop/later", app))
        soon(lambda: child.get(host="later.localhost")[0] == 200)  # the router has looked at the directory since
        assert child.get(host="web.localhost")[0] == 200
        assert child.get(host="away.localhost")[0] == 200
        web.write_text(manifest("shop/web", app, maintenance="true"))
        soon(lambda: child.get(host="web.localhost")[0] == 503)


def test_a_manifest_that_stays_empty_takes_its_app_away(tmp_path: Path, app: App) -> None:
    web = tmp_path / "web.yaml"
    web.write_text(manifest("shop/web", app))
    with router(tmp_path, "--workers", "1", "--manifests-settle", "100ms") as child:
        web.write_text("")
        soon(lambda: child.get()[0] == 404)


def test_json_in_a_yaml_file_may_have_what_only_json_has(tmp_path: Path, app: App) -> None:
    documents = [json.loads(each) for each in manifest("shop/web", app).split("---\n")]
    documents[0]["metadata"]["annotations"]["description"] = "ship it \U0001f680"
    (tmp_path / "web.yaml").write_text("\n---\n".join(json.dumps(each) for each in documents))
    with router(tmp_path, "--workers", "1") as child:
        assert child.get() == (200, "web")
        assert "unreadable_file" not in child.admin("/problems")[1]
