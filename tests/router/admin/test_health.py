"""Ready from the first table until draining."""

from __future__ import annotations

from drycc_router.admin.health import Health


def test_ready_from_the_first_table_until_draining() -> None:
    health = Health()
    assert health.unready == "the first table is not published yet"
    health.serve()
    assert health.unready == ""
    health.drain()
    assert health.unready == "draining"


def test_draining_before_the_first_table_is_draining() -> None:
    health = Health()
    health.drain()
    health.serve()
    assert health.unready == "draining"


def test_it_never_says_that_it_waits_without_saying_for_what() -> None:
    reasons = ["the API server (429)", ""]
    health = Health(lambda: reasons[0])
    assert health.unready == "the first table is not published yet: waiting for the API server (429)"
    del reasons[0]
    assert health.unready == "the first table is not published yet"
