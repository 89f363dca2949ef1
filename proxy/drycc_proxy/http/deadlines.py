"""Every wait has an end: how long each state of a connection may last, and what happens to it then.

Whoever waits takes its figure from here, and ``docs/deadlines.md`` is made from the same table, so that no state can be
forgotten in one of them: ``tests/stories/test_deadlines.py`` stops in each of its rows. Times are seconds on a clock
that never goes back; the wheel (``kernel.clock``) notices a deadline within two tenths of a second.

What must not enter: clocks, timers, and what may change while traffic flows (``routing.definitions`` has those
defaults).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from drycc_proxy.errors import Failure
from drycc_proxy.routing.definitions import Edge, Policy

__all__ = [
    "BODY_GRACE",
    "DEADLINES",
    "DRAIN_SECONDS",
    "GOODBYE_SECONDS",
    "HALF_CLOSED_SECONDS",
    "HALF_TUNNEL_SECONDS",
    "HANDSHAKE_SECONDS",
    "LEAST_RATE",
    "LEAVE_SECONDS",
    "LINGER_SECONDS",
    "LINGER_SILENCE",
    "PROXY_SECONDS",
    "STALL_SECONDS",
    "Deadline",
]

PROXY_SECONDS: Final = 3.0
"""From the first byte of a PROXY header to its last: load balancers send it in one piece (hardening P-03)."""
HANDSHAKE_SECONDS: Final = 10.0
"""From the accepted connection to the end of its TLS handshake, the name it asks for included (hardening S-04)."""
GOODBYE_SECONDS: Final = 5.0
"""How long the alert that ends a failed handshake may wait for a client that does not read."""
LEAST_RATE: Final = 240
"""Bytes a second below which the reading of an answer is an attack or hopeless (hardening S-03)."""
BODY_GRACE: Final = 10.0
"""From the end of a head: so long its body may come slower than ``bodyRate`` on average (hardening S-02)."""
STALL_SECONDS: Final = 60.0
"""How long a client may take nothing, or less than ``LEAST_RATE``, of an answer that is ready for it. What the kernel
still has of it counts as not taken: its buffers would hide a slow reader's progress for minutes (hardening S-03)."""
LEAVE_SECONDS: Final = 1.0
"""How long an idle connection is kept while the router leaves: a request that is on its way is answered, not reset."""
DRAIN_SECONDS: Final = 1.0
"""For a client to say goodbye, once it is answered and we have said it."""
LINGER_SILENCE: Final = 5.0
"""How long a client whose request was answered before it was complete may be silent. Its connection is half closed, and
what it still sends is read and dropped: many clients read nothing before they have sent everything, and a close with
unread bytes is a reset, which discards what they have not read."""
LINGER_SECONDS: Final = 30.0
"""For how long that goes on in all."""
HALF_CLOSED_SECONDS: Final = 0.8
"""How long a client that has ended its side may wait for the head of its answer. A FIN does not tell ``nc -N``, which
still listens, from a browser whose user has left: the first gets its answer if it comes soon, the second does not keep
an app at work for nobody (nginx gives up at once, HAProxy never). With the two tenths until it is noticed, the app is
told within a second (hardening R-26)."""
HALF_TUNNEL_SECONDS: Final = 60.0
"""How long a tunnel lives on after one side has said its last word (hardening W-06)."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """One row: a state, how long it may last, since when that counts, and what happens then."""

    name: str
    state: str
    limit: str
    since: str
    then: str
    failure: Failure | None = None
    """What the log and the metric call it; None: no request suffers."""


_EDGE: Final = Edge()
_POLICY: Final = Policy()
_SILENCE: Final = f"`tcpTimeout`, {_POLICY.idle_timeout:g} s"
_SLOW: Final = f"{STALL_SECONDS:g} s for each {LEAST_RATE * STALL_SECONDS:,.0f} bytes ({LEAST_RATE} bytes/s)"

DEADLINES: Final = (
    Deadline(
        "proxy_nothing",
        "nothing comes where a PROXY header may (`useProxyProtocol`); what comes may as well be a request or TLS",
        f"{_EDGE.head_timeout:g} s",
        "the connection was accepted",
        "reset",
    ),
    Deadline(
        "proxy_header",
        "a PROXY header",
        f"{PROXY_SECONDS:g} s in all",
        "its first byte",
        "reset",
    ),
    Deadline(
        "handshake",
        "the TLS handshake, from before the client's hello to its end",
        f"{HANDSHAKE_SECONDS:g} s in all",
        "the connection was accepted",
        "reset",
    ),
    Deadline(
        "refused_handshake",
        "the alert that ends a failed handshake is not taken",
        f"{GOODBYE_SECONDS:g} s",
        "the alert",
        "reset",
    ),
    Deadline(
        "first_request",
        "a new connection says nothing",
        f"{_EDGE.head_timeout:g} s",
        "it was accepted; over TLS: the handshake is done",
        "closed without a word",
    ),
    Deadline(
        "first_head",
        "the head of the first request",
        f"{_EDGE.head_timeout:g} s in all",
        "the connection was accepted; over TLS: the handshake is done",
        "answered, closed",
        Failure.HEAD_TIMEOUT,
    ),
    Deadline(
        "next_head",
        "the head of a later request",
        f"{_EDGE.head_timeout:g} s in all",
        "its first byte",
        "answered, closed",
        Failure.HEAD_TIMEOUT,
    ),
    Deadline(
        "keepalive",
        "between two requests of a connection",
        f"`keepAliveTimeout`, {_EDGE.keepalive_timeout:g} s",
        "the last answer",
        "closed",
    ),
    Deadline(
        "leaving",
        "nothing comes on an idle connection while the router leaves (drains)",
        f"{LEAVE_SECONDS:g} s",
        "it stopped to accept",
        "closed",
    ),
    Deadline(
        "body_idle",
        "the client is silent in the middle of its body; not while the app does not take what is there, nor once the "
        "answer has begun",
        f"`bodyTimeout`, {_POLICY.body_timeout:g} s",
        "its last byte; with `Expect` the app's 100, if the client waits for it",
        "answered, closed",
        Failure.BODY_TIMEOUT,
    ),
    Deadline(
        "body_rate",
        "the client's body trickles; time in which the app does not take what is there does not count, nor does "
        "anything once the answer has begun",
        f"{BODY_GRACE:g} s, or as long as `bodyRate`, {_POLICY.body_rate} bytes/s, takes for what has come",
        "the end of the head; with `Expect` the app's 100, or the first byte of a client that does not wait for it",
        "answered, closed",
        Failure.BODY_TIMEOUT,
    ),
    Deadline(
        "body_rest",
        "the rest of a request that is answered already, of which everything is dropped",
        f"{LINGER_SILENCE:g} s of silence, {LINGER_SECONDS:g} s in all; {_SLOW} while an answer is still on its way",
        "its last byte; in all: the answer",
        "closed",
    ),
    Deadline(
        "turn",
        "a request waits until its app has fewer under way",
        f"`queueTimeout`, {_EDGE.app_queue_timeout:g} s",
        "the end of its head",
        "answered",
        Failure.APP_BUSY,
    ),
    Deadline(
        "connect",
        "connecting to an endpoint",
        f"`connectTimeout`, {_POLICY.connect_timeout:g} s",
        "each attempt",
        "another endpoint, then answered",
        Failure.CONNECT_TIMEOUT,
    ),
    Deadline(
        "app_takes",
        "the app does not take the request's body",
        _SILENCE,
        "it last took some",
        "answered",
        Failure.RESPONSE_TIMEOUT,
    ),
    Deadline(
        "app_head",
        "the app does not begin its answer",
        f"`requestTimeout` (none), {_SILENCE}",
        "the end of the request",
        "answered",
        Failure.RESPONSE_TIMEOUT,
    ),
    Deadline(
        "app_body",
        "the app falls silent in its answer; not while the client does not take what is there",
        _SILENCE,
        "its last byte",
        "broken off",
        Failure.RESPONSE_STALLED,
    ),
    Deadline(
        "client_takes",
        "the client does not take an answer that is ready for it, the bytes of a tunnel included",
        _SLOW,
        "what is ready for it exceeded the buffer, then every time it took enough",
        "reset",
        Failure.CLIENT_TOO_SLOW,
    ),
    Deadline(
        "client_half_closed",
        "the client has ended its side and waits for the head of its answer",
        f"{HALF_CLOSED_SECONDS:g} s",
        "its FIN or close_notify",
        "closed",
        Failure.CLIENT_GONE,
    ),
    Deadline(
        "tunnel_idle",
        "nothing passes through a tunnel in either direction",
        _SILENCE,
        "the last byte",
        "reset",
        Failure.TUNNEL_IDLE,
    ),
    Deadline(
        "tunnel_half_closed",
        "one side of a tunnel has said its last word",
        f"{HALF_TUNNEL_SECONDS:g} s",
        "the first FIN",
        "closed",
    ),
    Deadline(
        "tunnel_parting",
        "both have, and what is on its way is not taken",
        f"{STALL_SECONDS:g} s without progress",
        "the second FIN",
        "reset",
    ),
    Deadline(
        "linger",
        "the router has said goodbye (FIN, over TLS close_notify before it), and the client has not",
        f"{DRAIN_SECONDS:g} s; {_SLOW} while an answer is still on its way",
        "the last byte of the answer",
        "closed",
    ),
    Deadline(
        "idle_upstream",
        "an idle connection to an endpoint, also one that is tied to a client",
        f"`upstreamIdleTimeout`, {_EDGE.upstream_idle_timeout:g} s, or a second less than the app keeps it: as it says "
        "(`Keep-Alive: timeout`), or as it did twice",
        "its last answer",
        "closed",
    ),
)
"""In the order in which a connection meets them."""
