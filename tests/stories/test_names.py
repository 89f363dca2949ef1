"""Which app answers: names, wildcards, short names, contributed paths, and the default (contract 3)."""

from __future__ import annotations

import pytest

from drycc_proxy.routing.definitions import Address, TableChange
from tests.fakes.instructions import Work
from tests.fakes.story import GET, POD_2, POD_3, Story, fields_of

OTHER: Address = ("10.9.0.1", 80)


def get(host: bytes, path: bytes = b"/") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path, host)


@pytest.mark.parametrize(
    "host", [b"shop.example", b"SHOP.Example", b"shop.example.", b"shop.example:8080", b"Shop.Example.:80"]
)
def test_a_name_in_any_dress_is_the_same_name(story: Story, host: bytes) -> None:
    story.client(get(host))
    assert fields_of(story.lends().hears(...))[b"host"] == [host]  # the app hears it as it came


@pytest.mark.parametrize("host", [b"example", b"xshop.example", b"shop.example.evil", b"a.shop.example", b"."])
def test_other_names_are_other_names(story: Story, host: bytes) -> None:
    story.client(get(host))
    story.answer("unknown_host", 404)


@pytest.mark.parametrize(
    "host",
    [b"", b"a b", b"shop.example, other.example", b"shop.example/x", b"u@shop.example", b"shop.example:80:80", b"[::1",
     b"shop.example:x", b"shop.ex\xc3\xa4mple", b"shop%2eexample", b"\"shop.example\"", b"[zz]",
     b"shop.example:123456"],
)  # fmt: skip
def test_a_host_that_is_none_is_refused(story: Story, host: bytes) -> None:
    story.client(get(host))
    story.answer("bad_host", 400)
    assert not story.caller.is_kept


def test_two_hosts_are_refused_even_when_they_agree(story: Story) -> None:
    story.client(b"GET / HTTP/1.1\r\nHost: shop.example\r\nHost: shop.example\r\n\r\n")
    story.answer("bad_host", 400)


def test_an_address_may_be_a_host(story: Story) -> None:
    story.serves(b"[2001:db8::1]", b"192.0.2.1", route="shop/v6", endpoints=(POD_2,))
    for host in (b"[2001:DB8::1]:8080", b"192.0.2.1"):
        story.calls()
        story.client(get(host))
        assert story.dialled == [POD_2]
        story.refuses()
        story.client_hears(...)


def test_a_target_may_name_the_host_again(story: Story) -> None:
    story.client(b"GET http://SHOP.example:80/a?b HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    story.lends().hears(b"GET /a?b HTTP/1.1\r\nHost: shop.example\r\n", ...)


@pytest.mark.parametrize("target", [b"http://shop.example", b"https://shop.example?x", b"HTTP://shop.example/"])
def test_a_target_without_a_path_gets_one(story: Story, target: bytes) -> None:
    story.client(b"GET " + target + b" HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    story.lends().hears(b"GET /", ..., b" HTTP/1.1\r\n", ...)


def test_a_target_that_names_another_host_is_refused(story: Story) -> None:
    story.client(b"GET http://other.example/ HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    story.answer("bad_host", 400)


@pytest.mark.parametrize(
    "target", [b"ftp://shop.example/", b"shop.example/", b"http:///x", b"http://u@shop.example/", b"x"]
)
def test_other_targets_are_refused(story: Story, target: bytes) -> None:
    story.client(b"GET " + target + b" HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    story.answer("bad_request", 400)


def test_a_wildcard_answers_below_its_name_and_not_for_it(story: Story) -> None:
    story.serves(b"*.wild.example", route="wild/web", endpoints=(OTHER,))
    for host in (b"a.wild.example", b"b.a.wild.example"):
        story.client(get(host))
        assert story.dialled == [OTHER]
        story.refuses()
        story.client_hears(...)
    story.client(get(b"wild.example"))
    story.answer("unknown_host", 404)


def test_the_nearest_name_wins(story: Story) -> None:
    story.serves(b"*.example", route="wild/far", endpoints=(POD_2,))
    story.serves(b"*.a.example", route="wild/near", endpoints=(POD_3,))
    story.serves(b"x.a.example", route="wild/exact", endpoints=(OTHER,))
    for host, endpoint in ((b"b.example", POD_2), (b"c.a.example", POD_3), (b"x.a.example", OTHER)):
        story.client(get(host))
        assert story.dialled == [endpoint]
        story.refuses()
        story.client_hears(...)


def test_a_short_name_answers_under_any_suffix(story: Story) -> None:
    story.serves(b"blog.*", route="blog/web", endpoints=(OTHER,))
    for host in (b"blog.example", b"blog.a.b.c"):
        story.client(get(host))
        assert story.dialled == [OTHER]
        story.refuses()
        story.client_hears(...)
    story.client(get(b"blog"))
    story.answer("unknown_host", 404)


def test_the_default_answers_for_names_that_nobody_has(story: Story) -> None:
    story.is_set(default_route="shop/web")
    story.client(get(b"nobody.example"))
    story.lends()


def test_the_default_may_come_later_than_the_setting(story: Story) -> None:
    story.is_set(default_route="late/web")
    story.client(get(b"nobody.example"))
    story.answer("unknown_host", 404)
    story.serves(route="late/web", endpoints=(OTHER,))
    story.client(get(b"nobody.example"))
    assert story.dialled == [OTHER]


def test_a_path_that_another_app_contributes(story: Story) -> None:
    story.serves(route="shop/api", endpoints=(POD_2,))
    story.serves(route="shop/v2", endpoints=(POD_3,))
    story.serves(b"shop.example", paths=((b"/api/v2", "shop/v2"), (b"/api", "shop/api")))
    for path, endpoint in (
        (b"/api", POD_2),
        (b"/api/", POD_2),
        (b"/api/users?x", POD_2),
        (b"/api?x", POD_2),
        (b"/api/v2", POD_3),
        (b"/api/v2/x", POD_3),
        (b"/api/v20", POD_2),
        (b"/apis", ("10.0.0.1", 8080)),
        (b"/API", ("10.0.0.1", 8080)),
        (b"/x?/api", ("10.0.0.1", 8080)),
        (b"/x/../api", POD_2),
        (b"/%2e/api/%2E%2e/x", ("10.0.0.1", 8080)),
        (b"/api/%2e%2e/x", ("10.0.0.1", 8080)),
        (b"/%61pi", POD_2),
        (b"/%61%70%69/x?y", POD_2),
        (b"/api%2Fx", ("10.0.0.1", 8080)),
        (b"/api%2fv2", ("10.0.0.1", 8080)),
        (b"/%2561pi", ("10.0.0.1", 8080)),
        (b"/%41pi", ("10.0.0.1", 8080)),
        (b"/api/v%32", POD_3),
        (b"/api/%76%32/" + 5000 * b"%61", POD_3),
        (b"/x?%61=/../api", ("10.0.0.1", 8080)),
        (b"/api?%zz", POD_2),
    ):
        story.client(get(b"shop.example", path))
        assert story.dialled == [endpoint], path
        story.refuses()
        story.client_hears(...)


@pytest.mark.parametrize(
    ("path", "theirs"),
    [(b"/m%c3%bc/x", True), (b"/m%C3%BC", True), (b"/m\xc3\xbc", True), (b"/%6d%C3%bc?x", True), (b"/m%c3", False)],
)
def test_a_path_is_compared_by_what_it_says_and_passed_on_as_it_is_spelt(
    story: Story, path: bytes, theirs: bool
) -> None:
    story.serves(route="shop/api", endpoints=(POD_2,))
    story.serves(b"shop.example", paths=((b"/m%C3%BC", "shop/api"),))
    story.client(get(b"shop.example", path))
    app = story.lends()
    assert app.address == (POD_2 if theirs else ("10.0.0.1", 8080))
    app.hears(b"GET " + path + b" HTTP/1.1\r\n", ...)


def test_what_an_escaped_target_costs_is_bounded_by_the_paths_that_there_are(story: Story) -> None:
    story.serves(route="shop/api", endpoints=(POD_2,))
    story.serves(b"shop.example", paths=((b"/api", "shop/api"),))
    host = story.core.table.hosts.find(b"shop.example")
    assert host is not None
    work = Work()
    with work.on("long"):
        found = host.at(b"/%61pi/" + 100_000 * b"%61")
    with work.on("short"):
        assert host.at(b"/%61pi/" + 10 * b"%61") is found
    assert work.done["long"] <= work.done["short"] + 5


def test_a_contributor_brings_its_own_policy(story: Story) -> None:
    story.serves(route="shop/api", maintenance=True)
    story.serves(b"shop.example", paths=((b"/api", "shop/api"),))
    story.client(get(b"shop.example", b"/api"))
    story.answer("maintenance", 503)
    story.client(GET)
    story.lends()


def test_the_app_hears_the_path_that_was_judged(story: Story) -> None:
    story.client(get(b"shop.example", b"/a/./b/../c%2Fd/%2e%2e/e//f?g=/../h"))
    story.lends().hears(b"GET /a/e//f?g=/../h HTTP/1.1\r\n", ...)


def test_an_encoded_nul_in_a_path_is_refused(story: Story) -> None:
    story.client(get(b"shop.example", b"/a%00b"))
    story.answer("bad_request", 400)
    story.calls()
    story.client(get(b"shop.example", b"/a?b=%00"))
    story.lends()


def test_a_name_that_goes_is_unknown_and_its_siblings_stay(story: Story) -> None:
    story.serves(b"shop.example", b"www.shop.example")
    story.publishes(TableChange(0, gone_hosts=frozenset({b"www.shop.example"})))
    story.client(get(b"www.shop.example"))
    story.answer("unknown_host", 404)
    story.client(GET)
    story.lends()


def test_a_host_that_the_certificate_does_not_serve_is_misdirected(story: Story) -> None:
    story.serves(b"other.example", route="other/web")
    story.calls(secure=True, sni=b"shop.example")
    story.client(get(b"other.example"))
    story.answer("misdirected", 421)


def test_a_host_that_the_certificate_serves_too_is_answered(story: Story) -> None:
    story.serves(b"other.example", route="other/web", endpoints=(OTHER,))
    story.calls(secure=True, sni=b"shop.example", shown=b"shop.example,other.example")
    story.client(get(b"other.example"))
    assert story.dialled == [OTHER]


def test_a_name_asked_for_that_is_no_apps_misdirects_nobody(story: Story) -> None:
    """Clients that ask for a load balancer's name, or none, are served as they are over clear text."""
    for sni in (b"", b"balancer.example"):
        story.calls(secure=True, sni=sni, shown=b"default.example")
        story.client(GET)
        story.lends() if not story.apps else story.lends(reused=True)
        story.apps[0].hears(...)
        story.apps[0].says(b"HTTP/1.1 204 No Content\r\n\r\n")
        story.client_hears(b"HTTP/1.1 204 No Content\r\n", ...)
