"""Certificates before routes, and nothing is lost when publishing fails."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drycc_proxy.routing.definitions import Edge, HostRule, Route, StreamRoute, TableChange
from drycc_router.publish.publisher import Publisher, lay_certificates, lay_table
from drycc_tls.certificate import Certificate
from drycc_tls.policy import TlsPolicy
from drycc_tls.self_signed import self_signed
from drycc_tls.store import AT_ONCE, CertificateStore, Prepared
from drycc_tls.update import CertificateChange

PAIRS = [self_signed(datetime(2026, 1, 1, tzinfo=UTC)) for _ in range(3)]


def route(name: str, service: str = "") -> Route:
    return Route(name, name, "shop", service or name)


class Gateway:
    """Applies changes as the data plane does; fails when told to."""

    def __init__(self, journal: list[str] | None = None) -> None:
        self.routes: dict[str, Route] = {}
        self.hosts: dict[bytes, HostRule] = {}
        self.streams: dict[str, StreamRoute] = {}
        self.edge = Edge()
        self.generations: list[int] = []
        self.fails = 0
        self.journal = journal if journal is not None else []

    def publish(self, change: TableChange) -> None:
        if self.fails:
            self.fails -= 1
            raise RuntimeError("not this time")
        self.journal.append("routes")
        self.generations.append(change.generation)
        for name in change.gone_routes:
            self.routes.pop(name, None)
        for host in change.gone_hosts:
            self.hosts.pop(host, None)
        for name in change.gone_streams:
            self.streams.pop(name, None)
        self.streams |= change.streams
        self.routes |= change.routes
        self.hosts |= change.hosts
        self.edge = change.edge or self.edge

    @property
    def state(self) -> tuple[object, ...]:
        return self.routes, self.hosts, self.streams, self.edge


class Store(CertificateStore):
    """A real store that keeps a journal, and fails to prepare when told to."""

    def __init__(self, journal: list[str] | None = None) -> None:
        super().__init__(PAIRS[0])
        self.journal = journal if journal is not None else []
        self.fails = 0
        self.seen: list[CertificateChange] = []

    def prepare(self, change: CertificateChange) -> Prepared:
        if self.fails:
            self.fails -= 1
            raise RuntimeError("not this time")
        self.seen.append(change)
        return super().prepare(change)

    def swap(self, prepared: Prepared) -> None:
        self.journal.append("certificates")
        super().swap(prepared)


def test_certificates_are_current_before_routes() -> None:
    journal: list[str] = []
    publisher = Publisher(Store(journal), Gateway(journal))
    asyncio.run(publisher.publish(CertificateChange(1), TableChange(1), journal.append))
    assert journal == ["certificates", "certificates", "routes", "publish"]
    assert not publisher.behind


def test_what_failed_is_published_with_the_next_change() -> None:
    store, gateway = Store(), Gateway()
    publisher = Publisher(store, gateway)
    store.fails = 1
    with pytest.raises(RuntimeError):
        asyncio.run(publisher.publish(CertificateChange(1, {"shop/a": PAIRS[1]}), TableChange(1, {"a": route("a")})))
    assert publisher.behind
    gateway.fails = 1
    with pytest.raises(RuntimeError):
        asyncio.run(publisher.publish(CertificateChange(2, {"shop/b": PAIRS[2]}), TableChange(2, {"b": route("b")})))
    assert publisher.behind
    assert store.seen[-1].certificates.keys() == {"shop/a", "shop/b"}
    asyncio.run(publisher.publish(CertificateChange(3), TableChange(3, {"c": route("c")})))
    assert gateway.routes.keys() == {"a", "b", "c"}
    assert gateway.generations == [3]
    assert not store.seen[-1].certificates  # those had been swapped in already
    assert not publisher.behind


def test_a_pair_that_openssl_refuses_is_remembered_until_it_is_replaced_or_gone() -> None:
    mixed = replace(PAIRS[1], fingerprint="mixed", key_pem=PAIRS[2].key_pem)
    publisher = Publisher(Store(), Gateway())

    def publish(change: CertificateChange) -> frozenset[str]:
        asyncio.run(publisher.publish(change, TableChange(change.generation)))
        return publisher.refused

    assert publish(CertificateChange(1, {"shop/a": mixed, "shop/b": mixed, "shop/c": PAIRS[1]})) == {"shop/a", "shop/b"}
    assert publish(CertificateChange(2)) == {"shop/a", "shop/b"}
    assert publish(CertificateChange(3, {"shop/a": PAIRS[2]})) == {"shop/b"}
    assert publish(CertificateChange(4, gone=frozenset({"shop/b"}))) == frozenset()


def test_of_many_new_pairs_the_contexts_are_built_after_everything_is_published() -> None:
    mixed = replace(PAIRS[1], fingerprint="mixed", key_pem=PAIRS[2].key_pem)
    publisher = Publisher(Store(), Gateway())
    pairs = dict.fromkeys((f"shop/{number}" for number in range(AT_ONCE + 1)), PAIRS[1]) | {"shop/x": mixed}

    async def story() -> int:
        await publisher.publish(CertificateChange(1, pairs), TableChange(1))
        assert publisher.refused == frozenset()
        goes = 0
        while publisher.is_unfinished:
            await publisher.finish()
            goes += 1
        return goes

    assert asyncio.run(story()) > 1, "a change need not wait for all of them"
    assert publisher.refused == {"shop/x"}


NAMES = ["a", "b", "c"]


@st.composite
def tables(draw: st.DrawFn, generation: int) -> TableChange:
    gone = draw(st.sets(st.sampled_from(NAMES)))
    gone_hosts = draw(st.sets(st.sampled_from(NAMES)))
    gone_streams = draw(st.sets(st.sampled_from(NAMES)))
    return TableChange(
        generation,
        {n: route(n, draw(st.sampled_from(["one", "two"]))) for n in NAMES if n not in gone and draw(st.booleans())},
        frozenset(gone),
        {
            n.encode(): HostRule(n.encode(), draw(st.sampled_from(NAMES)))
            for n in NAMES
            if n not in gone_hosts and draw(st.booleans())
        },
        frozenset(n.encode() for n in gone_hosts),
        {
            n: StreamRoute(n, draw(st.sampled_from([1, 2])), n, "shop", n)
            for n in NAMES
            if n not in gone_streams and draw(st.booleans())
        },
        frozenset(gone_streams),
        draw(st.none() | st.builds(Edge, max_fields=st.integers(1, 3))),
    )


@settings(max_examples=60, deadline=None)
@given(first=tables(1), second=tables(2), third=tables(3))
def test_laying_tables_is_as_good_as_publishing_one_after_the_other(
    first: TableChange, second: TableChange, third: TableChange
) -> None:
    one_by_one, at_once = Gateway(), Gateway()
    for change in (first, second, third):
        one_by_one.publish(change)
    at_once.publish(first)
    laid = lay_table(second, third)
    at_once.publish(laid)
    assert at_once.state == one_by_one.state
    assert laid.generation == 3
    assert not laid.routes.keys() & laid.gone_routes
    assert not laid.hosts.keys() & laid.gone_hosts
    assert not laid.streams.keys() & laid.gone_streams


@st.composite
def certificates(draw: st.DrawFn, generation: int) -> CertificateChange:
    gone = draw(st.sets(st.sampled_from(NAMES)))
    gone_names = draw(st.sets(st.sampled_from(NAMES)))
    return CertificateChange(
        generation,
        {n: draw(st.sampled_from(PAIRS)) for n in NAMES if n not in gone and draw(st.booleans())},
        frozenset(gone),
        {n: draw(st.sampled_from(NAMES)) for n in NAMES if n not in gone_names and draw(st.booleans())},
        frozenset(gone_names),
        draw(st.none() | st.sampled_from(NAMES)),
        draw(st.none() | st.builds(TlsPolicy, session_tickets=st.booleans())),
    )


def applied(*changes: CertificateChange) -> tuple[object, ...]:
    pairs: dict[str, Certificate] = {}
    names: dict[str, str] = {}
    policy, default = TlsPolicy(), None
    for change in changes:
        pairs = {n: p for n, p in pairs.items() if n not in change.gone} | dict(change.certificates)
        names = {n: p for n, p in names.items() if n not in change.gone_names} | dict(change.names)
        policy, default = change.policy or policy, change.default
    return pairs, names, policy, default


@settings(max_examples=60, deadline=None)
@given(first=certificates(1), second=certificates(2), third=certificates(3))
def test_laying_certificates_is_as_good_as_publishing_one_after_the_other(
    first: CertificateChange, second: CertificateChange, third: CertificateChange
) -> None:
    laid = lay_certificates(second, third)
    assert applied(first, laid) == applied(first, second, third)
    assert not laid.certificates.keys() & laid.gone
    assert not laid.names.keys() & laid.gone_names


def test_the_first_change_is_laid_on_nothing() -> None:
    table, pairs = TableChange(1), CertificateChange(1)
    assert lay_table(None, table) is table
    assert lay_certificates(None, pairs) is pairs
