"""Large changes in parts that hold together, and whole tables as the difference that they are here."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from drycc_proxy.routing.definitions import Edge, HostRule, Route, TableChange
from drycc_router.publish.batches import PART, Known, certificate_parts, table_parts, whole_of
from drycc_router.publish.publisher import lay_table
from drycc_tls.policy import TlsPolicy
from drycc_tls.self_signed import self_signed
from drycc_tls.update import CertificateChange

PAIR = self_signed(datetime(2026, 1, 1, tzinfo=UTC))


def route(number: int, app: str = "") -> Route:
    return Route(f"shop/{number}", app or f"app{number}", "shop", str(number))


def table(*numbers: int) -> TableChange:
    hosts = [HostRule(b"%d.example" % number, f"shop/{number}") for number in numbers]
    routes = {f"shop/{number}": route(number) for number in numbers}
    return TableChange(1, routes=routes, hosts={rule.host: rule for rule in hosts}, edge=Edge())


def test_a_change_of_a_working_day_stays_whole() -> None:
    change = table(*range(PART // 2))
    assert list(table_parts(change)) == [change]


def test_a_large_change_keeps_its_promise_after_every_part() -> None:
    change = replace(
        table(*range(1000)),
        gone_routes=frozenset(f"shop/{n}" for n in range(1000, 1600)),
        gone_hosts=frozenset(b"%d.example" % n for n in range(1000, 1600)),
    )
    routes = {f"shop/{n}" for n in range(1000, 1600)}
    hosts = {b"%d.example" % n: f"shop/{n}" for n in range(1000, 1600)}
    sizes, together = [], None
    for part in table_parts(change):
        routes = (routes | set(part.routes)) - part.gone_routes
        hosts |= {host: rule.route for host, rule in part.hosts.items()}
        hosts = {host: name for host, name in hosts.items() if host not in part.gone_hosts}
        assert set(hosts.values()) <= routes
        sizes.append(len(part.routes) + len(part.hosts))
        together = lay_table(together, part)
    assert max(sizes) <= PART
    assert together == change


def test_certificates_in_parts_are_the_same_change() -> None:
    names = {f"{n}.example": f"shop/{n}" for n in range(100)}
    change = CertificateChange(
        3, {f"shop/{n}": PAIR for n in range(100)}, frozenset({"shop/x"}), names, default="shop/0"
    )
    parts = list(certificate_parts(change))
    assert len(parts) == 5
    assert whole_of(parts) == change
    assert whole_of(list(certificate_parts(CertificateChange(4)))) == CertificateChange(4)


def test_everything_there_is_carries_nothing_that_is_gone() -> None:
    known = Known()
    known.note_table(table(1, 2))
    known.note_table(TableChange(2, gone_routes=frozenset({"shop/2"}), gone_hosts=frozenset({b"2.example"})))
    assert known.table(7) == replace(table(1), generation=7)
    policy = TlsPolicy()
    names = {"a.example": "a", "b.example": "b"}
    known.note_certificates(CertificateChange(1, {"a": PAIR, "b": PAIR}, names=names, default="a", policy=policy))
    known.note_certificates(CertificateChange(2, gone=frozenset({"b"}), gone_names=frozenset({"b.example"})))
    assert known.certificates(7) == CertificateChange(7, {"a": PAIR}, names={"a.example": "a"}, policy=policy)


def test_what_was_handed_out_does_not_change_with_what_comes_later() -> None:
    known = Known()
    known.note_table(table(1))
    known.note_certificates(CertificateChange(1, {"a": PAIR}))
    whole, pairs = known.table(1), known.certificates(1)
    known.note_table(TableChange(2, gone_routes=frozenset({"shop/1"}), gone_hosts=frozenset({b"1.example"})))
    known.note_certificates(CertificateChange(2, gone=frozenset({"a"})))
    assert whole == table(1)
    assert pairs == CertificateChange(1, {"a": PAIR})


def test_of_a_whole_table_only_what_differs_is_touched() -> None:
    known = Known()
    known.note_table(table(1, 2, 3))
    known.note_table(TableChange(2, gone_routes=frozenset({"shop/3"}), gone_hosts=frozenset({b"3.example"})))
    whole = replace(table(2, 4), routes={"shop/2": route(2, "renamed"), "shop/4": route(4)})
    news = known.news_in_table(whole)
    assert set(news.routes) == {"shop/2", "shop/4"}
    assert set(news.hosts) == {b"4.example"}
    assert news.edge is None
    gone = known.gone_from_table([whole], 5)
    assert gone == TableChange(5, gone_routes=frozenset({"shop/1"}), gone_hosts=frozenset({b"1.example"}))
    assert known.news_in_table(replace(whole, edge=Edge(max_fields=7))).edge == Edge(max_fields=7)


def test_of_all_certificates_only_what_differs_is_built() -> None:
    known = Known()
    known.note_certificates(CertificateChange(1, {"a": PAIR, "b": PAIR}, names={"a.example": "a", "b.example": "b"}))
    known.note_certificates(CertificateChange(2, gone=frozenset({"b"}), gone_names=frozenset({"b.example"})))
    whole = CertificateChange(3, {"a": PAIR, "c": PAIR}, names={"c.example": "c"}, default="a")
    news = known.news_in_certificates(whole)
    assert news == CertificateChange(
        3, {"c": PAIR}, names={"c.example": "c"}, gone_names=frozenset({"a.example"}), default="a"
    )
