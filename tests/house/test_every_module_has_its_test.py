"""A module without a test file of its own cannot be merged; nor can an exception that is no longer needed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("router", "tls", "proxy")

ELSEWHERE: dict[str, str] = {}
"""Module → why it has no test file of its own."""


def only_words(module: Path) -> bool:
    """A module that holds nothing but a docstring and what it passes on from others has nothing to test."""
    passes_on = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
    body = ast.parse(module.read_text(encoding="utf-8")).body
    return all(isinstance(node, passes_on) or (isinstance(node, ast.Expr) and is_text(node.value)) for node in body)


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


MODULES = sorted(
    path.relative_to(ROOT)
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if not (path.name == "__init__.py" and only_words(path))
)


def its_test(module: Path) -> Path:
    directory, _, *rooms = module.parent.parts
    return ROOT.joinpath("tests", directory, *rooms, f"test_{module.stem.strip('_')}.py")


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_has_its_test(module: Path) -> None:
    wanted = its_test(module)
    if str(module) in ELSEWHERE:
        assert not wanted.exists(), f"{module} has its test now: take it out of ELSEWHERE"
    else:
        assert wanted.exists(), f"{module} wants {wanted.relative_to(ROOT)}"


def test_exceptions_name_modules_that_exist() -> None:
    assert set(ELSEWHERE) <= {str(module) for module in MODULES}
