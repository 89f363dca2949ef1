"""An endpoint says who it is and how busy."""

from __future__ import annotations

from proxy.upstreams.endpoint import Endpoint


def test_a_new_endpoint_is_free() -> None:
    endpoint = Endpoint(("fd00::1", 8080))
    assert (endpoint.load, endpoint.idle, endpoint.gone) == (0, [], False)
    assert endpoint.label == b"[fd00::1]:8080"
    assert repr(endpoint) == "<Endpoint [fd00::1]:8080 load=0 idle=0>"
    endpoint.gone = True
    assert repr(endpoint) == "<Endpoint [fd00::1]:8080 load=0 idle=0 gone>"


def test_one_address_in_two_apps_is_two_endpoints() -> None:
    assert Endpoint(("10.0.0.1", 80)) != Endpoint(("10.0.0.1", 80))
