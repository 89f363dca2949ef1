"""One class name, one thing: a reader who meets a name need not ask which of two it is."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]


def doubled(files: dict[str, str]) -> dict[str, list[str]]:
    """Class names that stand in more than one place → where. A leading underscore makes no other name."""
    places = defaultdict(list)
    for path, source in files.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef):
                places[node.name.strip("_")].append(f"{path}:{node.lineno}")
    return {name: found for name, found in places.items() if len(found) > 1}


def test_no_name_stands_twice() -> None:
    files = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for directory in ("router", "proxy", "tls")
        for path in sorted((ROOT / directory).rglob("*.py"))
    }
    assert len(files) > 100
    assert doubled(files) == {}


def test_a_name_that_stands_twice_is_found() -> None:
    files = {"a.py": "class Port: ...\n", "b.py": "class Other:\n    class _Port: ...\n", "c.py": "class Ports: ...\n"}
    assert doubled(files) == {"Port": ["a.py:1", "b.py:2"]}
