"""Every example of an annotation is read by the router, and every name that the documentation mentions exists: keys,
flags, chart values, metrics, Problems."""

from __future__ import annotations

import base64
import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.generate import PAGES as GENERATED
from drycc_proxy.errors import Failure, status_for
from drycc_router import cli
from drycc_router.check import compiled
from drycc_router.cli import _parser
from drycc_router.model.objects import ObjectKey
from drycc_router.model.problems import Problem, Reason
from drycc_router.settings import FIELDS as SETTINGS
from drycc_router.settings import read
from drycc_router.translate.annotations.reading import read_app, read_builder, read_router
from drycc_router.translate.annotations.schema import FIELDS, Place, known_keys
from examples.authority import Authority
from tests.charts.rendering import CHART, notes, rendered
from tests.docs.reading import PAGES, ROOT, blocks, prose

MISTAKES = {("connectTimeout", "soon"): Reason.BAD_VALUE, ("bodySize", "ten"): Reason.BAD_VALUE}
"""Examples that are there to be wrong."""


Reader = Callable[[ObjectKey, dict[str, str], None], tuple[Any, tuple[Problem, ...]]]
READERS: dict[Place, Reader] = {Place.APP: read_app, Place.ROUTER: read_router, Place.BUILDER: read_builder}


def read_one(key: str, text: str) -> list[Problem]:
    """What the router has against an example, on the first kind of object that has its key."""
    place = next(place for place in Place if key in known_keys(place))
    subject = ObjectKey("Service", "shop", "web")
    # One of these reads it, whatever it says: a value that needs another key beside it is no mistake of its own.
    _, problems = READERS[place](subject, {f"router.drycc.cc/{key}": text}, None)
    return [problem for problem in problems if not problem.is_note]


def files() -> list[Path]:
    """Everything that shows annotations to users."""
    return [*PAGES, CHART / "values.yaml", *sorted((ROOT / "examples" / "manifests").glob("*.yaml"))]


def examples() -> Iterator[tuple[str, str, str]]:
    """(where, key, value) of everything written as an annotation."""
    for path in files():
        text = path.read_text(encoding="utf-8")
        for found in re.finditer(
            r"router\.drycc\.cc/([\w.]+)(?:: |=)(\"[^\"]*\"|[^\s`#].*?)(?=`|$|\s{2,}|\))", text, re.M
        ):
            key, value = found.groups()
            if key != "routable":
                yield str(path.relative_to(ROOT)), key, str(yaml.safe_load(value) if value[:1] == '"' else value)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for keys, value in re.findall(r"^\| (`[^|]*`) \| (`[^|]*`) \| [^|]+ \|$", readme, re.MULTILINE):
        for key, example in pairs(re.findall("`([^`]+)`", keys), re.findall("`([^`]+)`", value)):
            yield "README.md", key, example


def pairs(keys: list[str], values: list[str]) -> Iterator[tuple[str, str]]:
    """A row's keys with their examples: one for all of them, or one for each."""
    assert len(values) in (1, len(keys))
    yield from zip(keys, values * (len(keys) // len(values)), strict=True)


EXAMPLES = sorted(set(examples()))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 25
    assert {key for _, key, _ in EXAMPLES} >= {"domains", "certificates", "tcpPorts", "httpsPort", "proxyRealIpCidrs"}


@pytest.mark.parametrize(("where", "key", "value"), EXAMPLES)
def test_the_router_reads_every_example(where: str, key: str, value: str) -> None:
    found = read_one(key, value)
    expected = MISTAKES.get((key, value))
    assert [problem.reason for problem in found] == ([expected] if expected else [])


@pytest.mark.parametrize("block", [block for block in blocks() if block.language == "yaml"], ids=lambda each: each.page)
def test_objects_that_are_shown_are_routed(block: Any, tmp_path: Path) -> None:
    shown = list(yaml.safe_load_all(block.text))
    secrets = []
    for each in shown:
        for mapping in each["metadata"]["annotations"].get("router.drycc.cc/certificates", "").split(","):
            name, secret = (part.strip() for part in mapping.split(":"))
            data = {key: base64.b64encode(pem).decode() for key, pem in Authority().issue(name).secret_data().items()}
            about = {"namespace": each["metadata"]["namespace"], "name": f"{secret}-cert"}
            secrets.append({"apiVersion": "v1", "kind": "Secret", "metadata": about, "data": data})
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all([*shown, *secrets]), encoding="utf-8")
    snapshot = compiled(tmp_path, "drycc")
    assert [str(problem) for problem in snapshot.problems] == []
    assert len(snapshot.apps) == len(shown)


def test_what_the_chart_suggests_in_comments_can_be_written() -> None:
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    suggested = re.findall(r"^(\w+): \{\}\n((?:#  .*\n)+)", text, re.MULTILINE)
    assert [name for name, _ in suggested] == ["routerAnnotations", "tcpPorts"]
    for name, lines in suggested:
        values = yaml.safe_load(re.sub("^#  ", "", lines, flags=re.MULTILINE))
        deployment = rendered({name: {str(key): value for key, value in values.items()}}).one("Deployment")
        annotations = deployment["metadata"]["annotations"]
        _, problems = read_router(ObjectKey("Deployment", "drycc", "drycc-router"), annotations, None)
        assert [str(problem) for problem in problems] == []


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

KEYS = {name for place in Place for name in known_keys(place)}


@pytest.mark.parametrize("path", [*files(), CHART / "templates" / "NOTES.txt"], ids=lambda each: each.name)
def test_every_key_that_is_shown_under_our_prefix_exists(path: Path) -> None:
    text = notes({}) if path.name == "NOTES.txt" else path.read_text(encoding="utf-8")
    shown = set(re.findall(r"router\.(?:drycc\.cc|deis\.io)/([A-Za-z][\w.]*\w)", text))
    assert shown <= KEYS | {"routable"}


CAMEL = re.compile(r"`([a-z]+(?:\.[a-z]+)*\.?[a-z]*[A-Z][A-Za-z.]*)(?:: [^`]*)?`")

OF_KUBERNETES = {
    "eventTime",
    "pathType",
    "externalTrafficPolicy",
    "preStop",
    "renewTime",
    "resourceVersion",
    "secretName",
    "sendInitialEvents",
    "spec.defaultBackend",
    "terminationGracePeriodSeconds",
    "timeoutSeconds",
}
"""Fields and parameters of Kubernetes."""
OF_AN_OLD_CHART = {"service.nodePort.http", "service.nodePort.healthz"}
"""Values of the chart that one comes from."""


@cache
def chart_values() -> set[str]:
    """Paths of all values, and of what is above them."""
    found: set[str] = set()

    def walk(values: dict[str, Any], path: str) -> None:
        for key, value in values.items():
            found.add(f"{path}{key}")
            if isinstance(value, dict):
                walk(value, f"{path}{key}.")

    walk(yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")), "")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda each: each.name)
def test_every_key_or_value_that_prose_names_exists(page: Path) -> None:
    if page.parent.name == "benchmarks":
        return  # which names settings of other proxies
    named = set(CAMEL.findall(prose(page)))
    values = chart_values()
    annotated = {f"routerAnnotations.{field.key}" for field in FIELDS if field.place is Place.ROUTER}
    unknown = named - KEYS - values - annotated - OF_KUBERNETES
    assert unknown == (OF_AN_OLD_CHART if page.name == "migration.md" else set())


@pytest.mark.parametrize("page", PAGES, ids=lambda each: each.name)
def test_every_value_of_the_chart_that_prose_names_exists(page: Path) -> None:
    sections = {path.partition(".")[0] for path in chart_values() if "." in path}
    named = {
        name
        for name in re.findall(r"`([a-z]\w+(?:\.\w+)+)(?:: [^`]*|=[^`]*)?`", prose(page), re.IGNORECASE)
        if name.partition(".")[0] in sections
    }
    annotations = {f"routerAnnotations.{field.key}" for field in FIELDS if field.place is Place.ROUTER}
    assert named <= chart_values() | annotations | (OF_AN_OLD_CHART if page.name == "migration.md" else set())


def flags() -> set[str]:
    """Of every command."""
    commands = next(action for action in _parser()._actions if action.dest == "command")
    assert isinstance(commands.choices, dict)
    return {
        word for parser in commands.choices.values() for action in parser._actions for word in action.option_strings
    }


OTHER_FLAGS = {
    "--default-ssl-certificate": "ingress-nginx",
    "--watch-namespace": "ingress-nginx",
    "--set": "Helm",
    "--values": "Helm",
    "--minutes": "make fuzz",
    "--only": "python -m benchmarks",
    "--pdb": "pytest",
    "--lf": "pytest",
    "--ff": "pytest",
}
"""Flags of other programs that prose names alone → whose they are."""


REASONS = {reason.value for reason in Reason} | {failure.value for failure in Failure}


@pytest.mark.parametrize("page", PAGES, ids=lambda each: each.name)
def test_every_flag_that_prose_names_exists(page: Path) -> None:
    if page.parent.name == "benchmarks":
        return  # which has a parser of its own, tested there
    spans = re.findall(r"`(--[a-z][^`]*)`", prose(page))
    named = {span.split()[0].partition("=")[0] for span in spans}
    assert named <= flags() | OTHER_FLAGS.keys()


def test_the_environment_that_prose_names_is_read() -> None:
    variables = {name for field in SETTINGS for name in field.variables}
    for page in PAGES:
        for name in re.findall(r"DRYCC_ROUTER_[A-Z_]*[A-Z]", page.read_text(encoding="utf-8")):
            assert name in variables, f"{page.name}: {name}"


def test_every_metric_that_prose_names_is_counted() -> None:
    source = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "router" / "drycc_router" / "admin").glob("*.py")
    )
    counted = set(re.findall(r'"(router_\w+)"', source))
    for page in PAGES:
        for name in re.findall(r"`(router_\w+)", page.read_text(encoding="utf-8")):
            bare = re.sub(r"_(?:total|bucket|sum|count)$", "", name)
            assert {name, bare} & counted or name in REASONS, f"{page.name}: {name}"


def test_every_reason_that_prose_names_exists() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"`([a-z]+_[a-z_]+)`(?= Problem)|\(a `([a-z]+_[a-z_]+)`|[345]\d\d `([a-z]+_[a-z_]+)`", text)
        for name in (found for match in named for found in match if found):
            assert name in REASONS, f"{page.name}: {name}"


def test_every_status_that_is_told_with_a_reason_is_its_status() -> None:
    by_name = {failure.value: failure for failure in Failure}
    told = 0
    for page in PAGES:
        for status, name in re.findall(r"\b([345]\d\d) `([a-z_]+)`", page.read_text(encoding="utf-8")):
            failure = by_name[name]
            assert int(status) in {status_for(failure, b"GET"), status_for(failure, b"POST")}, f"{page.name}: {name}"
            told += 1
    assert told > 40


# ── tables ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of the first table under a heading that begins so, without its head."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = text.split(f"\n{heading}", 1)[1]
    lines = section[section.index("\n|") + 1 :].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


SPELT = {"any": "0", "what the open files have room for": "0"}


def test_the_limits_have_the_defaults_of_their_keys() -> None:
    keys = known_keys(Place.ROUTER)
    compared = 0
    for _, default, set_by, _ in table("operations.md", "## Limits"):
        for key in re.findall("`([^`]+)`", set_by)[:1]:
            assert SPELT.get(default, default) == keys[key].default, key
            compared += 1
    assert compared == 7


def test_the_builders_keys_have_their_defaults() -> None:
    keys = known_keys(Place.BUILDER)
    rows = table("operations.md", "## Streams")
    told: dict[str, str] = {}
    for names, defaults, _ in rows:
        told.update(zip(re.findall("`([^`]+)`", names), defaults.split(", "), strict=True))
    assert {key: None if said == "none" else said for key, said in told.items()} == {
        key: field.default for key, field in keys.items()
    }


def test_the_ports_are_those_of_the_settings_and_of_the_chart() -> None:
    settings = read({}, {}, needs_source=False)
    told = {int(port): purpose.split()[0].rstrip(":") for port, purpose, _ in table("operations.md", "## Ports")}
    assert told == {
        settings.http_port: "http",
        settings.https_port: "https",
        settings.admin_port: "admin",
        settings.git_port: "git",
    }
    assert {port["name"]: port["containerPort"] for port in rendered().container()["ports"]} == {
        purpose: port for port, purpose in told.items()
    }


def test_the_exit_statuses_are_those_of_the_program() -> None:
    told = [status for status, _ in table("operations.md", "## Starting")]
    docstring = cli.__doc__ or ""
    assert told == re.findall(r"^    (128 \+ n|\d+) ", docstring, re.MULTILINE)
    assert {int(status) for status in told if status.isdigit()} >= {cli.USAGE, cli.SOFTWARE, cli.OSERR}


ROOMS = {"router": "rooms-of-router", "proxy": "rooms-of-proxy"}
"""Directory → the contract that has the order of its rooms."""


@pytest.mark.parametrize("directory", ROOMS)
def test_the_rooms_of_the_page_are_those_of_the_tree_and_stand_in_its_order(directory: str) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = text.split(f"| `{directory}/drycc_{directory}/` | answers for |\n|---|---|\n", 1)[1].split("\n\n", 1)[0]
    told = [re.findall(r"`(\w+)/?`", row.split(" | ")[0]) for row in rows.splitlines()]
    package = ROOT / directory / f"drycc_{directory}"
    there = {path.stem for path in package.glob("*.py")} | {path.parent.name for path in package.glob("*/__init__.py")}
    assert {room for row in told for room in row} == there - {"__init__"}

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {contract["id"]: contract for contract in project["tool"]["importlinter"]["contracts"]}
    layers = [re.findall(r"\.(\w+)", layer) for layer in contracts[ROOMS[directory]]["layers"]]
    # A row of the page may join neighbouring layers; it changes nothing of their order.
    height = {room: number for number, layer in enumerate(layers) for room in layer}
    heights = [[height[room] for room in row] for row in told]
    assert all(max(upper) <= min(lower) for upper, lower in pairwise(heights))


def test_the_ten_questions_lead_to_files_that_exist() -> None:
    answers = [cells[1].strip("`") for cells in table("architecture.md", "## Ten questions")]
    assert len(answers) == 10
    assert [answer for answer in answers if not (ROOT / answer).is_file()] == []


def test_pages_that_are_generated_say_so() -> None:
    for name in GENERATED:
        assert (ROOT / "docs" / name).read_text(encoding="utf-8").startswith("<!-- Made by `make docs` from ")
