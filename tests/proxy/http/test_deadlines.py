"""The table says what the code does: the figures are the same objects, the words are checked here."""

from __future__ import annotations

import re

from drycc_proxy.errors import Failure
from drycc_proxy.http import deadlines
from drycc_proxy.http.deadlines import DEADLINES
from drycc_proxy.routing.definitions import Edge, Policy

NAMED = {
    "proxy_nothing": Edge().head_timeout,
    "proxy_header": deadlines.PROXY_SECONDS,
    "handshake": deadlines.HANDSHAKE_SECONDS,
    "refused_handshake": deadlines.GOODBYE_SECONDS,
    "first_request": Edge().head_timeout,
    "first_head": Edge().head_timeout,
    "next_head": Edge().head_timeout,
    "keepalive": Edge().keepalive_timeout,
    "leaving": deadlines.LEAVE_SECONDS,
    "body_idle": Policy().body_timeout,
    "body_rate": deadlines.BODY_GRACE,
    "body_rest": deadlines.LINGER_SILENCE,
    "turn": Edge().app_queue_timeout,
    "connect": Policy().connect_timeout,
    "app_takes": Policy().idle_timeout,
    "app_head": Policy().idle_timeout,
    "app_body": Policy().idle_timeout,
    "client_takes": deadlines.STALL_SECONDS,
    "client_half_closed": deadlines.HALF_CLOSED_SECONDS,
    "tunnel_idle": Policy().idle_timeout,
    "tunnel_half_closed": deadlines.HALF_TUNNEL_SECONDS,
    "tunnel_parting": deadlines.STALL_SECONDS,
    "linger": deadlines.DRAIN_SECONDS,
    "idle_upstream": Edge().upstream_idle_timeout,
}
"""What the first figure of each row must be."""


def test_each_row_names_its_figure() -> None:
    for row in DEADLINES:
        figure = re.search(r"(\d+(?:\.\d+)?) s", row.limit)
        assert figure and float(figure[1]) == NAMED[row.name], row


def test_each_row_says_everything() -> None:
    for row in DEADLINES:
        assert row.state and row.since and row.then, row


def test_every_failure_by_slowness_has_a_row() -> None:
    slow = {failure for failure in Failure if re.search("timeout|slow|stalled|idle", failure.value)}
    assert slow <= {row.failure for row in DEADLINES}
