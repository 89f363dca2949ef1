"""The router as a door to somewhere else: where an owner tries to send it, and where it does not go.

Sixty targets of an owner's Service (hardening M-13) and forty of a slice written by hand (M-14); the router itself
(M-16), also where only the cluster says where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from drycc_router.compile.revision import RouteState
from drycc_router.model.address_policy import Fence
from drycc_router.model.objects import Change, ObjectKey
from drycc_router.model.problems import Reason
from tests.fakes.kube import World, deployment, endpoints, gone, service

FENCE = Fence.around(
    {
        "POD_IPS": "10.1.0.5,fd00:1::5",
        "HOST_IP": "192.168.7.1",
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    },
    ("192.168.0.0/16", "fd00:9::/48"),
)
GOOD = (("10.1.2.3", 5000),)


def mapped(address: str) -> list[str]:
    """Some forms of an IPv4 address in an IPv6 one."""
    number = int(IPv4Address(address))
    prefixes = (0xFFFF << 32, 0, 0xFFFF << 48, 0x64FF9B << 96, (0x2001_0DB8 << 96) + (0x5EFE << 32))
    six = [str(IPv6Address(prefix + number)) for prefix in prefixes]
    return [address, *six, str(IPv6Address((0x2002 << 112) + (number << 80) + 1))]


NAMES = (
    "metadata.google.internal metadata metadata.google.internal. METADATA.GOOGLE.INTERNAL instance-data localhost "
    "instance-data.ec2.internal localhost.localdomain ip6-localhost kubernetes.default kubernetes.default.svc "
    "kubernetes.default.svc.cluster.local drycc-router.drycc.svc drycc-router-admin.drycc.svc.cluster.local "
    "web.blog.svc.cluster.local blog.example rebinding.example 169.254.169.254.nip.io 127-0-0-1.sslip.io localtest.me"
)
NUMBERS = (
    "2852039166 0xa9fea9fe 0xA9.0xFE.0xA9.0xFE 0251.0376.0251.0376 169.254.43518 169.16689662 127.1 0177.0.0.1 0x7f.1 "
    "017700000001 [::1] [::ffff:169.254.169.254] 169.254.169.254%00 169.254.169.254:80 http://169.254.169.254/ "
    "\uff11\uff16\uff19.254.169.254 169\u3002254\u3002169\u3002254 fe80::1%eth0"
)
ADDRESSES = [
    *mapped("169.254.169.254"),
    *mapped("127.0.0.1"),
    *mapped("10.1.0.5"),
    "::1",
    "0.0.0.0",
    "::",
    "fe80::a9fe:a9fe",
    "fd00:ec2::254",
    "100.100.100.200",
    "168.63.129.16",
    "64:ff9b:1::a9fe:a9fe",
]
TARGETS = [*NAMES.split(" "), *NUMBERS.split(" "), *ADDRESSES]


def test_there_are_more_than_sixty_targets_and_thirty_encodings() -> None:
    assert len(set(TARGETS)) >= 60
    assert len({*NUMBERS.split(" "), *ADDRESSES}) >= 30


@pytest.mark.parametrize("target", TARGETS)
def test_a_service_leads_to_none_of_them(target: str) -> None:
    """M-13: as the name of an ExternalName Service, as an address of a slice, as the Service's own address."""
    named = service("evil/named", {"domains": "named.example"}, type="ExternalName", externalName=target, ports=())
    listed = service("evil/listed", {"domains": "listed.example"})
    own = service("evil/own", {"domains": "own.example", "upstream": "service"}, clusterIP=target)
    town = World(fence=FENCE)

    town.hears(
        service("shop/web", {"domains": "shop.example"}),
        endpoints("shop/web", "10.1.2.3"),
        named,
        endpoints("evil/named", "10.9.9.9"),
        listed,
        endpoints("evil/listed", target),
        own,
        endpoints("evil/own", "10.9.9.9"),
    )

    for name in ("evil/named", "evil/listed", "evil/own"):
        assert town.routes[name].endpoints == ()
        assert town.report(name).state is RouteState.DEGRADED
    refusals = [problem.reason for problem in town.problems() if problem.object.namespace == "evil"]
    assert refusals.count(Reason.EXTERNAL_NAME) == 1
    assert refusals.count(Reason.REFUSED_ADDRESS) == 2
    assert town.routes["shop/web"].endpoints == GOOD
    assert {problem.object.namespace for problem in town.problems(Reason.REFUSED_ADDRESS)} == {"evil"}


POD = {"kind": "Pod", "namespace": "evil", "name": "web-0"}


def said(address: str, target: Mapping[str, str] | None = POD) -> dict[str, object]:
    return {"addresses": [address], "targetRef": target}


BY_HAND: list[tuple[str, dict[str, Any]]] = [
    *((address, {}) for address in mapped("10.1.0.5")),  # the router itself
    *((address, {}) for address in mapped("10.96.0.1")),  # the API server
    *((address, {}) for address in mapped("192.168.7.1")),  # the node, its kubelet
    *((address, {}) for address in ("192.168.7.2", "192.168.255.255", "fd00:9::1", "fd00:9:0:ffff::1")),  # other nodes
    *((address, {}) for address in ("fd00:1::5", "FD00:1:0::5", "169.254.1.1", "fe80::1", "::ffff:a9fe:a9fe")),
    *((address, {}) for address in ("224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1", "0.0.0.0")),
    ("kubernetes.default.svc", {"addressType": "FQDN"}),
    ("metadata.google.internal", {"addressType": "FQDN"}),
    ("10.2.2.2", {"addressType": "FQDN"}),
]
FOREIGN = [
    {"kind": "Pod", "namespace": "shop", "name": "web-0"},
    {"kind": "Pod", "namespace": "kube-system", "name": "etcd-0"},
    {"kind": "Pod", "namespace": "drycc", "name": "drycc-router-0"},
    {"kind": "Service", "namespace": "shop", "name": "web"},
    {"kind": "Node", "name": "node-1"},
    {"kind": "Node", "namespace": "evil", "name": "node-1"},
]


def test_there_are_more_than_forty_ways_to_write_a_slice() -> None:
    assert len(BY_HAND) + len(FOREIGN) >= 40


@pytest.mark.parametrize(("address", "fields"), BY_HAND, ids=str)
@pytest.mark.parametrize("target", [POD, None], ids=["with a Pod", "without"])
def test_a_slice_written_by_hand_leads_to_none_of_them(
    address: str, fields: dict[str, Any], target: Mapping[str, str] | None
) -> None:
    """M-14: whatever Pod it says that it is, on the kubelet's port."""
    assert_refused(endpoints("evil/web", said(address, target), port=10250, **fields))


@pytest.mark.parametrize("target", FOREIGN, ids=str)
def test_a_slice_that_names_what_is_not_its_owners_leads_nowhere(target: dict[str, str]) -> None:
    assert_refused(endpoints("evil/web", said("10.2.2.2", target)))


def assert_refused(slices: Change) -> None:
    for upstream in ("endpoints", "service"):
        town = World(fence=FENCE)
        says = {"domains": "evil.example", "upstream": upstream}
        town.hears(service("evil/web", says, clusterIP="10.96.5.5"), slices)
        assert town.routes["evil/web"].endpoints == ()
        assert [problem.reason for problem in town.problems(Reason.REFUSED_ADDRESS)] == [Reason.REFUSED_ADDRESS]
        town.hears(endpoints("evil/web", "10.2.2.2"))
        assert town.routes["evil/web"].endpoints
        assert town.problems(Reason.REFUSED_ADDRESS) == []


# ── what the cluster tells of the router and the API server ───────────────────────────────────────────────────────────


def test_the_routers_replicas_and_their_service_are_no_endpoints() -> None:
    """A loop of one hop (M-16), wherever the replicas are by now."""
    town = World()
    town.hears(
        service("drycc/drycc-router", labels={}, clusterIP="10.96.7.7"),
        endpoints("drycc/drycc-router", "10.1.0.5", {"addresses": ["10.1.0.6"], "conditions": {"ready": False}}),
        service("evil/web", {"domains": "evil.example"}),
        endpoints("evil/web", "10.1.0.5", "10.1.0.6", "10.96.7.7", "10.1.0.7", "64:ff9b::a01:5"),
    )
    assert town.routes["evil/web"].endpoints == (("10.1.0.7", 5000),)
    assert {problem.message for problem in town.problems(Reason.REFUSED_ADDRESS)} == {
        "expected the address of a pod, not the router's own"
    }

    moved = endpoints("drycc/drycc-router", "10.1.0.6", "10.1.0.7")
    town.hears(moved)
    assert [ip for ip, _ in town.routes["evil/web"].endpoints] == ["10.1.0.5", "64:ff9b::a01:5"]

    town.hears(gone(moved), gone(service("drycc/drycc-router")))
    assert len(town.routes["evil/web"].endpoints) == 5


def test_only_apps_at_an_address_that_changed_hands_are_looked_at_again() -> None:
    town = World()
    town.hears(*(service(f"app-{number}/web", {"domains": f"a{number}.example"}) for number in range(50)))
    town.hears(*(endpoints(f"app-{number}/web", f"10.0.0.{number}") for number in range(50)))

    snapshot = town.hears(endpoints("drycc/drycc-router", "10.0.0.7", "10.0.0.200"))

    assert snapshot.table.routes.keys() == {"app-7/web"}
    assert snapshot.table.routes["app-7/web"].endpoints == ()


def test_the_api_server_is_no_endpoint_where_the_cluster_says_where_it_is() -> None:
    """Its Service's slices are seen when every namespace is watched; else only the variable tells, and the operator."""
    town = World()
    town.hears(
        service("evil/web", {"domains": "evil.example"}),
        endpoints("evil/web", "192.168.7.1", port=6443),
        endpoints("default/kubernetes", "192.168.7.1", port=6443, called="https"),
    )

    assert town.routes["evil/web"].endpoints == ()
    assert [problem.message for problem in town.problems(Reason.REFUSED_ADDRESS)] == [
        "expected the address of a pod, not the API server's"
    ]


def test_nobody_else_can_say_where_the_router_is() -> None:
    """An owner who calls its Service like the router's takes no address from anybody."""
    town = World()
    town.hears(
        service("shop/web", {"domains": "shop.example"}),
        endpoints("shop/web", "10.1.2.3"),
        service("evil/drycc-router", labels={}),
        endpoints("evil/drycc-router", "10.1.2.3"),
        endpoints("evil/kubernetes", "10.1.2.3"),
    )

    assert town.routes["shop/web"].endpoints == GOOD


def test_what_the_operator_says_is_not_judged() -> None:
    town = World(fence=FENCE)
    town.hears(deployment({"defaultServiceEnabled": "true", "defaultServiceIP": "192.168.7.1"}))

    assert town.routes["default"].endpoints == (("192.168.7.1", 80),)
    assert ObjectKey("Deployment", "drycc", "drycc-router") not in {problem.object for problem in town.problems()}
