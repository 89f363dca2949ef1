"""Ports that lead to one Service: the builder's, those the operator maps, and nobody else's."""

from __future__ import annotations

import pytest

from drycc_router.model.address_policy import Fence
from drycc_router.model.objects import Change
from drycc_router.model.problems import Reason
from tests.fakes.kube import World, deployment, endpoints, gone, service

SSH = ({"name": "ssh", "port": 2222},)
BUILDER = service("drycc/drycc-builder", labels={}, ports=SSH)
ENDPOINT = endpoints("drycc/drycc-builder", "10.0.0.7", port=2223, called="ssh")


def builder(**says: str) -> Change:
    return service("drycc/drycc-builder", says, labels={}, ports=SSH)


def test_the_builder_has_a_port_while_it_is_there() -> None:
    town = World()
    assert town.streams == {}

    town.hears(BUILDER, ENDPOINT)
    git = town.streams["git"]
    assert (git.port, git.namespace, git.service, git.app) == (2222, "drycc", "drycc-builder", "drycc/drycc-builder")
    assert git.endpoints == (("10.0.0.7", 2223),)
    assert (git.connect_timeout, git.idle_timeout, git.first_byte_timeout) == (10.0, 1200.0, 120.0)
    assert (git.connections_per_client, git.new_per_second, git.proxy_protocol) == (20, 10.0, "")
    assert not town.problems()
    assert town.last.report_streams() == [
        {"stream": "git", "port": 2222, "service": "drycc/drycc-builder", "endpoints": ["10.0.0.7:2223"]}
    ]

    town.hears(gone(BUILDER))
    assert town.streams == {}


def test_a_builder_without_endpoints_has_its_port_all_the_same() -> None:
    town = World()
    town.hears(BUILDER)
    assert town.streams["git"].endpoints == ()


def test_endpoints_come_and_go_and_nothing_else_is_published() -> None:
    town = World()
    town.hears(BUILDER, ENDPOINT, service("shop/web", {"domains": "shop.example"}))

    snapshot = town.hears(endpoints("drycc/drycc-builder", "10.0.0.8", port=2223, called="ssh"))
    assert town.streams["git"].endpoints == (("10.0.0.8", 2223),)
    assert (dict(snapshot.table.routes), dict(snapshot.table.hosts), snapshot.table.edge) == ({}, {}, None)

    snapshot = town.hears(endpoints("shop/web", "10.0.0.1"))
    assert (dict(snapshot.table.streams), snapshot.table.gone_streams) == ({}, frozenset())


def test_what_the_builder_service_says_counts() -> None:
    town = World()
    town.hears(
        builder(
            **{"nginx.connectTimeout": "3s", "tcpTimeout": "20m", "proxyProtocol": "v2", "connectionRate": "0"},
        )
    )
    git = town.streams["git"]
    assert (git.connect_timeout, git.idle_timeout, git.proxy_protocol, git.new_per_second) == (3.0, 1200.0, "v2", 0.0)

    town.hears(builder(tcpTimeout="soon"))
    assert town.streams["git"].idle_timeout == 1200.0
    assert [problem.key for problem in town.problems(Reason.BAD_VALUE)] == ["router.drycc.cc/tcpTimeout"]


def test_the_ancestors_builder_is_one_too() -> None:
    town = World()
    town.hears(service("drycc/deis-builder", labels={}, ports=SSH))
    assert town.streams["git"].service == "deis-builder"


def test_a_builder_in_another_namespace_is_nobodys() -> None:
    town = World()
    town.hears(service("shop/drycc-builder", labels={}, ports=SSH))
    assert town.streams == {}


def test_the_builders_only_port_serves_whatever_its_number() -> None:
    town = World()
    town.hears(service("drycc/drycc-builder", labels={}, ports=({"name": "ssh", "port": 22},)), ENDPOINT)
    git = town.streams["git"]
    assert git.endpoints == (("10.0.0.7", 2223),)

    both = ({"name": "ssh", "port": 22}, {"name": "api", "port": 3000})
    town.hears(service("drycc/drycc-builder", labels={}, ports=both))
    git = town.streams["git"]
    assert git.endpoints == ()
    assert [problem.reason for problem in town.problems()] == [Reason.NO_PORT]


def test_the_operator_maps_further_ports() -> None:
    town = World()
    ports = ({"name": "pg", "port": 5432}, {"name": "stats", "port": 9187})
    database = service("shop/database", labels={}, ports=ports)
    town.hears(
        database,
        endpoints("shop/database", "10.0.0.9", port=15432, called="pg"),
        deployment({"tcpPorts": "5432:shop/database:pg", "defaultTimeout": "10m"}),
    )
    stream = town.streams["tcp-5432"]
    assert (stream.port, stream.app, stream.endpoints) == (5432, "shop/database", (("10.0.0.9", 15432),))
    assert (stream.idle_timeout, stream.connections_per_client) == (600.0, 0)

    town.hears(deployment({}))
    assert town.streams == {}


def test_a_service_that_is_mapped_may_come_later() -> None:
    town = World()
    town.hears(deployment({"tcpPorts": "5432:shop/database"}))
    assert [problem.reason for problem in town.problems()] == [Reason.UNKNOWN_SERVICE]

    town.hears(service("shop/database", labels={}, ports=({"port": 5432},)))
    assert town.streams["tcp-5432"].service == "database"
    assert not town.problems()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("80:shop/web", Reason.PORT_TAKEN),
        ("443:shop/web", Reason.PORT_TAKEN),
        ("22:shop/web", Reason.PORT_TAKEN),
        ("2222:shop/web", Reason.PORT_TAKEN),
        ("8080:shop/web", Reason.PORT_TAKEN),
        ("9090:shop/web", Reason.PORT_TAKEN),
        ("5000:shop/web, 5000:shop/api", Reason.PORT_TAKEN),
        ("5001:shop/nobody", Reason.UNKNOWN_SERVICE),
        ("5001:shop/web:9999", Reason.NO_PORT),
        ("5001:web", Reason.BAD_ELEMENT),
        ("0:shop/web", Reason.BAD_ELEMENT),
        ("65536:shop/web", Reason.BAD_ELEMENT),
        ("5001:shop/web:-x", Reason.BAD_ELEMENT),
        ("5001:../web", Reason.BAD_ELEMENT),
    ],
)
def test_a_mapping_that_is_not_in_order_is_a_problem_and_the_others_count(text: str, reason: Reason) -> None:
    town = World()
    town.hears(service("shop/web"), service("shop/api"), deployment({"tcpPorts": f"7000:shop/api, {text}"}))
    assert "tcp-7000" in town.streams
    (problem,) = town.problems()
    assert (problem.reason, problem.key, problem.object.name) == (reason, "router.drycc.cc/tcpPorts", "drycc-router")


def test_no_annotation_of_an_owner_opens_a_port() -> None:
    town = World()
    town.hears(service("shop/web", {"tcpPorts": "5432:shop/web", "domains": "shop.example"}))
    assert town.streams == {}
    assert Reason.UNKNOWN_KEY in {problem.reason for problem in town.problems()}


def test_a_stream_leads_nowhere_where_no_app_may() -> None:
    town = World(fence=Fence())
    town.hears(BUILDER, endpoints("drycc/drycc-builder", "169.254.169.254", "10.0.0.7", port=2223, called="ssh"))
    assert town.streams["git"].endpoints == (("10.0.0.7", 2223),)
    assert [problem.reason for problem in town.problems()] == [Reason.REFUSED_ADDRESS]
