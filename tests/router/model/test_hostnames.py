"""Names: every spelling of a name is that name, and what nobody may have nobody gets."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drycc_router.model.hostnames import canonical, covers, names_above, platform_domain, resolve
from drycc_router.model.invalid_value import Unfit
from drycc_router.model.problems import Reason


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("www.example.com", "www.example.com"),
        ("WWW.Example.COM", "www.example.com"),
        ("example.com.", "example.com"),
        ("*.shop.example", "*.shop.example"),
        ("shop", "shop"),
        ("a", "a"),
        ("foo--bar", "foo--bar"),
        ("123", "123"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("*.bücher.example", "*.xn--bcher-kva.example"),
        ("\uff57\uff57\uff57.example", "www.example"),
        ("\u212aiosk.example", "kiosk.example"),  # KELVIN SIGN
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("app.k8s.local", "app.k8s.local"),
        ("hello.localhost", "hello.localhost"),
        ("10.0.0.1.nip.io", "10.0.0.1.nip.io"),
        (f"{'a' * 63}.example", f"{'a' * 63}.example"),
    ],
)
def test_every_spelling_of_a_name_is_that_name(written: str, name: str) -> None:
    assert canonical(written) == name


@pytest.mark.parametrize(
    "written",
    [
        "",
        ".",
        "..",
        "-1",
        "foo-",
        "foo_bar",
        "foo bar",
        "foo..bar",
        ".foo",
        "foo.c",
        "foo.example:80",
        "http://foo.example",
        "foo.example/",
        "f*.example.com",
        "*.*.example.com",
        "a.*.example.com",
        "*",
        "foo\n",
        "foo\x00.example",
        "xn--\u00e4.example",
        "xn--a.example",
        "\u0661.example\u200d",
        f"{'a' * 64}.example",
        f"{'a.' * 127}example",
        "ä" * 300_000,
        "a" * 300_000,
        "a." * 150_000,
    ],
)
def test_what_is_no_name_is_refused(written: str) -> None:
    with pytest.raises(Unfit):
        canonical(written)


@pytest.mark.parametrize(
    "written",
    [
        "*",
        "*.com",
        "*.co.uk",
        "*.github.io",
        "*.localhost",
        "*.anything",
        "1.2.3.4",
        "127.1",
        "0x7f.0x1",
        "\uff11\uff12\uff17.\uff10.\uff10.\uff11",
        "localhost",
        "LocalHost.",
        "web.shop.svc",
        "web.shop.svc.cluster.local",
        "*.cluster.local",
        "kubernetes.default",
        "4.3.2.1.in-addr.arpa",
    ],
)
def test_nobody_gets_addresses_public_suffixes_and_names_from_inside_a_cluster(written: str) -> None:
    with pytest.raises(Unfit) as caught:
        canonical(written)

    assert caught.value.reason is Reason.REFUSED_DOMAIN


@settings(deadline=None)
@given(st.text(max_size=80))
@example("xn--" + "9" * 60)
@example("\ud800.example")
def test_a_canonical_name_is_canonical(text: str) -> None:
    try:
        name = canonical(text)
    except Unfit:
        return
    assert canonical(name) == name == name.lower()
    assert name.isascii()
    assert len(name) <= 255


def test_short_names_go_below_the_platforms_domain_or_below_any() -> None:
    assert resolve("shop", "apps.example.com") == "shop.apps.example.com"
    assert resolve("shop", None) == "shop.*"
    assert resolve("shop.example", "apps.example.com") == "shop.example"


def test_a_wildcard_stands_for_all_names_below_never_for_the_apex() -> None:
    assert covers("*.example", "a.example")
    assert covers("*.example", "a.b.example")
    assert covers("*.example", "*.b.example")
    assert not covers("*.example", "example")
    assert not covers("*.example", "*.example")
    assert not covers("*.example", "myexample")
    assert not covers("a.example", "a.example")


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("a.b.example", ["b.example", "example"]),
        ("*.b.example", ["example"]),
        ("example", []),
        ("shop.*", []),
    ],
)
def test_names_above_are_those_whose_wildcards_stand_for_a_host(host: str, names: list[str]) -> None:
    assert list(names_above(host)) == names
    assert all(covers(f"*.{name}", host) for name in names)


def test_a_platform_domain_has_a_dot_or_is_localhost() -> None:
    assert platform_domain("Apps.Example.com") == "apps.example.com"
    assert platform_domain("localhost") == "localhost"
    for text in ("apps", "*.example.com", "1.2.3.4", ""):
        with pytest.raises(Unfit):
            platform_domain(text)
