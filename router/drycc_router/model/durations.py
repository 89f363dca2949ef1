"""How a length of time is written, in annotations and in flags alike: ``500ms``, ``30s``, ``1.5m``, ``2h``, ``7d``.

What must not enter: bounds, which differ, and what a time is for.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["seconds"]

_WRITTEN: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)(ms|s|m|h|d)?")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}


def seconds(text: str) -> float:
    """The time that ``text`` says, in seconds; a number without a unit is seconds.

    Raises:
        ValueError: it is not a time.
    """
    found = _WRITTEN.fullmatch(text)
    if not found:
        raise ValueError("expected a time")
    return float(found[1]) * _UNITS[found[2]]
