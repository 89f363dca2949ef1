"""One request, one line, whatever a stranger writes; and nothing secret in it."""

from __future__ import annotations

import json
import re

import pytest

from drycc_proxy.metrics import Counters
from drycc_proxy.telemetry.access_log import MAX_STRAYS, AccessLog, json_text, quoted_text
from tests.fakes.story import GET, HOST, Story

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BREAKERS = [
    b'"',
    b"\\",
    b'\\"',
    b'","response_code":200,"x":"',
    b'"}',
    b"\\u0000",
    b"%0a",
    b"\t",
    b"\xff",
    b"\xc3\xa9",
    b"\xe2\x80\xa8",
    b"{}",
    b"[]",
    b"'",
    b"</script>",
    b" - ",
    b" - - - ",
    b"- -",
    b"\x80\x81",
    b"\\x22",
]
"""What breaks log lines, as far as a field value may hold it."""
FRAMES = [b"%b", b"%b%b", b"before%bafter", 200 * b"%b", b"a %b - %b b"]
PAYLOADS = [frame.replace(b"%b", breaker) for frame in FRAMES for breaker in BREAKERS]
assert len(PAYLOADS) == 100


def tells(story: Story, log_format: str, *lines: bytes, path: bytes = b"/", answer: bytes = OK) -> bytes:
    """The log line of a request with these field lines."""
    if story.edge.log_format != log_format:
        story.is_set(log_format=log_format)
    story.calls()
    story.client(b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n")
    app = story.lends(reused=True) if story.apps else story.lends()
    app.hears(...)
    app.says(answer)
    story.core.log.flush()
    written = b"".join(story.log)
    story.log.clear()
    assert written.endswith(b"\n") and written.count(b"\n") == 1
    assert re.fullmatch(rb"[\x20-\x7e]*\n", written)
    return written


def shortened(value: str) -> str:
    """As much of it as has room in 1,024 bytes of a line."""
    while len(json.dumps(value)) - 2 > 1024:
        value = value[:-1]
    return value


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_payload_breaks_a_line(story: Story, payload: bytes) -> None:
    """In the three formats, in every field that comes from the client."""
    in_path = b"/" + re.sub(rb"[\x00-\x20\x7f#?]", b"", payload)
    lines = (b"User-Agent: " + payload, b"Referer: " + payload, b"Accept: x")
    told = json.loads(tells(story, "json", *lines, path=in_path))
    value = payload.strip(b" \t").decode("latin-1")
    assert told["user_agent"] == shortened(value)
    assert told["referer"] == shortened(value.partition("?")[0])
    assert told["path"] == shortened(in_path.decode("latin-1"))
    assert told["response_code"] == 200
    assert re.fullmatch(
        rb'203\.0\.113\.7 - - \[[^]]+\] "GET [^" ]* HTTP/1\.1" 200 2 "[^"]*" "[^"]*"\n',
        tells(story, "combined", *lines, path=in_path),
    )
    deis = tells(story, "deis", *lines, path=in_path).rstrip(b"\n").split(b" - ")
    assert len(deis) == 14
    assert (deis[1], deis[4], deis[6]) == (b"shop", b"200", b"2")


@pytest.mark.parametrize("name", [b"User-Agent", b"Referer"])
def test_one_field_alone_breaks_no_line_either(story: Story, name: bytes) -> None:
    told = json.loads(tells(story, "json", name + b': "},{"\\'))
    assert told[name.decode().lower().replace("-", "_")] == '"},{"\\'


SECRETS = (
    b"Cookie: session=s3cret",
    b"Authorization: Bearer s3cret",
    b"Proxy-Authorization: Basic s3cret",
    b"X-Api-Key: s3cret",
    b"Referer: https://shop.example/reset?token=s3cret",
)


@pytest.mark.parametrize("log_format", ["json", "combined", "deis"])
def test_queries_cookies_and_credentials_stay_out(story: Story, log_format: str) -> None:
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: s3cret\r\nContent-Length: 2\r\n\r\nok"
    line = tells(story, log_format, *SECRETS, path=b"/reset?token=s3cret", answer=answer)
    assert b"s3cret" not in line
    assert b"/reset" in line


def test_a_line_in_json(story: Story) -> None:
    story.client(b"POST /a%20b?c=d HTTP/1.1\r\nHost: Shop.example:80\r\nUser-Agent: me\r\nContent-Length: 3\r\n\r\nabc")
    story.passes(0.5)
    story.lends().says(OK)
    [line] = story.lines()
    assert re.fullmatch("[0-9a-f]{32}", line.pop("request_id"))
    assert line == {
        "time": "2026-09-21T14:13:20.000Z",
        "response_code": 200,
        "method": "POST",
        "path": "/a%20b",
        "protocol": "HTTP/1.1",
        "duration_ms": 500.0,
        "ttfb_ms": 0.0,
        "overhead_ms": 500.0,
        "upstream_host": "10.0.0.1:8080",
        "attempts": 1,
        "bytes_in": 3,
        "bytes_out": 2,
        "error_reason": "",
        "app": "shop",
        "namespace": "shop",
        "service": "web",
        "authority": "Shop.example:80",
        "scheme": "http",
        "downstream_remote_address": "203.0.113.7",
        "user_agent": "me",
        "referer": "",
    }


def test_a_line_in_combined(story: Story) -> None:
    line = tells(story, "combined", b"Referer: http://x.example/?q", b"User-Agent: me", path=b"/a?b")
    assert line == b'203.0.113.7 - - [21/Sep/2026:14:13:20 +0000] "GET /a HTTP/1.1" 200 2 "http://x.example/" "me"\n'


def test_a_line_in_deis(story: Story) -> None:
    line = tells(story, "deis", b"User-Agent: me")
    assert line == (
        b'[2026-09-21T14:13:20+00:00] - shop - 203.0.113.7 - - - 200 - "GET / HTTP/1.1" - 2 - "-" - "me" - '
        b'"shop.example" - 10.0.0.1:8080 - shop.example - 0.000 - 0.000\n'
    )


@pytest.mark.parametrize("log_format", ["json", "combined", "deis"])
def test_lines_of_requests_that_met_no_app(story: Story, log_format: str) -> None:
    story.is_set(log_format=log_format)
    story.client(b"GET /x HTTP/1.1\r\nHost: nobody.example\r\n\r\n")
    story.client(b"what is this\r\n\r\n")
    story.core.log.flush()
    lines = b"".join(story.log).splitlines()
    assert len(lines) == 2
    if log_format == "json":
        unknown, bad = map(json.loads, lines)
        assert (unknown["app"], unknown["upstream_host"], unknown["authority"]) == ("", "", "nobody.example")
        assert (bad["method"], bad["path"], bad["protocol"], bad["error_reason"]) == ("", "", "", "bad_request")
    if log_format == "combined":
        assert b'] "-" 400 ' in lines[1]
    if log_format == "deis":
        assert [line.split(b" - ")[1] for line in lines] == 2 * [b"router-default-vhost"]
        assert [len(line.split(b" - ")) for line in lines] == [14, 14]


@pytest.mark.parametrize("log_format", ["json", "combined", "deis"])
def test_a_method_that_looks_like_a_placeholder_hides_nothing(story: Story, log_format: str) -> None:
    story.is_set(log_format=log_format)
    story.client(b"- /secret/door HTTP/1.1\r\n" + HOST + b"\r\n")
    app = story.lends()
    app.hears(b"- /secret/door HTTP/1.1\r\n", ...)
    app.says(OK)
    story.core.log.flush()
    [line] = b"".join(story.log).splitlines()
    if log_format == "json":
        told = json.loads(line)
        assert (told["method"], told["path"], told["protocol"]) == ("-", "/secret/door", "HTTP/1.1")
    else:
        assert b'"- /secret/door HTTP/1.1"' in line
    if log_format == "deis":
        assert len(line.split(b" - ")) == 14


def test_the_client_behind_a_trusted_peer_is_the_one_in_the_log(story: Story) -> None:
    story.is_set(trusted=("203.0.113.7/32",))
    line = json.loads(tells(story, "json", b"X-Forwarded-For: 198.51.100.9", b"X-Forwarded-Proto: https"))
    assert (line["downstream_remote_address"], line["scheme"]) == ("198.51.100.9", "https")


def test_repeated_heads_are_logged_for_the_app_that_answered(story: Story) -> None:
    """What repeats is remembered with its route, not without it."""
    story.client(GET)
    story.lends().says(OK)
    story.serves(b"shop.example", route="other/app", endpoints=(("10.0.0.9", 1),))
    story.client(GET)
    story.lends().says(OK)
    assert [line["app"] for line in story.lines()] == ["shop", "other"]


def test_a_full_batch_is_written_at_once(story: Story) -> None:
    story.client(255 * b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n")
    assert story.log == []
    story.client(b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n")
    [batch] = story.log
    assert batch.count(b"\n") == 256
    assert story.core.counters.log_lines == 256


def test_lines_that_the_sink_gave_up_are_counted(story: Story) -> None:
    counters = Counters()
    log = AccessLog(lambda batch: False, counters)
    story.core.log = log
    story.client(b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n")
    log.flush()
    assert (counters.log_lines, counters.log_dropped) == (1, 1)


def test_without_a_sink_there_is_no_log() -> None:
    log = AccessLog(None, Counters())
    log.configure("json", True)
    assert not log.active
    log.flush()


def test_a_change_of_format_leaves_earlier_lines_as_they_were_meant(story: Story) -> None:
    story.client(b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n")
    story.is_set(log_format="combined")
    story.client(b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n")
    story.core.log.flush()
    first, second = b"".join(story.log).splitlines()
    assert json.loads(first)["response_code"] == 404
    assert second.startswith(b"203.0.113.7 - - [")


def test_times_move_on_from_second_to_second(story: Story) -> None:
    for _ in range(3):
        story.client(b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n")
        story.passes(0.7)
    assert [line["time"][17:] for line in story.lines()] == ["20.000Z", "20.700Z", "21.400Z"]


@pytest.mark.parametrize("value", [*BREAKERS, b"plain", b"", bytes(range(128)), bytes(range(128, 256))])
def test_json_text_is_the_inside_of_a_string(value: bytes) -> None:
    assert json.loads(b'"' + json_text(value) + b'"') == value.decode("latin-1")


@pytest.mark.parametrize("value", [*BREAKERS, b"plain", bytes(range(256))])
def test_quoted_text_can_be_read_back(value: bytes) -> None:
    text = quoted_text(value)
    assert re.fullmatch(rb"[\x20-\x7e]*", text) and b'"' not in text
    assert re.sub(rb"\\x([0-9A-F]{2})", lambda match: bytes.fromhex(match[1].decode()), text) == value


def test_an_empty_quoted_text_is_a_dash() -> None:
    assert quoted_text(b"") == b"-"


def test_long_values_are_shortened() -> None:
    assert len(json_text(5000 * b"x")) == len(quoted_text(5000 * b"x")) == 1024


@pytest.mark.parametrize("log_format", ["json", "combined", "deis"])
@pytest.mark.parametrize("filling", [b"\xff", b"\\", b"- ", b"\t\\", b"a"], ids=repr)
def test_no_line_is_longer_than_a_pipe_takes_at_once(story: Story, log_format: str, filling: bytes) -> None:
    """So lines of several processes do not mix, whatever their clients send (``telemetry.log_sink``)."""
    much = 3000 * filling
    lines = (b"User-Agent: x" + much + b"x", b"Referer: x" + much + b"x", b"X-Request-Id: " + 128 * b"a")
    path = b"/" + re.sub(rb"[\x00-\x20]", b"", much)
    line = tells(story, log_format, *lines, path=path)
    assert len(line) <= 4096
    assert b"\\" not in re.sub(rb"\\(?:x[0-9A-F]{2}|u[0-9a-f]{4}|[^ux])", b"", line)
    if log_format == "json":
        assert {"x" + filling.decode("latin-1")} == {
            json.loads(line)[name][: 1 + len(filling)] for name in ("user_agent", "referer")
        }


def test_a_flood_of_strangers_fills_no_disk(story: Story) -> None:
    """S-11: a thousand lines a second about what nobody serves; who is served is logged all the same."""
    asked = b"GET /%d HTTP/1.1\r\nHost: nobody%d.example\r\n\r\n"
    story.client(*(asked % (number, number) for number in range(MAX_STRAYS + 500)))
    story.client_hears(...)
    story.client(GET)
    story.lends().says(b"HTTP/1.1 204 No Content\r\n\r\n")
    codes = [line["response_code"] for line in story.lines()]
    assert (codes.count(404), codes.count(204)) == (MAX_STRAYS, 1)
    assert story.core.counters.log_spared == 500
    assert sum(story.core.counters.unrouted.requests.values()) == MAX_STRAYS + 500
    story.passes(1)
    story.client(asked % (0, 0))
    assert [line["response_code"] for line in story.lines()] == [404]
