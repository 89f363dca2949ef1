"""Every command that README, the pages of docs/ and the chart's page show is carried out, or stands in a table with the
reason why it cannot be and with what is checked instead.

``curl`` and ``git push`` of the tour go to a demo that runs, with its ports in place of 8080, 8443 and 9090;
``drycc-router`` is the program; ``helm`` renders the chart; ``kubectl`` changes objects that the router then reads, and
what it asks for must be there. What must not enter: what a command does in detail, which other tests know.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from drycc_router.check import compiled
from drycc_router.claims.record import ENTRY
from drycc_router.cli import _parser
from drycc_router.settings import read
from drycc_router.translate.platform import GIVEN, OwnNames, read_given
from examples import demo
from examples.authority import Authority
from tests.charts.rendering import notes, rendered
from tests.docs.reading import ROOT, Block, Command, blocks, commands
from tests.fakes.apiserver.objects import deployment, endpoint_slice, service

COMMANDS = list(commands())
PATIENCE = 60.0
"""Seconds that one command may take on a busy machine."""


def test_there_is_something_to_carry_out() -> None:
    assert len([command for command in COMMANDS if command.fenced]) > 25


# ── what is not typed ─────────────────────────────────────────────────────────────────────────────────────────────────

NOT_TYPED = {
    ("docs/architecture.md", "starts, watches, ends"): "a diagram of processes",
    ("docs/install.md", "Events:"): "what kubectl describe prints: see test_the_event_that_is_shown",
    ("docs/operations.md", "# HAProxy"): "a load balancer's settings; the annotations beside them: see test_examples",
}
"""(page, how it begins) → why a block without a language is not there to be typed."""

LANGUAGES = {
    "promql": "tests/charts/test_observability.py evaluates the rules that the page is made from",
    "json": "see test_the_line_that_says_where_it_listens",
    "python": "see test_the_story_with_the_fake_api_server",
    "yaml": "see test_examples",
}


def test_every_block_is_typed_or_has_a_reason_not_to_be() -> None:
    left = dict(NOT_TYPED)
    for block in blocks():
        if block.is_typed or block.language in LANGUAGES:
            continue
        known = [key for key in left if block.page == key[0] and block.text.lstrip().startswith(key[1])]
        assert known, f"{block.page}: neither a command nor a reason: {block.text[:60]!r}"
        del left[known[0]]
    assert left == {}, "reasons for blocks that are gone"


def only(page: str, language: str = "", begins: str = "") -> Block:
    [block] = [
        block
        for block in blocks()
        if (block.page, block.language) == (page, language) and block.text.lstrip().startswith(begins)
    ]
    return block


# ── what cannot be carried out here ───────────────────────────────────────────────────────────────────────────────────

MAKE = {
    "bench": "takes half an hour: tests/benchmarks",
    "chart": "tests/charts renders what it packages",
    "check": "CI runs it beside the tests",
    "conformance": "CI runs it beside the tests",
    "docs": "tests/house compares every page with what it writes",
    "format": "rewrites this tree",
    "fuzz": "takes minutes: tests/fuzz",
    "image": "needs a registry: tests/charts/test_image.py",
    "lock": "asks PyPI",
    "run": "tests/examples/test_demo.py starts what it starts",
    "test": "is what runs this",
}
"""Verb → why it is not carried out. That make knows what to do is seen by ``make --dry-run``."""

REASONS = {
    "podman push registry.example.com/drycc-router:0.1.0": "the reader's own registry",
    "curl http://shop.apps.example.com/": "the reader's own domain",
    "curl --resolve shop.example.com:443:ADDRESS https://shop.example.com/": "the reader's own address",
    "git push ssh://git@drycc-builder.<domain>:2222/<app>.git": "the form of a command: tests/examples pushes",
    "kubectl get … > FILE": "part of a command, which tests/router/sources carries out in effect",
    "kubectl apply --dry-run=server": "part of a command, for a cluster's own validation",
    "kubectl annotate deployment drycc-router": "part of a command: tests/charts/test_chart.py reads annotations",
    "helm uninstall drycc-router --namespace drycc": "nothing is installed",
    "helm uninstall drycc-router --namespace edge": "nothing is installed",
    "python -m benchmarks": "takes half an hour: tests/benchmarks",
    "python -m benchmarks steps": "takes minutes: tests/fuzz/test_steps.py counts the same",
    "python -m benchmarks.lives --only scrape": "takes minutes: tests/benchmarks",
    "python -m benchmarks.streams": "takes minutes: tests/benchmarks",
    "python -m benchmarks.tunnels": "takes minutes: tests/benchmarks",
    "drycc-router run": "tests/wire starts it",
    "drycc-router run --manifests DIR": "tests/wire starts it",
}
"""Command → why it is not carried out."""


def test_reasons_are_for_commands_that_are_shown() -> None:
    shown = {part.strip() for command in COMMANDS for part in re.split("&&|[|]", command.text)}
    assert set(REASONS) <= shown | {"python -m benchmarks"}
    verbs = {command.words[1] for command in COMMANDS if command.program == "make"}
    assert verbs <= set(MAKE)


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_it_is_carried_out_or_has_a_reason_not_to_be(command: Command, places: Places) -> None:
    for part in re.split(r" && ", command.text):
        if part in REASONS:
            assert_named_parts_exist(part)
            continue
        single = Command(command.page, part, command.fenced)
        CARRIED_OUT[single.program](single, places)


def assert_named_parts_exist(text: str) -> None:
    """Of what is not carried out: a module that is run is there, a flag is one that the program has."""
    words = text.split()
    if words[:2] == ["python", "-m"]:
        name = words[2].replace(".", "/")
        assert (ROOT / f"{name}.py").exists() or (ROOT / name / "__main__.py").exists(), name
    if words[0] == "drycc-router":
        _parser().parse_args(words[1:])


# ── where things are ──────────────────────────────────────────────────────────────────────────────────────────────────


class Places:
    """What commands need, started or written when the first one asks for it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running: list[subprocess.Popen[str]] = []

    @cache  # noqa: B019 -- one for all tests of this module, which end with it
    def tour(self) -> tuple[Path, demo.Ports, str]:
        """A demo that runs: its directory, ports and invitation."""
        directory = self.directory / "demo"
        process = self.start([sys.executable, "examples/demo.py", "--free-ports", "--directory", str(directory)])
        assert process.stdout
        told = ""
        while "git push" not in told:
            line = process.stdout.readline()
            assert line, "the demo did not start"
            told += line
        http, https, admin = (int(port) for port in re.findall(r"^ {4}(?:http|https|admin) .*:(\d+)/", told, re.M))
        git = int(re.findall(r"@127\.0\.0\.1:(\d+)/", told)[0])
        return directory, demo.Ports(http, https, admin, git), told

    @cache  # noqa: B019 -- as above
    def cluster(self) -> tuple[Path, str]:
        """An API server of the tests' own: a kubeconfig, and the address of its control port."""
        (self.directory / "manifests.yaml").write_text(
            yaml.safe_dump_all([service("shop", "web", domains="shop.example")])
        )
        shown = next(command for command in COMMANDS if "tests.fakes.apiserver" in command.text)
        words = [word.replace("5000", "20") for word in shown.words[1:]]  # as many apps as are needed here
        process = self.start([sys.executable, *words], cwd=self.directory)
        assert process.stdout
        said = json.loads(process.stdout.readline())
        return self.directory / "kubeconfig", said["control"]

    def start(self, command: list[str], cwd: Path = ROOT) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command, cwd=cwd, env={"PYTHONPATH": str(ROOT), "PATH": PATH}, stdout=subprocess.PIPE, text=True
        )
        self.running.append(process)
        return process


PATH = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
"""The router's own programs come first."""


@pytest.fixture(scope="module")
def places() -> Iterator[Places]:
    with tempfile.TemporaryDirectory() as directory:
        found = Places(Path(directory))
        try:
            yield found
        finally:
            for process in found.running:
                process.terminate()
            for process in found.running:
                process.communicate(timeout=PATIENCE)


def run(text: str, cwd: Path = ROOT) -> str:
    """What bash makes of a command; fails if the command does."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=cwd,
        env={"PATH": PATH, "HOME": str(cwd), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, f"{text}: {done.stdout}{done.stderr}"
    return done.stdout


# ── make, mkdir, python, git, curl ────────────────────────────────────────────────────────────────────────────────────


def make(command: Command, _: Places) -> None:
    verb = command.words[1]
    assert verb in MAKE, "neither carried out nor a reason"
    planned = subprocess.run(
        ["make", "--dry-run", *command.words[1:], "ENGINE=podman"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert planned.returncode == 0, planned.stderr
    for word in command.words[2:]:
        value = word.partition("=")[2]
        assert value in planned.stdout, "make does nothing with it"
        if word.startswith("ARGS=tests/"):
            assert (ROOT / value.split()[0]).exists()
        if word == "ARGS=--anew":
            assert demo._options(["--anew"]).anew


def mkdir(command: Command, places: Places) -> None:
    empty = places.directory / "empty"
    empty.mkdir(exist_ok=True)
    run(command.text, empty)


def python(command: Command, places: Places) -> None:
    if command.words[2] == "tests.fakes.apiserver":
        kubeconfig, _ = places.cluster()
        assert kubeconfig.exists()
        return
    assert command.words[1:] == ["-m", "drycc_router"]
    assert "COMMAND" in run("python -m drycc_router --help")


def git(command: Command, places: Places) -> None:
    """The tour's, whose line the page shortens with dots; the whole one is carried out by tests/examples."""
    _, ports, told = places.tour()
    [whole] = [line.strip() for line in told.splitlines() if "git push" in line]
    directory = re.escape(str(places.directory / "demo"))
    shown = re.escape(command.text).replace(re.escape("..."), ".*").replace("2222", str(ports.git))
    assert re.fullmatch(shown.replace(re.escape(".demo"), directory), whole)


def curl(command: Command, places: Places) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl, with which the pages ask")
    if "PORT" in command.text:
        _, control = places.cluster()
        assert json.loads(run(command.text.replace("http://127.0.0.1:PORT", control).replace("1000", "10")))
        return
    directory, ports, _ = places.tour()
    text = command.text.replace(".demo/", f"{shlex.quote(str(directory))}/")
    for usual, chosen in ((8080, ports.http), (8443, ports.https), (9090, ports.admin)):
        text = text.replace(f"localhost:{usual}/", f"localhost:{chosen}/")
    assert text != command.text, "neither the tour's address nor a reason"
    heard = run(text.replace("curl ", "curl --silent --show-error --fail ", 1))
    if "localhost" in text and f":{ports.admin}/" in text:
        assert json.loads(heard)["generation"] > 0
    else:
        assert "Welcome to the shop" in heard


# ── drycc-router ──────────────────────────────────────────────────────────────────────────────────────────────────────


def drycc_router(command: Command, places: Places) -> None:
    """The first of a pipe: what the router prints for kubectl is YAML."""
    own, piped = command.text.removeprefix(".venv/bin/").partition(" | ")[::2]
    words = shlex.split(own)
    if words[1:] == ["run"]:
        return
    directory = places.directory / "check"
    shutil.copytree(ROOT / "examples" / "manifests", directory, dirs_exist_ok=True)
    if own == "drycc-router check":  # the name of the command, without what it is to look at
        words.append("DIR")
    if ".demo/manifests" in words:
        words[words.index(".demo/manifests")] = str(places.tour()[0] / "manifests")
    if "dump" in words:
        dump(places.directory / "dump")
    words = [str(directory) if word == "DIR" else word for word in words]
    if "--kubeconfig" in words:
        words[words.index("--kubeconfig") + 1] = str(places.cluster()[0])
    if words[1] == "rbac" and "--kubeconfig" not in words:
        words += ["--namespace", "drycc"]
    said = run(shlex.join(words), places.directory)
    if words[1] == "rbac":
        assert {document["kind"] for document in yaml.safe_load_all(said)} & {"ClusterRole", "Role"}
    if words[1] == "check":
        assert said == "" if "lines" in words else "STATE" in said  # nothing is wrong with the examples
    assert not piped or piped == "kubectl apply --filename -"


def dump(directory: Path) -> None:
    """What ``kubectl get --output yaml`` writes of a cluster."""
    directory.mkdir(exist_ok=True)
    items = [
        service("shop", "web", domains="shop"),
        endpoint_slice("shop", "web", ["10.0.0.1"]),
        deployment({"platformDomain": "apps.example"}, namespace="deis"),
    ]
    whole = {"apiVersion": "v1", "kind": "List", "items": items}
    (directory / "objects.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")


# ── helm ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def flags_of(words: list[str]) -> dict[str, list[str]]:
    """``--name value`` or ``--name=value`` → values."""
    found: dict[str, list[str]] = {}
    for index, word in enumerate(words):
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            following = words[index + 1] if index + 1 < len(words) and not words[index + 1].startswith("--") else ""
            found.setdefault(name, []).append(value if equals else following)
    return found


def helm(command: Command, _: Places) -> None:
    verb, release, chart, *rest = command.words[1:]
    assert (verb in ("install", "upgrade"), release, chart) == (True, "drycc-router", "charts/router")
    flags = flags_of(rest)
    assert flags.keys() <= {"--namespace", "--create-namespace", "--set", "--values", "--reuse-values"}
    values: dict[str, Any] = {}
    for name in flags.get("--values", []):
        if name != "mine.yaml":  # the reader's own
            values |= yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    for setting in flags.get("--set", []):
        path, value = setting.partition("=")[::2]
        inner = values
        *parents, last = path.split(".")
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = yaml.safe_load(value)
    objects = rendered(values)
    if "image" in values:
        assert values["image"]["repository"] in objects.container()["image"]


def test_the_values_files_that_pages_name_are_there_and_their_settings_render() -> None:
    for page in ("docs/install.md", "charts/README.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for name in re.findall(r"charts/router/[\w-]+\.yaml|(?<=\()router/[\w-]+\.yaml", text):
            assert (ROOT / "charts" / name.removeprefix("charts/")).exists(), name
    for setting in re.findall(r"`--set ([\w.]+=\w+)`", (ROOT / "docs" / "install.md").read_text(encoding="utf-8")):
        key, _, value = setting.partition("=")
        rendered({key: yaml.safe_load(value)})


# ── kubectl ───────────────────────────────────────────────────────────────────────────────────────────────────────────

MISTAKES = {"router.drycc.cc/bodySize=ten": "bad_value"}
"""What pages show as a mistake → its Problem."""

CHART = {"git": {"enabled": True}}


def kubectl(command: Command, places: Places) -> None:
    asked, _, piped = command.text.partition(" | ")
    asked, _, _ = asked.partition(" > ")
    words = [word for word in shlex.split(asked)[1:] if word]
    flags = flags_of(words)
    namespace = flags.get("--namespace", [""])[0]
    if "-n" in words:
        namespace = words[words.index("-n") + 1]
        del words[words.index("-n") : words.index("-n") + 2]
    values = {value for given in flags.values() for value in given}
    plain = [word for word in words if not word.startswith("--") and word not in values]
    verb, *rest = plain
    KUBECTL[verb](rest, namespace, words)
    if piped == "drycc-router check -":
        dump(places.directory / "dump")
        assert "shop/web" in run(f"{piped} < dump/objects.yaml", places.directory)
    elif piped:
        assert piped == "base64 -d | gunzip"
        text = base64.b64decode(base64.b64encode(gzip.compress(b"shop.example shop/web + 1\n")))
        assert gzip.decompress(text).startswith(b"shop")
        assert ENTRY == "v1"


def labels(rest: list[str], namespace: str, _: list[str]) -> None:
    kind, name, said = rest
    assert (kind, namespace, name) == ("service", "shop", "web")
    key, value = said.partition("=")[::2]
    labelled = service("shop", "web", domains="shop.example", routable=False)
    assert len(routes(labelled)) == 0
    labelled["metadata"]["labels"][key] = value
    assert len(routes(labelled)) == 1


def annotates(rest: list[str], namespace: str, _: list[str]) -> None:
    kind, name, said = rest
    assert (kind, namespace, name) == ("service", "shop", "web")
    key, value = said.partition("=")[::2]
    annotated = service("shop", "web", domains="shop,www.shop.example")
    annotated["metadata"]["annotations"][key] = value
    beside = []
    if key.endswith("/certificates"):
        secret = value.partition(":")[2]
        pair = Authority().issue("www.shop.example", "shop.apps.example")
        data = {entry: base64.b64encode(pem).decode() for entry, pem in pair.secret_data().items()}
        beside.append(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"namespace": "shop", "name": f"{secret}-cert"},
                "data": data,
            }
        )
        assert f"create secret tls {secret}-cert " in (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    found = [line for line in problems(annotated, *beside) if "domain_without_certificate" not in line]
    expected = MISTAKES.get(said)
    assert len(found) == bool(expected)
    assert not expected or f"[{expected}]" in found[0]


def creates(rest: list[str], namespace: str, words: list[str]) -> None:
    assert rest[:2] == ["secret", "tls"]
    assert namespace == "shop"
    assert {"--cert", "--key"} <= flags_of(words).keys()


def gets(rest: list[str], namespace: str, words: list[str]) -> None:
    kind, *names = rest
    if "," in kind:
        assert "--all-namespaces" in words
        assert kind.split(",") == ["services", "endpointslices", "deployments"]
        return
    kinds = {"service": "Service", "lease": "Lease", "configmap": "ConfigMap", "deployment": "Deployment"}
    assert namespace == "drycc"
    found = rendered(CHART).one(kinds[kind], names[0])
    if "-o" in words:
        path = re.findall(r"\{\.(\w+)\.(\w+)\}", words[words.index("-o") + 1])[0]
        assert path in {("spec", "holderIdentity"), ("data", ENTRY)}
        assert found["kind"] == ("Lease" if path[0] == "spec" else "ConfigMap")


def describes(rest: list[str], namespace: str, _: list[str]) -> None:
    assert (rest[0], namespace) == ("service", "shop")


def forwards(rest: list[str], namespace: str, _: list[str]) -> None:
    kind_and_name, port = rest
    assert namespace == "drycc"
    admin = rendered(CHART).one("Service", kind_and_name.removeprefix("service/"))
    assert int(port) in [each["port"] for each in admin["spec"]["ports"]]


def rolls_out(rest: list[str], namespace: str, _: list[str]) -> None:
    assert (rest[0], namespace) == ("status", "drycc")
    kind, name = rest[1].partition("/")[::2]
    kinds = {"deployment": "Deployment", "daemonset": "DaemonSet"}
    assert rendered({"kind": kinds[kind]}).one(kinds[kind], name)


def patches(rest: list[str], namespace: str, words: list[str]) -> None:
    kind, name = rest[:2]
    assert (kind, namespace, name) == ("configmap", "drycc", OwnNames().claims)
    patch = json.loads(words[words.index("-p") + 1])
    given, bad = read_given(patch["data"][GIVEN], "apps.example")
    assert given
    assert bad == []


KUBECTL: dict[str, Callable[[list[str], str, list[str]], None]] = {
    "annotate": annotates,
    "create": creates,
    "describe": describes,
    "get": gets,
    "label": labels,
    "patch": patches,
    "port-forward": forwards,
    "rollout": rolls_out,
}


@contextmanager
def directory_of(*objects: dict[str, Any]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "all.yaml").write_text(yaml.safe_dump_all(objects), encoding="utf-8")
        yield Path(directory)


def problems(*objects: dict[str, Any]) -> list[str]:
    """What the router has against them."""
    with directory_of(deployment({"platformDomain": "apps.example"}), *objects) as directory:
        return [str(problem) for problem in compiled(directory, "drycc").problems if not problem.is_note]


def routes(*objects: dict[str, Any]) -> list[object]:
    with directory_of(*objects) as directory:
        return list(compiled(directory, "drycc").apps)


CARRIED_OUT: dict[str, Callable[[Command, Places], None]] = {
    ".venv/bin/drycc-router": drycc_router,
    "curl": curl,
    "drycc-router": drycc_router,
    "git": git,
    "helm": helm,
    "kubectl": kubectl,
    "make": make,
    "mkdir": mkdir,
    "python": python,
}


# ── what is printed ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("values", [{}, {"kind": "DaemonSet"}], ids=str)
def test_what_the_chart_says_after_an_installation_can_be_typed(values: dict[str, Any], places: Places) -> None:
    text = notes(values).replace("NAMESPACE", "shop").replace("=NAME.", "=web.").replace(" NAME", " web")
    lines = [line.strip() for line in text.splitlines() if re.match(r" {2}(?:kubectl|curl) ", line)]
    assert len(lines) > 5
    for line in lines:
        if line.startswith("curl"):
            for url in line.split()[1:]:
                curl(Command("NOTES.txt", f"curl {url}", True), places)
        else:
            kubectl(Command("NOTES.txt", line, True), places)


def test_the_event_that_is_shown_is_what_the_mistake_says() -> None:
    [line] = [line for line in only("docs/install.md", begins="Events:").lines if "Warning" in line]
    annotated = service("shop", "web", domains="shop.example")
    annotated["metadata"]["annotations"]["router.drycc.cc/bodySize"] = "ten"
    [said] = [text for text in problems(annotated) if "bodySize" in text]
    message = said.removeprefix("Service shop/web: ").removesuffix(" [bad_value]")
    assert line == f"Warning BadValue 3s drycc-router {message}"


def test_the_line_that_says_where_it_listens() -> None:
    shown = json.loads(only("docs/operations.md", "json").text)
    source = (ROOT / "router" / "drycc_router" / "app.py").read_text(encoding="utf-8")
    assert list(shown) == ["event", "http", "https", "git", "admin", "pid", "version"]
    assert '"event": "listening"' in source
    settings = read({}, {}, needs_source=False)
    assert (shown["http"], shown["https"], shown["admin"]) == (
        settings.http_port,
        settings.https_port,
        settings.admin_port,
    )


def test_the_story_with_the_fake_api_server() -> None:
    story = only("docs/testing.md", "python").text
    names = ("FakeApiServer", "service", "endpoint_slice")
    imports = "\n".join(
        [
            "import asyncio",
            "from pathlib import Path",
            "from tests.fakes.apiserver.server import FakeApiServer",
            "from tests.fakes.apiserver.objects import service, endpoint_slice",
        ]
    )
    assert all(name in story for name in names)
    body = "\n".join(f"    {line}" for line in story.splitlines())
    with tempfile.TemporaryDirectory() as directory:
        script = f"{imports}\nasync def story(directory):\n{body}\nasyncio.run(story(Path({directory!r})))\n"
        run(f"python -c {shlex.quote(script)}")
        assert (Path(directory) / "kubeconfig").exists()
