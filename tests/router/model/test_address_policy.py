"""Addresses of endpoints: pods' are taken, doors to elsewhere are not, in any of their forms."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drycc_router.model.address_policy import AddressRefused, Fence, endpoint_address, forms


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("192.168.1.1", "192.168.1.1"),
        ("100.64.0.9", "100.64.0.9"),
        ("203.0.113.9", "203.0.113.9"),
        ("2001:DB8::7", "2001:db8::7"),
        ("fd00:10:244::1f", "fd00:10:244::1f"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
    ],
)
def test_addresses_of_pods_are_canonical(text: str, address: str) -> None:
    assert endpoint_address(text, Fence(), loopback_allowed=False) == address


LOOPBACK = ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"]


@pytest.mark.parametrize("text", LOOPBACK)
def test_loopback_only_where_the_operator_writes_the_objects(text: str) -> None:
    assert endpoint_address(text, Fence(), loopback_allowed=True) in ("127.0.0.1", "127.8.9.1", "::1")
    with pytest.raises(AddressRefused):
        endpoint_address(text, Fence(), loopback_allowed=False)


@pytest.mark.parametrize("loopback_allowed", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "::ffff:a9fe:a9fe",
        "64:ff9b::169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "2002:7f00:1::",
        "::169.254.169.254",
        "64:ff9b::127.0.0.1",
        "2001:0:a9fe:a9fe::",
        "fe80::1",
        "fe80::1%eth0",
        "10.0.0.7%eth0",
        "fd00:ec2::254",
        "100.100.100.200",
        "::ffff:100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::253",
        "fd20:ce::254",
        "::ffff:0:169.254.169.254",
        "64:ff9b:1::a00:7",
        "2001:db8::5efe:169.254.169.254",
        "2001:db8::200:5efe:7f00:1",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "240.0.0.1",
    ],
)
def test_metadata_link_local_multicast_and_nowhere_are_refused_in_every_form(text: str, loopback_allowed: bool) -> None:
    with pytest.raises(AddressRefused):
        endpoint_address(text, Fence(), loopback_allowed=loopback_allowed)


@pytest.mark.parametrize(
    "text",
    [
        *("", "localhost", "web.shop.svc", "127.1", "0x7f000001", "2130706433", "010.0.0.1", "1.2.3.4:80"),
        *("10.0.0.256", "10.0.0.00", "10.0.0.1\n", " 10.0.0.1", "10.0.0.1.", "10.0.0.\u0661", "1\u0660.0.0.1"),
    ],
)
def test_names_and_other_spellings_are_no_addresses(text: str) -> None:
    with pytest.raises(AddressRefused, match="expected an IP address"):
        endpoint_address(text, Fence(), loopback_allowed=True)


SPECIAL = ["0.0.0.0", "127.0.0.0", "169.254.0.0", "224.0.0.0", "240.0.0.0", "100.100.100.200", "168.63.129.16"]
NEAR_SPECIAL = st.builds(
    lambda network, length, distance: IPv4Address((int(IPv4Address(network)) + (distance << 32 - length)) % 2**32),
    st.sampled_from(SPECIAL),
    st.sampled_from([4, 8, 16, 24, 32]),
    st.integers(-1, 1),
)


@given(st.ip_addresses(v=4) | NEAR_SPECIAL, st.booleans())
def test_an_ipv4_address_is_judged_alike_however_it_is_written(address: IPv4Address, loopback_allowed: bool) -> None:
    """Plain, in a way of its own because nearly all are; as IPv6, by ``ipaddress``."""

    def judged(text: str) -> str | None:
        try:
            return endpoint_address(text, Fence(), loopback_allowed=loopback_allowed)
        except AddressRefused:
            return None

    assert judged(str(address)) == judged(f"::ffff:{address}")


# ── the fence ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def written(address: str) -> list[str]:
    """An IPv4 address in every form that an IPv6 one can carry it in."""
    four = IPv4Address(address)
    number = int(four)
    return [
        address,
        *(str(IPv6Address((prefix << 32) + number)) for prefix in (0, 0xFFFF, 0xFFFF0000, 0x64FF9B << 64)),
        str(IPv6Address((0x2002 << 112) + (number << 80) + 1)),
        str(IPv6Address((0x20010000 << 96) + (number << 64) + (0xC0000201 ^ 0xFFFFFFFF))),
        str(IPv6Address((0x20010000 << 96) + (0xC0000201 << 64) + (number ^ 0xFFFFFFFF))),
        str(IPv6Address((0x20010DB8 << 96) + (0x5EFE << 32) + number)),
    ]


FENCE = Fence.around(
    {
        "POD_IP": "10.1.0.5",
        "POD_IPS": "10.1.0.5,fd00:1::5",
        "HOST_IP": "192.168.7.1",
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    },
    ("192.168.0.0/24", "fd00:9::/64"),
    interfaces=("10.1.0.5", "fd00:1::5", "10.77.0.1", "127.0.0.1"),
    api=(("172.18.0.2", 16443),),
    ports=(8080, 8443, 9090),
)
"""A router in the Pod network, and what it is told when it starts."""


@pytest.mark.parametrize(
    ("address", "port", "whose"),
    [
        ("10.1.0.5", 5000, "the router's own"),
        ("10.77.0.1", 5000, "the router's own"),
        ("192.168.7.1", 10250, "10250, where a component of Kubernetes or the router listens on nodes"),
        ("172.18.0.2", 16443, "the API server's"),
        ("10.96.0.1", 443, "the API server's"),
        ("192.168.0.77", 5000, "the operator denies"),
    ],
)
def test_what_is_behind_the_fence_is_refused_in_every_form(address: str, port: int, whose: str) -> None:
    assert len(set(written(address))) == 9
    for text in written(address):
        with pytest.raises(AddressRefused, match=whose):
            endpoint_address(text, FENCE, port, loopback_allowed=True)
        assert endpoint_address(text, Fence(), port, loopback_allowed=False)
    assert endpoint_address(address, FENCE.beside({}, allowed=[f"{address}/32"]), port, loopback_allowed=False)


COMPONENTS = [6443, 10250, 10255, 10256, 10257, 10258, 10259, 2379, 2380]


@pytest.mark.parametrize("node", ["192.168.7.1", "172.18.0.2"])
def test_a_node_is_refused_on_the_ports_of_components_and_not_as_a_whole(node: str) -> None:
    """An app in the host network has its node's address."""
    for port in (*COMPONENTS, 8080, 8443, 9090):
        with pytest.raises(AddressRefused, match=f"port {port}"):
            endpoint_address(node, FENCE, port, loopback_allowed=False)
    for free in (None, 80, 3000, 10251, 10254, 10260):
        assert endpoint_address(node, FENCE, free, loopback_allowed=False) == node


def test_kubelets_ports_are_refused_everywhere_as_any_address_may_be_a_node() -> None:
    for port in (10250, *range(10255, 10260)):
        with pytest.raises(AddressRefused):
            endpoint_address("192.168.7.2", FENCE, port, loopback_allowed=False)
    for port in (6443, 2379, 2380, 8080):  # of a virtual cluster in a Pod, of an app's own etcd
        assert endpoint_address("10.1.3.3", FENCE, port, loopback_allowed=False) == "10.1.3.3"


def test_where_nobody_tells_of_the_api_servers_endpoints_its_ports_are_refused_everywhere() -> None:
    fence = Fence.around({"HOST_IP": "192.168.7.1"}, sees_api=False)
    for port in COMPONENTS:
        with pytest.raises(AddressRefused, match=f"port {port}"):
            endpoint_address("172.18.0.9", fence, port, loopback_allowed=False)


def test_in_the_host_network_the_routers_address_is_its_nodes() -> None:
    fence = Fence.around(
        {"POD_IPS": "192.168.7.1", "HOST_IPS": "192.168.7.1,fd00:7::1", "HOST_PORTS": "80,443"},
        interfaces=("192.168.7.1", "10.244.0.1"),
        ports=(9090,),
    )
    assert fence.in_host_network
    for port in (80, 443, 9090, 10250, 6443):
        with pytest.raises(AddressRefused):
            endpoint_address("192.168.7.1", fence, port, loopback_allowed=False)
        with pytest.raises(AddressRefused):
            endpoint_address("fd00:7::1", fence, port, loopback_allowed=False)
    assert endpoint_address("192.168.7.1", fence, 3000, loopback_allowed=False)
    with pytest.raises(AddressRefused, match="router's own"):
        endpoint_address("10.244.0.1", fence, 3000, loopback_allowed=False)


LIFTED = ["127.0.0.1", "169.254.1.1", "100.100.100.200", "fd00:ec2::254", "64:ff9b::127.0.0.1", "64:ff9b:1::1", "::1"]


@pytest.mark.parametrize("text", LIFTED)
def test_the_operator_makes_exceptions_of_every_rule(text: str) -> None:
    everything = Fence().beside({}, allowed=["0.0.0.0/0", "::/0"])
    assert endpoint_address(text, everything, 80, loopback_allowed=False)
    with pytest.raises(AddressRefused):
        endpoint_address(text, Fence(), 80, loopback_allowed=False)


@pytest.mark.parametrize("text", ["0.0.0.0", "::", "0.1.2.3", "224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1"])
def test_an_exception_makes_no_machine_of_what_is_none(text: str) -> None:
    """Linux connects an unspecified address to the machine itself."""
    everything = Fence().beside({}, allowed=["0.0.0.0/0", "::/0"])
    for form in [text, f"64:ff9b::{text}"] if "." in text else [text]:
        with pytest.raises(AddressRefused):
            endpoint_address(form, everything, 80, loopback_allowed=False)


def test_an_exception_for_one_form_of_an_address_is_none_for_what_it_carries() -> None:
    fence = Fence().beside({}, allowed=["64:ff9b::/96"])
    for text in ("64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe"):
        with pytest.raises(AddressRefused):
            endpoint_address(text, fence, 80, loopback_allowed=False)


@pytest.mark.parametrize("text", ["fd00:1::5", "FD00:1:0:0::5", "fd00:9::1", "fd00:9::ffff:ffff"])
def test_so_is_what_is_ipv6_itself(text: str) -> None:
    with pytest.raises(AddressRefused):
        endpoint_address(text, FENCE, loopback_allowed=False)


@pytest.mark.parametrize("text", ["10.1.0.6", "192.168.7.2", "192.168.1.1", "fd00:1::6", "fd00:9:0:1::1", "10.96.0.2"])
def test_their_neighbours_are_nobody_special(text: str) -> None:
    assert endpoint_address(text, FENCE, loopback_allowed=False) == text


def test_an_environment_that_says_nothing_fences_nothing_in() -> None:
    nothing = "0 addresses, ports of components at 0 node addresses, 0 denied networks"
    assert (Fence.around({}).summary, repr(Fence.around({}))) == (nothing, f"<Fence: {nothing}>")
    assert repr(Fence.around({"KUBERNETES_SERVICE_HOST": "api.example", "POD_IP": "", "POD_IPS": ","})) == repr(Fence())


def test_what_is_learned_stands_beside_what_was_told() -> None:
    fence = FENCE.beside({"10.1.0.6": "the router's own", "10.96.0.1": "somebody's"})

    assert fence.behind("10.1.0.6") == fence.behind("10.1.0.5") == "the router's own"
    assert fence.behind("10.96.0.1") == "the API server's"
    assert fence.behind("192.168.0.1") is not None
    assert FENCE.behind("10.1.0.6") is None


def test_the_forms_of_an_address() -> None:
    assert forms("::ffff:10.0.0.7") == ("10.0.0.7",)
    assert forms("64:ff9b::a00:7") == ("64:ff9b::a00:7", "10.0.0.7")
    assert forms("2001:db8::7") == ("2001:db8::7",)
    assert forms("web.shop.svc") == ()


@given(st.text(max_size=50) | st.ip_addresses().map(str))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = endpoint_address(text, Fence(), loopback_allowed=False)
    except AddressRefused:
        return
    assert endpoint_address(address, Fence(), loopback_allowed=False) == address
