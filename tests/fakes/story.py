"""A story: exchanges as dialogues between a client, the router and an app, without sockets, sleeps or a real clock.

The router in the middle is the real one, from ``state.server_state`` to both ends of HTTP/1.1 and the pools; only the
loop, the transports and the clock are the story's. When it is over, every account must balance (:meth:`Story.ends`).
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from drycc_proxy.http1.downstream import Http1Downstream
from drycc_proxy.http1.upstream import Http1Upstream
from drycc_proxy.kernel.clock import TICK
from drycc_proxy.listeners.protocols import http_connection, https_connection
from drycc_proxy.routing.definitions import Address, Edge, HostRule, Policy, Route, TableChange
from drycc_proxy.state.server_state import Core, TlsFront
from tests.fakes.clock import FakeClock
from tests.fakes.loop import FakeLoop
from tests.fakes.tls_end import TlsEnd, listening
from tests.fakes.transport import End, FakeTransport, Part

__all__ = ["GET", "HOST", "POD", "POD_2", "POD_3", "AppEnd", "FakeTls", "Handshake", "Story", "fields_of", "story"]

POD: Address = ("10.0.0.1", 8080)
POD_2: Address = ("10.0.0.2", 8080)
POD_3: Address = ("10.0.0.3", 8080)

HOST = b"Host: shop.example\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
"""The plainest request there is."""
NOTHING = b"HTTP/1.1 204 No Content\r\n\r\n"


@dataclass(frozen=True)
class Handshake:
    """What a TLS connection remembers: the name asked for, and the names of the certificate that was shown."""

    name: bytes
    covered: frozenset[bytes]


class FakeTls:
    """As ``sni.Front``, about handshakes that a test made up; those that were made asked for no name."""

    def context(self) -> ssl.SSLContext:
        return listening()

    def server_name(self, connection: object) -> bytes:
        return connection.name if isinstance(connection, Handshake) else b""

    def covers(self, connection: object, host: bytes) -> bool:
        return isinstance(connection, Handshake) and host in connection.covered


class AppEnd(End):
    """An endpoint's end of a connection."""

    def __init__(self, protocol: Http1Upstream, story: Story) -> None:
        transport = cast(FakeTransport, protocol._transport)
        super().__init__(f"the app at {transport.get_extra_info('peername')[0]}", transport, story.loop.settle)
        self.protocol = protocol
        self.address: Address = protocol.endpoint.address


def fields_of(message: bytes) -> dict[bytes, list[bytes]]:
    """Field values of a head by lower-case name, in their order."""
    fields: dict[bytes, list[bytes]] = {}
    for line in message.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        fields.setdefault(name.lower(), []).append(value.strip())
    return fields


class Story:
    """Tell what each side does in the order in which it happens; ask what each side heard."""

    def __init__(self, clock: FakeClock, *, over_tls: bool = False) -> None:
        self.clock = clock
        self.over_tls = over_tls
        """Clients come through a real TLS channel, and shake hands first."""
        self.loop = FakeLoop()
        self.log: list[bytes] = []
        """Batches of access-log lines."""
        self.core = Core(cast(Any, self.loop), cast(TlsFront, FakeTls()), self._logged, Http1Upstream)
        self.apps: list[AppEnd] = []
        """Every connection ever made to an endpoint."""
        self.callers: list[End] = []
        self._routes: dict[str, Route] = {}
        self.serves(b"shop.example")

    def _logged(self, batch: bytes) -> bool:
        self.log.append(batch)
        return True

    # ── what is published ─────────────────────────────────────────────────────────────────────────────────────────

    def publishes(self, change: TableChange) -> None:
        """Make a change current; its generation is counted here."""
        self.core.table.apply(replace(change, generation=self.core.table.generation + 1))
        edge = self.core.table.edge.definition
        self.core.log.configure(edge.log_format, edge.log_enabled)
        self._routes.update(change.routes)
        self.loop.settle()

    def serves(
        self,
        *hosts: bytes,
        route: str = "shop/web",
        endpoints: tuple[Address, ...] = (POD,),
        paths: tuple[tuple[bytes, str], ...] = (),
        **policy: Any,
    ) -> None:
        """Serve an app under these names (a known app changes; without names it keeps those it has)."""
        namespace, _, service = route.partition("/")
        definition = Route(route, namespace, namespace, service, endpoints, Policy(**policy))
        rules = {host: HostRule(host, route, paths) for host in hosts}
        self.publishes(TableChange(0, routes={route: definition}, hosts=rules))

    def is_set(self, **edge: Any) -> None:
        """Change the operator's settings."""
        self.publishes(TableChange(0, edge=replace(self.core.table.edge.definition, **edge)))

    @property
    def edge(self) -> Edge:
        return self.core.table.edge.definition

    # ── the client ────────────────────────────────────────────────────────────────────────────────────────────────

    def calls(self, address: str = "203.0.113.7", *, secure: bool = False, sni: bytes = b"", shown: bytes = b"") -> End:
        """A client connects; from now on it is *the* client. ``shown``: names of the certificate, comma separated."""
        if self.over_tls:
            greeted = self.connects()
            greeted.shakes_hands()
            return greeted
        tls = Handshake(sni, frozenset((shown or sni).split(b","))) if secure else None
        transport = FakeTransport(self.loop.call_soon, (address, 50_000), tls)
        transport.protocol = Http1Downstream(self.core, True) if secure else http_connection(self.core)
        caller = End("the client", transport, self.loop.settle)
        self.callers.append(caller)
        transport.protocol.connection_made(transport)
        self.loop.settle()
        return caller

    def connects(self) -> TlsEnd:
        """A client connects to the port for TLS, and has yet to say something."""
        transport = FakeTransport(self.loop.call_soon, ("203.0.113.7", 50_000))
        transport.protocol = https_connection(self.core, cast(TlsFront, FakeTls()))
        caller = TlsEnd("the client", transport, self.loop.settle)
        self.callers.append(caller)
        transport.protocol.connection_made(transport)
        return caller

    @property
    def caller(self) -> End:
        """The client that connected last; one comes if nobody is there yet."""
        return self.callers[-1] if self.callers else self.calls()

    def client(self, *pieces: bytes) -> End:
        """The client sends; each piece is a segment of its own."""
        self.caller.says(*pieces)
        return self.caller

    def client_hears(self, *parts: Part) -> bytes:
        return self.caller.hears(*parts)

    def client_hears_nothing(self) -> None:
        self.caller.hears_nothing()

    def client_leaves(self) -> None:
        self.caller.resets()

    def answer(self, failure: str, status: int) -> bytes:
        """The client heard an answer of the router's own, and nothing else. Returns it."""
        heard = self.client_hears(b"HTTP/1.1 %d " % status, ...)
        body = heard.partition(b"\r\n\r\n")[2]
        fields = fields_of(heard)
        assert fields[b"x-router-error"] == [failure.encode()], heard
        length = int(fields[b"content-length"][0])
        assert len(body) in (0, length), heard
        return heard

    # ── the app ───────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def dialled(self) -> list[Address]:
        """Endpoints that are being connected to."""
        return [attempt.address for attempt in self.loop.attempts]

    def lends(self, *, reused: bool = False, reads: bool = True) -> AppEnd:
        """The connection that carries the request: a new one, made now, or an idle one, which has it already.

        ``reads`` False: the app accepts a new connection and takes nothing from it.
        """
        if not reused:
            assert self.loop.attempts, "nobody is dialled"
            app = AppEnd(self.loop.attempts[0].succeeds(reads), self)
            self.apps.append(app)
            self.loop.settle()
            return app
        assert not self.loop.attempts, f"an endpoint is dialled: {self.dialled}"
        busy = [app for app in self.apps if app.transport.heard or app.transport.unread]
        assert len(busy) == 1, f"connections with something to hear: {busy}"
        assert busy[0].protocol.reused
        return busy[0]

    def refuses(self, error: OSError | None = None) -> None:
        """The endpoint that is dialled refuses the connection."""
        assert self.loop.attempts, "nobody is dialled"
        self.loop.attempts[0].fails(error or ConnectionRefusedError("refused by the story"))
        self.loop.settle()

    def keeps_warm(self, *, host: bytes = b"shop.example") -> AppEnd:
        """Somebody else's request went well, and its connection to the app is idle now."""
        before = self.callers[:]
        somebody = self.calls("198.51.100.1")
        somebody.says(b"GET /before HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
        app = self.lends()
        app.hears(...)
        app.says(NOTHING)
        somebody.hears(...)
        somebody.resets()
        self.callers = before
        return app

    # ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def passes(self, seconds: float) -> None:
        """Time passes, tick by tick."""
        for _ in range(round(seconds / TICK)):
            self.clock.seconds += TICK
            self.core.wheel.advance(self.clock.seconds)
            self.loop.settle()

    def drains(self) -> None:
        """The router stops, as ``Gateway.drain`` has it once nobody is accepted any more."""
        self.core.begin_draining()
        for waiting in list(self.core.entering):
            waiting.drain()
        for connection in list(self.core.connections):
            connection.drain()
        self.loop.settle()

    # ── afterwards ────────────────────────────────────────────────────────────────────────────────────────────────

    def lines(self) -> list[dict[str, Any]]:
        """The access log since it was last asked (JSON)."""
        self.core.log.flush()
        lines = b"".join(self.log).splitlines()
        self.log.clear()
        return [json.loads(line) for line in lines]

    def counted(self, route: str = "shop/web") -> dict[tuple[int, str, str], int]:
        """Requests of an app by status, method and protocol."""
        return self.core.counters.routes[route].requests

    def ends(self) -> None:
        """Everybody goes home: nothing may be left over, neither an exchange nor a connection nor a load."""
        for caller in self.callers:
            caller.resets()
        while self.loop.attempts:
            self.refuses()
        counters = self.core.counters
        assert counters.in_flight == 0, "exchanges are left over"
        assert counters.open_connections == {"http": 0, "https": 0}
        assert not self.core.connections
        assert not self.core.entering
        assert not (self.core.over_limit or self.core.lingering)
        admission = self.core.admission
        assert (admission.connections, admission.clients) == (0, 0), "places are taken by nobody"
        kept = sum(not app.transport.closing for app in self.apps)
        assert counters.upstream_idle == kept, f"{kept} connections to apps are open, {counters.upstream_idle} idle"
        assert counters.queued == 0, "requests are left waiting"
        for upstream in self.core.registry.report():
            assert upstream["in_flight"] == upstream["queued"] == 0, upstream
            for endpoint in cast(list[dict[str, object]], upstream["endpoints"]):
                assert endpoint["load"] == 0, upstream
        self.core.registry.close()
        self.loop.settle()
        assert counters.upstream_open == counters.upstream_idle == 0
        assert all(app.transport.lost for app in self.apps)


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch) -> Iterator[Story]:
    """A router that serves shop.example from one endpoint, and a client who has yet to say something."""
    clock = FakeClock()
    clock.install(monkeypatch)
    told = Story(clock)
    yield told
    told.ends()
