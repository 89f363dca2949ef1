"""What becomes current is told in a line, and a storm in a line a second."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from drycc_router.publish.change_log import EVERY, NAMED, ChangeLog
from tests.fakes.kube import World, deployment, endpoints, gone, service


class Desk:
    """A clock, somebody who is called later, and what was written."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.now = 100.0
        self.calls: list[tuple[float, Callable[[], None]]] = []
        self.world = World()
        self.log = ChangeLog(lambda: self.now, lambda delay, call: self.calls.append((self.now + delay, call)))
        self._caplog = caplog
        caplog.set_level("INFO", "drycc_router.publish.change_log")

    def passes(self, seconds: float) -> None:
        self.now += seconds
        due, self.calls = (
            [each for each in self.calls if each[0] <= self.now],
            [each for each in self.calls if each[0] > self.now],
        )
        for _, call in due:
            call()

    def said(self) -> list[str]:
        lines = [record.getMessage() for record in self._caplog.records]
        self._caplog.clear()
        return lines


@pytest.fixture
def desk(caplog: pytest.LogCaptureFixture) -> Desk:
    return Desk(caplog)


def test_what_changed_and_how_long_it_took_is_one_line(desk: Desk) -> None:
    web, blog = service("shop/web", {"domains": "shop.example"}), service("blog/web", {"domains": "blog.example"})
    desk.log.note(desk.world.hears(web, blog), 0.034)
    assert desk.said() == [
        "generation 2 is current after 34 ms: 2 apps (blog/web, shop/web); 2 hosts (blog.example, shop.example)"
    ]
    desk.passes(EVERY)
    desk.log.note(desk.world.hears(gone(blog), endpoints("shop/web", "10.0.0.1")), 0.002)
    assert desk.said() == [
        "generation 3 is current after 2 ms: 1 app (shop/web), 1 app gone (blog/web); 1 host gone (blog.example)"
    ]
    desk.passes(EVERY)
    desk.log.note(desk.world.hears(deployment({"maxHeaders": "50"})), 0.0)
    assert desk.said() == ["generation 4 is current after 0 ms: the router's settings"]


def test_nothing_is_said_of_what_changes_nothing(desk: Desk) -> None:
    desk.log.note(desk.world.hears(service("shop/web")), 0.1)
    desk.passes(10 * EVERY)
    assert desk.said() == []


def test_a_storm_is_a_line_a_second_and_its_end_is_told(desk: Desk) -> None:
    said = []
    for number in range(100):
        desk.log.note(desk.world.hears(service(f"shop/{number}", {"domains": f"{number}.example"})), 0.001)
        desk.passes(EVERY / 20)
        said += desk.said()
    desk.passes(EVERY)
    said += desk.said()
    assert len(said) <= 7
    assert said[-1].startswith("generations ")
    assert " to 101 are current" in said[-1]
    assert f"and {20 - NAMED} more)" in said[1]
    desk.passes(10 * EVERY)
    assert desk.said() == []
