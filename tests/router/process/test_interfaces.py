"""The kernel's list of addresses, compared with what it says elsewhere."""

import re
import socket
from ipaddress import IPv6Address
from pathlib import Path

from drycc_router.process.interfaces import addresses


def test_loopback_is_in_the_list() -> None:
    assert "127.0.0.1" in addresses()


def test_every_local_ipv4_address_of_the_routing_table_is_in_the_list() -> None:
    table = Path("/proc/net/fib_trie").read_text()
    local = set(re.findall(r"\|-- (\S+)\n\s+/32 host LOCAL", table))
    assert local
    assert local <= set(addresses())


def test_every_ipv6_address_of_an_interface_is_in_the_list() -> None:
    lines = Path("/proc/net/if_inet6").read_text().splitlines()
    assert {str(IPv6Address(int(line.split()[0], 16))) for line in lines} <= set(addresses())


def test_the_address_that_this_machine_sends_from_is_in_the_list() -> None:
    """No packet is sent: connecting a datagram socket only chooses a source address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outwards:
        try:
            outwards.connect(("192.0.2.1", 9))
        except OSError:  # a machine without a route
            return
        assert outwards.getsockname()[0] in addresses()
