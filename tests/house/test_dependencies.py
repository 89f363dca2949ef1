"""docs/dependencies.md names every dependency, why it is there and where it is used, and nothing else."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DIRECTORIES = {"benchmarks", "docs", "examples", "proxy", "router", "tests", "tls"}
OURS = {"benchmarks", "docs", "drycc_proxy", "drycc_router", "drycc_tls", "examples", "tests"}
"""Names under which modules of the directories are imported."""

PAGE = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
ROWS = {
    name: re.findall(r"`([^`]+)`", places)
    for name, _, places in re.findall(r"^\| `([\w-]+)` \| ([^|]*) \| ([^|]*) \|", PAGE, re.MULTILINE)
}
"""Package → where the page says that it is used."""

PART_OF = {"grimp": "import-linter"}
"""Module of a package that we do not name ourselves → the dependency that it is a part of."""

COMMANDS = {
    "helm-python-sdk": "helm_python",
    "import-linter": "lint-imports",
    "pytest-timeout": "timeout_method",
    "pytest-xdist": "--numprocesses",
    "types-PyYAML": "types-PyYAML",
}
"""Package → the word by which a file that is not Python uses it, where that is not its name."""


def named(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~\[; ]", requirement)[0] for requirement in requirements}


RUNTIME = named(PROJECT["project"]["dependencies"])
DEVELOPMENT = named(PROJECT["project"]["optional-dependencies"]["dev"])


def imports(module: Path) -> Iterator[str]:
    """The top names of what a module imports from others."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def normal(name: str) -> str:
    """A package's name as PyPI compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def importers() -> dict[str, set[str]]:
    """Package → the modules of ours that import it."""
    packages = {name: {normal(package) for package in found} for name, found in packages_distributions().items()}
    known = {normal(name): name for name in ROWS}
    found = defaultdict(set)
    for module in sorted(path for top in DIRECTORIES for path in (ROOT / top).rglob("*.py")):
        where = str(module.relative_to(ROOT))
        for name in sorted({*imports(module)} - OURS - set(sys.stdlib_module_names)):
            candidates = packages.get(name, {normal(name)}) | ({PART_OF[name]} if name in PART_OF else set())
            which = [known[each] for each in candidates if each in known]
            assert which, f"{where} imports {name}, which is no dependency"
            found[which[0]].add(where)
    return found


def test_every_dependency_has_its_row_and_every_row_is_a_dependency() -> None:
    wanted = RUNTIME | DEVELOPMENT | named(PROJECT["build-system"]["requires"])
    assert set(ROWS) == wanted


@pytest.mark.parametrize("name", ROWS)
def test_it_is_used_where_the_page_says_and_nowhere_else(name: str) -> None:
    places = ROWS[name]
    assert places, "the page does not say where it is used"
    for place in places:
        path = ROOT / place
        assert path.exists(), place
        if place.endswith(("/", ".py")):
            word = COMMANDS.get(name, name)
            used = any(module.startswith(place) for module in importers().get(name, ()))
            assert used or (path.is_file() and word in path.read_text(encoding="utf-8")), place
        else:
            assert COMMANDS.get(name, name) in path.read_text(encoding="utf-8"), place
    elsewhere = {module for module in importers().get(name, ()) if not module.startswith(tuple(places))}
    if name in RUNTIME:
        elsewhere = {module for module in elsewhere if not module.startswith("tests/")}
    assert elsewhere == set(), "used where the page does not say"


@pytest.mark.parametrize("name", sorted(DEVELOPMENT))
def test_what_only_tests_need_is_not_needed_by_the_router(name: str) -> None:
    served = tuple(f"{package}/" for package in ("proxy", "router", "tls", "examples", "benchmarks", "docs"))
    assert not [module for module in importers().get(name, ()) if module.startswith(served)]


def test_requests_need_nothing_of_others() -> None:
    """As the page says: of the data plane only the git gateway imports anybody else's code."""
    users = {module for modules in importers().values() for module in modules if module.startswith("proxy/")}
    assert {module for module in users if not module.startswith("proxy/drycc_proxy/ssh/")} == set()
