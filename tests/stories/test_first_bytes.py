"""Whatever one byte either side begins with, it is judged, and the router lives on."""

from __future__ import annotations

import pytest

from tests.fakes.story import GET, Story


@pytest.mark.parametrize("first", range(256))
def test_an_app_may_begin_with_any_byte(story: Story, first: int) -> None:
    story.client(GET)
    app = story.lends()
    app.says(bytes([first]))
    app.says(b"\r\n\r\n")
    story.answer("bad_response", 502)
    assert not app.is_kept


@pytest.mark.parametrize("first", range(256))
def test_a_client_may_begin_with_any_byte(story: Story, first: int) -> None:
    story.client(bytes([first]), b"\r\n\r\n")
    story.answer("bad_request", 400)
    assert not story.caller.is_kept
