"""Annotations → model and Problems: ``Mapping[str, str]`` in, a model out, never an exception.

One rule for everything (contract 2): a good value counts; a bad scalar leaves the last good value in force, or the
default when there was none; a list is judged element by element; an allow-list fails closed. Whatever is not honoured
is a Problem on the object that said it.

What must not enter: any particular key. Keys are rows of ``fields``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields as model_fields
from difflib import get_close_matches
from typing import Any, Final

from router.annotations.errors import Unfit
from router.annotations.fields import NGINX, Effect, Field, Place, defaults, known_keys
from router.annotations.values import BLANKS, LIST_LIMIT, ListOf
from router.model import App, Builder, RouterConfig
from router.objects import PREFIXES, ObjectKey
from router.problems import Problem, Reason

__all__ = ["read_app", "read_builder", "read_router", "written_as"]

REPORTED: Final = 20
"""Bad elements of one list, and unknown keys of one object, that are reported one by one; the rest is one more."""

_DEFAULTS: Final = {place: defaults(place) for place in Place}

Written = dict[Field, tuple[str, str]]
"""What stands on an object: field → (annotation as written, its text)."""


def read_app(
    service: ObjectKey, annotations: Mapping[str, str], previous: App | None
) -> tuple[App, tuple[Problem, ...]]:
    """What a routable Service asks for. ``previous`` is what it asked for before: the last good values.

    Reading the same annotations with the result as ``previous`` comes to the same.
    """
    values, problems = _read(Place.APP, service, annotations, _values_of(previous))
    return App(**values), tuple(problems)


def read_router(
    deployment: ObjectKey, annotations: Mapping[str, str], previous: RouterConfig | None
) -> tuple[RouterConfig, tuple[Problem, ...]]:
    """What the router's own Deployment says; without any annotation, the defaults."""
    values, problems = _read(Place.ROUTER, deployment, annotations, _values_of(previous))
    return RouterConfig(**values), tuple(problems)


def read_builder(
    service: ObjectKey, annotations: Mapping[str, str], previous: Builder | None
) -> tuple[Builder, tuple[Problem, ...]]:
    """What the builder Service says; without any annotation, the defaults."""
    values, problems = _read(Place.BUILDER, service, annotations, _values_of(previous))
    return Builder(**values), tuple(problems)


def written_as(place: Place, key: str, annotations: Mapping[str, str]) -> str:
    """The annotation that says ``key`` here, for Problems found later; if none does, the one that would."""
    usual = f"{PREFIXES[0]}{key}"
    if usual in annotations:
        return usual
    spellings = (key, *known_keys(place)[key].aliases)
    names = (f"{prefix}{spelling}" for prefix in PREFIXES for spelling in spellings)
    return next((name for name in names if name in annotations), usual)


def _values_of(model: App | Builder | RouterConfig | None) -> dict[str, Any]:
    return {} if model is None else {field.name: getattr(model, field.name) for field in model_fields(model)}


def _read(
    place: Place, owner: ObjectKey, annotations: Mapping[str, str], previous: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Problem]]:
    written, problems = _sort_out(place, owner, annotations)
    values = dict(_DEFAULTS[place])
    for field, (key, text) in written.items():
        last_good = previous.get(field.attribute, values.get(field.attribute))
        value, found = _value(field, owner, key, text, last_good)
        problems += found
        if field.attribute:
            values[field.attribute] = value
    return values, problems


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _sort_out(place: Place, owner: ObjectKey, annotations: Mapping[str, str]) -> tuple[Written, list[Problem]]:
    """Which annotation stands for which field. Where several do, the one of the first prefix, then of the first
    spelling in the table, then the one without the token ``nginx.``; the others are Problems."""
    known = known_keys(place)
    candidates: dict[Field, list[tuple[int, int, bool, str]]] = {}
    unknown: list[str] = []
    problems: list[Problem] = []
    for annotation in annotations:
        prefix, slash, key = annotation.partition("/")
        if f"{prefix}{slash}" not in PREFIXES:
            continue
        rank = PREFIXES.index(f"{prefix}{slash}")
        plain = key if place is Place.APP else key.removeprefix(NGINX)
        field = known.get(plain)
        if field is not None:
            spelling = (field.key, *field.aliases).index(plain)
            candidates.setdefault(field, []).append((rank, spelling, plain != key, annotation))
        elif place is Place.APP and key.startswith(NGINX):
            problems.append(_no_effect(owner, annotation, annotations[annotation], "It is about nginx."))
        else:
            unknown.append(annotation)
    written: Written = {}
    for field, spellings in candidates.items():
        (*_, first), *others = sorted(spellings)
        written[field] = (first, annotations[first])
        problems += (
            Problem(Reason.SHADOWED_KEY, owner, other, annotations[other], f"expected it once: {first} counts")
            for *_, other in others
        )
    return written, problems + _unknown_keys(owner, sorted(unknown), annotations, known)


def _unknown_keys(
    owner: ObjectKey, unknown: list[str], annotations: Mapping[str, str], known: Mapping[str, Field]
) -> list[Problem]:
    problems = []
    for annotation in unknown[:REPORTED]:
        message = f"expected a key that stands in the reference{_hint(annotation, known)}"
        problems.append(Problem(Reason.UNKNOWN_KEY, owner, annotation, annotations[annotation], message))
    if len(unknown) > REPORTED:
        message = f"expected keys that stand in the reference; {len(unknown) - REPORTED} more are unknown"
        problems.append(Problem(Reason.UNKNOWN_KEY, owner, "", "", message))
    return problems


def _hint(annotation: str, known: Mapping[str, Field]) -> str:
    """What may have been meant by a key that nobody knows here."""
    prefix, _, key = annotation.partition("/")
    plain = key.removeprefix(NGINX)
    if plain == "routable":
        return ": it is a label, not an annotation"
    for place in Place:
        if plain in known_keys(place):
            return f": this one belongs on the {place.value}"
    # Comparing costs with the length, and no known key is near a long one.
    near = get_close_matches(plain, known, n=1) if len(plain) < 64 else []
    return f": did you mean {prefix}/{near[0]}?" if near else ""


def _no_effect(owner: ObjectKey, key: str, text: str, why: str) -> Problem:
    return Problem(Reason.NO_EFFECT, owner, key, text, f"understood, without effect: {why}")


# ── values ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _value(field: Field, owner: ObjectKey, key: str, text: str, last_good: Any) -> tuple[Any, Iterable[Problem]]:
    """The value of one annotation, and what is to be said about it."""
    if field.effect is Effect.NONE:
        return None, [_no_effect(owner, key, text, field.help)]
    problems: list[Problem]
    if isinstance(field.grammar, ListOf):
        value, problems = _elements(field.grammar, owner, key, text, last_good)
    else:
        try:
            value, problems = field.grammar.read(text.strip(BLANKS)), []
        except Unfit as unfit:
            value, problems = last_good, [_bad_value(owner, key, text, unfit.expected, unfit.reason)]
    if field.effect is Effect.LATER:
        problems.append(Problem(Reason.NOT_YET, owner, key, text, "understood; its effect comes with a later version"))
    return value, problems


def _bad_value(owner: ObjectKey, key: str, text: str, expected: str, reason: Reason | None = None) -> Problem:
    return Problem(reason or Reason.BAD_VALUE, owner, key, text, f"expected {expected}")


def _elements(
    grammar: ListOf[Any], owner: ObjectKey, key: str, text: str, last_good: Any
) -> tuple[tuple[Any, ...], list[Problem]]:
    """The good elements, each once, in order of their first appearance.

    Nothing usable although something was written: an allow-list admits nobody, any other list stays as it was.
    """
    problems: list[Problem] = []
    parts = grammar.split(text)
    if len(parts) > LIST_LIMIT:
        problems.append(_bad_value(owner, key, text, f"at most {LIST_LIMIT} elements"))
        return (() if grammar.fails_closed else last_good), problems
    good: dict[Any, None] = {}
    bad = 0
    for part in parts:
        if not part:
            continue
        try:
            good[grammar.read(part)] = None
        except Unfit as unfit:
            bad += 1
            if bad <= REPORTED:
                reason = unfit.reason or Reason.BAD_ELEMENT
                problems.append(Problem(reason, owner, key, part, f"expected {unfit.expected}"))
    if bad > REPORTED:
        message = f"expected other elements; {bad - REPORTED} more are not in order"
        problems.append(Problem(Reason.BAD_ELEMENT, owner, key, "", message))
    if "" in parts:
        message = "expected no empty elements; they are ignored"
        problems.append(Problem(Reason.EMPTY_ELEMENT, owner, key, text, message))
    if good:
        return tuple(good), problems
    if grammar.fails_closed:
        message = "expected a usable entry; until there is one, or the key is gone, nobody is allowed"
        problems.append(Problem(Reason.NOTHING_ALLOWED, owner, key, text, message))
        return (), problems
    return (last_good if bad else ()), problems
