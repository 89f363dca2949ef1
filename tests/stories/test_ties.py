"""Apps that authenticate connections (NTLM, Negotiate): who shares no connection with others."""

from __future__ import annotations

import pytest

from drycc_proxy.http1 import parser
from tests.fakes.story import GET, HOST, POD, POD_2, AppEnd, Story

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHALLENGE = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nContent-Length: 2\r\n\r\nno"
SIGNED = GET.replace(b"\r\n\r\n", b"\r\nAuthorization: NTLM TlRMTVNTUAABAAAA\r\n\r\n")
CHALLENGES = [
    b"WWW-Authenticate: NTLM",
    b"www-authenticate: ntlm TlRMTVNTUAACAAAA",
    b"WWW-Authenticate: Negotiate",
    b'WWW-Authenticate: Basic realm="a, b", Negotiate',
    b"WWW-Authenticate: Basic realm=x\r\nWWW-Authenticate: Nego2",
    b"Proxy-Authenticate: Negotiate",
]
CREDENTIALS = [b"Authorization: NTLM TlRMTVNTUAABAAAA", b"authorization: negotiate YII", b"Authorization:Nego2 x"]


def is_authenticated(story: Story) -> AppEnd:
    """A client whose connection to the app is authenticated and idle."""
    story.client(GET)
    app = story.lends()
    app.says(CHALLENGE)
    story.client_hears(..., b"WWW-Authenticate: NTLM\r\n", ..., b"no")
    story.client(SIGNED)
    app.hears(..., b"Authorization: NTLM TlRMTVNTUAABAAAA\r\n", ...)
    app.says(OK)
    story.client_hears(..., b"ok")
    return app


def is_tied(story: Story, app: AppEnd) -> bool:
    """Whether the app's connection serves its client, and only that."""
    mine = story.caller
    stranger = story.calls("198.51.100.9")
    stranger.says(GET)
    other = story.lends(reused=not story.dialled)
    if other is app:
        return False
    other.hears(b"GET / HTTP/1.1\r\n", ...)
    other.says(OK)
    stranger.hears(..., b"ok")
    mine.says(GET)
    app.hears(..., b"GET / HTTP/1.1\r\n", ...)
    app.says(OK)
    mine.hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")
    stranger.resets()
    story.callers.remove(stranger)
    return True


@pytest.mark.parametrize("challenge", CHALLENGES)
@pytest.mark.parametrize("status", [401, 407, 200])
def test_an_answer_that_asks_for_an_identity_ties_its_connection(story: Story, challenge: bytes, status: int) -> None:
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.1 %d X\r\n%b\r\nContent-Length: 2\r\n\r\nno" % (status, challenge))
    story.client_hears(..., b"no")
    assert is_tied(story, app)


@pytest.mark.parametrize("credentials", CREDENTIALS)
@pytest.mark.parametrize("warm", [False, True])
def test_a_request_with_such_credentials_ties_its_connection(story: Story, credentials: bytes, warm: bool) -> None:
    app = story.keeps_warm() if warm else None
    story.client(GET.replace(b"\r\n\r\n", b"\r\n" + credentials + b"\r\n\r\n"))
    app = app or story.lends()
    app.hears(..., credentials, ...)
    app.says(OK)
    story.client_hears(..., b"ok")
    assert is_tied(story, app)


@pytest.mark.parametrize(
    "field",
    [
        b'WWW-Authenticate: Basic realm="x"',
        b"WWW-Authenticate: Bearer",
        b"WWW-Authenticate: NTLMish, Negotiate2 x",
        b"X-Authenticate: NTLM",
    ],
)
def test_what_authenticates_requests_ties_nothing(story: Story, field: bytes) -> None:
    story.client(GET)
    app = story.lends()
    app.says(b"HTTP/1.1 401 Unauthorized\r\n" + field + b"\r\nContent-Length: 2\r\n\r\nno")
    story.client_hears(..., field + b"\r\n", ..., b"no")
    story.client(GET.replace(b"\r\n\r\n", b"\r\nAuthorization: Basic YTpi\r\n\r\n"))
    app.hears(..., b"Authorization: Basic YTpi\r\n", ...)
    app.says(OK)
    story.calls("198.51.100.9")
    story.client(GET)
    assert story.dialled == []
    app.hears(b"GET ", ...)


def test_a_tie_is_for_good(story: Story) -> None:
    """Requests of the client come without credentials from here on, and the connection is nobody else's ever."""
    app = is_authenticated(story)
    for _ in range(3):
        assert is_tied(story, app)
    assert story.core.counters.upstream_idle == 1  # the stranger's
    story.client_leaves()
    assert not app.is_kept


@pytest.mark.parametrize("how", ["leaves", "says goodbye", "is idle for too long", "closes after this"])
def test_it_ends_with_the_client(story: Story, how: str) -> None:
    app = is_authenticated(story)
    if how == "leaves":
        story.client_leaves()
    elif how == "says goodbye":
        story.caller.closes()
    elif how == "is idle for too long":
        story.passes(80)
    else:
        story.client(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        app.says(OK)
        story.client_hears(..., b"Connection: close\r\n", ..., b"ok")
        story.caller.closes()
        story.loop.settle()
    assert not app.is_kept
    assert story.core.counters.upstream_idle == 0


@pytest.mark.parametrize("how", ["closes", "resets", "is idle for too long", "is removed"])
def test_its_client_ends_with_the_app(story: Story, how: str) -> None:
    app = is_authenticated(story)
    if how == "closes":
        app.closes()
    elif how == "resets":
        app.resets()
    elif how == "is idle for too long":
        story.passes(62)
    else:
        story.serves(endpoints=(POD_2,))
    assert not app.is_kept
    assert not story.caller.is_kept


def test_an_answer_that_ends_the_tie_says_so_to_the_client(story: Story) -> None:
    app = is_authenticated(story)
    story.client(GET)
    app.hears(...)
    app.says(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"Connection: close\r\n", ..., b"ok")
    assert not story.caller.is_kept


def test_a_removed_endpoint_finishes_its_tied_request(story: Story) -> None:
    app = is_authenticated(story)
    story.client(GET)
    story.serves(endpoints=(POD_2,))
    app.hears(...)
    app.says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"Connection: close\r\n", ..., b"ok")
    assert not app.is_kept


def test_a_request_of_an_authenticated_client_is_not_repeated_as_a_stranger(story: Story) -> None:
    """Elsewhere it might succeed, and do something else than it was meant to."""
    app = is_authenticated(story)
    story.client(GET)
    app.resets()
    assert story.dialled == []
    assert b"Connection: close\r\n" in story.answer("upstream_reset", 502)


def test_the_first_credentials_may_be_sent_again(story: Story) -> None:
    """Nobody was known yet on the kept connection that broke."""
    app = story.keeps_warm()
    story.client(SIGNED)
    app.hears(...)
    app.resets()
    again = story.lends()
    again.hears(..., b"Authorization: NTLM TlRMTVNTUAABAAAA\r\n", ...)
    again.says(CHALLENGE)
    story.client_hears(b"HTTP/1.1 401 Unauthorized\r\n", ..., b"no")
    assert is_tied(story, again)


def test_a_request_half_of_which_is_here_when_the_app_leaves(story: Story) -> None:
    app = is_authenticated(story)
    story.client(GET[:10])
    app.closes()
    story.client(GET[10:])
    other = story.lends()
    other.says(CHALLENGE)
    story.client_hears(b"HTTP/1.1 401 Unauthorized\r\n", ..., b"Connection: close\r\n", ..., b"no")
    story.caller.closes()
    story.loop.settle()
    assert not other.is_kept


def test_other_apps_of_the_client_are_asked_as_ever(story: Story) -> None:
    story.serves(b"blog.example", route="blog/web", endpoints=(POD_2,))
    app = is_authenticated(story)
    blog = GET.replace(HOST, b"Host: blog.example\r\n")
    story.client(blog)
    assert story.dialled == [POD_2]
    other = story.lends()
    other.says(OK)
    story.client_hears(..., b"ok")
    assert story.core.counters.upstream_idle == 1
    assert is_tied(story, app)


def test_a_client_has_one_tie(story: Story) -> None:
    """Another app that wants one takes its place, and the first one's connection is not given to anybody."""
    story.serves(b"blog.example", route="blog/web", endpoints=(POD_2,))
    app = is_authenticated(story)
    blog = GET.replace(HOST, b"Host: blog.example\r\n")
    story.client(blog)
    other = story.lends()
    other.says(CHALLENGE)
    story.client_hears(..., b"no")
    assert not app.is_kept
    assert other.is_kept and story.core.counters.upstream_idle == 0
    story.client(GET)
    assert story.dialled == [POD]
    story.lends().says(OK)
    story.client_hears(..., b"ok")
    story.client(SIGNED.replace(HOST, b"Host: blog.example\r\n"))
    other.hears(..., b"Authorization: ", ...)


def test_a_tied_request_waits_its_turn_like_others(story: Story) -> None:
    app = is_authenticated(story)
    mine = story.caller
    story.is_set(app_requests=1)
    stranger = story.calls("198.51.100.9")
    stranger.says(GET)
    other = story.lends()
    mine.says(GET)
    app.hears_nothing()
    other.says(OK)
    stranger.hears(..., b"ok")
    app.hears(b"GET / HTTP/1.1\r\n", ...)
    app.says(OK)
    mine.hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")


@pytest.mark.parametrize("answer", ["early", "cut", "close"])
def test_a_connection_that_could_serve_nobody_is_tied_to_nobody(story: Story, answer: str) -> None:
    story.client(
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\n" + (b"" if answer == "early" else 10 * b"x")
    )
    app = story.lends()
    if answer == "close":
        app.says(CHALLENGE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    else:
        app.says(CHALLENGE + (b"more" if answer == "cut" else b""))
    story.client_hears(b"HTTP/1.1 401 Unauthorized\r\n", ..., b"no")
    assert not app.is_kept


def test_credentials_and_challenges_are_not_remembered(story: Story) -> None:
    is_authenticated(story)
    for memo in (parser._request_memo, parser._response_memo):
        assert not [
            line for line in (*memo.plain, *memo.special) if line.lower().startswith((b"authorization", b"www-auth"))
        ]
