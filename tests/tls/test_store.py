"""The store: which certificate a name is shown, and that a change costs, and touches, only what changed."""

import dataclasses
import gc
import ssl
import weakref
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drycc_tls import context
from drycc_tls.certificate import Certificate
from drycc_tls.policy import TlsPolicy, Version
from drycc_tls.secret import read_pair
from drycc_tls.self_signed import self_signed
from drycc_tls.sni import Front
from drycc_tls.store import AT_ONCE, CertificateStore
from drycc_tls.update import CertificateChange
from examples.authority import Authority
from tests.fakes.handshakes import Ends, shake, trusting

AUTHORITY = Authority()
FALLBACK = self_signed(datetime.now(UTC))


def issue(*names: str) -> Certificate:
    return read_pair(AUTHORITY.issue(*names).secret_data())


A, B, PLATFORM = issue("a.example"), issue("b.example"), issue("*.platform.example", "default.example")


def store_with(change: CertificateChange) -> CertificateStore:
    store = CertificateStore(FALLBACK)
    publish(store, change)
    return store


def publish(store: CertificateStore, change: CertificateChange) -> None:
    store.swap(store.prepare(change))


def shown(store: CertificateStore, *names: str | None) -> list[Certificate]:
    return [store.choose(name).certificate for name in names]


def test_an_empty_store_shows_the_fallback_to_everybody() -> None:
    assert shown(CertificateStore(FALLBACK), None, "", "a.example") == [FALLBACK] * 3


def test_own_name_then_closest_wildcard_then_the_default() -> None:
    store = store_with(
        CertificateChange(
            1,
            {"n/a": A, "n/b": B, "drycc/platform": PLATFORM},
            names={"a.example": "n/a", "*.a.example": "n/b", "*.x.a.example": "n/a"},
            default="drycc/platform",
        )
    )

    assert shown(store, "a.example", "x.a.example", "y.x.a.example", "z.y.x.a.example") == [A, B, A, A]
    assert shown(store, "unknown.example", "shop.platform.example", "example", None) == [PLATFORM] * 4


def test_a_name_that_is_to_present_the_default_presents_no_certificate_of_a_wildcard_above() -> None:
    store = store_with(CertificateChange(1, {"n/a": A}, names={"*.a.example": "n/a", "x.a.example": ""}))
    assert shown(store, "x.a.example", "y.a.example", "z.x.a.example") == [FALLBACK, A, A]

    publish(store, CertificateChange(2, {"p": PLATFORM}, names={"*.x.a.example": ""}, default="p"))
    assert shown(store, "x.a.example", "y.a.example", "z.x.a.example") == [PLATFORM, A, PLATFORM]

    publish(store, CertificateChange(3, gone_names=frozenset({"x.a.example"}), default="p"))
    assert shown(store, "x.a.example") == [A]


@given(st.text(max_size=300))
def test_no_name_makes_it_raise(name: str) -> None:
    assert shown(STORE, name) == [PLATFORM]


STORE = store_with(CertificateChange(1, {"n/a": A, "p": PLATFORM}, names={"a.example": "n/a"}, default="p"))


def test_names_move_and_go_and_the_default_is_taken_back() -> None:
    store = store_with(
        CertificateChange(1, {"n/a": A, "n/b": B}, names={"a.example": "n/a", "c.example": "n/a"}, default="n/b")
    )

    publish(store, CertificateChange(2, names={"a.example": "n/b"}, gone_names=frozenset({"c.example"}), default=None))

    assert shown(store, "a.example", "c.example", None) == [B, FALLBACK, FALLBACK]


def test_a_name_whose_certificate_is_gone_or_never_came_gets_the_default() -> None:
    store = store_with(CertificateChange(1, {"n/a": A}, names={"a.example": "n/a", "b.example": "n/never"}))

    publish(store, CertificateChange(2, gone=frozenset({"n/a"})))

    assert shown(store, "a.example", "b.example") == [FALLBACK, FALLBACK]


def test_nothing_is_current_before_the_swap() -> None:
    store = CertificateStore(FALLBACK)
    prepared = store.prepare(CertificateChange(1, {"n/a": A}, names={"a.example": "n/a"}))

    assert shown(store, "a.example") == [FALLBACK]
    store.swap(prepared)
    assert shown(store, "a.example") == [A]


class Builder:
    """Counts what is built, and can be told what OpenSSL refuses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refused: Iterable[Certificate] = ()) -> None:
        self.built: list[Certificate] = []
        real = context.presenting

        def presenting(certificate: Certificate, policy: TlsPolicy) -> ssl.SSLContext:
            self.built.append(certificate)
            if certificate in refused:
                raise ssl.SSLError("not with me")
            return real(certificate, policy)

        monkeypatch.setattr(context, "presenting", presenting)


def test_a_change_builds_what_changed_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_with(CertificateChange(1, {"n/a": A, "n/b": B}, names={"a.example": "n/a", "b.example": "n/b"}))
    before = store.choose("b.example")
    renewed = issue("a.example")
    builder = Builder(monkeypatch)

    publish(store, CertificateChange(2, {"n/a": renewed, "n/b": B}))

    assert builder.built == [renewed]
    assert shown(store, "a.example") == [renewed]
    assert store.choose("b.example") is before


def test_equal_pairs_share_one_context(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = Builder(monkeypatch)
    store = store_with(
        CertificateChange(1, {"n/a": A, "m/a": dataclasses.replace(A)}, names={"a.example": "n/a", "b.example": "m/a"})
    )
    publish(store, CertificateChange(2, {"o/a": A}, names={"c.example": "o/a"}))

    assert builder.built == [FALLBACK, A]
    assert len({store.choose(name) for name in ("a.example", "b.example", "c.example")}) == 1


def test_a_pair_that_openssl_refuses_stops_no_other_and_leaves_the_previous_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = store_with(CertificateChange(1, {"n/a": A}, names={"a.example": "n/a"}))
    bad = issue("a.example")
    Builder(monkeypatch, refused=[bad])

    prepared = store.prepare(CertificateChange(2, {"n/a": bad, "n/b": B}, names={"b.example": "n/b"}))
    store.swap(prepared)

    assert prepared.refused == {"n/a"}
    assert shown(store, "a.example", "b.example") == [A, B]


def test_a_new_policy_rebuilds_everything_the_fallback_too(monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_with(CertificateChange(1, {"n/a": A, "n/b": B}, names={"a.example": "n/a", "b.example": "n/b"}))
    listening = store.listening
    builder = Builder(monkeypatch)
    only_new = TlsPolicy(minimum=Version.TLS_1_3)

    publish(store, CertificateChange(2, gone=frozenset({"n/b"}), policy=only_new))
    publish(store, CertificateChange(3, policy=only_new))

    assert sorted(builder.built, key=repr) == sorted([FALLBACK, A], key=repr)
    assert store.listening is listening
    assert listening.minimum_version is ssl.TLSVersion.TLSv1_3
    assert shown(store, "a.example", "b.example") == [A, FALLBACK]


def test_the_cost_of_a_swap_is_the_size_of_the_change() -> None:
    """A handful of names among many: neither preparing nor swapping walks over the others."""

    class Guarded(dict[Any, Any]):
        def walk(self, *_: object) -> Any:
            raise AssertionError("walked over everything")

        __iter__ = keys = values = items = copy = walk

    store = store_with(CertificateChange(1, {"n/a": A}, names={f"h{number}.example": "n/a" for number in range(9999)}))
    store._names, store._served = Guarded(store._names), Guarded(store._served)

    publish(store, CertificateChange(2, {"n/b": B}, names={"h7.example": "n/b"}))

    assert shown(store, "h7.example", "h8.example") == [B, A]


def many_new() -> CertificateChange:
    """More certificates at once than are built before they are current."""
    certificates = {f"n/{number}": issue(f"h{number}.example") for number in range(AT_ONCE + 1)}
    return CertificateChange(
        1, certificates, names={f"h{number}.example": f"n/{number}" for number in range(AT_ONCE + 1)}
    )


def test_many_new_contexts_are_built_when_they_are_current_or_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardening R-02: nobody who starts with thousands of certificates waits for all of them to be built."""
    change = many_new()
    store = CertificateStore(FALLBACK)
    builder = Builder(monkeypatch)
    publish(store, change)
    assert builder.built == []
    assert shown(store, "h3.example") == [change.certificates["n/3"]]
    assert builder.built == [change.certificates["n/3"]], "by the first handshake"
    while store.is_unfinished:
        store.finish(10)
    assert store.refused == frozenset()
    assert sorted(builder.built, key=repr) == sorted(change.certificates.values(), key=repr), "each once"


def test_a_pair_of_many_that_openssl_refuses_presents_the_default_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    change = many_new()
    store = CertificateStore(FALLBACK)
    publish(store, change)
    name = f"h{AT_ONCE}.example"
    refused = change.certificates[f"n/{AT_ONCE}"]
    build = context.presenting

    def refusing(certificate: Certificate, policy: TlsPolicy) -> ssl.SSLContext:
        if certificate is refused:
            raise ssl.SSLError("no")
        return build(certificate, policy)

    monkeypatch.setattr(context, "presenting", refusing)
    assert shown(store, name) == [FALLBACK]
    store.finish(1000)
    assert store.refused == {f"n/{AT_ONCE}"}
    assert not store.is_unfinished
    assert shown(store, name, "h0.example") == [FALLBACK, change.certificates["n/0"]]
    publish(store, CertificateChange(2, {"n/0": A}))
    assert store.refused == {f"n/{AT_ONCE}"}, "still"
    publish(store, CertificateChange(3, {f"n/{AT_ONCE}": A}))
    assert store.refused == frozenset()


def test_what_is_replaced_before_it_was_built_is_never_built(monkeypatch: pytest.MonkeyPatch) -> None:
    store = CertificateStore(FALLBACK)
    publish(store, many_new())
    publish(store, CertificateChange(2, {"n/0": A}, gone=frozenset({"n/1"}), gone_names=frozenset({"h1.example"})))
    builder = Builder(monkeypatch)
    store.finish(1000)
    assert len(builder.built) == AT_ONCE - 1
    assert shown(store, "h0.example", "h1.example") == [A, FALLBACK]


def connect(front: Front, name: str) -> Ends:
    return shake(front.context(), trusting(AUTHORITY), name)


def test_rotation_reaches_new_handshakes_and_leaves_open_connections_alone() -> None:
    store = store_with(CertificateChange(1, {"n/a": A}, names={"a.example": "n/a"}))
    front = Front(store)
    old = connect(front, "a.example")

    renewed = issue("a.example", "renewed.example")
    publish(store, CertificateChange(2, {"n/a": renewed}))
    new = connect(front, "a.example")

    assert new.names_shown() == ["a.example", "renewed.example"]
    assert old.names_shown() == ["a.example"]
    old.speak()
    assert not front.covers(old.server, b"renewed.example")
    assert front.covers(new.server, b"renewed.example")


def test_a_context_that_was_replaced_goes_with_its_last_connection() -> None:
    store = store_with(CertificateChange(1, {"n/a": A}, names={"a.example": "n/a"}))
    open_connection = connect(Front(store), "a.example")
    replaced = weakref.ref(store.choose("a.example").context)

    publish(store, CertificateChange(2, {"n/a": issue("a.example")}))

    assert replaced() is not None
    open_connection.speak()
    del open_connection
    gc.collect()  # asyncio's and ours: a connection may sit in a cycle of its own
    assert replaced() is None


def test_hundreds_of_rotations_leave_one_context() -> None:
    store = store_with(CertificateChange(1, {"n/a": A}, names={"a.example": "n/a"}))
    seen: weakref.WeakSet[ssl.SSLContext] = weakref.WeakSet()

    for generation in range(2, 202):
        publish(store, CertificateChange(generation, {"n/a": [A, B][generation % 2]}))
        seen.add(store.choose("a.example").context)

    assert len(seen) == 1
    assert len(store._built) == 1


def test_the_repr_counts_and_shows_no_key() -> None:
    assert repr(STORE) == "<CertificateStore 2 certificates, 1 names>"
    assert "PRIVATE KEY" not in repr(STORE.choose(None)) + repr(STORE.prepare(CertificateChange(1, {"n/b": B})))
