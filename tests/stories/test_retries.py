"""When a request is tried again, and when it must not be (contract 6)."""

from __future__ import annotations

import pytest

from drycc_proxy.errors import Failure
from tests.fakes.story import GET, HOST, POD, POD_2, POD_3, AppEnd, Story

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POST = b"POST /pay HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\n100"


def retries(story: Story) -> dict[Failure, int]:
    return story.core.counters.routes["shop/web"].retries


def test_a_reset_on_a_reused_connection_is_retried(story: Story) -> None:
    story.keeps_warm()
    story.client(GET)
    first = story.lends(reused=True)
    first.resets()  # the keep-alive race: the app had already closed
    second = story.lends()
    second.hears(b"GET / HTTP/1.1\r\n", ...)
    second.says(b"HTTP/1.1 204 No Content\r\n\r\n")
    story.client_hears(b"HTTP/1.1 204 No Content\r\n", ...)
    assert retries(story) == {Failure.UPSTREAM_RESET: 1}
    assert story.lines()[-1]["attempts"] == 2


def test_an_end_on_a_reused_connection_is_retried_like_a_reset(story: Story) -> None:
    story.keeps_warm()
    story.client(GET)
    story.lends(reused=True).closes()
    story.lends().says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")


def test_the_second_attempt_sends_the_very_same_request(story: Story) -> None:
    story.keeps_warm()
    story.client(b"PUT /doc HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nX-Mine: 1\r\n\r\nbody")
    first = story.lends(reused=True)
    heard = first.hears(b"PUT /doc HTTP/1.1\r\n", ..., b"\r\n\r\nbody")
    first.resets()
    assert story.lends().hears(...) == heard


def test_a_retry_never_takes_another_idle_connection(story: Story) -> None:
    """If one had died while idle, so may the others."""
    one, other = story.calls(), story.calls()
    one.says(GET)
    other.says(GET)
    apps = [story.lends(), story.lends()]
    for app in apps:
        app.hears(...)
        app.says(OK)
    one.hears(...)
    one.says(GET)
    story.lends(reused=True).resets()
    assert story.dialled == [POD]


def breaks(app: AppEnd) -> None:
    """It has heard the request, and is gone."""
    app.hears(b"GET / HTTP/1.1\r\n", ...)
    app.resets()


def answers_and_closes(app: AppEnd) -> None:
    app.hears(b"GET / HTTP/1.1\r\n", ...)
    app.says(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")


def test_a_retry_goes_to_another_endpoint_if_there_is_one(story: Story) -> None:
    story.keeps_warm()
    story.serves(endpoints=(POD, POD_2))
    for _ in range(100):
        story.calls()
        story.client(GET)
        if not story.dialled:
            breaks(story.lends(reused=True))
            assert story.dialled == [POD_2]
            return
        answers_and_closes(story.lends())  # the other one was chosen
    pytest.fail("the idle connection was never lent")


def test_retries_come_to_an_end_when_an_app_closes_on_everybody(story: Story) -> None:
    """Ten to begin with, one for ten requests: an app in trouble is not asked twice for ever."""
    answers = {204: 0, 502: 0}
    for _ in range(60):
        story.keeps_warm()
        story.calls()
        story.client(GET)
        breaks(story.lends(reused=True))
        if story.dialled:
            answers_and_closes(story.lends())
            story.client_hears(b"HTTP/1.1 204 No Content\r\n", ...)
            answers[204] += 1
        else:
            story.answer("upstream_reset", 502)
            answers[502] += 1
    assert answers == {204: 21, 502: 39}  # ten, and a tenth of the 119 requests before the last one
    assert retries(story) == {Failure.UPSTREAM_RESET: 21}


def test_a_reset_on_a_fresh_connection_is_not_retried(story: Story) -> None:
    """The app may have acted on what it read."""
    story.client(GET)
    story.lends().resets()
    assert story.dialled == []
    story.answer("upstream_reset", 502)


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"])
def test_idempotent_methods_are_retried(story: Story, method: bytes) -> None:
    story.keeps_warm()
    story.client(method + b" / HTTP/1.1\r\n" + HOST + b"\r\n")
    story.lends(reused=True).resets()
    assert story.dialled == [POD]


@pytest.mark.parametrize("method", [b"POST", b"PATCH", b"PROPFIND", b"Purge"])
def test_other_methods_are_never_sent_twice(story: Story, method: bytes) -> None:
    story.keeps_warm()
    story.client(method + b" / HTTP/1.1\r\n" + HOST + b"\r\n")
    story.lends(reused=True).resets()
    assert story.dialled == []
    story.answer("upstream_reset", 502)


def test_a_post_is_not_retried_even_with_its_body_in_hand(story: Story) -> None:
    story.keeps_warm()
    story.client(POST)
    story.lends(reused=True).resets()
    story.answer("upstream_reset", 502)
    assert retries(story) == {}


def test_a_body_that_is_partly_gone_cannot_be_sent_again(story: Story) -> None:
    story.keeps_warm()
    story.client(b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 6\r\n\r\nabc", b"def")
    app = story.lends(reused=True)
    app.hears(..., b"abcdef")
    app.resets()
    story.answer("upstream_reset", 502)


def test_a_request_that_is_not_complete_is_not_retried(story: Story) -> None:
    story.keeps_warm()
    story.client(b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 6\r\n\r\nabc")
    story.lends(reused=True).resets()
    story.answer("upstream_reset", 502)


def test_after_the_first_byte_of_an_answer_nothing_is_retried(story: Story) -> None:
    story.keeps_warm()
    story.client(GET)
    app = story.lends(reused=True)
    app.says(b"H")
    app.resets()
    assert story.dialled == []
    story.answer("bad_response", 502)


def test_after_an_interim_answer_nothing_is_retried(story: Story) -> None:
    """A 1xx is a byte of the answer too: the app has begun to act."""
    story.keeps_warm()
    story.client(GET)
    app = story.lends(reused=True)
    app.says(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
    story.client_hears(b"HTTP/1.1 103 Early Hints\r\n", ...)
    app.resets()
    assert story.dialled == []
    story.answer("bad_response", 502)


def test_a_refused_connection_is_tried_at_another_endpoint(story: Story) -> None:
    story.serves(endpoints=(POD, POD_2))
    story.client(POST)
    [refused] = story.dialled
    story.refuses()
    assert story.dialled == [POD_2 if refused == POD else POD]
    app = story.lends()
    app.hears(b"POST /pay HTTP/1.1\r\n", ..., b"100")
    app.says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ...)
    assert retries(story) == {Failure.CONNECT_FAILED: 1}


def test_each_endpoint_is_tried_at_most_once_and_at_most_three(story: Story) -> None:
    story.serves(endpoints=(POD, POD_2, POD_3, ("10.0.0.4", 8080), ("10.0.0.5", 8080)))
    story.client(GET)
    tried = []
    while story.dialled:
        tried += story.dialled
        story.refuses()
    assert len(tried) == len(set(tried)) == 3
    story.answer("connect_failed", 502)


def test_a_connection_that_takes_too_long_is_tried_at_another_endpoint(story: Story) -> None:
    story.serves(endpoints=(POD, POD_2), connect_timeout=2.0)
    story.client(GET)
    [slow] = story.dialled
    story.passes(2.2)
    [other] = story.dialled
    assert other != slow
    story.passes(2.2)
    assert story.dialled == []
    story.answer("connect_timeout", 504)
    assert retries(story) == {Failure.CONNECT_TIMEOUT: 1}


def test_the_only_endpoint_refuses(story: Story) -> None:
    story.client(GET)
    story.refuses()
    story.answer("connect_failed", 502)
    assert story.caller.is_kept
    [line] = story.lines()
    assert (line["upstream_host"], line["error_reason"]) == ("10.0.0.1:8080", "connect_failed")


def test_an_unreachable_network_is_a_refusal_too(story: Story) -> None:
    story.client(GET)
    story.refuses(OSError(101, "Network is unreachable"))
    story.answer("connect_failed", 502)
