"""The table of failures is complete and says things that fit together."""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import pytest

from drycc_proxy.errors import Failure, Retry, Side, status_for


@pytest.mark.parametrize("failure", Failure, ids=lambda failure: failure.value)
def test_a_failure_has_a_name_a_status_and_a_sentence(failure: Failure) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", failure.value)
    assert failure.name == failure.value.upper()
    assert failure.status == 0 or HTTPStatus(failure.status)
    assert re.fullmatch(r"[A-Z].*\.", failure.sentence)
    by_value: Callable[[str], Failure] = cast(Any, Failure)  # mypy reads __new__, which makes members
    assert by_value(failure.value) is failure


def test_only_the_redirect_to_https_has_a_status_by_method() -> None:
    for failure in Failure:
        by_method = [status_for(failure, method) for method in (b"GET", b"HEAD", b"POST", b"OPTIONS")]
        assert by_method == ([301, 301, 308, 308] if failure is Failure.HTTPS_REQUIRED else [failure.status] * 4)


def test_who_is_to_blame_fits_the_status() -> None:
    for failure in Failure:
        if failure.side is Side.CLIENT and failure.status:
            # "not implemented" and "version not supported" are the client's doing, with statuses of the server
            assert failure.status // 100 == 4 or failure.status in (501, 505)
        if failure.side in (Side.UPSTREAM, Side.ROUTER):
            assert failure.status == 0 or failure.status // 100 == 5


def test_only_what_never_reached_an_app_or_came_too_late_may_be_retried() -> None:
    assert {failure for failure in Failure if failure.retry is Retry.ANOTHER_ENDPOINT} == {
        Failure.CONNECT_FAILED,
        Failure.CONNECT_TIMEOUT,
        Failure.ROUTER_EXHAUSTED,
    }
    assert {failure for failure in Failure if failure.retry is Retry.IF_REUSED} == {Failure.UPSTREAM_RESET}
