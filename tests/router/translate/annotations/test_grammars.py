"""Grammars: what each takes, and that none takes, or dies of, anything else."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drycc_router.model.invalid_value import Unfit
from drycc_router.model.problems import Reason
from drycc_router.translate.annotations import grammars
from drycc_router.translate.annotations.grammars import Grammar, ListOf

HOSTILE = [
    "",
    " ",
    "\x00",
    "-1",
    "+5",
    "1_0",
    " 5",
    "5\n",
    "\u0665",  # an Arabic digit
    "\uff15",  # a full-width one
    "²",
    "1e309",
    "1e3",
    "inf",
    "nan",
    "0x10",
    "9" * 5000,
    "9" * 250_000,
    "a" * 250_000,
    "/" * 250_000,
    "1." * 100_000,
    "\ud800",
    "yes",
    "None",
]


def read(grammar: Grammar, text: str) -> Any:
    return grammar.read(text)


@pytest.mark.parametrize("text", ["true", "True", "TRUE", "tRuE"])
def test_flags_in_any_letter_case(text: str) -> None:
    assert read(grammars.FLAG, text) is True
    assert read(grammars.FLAG, text.lower().replace("true", "False")) is False


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1", 1.0), ("30s", 30.0), ("500ms", 0.5), ("1.5m", 90.0), ("2h", 7200.0), ("1d", 86400.0), ("0.25", 0.25)],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert read(grammars.DURATION, text) == seconds


@pytest.mark.parametrize("text", ["0", "0s", "0.0001", "366d", "1w", "5min", "1 s", "1S", ".5", "1.", "1.5.5", "s"])
def test_durations_are_positive_and_bounded(text: str) -> None:
    with pytest.raises(Unfit, match="expected a time"):
        read(grammars.DURATION, text)


def test_zero_means_none_where_it_may() -> None:
    assert read(grammars.DURATION_OR_NONE, "0") == 0.0
    assert read(grammars.DURATION_OR_NONE, "2s") == 2.0


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("0", 0),
        ("20", 20),
        ("1k", 1024),
        ("2K", 2048),
        ("10m", 10 << 20),
        ("1G", 1 << 30),
        ("512b", 512),
        ("10mb", 10 << 20),
        ("10 MB", 10 << 20),
        ("1 k", 1024),
        ("10Mi", 10 << 20),
        ("1GiB", 1 << 30),
    ],
)
def test_sizes_are_bytes(text: str, octets: int) -> None:
    assert read(grammars.SIZE, text) == octets


@pytest.mark.parametrize("text", ["1.5m", "m", "9999999999g", "10Mx", "10bb", "1  k", "10ib!"])
def test_sizes_are_whole_and_bounded(text: str) -> None:
    with pytest.raises(Unfit, match="such as 512k, 10m or 0"):
        read(grammars.SIZE, text)


def test_a_size_within_bounds_says_which() -> None:
    with pytest.raises(Unfit, match="from 1024 to 1048576 bytes"):
        read(grammars.size(1 << 10, 1 << 20), "10")


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("203.0.113.7", "203.0.113.7/32"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:203.0.113.7", "203.0.113.7/32"),
    ],
)
def test_networks_are_canonical(text: str, network: str) -> None:
    assert read(grammars.NETWORKS, text) == network


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("203.0.113.7/24", "203.0.113.0/24"),
        ("2001:db8::1/32", "2001:db8::/32"),
        ("::ffff:10.1.2.3/104", "10.0.0.0/8"),
    ],
)
def test_a_network_with_host_bits_is_taken_and_told(text: str, network: str) -> None:
    with pytest.raises(Unfit, match=f"expected no bits beyond the prefix length: {network} is in force") as caught:
        read(grammars.NETWORKS, text)
    assert (caught.value.taken, caught.value.reason) == (network, Reason.HOST_BITS)


@pytest.mark.parametrize(
    ("grammar", "text", "number"),
    [
        (grammars.whole_seconds(0, 10**9), "0", 0),
        (grammars.whole_seconds(0, 10**9), "15552000", 15552000),
        (grammars.whole_seconds(0, 10**9), "180d", 15552000),
        (grammars.whole_seconds(0, 10**9), "1.5m", 90),
        (grammars.per_second(0, 100), "10", 10),
        (grammars.per_second(0, 100), "10/s", 10),
        (grammars.per_second(0, 100), "10r/s", 10),
        (grammars.integer(0, 10**6), "10k", 10_000),
        (grammars.integer(0, 10**6), "1M", 1_000_000),
    ],
)
def test_units_are_taken_where_a_number_is_wanted(grammar: Grammar, text: str, number: int) -> None:
    assert read(grammar, text) == number


@pytest.mark.parametrize(
    ("grammar", "text", "words"),
    [
        (grammars.whole_seconds(0, 86400), "0.5", "a number of seconds from 0 to 86400"),
        (grammars.whole_seconds(0, 86400), "2d", "a number of seconds from 0 to 86400"),
        (grammars.whole_seconds(0, 86400), "long", "a number of seconds from 0 to 86400"),
        (grammars.per_second(0, 100), "10/m", "a number per second from 0 to 100"),
        (grammars.per_second(0, 100), "101/s", "a number per second from 0 to 100"),
        (grammars.integer(0, 1000), "2k", "a number from 0 to 1000"),
        (grammars.integer(0, 1000), "1g", "a number from 0 to 1000"),
    ],
)
def test_a_number_with_a_unit_is_bounded_too(grammar: Grammar, text: str, words: str) -> None:
    with pytest.raises(Unfit, match=words):
        read(grammar, text)


@pytest.mark.parametrize(
    "text",
    ["1.2.3.0/255.255.255.0", "1.2.3.41.2.3.4", "010.0.0.1", "1.2.3", "10.0.0.0/33", "fe80::1%eth0", "10.0.0.0/-1"],
)
def test_netmasks_zones_and_typing_errors_are_no_networks(text: str) -> None:
    with pytest.raises(Unfit):
        read(grammars.NETWORKS, text)


def test_certificates_are_mapped_to_secrets_of_the_same_namespace() -> None:
    assert read(grammars.CERTIFICATES, "Shop.Example : shop-2026") == ("shop.example", "shop-2026")
    assert read(grammars.CERTIFICATES, "*.shop.example:wild") == ("*.shop.example", "wild")


@pytest.mark.parametrize(
    "text", ["shop.example", "shop.example:", ":shop", "a.example:b:c", "a.example:ns/name", "a.example:../x", "a.b:X"]
)
def test_a_mapping_cannot_point_anywhere_else(text: str) -> None:
    with pytest.raises(Unfit):
        read(grammars.CERTIFICATES, text)


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("/api", "/api"),
        ("/api/", "/api"),
        ("/a/b%2Fc", "/a/b%2Fc"),
        ("/.well-known/x", "/.well-known/x"),
        ("/%61p%69", "/api"),
        ("/a%2eb/%7Eme", "/a.b/~me"),
        ("/a/b%2fc%c3%a4", "/a/b%2Fc%C3%A4"),
        ("/a%2561", "/a%2561"),
    ],
)
def test_locations_are_whole_segments(text: str, prefix: str) -> None:
    assert read(grammars.LOCATIONS, text) == prefix


@pytest.mark.parametrize(
    "text",
    [
        "/",
        "api",
        "^/api/.*",
        "~ ^/api",
        "= /api",
        "//api",
        "/api//x",
        "/a/../b",
        "/a/.",
        "/a/%2e%2E/b",
        "/a/%2e",
        "/a?b",
        "/a#b",
        "/a b",
        "/a\\b",
        "/ä",
        "/%zz",
        '/a"; } server { #',
        "/{a}",
    ],
)
def test_patterns_queries_and_dot_segments_are_no_locations(text: str) -> None:
    with pytest.raises(Unfit):
        read(grammars.LOCATIONS, text)


def test_ports_are_names_or_numbers() -> None:
    assert read(grammars.PORT, "8080") == 8080
    assert read(grammars.PORT, "http-2") == "http-2"
    for text in ("0", "65536", "HTTP", "-a", "a--b", "", "sixteen-letters-x"):
        with pytest.raises(Unfit):
            read(grammars.PORT, text)


def test_words_and_choices_are_taken_as_written() -> None:
    grammar = grammars.words("TLSv1.2", "TLSv1.3")

    assert grammar.split(" TLSv1.2   TLSv1.3 ") == ["TLSv1.2", "TLSv1.3"]
    assert read(grammar, "TLSv1.3") == "TLSv1.3"
    with pytest.raises(Unfit, match="one of TLSv1"):
        read(grammar, "SSLv3")
    with pytest.raises(Unfit, match="one of extend, override"):
        read(grammars.choice("extend", "override"), "Extend")


def test_a_list_keeps_its_empty_elements_for_the_reader_to_see() -> None:
    assert grammars.DOMAINS.split(" a , b,,\n") == ["a", "b", "", ""]


GRAMMARS: dict[str, Grammar] = {
    name: grammar
    for name, grammar in vars(grammars).items()
    if isinstance(grammar, (grammars.Scalar, ListOf)) and grammar is not grammars.ANYTHING
}


@pytest.mark.parametrize("name", GRAMMARS)
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:10]))
def test_hostile_text_is_refused_or_harmless(name: str, text: str) -> None:
    try:
        value = read(GRAMMARS[name], text)
    except Unfit as unfit:
        assert len(str(unfit)) < 1000, "the text is not in the error"
    else:
        assert str(value).isascii(), "a name in another script has become its A-label"
        assert len(str(value)) <= 2000


@settings(deadline=None, max_examples=200)
@given(name=st.sampled_from(sorted(GRAMMARS)), text=st.text(max_size=60))
@example(name="NETWORKS", text="1.1.1.1/٣")
def test_nothing_but_unfit_ever_comes_out(name: str, text: str) -> None:
    try:
        value = read(GRAMMARS[name], text)
    except Unfit:
        return
    for part in value if isinstance(value, tuple) else (value,):
        if isinstance(part, str):
            assert part.isascii()
            assert part.isprintable()


@given(st.text(max_size=60))
def test_a_network_that_is_read_twice_is_the_same(text: str) -> None:
    try:
        network = read(grammars.NETWORKS, text)
    except Unfit:
        return
    assert read(grammars.NETWORKS, network) == network
