"""Heads are judged strictly, alike the first and the thousandth time, and nothing secret is remembered."""

from __future__ import annotations

from typing import Any

import pytest

from drycc_proxy.errors import Failure
from drycc_proxy.http.messages import CHUNKED, UNTIL_CLOSE, Malformed, Opening, RequestFields
from drycc_proxy.http1 import parser
from drycc_proxy.http1.parser import (
    MEMO_LINES,
    MEMO_NAMES,
    canonical_name,
    parse_fields,
    parse_length,
    parse_request_line,
    parse_response,
)


def refusal(block: bytes, max_fields: int = 100) -> Failure:
    """Why a header section is refused; the same the second time, when its good lines are remembered."""
    reasons = set()
    for _ in range(2):
        with pytest.raises(Malformed) as caught:
            parse_fields(block, max_fields)
        reasons.add(caught.value.failure)
    [reason] = reasons
    return reason


class TestRequestLine:
    @pytest.mark.parametrize(
        ("line", "method", "target", "minor"),
        [
            (b"GET / HTTP/1.1", b"GET", b"/", 1),
            (b"GET / HTTP/1.0", b"GET", b"/", 0),
            (b"GET / HTTP/1.9", b"GET", b"/", 1),
            (b"M-SEARCH * HTTP/1.1", b"M-SEARCH", b"*", 1),
            (b'purge /?a=b&c=%00[]|"<> HTTP/1.1', b"purge", b'/?a=b&c=%00[]|"<>', 1),
            (b"GET /caf\xc3\xa9 HTTP/1.1", b"GET", b"/caf\xc3\xa9", 1),
            (32 * b"M" + b" / HTTP/1.1", 32 * b"M", b"/", 1),
        ],
    )
    def test_three_words(self, line: bytes, method: bytes, target: bytes, minor: int) -> None:
        for _ in range(2):
            parsed = parse_request_line(line, 1000)
            assert (parsed.method, parsed.target, parsed.minor) == (method, target, minor)

    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"GET",
            b"GET /",
            b"GET  / HTTP/1.1",
            b"GET  HTTP/1.1",
            b"GET HTTP/1.1",
            b"GET / HTTP/1.1 HTTP/1.1",
            b"GET /  HTTP/1.1",
            b" GET / HTTP/1.1",
            b"GET / HTTP/1.1 ",
            b"GET / http/1.1",
            b"GET / HTTP/11",
            b"GET / HTTP/1.",
            b"GET / HTTP/1.1\r",
            b"GET / HTTP/1.1\n",
            b"GET /#x HTTP/1.1",
            b"GET /\x7f HTTP/1.1",
            b"GET /\x00 HTTP/1.1",
            b"GET\x0b/ HTTP/1.1",
            b"G:T / HTTP/1.1",
            33 * b"M" + b" / HTTP/1.1",
            b"\xc3\xa9 / HTTP/1.1",
            b"GET / HTTP/\xd9\xa1.1",
            b"GET / HTTQ/1.1",
            b"get / HTTP/1.1",
            b"Post / HTTP/1.1",
            b"TRACe / HTTP/1.1",
            b"patch / HTTP/1.1",
        ],
    )
    def test_anything_else_is_refused(self, line: bytes) -> None:
        with pytest.raises(Malformed) as caught:
            parse_request_line(line, 1000)
        assert caught.value.failure is Failure.BAD_REQUEST

    @pytest.mark.parametrize("version", [b"0.9", b"2.0", b"3.0", b"9.9"])
    def test_other_major_versions_are_named_as_such(self, version: bytes) -> None:
        with pytest.raises(Malformed) as caught:
            parse_request_line(b"GET / HTTP/" + version, 1000)
        assert caught.value.failure is Failure.VERSION_NOT_SUPPORTED

    def test_a_target_has_a_longest_length(self) -> None:
        assert parse_request_line(b"GET /" + 999 * b"a" + b" HTTP/1.1", 1000).target == b"/" + 999 * b"a"
        with pytest.raises(Malformed) as caught:
            parse_request_line(b"GET /" + 1000 * b"a" + b" HTTP/1.1", 1000)
        assert caught.value.failure is Failure.TARGET_TOO_LONG

    def test_a_line_that_repeats_is_the_same_object(self) -> None:
        assert parse_request_line(b"GET /same HTTP/1.1", 99) is parse_request_line(b"GET /same HTTP/1.1", 99)

    def test_lines_with_a_query_are_not_remembered(self) -> None:
        parse_request_line(b"GET /reset?token=secret HTTP/1.1", 1000)
        assert b"GET /reset?token=secret HTTP/1.1" not in parser._line_memo


class TestFields:
    def test_no_fields(self) -> None:
        fields = parse_fields(b"", 10)
        assert (fields.lines, fields.host, fields.length) == ([], b"", 0)

    def test_plain_fields_are_kept_byte_for_byte_in_their_order(self) -> None:
        lines = [b"B: 2", b"A:1", b"a: \xff\xfe ", b"C:\t3\t", b"D:", b"!#$%&'*+-.^_`|~: x"]
        for _ in range(2):
            assert parse_fields(b"\r\n".join(lines), 10).lines == lines

    def test_lines_of_one_name_keep_their_order_whether_they_were_seen_before_or_not(self) -> None:
        parse_fields(b"X-Order: 2\r\nCookie: seen=1", 10)
        lines = [b"X-Order: 1", b"X-Order: 2", b"X-Order: 3"]
        assert parse_fields(b"\r\n".join(lines), 10).lines == lines

    @pytest.mark.parametrize(
        "line",
        [
            b"no colon",
            b"no-colon",
            b": empty name",
            b"Name : value",
            b" Name: folded",
            b"\tName: folded",
            b"Na me: value",
            b"Name\t: v",
            b"Name: \x00",
            b"Name: a\rb",
            b"Name: a\nb",
            b"Name: \x7f",
            b"Name: \x1b[31m",
            b"",
            b"N\xc3\xa4me: v",
            b"Name:\x0bv",
            b"(name): v",
            b"na=me: v",
            b'"name": v',
            b"Name: v\r",
        ],
    )
    def test_what_is_no_field_line_is_refused(self, line: bytes) -> None:
        assert refusal(b"A: 1\r\n" + line + b"\r\nB: 2") is Failure.BAD_REQUEST

    def test_too_many_fields(self) -> None:
        block = b"\r\n".join([b"A: 1"] * 10)
        assert len(parse_fields(block, 10).lines) == 10
        assert refusal(block, 9) is Failure.HEAD_TOO_LARGE

    def test_host(self) -> None:
        fields = parse_fields(b"hOsT:  Shop.EXAMPLE:8080\t", 10)
        assert (fields.host, fields.name, fields.lines) == (b"Shop.EXAMPLE:8080", b"shop.example", [])
        assert refusal(b"Host: a\r\nHost: b") is Failure.BAD_HOST
        assert refusal(b"Host: a\r\nhost: a") is Failure.BAD_HOST
        assert refusal(b"Host: a b") is Failure.BAD_HOST

    def test_what_the_log_wants_is_kept_for_the_app_too(self) -> None:
        fields = parse_fields(b"User-Agent: me\r\nReferer: there", 10)
        assert (fields.user_agent, fields.referer) == (b"me", b"there")
        assert fields.lines == [b"User-Agent: me", b"Referer: there"]

    @pytest.mark.parametrize(
        "line", [b"Cookie: session=h1dden", b"Authorization: Bearer h1dden", b"Referer: https://a/?token=h1dden"]
    )
    def test_secrets_are_kept_for_the_app_and_never_remembered(self, line: bytes) -> None:
        assert parse_fields(line, 10).lines == [line]
        for memo in (parser._request_memo, parser._response_memo):
            assert not any(b"h1dden" in known for known in (*memo.plain, *memo.special))

    def test_long_lines_and_names_are_not_remembered(self) -> None:
        parse_fields(b"X-Long: " + 600 * b"l" + b"\r\n" + 100 * b"n" + b": 1", 10)
        assert not any(len(line) > 512 for line in parser._request_memo.plain)
        assert not any(len(name) > 64 for name in parser._request_memo.names)

    def test_the_memory_is_bounded(self) -> None:
        for number in range(2 * MEMO_LINES):
            parse_fields(b"X-%d: 1\r\nX-Forwarded-For: %d" % (number, number), 10)
            parse_request_line(b"GET /%d HTTP/1.1" % number, 100)
            parse_fields(b"Host: h%d" % number, 10)
        assert len(parser._request_memo.plain) <= MEMO_LINES
        assert len(parser._request_memo.special) <= MEMO_LINES
        assert len(parser._request_memo.names) <= MEMO_NAMES
        assert len(parser._line_memo) <= MEMO_LINES
        assert len(parser._names) <= MEMO_LINES

    def test_aliases_of_the_routers_names_are_dropped_and_counted(self) -> None:
        block = b"X_Real_IP: 1\r\nX-Forwarded_User: 2\r\ncontent_length: 3\r\nX_Mine: 4\r\nX_Real_IP: 5"
        for _ in range(2):
            fields = parse_fields(block, 10)
            assert (fields.aliases, fields.lines) == (3 + 1, [b"X_Mine: 4"])

    def test_a_name_is_judged_once_however_many_values_it_has(self) -> None:
        """A repeated name costs one look-up: the verdict about ``X.Forwarded.For`` is kept with its spelling."""
        parse_fields(b"X.Forwarded.For: 1", 10)
        assert parser._request_memo.names[b"X.Forwarded.For"] == parser.ALIAS
        assert b"X.Forwarded.For: 1" in parser._request_memo.special
        assert parse_fields(b"X.Forwarded.For: 2", 10).lines == []

    def test_whatever_begins_with_x_forwarded_is_a_word_about_the_client(self) -> None:
        lines = (b"X-Forwarded-User: root", b"x-forwarded-client-cert: x", b"X-Forwarded-My_Own: y")
        for _ in range(2):
            fields = parse_fields(b"\r\n".join(lines), 10)
            assert (fields.forwarded, fields.lines, fields.aliases) == (lines, [], 0)

    def test_an_upgrade_counts_when_connection_names_it(self) -> None:
        assert parse_fields(b"Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade", 10).upgrade == b"websocket"
        assert parse_fields(b"Upgrade: websocket", 10).upgrade == b""
        assert parse_fields(b"Upgrade: h2c\r\nConnection: Upgrade", 10).upgrade == b""
        assert parse_fields(b"Upgrade: websocket\r\nUpgrade: websocket\r\nConnection: Upgrade", 10).upgrade == b""
        assert parse_fields(b"Upgrade: websocket, h2c\r\nConnection: Upgrade", 10).upgrade == b""

    @pytest.mark.parametrize(
        ("value", "close", "keep_alive"),
        [
            (b"close", True, False),
            (b"Close", True, False),
            (b"keep-alive", False, True),
            (b"x, close", True, False),
            (b"Keep-Alive, close", True, True),
            (b",, keep-alive ,", False, True),
            (b"closed", False, False),
            (b"", False, False),
        ],
    )
    def test_connection(self, value: bytes, close: bool, keep_alive: bool) -> None:
        fields = parse_fields(b"Connection: " + value, 10)
        assert (fields.close, fields.keep_alive) == (close, keep_alive)

    def test_connection_in_several_lines_is_one_list(self) -> None:
        fields = parse_fields(b"Connection: a\r\nA: 1\r\nConnection: close\r\nB: 2\r\nConnection: b", 10)
        assert fields.close
        assert fields.lines == []


BEGINNING = b"Host: a.example\r\nUser-Agent: me\r\nAccept: */*\r\nConnection: keep-alive\r\nA: 1\r\n"


def opening_of(block: bytes) -> Opening:
    opening = twice(block).opening
    assert opening is not None
    return opening


def twice(block: bytes) -> RequestFields:
    """A header section that has come once before on its connection."""
    return parse_fields(block, 100, None, b"GET / HTTP/1.1\r\n" + block + b"\r\n\r\n", 16)


class TestOpenings:
    def test_what_usually_repeats_is_taken_as_one_piece(self) -> None:
        opening = opening_of(BEGINNING + b"Cookie: a=b\r\nB: 2")
        assert opening.raw == BEGINNING
        assert (opening.count, opening.host, opening.name) == (5, b"a.example", b"a.example")
        assert (opening.user_agent, opening.keep_alive) == (b"me", True)
        assert opening.kept == b"Accept: */*\r\nA: 1\r\nUser-Agent: me\r\n"

    def test_what_begins_alike_is_judged_from_there_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        opening = opening_of(BEGINNING + b"Cookie: a=b")
        judged: list[bytes] = []
        sort = parser._sort

        def noting(lines: list[bytes], memo: Any) -> Any:
            judged.extend(lines)
            return sort(lines, memo)

        monkeypatch.setattr(parser, "_sort", noting)
        fields = parse_fields(BEGINNING + b"Referer: there\r\nB: 2\r\nContent-Length: 7", 100, opening)
        assert judged == [b"Referer: there", b"B: 2", b"Content-Length: 7"]
        assert fields.opening is opening
        assert (fields.host, fields.name, fields.user_agent) == (b"a.example", b"a.example", b"me")
        assert (fields.referer, fields.length, fields.keep_alive) == (b"there", 7, True)
        assert fields.lines == [b"Accept: */*", b"A: 1", b"User-Agent: me", b"B: 2", b"Referer: there"]

    @pytest.mark.parametrize(
        "block",
        [
            BEGINNING.replace(b"A: 1", b"A: 2") + b"Cookie: c=d",
            BEGINNING.replace(b"a.example", b"b.example") + b"Cookie: c=d",
            BEGINNING.removesuffix(b"\r\n"),
            b"B: 2\r\n" + BEGINNING + b"Cookie: c=d",
            b"Cookie: c=d",
            b"",
        ],
    )
    def test_what_begins_otherwise_is_judged_as_a_whole(self, block: bytes) -> None:
        opening = opening_of(BEGINNING + b"Cookie: a=b")
        fields = parse_fields(block, 100, opening)
        assert fields.opening is not opening
        assert fields.lines == parse_fields(block, 100).lines

    @pytest.mark.parametrize(
        ("line", "failure"),
        [
            (b"Host: a.example", Failure.BAD_HOST),
            (b"Name : value", Failure.BAD_REQUEST),
            (b"B: \x00", Failure.BAD_REQUEST),
            (b"", Failure.BAD_REQUEST),
            (b"\r", Failure.BAD_REQUEST),
            (b"Content-Length: 1\r\nTransfer-Encoding: chunked", Failure.BAD_FRAMING),
        ],
    )
    def test_what_follows_is_judged_together_with_it(self, line: bytes, failure: Failure) -> None:
        opening = opening_of(BEGINNING + b"Cookie: a=b")
        for before in (None, opening):
            with pytest.raises(Malformed) as caught:
                parse_fields(BEGINNING + line, 100, before)
            assert caught.value.failure is failure

    def test_its_fields_are_counted(self) -> None:
        opening = opening_of(BEGINNING + b"Cookie: a=b")
        assert parse_fields(BEGINNING + b"B: 2\r\nC: 3", 7, opening).opening is opening
        with pytest.raises(Malformed) as caught:
            parse_fields(BEGINNING + b"B: 2\r\nC: 3", 6, opening)
        assert caught.value.failure is Failure.HEAD_TOO_LARGE

    def test_connection_removes_what_it_names_from_it_too(self) -> None:
        opening = opening_of(BEGINNING + b"Cookie: a=b")
        last = BEGINNING + b"Cookie: a=b"
        for before in (None, opening):
            fields = parse_fields(BEGINNING + b"B: 2\r\nConnection: A, b", 100, before, last)
            assert fields.lines == [b"Accept: */*", b"User-Agent: me"]
            assert fields.opening is None
        assert opening.kept == b"Accept: */*\r\nA: 1\r\nUser-Agent: me\r\n"

    @pytest.mark.parametrize(
        "block",
        [
            BEGINNING.removesuffix(b"\r\n"),  # nothing in it will differ
            b"Cookie: a=b\r\n" + BEGINNING + b"Cookie: a=b",
            b"User-Agent: me\r\nAccept: */*\r\nCookie: a=b",  # no Host
            b"User-Agent: me\r\n" + BEGINNING + b"Cookie: a=b",
            b"Connection: close\r\n" + BEGINNING + b"Cookie: a=b",
            b"Host: a.example\r\nConnection: keep-alive\r\nA: 1\r\nConnection: k",
        ],
    )
    def test_who_begins_unusually_has_none(self, block: bytes) -> None:
        assert twice(block).opening is None

    def test_nothing_is_taken_that_did_not_repeat(self) -> None:
        block = BEGINNING + b"Cookie: a=b"
        assert parse_fields(block, 100).opening is None
        assert parse_fields(block, 100, None, block, 1).opening is None
        another = block.replace(b"A: 1", b"A: 2")
        assert parse_fields(block, 100, None, another).opening is None
        again = block.replace(b"a=b", b"c=d")
        assert parse_fields(block, 100, None, again).opening is not None

    @pytest.mark.parametrize("line", [b"Connection: close", b"X-Forwarded-For: 1", b"X_Real_IP: 1", b"Keep-Alive: 5"])
    def test_it_ends_before_whatever_else_is_for_the_router(self, line: bytes) -> None:
        begins = b"Host: a.example\r\nA: 1\r\n"
        assert opening_of(begins + line + b"\r\nB: 2\r\nCookie: a=b").raw == begins

    def test_a_line_that_is_the_beginning_of_another_is_not_taken_for_it(self) -> None:
        begins = b"Host: a.example\r\nX-Cookie: a=b\r\nCookies: a=b\r\n"
        assert opening_of(begins + b"Cookie: a=b\r\nB: 2").raw == begins


class TestFraming:
    def test_no_body(self) -> None:
        fields = parse_fields(b"A: 1", 10)
        assert (fields.length, fields.stated) == (0, False)

    @pytest.mark.parametrize("value", [b"0", b"5", b"0005", b"9223372036854775807"])
    def test_a_stated_length(self, value: bytes) -> None:
        fields = parse_fields(b"Content-Length: " + value, 10)
        assert (fields.length, fields.stated) == (int(value), True)

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"+5",
            b"-5",
            b"1_0",
            b"0x5",
            b"5 5",
            b"5,5",
            b"\xb2",
            b"\xd9\xa5",
            b"5.0",
            b"1e3",
            b"9223372036854775808",
            5000 * b"9",
            b"\xa05",
            b"5;",
        ],
    )
    def test_what_is_no_length_is_refused(self, value: bytes) -> None:
        assert refusal(b"Content-Length: " + value) is Failure.BAD_FRAMING
        with pytest.raises(Malformed):
            parse_length([value])

    def test_one_chunked_is_the_only_coding(self) -> None:
        assert parse_fields(b"Transfer-Encoding: chunked", 10).length == CHUNKED
        assert parse_fields(b"transfer-encoding:\tCHUNKED ", 10).length == CHUNKED

    @pytest.mark.parametrize(
        ("lines", "failure"),
        [
            (b"Transfer-Encoding: gzip", Failure.BAD_FRAMING),
            (b"Transfer-Encoding: gzip, chunked", Failure.CODING_NOT_IMPLEMENTED),
            (b"Transfer-Encoding: chunked, chunked", Failure.CODING_NOT_IMPLEMENTED),
            (b"Transfer-Encoding: xchunked", Failure.BAD_FRAMING),
            (b"Transfer-Encoding: chunked;q=1", Failure.BAD_FRAMING),
            (b"Transfer-Encoding: ", Failure.BAD_FRAMING),
            (b"Transfer-Encoding: chunked\xa0", Failure.BAD_FRAMING),
            (b"Transfer-Encoding: 'chunked'\"", Failure.BAD_FRAMING),
            (b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", Failure.BAD_FRAMING),
            (b"Transfer-Encoding: chunked\r\nContent-Length: 5", Failure.BAD_FRAMING),
            (b"Content-Length: 0\r\nTransfer-Encoding: chunked", Failure.BAD_FRAMING),
            (b"Content-Length: 5\r\nContent-Length: 5", Failure.BAD_FRAMING),
        ],
    )
    def test_every_doubt_is_refused(self, lines: bytes, failure: Failure) -> None:
        assert refusal(lines) is failure


class TestNames:
    @pytest.mark.parametrize(
        ("host", "name"),
        [
            (b"", b""),
            (b"a", b"a"),
            (b"A.B", b"a.b"),
            (b"a.b:80", b"a.b"),
            (b"a.b:", b"a.b"),
            (b"a.b.", b"a.b"),
            (b"a.b.:80", b"a.b"),
            (b"my_app.b", b"my_app.b"),
            (b"xn--bcher-kva.example", b"xn--bcher-kva.example"),
            (b"192.0.2.1:8080", b"192.0.2.1"),
            (b"[2001:DB8::1]", b"[2001:db8::1]"),
            (b"[::1]:443", b"[::1]"),
        ],
    )
    def test_one_name_one_spelling(self, host: bytes, name: bytes) -> None:
        assert canonical_name(host) == name

    @pytest.mark.parametrize(
        "host", [b" ", b"a b", b"a/b", b"a@b", b"a:b", b"a:80:80", b"[a", b"a]", b"[]", b"\xe2\x84\xaa"]
    )
    def test_what_is_no_name(self, host: bytes) -> None:
        with pytest.raises(Malformed) as caught:
            canonical_name(host)
        assert caught.value.failure is Failure.BAD_HOST


class TestResponse:
    def test_the_parts_of_a_head(self) -> None:
        head = parse_response(b"HTTP/1.1 200 All is well\r\nA: 1\r\nContent-Length: 5\r\nDate: then\r\nb:2", 10)
        assert (head.status, head.line, head.minor) == (200, b"HTTP/1.1 200 All is well\r\n", 1)
        assert sorted(head.fields.split(b"\r\n")) == [b"", b"A: 1", b"Date: then", b"b:2"]
        assert (head.length, head.stated, head.has_date, head.reusable) == (5, True, True, True)

    def test_a_reason_may_be_missing(self) -> None:
        assert parse_response(b"HTTP/1.1 200", 10).line == b"HTTP/1.1 200 \r\n"
        assert parse_response(b"HTTP/1.1 200 ", 10).line == b"HTTP/1.1 200 \r\n"

    def test_without_a_length_it_ends_with_the_connection(self) -> None:
        head = parse_response(b"HTTP/1.1 200 OK\r\nA: 1", 10)
        assert (head.length, head.stated, head.framed) == (UNTIL_CLOSE, False, b"")

    @pytest.mark.parametrize("status", [100, 103, 204])
    def test_without_a_body_there_is_no_length(self, status: int) -> None:
        for framing in (b"", b"\r\nContent-Length: 9", b"\r\nTransfer-Encoding: chunked"):
            head = parse_response(b"HTTP/1.1 %d X%b" % (status, framing), 10)
            assert (head.length, head.stated) == (0, False)

    def test_304_may_repeat_the_length_of_what_it_stands_for(self) -> None:
        head = parse_response(b"HTTP/1.1 304 X\r\nContent-Length: 9", 10)
        assert (head.length, head.stated) == (9, True)
        for framing in (b"", b"\r\nTransfer-Encoding: chunked"):
            head = parse_response(b"HTTP/1.1 304 X" + framing, 10)
            assert (head.length, head.stated) == (0, False)

    @pytest.mark.parametrize(
        ("lines", "reusable"),
        [
            (b"HTTP/1.1 200 OK", True),
            (b"HTTP/1.1 200 OK\r\nConnection: close", False),
            (b"HTTP/1.1 200 OK\r\nConnection: X, Close", False),
            (b"HTTP/1.0 200 OK", False),
            (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive", True),
        ],
    )
    def test_whether_its_connection_can_be_used_again(self, lines: bytes, reusable: bool) -> None:
        assert parse_response(lines, 10).reusable is reusable

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            (b"timeout=5", 5),
            (b"max=100, timeout=30", 30),
            (b"TIMEOUT=7", 7),
            (b"xtimeout=7", 0),
            (b"timeout=x", 0),
            (b"", 0),
        ],
    )
    def test_how_long_an_app_keeps_a_connection(self, value: bytes, seconds: int) -> None:
        assert parse_response(b"HTTP/1.1 200 OK\r\nKeep-Alive: " + value, 10).idle == seconds

    def test_too_many_fields(self) -> None:
        with pytest.raises(Malformed) as caught:
            parse_response(b"HTTP/1.1 200 OK" + 11 * b"\r\nA: 1", 10)
        assert caught.value.failure is Failure.RESPONSE_HEAD_TOO_LARGE

    def test_set_cookie_is_never_remembered(self) -> None:
        head = parse_response(b"HTTP/1.1 200 OK\r\nSet-Cookie: s3cret", 10)
        assert head.fields == b"Set-Cookie: s3cret\r\n"
        assert not any(b"s3cret" in line for line in parser._response_memo.plain)

    def test_upgrade_is_noted_and_not_passed_on(self) -> None:
        head = parse_response(b"HTTP/1.1 101 Switching\r\nUpgrade: WebSocket\r\nConnection: upgrade", 10)
        assert (head.upgrade, head.fields) == (b"websocket", b"")

    def test_names_that_mean_something_in_requests_only(self) -> None:
        lines = b"User-Agent: x\r\nHost: y\r\nX-Forwarded-For: z\r\n"
        assert parse_response(b"HTTP/1.1 200 OK\r\n" + lines[:-2], 10).fields == lines


def test_a_refusal_does_not_quote_what_was_sent() -> None:
    """Its text may end in a log."""
    for block in (b"Cookie : s3cret", b"Host: s3cret s3cret", b"Content-Length: s3cret", b"Expect: s3cret"):
        with pytest.raises(Malformed) as caught:
            parse_fields(block, 10)
        assert "s3cret" not in str(caught.value)
