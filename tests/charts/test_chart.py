"""The chart, rendered for every way to install: valid for Kubernetes, restricted, and understood by the router."""

from __future__ import annotations

import copy
import json
import tomllib
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate  # type: ignore[import-untyped]  # it brings no types
import pytest
import yaml

from drycc_router.check import compiled
from drycc_router.settings import FIELDS as SETTINGS
from drycc_router.translate.annotations.schema import FIELDS, Place
from drycc_router.translate.platform import OwnNames
from tests.charts.rendering import CHART, EVERYTHING, INSTALLATIONS, VALUES_FILES, Object, Rendered, notes, rendered

ROOT = CHART.parents[1]
ALL = pytest.mark.parametrize("installation", INSTALLATIONS)


def of(installation: str) -> Rendered:
    return rendered(INSTALLATIONS[installation])


# ── as Helm and Kubernetes see it ─────────────────────────────────────────────────────────────────────────────────────


@ALL
def test_helm_has_nothing_to_complain_about(installation: str) -> None:
    report = helm_python.lint(CHART, INSTALLATIONS[installation], strict=True, kube_version="v1.30.0")
    assert report["errors"] == []
    assert [each for each in report["messages"] if each["error"] != "icon is recommended"] == []


OLDEST = "1.30"


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@ALL
def test_every_object_is_valid_for_kubernetes(installation: str, version: str) -> None:
    own_kinds = [each for each in of(installation) if not each["apiVersion"].startswith("monitoring.coreos.com/")]
    assert len(own_kinds) >= 10
    for each in own_kinds:
        kubernetes_validate.validate(each, version, strict=True)


def test_what_is_not_valid_would_be_seen() -> None:
    deployment = rendered().one("Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, OLDEST, strict=True)


def test_the_oldest_kubernetes_is_the_one_that_is_tested() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["kubeVersion"] == f">={OLDEST}.0-0"


def test_chart_and_router_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert chart["version"] == chart["appVersion"] == project["version"]
    assert rendered().container()["image"] == f"drycc-router:{project['version']}"


@ALL
def test_every_object_lives_in_the_namespace_of_the_release_or_one_that_was_asked_for(installation: str) -> None:
    expected = {"drycc", *INSTALLATIONS[installation].get("settings", {}).get("watchNamespaces", [])}
    for each in of(installation):
        if not each["kind"].startswith("ClusterRole"):
            assert each["metadata"]["namespace"] in expected, each["metadata"]["name"]


def test_the_three_for_prometheus_and_grafana_appear_when_asked_for() -> None:
    optional = {"ServiceMonitor", "PrometheusRule"}
    assert not optional & rendered().kinds()
    assert optional <= rendered(EVERYTHING).kinds()
    board = rendered(EVERYTHING).one("ConfigMap", "drycc-router-dashboard")
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(board["data"]["drycc-router.json"])["uid"] == "drycc-router"


@ALL
def test_notes_lead_to_the_reports(installation: str) -> None:
    text = notes(INSTALLATIONS[installation])
    assert "/problems" in text
    assert "rollout status " + ("daemonset" if "single" in installation else "deployment") in text


# ── Pod security ──────────────────────────────────────────────────────────────────────────────────────────────────────


def breaches_of_restricted(pod: dict[str, Any]) -> set[str]:
    """What the Pod security standard `restricted`, and with it `baseline`, would refuse."""
    found = {key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)}
    allowed_volumes = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected"}
    for volume in pod.get("volumes", []):
        found |= {f"volume {kind}" for kind in volume.keys() - {"name"} - allowed_volumes | volume.keys() & {"secret"}}
    for container in pod["containers"] + pod.get("initContainers", []):
        context = pod.get("securityContext", {}) | container.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
            found.add("runs as root")
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            found.add("escalates")
        capabilities = context.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            found.add("capabilities")
        if context.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
            found.add("seccomp")
        if any(port.get("hostPort") for port in container.get("ports", [])):
            found.add("host ports")
    return found


@ALL
def test_pods_are_restricted_and_only_the_single_server_takes_ports_of_its_node(installation: str) -> None:
    found = breaches_of_restricted(of(installation).pods()["spec"])
    assert found == ({"host ports"} if "single-server" in installation else set())


@pytest.mark.parametrize("key", ["runAsNonRoot", "seccompProfile"])
def test_a_pod_with_less_would_be_seen(key: str) -> None:
    pod = copy.deepcopy(rendered().pods()["spec"])
    del pod["securityContext"][key]
    assert breaches_of_restricted(pod)


@ALL
def test_the_file_system_is_read_only_and_nothing_is_mounted(installation: str) -> None:
    objects = of(installation)
    assert objects.container()["securityContext"]["readOnlyRootFilesystem"] is True
    assert "volumes" not in objects.pods()["spec"]
    assert "volumeMounts" not in objects.container()


@ALL
def test_cpu_and_memory_are_asked_for_and_bounded(installation: str) -> None:
    resources = of(installation).container()["resources"]
    assert {"cpu", "memory"} == set(resources["requests"]) == set(resources["limits"])


def test_the_token_is_for_the_routers_pods_alone() -> None:
    assert rendered().one("ServiceAccount")["automountServiceAccountToken"] is False
    assert rendered().pods()["spec"]["automountServiceAccountToken"] is True


# ── life and death of a Pod ───────────────────────────────────────────────────────────────────────────────────────────


@ALL
def test_probes_ask_the_admin_port(installation: str) -> None:
    container = of(installation).container()
    assert {"name": "admin", "containerPort": 9090} in container["ports"]
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "admin"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "admin"}


@ALL
def test_a_pod_that_ends_has_time_to_leave_the_load_balancer_and_to_finish(installation: str) -> None:
    objects = of(installation)
    arguments = dict(word.partition("=")[::2] for word in objects.container()["args"])
    delay, grace = int(arguments["--drain-delay"]), int(arguments["--drain-grace"])
    assert delay >= 10
    assert objects.pods()["spec"]["terminationGracePeriodSeconds"] > delay + grace
    assert "lifecycle" not in objects.container()  # the router itself goes on accepting meanwhile


def test_an_update_never_takes_a_pod_away_before_its_successor_is_ready() -> None:
    assert rendered().one("Deployment")["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }


def test_replicas_are_spread_and_evicted_one_at_a_time() -> None:
    objects = rendered()
    spread = objects.pods()["spec"]["topologySpreadConstraints"]
    assert {each["topologyKey"] for each in spread} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    assert objects.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_the_autoscaler_alone_says_how_many_replicas() -> None:
    by_hand, automatic = rendered({"replicas": 3}), rendered({"replicas": 3, "autoscaling": {"enabled": True}})
    assert by_hand.one("Deployment")["spec"]["replicas"] == 3
    assert "HorizontalPodAutoscaler" not in by_hand.kinds()
    assert "replicas" not in automatic.one("Deployment")["spec"]
    target = automatic.one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "drycc-router"}


# ── what reaches it, and what it reaches ──────────────────────────────────────────────────────────────────────────────


@ALL
def test_the_services_choose_the_pods_that_serve_and_name_their_ports(installation: str) -> None:
    objects = of(installation)
    labels = objects.pods()["metadata"]["labels"]
    ports = {port["name"]: port["containerPort"] for port in objects.container()["ports"]}
    further = {int(port): int(port) for port in INSTALLATIONS[installation].get("tcpPorts", {})}
    for name, expected in {
        "drycc-router": {80: 8080, 443: 8443, 2222: 2222} | further,
        "drycc-router-admin": {9090: 9090},
    }.items():
        spec = objects.one("Service", name)["spec"]
        assert spec["selector"].items() <= labels.items()
        assert {port["port"]: ports[port["targetPort"]] for port in spec["ports"]} == expected


def test_the_load_balancer_is_told_who_may_come_and_keeps_their_addresses() -> None:
    service = rendered(EVERYTHING).one("Service")
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["spec"]["externalTrafficPolicy"] == "Local"
    assert service["spec"]["loadBalancerSourceRanges"] == ["192.0.2.0/24", "2001:db8::/32"]
    assert [port.get("nodePort") for port in service["spec"]["ports"]][:3] == [30080, 30443, 30022]
    assert service["metadata"]["annotations"] == {"example.com/idle": "1200"}


def test_the_admin_port_is_never_published() -> None:
    for values in INSTALLATIONS.values():
        admin = rendered(values).one("Service", "drycc-router-admin")
        assert admin["spec"]["type"] == "ClusterIP"


def test_without_git_its_port_is_nowhere() -> None:
    objects = rendered({"git": {"enabled": False}})
    assert 2222 not in [port["containerPort"] for port in objects.container()["ports"]]
    assert 2222 not in [port["port"] for port in objects.one("Service")["spec"]["ports"]]
    assert "git" not in json.dumps(objects.one("NetworkPolicy"))


def test_the_network_policy_opens_traffic_to_all_and_reports_to_some() -> None:
    policy = rendered().one("NetworkPolicy")["spec"]
    traffic, admin = policy["ingress"]
    assert "from" not in traffic
    assert {port["port"] for port in traffic["ports"]} == {"http", "https", "git"}
    assert {port["port"] for port in admin["ports"]} == {"admin"}
    assert admin["from"]


def test_the_router_cannot_be_made_to_call_what_is_no_pod_but_the_api_server() -> None:
    pods, api_server = rendered().one("NetworkPolicy")["spec"]["egress"]
    assert pods == {"to": [{"namespaceSelector": {}}]}
    assert {port["port"] for port in api_server["ports"]} == {443, 6443}
    assert "169.254.0.0/16" in api_server["to"][0]["ipBlock"]["except"]


def test_a_single_server_has_the_nodes_ports() -> None:
    objects = of("values-single-server.yaml")
    ports = {port["name"]: port.get("hostPort") for port in objects.container()["ports"]}
    assert ports == {"http": 80, "https": 443, "git": 2222, "admin": None}
    assert objects.one("DaemonSet")["spec"]["updateStrategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


@pytest.mark.parametrize(
    ("said", "annotation"), [({}, None), ({"https": 8443}, "8443"), ({"https": 8443, "httpsPort": 443}, "443")]
)
def test_redirects_lead_to_the_nodes_port_for_https(said: dict[str, int], annotation: str | None) -> None:
    host_ports = {"enabled": True} | {key: port for key, port in said.items() if key == "https"}
    settings = {key: port for key, port in said.items() if key == "httpsPort"}
    objects = rendered({"kind": "DaemonSet", "hostPorts": host_ports, "routerAnnotations": settings})
    annotations = objects.one("Deployment")["metadata"].get("annotations", {})
    assert annotations.get("router.drycc.cc/httpsPort") == annotation


@pytest.mark.parametrize("host_ports", [{}, {"http": 8080, "https": 8443, "git": 22}])
@pytest.mark.parametrize("tcp_ports", [{}, {"5432": "shop/database:5432", "1883": "iot/broker"}])
def test_the_router_is_told_every_port_of_the_node_that_leads_to_it(
    host_ports: dict[str, int], tcp_ports: dict[str, str]
) -> None:
    """An app whose endpoint is such a port of the node would have its connections go round in a circle."""
    values = {"kind": "DaemonSet", "hostPorts": {"enabled": True} | host_ports, "tcpPorts": tcp_ports}
    container = rendered(values).container()
    [told] = [each["value"] for each in container["env"] if each["name"] == "HOST_PORTS"]
    opened = {str(port["hostPort"]) for port in container["ports"] if "hostPort" in port}
    assert set(told.split(",")) == opened


def test_beside_a_daemonset_the_deployment_has_settings_and_no_pods() -> None:
    objects = rendered({"kind": "DaemonSet", "routerAnnotations": {"platformDomain": "example.com"}})
    deployment = objects.one("Deployment")
    assert deployment["spec"]["replicas"] == 0
    assert deployment["metadata"]["annotations"] == {"router.drycc.cc/platformDomain": "example.com"}
    chosen_by_daemonset = objects.one("DaemonSet")["spec"]["selector"]["matchLabels"]
    assert not chosen_by_daemonset.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


# ── what the router is told ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_router_finds_its_own_objects_by_these_names() -> None:
    names = OwnNames()
    assert rendered().one("Deployment")["metadata"]["name"] == names.deployment
    granted = {
        name for rule in rendered().one("Role", "drycc-router-own")["rules"] for name in rule.get("resourceNames", [])
    }
    assert {names.deployment, names.platform_certificate} <= granted


@pytest.mark.parametrize("installation", VALUES_FILES)
def test_every_flag_is_one_that_the_router_has(installation: str) -> None:
    command, *flags = of(installation).container()["args"]
    known = {field.flag: field for field in SETTINGS}
    assert command == "run"
    for word in flags:
        flag, _, value = word.partition("=")
        known[flag].parse(value)


def test_namespaces_are_a_flag() -> None:
    arguments = rendered({"settings": {"watchNamespaces": ["shop", "blog"]}}).container()["args"]
    assert "--watch-namespaces=shop,blog" in arguments


SETTINGS_OF_EVERY_KIND: dict[str, Any] = {
    "platformDomain": "apps.example.com",
    "bodySize": "100m",
    "defaultTimeout": 1300,
    "maxHeaders": 64,
    "requestIDs": False,
    "ssl.enforce": True,
    "ssl.hsts.maxAge": 31536000,
    "proxyRealIpCidrs": "192.0.2.0/28,2001:db8::/32",
}


def test_router_annotations_reach_the_router_as_they_were_meant(tmp_path: Path) -> None:
    deployment = rendered({"routerAnnotations": SETTINGS_OF_EVERY_KIND}).one("Deployment")
    assert deployment["metadata"]["annotations"] == {
        "router.drycc.cc/platformDomain": "apps.example.com",
        "router.drycc.cc/bodySize": "100m",
        "router.drycc.cc/defaultTimeout": "1300",
        "router.drycc.cc/maxHeaders": "64",
        "router.drycc.cc/requestIDs": "false",
        "router.drycc.cc/ssl.enforce": "true",
        "router.drycc.cc/ssl.hsts.maxAge": "31536000",
        "router.drycc.cc/proxyRealIpCidrs": "192.0.2.0/28,2001:db8::/32",
    }
    (tmp_path / "router.yaml").write_text(yaml.safe_dump(deployment), encoding="utf-8")
    assert compiled(tmp_path, "drycc").problems == ()


@ALL
def test_the_router_has_no_problem_with_its_own_objects(installation: str, tmp_path: Path) -> None:
    services = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": dict(zip(("namespace", "name"), target.partition(":")[0].split("/"), strict=True)),
            "spec": {"ports": [{"port": int(target.partition(":")[2] or 1)}]},
        }
        for target in INSTALLATIONS[installation].get("tcpPorts", {}).values()
    ]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all([*of(installation), *services]), encoding="utf-8")
    assert [str(problem) for problem in compiled(tmp_path, "drycc").problems] == []


# ── values ────────────────────────────────────────────────────────────────────────────────────────────────────────────

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))


def test_the_schema_knows_the_routers_keys_and_no_others() -> None:
    properties = SCHEMA["properties"]["routerAnnotations"]["properties"]
    told = {key: each["description"] for key, each in properties.items()}
    elsewhere = {"tcpPorts"}  # a value of its own, as its ports are opened in other objects too
    assert told == {
        field.key: field.help for field in FIELDS if field.place is Place.ROUTER and field.key not in elsewhere
    }


def test_every_value_has_a_default_and_every_default_a_schema() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    compare(defaults, SCHEMA, "")


def compare(values: dict[str, Any], schema: dict[str, Any], path: str) -> None:
    properties = schema["properties"].keys() - {"global"}  # Helm's own
    if not path.startswith(".routerAnnotations"):
        assert values.keys() == properties, path
    for key, value in values.items():
        if "properties" in schema["properties"][key]:
            compare(value, schema["properties"][key], f"{path}.{key}")


@pytest.mark.parametrize(
    "values",
    [
        {"replica": 3},
        {"replicas": 0},
        {"replicas": "3"},
        {"kind": "StatefulSet"},
        {"routerAnnotations": {"platformdomain": "example.com"}},
        {"routerAnnotations": {"nginx.platformDomain": "example.com"}},
        {"settings": {"watchNamespaces": ["Not_A_Namespace"]}},
        {"service": {"loadBalancerSourceRanges": ["192.0.2.1"]}},
        {"image": {"digest": "latest"}},
        {"resources": {"limits": {"memory": None}}},
        {"hostPorts": {"enabled": True}},
        {"rbac": {"secrets": {"scope": "listed"}}},
        {"podDisruptionBudget": {"maxUnavailable": "half"}},
    ],
    ids=str,
)
def test_a_value_that_means_nothing_is_refused_before_anything_is_installed(values: Object) -> None:
    with pytest.raises(helm_python.HelmValuesError):
        rendered(values)
