"""The reference page of annotations, made from the table of fields: ``docs/annotations.md``.

What must not enter: anything that the table does not say.
"""

from __future__ import annotations

from typing import Final

from drycc_router.model.objects import PREFIXES
from drycc_router.translate.annotations.grammars import ListOf
from drycc_router.translate.annotations.schema import FIELDS, Effect, Field, Place

__all__ = ["page"]

_INTRODUCTION: Final = f"""\
<!-- Made by `make docs` from router/drycc_router/translate/annotations/schema.py. Edit that, not this. -->

# Annotations

Everything an app's owner and the operator say to the router while it runs, they say in annotations. A change is live
as soon as the router sees it; removing an annotation brings the default back.

Every key below stands after the prefix `{PREFIXES[0]}`. The prefix `{PREFIXES[1]}` of the ancestors is understood too;
where both stand, the first one counts and the other one is a Problem. On the router's Deployment and on the builder
Service the token `nginx.` may stand before a key, as the ancestors wrote it.

| written | means |
|---|---|
| flag | `true` or `false`, in any letter case |
| time | an integer or a decimal with `ms`, `s`, `m`, `h` or `d`; a bare number is seconds; from 1ms to 365d |
| size | an integer, optionally with `k`, `m` or `g`, also as in `10Mi` and `10 MB` (powers of 1024); in bytes |
| number | an integer, optionally with `k` or `m` for thousands or millions |
| networks | IPv4 and IPv6 addresses and prefixes such as `10.0.0.0/8`; no netmasks, and no bits beyond the prefix |
| names | with a dot as it is, or `*.` before it for all names below it; without one, below the platform's domain |

Elements of a list are separated by commas unless it says otherwise, and each is judged by itself: good ones count, bad
ones are Problems, empty ones are ignored. A value that is not in order leaves the last good one in force, or the
default. An allow-list that stands there without one usable entry admits nobody.
"""

_HEADINGS: Final = {
    Place.APP: (
        "On the Service of an app",
        f'A Service is an app when it has the label `{PREFIXES[0]}routable: "true"`.',
    ),
    Place.ROUTER: (
        "On the router's own Deployment",
        "`drycc-router` in the router's namespace. These hold for every app that does not say otherwise.",
    ),
    Place.BUILDER: ("On the builder Service", "`drycc-builder` in the router's namespace."),
}

_EFFECTS: Final = {
    Effect.NOW: "",
    Effect.LATER: "Checked already; their effect comes with a later version, and `check` says so:",
    Effect.NONE: "Of the ancestors, accepted without effect, and `check` says so:",
}


def page() -> str:
    """The whole page, in Markdown."""
    parts = [_INTRODUCTION]
    for place, (heading, introduction) in _HEADINGS.items():
        parts.append(f"\n## {heading}\n\n{introduction}\n")
        for effect, sentence in _EFFECTS.items():
            rows = [field for field in FIELDS if field.place is place and field.effect is effect]
            if rows:
                parts.append(f"\n{sentence}\n" if sentence else "")
                parts.append(_plain_table(rows) if effect is Effect.NONE else _table(rows))
    return "".join(parts)


def _table(rows: list[Field]) -> str:
    lines = ["", "| key | written as | default | meaning |", "|---|---|---|---|"]
    for field in rows:
        default = f"`{field.default}`" if field.default is not None else ""
        lines.append(f"| {_keys(field)} | {_grammar(field)} | {default} | {field.help} |")
    return "\n".join(lines) + "\n"


def _plain_table(rows: list[Field]) -> str:
    lines = ["", "| key | why |", "|---|---|"]
    lines += (f"| {_keys(field)} | {field.help} |" for field in rows)
    return "\n".join(lines) + "\n"


def _keys(field: Field) -> str:
    return ", ".join(f"`{key}`" for key in (field.key, *field.aliases))


def _grammar(field: Field) -> str:
    kind = "list of " if isinstance(field.grammar, ListOf) else ""
    return f"{kind}{field.grammar.name}"
