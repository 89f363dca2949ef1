"""Files come, change and go; what they give together changes as little as it must."""

from __future__ import annotations

from drycc_router.model.objects import Change, ObjectKey
from drycc_router.model.problems import Problem, Reason
from drycc_router.sources.manifest_index import Shelf
from drycc_router.sources.manifest_objects import Contents, unreadable

WEB = ObjectKey("Service", "shop", "web")
API = ObjectKey("Service", "shop", "api")


def holding(**objects: object) -> Contents:
    keys = {"web": WEB, "api": API}
    return Contents({keys[name]: {"spec": spec} for name, spec in objects.items()})


def said(shelf: Shelf) -> list[tuple[str, object]]:
    return [(change.key.name, change.object and change.object["spec"]) for change in shelf.settle().changes]


def reasons(problems: tuple[Problem, ...]) -> list[Reason]:
    return [problem.reason for problem in problems]


def test_only_what_differs_is_said() -> None:
    shelf = Shelf()
    shelf.put("a.yaml", holding(web=1, api=1))
    assert said(shelf) == [("api", 1), ("web", 1)]
    shelf.put("a.yaml", holding(web=2, api=1))
    assert said(shelf) == [("web", 2)]
    shelf.put("a.yaml", holding(web=2, api=1))
    assert not shelf.settle()


def test_what_changes_and_changes_back_is_not_said() -> None:
    shelf = Shelf()
    shelf.put("a.yaml", holding(web=1))
    shelf.settle()
    shelf.put("a.yaml", holding(web=2))
    shelf.put("a.yaml", holding(web=1))
    assert not shelf.settle()


def test_an_object_that_left_its_file_is_gone() -> None:
    shelf = Shelf()
    shelf.put("a.yaml", holding(web=1, api=1))
    shelf.settle()
    shelf.put("a.yaml", holding(api=1))
    assert shelf.settle().changes == (Change(WEB, None),)


def test_an_object_that_moved_to_another_file_has_not_changed() -> None:
    shelf = Shelf()
    shelf.put("a.yaml", holding(web=1))
    shelf.settle()
    shelf.drop("a.yaml")
    shelf.put("b.yaml", holding(web=1))
    assert not shelf.settle()


def test_a_file_that_is_gone_takes_its_objects_and_problems_along() -> None:
    shelf = Shelf()
    shelf.put("a.yaml", holding(web=1))
    shelf.put("a.yaml", unreadable("a.yaml", "line 1: broken"))
    batch = shelf.settle()
    assert reasons(batch.problems["file:a.yaml"]) == [Reason.UNREADABLE_FILE]
    shelf.drop("a.yaml")
    batch = shelf.settle()
    assert batch.changes == (Change(WEB, None),)
    assert batch.problems == {"file:a.yaml": ()}
    assert shelf.files == frozenset()


def test_dropping_a_file_that_never_was_is_nothing() -> None:
    shelf = Shelf()
    shelf.drop("a.yaml")
    assert not shelf.settle()


def test_a_broken_file_keeps_giving_what_it_gave() -> None:
    shelf = Shelf()
    shelf.put("a.yaml", holding(web=1, api=1))
    shelf.settle()
    shelf.put("a.yaml", unreadable("a.yaml", "line 1: broken"))
    batch = shelf.settle()
    assert batch.changes == ()
    assert list(batch.problems) == ["file:a.yaml"]
    shelf.put("a.yaml", holding(api=1))
    batch = shelf.settle()
    assert batch.changes == (Change(WEB, None),)
    assert batch.problems == {"file:a.yaml": ()}


def test_beside_a_broken_document_the_good_ones_still_count() -> None:
    shelf = Shelf()
    shelf.put("a.yaml", holding(web=1, api=1))
    shelf.settle()
    shelf.put("a.yaml", Contents({API: {"spec": 2}}, whole=False))
    assert said(shelf) == [("api", 2)]  # web may be the broken one: it stays


def test_the_first_file_by_path_counts_and_the_other_one_is_told() -> None:
    shelf = Shelf()
    shelf.put("b.yaml", holding(web="from b"))
    assert said(shelf) == [("web", "from b")]
    shelf.put("a.yaml", holding(web="from a"))
    batch = shelf.settle()
    assert [change.object for change in batch.changes] == [{"spec": "from a"}]
    [problem] = batch.problems[f"object:{WEB}"]
    assert (problem.reason, problem.object, problem.value) == (Reason.DUPLICATE_OBJECT, WEB, "b.yaml")
    assert "a.yaml" in problem.message


def test_the_second_file_takes_over_when_the_first_lets_go() -> None:
    shelf = Shelf()
    shelf.put("a.yaml", holding(web="from a"))
    shelf.put("b.yaml", holding(web="from b"))
    shelf.settle()
    shelf.put("a.yaml", holding())
    batch = shelf.settle()
    assert [change.object for change in batch.changes] == [{"spec": "from b"}]
    assert batch.problems == {f"object:{WEB}": ()}
    shelf.drop("b.yaml")
    batch = shelf.settle()
    assert batch.changes == (Change(WEB, None),)
    assert batch.problems == {}


def test_a_change_in_the_losing_file_changes_nothing() -> None:
    shelf = Shelf()
    shelf.put("a.yaml", holding(web="from a"))
    shelf.put("b.yaml", holding(web="from b"))
    shelf.settle()
    shelf.put("b.yaml", holding(web="from b, edited"))
    assert shelf.settle().changes == ()
