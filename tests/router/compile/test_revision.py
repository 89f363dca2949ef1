"""Reports are plain data about everything there is, and nothing of a key."""

import dataclasses
import json
from datetime import timedelta

from drycc_proxy.routing.definitions import Policy
from drycc_router.compile.revision import AppReport, HostReport, RouteState
from examples.authority import Authority
from tests.fakes.kube import NOW, World, deployment, endpoints, secret, service

AUTHORITY = Authority()
PAIR = AUTHORITY.issue("shop.example", start=NOW - timedelta(days=1), days=31)


def world() -> World:
    town = World()
    town.hears(
        deployment({"bodySize": "1m", "platformDomain": "apps.io"}),
        service("shop/web", {"domains": "shop.example", "certificates": "shop.example:shop", "denylist": "192.0.2.1"}),
        endpoints("shop/web", "10.0.0.1", "fd00::1"),
        secret("shop/shop-cert", PAIR),
        service("shop/api", {"domains": "api", "proxyDomain": "shop.example", "proxyLocations": "/api"}),
        service("zoo/web", {"domains": "shop.example"}),
    )
    return town


def test_routes_are_reported_with_hosts_paths_owners_endpoints_and_what_differs() -> None:
    reports = {str(report["name"]): report for report in world().last.report_routes()}

    assert reports["shop/web"] == {
        "name": "shop/web",
        "app": "shop/web",
        "namespace": "shop",
        "service": "web",
        "state": "live",
        "hosts": [
            {
                "host": "shop.example",
                "owner": "shop/web",
                "paths": [{"prefix": "/api", "route": "shop/api"}],
                "certificate": "shop/shop-cert",
            }
        ],
        "endpoints": ["10.0.0.1:5000", "[fd00::1]:5000"],
        "policy": {"deny": ["192.0.2.1/32"]},
    }
    assert reports["zoo/web"]["state"] == "rejected"
    assert reports["zoo/web"]["hosts"] == [
        {"host": "shop.example", "owner": "shop/web", "paths": [], "certificate": None}
    ]


def test_certificates_are_reported_without_their_keys() -> None:
    snapshot = world().last

    (report,) = snapshot.report_certificates()

    assert (report["namespace"], report["secret"], report["role"]) == ("shop", "shop-cert", "own")
    assert (report["names"], report["serves"], report["days_left"]) == (["shop.example"], ["shop.example"], 30)
    assert snapshot.report_certificates(NOW + timedelta(days=10))[0]["days_left"] == 20
    text = json.dumps([report, snapshot.report_routes()]) + repr(snapshot)
    assert PAIR.key.decode().splitlines()[1] not in text
    assert "PRIVATE" not in text


def test_a_policy_is_plain_data() -> None:
    policy = dataclasses.replace(Policy(), hsts=b"max-age=60", allow=(), maintenance=True)
    report = AppReport("a/b", "a/b", "a", "b", RouteState.LIVE, (HostReport("b.*", "a/b"),), (), policy)

    assert report.as_json(Policy())["policy"] == {"hsts": "max-age=60", "allow": [], "maintenance": True}


def test_the_platform_certificate_is_named_where_it_stands_in() -> None:
    town = World()
    town.hears(
        deployment({"platformDomain": "apps.io"}),
        service("shop/web", {"domains": "shop, elsewhere.example"}),
        endpoints("shop/web", "10.0.0.1"),
        secret(
            "drycc/drycc-router-platform-cert", AUTHORITY.issue("*.apps.io", start=NOW - timedelta(days=1), days=31)
        ),
    )

    (route,) = town.last.report_routes()
    (certificate,) = town.last.report_certificates()

    hosts = route["hosts"]
    assert isinstance(hosts, list)
    assert {host["host"]: host["certificate"] for host in hosts} == {
        "shop.apps.io": "drycc/drycc-router-platform-cert",
        "elsewhere.example": None,
    }
    assert certificate["serves"] == ["shop.apps.io"]
