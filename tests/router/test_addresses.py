"""Addresses of endpoints: pods' are taken, doors to elsewhere are not, in any of their forms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.addresses import AddressRefused, endpoint_address


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
    assert endpoint_address(text, loopback_allowed=False) == address


LOOPBACK = ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"]


@pytest.mark.parametrize("text", LOOPBACK)
def test_loopback_only_where_the_operator_writes_the_objects(text: str) -> None:
    assert endpoint_address(text, loopback_allowed=True) in ("127.0.0.1", "127.8.9.1", "::1")
    with pytest.raises(AddressRefused):
        endpoint_address(text, loopback_allowed=False)


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
        endpoint_address(text, loopback_allowed=loopback_allowed)


@pytest.mark.parametrize(
    "text", ["", "localhost", "web.shop.svc", "127.1", "0x7f000001", "2130706433", "010.0.0.1", "1.2.3.4:80"]
)
def test_names_and_other_spellings_are_no_addresses(text: str) -> None:
    with pytest.raises(AddressRefused, match="expected an IP address"):
        endpoint_address(text, loopback_allowed=True)


@given(st.text(max_size=50) | st.ip_addresses().map(str))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = endpoint_address(text, loopback_allowed=False)
    except AddressRefused:
        return
    assert endpoint_address(address, loopback_allowed=False) == address
