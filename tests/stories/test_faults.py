"""Mistakes of ours, planted in every line that serves (hardening R-37): they cost one client, and leave nothing behind.

Each scenario is told once to see which lines of ``proxy/`` it passes, and then once for each of them, with an exception
raised there the first time that it is reached, and once more for the second. New code is found by itself. Afterwards
somebody else must be served, the client's connection must end though nobody does anything more, and every account must
balance.
"""

from __future__ import annotations

import ast
import os
import re
import ssl
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import drycc_proxy
from drycc_proxy.kernel import internal_errors
from tests.fakes.clock import FakeClock
from tests.fakes.story import GET, HOST, AppEnd, Story
from tests.stories.test_tunnels import ASKING, FRAMES, GRANTED

OURS = str(Path(drycc_proxy.__file__).parent)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPLOAD = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\n" + b"x" * 40
CHUNKS = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"

TIMES = 20 if os.environ.get("DRYCC_FUZZ") == "long" else 2
"""Mistakes are planted the first and the second time that a line is passed: the second time, much is known already. In
the long form every time, more than ten thousand in all: ``DRYCC_FUZZ=long pytest -s tests/stories/test_faults.py``."""
Line = tuple[str, int]
"""File and line."""


class Planted(RuntimeError):
    """The mistake."""


# ── what is going on ──────────────────────────────────────────────────────────────────────────────────────────────────
# Nobody is asserted to hear anything: any of it may be what the mistake took away.
def app_of(story: Story) -> AppEnd | None:
    """Whoever has the request now, if anybody does."""
    if story.dialled:
        return story.lends()
    return story.apps[-1] if story.apps else None


def say(end: Any, *pieces: bytes) -> None:
    if end is not None and not end.transport.closing:
        end.says(*pieces)


def plain(story: Story) -> None:
    story.client(GET)
    say(app_of(story), OK)
    story.client(GET + GET)
    say(app_of(story), OK)
    say(app_of(story), OK)
    story.client(b"HEAD / HTTP/1.0\r\n" + HOST + b"X-Correlation-Id: abc\r\n\r\n")
    say(app_of(story), OK)


def bodies(story: Story) -> None:
    say(story.caller, UPLOAD)
    app = app_of(story)
    say(story.caller, b"x" * 60)
    say(app, b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
    say(app, b"0\r\n\r\n")
    say(story.caller, CHUNKS)
    app = app_of(story)
    say(story.caller, b"0\r\n\r\n")
    say(app, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
    say(app, b"cd")


def endings(story: Story) -> None:
    story.client(GET)
    say(app_of(story), b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil")
    if story.apps:
        story.apps[-1].closes()
    story.calls()
    say(story.caller, UPLOAD)
    say(app_of(story), b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    say(story.caller, b"x" * 60)
    story.calls()
    story.client(GET)
    app_of(story)
    story.caller.resets()
    story.calls()
    story.client(GET)
    story.caller.closes()
    say(app_of(story), OK)


def slow_readers(story: Story) -> None:
    story.client(GET)
    app = app_of(story)
    story.caller.stops_reading()
    say(app, b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"a" * 90_000)
    story.caller.reads_again()
    say(app, b"a" * 110_000)
    if story.caller.transport.closing:
        return
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 200000\r\n\r\n" + b"x" * 90_000)
    app = app_of(story)
    if app is not None:
        app.stops_reading()
    say(story.caller, b"x" * 90_000)
    if app is not None:
        app.reads_again()
    say(story.caller, b"x" * 20_000)
    say(app, OK)


def tunnels(story: Story) -> None:
    story.client(ASKING)
    app = app_of(story)
    say(app, GRANTED)
    say(story.caller, FRAMES)
    say(app, FRAMES)
    story.caller.closes()
    if app is not None and not app.transport.closing:
        app.closes()
    story.calls()
    story.client(ASKING)
    say(app_of(story), GRANTED)
    if story.apps:
        story.apps[-1].resets()


def failures(story: Story) -> None:
    story.client(GET)
    if story.dialled:
        story.refuses()
    story.calls()
    story.client(GET)
    say(app_of(story), b"nonsense\r\n\r\n")
    story.calls()
    story.client(GET)
    app = app_of(story)
    say(app, OK)
    story.client(GET)
    if app is not None:
        app.resets()
    say(app_of(story), OK)
    story.calls()
    story.client(GET)
    say(app_of(story), b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab")
    if story.apps:
        story.apps[-1].resets()


def refusals(story: Story) -> None:
    for text in (
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: unknown.example\r\nAccept: application/json\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
        b"CONNECT shop.example:443 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /a/../b HTTP/1.1\r\n" + HOST,
    ):
        story.calls()
        story.client(text)


def busy(story: Story) -> None:
    story.client(GET)
    first = app_of(story)
    story.calls("198.51.100.9")
    story.client(GET)
    story.calls("198.51.100.8")
    story.client(GET)
    say(first, OK)
    say(app_of(story), OK)
    story.passes(2)


def metered(story: Story) -> None:
    for address in ("198.51.100.9", "192.0.2.1"):
        story.calls(address)
        for _ in range(2):
            say(story.caller, b"GET / HTTP/1.1\r\n" + HOST + b"X-Forwarded-For: 203.0.113.99\r\n\r\n")
            say(app_of(story), OK)
    for _ in range(3):
        story.calls("198.51.100.9")


def proxied(story: Story) -> None:
    for address, header in (
        ("192.0.2.1", b"PROXY TCP4 203.0.113.9 203.0.113.10 1 2\r\n"),
        ("192.0.2.1", b"PROXY nonsense\r\n"),
        ("198.51.100.9", b"PROXY TCP4 203.0.113.9 203.0.113.10 1 2\r\n"),
        ("198.51.100.9", b""),
    ):
        story.calls(address)
        say(story.caller, header[:7], header[7:] + GET) if header else say(story.caller, GET)
        say(app_of(story), OK)
    story.calls("192.0.2.1")
    story.passes(11)


def drained(story: Story) -> None:
    story.client(GET)
    say(app_of(story), OK)
    idle = story.caller
    story.calls("198.51.100.9")
    story.client(GET)
    story.core.begin_draining()
    for connection in list(story.core.connections):
        connection.drain()
    say(app_of(story), OK)
    del idle
    story.calls("198.51.100.9")
    story.client(ASKING)
    say(app_of(story), GRANTED)
    for connection in list(story.core.connections):
        connection.abort_now()
    story.core.draining = story.core.closing = False


def idle(story: Story) -> None:
    story.client(GET)
    say(app_of(story), OK)
    story.passes(80)
    story.calls()
    story.client(GET)
    app_of(story)
    story.core.tick()
    story.passes(5)
    story.loop.settle()


def ties(story: Story) -> None:
    """Connections that are authenticated: their clients leave, or their apps."""
    signed = GET.replace(b"\r\n\r\n", b"\r\nAuthorization: NTLM x\r\n\r\n")
    for how in ("client", "app", "another"):
        story.calls()
        for request in (GET, signed, GET):
            say(story.caller, request)
            app = app_of(story)
            say(
                app,
                OK if request is signed else b"HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n",
            )
        if how == "app" and app is not None:
            app.resets()
        else:
            story.client_leaves()


IN_CLEAR_TEXT: tuple[Callable[[Story], None], ...] = (
    plain,
    bodies,
    endings,
    slow_readers,
    tunnels,
    failures,
    refusals,
    busy,
    metered,
    proxied,
    drained,
    idle,
    ties,
)
SCENARIOS = {scenario.__name__: scenario for scenario in IN_CLEAR_TEXT} | {
    "bodies_over_tls": bodies,
    "tunnels_over_tls": tunnels,
}


SETTINGS: dict[str, dict[str, Any]] = {
    "busy": {"app_requests": 1},
    "metered": {"max_per_client": 2, "trusted": ("192.0.2.0/24",), "max_requests": 2},
    "proxied": {"proxy_protocol": True, "trusted": ("192.0.2.0/24",)},
}


def encrypted(name: str) -> bool:
    return name in ("plain", "slow_readers") or name.endswith("_over_tls")


# ── planting ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@contextmanager
def watched(lines: dict[Line, CodeType], times: Counter[Line]) -> Iterator[None]:
    """Note every line of ours that is passed, and how often."""

    def local(frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            line = (frame.f_code.co_filename, frame.f_lineno)
            lines.setdefault(line, frame.f_code)
            times[line] += 1
        return local

    def enter(frame: FrameType, _: str, __: object) -> Any:
        return local if frame.f_code.co_filename.startswith(OURS) else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(before)


@contextmanager
def planted(line: Line, code: CodeType, time: int) -> Iterator[None]:
    """Raise in a line, the so-manieth time that it is reached."""
    left = time

    def local(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if event == "line" and frame.f_lineno == line[1]:
            left -= 1
            if not left:
                raise Planted  # which ends the tracing too
        return local

    def enter(frame: FrameType, _: str, __: object) -> Any:
        return local if frame.f_code is code else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(before)


@lru_cache
def doubtful(path: str) -> frozenset[int]:
    """Lines that call, index or compute something. The others, such as ``load += 1``, have no mistake to make."""
    lines = set()
    for node in ast.walk(ast.parse(Path(path).read_text())):
        if isinstance(node, ast.Call | ast.Subscript | ast.BinOp | ast.Await | ast.Assert | ast.Raise):
            lines.add(node.lineno)
    return frozenset(lines)


EDGES = frozenset(
    {
        "__init__",
        "connection_made",
        "data_received",
        "eof_received",
        "connection_lost",
        "http_connection",
        "https_connection",
        "inside",
    }
)
"""What the loop itself calls, outside of the ``try`` in it, and the making of what it calls. The loops close a
connection whose callback raises, or never was made."""


BOOKS = re.compile(
    r"Wheel\.|Handshakes\._turn|guarded|attempt|Core\.(arrived|opened|closed|departed|joined|left|turned_back)|Admission\.(take|give|come|go)"
)
"""Functions that are trusted: the books and the steps that faults are cleaned up with, and the wheel."""
ENTRIES = re.compile(
    r"admission\.(come|go)\(|core\.(closed|departed|turned_back)\(|entering\.(add|discard)\("
    r"|self\._(dial_for|vacate)\(|connection\.take\(|await self\._loop\.create_connection|attempt\("
    r"|self\._connected\(|call_soon\(self\._pass_on|inner\.connection_lost\("
)
"""Calls of them, and of what catches everything itself."""


def may_fail(line: Line, code: CodeType) -> bool:
    if BOOKS.search(code.co_qualname) or line[1] not in doubtful(line[0]):
        return False
    return not ENTRIES.search(Path(line[0]).read_text().splitlines()[line[1] - 1])


def told(scenario: str, monkeypatch: pytest.MonkeyPatch) -> Story:
    clock = FakeClock()
    clock.install(monkeypatch)
    story = Story(clock, over_tls=encrypted(scenario))
    story.is_set(**SETTINGS.get(scenario, {}))
    return story


def long_afterwards(story: Story) -> None:
    """Nobody does anything for an hour."""
    for _ in range(80):
        story.clock.seconds += 45
        story.core.wheel.advance(story.clock.seconds)
        story.loop.settle()
        while story.loop.attempts:
            story.refuses()


def plants_of(scenario: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Line, CodeType, int]]:
    """Where, and the how-manieth time, there may be a mistake."""
    story = told(scenario, monkeypatch)
    lines: dict[Line, CodeType] = {}
    times: Counter[Line] = Counter()
    with watched(lines, times):
        SCENARIOS[scenario](story)
    story.ends()
    return [
        (line, code, time)
        for line, code in lines.items()
        if may_fail(line, code)
        for time in range(1, min(times[line], TIMES) + 1)
    ]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_mistake_costs_one_client_and_leaves_nothing_behind(scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internal_errors.log, "disabled", True)  # ten thousand traces say nothing more
    plants = plants_of(scenario, monkeypatch)
    assert len(plants) > 50
    wrong = []
    for line, code, time in plants:
        story = told(scenario, monkeypatch)
        try:
            try:
                with planted(line, code, time):
                    SCENARIOS[scenario](story)
            except ssl.SSLError:
                pass  # a client whose handshake came to nothing
            except Planted as mistake:
                if not EDGES.intersection(frame.name for frame in traceback.extract_tb(mistake.__traceback__)):
                    raise
                continue
            everything_is_well(story)
        except BaseException as error:
            place = f"{Path(line[0]).name}:{line[1]} in {code.co_qualname}, time {time}"
            wrong.append(f"{place}: {type(error).__name__} {str(error)[:150]}")
    print(f"{len(plants)} planted")
    assert not wrong, f"{len(wrong)} of {len(plants)}\n" + "\n".join(wrong)


def everything_is_well(story: Story) -> None:
    counters = story.core.counters
    assert sum(counters.faults.values()) <= 1
    if story.edge.app_requests:
        long_afterwards(story)  # those who have the app's only place go first
    # Somebody else is served.
    story.calls("198.51.100.77")
    story.client(GET)
    served = [app for app in story.apps if not app.transport.closing]
    if story.dialled:
        served.append(story.lends())
    for app in served:
        say(app, OK)
    story.client_hears(..., b"ok")
    # The others' connections end, though nobody does anything.
    long_afterwards(story)
    for caller in story.callers:
        assert caller.transport.lost, "a client waits for ever"
    for app in story.apps:
        assert app.transport.lost, "a connection to the app is kept for ever"
    story.ends()
