"""Label and field selectors, as in "Labels and Selectors" and "Field Selectors" of the Kubernetes documentation.

Text in, predicates out; what is selected, and from where, is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tests.fakes.apiserver.kinds import META_FIELDS, Kind
from tests.fakes.apiserver.refusals import bad_request

__all__ = ["Requirement", "fields_of", "labels_of"]

_KEY = r"(?:[A-Za-z0-9.-]+/)?[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)?"
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s+\(([^()]*)\)")
_EQUALITY = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})")
_EXISTENCE = re.compile(rf"(!?)\s*({_KEY})")
_COMMA = re.compile(r",(?![^()]*\))")
"""A comma outside of the parentheses of a set."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term of a selector; all terms have to hold.

    ``values`` is None for a term about existence alone. A negated term also holds where the key is absent, which is
    the documented meaning of both ``!=`` and ``notin``.
    """

    key: str
    values: frozenset[str] | None
    negated: bool = False

    def holds(self, found: Mapping[str, str]) -> bool:
        value = found.get(self.key)
        held = value is not None and (self.values is None or value in self.values)
        return held is not self.negated


def labels_of(selector: str) -> tuple[Requirement, ...]:
    """Read ``labelSelector``: ``a=b``, ``a==b``, ``a!=b``, ``a in (b,c)``, ``a notin (b)``, ``a``, ``!a``.

    Raises:
        Refused: 400, in no form the server knows.
    """
    return tuple(_label_term(term.strip()) for term in _COMMA.split(selector)) if selector.strip() else ()


def _label_term(term: str) -> Requirement:
    if found := _SET.fullmatch(term):
        values = frozenset(value.strip() for value in found[3].split(","))
        return Requirement(found[1], values, negated=found[2] == "notin")
    if found := _EQUALITY.fullmatch(term):
        return Requirement(found[1], frozenset({found[3]}), negated=found[2] == "!=")
    if found := _EXISTENCE.fullmatch(term):
        return Requirement(found[2], None, negated=bool(found[1]))
    raise bad_request(f"unable to parse requirement: found {term!r}, expected a label requirement")


def fields_of(selector: str, kind: Kind) -> tuple[Requirement, ...]:
    """Read ``fieldSelector``: ``a=b``, ``a==b``, ``a!=b`` over the few fields that the kind offers.

    Raises:
        Refused: 400, in another form or about a field that cannot be selected by.
    """
    requirements = []
    for term in filter(None, selector.split(",")):
        key, operator, value = re.split(r"(!=|==|=)", term, maxsplit=1) if "=" in term else (term, "", "")
        if not operator:
            raise bad_request(f"invalid selector: {term!r}; can't understand {term!r}")
        if key not in META_FIELDS and key not in kind.fields:
            known = ", ".join(f'"{each}"' for each in META_FIELDS)
            raise bad_request(
                f"field label not supported: {key}"
                if kind.fields
                else f'"{key}" is not a known field selector: only {known}'
            )
        requirements.append(Requirement(key, frozenset({value}), negated=operator == "!="))
    return tuple(requirements)
