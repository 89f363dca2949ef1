"""Names: coverage as X.509 has it (one label), look-up as the contract has it (one or more labels)."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drycc_tls import hostnames

LABELS = st.sampled_from(["a", "b", "xn--bcher-kva"])
HOSTS = st.lists(LABELS, min_size=1, max_size=5).map(".".join)
WILDCARDS = HOSTS.map("*.{}".format)


@given(st.sets(HOSTS | WILDCARDS), HOSTS)
def test_coverage_is_an_equal_number_of_labels_with_one_star_at_most(certificate: set[str], host: str) -> None:
    def matches(name: str) -> bool:
        written, asked = name.split("."), host.split(".")
        return len(written) == len(asked) and written[0] in ("*", asked[0]) and written[1:] == asked[1:]

    assert hostnames.covers(certificate, host) is any(matches(name) for name in certificate)


@given(st.sets(HOSTS | WILDCARDS), HOSTS)
def test_look_up_is_the_exact_name_else_the_longest_wildcard_above(table: set[str], host: str) -> None:
    above = [name for name in table if name.startswith("*.") and host.endswith(name[1:]) and len(host) > len(name) - 1]
    expected = host if host in table else max(above, key=len, default=None)

    assert hostnames.find({name: name for name in table}, host) == expected


def test_a_wildcard_domain_is_covered_only_by_that_very_wildcard() -> None:
    assert hostnames.covers(("*.example",), "*.example")
    assert not hostnames.covers(("*.example",), "*.a.example")
    assert not hostnames.covers(("a.example",), "*.example")


@pytest.mark.parametrize("host", ["", ".", "..", "example", ".example", "a..example", "*"])
def test_odd_hosts_find_nothing_and_raise_nothing(host: str) -> None:
    table = {"a.example": 1, "*.b.example": 2}

    assert hostnames.find(table, host) is None
    assert not hostnames.covers(tuple(table), host)


@given(st.text(alphabet=string.printable, max_size=300))
def test_folding_is_stable(text: str) -> None:
    folded = hostnames.canonical(text)

    assert folded == folded.lower()
    assert len(text) - len(folded) in (0, 1)


@pytest.mark.parametrize(
    "name", ["a.example", "localhost", "*.example", "*.a.b.example", "xn--bcher-kva.example", "_a.b-c.example", "1.a"]
)
def test_presentable(name: str) -> None:
    assert hostnames.presentable(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "*",
        "*.",
        "*.*.example",
        "a.*.example",
        "f*.example",
        "a\0.example",
        "a .example",
        "a..example",
        ".example",
        "-a.example",
        "A.example",
        "bücher.example",
        "192.0.2.1",
        "2001:db8::1",
        "a" * 64 + ".example",
        ".".join(["a" * 49] * 5) + ".example",
        "a.example\n",
    ],
)
def test_not_presentable(name: str) -> None:
    assert not hostnames.presentable(name)
