"""Changing a document by a patch: the patch types of the API, as far as the fake has them.

A merge patch is RFC 7396. A strategic merge patch is taken as one too, so **lists are replaced whole**, where the real
server merges some of them by key: clients must not rely on either. An apply patch merges likewise and remembers no
owners, so fields that a manager no longer applies stay. JSON patches are refused as an unsupported type.
"""

from __future__ import annotations

from typing import Any

__all__ = ["APPLY", "MERGING", "merged"]

APPLY = "application/apply-patch+yaml"
MERGING = frozenset({"application/merge-patch+json", "application/strategic-merge-patch+json", APPLY})


def merged(target: Any, patch: Any) -> Any:
    """The result of RFC 7396, section 2, without touching either argument."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result
