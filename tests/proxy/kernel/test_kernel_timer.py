"""The alarm rings once each time it is set, whatever else the loop has to do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator

import pytest
import uvloop

from drycc_proxy.kernel.kernel_timer import Alarm

CROWD = 1_100
"""More sockets than libuv asks about at a time."""


@contextlib.contextmanager
def crowd(size: int) -> Iterator[list[socket.socket]]:
    """Sockets that all have something to read."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * size + 200
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"needs {wanted} descriptors; this process may have {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    pairs: list[tuple[socket.socket, socket.socket]] = []
    try:
        for _ in range(size):
            pairs.append(socket.socketpair())
            pairs[-1][1].send(b"x")
        yield [ours for ours, _ in pairs]
    finally:
        for ours, theirs in pairs:
            ours.close()
            theirs.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoop:
    made: asyncio.AbstractEventLoop = request.param()
    return made


def test_it_rings_once_each_time_it_is_set(loop: asyncio.AbstractEventLoop) -> None:
    rung: list[int] = []

    def ring() -> None:
        rung.append(len(rung))
        if len(rung) < 3:
            alarm.set(0.001)
        else:
            alarm.set(0.0)
            alarm.set(60.0)  # in place of what was set before
            loop.call_later(0.05, loop.stop)

    alarm = Alarm(loop, ring)
    alarm.start()
    alarm.start()
    alarm.set(0.001)
    loop.run_forever()
    alarm.stop()
    alarm.stop()
    loop.close()
    assert rung == [0, 1, 2]


def test_it_leaves_nothing_open(loop: asyncio.AbstractEventLoop) -> None:
    before = set(os.listdir("/proc/self/fd"))
    alarm = Alarm(loop, lambda: None)
    alarm.start()
    alarm.set(0.001)
    alarm.stop()
    assert set(os.listdir("/proc/self/fd")) == before
    loop.close()
    alarm.stop()


def test_without_a_timer_of_the_kernel_it_is_the_loops(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drycc_proxy.kernel.kernel_timer._LIBC", None)
    rung = 0

    def ring() -> None:
        nonlocal rung
        rung += 1
        loop.stop()

    before = set(os.listdir("/proc/self/fd"))
    alarm = Alarm(loop, ring)
    alarm.start()
    assert set(os.listdir("/proc/self/fd")) == before
    alarm.set(60.0)
    alarm.set(0.001)
    loop.run_forever()
    alarm.stop()
    loop.close()
    assert rung == 1


def test_a_loop_with_its_hands_full_hears_it_in_its_turn() -> None:
    """Every socket always has something to say. What the loop calls by itself waits for 48 rounds, the alarm not."""
    loop = uvloop.new_event_loop()
    heard = 0
    rung_at: list[int] = []

    def hear() -> None:  # and leave it there, so that there is more
        nonlocal heard
        heard += 1
        if heard == 1:  # from here on the loop looks at nothing but sockets
            alarm.set(0.0)
        elif heard > 10 * CROWD:
            loop.stop()

    def ring() -> None:
        rung_at.append(heard)
        loop.stop()

    alarm = Alarm(loop, ring)
    alarm.start()
    with crowd(CROWD) as talking:
        for each in talking:
            loop.add_reader(each, hear)
        loop.run_forever()
        for each in talking:
            loop.remove_reader(each)
    alarm.stop()
    loop.close()
    assert rung_at, "it did not ring within ten rounds"
    assert rung_at[0] <= 2 * CROWD, "in this round, or in the next one"
