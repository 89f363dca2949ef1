"""Rendering the chart as `helm install` would, without a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).parents[2] / "charts" / "router"

VALUES_FILES = {path.name: path for path in sorted(CHART.glob("values*.yaml"))}

EVERYTHING: dict[str, Any] = {
    "image": {"repository": "registry.example/router", "digest": "sha256:" + "a1" * 32},
    "imagePullSecrets": [{"name": "registry"}],
    "routerAnnotations": {"platformDomain": "apps.example.com", "ssl.enforce": True, "ssl.hsts.maxAge": 15552000},
    "tcpPorts": {"5432": "shop/database:5432", "1883": "iot/broker"},
    "settings": {"watchNamespaces": ["shop", "blog"], "accessLog": False},
    "service": {
        "annotations": {"example.com/idle": "1200"},
        "loadBalancerClass": "example.com/lb",
        "loadBalancerSourceRanges": ["192.0.2.0/24", "2001:db8::/32"],
        "nodePorts": {"http": 30080, "https": 30443, "git": 30022},
    },
    "serviceAccount": {"annotations": {"example.com/role": "edge"}},
    "rbac": {"secrets": {"scope": "listed", "namespaces": ["shop"]}, "maintenancePages": True},
    "podLabels": {"example.com/team": "edge"},
    "podAnnotations": {"example.com/scan": "true"},
    "deploymentAnnotations": {"example.com/owner": "edge"},
    "nodeSelector": {"example.com/edge": "true"},
    "tolerations": [{"key": "edge", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "edge",
    "autoscaling": {"enabled": True},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "dashboard": {"enabled": True, "annotations": {"example.com/folder": "Edge"}},
}
"""Values that make every line of every template appear, but for those that only a DaemonSet has."""

INSTALLATIONS: dict[str, dict[str, Any]] = {
    **{name: yaml.safe_load(path.read_text(encoding="utf-8")) for name, path in VALUES_FILES.items()},
    "everything": EVERYTHING,
}
"""Name → values laid over the defaults."""

Object = dict[str, Any]


class Rendered(list[Object]):
    """The objects of one installation, in no order that matters."""

    def one(self, kind: str, name: str = "drycc-router") -> Object:
        """The object of this kind and name; fails unless there is exactly one."""
        [found] = [each for each in self if each["kind"] == kind and each["metadata"]["name"] == name]
        return found

    def kinds(self) -> set[str]:
        return {each["kind"] for each in self}

    def pods(self) -> dict[str, Any]:
        """The Pod template of what serves."""
        workload = "DaemonSet" if "DaemonSet" in self.kinds() else "Deployment"
        template: dict[str, Any] = self.one(workload)["spec"]["template"]
        return template

    def container(self) -> dict[str, Any]:
        [container] = self.pods()["spec"]["containers"]
        assert isinstance(container, dict)
        return container


def rendered(values: dict[str, Any] | None = None) -> Rendered:
    """What `helm install drycc-router charts/router --namespace drycc` sends. Raises HelmValuesError for bad values."""
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(chart.merge_values(values or {}))
        files = chart.render(values or {}, name="drycc-router", namespace="drycc")
    texts = (text for path, text in files.items() if not path.endswith("NOTES.txt"))
    return Rendered(each for text in texts for each in yaml.safe_load_all(text) if each)


def notes(values: dict[str, Any]) -> str:
    """What Helm prints after the installation."""
    with helm_python.Chart.load(CHART) as chart:
        return chart.render(values, name="drycc-router", namespace="drycc")["router/templates/NOTES.txt"]
