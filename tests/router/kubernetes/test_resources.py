"""Where the API server keeps things."""

from __future__ import annotations

from drycc_router.kubernetes.resources import ENDPOINT_SLICES, SECRETS, SERVICES


def test_the_core_and_a_group_have_different_roots() -> None:
    assert SERVICES.path() == "/api/v1/services"
    assert ENDPOINT_SLICES.path() == "/apis/discovery.k8s.io/v1/endpointslices"


def test_a_namespace_and_a_name_narrow_it() -> None:
    assert ENDPOINT_SLICES.path("shop") == "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
    assert SECRETS.path("shop", "web-cert") == "/api/v1/namespaces/shop/secrets/web-cert"


def test_it_is_called_as_rights_call_it() -> None:
    assert (str(SERVICES), str(ENDPOINT_SLICES)) == ("services", "endpointslices.discovery.k8s.io")
    assert (SERVICES.api_version, ENDPOINT_SLICES.api_version) == ("v1", "discovery.k8s.io/v1")
