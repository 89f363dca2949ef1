"""Where in the text of a manifest things stand: object and path → line. For people who look for a Problem's cause.

Text that ``documents`` has read is gone through a second time, for nothing but lines; a router that serves does not do
that. Composing YAML's nodes is safe here: depth was bounded when the text was read.

What must not enter: files, and what anything means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, TypeAlias

import yaml

from drycc_router.model.objects import PREFIXES, ObjectKey
from drycc_router.sources.manifest_objects import items, named
from drycc_router.sources.yaml_documents import LOADER, Document, DocumentError, read_json, read_yaml, without_json

__all__ = ["Object", "objects_in"]

Path: TypeAlias = "tuple[str | int, ...]"

MAX_PATHS: Final = 200_000
"""Paths of one document whose lines are kept: what nested aliases stand for can be more than anybody wrote."""
_SIGN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+|\n')
_STEP: Final = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")


class Object:
    """One object of a text: what it is, its document's value, and the lines of its parts."""

    __slots__ = ("_base", "_lines", "document", "key", "line", "value")

    def __init__(
        self, key: ObjectKey | None, value: object, line: int, document: int, lines: dict[Path, int], base: Path
    ) -> None:
        self.document = document
        """Where its document begins."""
        self.key = key
        """None: it is none that the router reads."""
        self.value = value
        self.line = line
        """Where it begins, from 1."""
        self._lines = lines
        self._base = base

    def line_in_document(self, path: str) -> int:
        """As :meth:`line_of`, of a path that begins at the document, such as ``items[0].metadata``."""
        return self._line_of(path, self.document, ())

    def line_of(self, path: str) -> int:
        """The line of a part, as Problems name it: an annotation or a label, or a path such as ``spec.ports[0].port``;
        of what is not there, the line of the closest part around it."""
        return self._line_of(path, self.line, self._base)

    def _line_of(self, path: str, best: int, base: Path) -> int:
        depth = 0
        for candidate in _candidates(path):
            steps = len(candidate)
            while steps > depth:
                found = self._lines.get(base + candidate[:steps])
                if found is not None:
                    best, depth = found, steps
                    break
                steps -= 1
        return best

    def end_of(self, line: int) -> int:
        """The line on which the next part begins after the one that begins on ``line``."""
        return min((each for each in self._lines.values() if each > line), default=line + 1000)


def _candidates(path: str) -> Iterator[Path]:
    """What a Problem's key may mean."""
    if path.startswith(PREFIXES):
        yield "metadata", "annotations", path
        yield "metadata", "labels", path
        return
    if path.startswith("tls."):
        yield "data", path
        yield "stringData", path
        return
    steps: Path = tuple(
        (int(inner) if inner.isdigit() else inner) if word == "" else word for inner, word in _STEP.findall(path)
    )
    yield steps
    if steps[:1] == ("data",):
        yield ("stringData", *steps[1:])


def objects_in(text: str, *, is_json: bool) -> list[Object]:
    """Every object of a text, in order. A text that cannot be read has none."""
    try:
        documents = read_json(text) if is_json else read_yaml(text)
        places = _in_json(text, 1) if is_json else _in_yaml(text)
    except (DocumentError, yaml.YAMLError, StopIteration):
        return []
    found = []
    for (line, value), lines in _paired(documents, places):
        for number, (path, item) in enumerate(items(value)):
            base: Path = ("items", number) if path else ()
            known = named(item)
            found.append(Object(known[0] if known else None, item, lines.get(base, line), line, lines, base))
    return found


def _paired(
    documents: list[Document], places: dict[int, dict[Path, int]]
) -> Iterator[tuple[Document, dict[Path, int]]]:
    for document in documents:
        yield document, places.get(document[0], {})


def _in_yaml(text: str) -> dict[int, dict[Path, int]]:
    """The lines of each document, by the line on which it begins."""
    rest, as_json = without_json(text)
    found = {}
    for node in yaml.compose_all(rest, Loader=LOADER):
        if node is not None:
            lines: dict[Path, int] = {}
            _walk(node, (), lines)
            found[node.start_mark.line + 1] = lines
    if as_json:
        rows = text.split("\n")
        for line, _ in as_json:
            found |= _in_json("\n".join(rows[line - 1 :]), line)
    return found


def _walk(node: yaml.Node, path: Path, lines: dict[Path, int]) -> None:
    if len(lines) >= MAX_PATHS:
        return
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, key.value)
            lines[inner] = key.start_mark.line + 1
            _walk(value, inner, lines)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            _walk(value, (*path, number), lines)


def _in_json(text: str, line: int) -> dict[int, dict[Path, int]]:
    """The same for JSON whose first line is ``line``: the documents that follow each other."""
    found: dict[int, dict[Path, int]] = {}
    lines: dict[Path, int] = {}
    path: list[str | int] = []
    inside: list[str] = []
    is_key = False
    for match in _SIGN.finditer(text):
        sign = match[0]
        if sign == "\n":
            line += 1
            continue
        if sign == "---" and not inside:  # the end of a document of a YAML stream
            break
        if not inside:
            lines = found.setdefault(line, {})
        if sign in "}]":
            inside.pop()
            path.pop()
            is_key = False
            continue
        if sign == ",":
            if inside[-1] == "[":
                path[-1] = int(path[-1]) + 1
            is_key = inside[-1] == "{"
            continue
        if sign == ":":
            continue
        if is_key:
            path[-1] = str(read_json(sign)[0][1])
            lines.setdefault(tuple(path), line)
            is_key = False
            continue
        lines.setdefault(tuple(path), line)
        if sign in "{[":
            inside.append(sign)
            path.append("" if sign == "{" else 0)
            is_key = sign == "{"
    return found
