"""What a status stands for."""

from __future__ import annotations

import pytest

from drycc_router.kubernetes.errors import (
    Conflict,
    Forbidden,
    FutureVersion,
    Gone,
    NotFound,
    Refused,
    ServerFailure,
    TooManyRequests,
    Unauthorized,
    refusal,
)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Refused),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (410, Gone),
        (429, TooManyRequests),
        (500, ServerFailure),
        (504, ServerFailure),
    ],
)
def test_a_status_tells_what_to_do(status: int, kind: type[Refused]) -> None:
    error = refusal(status, "why", 3.0)
    assert type(error) is kind
    assert (error.status, error.retry_after, str(error)) == (status, 3.0, f"{status}: why")


def test_a_version_from_the_future_is_a_failure_of_the_server_with_a_name() -> None:
    error = refusal(504, "Timeout: Too large resource version: 7, current: 3", 1.0, is_future=True)
    assert isinstance(error, FutureVersion)
    assert isinstance(error, ServerFailure)
    assert (error.label, error.retry_after) == ("futureversion", 1.0)


def test_metrics_call_it_by_one_word() -> None:
    assert refusal(429, "").label == "toomanyrequests"
    assert str(refusal(429, "")) == "429"
