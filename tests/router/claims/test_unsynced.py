"""What is remembered of namespaces that nobody has heard of yet, and when that is over."""

from __future__ import annotations

from drycc_router.claims.unsynced import UNHEARD, Unheard, unheard
from drycc_router.model.objects import ObjectKey

RECORD = (("x.example", "shop/web"), ("y.example", "shop/web"), ("z.example", "shop/api"), ("x.example", "blog/web"))


def test_it_is_said_in_the_way_of_all_changes() -> None:
    assert unheard("shop").key == unheard("shop", still=False).key == ObjectKey(UNHEARD, "shop", "*")
    assert unheard("shop").object is not None
    assert unheard("shop", still=False).object is None


def test_the_record_speaks_for_the_services_of_such_namespaces_alone() -> None:
    table = Unheard()
    assert not table.recall(RECORD)
    assert not table.note(unheard("shop"))

    assert table.recall(RECORD) == table.apps() == {"shop/web", "shop/api"}

    assert table.claimed_by("shop/web") == ["x.example", "y.example"]
    assert table.claimed_by("blog/web") == table.claimed_by("shop/other") == []
    assert repr(table) == "<Unheard of: shop>"


def test_the_word_of_another_takes_the_place_of_the_one_before() -> None:
    table = Unheard()
    table.note(unheard("shop"))
    table.recall(RECORD)

    assert table.recall(RECORD[:1]) == {"shop/web", "shop/api"}, "both claim something else now"

    assert table.claimed_by("shop/web") == ["x.example"]
    assert table.claimed_by("shop/api") == []


def test_it_is_over_once_all_was_heard() -> None:
    table = Unheard()
    table.note(unheard("shop"))
    table.recall(RECORD)

    assert not table.note(unheard("shop")), "said twice is said once"
    assert table.claimed_by("shop/api") == ["z.example"]
    assert table.note(unheard("shop", still=False)) == {"shop/web", "shop/api"}
    assert not table.note(unheard("shop", still=False))

    assert not table.apps()
    assert not table.recall(RECORD), "what was heard of is not unheard of again"
    assert repr(table) == "<Unheard of: nobody>"
