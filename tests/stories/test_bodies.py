"""Bodies stream both ways; whoever reads slowly stops the other side, and nothing is piled up in between."""

from __future__ import annotations

from tests.fakes.story import GET, HOST, Story

PIECE = b"x" * 65536
UPLOAD = b"POST /up HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000\r\n\r\n"


def test_a_client_that_stops_reading_stops_the_app(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    story.caller.stops_reading()
    app.says(PIECE)
    assert app.is_heeded
    app.says(PIECE)
    assert not app.is_heeded
    app.says(PIECE)  # stays with the kernel
    assert story.caller.transport.get_write_buffer_size() < 3 * len(PIECE)
    story.caller.reads_again()
    assert app.is_heeded
    story.client_hears(..., b"\r\n\r\n" + 3 * PIECE)


def test_a_request_of_a_client_that_is_full_already_waits(story: Story) -> None:
    """What the last answer left behind counts for the next one too."""
    story.caller.stops_reading()
    story.client(GET)
    app = story.lends()
    app.hears(...)
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n" + PIECE)
    story.client(GET)
    app.hears_nothing()
    story.caller.reads_again()
    app.hears(b"GET ", ...)
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 131072\r\n\r\n" + PIECE, PIECE)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., PIECE)


def test_a_held_connection_reads_again_for_the_next_request(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    story.caller.stops_reading()
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 131073\r\n\r\n" + PIECE, PIECE)
    assert not app.is_heeded
    app.says(b"!")
    story.caller.reads_again()
    assert app.is_heeded
    story.client_hears(..., b"!")
    story.client(GET)
    again = story.lends(reused=True)
    again.says(b"HTTP/1.1 204 No Content\r\n\r\n")
    story.client_hears(b"HTTP/1.1 204 No Content\r\n", ...)


def test_an_app_that_stops_reading_stops_the_client(story: Story) -> None:
    story.client(UPLOAD)
    app = story.lends()
    app.stops_reading()
    story.client(PIECE, PIECE)
    assert not story.caller.is_heeded
    story.client(PIECE)
    assert app.transport.get_write_buffer_size() < 3 * len(PIECE)
    app.reads_again()
    assert story.caller.is_heeded
    app.hears(b"POST /up HTTP/1.1\r\n", ..., b"\r\n\r\n" + 3 * PIECE)


def test_an_app_that_is_full_at_the_first_piece_stops_the_client(story: Story) -> None:
    """The head and the beginning of a large body can be too much already."""
    story.client(UPLOAD + PIECE + PIECE)
    app = story.lends(reads=False)
    assert not story.caller.is_heeded
    app.reads_again()
    assert story.caller.is_heeded


def test_nothing_is_read_while_a_connection_is_made(story: Story) -> None:
    story.client(UPLOAD)
    assert not story.caller.is_heeded
    story.client(PIECE)
    app = story.lends()
    assert story.caller.is_heeded
    app.hears(b"POST /up HTTP/1.1\r\n", ..., b"\r\n\r\n" + PIECE)


def test_the_next_request_is_read_after_a_body_that_had_to_wait(story: Story) -> None:
    story.client(b"POST /up HTTP/1.1\r\n" + HOST + b"Content-Length: 131072\r\n\r\n")
    app = story.lends()
    app.stops_reading()
    story.client(PIECE, PIECE)
    app.reads_again()
    app.says(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert app.is_kept
    app.hears(...)
    story.client(GET)
    story.lends(reused=True).hears(b"GET / HTTP/1.1\r\n", ...)


def test_a_body_is_passed_on_byte_by_byte(story: Story) -> None:
    body = bytes(range(256))
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 256\r\n\r\n")
    app = story.lends()
    story.client(*(body[at : at + 1] for at in range(256)))
    app.hears(..., b"\r\n\r\n" + body)
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 256\r\n\r\n", *(body[at : at + 1] for at in range(256)))
    story.client_hears(..., b"\r\n\r\n" + body)


def test_both_directions_at_once(story: Story) -> None:
    """An app may answer while it is still listening; the rest of the request keeps flowing until the answer ends."""
    story.client(b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 6\r\n\r\nab")
    app = story.lends()
    app.hears(..., b"ab")
    app.says(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nAB")
    story.client_hears(..., b"\r\n\r\nAB")
    story.client(b"cd")
    app.hears(b"cd")
    app.says(b"CD")
    story.client(b"ef")
    app.hears(b"ef")
    app.says(b"EF")
    story.client_hears(b"CDEF")
    assert not story.caller.is_kept  # nobody could promise that, when the answer began
    assert not app.is_kept  # it answered before the request was complete: not to be trusted with another


def test_a_body_that_came_in_spite_of_a_stop_leaves_the_connection_readable(story: Story) -> None:
    """While a connection is made, and while the app is full: what ends a body also ends the stop."""
    story.calls(secure=True, sni=b"shop.example")
    story.caller.says_in_one_go(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\n", b"ha", b"lf")
    app = story.lends(reads=False)
    assert story.caller.is_heeded
    app.reads_again()
    app.hears(..., b"half")
    app.says(b"HTTP/1.1 204 No Content\r\n\r\n")
    story.caller.says_in_one_go(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 262144\r\n\r\n")
    app.stops_reading()
    story.caller.says_in_one_go(PIECE, PIECE, PIECE, PIECE)
    assert story.caller.is_heeded
    app.reads_again()
    app.says(b"HTTP/1.1 204 No Content\r\n\r\n")
    app.hears(...)
    story.client(GET)
    app.hears(b"GET / HTTP/1.1\r\n", ...)
