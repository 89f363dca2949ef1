"""Ends a test that hangs, in two steps, so that it fails under its name and the other tests still run.

At the test's limit (``timeout`` of pytest-timeout) a signal handler raises in the test: the test fails with its stack,
its fixtures are torn down, the process runs the next test. This does not end an event loop that waits in C, nor code
that catches what the handler raises. So at twice the limit faulthandler, in a thread that needs no lock of the
interpreter, writes all stacks and ends the process. pytest-xdist then reports the test that ran there as failed,
replaces the process and goes on. Without xdist (``PROCESSES=0``) the second step ends the session.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Generator
from typing import Any, Protocol

import pytest

STDERR = pytest.StashKey[int]()


class Settings(Protocol):
    """What pytest-timeout says about a test."""

    timeout: float


def pytest_configure(config: pytest.Config) -> None:
    config.stash[STDERR] = os.dup(2)  # output is not captured yet; while a test runs it is


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[STDERR])


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Settings) -> Generator[None, Any, Any]:
    faulthandler.dump_traceback_later(2 * settings.timeout, exit=True, file=item.config.stash[STDERR])
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_timeout_cancel_timer() -> Generator[None, Any, Any]:
    faulthandler.cancel_dump_traceback_later()
    return (yield)
