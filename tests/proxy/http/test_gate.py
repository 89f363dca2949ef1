"""What is answered without asking the app, and in which order (contract 5)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from drycc_proxy.errors import Failure
from drycc_proxy.http.client_address import NetworkSet
from drycc_proxy.http.gate import check


@dataclass
class Asked:
    """A route as the gate sees it."""

    allow: NetworkSet | None = None
    deny: NetworkSet | None = None
    enforce_https: bool = False
    maintenance: bool = False
    available: bool = True
    body_size: int = 0


OPEN = Asked()
LOCAL = NetworkSet(["10.0.0.0/8"])
NOBODY = NetworkSet([])


@pytest.mark.parametrize(
    ("asked", "client", "secure", "length", "failure"),
    [
        (OPEN, "10.0.0.1", False, 10**9, None),
        (Asked(deny=LOCAL), "10.0.0.1", True, 0, Failure.ACCESS_DENIED),
        (Asked(deny=LOCAL), "192.0.2.1", True, 0, None),
        (Asked(allow=LOCAL), "10.0.0.1", True, 0, None),
        (Asked(allow=LOCAL), "192.0.2.1", True, 0, Failure.ACCESS_DENIED),
        (Asked(allow=NOBODY), "10.0.0.1", True, 0, Failure.ACCESS_DENIED),
        (Asked(allow=LOCAL, deny=LOCAL), "10.0.0.1", True, 0, Failure.ACCESS_DENIED),
        (Asked(enforce_https=True), "10.0.0.1", False, 0, Failure.HTTPS_REQUIRED),
        (Asked(enforce_https=True), "10.0.0.1", True, 0, None),
        (Asked(maintenance=True), "10.0.0.1", True, 0, Failure.MAINTENANCE),
        (Asked(available=False), "10.0.0.1", True, 0, Failure.NO_ENDPOINT),
        (Asked(body_size=5), "10.0.0.1", True, 5, None),
        (Asked(body_size=5), "10.0.0.1", True, 6, Failure.BODY_TOO_LARGE),
        (Asked(body_size=5), "10.0.0.1", True, -1, None),  # its length is not known yet
    ],
)
def test_the_questions(asked: Asked, client: str, secure: bool, length: int, failure: Failure | None) -> None:
    assert check(asked, client, secure, length) is failure


def test_the_order() -> None:
    asked = Asked(allow=NOBODY, enforce_https=True, maintenance=True, available=False, body_size=1)
    met = []
    for answered in ({"allow": None}, {"enforce_https": False}, {"maintenance": False}, {"available": True}, {}):
        met.append(check(asked, "10.0.0.1", False, 2))
        asked = replace(asked, **answered)
    assert met == [
        Failure.ACCESS_DENIED,
        Failure.HTTPS_REQUIRED,
        Failure.MAINTENANCE,
        Failure.NO_ENDPOINT,
        Failure.BODY_TOO_LARGE,
    ]
