"""The program as the chart starts it, in a cluster whose owners point their Services at what is not theirs.

Supervisor, control and a worker; an API server; the environment that the chart's Pod gets. Judged by what the router
reports and by what a client is answered: 503 where no endpoint is left, never a connection to the address.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from drycc_router.process.interfaces import addresses
from tests.charts.rendering import rendered
from tests.fakes.apiserver.objects import Document, deployment, endpoint_slice, service
from tests.fakes.apiserver.server import FakeApiServer
from tests.fakes.clustered import named
from tests.fakes.process import manifest, router, running, soon
from tests.fakes.wired import on_loop

POD: Mapping[str, str] = {
    "metadata.namespace": "drycc",
    "metadata.name": "drycc-router-1",
    "status.podIPs": "10.1.0.5,fd00:1::5",
    "status.hostIPs": "10.9.0.1",
}
"""What Kubernetes puts in the place of the fields that the chart refers to."""


class Cluster:
    """An API server, and a router that follows it."""

    def __init__(self, server: FakeApiServer, ports: Mapping[str, int]) -> None:
        self.server = server
        self._ports = ports

    async def _report(self, path: str) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self._ports['admin']}{path}") as answer,
        ):
            return await answer.json()

    async def endpoints(self) -> dict[str, list[str]]:
        """Service → where the router sends its requests."""
        return {each["service"]: each["endpoints"] for each in (await self._report("/routes"))["routes"]}

    async def refusals(self) -> dict[str, str]:
        """Service or slice → the sentence of its first refused address."""
        found: dict[str, str] = {}
        for each in (await self._report("/problems"))["problems"]:
            if each["reason"] == "refused_address":
                found.setdefault(each["name"], each["message"])
        return found

    async def status(self, host: str) -> int:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self._ports['http']}/", headers={"Host": host}) as answer,
        ):
            return answer.status

    async def answers(self, host: str, status: int) -> None:
        while await self.status(host) != status:  # noqa: ASYNC110 -- the router has no event for a client
            await asyncio.sleep(0.01)


def in_a_pod(values: dict[str, Any]) -> dict[str, str]:
    """The environment of the chart's container."""
    [container] = rendered(values).pods()["spec"]["containers"]
    return {
        each["name"]: each["value"] if "value" in each else POD[each["valueFrom"]["fieldRef"]["fieldPath"]]
        for each in container["env"]
    }


@asynccontextmanager
async def cluster(
    directory: Path, *documents: Document, values: dict[str, Any] | None = None, arguments: tuple[str, ...] = ()
) -> AsyncIterator[Cluster]:
    async with FakeApiServer() as server:
        for each in documents:
            server.put(each)
        kubeconfig = server.kubeconfig(directory / "config")
        command = [
            "run",
            "--kubeconfig",
            str(kubeconfig),
            "--bind",
            "127.0.0.1",
            "--workers",
            "1",
            "--drain-delay",
            "0",
        ]
        command += [word for port in ("http", "https", "git", "admin") for word in (f"--{port}-port", "0")]
        program = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "drycc_router",
            *command,
            "--access-log",
            "off",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **in_a_pod(values or {}), "KUBERNETES_SERVICE_HOST": "10.96.0.1"},
        )
        try:
            assert program.stdout is not None
            line = await program.stdout.readline()
            yield Cluster(server, json.loads(line) if line else {})
        finally:
            if program.returncode is None:
                program.terminate()
            _, said = await program.communicate()
            sys.stderr.write(said.decode())  # shown where a test fails


def play(story: Callable[[], Any]) -> None:
    on_loop(story())


KUBERNETES = endpoint_slice("default", "kubernetes", ["172.18.0.2", "172.18.0.3"], port=16443, suffix="1")
"""Where the API server is, as it says itself."""
ROUTER = endpoint_slice("drycc", "drycc-router", ["10.1.0.5", "10.1.0.6"], port=8080, suffix="1")

REFUSED: Mapping[str, tuple[str, int]] = {
    "own-pod": ("10.1.0.5", 9090),
    "own-pod-ipv6": ("fd00:1::5", 8080),
    "own-replica": ("10.1.0.6", 8080),
    "kubelet": ("10.9.0.1", 10250),
    "kubelet-mapped": ("::ffff:10.9.0.1", 10250),
    "kubelet-elsewhere": ("10.9.0.2", 10250),
    "scheduler": ("10.9.0.1", 10259),
    "etcd": ("10.9.0.1", 2379),
    "etcd-peer": ("10.9.0.1", 2380),
    "api-of-the-node": ("10.9.0.1", 6443),
    "api-service": ("10.96.0.1", 443),
    "api-service-nat64": ("64:ff9b::10.96.0.1", 443),
    "api-endpoint": ("172.18.0.2", 16443),
    "api-endpoint-6to4": ("2002:ac12:3::1", 16443),
    "kubelet-of-the-control-plane": ("172.18.0.3", 10257),
    "metadata": ("169.254.169.254", 80),
    "metadata-ipv6": ("fd00:ec2::254", 80),
    "loopback": ("127.0.0.1", 9090),
    "loopback-ipv6": ("::1", 9090),
    "link-local": ("fe80::1", 80),
    "denied": ("10.200.1.2", 80),
    "octal": ("0177.0.0.1", 80),
    "short": ("127.1", 80),
    "number": ("2130706433", 80),
}
TAKEN: Mapping[str, tuple[str, int]] = {
    "pod": ("10.1.3.3", 8080),
    "virtual-cluster": ("10.1.3.4", 6443),
    "host-network": ("10.9.0.1", 3000),
    "host-network-of-the-control-plane": ("172.18.0.2", 3000),
}


def pointed(name: str, address: str, port: int, upstream: str) -> list[Document]:
    """An owner's Service whose slice, written by hand, names an address."""
    says = {"upstream": upstream}
    slices = endpoint_slice("evil", name, [address], port=port)
    return [service("evil", name, domains=f"{name}.example", annotations=says, cluster_ip="10.96.7.7"), slices]


@pytest.mark.parametrize("upstream", ["endpoints", "service"])
def test_no_service_leads_to_the_cluster_s_own_components(tmp_path: Path, upstream: str) -> None:
    local = {f"interface-{number}": (each, 9090) for number, each in enumerate(addresses())}
    targets = {**REFUSED, **local, **TAKEN}
    documents = [each for name, (ip, port) in targets.items() for each in pointed(name, ip, port, upstream)]

    async def story() -> None:
        operator = deployment({"deniedNetworks": "10.200.0.0/16"})
        async with cluster(tmp_path, operator, KUBERNETES, ROUTER, *documents) as town:
            endpoints, refusals = await town.endpoints(), await town.refusals()
            for name in (*REFUSED, *local):
                assert endpoints[name] == [], name
                assert refusals[f"{name}-abcde"].startswith(("expected the address of a pod", "expected an IP address"))
                assert await town.status(f"{name}.example") == 503, name
            for name, (ip, port) in TAKEN.items():
                assert endpoints[name] == ["10.96.7.7:80" if upstream == "service" else f"{ip}:{port}"], name
                assert f"{name}-abcde" not in refusals
            assert "10250" in refusals["kubelet-abcde"]
            assert "API server" in refusals["api-endpoint-abcde"]
            assert "the operator denies" in refusals["denied-abcde"]

    play(story)


def test_the_cluster_address_of_the_api_server_is_no_service_s_own(tmp_path: Path) -> None:
    """An owner cannot choose an address that another Service has; a router must not rely on that."""
    says = {"upstream": "service"}
    evil = service("evil", "web", domains="web.example", annotations=says, cluster_ip="10.96.0.1", port=443)

    async def story() -> None:
        async with cluster(tmp_path, evil, endpoint_slice("evil", "web", ["10.1.3.3"])) as town:
            assert (await town.endpoints())["web"] == []
            assert "API server" in (await town.refusals())["web"]

    play(story)


def by_hand(name: str, address: str, condition: dict[str, bool], owner: str | None) -> Document:
    """A second slice of a Service, with conditions and an owner as somebody wrote them."""
    document = endpoint_slice("evil", name, [address], suffix="by-hand")
    document["endpoints"][0]["conditions"] = condition
    if owner:
        reference = {"apiVersion": "v1", "kind": "Service", "name": "other", "uid": owner}
        document["metadata"]["ownerReferences"] = [reference]
    return document


@pytest.mark.parametrize("address", ["10.1.0.5", "100.100.100.200"])
@pytest.mark.parametrize(
    ("condition", "owner"),
    [
        ({"ready": True}, None),
        ({"ready": True, "terminating": True}, None),
        ({"ready": False, "serving": True, "terminating": True}, None),
        ({}, None),
        ({"ready": True}, "another-uid"),
    ],
    ids=["ready", "ready and terminating", "serving and terminating", "no conditions", "owned by another Service"],
)
def test_whatever_slice_kube_proxy_may_choose_a_service_s_address_leads_to_no_refused_one(
    tmp_path: Path, address: str, condition: dict[str, bool], owner: str | None
) -> None:
    """kube-proxy takes every slice with the Service's label, whoever owns it, and goes by its conditions alone."""

    async def story() -> None:
        async with cluster(tmp_path, *pointed("web", "10.1.3.3", 5000, "service")) as town:
            assert (await town.endpoints())["web"] == ["10.96.7.7:80"]
            town.server.put(by_hand("web", address, condition, owner))
            await town.answers("web.example", 503)
            assert (await town.endpoints())["web"] == []
            assert "web-by-hand" in await town.refusals()

    play(story)


def test_what_the_operator_denies_and_allows_holds_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with named("app") as app:
            slices = endpoint_slice("shop", "web", [app.address[0]], port=app.address[1])
            async with cluster(tmp_path, service("shop", "web", domains="web.example"), slices) as town:
                assert await town.status("web.example") == 503
                town.server.put(deployment({"allowedNetworks": "127.0.0.0/8"}))
                await town.answers("web.example", 200)
                assert await town.refusals() == {}

                town.server.put(deployment({"deniedNetworks": "127.0.0.0/8"}))
                await town.answers("web.example", 503)
                assert list(await town.refusals()) == ["web-abcde"]

                both = {"deniedNetworks": "0.0.0.0/0,::/0", "allowedNetworks": "127.0.0.1"}
                town.server.put(deployment(both))
                await town.answers("web.example", 200)

    play(story)


def test_the_chart_says_which_ports_of_the_node_are_the_router_s(tmp_path: Path) -> None:
    values = {"kind": "DaemonSet", "hostPorts": {"enabled": True, "http": 80, "https": 4430, "git": 2200}}
    ports = {"front": 80, "front-tls": 4430, "git": 2200, "app": 3000}
    documents = [each for name, port in ports.items() for each in pointed(name, "10.9.0.1", port, "endpoints")]

    async def story() -> None:
        async with cluster(tmp_path, *documents, values=values) as town:
            endpoints = await town.endpoints()
            assert {name for name, found in endpoints.items() if found} == {"app"}

    play(story)


def test_where_only_some_namespaces_are_watched_the_api_server_s_ports_are_refused_everywhere(tmp_path: Path) -> None:
    """The router has no right to read where its endpoints are."""
    documents = [*pointed("api", "172.18.0.2", 6443, "endpoints"), *pointed("app", "172.18.0.2", 3000, "endpoints")]

    async def story() -> None:
        async with cluster(tmp_path, *documents, arguments=("--watch-namespaces", "evil")) as town:
            assert await town.endpoints() == {"api": [], "app": ["172.18.0.2:3000"]}

    play(story)


def test_in_a_directory_of_the_operator_s_own_loopback_is_in_order_and_the_operator_can_deny_it(tmp_path: Path) -> None:
    with running("app") as app:
        (tmp_path / "shop.yaml").write_text(manifest("shop/web", app))
        with router(tmp_path, "--workers", "1") as child:
            assert child.get() == (200, "app")
            own = deployment({"deniedNetworks": "127.0.0.0/8"})
            (tmp_path / "router.yaml").write_text(json.dumps(own))
            soon(lambda: child.get()[0] == 503)
            assert "refused_address" in child.admin("/problems")[1]
