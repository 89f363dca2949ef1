"""The rooms stand in order, and the linter that says so can be believed: every kind of breach is planted once."""

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
DIRECTORIES = ("router", "tls", "proxy")
PACKAGES = tuple(f"drycc_{directory}" for directory in DIRECTORIES)
CONTRACTS = {
    contract["id"]: contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
}


def located(module: str) -> str:
    """Where a module is, from the root of the repository; empty: it is none of ours."""
    for directory, package in zip(DIRECTORIES, PACKAGES, strict=True):
        if module.partition(".")[0] == package:
            path = f"{directory}/{module.replace('.', '/')}"
            return f"{path}/__init__.py" if (ROOT / path).is_dir() else f"{path}.py"
    return ""


BREACHES = {
    "packages": ("tls/drycc_tls/errors.py", "import drycc_proxy.errors"),
    "core-without-io": ("proxy/drycc_proxy/routing/definitions.py", "import time"),
    "one-door": ("router/drycc_router/publish/publisher.py", "import drycc_proxy.table"),
}
"""Contract → a line that breaks it, and where it is planted."""

for _id, _contract in CONTRACTS.items():
    if _contract["type"] == "layers" and _id not in BREACHES:
        # What stands lowest comes to know what stands highest.
        _roof, _ground = (_contract["layers"][end].split(" | ")[0] for end in (0, -1))
        BREACHES[_id] = (located(_ground), f"import {_roof}")


SHELLS = {
    "drycc_proxy.telemetry.log_sink": "writes to files and pipes, from a thread of its own",
    "drycc_proxy.ssh.config": "reads the directory it is given",
    "drycc_router.process.logs": "writes to standard error",
    "drycc_router.kubernetes.credentials": "reads files, and runs what they name to log in, through kubernetes_asyncio",
    "drycc_proxy.kernel.sandbox": "asks the kernel to refuse things to this process",
    "drycc_router.process.cpu": "reads what the control group of this process is allowed",
    "drycc_router.settings": "asks the file system about the directory it is given",
}
"""Modules that do I/O by other means than the contract names → which."""


def lint(directory: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the packages in ``directory`` under the contracts of pyproject.toml."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(str(directory / each) for each in DIRECTORIES)
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=50)


def test_the_contracts_hold() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_contract_is_put_to_the_test() -> None:
    assert set(CONTRACTS) == set(BREACHES)


@pytest.mark.parametrize("breach", BREACHES)
def test_a_planted_breach_is_caught(breach: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in DIRECTORIES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    path, line = BREACHES[breach]
    with (tmp_path / path).open("a", encoding="utf-8") as module:
        module.write(f"{line}\n")

    result = lint(tmp_path)

    assert result.returncode != 0
    assert f"{CONTRACTS[breach]['name']} BROKEN" in result.stdout
    assert path.partition("/")[2].removesuffix(".py").removesuffix("/__init__").replace("/", ".") in result.stdout


@pytest.fixture(scope="module")
def modules() -> dict[str, set[str]]:
    """Every module that is no package → all that it imports, directly or through others."""
    graph = grimp.build_graph(
        *PACKAGES, include_external_packages=True, exclude_type_checking_imports=False, cache_dir=None
    )
    ours = (name for name in graph.modules if located(name).endswith(f"{name.rpartition('.')[2]}.py"))
    return {name: graph.find_upstream_modules(name) for name in ours}


def test_every_module_stands_in_a_room(modules: dict[str, set[str]]) -> None:
    order = " ".join(layer for contract in CONTRACTS.values() for layer in contract.get("layers", ()))
    named = {word.strip("()") for word in order.split()}
    alone = {name for name in modules if sum(other.startswith(f"{name.rpartition('.')[0]}.") for other in modules) == 1}
    assert sorted(set(modules) - named - alone) == [], "give it its place in [tool.importlinter]"


def test_whoever_does_no_io_belongs_to_the_core(modules: dict[str, set[str]]) -> None:
    """The core is all that can be in it, so that a module leaves it by somebody's decision and never by the way."""
    core, io = CONTRACTS["core-without-io"]["source_modules"], CONTRACTS["core-without-io"]["forbidden_modules"]
    pure = {name for name, imported in modules.items() if imported.isdisjoint(io)}
    inside = {name for name in pure if any(name == each or name.startswith(f"{each}.") for each in core)}
    assert sorted(pure - inside - set(SHELLS)) == [], "name it in the contract `core-without-io`"
    assert sorted(set(SHELLS) - pure) == [], "no longer an exception"
