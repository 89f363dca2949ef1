"""Memory is short, or the loop is late: what is given up, in which order, and how it comes back."""

from __future__ import annotations

import pytest

from drycc_proxy.state.overload import Level
from tests.fakes.story import GET, HOST, Story, fields_of

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Reading:
    """Says what a test wants to hear."""

    limit = 1000

    def __init__(self) -> None:
        self.used = 0

    def share(self) -> float:
        return self.used / self.limit


@pytest.fixture
def memory(story: Story, monkeypatch: pytest.MonkeyPatch) -> Reading:
    """The story's memory; ticks are told as the wheel would."""
    reading = Reading()
    monkeypatch.setattr(story.core, "memory", reading)
    return reading


def times(story: Story, memory: Reading, used: int, seconds: float = 0.1) -> None:
    """So much is used, for so long."""
    memory.used = used
    for _ in range(round(seconds / 0.1)):
        story.passes(0.1)
        story.core.tick()
        story.loop.settle()


def is_kept_after_an_answer(story: Story) -> bool:
    story.client(GET)
    story.lends(reused=not story.dialled).says(OK)
    return b"connection" not in fields_of(story.client_hears(..., b"ok"))


def test_in_calm_times_connections_are_kept(story: Story, memory: Reading) -> None:
    times(story, memory, 849, 60)
    assert is_kept_after_an_answer(story)


def test_from_85_percent_on_no_connection_is_kept(story: Story, memory: Reading) -> None:
    times(story, memory, 850)
    assert not is_kept_after_an_answer(story)
    assert not story.caller.is_kept
    times(story, memory, 500, 2)
    story.calls()
    assert is_kept_after_an_answer(story)


def test_idle_connections_to_apps_shrink_to_half_and_then_to_none(story: Story, memory: Reading) -> None:
    callers = [story.calls() for _ in range(8)]
    for caller in callers:
        caller.says(GET)
    for _ in callers:
        story.lends()
    for app in story.apps:
        app.says(OK)
    assert story.core.counters.upstream_idle == 8
    times(story, memory, 860)
    assert story.core.counters.upstream_idle == 4
    times(story, memory, 860, 5)
    assert story.core.counters.upstream_idle == 4
    times(story, memory, 930)
    assert story.core.counters.upstream_idle == 0


def test_from_92_percent_on_idle_clients_are_let_go_and_busy_ones_are_not(story: Story, memory: Reading) -> None:
    idle = story.calls()
    idle.says(GET)
    story.lends().says(OK)
    begun = story.calls()
    begun.says(GET[:20])
    busy = story.calls()
    busy.says(GET)
    app = story.lends(reused=True)
    times(story, memory, 919)
    assert idle.is_kept
    times(story, memory, 920)
    assert not idle.is_kept
    assert begun.is_kept and busy.is_kept
    assert story.core.counters.given_up == 1
    app.says(OK)
    busy.hears(..., b"ok")
    times(story, memory, 920)
    assert not busy.is_kept, "now it is idle"


def test_only_so_many_are_let_go_at_a_time(story: Story, memory: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drycc_proxy.state.server_state.CLOSED_A_TICK", 10)
    callers = [story.calls() for _ in range(25)]
    left = []
    for _ in range(4):
        times(story, memory, 930)
        left.append(sum(caller.is_kept for caller in callers))
    assert left == [15, 5, 0, 0]


def test_from_95_percent_on_new_requests_are_refused_and_old_ones_answered(story: Story, memory: Reading) -> None:
    story.client(GET)
    app = story.lends()
    times(story, memory, 950)
    late = story.calls()
    late.says(GET)
    answer = story.answer("overloaded", 503)
    fields = fields_of(answer)
    assert fields[b"retry-after"] == [b"1"]
    assert fields[b"connection"] == [b"close"]
    assert not story.dialled
    app.says(OK)
    story.callers[0].hears(..., b"ok")
    assert story.counted()[503, "GET", "http/1.1"] == 1
    assert [line["error_reason"] for line in story.lines()] == ["overloaded", ""]


def test_what_the_router_can_answer_itself_it_answers(story: Story, memory: Reading) -> None:
    times(story, memory, 960)
    story.client(b"GET /healthz HTTP/1.1\r\nHost: 10.0.0.7\r\n\r\n")
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ...)


def test_an_upload_is_refused_without_being_read(story: Story, memory: Reading) -> None:
    times(story, memory, 960)
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 10000000\r\n\r\n", 60_000 * b"x")
    story.answer("overloaded", 503)
    story.passes(4.8)
    assert not story.caller.is_cut  # it may still be about to read that
    story.passes(0.4)
    assert story.caller.is_cut


def test_everything_comes_back(story: Story, memory: Reading) -> None:
    levels: list[Level] = []
    for used, seconds in ((990, 5.0), (400, 4.5)):
        times(story, memory, used, seconds)
        levels.append(story.core.overload.level)
    assert levels == [Level.REFUSING, Level.CALM]
    assert is_kept_after_an_answer(story)
    counters = story.core.counters
    assert (counters.overload_level, counters.memory_used) == (0, 400)


def test_a_loop_that_is_late_refuses_a_share_and_keeps_the_connections(story: Story, memory: Reading) -> None:
    story.core.wheel.lag = 1.0
    times(story, memory, 100, 5)
    assert story.core.counters.shed_share == 0.75
    refused = 0
    for _ in range(8):
        story.client(GET)
        if story.dialled or any(app.transport.heard for app in story.apps):
            story.lends(reused=not story.dialled).says(OK)
            story.client_hears(..., b"ok")
            for app in story.apps:
                app.hears(...)
        else:
            story.answer("overloaded", 503)
            refused += 1
    assert refused == 6
    assert story.caller.is_kept
    assert sum(story.core.counters.loop_lag.counts) == 50
    story.core.wheel.lag = 0.0
    times(story, memory, 100, 3)
    assert is_kept_after_an_answer(story)


def test_memory_is_given_back_every_two_seconds_while_it_is_short(
    story: Story, memory: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    monkeypatch.setattr("drycc_proxy.state.server_state.trim", lambda: given.append(story.clock.seconds))
    times(story, memory, 800, 10)
    assert given == []
    times(story, memory, 860, 10)
    assert 4 <= len(given) <= 6


def test_a_change_of_times_is_told_once(story: Story, memory: Reading, caplog: pytest.LogCaptureFixture) -> None:
    times(story, memory, 930, 10)
    times(story, memory, 100, 10)
    assert [record.getMessage() for record in caplog.records] == [
        "memory: 93 % of its limit is in use; closing",
        "memory: 10 % of its limit is in use; saving",
        "memory: 10 % of its limit is in use; calm",
    ]


LARGE = b"HTTP/1.1 200 OK\r\nX-Policy: " + 60_000 * b"p" + b"\r\nContent-Length: 2\r\n\r\n"


def test_large_heads_of_apps_are_counted_and_let_go_when_memory_is_short(story: Story, memory: Reading) -> None:
    """Ten thousand connections that each remember 64 KiB three times over are two gigabytes."""
    heads = story.core.registry.heads
    story.client(GET)
    app = story.lends()
    app.says(LARGE + b"ok")
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")
    streaming = story.calls()
    streaming.says(GET)
    other = story.lends(reused=True)
    other.says(LARGE + b"o")
    times(story, memory, 500)
    assert story.core.counters.upstream_heads == heads.held > 3 * 60_000
    times(story, memory, 850)
    assert heads.held == 0
    assert not any(connection.protocol._known for connection in story.apps)
    other.says(b"k")
    streaming.hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")

    streaming = story.calls()
    streaming.says(GET)
    story.lends(reused=not story.dialled).says(LARGE + b"ok")
    streaming.hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")
    assert heads.held == 0, "none is remembered while memory is short"
    times(story, memory, 500, 3)
    again = story.calls()
    for _ in range(2):
        again.says(GET)
        story.lends(reused=not story.dialled).says(LARGE + b"ok")
        again.hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")
    assert heads.held > 3 * 60_000


def test_a_large_head_is_not_held_by_a_connection_that_is_gone_or_says_something_shorter(
    story: Story, memory: Reading
) -> None:
    heads = story.core.registry.heads
    story.client(GET)
    app = story.lends()
    app.says(LARGE + b"ok")
    assert heads.held
    story.client(GET)
    app.says(OK)
    assert not heads.held
    story.client(GET)
    app.says(LARGE + b"ok")
    assert heads.held
    app.resets()
    assert not heads.held
