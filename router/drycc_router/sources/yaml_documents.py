"""The text of one manifest file → JSON-like documents, whatever somebody put into it.

YAML is read event by event into plain ``dict``, ``list``, ``str``, ``int``, ``float``, ``bool`` and ``None``. Composing
PyYAML's node tree first would be shorter to write, but its C composer recurses without a limit: a file of nothing but
``[`` ends the process. Here depth and size are bounded, and a document is what JSON could have said: no tags, no merge
keys, no dates, and ``yes`` is a word (YAML 1.2's core schema).

A document of a YAML stream that is JSON is read as JSON, as kubectl does: JSON has what libyaml refuses, such as a
character beyond the BMP escaped as a pair of surrogates. A JSON text may have several documents, one after the other.

What must not enter: Kubernetes (see ``sources.manifests``), files, and any quotation of the text in an error,
because the text may be a Secret.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Final, NoReturn, TypeAlias

import yaml

__all__ = [
    "LOADER",
    "MAX_DEPTH",
    "MAX_NODES",
    "Document",
    "DocumentError",
    "JsonValue",
    "read_json",
    "read_yaml",
    "without_json",
]

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

Document: TypeAlias = "tuple[int, JsonValue]"
"""A document and the line (from 1) where it begins."""

MAX_DEPTH: Final = 64
"""Levels of nesting. The kinds we read need ten; Python compares and copies without trouble far beyond 64."""

MAX_NODES: Final = 2_000_000
"""Values in one file, an alias counted as everything it stands for: what a few nested aliases can be blown up to."""

LOADER: Final = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
_STR_TAG: Final = "tag:yaml.org,2002:str"
_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_STAR: Final = "write a value that begins with * in quotes, such as '*.example.com'"
_NUMBER_START: Final = frozenset("0123456789+-.")
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}")
_BASED: Final = re.compile(r"0o[0-7]{1,20}|0x[0-9a-fA-F]{1,15}")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_BLANKS: Final = re.compile(r"[ \t\r\n]*")
_MARKER: Final = re.compile(r"^(?:---|\.\.\.)(?=\s|\Z)", re.MULTILINE)
"""Where a document of a YAML stream ends. No scalar can have such a line (YAML 1.2.2, 9.1.2)."""
_OPENING: Final = re.compile(r"(?:\A|^---)(?:[ \t\r]*(?:\#[^\n]*)?\n)*[ \t]*\{", re.MULTILINE)
"""The beginning of a document whose first sign, after comments, is a brace."""
_QUOTED: Final = re.compile(r"'[^']*'?|\"[^\"]*\"?")


class DocumentError(Exception):
    """The text is not what we read. ``line`` counts from 1; the message never quotes the text."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line


def read_yaml(text: str) -> list[Document]:
    """Every document of a YAML stream, empty ones left out. Raises :class:`DocumentError`."""
    text, found = without_json(text)
    try:
        found += [(line, value) for line, value in _documents(text) if value is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = _QUOTED.sub(_without_text, error.problem or "not YAML")
        if error.context == "while scanning an alias":
            what = _STAR
        elif error.context == "while scanning an anchor":
            what = "an anchor (&) without a name; write a value that begins with & in quotes"
        raise DocumentError(mark.line + 1 if mark else 1, what) from None
    except yaml.YAMLError:
        # The reader's only complaint that carries no mark: a character that YAML does not allow.
        raise DocumentError(1, "a character that YAML does not allow (a control character?)") from None
    return sorted(found, key=lambda document: document[0])


def read_json(text: str) -> list[Document]:
    """Every document of a JSON text, ``null`` left out. Raises :class:`DocumentError`."""
    decoder = json.JSONDecoder(
        object_pairs_hook=_pairs, parse_constant=_no_constant, parse_int=_integer, parse_float=_float
    )
    documents: list[Document] = []
    line, counted, at = 1, 0, _BLANKS.match(text).end()  # type: ignore[union-attr] # it matches nothing, too
    while not documents or at < len(text):
        try:
            value, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise DocumentError(error.lineno, error.msg) from None
        except RecursionError:
            raise DocumentError(1, f"nested deeper than {MAX_DEPTH} levels") from None
        _bound_depth(value)
        line, counted = line + text.count("\n", counted, at), at
        documents.append((line, value))
        at = _BLANKS.match(text, end).end()  # type: ignore[union-attr] # as above
    return [(line, value) for line, value in documents if value is not None]


def without_json(text: str) -> tuple[str, list[Document]]:
    """A YAML stream with empty lines in place of its documents that are JSON objects, and these documents.

    What looks like JSON and is not stays: YAML's flow style looks so, too.
    """
    found: list[Document] = []
    if "{" not in text:
        return text, found
    kept: list[str] = []
    at, line, counted = 0, 1, 0
    for opening in _OPENING.finditer(text):
        start = opening.end() - 1
        closing = _MARKER.search(text, start)
        end = closing.start() if closing else len(text)
        body = text[start:end]
        try:
            documents = read_json(body)
        except DocumentError:
            continue
        line, counted = line + text.count("\n", counted, start), start
        found += [(line + each - 1, value) for each, value in documents]
        kept += (text[at:start], "\n" * body.count("\n"))
        at = end
    return "".join([*kept, text[at:]]) if found else text, found


def _without_text(quoted: re.Match[str]) -> str:
    """PyYAML quotes what it met and what it expected: a single sign ("expected ',' or ']'") may stay."""
    return quoted[0] if len(quoted[0]) == 3 and not quoted[0][1].isalnum() else "…"


# ── YAML ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
class _Frame:
    """A mapping or sequence that is not complete yet."""

    __slots__ = ("anchor", "key", "nodes_before", "value")

    def __init__(self, value: list[JsonValue] | dict[str, JsonValue], anchor: str | None, nodes_before: int) -> None:
        self.value = value
        self.anchor = anchor
        self.nodes_before = nodes_before
        self.key: str | None = None
        """Of a mapping: the key whose value comes next."""


def _documents(text: str) -> Iterator[Document]:
    stack: list[_Frame] = []
    anchors: dict[str, tuple[JsonValue, int]] = {}  # name → value and its size in nodes
    line = 1
    nodes = 0
    root: JsonValue = None
    for event in yaml.parse(text, Loader=LOADER):
        top = stack[-1] if stack else None
        anchor: str | None = None
        size = 1
        value: JsonValue
        if isinstance(event, yaml.ScalarEvent):
            if isinstance(top, _Frame) and isinstance(top.value, dict) and top.key is None:
                top.key = _key(event, top.value)
                continue
            value, anchor = _scalar(event), event.anchor
            nodes += 1
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            if event.tag is not None:
                raise _refusal(event, "a tag (!…): only plain values are read")
            if top is None:
                line = _line(event)
            elif isinstance(top.value, dict) and top.key is None:
                raise _refusal(event, "a key that is not a word")
            if len(stack) >= MAX_DEPTH:
                raise _refusal(event, f"nested deeper than {MAX_DEPTH} levels")
            nodes += 1
            stack.append(_Frame({} if isinstance(event, yaml.MappingStartEvent) else [], event.anchor, nodes))
            continue
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            frame = stack.pop()
            top = stack[-1] if stack else None
            value, anchor, size = frame.value, frame.anchor, 1 + nodes - frame.nodes_before
        elif isinstance(event, yaml.AliasEvent):
            if top is not None and isinstance(top.value, dict) and top.key is None:
                raise _refusal(event, "a key that is not a word")
            if event.anchor not in anchors:
                raise _refusal(event, f"an alias to nothing that is complete before it; {_STAR}")
            value, size = anchors[event.anchor]
            nodes += size
        elif isinstance(event, yaml.DocumentStartEvent):
            anchors.clear()
            root, line = None, _line(event)
            continue
        elif isinstance(event, yaml.DocumentEndEvent):
            yield line, root
            continue
        else:  # the stream's own beginning and end
            continue
        if nodes > MAX_NODES:
            raise _refusal(event, f"more than {MAX_NODES} values, aliases counted in full")
        if anchor is not None:
            anchors[anchor] = (value, size)
        if top is None:
            root = value
        elif isinstance(top.value, list):
            top.value.append(value)
        elif top.key is not None:
            top.value[top.key] = value
            top.key = None


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _refusal(event: yaml.Event, message: str) -> DocumentError:
    return DocumentError(_line(event), message)


def _key(event: yaml.ScalarEvent, mapping: dict[str, JsonValue]) -> str:
    """A key is its text: ``80:`` is ``"80"`` and ``on:`` is ``"on"``, as JSON knows no other keys."""
    key: str = event.value
    if key == "<<" and event.implicit[0]:
        raise _refusal(event, "a merge key (<<): write the keys out")
    if key in mapping:
        raise _refusal(event, "the same key twice in one mapping")
    return key


def _scalar(event: yaml.ScalarEvent) -> JsonValue:
    text: str = event.value
    plain, _ = event.implicit
    if not plain:
        if event.tag not in (None, _STR_TAG):
            raise _refusal(event, "a tag (!…): only plain values are read")
        return text
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_START:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise _refusal(event, "a number that is too large")
        return number
    return text


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _pairs(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise DocumentError(1, "the same key twice in one object")
    return mapping


def _no_constant(_: str) -> NoReturn:
    raise DocumentError(1, "NaN or Infinity, which JSON does not have")


def _integer(text: str) -> int | float:
    """As in YAML: what does not fit 18 digits is a float, so that no text costs quadratic time."""
    return int(text) if len(text) <= 18 else _float(text)


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise DocumentError(1, "a number that is too large")
    return number


def _bound_depth(value: JsonValue) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise DocumentError(1, f"nested deeper than {MAX_DEPTH} levels")
