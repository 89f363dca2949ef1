"""Large heads are counted, and forgotten when they must be."""

from __future__ import annotations

from drycc_proxy.upstreams.remembered_heads import Heads


class Connection:
    def __init__(self) -> None:
        self.forgot = 0

    def forget_head(self) -> None:
        self.forgot += 1


def test_what_is_held_is_counted_once_for_each_holder() -> None:
    heads, one, other = Heads(), Connection(), Connection()
    assert heads.hold(one, 10_000)
    assert heads.hold(one, 20_000)
    assert heads.hold(other, 5_000)
    assert heads.held == 75_000
    heads.drop(one)
    heads.drop(one)
    assert heads.held == 15_000


def test_while_none_may_be_held_none_is() -> None:
    heads, one = Heads(), Connection()
    heads.hold(one, 10_000)
    heads.may_be_held = False
    assert not heads.hold(one, 10_000)
    assert heads.held == 0


def test_they_are_let_go_so_many_at_a_time() -> None:
    heads, many = Heads(), [Connection() for _ in range(10)]
    for each in many:
        heads.hold(each, 5_000)
    heads.let_go(4)
    assert (sum(each.forgot for each in many), heads.held) == (4, 6 * 15_000)
    heads.let_go(100)
    heads.let_go(100)
    assert ([each.forgot for each in many], heads.held) == (10 * [1], 0)
