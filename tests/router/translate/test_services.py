"""One app by itself: which port, which addresses, which rules; and what is said about the rest."""

from typing import Any

import msgspec
import pytest

from drycc_proxy.routing.definitions import Policy
from drycc_router.model.address_policy import Fence
from drycc_router.model.cluster import Cluster
from drycc_router.model.objects import Change, ObjectKey, Service
from drycc_router.model.problems import Reason
from drycc_router.model.spec import RouterConfig
from drycc_router.translate.annotations.schema import Place, defaults
from drycc_router.translate.platform import OwnNames
from drycc_router.translate.services import CompiledApp, compile_app, default_policy, routable
from tests.fakes.kube import endpoints, page, service

DEFAULT = RouterConfig(**defaults(Place.ROUTER))
OWN = OwnNames()


def compiled(
    *changes: Change,
    previous: CompiledApp | None = None,
    trusted: bool = False,
    fence: Fence = Fence(),  # noqa: B008 -- never changed
    **config: Any,
) -> CompiledApp:
    """The first of ``changes``, a Service, among the others. ``config``: what differs from the router's defaults."""
    cluster = Cluster()
    for change in changes:
        cluster.apply(change)
    view = cluster.get(Service, changes[0].key.namespace, changes[0].key.name)
    assert view is not None
    return compile_app(view, cluster, msgspec.structs.replace(DEFAULT, **config), OWN, previous, trusted, fence)


def web(**says: str) -> Change:
    return service("shop/web", {"domains": "shop", **{key.replace("_", "."): text for key, text in says.items()}})


def reasons(app: CompiledApp) -> list[Reason]:
    return [problem.reason for problem in app.problems]


# ── selection and names ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("labels", "selected", "problems"),
    [
        ({"router.drycc.cc/routable": "true"}, True, 0),
        ({"router.deis.io/routable": "true"}, True, 0),
        ({"router.drycc.cc/routable": "True"}, False, 0),
        ({}, False, 0),
        ({"router.drycc.cc/routable": "false", "router.deis.io/routable": "true"}, False, 1),
        ({"router.drycc.cc/routable": "true", "router.deis.io/routable": "false"}, True, 1),
    ],
)
def test_a_service_is_selected_by_its_label(labels: dict[str, str], selected: bool, problems: int) -> None:
    cluster = Cluster()
    cluster.apply(service("shop/web", labels=labels))
    view = cluster.get(Service, "shop", "web")
    assert view is not None

    assert routable(view)[0] is selected
    assert [problem.reason for problem in routable(view)[1]] == [Reason.SHADOWED_KEY] * problems


@pytest.mark.parametrize(
    ("name", "label", "app"),
    [
        ("shop/shop", None, "shop"),
        ("shop/web", None, "shop/web"),
        ("shop/web", "shop", "shop"),
        ("deis/deis-controller", "deis-controller", "deis/deis-controller"),
    ],
)
def test_an_app_is_called_by_its_label_or_its_service_and_by_its_namespace_where_that_differs(
    name: str, label: str | None, app: str
) -> None:
    labels = {"router.drycc.cc/routable": "true"} | ({"app": label} if label else {})

    route = compiled(service(name, {"domains": "x"}, labels=labels)).route

    assert (route.app, route.name) == (app, name)


def test_a_label_that_is_no_name_never_reaches_the_logs() -> None:
    app = compiled(service("shop/web", {"domains": "x"}, labels={"app": "a\n - b"}))

    assert app.route.app == "shop/web"
    assert reasons(app) == [Reason.BAD_VALUE]


def test_names_become_hosts() -> None:
    says = service("shop/web", {"domains": "shop,www.shop.example,*.shop.example"})

    assert list(compiled(says).hosts) == ["shop.*", "www.shop.example", "*.shop.example"]
    assert next(iter(compiled(says, platform_domain="apps.io").hosts)) == "shop.apps.io"


def test_the_platforms_names_are_for_the_platform() -> None:
    says = {"domains": "drycc,shop,apps.io,*.apps.io"}

    stranger = compiled(service("shop/web", says), platform_domain="apps.io")
    platform = compiled(service("drycc/drycc-controller", says), platform_domain="apps.io")

    assert list(stranger.hosts) == ["shop.apps.io"]
    assert reasons(stranger) == [Reason.RESERVED_DOMAIN] * 3
    assert list(platform.hosts) == ["drycc.apps.io", "shop.apps.io", "apps.io", "*.apps.io"]
    assert platform.problems == ()


def test_a_name_that_does_not_fit_below_the_platforms_domain_is_left_out() -> None:
    platform = ".".join(["a" * 63, "b" * 63, "c" * 62])

    app = compiled(service("shop/web", {"domains": f"shop,{'d' * 63}"}), platform_domain=platform)

    assert list(app.hosts) == [f"shop.{platform}"]
    assert reasons(app) == [Reason.BAD_ELEMENT]


def test_a_routable_service_without_names_is_worth_a_note() -> None:
    assert reasons(compiled(service("shop/web"))) == [Reason.NO_DOMAINS]


def test_who_wants_no_https_and_enforces_it_is_told_which_word_counts() -> None:
    app = compiled(web(**{"ssl.enabled": "false", "ssl.enforce": "true"}))
    assert reasons(app) == [Reason.BAD_VALUE]
    assert app.problems[0].message == "expected no ssl.enforce beside it, which is in force"
    assert app.route.policy.enforce_https
    assert compiled(web(**{"ssl.enabled": "false", "ssl.hsts.enabled": "false"})).problems == ()


def test_a_name_is_mapped_to_one_certificate() -> None:
    app = compiled(web(certificates="a.example:one,A.example:two,shop:three"), platform_domain="apps.io")

    assert app.certificates == {"a.example": "one", "shop.apps.io": "three"}
    assert reasons(app) == [Reason.BAD_ELEMENT]


def test_paths_want_both_of_their_keys() -> None:
    both = compiled(web(proxyDomain="front", proxyLocations="/api"), platform_domain="apps.io")
    assert (both.contributes_to, both.problems) == ("front.apps.io", ())

    for says in ({"proxyDomain": "front"}, {"proxyLocations": "/api"}):
        app = compiled(web(**says))
        assert (app.contributes_to, reasons(app)) == (None, [Reason.BAD_VALUE])

    bad = compiled(web(proxyDomain="front", proxyLocations="/"))
    assert (bad.contributes_to, reasons(bad)) == (None, [Reason.BAD_ELEMENT]), "said once"


# ── where requests go ─────────────────────────────────────────────────────────────────────────────────────────────────


def port_of(*ports: dict[str, Any], says: str | None = None, previous: CompiledApp | None = None) -> tuple[Any, Any]:
    annotations = {"domains": "shop"} | ({"port": says} if says else {})
    app = compiled(service("shop/web", annotations, ports=ports), previous=previous)
    return app.port.port if app.port else None, reasons(app)


def test_the_port_named_http_else_80_else_the_only_one() -> None:
    assert port_of({"name": "web", "port": 80}, {"name": "http", "port": 8080}) == (8080, [])
    assert port_of({"name": "metrics", "port": 9090}, {"name": "web", "port": 80}) == (80, [])
    assert port_of({"port": 3000}) == (3000, [])
    assert port_of({"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "web", "port": 3000}) == (3000, [])


def test_no_port_to_choose_is_a_problem_and_503() -> None:
    assert port_of({"name": "a", "port": 1}, {"name": "b", "port": 2}) == (None, [Reason.NO_PORT])
    assert port_of() == (None, [Reason.NO_PORT])


def test_the_port_can_be_named_or_numbered() -> None:
    ports = ({"name": "http", "port": 80}, {"name": "admin", "port": 9000})

    assert port_of(*ports, says="admin") == (9000, [])
    assert port_of(*ports, says="9000") == (9000, [])


def test_a_port_that_is_not_there_leaves_the_last_good_one_or_the_default() -> None:
    ports = ({"name": "http", "port": 80}, {"name": "admin", "port": 9000})
    good = compiled(service("shop/web", {"domains": "shop", "port": "admin"}, ports=ports))

    assert port_of(*ports, says="admim") == (80, [Reason.NO_PORT])
    assert port_of(*ports, says="admim", previous=good) == (9000, [Reason.NO_PORT])
    assert port_of(ports[0], says="admim", previous=good) == (80, [Reason.NO_PORT])


def test_endpoints_of_all_slices_sorted_and_each_once() -> None:
    app = compiled(
        web(),
        endpoints("shop/web", "10.0.0.2", "10.0.0.1"),
        endpoints("shop/web", "10.0.0.1", "fd00::1", slice_="2"),
        endpoints("shop/api", "10.9.9.9"),
        endpoints("other/web", "10.8.8.8"),
    )

    assert app.route.endpoints == (("10.0.0.1", 5000), ("10.0.0.2", 5000), ("fd00::1", 5000))


def test_slices_are_matched_by_the_name_of_the_port() -> None:
    app = compiled(web(), endpoints("shop/web", "10.0.0.1", called="admin"))

    assert app.route.endpoints == ()
    assert [(problem.reason, problem.object.kind) for problem in app.problems] == [(Reason.NO_PORT, "EndpointSlice")]
    assert "named 'http'" in app.problems[0].message


def test_endpoints_that_are_doors_to_elsewhere_are_left_out() -> None:
    slices = endpoints("shop/web", "10.0.0.1", "169.254.169.254", "127.0.0.1", "pod.example")

    assert compiled(web(), slices).route.endpoints == (("10.0.0.1", 5000),)
    assert reasons(compiled(web(), slices)) == [Reason.REFUSED_ADDRESS] * 3
    assert compiled(web(), slices, trusted=True).route.endpoints == (("10.0.0.1", 5000), ("127.0.0.1", 5000))


POD = {"kind": "Pod", "namespace": "shop", "name": "web-0"}


def at(address: str, target: dict[str, str] | None = None, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "targetRef": target, "conditions": conditions}


def test_who_is_about_to_go_gets_nothing_new() -> None:
    """Ready, not ready yet, serving and terminating, terminating; and one of a Service that asks for unready ones."""
    slices = endpoints(
        "shop/web",
        at("10.0.0.1", ready=True, serving=True, terminating=False),
        at("10.0.0.2", ready=False, serving=False, terminating=False),
        at("10.0.0.3", ready=False, serving=True, terminating=True),
        at("10.0.0.4", ready=False, serving=False, terminating=True),
        at("10.0.0.5", ready=True, serving=True, terminating=True),
        at("10.0.0.6"),
    )

    assert compiled(web(), slices).route.endpoints == (("10.0.0.1", 5000), ("10.0.0.6", 5000))


def conditions(ready: bool, serving: bool, terminating: bool) -> dict[str, bool]:
    return {"ready": ready, "serving": serving, "terminating": terminating}


READY = conditions(True, True, False)
STARTING = conditions(False, False, False)
LEAVING = conditions(False, True, True)
GONE = conditions(False, False, True)
UNREADY_WANTED = conditions(True, True, True)
"""Of a Service with publishNotReadyAddresses."""


@pytest.mark.parametrize(
    ("states", "served"),
    [
        ((LEAVING, LEAVING), (1, 2)),
        ((LEAVING, GONE, STARTING), (1,)),
        ((UNREADY_WANTED, GONE), (1,)),
        ((LEAVING, READY), (2,)),
        ((READY, LEAVING), (1,)),
        ((GONE, STARTING), ()),
        (({"terminating": True, "ready": False}, STARTING), (1,)),  # an unset serving means serving, as to kube-proxy
    ],
)
@pytest.mark.parametrize("apart", [False, True], ids=["one slice", "a slice each"])
def test_while_no_endpoint_is_ready_those_that_terminate_and_serve_do(
    states: tuple[dict[str, bool], ...], served: tuple[int, ...], apart: bool
) -> None:
    """As kube-proxy does it (KEP-1669): the last Pod of an app that is rolled out or drained answers to its end."""
    all_of_them = [at(f"10.0.0.{number}", None, **state) for number, state in enumerate(states, 1)]
    if apart:
        slices = [endpoints("shop/web", each, slice_=str(number)) for number, each in enumerate(all_of_them)]
    else:
        slices = [endpoints("shop/web", *all_of_them)]
    app = compiled(web(), *slices)

    assert app.route.endpoints == tuple((f"10.0.0.{number}", 5000) for number in served)
    assert app.problems == ()


def test_what_is_ready_at_another_port_does_not_count() -> None:
    app = compiled(
        web(),
        endpoints("shop/web", at("10.0.0.1", None, **LEAVING)),
        endpoints("shop/web", at("10.0.0.2", None, **READY), called="admin", slice_="2"),
    )

    assert app.route.endpoints == (("10.0.0.1", 5000),)


def test_a_ready_endpoint_that_is_refused_does_not_bring_leaving_ones_back() -> None:
    """kube-proxy would send to the ready one."""
    slices = endpoints("shop/web", at("169.254.169.254", None, **READY), at("10.0.0.2", None, **LEAVING))

    assert compiled(web(), slices).route.endpoints == ()
    assert reasons(compiled(web(), slices)) == [Reason.REFUSED_ADDRESS]


def test_the_cluster_address_serves_while_endpoints_terminate_and_serve() -> None:
    served = service("shop/web", {"domains": "shop", "upstream": "service"}, clusterIP="10.96.0.7")

    assert compiled(served, endpoints("shop/web", at("10.0.0.1", None, **LEAVING))).route.endpoints == (
        ("10.96.0.7", 80),
    )
    assert compiled(served, endpoints("shop/web", at("10.0.0.1", None, **GONE))).route.endpoints == ()


def test_one_port_may_have_another_number_in_each_slice() -> None:
    """As it is while a rollout changes what ``targetPort: http`` means."""
    ports = ({"name": "http", "port": 80}, {"name": "metrics", "port": 9090})
    app = compiled(
        service("shop/web", {"domains": "shop"}, ports=ports),
        endpoints(
            "shop/web",
            "10.0.0.1",
            ports=[{"name": "http", "port": 5000}, {"name": "metrics", "port": 9090}, {"name": "dns", "port": None}],
        ),
        endpoints(
            "shop/web", "10.0.0.2", ports=[{"name": "metrics", "port": 9}, {"name": "http", "port": 8080}], slice_="2"
        ),
        endpoints("shop/web", "10.0.0.3", ports=[{"name": "http", "port": 53, "protocol": "UDP"}], slice_="3"),
    )

    assert app.route.endpoints == (("10.0.0.1", 5000), ("10.0.0.2", 8080))
    assert [(problem.reason, problem.object.name) for problem in app.problems] == [(Reason.NO_PORT, "web-3")]


def test_a_port_that_is_renamed_has_endpoints_once_both_call_it_so() -> None:
    """Like kube-proxy: which of the two is right is not for the router to guess. Visitors see 503, not 404."""
    renamed = service("shop/web", {"domains": "shop"}, ports=({"name": "web", "port": 80},))

    between = compiled(renamed, endpoints("shop/web", "10.0.0.1"))
    assert (between.route.endpoints, reasons(between)) == ((), [Reason.NO_PORT])
    assert compiled(renamed, endpoints("shop/web", "10.0.0.1", called="web")).route.endpoints == (("10.0.0.1", 5000),)


@pytest.mark.parametrize(
    ("cluster_ip", "expected"),
    [("10.96.0.1", "10.0.0.1"), ("fd00:96::1", "fd00::1"), ("None", "10.0.0.1")],
)
def test_a_pod_with_an_address_of_either_family_is_one_endpoint(cluster_ip: str, expected: str) -> None:
    """So it gets a Pod's share, beside those that have only one address."""
    other = {**POD, "name": "web-1"}
    app = compiled(
        service("shop/web", {"domains": "shop"}, clusterIP=cluster_ip),
        endpoints("shop/web", at("10.0.0.1", POD)),
        endpoints("shop/web", at("fd00::1", POD), at("fd00::2", other), slice_="2", addressType="IPv6"),
    )

    assert app.route.endpoints == ((expected, 5000), ("fd00::2", 5000))
    assert app.problems == ()


def test_what_does_not_say_which_pod_it_is_counts_by_its_address() -> None:
    six = endpoints("shop/web", "fd00::1", at("fd00::2", {"kind": "Pod"}), slice_="2", addressType="IPv6")
    app = compiled(web(), endpoints("shop/web", "10.0.0.1", at("10.0.0.2", {"kind": "Pod"})), six)

    assert len(app.route.endpoints) == 4


def test_an_endpoint_that_says_it_is_in_another_namespace_is_refused() -> None:
    """All that can be checked of a slice written by hand without the right to read Pods (M-14)."""
    app = compiled(
        web(),
        endpoints(
            "shop/web",
            at("10.0.0.1", POD),
            at("10.0.0.2", {"kind": "Pod", "namespace": "blog", "name": "web-0"}),
            at("10.0.0.3", {"kind": "Node", "name": "node-1"}),
            at("10.0.0.4", {"kind": "Pod", "namespace": "", "name": "web-4"}),
        ),
    )

    assert app.route.endpoints == (("10.0.0.1", 5000), ("10.0.0.4", 5000))
    assert [(problem.reason, problem.key, problem.value) for problem in app.problems] == [
        (Reason.REFUSED_ADDRESS, "endpoints[1].targetRef", "Pod blog/web-0"),
        (Reason.REFUSED_ADDRESS, "endpoints[2].targetRef", "Node node-1"),
    ]


def test_names_in_slices_are_not_looked_up() -> None:
    names = endpoints("shop/web", "metadata.google.internal", "blog.example", "10.0.0.1", addressType="FQDN")
    app = compiled(web(), names, endpoints("shop/web", "10.0.0.2", slice_="2"))

    assert app.route.endpoints == (("10.0.0.2", 5000),)
    assert [(problem.reason, problem.key, problem.value, problem.message) for problem in app.problems] == [
        (Reason.REFUSED_ADDRESS, "addressType", "FQDN", "expected IPv4 or IPv6: names are not looked up")
    ]


def test_the_slices_of_a_service_that_is_no_more_are_not_its_successors() -> None:
    recreated = service("shop/web", {"domains": "shop"}, uid="new")
    old = endpoints("shop/web", "10.0.0.1", owner="old")

    app = compiled(recreated, old, endpoints("shop/web", "10.0.0.2", owner="new", slice_="2"))
    assert (app.route.endpoints, app.problems) == ((("10.0.0.2", 5000),), ())
    assert compiled(recreated, old).route.endpoints == ()
    assert compiled(recreated, endpoints("shop/web", "10.0.0.3")).route.endpoints == (("10.0.0.3", 5000),), "by hand"
    assert compiled(web(), old).route.endpoints == (("10.0.0.1", 5000),), "manifests have no uids"


def test_the_services_own_address() -> None:
    app = compiled(web(upstream="service"), endpoints("shop/web", "10.0.0.1"))
    assert app.route.endpoints == (("10.96.0.1", 80),)

    headless = compiled(service("shop/web", {"domains": "shop", "upstream": "service"}, clusterIP="None"))
    assert (headless.route.endpoints, reasons(headless)) == ((), [Reason.NO_ADDRESS])

    metadata = compiled(service("shop/web", {"domains": "shop", "upstream": "service"}, clusterIP="169.254.169.254"))
    assert (metadata.route.endpoints, reasons(metadata)) == ((), [Reason.REFUSED_ADDRESS])


def test_a_services_own_address_leads_somewhere_only_while_an_endpoint_is_ready() -> None:
    """The ancestors did so too: 503 at once is better than a refused connection."""
    says = web(upstream="service")

    assert compiled(says).route.endpoints == ()
    assert compiled(says, endpoints("shop/web")).route.endpoints == ()
    assert compiled(says, endpoints("shop/web", at("10.0.0.1", ready=False))).route.endpoints == ()
    assert compiled(says, endpoints("shop/web", "10.0.0.1", called="admin")).route.endpoints == ()
    assert compiled(says, trusted=True).route.endpoints == (("10.96.0.1", 80),), "manifests need no slices"


def test_a_services_own_address_is_no_way_around_what_is_refused_of_its_endpoints() -> None:
    fence = Fence.around({"POD_IP": "10.0.0.9"})
    for slices in (
        endpoints("shop/web", "10.0.0.1", "10.0.0.9"),
        endpoints("shop/web", at("10.0.0.1", {"kind": "Pod", "namespace": "blog", "name": "web-0"})),
    ):
        app = compiled(web(upstream="service"), slices, fence=fence)
        assert (app.route.endpoints, reasons(app)) == ((), [Reason.REFUSED_ADDRESS])


def test_a_headless_service_has_endpoints_like_any_other() -> None:
    app = compiled(service("shop/web", {"domains": "shop"}, clusterIP="None"), endpoints("shop/web", "10.0.0.1"))

    assert app.route.endpoints == (("10.0.0.1", 5000),)


def test_external_names_are_refused() -> None:
    app = compiled(
        service("shop/web", {"domains": "shop"}, type="ExternalName", externalName="metadata.internal", ports=()),
        endpoints("shop/web", "10.0.0.1"),
    )

    assert (app.route.endpoints, reasons(app)) == ((), [Reason.EXTERNAL_NAME])


# ── under which rules ─────────────────────────────────────────────────────────────────────────────────────────────────


def policy_of(*says: tuple[str, str], **config: Any) -> Policy:
    return compiled(service("shop/web", {"domains": "shop", **dict(says)}), **config).route.policy


def test_an_app_that_says_nothing_has_the_routers_rules() -> None:
    assert policy_of() == default_policy(DEFAULT) == Policy()


def test_an_app_has_its_own_rules() -> None:
    policy = policy_of(
        ("connectTimeout", "2s"),
        ("tcpTimeout", "10m"),
        ("requestTimeout", "1m"),
        ("bodySize", "10m"),
        ("bodyTimeout", "0"),
        ("bodyRate", "1k"),
        ("maintenance", "True"),
        ("referrerPolicy", "no-referrer"),
        ("denylist", "203.0.113.0/24"),
        ("ssl.enforce", "True"),
    )

    assert policy == Policy(
        connect_timeout=2.0,
        idle_timeout=600.0,
        request_timeout=60.0,
        body_size=10 << 20,
        body_timeout=0.0,
        body_rate=1024,
        maintenance=True,
        referrer_policy=b"no-referrer",
        deny=("203.0.113.0/24",),
        enforce_https=True,
    )


def test_what_an_app_does_not_say_the_router_says() -> None:
    policy = policy_of(default_timeout=60.0, body_size=7, referrer_policy="origin", ssl_enforce=True)

    assert (policy.idle_timeout, policy.body_size) == (60.0, 7)
    assert (policy.referrer_policy, policy.enforce_https) == (b"origin", True)
    assert policy_of(("referrerPolicy", "none"), referrer_policy="origin").referrer_policy == b""
    assert policy_of(("bodySize", "0"), body_size=7).body_size == 0
    assert policy_of(("ssl.enforce", "false"), ssl_enforce=True).enforce_https is False


def test_hsts_implies_https_for_that_app_only() -> None:
    policy = policy_of(("ssl.hsts.enabled", "true"), ("ssl.hsts.maxAge", "60"), ("ssl.hsts.preload", "true"))

    assert (policy.hsts, policy.enforce_https) == (b"max-age=60; preload", True)
    assert policy_of().enforce_https is False
    everybody = policy_of(hsts_enabled=True, hsts_include_subdomains=True)
    assert (everybody.hsts, everybody.enforce_https) == (b"max-age=15552000; includeSubDomains", True)
    assert policy_of(("ssl.hsts.enabled", "false"), hsts_enabled=True).hsts == b""


@pytest.mark.parametrize(
    ("own", "default", "mode", "enforce", "allow"),
    [
        (None, None, "extend", False, None),
        (None, None, "extend", True, ()),
        (None, ("10.0.0.0/8",), "override", False, ("10.0.0.0/8",)),
        (None, (), "extend", False, ()),
        ("192.0.2.1", None, "extend", False, ("192.0.2.1/32",)),
        ("192.0.2.1", None, "extend", True, ("192.0.2.1/32",)),
        ("192.0.2.1", ("10.0.0.0/8",), "extend", False, ("192.0.2.1/32", "10.0.0.0/8")),
        ("192.0.2.1", ("10.0.0.0/8",), "override", False, ("192.0.2.1/32",)),
        ("nonsense", None, "extend", False, ()),
        ("nonsense", ("10.0.0.0/8",), "override", False, ()),
        ("nonsense", ("10.0.0.0/8",), "extend", False, ("10.0.0.0/8",)),
    ],
)
def test_who_may_come(
    own: str | None, default: tuple[str, ...] | None, mode: str, enforce: bool, allow: tuple[str, ...] | None
) -> None:
    says = [("whitelist", own)] if own is not None else []

    assert policy_of(*says, default_allow=default, allow_mode=mode, enforce_allow=enforce).allow == allow


def test_x_request_start_is_the_routers_to_add_and_the_apps_to_leave_out() -> None:
    assert policy_of(request_start=True).request_start is True
    assert policy_of(("disableRequestStartHeader", "true"), request_start=True).request_start is False


def test_the_maintenance_page_is_a_config_map_of_the_same_namespace() -> None:
    says = service("shop/web", {"domains": "shop", "maintenance.page": "sorry"})

    shown = compiled(says, page("shop/sorry", "<p>Späti</p>"))
    missing = compiled(says, page("other/sorry", "<p>"))

    assert shown.route.policy.maintenance_page == "<p>Späti</p>".encode()
    assert (missing.route.policy.maintenance_page, reasons(missing)) == (b"", [Reason.PAGE_MISSING])


def test_problems_name_the_annotation_as_it_was_written() -> None:
    app = compiled(service("shop/web", {"domains": "shop", "port": "nine"}, prefix="router.deis.io/"))

    assert app.problems[0].object == ObjectKey("Service", "shop", "web")
    assert (app.problems[0].key, app.problems[0].value) == ("router.deis.io/port", "nine")
    assert app.problems[0].message == "expected one of the Service's TCP ports: 80"
