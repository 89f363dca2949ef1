"""However the network cuts what is said, everybody hears the same (whole stories, cut at random)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import FakeClock
from tests.fakes.story import Story

HOST = b"Host: shop.example\r\n"
REQUESTS = (
    b"GET /1 HTTP/1.1\r\n" + HOST + b"X-Request-Id: r1\r\n\r\n",
    b"POST /2 HTTP/1.1\r\n" + HOST + b"X-Request-Id: r2\r\nContent-Length: 10\r\n\r\n0123456789",
    b"POST /3 HTTP/1.1\r\n" + HOST + b"X-Request-Id: r3\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;a=b\r\nabc\r\n4\r\ndefg\r\n0\r\nT: x\r\n\r\n",
    b"\r\nGET /a/../4?q HTTP/1.1\r\n" + HOST + b"X-Request-Id: r4\r\nCookie: c\r\n\r\n",
    b"GET /5 HTTP/1.1\r\nHost: nobody.example\r\nX-Request-Id: r5\r\nAccept: application/json\r\n\r\n",
    b"HEAD /6 HTTP/1.1\r\n" + HOST + b"X-Request-Id: r6\r\n\r\n",
    b"POST /7 HTTP/1.1\r\nHost: nobody.example\r\nX-Request-Id: r7\r\nContent-Length: 5\r\n\r\nhello",
    b"GET / HTTP/1.1\r\nHost : bad\r\n\r\n",
    b"POST /8 HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
)
ANSWERS = (
    b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nDate: x\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nDate: x\r\nETag: y\r\n\r\n",
)
ANSWERED_AT_ITS_HEAD = 6
"""The request with a body that the router answers by itself: without its body here, the answer ends the connection."""
CHUNKS = re.compile(rb"([0-9a-f]+)\r\n")


@contextmanager
def told() -> Iterator[Story]:
    """A story of its own for each example."""
    with pytest.MonkeyPatch.context() as patch:
        clock = FakeClock()
        clock.install(patch)
        story = Story(clock)
        yield story
        story.ends()


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted({1 + at % len(data) for at in cuts}), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges) if begin < end]


def joined(message: bytes) -> bytes:
    """A message with its chunked bodies joined into one chunk each: where chunks are cut is nobody's promise.

    The request that is asked with chunks may have a length instead, which depends on how it came.
    """
    head, _, body = message.partition(b"\r\n\r\n")
    if head.startswith(b"POST /3 ") and b"\r\nContent-Length: 7" in head:
        assert len(body) == 7
        return head.replace(b"\r\nContent-Length: 7", b"\r\nTransfer-Encoding: chunked") + b"\r\n\r\n" + body + b"|"
    if b"transfer-encoding: chunked" not in head.lower():
        return message
    payload, at = b"", 0
    while match := CHUNKS.match(body, at):
        size = int(match[1], 16)
        at = match.end()
        payload += body[at : at + size]
        at += size + 2
        if not size:
            break
    return head + b"\r\n\r\n" + payload + b"|" + body[at:]


def heard(requests: list[int], answers: list[int], cuts: list[int]) -> tuple[list[bytes], list[bytes]]:
    """What the apps and the client hear of a conversation, request by request."""
    to_apps: list[bytes] = []
    to_client: list[bytes] = []
    with told() as story:
        for number, request in enumerate(requests):
            before = {app: len(app.transport.heard) for app in story.apps}
            story.client(*cut(REQUESTS[request], cuts))
            if story.dialled:
                story.lends()
            for app in story.apps:
                if len(app.transport.heard) > before.get(app, 0):
                    to_apps.append(joined(app.hears(...)))
                    app.says(*cut(ANSWERS[answers[number % len(answers)]], cuts))
            said = joined(story.client_hears(...))
            if request == ANSWERED_AT_ITS_HEAD:
                # Whether the body was here when the head was answered depends on the cuts, and a client may be told
                # either; what follows is asked on a connection of its own in both cases.
                assert story.caller.is_kept != (b"\r\nConnection: close\r\n" in said)
                said = said.replace(b"Connection: close\r\n", b"")
                story.calls()
                to_client.append(said)
                continue
            to_client.append(said)
            if not story.caller.is_kept:
                break
    identity = re.compile(rb"[0-9a-f]{32}")  # ids that the router made differ from run to run
    return to_apps, [identity.sub(b"ID", message) for message in to_client]


CONVERSATION = st.lists(st.integers(0, len(REQUESTS) - 1), min_size=1, max_size=5)


@given(
    CONVERSATION,
    st.lists(st.integers(0, len(ANSWERS) - 1), min_size=1, max_size=4),
    st.lists(st.integers(0, 10_000), max_size=12),
)
def test_cuts_change_nothing(requests: list[int], answers: list[int], cuts: list[int]) -> None:
    whole = heard(requests, answers, [])
    assert heard(requests, answers, cuts) == whole
    assert heard(requests, answers, list(range(300))) == whole


@given(st.binary(max_size=400), st.lists(st.integers(0, 10_000), max_size=6))
def test_garbage_from_a_client_harms_nobody(garbage: bytes, cuts: list[int]) -> None:
    with told() as story:
        if garbage:
            story.client(*cut(garbage, cuts))
        story.passes(11)
        while story.dialled:
            story.lends()
        story.calls()
        story.client(REQUESTS[0])
        busy = story.lends() if story.dialled else story.lends(reused=True)
        busy.says(ANSWERS[0])
        story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"hello")


def read_by_h11(got: bytes) -> tuple[bool, bytes]:
    """Whether one answer came whole, and what stands behind it, as another client reads them."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(got)
    while (event := client.next_event()) is not h11.NEED_DATA:
        if isinstance(event, h11.EndOfMessage):
            return True, client.trailing_data[0]
    return False, b""


@given(st.sampled_from(ANSWERS), st.data())
def test_garbage_from_an_app_is_an_answer_or_a_failure_and_never_both(answer: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(answer)))
    dirt = data.draw(
        st.sampled_from([b"", b"\r", b"\n", b"\x00", b" ", b"9", b":", b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n"])
    )
    dirty = answer[:at] + dirt + answer[at + data.draw(st.integers(0, 3)) :]
    cuts = data.draw(st.lists(st.integers(0, 10_000), max_size=6))
    with told() as story:
        story.client(REQUESTS[0])
        app = story.lends()
        if dirty:
            app.says(*cut(dirty, cuts))
        app.closes()
        got = story.client_hears(...)
        whole, behind = read_by_h11(got)
        assert behind == b""
        if story.caller.is_kept:
            # Whoever is kept got one whole answer, and the next one is its own.
            assert whole, got
            story.client(REQUESTS[0])
            story.lends().says(ANSWERS[0])
            story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"hello")
