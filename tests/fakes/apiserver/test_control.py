"""The fake as a process of its own, steered through its control port."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
APP = """
kind: Service
apiVersion: v1
metadata: {namespace: shop, name: web, labels: {router.drycc.cc/routable: "true"}}
---
kind: Secret
apiVersion: v1
metadata: {namespace: shop, name: web-cert}
"""


@dataclass
class Process:
    """Where it is, and how to ask it."""

    url: str
    control: str
    token: str
    program: subprocess.Popen[str]

    def get(self, path: str) -> Any:
        """The JSON at a path of the API."""
        return fetch(self.url + path, headers={"Authorization": f"Bearer {self.token}"})

    def tell(self, verb: str, **arguments: Any) -> Any:
        """The result of a verb."""
        body = json.dumps(arguments).encode()
        return fetch(f"{self.control}/{verb}", data=body)["result"]

    def ask(self, what: str) -> Any:
        return fetch(f"{self.control}/{what}")


def fetch(url: str, **options: Any) -> Any:
    """The JSON of an answer; with ``data`` it is a POST."""
    request = urllib.request.Request(url, **options)  # noqa: S310  # an address of our own on loopback
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  # as above
        return json.load(answer)


def refusal(request: Any, *arguments: Any, **named: Any) -> tuple[int, Any]:
    """Status and JSON of an answer that is no success."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        request(*arguments, **named)
    with refused.value as answer:
        return answer.code, json.load(answer)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    """A server of three apps, and one that a manifest on its command line names."""
    (tmp_path / "app.yaml").write_text(APP)
    command = [
        sys.executable,
        "-m",
        "tests.fakes.apiserver",
        "--apps",
        "3",
        "--kubeconfig",
        str(tmp_path / "kubeconfig"),
    ]
    with subprocess.Popen(
        [*command, str(tmp_path / "app.yaml")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as program:
        try:
            assert program.stdout is not None
            start = json.loads(program.stdout.readline())
            config = yaml.safe_load((tmp_path / "kubeconfig").read_text())
            assert (start["event"], start["pid"]) == ("listening", program.pid)
            assert config["clusters"][0]["cluster"]["server"] == start["url"]
            token = (tmp_path / "kubeconfig.token").read_text()
            yield Process(start["url"], start["control"], token, program)
        finally:
            program.terminate()
            assert program.wait(10) == 0


def test_objects_come_from_the_command_line_and_through_the_control_port(process: Process) -> None:
    assert process.ask("report")["objects"]["services"] == 4

    assert process.tell("put", text=APP.replace("shop", "blog")) == 2
    process.tell("remove", kind="Service", namespace="shop", name="web")
    process.tell("load", count=2, start=3)

    names = [item["metadata"]["name"] for item in process.get("/api/v1/services")["items"]]
    assert names == ["app-00000", "app-00001", "app-00002", "app-00003", "app-00004", "web"]


def test_faults_are_laid_and_cleared(process: Process) -> None:
    process.tell("fault", action="status", code=429, retry_after=3, resource="services")
    code, answer = refusal(process.get, "/api/v1/services")
    assert (code, answer["reason"]) == (429, "TooManyRequests")

    process.tell("clear-faults")
    assert len(process.get("/api/v1/services")["items"]) == 4


def test_the_control_port_answers_while_the_api_is_down(process: Process) -> None:
    process.tell("down")
    with pytest.raises(urllib.error.URLError):
        process.get("/api/v1/services")
    assert process.ask("report")["down"] is True

    process.tell("up")
    assert len(process.get("/api/v1/services")["items"]) == 4


def test_churn_goes_on_until_it_is_stopped(process: Process) -> None:
    before = process.ask("report")["version"]
    process.tell("churn", rate=200)
    while process.ask("report")["churned"] < 20:
        pass
    process.tell("stop-churn")

    report = process.ask("report")
    assert report["version"] - before == report["churned"] >= 20
    assert process.ask("report")["version"] == report["version"]


def test_the_audit_can_be_asked_for(process: Process) -> None:
    process.get("/api/v1/namespaces/shop/secrets/web-cert")

    record = process.ask("audit")[-1]
    assert (record["verb"], record["resource"], record["name"], record["code"]) == ("get", "secrets", "web-cert", 200)
    assert process.tell("foreign-secret-reads", allowed=[["shop", "web-cert"]]) == []
    assert len(process.tell("foreign-secret-reads", allowed=[])) == 1


def test_what_the_control_port_does_not_understand_is_said(process: Process) -> None:
    assert refusal(process.tell, "explode")[0] == 404
    nonsense: dict[str, dict[str, Any]] = {
        "fault": {"action": "explode"},
        "load": {"many": 1},
        "put": {"text": "kind: Pod"},
    }
    for verb, arguments in nonsense.items():
        code, answer = refusal(process.tell, verb, **arguments)
        assert code == 400
        assert answer["error"]
