"""Who is counted per request, and that nobody else is. What comes of it is in the stories."""

from __future__ import annotations

import pytest

from drycc_proxy.http1.downstream import Http1Downstream
from drycc_proxy.http1.metered import MeteredDownstream
from drycc_proxy.listeners.protocols import http_connection
from tests.fakes.story import GET, HOST, Story


@pytest.mark.parametrize(
    ("settings", "metered"),
    [
        ({}, False),
        ({"max_requests": 1000}, True),
        ({"max_per_client": 10}, False),  # without anybody who speaks for others connections are counted, not requests
        ({"max_per_client": 10, "trusted": ("10.0.0.0/8",)}, True),
        ({"trusted": ("10.0.0.0/8",), "max_connections": 10}, False),
    ],
)
def test_requests_are_counted_only_where_a_limit_needs_it(
    story: Story, settings: dict[str, object], metered: bool
) -> None:
    story.is_set(**settings)
    assert type(http_connection(story.core)) is (MeteredDownstream if metered else Http1Downstream)


def test_a_tunnel_counts_as_a_request_until_it_is_over(story: Story) -> None:
    story.is_set(max_per_client=1, trusted=("10.0.0.9",))
    behind = b"X-Forwarded-For: 203.0.113.7\r\n" + HOST
    story.calls("10.0.0.9")
    story.client(b"GET /ws HTTP/1.1\r\n" + behind + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    app = story.lends()
    app.says(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert story.core.admission.clients == 2
    story.client_leaves()
    assert story.core.admission.clients == 0


def test_changed_limits_count_from_the_next_request(story: Story) -> None:
    story.is_set(max_requests=100)
    story.calls()
    story.client(GET)
    story.lends().says(b"HTTP/1.1 204 No Content\r\n\r\n")
    story.is_set(max_requests=2)
    story.client_hears(...)
    story.client(GET)
    story.lends(reused=True).says(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert b"Connection: close" in story.client_hears(...)
