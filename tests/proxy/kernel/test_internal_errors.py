"""How a mistake of ours is told, and that no callback which the loop calls lets one out."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import logging
import pkgutil
import textwrap
from collections.abc import Iterator

import pytest

import drycc_proxy
from drycc_proxy.kernel.internal_errors import attempt, isolated, note
from drycc_proxy.metrics import Counters

CALLBACKS = (
    "connection_made",
    "data_received",
    "eof_received",
    "connection_lost",
    "pause_writing",
    "resume_writing",
    "get_buffer",
    "buffer_updated",
)
"""What a loop calls of a protocol."""
TELLS = ("attempt", "super", "note")
"""Functions that raise nothing."""


def broken() -> None:
    raise ValueError("a secret is in here")


class Part:
    def __init__(self) -> None:
        self.met: list[Exception] = []

    def fault(self, error: Exception) -> None:
        self.met.append(error)

    @isolated
    def overdue(self, now: float) -> bool:
        if now > 1:
            broken()
        return True


def test_what_a_callback_raises_goes_to_its_object_and_nowhere_else() -> None:
    part = Part()
    assert part.overdue(0) is True
    assert part.met == []
    assert part.overdue(2) is None
    assert [type(error) for error in part.met] == [ValueError]


def test_a_step_that_fails_is_counted_and_the_others_are_done() -> None:
    counters = Counters()
    done: list[int] = []
    attempt(counters, "client", done.append, 1)
    attempt(counters, "client", broken)
    attempt(counters, "tls", broken)
    attempt(counters, "client", done.append, 2)
    assert done == [1, 2]
    assert counters.faults == {"client": 1, "tls": 1}


def test_one_that_repeats_is_told_at_powers_of_ten_and_counted_each_time(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    counters = Counters()
    for _ in range(1000):
        try:
            int("x")
        except ValueError as error:
            note(counters, "app", error)
    assert counters.faults == {"app": 1000}
    assert [record.args[1] for record in caplog.records if isinstance(record.args, tuple)] == [1, 10, 100, 1000]


# ── every callback ────────────────────────────────────────────────────────────────────────────────────────────────────
def ours() -> Iterator[type]:
    """Every class of the data plane."""
    for module in pkgutil.walk_packages(drycc_proxy.__path__, "drycc_proxy."):
        if module.name.startswith("drycc_proxy.ssh"):
            continue  # a process of its own, and asyncssh's protocols
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if kind.__module__ == module.name:
                yield kind


EDGES = [
    pytest.param(vars(kind)[name], id=f"{kind.__name__}.{name}")
    for kind in ours()
    if issubclass(kind, asyncio.BaseProtocol)
    for name in (*CALLBACKS, "overdue")
    if name in vars(kind)
]


def lets_nothing_out(function: object) -> bool:
    """Isolated as a whole, or by a ``try`` around all of it that calls anything."""
    if hasattr(function, "__wrapped__"):
        return True
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(function))).body  # type: ignore[arg-type]  # a function
    assert isinstance(definition, ast.FunctionDef)
    return all(_is_safe(statement) for statement in definition.body)


def _is_safe(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Try):
        return any(isinstance(each.type, ast.Name) and each.type.id == "Exception" for each in statement.handlers)
    if isinstance(statement, ast.If):
        return all(_is_safe(each) for each in (*statement.body, *statement.orelse))
    calls = [node for node in ast.walk(statement) if isinstance(node, ast.Call)]
    return all(ast.unparse(call.func).split(".")[-1] in (*TELLS, "cast", "len", *CALLBACKS, "abort") for call in calls)


def test_there_are_callbacks() -> None:
    assert len(EDGES) > 30


@pytest.mark.parametrize("callback", EDGES)
def test_no_callback_lets_a_mistake_out(callback: object) -> None:
    assert lets_nothing_out(callback)
