"""Who holds a name: the admission matrix of wildcards and namespaces, and that an incumbent is never disturbed."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from router.annotations.domains import covers
from router.claims import Claimant, Claims, Standing

BELOW_X = ("x.com", "a.x.com", "b.a.x.com", "*.x.com", "*.a.x.com", "shop.*")
HOSTS = (
    *BELOW_X,
    "*.example.com",
    "x.example.com",
    "y.example.com",
    "api.example.com",
    "*.b.example.com",
    "*.c.example.com",
    "unrelated.example",
    "*.apps.io",
    "a.apps.io",
)

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def old(app: str) -> Claimant:
    return Claimant.of(app, EPOCH)


def new(app: str) -> Claimant:
    return Claimant.of(app, EPOCH + timedelta(days=1))


def owners(table: Claims) -> dict[str, str]:
    """Host → who holds it."""
    return {host: holder for host in HOSTS if (holder := table.holder(host)) is not None}


def settled(*claims: tuple[Claimant, list[str]]) -> Claims:
    """Everything claimed in one batch."""
    table = Claims()
    for claimant, hosts in claims:
        table.put(claimant, hosts)
    table.settle()
    return table


def test_a_free_name_goes_to_the_oldest_claim_then_by_name() -> None:
    table = settled((new("a/web"), ["x.example"]), (old("b/web"), ["x.example"]))
    assert table.holder("x.example") == "b/web"

    table = settled((old("b/web"), ["x.example"]), (old("a/web"), ["x.example"]))
    assert table.holder("x.example") == "a/web"

    table = settled((Claimant.of("a/web", None), ["x.example"]), (new("b/web"), ["x.example"]))
    assert table.holder("x.example") == "b/web", "an unknown time proves nothing"


def test_the_incumbent_keeps_it_against_an_older_service() -> None:
    """The age of an object proves nothing about its claim (hardening M-02)."""
    table = settled((new("a/web"), ["x.example"]))

    table.put(old("b/web"), ["x.example"])
    table.settle()

    assert table.holder("x.example") == "a/web"
    assert table.in_the_way("b/web", "x.example") == Standing("x.example", new("a/web"))
    assert table.in_the_way("a/web", "x.example") is None


def test_the_loser_takes_over_when_the_name_is_free() -> None:
    table = settled((old("a/web"), ["x.example"]), (new("b/web"), ["x.example"]))

    table.put(old("a/web"), [])

    assert table.settle() == {"x.example"}
    assert table.holder("x.example") == "b/web"


def test_within_a_namespace_the_name_is_inherited_before_strangers_get_it() -> None:
    table = settled(
        (old("a/web"), ["x.example"]), (new("a/other"), ["x.example"]), (Claimant.of("b/web", EPOCH), ["x.example"])
    )

    table.put(old("a/web"), [])
    table.settle()

    assert table.holder("x.example") == "a/other"


def test_whoever_waits_is_told_of_the_heir() -> None:
    table = settled(
        (old("a/web"), ["*.example.com"]), (new("a/other"), ["*.example.com"]), (new("b/web"), ["x.example.com"])
    )

    table.put(old("a/web"), [])

    assert "x.example.com" in table.settle()
    assert table.in_the_way("b/web", "x.example.com") == Standing("*.example.com", new("a/other"))


def test_old_wildcard_against_new_specific() -> None:
    table = settled((old("a/web"), ["*.example.com"]), (new("b/web"), ["x.example.com"]))

    assert table.holder("x.example.com") is None
    assert table.in_the_way("b/web", "x.example.com") == Standing("*.example.com", old("a/web"))


def test_old_specific_against_new_wildcard() -> None:
    table = settled((old("b/web"), ["x.example.com"]), (new("a/web"), ["*.example.com"]))

    assert table.holder("x.example.com") == "b/web"
    assert table.holder("*.example.com") is None
    assert table.in_the_way("a/web", "*.example.com") == Standing("x.example.com", old("b/web"))


def test_old_wildcard_against_new_wildcard_below_it() -> None:
    table = settled((old("a/web"), ["*.example.com"]), (new("b/web"), ["*.b.example.com"]))

    assert owners(table) == {"*.example.com": "a/web"}


def test_in_one_namespace_wildcards_and_names_below_them_go_together() -> None:
    table = settled((old("a/web"), ["*.example.com"]), (new("a/api"), ["api.example.com", "*.b.example.com"]))

    assert owners(table) == {
        "*.example.com": "a/web",
        "api.example.com": "a/api",
        "*.b.example.com": "a/api",
    }


def test_a_waiting_wildcard_is_admitted_when_the_last_stranger_is_gone() -> None:
    table = settled(
        (old("b/web"), ["x.example.com"]), (old("c/web"), ["y.example.com"]), (new("a/web"), ["*.example.com"])
    )

    table.put(old("b/web"), [])
    assert "*.example.com" in table.settle()
    assert table.holder("*.example.com") is None

    table.put(old("c/web"), [])
    table.settle()
    assert table.holder("*.example.com") == "a/web"


def test_waiting_names_are_admitted_when_a_wildcard_goes() -> None:
    table = settled(
        (old("a/web"), ["*.example.com"]), (new("b/web"), ["x.example.com"]), (new("c/web"), ["*.c.example.com"])
    )

    table.put(old("a/web"), ["unrelated.example"])
    table.settle()

    assert owners(table) == {
        "unrelated.example": "a/web",
        "x.example.com": "b/web",
        "*.c.example.com": "c/web",
    }


def test_the_apex_is_not_below_its_wildcard_and_short_names_are_below_nothing() -> None:
    table = settled((old("a/web"), ["*.example.com"]), (new("b/web"), ["example.com", "shop.*"]))

    assert table.holder("example.com") == "b/web"
    assert table.holder("shop.*") == "b/web"


def test_the_platforms_own_wildcard_is_in_nobodys_way() -> None:
    table = settled((old("drycc/catch-all"), ["*.apps.io"]), (new("a/web"), ["a.apps.io"]))
    assert table.holder("a.apps.io") is None

    table.set_common("*.apps.io")
    table.settle()

    assert owners(table) == {"*.apps.io": "drycc/catch-all", "a.apps.io": "a/web"}


def test_what_nobody_claims_leaves_nothing_behind() -> None:
    table = settled((old("a/web"), ["*.example.com", "x.example.com"]))

    table.put(old("a/web"), [])
    table.settle()

    assert repr(table) == "<Claims 0 hosts of 0 apps, 0 held>"
    assert table.held_by("a/web") == []


NAMES = st.sampled_from(BELOW_X)
APPS = st.sampled_from(["n/web", "n/api", "m/web", "o/web"])
STEPS = st.lists(st.tuples(APPS, st.frozensets(NAMES, max_size=3)), min_size=1, max_size=12)


@settings(deadline=None, max_examples=300)
@given(STEPS, st.lists(st.booleans(), min_size=12, max_size=12))
def test_in_any_history_holders_are_undisturbed_and_nobody_waits_for_nothing(
    steps: list[tuple[str, frozenset[str]]], settles: list[bool]
) -> None:
    table = Claims()
    claims: dict[str, frozenset[str]] = {}
    for (app, hosts), settle_now in zip(steps, settles, strict=False):
        table.put(old(app), hosts)
        claims[app] = hosts
        if not settle_now:
            continue
        before = owners(table)
        changed = table.settle()
        after = owners(table)
        for host, holder in before.items():
            if host in claims[holder]:
                assert after[host] == holder, "an incumbent that still claims it keeps it"
        assert {host for host in before.keys() | after.keys() if before.get(host) != after.get(host)} <= changed
        for host, holder in after.items():
            assert host in claims[holder]
            for other, stranger in after.items():
                if covers(host, other):
                    assert holder.split("/")[0] == stranger.split("/")[0], "no name of a stranger below a wildcard"
        for claimant, wanted in claims.items():
            for host in wanted:
                standing = table.in_the_way(claimant, host)
                if standing is None:
                    assert after[host] == claimant, "whoever does not hold a name is told who does"
                else:
                    assert after[standing.host] == standing.holder.app
                    related = covers(standing.host, host) or covers(host, standing.host)
                    assert standing.host == host or related
