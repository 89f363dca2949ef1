"""Apps that lead back to the router: a request goes round a few times, not for ever (hardening M-16)."""

from __future__ import annotations

import pytest

from drycc_proxy.http1.downstream import MAX_HOPS
from tests.fakes.story import GET, HOST, Story, fields_of


def hops(story: Story, *lines: bytes) -> list[bytes]:
    """What the app hears about a request with these lines."""
    story.calls()
    story.client(b"GET / HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n")
    app = story.lends()
    heard = fields_of(app.hears(...))
    app.says(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
    return heard[b"x-router-hops"]


def test_each_router_counts_itself(story: Story) -> None:
    assert hops(story) == [b"1"]
    assert hops(story, b"X-Router-Hops: 1") == [b"2"]
    assert hops(story, b"x-router-hops:3", b"X-ROUTER-HOPS: 2") == [b"4"]


@pytest.mark.parametrize("value", [b"", b"x", b"-1", b"+1", b"1000", b"1,4", "\u0664".encode()])
def test_what_is_no_count_counts_nothing(story: Story, value: bytes) -> None:
    assert hops(story, b"X-Router-Hops: " + value) == [b"1"]


def test_a_count_cannot_be_taken_away_or_given_by_another_name(story: Story) -> None:
    assert hops(story, b"X-Router-Hops: 2", b"Connection: x-router-hops") == [b"3"]
    assert hops(story, b"X_Router_Hops: 9") == [b"1"]


def test_a_request_that_goes_round_comes_to_an_end(story: Story) -> None:
    """The app sends back to the router whatever it hears."""
    story.client(GET)
    rounds = 0
    while story.dialled:
        rounds += 1
        heard = story.lends().hears(...)
        story.calls()
        story.client(heard)
    assert rounds == MAX_HOPS
    story.answer("loop_detected", 508)
    assert not story.caller.is_kept
