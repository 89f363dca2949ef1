"""What the chart accepts the router accepts: every value is compared with whoever reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from docs import values_schema
from drycc_router.check import compiled
from drycc_router.model.objects import ObjectKey
from drycc_router.model.problems import Reason
from drycc_router.settings import FIELDS as SETTINGS
from drycc_router.settings import Settings, read
from drycc_router.translate.annotations.reading import read_router
from drycc_router.translate.annotations.schema import FIELDS, Effect, Field, Place
from drycc_router.translate.platform import OwnPorts
from tests.charts.rendering import CHART, Rendered, rendered
from tests.charts.test_chart import SCHEMA

ANNOTATIONS = [field for field in FIELDS if field.place is Place.ROUTER and field.key not in values_schema.NAMES]
READ = [field for field in ANNOTATIONS if field.effect is not Effect.NONE]
"""Keys whose values the router looks at."""

DEPLOYMENT = ObjectKey("Deployment", "drycc", "drycc-router")


def properties(*path: str) -> dict[str, Any]:
    schema = SCHEMA
    for name in path:
        schema = schema["properties"][name]
    return dict(schema)


def refused(key: str, text: str) -> list[str]:
    """What the router has against an annotation on its Deployment."""
    _, problems = read_router(DEPLOYMENT, {f"router.drycc.cc/{key}": text}, None)
    # A network with host bits is in force; that it is also told no schema can foresee.
    return [str(each) for each in problems if not each.is_note and each.reason is not Reason.HOST_BITS]


def accepts(schema: dict[str, Any], text: str) -> bool:
    """Whether the schema lets this string through."""
    if "enum" in schema:
        return text in schema["enum"]
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    pattern = schema.get("pattern", "")
    return "string" in kinds and bool(re.search(pattern, text)) and len(text) <= schema.get("maxLength", len(text))


def each(fields: list[Field]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("field", fields, ids=lambda field: field.key)


# ── annotations ───────────────────────────────────────────────────────────────────────────────────────────────────────


@each(READ)
@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_whatever_text_the_chart_accepts_the_router_reads(field: Field, data: st.DataObject) -> None:
    schema = properties("routerAnnotations", field.key)
    if "enum" in schema:
        text = data.draw(st.sampled_from(schema["enum"]))
    else:
        inner = schema["pattern"].removeprefix("^").removesuffix("$")
        text = data.draw(st.from_regex(inner, fullmatch=True))
    if len(text) > schema.get("maxLength", len(text)) or "xn--" in text.lower():
        return  # which no pattern can tell from punycode
    assert refused(field.key, text) == []


ODD_WORDS = """
    0 1 -1 +1 01 1.5 1e3 1.5e+06 0x10 1_000 ٣ inf nan 99999999999999999999 0.0001 0.0 366d 8761h 1ms 0ms 0s 1y 10mb 2k
    5K 1025k 2m 1t yes no on off True FALSE null none ~ localhost example apps.example.com .example.com apps..example
    apps.example.com. -a.example a-.example a_b.example *.example.com ab--cd.example 1.2.3.4 1.2.3 1.2.3.4.5 256.0.0.1
    10.0.0.0/8 10.0.0.0/33 10.0.0.0/255.0.0.0 2001:db8::/32 2001:db8::/129 :: ::1 :::1 1::2::3 1:2:3:4:5:6:7:8
    1:2:3:4:5:6:7:8:9 ::ffff:1.2.3.4 fe80::1%eth0 10.0.0.1,10.0.0.2 10.0.0.1,,10.0.0.2 10.0.0.1; 10.0.0.1,x TLSv1.2
    TLSv1.3 TLSv1 TLSv1.2,TLSv1.3 SSLv3 extend Extend json JSON text/css text/* */* text/css;q=1 text/css,text/html info
    error loud same-origin SAME-ORIGIN AES128-SHA ECDHE-RSA-AES128-GCM-SHA256 ECDHE-RSA-AES128-GCM-SHA256:x default
    app/name -app name! any off,any 65535 65536 1048577
"""
ODD = [
    *ODD_WORDS.split(),
    "",
    " ",
    "a b",
    "TLSv1.2 TLSv1.3",
    "TLSv1.2  TLSv1.3",
    "10.0.0.1, 10.0.0.2",
    "a" * 64 + ".example",
    ".".join(["a" * 60] * 5),
]


@each(READ)
def test_odd_texts_that_the_chart_lets_through_are_read(field: Field) -> None:
    schema = properties("routerAnnotations", field.key)
    let_through = [text for text in ODD if accepts(schema, text)]
    assert {text: refused(field.key, text) for text in let_through if refused(field.key, text)} == {}
    assert len(let_through) < len(ODD), "the chart accepts anything here"


@each(READ)
def test_what_the_router_has_by_default_the_chart_accepts(field: Field) -> None:
    schema = properties("routerAnnotations", field.key)
    if field.default is not None:
        assert accepts(schema, field.default)


USUAL = {
    "platformDomain": ("apps.example.com", "localhost", "xn--bcher-kva.example", "a--b.example", "Apps.Example.COM"),
    "defaultTimeout": ("1300s", "1300", "1.5m", "500ms", "2h", "365d", "0.5"),
    "bodySize": ("0", "100m", "1g", "512K", "1048576"),
    "largeHeaderBuffersSize": ("32k", "1024", "1m"),
    "maxHeaders": ("1", "64", "1000"),
    "proxyRealIpCidrs": ("192.0.2.0/28,2001:db8::/32", "10.0.0.9", "10.0.0.9, 10.0.0.1", "fd00::/8", "::ffff:10.0.0.7"),
    "defaultServiceIP": ("10.96.0.7", "fd00::7"),
    "ssl.protocols": ("TLSv1.2 TLSv1.3", "TLSv1.3"),
    "gzip.types": ("text/css application/json",),
    "requestIDs": ("true", "True", "FALSE"),
    "httpsPort": ("443", "8443", "65535"),
}  # fmt: skip


@pytest.mark.parametrize(("key", "text"), [(key, text) for key, texts in USUAL.items() for text in texts])
def test_what_operators_usually_write_the_chart_accepts(key: str, text: str) -> None:
    assert accepts(properties("routerAnnotations", key), text)
    assert refused(key, text) == []


def bounds(end: str) -> dict[str, int]:
    return {
        field.key: schema[end]
        for field in READ
        if end in (schema := properties("routerAnnotations", field.key))
    }  # fmt: skip


@pytest.mark.parametrize("end", ["minimum", "maximum"])
def test_the_least_and_the_largest_numbers_arrive_as_the_router_reads_them(end: str, tmp_path: Path) -> None:
    numbers = bounds(end)
    assert len(numbers) > 10
    deployment = rendered({"routerAnnotations": numbers}).one("Deployment")
    annotations = deployment["metadata"]["annotations"]
    assert annotations == {f"router.drycc.cc/{key}": str(number) for key, number in numbers.items()}
    assert {key: refused(key, str(number)) for key, number in numbers.items() if refused(key, str(number))} == {}


@cache
def helm_refuses(key: str, value: object) -> bool:
    try:
        rendered({"routerAnnotations": {key: value}})
    except helm_python.HelmValuesError:
        return True
    return False


@each(READ)
def test_helm_itself_refuses_what_the_router_would(field: Field) -> None:
    schema = properties("routerAnnotations", field.key)
    bad = next(text for text in ODD if text and not accepts(schema, text) and refused(field.key, text))
    assert helm_refuses(field.key, bad)
    for end, step in (("minimum", -1), ("maximum", 1)):
        if schema.get(end, 1 << 53) < 1 << 53:  # from there on JSON's numbers skip some
            assert helm_refuses(field.key, schema[end] + step)


@pytest.mark.parametrize("text", ["", "soon"])
def test_patterns_mean_to_helm_what_they_mean_here(text: str) -> None:
    for key in ("defaultTimeout", "proxyRealIpCidrs"):
        assert helm_refuses(key, text)
    good = {key: texts[0] for key, texts in USUAL.items()}
    annotations = rendered({"routerAnnotations": good}).one("Deployment")["metadata"]["annotations"]
    assert annotations == {f"router.drycc.cc/{key}": value for key, value in good.items()}


@pytest.mark.parametrize(("lowest", "highest"), [(0, 0), (0, 255), (1, 9), (7, 1234), (100, 999), (1024, 70000)])
def test_a_pattern_for_numbers_fits_those_and_no_others(lowest: int, highest: int) -> None:
    pattern = re.compile(values_schema.number_pattern(lowest, highest))
    fitting = [number for number in range(highest + 2000) if pattern.fullmatch(str(number))]
    assert fitting == list(range(lowest, highest + 1))
    assert not pattern.fullmatch("0" + str(highest))


# ── further ports ─────────────────────────────────────────────────────────────────────────────────────────────────────

PORTS = {"5432": "shop/database:5432", "1883": "iot/broker", "6379": "shop/cache:redis-main"}


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet"])
def test_a_further_port_is_open_all_the_way(kind: str, tmp_path: Path) -> None:
    host = {"hostPorts": {"enabled": True}} if kind == "DaemonSet" else {}
    objects = rendered({"kind": kind, "tcpPorts": PORTS, **host})
    open_ports = {port["name"]: port for port in objects.container()["ports"]}
    balanced = {port["port"]: port["targetPort"] for port in objects.one("Service")["spec"]["ports"]}
    let_in = {port["port"] for port in objects.one("NetworkPolicy")["spec"]["ingress"][0]["ports"]}
    for written in PORTS:
        name = balanced[int(written)]
        assert open_ports[name]["containerPort"] == int(written)
        assert open_ports[name].get("hostPort") == (int(written) if host else None)
        assert name in let_in
    assert {stream.port for stream in streams(objects, tmp_path)} == {int(port) for port in PORTS}


def streams(objects: Rendered, directory: Path) -> list[Any]:
    """What the router makes of the annotation, where the Services are."""
    services = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"ports": [{"name": "redis-main", "port": 5432}]},
        }
        for namespace, name in (("shop", "database"), ("iot", "broker"), ("shop", "cache"))
    ]
    (directory / "all.yaml").write_text(yaml.safe_dump_all([*objects, *services]), encoding="utf-8")
    snapshot = compiled(directory, "drycc")
    assert snapshot.problems == ()
    return list(snapshot.streams.values())


def test_without_further_ports_none_is_named() -> None:
    assert "tcp" not in str(rendered().one("Service")["spec"]["ports"]).lower().replace("'protocol': 'tcp'", "")
    assert "annotations" not in rendered().one("Deployment")["metadata"]


@given(st.integers(0, 70000) | st.sampled_from([22, 80, 443, 2222, 8080, 8443, 9090]))
def test_the_ports_that_the_chart_accepts_are_those_that_the_router_gives_away(port: int) -> None:
    [pattern] = properties("tcpPorts")["patternProperties"]
    wanted = 1 <= port <= 65535 and not OwnPorts().objection(port)
    assert bool(re.search(pattern, str(port))) == wanted


@settings(deadline=None)
@given(data=st.data())
def test_the_services_that_the_chart_accepts_the_router_reads(data: st.DataObject) -> None:
    [(ports, service)] = properties("tcpPorts")["patternProperties"].items()
    port = data.draw(st.from_regex(ports.removeprefix("^").removesuffix("$"), fullmatch=True))
    text = data.draw(st.from_regex(service["pattern"].removeprefix("^").removesuffix("$"), fullmatch=True))
    assert refused("tcpPorts", f"{port}:{text}") == []


@pytest.mark.parametrize(
    "values",
    [
        {"tcpPorts": {"9090": "shop/database"}},
        {"tcpPorts": {"http": "shop/database"}},
        {"tcpPorts": {"70000": "shop/database"}},
        {"tcpPorts": {"5432": "database"}},
        {"tcpPorts": {"5432": "Shop/database:5432"}},
        {"tcpPorts": {"5432": 5432}},
        {"routerAnnotations": {"tcpPorts": "5432:shop/database:5432"}},
        {"deploymentAnnotations": {"router.drycc.cc/bodySize": "1m"}},
        {"deploymentAnnotations": {"router.deis.io/nginx.bodySize": "1m"}},
        {"podLabels": {"app.kubernetes.io/component": "mine"}},
        {"git": {"secret": "Not a name"}},
    ],
    ids=str,
)
def test_what_would_get_past_the_schema_or_around_it_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(helm_python.HelmValuesError):
        rendered(values)


# ── every value, and who reads it ─────────────────────────────────────────────────────────────────────────────────────

FLAGS: dict[str, list[Any]] = {
    "settings.watchNamespaces": [[], ["shop"], ["a", "b-c", "x" * 63]],
    "settings.logLevel": ["debug", "info", "warning", "error"],
    "settings.accessLog": [True, False],
    "settings.workers": [None, 1, 256],
    "settings.drainDelaySeconds": [1, 3600],
    "settings.drainGraceSeconds": [1, 86400],
}
"""Values that become flags of the router → all that they may be, or the ends of it."""

KUBERNETES = """
    image.repository image.tag image.digest image.pullPolicy imagePullSecrets kind replicas
service.type service.annotations service.externalTrafficPolicy service.loadBalancerSourceRanges
service.loadBalancerClass service.ipFamilyPolicy service.nodePorts.http service.nodePorts.https service.nodePorts.git
git.enabled git.mode git.secret hostPorts.enabled hostPorts.http hostPorts.git serviceAccount.create serviceAccount.name
serviceAccount.annotations rbac.create rbac.secrets.scope rbac.secrets.namespaces rbac.maintenancePages podLabels
podAnnotations deploymentAnnotations resources.requests.cpu resources.requests.memory resources.limits.cpu
resources.limits.memory nodeSelector tolerations affinity priorityClassName topologySpread.enabled
topologySpread.whenUnsatisfiable podDisruptionBudget.enabled podDisruptionBudget.maxUnavailable autoscaling.enabled
autoscaling.minReplicas autoscaling.maxReplicas autoscaling.targetCPUUtilizationPercentage networkPolicy.enabled
networkPolicy.adminFrom networkPolicy.apiServer.to networkPolicy.apiServer.ports serviceMonitor.enabled
serviceMonitor.labels serviceMonitor.interval prometheusRule.enabled prometheusRule.labels prometheusRule.runbook
dashboard.enabled dashboard.labels dashboard.annotations
"""
"""Values that the cluster reads, or only the chart itself: ``test_chart`` holds the objects against its schemas."""

ANNOTATED = ["routerAnnotations", "tcpPorts", "hostPorts.https"]
"""Values that become annotations of the router's Deployment: see above, and ``test_chart`` for the last one."""


def leaves(values: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value and f"{path}{key}" not in ("dashboard.labels",):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}"


def test_of_every_value_it_is_known_who_reads_it() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert sorted(leaves(defaults)) == sorted([*FLAGS, *KUBERNETES.split(), *ANNOTATED])


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, values in FLAGS.items() for value in values])
def test_every_value_that_becomes_a_flag_is_one_that_the_router_takes(path: str, value: object) -> None:
    section, key = path.split(".")
    command, *flags = rendered({section: {key: value}}).container()["args"]
    assert command == "run"
    known = {field.flag: field.name for field in SETTINGS}
    written = {known[flag]: text for flag, _, text in (word.partition("=") for word in flags)}
    assert isinstance(read(written, {}, needs_source=False), Settings)


@pytest.mark.parametrize("path", FLAGS)
def test_the_ends_of_what_a_flag_may_be_are_the_schemas(path: str) -> None:
    schema = properties(*path.split("."))
    if "enum" in schema:
        assert schema["enum"] == FLAGS[path]
    if "minimum" in schema:
        assert {schema["minimum"], schema["maximum"]} == {number for number in FLAGS[path] if number is not None}


def test_the_gateways_directory_is_a_flag_that_the_router_has() -> None:
    objects = rendered({"git": {"mode": "gateway"}})
    assert "--git-gateway=/etc/drycc-router/git" in objects.container()["args"]
    assert "git_gateway" in {field.name for field in SETTINGS}


def test_a_port_that_the_router_refuses_is_still_told_of_where_it_was_annotated_by_hand(tmp_path: Path) -> None:
    deployment = rendered().one("Deployment")
    deployment["metadata"]["annotations"] = {"router.drycc.cc/tcpPorts": "9090:shop/web"}
    (tmp_path / "router.yaml").write_text(yaml.safe_dump(deployment), encoding="utf-8")
    assert [problem.reason for problem in compiled(tmp_path, "drycc").problems] == [Reason.PORT_TAKEN]
