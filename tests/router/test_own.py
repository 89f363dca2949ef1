"""What belongs to the router: its objects' names, its platform's names, and its settings."""

import dataclasses

import pytest

from proxy.routes import Edge
from router.annotations.fields import Place, defaults
from router.model import RouterConfig
from router.objects import ObjectKey
from router.own import OwnNames, edge, tls_policy
from tls.policy import CIPHERS, CIPHERS_1_3, TlsPolicy, Version

OWN = OwnNames(platform_namespaces=frozenset({"monitoring"}))
DEFAULT = RouterConfig(**defaults(Place.ROUTER))


def test_the_ancestors_names_are_understood_too() -> None:
    assert OWN.candidates("Deployment", OWN.deployment) == (
        ObjectKey("Deployment", "drycc", "drycc-router"),
        ObjectKey("Deployment", "drycc", "deis-router"),
    )
    assert OWN.candidates("Deployment", "edge") == (ObjectKey("Deployment", "drycc", "edge"),)


def test_everything_of_its_own_is_called_after_the_router() -> None:
    edge = OwnNames.of("edge", "net")

    assert (edge.namespace, edge.deployment, edge.platform_certificate) == ("net", "edge", "edge-platform-cert")
    assert edge.builder == "drycc-builder"
    assert edge.record == ObjectKey("ConfigMap", "net", "edge-claims")
    assert OwnNames.of("drycc-router", "drycc") == OwnNames()


def test_the_platform_is_the_routers_namespace_and_those_it_is_told() -> None:
    assert OWN.is_platform("drycc")
    assert OWN.is_platform("monitoring")
    assert not OWN.is_platform("shop")


@pytest.mark.parametrize(
    "host",
    [
        "drycc.apps.example.com",
        "drycc-builder.apps.example.com",
        "grafana.apps.example.com",
        "apps.example.com",
        "*.apps.example.com",
        "*.example.com",
    ],
)
def test_the_platforms_names_its_domain_and_every_wildcard_above_are_reserved(host: str) -> None:
    assert OWN.is_reserved(host, "apps.example.com")


@pytest.mark.parametrize(
    "host", ["shop.apps.example.com", "grafana.shop.example", "example.com", "*.shop.apps.example.com"]
)
def test_other_names_are_free(host: str) -> None:
    assert not OWN.is_reserved(host, "apps.example.com")


def test_without_a_platform_domain_the_platforms_names_are_reserved_below_any_suffix() -> None:
    assert OWN.is_reserved("drycc.*", None)
    assert OWN.is_reserved("drycc.203.0.113.7.nip.io", None)
    assert not OWN.is_reserved("shop.*", None)


def test_the_defaults_are_the_data_planes_defaults() -> None:
    assert edge(DEFAULT, "") == Edge()
    assert tls_policy(DEFAULT) == TlsPolicy()


def test_settings_of_connections() -> None:
    config = dataclasses.replace(
        DEFAULT, trusted=("10.0.0.0/8",), max_head=65536, max_fields=50, log_format="deis", request_ids=False
    )

    assert edge(config, "default") == Edge(
        trusted=("10.0.0.0/8",),
        max_head=65536,
        max_fields=50,
        log_format="deis",
        request_ids=False,
        default_route="default",
    )


def test_settings_of_handshakes() -> None:
    config = dataclasses.replace(
        DEFAULT,
        ssl_protocols=("TLSv1.3",),
        ssl_ciphers=(CIPHERS_1_3[0], CIPHERS[3]),
        ssl_session_tickets=False,
    )

    policy = tls_policy(config)

    assert (policy.minimum, policy.maximum) == (Version.TLS_1_3, Version.TLS_1_3)
    assert policy.ciphers == (CIPHERS[3],)
    assert not policy.session_tickets


def test_naming_only_ciphers_of_tls_1_3_leaves_the_others_as_they_are() -> None:
    assert tls_policy(dataclasses.replace(DEFAULT, ssl_ciphers=CIPHERS_1_3)).ciphers == CIPHERS
