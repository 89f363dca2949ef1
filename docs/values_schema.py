"""The part of the chart's ``values.schema.json`` that is made from the router's own grammars: ``routerAnnotations`` and
``tcpPorts``. What the chart accepts there the router accepts too; Helm refuses the rest before anything is installed.

Patterns are those of RE2, which Helm uses: no look-ahead. They may be narrower than a grammar (no leading zeros, one
blank between words); labels that begin with ``xn--`` are taken on trust, since no pattern can tell punycode.

What must not enter: values that the router does not read; their schema is written by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from drycc_router.translate.annotations import grammars
from drycc_router.translate.annotations.grammars import Grammar, ListOf
from drycc_router.translate.annotations.schema import FIELDS, Effect, Field, Place
from drycc_router.translate.platform import OwnPorts

__all__ = ["SCHEMA", "number_pattern", "page", "router_annotation"]

SCHEMA: Final = Path(__file__).parents[1] / "charts" / "router" / "values.schema.json"

Schema = dict[str, Any]

NAMES: Final = frozenset({"tcpPorts"})
"""Keys that the chart has another value for: the ports must be opened elsewhere too."""


# ── patterns ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def number_pattern(lowest: int, highest: int) -> str:
    """A pattern for the decimal numbers from ``lowest`` to ``highest``, without leading zeros."""
    parts = []
    low = lowest
    while low <= highest:
        # The longest run of numbers from ``low`` on that differ in their last digits only.
        step = 1
        while low % (step * 10) == 0 and low + step * 10 - 1 <= highest and low >= step * 10:
            step *= 10
        digit = low // step % 10
        last = min(9, digit + (highest - low + 1) // step - 1)
        head = str(low // step)[:-1]
        zeros = len(str(step)) - 1
        spread = str(digit) if digit == last else f"[{digit}-{last}]"
        parts.append(head + spread + (f"[0-9]{{{zeros}}}" if zeros > 1 else "[0-9]" * zeros))
        low += (last - digit + 1) * step
    return f"(?:{'|'.join(parts)})"


_LABEL: Final = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_LAST_LABEL: Final = "[A-Za-z][A-Za-z0-9-]{0,61}[A-Za-z0-9]"
"""Not one that begins with a digit, which may make an address of the name."""
_DOMAIN: Final = rf"(?:localhost|(?:{_LABEL}\.)+{_LAST_LABEL})"

_OCTET: Final = number_pattern(0, 255)
_FOUR: Final = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_GROUP: Final = "[0-9A-Fa-f]{1,4}"
_SIX: Final = "(?:" + "|".join(
    [
        f"(?:{_GROUP}:){{7}}{_GROUP}",
        *(f"(?:{_GROUP}:){{1,{7 - after}}}(?::{_GROUP}){{1,{after}}}" for after in range(1, 7)),
        f"(?:{_GROUP}:){{1,7}}:",
        f":(?::{_GROUP}){{1,7}}",
        "::",
        f"::[Ff]{{4}}:{_FOUR}",
    ]
) + ")"  # fmt: skip
_NETWORK: Final = f"(?:{_FOUR}(?:/{number_pattern(0, 32)})?|{_SIX}(?:/{number_pattern(0, 128)})?)"
_ADDRESS: Final = f"(?:{_FOUR}|{_SIX})"

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final = {"[kK]": 1 << 10, "[mM]": 1 << 20, "[gG]": 1 << 30}


def _times() -> str:
    """Times from a millisecond to ``values.MAX_DURATION``, with at most twelve decimals."""
    parts = []
    for unit, length in _UNITS.items():
        most = round(grammars.MAX_DURATION / length)
        whole = number_pattern(1, most - 1)
        written = rf"{whole}(?:\.[0-9]{{1,12}})?|{most}"
        if unit != "ms":
            written += r"|0\.(?:[1-9]|0[1-9]|00[1-9])[0-9]{0,9}"
        parts.append(f"(?:{written}){unit}" + ("?" if unit == "s" else ""))
    return "|".join(parts)


def _sizes(lowest: int, highest: int) -> str:
    parts = [number_pattern(lowest, highest)]
    for unit, size in _BYTES.items():
        least, most = -(-lowest // size), highest // size
        if least <= most:
            parts.append(number_pattern(least, most) + unit)
    return "|".join(parts)


def _list_of(pattern: str, separator: str) -> str:
    between = {",": ", ?"}.get(separator, re.escape(separator) if separator != " " else " ")
    return f"(?:{pattern})(?:{between}(?:{pattern}))*"


def _words(alternatives: Iterable[str]) -> str:
    return "|".join(re.escape(word).replace(r"\-", "-") for word in alternatives)


# ── grammars ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _text(pattern: str, *, longest: int = 0) -> Schema:
    schema: Schema = {"type": "string", "pattern": f"^(?:{pattern})$"}
    return schema | ({"maxLength": longest} if longest else {})


def _number(pattern: str, lowest: int, highest: int) -> Schema:
    """A whole number, or text that fits the pattern: decimals would reach the router as Go prints them (1.5e+06)."""
    most = min(highest, 1 << 53)  # beyond this JSON's numbers skip some
    return {"type": ["integer", "string"], "minimum": lowest, "maximum": most, "pattern": f"^(?:{pattern})$"}


_NETWORKS: Final = _text(_list_of(_NETWORK, ","))

_SCALARS: Final[Mapping[int, Schema]] = {
    id(grammars.FLAG): {"type": ["boolean", "string"], "pattern": "^(?:[Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])$"},
    id(grammars.DURATION): _number(_times(), 1, round(grammars.MAX_DURATION)),
    id(grammars.DURATION_OR_NONE): _number(f"0|{_times()}", 0, round(grammars.MAX_DURATION)),
    id(grammars.ALLOW_LIST): _NETWORKS,
    id(grammars.DENY_LIST): _NETWORKS,
    id(grammars.NETWORKS): _NETWORKS,
    id(grammars.ADDRESS): _text(_ADDRESS),
    id(grammars.PLATFORM_DOMAIN): _text(_DOMAIN, longest=253),
    id(grammars.APP_NAME): _text("[A-Za-z0-9][A-Za-z0-9._/-]{0,126}"),
    id(grammars.MEDIA_TYPES): _text(_list_of("[A-Za-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+*-]{1,64}", " ")),
    id(grammars.ANYTHING): {"type": ["string", "number", "boolean"]},
}


def _grammar(grammar: Grammar) -> Schema:
    """The schema of one grammar. Raises NotImplementedError for one that has none: it is written here first."""
    known = _SCALARS.get(id(grammar))
    if known is not None:
        return dict(known)
    if not grammar.words and (isinstance(grammar, ListOf) or grammar.bounds is None):
        raise NotImplementedError(f"no schema for the grammar {grammar.name!r}: give it one in docs/values_schema.py")
    if isinstance(grammar, ListOf):
        return _text(_list_of(_words(grammar.words), grammar.separator))
    if grammar.words:
        return {"enum": list(grammar.words)}
    assert grammar.bounds  # noqa: S101 -- as was just seen
    lowest, highest = grammar.bounds
    if grammar.name == "size":
        return _number(_sizes(lowest, highest), lowest, highest)
    if grammar.name == "time in whole seconds":
        units = (("s?", 1), ("m", 60), ("h", 3600), ("d", 86400))
        times = "|".join(f"{number_pattern(-(-lowest // size), highest // size)}{unit}" for unit, size in units)
        return _number(times, lowest, highest)
    return _number(number_pattern(lowest, highest), lowest, highest)


def router_annotation(field: Field) -> Schema:
    """The schema of one key of ``routerAnnotations``."""
    return _grammar(grammars.ANYTHING if field.effect is Effect.NONE else field.grammar) | {"description": field.help}


def tcp_ports() -> Schema:
    """The schema of ``tcpPorts``: port → ``namespace/service:port``."""
    own = OwnPorts()
    free = [(1, 65535)]
    for port in sorted(port for port in range(1, 65536) if own.objection(port)):
        low, high = free.pop()
        free += [(low, port - 1), (port + 1, high)]
    ports = "|".join(number_pattern(low, high) for low, high in free if low <= high)
    label = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
    # A port's name has a letter, at most 15 characters, and single hyphens inside. No pattern of RE2 can say that of
    # names with many hyphens, unless they are short.
    one_hyphen = "|".join(f"[a-z][a-z0-9]{{{before}}}-[a-z0-9]{{1,{13 - before}}}" for before in range(13))
    name = f"[a-z][a-z0-9]{{0,14}}|{one_hyphen}|[a-z](?:-?[a-z0-9]){{0,7}}"
    service = f"{label}/{label}(?::(?:{number_pattern(1, 65535)}|{name}))?"
    return {
        "type": "object",
        "description": "Further ports whose connections go to a Service byte for byte.",
        "additionalProperties": False,
        "patternProperties": {f"^(?:{ports})$": _text(service)},
    }


def page() -> str:
    """The whole file as it must be, with the parts made here in their place."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    schema["properties"]["routerAnnotations"]["properties"] = {
        field.key: router_annotation(field)
        for field in FIELDS
        if field.place is Place.ROUTER and field.key not in NAMES
    }
    schema["properties"]["tcpPorts"] = tcp_ports()
    return json.dumps(schema, indent=2) + "\n"
