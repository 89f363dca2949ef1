"""The picture: what touches whom, and that an object which cannot be read leaves what it said before."""

from drycc_router.model.cluster import Cluster
from drycc_router.model.objects import Change, ConfigMap, ObjectKey, Secret, Service
from drycc_router.model.problems import Reason
from drycc_router.model.quotas import ANNOTATION_BYTES
from tests.fakes.kube import endpoints, gone, page, service

WEB = ObjectKey("Service", "shop", "web")


def test_an_object_that_says_the_same_touches_nothing() -> None:
    cluster = Cluster()

    assert cluster.apply(service("shop/web", {"domains": "a.example"})) == {WEB}
    assert cluster.apply(service("shop/web", {"domains": "a.example"})) == frozenset()
    assert cluster.apply(service("shop/web", {"domains": "b.example"})) == {WEB}


def test_a_kind_the_router_does_not_read_touches_nothing() -> None:
    assert Cluster().apply(Change(ObjectKey("Pod", "shop", "web-1"), {"spec": 7})) == frozenset()


def test_a_slice_touches_its_service_and_the_one_it_belonged_to() -> None:
    cluster = Cluster()
    first = endpoints("shop/web", "10.0.0.1")
    moved = Change(first.key, endpoints("shop/api", "10.0.0.1").object)

    assert cluster.apply(first) == {first.key, WEB}
    assert cluster.apply(moved) == {first.key, WEB, ObjectKey("Service", "shop", "api")}
    assert cluster.slices(WEB) == []
    assert cluster.apply(gone(first)) == {first.key, ObjectKey("Service", "shop", "api")}


def test_slices_of_a_service_come_in_the_order_of_their_names() -> None:
    cluster = Cluster()
    for slice_ in ("2", "1", "3"):
        cluster.apply(endpoints("shop/web", f"10.0.0.{slice_}", slice_=slice_))

    assert [view.key.name for view in cluster.slices(WEB)] == ["web-1", "web-2", "web-3"]


def test_an_object_that_cannot_be_read_keeps_what_it_said_and_is_a_problem() -> None:
    cluster = Cluster()
    good = service("shop/web", {"domains": "a.example"})
    cluster.apply(good)
    before = cluster.get(Service, "shop", "web")

    assert cluster.apply(Change(WEB, {"metadata": {"annotations": []}})) == {WEB}

    assert cluster.get(Service, "shop", "web") is before
    problem = cluster.unreadable[WEB]
    assert (problem.reason, problem.key) == (Reason.BAD_OBJECT, "metadata.annotations")
    assert cluster.apply(Change(WEB, {"metadata": {"annotations": []}})) == frozenset(), "nothing new about that"

    assert cluster.apply(good) == {WEB}
    assert cluster.unreadable == {}


def test_an_unreadable_slice_touches_its_service_too() -> None:
    cluster = Cluster()
    good = endpoints("shop/web", "10.0.0.1")
    cluster.apply(good)

    assert cluster.apply(Change(good.key, {"endpoints": 7})) == {good.key, WEB}
    assert len(cluster.slices(WEB)) == 1


def test_what_is_gone_is_gone_even_if_it_was_unreadable() -> None:
    cluster = Cluster()
    cluster.apply(page("shop/sorry", "<p>"))
    cluster.apply(Change(ObjectKey("ConfigMap", "shop", "sorry"), {"data": 7}))

    cluster.apply(gone(page("shop/sorry", "")))

    assert cluster.get(ConfigMap, "shop", "sorry") is None
    assert cluster.unreadable == {}
    assert cluster.apply(gone(page("shop/sorry", ""))) == frozenset()


def test_views_are_found_by_their_kind() -> None:
    cluster = Cluster()
    cluster.apply(service("shop/web"))

    assert WEB in cluster
    assert cluster.get(Service, "shop", "web") is not None
    assert cluster.get(Secret, "shop", "web") is None


def test_a_service_that_says_too_much_keeps_what_it_said_and_nothing_of_it_is_kept() -> None:
    cluster = Cluster()
    cluster.apply(service("shop/web", {"domains": "shop"}))
    before = cluster.get(Service, "shop", "web")

    assert cluster.apply(service("shop/web", {"domains": "x" * ANNOTATION_BYTES})) == {before.key if before else None}
    assert cluster.get(Service, "shop", "web") is before
    (problem,) = cluster.unreadable.values()
    assert (problem.reason, problem.key) == (Reason.OVER_QUOTA, "metadata.annotations")

    cluster.apply(service("shop/web", {"domains": "shop"}))
    assert cluster.unreadable == {}


def test_what_is_said_is_measured_in_octets() -> None:
    key = "router.drycc.cc/x"
    room = ANNOTATION_BYTES - len(key)
    for text, unreadable in (
        ("x" * room, 0),
        ("x" * (room + 1), 1),
        ("\u00fc" * (room // 2), 0),
        ("\u00fc" * (room // 2 + 1), 1),
        ("\ud800" * (room // 3), 0),
    ):
        cluster = Cluster()
        cluster.apply(service("shop/web", {"x": text}))
        assert len(cluster.unreadable) == unreadable


def test_the_addresses_of_a_service_are_those_in_its_slices_ready_or_not() -> None:
    cluster = Cluster()
    cluster.apply(endpoints("shop/web", "10.0.0.1", {"addresses": ["10.0.0.2"], "conditions": {"ready": False}}))
    cluster.apply(endpoints("shop/web", "name.example", slice_="2", addressType="FQDN"))
    cluster.apply(endpoints("shop/api", "10.0.0.3"))

    web = ObjectKey("Service", "shop", "web")
    assert list(cluster.addresses(web)) == ["10.0.0.1", "10.0.0.2", "name.example"]
    assert list(cluster.addresses(ObjectKey("Service", "shop", "nobody"))) == []


def test_it_knows_what_tells_an_object_from_others_of_its_name() -> None:
    cluster = Cluster()
    web, broken, page = (ObjectKey(kind, "shop", "web") for kind in ("Service", "EndpointSlice", "ConfigMap"))
    other = ObjectKey("Service", "shop", "other")
    assert cluster.uid(web) is None
    cluster.apply(Change(web, {"metadata": {"uid": "u-1"}, "spec": {}}))
    cluster.apply(Change(other, {"metadata": {"uid": "u-2"}, "spec": {"ports": "none"}}))
    cluster.apply(Change(page, {"metadata": {"uid": "u-3"}, "data": {}}))
    cluster.apply(Change(broken, {"metadata": {"uid": "u-4"}, "addressType": "IPv4"}))
    assert [cluster.uid(key) for key in (web, other, page, broken)] == ["u-1", "u-2", "u-3", ""]
    for key in (web, other, page, broken):
        cluster.apply(Change(key, None))
    assert [cluster.uid(key) for key in (web, other, page, broken)] == [None] * 4
