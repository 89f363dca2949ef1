"""The one list of failures that the router itself causes.

Each member's value is its machine name: the same word stands in ``X-Router-Error``, in the access log, in
``router_errors_total{reason=…}`` and in the docs (``docs/errors.md`` is generated from this table).

What must not enter: anything that knows a socket, a request or Kubernetes. Problems with what an *owner wrote* live in
``model.problems``; this is about requests.

::

    side        meaning                                             who can mend it
    client      the request, or the way it was sent                 the end user's program
    policy      the owner or operator said so (lists, maintenance)  the app's owner
    upstream    the app did not answer as it should                 the app's owner
    router      the router's own state (draining, overload, a bug)  the operator
"""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["MOVED", "Failure", "Retry", "Side", "status_for"]

MOVED: Final = 301
"""Status of the redirect to https where the method stays anyway (contract 3)."""


class Side(enum.Enum):
    """Who can do something about a failure."""

    CLIENT = "client"
    POLICY = "policy"
    UPSTREAM = "upstream"
    ROUTER = "router"


class Retry(enum.Enum):
    """Whether a request that failed this way may be tried on another connection (contract 6)."""

    NEVER = "never"
    ANOTHER_ENDPOINT = "another endpoint"  # it never reached one
    IF_REUSED = "if reused"  # a reused idle connection died before a byte of the answer; idempotent, body in hand


class Failure(enum.Enum):
    """Machine name, status sent to the client (0: none can be sent), side, retry rule, sentence for people."""

    status: int
    side: Side
    retry: Retry
    sentence: str

    def __new__(cls, name: str, status: int, side: Side, retry: Retry, sentence: str) -> Failure:
        member = object.__new__(cls)
        member._value_ = name
        member.status = status
        member.side = side
        member.retry = retry
        member.sentence = sentence
        return member

    # ── the client's doing ────────────────────────────────────────────────────────────────────────────────────────
    BAD_REQUEST = "bad_request", 400, Side.CLIENT, Retry.NEVER, "The request is not valid HTTP."
    BAD_PROXY_HEADER = "bad_proxy_header", 400, Side.CLIENT, Retry.NEVER, "The PROXY header is not valid."
    UNTRUSTED_PROXY_HEADER = (
        "untrusted_proxy_header",
        400,
        Side.CLIENT,
        Retry.NEVER,
        "This peer may not speak for a client by a PROXY header.",
    )
    BAD_FRAMING = "bad_framing", 400, Side.CLIENT, Retry.NEVER, "The length of the request body is not clear."
    BAD_HOST = "bad_host", 400, Side.CLIENT, Retry.NEVER, "The Host of the request is missing, repeated or not valid."
    BAD_CHUNK = "bad_chunk", 400, Side.CLIENT, Retry.NEVER, "The chunked request body is not valid."
    HEAD_TOO_LARGE = "head_too_large", 431, Side.CLIENT, Retry.NEVER, "The head of the request is too large."
    TARGET_TOO_LONG = "target_too_long", 414, Side.CLIENT, Retry.NEVER, "The target of the request is too long."
    HEAD_TIMEOUT = "head_timeout", 408, Side.CLIENT, Retry.NEVER, "The head of the request took too long to arrive."
    BODY_TIMEOUT = "body_timeout", 408, Side.CLIENT, Retry.NEVER, "The body of the request took too long to arrive."
    CODING_NOT_IMPLEMENTED = (
        "coding_not_implemented",
        501,
        Side.CLIENT,
        Retry.NEVER,
        "Only the transfer coding 'chunked' is understood.",
    )
    METHOD_NOT_IMPLEMENTED = "method_not_implemented", 501, Side.CLIENT, Retry.NEVER, "CONNECT is not offered here."
    METHOD_NOT_ALLOWED = "method_not_allowed", 405, Side.CLIENT, Retry.NEVER, "TRACE is not offered here."
    VERSION_NOT_SUPPORTED = (
        "version_not_supported",
        505,
        Side.CLIENT,
        Retry.NEVER,
        "Only HTTP/1.0 and HTTP/1.1 are spoken here.",
    )
    EXPECTATION_FAILED = (
        "expectation_failed",
        417,
        Side.CLIENT,
        Retry.NEVER,
        "Only 'Expect: 100-continue' is understood.",
    )
    PLAIN_HTTP = (
        "plain_http",
        400,
        Side.CLIENT,
        Retry.NEVER,
        "This port speaks https: the address has to begin with https://.",
    )
    CLIENT_GONE = "client_gone", 0, Side.CLIENT, Retry.NEVER, "The client went away before the answer was complete."
    CLIENT_TOO_SLOW = "client_too_slow", 0, Side.CLIENT, Retry.NEVER, "The client stopped reading the answer."
    TOO_MANY_CONNECTIONS = (
        "too_many_connections",
        429,
        Side.POLICY,
        Retry.NEVER,
        "Too many connections from this address.",
    )
    CLIENT_SILENT = "client_silent", 0, Side.CLIENT, Retry.NEVER, "The client connected and said nothing."
    # ── routing and policy ────────────────────────────────────────────────────────────────────────────────────────
    UNKNOWN_HOST = "unknown_host", 404, Side.POLICY, Retry.NEVER, "No app is served under this name."
    MISDIRECTED = "misdirected", 421, Side.CLIENT, Retry.NEVER, "This connection was opened for another name."
    ACCESS_DENIED = "access_denied", 403, Side.POLICY, Retry.NEVER, "Your address may not use this app."
    HTTPS_REQUIRED = "https_required", 308, Side.POLICY, Retry.NEVER, "This app is served over https."
    MAINTENANCE = "maintenance", 503, Side.POLICY, Retry.NEVER, "This app is in maintenance."
    BODY_TOO_LARGE = (
        "body_too_large",
        413,
        Side.POLICY,
        Retry.NEVER,
        "The body is larger than this app accepts.",
    )
    # ── the app's doing ───────────────────────────────────────────────────────────────────────────────────────────
    NO_ENDPOINT = "no_endpoint", 503, Side.UPSTREAM, Retry.NEVER, "No instance of this app is ready."
    LOOP_DETECTED = (
        "loop_detected",
        508,
        Side.UPSTREAM,
        Retry.NEVER,
        "The request has passed this router too often: the app leads back to it.",
    )
    APP_BUSY = (
        "app_busy",
        503,
        Side.UPSTREAM,
        Retry.NEVER,
        "This app has as many requests under way as it may have.",
    )
    CONNECT_FAILED = (
        "connect_failed",
        502,
        Side.UPSTREAM,
        Retry.ANOTHER_ENDPOINT,
        "No connection could be made to this app.",
    )
    CONNECT_TIMEOUT = (
        "connect_timeout",
        504,
        Side.UPSTREAM,
        Retry.ANOTHER_ENDPOINT,
        "Connecting to this app took too long.",
    )
    UPSTREAM_RESET = (
        "upstream_reset",
        502,
        Side.UPSTREAM,
        Retry.IF_REUSED,
        "The app closed the connection before it answered.",
    )
    BAD_RESPONSE = "bad_response", 502, Side.UPSTREAM, Retry.NEVER, "The answer of this app is not valid HTTP."
    RESPONSE_HEAD_TOO_LARGE = (
        "response_head_too_large",
        502,
        Side.UPSTREAM,
        Retry.NEVER,
        "The head of this app's answer is too large.",
    )
    RESPONSE_TIMEOUT = "response_timeout", 504, Side.UPSTREAM, Retry.NEVER, "This app took too long to answer."
    RESPONSE_TRUNCATED = (
        "response_truncated",
        0,
        Side.UPSTREAM,
        Retry.NEVER,
        "The app broke off in the middle of its answer.",
    )
    RESPONSE_STALLED = (
        "response_stalled",
        0,
        Side.UPSTREAM,
        Retry.NEVER,
        "The app fell silent in the middle of its answer.",
    )
    TUNNEL_IDLE = (
        "tunnel_idle",
        0,
        Side.UPSTREAM,
        Retry.NEVER,
        "Nothing passed through this tunnel for too long.",
    )
    # ── the router's own ──────────────────────────────────────────────────────────────────────────────────────────
    DRAINING = "draining", 503, Side.ROUTER, Retry.NEVER, "The router is shutting down."
    ROUTER_EXHAUSTED = (
        "router_exhausted",
        503,
        Side.ROUTER,
        Retry.ANOTHER_ENDPOINT,
        "The router has nothing left to make a connection to this app with.",
    )
    APP_SHARE = (
        "app_share",
        503,
        Side.ROUTER,
        Retry.NEVER,
        "The router has few places left, and this app holds more than its share of them.",
    )
    NAMESPACE_SHARE = (
        "namespace_share",
        503,
        Side.ROUTER,
        Retry.NEVER,
        "The router has few places left, and the apps of this namespace hold more than their share of them.",
    )
    CLIENT_SHARE = (
        "client_share",
        429,
        Side.POLICY,
        Retry.NEVER,
        "The router has few places left, and tunnels of this client hold more than its share of them.",
    )
    TUNNEL_LET_GO = (
        "tunnel_let_go",
        0,
        Side.ROUTER,
        Retry.NEVER,
        "The router had few places left, and nothing had passed through this tunnel for longest.",
    )
    OVERLOADED = "overloaded", 503, Side.ROUTER, Retry.NEVER, "The router has too much to do at the moment."
    INTERNAL_ERROR = "internal_error", 500, Side.ROUTER, Retry.NEVER, "The router failed on this request."


def status_for(failure: Failure, method: bytes) -> int:
    """The status of the answer to a request with this method; 0: none can be sent.

    Only the redirect to https depends on the method: 301 for GET and HEAD, as the ancestors answered; 308 for the
    others, because clients turn a POST that is answered with 301 into a GET (RFC 9110 15.4.2, 15.4.9).
    """
    return MOVED if failure is Failure.HTTPS_REQUIRED and method in (b"GET", b"HEAD") else failure.status
