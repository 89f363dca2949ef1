"""What strangers try: each class of hostile request, what becomes of it, and what never becomes of it.

After each of them nothing hidden in it has reached an app as a request, and the next client is served as if nothing had
happened (hardening 2.2 and 2.3). Classes with a story of their own are told there: ``test_framing``, ``test_names``,
``test_forwarding``, ``test_interim``, ``test_early_answers``, ``test_tunnels``.
"""

from __future__ import annotations

import pytest

from tests.fakes.story import GET, HOST, Story, fields_of

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: shop.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


def post(*lines: bytes, version: bytes = b"1.1", body: bytes = b"0\r\n\r\n") -> bytes:
    """A POST with these field lines and a body."""
    return b"POST / HTTP/" + version + b"\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


REFUSED: dict[str, tuple[bytes, str, int]] = {
    # lengths (RFC 9112 6.1 and 6.3)
    "length and coding": (post(b"Content-Length: 5", b"Transfer-Encoding: chunked"), "bad_framing", 400),
    "coding and length": (post(b"Transfer-Encoding: chunked", b"Content-Length: 5"), "bad_framing", 400),
    "far apart": (
        post(b"Content-Length: 5", *(b"X-%d: y" % n for n in range(90)), b"Transfer-Encoding: chunked"),
        "bad_framing",
        400,
    ),
    "named in Connection": (
        post(b"Connection: content-length", b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        "bad_framing",
        400,
    ),
    "coding in 1.0": (post(b"Transfer-Encoding: chunked", version=b"1.0"), "bad_framing", 400),
    "another coding in 1.0": (post(b"Transfer-Encoding: gzip", version=b"1.0"), "bad_framing", 400),
    "coding and length in 1.0": (
        post(b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Connection: keep-alive", version=b"1.0"),
        "bad_framing",
        400,
    ),
    **{
        f"coding {value!r}": (post(b"Transfer-Encoding: " + value), failure, status)
        for value, failure, status in (
            (b"identity", "bad_framing", 400),
            (b"cow", "bad_framing", 400),
            (b"gzip", "bad_framing", 400),
            (b"chunked, identity", "bad_framing", 400),
            (b"chunked , gzip", "bad_framing", 400),
            (b"chunked, chunked", "coding_not_implemented", 501),
            (b"gzip, chunked", "coding_not_implemented", 501),
            (b"gzip ,\tCHUNKED", "coding_not_implemented", 501),
            (b"xchunked", "bad_framing", 400),
            (b"chunked-", "bad_framing", 400),
            (b"", "bad_framing", 400),
            (b",", "bad_framing", 400),
            (b",chunked", "bad_framing", 400),
            (b"chunked,", "bad_framing", 400),
            (b"chunked;q=1", "bad_framing", 400),
            (b'"chunked"', "bad_framing", 400),
            (b"chunked chunked", "bad_framing", 400),
            (b"chu\xe2\x84\xaaned", "bad_framing", 400),  # KELVIN SIGN: its lower case is k
            (b"chunked\xa0", "bad_framing", 400),
            (b"\x85chunked", "bad_framing", 400),
            (b"chunked\x00", "bad_request", 400),
            (b"\x0bchunked", "bad_request", 400),
            (b"chunked\x0c", "bad_request", 400),
            (b"\x1cchunked", "bad_request", 400),
            (b"\x08chunked", "bad_request", 400),
            (b"chunked\r", "bad_request", 400),
            (b"x\nTransfer-Encoding: chunked", "bad_request", 400),
        )
    },
    "two codings": (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: cow"), "bad_framing", 400),
    "a folded coding": (post(b"Transfer-Encoding:", b" chunked"), "bad_request", 400),
    **{
        f"coding named {name!r}": (post(name + b": chunked"), "bad_request", 400)
        for name in (b"Transfer-Encoding ", b" Transfer-Encoding", b"Transfer-Encoding\t", b"Transfer Encoding",
                     b"Transfer-Encoding\x00", b"\xa0Transfer-Encoding", b"Transfer-Encoding\x0b", b"X: y\n\nTE")
    },
    **{
        f"length {value!r}": (post(b"Content-Length: " + value, body=b"12345"), "bad_framing", 400)
        for value in (b"5, 5", b"5,5", b"5,", b",5", b"+5", b"-5", b"-0", b"1_0", b"0x5", b"5 5", b"5.0", b"5e0", b"",
                      b"5;", b"'5'", b"\xd9\xa5", b"\xef\xbc\x95", b"\xb2", b"\xa05", b"5\xa0", b"\x855",
                      b"9223372036854775808", b"18446744073709551621", 20 * b"0", 5000 * b"9")
    },
    **{
        f"length {value!r}": (post(b"Content-Length: " + value, body=b"12345"), "bad_request", 400)
        for value in (b"\x0c5", b"\x0b5", b"5\x00", b"5\r", b"5\n", b"\x1f5")
    },
    "two lengths": (post(b"Content-Length: 5", b"Content-Length: 6"), "bad_framing", 400),
    "the same length twice": (post(b"Content-Length: 5", b"content-length: 5", body=b"12345"), "bad_framing", 400),
    "an empty length and a good one": (post(b"Content-Length:", b"Content-Length: 5"), "bad_framing", 400),
    # request lines (RFC 9112 3)
    **{
        f"line {line!r}": (line + b"\r\n" + HOST + b"\r\n", failure, status)
        for line, failure, status in (
            (b"GET /a HTTP/1.1 /hidden HTTP/1.1", "bad_request", 400),
            (b"GET / HTTP/1.1 ", "bad_request", 400),
            (b"GET\t/\tHTTP/1.1", "bad_request", 400),
            (b"GET\xa0/ HTTP/1.1", "bad_request", 400),
            (b"GET\x1f/ HTTP/1.1", "bad_request", 400),
            (b"GET / HTTP/1.1\r", "bad_request", 400),
            (b"GET / HTTP /1.1", "bad_request", 400),
            (b"GET / HTTP/01.1", "bad_request", 400),
            (b"GET / HTTP/1.10", "bad_request", 400),
            (b"GET / HTTP/1,1", "bad_request", 400),
            (b"GET / HTTP/\xd9\xa1.\xd9\xa1", "bad_request", 400),
            (b"GET / RTSP/1.0", "bad_request", 400),
            (b"GET / HTTP/2.0", "version_not_supported", 505),
            (b"GET / HTTP/0.9", "version_not_supported", 505),
            (b"GET /", "bad_request", 400),
            (b"get / HTTP/1.1", "bad_request", 400),
            (b"Connect shop.example:443 HTTP/1.1", "bad_request", 400),
            (b"GET /#/hidden HTTP/1.1", "bad_request", 400),
            (b"GET /a\x01b HTTP/1.1", "bad_request", 400),
            (b"GET /a\x7fb HTTP/1.1", "bad_request", 400),
            (b"GET a HTTP/1.1", "bad_request", 400),
            (b"GET //\\shop.example\\@x y HTTP/1.1", "bad_request", 400),
            (b"GET /a%00b HTTP/1.1", "bad_request", 400),
            (b"GET http://shop.example/%00 HTTP/1.1", "bad_request", 400),
            (b"GET ws://shop.example/ HTTP/1.1", "bad_request", 400),
            (b"GET http://other.example/ HTTP/1.1", "bad_host", 400),
            (b"GET http://shop.example:8080/ HTTP/1.1", "bad_host", 400),
            (b"GET http://shop.example@other.example/ HTTP/1.1", "bad_request", 400),
            (b"GET http://shop.example\\@other.example/ HTTP/1.1", "bad_request", 400),
            (b"GET http://shop.example%2eevil/ HTTP/1.1", "bad_host", 400),
            (b"GET http://shop.example:80:80/ HTTP/1.1", "bad_host", 400),
            (b"GET http://shop.example:65616/ HTTP/1.1", "bad_host", 400),
            (b"PRI * HTTP/2.0", "version_not_supported", 505),
            (b"HTTP/1.1 200 OK", "bad_request", 400),
            (b"HEAD * HTTP/1.1", "bad_request", 400),
            (b"TRACE / HTTP/1.1", "method_not_allowed", 405),
            (b"TRACE * HTTP/1.1", "method_not_allowed", 405),
            (b"CONNECT shop.example:80 HTTP/1.1", "method_not_implemented", 501),
            (b"CONNECT / HTTP/1.1", "method_not_implemented", 501),
            (b"CONNECT http://shop.example/ HTTP/1.1", "method_not_implemented", 501),
        )
    },
    "CONNECT with a body of stated length": (
        b"CONNECT a:80 HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc",
        "method_not_implemented",
        501,
    ),
    "CONNECT with chunks": (
        b"CONNECT a:80 HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "method_not_implemented",
        501,
    ),
    "CONNECT with an upgrade": (
        b"CONNECT a:80 HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "method_not_implemented",
        501,
    ),
    "TRACE with a body": (
        b"TRACE / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc",
        "method_not_allowed",
        405,
    ),
    # header sections (RFC 9112 2.2 and 5)
    **{
        f"field {line!r}": (b"GET / HTTP/1.1\r\n" + HOST + line + b"\r\n\r\n", "bad_request", 400)
        for line in (b" X: y", b"\tX: y", b"X: a\r\n b", b"X: a\r\n\tb", b"X : y", b"X\t: y", b": y", b"X", b"X;y",
                     b"X: \x00", b"X: \x01", b"X: \x1f", b"X: \x7f", b"X: \x0b", b"X: a\rb", b"X: a\nb",
                     b"X: a\r\rY: b",
                     b"X\x00: y", b"X\x80: y", b"X(: y", b"X@: y", b"X/: y", b"X\x1c: y", b"\xef\xbb\xbfX: y",
                     b"Host : other.example", b"\nHost: other.example", b"X: y\n" + HOST, b"\rX: y", b"X:\n\nGET /")
    },
    "a field before all fields": (b"GET / HTTP/1.1\r\n X: y\r\n" + HOST + b"\r\n", "bad_request", 400),
    "only CR": (b"GET / HTTP/1.1\r" + HOST.replace(b"\r\n", b"\r") + b"\r\r\n\r\n", "bad_request", 400),
    "only LF": (b"GET / HTTP/1.1\n" + HOST.replace(b"\r\n", b"\n") + b"\n", "bad_request", 400),
    "too many fields": (b"GET / HTTP/1.1\r\n" + HOST + 10_000 * b"X: y\r\n" + b"\r\n", "head_too_large", 431),
    "a field of 200 KB": (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + 200_000 * b"x" + b"\r\n\r\n", "head_too_large", 431),
    "a name of 64 KB": (b"GET / HTTP/1.1\r\n" + HOST + 64_000 * b"X" + b": y\r\n\r\n", "head_too_large", 431),
    "a target of 64 KB": (b"GET /" + 64_000 * b"x" + b" HTTP/1.1\r\n" + HOST + b"\r\n", "target_too_long", 414),
    "a method of 64 KB": (64_000 * b"G" + b" / HTTP/1.1\r\n" + HOST + b"\r\n", "target_too_long", 414),
    # Host (RFC 9112 3.2)
    **{
        f"host {lines!r}": (b"GET / HTTP/1.1\r\n" + lines + b"\r\n", "bad_host", 400)
        for lines in (b"", b"Host:\r\n", HOST + HOST, HOST + b"Host: other.example\r\n", HOST + b"Host:\r\n",
                      b"Host: shop.example, other.example\r\n", b"Host: shop.example\xa0\r\n",
                      b"Host: sho\xe2\x93\x9f.example\r\n", b"Host: shop.example#x\r\n", b"Host: shop.example?x\r\n",
                      b"Host: shop.example:80x\r\n", b"Host: shop.example:+80\r\n", b"Host: shop.example:65536\r\n",
                      b"Host: shop.example:99999\r\n", b"Host: [::1]:65536\r\n", b"Host: shop.example:000080\r\n",
                      b"Host: shop.example\\x\r\n",
                      b"Host: http://shop.example\r\n", b"Host: [::1\r\n", b"Host: [::1]x\r\n", b"Host: *\r\n",
                      b"Host: shop.example%00\r\n", b"Host: ${x}\r\n", b"Host: <script>\r\n", b"Host: '\r\n",
                      b"Host: " + 300 * b"a" + b"\r\n")
    },
    # expectations (RFC 9110 10.1.1)
    **{
        f"expectation {value!r}": (post(b"Content-Length: 3", b"Expect: " + value, body=b"abc"), failure, status)
        for value, failure, status in (
            (b"", "expectation_failed", 417),
            (b"100", "expectation_failed", 417),
            (b"y 100-continue", "expectation_failed", 417),
            (b"100-continue\xa0", "expectation_failed", 417),
            (b"100-continue, 100-continue", "expectation_failed", 417),
            (b"\x0b100-continue", "bad_request", 400),
            (b"100-continue\r\n  x", "bad_request", 400),
        )
    },
    # other protocols on this port
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40), "bad_request", 400),
    "PROXY v2": (b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12), "bad_request", 400),
    "SSH": (b"SSH-2.0-x\r\n\r\n", "bad_request", 400),
    "SOCKS": (b"\x05\x01\x00", "bad_request", 400),
}  # fmt: skip
"""What is refused: the bytes, the failure's name, the status."""


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_refused_once_and_nothing_behind_it_is_read(story: Story, case: str) -> None:
    request, failure, status = REFUSED[case]
    story.client(request + HIDDEN)
    if failure == "bad_framing" or status in (405, 501):
        story.client(HIDDEN)
    story.answer(failure, status)
    assert not story.caller.is_kept
    assert story.dialled == [], "something of it reached an app"
    assert_the_next_is_served(story)


@pytest.mark.parametrize("case", [case for case, (request, *_) in REFUSED.items() if len(request) < 2000])
def test_in_single_bytes_it_is_refused_as_well(story: Story, case: str) -> None:
    request, _, _ = REFUSED[case]
    story.client(*(request[at : at + 1] for at in range(len(request))), b"\r\n\r\n")
    story.client_hears(b"HTTP/1.1 ", ..., b"X-Router-Error: ", ...)
    assert not story.caller.is_kept
    assert story.dialled == []
    assert_the_next_is_served(story)


def assert_the_next_is_served(story: Story) -> None:
    story.calls("198.51.100.99")
    story.client(b"GET /next HTTP/1.1\r\n" + HOST + b"\r\n")
    app = story.lends()
    app.hears(b"GET /next HTTP/1.1\r\n", ..., b"\r\n\r\n")
    app.says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")


BAD_CHUNKS: dict[str, bytes] = {
    "a sign": b"+5\r\nhello\r\n",
    "a minus": b"-5\r\nhello\r\n",
    "0x": b"0x5\r\nhello\r\n",
    "an underscore": b"0_5\r\nhello\r\n",
    "a blank before": b" 5\r\nhello\r\n",
    "a blank behind": b"5 \r\nhello\r\n",
    "a tab behind": b"5\t\r\nhello\r\n",
    "nothing": b"\r\nhello\r\n",
    "another script": b"\xd9\xa5\r\nhello\r\n",
    "NUL": b"5\x00\r\nhello\r\n",
    "NBSP": b"5\xa0\r\nhello\r\n",
    "seventeen digits": 16 * b"0" + b"5\r\nhello\r\n",
    "beyond 2^63 - 1": b"8000000000000000\r\nhello\r\n",
    "minus one of 64 bits": b"ffffffffffffffff\r\nhello\r\n",
    "LF behind the size": b"5\nhello\r\n",
    "CR and anything": b"5\rXhello\r\n",
    "CR CR LF": b"5\r\r\nhello\r\n",
    "no CRLF behind the data": b"5\r\nhelloXX0\r\n\r\n",
    "LF behind the data": b"5\r\nhello\n0\r\n\r\n",
    "CR behind the data": b"5\r\nhello\r0\r\n\r\n",
    "more than was said": b"5\r\nhello world\r\n",
    "less than was said": b"5\r\nhell\r\n0\r\n\r\n",
    "an extension without a name": b"5;\r\nhello\r\n",
    "an extension that ends in LF": b"2;\nxx\r\n2f\r\n",
    "a CR in an extension": b"5;a=\rb\r\nhello\r\n",
    "a NUL in an extension": b"5;a=\x00\r\nhello\r\n",
    "a quote that does not end": b'5;a="x\r\nhello\r\n',
    "a quote around CRLF": b'5;a="\r\n0\r\n\r\n',
    "no semicolon": b"5 a\r\nhello\r\n",
    "an extension of 300 bytes": b"5;" + 300 * b"a" + b"\r\nhello\r\n",
    "more extensions than payload": 100 * (b"1;" + 250 * b"a" + b"\r\nx\r\n"),
    "words": b"INVALID\r\n",
    "junk for a trailer": b"0\r\nXX",
    "a trailer without a name": b"0\r\n: x\r\n\r\n",
    "a blank in a trailer's name": b"0\r\nX : y\r\n\r\n",
    "a folded trailer": b"0\r\nX: a\r\n b\r\n\r\n",
    "a trailer that ends in LF": b"0\r\nX: y\n\n",
    "an end in LF": b"0\n\n",
    "an end in CR": b"0\r\n\rX",
    "a NUL in a trailer": b"0\r\nX: \x00\r\n\r\n",
    "trailers without end": b"0\r\n" + 2000 * b"X: y\r\n",
}


@pytest.mark.parametrize("pieces", ["whole", "bytes", "later"])
@pytest.mark.parametrize("case", BAD_CHUNKS)
def test_a_bad_chunk_never_becomes_a_whole_request(story: Story, case: str, pieces: str) -> None:
    """Whether the app has heard of the request or not: its end it never hears, and the connection is over."""
    body = BAD_CHUNKS[case] + HIDDEN
    if pieces == "whole":
        story.client(CHUNKED + body)
        assert story.dialled == []
    else:
        story.client(CHUNKED + b"2\r\nab\r\n")
        app = story.lends()
        app.hears(..., b"\r\n\r\n2\r\nab\r\n")
        story.client(*((body[at : at + 1] for at in range(len(body))) if pieces == "bytes" else [body]))
        assert b"0\r\n\r\n" not in app.hears(...)
        assert app.is_cut
    story.answer("bad_chunk", 400)
    assert not story.caller.is_kept
    assert_the_next_is_served(story)


@pytest.mark.parametrize("trailer", [
    b"Content-Length: 50", b"Transfer-Encoding: identity", b"Host: other.example", b"X-Forwarded-For: 6.6.6.6",
    b"Authorization: Basic x", b"Connection: close", b"X-Checksum: 1", b"Cookie: a=b",
])  # fmt: skip
def test_trailers_reach_nobody(story: Story, trailer: bytes) -> None:
    story.client(CHUNKED + b"5;a=b\r\nhello\r\n00\r\n" + trailer + b"\r\n\r\n")
    app = story.lends()
    heard = app.hears(b"POST / HTTP/1.1\r\n", ..., b"\r\n\r\nhello")
    assert trailer not in heard
    app.says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")
    assert story.caller.is_kept


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 100\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"]
)
def test_a_body_that_ends_too_soon_is_never_a_whole_one(story: Story, framing: bytes) -> None:
    story.client(b"POST / HTTP/1.1\r\n" + HOST + framing)
    app = story.lends()
    story.caller.closes()
    assert not app.hears(b"POST / HTTP/1.1\r\n", ...).endswith(b"0\r\n\r\n")
    assert app.is_cut
    assert story.lines()[-1]["error_reason"] == "client_gone"


def test_a_chunk_of_the_largest_size_is_waited_for_and_nothing_set_aside(story: Story) -> None:
    story.client(CHUNKED + b"7fffffffffffffff\r\n" + HIDDEN)
    app = story.lends()
    app.hears(b"POST / HTTP/1.1\r\n", ..., HIDDEN + b"\r\n")  # it is body, whatever it looks like
    assert story.dialled == []


ONE_REQUEST: dict[str, bytes] = {
    "a GET with a body": b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "a HEAD with a body": b"HEAD / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "OPTIONS with chunks": b"OPTIONS / HTTP/1.1\r\n" + HOST
    + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN),
    "a body that is a request": post(b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),
    "an upgrade with a body": post(
        b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: %d" % len(HIDDEN), body=HIDDEN
    ),
    "an expectation with its body": post(
        b"Expect: 100-continue", b"Content-Length: %d" % len(HIDDEN), body=HIDDEN
    ),
    "an alias of the length": post(b"Content_Length: 3", b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),
    "an alias of the coding": post(b"Transfer_Encoding: chunked", b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),
    "the length named in Connection": post(
        b"Connection: Content-Length, Host", b"Content-Length: %d" % len(HIDDEN), body=HIDDEN
    ),
    "1.0 with a length": post(
        b"Content-Length: %d" % len(HIDDEN), b"Expect: 100-continue", version=b"1.0", body=HIDDEN
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ONE_REQUEST)
def test_a_request_inside_a_body_stays_in_it(story: Story, case: str) -> None:
    story.client(ONE_REQUEST[case])
    app = story.lends()
    heard = app.hears(...)
    assert heard.count(b"HTTP/1.1\r\n") == 2  # the one asked for, and the one in its body
    head = heard.partition(b"\r\n\r\n")[0].lower()
    assert head.count(b"content-length") + head.count(b"transfer-encoding") == 1
    assert b"_" not in head
    app.says(b"HTTP/1.1 204 No Content\r\n\r\n")
    story.client_hears(b"HTTP/1.1 204 No Content\r\n", ..., b"\r\n\r\n")
    app.hears_nothing()
    assert story.core.counters.routes["shop/web"].requests.keys() != set()
    assert sum(story.counted().values()) == 1


@pytest.mark.parametrize(
    "body", [b"", b"Content-Length: 3\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"]
)
def test_options_about_the_server_with_whatever_body(story: Story, body: bytes) -> None:
    story.client(b"OPTIONS * HTTP/1.1\r\n" + HOST + (body or b"\r\n") + GET)
    story.client_hears(b"HTTP/1.1 204 No Content\r\n", ..., b"Allow: ", ..., b"\r\n\r\n")
    story.lends().hears(b"GET / HTTP/1.1\r\n", ...)


def test_lines_that_python_would_split_are_one_line(story: Story) -> None:
    value = b"a\xc2\x85Smuggled: 1\x85b\xe2\x80\xa8c"
    story.client(b"GET / HTTP/1.1\r\n" + HOST + b"X-Line: " + value + b"\r\n\r\n")
    fields = fields_of(story.lends().hears(...))
    assert fields[b"x-line"] == [value]
    assert b"smuggled" not in fields


def test_two_tenants_on_one_connection_each_get_their_own(story: Story) -> None:
    story.serves(b"other.example", route="other/web", endpoints=(("10.9.9.9", 80),))
    story.client(GET + b"GET /theirs HTTP/1.1\r\nHost: other.example\r\n\r\n" + GET)
    mine = story.lends()
    mine.hears(...)
    mine.says(OK)
    theirs = story.lends()
    assert theirs.address == ("10.9.9.9", 80)
    theirs.hears(b"GET /theirs HTTP/1.1\r\n", ...)
    mine.hears_nothing()
    theirs.says(OK)
    mine.hears(b"GET / HTTP/1.1\r\n", ...)


def test_dropped_aliases_are_counted(story: Story) -> None:
    story.client(b"GET / HTTP/1.1\r\n" + HOST + b"X_Forwarded_For: 6.6.6.6\r\nX_Forwarded_User: root\r\n\r\n")
    story.lends().hears(...)
    assert story.core.counters.aliases == 2


# ── apps, which belong to whoever wrote them ──────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("pieces", [1, 10_000])
def test_ten_thousand_interim_answers_are_an_attack(story: Story, pieces: int) -> None:
    story.client(GET.replace(b"1.1", b"1.0"))
    app = story.lends()
    flood = 10_000 * b"HTTP/1.1 103 Early Hints\r\n\r\n"
    size = len(flood) // pieces
    for at in range(0, len(flood), size):
        if not app.transport.closing:
            app.says(flood[at : at + size])
    assert app.is_cut
    story.client_hears(b"HTTP/1.1 502 ", ..., b"bad_response", ...)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nX: " + 300_000 * b"x" + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + 30_000 * b"X: y\r\n" + b"\r\n",
        b"HTTP/1.1 103 Early Hints\r\nX: " + 300_000 * b"x" + b"\r\n\r\n" + OK,
        b"HTTP/1.1 200 " + 300_000 * b"x" + b"\r\n\r\n",
        300_000 * b"x",
    ],
    ids=["field", "fields", "interim", "reason", "no head"],
)
def test_a_huge_head_of_an_app_is_no_answer(story: Story, answer: bytes) -> None:
    story.client(GET)
    app = story.lends()
    app.says(answer)
    heard = story.client_hears(b"HTTP/1.1 502 ", ...)
    assert b"x" * 100 not in heard
    assert app.is_cut
    assert_the_next_is_served(story)


EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (b"GET", OK + EVIL),
        (b"GET", b"HTTP/1.1 204 No Content\r\nContent-Length: %d\r\n\r\n" % len(EVIL) + EVIL),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: %d\r\n\r\n" % len(EVIL) + EVIL),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(EVIL) + EVIL),
        (b"GET", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n" + EVIL),
        (b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + EVIL),
        (b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n" + EVIL),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_an_answer_that_nobody_asked_for_is_given_to_nobody(
    story: Story, asked: bytes, answer: bytes, together: bool
) -> None:
    """Not to this client, and not to the next one on that connection (hardening 2.2: the queue of answers)."""
    story.client(GET.replace(b"GET", asked))
    app = story.lends()
    if together:
        app.says(answer)
    else:
        app.says(answer.removesuffix(EVIL))
        app.says(EVIL)
    assert b"evil" not in story.client_hears(b"HTTP/1.1 ", ...)
    assert not app.is_kept
    assert_the_next_is_served(story)


def test_an_apps_fields_about_this_hop_and_what_it_names_end_here(story: Story) -> None:
    story.client(GET)
    story.lends().says(
        b"HTTP/1.1 200 OK\r\nConnection: X-Tenant, keep-alive\r\nX-Tenant: 1\r\nKeep-Alive: timeout=9\r\n"
        b"Proxy-Authenticate: x\r\nProxy-Connection: x\r\nTrailer: x\r\nContent-Length: 2\r\n\r\nok"
    )
    story.caller.hears_without(b"x-tenant", b"timeout=9", b"proxy-", b"trailer")
