"""Targets, networks and names against oracles that are slow and plain."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from hypothesis import assume, given
from hypothesis import strategies as st

from drycc_proxy.http.client_address import NetworkSet, client_address
from drycc_proxy.http.messages import Malformed
from drycc_proxy.http1.target import normalise, origin_form
from drycc_proxy.routing.hosts import HostIndex
from drycc_proxy.table import LiveHost

SEGMENT = st.sampled_from(
    [
        b"",
        b"a",
        b"api",
        b"apix",
        b".",
        b"..",
        b"%2e",
        b"%2E",
        b".%2e",
        b"%2e%2E",
        b"...",
        b"%2f",
        b"..%2f",
        b"%41",
        b".a",
        b";",
        b"%",
    ]
)
PATH = st.lists(SEGMENT, min_size=1, max_size=6).map(lambda segments: b"/" + b"/".join(segments))
TARGET = st.builds(lambda path, query: path + query, PATH, st.sampled_from([b"", b"?", b"?a=/../b", b"?%2e%2e/%00"]))


def by_the_stack(path: bytes) -> bytes:
    """RFC 3986 5.2.4 over segments, with ``%2e`` read as a dot."""
    out: list[bytes] = []
    segments = path.split(b"/")[1:]
    for number, segment in enumerate(segments, 1):
        plain = segment.lower().replace(b"%2e", b".")
        if plain not in (b".", b".."):
            out.append(segment)
            continue
        if plain == b"..":
            out = out[:-1]
        if number == len(segments):
            out.append(b"")
    return b"/" + b"/".join(out)


@given(TARGET)
def test_normalising_is_what_the_rfc_says_and_done_after_one_time(target: bytes) -> None:
    path, mark, query = target.partition(b"?")
    normal = normalise(target)
    assert normal == by_the_stack(path) + mark + query
    assert normalise(normal) == normal
    assert origin_form(target, b"a") == origin_form(normal, b"a") == normal


@given(TARGET)
def test_nothing_climbs_out_even_for_an_app_that_decodes(target: bytes) -> None:
    segments = normalise(target).partition(b"?")[0].split(b"/")
    assert not {unquote_to_bytes(segment) for segment in segments} & {b".", b".."}


@given(TARGET, st.lists(PATH, max_size=3, unique=True))
def test_the_path_that_is_routed_is_the_path_that_is_forwarded(target: bytes, prefixes: list[bytes]) -> None:
    prefixes.sort(key=len, reverse=True)
    owner, routes = cast(Any, "owner"), cast(Any, tuple((prefix, prefix) for prefix in prefixes))  # any thing will do
    host = LiveHost(owner, routes)
    normal = normalise(target)
    path = normal.partition(b"?")[0]
    fits = [prefix for prefix in prefixes if path == prefix or path.startswith(prefix.rstrip(b"/") + b"/")]
    fits = [prefix for prefix in fits if not prefix.endswith(b"/") or path.startswith(prefix)]
    found: Any = host.at(normal)
    assert found == host.at(normalise(normal))
    assert found == (fits[0] if fits else "owner")


@given(st.binary(min_size=1, max_size=40))
def test_no_target_raises_anything_but_a_refusal(target: bytes) -> None:
    try:
        form = origin_form(target, b"a.example")
    except Malformed:
        return
    assert form == b"*" or form.startswith(b"/")


FOUR = st.integers(0, 2**32 - 1).map(lambda number: str(ip_address(number)))
SIX = st.integers(0, 2**128 - 1).map(lambda number: str(IPv6Address(number)))
NEAR = st.builds(lambda low: f"10.0.{low >> 8}.{low & 255}", st.integers(0, 1023))
MAPPED = NEAR.map(lambda four: "::ffff:" + four)
ADDRESS = st.one_of(
    FOUR, SIX, NEAR, MAPPED, SIX.map(lambda six: "2001:db8:" + six.rpartition(":")[2].rjust(1, "0") + "::1")
)
NETWORK = st.one_of(
    st.builds(lambda four, bits: f"{four}/{bits}", FOUR | NEAR, st.integers(0, 32)),
    st.builds(lambda six, bits: f"{six}/{bits}", SIX, st.integers(0, 128)),
    st.builds(lambda four, bits: f"::ffff:{four}/{bits}", NEAR, st.integers(96, 128)),
)


def one_by_one(address: str, networks: list[str]) -> bool:
    """Membership by asking each network; IPv4 in IPv6 dress is IPv4, on both sides."""
    asked = ip_address(address)
    if isinstance(asked, IPv6Address) and asked.ipv4_mapped is not None:
        asked = asked.ipv4_mapped
    for text in networks:
        network = ip_network(text, strict=False)
        mapped = getattr(network.network_address, "ipv4_mapped", None)
        if mapped is not None and network.prefixlen >= 96:
            network = ip_network(f"{mapped}/{network.prefixlen - 96}")
        if asked.version == network.version and asked in network:
            return True
    return False


@given(st.lists(NETWORK, max_size=8), st.lists(ADDRESS, min_size=1, max_size=8))
def test_a_set_of_networks_is_its_networks(networks: list[str], addresses: list[str]) -> None:
    among = NetworkSet(networks)
    edges = [
        str(edge)
        for text in networks
        for edge in (ip_network(text, strict=False)[0], ip_network(text, strict=False)[-1])
    ]
    for address in (*addresses, *edges):
        assert (address in among) == one_by_one(address, networks), address


@given(st.lists(st.binary(max_size=30) | ADDRESS.map(str.encode), max_size=4), st.lists(NETWORK, max_size=4), ADDRESS)
def test_the_client_is_always_an_address_and_never_beyond_the_first_stranger(
    said: list[bytes], networks: list[str], peer: str
) -> None:
    trusted = NetworkSet(networks)
    client, chain = client_address(peer, said, trusted)
    ip_address(client)
    assert "%" not in client
    if peer not in trusted:
        assert (client, chain) == (peer, [])
    elif chain:
        assert chain[0] == client
        assert all(hop in trusted for hop in chain[1:])


LABEL = st.sampled_from([b"a", b"b", b"www", b"shop", b"x-1"])
NAME = st.lists(LABEL, min_size=1, max_size=4).map(b".".join)
RULE = st.one_of(NAME, NAME.map(lambda name: b"*." + name), LABEL.map(lambda label: label + b".*"))


def by_asking_all(rules: set[bytes], name: bytes) -> bytes | None:
    """Exact, then the longest wildcard, then the short name."""
    if name in rules:
        return name
    wild = [rule for rule in rules if rule.startswith(b"*.") and name.endswith(rule[1:]) and len(name) >= len(rule)]
    if wild:
        return max(wild, key=len)
    short = name.partition(b".")[0] + b".*"
    return short if b"." in name and short in rules else None


@given(st.lists(RULE, max_size=8), st.lists(RULE, max_size=4), st.lists(NAME, min_size=1, max_size=6))
def test_the_index_of_names_is_what_asking_all_rules_would_say(
    put: list[bytes], discarded: list[bytes], names: list[bytes]
) -> None:
    index: HostIndex[bytes] = HostIndex()
    for rule in put:
        index.put(rule, rule)
    for rule in discarded:
        index.discard(rule)
    rules = set(put) - set(discarded)
    assert len(index) == len(rules)
    for name in names:
        assert index.find(name) == by_asking_all(rules, name), name


@given(TARGET)
def test_an_encoded_nul_never_passes(target: bytes) -> None:
    path, mark, query = target.partition(b"?")
    assume(b"%00" not in path)
    try:
        normalise(path + b"%00" + mark + query)
    except Malformed:
        return
    raise AssertionError("it passed")
