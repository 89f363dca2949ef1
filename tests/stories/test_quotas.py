"""An owner who wants too much (hardening M-09 and M-11): refused with a Problem, and nobody else notices."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drycc_router.claims.record import MAX_ENCODED, encode, entries, fitted, weigh
from drycc_router.compile.revision import RouteState
from drycc_router.model.objects import Change, ObjectKey
from drycc_router.model.problems import ALIKE, Reason
from drycc_router.model.quotas import (
    ANNOTATION_BYTES,
    CERTIFICATES,
    DOMAINS,
    ENDPOINTS,
    LOCATIONS,
    PAGE_BYTES,
    RECORD_OCTETS,
)
from examples.authority import Authority
from tests.fakes.kube import NOW, World, deployment, endpoints, gone, page, secret, service

OLD, NEW = "2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"


def app(name: str, domains: str, created: str = NEW) -> Change:
    return service(name, {"domains": domains}, created=created)


def many(first: int, last: int, suffix: str = "greedy.example") -> str:
    return ",".join(f"n{number}.{suffix}" for number in range(first, last))


def town() -> World:
    """With a neighbour that has one of everything."""
    there = World()
    there.hears(
        service("shop/web", {"domains": "shop.example", "whitelist": "203.0.113.0/24", "bodySize": "1m"}, created=NEW),
        endpoints("shop/web", "10.0.0.1"),
    )
    return there


def held(there: World, namespace: str) -> set[str]:
    return {host for host, holder in there.owners().items() if holder.startswith(f"{namespace}/")}


def over_quota(there: World, name: str) -> list[str]:
    """What is beyond, as one Service is told."""
    key = ObjectKey("Service", *name.split("/"))
    return [problem.value or problem.message for problem in there.problems(Reason.OVER_QUOTA) if problem.object == key]


def messages(there: World, reason: Reason) -> list[str]:
    return [problem.message for problem in there.problems(reason)]


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_namespace_that_wants_ten_thousand_names_gets_five_hundred_and_its_neighbour_notices_nothing() -> None:
    there = town()
    route, rule = there.routes["shop/web"], there.hosts["shop.example"]

    for number in range(10):
        first = number * 1000
        there.hears(app(f"greedy/web-{number}", many(first, first + 1000)))
        assert there.last.table.routes.keys() <= {f"greedy/web-{number}"}

    assert held(there, "greedy") == set(many(0, DOMAINS).split(","))
    assert there.routes["shop/web"] is route
    assert there.hosts["shop.example"] is rule
    assert there.report("greedy/web-0").state is RouteState.DEGRADED
    assert there.report("greedy/web-9").state is RouteState.REJECTED
    told = over_quota(there, "greedy/web-9")
    assert told == [f"expected otherwise; {1000 - ALIKE} more like this", *sorted(many(9000, 9000 + ALIKE).split(","))]
    assert len(there.problems()) <= 10 * 2 * (ALIKE + 1) + 1
    assert [host.owner for host in there.report("greedy/web-9").hosts] == [""] * 1000


def test_whoever_has_a_name_keeps_it_also_against_older_services_of_its_namespace() -> None:
    there = town()
    there.hears(app("greedy/web", many(0, DOMAINS), NEW))

    there.hears(app("greedy/old", "old.example,n7.greedy.example", OLD))

    assert held(there, "greedy") == set(many(0, DOMAINS).split(","))
    assert over_quota(there, "greedy/old") == ["old.example"]
    assert over_quota(there, "greedy/web") == []

    there.hears(app("greedy/web", many(1, DOMAINS), NEW))
    assert "old.example" in there.owners()
    assert there.problems(Reason.OVER_QUOTA) == []


def test_a_service_that_takes_anothers_place_gets_its_names() -> None:
    there = town()
    there.hears(app("greedy/web", many(0, DOMAINS)))
    there.hears(app("greedy/late", "late.example", OLD))

    there.hears(gone(app("greedy/web", "")), app("greedy/next", many(0, DOMAINS)))

    assert held(there, "greedy") == set(many(0, DOMAINS).split(","))
    assert over_quota(there, "greedy/late") == ["late.example"]


def test_names_that_others_hold_count_too() -> None:
    """Wishing costs as much as having."""
    there = town()
    there.hears(app("evil/web", f"shop.example,{many(1, DOMAINS)}"))
    there.hears(app("evil/more", "more.example"))

    assert len(held(there, "evil")) == DOMAINS - 1
    assert over_quota(there, "evil/more") == ["more.example"]


def test_restarts_and_replicas_give_the_same_names() -> None:
    """What is remembered of claims says who was there first; ages would say something else."""
    late = app("greedy/old", "old.example", OLD)
    there = town()
    there.hears(app("greedy/web", many(0, DOMAINS), NEW))
    there.hears(late)
    assert there.last.record is not None
    record = Change(ObjectKey("ConfigMap", "drycc", "drycc-router-claims"), {"data": {"v1": encode(there.last.record)}})

    restarted = World()
    restarted.hears(record, late, app("greedy/web", many(0, DOMAINS), NEW))
    assert held(restarted, "greedy") == held(there, "greedy")

    replica = World()
    replica.hears(late)
    replica.hears(app("greedy/web", many(0, DOMAINS), NEW))
    assert held(replica, "greedy") != held(there, "greedy")
    replica.hears(record, now=NOW + timedelta(seconds=1))
    assert held(replica, "greedy") == held(there, "greedy")
    assert over_quota(replica, "greedy/old") == ["old.example"]

    forgetful = World()
    forgetful.hears(late, app("greedy/web", many(0, DOMAINS), NEW))
    assert "old.example" in forgetful.owners(), "without a record the age decides"


def test_the_platform_and_manifests_on_disk_have_no_quotas() -> None:
    there = town()
    there.hears(app("drycc/web", many(0, DOMAINS + 10)))
    assert len(held(there, "drycc")) == DOMAINS + 10

    disk = World(trusted_endpoints=True)
    disk.hears(app("greedy/web", many(0, DOMAINS + 10)))
    assert len(held(disk, "greedy")) == DOMAINS + 10


# ── the record of claims ──────────────────────────────────────────────────────────────────────────────────────────────


def recorded(there: World) -> Change:
    """The ConfigMap as the elected replica writes it now, if it fits."""
    assert there.last.record is not None
    data = entries(fitted(there.last.record)[0])
    assert sum(map(len, data.values())) <= MAX_ENCODED
    return Change(ObjectKey("ConfigMap", "drycc", "drycc-router-claims"), {"data": data})


def test_two_hundred_services_with_the_same_names_take_their_namespace_s_part_of_the_record_and_no_more() -> None:
    there = town()
    crowd = [app(f"evil/web-{number:03}", many(0, DOMAINS), OLD) for number in range(200)]
    there.hears(*crowd)

    assert there.last.record is not None
    lines = [weigh(f"{host} {name}") for host, name in there.last.record.claims if name.startswith("evil/")]
    assert RECORD_OCTETS - 100 < sum(lines) <= RECORD_OCTETS
    assert held(there, "evil") == set(many(0, DOMAINS).split(",")), "each name is held by one of them"
    [told] = {message for message in messages(there, Reason.OVER_QUOTA) if "record" in message}
    assert told.endswith("more than 64 KiB of the record of claims")
    assert "shop.example" in there.owners()

    there.hears(*map(gone, crowd[:190]))
    assert held(there, "evil") == set(many(0, DOMAINS).split(",")), "who waited took over"


def letters(chance: random.Random, count: int) -> str:
    return "".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=count))


def test_no_namespaces_that_fill_the_record_take_a_name_from_anybody_after_a_restart() -> None:
    """Nine of them with names that no compression makes shorter; their Services are older than everybody's."""
    chance = random.Random(1)
    there = town()
    evil = []
    for number in range(20):
        hosts = (f"{letters(chance, 60)}.{letters(chance, 60)}.{letters(chance, 60)}.evil.example" for _ in range(500))
        evil.append(app(f"evil-{number}/web", ",".join(hosts), OLD))
    there.hears(*evil)
    victims = [app(f"shop-{number}/web", f"app-{number}.example", NEW) for number in range(50)]
    there.hears(*victims, now=NOW + timedelta(seconds=1))
    thieves = [
        app(f"evil-{number}/thief", ",".join(f"app-{n}.example" for n in range(50)), OLD) for number in range(20)
    ]
    there.hears(*thieves, now=NOW + timedelta(seconds=2))
    before = {host: owner for host, owner in there.owners().items() if owner.startswith("shop")}
    assert len(before) == 51

    restarted = World()
    restarted.hears(recorded(there), *thieves, *evil, *victims, app("shop/web", "shop.example"))

    assert {host: owner for host, owner in restarted.owners().items() if owner.startswith("shop")} == before


# A namespace, what its Service claims; a restart.
STEPS = st.lists(
    st.none() | st.tuples(st.integers(0, 5), st.lists(st.integers(0, 60), max_size=40, unique=True)), max_size=20
)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_in_no_history_with_restarts_does_a_namespace_lose_what_it_holds_by_what_others_write(
    history: list[tuple[int, list[int]] | None],
) -> None:
    """With a record that has room for about a hundred claims."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("drycc_router.claims.record.MAX_ENCODED", 2048)
        victim = app("shop/web", "n7.greedy.example,n8.greedy.example,shop.example", NEW)
        there = World()
        there.hears(victim)
        said: dict[int, Change] = {}
        for second, step in enumerate(history):
            now = NOW + timedelta(seconds=second)
            if step is None:
                record = recorded(there)
                there = World()
                there.hears(*said.values(), victim, record, now=now)
            else:
                number, names = step
                domains = ",".join(f"n{name}.greedy.example" for name in names)
                said[number] = app(f"evil-{number}/web", domains, OLD)
                there.hears(said[number], now=now)
            assert held(there, "shop") == {"n7.greedy.example", "n8.greedy.example", "shop.example"}


# ── certificates ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_namespace_has_two_hundred_certificates_at_most() -> None:
    there = town()
    pair = Authority().issue("*.greedy.example", start=NOW - timedelta(days=1), days=365)
    hosts = many(0, CERTIFICATES + 2).split(",")
    says = {"domains": ",".join(hosts), "certificates": ",".join(f"{host}:{host}" for host in hosts)}
    there.hears(*(secret(f"greedy/{host}", pair) for host in hosts), service("greedy/web", says))

    assert there.names == {host: f"greedy/{host}" for host in hosts[:CERTIFICATES]}
    assert over_quota(there, "greedy/web") == sorted(f"{host}:{host}" for host in hosts[CERTIFICATES:])
    assert len(held(there, "greedy")) == CERTIFICATES + 2, "they are served all the same, with the default certificate"

    other = service("greedy/api", {"domains": "api.greedy.example", "certificates": f"api.greedy.example:{hosts[0]}"})
    there.hears(other)
    assert there.names["api.greedy.example"] == f"greedy/{hosts[0]}", "one that the namespace has"
    says["certificates"] = ",".join(f"{host}:{host}" for host in hosts[2:])
    there.hears(service("greedy/web", says))
    assert set(there.names) == {*hosts[2:], "api.greedy.example"} - {hosts[-1]}


# ── what one Service says ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_service_that_says_too_much_is_not_heard_and_stays_as_it_was() -> None:
    there = town()
    there.hears(app("greedy/web", "greedy.example"))
    route = there.routes["greedy/web"]

    for size in (ANNOTATION_BYTES, 256 << 10):
        shouted = service("greedy/web", {"domains": "other.example", "whatever": "x" * size})
        there.hears(shouted, service("greedy/new", {"domains": "new.example", "whatever": "\u20ac" * (size // 3)}))
        assert held(there, "greedy") == {"greedy.example"}
        assert there.routes["greedy/web"] is route
        assert there.report("greedy/web").state is RouteState.DEGRADED
        assert [(problem.object.name, problem.key, problem.message) for problem in there.problems()[:2]] == [
            (name, "metadata.annotations", "expected at most 64 KiB under our prefixes") for name in ("new", "web")
        ]

    there.hears(service("greedy/web", {"domains": "other.example"}), gone(service("greedy/new")))
    assert held(there, "greedy") == {"other.example"}


def test_other_peoples_annotations_do_not_count() -> None:
    loud = service("shop/api", {"domains": "api.example"})
    assert loud.object is not None
    loud.object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = "x" * (256 << 10)
    there = town()
    there.hears(loud)

    assert held(there, "shop") == {"shop.example", "api.example"}


@pytest.mark.parametrize(("count", "allowed"), [(1000, 1000), (1001, 0), (100_000, 0)])
def test_a_list_of_networks_has_a_thousand_at_most_and_fails_closed(count: int, allowed: int) -> None:
    networks = [
        f"{number >> 16}.{number >> 8 & 255}.{number & 255}.0/24" for number in range(1 << 16, (1 << 16) + count)
    ]
    there = town()
    there.hears(service("greedy/web", {"domains": "greedy.example", "whitelist": ",".join(networks)}))
    if count > 10_000:  # more than 64 KiB: it was never heard
        assert "greedy/web" not in there.routes
        return

    assert len(there.routes["greedy/web"].policy.allow or ()) == allowed
    assert bool(there.problems(Reason.BAD_VALUE)) is (allowed == 0)


@pytest.mark.parametrize(
    "key", ["connectTimeout", "tcpTimeout", "requestTimeout", "bodyTimeout", "bodyRate", "ssl.hsts.maxAge"]
)
@pytest.mark.parametrize("number", ["1e309", "-1", "9" * 400, "inf", "nan", "0x10", "\u0661", "1_000", "", "1e3"])
def test_a_number_that_is_none_leaves_what_was_good(key: str, number: str) -> None:
    there = town()
    there.hears(service("greedy/web", {"domains": "greedy.example", key: "7"}))
    policy = there.routes["greedy/web"].policy

    there.hears(service("greedy/web", {"domains": "greedy.example", key: number}))

    assert there.routes["greedy/web"].policy == policy
    assert [problem.key for problem in there.problems(Reason.BAD_VALUE)] == [f"router.drycc.cc/{key}"]


def test_times_beyond_what_an_app_may_ask_for_become_the_longest_that_it_may() -> None:
    there = town()
    keys = ("bodyTimeout", "connectTimeout", "tcpTimeout", "requestTimeout")
    there.hears(service("greedy/web", {"domains": "greedy.example", **dict.fromkeys(keys, "365d")}))

    policy = there.routes["greedy/web"].policy
    assert (policy.connect_timeout, policy.idle_timeout, policy.request_timeout) == (300.0, 86_400.0, 86_400.0)
    assert policy.body_timeout == 86_400.0
    assert [(problem.key, problem.message) for problem in there.problems(Reason.OVER_LIMIT)] == [
        ("router.drycc.cc/bodyTimeout", "expected at most 86400s, which is in force"),
        ("router.drycc.cc/connectTimeout", "expected at most 300s, which is in force"),
        ("router.drycc.cc/requestTimeout", "expected at most 86400s, which is in force"),
        ("router.drycc.cc/tcpTimeout", "expected at most 86400s, which is in force"),
    ]

    there.hears(deployment({"defaultTimeout": "2d"}))
    policy = there.routes["greedy/web"].policy
    assert (policy.idle_timeout, policy.request_timeout) == (172_800.0, 172_800.0), "the operator's own is no limit"


def test_times_of_nothing_are_refused_where_they_would_mean_nothing() -> None:
    there = town()
    there.hears(service("greedy/web", {"domains": "greedy.example", "connectTimeout": "0", "tcpTimeout": "0"}))

    policy = there.routes["greedy/web"].policy
    assert (policy.connect_timeout, policy.idle_timeout) == (30.0, 1300.0)
    assert len(there.problems(Reason.BAD_VALUE)) == 2


# ── endpoints, pages, paths ───────────────────────────────────────────────────────────────────────────────────────────


def addresses(first: int, last: int) -> list[str]:
    return [f"10.{number >> 8}.{number & 255}.9" for number in range(first, last)]


def test_an_app_has_a_thousand_endpoints_at_most_and_keeps_those_that_it_had() -> None:
    there = town()
    there.hears(app("greedy/web", "greedy.example"), endpoints("greedy/web", *addresses(500, 1500)))
    before = there.routes["greedy/web"].endpoints

    there.hears(endpoints("greedy/web", *addresses(0, 700), slice_="2"))

    assert there.routes["greedy/web"].endpoints == before
    assert over_quota(there, "greedy/web") == [f"expected at most {ENDPOINTS} endpoints; the others are left out"]
    there.hears(endpoints("greedy/web", *addresses(500, 1400)))
    now = there.routes["greedy/web"].endpoints
    assert len(now) == ENDPOINTS
    assert {(address, 5000) for address in addresses(500, 1400)} <= set(now)


def test_a_slice_with_a_thousand_refused_addresses_is_told_of_in_a_few_words() -> None:
    there = town()
    there.hears(
        app("evil/web", "evil.example"), endpoints("evil/web", *(f"127.0.{n >> 8}.{n & 255}" for n in range(1000)))
    )

    assert len(there.problems(Reason.REFUSED_ADDRESS)) == ALIKE + 1
    assert f"expected otherwise; {1000 - ALIKE} more like this" in messages(there, Reason.REFUSED_ADDRESS)


def test_a_page_that_is_too_large_is_not_shown_and_all_that_show_one_share_it() -> None:
    there = town()
    says = {"domains": "greedy.example", "maintenance.page": "sorry"}
    there.hears(service("greedy/web", says), page("greedy/sorry", "x" * (PAGE_BYTES + 1)))
    assert there.routes["greedy/web"].policy.maintenance_page == b""
    assert over_quota(there, "greedy/web") == ["sorry"]

    there.hears(service("greedy/api", {**says, "domains": "api.example"}), page("greedy/sorry", "x" * PAGE_BYTES))
    pages = [there.routes[name].policy.maintenance_page for name in ("greedy/web", "greedy/api")]
    assert len(pages[0]) == PAGE_BYTES
    assert pages[0] is pages[1]


def test_an_app_has_two_hundred_paths_of_others_at_most_and_they_keep_them() -> None:
    there = town()
    there.hears(app("greedy/front", "front.example"))

    def contributor(name: str, first: int, last: int, created: str = NEW) -> Change:
        paths = ",".join(f"/p{number}" for number in range(first, last))
        return service(name, {"proxyDomain": "front.example", "proxyLocations": paths}, created=created)

    there.hears(contributor("greedy/one", 0, LOCATIONS))
    there.hears(contributor("greedy/old", LOCATIONS - 1, LOCATIONS + 2, OLD))

    paths = there.hosts["front.example"].paths
    assert len(paths) == LOCATIONS
    assert {route for _, route in paths} == {"greedy/one"}
    assert over_quota(there, "greedy/old") == [f"/p{LOCATIONS}", f"/p{LOCATIONS + 1}"]
    assert there.report("greedy/old").state is RouteState.REJECTED

    there.hears(contributor("greedy/one", 1, LOCATIONS))
    assert len(there.hosts["front.example"].paths) == LOCATIONS
    assert over_quota(there, "greedy/old") == [f"/p{LOCATIONS + 1}"]
