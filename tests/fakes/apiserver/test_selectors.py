"""Selectors mean what the Kubernetes documentation says, also where a key is absent."""

from __future__ import annotations

import pytest

from tests.fakes.apiserver.kinds import kind_of
from tests.fakes.apiserver.refusals import Refused
from tests.fakes.apiserver.selectors import fields_of, labels_of

SECRETS = kind_of({"kind": "Secret", "apiVersion": "v1"})


@pytest.mark.parametrize(
    ("selector", "labels", "holds"),
    [
        ("", {}, True),
        ("a=b", {"a": "b"}, True),
        ("a==b", {"a": "b"}, True),
        ("a=b", {"a": "c"}, False),
        ("a=b", {}, False),
        ("a=", {"a": ""}, True),
        ("a!=b", {"a": "b"}, False),
        ("a!=b", {}, True),
        ("a in (b, c)", {"a": "c"}, True),
        ("a in (b,c)", {"a": "d"}, False),
        ("a in (b,c)", {}, False),
        ("a notin (b,c)", {"a": "b"}, False),
        ("a notin (b,c)", {}, True),
        ("a", {"a": "anything"}, True),
        ("a", {}, False),
        ("!a", {}, True),
        ("!a", {"a": "b"}, False),
        ("router.drycc.cc/routable=true,app in (x,y),!old", {"router.drycc.cc/routable": "true", "app": "y"}, True),
        ("router.drycc.cc/routable=true,app in (x,y),!old", {"router.drycc.cc/routable": "true", "app": "z"}, False),
    ],
)
def test_label_selectors(selector: str, labels: dict[str, str], holds: bool) -> None:
    assert all(term.holds(labels) for term in labels_of(selector)) is holds


@pytest.mark.parametrize("selector", ["a in b", "a=b=c", "a,,b", "a in (b", "=b", "a=/"])
def test_a_label_selector_in_another_form_is_refused(selector: str) -> None:
    with pytest.raises(Refused) as refusal:
        labels_of(selector)
    assert refusal.value.code == 400


def test_field_selectors_cover_names_and_what_the_kind_offers() -> None:
    fields = {"metadata.name": "web", "metadata.namespace": "shop", "type": "Opaque"}

    assert all(term.holds(fields) for term in fields_of("metadata.name=web,type!=kubernetes.io/tls", SECRETS))
    assert not all(term.holds(fields) for term in fields_of("type=kubernetes.io/tls", SECRETS))


@pytest.mark.parametrize("selector", ["data.key=x", "metadata.uid=1", "metadata.name"])
def test_other_fields_cannot_be_selected_by(selector: str) -> None:
    with pytest.raises(Refused) as refusal:
        fields_of(selector, SECRETS)
    assert refusal.value.code == 400
