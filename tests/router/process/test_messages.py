"""What is said arrives as it was meant; everything else is refused without being quoted."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drycc_proxy.errors import Failure
from drycc_proxy.metrics import Counters, RouteCounters
from drycc_proxy.routing.definitions import Edge, HostRule, Policy, Route, TableChange
from drycc_router.process import messages
from drycc_router.process.messages import (
    Applied,
    BadMessage,
    Beat,
    CertificatePart,
    Counted,
    Link,
    OnePeer,
    RefusedLater,
    TablePart,
    Tickets,
    decode_for_child,
    decode_for_control,
    decode_for_supervisor,
    decode_for_worker,
    encode,
)
from drycc_tls.policy import TlsPolicy, Version
from drycc_tls.self_signed import self_signed
from drycc_tls.update import CertificateChange

PAIR = self_signed(datetime(2026, 1, 1, tzinfo=UTC))
TABLE = TableChange(
    7,
    routes={
        "shop/web": Route("shop/web", "web", "shop", "web", (("10.0.0.1", 80),), Policy(allow=(), hsts=b"max-age=1"))
    },
    gone_routes=frozenset({"shop/old"}),
    hosts={b"shop.example": HostRule(b"shop.example", "shop/web", ((b"/api", "shop/api"),))},
    gone_hosts=frozenset({b"old.example"}),
    edge=Edge(trusted=("10.0.0.0/8",)),
)
PAIRS = CertificateChange(
    7,
    certificates={"shop/cert": PAIR},
    gone=frozenset({"shop/old"}),
    names={"shop.example": "shop/cert"},
    gone_names=frozenset({"old.example"}),
    default="drycc/platform",
    policy=TlsPolicy(minimum=Version.TLS_1_3),
)


def test_definitions_arrive_equal() -> None:
    assert decode_for_worker(encode(TablePart(TABLE))) == TablePart(TABLE)
    assert decode_for_worker(encode(CertificatePart(PAIRS))) == CertificatePart(PAIRS)
    assert decode_for_control(encode(Applied(3, ("shop/cert",)))) == Applied(3, ("shop/cert",))
    assert decode_for_control(encode(RefusedLater(("shop/cert",)))) == RefusedLater(("shop/cert",))
    assert decode_for_control(encode(OnePeer("10.0.0.1"))) == OnePeer("10.0.0.1")
    web = RouteCounters("web", "shop", "web", {(200, "GET", "http/1.1"): 3}, errors={Failure.NO_ENDPOINT: 1})
    counted = decode_for_control(encode(Counted(1, {"shop/web": web}, Counters(in_flight=4), {}, last=False)))
    assert isinstance(counted, Counted)
    assert asdict(counted.routes["shop/web"]) == asdict(web)
    assert counted.totals is not None
    assert asdict(counted.totals) == asdict(Counters(in_flight=4))
    assert decode_for_child(encode(Link(1, 42))) == Link(1, 42)
    assert decode_for_supervisor(encode(Beat())) == Beat()


def test_nobody_is_told_what_is_not_for_them() -> None:
    for decode, message in (
        (decode_for_worker, Beat()),
        (decode_for_control, TablePart(TABLE)),
        (decode_for_child, Applied(1, ())),
        (decode_for_supervisor, Tickets(b"")),
    ):
        with pytest.raises(BadMessage):
            decode(encode(message))


@pytest.mark.parametrize(
    "totals", [{"in_flight": "many"}, {"accepted": 3}, {"connect": {"counts": 1, "total": 0}}, {"connect": 5}]
)
def test_counters_of_another_type_are_refused(totals: dict[str, object]) -> None:
    with pytest.raises(BadMessage):
        decode_for_control(msgspec.msgpack.encode(["Counted", 1, {}, totals, {}, True]))
    with pytest.raises(BadMessage):
        decode_for_control(msgspec.msgpack.encode(["Counted", 1, {"web": {"requests": [1]}}, None, {}, True]))
    assert decode_for_control(msgspec.msgpack.encode(["Counted", 1, {}, None, {}, True])) == Counted(
        1, {}, None, {}, True
    )


def test_a_bad_message_is_not_quoted() -> None:
    spoiled = encode(CertificatePart(PAIRS)).replace(b"TLSv1.3", b"c4n4ry!")
    with pytest.raises(BadMessage) as caught:
        decode_for_worker(spoiled)
    assert "c4n4ry" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_message_that_is_too_long_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MAX_FRAME", 10)
    with pytest.raises(BadMessage, match="TablePart is too long"):
        encode(TablePart(TABLE))


@given(
    st.binary(max_size=64)
    | st.recursive(st.integers(-9, 9) | st.text(), st.lists, max_leaves=8).map(msgspec.msgpack.encode)
)
def test_garbage_is_refused_by_everybody(data: bytes) -> None:
    for decode in (decode_for_worker, decode_for_control, decode_for_child, decode_for_supervisor):
        try:
            decode(data)
        except BadMessage:
            pass
