"""Whose name is it: the admission matrix (hardening 5.3), told through the real compiler and what it publishes.

A town is a router with its table. *Old* and *new* are the ages of Services; who comes first is who is said first.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from drycc_router.claims.record import encode
from drycc_router.claims.unsynced import unheard
from drycc_router.compile.revision import RouteState
from drycc_router.model.objects import Change, ObjectKey
from drycc_router.model.problems import Reason
from examples.authority import Authority
from tests.fakes.kube import NOW, World, deployment, endpoints, gone, secret, service

OLD, NEW = "2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"
AUTHORITY = Authority()


def app(name: str, domains: str, created: str = OLD) -> Change:
    return service(name, {"domains": domains}, created=created)


def remembered(town: World) -> Change:
    """The ConfigMap as the elected replica would write it."""
    record = town.last.record
    assert record is not None
    return Change(ObjectKey("ConfigMap", "drycc", "drycc-router-claims"), {"data": {"v1": encode(record)}})


def losers(town: World) -> dict[str, str]:
    """Who is told that a name is taken → what they are told."""
    problems = town.problems(Reason.DOMAIN_TAKEN)
    return {f"{each.object.namespace}/{each.object.name}": each.message for each in problems}


# ── the matrix ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_old_name_against_a_new_claim_to_it() -> None:
    town = World()
    town.hears(app("shop/web", "shop.example", NEW))

    town.hears(app("blog/web", "shop.example", OLD))

    assert town.owners() == {"shop.example": "shop/web"}
    assert losers(town) == {"blog/web": "expected a free name: Service shop/web holds shop.example"}
    assert town.report("blog/web").state is RouteState.REJECTED
    assert town.report("shop/web").state is RouteState.LIVE


def test_an_old_wildcard_against_a_new_name_below_it() -> None:
    town = World()
    town.hears(app("shop/web", "*.shop.example", NEW))

    town.hears(app("blog/web", "a.shop.example,blog.example", OLD))

    assert town.owners() == {"*.shop.example": "shop/web", "blog.example": "blog/web"}
    assert losers(town) == {"blog/web": "expected a free name: Service shop/web holds *.shop.example"}


def test_an_old_name_against_a_new_wildcard_above_it() -> None:
    town = World()
    town.hears(app("blog/web", "a.shop.example", NEW))

    town.hears(app("shop/web", "*.shop.example", OLD))

    assert town.owners() == {"a.shop.example": "blog/web"}
    assert losers(town) == {"shop/web": "expected a free name: Service blog/web holds a.shop.example"}


@pytest.mark.parametrize("second", ["*.shop.example", "*.a.shop.example"])
def test_an_old_wildcard_against_a_new_wildcard(second: str) -> None:
    town = World()
    town.hears(app("shop/web", "*.shop.example", NEW))

    town.hears(app("blog/web", second, OLD))

    assert town.owners() == {"*.shop.example": "shop/web"}
    assert losers(town) == {"blog/web": "expected a free name: Service shop/web holds *.shop.example"}


def test_an_old_wildcard_against_a_new_one_above_it() -> None:
    town = World()
    town.hears(app("blog/web", "*.a.shop.example", NEW))

    town.hears(app("shop/web", "*.shop.example", OLD))

    assert town.owners() == {"*.a.shop.example": "blog/web"}
    assert set(losers(town)) == {"shop/web"}


def test_in_one_namespace_names_and_wildcards_go_together_and_one_name_has_one_service() -> None:
    town = World()
    town.hears(
        app("shop/web", "*.shop.example", NEW),
        app("shop/api", "api.shop.example,*.a.shop.example", OLD),
        app("shop/copy", "api.shop.example", NEW),
    )

    assert town.owners() == {
        "*.shop.example": "shop/web",
        "api.shop.example": "shop/api",
        "*.a.shop.example": "shop/api",
    }
    assert losers(town) == {"shop/copy": "expected a free name: Service shop/api holds api.shop.example"}


def test_the_end_of_the_holder_frees_the_name_for_whoever_waits_longest() -> None:
    town = World()
    town.hears(app("shop/web", "shop.example"))
    town.hears(app("blog/web", "shop.example", NEW), now=NOW + timedelta(seconds=1))
    town.hears(app("news/web", "shop.example", OLD), now=NOW + timedelta(seconds=2))

    town.hears(gone(app("shop/web", "")))

    assert town.owners() == {"shop.example": "blog/web"}
    assert losers(town) == {"news/web": "expected a free name: Service blog/web holds shop.example"}


def test_the_end_of_one_of_two_in_the_way_is_not_enough_for_a_wildcard() -> None:
    town = World()
    town.hears(app("blog/web", "a.shop.example"), app("news/web", "b.shop.example"))
    town.hears(app("shop/web", "*.shop.example"))

    town.hears(gone(app("blog/web", "")))
    assert town.owners() == {"b.shop.example": "news/web"}
    assert losers(town) == {"shop/web": "expected a free name: Service news/web holds b.shop.example"}

    town.hears(gone(app("news/web", "")))
    assert town.owners() == {"*.shop.example": "shop/web"}
    assert losers(town) == {}


def test_the_end_of_a_namespace_frees_all_its_names_at_once() -> None:
    town = World()
    town.hears(app("shop/web", "shop.example,*.shop.example"), app("shop/api", "api.shop.example"))
    town.hears(app("blog/web", "shop.example,x.shop.example"), app("news/web", "api.shop.example"))
    assert set(losers(town)) == {"blog/web", "news/web"}

    town.hears(gone(app("shop/web", "")), gone(app("shop/api", "")))

    assert town.owners() == {
        "shop.example": "blog/web",
        "x.shop.example": "blog/web",
        "api.shop.example": "news/web",
    }


def test_a_service_that_is_renamed_is_followed_by_its_namespace() -> None:
    town = World()
    town.hears(app("shop/web", "shop.example"))
    town.hears(app("blog/web", "shop.example", OLD))

    town.hears(gone(app("shop/web", "")), app("shop/web-2", "shop.example", NEW))

    assert town.owners() == {"shop.example": "shop/web-2"}


def test_an_app_that_takes_another_name_leaves_the_old_one_to_others() -> None:
    town = World()
    town.hears(app("shop/web", "shop.example"))
    town.hears(app("blog/web", "shop.example"))

    town.hears(app("shop/web", "store.example"))

    assert town.owners() == {"shop.example": "blog/web", "store.example": "shop/web"}


@pytest.mark.parametrize(
    "spelling",
    [
        "B\u00fccher.Example",
        "xn--bcher-kva.example.",
        "XN--BCHER-KVA.EXAMPLE",
        "bu\u0308cher.example",
        "\uff42\u00fccher.example",
        "b\u00fccher\u3002example",
    ],
)
def test_no_spelling_of_a_name_is_another_name(spelling: str) -> None:
    town = World()
    town.hears(app("shop/web", "b\u00fccher.example", NEW))

    town.hears(app("blog/web", spelling, OLD))

    assert town.owners() == {"xn--bcher-kva.example": "shop/web"}
    assert losers(town) == {"blog/web": "expected a free name: Service shop/web holds xn--bcher-kva.example"}


@pytest.mark.parametrize("names", [("b/web", "a/web"), ("a/web", "b/web")])
def test_of_those_seen_at_once_the_older_service_comes_first_then_the_name(names: tuple[str, str]) -> None:
    town = World()
    town.hears(app(names[0], "x.example", NEW), app(names[1], "x.example", OLD))
    assert town.owners() == {"x.example": names[1]}

    town = World()
    town.hears(*(app(name, "x.example", OLD) for name in names))
    assert town.owners() == {"x.example": "a/web"}


def test_hearing_everything_again_in_another_order_changes_nothing() -> None:
    """A list after a watch that broke: the same objects, in the order of the API server's store."""
    town = World()
    town.hears(app("shop/web", "shop.example", NEW))
    everything = [app("blog/web", "shop.example", OLD), app("shop/web", "shop.example", NEW)]
    town.hears(everything[0])

    assert not town.hears(*everything).changed
    assert not town.hears(*reversed(everything)).changed
    again = World()
    again.hears(remembered(town), *everything)
    assert again.owners() == town.owners() == {"shop.example": "shop/web"}


def test_the_operators_word_beats_whoever_holds_the_name() -> None:
    town = World()
    town.hears(app("shop/web", "*.shop.example,shop.example"), app("blog/web", "a.shop.example"))
    route = town.routes["shop/web"]

    word = Change(ObjectKey("ConfigMap", "drycc", "drycc-router-claims"), {"data": {"given": "shop.example blog"}})
    town.hears(word, app("blog/web", "shop.example"))

    assert town.owners() == {"*.shop.example": "shop/web", "shop.example": "blog/web"}
    assert town.routes["shop/web"] is route


# ── who comes late, and who was here ──────────────────────────────────────────────────────────────────────────────────


def test_the_owner_notices_nothing_of_those_who_come_and_go() -> None:
    """Deny by conflict (M-03): the loser is refused, and the winner's route is the very same object."""
    town = World()
    town.hears(app("shop/web", "shop.example,*.shop.example", NEW), endpoints("shop/web", "10.0.0.1"))
    route, rules = town.routes["shop/web"], dict(town.hosts)

    for change in (
        app("evil/web", "shop.example,*.shop.example,a.shop.example", OLD),
        app("evil/web", "shop.example,evil.example", OLD),
        app("evil/web", "*.shop.example", OLD),
        gone(app("evil/web", "")),
    ):
        town.hears(change)
        assert town.last.table.routes.keys() <= {"evil/web"}
        assert town.last.table.hosts.keys() <= {b"evil.example"}
        assert not town.last.table.gone_hosts & {host.encode() for host in rules}
        assert town.routes["shop/web"] is route
        assert all(town.hosts[host] is rule for host, rule in rules.items())


def test_an_old_service_that_claims_late_is_late_also_after_a_restart() -> None:
    """Stealing by age (M-02): the hole of every rule that asks for the age of the object."""
    town = World()
    town.hears(app("evil/web", "evil.example", OLD), app("shop/web", "shop.example", NEW))
    town.hears(app("evil/web", "evil.example,shop.example", OLD))
    assert town.owners()["shop.example"] == "shop/web"

    again = World()
    again.hears(
        remembered(town), app("evil/web", "evil.example,shop.example", OLD), app("shop/web", "shop.example", NEW)
    )
    assert again.owners() == {"evil.example": "evil/web", "shop.example": "shop/web"}

    again.hears(gone(app("shop/web", "")))
    assert again.owners()["shop.example"] == "evil/web", "the name is free now"


# ── namespaces that cannot be read when a router starts ───────────────────────────────────────────────────────────────


def restarted(town: World, *changes: Change) -> World:
    """A router that starts with what another one remembered."""
    again = World()
    again.hears(remembered(town), *changes)
    return again


def claimed(town: World) -> dict[tuple[str, str], bool]:
    """What the record says, written or to be written: (host, app) → whether it holds."""
    record = town.last.record
    assert record is not None
    return {key: said.held for key, said in record.claims.items()}


def test_who_cannot_be_read_when_a_router_starts_loses_no_name_to_anybody() -> None:
    """Not to know whether a Service is there is not to be told that it is gone."""
    town = World()
    town.hears(app("shop/web", "shop.example,*.wild.example", NEW))
    evil = app("evil/web", "shop.example,a.wild.example,evil.example", OLD)
    town.hears(evil, app("blog/web", "*.shop.example", OLD))
    before = claimed(town)

    for _ in range(3):  # whoever is elected next cannot read it either
        town = restarted(town, evil, unheard("shop"), app("blog/web", "*.shop.example", OLD))
        assert town.owners() == {"evil.example": "evil/web", "*.shop.example": "blog/web"}
        told = {each.value: each.message for each in town.problems(Reason.DOMAIN_TAKEN)}
        holds = "expected a free name: Service shop/web holds"
        assert told == {"shop.example": f"{holds} shop.example", "a.wild.example": f"{holds} *.wild.example"}
        assert claimed(town) == before
        assert "shop/web" not in town.last.apps, "nobody can ask for what is not known"

    town.hears(app("shop/web", "shop.example,*.wild.example", NEW))
    town.hears(unheard("shop", still=False))
    assert town.owners()["shop.example"] == town.owners()["*.wild.example"] == "shop/web"
    assert claimed(town) == before

    town.hears(gone(app("shop/web", "")))
    assert town.owners()["shop.example"] == town.owners()["a.wild.example"] == "evil/web"


def test_a_complete_list_that_does_not_have_it_frees_its_names() -> None:
    """No claim is kept for ever."""
    town = World()
    town.hears(app("shop/web", "shop.example"), app("shop/api", "api.example"))
    town.hears(app("evil/web", "shop.example"))
    town = restarted(town, unheard("shop"), app("evil/web", "shop.example"))
    assert town.owners() == {}

    town.hears(app("shop/api", "api.example"), unheard("shop", still=False))

    assert town.owners() == {"shop.example": "evil/web", "api.example": "shop/api"}
    assert claimed(town) == {("shop.example", "evil/web"): True, ("api.example", "shop/api"): True}


def test_what_nobody_can_read_waits_its_turn() -> None:
    """The oldest claim is the next one, whether its Service can be read now or not."""
    town = World()
    town.hears(app("blog/web", "x.example"))
    town.hears(app("shop/web", "x.example"), now=NOW + timedelta(seconds=1))
    town.hears(app("evil/web", "x.example"), now=NOW + timedelta(seconds=2))
    town = restarted(town, unheard("shop"), app("evil/web", "x.example"), app("blog/web", "x.example"))
    assert town.owners() == {"x.example": "blog/web"}

    town.hears(gone(app("blog/web", "")))

    assert losers(town) == {"evil/web": "expected a free name: Service shop/web holds x.example"}
    town.hears(app("shop/web", "x.example"), unheard("shop", still=False))
    assert town.owners() == {"x.example": "shop/web"}


def test_a_service_that_is_known_speaks_for_itself_also_where_others_are_not() -> None:
    """Of a list that broke off in the middle, the first pages were told."""
    town = World()
    town.hears(
        app("shop/web", "shop.example,old.example"), app("shop/api", "api.example"), app("shop/shut", "shut.example")
    )

    shut = service("shop/shut", {"domains": "shut.example"}, labels={})  # not to be routed any more
    evil = app("evil/web", "old.example,api.example,shut.example")
    town = restarted(town, unheard("shop"), app("shop/web", "shop.example"), shut, evil)

    assert town.owners() == {"shop.example": "shop/web", "old.example": "evil/web", "shut.example": "evil/web"}
    assert losers(town) == {"evil/web": "expected a free name: Service shop/api holds api.example"}


def test_a_service_that_is_told_to_be_gone_keeps_nothing_though_others_are_not_heard_of() -> None:
    """One of the two lists of a namespace may be there, and the other one not; slices say nothing of Services."""
    town = World()
    town.hears(app("shop/web", "shop.example"), app("shop/api", "api.example"), app("shop/old", "old.example"))
    evil = app("evil/web", "shop.example,api.example,old.example")
    town = restarted(town, app("shop/old", "old.example"), unheard("shop"), app("shop/web", "shop.example"), evil)
    assert town.owners() == {"shop.example": "shop/web", "old.example": "shop/old"}

    town.hears(gone(app("shop/web", "")), gone(app("shop/old", "")), endpoints("shop/api", "10.0.0.1"))

    assert town.owners() == {"shop.example": "evil/web", "old.example": "evil/web"}
    assert losers(town) == {"evil/web": "expected a free name: Service shop/api holds api.example"}


def test_the_operators_word_beats_what_is_remembered_of_those_who_cannot_be_read() -> None:
    """So that a right which nobody will ever give back blocks no name for ever."""
    town = World()
    router = deployment({"platformDomain": "apps.io"})
    town.hears(router, app("shop/web", "shop.example,a.shop.example,grafana.big.example"))
    town = restarted(town, router, unheard("shop"), app("evil/web", "*.shop.example,grafana.big.example"))
    assert town.owners() == {}

    data = {"v1": remembered(town).object["data"]["v1"], "given": "*.shop.example evil"}  # type: ignore[index]
    town.hears(Change(ObjectKey("ConfigMap", "drycc", "drycc-router-claims"), {"data": data}))
    assert town.owners() == {"*.shop.example": "evil/web"}
    assert claimed(town) == {
        ("shop.example", "shop/web"): True,
        ("*.shop.example", "evil/web"): True,
        ("grafana.big.example", "evil/web"): False,
        ("grafana.big.example", "shop/web"): True,
    }

    town.hears(deployment({"platformDomain": "big.example"}))
    assert ("grafana.big.example", "shop/web") not in claimed(town), "nor may it have what became the platform's"


def test_a_namespace_that_is_watched_no_more_keeps_no_names() -> None:
    """Nobody would ever hear of it again."""
    town = World()
    town.hears(app("shop/web", "shop.example"), app("lost/web", "lost.example"))

    town = restarted(town, unheard("shop"), app("evil/web", "shop.example,lost.example"))

    assert town.owners() == {"lost.example": "evil/web"}
    assert claimed(town).keys() == {
        ("shop.example", "shop/web"),
        ("shop.example", "evil/web"),
        ("lost.example", "evil/web"),
    }


def test_of_those_who_cannot_be_read_the_word_of_another_replica_counts_and_silence_does_not() -> None:
    town = World()
    town.hears(app("shop/web", "shop.example"), app("shop/api", "api.example"))
    evil = app("evil/web", "shop.example,api.example")
    blind = restarted(town, unheard("shop"), evil)
    record = ObjectKey("ConfigMap", "drycc", "drycc-router-claims")
    silences: list[dict[str, Any] | None] = [None, {"data": {}}, {"data": {"v1": "garbage"}}]
    for silence in silences:
        blind.hears(Change(record, silence))
        assert blind.owners() == {}

    sees = restarted(town, app("shop/api", "api.example"), app("shop/new", "new.example"), evil)
    blind.hears(remembered(sees))
    assert sees.owners() == {"shop.example": "evil/web", "api.example": "shop/api", "new.example": "shop/new"}
    assert blind.owners() == {"shop.example": "evil/web"}
    assert claimed(blind) == claimed(sees)


def test_who_cannot_be_read_lets_nobody_answer_its_paths_until_it_can() -> None:
    """It is not known whom it lets in."""
    town = World()
    town.hears(service("shop/web", {"domains": "shop.example"}))
    paths = {"proxyDomain": "shop.example", "proxyLocations": "/api"}
    town = restarted(town, unheard("shop"), service("shop/api", paths))
    assert town.owners() == {}
    assert [each.value for each in town.problems(Reason.UNKNOWN_PROXY_DOMAIN)] == ["shop.example"]

    town.hears(service("shop/web", {"domains": "shop.example"}), unheard("shop", still=False))
    assert not town.problems(Reason.UNKNOWN_PROXY_DOMAIN)
    assert town.hosts["shop.example"].paths == ((b"/api", "shop/api"),)


# ── what else a thief may try ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_label_makes_nobody_the_platform() -> None:
    """Priority by forging labels (M-24): only namespaces count."""
    town = World()
    town.hears(deployment({"platformDomain": "apps.io"}), app("shop/web", "shop"))

    for name in ("kube-system/drycc-router", "evil/drycc-builder"):
        for prefix in ("router.drycc.cc/", "router.deis.io/"):
            labels = {f"{prefix}routable": "true", "app": "drycc", "heritage": "drycc"}
            says = {"domains": "drycc,deis,grafana,apps.io,*.apps.io,*.io,shop,shop.apps.io"}
            town.hears(service(name, says, prefix=prefix, labels=labels, created=OLD))
            assert town.owners() == {"shop.apps.io": "shop/web"}
            assert len(town.problems(Reason.RESERVED_DOMAIN)) == 5  # not *.io: nobody may have that
            town.hears(gone(service(name)))


def test_whether_somebody_elses_secret_exists_cannot_be_found_out() -> None:
    """An oracle of other people's objects (M-25): what one is told is the same whether it is there or not."""
    town = World()
    town.hears(app("shop/web", "shop.example"))
    wants = service("evil/web", {"domains": "evil.example,shop.example", "certificates": "shop.example:web"})
    town.hears(wants)
    told = town.last.problems

    shop = AUTHORITY.issue("shop.example", start=NOW - timedelta(days=1), days=365)
    town.hears(secret("shop/web-cert", shop), secret("drycc/web", shop))

    assert town.last.problems == told
    town.hears(secret("evil/web", shop))
    assert (town.names, town.certificates) == ({}, {}), "a certificate is for names that one holds"


# ── names that are hostile ────────────────────────────────────────────────────────────────────────────────────────────

OWNED = "shop.example,b\u00fccher.example,api.big.example,*.wild.example,shop"
PUBLIC = "com org net io dev app co.uk com.au co.jp github.io gitlab.io herokuapp.com netlify.app vercel.app pages.dev"
PUBLIC_MORE = "s3.amazonaws.com azurewebsites.net web.app firebaseapp.com blogspot.com de fr uk jp xyz gov.uk ac.uk"
PLATFORM = "drycc drycc-builder drycc-controller drycc-registry drycc-router deis deis-builder grafana influx influxapi"
INSIDE = "localhost web.shop.svc web.shop.svc.cluster.local kubernetes.default kubernetes.default.svc shop.localdomain"
ADDRESSES = "127.0.0.1 10.96.0.1 169.254.169.254 0x7f.0x1 2130706433.0 1.2.3 ::1 [::1] 0177.0.0.1 4.3.2.1.in-addr.arpa"
DIRT = (
    "* ** *.* *. .* . .. -shop.example shop-.example sh_op.example shop..example .shop.example shop.example.. "
    "http://shop.example shop.example:80 shop.example/ user@shop.example shop%2eexample shop.example? shop.example# "
    "*shop.example s*.example *.*.example a.*.example ^shop ~shop $host ${host} {{shop}} shop.example; 'shop.example' "
    '"shop.example" <shop> shop.example\\ shop\x00.example shop\x7f.example \u202eshop.example'
)
"""What is no name at all."""
LETTERS = "shop.example".translate(str.maketrans("shope", "\uff53\uff48\uff4f\uff50\uff45"))
ALIKE = (
    f"SHOP.EXAMPLE Shop.Example. shop.example. sHoP.eXaMpLe {LETTERS} \uff33\uff28\uff2f\uff30.example "
    "\u017fhop.example shop\u3002example shop\uff0eexample shop\uff61example sh\u00adop.example shop\u200b.example "
    "B\u00dcCHER.example xn--bcher-kva.example XN--BCHER-KVA.EXAMPLE. bu\u0308cher.example B\u00fccher\u3002Example "
    "API.big.example api.BIG.example. \uff41\uff50\uff49.big.example SHOP shop Shop. \uff53hop shop.apps.io "
    "SHOP.apps.io. Shop.APPS.IO *.WILD.example *.wild.example. *.\uff57ild.example"
)
"""Spellings of the owner's names."""
AROUND = (
    "*.shop.apps.io a.wild.example a.b.wild.example *.a.wild.example A.Wild.Example. *.big.example *.BIG.example. "
    "xn--a.wild.example \uff41.wild.example *.deep.a.wild.example b\u00fccher.wild.example"
)
"""Above and below them: ``*.shop.apps.io`` stands in nobody's way."""


def hostile() -> Iterator[tuple[str, bool]]:
    """Names, and whether nobody at all may have them outside of the platform."""
    for suffix in (*PUBLIC.split(), *PUBLIC_MORE.split()):
        yield f"*.{suffix}", True
        yield f"*.{suffix.upper()}.", True
    for name in PLATFORM.split():
        yield from ((each, True) for each in (name, name.upper(), f"{name}.", f"{name}.apps.io", f"{name}.APPS.io."))
    for name in ("apps.io", "APPS.IO.", "*.apps.io", "*.Apps.io.", "\uff41pps.io"):
        yield name, True
    for name in (*INSIDE.split(" "), *ADDRESSES.split(" "), *DIRT.split(" ")):
        yield name, True
    for name in (*ALIKE.split(" "), *AROUND.split(" ")):
        yield name, False


HOSTILE = list(hostile())


def test_there_are_some_two_hundred_of_them() -> None:
    assert 190 <= len(HOSTILE) == len(set(HOSTILE))


def owned() -> World:
    town = World()
    town.hears(deployment({"platformDomain": "apps.io"}), app("shop/web", OWNED, NEW), app("drycc/web", "drycc"))
    return town


@pytest.mark.parametrize("first", ["the owner", "the thief"])
def test_two_hundred_hostile_names_take_nothing_from_anybody(first: str) -> None:
    """M-01, for a thief with the older Service that comes after the owner, and for one that came before."""
    undisturbed = owned().owners()
    for name, nobodys in HOSTILE:
        thief = app("evil/web", name, OLD)
        if first == "the owner":
            town = owned()
            town.hears(thief)
            mine = {host: holder for host, holder in town.owners().items() if holder != "evil/web"}
            assert mine == undisturbed, name
            assert town.owners().keys() - mine.keys() <= {"*.shop.apps.io"}, name
            continue
        town = World()
        town.hears(deployment({"platformDomain": "apps.io"}), thief)
        taken = {host for host, holder in town.owners().items() if holder == "evil/web"}
        assert not (nobodys and taken), name
        town.hears(app("shop/web", OWNED, NEW), app("drycc/web", "drycc"))
        assert {host for host, holder in town.owners().items() if holder == "evil/web"} == taken, name
        missing = undisturbed.keys() - town.owners().keys() | (undisturbed.keys() & taken)
        assert len(missing) <= 1, "one name is one name, not two"
        assert len(town.problems(Reason.DOMAIN_TAKEN)) == len(missing), name


# ── any order, any number of restarts ─────────────────────────────────────────────────────────────────────────────────

CROWD = {f"{letter}/web": f"202{number}-01-01T00:00:00Z" for number, letter in enumerate("fbdace")}


def test_in_a_thousand_orders_of_arrival_and_restarts_the_first_one_owns_the_name_throughout() -> None:
    """R-15: 100 % the same owner, and not one flap."""
    for seed in range(1_000):
        chance = random.Random(seed)
        apps = list(CROWD)
        chance.shuffle(apps)
        town = World()
        for number, name in enumerate(apps):
            now = NOW + timedelta(seconds=number)
            town.hears(app(name, "x.example", CROWD[name]), now=now)
            assert town.owners() == {"x.example": apps[0]}
            if chance.random() < 0.3:
                here = apps[: number + 1]
                chance.shuffle(here)
                record = remembered(town)
                town = World()
                town.hears(record, *(app(each, "x.example", CROWD[each]) for each in here), now=now)
                assert town.owners() == {"x.example": apps[0]}
        assert len(losers(town)) == len(apps) - 1
        for name, heir in itertools.pairwise(apps):
            town.hears(gone(app(name, "")), now=NOW + timedelta(minutes=1))
            assert town.owners() == {"x.example": heir}, "each in its turn, as it came"


def test_in_any_order_within_one_batch_the_oldest_service_owns_the_name() -> None:
    chance = random.Random(1)
    apps = list(CROWD)
    for _ in range(100):
        chance.shuffle(apps)
        town = World()
        town.hears(*(app(name, "x.example", CROWD[name]) for name in apps))
        assert town.owners() == {"x.example": "f/web"}
