"""What belongs to the router: its objects' names, its platform's names, and its settings."""

import dataclasses
from typing import Any

import msgspec
import pytest

from drycc_proxy.routing.definitions import Edge
from drycc_router.model.objects import ObjectKey
from drycc_router.model.spec import RouterConfig
from drycc_router.translate.annotations.schema import Place, defaults
from drycc_router.translate.platform import OwnNames, edge, read_given, tls_policy
from drycc_tls.policy import CIPHERS, CIPHERS_1_3, TlsPolicy, Version

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
        "*.drycc.apps.example.com",
        "*.grafana.apps.example.com",
        "admin.drycc.apps.example.com",
        "a.b.drycc-builder.apps.example.com",
        "*.a.drycc.apps.example.com",
        "apps.example.com",
        "*.apps.example.com",
        "*.example.com",
    ],
)
def test_the_platforms_names_its_domain_and_every_wildcard_above_are_reserved(host: str) -> None:
    assert OWN.is_reserved(host, "apps.example.com")


@pytest.mark.parametrize(
    "host",
    [
        "shop.apps.example.com",
        "grafana.shop.example",
        "example.com",
        "*.shop.apps.example.com",
        "drycc.shop.apps.example.com",
        "mydrycc.apps.example.com",
        "drycc.otherapps.example.com",
        "drycc.apps.example.com.evil.example",
    ],
)
def test_other_names_are_free(host: str) -> None:
    assert not OWN.is_reserved(host, "apps.example.com")


def test_without_a_platform_domain_the_platforms_names_are_reserved_below_any_suffix() -> None:
    assert OWN.is_reserved("drycc.*", None)
    assert OWN.is_reserved("drycc.203.0.113.7.nip.io", None)
    assert not OWN.is_reserved("shop.*", None)


def test_what_is_given_to_a_namespace_is_refused_to_all_others() -> None:
    given, bad = read_given(
        "shop.example shop\n*.big.example  big\n\n# nothing\n*.Wild.Example. wild\nb\u00fccher shop", "apps.io"
    )
    assert given == {"shop.example": "shop", "*.wild.example": "wild", "xn--bcher-kva.apps.io": "shop"}
    assert bad == [("*.big.example  big", "a name and a namespace, with one space between them")]

    names = dataclasses.replace(OWN, given=given)
    for host, owner in (
        ("shop.example", "shop"),
        ("*.wild.example", "wild"),
        ("a.b.wild.example", "wild"),
        ("*.a.wild.example", "wild"),
        ("*.example", "nobody"),
    ):
        assert (
            names.objection("evil", host, None)
            == "expected another name: the operator gave this one to another namespace"
        )
        assert names.objection("drycc", host, None) != ""
        assert names.objection(owner, host, None) == "" or owner == "nobody"
    for host in ("wild.example", "www.shop.example", "other.example", "*.shop.example"):
        assert names.objection("evil", host, None) == ""


def test_the_closest_word_counts_and_beats_the_platforms_reservations() -> None:
    given = {"*.example.com": "a", "b.example.com": "b", "*.c.example.com": "c", "grafana.apps.io": "b"}
    names = dataclasses.replace(OWN, given=given)

    assert names.objection("b", "b.example.com", None) == ""
    assert names.objection("a", "b.example.com", None) != ""
    assert names.objection("a", "*.example.com", None) == ""
    assert names.objection("c", "x.c.example.com", None) == ""
    assert names.objection("a", "x.c.example.com", None) != ""
    assert names.objection("b", "grafana.apps.io", "apps.io") == ""
    assert names.objection("drycc", "grafana.apps.io", "apps.io") != ""
    assert names.objection("b", "drycc.apps.io", "apps.io") == "expected another name: this one is the platform's"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("shop.example", "a name and a namespace"),
        ("shop.example Shop", "a name and a namespace"),
        ("shop.example shop web", "a name and a namespace"),
        ("*.com shop", "a wildcard of a domain of one's own"),
        ("foo_bar shop", "a name without an underscore"),
        ("a.example blog", "each name once"),
    ],
)
def test_a_line_that_is_not_in_order_leaves_the_others(line: str, expected: str) -> None:
    given, bad = read_given(f"a.example shop\n{line}\nz.example shop", None)

    assert given == {"a.example": "shop", "z.example": "shop"}
    ((said, why),) = bad
    assert said == line
    assert why.startswith(expected)


def test_the_defaults_are_the_data_planes_defaults() -> None:
    assert edge(DEFAULT, "") == Edge()
    assert tls_policy(DEFAULT) == TlsPolicy()


def test_settings_of_connections() -> None:
    config = msgspec.structs.replace(
        DEFAULT,
        trusted=("10.0.0.0/8",),
        proxy_protocol=True,
        max_head=65536,
        max_fields=50,
        max_target=512,
        max_connections=9000,
        max_per_client=20,
        max_requests=1000,
        log_format="deis",
        request_ids=False,
        https_port=8443,
    )
    limits: dict[str, Any] = {
        "app_requests": 7,
        "app_queue": 8,
        "app_queue_timeout": 0.5,
        "upstream_idle": 9,
        "upstream_idle_timeout": 4.0,
        "keepalive_timeout": 620.0,
    }
    config = msgspec.structs.replace(config, **limits)

    assert edge(config, "default") == Edge(
        trusted=("10.0.0.0/8",),
        proxy_protocol=True,
        max_head=65536,
        max_fields=50,
        max_target=512,
        max_connections=9000,
        max_per_client=20,
        max_requests=1000,
        log_format="deis",
        request_ids=False,
        https_port=8443,
        default_route="default",
        **limits,
    )


def test_settings_of_handshakes() -> None:
    config = msgspec.structs.replace(
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
    assert tls_policy(msgspec.structs.replace(DEFAULT, ssl_ciphers=CIPHERS_1_3)).ciphers == CIPHERS
