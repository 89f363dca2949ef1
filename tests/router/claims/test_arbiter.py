"""Who holds a name: the admission matrix of wildcards and namespaces, and that an incumbent is never disturbed."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from drycc_router.claims.arbiter import AWAY, Claimant, Claims, Standing
from drycc_router.claims.record import ClaimKey, Record, Recorded, Stamp, decode, encode, stamp
from drycc_router.model.hostnames import covers
from tests.fakes.owners import Registrar, namespace

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


def test_whoever_waits_is_told_of_another_in_the_way() -> None:
    table = settled((old("a/web"), ["*.example.com"]), (new("b/web"), ["x.b.example.com"]))

    table.put(new("a/api"), ["*.b.example.com"])

    assert "x.b.example.com" in table.settle()
    assert table.in_the_way("b/web", "x.b.example.com") == Standing("*.b.example.com", new("a/api"))


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

    table.set_common(frozenset({"*.apps.io"}))
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


def standings(table: Claims, claims: Mapping[str, frozenset[str]]) -> dict[tuple[str, str], Standing | None]:
    """What everybody is told about every host that they claim."""
    return {(app, host): table.in_the_way(app, host) for app, hosts in claims.items() for host in hosts}


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
        told = standings(table, claims)
        changed = table.settle()
        after = owners(table)
        for host, holder in before.items():
            if host in claims[holder]:
                assert after[host] == holder, "an incumbent that still claims it keeps it"
        assert {host for host in before.keys() | after.keys() if before.get(host) != after.get(host)} <= changed
        now_told = standings(table, claims)
        assert {host for app, host in now_told if now_told[app, host] != told.get((app, host))} <= changed
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


# ── what is remembered ────────────────────────────────────────────────────────────────────────────────────────────────


def recorded(claims: Mapping[ClaimKey, Recorded], author: str = "another", serial: int = 1) -> Record:
    """The word of another replica."""
    return Record(Stamp(author, serial), claims)


def restarted(record: Record, *claims: tuple[Claimant, list[str]]) -> Claims:
    """A replica that starts, with what was remembered."""
    table = Claims()
    table.recall(record, now=9_000)
    for claimant, hosts in claims:
        table.put(claimant, hosts)
    table.settle(now=9_000)
    return table


def handed_out(table: Claims) -> Record:
    """What a replica wants to have written."""
    record = table.record()
    assert record is not None
    return record


def test_after_a_restart_the_holder_is_the_one_it_was() -> None:
    """An old Service that claims late is late, also for a router that was not there to see it (hardening M-02)."""
    table = Claims()
    table.put(new("b/web"), ["x.example"])
    table.settle(now=1_000)
    table.put(old("a/web"), ["x.example"])
    table.settle(now=2_000)
    record = handed_out(table)
    assert record.claims == {
        ("x.example", "a/web"): Recorded(2_000, held=False),
        ("x.example", "b/web"): Recorded(1_000, held=True),
    }

    again = restarted(record, (old("a/web"), ["x.example"]), (new("b/web"), ["x.example"]))

    assert again.holder("x.example") == "b/web"
    assert handed_out(again).claims == record.claims, "there is nothing to add"


def test_without_a_record_the_age_of_the_service_decides_when_a_router_starts() -> None:
    table = settled((old("a/web"), ["x.example"]), (new("b/web"), ["x.example"]))

    assert table.holder("x.example") == "a/web"


def test_without_a_record_those_who_wait_are_served_in_the_order_they_were_seen() -> None:
    table = settled((old("a/web"), ["x.example"]))
    table.put(new("b/web"), ["x.example"])
    table.settle(now=2_000)
    table.put(old("c/web"), ["x.example"])
    table.settle(now=3_000)

    table.put(old("a/web"), [])
    table.settle(now=4_000)

    assert table.holder("x.example") == "b/web", "the age of a Service proves nothing about its claim"


def test_those_who_wait_keep_their_turn_over_a_restart() -> None:
    record = recorded(
        {
            ("x.example", "a/web"): Recorded(1_000, held=True),
            ("x.example", "b/web"): Recorded(2_000, held=False),
            ("x.example", "c/web"): Recorded(3_000, held=False),
        }
    )

    again = restarted(record, (old("c/web"), ["x.example"]), (new("b/web"), ["x.example"]))

    assert again.holder("x.example") == "b/web", "the holder went away while nobody looked; the older claim is next"


def test_a_claim_nobody_has_seen_is_younger_than_those_that_are_remembered() -> None:
    record = recorded({("x.example", "b/web"): Recorded(2_000, held=False)})

    again = restarted(record, (old("a/web"), ["x.example"]), (new("b/web"), ["x.example"]))

    assert again.holder("x.example") == "b/web"


def test_also_when_it_was_seen_here_by_a_clock_that_is_behind() -> None:
    table = settled((new("a/web"), ["x.example"]))
    table.put(old("c/web"), ["x.example"])
    table.put(new("b/web"), ["x.example"])
    table.settle(now=100)

    table.recall(
        recorded(
            {("x.example", "a/web"): Recorded(2_000, held=True), ("x.example", "b/web"): Recorded(2_001, held=False)}
        )
    )
    table.put(new("a/web"), [])
    table.settle(now=200)

    assert table.holder("x.example") == "b/web", "the record does not mention the other one yet"


def test_those_nobody_has_seen_before_are_ordered_by_the_age_of_their_services() -> None:
    record = recorded({("y.example", "b/web"): Recorded(2_000, held=True)})

    again = restarted(record, (new("a/web"), ["x.example"]), (old("c/web"), ["x.example"]))

    assert again.holder("x.example") == "c/web"


def test_the_namespace_of_a_holder_that_went_away_is_remembered() -> None:
    record = recorded(
        {("x.example", "a/web"): Recorded(1_000, held=True), ("x.example", "b/web"): Recorded(2_000, held=False)}
    )

    again = restarted(record, (new("a/other"), ["x.example"]), (old("b/web"), ["x.example"]))

    assert again.holder("x.example") == "a/other"


def test_a_holder_that_does_not_exist_any_more_is_forgotten() -> None:
    record = recorded({("x.example", "a/web"): Recorded(1_000, held=True)})

    again = restarted(record, (new("b/web"), ["x.example"]))

    assert again.holder("x.example") == "b/web"
    assert handed_out(again).claims == {("x.example", "b/web"): Recorded(9_000, held=True)}


def test_a_wildcard_that_held_keeps_strangers_out_after_a_restart() -> None:
    record = recorded(
        {
            ("*.example.com", "a/web"): Recorded(2_000, held=True),
            ("x.example.com", "b/web"): Recorded(1_000, held=False),
        }
    )

    again = restarted(record, (new("a/web"), ["*.example.com"]), (old("b/web"), ["x.example.com"]))

    assert owners(again) == {"*.example.com": "a/web"}


def test_a_replica_that_saw_it_in_another_order_obeys_the_record() -> None:
    table = settled((old("b/web"), ["x.example.com"]))
    table.put(old("a/web"), ["*.example.com"])
    table.settle()
    assert owners(table) == {"x.example.com": "b/web"}

    table.recall(
        recorded(
            {
                ("*.example.com", "a/web"): Recorded(1_000, held=True),
                ("x.example.com", "b/web"): Recorded(1_001, held=False),
            }
        )
    )

    assert table.settle() >= {"*.example.com", "x.example.com"}
    assert owners(table) == {"*.example.com": "a/web"}


def test_a_replica_holds_nothing_against_a_claim_that_it_hears_of_later_than_the_record() -> None:
    table = Claims()
    table.recall(recorded({("*.example.com", "a/web"): Recorded(1_000, held=True)}))
    table.put(old("b/web"), ["x.example.com"])
    table.settle(now=2_000)
    assert owners(table) == {"x.example.com": "b/web"}, "as far as it knows, the name is free"

    table.put(new("a/web"), ["*.example.com"])
    table.settle(now=3_000)

    assert owners(table) == {"*.example.com": "a/web"}


def test_a_holder_that_the_record_names_disturbs_nobody_in_its_own_namespace() -> None:
    table = Claims()
    table.put(new("a/api"), ["api.example.com"])
    table.settle(now=1_000)
    table.put(old("a/copy"), ["api.example.com"])
    table.put(new("b/web"), ["b.example.com"])
    table.settle(now=2_000)

    table.recall(
        recorded(
            {
                ("*.example.com", "a/web"): Recorded(500, held=True),
                ("api.example.com", "a/copy"): Recorded(501, held=False),
            }
        )
    )
    table.put(old("a/web"), ["*.example.com"])
    table.settle(now=3_000)

    assert owners(table) == {"*.example.com": "a/web", "api.example.com": "a/api"}


def test_a_record_that_contradicts_itself_disturbs_nobody() -> None:
    table = settled((old("b/web"), ["x.example.com"]), (new("a/web"), ["*.example.com"]))

    table.recall(
        recorded(
            {("*.example.com", "a/web"): Recorded(1, held=True), ("x.example.com", "b/web"): Recorded(2, held=True)}
        )
    )
    table.settle()

    assert owners(table) == {"x.example.com": "b/web"}


def test_the_author_is_not_impressed_by_its_own_words() -> None:
    """It hears them a moment after it wrote them; by then another may rightly hold the name."""
    table = settled((old("a/web"), ["x.example"]))
    written = handed_out(table)
    table.put(old("a/web"), [])
    table.put(new("b/web"), ["x.example"])
    table.settle(now=2_000)
    table.put(old("a/web"), ["x.example"])
    table.settle(now=3_000)

    table.written(written.stamp)
    table.settle(now=4_000)

    assert table.holder("x.example") == "b/web"
    assert handed_out(table).claims["x.example", "a/web"] == Recorded(3_000, held=False)


def test_a_claim_that_was_away_for_a_moment_is_what_the_record_says_of_it() -> None:
    """The author may not have seen it go; only its word can make replicas agree."""
    table = Claims()
    table.recall(recorded({("x.example", "a/web"): Recorded(1_000, held=True)}))
    table.put(old("a/web"), ["x.example"])
    table.put(new("b/web"), ["x.example"])
    table.settle(now=2_000)

    table.put(old("a/web"), [])
    table.settle(now=3_000)
    assert table.holder("x.example") == "b/web"
    table.put(old("a/web"), ["x.example"])
    table.settle(now=3_000 + AWAY)

    assert table.holder("x.example") == "a/web"


def test_a_record_that_nobody_writes_any_more_gives_nothing_back_to_somebody_who_left() -> None:
    table = Claims()
    table.recall(recorded({("x.example", "a/web"): Recorded(1_000, held=True)}))
    table.put(old("a/web"), ["x.example"])
    table.put(new("b/web"), ["x.example"])
    table.settle(now=2_000)

    table.put(old("a/web"), [])
    table.settle(now=3_000)
    table.put(old("a/web"), ["x.example"])
    table.settle(now=3_001 + AWAY)

    assert table.holder("x.example") == "b/web"
    assert handed_out(table).claims["x.example", "a/web"] == Recorded(3_001 + AWAY, held=False)


def test_nor_to_somebody_who_was_not_there_when_the_router_started() -> None:
    table = restarted(recorded({("x.example", "a/web"): Recorded(1_000, held=True)}), (new("b/web"), ["x.example"]))

    table.put(old("a/web"), ["x.example"])
    table.settle(now=9_001 + AWAY)

    assert table.holder("x.example") == "b/web"


def test_nor_does_it_help_that_the_same_is_written_again() -> None:
    """By an author who has not heard that it ended."""
    claims = {("x.example", "a/web"): Recorded(1_000, held=True)}
    table = restarted(recorded(claims), (old("a/web"), ["x.example"]), (new("b/web"), ["x.example"]))
    table.put(old("a/web"), [])
    table.settle(now=10_000)

    table.recall(recorded(claims, serial=2), now=50_000)
    table.put(old("a/web"), ["x.example"])
    table.settle(now=10_001 + AWAY)

    assert table.holder("x.example") == "b/web"


def test_a_record_that_is_gone_or_cannot_be_read_takes_nothing_from_anybody() -> None:
    table = restarted(
        recorded({("x.example", "b/web"): Recorded(1_000, held=True)}),
        (old("a/web"), ["x.example"]),
        (new("b/web"), ["x.example"]),
    )

    table.recall(None)
    table.settle(now=10_000)

    assert table.holder("x.example") == "b/web"
    assert handed_out(table).claims["x.example", "b/web"] == Recorded(1_000, held=True), "and it is written anew"


def test_claims_do_not_begin_before_what_is_remembered_whatever_the_clock_says() -> None:
    again = restarted(recorded({("y.example", "a/web"): Recorded(50_000, held=True)}), (old("b/web"), ["x.example"]))

    assert handed_out(again).claims["x.example", "b/web"] == Recorded(50_001, held=True)


def test_a_record_stays_the_same_object_until_it_differs() -> None:
    table = settled((old("a/web"), ["x.example"]))
    before = handed_out(table)

    table.put(old("a/web"), ["x.example"])
    table.settle(now=5_000)
    assert table.record() is before

    table.put(old("a/web"), [])
    table.settle(now=6_000)
    assert before.claims == {("x.example", "a/web"): Recorded(0, held=True)}, "what was handed out is not touched"
    assert handed_out(table).claims == {}


def test_what_is_written_already_is_not_written_again() -> None:
    table = settled((old("a/web"), ["x.example"]))
    first = handed_out(table)
    table.put(new("b/web"), ["x.example"])
    table.settle(now=5_000)
    second = handed_out(table)
    assert (first.stamp, second.stamp) == (Stamp(table.author, 1), Stamp(table.author, 2))

    table.written(first.stamp)
    assert handed_out(table) == Record(second.stamp, second.claims, after=first.stamp)
    table.written(second.stamp)
    assert table.record() is None

    table.put(new("b/web"), [])
    table.settle(now=6_000)
    assert handed_out(table).stamp == Stamp(table.author, 3)


def test_whoever_is_elected_puts_its_own_name_under_what_another_decided() -> None:
    """Until then some may go by what they know themselves, as its author does."""
    word = recorded({("x.example", "a/web"): Recorded(1_000, held=True)})

    table = restarted(word, (old("a/web"), ["x.example"]))

    assert handed_out(table) == Record(Stamp(table.author, 1), word.claims, after=word.stamp)


def test_no_two_processes_are_the_same_author() -> None:
    assert Claims().author != Claims().author


# ── replicas ──────────────────────────────────────────────────────────────────────────────────────────────────────────


CREATED = {"n/web": 4, "n/api": 1, "m/web": 3, "o/web": 2}


def claimant(app: str) -> Claimant:
    return Claimant.of(app, EPOCH + timedelta(days=CREATED[app]))


World = dict[str, frozenset[str]]


class Replica:
    """Hears claims and records in order, as late as it likes."""

    def __init__(self, world: World, text: str, now: int) -> None:
        self.table = Claims()
        self.news: list[tuple[str, frozenset[str]] | str] = []
        self._read(text, now)
        for app, hosts in world.items():
            self.table.put(claimant(app), hosts)
        self.table.settle(now)

    def hear(self, now: int, at_most: int = 1 << 62) -> None:
        heard, self.news = self.news[:at_most], self.news[at_most:]
        for each in heard:
            if isinstance(each, str):
                self._read(each, now)
            else:
                self.table.put(claimant(each[0]), each[1])
            self.table.settle(now)
            self._check()

    def _read(self, text: str, now: int) -> None:
        there = stamp(text)
        self.named: Mapping[ClaimKey, Recorded] = {}
        if there is not None and there.author == self.table.author:
            self.table.written(there)
        else:
            record = decode(text) if text else None
            self.named = record.claims if record else {}
            self.table.recall(record, now)

    def forgets(self) -> None:
        here = {(host, each.app) for host, _ in self.named for each in self.table.claimants(host)}
        self.named = {key: said for key, said in self.named.items() if key in here}

    def _check(self) -> None:
        """What holds at every moment, however late the news is."""
        held = owners(self.table)
        for host, holder in held.items():
            assert any(each.app == holder for each in self.table.claimants(host))
            for other, stranger in held.items():
                assert not covers(host, other) or namespace(holder) == namespace(stranger)
        for (host, app), (_, is_holder) in self.named.items():
            if is_holder and any(each.app == app for each in self.table.claimants(host)):
                assert held[host] == app, "no replica ever disagrees about a holder that the record names"


class Town:
    """Three replicas and the text that they share."""

    def __init__(self) -> None:
        self.text = ""
        self.world: World = {}
        self.now = 0
        self.replicas = [Replica({}, "", 0) for _ in range(3)]

    def says(self, app: str, hosts: frozenset[str]) -> None:
        self.world[app] = hosts
        for replica in self.replicas:
            replica.news.append((app, hosts))

    def restarts(self, number: int) -> None:
        self.replicas[number] = Replica(self.world, self.text, self.now)

    def writes(self, elected: int) -> None:
        """As whoever is elected writes: only on top of what it has heard."""
        record = self.replicas[elected].table.record()
        if record is not None and record.follows(self.text):
            self.text = encode(record)
            for replica in self.replicas:
                replica.news.append(self.text)

    def waits(self) -> None:
        """Until what is not claimed now is forgotten, though nobody wrote that down. Nobody is deaf for so long."""
        self.all_hear()
        for replica in self.replicas:
            replica.forgets()
        self.now += 2 * AWAY

    def all_hear(self) -> None:
        for replica in self.replicas:
            replica.hear(self.now)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(APPS, st.frozensets(NAMES, max_size=3), st.booleans(), st.integers(0, 2)), max_size=14))
def test_who_holds_what_is_a_function_of_the_claims_whoever_was_elected_and_however_often_replicas_restart(
    steps: list[tuple[str, frozenset[str], bool, int]],
) -> None:
    reference = Registrar(CREATED)
    town = Town()
    for app, hosts, restart, elected in steps:
        town.now += 1
        town.says(app, hosts)
        reference.hears(town.world, town.now)
        if restart:
            town.restarts(elected)
        town.all_hear()
        town.writes(elected)
        town.all_hear()
        for replica in town.replicas:
            assert owners(replica.table) == reference.holders
            wanted = replica.table.record()
            assert (wanted is None) == (replica is town.replicas[elected])
            assert wanted is None or wanted.claims == decode(town.text).claims, "who is elected next adds nothing"


DELAYS = st.lists(st.integers(0, 4), min_size=3, max_size=3)
SLOW_STEPS = st.tuples(
    APPS, st.frozensets(NAMES, max_size=3), DELAYS, st.booleans(), st.integers(0, 2), st.sampled_from([0, 0, 0, 1])
)


@settings(deadline=None, max_examples=300)
@given(st.lists(SLOW_STEPS, max_size=14))
def test_replicas_that_hear_late_agree_in_the_end_and_with_one_that_starts_then(
    steps: list[tuple[str, frozenset[str], list[int], bool, int, int]],
) -> None:
    town = Town()
    for app, hosts, delays, restart, elected, wait in steps:
        if wait:
            town.waits()
        town.now += 1
        town.says(app, hosts)
        for replica, delay in zip(town.replicas, delays, strict=True):
            replica.hear(town.now, delay)
        if restart:
            town.restarts(elected)
        town.writes(elected)
    for _ in range(2):
        town.now += 1
        town.all_hear()
        town.writes(0)
    town.all_hear()
    assert town.replicas[0].table.record() is None, "after one record of its own there is nothing to add"

    late = Replica(town.world, town.text, town.now + 1)
    for replica in (late, *town.replicas[1:]):
        assert owners(replica.table) == owners(town.replicas[0].table)
        assert handed_out(replica.table).claims == decode(town.text).claims, "the record says everything"
