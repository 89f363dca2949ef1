"""A loop for stories: it runs what it is given when it is told to, and its connections are made by the test."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from tests.fakes.transport import FakeTransport

__all__ = ["Attempt", "FakeLoop"]


class Attempt:
    """One connection being made: the test decides how it goes."""

    def __init__(self, loop: FakeLoop, factory: Callable[[], Any], address: tuple[str, int]) -> None:
        self._loop = loop
        self._factory = factory
        self.address = address
        self.task: FakeTask

    def __await__(self) -> Generator[Attempt, Any, Any]:
        return (yield self)

    def succeeds(self, reads: bool) -> Any:
        """The endpoint accepts, and reads or does not. Returns the protocol of the new connection."""
        self._loop.attempts.remove(self)
        protocol = self._factory()
        transport = FakeTransport(self._loop.call_soon, self.address)
        transport.protocol = protocol
        transport.reads = reads
        protocol.connection_made(transport)
        self.task.go_on((transport, protocol))
        return protocol

    def fails(self, error: OSError) -> None:
        """The endpoint refuses, or cannot be reached."""
        self._loop.attempts.remove(self)
        self.task.break_with(error)

    def given_up(self) -> None:
        """The router lost its patience."""
        self._loop.attempts.remove(self)
        self.task.break_with(asyncio.CancelledError())


class FakeTask:
    """A coroutine on its way."""

    def __init__(self, loop: FakeLoop, coroutine: Coroutine[Attempt, Any, None]) -> None:
        self._loop = loop
        self._coroutine = coroutine
        self._waiting: Attempt | None = None
        loop.call_soon(self.go_on, None)

    def go_on(self, value: object) -> None:
        self._step(lambda: self._coroutine.send(value))

    def break_with(self, error: BaseException) -> None:
        self._step(lambda: self._coroutine.throw(error))

    def cancel(self) -> None:
        """As of a task; takes effect when the loop runs."""
        waiting = self._waiting
        assert waiting is not None, "stories cancel only what waits for an endpoint"
        self._loop.call_soon(waiting.given_up)

    def _step(self, step: Callable[[], Attempt]) -> None:
        self._waiting = None
        try:
            self._waiting = step()
        except (StopIteration, asyncio.CancelledError):
            return
        self._waiting.task = self
        self._loop.attempts.append(self._waiting)


class FakeLoop:
    """The few methods of a loop that the data plane uses."""

    def __init__(self) -> None:
        self._soon: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self.attempts: list[Attempt] = []
        """Connections being made."""

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        self._soon.append((callback, args))

    def create_task(self, coroutine: Coroutine[Attempt, Any, None], *, name: str) -> FakeTask:
        return FakeTask(self, coroutine)

    async def create_connection(self, factory: Callable[[], Any], host: str, port: int) -> Any:
        return await Attempt(self, factory, (host, port))

    def settle(self) -> None:
        """Run what is due until nothing is."""
        while self._soon:
            callback, args = self._soon.popleft()
            callback(*args)
