"""A merge patch is RFC 7396."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.apiserver.patches import merged


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": ["c"]}, {"a": ["c"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"a": "b"}, {"a": {"c": 1}}, {"a": {"c": 1}}),
    ],
)
def test_merging(target: Any, patch: Any, result: Any) -> None:
    before = repr(target)

    assert merged(target, patch) == result
    assert repr(target) == before, "the target is left alone"
