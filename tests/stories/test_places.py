"""Few places are left: who takes most gets no more, and the last third is left to others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from drycc_proxy.routing.definitions import TableChange
from drycc_proxy.state.server_state import TUNNEL_IDLE
from tests.fakes.clock import FakeClock
from tests.fakes.story import AppEnd, Story
from tests.fakes.transport import End
from tests.stories.test_tunnels import GRANTED, KEY, WANTED

PLACES = 120
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def asking(host: bytes, on_behalf: bytes = b"") -> bytes:
    whose = b"X-Forwarded-For: %b\r\n" % on_behalf if on_behalf else b""
    return b"GET /chat HTTP/1.1\r\nHost: %b\r\n" % host + WANTED + KEY + whose + b"\r\n"


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Iterator[Story]:
    """120 places; two apps of one owner and two of others."""
    clock = FakeClock()
    clock.install(monkeypatch)
    story = Story(clock)
    for number, name in enumerate(("evil/one", "evil/two", "good/web", "fine/web")):
        story.serves(name.replace("/", ".").encode(), route=name, endpoints=((f"10.0.1.{number}", 8080),))
    story.core.admission.most = PLACES
    yield story
    story.core.admission.most = 1 << 30
    story.ends()


def opens(story: Story, host: bytes, address: str, on_behalf: bytes = b"") -> tuple[End, AppEnd | None]:
    """A client asks for a tunnel; its end and the app's, which is None if it is refused. ``on_behalf``: a trusted peer
    asks for this client."""
    caller = story.calls(address)
    caller.says(asking(host, on_behalf))
    if caller.transport.heard:
        return caller, None
    app = story.lends(reused=not story.dialled)
    app.hears(...)
    app.says(GRANTED)
    caller.hears(b"HTTP/1.1 101 ", ...)
    return caller, app


def open_many(story: Story, host: bytes, most: int) -> int:
    """So many, or as many as are granted; how many were. Each client has an address of its own."""
    for number in range(most):
        _, app = opens(story, host, f"198.51.{number // 250}.{number % 250}")
        if app is None:
            return number
    return most


def refusal(story: Story) -> bytes:
    heard = story.client_hears(b"HTTP/1.1 ", ...)
    return heard.partition(b"X-Router-Error: ")[2].partition(b"\r\n")[0]


def is_served(story: Story, host: bytes) -> bool:
    story.calls("192.0.2.1")
    story.client(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
    if story.caller.transport.heard:
        return False
    story.lends(reused=not story.dialled).says(OK)
    story.client_hears(b"HTTP/1.1 200 OK\r\n", ..., b"ok")
    story.caller.closes()
    return True


def test_one_owners_tunnels_stop_at_two_thirds_and_others_are_served(town: Story) -> None:
    """Idle WebSockets of two apps took all places, and nobody else was served."""
    assert open_many(town, b"evil.one", 60) == 60
    assert open_many(town, b"evil.two", 60) == 21
    assert refusal(town) == b"app_share"
    assert town.core.counters.routes["evil/two"].errors
    town.callers[-1].closes()

    assert is_served(town, b"good.web")
    assert not is_served(town, b"evil.one")
    assert refusal(town) == b"app_share"
    assert open_many(town, b"good.web", 20) == 20
    assert is_served(town, b"fine.web")


def test_a_namespace_with_many_small_apps_stops_as_well(town: Story) -> None:
    for number in range(9):
        town.serves(b"evil.%d" % number, route=f"evil/app-{number}", endpoints=((f"10.0.2.{number}", 8080),))
    granted = [open_many(town, b"evil.%d" % number, 10) for number in range(9)]

    assert sum(granted) == 81
    assert refusal(town) == b"namespace_share"
    assert is_served(town, b"good.web")


def test_an_app_that_is_the_only_one_may_have_all_places(town: Story) -> None:
    """It was refused from two thirds on, although nobody was there to leave the others to."""
    routes = [name for name in town.core.table.routes if name != "good/web"]
    hosts = [b"evil.one", b"evil.two", b"fine.web", b"shop.example"]
    town.publishes(TableChange(0, gone_routes=frozenset(routes), gone_hosts=frozenset(hosts)))
    town.core.tick()

    assert open_many(town, b"good.web", PLACES - 1) == PLACES - 1

    town.serves(b"evil.one", route="evil/one", endpoints=(("10.0.1.1", 8080),))
    town.core.tick()
    assert not is_served(town, b"good.web")
    assert refusal(town) == b"app_share"


def test_requests_of_a_namespace_count_although_no_request_is_counted(town: Story) -> None:
    """An owner's slow requests are added up when places are few."""
    for number in range(9):
        town.serves(b"evil.%d" % number, route=f"evil/app-{number}", endpoints=((f"10.0.2.{number}", 8080),))
        for client in range(9):
            caller = town.calls(f"198.51.{number}.{client}")
            caller.says(b"GET / HTTP/1.1\r\nHost: evil.%d\r\n\r\n" % number)
            town.lends()
    for _ in range(3):
        town.passes(0.1)
        town.core.tick()

    assert not is_served(town, b"evil.two")
    assert refusal(town) == b"namespace_share"
    assert is_served(town, b"good.web")


def test_one_client_stops_although_it_asks_every_app(town: Story) -> None:
    hosts = []
    for number in range(12):
        name = b"app-%d" % number
        town.serves(name, route=f"ns-{number}/web", endpoints=((f"10.0.2.{number}", 8080),))
        hosts.append(name)
    town.is_set(trusted=("10.0.0.1",))
    for number in range(30):
        assert opens(town, hosts[number % 12], "10.0.0.1", b"198.51.100.%d" % number)[1] is not None
    granted = sum(opens(town, hosts[number % 12], "10.0.0.1", b"203.0.113.66")[1] is not None for number in range(51))
    assert granted == 51
    assert opens(town, hosts[0], "10.0.0.1", b"203.0.113.66")[1] is None
    assert refusal(town) == b"client_share"
    assert opens(town, hosts[0], "10.0.0.1", b"198.51.100.200")[1] is not None


def test_an_address_with_many_connections_gets_no_more_of_them(town: Story) -> None:
    for number in range(40):
        town.calls(f"198.51.100.{number}")
    for _ in range(41):
        town.calls("203.0.113.66").says(b"GET / HT")
    assert town.core.counters.share_refused == 0
    town.calls("203.0.113.66")
    assert refusal(town) == b"too_many_connections"
    assert (town.core.counters.share_refused, town.core.one_peer) == (1, "")
    town.calls("198.51.100.200")
    assert is_served(town, b"good.web")


def test_everybody_behind_one_address_is_told_and_refused_nothing(town: Story) -> None:
    told: list[str] = []
    town.core.on_one_peer = lambda: told.append(town.core.one_peer)
    for _ in range(100):
        town.calls("10.0.0.1").says(b"GET / HT")
    assert town.core.counters.share_refused == 0
    assert told == ["10.0.0.1"]
    for caller in town.callers:
        caller.resets()
    for _ in range(620):
        town.clock.seconds += 0.1
        town.core.tick()
    assert told == ["10.0.0.1", ""]


def test_a_trusted_peer_has_no_share(town: Story) -> None:
    town.is_set(trusted=("10.0.0.1",))
    for number in range(30):
        town.calls(f"198.51.100.{number}")
    for _ in range(90):
        town.calls("10.0.0.1").says(b"GET / HT")
    assert (town.core.counters.share_refused, town.core.one_peer) == (0, "")


def test_tunnels_that_were_idle_longest_are_let_go(town: Story) -> None:
    pairs: list[tuple[End, AppEnd | None]] = []
    for number in range(30):
        for host in (b"good.web", b"fine.web", b"evil.one", b"shop.example"):
            if len(pairs) < 100:
                pairs.append(opens(town, host, f"198.51.{len(pairs)}.{number}"))
        town.clock.seconds += 1.0
    granted = [caller for caller, app in pairs if app is not None]
    assert len(granted) >= 80
    for caller, app in pairs:
        if app is None:
            caller.resets()
    granted[0].says(b"a frame")
    town.core.admission.most = int((town.core.admission.connections - 3) / 0.8)
    excess = town.core.admission.excess
    town.clock.seconds += TUNNEL_IDLE - 2.0
    gone = town.core.relieve(town.clock.seconds)
    town.loop.settle()

    assert gone == town.core.counters.tunnels_closed["tunnel_let_go"] == excess
    assert granted[0].is_kept, "something has just passed through it"
    assert not any(caller.is_kept for caller in granted[1:4]), "of the same second as the first one"
    assert all(caller.is_kept for caller in granted[8:])
    assert town.lines()[-1]["error_reason"] == "tunnel_let_go"


def test_no_tunnel_is_let_go_that_was_heard_of_within_ten_seconds(town: Story) -> None:
    pairs = [opens(town, host, f"198.51.100.{n}") for n in range(10) for host in (b"good.web", b"fine.web")]
    town.clock.seconds += TUNNEL_IDLE - 0.1
    town.core.admission.most = 10
    assert town.core.relieve(town.clock.seconds) == 0
    assert all(caller.is_kept for caller, _ in pairs)
    town.core.admission.most = PLACES
