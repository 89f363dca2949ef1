"""What the app hears about the client and the request, and what nobody but the router may say (contract 6)."""

from __future__ import annotations

import re

import pytest

from drycc_proxy.http1.parser import _ROUTER_OWNED
from tests.fakes.story import GET, HOST, AppEnd, Story, fields_of

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def asks(story: Story, *lines: bytes, secure: bool = False, address: str = "203.0.113.7") -> dict[bytes, list[bytes]]:
    """The fields that the app hears of a request with these field lines."""
    story.calls(address, secure=secure, sni=b"shop.example" if secure else b"")
    story.client(b"GET / HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n")
    return fields_of(story.lends().hears(...))


def test_what_every_app_hears(story: Story) -> None:
    fields = asks(story, b"Accept: */*", b"User-Agent: me/1.0")
    identity = fields.pop(b"x-request-id")
    assert re.fullmatch(rb"[0-9a-f]{32}", identity[0])
    assert fields == {
        b"host": [b"shop.example"],
        b"accept": [b"*/*"],
        b"user-agent": [b"me/1.0"],
        b"x-forwarded-for": [b"203.0.113.7"],
        b"x-forwarded-proto": [b"http"],
        b"x-forwarded-host": [b"shop.example"],
        b"x-forwarded-port": [b"80"],
        b"x-real-ip": [b"203.0.113.7"],
        b"x-correlation-id": identity,
        b"x-router-hops": [b"1"],
    }


def test_over_tls(story: Story) -> None:
    fields = asks(story, secure=True, address="2001:db8::7")
    assert fields[b"x-forwarded-proto"] == [b"https"]
    assert fields[b"x-forwarded-port"] == [b"443"]
    assert fields[b"x-forwarded-for"] == fields[b"x-real-ip"] == [b"2001:db8::7"]


def test_the_public_port_of_https_is_told_also_on_connections_that_were_open_when_it_was_set(story: Story) -> None:
    story.calls(secure=True, sni=b"shop.example")
    story.client(GET)
    app = story.lends()
    assert fields_of(app.hears(...))[b"x-forwarded-port"] == [b"443"]
    app.says(OK)
    for port in (8443, 10443):
        story.is_set(https_port=port)
        story.client(GET)
        assert fields_of(app.hears(...))[b"x-forwarded-port"] == [b"%d" % port]
        app.says(OK)
    story.calls()
    story.client(GET)
    assert fields_of(app.hears(...))[b"x-forwarded-port"] == [b"80"]  # it is not the port of http


LIES = (
    b"X-Forwarded-For: 10.0.0.1",
    b"X-Forwarded-For: 10.0.0.2",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Host: evil.example",
    b"X-Forwarded-Port: 4443",
    b"X-Forwarded-Prefix: /evil",
    b"X-Forwarded-Server: evil",
    b"X-Forwarded-Ssl: on",
    b"X-Real-IP: 10.0.0.3",
    b"Forwarded: for=10.0.0.4;host=evil.example",
)


def test_a_strangers_words_about_itself_are_dropped(story: Story) -> None:
    honest = asks(story)
    lying = asks(story, *LIES)
    for name in (b"x-request-id", b"x-correlation-id"):
        del honest[name], lying[name]
    assert lying == honest


@pytest.mark.parametrize(
    "line",
    [b"X_Forwarded_For: 10.0.0.1", b"X-Forwarded_For: 10.0.0.1", b"x_real_ip: 10.0.0.1", b"X_Request_Id: abc",
     b"Content_Length: 5", b"Transfer_Encoding: chunked", b"X_Forwarded_Host: evil", b"Proxy_Authorization: x"],
)  # fmt: skip
def test_aliases_with_an_underscore_are_dropped(story: Story, line: bytes) -> None:
    assert line.partition(b":")[0].lower() not in asks(story, line)


def folded(name: bytes) -> bytes:
    """A field name as CGI, WSGI and PHP servers pass it to an app."""
    return re.sub(rb"[^0-9A-Z]", b"_", name.upper())


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("character", [bytes([each]) for each in b"!#$%&'*+.^_`|~"])
def test_nothing_that_an_app_could_take_for_the_routers_word_reaches_it(
    story: Story, character: bytes, trusted: bool
) -> None:
    """Every name that the router sets or acts on, with each other character of a token in place of each hyphen."""
    if trusted:
        story.is_set(trusted=("10.0.0.0/8",))
    owned = [*sorted(_ROUTER_OWNED), b"x-forwarded-user", b"X-Forwarded-Client-Cert"]
    aliases = [name.replace(b"-", character) for name in owned if b"-" in name]
    aliases += [name.replace(b"-", character, 1).upper() for name in owned if name.count(b"-") > 1]
    story.is_set(max_fields=1000)
    for _ in range(2):  # the second time from the memo
        fields = asks(story, *(name + b": evil" for name in aliases), address="10.1.1.1")
        assert [name for name, values in fields.items() if b"evil" in values] == []
        ours = {folded(name) for name in owned}
        assert len([name for name in fields if folded(name) in ours]) == len({folded(name) for name in fields} & ours)
        story.apps[-1].says(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")


def test_names_that_differ_in_a_letter_or_in_length_pass(story: Story) -> None:
    names = (b"XForwardedFor", b"X--Forwarded-For", b"X.Custom", b"Content.Type", b"X.Real.IPs")
    fields = asks(story, *(name + b": 1" for name in names))
    assert [name for name in names if fields.get(name.lower()) != [b"1"]] == []


def test_other_names_with_an_underscore_pass(story: Story) -> None:
    assert asks(story, b"X_Custom: 1")[b"x_custom"] == [b"1"]


def test_a_trusted_peer_is_believed(story: Story) -> None:
    story.is_set(trusted=("10.0.0.0/8",))
    fields = asks(story, b"X-Forwarded-For: 198.51.100.9", *LIES[2:], address="10.1.1.1")
    assert fields[b"x-forwarded-for"] == [b"198.51.100.9, 10.1.1.1"]
    assert fields[b"x-real-ip"] == [b"198.51.100.9"]
    assert fields[b"x-forwarded-proto"] == [b"https"]
    assert fields[b"x-forwarded-host"] == [b"evil.example"]
    assert fields[b"x-forwarded-port"] == [b"4443"]
    assert fields[b"forwarded"] == [b"for=10.0.0.4;host=evil.example"]
    assert fields[b"x-forwarded-prefix"] == [b"/evil"]


@pytest.mark.parametrize(
    ("said", "client", "chain"),
    [
        ((b"198.51.100.9",), b"198.51.100.9", b"198.51.100.9, 10.1.1.1"),
        ((b"6.6.6.6, 198.51.100.9",), b"198.51.100.9", b"198.51.100.9, 10.1.1.1"),
        ((b"6.6.6.6", b"198.51.100.9"), b"198.51.100.9", b"198.51.100.9, 10.1.1.1"),
        ((b"198.51.100.9, 10.2.2.2",), b"198.51.100.9", b"198.51.100.9, 10.2.2.2, 10.1.1.1"),
        ((b"198.51.100.9:4711",), b"198.51.100.9", b"198.51.100.9, 10.1.1.1"),
        ((b"[2001:db8::9]:4711",), b"2001:db8::9", b"2001:db8::9, 10.1.1.1"),
        ((b"unknown, 198.51.100.9",), b"198.51.100.9", b"198.51.100.9, 10.1.1.1"),
        ((b"198.51.100.9, unknown",), b"10.1.1.1", b"10.1.1.1"),
        ((b"198.51.100.9, ",), b"198.51.100.9", b"198.51.100.9, 10.1.1.1"),
        ((b",, 198.51.100.9 ,\t,", b"", b" , "), b"198.51.100.9", b"198.51.100.9, 10.1.1.1"),
        ((b"6.6.6.6,, 198.51.100.9,,10.2.2.2",), b"198.51.100.9", b"198.51.100.9, 10.2.2.2, 10.1.1.1"),
        ((b"::ffff:198.51.100.9, ::FFFF:10.2.2.2",), b"198.51.100.9", b"198.51.100.9, 10.2.2.2, 10.1.1.1"),
        ((b"[::ffff:c633:6409]:4711",), b"198.51.100.9", b"198.51.100.9, 10.1.1.1"),
        ((b"::198.51.100.9",), b"::c633:6409", b"::c633:6409, 10.1.1.1"),  # no mapped address (RFC 4291 2.5.5)
        ((b"fe80::1%\"><script>",), b"10.1.1.1", b"10.1.1.1"),
        ((b"\xff",), b"10.1.1.1", b"10.1.1.1"),
        ((b"10.2.2.2, 10.3.3.3",), b"10.2.2.2", b"10.2.2.2, 10.3.3.3, 10.1.1.1"),
        ((), b"10.1.1.1", b"10.1.1.1"),
    ],
)  # fmt: skip
def test_the_client_is_the_first_from_the_right_that_is_not_trusted(
    story: Story, said: tuple[bytes, ...], client: bytes, chain: bytes
) -> None:
    story.is_set(trusted=("10.0.0.0/8",))
    fields = asks(story, *(b"X-Forwarded-For: " + value for value in said), address="10.1.1.1")
    assert fields[b"x-real-ip"] == [client]
    assert fields[b"x-forwarded-for"] == [chain]


@pytest.mark.parametrize(
    ("lines", "secure", "proto", "port"),
    [
        ((b"X-Forwarded-Proto: https",), False, b"https", b"443"),
        ((b"X-Forwarded-Proto: HTTPS",), False, b"https", b"443"),
        ((b"X-Forwarded-Proto: wss",), False, b"https", b"443"),
        ((b"X-Forwarded-Proto: http, https",), False, b"https", b"443"),
        ((b"X-Forwarded-Proto: https, http",), False, b"http", b"80"),
        ((b"X-Forwarded-Proto: gopher",), False, b"http", b"80"),
        ((b"X-Forwarded-Proto: http",), True, b"https", b"443"),
        ((b"X-Forwarded-Proto: https, , ",), False, b"https", b"443"),
        ((b"X-Forwarded-Port: x",), False, b"http", b"80"),
        ((b"X-Forwarded-Port: 65535",), False, b"http", b"65535"),
        ((b"X-Forwarded-Port: 65536",), False, b"http", b"80"),
        ((b"X-Forwarded-Port: 8080",), False, b"http", b"8080"),
        ((b"X-Forwarded-Proto: https", b"X-Forwarded-Port: 8443"), False, b"https", b"8443"),
        ((b"X-Forwarded-Port: 8443", b"X-Forwarded-Proto: https"), False, b"https", b"8443"),
        ((b"X-Forwarded-Port: 80", b"X-Forwarded-Proto: https"), False, b"https", b"80"),
        ((b"X-Forwarded-Proto: https", b"X-Forwarded-Port: 80"), False, b"https", b"80"),
        ((b"X-Forwarded-Proto: https", b"X-Forwarded-Proto: http"), False, b"http", b"80"),
    ],
)
def test_what_a_trusted_peer_says_about_the_scheme(
    story: Story, lines: tuple[bytes, ...], secure: bool, proto: bytes, port: bytes
) -> None:
    story.is_set(trusted=("10.0.0.0/8",))
    fields = asks(story, *lines, secure=secure, address="10.1.1.1")
    assert fields[b"x-forwarded-proto"] == [proto]
    assert fields[b"x-forwarded-port"] == [port]


def test_a_trusted_peer_that_names_no_port_means_the_public_one(story: Story) -> None:
    story.is_set(trusted=("10.0.0.0/8",), https_port=8443)
    for secure, said in ((False, b"https"), (True, b"http")):
        fields = asks(story, b"X-Forwarded-Proto: " + said, secure=secure, address="10.1.1.1")
        assert (fields[b"x-forwarded-proto"], fields[b"x-forwarded-port"]) == ([b"https"], [b"8443"])
    assert asks(story, b"X-Forwarded-Proto: http", address="10.1.1.1")[b"x-forwarded-port"] == [b"80"]


@pytest.mark.parametrize("value", [b"<script>", b"", b"a.example:65536", b"a.example:80:80", b"[::1"])
def test_a_forwarded_host_that_is_none_is_not_believed(story: Story, value: bytes) -> None:
    story.is_set(trusted=("10.0.0.0/8",))
    fields = asks(story, b"X-Forwarded-Host: " + value, address="10.1.1.1")
    assert fields[b"x-forwarded-host"] == [b"shop.example"]


@pytest.mark.parametrize(
    "identity", [b"abc-123", b"018f6b2e-7c1f-7d2e-b9a2-0242ac120002", b"a" * 128, b"A.b:c/d+e=f@g"]
)
def test_a_well_formed_request_id_is_kept(story: Story, identity: bytes) -> None:
    fields = asks(story, b"X-Request-Id: " + identity)
    assert fields[b"x-request-id"] == [identity]
    story.apps[-1].says(OK)
    assert fields_of(story.client_hears(...))[b"x-request-id"] == [identity]
    assert story.lines()[-1]["request_id"] == identity.decode()


@pytest.mark.parametrize("identity", [b"", b"a b", b'"', b"<x>", b"a" * 129, b"\xe9", b"a\tb", b"{}"])
def test_any_other_request_id_is_replaced(story: Story, identity: bytes) -> None:
    [made] = asks(story, b"X-Request-Id: " + identity)[b"x-request-id"]
    assert re.fullmatch(rb"[0-9a-f]{32}", made)


def test_of_two_request_ids_the_first_good_one_counts(story: Story) -> None:
    assert asks(story, b"X-Request-Id: <>", b"X-Request-Id: one", b"X-Request-Id: two")[b"x-request-id"] == [b"one"]


def test_ids_differ_also_when_the_heads_do_not(story: Story) -> None:
    story.client(3 * GET)
    app = story.lends()
    seen = set()
    for _ in range(3):
        seen.add(fields_of(app.hears(...))[b"x-request-id"][0])
        app.says(OK)
    assert len(seen) == 3


def test_a_correlation_id_grows_with_each_request(story: Story) -> None:
    fields = asks(story, b"X-Correlation-Id: outer", b"X-Request-Id: inner")
    assert fields[b"x-correlation-id"] == [b"outer,inner"]
    story.apps[-1].says(OK)
    assert fields_of(story.client_hears(...))[b"x-correlation-id"] == [b"outer,inner"]


def test_ids_can_be_switched_off(story: Story) -> None:
    story.is_set(request_ids=False)
    fields = asks(story, b"X-Request-Id: mine")
    assert not {b"x-request-id", b"x-correlation-id"} & fields.keys()
    story.apps[-1].says(OK)
    story.caller.hears_without(b"x-request-id", b"x-correlation-id")


def test_traceparent_passes_untouched(story: Story) -> None:
    value = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert asks(story, b"traceparent: " + value)[b"traceparent"] == [value]


HOP_BY_HOP = (
    b"Keep-Alive: timeout=5",
    b"Proxy-Connection: keep-alive",
    b"Proxy-Authorization: Basic c2VjcmV0",
    b"Proxy: http://evil.example",
    b"TE: gzip",
    b"Trailer: X-Checksum",
    b"Upgrade: h2c",
    b"HTTP2-Settings: AAMAAABkAAQAAP__",
    b"Connection: keep-alive, Upgrade, HTTP2-Settings",
)


def test_fields_of_one_hop_end_here(story: Story) -> None:
    plain = asks(story)
    hopped = asks(story, *HOP_BY_HOP)
    for name in (b"x-request-id", b"x-correlation-id"):
        del plain[name], hopped[name]
    assert hopped == plain


def test_fields_that_connection_names_end_here(story: Story) -> None:
    fields = asks(story, b"X-Private: 1", b"x-private: 2", b"X-Public: 3", b"Connection: close, X-Private")
    assert b"x-private" not in fields
    assert fields[b"x-public"] == [b"3"]


def test_connection_cannot_remove_what_protects_the_app(story: Story) -> None:
    fields = asks(
        story,
        b"Cookie: a=1",
        b"Authorization: Basic x",
        b"Content-Type: text/plain",
        b"Connection: host, cookie, authorization, content-type, x-forwarded-for, x-real-ip, x-request-id",
    )
    assert fields[b"host"] == [b"shop.example"]
    assert fields[b"cookie"] == [b"a=1"]
    assert fields[b"authorization"] == [b"Basic x"]
    assert fields[b"content-type"] == [b"text/plain"]
    assert fields[b"x-forwarded-for"] == fields[b"x-real-ip"] == [b"203.0.113.7"]
    assert len(fields[b"x-request-id"]) == 1


def test_connection_cannot_remove_the_length_of_a_body(story: Story) -> None:
    story.client(b"POST / HTTP/1.1\r\n" + HOST + b"Connection: content-length\r\nContent-Length: 3\r\n\r\nabc")
    assert fields_of(story.lends().hears(..., b"\r\n\r\nabc"))[b"content-length"] == [b"3"]


def test_connection_cannot_remove_the_chunks_of_a_body(story: Story) -> None:
    story.client(
        b"POST / HTTP/1.1\r\n" + HOST + b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n"
    )
    fields = fields_of(story.lends().hears(..., b"\r\n\r\n3\r\nabc\r\n"))
    assert fields[b"transfer-encoding"] == [b"chunked"]


def test_repeated_fields_keep_their_order(story: Story) -> None:
    fields = asks(story, b"Cookie: a=1", b"X-List: 1", b"Cookie: b=2", b"X-List: 2", b"Accept: x", b"X-List: 3")
    assert fields[b"x-list"] == [b"1", b"2", b"3"]
    assert fields[b"cookie"] == [b"a=1", b"b=2"]


@pytest.mark.parametrize("lines", [(b"TE: trailers",), (b"TE: gzip, trailers", b"Connection: TE")])
def test_of_te_only_trailers_pass(story: Story, lines: tuple[bytes, ...]) -> None:
    assert asks(story, *lines)[b"te"] == [b"trailers"]


def test_one_clients_words_never_reach_another_request(story: Story) -> None:
    """The same field lines from different clients, one after the other over one connection to the app."""
    app: AppEnd | None = None
    for address in ("203.0.113.1", "203.0.113.2", "2001:db8::3"):
        story.calls(address)
        story.client(GET)
        app = story.lends(reused=True) if app else story.lends()
        assert fields_of(app.hears(...))[b"x-real-ip"] == [address.encode()]
        app.says(OK)
        story.client_hears(...)
