"""Annotations → model and Problems: ``Mapping[str, str]`` in, a model out, never an exception.

One rule for everything (contract 2): a good value counts; a bad scalar leaves the last good value in force, or the
default when there was none; a list is judged element by element; an allow-list fails closed. Whatever is not honoured
is a Problem on the object that said it.

What must not enter: any particular key. Keys are rows of ``fields``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

import msgspec

from drycc_router.model import mistakes
from drycc_router.model.invalid_value import Unfit
from drycc_router.model.objects import PREFIXES, ObjectKey
from drycc_router.model.problems import Problem, Reason
from drycc_router.model.spec import App, Builder, RouterConfig
from drycc_router.translate.annotations.grammars import BLANKS, LIST_LIMIT, ListOf
from drycc_router.translate.annotations.schema import NGINX, Effect, Field, Place, defaults, known_keys

__all__ = ["read_app", "read_builder", "read_router", "written_as"]

REPORTED: Final = 20
"""Bad elements of one list, and unknown keys of one object, that are reported one by one; the rest is one more."""

_SILENT_APP: Final = App(**defaults(Place.APP))
_SILENT_ROUTER: Final = RouterConfig(**defaults(Place.ROUTER))
_SILENT_BUILDER: Final = Builder(**defaults(Place.BUILDER))
"""What those ask for who say nothing: the defaults."""

Written = list[tuple[Field, str, str]]
"""What stands on an object: (field, annotation as written, its text)."""

_OTHERS: Final = object()
"""Stands for an annotation under a prefix that is not ours."""
_NGINX_ON_APP: Final = object()
_UNKNOWN: Final = object()


def read_app(
    service: ObjectKey, annotations: Mapping[str, str], previous: App | None
) -> tuple[App, tuple[Problem, ...]]:
    """What a routable Service asks for. ``previous`` is what it asked for before: the last good values.

    Reading the same annotations with the result as ``previous`` comes to the same.
    """
    values, problems = _read(Place.APP, service, annotations, previous or _SILENT_APP)
    return msgspec.structs.replace(_SILENT_APP, **values), tuple(problems)


def read_router(
    deployment: ObjectKey, annotations: Mapping[str, str], previous: RouterConfig | None
) -> tuple[RouterConfig, tuple[Problem, ...]]:
    """What the router's own Deployment says; without any annotation, the defaults."""
    values, problems = _read(Place.ROUTER, deployment, annotations, previous or _SILENT_ROUTER)
    return msgspec.structs.replace(_SILENT_ROUTER, **values), tuple(problems)


def read_builder(
    service: ObjectKey, annotations: Mapping[str, str], previous: Builder | None
) -> tuple[Builder, tuple[Problem, ...]]:
    """What the builder Service says; without any annotation, the defaults."""
    values, problems = _read(Place.BUILDER, service, annotations, previous or _SILENT_BUILDER)
    return msgspec.structs.replace(_SILENT_BUILDER, **values), tuple(problems)


def written_as(place: Place, key: str, annotations: Mapping[str, str]) -> str:
    """The annotation that says ``key`` here, for Problems found later; if none does, the one that would."""
    usual = f"{PREFIXES[0]}{key}"
    if usual in annotations:
        return usual
    spellings = (key, *known_keys(place)[key].aliases)
    names = (f"{prefix}{spelling}" for prefix in PREFIXES for spelling in spellings)
    return next((name for name in names if name in annotations), usual)


def _read(
    place: Place, owner: ObjectKey, annotations: Mapping[str, str], previous: App | Builder | RouterConfig
) -> tuple[dict[str, Any], list[Problem]]:
    """The values that somebody wrote down, by attribute; ``previous`` has the last good ones."""
    written, problems = _sort_out(place, owner, annotations)
    values: dict[str, Any] = {}
    for field, key, text in written:
        value, found = _value(field, owner, key, text, getattr(previous, field.attribute, None))
        problems += found
        if field.attribute:
            values[field.attribute] = value
    return values, problems


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _sort_out(place: Place, owner: ObjectKey, annotations: Mapping[str, str]) -> tuple[Written, list[Problem]]:
    """Which annotation stands for which field. Where several do, the one of the first prefix, then of the first
    spelling in the table, then the one without the token ``nginx.``; the others are Problems."""
    candidates: dict[str, list[_Spelling]] = {}
    unknown: list[str] = []
    problems: list[Problem] = []
    for annotation in annotations:
        found = _looked_up(place, annotation)
        if isinstance(found, _Spelling):
            candidates.setdefault(found.field.key, []).append(found)
        elif found is _NGINX_ON_APP:
            problems.append(_no_effect(owner, annotation, annotations[annotation], "It is about nginx."))
        elif found is _UNKNOWN:
            unknown.append(annotation)
    written: Written = []
    for spellings in candidates.values():
        if len(spellings) > 1:
            spellings.sort(key=_precedence)
        first = spellings[0].annotation
        written.append((spellings[0].field, first, annotations[first]))
        for other in spellings[1:]:
            message = f"expected it once: {first} counts"
            problems.append(
                Problem(Reason.SHADOWED_KEY, owner, other.annotation, annotations[other.annotation], message)
            )
    if unknown:
        problems += _unknown_keys(owner, sorted(unknown), annotations, known_keys(place))
    return written, problems


class _Spelling(NamedTuple):
    """One annotation that stands for a field."""

    prefix: int
    """Which of our prefixes it has."""
    spelling: int
    """Which of the field's spellings."""
    has_token: bool
    """Whether the token ``nginx.`` stands before it."""
    annotation: str
    field: Field


def _precedence(spelling: _Spelling) -> tuple[int, int, bool, str]:
    return spelling[:4]


@lru_cache(maxsize=4096)  # ten thousand apps use the same twenty keys
def _looked_up(place: Place, annotation: str) -> object:
    """What an annotation is: a :class:`_Spelling`, or one of the three words above."""
    prefix, slash, key = annotation.partition("/")
    if f"{prefix}{slash}" not in PREFIXES:
        return _OTHERS
    plain = key if place is Place.APP else key.removeprefix(NGINX)
    field = known_keys(place).get(plain)
    if field is not None:
        spelling = (field.key, *field.aliases).index(plain)
        return _Spelling(PREFIXES.index(f"{prefix}{slash}"), spelling, plain != key, annotation, field)
    return _NGINX_ON_APP if place is Place.APP and key.startswith(NGINX) else _UNKNOWN


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


def _is_good(grammar: ListOf[Any], element: str) -> bool:
    try:
        grammar.read(element)
    except Unfit as unfit:
        return unfit.taken is not None
    return True


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
            if unfit.taken is not None:
                good[unfit.taken] = None
            bad += 1
            if bad <= REPORTED:
                reason = unfit.reason or Reason.BAD_ELEMENT
                expected = mistakes.in_list(grammar.separator, part, partial(_is_good, grammar)) or unfit.expected
                problems.append(Problem(reason, owner, key, part, f"expected {expected}"))
    if bad > REPORTED:
        message = f"expected other elements; {bad - REPORTED} more are not in order"
        problems.append(Problem(Reason.BAD_ELEMENT, owner, key, "", message))
    if "" in parts and (len(parts) > 1 or grammar.fails_closed):  # an empty text is a list of nothing
        message = "expected no empty elements; they are ignored"
        problems.append(Problem(Reason.EMPTY_ELEMENT, owner, key, text, message))
    if good:
        return tuple(good), problems
    if grammar.fails_closed:
        message = "expected a usable entry; until there is one, or the key is gone, nobody is allowed"
        problems.append(Problem(Reason.NOTHING_ALLOWED, owner, key, text, message))
        return (), problems
    return (last_good if bad else ()), problems
