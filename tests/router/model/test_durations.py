"""Lengths of time as people write them."""

from __future__ import annotations

import pytest

from drycc_router.model.durations import seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0.0),
        ("10", 10.0),
        ("1.5", 1.5),
        ("500ms", 0.5),
        ("30s", 30.0),
        ("1.5m", 90.0),
        ("2h", 7200.0),
        ("1d", 86400.0),
    ],
)
def test_a_time_is_seconds(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize(
    "text", ["", "s", "-1", "+1", "1_0", "1e3", "inf", "1 s", "1S", "1w", "1s ", "1" * 13, "\u0661s"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a time"):
        seconds(text)
