"""Who the client is, and who may say so."""

from __future__ import annotations

import pytest

from drycc_proxy.http.client_address import MOST_ENTRIES, NetworkSet, client_address, client_key
from tests.fakes.instructions import Work

TRUSTED = NetworkSet(["10.0.0.0/8", "fd00::/8"])


@pytest.mark.parametrize(
    ("networks", "inside", "outside"),
    [
        (["10.0.0.0/8"], ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"], ["9.255.255.255", "11.0.0.0", "::a00:1"]),
        (["192.0.2.1"], ["192.0.2.1"], ["192.0.2.0", "192.0.2.2"]),
        (["192.0.2.77/24"], ["192.0.2.1"], ["192.0.3.1"]),
        (["2001:db8::/32"], ["2001:db8::", "2001:db8:ffff::1"], ["2001:db9::", "192.0.2.1"]),
        (["::ffff:10.0.0.0/104"], ["10.2.3.4", "::ffff:10.2.3.4"], ["11.0.0.1"]),
        (["::ffff:192.0.2.1"], ["192.0.2.1"], ["192.0.2.2"]),
        (["0.0.0.0/0"], ["0.0.0.0", "255.255.255.255", "::ffff:1.2.3.4"], ["::1"]),
        (["::/0"], ["::", "ffff::"], ["1.2.3.4"]),
        (["10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16"], ["10.0.0.1", "10.200.0.1"], ["11.0.0.1"]),
        (["10.0.0.0/24", "10.0.2.0/24"], ["10.0.0.1", "10.0.2.1"], ["10.0.1.1", "10.0.3.0"]),
        ([], [], ["10.0.0.1", "::1"]),
    ],
)
def test_a_set_of_networks(networks: list[str], inside: list[str], outside: list[str]) -> None:
    among = NetworkSet(networks)
    assert among.size == len(networks)
    assert [address for address in inside if address not in among] == []
    assert [address for address in outside if address in among] == []


@pytest.mark.parametrize("address", ["", "x", "10.0.0", "10.0.0.1/8", "010.0.0.1", 10, None, b"10.0.0.1"])
def test_what_is_no_address_is_in_no_network(address: object) -> None:
    assert address not in NetworkSet(["0.0.0.0/0", "::/0"])


@pytest.mark.parametrize("text", ["x", "10.0.0.0/33", "", "10.0.0.0/8,11.0.0.0/8"])
def test_what_is_no_network_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        NetworkSet([text])


def test_a_strangers_word_counts_for_nothing() -> None:
    assert client_address("203.0.113.7", [b"10.0.0.1"], TRUSTED) == ("203.0.113.7", [])


@pytest.mark.parametrize(
    ("said", "client", "chain"),
    [
        ([], "10.0.0.1", []),
        ([b""], "10.0.0.1", []),
        ([b"203.0.113.7"], "203.0.113.7", ["203.0.113.7"]),
        ([b"6.6.6.6, 203.0.113.7"], "203.0.113.7", ["203.0.113.7"]),
        ([b"6.6.6.6", b"203.0.113.7 ,\t10.9.9.9"], "203.0.113.7", ["203.0.113.7", "10.9.9.9"]),
        ([b"10.8.8.8, 10.9.9.9"], "10.8.8.8", ["10.8.8.8", "10.9.9.9"]),
        ([b"203.0.113.7, nonsense, 10.9.9.9"], "10.9.9.9", ["10.9.9.9"]),
        ([b"203.0.113.7:1234"], "203.0.113.7", ["203.0.113.7"]),
        ([b"[2001:DB8::7]:1234"], "2001:db8::7", ["2001:db8::7"]),
        ([b"[2001:db8::7]"], "2001:db8::7", ["2001:db8::7"]),
        ([b"2001:db8::7"], "2001:db8::7", ["2001:db8::7"]),
        ([b"fe80::1%eth0"], "10.0.0.1", []),
        ([b'::1%", "admin": "'], "10.0.0.1", []),
        ([b"\xff\xfe"], "10.0.0.1", []),
        ([b"for=203.0.113.7"], "10.0.0.1", []),
    ],
)
def test_a_trusted_peers_word_is_read_from_the_right(said: list[bytes], client: str, chain: list[str]) -> None:
    assert client_address("10.0.0.1", said, TRUSTED) == (client, chain)


def test_a_trusted_peer_in_ipv6_disguise() -> None:
    assert client_address("::ffff:10.0.0.1", [b"203.0.113.7"], TRUSTED)[0] == "203.0.113.7"


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:DB8:1:2:0:0::2", "2001:db8:1:2::"),
        ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("no address", "no address"),
        ("no:address", "no:address"),
    ],
)
def test_one_client_is_an_address_or_all_that_it_may_use(address: str, key: str) -> None:
    assert client_key(address) == key


@pytest.mark.parametrize("entry", [b"10.0.0.1", b""])
def test_the_walk_past_trusted_addresses_is_bounded(entry: bytes) -> None:
    """A stranger's head of 32 KiB full of trusted addresses took 19 ms."""
    trusted = NetworkSet(["10.0.0.0/8"])
    costs = []
    for many in (64, 3500):
        work = Work()
        with work.on("walk"):
            client, chain = client_address("10.0.0.9", [b"203.0.113.7", (many - 1) * (entry + b",") + entry], trusted)
        costs.append(work.done["walk"])
        assert client == ("10.0.0.1" if entry else "10.0.0.9")
        assert len(chain) <= MOST_ENTRIES

    assert costs[1] <= costs[0] + 1000


def test_64_entries_are_walked_in_whatever_lines_they_come() -> None:
    trusted = NetworkSet(["10.0.0.0/8"])
    hops = [b"10.0.0.%d" % number for number in range(63)]
    client, chain = client_address("10.0.0.9", [b"203.0.113.7", b", ".join(hops[:20]), b",".join(hops[20:])], trusted)
    assert (client, len(chain)) == ("203.0.113.7", 64)
