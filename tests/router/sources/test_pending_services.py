"""A Service that was made just now waits for its first slice, and for nothing else."""

from __future__ import annotations

from typing import Any

from drycc_router.model.objects import Change, ObjectKey
from drycc_router.sources.pending_services import Newcomers

WEB = ObjectKey("Service", "shop", "web")
SLICE = ObjectKey("EndpointSlice", "shop", "web-abcde")


def service(version: int = 1) -> Change:
    return Change(WEB, {"metadata": {"namespace": "shop", "name": "web"}, "spec": {"version": version}})


def slice_of(owner: object, key: ObjectKey = SLICE) -> Change:
    return Change(key, {"metadata": {"labels": {"kubernetes.io/service-name": owner}}})


def test_the_newest_version_of_it_is_what_the_slice_lets_through() -> None:
    newcomers = Newcomers()
    assert newcomers.holds(service(1), is_new=True)
    assert newcomers.holds(service(2), is_new=False), "it waits already"
    assert newcomers.hear(slice_of("web")) == service(2)
    assert not newcomers.holds(service(3), is_new=False)
    assert len(newcomers) == 0


def test_who_waits_is_known_by_namespace() -> None:
    newcomers = Newcomers()
    newcomers.holds(service(), is_new=True)
    assert (newcomers.of("shop"), newcomers.of("blog")) == ([WEB], [])
    newcomers.release(WEB)
    assert newcomers.of("shop") == []


def test_whose_slices_are_there_already_does_not_wait() -> None:
    newcomers = Newcomers()
    newcomers.hear(slice_of("web"))
    assert not newcomers.holds(service(), is_new=True)


def test_slices_that_went_or_went_to_another_do_not_count() -> None:
    newcomers = Newcomers()
    newcomers.hear(slice_of("web"))
    newcomers.hear(slice_of("web", ObjectKey("EndpointSlice", "shop", "web-2")))
    newcomers.hear(slice_of("api"))
    newcomers.hear(Change(ObjectKey("EndpointSlice", "shop", "web-2"), None))
    assert newcomers.holds(service(), is_new=True)


def test_one_that_goes_while_it_waits_is_forgotten() -> None:
    newcomers = Newcomers()
    newcomers.holds(service(), is_new=True)
    assert not newcomers.holds(Change(WEB, None), is_new=False)
    assert newcomers.hear(slice_of("web")) is None


def test_a_slice_of_another_namespace_or_of_no_shape_frees_nobody() -> None:
    newcomers = Newcomers()
    newcomers.holds(service(), is_new=True)
    shapes: list[Any] = [None, [], {"labels": 3}, {"labels": {"kubernetes.io/service-name": 7}}, {}]
    for shape in shapes:
        assert newcomers.hear(Change(SLICE, {"metadata": shape})) is None
    assert newcomers.hear(slice_of("web", ObjectKey("EndpointSlice", "attic", "web-abcde"))) is None
    assert newcomers.release(WEB) == service()
    assert newcomers.release(WEB) is None
