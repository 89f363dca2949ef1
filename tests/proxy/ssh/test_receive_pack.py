"""What a push asks for is read however it arrives, and what is not of that kind is let be."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drycc_proxy.ssh.receive_pack import MAX_TOLD, Pushed

NONE, OLD, NEW = "0" * 40, "1" * 40, "2" * 40


def line(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return b"%04x" % (len(data) + 4) + data


TWO = (
    line(f"{OLD} {NEW} refs/heads/main\0 report-status side-band-64k agent=git/2.39.5")
    + line(f"{NEW} {NONE} refs/heads/gone")
    + b"0000PACK\0\0\0\2"
)
READ = [
    {"ref": "refs/heads/main", "old": OLD, "new": NEW},
    {"ref": "refs/heads/gone", "old": NEW, "new": NONE},
]


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_updates_are_read_in_pieces_of_any_size(step: int) -> None:
    pushed = Pushed()
    for at in range(0, len(TWO), step):
        pushed.read(TWO[at : at + step])
    assert pushed.over
    assert pushed.facts() == {"refs": READ}


def test_a_shallow_or_a_signed_push_is_read_too() -> None:
    pushed = Pushed()
    signed = ["certificate version 0.1\n", "pusher Alice\n", "\n", f"{OLD} {NEW} refs/heads/main\n", "-----BEGIN\n"]
    for each in (f"shallow {OLD}", "push-cert\0 report-status", *signed, "push-cert-end\n"):
        pushed.read(line(each))
    pushed.read(b"0000")
    assert pushed.facts() == {"refs": READ[:1]}


def test_long_and_many_names_are_bounded_and_counted() -> None:
    pushed = Pushed()
    for number in range(1000):
        pushed.read(line(f"{NONE} {'a' * 64} refs/heads/{number}/".encode() + b'\xff\x1b"' * 200))
    assert 0 < len(pushed.updates) < 10
    assert pushed.facts()["refs_more"] == pushed.more > 100  # not all that were said: no more is read than that
    said = json.dumps(pushed.facts()["refs"])
    assert len(said) <= MAX_TOLD + 2
    assert "\x1b" not in said


@pytest.mark.parametrize(
    "data", [b"0000", b"", b"SSH-2.0", b"0003", b"-001" * 5, b"ffff" + b"x" * 70000, b"0008none0000"]
)
def test_what_asks_for_nothing_tells_nothing(data: bytes) -> None:
    pushed = Pushed()
    pushed.read(data)
    assert pushed.facts() == {}


def test_what_never_ends_is_not_kept() -> None:
    pushed = Pushed()
    for _ in range(10_000):
        pushed.read(line(b"x" * 60))
    assert pushed.over
    assert not pushed._rest


@given(st.lists(st.binary(max_size=300)))
def test_nothing_makes_it_fail(pieces: list[bytes]) -> None:
    pushed = Pushed()
    for piece in pieces:
        pushed.read(piece)
    whole = Pushed()
    whole.read(b"".join(pieces))
    assert pushed.facts() == whole.facts(), "however it was cut"
    assert len(json.dumps(pushed.updates)) <= MAX_TOLD
    assert not (pushed.over and pushed._rest)
