"""Exit statuses and what is printed, as a child process and in this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from drycc_router import __version__
from drycc_router.cli import main

SERVICE = """
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: shop
  labels: {router.drycc.cc/routable: "true"}
  annotations: {router.drycc.cc/domains: web}
spec: {ports: [{name: http, port: 80}]}
"""


BARE = {
    name: text for name, text in os.environ.items() if not name.startswith("DRYCC_ROUTER_") and name != "POD_NAMESPACE"
}


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("DRYCC_ROUTER_") or name == "POD_NAMESPACE":
            monkeypatch.delenv(name)


def drycc_router(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "drycc_router", *arguments], capture_output=True, text=True, timeout=50
    )


def test_check_of_a_clean_directory_is_0(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SERVICE)
    done = drycc_router("check", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "shop/web" in done.stdout


def test_check_with_problems_is_1(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SERVICE + "---\nkind: Service\n")
    done = drycc_router("check", str(tmp_path), "--format", "json")
    assert (done.returncode, done.stderr) == (1, "")
    assert [problem["reason"] for problem in json.loads(done.stdout)["problems"]] == ["bad_object"]


@pytest.mark.parametrize("output", ["text", "json", "lines"])
def test_who_stops_reading_what_check_prints_sees_no_traceback(tmp_path: Path, output: str) -> None:
    """As ``check … | head`` and ``| grep -q`` do. The exit status still says what was found."""
    (tmp_path / "a.yaml").write_text(SERVICE + "---\nkind: Service\n")
    assert told_to_nobody("check", "--output", output, str(tmp_path)) == (1, "")


def test_who_stops_reading_what_rbac_prints_sees_no_traceback() -> None:
    assert told_to_nobody("rbac") == (0, "")


@pytest.mark.parametrize("wrong", ["A B", "shop;blog", "Watched"])
def test_rights_to_secrets_of_impossible_namespaces_are_64(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rbac", "--secrets", wrong]) == 64
    told = capsys.readouterr()
    expected = "watched, named, none, or names of namespaces, separated by commas"
    assert (told.out, told.err) == ("", f"drycc-router rbac: --secrets: expected {expected}, not {wrong!r}\n")


def told_to_nobody(*arguments: str) -> tuple[int, str]:
    """Run a command whose stdout is a pipe without a reader; its exit status and what it wrote to stderr."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "drycc_router", *arguments]
    try:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=50, env=BARE)
    finally:
        os.close(writing)
    return done.returncode, done.stderr


def test_check_of_nothing_is_2(tmp_path: Path) -> None:
    done = drycc_router("check", str(tmp_path / "missing"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("drycc-router check: PATH: expected a directory or a file that can be read, not ")


def test_check_sees_what_run_would_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same flags and variables say where the manifests are and what the router's own objects are called."""
    bad = {"router.drycc.cc/maxHeaders": "many"}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment"}
    deployment["metadata"] = {"name": "edge", "namespace": "ours", "annotations": bad}  # type: ignore[assignment] # JSON
    (tmp_path / "a.yaml").write_text(SERVICE + "---\n" + json.dumps(deployment))
    assert main(["check", str(tmp_path)]) == 0
    assert main(["check", str(tmp_path), "--name", "edge", "--namespace", "ours"]) == 1
    monkeypatch.setenv("DRYCC_ROUTER_MANIFESTS", str(tmp_path))
    monkeypatch.setenv("DRYCC_ROUTER_NAME", "edge")
    monkeypatch.setenv("POD_NAMESPACE", "ours")
    monkeypatch.setenv("DRYCC_ROUTER_KUBECONFIG", str(tmp_path / "a.yaml"))
    monkeypatch.setenv("DRYCC_ROUTER_NAMES", "edge")
    capsys.readouterr()
    assert main(["check", "--output", "lines"]) == 1
    said = capsys.readouterr()
    assert said.out.startswith(
        f"{tmp_path}/a.yaml:11: error: Deployment ours/edge: router.drycc.cc/maxHeaders = 'many': "
    )
    assert (
        "DRYCC_ROUTER_NAMES in the environment: there is no such setting; did you mean DRYCC_ROUTER_NAME?" in said.err
    )
    taken = "router.drycc.cc/tcpPorts: '7000:shop/web'"
    (tmp_path / "a.yaml").write_text(
        f"{SERVICE}---\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: edge\n  namespace: ours\n"
        f"  annotations: {{{taken}}}\n"
    )
    assert main(["check"]) == 0
    assert main(["check", "--admin-port", "7000"]) == 1


def test_check_takes_files_and_the_standard_input(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SERVICE)
    (tmp_path / "b.txt").write_text(SERVICE.replace("name: web", "name: api").replace("domains: web", "domains: a_b"))
    command = [sys.executable, "-m", "drycc_router", "check", "-o", "lines"]
    files = [*command, "a.yaml", "b.txt"]
    done = subprocess.run(files, cwd=tmp_path, capture_output=True, text=True, timeout=50, env=BARE)
    assert (done.returncode, done.stderr) == (1, "")
    [line] = done.stdout.splitlines()
    assert line.startswith(
        "b.txt:8: error: Service shop/api: router.drycc.cc/domains = 'a_b': expected a name without an"
    )
    bad = SERVICE.replace("domains: web", "domains: *.web.example")
    done = subprocess.run([*command, "-"], input=bad, capture_output=True, text=True, timeout=50, env=BARE)
    assert done.returncode == 1
    assert "<stdin>:8: error: File <stdin>: line 8: write a value that begins with * in quotes" in done.stdout


def test_notes_are_no_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(SERVICE.replace("domains: web", "nginx.proxyBuffers.size: 4k"))
    assert main(["check", str(tmp_path)]) == 0
    assert "Notes:" in capsys.readouterr().out


def test_version() -> None:
    done = drycc_router("version")
    assert (done.returncode, done.stdout) == (0, f"drycc-router {__version__}\n")


def test_version_as_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert (exit_.value.code, capsys.readouterr().out) == (0, f"drycc-router {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "--manifests: expected a directory"),
        (
            ["run", "--manifests", "{dir}", "--http-port", "many"],
            "--http-port: expected a port, 0 to 65535, not 'many'",
        ),
        (["run", "--manifests", "{dir}", "--workers", "many"], "--workers: expected a number of processes"),
        (["run", "--no-such-flag"], "--no-such-flag"),
        (["check", "{dir}", "--namespace", "A B"], "--namespace: expected the name of a namespace"),
        (["check"], "PATH: expected a directory, a file, or -"),
        (["check", "{dir}", "--http-port", "many"], "--http-port: expected a port"),
        (["nonsense"], "nonsense"),
        ([], "COMMAND"),
    ],
)
def test_what_cannot_be_honoured_is_64(
    tmp_path: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status: object = main([argument.replace("{dir}", str(tmp_path)) for argument in arguments])
    except SystemExit as exit_:
        status = exit_.code
    assert status == 64
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""


def test_a_variable_that_cannot_be_honoured_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRYCC_ROUTER_ADMIN_PORT", "x")
    assert main(["run", "--manifests", str(tmp_path)]) == 64
    assert "DRYCC_ROUTER_ADMIN_PORT: expected a port" in capsys.readouterr().err


def test_help_tells_flag_variable_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["run", "--help"])
    assert exit_.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--http-port N port for http; 0 picks a free one [DRYCC_ROUTER_HTTP_PORT; default 8080]" in text


def test_the_rights_are_printed_for_kubectl(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rbac", "--watch-namespaces", "shop", "--name", "edge", "--account", "robot"]) == 0
    roles = list(yaml.safe_load_all(capsys.readouterr().out))
    assert {role["metadata"]["name"] for role in roles} == {"edge-own", "edge"}
    assert {role["subjects"][0]["name"] for role in roles if "subjects" in role} == {"robot"}


def test_the_rights_to_what_is_named_need_to_know_where_services_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rbac", "--secrets", "named"]) == 64
    assert "--manifests: expected a directory" in capsys.readouterr().err
    (tmp_path / "a.yaml").write_text(SERVICE.replace("domains: web", "certificates: 'a.example:own'"))
    assert main(["rbac", "--secrets", "named", "--manifests", str(tmp_path)]) == 0
    assert "own-cert" in capsys.readouterr().out
    nobody = {"server": "http://127.0.0.1:1"}
    config: dict[str, Any] = {"clusters": [{"name": "a", "cluster": nobody}], "users": [{"name": "a", "user": {}}]}
    config |= {"contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}], "current-context": "a"}
    (tmp_path / "config").write_text(json.dumps(config))
    assert main(["rbac", "--secrets", "named", "--kubeconfig", str(tmp_path / "config")]) == 2
    assert "the cluster cannot be asked" in capsys.readouterr().err
