"""One broken object among a thousand good ones: nobody else notices, and everybody who asks is told what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.process import SOON, App, Router, manifest, router, running, soon

GOOD = 1_000
SAMPLE = range(0, GOOD, 40)

BROKEN = {
    # key: (value, reason, what the sentence says was expected)
    "bodySize": ("ten", "bad_value", "expected a size such as"),
    "whitelist": ("10.0.0.0/255.0.0.0", "bad_element", "expected"),
    "connectTimout": ("5s", "unknown_key", "connectTimeout"),
}


def write(folder: Path, app: App, **broken: str) -> None:
    """A thousand and one Services; the one keeps the file that it has to itself."""
    if not broken:
        for shelf in range(0, GOOD, 100):
            services = [manifest(f"town/app-{number}", app) for number in range(shelf, shelf + 100)]
            (folder / f"shelf-{shelf}.yaml").write_text("---\n".join(services))
    (folder / "one.yaml").write_text(manifest("town/one", app, connectTimeout="7s", **broken))


def statuses(child: Router) -> list[int]:
    """What a sample of the thousand answers."""
    return [child.get(host=f"app-{number}.localhost")[0] for number in SAMPLE]


def problems_of_one(told: str) -> list[dict[str, Any]]:
    """Its Problems in a report that come of what was broken."""
    reasons = {reason for _, reason, _ in BROKEN.values()}
    return [each for each in json.loads(told)["problems"] if each["name"] == "one" and each["reason"] in reasons]


@pytest.mark.parametrize("key", BROKEN)
def test_a_broken_key_harms_nobody_else_and_is_named(tmp_path: Path, key: str) -> None:
    value, reason, expected = BROKEN[key]
    with running("app") as app:
        write(tmp_path, app)
        with router(tmp_path) as child:
            assert child.get(host="one.localhost") == (200, "app")
            assert set(statuses(child)) == {200}

            write(tmp_path, app, **{key: value})
            soon(lambda: problems_of_one(child.admin("/problems")[1]) != [])

            (problem,) = problems_of_one(child.admin("/problems")[1])
            assert problem["key"] == f"router.drycc.cc/{key}"
            assert (problem["reason"], problem["value"]) == (reason, value)
            assert expected in problem["message"]
            # The broken one keeps its last good route; a list that says who may come lets nobody in by mistake.
            assert child.get(host="one.localhost")[0] == (403 if key == "whitelist" else 200)
            assert set(statuses(child)) == {200}

        checked = subprocess.run(
            [sys.executable, "-m", "drycc_router", "check", str(tmp_path), "--format", "json"],
            capture_output=True,
            text=True,
            timeout=SOON,
        )
    assert checked.returncode == 1
    (found,) = problems_of_one(checked.stdout)
    assert found == problem | {"app": "town/one", "file": str(tmp_path / "one.yaml"), "line": 1}
    assert len(json.loads(checked.stdout)["routes"]) == GOOD + 1


def test_a_file_that_is_half_written_leaves_its_app_as_it_was(tmp_path: Path) -> None:
    with running("app") as app:
        write(tmp_path, app)
        with router(tmp_path) as child:
            (tmp_path / "one.yaml").write_text('{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "one"')
            soon(lambda: "one.yaml" in child.admin("/problems")[1])
            assert child.get(host="one.localhost") == (200, "app")
            assert set(statuses(child)) == {200}
