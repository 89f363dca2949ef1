"""The text that replicas share: what goes in comes out, and nothing else comes in."""

import base64
import gzip
import random
import string
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drycc_router.claims.record import (
    ENTRY,
    MAX_ENCODED,
    UNREADABLE,
    Book,
    ClaimKey,
    Record,
    Recorded,
    RecordError,
    Stamp,
    decode,
    encode,
    entries,
    fitted,
    stamp,
    weigh,
)

NAMES = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=20)
HOSTS = st.one_of(NAMES.map("{}.example".format), NAMES.map("*.{}.example".format), NAMES.map("{}.*".format))
KEYS = st.tuples(HOSTS, st.tuples(NAMES, NAMES).map("/".join))
CLAIMS = st.dictionaries(KEYS, st.builds(Recorded, st.integers(0, 10**14), st.booleans()))
STAMPS = st.builds(Stamp, st.text("0123456789abcdef", min_size=1, max_size=16), st.integers(0, 10**9))


def packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode())).decode()


def record(claims: Mapping[ClaimKey, Recorded], after: Stamp | None = None, unread: str = "") -> Record:
    return Record(Stamp("me", 3), claims, after, unread)


@given(CLAIMS, STAMPS)
def test_what_goes_in_comes_out(claims: dict[tuple[str, str], Recorded], by: Stamp) -> None:
    text = encode(Record(by, claims))

    assert decode(text) == Record(by, claims)
    assert stamp(text) == by


def test_equal_records_have_one_text_whatever_their_order() -> None:
    a, b = ("a.example", "shop/web"), ("b.example", "shop/web")
    first, second = Recorded(1, True), Recorded(2, False)

    assert encode(record({a: first, b: second})) == encode(record({b: second, a: first}))


def test_it_can_be_read_with_the_tools_of_a_shell() -> None:
    text = encode(
        record({("b.*", "x/y"): Recorded(7, False), ("*.shop.example", "shop/web"): Recorded(1790000000123, True)})
    )

    plain = gzip.decompress(base64.b64decode(text)).decode()

    assert plain == "by me 3\n*.shop.example shop/web + 1790000000123\nb.* x/y - 7\n"


def test_twenty_thousand_claims_fit_into_one_object() -> None:
    claims = {
        (f"app-{n:05d}.apps.example.com", f"app-{n:05d}/app-{n:05d}-web"): Recorded(1790000000000 + n * 977, True)
        for n in range(20_000)
    }
    text = encode(record(claims))

    assert len(text) < MAX_ENCODED / 2
    assert stamp(text) == Stamp("me", 3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not base64",
        "é",
        base64.b64encode(b"not gzip").decode(),
        packed("by me 3\na.example shop/web + 1\n")[:-8],
        base64.b64encode(gzip.compress(b"by me 3\na.example shop/web + 1\n") + b"more").decode(),
        packed("a.example shop/web + 1\n"),
        packed("by canary\na.example shop/web + 1\n"),
        packed("by me 3\na.example shop/web + 1\ncanary\n"),
        packed("by me 3\na.example shop/web ? 1\n"),
        packed("by me 3\na.example shop + 1\n"),
        packed("by me 3\na.example shop/web + -1\n"),
        packed("by me 3\na.example shop/web + 1"),
        packed("by me 3\né.example shop/web + 1\n"),
        packed(f"by me 3\na.example shop/web + {'1' * 5000}\n"),
    ],
    ids=range(15),  # gzip writes the time into the texts
)
def test_anything_else_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(RecordError, match=r"^expected ") as refused:
        decode(text)

    assert "canary" not in str(refused.value)


@given(st.text() | st.binary().map(lambda raw: base64.b64encode(raw).decode()) | st.text().map(packed))
def test_no_text_does_more_than_not_being_a_record(text: str) -> None:
    stamp(text)
    with pytest.raises(RecordError):
        decode(text)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = base64.b64encode(gzip.compress(bytes(65 * 1024 * 1024), 1)).decode()

    assert stamp(bomb) is None
    with pytest.raises(RecordError):
        decode(bomb)


def test_only_what_was_known_may_be_written_over() -> None:
    theirs = encode(Record(Stamp("another", 8), {}))
    later = encode(Record(Stamp("another", 9), {}))
    own = encode(Record(Stamp("me", 2), {}))

    assert record({}).follows(""), "there is none"
    assert record({}, after=Stamp("another", 8)).follows(theirs)
    assert not record({}, after=Stamp("another", 8)).follows(later), "its word has to be heard first"
    assert not record({}).follows(theirs)
    assert record({}).follows(own), "one knows what one wrote oneself"
    assert not record({}).follows("dirt")
    assert record({}, unread="dirt").follows("dirt")
    assert not record({}, unread="dirt").follows("")
    signed = packed("by another 8\ndirt\n")
    assert record({}, unread=signed).follows(signed)
    assert not record({}).follows(signed)


def test_what_could_not_be_read_is_kept_beside_the_record_as_far_as_there_is_room() -> None:
    text = encode(record({}))

    assert entries(record({})) == {ENTRY: text}
    assert entries(record({}, unread="dirt")) == {ENTRY: text, UNREADABLE: "dirt"}
    found = entries(record({}, unread="d" * MAX_ENCODED))
    assert sum(map(len, found.values())) == MAX_ENCODED


FEW_KEYS = st.sampled_from([(f"{letter}.example", "shop/web") for letter in "abcd"])
ENTRIES = st.lists(
    st.tuples(FEW_KEYS, st.none() | st.builds(Recorded, st.integers(0, 9), st.booleans()), st.booleans())
)


@given(ENTRIES)
def test_a_book_is_a_mapping_and_what_was_handed_out_stays_as_it_was(
    steps: list[tuple[ClaimKey, Recorded | None, bool]],
) -> None:
    book = Book()
    plain: dict[ClaimKey, Recorded] = {}
    handed_out: list[tuple[Mapping[ClaimKey, Recorded], dict[ClaimKey, Recorded]]] = []
    for key, entry, hand_out in steps:
        book.put(key, entry)
        if entry is None:
            plain.pop(key, None)
        else:
            plain[key] = entry
        assert key not in book if entry is None else book[key] == entry
        if hand_out:
            handed_out.append((book.hand_out(), plain.copy()))
    assert book == plain
    assert len(book) == len(plain)
    assert all(copy == then for copy, then in handed_out)


# ── more than finds a place ───────────────────────────────────────────────────────────────────────────────────────────


def long_names(namespace: str, count: int, chance: random.Random) -> dict[ClaimKey, Recorded]:
    """Names of 250 letters that no compression makes shorter."""
    letters = string.ascii_lowercase + string.digits
    hosts = (".".join("".join(chance.choices(letters, k=62)) for _ in range(4)) for _ in range(count))
    return {(f"{host[:-1]}a", f"{namespace}/web"): Recorded(1, held=True) for host in hosts}


def test_a_record_that_fits_is_left_as_it_is() -> None:
    few = record({("a.example", "shop/web"): Recorded(1, held=True)})
    assert fitted(few) == (few, {})


def test_no_namespace_loses_its_place_in_the_record_by_what_others_write() -> None:
    chance = random.Random(8)
    victims = {(f"app-{n}.example", f"shop-{n}/web"): Recorded(1_000_000 + n, held=True) for n in range(2000)}
    claims = dict(victims)
    for number in range(9):
        claims |= long_names(f"evil-{number}", 500, chance)
    full = record(claims)
    assert len(encode(full)) > MAX_ENCODED

    kept, left_out = fitted(full)

    assert MAX_ENCODED * 0.9 < len(encode(kept)) <= MAX_ENCODED
    assert kept.stamp == full.stamp
    assert kept.claims.items() >= victims.items(), "though they are younger and more"
    assert left_out.keys() == {f"evil-{number}" for number in range(9)}
    assert sum(left_out.values()) == len(claims) - len(kept.claims)
    assert max(left_out.values()) - min(left_out.values()) <= 1


def test_of_one_namespace_held_names_come_first_and_then_the_oldest_claims() -> None:
    chance = random.Random(9)
    everything = list(long_names("evil", 5000, chance))
    claims = {key: Recorded(number, held=number % 2 == 0) for number, key in enumerate(everything)}

    kept, _ = fitted(record(claims))

    lost = claims.keys() - kept.claims.keys()
    assert lost
    assert not any(claims[key].held for key in lost)
    assert max(since for since, held in kept.claims.values() if not held) < min(claims[key].since for key in lost)


def test_what_a_claim_weighs_is_what_its_line_has() -> None:
    claims = {("a.example", "shop/web"): Recorded(1790000000123, held=True)}
    lines = gzip.decompress(base64.b64decode(encode(record(claims)))).split(b"\n", 1)[1]
    assert weigh("a.example shop/web") == len(lines)
