"""Tests that speak through sockets ask the program with supervisor, control and workers; those that do not say why."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import clustered, wired

TESTS = Path(__file__).parents[1]
WIRE = TESTS / "wire"

GATEWAYS = {
    "test_streams.py": "limits of parts of a second and ports that the kernel chooses: no annotation asks for them",
    "test_endings.py": "a gateway that is asked for ports in use, and must leave nothing open",
}
"""Modules of ``tests/wire`` that make a ``Gateway`` themselves, and why."""
WITHOUT_WORKERS = {
    "test_exhaustion.py": "one process has all the descriptors that are to run out",
    "test_memory_limit.py": "one process has the memory that is judged",
}
"""Modules of ``tests/wire`` that start the program with ``--workers 0``, and why."""


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Each call of a plain name in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id, node


def starts_without_workers(path: Path) -> bool:
    """Whether ``--workers 0`` stands in a file, as two words behind each other."""
    words = [
        node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Constant)
    ]
    return any(first == "--workers" and second == "0" for first, second in pairwise(words))


@pytest.mark.parametrize("shape", [wired.wired, clustered.replica])
def test_who_asks_less_than_the_program_must_say_why(shape: Callable[..., Any]) -> None:
    alone = inspect.signature(shape).parameters["alone"]
    assert alone.kind is inspect.Parameter.KEYWORD_ONLY
    assert alone.default is inspect.Parameter.empty


def test_each_reason_is_a_sentence_of_its_caller() -> None:
    said = [
        (path.name, keyword.value)
        for path in TESTS.rglob("test_*.py")
        for name, call in calls(path)
        if name in ("wired", "replica")
        for keyword in call.keywords
        if keyword.arg == "alone"
    ]
    assert len(said) > 20, "they are not found any more"
    assert [
        name for name, value in said if not (isinstance(value, ast.Constant) and len(str(value.value).split()) >= 3)
    ] == []


def test_gateways_and_routers_without_workers_are_listed_with_their_reason() -> None:
    modules = sorted(WIRE.glob("test_*.py"))
    assert {path.name for path in modules if any(name == "Gateway" for name, _ in calls(path))} == GATEWAYS.keys()
    assert {path.name for path in modules if starts_without_workers(path)} == WITHOUT_WORKERS.keys()
