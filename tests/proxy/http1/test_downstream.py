"""What the client's side does by itself; what it does together with an app is told in ``tests/stories``."""

from __future__ import annotations

import pytest

from drycc_proxy.http.messages import Opening, RequestFields, RequestLine
from drycc_proxy.http1 import downstream, parser
from drycc_proxy.http1.downstream import MAX_WAITING, TURN_BYTES, TURN_HEADS
from tests.fakes.story import GET, HOST, Story, fields_of

OK = b"HTTP/1.1 200 OK\r\nDate: Mon, 21 Sep 2026 14:13:20 GMT\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The header sections that were parsed, in their order."""
    seen: list[bytes] = []
    parse = parser.parse_fields

    def noting(block: bytes, max_fields: int, before: Opening | None, last: bytes, at: int) -> RequestFields:
        seen.append(block)
        return parse(block, max_fields, before, last, at)

    monkeypatch.setattr(downstream, "parse_fields", noting)
    return seen


def exchanges(story: Story, *requests: bytes) -> None:
    """One complete exchange after the other on one connection."""
    for number, request in enumerate(requests):
        story.client(request)
        app = story.lends(reused=number > 0)
        app.hears(...)
        app.says(OK)
        story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"\r\n\r\nok")


def test_a_head_that_repeats_is_not_parsed_again(story: Story, judged: list[bytes]) -> None:
    exchanges(story, GET, GET, GET.replace(b"GET /", b"GET /other?a=b"), GET)
    assert judged == [b"Host: shop.example"]


def test_a_request_line_is_read_again_only_if_it_differs(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    parse = parser.parse_request_line

    def noting(line: bytes, max_target: int) -> RequestLine:
        read.append(line)
        return parse(line, max_target)

    monkeypatch.setattr(downstream, "parse_request_line", noting)
    one, other = (GET.replace(b"/ ", b"/%b?a=b " % name) for name in (b"one", b"other"))
    exchanges(story, one, one, other, other, one)
    assert read == [b"GET /one?a=b HTTP/1.1", b"GET /other?a=b HTTP/1.1", b"GET /one?a=b HTTP/1.1"]


def test_a_head_that_repeats_is_judged_by_what_the_operator_says_now(story: Story) -> None:
    long = GET.replace(b"/ ", b"/%b " % (1000 * b"a"))
    exchanges(story, long, long)
    story.is_set(max_target=500)
    story.client(long)
    story.answer("target_too_long", 414)


def test_a_head_of_version_1_0_is_judged_each_time(story: Story, judged: list[bytes]) -> None:
    old = GET.replace(b"1.1", b"1.0").replace(HOST, HOST + b"Connection: keep-alive\r\n")
    exchanges(story, GET, old, old, GET)
    assert [b"keep-alive" in block for block in judged] == [False, True, True, False]


def test_a_body_behind_a_head_that_repeats_is_its_body(story: Story) -> None:
    post = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\n"
    for number, pieces in enumerate([(post + b"whole",), (post + b"whole",), (post, b"other"), (post, b"again")]):
        story.client(*pieces)
        app = story.lends(reused=number > 0)
        app.hears(b"POST / HTTP/1.1\r\n", ..., b"\r\n\r\n" + (b"".join(pieces))[-5:])
        app.says(OK)
        story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"\r\n\r\nok")


def test_a_head_that_differs_in_a_byte_is_parsed(story: Story, judged: list[bytes]) -> None:
    exchanges(story, GET, GET.replace(b"Host: shop", b"Host: Shop"), GET)
    assert judged == [b"Host: shop.example", b"Host: Shop.example", b"Host: shop.example"]


def test_what_a_client_begins_with_each_time_is_read_twice(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    begins = HOST + b"Accept: */*\r\nUser-Agent: me\r\n"
    read: list[bytes] = []
    sort = parser._sort

    def noting(lines: list[bytes], memo: parser.Memo) -> tuple[list[bytes], list[parser.Judged]]:
        if memo is parser._request_memo:
            read.append(b", ".join(lines))
        return sort(lines, memo)

    monkeypatch.setattr(parser, "_sort", noting)
    for number in range(4):
        story.client(b"GET / HTTP/1.1\r\n%bCookie: n=%d\r\nAccept: text/html\r\n\r\n" % (begins, number))
        app = story.lends(reused=number > 0)
        heard = app.hears(b"GET / HTTP/1.1\r\n", ...)
        assert fields_of(heard)[b"accept"] == [b"*/*", b"text/html"]
        assert fields_of(heard)[b"user-agent"] == [b"me"]
        assert fields_of(heard)[b"host"] == [b"shop.example"]
        assert fields_of(heard)[b"cookie"] == [b"n=%d" % number]
        app.says(OK)
        story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"\r\n\r\nok")
    whole = [b"Host: shop.example, Accept: */*, User-Agent: me, Cookie: n=%d, Accept: text/html" % n for n in range(2)]
    assert read == [*whole, *(b"Cookie: n=%d, Accept: text/html" % n for n in (2, 3))]


def test_what_ends_like_the_last_head_but_holds_two_is_two_requests(story: Story) -> None:
    exchanges(story, GET)
    story.client(GET.replace(b"/ ", b"/one ") + GET.replace(b"/ ", b"/two "))
    for path in (b"/one", b"/two"):
        app = story.lends(reused=True)
        app.hears(b"GET " + path + b" HTTP/1.1\r\n", ...)
        app.says(OK)
    heard = story.client_hears(...)
    assert heard.count(b"HTTP/1.1 200 OK") == 2


def test_new_settings_of_the_operator_reach_connections_that_are_open(story: Story, judged: list[bytes]) -> None:
    exchanges(story, GET)
    story.is_set(trusted=("203.0.113.0/24",))
    story.client(GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n"))
    story.lends(reused=True).hears(..., b"X-Real-IP: 198.51.100.1\r\n", ...)
    assert len(judged) == 2


def test_a_head_in_single_bytes_is_the_same_head(story: Story) -> None:
    story.client(*[GET[at : at + 1] for at in range(len(GET))])
    story.lends().hears(b"GET / HTTP/1.1\r\n", ..., b"\r\n\r\n")


def test_requests_that_wait_beyond_the_bound_stop_the_reading(story: Story) -> None:
    caller = story.client(GET)
    caller.says(b"GET /next HTTP/1.1\r\n" + HOST + b"X: " + b"a" * MAX_WAITING)
    assert not caller.is_heeded
    assert caller.is_kept


def test_its_repr_tells_the_client_and_the_state(story: Story) -> None:
    story.client(GET)
    (connection,) = story.core.connections
    assert repr(connection) == "<Http1Downstream 203.0.113.7 wait>"


def test_a_draining_router_closes_idle_connections_and_lets_busy_ones_answer(story: Story) -> None:
    idle, busy = story.calls(), story.calls()
    busy.says(GET)
    app = story.lends()
    story.core.draining = True
    for connection in list(story.core.connections):
        connection.drain()
    assert idle.is_kept
    story.passes(1.2)
    assert not idle.is_kept
    assert busy.is_kept
    app.says(OK)
    busy.hears(b"HTTP/1.1 200 OK\r\n", ..., b"Connection: close\r\n\r\nok")
    assert not busy.is_kept


def test_giving_up_at_once_resets_and_counts(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    (connection,) = story.core.connections
    connection.abort_now()
    assert story.caller.is_cut
    assert not app.is_kept
    assert story.counted() == {(499, "GET", "http/1.1"): 1}


# ── everybody has a turn ──────────────────────────────────────────────────────────────────────────────────────────────
BIG = TURN_BYTES * b"x"


def test_after_a_large_read_of_a_body_the_others_have_a_turn(story: Story) -> None:
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % (3 * len(BIG)))
    app = story.lends()
    connection = story.caller.transport.protocol
    connection.data_received(BIG)
    assert not story.caller.is_heeded
    story.loop.settle()
    assert story.caller.is_heeded
    connection.data_received(BIG[:-1])
    assert story.caller.is_heeded
    app.hears(..., 2 * BIG[:-1])


def test_a_turn_does_not_wake_a_client_whose_app_is_full(story: Story) -> None:
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % (4 * len(BIG)))
    app = story.lends()
    app.stops_reading()
    connection = story.caller.transport.protocol
    connection.data_received(BIG)
    connection.data_received(BIG)
    story.loop.settle()
    assert not story.caller.is_heeded
    app.reads_again()
    assert story.caller.is_heeded


def test_an_app_that_reads_again_does_not_take_anybodys_turn(story: Story) -> None:
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % (4 * len(BIG)))
    app = story.lends()
    app.stops_reading()
    connection = story.caller.transport.protocol
    connection.data_received(2 * BIG)
    app.transport.reads = True
    app.transport.take()
    assert not story.caller.is_heeded
    story.loop.settle()
    assert story.caller.is_heeded


def test_a_body_that_ends_with_a_large_read_leaves_nobody_waiting(story: Story) -> None:
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(BIG))
    app = story.lends()
    story.caller.transport.protocol.data_received(BIG)
    assert story.caller.is_heeded
    app.hears(...)
    app.says(b"HTTP/1.1 204 No Content\r\n\r\n")
    story.client_hears(...)
    story.client(GET)
    story.lends(reused=True)


UNKNOWN = b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n"


def test_of_many_requests_without_an_app_only_some_are_answered_per_turn(story: Story) -> None:
    connection = story.calls().transport.protocol
    connection.data_received(3 * TURN_HEADS * UNKNOWN)
    heard = bytes(story.caller.transport.heard)
    assert heard.count(b"HTTP/1.1 404 ") == TURN_HEADS
    assert not story.caller.is_heeded
    story.loop.settle()
    assert story.client_hears(...).count(b"HTTP/1.1 404 ") == 3 * TURN_HEADS
    assert story.caller.is_heeded


def test_what_comes_between_two_turns_waits_for_its_own(story: Story) -> None:
    connection = story.calls().transport.protocol
    connection.data_received(2 * TURN_HEADS * UNKNOWN)
    connection.data_received(UNKNOWN + GET)
    assert connection.eof_received()
    story.loop.settle()
    assert story.client_hears(...).count(b"HTTP/1.1 404 ") == 2 * TURN_HEADS + 1
    app = story.lends()
    app.says(b"HTTP/1.1 204 No Content\r\n\r\n")
    story.client_hears(b"HTTP/1.1 204 No Content\r\n", ...)
    assert story.caller.transport.closing


def test_what_follows_many_turns_is_heard_as_ever(story: Story) -> None:
    connection = story.calls().transport.protocol
    connection.data_received(TURN_HEADS * UNKNOWN + GET)
    story.loop.settle()
    app = story.lends()
    assert story.caller.is_heeded
    app.hears(...)
    app.says(b"HTTP/1.1 204 No Content\r\n\r\n")
    story.client_hears(...)
    story.client(GET)
    story.lends(reused=True)


def test_who_reads_no_answers_gets_no_more_turns_until_it_does(story: Story) -> None:
    connection = story.calls().transport.protocol
    story.caller.stops_reading()
    connection.data_received(10 * TURN_HEADS * UNKNOWN)
    story.loop.settle()
    assert bytes(b"".join(story.caller.transport.unread)).count(b"HTTP/1.1 404 ") < 10 * TURN_HEADS
    story.caller.reads_again()
    assert story.client_hears(...).count(b"HTTP/1.1 404 ") == 10 * TURN_HEADS
    assert story.caller.is_heeded
    story.client(UNKNOWN)
    story.answer("unknown_host", 404)


def test_who_has_said_everything_before_its_last_turn_is_answered_and_let_go(story: Story) -> None:
    for behind in (b"", b"GET / HT"):
        connection = story.calls().transport.protocol
        connection.data_received((TURN_HEADS + 1) * UNKNOWN + behind)
        assert connection.eof_received()
        story.loop.settle()
        assert story.client_hears(...).count(b"HTTP/1.1 404 ") == TURN_HEADS + 1
        assert story.caller.transport.closing


def test_who_leaves_before_its_turn_is_gone(story: Story) -> None:
    connection = story.calls().transport.protocol
    connection.data_received(2 * TURN_HEADS * UNKNOWN)
    story.client_leaves()
    story.loop.settle()
    assert story.core.connections == set()


def test_a_turn_that_never_comes_is_a_head_that_comes_too_late(story: Story) -> None:
    """Between two turns a deadline stands as ever."""
    connection = story.calls().transport.protocol
    story.passes(9.5)
    connection.data_received(2 * TURN_HEADS * UNKNOWN)
    story.loop._soon.clear()
    story.passes(9)
    assert story.caller.is_kept
    story.passes(2)
    assert not story.caller.is_kept
