"""Definitions are plain data: frozen, comparable, picklable, with the defaults of the contract."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest

from drycc_proxy.routing.definitions import Edge, HostRule, Policy, Route, TableChange, canonical_path

ROUTE = Route("shop/web", "shop", "shop", "web", (("10.0.0.1", 80),), Policy(allow=("10.0.0.0/8",)))
CHANGE = TableChange(7, {"shop/web": ROUTE}, frozenset({"a/b"}), {b"h": HostRule(b"h", "shop/web")}, edge=Edge())


@pytest.mark.parametrize("definition", [Policy(), ROUTE, HostRule(b"h", "r", ((b"/", "s"),)), Edge(), CHANGE])
def test_definitions_travel_between_processes(definition: object) -> None:
    assert pickle.loads(pickle.dumps(definition)) == definition  # noqa: S301 -- what was pickled one line above


@pytest.mark.parametrize("definition", [Policy(), ROUTE, HostRule(b"h", "r"), Edge(), CHANGE])
def test_definitions_do_not_change(definition: Any) -> None:
    name = dataclasses.fields(definition)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(definition, name, None)


@pytest.mark.parametrize(
    ("spelt", "path"),
    [
        (b"/a-b._~/Z9", b"/a-b._~/Z9"),
        (b"/%61%2D%2e%5F%7e%5a%39", b"/a-._~Z9"),
        (b"/%2f%3F%23%5b%40%21%24%26%3d%25", b"/%2F%3F%23%5B%40%21%24%26%3D%25"),
        (b"/%20%00%7f%c3%BC", b"/%20%00%7F%C3%BC"),
        (b"/\xc3\xbc", b"/%C3%BC"),
        (b"/%2561%", b"/%2561%"),
        (b"/%zz%4", b"/%zz%4"),
        (b"/!$&'()*+,;=:@", b"/!$&'()*+,;=:@"),
    ],
)
def test_a_path_has_one_spelling(spelt: bytes, path: bytes) -> None:
    assert canonical_path(spelt) == path
    assert canonical_path(path) == path


def test_the_defaults_of_a_policy_are_those_of_the_contract() -> None:
    policy = Policy()
    assert (policy.connect_timeout, policy.idle_timeout, policy.request_timeout) == (30.0, 1300.0, 0.0)
    assert (policy.body_size, policy.body_timeout, policy.body_rate) == (0, 30.0, 240)
    assert (policy.allow, policy.deny) == (None, ())
    assert not (policy.maintenance or policy.enforce_https or policy.hsts or policy.request_start)


def test_the_defaults_of_the_edge_are_those_of_the_contract() -> None:
    edge = Edge()
    assert edge.trusted == ()
    assert edge.request_ids
    assert (edge.max_head, edge.max_fields, edge.max_target) == (32 * 1024, 100, 16 * 1024)
    assert (edge.head_timeout, edge.keepalive_timeout) == (10.0, 75.0)
    assert (edge.default_route, edge.log_format, edge.log_enabled) == ("", "json", True)


def test_an_empty_change_changes_nothing() -> None:
    change = TableChange(1)
    assert not (change.routes or change.gone_routes or change.hosts or change.gone_hosts)
    assert change.edge is None
