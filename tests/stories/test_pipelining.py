"""Requests sent in one go are answered one by one, in their order, and only so many wait."""

from __future__ import annotations

from tests.fakes.story import GET, HOST, POD, Story


def get(path: bytes) -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n"


def ok(text: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)


def test_answers_come_in_the_order_of_the_requests(story: Story) -> None:
    story.client(get(b"/1") + get(b"/2") + get(b"/3"))
    app = story.lends()
    for number in (b"1", b"2", b"3"):
        app.hears(b"GET /" + number + b" HTTP/1.1\r\n", ..., b"\r\n\r\n")  # one at a time
        app.says(ok(number))
        story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"\r\n\r\n" + number)
    assert len(story.apps) == 1


def test_requests_that_come_while_one_is_under_way_wait(story: Story) -> None:
    story.client(get(b"/1"))
    app = story.lends()
    app.hears(b"GET /1 ", ...)
    story.client(get(b"/2")[:20])
    story.client(get(b"/2")[20:])
    app.hears_nothing()
    app.says(ok(b"1"))
    app.hears(b"GET /2 ", ...)
    app.says(ok(b"2"))
    story.client_hears(..., b"2")


def test_own_answers_take_their_turn(story: Story) -> None:
    unknown = b"GET /x HTTP/1.1\r\nHost: nobody.example\r\n\r\n"
    story.client(get(b"/1") + unknown + get(b"/2") + unknown + unknown)
    app = story.lends()
    app.hears(...)
    app.says(ok(b"1"))
    app.hears(b"GET /2 ", ...)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"HTTP/1.1 404 Not Found\r\n", ..., b"</html>\n")
    app.says(ok(b"2"))
    heard = story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"</html>\n")
    assert heard.count(b"HTTP/1.1 404 Not Found\r\n") == 2
    assert story.caller.is_kept


def test_a_thousand_requests_in_one_segment(story: Story) -> None:
    story.client(1000 * GET)
    app = story.lends()
    for _ in range(999):
        app.hears(b"GET / HTTP/1.1\r\n", ..., b"\r\n\r\n")
        app.says(ok(b""))
    app.says(ok(b"last"))
    heard = story.client_hears(..., b"last")
    assert heard.count(b"HTTP/1.1 200 OK\r\n") == 1000


def test_a_thousand_own_answers_do_not_nest(story: Story) -> None:
    story.client(5000 * b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n")
    heard = story.client_hears(b"HTTP/1.1 404 Not Found\r\n", ...)
    assert heard.count(b"HTTP/1.1 404 Not Found\r\n") == 5000


def test_no_more_is_read_than_64_kib_ahead(story: Story) -> None:
    story.client(get(b"/1"))
    app = story.lends()
    story.client(*(1000 * GET for _ in range(4)))
    assert not story.caller.is_heeded
    assert len(story.caller.transport.inbox) == 2  # stayed with the kernel
    for _ in range(4001):
        app.hears(...)
        app.says(ok(b""))
    assert story.caller.is_heeded
    assert story.client_hears(...).count(b"HTTP/1.1 200 OK\r\n") == 4001


def test_a_bad_head_behind_good_ones_is_refused_in_its_turn(story: Story) -> None:
    story.client(get(b"/1") + b"GET /2 HTTP/1.1\r\nHost : shop.example\r\n\r\n" + get(b"/3"))
    app = story.lends()
    app.hears(b"GET /1 ", ..., b"\r\n\r\n")
    story.client_hears_nothing()
    app.says(ok(b"1"))
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"HTTP/1.1 400 Bad Request\r\n", ...)
    assert not story.caller.is_kept
    app.hears_nothing()


def test_after_close_the_rest_is_ignored(story: Story) -> None:
    story.client(b"GET /1 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n" + get(b"/2"))
    app = story.lends()
    app.hears(b"GET /1 ", ..., b"\r\n\r\n")
    app.says(ok(b"1"))
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"Connection: close\r\n\r\n1")
    app.hears_nothing()


def test_one_empty_line_before_a_request_is_forgiven(story: Story) -> None:
    story.client(b"\r\n" + get(b"/1") + b"\r\n" + get(b"/2"))
    app = story.lends()
    app.hears(b"GET /1 ", ...)
    app.says(ok(b"1"))
    app.hears(b"GET /2 ", ...)


def test_an_empty_line_in_two_segments_is_forgiven_too(story: Story) -> None:
    story.client(b"\r", b"\n", get(b"/1")[:1], get(b"/1")[1:])
    story.lends().hears(b"GET /1 ", ...)


def test_more_empty_lines_are_not_http(story: Story) -> None:
    story.client(20_000 * b"\r\n" + get(b"/1"))
    story.answer("bad_request", 400)
    assert story.dialled == []


def test_more_empty_lines_are_not_http_however_they_come(story: Story) -> None:
    for pieces in ((b"\r\n", b"\r\n"), (b"\r\n\r", b"\n"), (b"\r\n\r\n",), (b"\r", b"\n", b"\r", b"\n")):
        story.calls()
        story.client(*pieces, get(b"/1"))
        story.answer("bad_request", 400)
    assert story.dialled == []


def test_an_empty_line_is_forgiven_before_each_request(story: Story) -> None:
    for path in (b"/1", b"/2"):
        story.client(b"\r\n", get(path))
        app = story.lends(reused=path == b"/2")
        app.hears(b"GET " + path, ...)
        app.says(ok(b""))
        story.client_hears(b"HTTP/1.1 200 OK\r\n", ...)
    story.client(b"\r\n")
    story.passes(74)
    assert story.caller.is_kept
    story.passes(2)
    story.client_hears_nothing()  # it was idle, and not in the middle of a request
    assert not story.caller.is_kept


def test_a_client_that_has_said_everything_still_gets_its_answers(story: Story) -> None:
    story.client(get(b"/1") + get(b"/2"))
    story.caller.closes()
    app = story.lends()
    app.says(ok(b"1"))
    app.hears(..., b"GET /2 ", ...)
    app.says(ok(b"2"))
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"1HTTP/1.1 200 OK\r\n", ..., b"2")
    assert not story.caller.is_kept
    assert app.is_kept


def test_a_client_that_has_said_everything_while_a_connection_is_made(story: Story) -> None:
    story.client(get(b"/1"))
    story.caller.closes()
    assert story.dialled == [POD]
    story.lends().says(ok(b"1"))
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"1")
