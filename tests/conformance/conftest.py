"""One cluster for all tests of this directory, started by `make conformance` alone: the plain test run skips them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import building
from tests.conformance.cluster import Cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if not os.environ.get(building.ASKED):
        pytest.skip("not compared with a real API server: `make conformance` does that")
    with Cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path
