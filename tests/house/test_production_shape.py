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

PARTS = frozenset({"ClusterSource", "Gateway", "Publisher", "Reconciler"})
"""What a router in the test's own process is put together from."""
WITHOUT_A_REASON = {
    ("test_endings.py", "test_a_port_in_use_is_said_so_and_nothing_is_left_open"): (
        "a gateway that is asked for ports in use, and must leave nothing open"
    ),
}
"""Functions of ``tests/wire`` that make such a part, and have no ``alone`` to be told why: it is here."""
WITHOUT_WORKERS = {
    "test_exhaustion.py": "one process has all the descriptors that are to run out",
    "test_memory_limit.py": "one process has the memory that is judged",
}
"""Modules of ``tests/wire`` that start the program with ``--workers 0``, and why."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(call: ast.Call) -> str:
    """What is called, whatever it is an attribute of."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def asks_why(function: Function) -> bool:
    """Whether its callers must say ``alone``."""
    named = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    return any(argument.arg == "alone" and default is None for argument, default in named)


def makers(tree: ast.AST, within: tuple[Function, ...] = ()) -> Iterator[str]:
    """The outermost function around each call that makes a part of a router, unless one around it asks why."""
    for node in ast.iter_child_nodes(tree):
        inner = (*within, node) if isinstance(node, Function) else within
        if isinstance(node, ast.Call) and name_of(node) in PARTS and not any(map(asks_why, within)):
            yield within[0].name if within else ""
        yield from makers(node, inner)


def reasons(tree: ast.AST) -> Iterator[str]:
    """What is said as ``alone``; empty, if it is not written in the module."""
    written = {
        target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    passed_on = {
        id(call)
        for function in ast.walk(tree)
        if isinstance(function, Function) and asks_why(function)
        for call in ast.walk(function)
    }
    for call in ast.walk(tree):
        for keyword in call.keywords if isinstance(call, ast.Call) else ():
            if keyword.arg == "alone":
                value = keyword.value
                if isinstance(value, ast.Name) and value.id == "alone" and id(call) in passed_on:
                    continue  # its caller says it
                said = value.value if isinstance(value, ast.Constant) else written.get(getattr(value, "id", ""))
                yield said if isinstance(said, str) else ""


def is_a_sentence(reason: str) -> bool:
    return len(reason.split()) >= 3


def starts_without_workers(tree: ast.AST) -> bool:
    """Whether ``--workers 0`` is said, as two words behind each other, as one, or as an argument."""
    words = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    arguments = [keyword for node in ast.walk(tree) if isinstance(node, ast.Call) for keyword in node.keywords]
    return (
        any(first == "--workers" and second in ("0", 0) for first, second in pairwise(words))
        or "--workers=0" in words
        or any(
            each.arg == "workers" and isinstance(each.value, ast.Constant) and each.value.value == 0
            for each in arguments
        )
    )


def read(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("shape", [wired.wired, clustered.replica])
def test_who_asks_less_than_the_program_must_say_why(shape: Callable[..., Any]) -> None:
    alone = inspect.signature(shape).parameters["alone"]
    assert alone.kind is inspect.Parameter.KEYWORD_ONLY
    assert alone.default is inspect.Parameter.empty


def test_each_reason_is_a_sentence_of_its_caller() -> None:
    said = [(path.name, reason) for path in sorted(TESTS.rglob("test_*.py")) for reason in reasons(read(path))]
    assert len(said) > 20, "they are not found any more"
    assert [each for each in said if not is_a_sentence(each[1])] == []


def test_who_makes_a_router_in_the_process_of_the_test_asks_why_or_is_listed() -> None:
    found = {(path.name, name) for path in sorted(WIRE.glob("*.py")) for name in makers(read(path))}
    assert found == WITHOUT_A_REASON.keys()


def test_routers_without_workers_are_listed_with_their_reason() -> None:
    found = {path.name for path in sorted(WIRE.glob("*.py")) if starts_without_workers(read(path))}
    assert found == WITHOUT_WORKERS.keys()


def test_reasons_of_the_lists_are_sentences() -> None:
    assert all(map(is_a_sentence, (*WITHOUT_A_REASON.values(), *WITHOUT_WORKERS.values())))


# ── breaches, planted ─────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "source",
    [
        "def test_it():\n    async def story():\n        it = Gateway(loop)\n",
        "def test_it():\n    gateway.Gateway(loop)\n",
        "def test_it():\n    Reconciler(Compiler(own), Publisher(store, gateway))\n",
        "async def test_it(alone):\n    ClusterSource(api, own)\n",
        "async def test_it(*, alone='because it is so'):\n    Gateway(loop)\n",
    ],
)
def test_a_router_that_nobody_gave_a_reason_for_is_found(source: str) -> None:
    assert set(makers(ast.parse(source))) == {"test_it"}


def test_a_router_whose_maker_asks_why_is_none_of_them() -> None:
    assert list(makers(ast.parse("async def served(*, alone):\n    Gateway(loop)\n"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "wired(app, alone='')",
        "wired(app, alone='needs it')",
        "wired(app, alone=why())",
        "wired(app, alone=elsewhere)",
        "def story(alone):\n    wired(app, alone=alone)\n",
    ],
)
def test_a_reason_that_is_none_is_found(source: str) -> None:
    assert [is_a_sentence(reason) for reason in reasons(ast.parse(source))] == [False]


@pytest.mark.parametrize(
    "source", ["run('--workers', '0')", "run('--workers=0')", "installed(app, workers=0)", "['--workers', '0', *more]"]
)
def test_a_router_without_workers_is_found(source: str) -> None:
    assert starts_without_workers(ast.parse(source))
