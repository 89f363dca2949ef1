"""The mind of a request, between a client, an app and a lender that only write down what they are told."""

from __future__ import annotations

import pytest

from drycc_proxy.errors import Failure
from drycc_proxy.http.exchange import MAX_ATTEMPTS, MAX_KEPT, Exchange
from drycc_proxy.http.messages import RequestFields, RequestLine, ResponseHead

OK = ResponseHead(200, b"HTTP/1.1 200 OK\r\n", 1)
HINTS = ResponseHead(103, b"HTTP/1.1 103 Early Hints\r\n", 1)


class Notes:
    """Writes down what it is told, in words."""

    def __init__(self) -> None:
        self.told: list[object] = []


class Client(Notes):
    def respond(self, head: ResponseHead, data: bytes, last: bool, now: float) -> None:
        self.told.append(("respond", head.status, data, last))

    def inform(self, head: ResponseHead) -> None:
        self.told.append(("inform", head.status))

    def send(self, data: bytes) -> None:
        self.told.append(data)

    def finish(self) -> None:
        self.told.append("finish")

    def fail(self, failure: Failure) -> None:
        self.told.append(failure)

    def abort(self, failure: Failure) -> None:
        self.told.append(("abort", failure))

    def switch(self, head: ResponseHead, data: bytes, now: float) -> None:
        self.told.append(("switch", head.status, data))

    def end(self) -> None:
        self.told.append("end")

    def part(self) -> None:
        self.told.append("part")

    def tie(self, app: object) -> None:
        self.told.append("tie")

    def crash(self) -> None:
        self.told.append("crash")

    def hold(self) -> None:
        self.told.append("hold")

    def resume(self) -> None:
        self.told.append("resume")


class App(Notes):
    def __init__(self, reused: bool = False) -> None:
        super().__init__()
        self.reused = reused

    def request(self, exchange: Exchange, data: bytes, last: bool) -> None:
        self.told.append(("request", data, last))

    def send(self, data: bytes, last: bool) -> None:
        self.told.append((data, last))

    def hold(self) -> None:
        self.told.append("hold")

    def resume(self) -> None:
        self.told.append("resume")

    def end(self) -> None:
        self.told.append("end")

    def part(self) -> None:
        self.told.append("part")

    def quiet_since(self) -> float:
        return 0.0

    def abandon(self) -> None:
        self.told.append("abandon")


class Lender(Notes):
    def __init__(self, *apps: App | None) -> None:
        super().__init__()
        self._apps = list(apps)
        self.generous = True

    def lend(self, exchange: Exchange, fresh: bool) -> App | None:
        self.told.append("fresh" if fresh else "lend")
        return self._apps.pop(0) if self._apps else None

    def lent(self, exchange: Exchange, app: object) -> None:
        self.told.append("lent")

    def forget(self, exchange: Exchange) -> None:
        self.told.append("forget")

    def retried(self, failure: Failure) -> bool:
        self.told.append(failure)
        return self.generous


def exchange(method: bytes = b"GET", minor: int = 1) -> tuple[Exchange, Client]:
    client = Client()
    return Exchange(client, RequestLine(method, b"/", minor), RequestFields(), b"id", 100.0), client


def test_a_request_over_an_idle_connection() -> None:
    asked, client = exchange()
    app = App(reused=True)
    asked.begin(Lender(app), b"", True, 100.5)
    assert app.told == [("request", b"", True)]
    asked.response(OK, b"all", True, 101.0)
    assert client.told == [("respond", 200, b"all", True)]
    assert (asked.status, asked.bytes_out, asked.attempts, asked.over) == (200, 3, 1, True)
    assert asked.header_seconds == 0.5


def test_a_request_that_waits_for_a_connection_is_not_read_further() -> None:
    asked, client = exchange(b"POST")
    asked.begin(Lender(), b"one", False, 100.0)
    assert client.told == ["hold"]
    asked.request_body(b"two", False)
    app = App()
    asked.connected(app, 102.0)
    assert client.told == ["hold", "resume"]
    assert app.told == [("request", b"onetwo", False)]
    asked.request_body(b"three", True)
    assert app.told[1:] == [(b"three", True)]
    assert asked.bytes_in == 11


def test_the_client_reads_on_before_the_app_can_say_that_it_is_full() -> None:
    asked, client = exchange(b"POST")
    asked.begin(Lender(), b"much", False, 100.0)

    class Full(App):
        def request(self, exchange: Exchange, data: bytes, last: bool) -> None:
            exchange.app_full()

    asked.connected(Full(), 100.0)
    assert client.told == ["hold", "resume", "hold"]


def test_pieces_of_an_answer() -> None:
    asked, client = exchange()
    asked.begin(Lender(App()), b"", True, 100.0)
    asked.response(OK, b"a", False, 100.0)
    asked.response_body(b"bc")
    asked.response_end()
    assert client.told == [("respond", 200, b"a", False), b"bc", "finish"]
    assert (asked.bytes_out, asked.over, asked.app) == (3, True, None)


def test_flow_is_passed_from_side_to_side() -> None:
    asked, client = exchange(b"POST")
    app = App()
    asked.begin(Lender(app), b"", False, 100.0)
    asked.client_full()
    asked.client_ready()
    assert app.told[1:] == ["hold", "resume"]
    client.told.clear()
    asked.app_full()
    asked.app_ready()
    assert client.told == ["hold", "resume"]
    client.told.clear()
    asked.request_body(b"", True)
    asked.app_full()
    asked.app_ready()
    assert client.told == []  # there is nothing more to hold back


def test_flow_without_an_app_concerns_nobody() -> None:
    asked, client = exchange()
    asked.begin(Lender(), b"", True, 100.0)
    asked.client_full()
    asked.client_ready()
    assert client.told == []


@pytest.mark.parametrize(("minor", "told"), [(1, [("inform", 103)]), (0, [])])
def test_interim_answers_are_for_1_1(minor: int, told: list[object]) -> None:
    asked, client = exchange(minor=minor)
    asked.begin(Lender(App()), b"", True, 100.0)
    asked.interim(HINTS)
    assert client.told == told
    assert not asked.responded


def test_a_reused_connection_that_died_is_followed_by_a_fresh_one() -> None:
    asked, client = exchange()
    app = App()
    lender = Lender(App(reused=True), app)
    asked.begin(lender, b"", True, 100.0)
    asked.failed(Failure.UPSTREAM_RESET)
    assert lender.told == ["lend", Failure.UPSTREAM_RESET, "fresh"]
    assert app.told == [("request", b"", True)]
    assert client.told == []
    assert asked.attempts == 2


def test_without_a_retry_left_a_reused_connection_that_died_is_a_failure() -> None:
    asked, client = exchange()
    lender = Lender(App(reused=True), App())
    lender.generous = False
    asked.begin(lender, b"", True, 100.0)
    asked.failed(Failure.UPSTREAM_RESET)
    assert lender.told == ["lend", Failure.UPSTREAM_RESET]
    assert client.told == [Failure.UPSTREAM_RESET]


@pytest.mark.parametrize(("size", "attempts"), [(MAX_KEPT, 2), (MAX_KEPT + 1, 1)])
def test_a_body_too_large_to_be_kept_is_not_sent_again(size: int, attempts: int) -> None:
    asked, _ = exchange(b"PUT")
    asked.begin(Lender(App(reused=True), App()), bytes(size), True, 100.0)
    asked.failed(Failure.UPSTREAM_RESET)
    assert asked.attempts == attempts


def test_attempts_come_to_an_end() -> None:
    asked, client = exchange()
    asked.begin(Lender(*(App(reused=True) for _ in range(9))), b"", True, 100.0)
    while not asked.over:
        asked.failed(Failure.UPSTREAM_RESET)
    assert asked.attempts == MAX_ATTEMPTS
    assert client.told == [Failure.UPSTREAM_RESET]


@pytest.mark.parametrize(
    ("method", "reused", "done", "failure"),
    [
        (b"GET", False, True, Failure.UPSTREAM_RESET),
        (b"POST", True, True, Failure.UPSTREAM_RESET),
        (b"PUT", True, False, Failure.UPSTREAM_RESET),
        (b"GET", True, True, Failure.BAD_RESPONSE),
        (b"GET", True, True, Failure.RESPONSE_TIMEOUT),
        (b"GET", True, True, Failure.CONNECT_FAILED),  # other endpoints were tried by whoever dials
    ],
)
def test_what_is_not_tried_again(method: bytes, reused: bool, done: bool, failure: Failure) -> None:
    asked, client = exchange(method)
    lender = Lender(App(reused), App())
    asked.begin(lender, b"x", done, 100.0)
    client.told.clear()
    asked.failed(failure)
    assert client.told == [failure]
    assert lender.told == ["lend"]
    assert (asked.over, asked.failure) == (True, failure)


def test_a_body_that_was_sent_on_is_not_in_hand_any_more() -> None:
    asked, client = exchange(b"PUT")
    lender = Lender(App(reused=True))
    asked.begin(lender, b"x", False, 100.0)
    asked.request_body(b"y", True)
    client.told.clear()
    asked.failed(Failure.UPSTREAM_RESET)
    assert client.told == [Failure.UPSTREAM_RESET]


def test_after_the_head_a_failure_is_a_break() -> None:
    asked, client = exchange()
    asked.begin(Lender(App(reused=True)), b"", True, 100.0)
    asked.response(OK, b"half", False, 100.0)
    asked.failed(Failure.RESPONSE_TRUNCATED)
    assert client.told[1:] == [("abort", Failure.RESPONSE_TRUNCATED)]
    assert (asked.status, asked.failure) == (200, Failure.RESPONSE_TRUNCATED)


def test_a_client_that_goes_abandons_its_app_once() -> None:
    asked, _ = exchange()
    app = App()
    asked.begin(Lender(app), b"", True, 100.0)
    asked.client_gone(Failure.CLIENT_GONE)
    asked.client_gone(Failure.CLIENT_GONE)
    assert app.told[1:] == ["abandon"]
    assert (asked.status, asked.failure) == (499, Failure.CLIENT_GONE)


def test_a_client_that_goes_while_a_connection_is_made_is_forgotten() -> None:
    asked, client = exchange()
    lender = Lender()
    asked.begin(lender, b"", True, 100.0)
    asked.client_gone(Failure.BODY_TIMEOUT)
    assert lender.told == ["lend", "forget"]
    assert asked.status == 408
    asked.failed(Failure.CONNECT_FAILED)
    assert client.told == []


def test_a_client_that_goes_in_the_middle_keeps_the_status_it_saw() -> None:
    asked, _ = exchange()
    asked.begin(Lender(App()), b"", True, 100.0)
    asked.response(OK, b"half", False, 100.0)
    asked.client_gone(Failure.CLIENT_GONE)
    assert (asked.status, asked.failure) == (200, Failure.CLIENT_GONE)


def test_what_comes_after_the_end_is_dropped() -> None:
    asked, client = exchange(b"POST")
    app = App()
    asked.begin(Lender(app), b"", False, 100.0)
    asked.client_gone(Failure.CLIENT_GONE)
    asked.request_body(b"late", True)
    assert app.told == [("request", b"", False), "abandon"]
    assert client.told == ["resume"]


def test_a_repr_is_for_people() -> None:
    asked, _ = exchange()
    assert repr(asked) == "<Exchange GET under way attempts=0>"
