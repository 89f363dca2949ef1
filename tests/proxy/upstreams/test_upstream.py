"""Connections to one app: lent, taken back, dialled, given up. (The dialogues are in tests/stories.)"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import statistics

import pytest
import uvloop

from drycc_proxy.errors import Failure
from drycc_proxy.http.exchange import UpstreamStream
from drycc_proxy.http1.upstream import Http1Upstream
from drycc_proxy.kernel.clock import Wheel
from drycc_proxy.metrics import Counters, RouteCounters
from drycc_proxy.routing.definitions import Address, Edge, TableChange
from drycc_proxy.upstreams.limits import Limits
from drycc_proxy.upstreams.upstream import Upstream
from tests.fakes.instructions import Work
from tests.fakes.story import GET, POD, POD_2, Story

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Waiting:
    """As much of an exchange as a lender sees."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.over = False
        self.lender = None
        self.endpoint = b""
        self.outcome: asyncio.Future[UpstreamStream | Failure] = loop.create_future()

    def connected(self, app: UpstreamStream, now: float) -> None:
        self.outcome.set_result(app)

    def failed(self, failure: Failure) -> None:
        self.outcome.set_result(failure)


def known(loop: asyncio.AbstractEventLoop, wheel: Wheel, totals: Counters) -> Upstream:
    """One app's, with nobody else around."""
    counters = RouteCounters("app", "ns", "svc")
    return Upstream("ns/svc", loop, wheel, totals, counters, Limits(Edge(), 1000), Http1Upstream, lambda: None)


def unused_port() -> int:
    """A port that nobody listens on: bound and released."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


async def lend(
    *addresses: Address, patience: float = 5.0
) -> tuple[UpstreamStream | Failure, bytes, Upstream, Counters]:
    """What comes of one request for a connection, with real sockets."""
    loop = asyncio.get_running_loop()
    wheel, totals = Wheel(loop), Counters()
    wheel.start()
    upstream = known(loop, wheel, totals)
    upstream.update(addresses, patience)
    waiting = Waiting(loop)
    try:
        assert upstream.lend(waiting, False) is None  # type: ignore[arg-type]  # as much of one as is looked at
        async with asyncio.timeout(10):
            return await waiting.outcome, waiting.endpoint, upstream, totals
    finally:
        wheel.stop()


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> asyncio.Runner:
    return asyncio.Runner(loop_factory=request.param)


def test_a_refused_connection(runner: asyncio.Runner) -> None:
    with runner:
        outcome, endpoint, upstream, totals = runner.run(lend(("127.0.0.1", port := unused_port())))
    assert outcome is Failure.CONNECT_FAILED
    assert endpoint == b"127.0.0.1:%d" % port
    assert (totals.upstream_connects, totals.upstream_open) == (0, 0)
    assert upstream.report()[0]["load"] == 0


def test_an_unreachable_address_is_a_refusal(runner: asyncio.Runner) -> None:
    with runner:
        assert runner.run(lend(("255.255.255.255", 9)))[0] is Failure.CONNECT_FAILED


def test_no_endpoint(runner: asyncio.Runner) -> None:
    with runner:
        assert runner.run(lend())[0] is Failure.NO_ENDPOINT


def test_a_listener_that_never_accepts_is_given_up_in_time(runner: asyncio.Runner) -> None:
    with socket.socket() as listener, runner:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:  # what fills the queue of connections to accept
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        outcome, _, upstream, _ = runner.run(lend(listener.getsockname(), patience=0.3))
        for filler in fillers:
            filler.close()
    assert outcome is Failure.CONNECT_TIMEOUT
    assert upstream.report()[0]["load"] == 0


def test_another_endpoint_is_tried(runner: asyncio.Runner) -> None:
    async def meet() -> None:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
        async with server:
            good: Address = server.sockets[0].getsockname()
            outcome, endpoint, _, totals = await lend(("127.0.0.1", unused_port()), good)
            assert endpoint == b"127.0.0.1:%d" % good[1]
            assert (totals.upstream_connects, totals.upstream_open) == (1, 1)
            outcome.close()  # type: ignore[union-attr]  # the connection itself, not only what an exchange may ask of it

    with runner:
        for _ in range(5):  # whichever is chosen first
            runner.run(meet())


def test_a_connection_made_for_nobody_waits_its_time_and_closes(story: Story) -> None:
    story.client(GET)
    story.client_leaves()
    app = story.lends()
    story.passes(59)
    assert app.is_kept
    story.passes(2)
    assert not app.is_kept


def test_an_endpoint_that_goes_while_it_is_dialled_is_left_at_once(runner: asyncio.Runner) -> None:
    """Whether the loop has got round to dialling by then, or not."""

    async def meet(turns: int, deaf: Address) -> None:
        loop = asyncio.get_running_loop()
        wheel, totals = Wheel(loop), Counters()
        wheel.start()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        async with server:
            good: Address = server.sockets[0].getsockname()
            upstream = known(loop, wheel, totals)
            upstream.update([deaf], 30.0)
            waiting = Waiting(loop)
            upstream.lend(waiting, False)  # type: ignore[arg-type]  # as much of one as is looked at
            for _ in range(turns):
                await asyncio.sleep(0)
            upstream.update([good], 30.0)
            async with asyncio.timeout(10):
                app = await waiting.outcome
            assert waiting.endpoint == b"127.0.0.1:%d" % good[1]
            assert upstream.report() == [{"address": waiting.endpoint.decode(), "load": 1, "idle": 0, "ejected": False}]
            assert (totals.upstream_connects, totals.upstream_open) == (1, 1)
            app.close()  # type: ignore[union-attr]  # the connection itself, not only what an exchange may ask of it
            wheel.stop()

    with socket.socket() as listener, runner:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:  # what fills the queue of connections to accept
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        for turns in (0, 1, 5):
            runner.run(meet(turns, listener.getsockname()))
        for filler in fillers:
            filler.close()


def test_a_connection_that_is_made_just_when_its_endpoint_goes_is_not_used(runner: asyncio.Runner) -> None:
    """The same, at every turn of the loop that a connection takes to be made: no account is ever out of balance."""

    async def meet(turns: int) -> None:
        loop = asyncio.get_running_loop()
        wheel, totals = Wheel(loop), Counters()
        wheel.start()
        first = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        second = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        async with first, second:
            old, new = (server.sockets[0].getsockname() for server in (first, second))
            upstream = known(loop, wheel, totals)
            upstream.update([old], 30.0)
            waiting = Waiting(loop)
            upstream.lend(waiting, False)  # type: ignore[arg-type]  # as much of one as is looked at
            for _ in range(turns):
                await asyncio.sleep(0)
            in_time = waiting.outcome.done()
            upstream.update([new], 30.0)
            async with asyncio.timeout(10):
                app = await waiting.outcome
            assert waiting.endpoint == b"127.0.0.1:%d" % (old if in_time else new)[1]
            upstream.give_back(app, False)  # type: ignore[arg-type]  # the connection itself
            for _ in range(1000):  # turns of the loop until it is closed
                await asyncio.sleep(0)
            assert totals.upstream_open == 0
            assert upstream.report()[0]["load"] == 0
            wheel.stop()

    with runner:
        for turns in range(12):
            runner.run(meet(turns))


def test_a_connection_for_nobody_to_an_endpoint_that_is_gone_is_not_made(story: Story) -> None:
    story.client(GET)
    story.client_leaves()
    story.serves(endpoints=(POD_2,))
    assert story.dialled == []


def test_a_connection_made_for_nobody_for_a_route_that_is_gone_closes(story: Story) -> None:
    story.client(GET)
    story.client_leaves()
    story.publishes(TableChange(0, gone_routes=frozenset({"shop/web"}), gone_hosts=frozenset({b"shop.example"})))
    assert not story.lends().is_kept


def test_dialling_that_is_stopped_tells_nobody(story: Story) -> None:
    story.client(GET)
    story.core.registry.close()
    story.loop.settle()
    assert story.dialled == []
    story.client_hears_nothing()


def test_a_known_address_keeps_its_endpoint_and_a_returning_one_is_new(story: Story) -> None:
    upstream = story.core.table.routes["shop/web"].upstream
    app = story.keeps_warm()
    story.serves(endpoints=(POD_2, POD))
    assert upstream.report() == [
        {"address": "10.0.0.2:8080", "load": 0, "idle": 0, "ejected": False},
        {"address": "10.0.0.1:8080", "load": 0, "idle": 1, "ejected": False},
    ]
    story.serves(endpoints=(POD_2,))
    story.serves(endpoints=(POD_2, POD))
    assert not app.is_kept
    assert [endpoint["idle"] for endpoint in upstream.report()] == [0, 0]


def test_a_request_under_way_at_a_returning_address_is_not_taken_back(story: Story) -> None:
    story.client(GET)
    app = story.lends()
    story.serves(endpoints=())
    story.serves(endpoints=(POD,))
    app.says(OK)
    story.client_hears(..., b"ok")
    assert not app.is_kept


def test_a_repr_is_for_people(story: Story) -> None:
    story.client(GET)
    assert repr(story.core.table.routes["shop/web"].upstream) == (
        "<Upstream shop/web [<Endpoint 10.0.0.1:8080 load=1 idle=0>] dials=1>"
    )


@pytest.mark.parametrize("queued", [False, True])
def test_clients_that_leave_together_are_not_looked_for_among_each_other(story: Story, queued: bool) -> None:
    """6,000 clients of an app that answers no SYN left at once: each was looked for among all, for 1.4 s."""
    if queued:
        story.is_set(app_requests=1, app_queue=1000)
    costs = []
    for many in (10, 500):
        callers = []
        for _ in range(many):
            callers.append(story.calls())
            callers[-1].says(GET)
        work = Work()
        each = []
        for caller in reversed(callers):
            before = work.done["leaving"]
            with work.on("leaving"):
                caller.resets()
            each.append(work.done["leaving"] - before)
        costs.append(statistics.median(each))  # one of them writes the log of all
        while story.loop.attempts:
            story.refuses()

    assert costs[1] < costs[0] + 500


def test_dials_that_a_change_is_about_are_told_a_few_at_a_time(story: Story) -> None:
    callers = []
    for _ in range(600):
        callers.append(story.calls())
        callers[-1].says(GET)
    work, steps = Work(), []
    soon = story.loop._soon
    with work.on("change"):
        story.core.table.apply(
            TableChange(2, routes={"shop/web": dataclasses.replace(story._routes["shop/web"], endpoints=(POD_2,))})
        )
    steps.append(work.done["change"])
    while soon:
        callback, args = soon.popleft()
        before = work.done["change"]
        with work.on("change"):
            callback(*args)
        steps.append(work.done["change"] - before)

    assert {attempt.address for attempt in story.loop.attempts} == {POD_2}
    assert max(steps) < 60_000
    while story.loop.attempts:
        story.refuses()


def test_a_retry_does_not_look_at_every_endpoint(story: Story) -> None:
    pods = tuple((f"10.1.{number // 250}.{number % 250}", 8080) for number in range(2000))
    story.serves(endpoints=pods)
    story.client(GET)
    work = Work()
    with work.on("retry"):
        story.refuses()

    assert len(story.loop.attempts) == 1
    assert work.done["retry"] < 5000
    while story.loop.attempts:
        story.refuses()
