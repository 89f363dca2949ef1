"""From Changes to what is published: only what differs, nobody disturbed by another, nothing lost."""

import random
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drycc_router.claims.record import Record, Recorded, Stamp, encode, entries
from drycc_router.compile import compiler as compiling
from drycc_router.compile.compiler import Compiler, OwnNames
from drycc_router.compile.revision import Role, RouteState
from drycc_router.model.objects import Change, ObjectKey
from drycc_router.model.problems import Problem, Reason
from drycc_router.translate import services
from drycc_tls.policy import Version
from examples.authority import Authority, Pair
from tests.fakes.kube import NOW, World, deployment, endpoints, gone, page, secret, service

AUTHORITY = Authority()


SHOP = AUTHORITY.issue("shop.example", start=NOW - timedelta(days=1), days=365)
OTHER = AUTHORITY.issue("other.example", start=NOW - timedelta(days=1), days=365)
PLATFORM = AUTHORITY.issue("*.apps.io", "apps.io", start=NOW - timedelta(days=1), days=365)


# ── what is published ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_snapshot_is_published_even_when_nothing_was_said() -> None:
    snapshot = Compiler(trusted_endpoints=False).compile(NOW)

    assert (snapshot.changed, snapshot.generation, snapshot.table.generation) == (True, 1, 1)
    assert snapshot.table.edge is not None
    assert snapshot.certificates.policy is not None


def test_an_app_is_published_and_taken_away() -> None:
    town = World()

    town.hears(service("shop/web", {"domains": "shop.example"}), endpoints("shop/web", "10.0.0.1"))
    assert town.owners() == {"shop.example": "shop/web"}
    assert town.routes["shop/web"].endpoints == (("10.0.0.1", 5000),)

    town.hears(gone(service("shop/web")))
    assert (town.owners(), town.routes, dict(town.last.apps)) == ({}, {}, {})


def test_an_app_without_endpoints_is_published_all_the_same() -> None:
    town = World()
    town.hears(service("shop/web", {"domains": "shop.example"}))
    assert town.routes["shop/web"].endpoints == ()


def test_only_what_differs_is_published() -> None:
    town = World()
    town.hears(*(service(f"app{n}/web", {"domains": f"app{n}.example"}) for n in range(20)))

    town.hears(endpoints("app7/web", "10.0.0.1"))
    assert town.last.table.routes.keys() == {"app7/web"}
    assert (town.last.table.hosts, town.last.table.edge, town.last.certificates.names) == ({}, None, {})

    town.hears(service("app7/web", {"domains": "app7.example,new.example"}))
    assert town.last.table.routes == {}
    assert town.last.table.hosts.keys() == {b"new.example"}


def test_no_app_says_what_every_connection_meets() -> None:
    """PROXY headers are the operator's business: listeners are everybody's (hardening P-04)."""
    town = World()
    town.hears(service("shop/web", {"domains": "shop.example"}))
    town.hears(
        service("shop/web", {"domains": "shop.example", "useProxyProtocol": "true", "proxyRealIpCidrs": "0.0.0.0/0"})
    )
    assert town.last.table.edge is None
    unknown = {problem.key for problem in town.last.problems if problem.reason is Reason.UNKNOWN_KEY}
    assert len(unknown) == 2

    town.hears(deployment({"useProxyProtocol": "true"}))
    assert town.last.table.edge is not None
    assert town.last.table.edge.proxy_protocol
    town.hears(deployment({}))
    assert town.last.table.edge is not None
    assert not town.last.table.edge.proxy_protocol


def test_a_change_that_comes_to_the_same_publishes_nothing() -> None:
    town = World()
    town.hears(service("shop/web", {"domains": "a.example,b.example", "bodySize": "1024"}))
    generation = town.last.generation

    town.hears(service("shop/web", {"domains": "B.example, a.example.", "bodySize": "1k"}))

    assert not town.last.changed
    assert town.last.generation == generation


def test_apply_says_whether_it_matters() -> None:
    compiler = Compiler(trusted_endpoints=False)
    assert compiler.apply(service("shop/web")) is True
    assert compiler.apply(service("shop/web")) is False
    assert compiler.apply(Change(ObjectKey("Pod", "a", "b"), {})) is False


def test_how_many_apps_are_in_which_state_is_kept_along() -> None:
    town, chance, seen = World(), random.Random(3), Counter[RouteState]()
    for _ in range(60):
        app = chance.choice("abcdefgh")
        if chance.random() < 0.2:
            town.hears(gone(service(f"shop/{app}")))
        else:
            asked = {"domains": chance.choice([app, "taken", ""])} | (
                {"bodySize": "ten"} if chance.random() < 0.5 else {}
            )
            town.hears(service(f"shop/{app}", asked))
        states = Counter(report.state for report in town.last.apps.values())
        assert {state: count for state, count in town.last.states.items() if count} == states
        seen += states
    assert seen.keys() == {*RouteState}


def test_taking_the_label_away_takes_the_app_away() -> None:
    town = World()
    town.hears(service("shop/web", {"domains": "shop.example"}))

    town.hears(service("shop/web", {"domains": "shop.example"}, labels={"router.drycc.cc/routable": "false"}))

    assert (town.owners(), town.routes) == ({}, {})


# ── last known good ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_bad_value_keeps_the_last_good_one_and_degrades_the_app() -> None:
    town = World()
    town.hears(service("shop/web", {"domains": "shop", "bodySize": "1k"}))
    assert town.report("shop/web").state is RouteState.LIVE

    town.hears(service("shop/web", {"domains": "shop", "bodySize": "ten"}))

    assert town.routes["shop/web"].policy.body_size == 1024
    assert town.report("shop/web").state is RouteState.DEGRADED
    (problem,) = town.problems()
    assert str(problem) == (
        "Service shop/web: router.drycc.cc/bodySize = 'ten': expected a size such as 512k, 10m or 0 [bad_value]"
    )
    assert town.last.problems_new == (problem,)

    town.hears(service("shop/web", {"domains": "shop", "bodySize": "2k"}))
    assert town.last.problems_gone == (problem,)
    assert town.report("shop/web").state is RouteState.LIVE


def test_an_object_that_cannot_be_read_keeps_its_route_and_says_so() -> None:
    town = World()
    town.hears(service("shop/web", {"domains": "shop.example"}), endpoints("shop/web", "10.0.0.1"))
    before = town.routes["shop/web"]

    town.hears(Change(ObjectKey("Service", "shop", "web"), {"spec": {"ports": "80"}}))

    assert town.routes["shop/web"] == before
    assert [problem.reason for problem in town.problems(Reason.BAD_OBJECT)] == [Reason.BAD_OBJECT]
    assert town.report("shop/web").state is RouteState.DEGRADED


def test_one_broken_object_among_many_leaves_the_others_routes_equal() -> None:
    good = [service(f"app{n}/web", {"domains": f"app{n}.example"}) for n in range(200)]
    alone, together = World(), World()
    alone.hears(*good)
    broken = [
        Change(ObjectKey("Service", "bad", "shape"), {"metadata": 7}),
        Change(ObjectKey("EndpointSlice", "app1", "web-1"), {"endpoints": [{"addresses": 7}]}),
        service("bad/words", {"domains": "\x00,*.com,app1.example", "whitelist": "x" * 10_000, "port": "\ud800"}),
        service("bad/paths", {"domains": "p.example", "proxyDomain": "nobody.example", "proxyLocations": "/"}),
        secret("bad/x-cert", None),
    ]

    together.hears(*good, *broken)

    assert {name: together.routes[name] for name in alone.routes} == alone.routes
    assert {host: together.hosts[host] for host in alone.hosts} == alone.hosts


def test_a_fault_of_ours_in_one_app_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    town = World()
    town.hears(service("shop/web", {"domains": "shop.example"}))
    healthy = services.compile_app

    def failing(view: object, *arguments: object) -> object:
        if "boom" in repr(view):
            raise ZeroDivisionError
        return healthy(view, *arguments)  # type: ignore[arg-type]  # passes on whatever it was given

    monkeypatch.setattr(compiling, "compile_app", failing)
    town.hears(service("shop/web", {"domains": "boom.example"}), service("shop/api", {"domains": "api.example"}))

    assert town.owners() == {"shop.example": "shop/web", "api.example": "shop/api"}
    assert [problem.message.split("(")[1] for problem in town.problems(Reason.ROUTER_FAULT)] == ["ZeroDivisionError)"]


def test_a_compilation_that_fails_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    town = World()
    with monkeypatch.context() as broken:
        broken.setattr(compiling, "HostReport", None)
        with pytest.raises(TypeError):
            town.hears(service("shop/web", {"domains": "shop.example", "certificates": "shop.example:shop"}))
        with pytest.raises(TypeError):
            town.hears(secret("shop/shop-cert", SHOP))

    town.hears()

    assert town.owners() == {"shop.example": "shop/web"}
    assert town.names == {"shop.example": "shop/shop-cert"}


# ── claims ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_name_has_one_owner_and_the_loser_is_told_who() -> None:
    town = World()
    town.hears(
        service("b/web", {"domains": "shop.example"}, created="2026-01-01T00:00:00Z"),
        service("a/web", {"domains": "Shop.Example.,a.example"}, created="2026-01-02T00:00:00Z"),
    )

    assert town.owners() == {"shop.example": "b/web", "a.example": "a/web"}
    (problem,) = town.problems(Reason.DOMAIN_TAKEN)
    assert problem.object == ObjectKey("Service", "a", "web")
    assert problem.message == "expected a free name: Service b/web holds shop.example"
    assert town.report("a/web").state is RouteState.DEGRADED

    town.hears(gone(service("b/web")))
    assert town.owners() == {"shop.example": "a/web", "a.example": "a/web"}
    assert town.problems(Reason.DOMAIN_TAKEN) == []


def test_a_holder_notices_nothing_of_a_newcomer() -> None:
    town = World()
    town.hears(service("b/web", {"domains": "shop.example"}))

    town.hears(service("a/web", {"domains": "shop.example,*.example.com"}, created="2001-01-01T00:00:00Z"))

    assert town.last.table.hosts.keys() == {b"*.example.com"}
    assert town.owners()["shop.example"] == "b/web"


def test_the_platforms_own_wildcard_stands_behind_every_app() -> None:
    town = World()
    town.hears(
        deployment({"platformDomain": "apps.io"}),
        service("drycc/sorry", {"domains": "*.apps.io"}),
        service("shop/web", {"domains": "shop"}),
        service("evil/web", {"domains": "*.apps.io,apps.io,drycc"}),
    )

    assert town.owners() == {"*.apps.io": "drycc/sorry", "shop.apps.io": "shop/web"}
    assert len(town.problems(Reason.RESERVED_DOMAIN)) == 3


def test_the_platforms_domain_moves_every_short_name_at_once() -> None:
    town = World()
    town.hears(service("shop/web", {"domains": "shop,www.shop.example"}))
    assert set(town.owners()) == {"shop.*", "www.shop.example"}

    town.hears(deployment({"nginx.platformDomain": "apps.io"}))
    assert set(town.owners()) == {"shop.apps.io", "www.shop.example"}

    town.hears(gone(deployment({})))
    assert set(town.owners()) == {"shop.*", "www.shop.example"}


# ── paths of other apps ───────────────────────────────────────────────────────────────────────────────────────────────

FRONT = {"domains": "front,www.front.example"}


def contributor(name: str, locations: str, domain: str = "front", **more: str) -> Change:
    return service(name, {"proxyDomain": domain, "proxyLocations": locations, **more})


def paths(town: World, host: str) -> list[tuple[str, str]]:
    return [(prefix.decode(), route) for prefix, route in town.hosts[host].paths]


def test_paths_are_contributed_to_every_name_of_the_app_longest_first() -> None:
    town = World()
    town.hears(service("shop/front", FRONT), contributor("shop/api", "/api,/api/v2,/img/"))

    expected = [("/api/v2", "shop/api"), ("/api", "shop/api"), ("/img", "shop/api")]
    assert paths(town, "front.*") == expected
    assert paths(town, "www.front.example") == expected
    assert town.report("shop/api").state is RouteState.LIVE

    town.hears(gone(service("shop/api")))
    assert paths(town, "front.*") == []
    assert "shop/api" not in town.routes


def test_another_namespace_needs_the_owners_word() -> None:
    town = World()
    town.hears(service("shop/front", FRONT), contributor("blog/web", "/blog"))

    assert paths(town, "front.*") == []
    assert town.report("blog/web").state is RouteState.REJECTED
    (problem,) = town.problems(Reason.LOCATIONS_NOT_ALLOWED)
    assert problem.object.namespace == "blog"

    town.hears(service("shop/front", FRONT | {"allowLocationsFrom": "blog"}))
    assert paths(town, "front.*") == [("/blog", "blog/web")]
    assert town.problems(Reason.LOCATIONS_NOT_ALLOWED) == []

    town.hears(service("shop/front", FRONT))
    assert paths(town, "front.*") == []


def test_an_unknown_name_is_the_contributors_problem_only_and_mends_itself() -> None:
    town = World()
    town.hears(contributor("shop/api", "/api"), service("shop/other", {"domains": "other"}))
    assert [problem.object.name for problem in town.problems(Reason.UNKNOWN_PROXY_DOMAIN)] == ["api"]

    town.hears(service("shop/front", FRONT))
    assert paths(town, "front.*") == [("/api", "shop/api")]
    assert town.problems(Reason.UNKNOWN_PROXY_DOMAIN) == []


def test_a_path_has_one_answerer_and_the_incumbent_keeps_it() -> None:
    town = World()
    town.hears(service("shop/front", FRONT), contributor("shop/new", "/api"))

    town.hears(
        service(
            "shop/old",
            {"proxyDomain": "www.front.example", "proxyLocations": "/api,/img"},
            created="2001-01-01T00:00:00Z",
        )
    )

    assert paths(town, "front.*") == [("/api", "shop/new"), ("/img", "shop/old")]
    (problem,) = town.problems(Reason.LOCATION_TAKEN)
    assert (problem.object.name, problem.value) == ("old", "/api")

    town.hears(gone(service("shop/new")))
    assert paths(town, "front.*") == [("/api", "shop/old"), ("/img", "shop/old")]
    assert town.problems(Reason.LOCATION_TAKEN) == []


def test_paths_follow_the_name_to_its_next_owner() -> None:
    town = World()
    town.hears(
        service("shop/front", {"domains": "www.front.example"}, created="2026-01-01T00:00:00Z"),
        service("shop/heir", {"domains": "www.front.example,heir.example"}, created="2026-01-02T00:00:00Z"),
        contributor("shop/api", "/api", "www.front.example"),
    )
    assert paths(town, "heir.example") == []

    town.hears(gone(service("shop/front")))

    assert paths(town, "www.front.example") == [("/api", "shop/api")]
    assert paths(town, "heir.example") == [("/api", "shop/api")]


# ── certificates ──────────────────────────────────────────────────────────────────────────────────────────────────────

WITH_CERTIFICATE = {"domains": "shop.example", "certificates": "shop.example:shop"}


def test_a_name_presents_its_own_certificate() -> None:
    town = World()
    town.hears(service("shop/web", WITH_CERTIFICATE), secret("shop/shop-cert", SHOP))

    assert town.names == {"shop.example": "shop/shop-cert"}
    assert town.certificates["shop/shop-cert"].names == ("shop.example",)
    assert town.problems() == []


def test_a_secret_nobody_names_is_never_read() -> None:
    town = World()
    town.hears(service("shop/web", WITH_CERTIFICATE), secret("shop/other-cert", None), secret("else/shop-cert", SHOP))

    assert town.certificates == {}
    assert [problem.reason for problem in town.problems()] == [Reason.CERTIFICATE_MISSING]


def test_a_certificate_that_comes_later_takes_effect() -> None:
    town = World()
    town.hears(service("shop/web", WITH_CERTIFICATE))
    (problem,) = town.problems(Reason.CERTIFICATE_MISSING)
    assert problem.value == "shop.example:shop"

    town.hears(secret("shop/shop-cert", SHOP))
    assert town.names == {"shop.example": "shop/shop-cert"}
    assert (town.problems(), town.last.table.routes) == ([], {})

    town.hears(gone(secret("shop/shop-cert", SHOP)))
    assert (town.names, town.certificates) == ({}, {})


def test_a_rotated_certificate_is_all_that_is_published() -> None:
    town = World()
    town.hears(service("shop/web", WITH_CERTIFICATE), secret("shop/shop-cert", SHOP))

    renewed = AUTHORITY.issue("shop.example", start=NOW, days=365)
    town.hears(secret("shop/shop-cert", renewed))

    assert town.last.certificates.certificates.keys() == {"shop/shop-cert"}
    assert (town.last.certificates.names, town.last.table.hosts, town.last.table.routes) == ({}, {}, {})


def test_a_bad_pair_keeps_the_previous_one_and_degrades_the_app() -> None:
    town = World()
    town.hears(service("shop/web", WITH_CERTIFICATE), secret("shop/shop-cert", SHOP))
    before = dict(town.certificates)

    town.hears(secret("shop/shop-cert", None))

    assert (town.certificates, town.names) == (before, {"shop.example": "shop/shop-cert"})
    assert not town.last.changed
    assert {problem.object.kind for problem in town.problems()} == {"Secret", "Service"}
    assert {problem.reason for problem in town.problems()} == {Reason.CERTIFICATE_BAD}
    assert town.report("shop/web").state is RouteState.DEGRADED


def test_a_certificate_for_other_names_is_served_and_is_a_problem() -> None:
    town = World()
    town.hears(service("shop/web", WITH_CERTIFICATE), secret("shop/shop-cert", OTHER))

    assert town.names == {"shop.example": "shop/shop-cert"}
    assert [problem.reason for problem in town.problems()] == [Reason.CERTIFICATE_DOES_NOT_COVER]


def test_an_exact_mapping_counts_before_the_closest_wildcard() -> None:
    wild = AUTHORITY.issue("*.shop.example", start=NOW, days=365)
    exact = AUTHORITY.issue("www.shop.example", start=NOW, days=365)
    town = World()
    town.hears(
        service(
            "shop/web",
            {
                "domains": "www.shop.example,api.shop.example,*.shop.example",
                "certificates": "*.shop.example:wild,www.shop.example:www",
            },
        ),
        secret("shop/wild-cert", wild),
        secret("shop/www", exact),
    )

    assert town.names == {
        "www.shop.example": "shop/www",
        "api.shop.example": "shop/wild-cert",
        "*.shop.example": "shop/wild-cert",
    }
    assert town.problems() == []


def test_a_certificate_serves_only_names_that_its_namespace_holds() -> None:
    town = World()
    town.hears(service("shop/web", {"domains": "shop.example"}), secret("evil/shop-cert", SHOP))

    town.hears(service("evil/web", WITH_CERTIFICATE))

    assert town.names == {}
    assert [problem.object.namespace for problem in town.problems(Reason.DOMAIN_TAKEN)] == ["evil"]
    assert [problem.reason for problem in town.last.problems if problem.is_note] == [Reason.CERTIFICATE_UNUSED]


def test_a_dotted_name_without_a_certificate_is_a_problem_though_the_app_is_live() -> None:
    town = World()
    town.hears(deployment({"platformDomain": "apps.io"}), service("shop/web", {"domains": "shop,www.shop.example"}))

    (problem,) = town.problems()
    assert (problem.reason, problem.value) == (Reason.DOMAIN_WITHOUT_CERTIFICATE, "www.shop.example")
    assert town.report("shop/web").state is RouteState.LIVE


def test_who_wants_no_https_is_missing_no_certificate() -> None:
    town = World()
    town.hears(deployment({"ssl.enforce": "true", "ssl.hsts.enabled": "true"}))
    says = {"domains": "shop.example,www.shop.example", "certificates": "www.shop.example:none", "ssl.enabled": "False"}
    town.hears(service("shop/web", says), service("blog/web", {"domains": "blog.example"}))
    assert {problem.object.namespace for problem in town.problems()} == {"blog"}
    assert town.report("shop/web").state is RouteState.LIVE
    policies = {name: town.routes[name].policy for name in ("shop/web", "blog/web")}
    assert (policies["shop/web"].enforce_https, policies["shop/web"].hsts) == (False, b"")
    assert (policies["blog/web"].enforce_https, bool(policies["blog/web"].hsts)) == (True, True)
    town.hears(service("shop/web", {**says, "certificates": "www.shop.example:www"}), secret("shop/www-cert", SHOP))
    assert town.names == {"www.shop.example": "shop/www-cert"}, "https answers all the same"


def test_a_service_that_names_nothing_is_no_fault_anywhere() -> None:
    town = World()
    for nothing in ({}, {"domains": ""}, {"domains": " \n", "certificates": ""}):
        town.hears(service("shop/web", nothing))
        assert [problem.reason for problem in town.last.problems] == [Reason.NO_DOMAINS]
        assert town.problems() == []
        assert town.report("shop/web").state is RouteState.IDLE
    town.hears(service("shop/web", {"domains": "*"}))
    assert [problem.reason for problem in town.last.problems] == [Reason.REFUSED_DOMAIN]
    assert town.report("shop/web").state is RouteState.REJECTED


def test_a_secret_that_cannot_be_read_is_told_where_it_is_named() -> None:
    town = World()
    about = ObjectKey("Service", "shop", "web")
    broken = Change(ObjectKey("Secret", "shop", "shop-cert"), {"data": {"tls.crt": "-----BEGIN", "tls.key": "c4n4ry"}})
    web = service("shop/web", {"domains": "shop.example", "certificates": "shop.example:shop"})
    town.hears(web, broken)
    [told] = [problem for problem in town.problems() if problem.object == about]
    assert (told.reason, told.value) == (Reason.CERTIFICATE_BAD, "shop.example:shop")
    assert told.message == "expected base64 at data[tls.crt] of Secret shop-cert"

    town.hears(secret("shop/shop-cert", SHOP))
    assert town.problems() == []
    town.hears(broken)
    [told] = [problem for problem in town.problems() if problem.object == about]
    assert told.message == "expected base64 at data[tls.crt] of Secret shop-cert; what it said before stays"
    assert town.names == {"shop.example": "shop/shop-cert"}


def test_a_key_of_another_certificate_is_told_where_it_is_named() -> None:
    town = World()
    town.hears(
        service("shop/web", {"domains": "shop.example", "certificates": "shop.example:shop"}),
        secret("shop/shop-cert", Pair(SHOP.chain, OTHER.key)),
    )
    told = {problem.object.kind: problem for problem in town.problems()}
    assert told.keys() == {"Secret", "Service"}
    assert {problem.reason for problem in told.values()} == {Reason.CERTIFICATE_BAD}
    assert told["Service"].key == "router.drycc.cc/certificates"
    assert told["Service"].message == f"Secret shop-cert: {told['Secret'].message}"
    assert "belong" in told["Secret"].message


def test_the_platforms_certificate_is_the_default_and_covers_names_below_its_domain() -> None:
    town = World()
    town.hears(service("shop/web", {"domains": "www.apps.io,www.shop.example"}))
    assert len(town.problems(Reason.DOMAIN_WITHOUT_CERTIFICATE)) == 2

    town.hears(secret("drycc/drycc-router-platform-cert", PLATFORM))

    assert town.default == "drycc/drycc-router-platform-cert"
    assert [problem.value for problem in town.problems()] == ["www.shop.example"]
    assert town.last.served["drycc/drycc-router-platform-cert"].role is Role.PLATFORM

    town.hears(gone(secret("drycc/drycc-router-platform-cert", PLATFORM)))
    assert town.default is None
    assert len(town.problems(Reason.DOMAIN_WITHOUT_CERTIFICATE)) == 2


def test_time_passes_and_certificates_grow_old() -> None:
    town = World()
    short = AUTHORITY.issue("shop.example", start=NOW - timedelta(days=1), days=31)
    town.hears(service("shop/web", WITH_CERTIFICATE), secret("shop/shop-cert", short))
    assert town.problems() == []

    town.hears(now=NOW + timedelta(days=17))
    assert [problem.reason for problem in town.last.problems_new] == [Reason.CERTIFICATE_EXPIRES_SOON]
    assert town.report("shop/web").state is RouteState.LIVE
    assert not town.last.changed

    town.hears(now=NOW + timedelta(days=31))
    assert [problem.reason for problem in town.problems()] == [Reason.CERTIFICATE_EXPIRED]
    assert town.names == {"shop.example": "shop/shop-cert"}, "it is served all the same"


@pytest.mark.parametrize("years", [-10, 10])
def test_a_clock_that_is_put_right_mends_what_it_said(years: int) -> None:
    """Hardening R-34: a jump of ten years, and back again, without a change of anything else."""
    town = World()
    good = AUTHORITY.issue("shop.example", start=NOW - timedelta(days=1), days=90)
    town.hears(service("shop/web", WITH_CERTIFICATE), secret("shop/shop-cert", good))
    assert town.problems() == []
    elsewhen = NOW + timedelta(days=365 * years)
    town.hears(now=elsewhen)
    wrong = Reason.CERTIFICATE_EXPIRED if years > 0 else Reason.CERTIFICATE_NOT_YET_VALID
    assert [problem.reason for problem in town.problems()] == [wrong]
    assert town.names == {"shop.example": "shop/shop-cert"}, "it is served all the same"
    town.hears(now=NOW + timedelta(hours=1))
    assert town.problems() == []
    town.hears(now=NOW + timedelta(minutes=30))
    assert town.problems() == []


# ── the router's own settings ─────────────────────────────────────────────────────────────────────────────────────────


def test_settings_apply_live_and_absent_ones_are_the_defaults() -> None:
    town = World()
    town.hears(service("shop/web", {"domains": "shop"}))

    town.hears(deployment({"defaultTimeout": "1m", "maxHeaders": "50", "ssl.protocols": "TLSv1.3"}))

    assert town.routes["shop/web"].policy.idle_timeout == 60.0
    assert town.edge is not None
    assert town.edge.max_fields == 50
    assert town.last.certificates.policy is not None
    assert town.last.certificates.policy.minimum is Version.TLS_1_3

    town.hears(gone(deployment({})))
    assert town.routes["shop/web"].policy.idle_timeout == 1300.0
    assert town.edge.max_fields == 100


def test_a_bad_setting_keeps_the_last_good_one() -> None:
    town = World()
    town.hears(deployment({"maxHeaders": "50"}))

    town.hears(deployment({"maxHeaders": "many"}))

    assert town.edge is not None
    assert town.edge.max_fields == 50
    (problem,) = town.problems()
    assert (problem.object, problem.reason) == (ObjectKey("Deployment", "drycc", "drycc-router"), Reason.BAD_VALUE)


def test_the_ancestors_deployment_is_understood_and_gives_way() -> None:
    town = World()
    town.hears(deployment({"nginx.maxHeaders": "50"}, "drycc/deis-router", "router.deis.io/"))
    assert town.edge is not None
    assert town.edge.max_fields == 50

    town.hears(deployment({"maxHeaders": "60"}))
    assert town.edge.max_fields == 60
    (problem,) = town.problems()
    assert (problem.reason, problem.object.name) == (Reason.SHADOWED_OBJECT, "deis-router")


def test_other_deployments_are_nobodys_settings() -> None:
    town = World(OwnNames(namespace="edge", deployment="front"))
    town.hears(deployment({"maxHeaders": "50"}), deployment({"maxHeaders": "60"}, "edge/front"))

    assert town.edge is not None
    assert town.edge.max_fields == 60


def test_unknown_hosts_can_be_given_to_a_default_service() -> None:
    town = World()
    says = {"defaultServiceEnabled": "true", "defaultServiceIP": "10.96.0.9", "defaultAppName": "landing"}
    town.hears(deployment(says))

    assert town.edge is not None
    route = town.routes[town.edge.default_route]
    assert (route.app, route.endpoints) == ("landing", (("10.96.0.9", 80),))

    town.hears(deployment(says | {"defaultServiceEnabled": "false"}))
    assert (town.edge.default_route, town.routes) == ("", {})


def test_the_builders_annotations_are_checked() -> None:
    town = World()
    town.hears(service("drycc/drycc-builder", {"nginx.tcpTimeout": "long"}, labels={}))

    assert [(problem.reason, problem.object.name) for problem in town.problems()] == [
        (Reason.BAD_VALUE, "drycc-builder")
    ]


def test_a_page_takes_effect_when_it_comes_and_goes() -> None:
    town = World()
    town.hears(service("shop/web", {"domains": "shop", "maintenance.page": "sorry"}))

    town.hears(page("shop/sorry", "<p>"))
    assert town.routes["shop/web"].policy.maintenance_page == b"<p>"

    town.hears(gone(page("shop/sorry", "")))
    assert town.routes["shop/web"].policy.maintenance_page == b""


def test_sources_have_problems_too() -> None:
    compiler = Compiler(trusted_endpoints=True)
    problem = Problem(Reason.UNREADABLE_FILE, ObjectKey("File", "", "a.yaml"), "", "", "expected YAML")

    compiler.source_problems("a.yaml", (problem,))
    assert compiler.compile(NOW).problems == (problem,)
    compiler.source_problems("a.yaml", ())
    assert compiler.compile(NOW).problems_gone == (problem,)


# ── what is remembered of claims ──────────────────────────────────────────────────────────────────────────────────────

RECORD = ObjectKey("ConfigMap", "drycc", "drycc-router-claims")
CLAIMED = (
    service("a/web", {"domains": "shop.example"}, created="2026-01-01T00:00:00Z"),
    service("b/web", {"domains": "shop.example"}, created="2026-01-02T00:00:00Z"),
)
"""Two that want one name. Without a record the older one gets it."""


def says_record(**data: str) -> Change:
    return Change(RECORD, {"data": data})


def for_b(author: str = "another") -> str:
    """A record by which the younger one holds the name."""
    claims = {("shop.example", "a/web"): Recorded(2_000, False), ("shop.example", "b/web"): Recorded(1_000, True)}
    return encode(Record(Stamp(author, 1), claims))


def to_write(town: World) -> Record:
    record = town.last.record
    assert record is not None
    return record


def test_what_is_decided_is_handed_out_to_be_remembered_with_its_time() -> None:
    town = World()
    town.hears(*CLAIMED)

    milliseconds = int(NOW.timestamp() * 1000)
    assert to_write(town).claims == {
        ("shop.example", "a/web"): Recorded(milliseconds, True),
        ("shop.example", "b/web"): Recorded(milliseconds, False),
    }
    record = town.last.record
    town.hears(endpoints("a/web", "10.0.0.1"))
    assert town.last.record is record, "nothing else is to be written"


@pytest.mark.parametrize("order", [0, 1])
def test_the_record_counts_in_the_first_batch_wherever_it_stands_there(order: int) -> None:
    town = World()
    changes = [says_record(v1=for_b()), *CLAIMED]
    town.hears(*changes[order:], *changes[:order])

    assert town.owners() == {"shop.example": "b/web"}


def test_a_record_that_comes_later_is_obeyed_too() -> None:
    town = World()
    town.hears(*CLAIMED)

    town.hears(says_record(v1=for_b()))

    assert town.owners() == {"shop.example": "b/web"}
    assert town.last.table.hosts.keys() == {b"shop.example"}
    assert to_write(town).after == Stamp("another", 1)


def test_what_was_written_comes_back_and_changes_nothing() -> None:
    town = World()
    town.hears(*CLAIMED)
    written = to_write(town)

    town.hears(says_record(v1=encode(written)))

    assert not town.last.changed
    assert town.last.record is None
    assert town.problems(Reason.BAD_OBJECT) == []


def test_what_was_written_comes_back_late_and_changes_nothing() -> None:
    town = World()
    town.hears(*CLAIMED)
    written = encode(to_write(town))
    town.hears(gone(CLAIMED[0]))
    town.hears(CLAIMED[0])
    assert town.owners() == {"shop.example": "b/web"}, "the first one gave it up"

    town.hears(says_record(v1=written))

    assert not town.last.changed
    assert to_write(town).follows(written)


def test_other_config_maps_are_no_record() -> None:
    town = World()
    town.hears(Change(ObjectKey("ConfigMap", "evil", RECORD.name), {"data": {"v1": for_b()}}), *CLAIMED)
    assert town.owners() == {"shop.example": "a/web"}

    edge = World(OwnNames.of("edge", "net"))
    edge.hears(Change(ObjectKey("ConfigMap", "net", "edge-claims"), {"data": {"v1": for_b()}}), *CLAIMED)
    assert edge.owners() == {"shop.example": "b/web"}


def test_a_record_that_cannot_be_read_takes_nothing_from_anybody() -> None:
    town = World()
    town.hears(says_record(v1=for_b()), *CLAIMED)

    town.hears(says_record(v1="canary"))

    assert not town.last.changed
    assert town.owners() == {"shop.example": "b/web"}
    (problem,) = town.problems(Reason.BAD_OBJECT)
    assert (problem.reason, problem.object, problem.key) == (Reason.BAD_OBJECT, RECORD, "data[v1]")
    assert "canary" not in str(problem)
    again = to_write(town)
    assert again.claims["shop.example", "b/web"] == Recorded(1_000, True)
    assert again.follows("canary")
    assert again.after is None
    assert entries(again) == {"v1": encode(again), "v1.unreadable": "canary"}


def test_where_a_router_starts_with_a_record_that_cannot_be_read_the_age_of_services_decides() -> None:
    town = World()
    town.hears(says_record(v1="canary"), *CLAIMED)
    assert town.owners() == {"shop.example": "a/web"}

    town.hears(says_record(**entries(to_write(town))))

    (problem,) = town.problems(Reason.BAD_OBJECT)
    assert problem.key == "data[v1.unreadable]", "somebody should look at it, and take it away then"
    assert town.last.record is None
    town.hears(says_record(v1=encode(Record(Stamp("another", 2), {}))))
    assert town.problems(Reason.BAD_OBJECT) == []
    assert to_write(town).unread == ""


def test_a_record_of_the_wrong_shape_leaves_what_was_remembered() -> None:
    town = World()
    town.hears(says_record(v1=for_b()), *CLAIMED)

    town.hears(Change(RECORD, {"data": {"v1": 7}}))

    assert town.owners() == {"shop.example": "b/web"}
    assert [problem.object for problem in town.problems(Reason.BAD_OBJECT)] == [RECORD]


def test_a_record_that_is_taken_away_is_written_anew() -> None:
    town = World()
    town.hears(says_record(v1=for_b()), *CLAIMED)

    town.hears(gone(says_record()))

    assert town.owners() == {"shop.example": "b/web"}
    assert to_write(town).after is None
    assert to_write(town).follows("")


def test_what_the_operator_gave_to_somebody_beats_everything_at_once() -> None:
    town = World()
    town.hears(
        service("a/web", {"domains": "shop.example,*.big.example"}),
        service("b/web", {"domains": "shop.example,x.big.example"}),
    )
    assert town.owners() == {"shop.example": "a/web", "*.big.example": "a/web"}

    town.hears(says_record(given="shop.example b\nx.big.example b\n*.big.example a\nnonsense"))
    assert town.owners() == {"shop.example": "b/web", "*.big.example": "a/web", "x.big.example": "b/web"}
    (refused,) = town.problems(Reason.RESERVED_DOMAIN)
    assert (refused.object.namespace, refused.value) == ("a", "shop.example")
    (bad,) = town.problems(Reason.BAD_ELEMENT)
    assert (bad.object, bad.key, bad.value) == (RECORD, "data[given]", "nonsense")

    town.hears(gone(service("b/web")))
    assert town.owners() == {"*.big.example": "a/web"}, "nobody else gets it"
    town.hears(says_record())
    assert town.owners() == {"shop.example": "a/web", "*.big.example": "a/web"}


def test_short_names_that_were_given_follow_the_platforms_domain() -> None:
    town = World()
    town.hears(
        says_record(given="shop b"), service("a/web", {"domains": "shop"}), service("b/web", {"domains": "shop"})
    )
    assert town.owners() == {"shop.*": "b/web"}

    town.hears(deployment({"platformDomain": "apps.io"}))
    assert town.owners() == {"shop.apps.io": "b/web"}


# ── certificates of others ────────────────────────────────────────────────────────────────────────────────────────────


def town_with_a_wildcard(**says: str) -> World:
    """The operator gave names below ``*.big.example``, which ``shop`` holds with a certificate, to ``blog``."""
    town = World()
    town.hears(
        says_record(given="*.big.example shop\nx.big.example blog\n*.deep.big.example blog"),
        secret("shop/shop", SHOP),
        service("shop/web", {"domains": "*.big.example,own.big.example", "certificates": "*.big.example:shop"}),
        service("blog/web", {"domains": "x.big.example,*.deep.big.example", **says}),
    )
    return town


def test_a_wildcard_s_certificate_is_not_presented_for_names_that_another_namespace_holds() -> None:
    town = town_with_a_wildcard()
    assert town.owners()["x.big.example"] == "blog/web"
    wildcard = {"*.big.example": "shop/shop", "own.big.example": "shop/shop"}
    assert town.names == {**wildcard, "x.big.example": "", "*.deep.big.example": ""}
    assert {host.host: host.certificate for host in town.report("blog/web").hosts} == {
        "x.big.example": None,
        "*.deep.big.example": None,
    }

    town.hears(gone(secret("shop/shop", None)))
    assert town.names == {}, "nothing to keep out"
    town.hears(secret("shop/shop", SHOP))
    assert town.names == {**wildcard, "x.big.example": "", "*.deep.big.example": ""}

    town.hears(gone(service("blog/web")))
    assert town.names == wildcard


def test_a_certificate_of_one_s_own_is_presented() -> None:
    town = town_with_a_wildcard(certificates="x.big.example:own")
    town.hears(secret("blog/own", OTHER))
    assert town.names["x.big.example"] == "blog/own"
    assert town.names["*.deep.big.example"] == ""

    town.hears(gone(secret("blog/own", OTHER)))
    assert town.names["x.big.example"] == ""


def test_the_platform_s_own_wildcard_is_no_certificate_for_everybody_below_it() -> None:
    town = World()
    town.hears(
        deployment({"platformDomain": "apps.io"}),
        secret("drycc/star", SHOP),
        service("drycc/landing", {"domains": "*.apps.io,landing.apps.io", "certificates": "*.apps.io:star"}),
        service("shop/web", {"domains": "shop"}),
    )
    assert town.names == {"*.apps.io": "drycc/star", "landing.apps.io": "drycc/star", "shop.apps.io": ""}


def test_nobody_but_the_platform_gets_names_below_the_platform_s_names() -> None:
    town = World()
    town.hears(
        deployment({"platformDomain": "apps.io"}),
        service("evil/web", {"domains": "*.drycc.apps.io,a.drycc.apps.io,a.b.grafana.apps.io,evil"}),
        service("drycc/web", {"domains": "*.drycc.apps.io"}),
    )
    assert town.owners() == {"evil.apps.io": "evil/web", "*.drycc.apps.io": "drycc/web"}
    assert len(town.problems(Reason.RESERVED_DOMAIN)) == 3


# ── any history ───────────────────────────────────────────────────────────────────────────────────────────────────────

_NAMES = ["shop/web", "shop/api", "blog/web", "drycc/web"]
_DOMAINS = ["a.example", "*.example.com", "x.example.com", "shop", "drycc", "foo_bar", "*.apps.io"]
_SERVICES = st.builds(
    lambda name, domains, more: service(name, {"domains": ",".join(domains), **more}),
    st.sampled_from(_NAMES),
    st.lists(st.sampled_from(_DOMAINS), max_size=3),
    st.dictionaries(
        st.sampled_from(["proxyDomain", "proxyLocations", "certificates", "allowLocationsFrom", "whitelist", "port"]),
        st.sampled_from(["a.example", "/api", "a.example:shop", "blog,shop", "10.0.0.0/8", "http"]),
        max_size=4,
    ),
)
_CHANGES = st.one_of(
    _SERVICES,
    _SERVICES.map(gone),
    st.builds(endpoints, st.sampled_from(_NAMES), st.sampled_from(["10.0.0.1", "10.0.0.2", "127.0.0.1"])),
    st.builds(secret, st.sampled_from(["shop/shop", "blog/shop-cert"]), st.sampled_from([SHOP, OTHER, None])),
    st.builds(lambda name: gone(secret(name, None)), st.sampled_from(["shop/shop", "blog/shop-cert"])),
    st.builds(deployment, st.sampled_from([{}, {"platformDomain": "apps.io"}, {"ssl.enforce": "true"}])),
    st.builds(lambda name: Change(ObjectKey("Service", *name.split("/")), {"spec": []}), st.sampled_from(_NAMES)),
    st.sampled_from(
        [
            says_record(v1=for_b()),
            says_record(v1="dirt"),
            says_record(given="a.example blog\n*.example.com shop"),
            says_record(),
        ]
    ),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.lists(_CHANGES, max_size=4), max_size=6))
def test_differences_add_up_to_the_whole_and_nothing_lingers(history: list[list[Change]]) -> None:
    """World checks the invariants of every difference; here, that forgetting and compiling all anew changes nothing,
    and that the end of every object is the end of everything."""
    town = World()
    for batch in history:
        town.hears(*batch)

    compiler = town.compiler
    published = (town.routes.copy(), town.hosts.copy(), town.names.copy(), town.certificates.copy())
    reported = town.last.apps
    compiler._dirty_apps |= dict.fromkeys(compiler._apps)
    compiler._dirty_config = True
    town.hears()
    assert not town.last.changed, "what is settled stays settled"
    assert (town.routes, town.hosts, town.names, town.certificates) == published
    assert (town.last.problems_new, town.last.problems_gone) == ((), ())
    assert town.last.apps == reported

    town.hears(*(gone(change) for batch in history for change in batch))
    assert (town.routes, town.hosts, town.names, town.certificates) == ({}, {}, {}, {})
    assert (town.last.problems, dict(town.last.apps), dict(town.last.served)) == ((), {}, {})


@settings(deadline=None, max_examples=60)
@given(st.lists(_SERVICES, max_size=8), st.randoms(use_true_random=False))
def test_in_one_batch_the_order_of_arrival_decides_nothing(changes: list[Change], order: random.Random) -> None:
    last = {change.key: change for change in changes}
    shuffled = list(last.values())
    order.shuffle(shuffled)
    one, other = World(), World()

    one.hears(*last.values())
    other.hears(*shuffled)

    assert (one.routes, one.hosts, one.last.problems) == (other.routes, other.hosts, other.last.problems)


def test_where_names_are_to_lead_is_what_the_load_balancer_says_of_itself() -> None:
    world = World()
    ingress = [{"ip": "203.0.113.7"}, {"hostname": "lb.example"}]
    own = service("drycc/drycc-router", labels={}, type="LoadBalancer")
    raw = {**(own.object or {}), "status": {"loadBalancer": {"ingress": ingress}}}
    assert world.hears(own).balancers == ()
    assert world.hears(Change(own.key, raw)).balancers == ("203.0.113.7", "lb.example")
    world.hears(service("shop/web", {"domains": "shop"}), endpoints("shop/web", "203.0.113.7"))
    [problem] = world.problems(Reason.REFUSED_ADDRESS)
    assert problem.object.namespace == "shop", "a way back to the router is no endpoint (hardening M-16)"
