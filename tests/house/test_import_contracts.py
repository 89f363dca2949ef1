"""The floors of the house hold, and the linter that says so can be believed: every kind of breach is planted once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("router", "tls", "proxy")
CONTRACTS = {
    contract["id"]: contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
}

BREACHES = {
    "packages": ("tls/errors.py", "import proxy.errors"),
    "floors-of-router": ("router/problems.py", "import router.compile"),
    "floors-of-proxy": ("proxy/routes.py", "import proxy.gateway"),
    "floors-of-tls": ("tls/names.py", "import tls.store"),
    "core-without-io": ("proxy/routes.py", "import time"),
    "one-door": ("router/publisher.py", "import proxy.live"),
}
"""Contract → a line that breaks it, and where it is planted."""


SHELLS = {
    "proxy.log_sink": "writes to files and pipes, from a thread of its own",
    "proxy.ssh.directory": "reads the directory it is given",
    "router.logs": "writes to standard error",
    "router.kubernetes.credentials": "reads files, and runs what they name to log in, through kubernetes_asyncio",
    "proxy.confinement": "asks the kernel to refuse things to this process",
    "router.processes.cores": "reads what the control group of this process is allowed",
    "router.settings": "asks the file system about the directory it is given",
}
"""Modules that do I/O by other means than the contract names → which."""


def lint(directory: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the packages in ``directory`` under the contracts of pyproject.toml."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=50)


def test_the_contracts_hold() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_contract_is_put_to_the_test() -> None:
    assert set(CONTRACTS) == set(BREACHES)


@pytest.mark.parametrize("breach", BREACHES)
def test_a_planted_breach_is_caught(breach: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    path, line = BREACHES[breach]
    with (tmp_path / path).open("a", encoding="utf-8") as module:
        module.write(f"{line}\n")

    result = lint(tmp_path)

    assert result.returncode != 0
    assert f"{CONTRACTS[breach]['name']} BROKEN" in result.stdout
    assert path.removesuffix(".py").replace("/", ".") in result.stdout


@pytest.fixture(scope="module")
def modules() -> dict[str, set[str]]:
    """Every module that is no package → all that it imports, directly or through others."""
    graph = grimp.build_graph(
        *PACKAGES, include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )
    ours = (name for name in graph.modules if (ROOT / f"{name.replace('.', '/')}.py").exists())
    return {name: graph.find_upstream_modules(name) for name in ours}


def test_every_module_stands_on_a_floor(modules: dict[str, set[str]]) -> None:
    floors = " ".join(layer for contract in CONTRACTS.values() for layer in contract.get("layers", ()))
    named = {word.strip("()") for word in floors.split()}
    assert sorted(set(modules) - named) == [], "give it its place in [tool.importlinter]"


def test_whoever_does_no_io_belongs_to_the_core(modules: dict[str, set[str]]) -> None:
    """The core is all that can be in it, so that a module leaves it by somebody's decision and never by the way."""
    core, io = CONTRACTS["core-without-io"]["source_modules"], CONTRACTS["core-without-io"]["forbidden_modules"]
    pure = {name for name, imported in modules.items() if imported.isdisjoint(io)}
    assert sorted(pure - set(core) - set(SHELLS)) == [], "name it in the contract `core-without-io`"
    assert sorted(set(SHELLS) - pure) == [], "no longer an exception"
