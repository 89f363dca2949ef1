"""Each common mistake is told by a sentence of its own, by whatever reads the value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drycc_router.model import mistakes
from drycc_router.model.objects import ObjectKey
from drycc_router.model.problems import Reason
from drycc_router.translate.annotations.reading import read_app, read_router

P = "router.drycc.cc/"
WEB = ObjectKey("Service", "shop", "web")

MISTAKES = [
    # key, what is written, the sentence
    ("domains", "a.example b.example", "commas between the elements, not blanks"),
    ("domains", "a.example\nb.example\n", "commas between the elements, not blanks"),
    ("domains", "a.example; b.example", "commas between the elements, not semicolons"),
    ("domains", "'a.example'", "a name without quotation marks in the value itself"),
    ("domains", "https://a.example", "a name without a scheme: example.com, not https://example.com"),
    ("domains", "https://a.example:443/x", "a name without a scheme: example.com, not https://example.com"),
    ("domains", "a.example/shop", "a name without a path: example.com, not example.com/path"),
    ("domains", "a.example:8080", "a name without a port: every name is served on the router's ports"),
    ("domains", "*.a.example:8080", "a name without a port: every name is served on the router's ports"),
    ("domains", "me@a.example", "a name, not an address for mail"),
    ("domains", "my_shop", "a name without an underscore: labels have letters, digits and hyphens"),
    ("domains", "*.my_shop.example", "a name without an underscore: labels have letters, digits and hyphens"),
    ("domains", "a.*.example", "a star only in place of whole labels at the beginning, once: *.example.com"),
    ("domains", "*a.example", "a star only in place of whole labels at the beginning, once: *.example.com"),
    ("domains", "www.*", "a star only in place of whole labels at the beginning, once: *.example.com"),
    ("domains", "*.*.a.example", "a star only in place of whole labels at the beginning, once: *.example.com"),
    ("domains", r"~^(www)\.a\.example$", "a name or *.name: regular expressions are not understood"),
    ("domains", "a.example. shop", "commas between the elements, not blanks"),
    ("domains", "_a _b", "a name without an underscore: labels have letters, digits and hyphens"),
    ("domains", ".a.example", "a name without a dot before it; *.example.com stands for all names below example.com"),
    ("domains", "a..example", "a name without two dots in a row"),
    ("domains", "-a.example", "a name whose labels do not begin or end with a hyphen"),
    ("domains", "a-.example", "a name whose labels do not begin or end with a hyphen"),
    ("domains", f"{'a' * 64}.example", "a name whose labels have at most 63 characters"),
    ("domains", f"{'a.' * 150}example", "a name of at most 253 characters"),
    ("domains", "a.b", "a name whose last label has at least two characters"),
    ("domains", "*", "a name: nobody may claim every name"),
    ("domains", "10.0.0.1", "a name, not an address"),
    ("domains", "a! b!", "a name without blanks"),
    ("domains", "a,a!", mistakes.A_NAME),
    ("certificates", "a.example:www b.example:www", "commas between the elements, not blanks"),
    ("certificates", "a.example:www; b.example:www", "commas between the elements, not semicolons"),
    ("certificates", "https://a.example:www", "a mapping domain:name without a scheme: example.com:www"),
    ("certificates", "a.example:443:www", "a mapping domain:name with one colon, and no port"),
    ("certificates", "a.example=www", "a mapping domain:name with a colon, not with '='"),
    (
        "certificates",
        "a.example:shop/www",
        "a mapping domain:name to a Secret of the Service's own namespace, without a namespace",
    ),
    ("certificates", "a.example:My_Cert", "the name of a Secret: lower-case letters, digits, '-' and '.'"),
    ("certificates", "a.example:", "the name of a Secret after the colon"),
    ("certificates", "www", mistakes.A_MAPPING),
    ("certificates", "my_shop:www", "a name without an underscore: labels have letters, digits and hyphens"),
    ("whitelist", "10.0.0.1 10.0.0.2", "commas between the elements, not blanks"),
    ("whitelist", "10.0.0.1;10.0.0.2", "commas between the elements, not semicolons"),
    ("whitelist", "10.0.0.7/8", "no bits beyond the prefix length: 10.0.0.0/8 is in force"),
    ("whitelist", "10.0.0.7/8 2001:db8::/32", "commas between the elements, not blanks"),
    ("whitelist", "10.0.0.0/255.0.0.0", "a prefix length such as /24 after the address, not a netmask"),
    ("whitelist", "10.0.*.*", "a network such as 10.0.0.0/8: a star is not understood"),
    ("whitelist", "10.0.0.1-10.0.0.9", "a network such as 10.0.0.0/8: ranges are not understood"),
    ("whitelist", "10.0.0.1:80", "an address or network without brackets and without a port"),
    ("whitelist", "[2001:db8::1]", "an address or network without brackets and without a port"),
    ("whitelist", "10.0.0.0/33", "a prefix length of at most 32 after an IPv4 address"),
    ("whitelist", "2001:db8::/129", "a prefix length of at most 32, or 128 of IPv6"),
    ("whitelist", "010.0.0.1", "an address whose numbers have no leading zeros"),
    ("whitelist", "fe80::1%eth0", "an address without a zone"),
    ("whitelist", "office.example", "an address or network: names are not looked up"),
    ("whitelist", "http://10.0.0.1", "an address or network without a scheme"),
    ("whitelist", "10.0.0", mistakes.A_NETWORK),
    ("proxyLocations", "/api /shop", "commas between the elements, not blanks"),
    ("proxyLocations", "/api/*", "a path without a star: /api stands for everything below /api"),
    ("proxyLocations", "~ ^/api", "a path such as /api (patterns and modifiers of the ancestors are not understood)"),
    ("proxyLocations", "https://a.example/api", "a path such as /api, without scheme and name"),
    ("proxyLocations", "api", "a path such as /api, which begins with a slash"),
    ("proxyLocations", "/api?x=1", "a path such as /api, without query and fragment"),
    ("proxyLocations", "/api//x", "a path without empty segments: no two slashes in a row"),
    ("proxyLocations", "/api/../x", "a path without the segments '.' and '..'"),
    ("proxyLocations", "/100%", "two hexadecimal digits after each % of a path"),
    ("proxyLocations", "/b\u00fccher", "a path in ASCII: other characters are percent-encoded, in UTF-8"),
    ("proxyLocations", "/", "a path such as /api: the whole of a name belongs to the app that holds it"),
    ("allowLocationsFrom", "shop blog", "commas between the elements, not blanks"),
    ("maintenance", "yes", "true or false"),
    ("bodySize", "ten", "a size such as 512k, 10m or 0"),
]


@pytest.mark.parametrize(("key", "written", "sentence"), MISTAKES, ids=lambda value: ascii(value)[:40])
def test_each_mistake_is_told_by_its_own_sentence(key: str, written: str, sentence: str) -> None:
    _, problems = read_app(WEB, {f"{P}{key}": written}, None)
    told = [problem.message for problem in problems if problem.reason is not Reason.NOTHING_ALLOWED]
    assert told == [f"expected {sentence}"]


def test_words_that_are_separated_by_something_else_are_told_what_separates_them() -> None:
    says = {
        f"{P}ssl.protocols": "TLSv1.2,TLSv1.3",
        f"{P}ssl.ciphers": "ECDHE-RSA-AES128-GCM-SHA256,TLS_AES_128_GCM_SHA256",
    }
    _, problems = read_router(ObjectKey("Deployment", "drycc", "drycc-router"), says, None)
    assert {problem.message for problem in problems} == {
        "expected blanks between the elements, not commas",
        "expected colons between the elements, not commas",
    }


def test_a_network_with_host_bits_is_in_force() -> None:
    app, problems = read_app(WEB, {f"{P}whitelist": "10.0.0.7/8"}, None)
    assert app.allow == ("10.0.0.0/8",)
    assert [problem.reason for problem in problems] == [Reason.HOST_BITS]


@given(st.text(max_size=60))
def test_no_sentence_has_anything_of_the_value(text: str) -> None:
    for told in (mistakes.in_name(text), mistakes.in_network(text), mistakes.in_path(text), mistakes.in_mapping(text)):
        assert told.isascii()
        assert told.isprintable()


def test_only_the_beginning_of_a_long_value_is_looked_at() -> None:
    long = "ab." * mistakes.LOOKED_AT
    assert mistakes.in_name(f"{long}_") == mistakes.in_name(long) == "a name of at most 253 characters"
    assert mistakes.in_path(f"/a{long}*") == mistakes.in_path(f"/a{long}") == "a path of at most 1024 characters"
    assert mistakes.in_list(",", f"{long};b", lambda _: True) == ""


@pytest.mark.timeout(20)  # a pattern that backtracks takes minutes
@pytest.mark.parametrize("letter", list('a0.:/-*(_ ^~%$"ü'))
def test_no_pattern_backtracks(letter: str) -> None:
    for text in (letter * 1000, f"a{letter}" * 500, f"{letter}0" * 500):
        for _ in range(20):
            for judge in (mistakes.in_name, mistakes.in_network, mistakes.in_path, mistakes.in_mapping):
                judge(text)
