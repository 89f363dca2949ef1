"""Which name answers which."""

from __future__ import annotations

import pytest

from drycc_proxy.routing.hosts import HostIndex


@pytest.fixture
def index() -> HostIndex[str]:
    filled: HostIndex[str] = HostIndex()
    for host in (b"a.example", b"*.example", b"*.b.example", b"shop.*"):
        filled.put(host, host.decode())
    return filled


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (b"a.example", "a.example"),
        (b"c.example", "*.example"),
        (b"d.c.example", "*.example"),
        (b"b.example", "*.example"),
        (b"x.b.example", "*.b.example"),
        (b"y.x.b.example", "*.b.example"),
        (b"example", None),
        (b"a.exampl", None),
        (b"xexample", None),
        (b"shop.test", "shop.*"),
        (b"shop.a.b", "shop.*"),
        (b"shop.example", "*.example"),
        (b"shop", None),
        (b"shopx.test", None),
        (b".test", None),
        (b"", None),
        (b"test", None),
        (b".example", "*.example"),
    ],
)
def test_the_nearest_answers(index: HostIndex[str], name: bytes, found: str | None) -> None:
    assert index.find(name) == found


def test_the_default_answers_the_rest(index: HostIndex[str]) -> None:
    index.default = "default"
    assert index.find(b"nobody.test") == "default"
    assert index.find(b"a.example") == "a.example"


def test_a_host_can_be_replaced_and_discarded(index: HostIndex[str]) -> None:
    assert len(index) == 4
    for host, name in ((b"a.example", b"a.example"), (b"*.b.example", b"x.b.example"), (b"shop.*", b"shop.test")):
        index.put(host, "new")
        assert index.find(name) == "new"
        index.discard(host)
        index.discard(host)
        assert index.find(name) in (None, "*.example")
    assert len(index) == 1


def test_many_hosts_are_told_apart() -> None:
    index: HostIndex[int] = HostIndex()
    for number in range(10_000):
        index.put(b"h%d.example" % number, number)
    assert [index.find(b"h%d.example" % number) for number in range(10_000)] == list(range(10_000))
    assert index.find(b"h10000.example") is None
