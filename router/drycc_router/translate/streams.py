"""Ports that lead to one Service byte for byte: the builder's for git pushes, and those that the operator maps.

Only the operator opens a port: the builder Service stands in the router's own namespace, and further ports are named on
the router's Deployment (``tcpPorts``). No annotation on anybody else's Service opens or takes one (hardening P-08).

What must not enter: sockets, and anything about HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from drycc_proxy.routing.definitions import StreamRoute
from drycc_router.model.address_policy import Fence
from drycc_router.model.cluster import Cluster
from drycc_router.model.objects import Deployment, ObjectKey, Service, ServicePort
from drycc_router.model.problems import Problem, Reason
from drycc_router.model.spec import Builder, RouterConfig
from drycc_router.translate.annotations.reading import written_as
from drycc_router.translate.annotations.schema import Place
from drycc_router.translate.endpoints import Judge
from drycc_router.translate.platform import OwnPorts
from drycc_router.translate.services import stream_target

__all__ = ["GIT", "CompiledStreams", "compile_streams", "targets"]

GIT: Final = "git"
"""Name of the stream that git pushes take."""

BUILDER_PORT: Final = 2222
"""The builder Service's port for git over SSH (lineage 1.3)."""

FIRST_BYTE_SECONDS: Final = 120.0
"""How long a client of the builder may say nothing: its server speaks first, so a stranger could wait for ever."""


@dataclass(frozen=True, slots=True)
class CompiledStreams:
    """Every stream there is, by name, and what is wrong with what was asked for."""

    routes: Mapping[str, StreamRoute]
    problems: tuple[Problem, ...]


def targets(config: RouterConfig, builder: ObjectKey) -> frozenset[ObjectKey]:
    """The Services that streams may go to."""
    return frozenset({builder, *(ObjectKey("Service", mapped[1], mapped[2]) for mapped in config.tcp_ports)})


def compile_streams(
    cluster: Cluster,
    config: RouterConfig,
    builder: tuple[ObjectKey, Builder] | None,
    *,
    deployment: ObjectKey,
    ports: OwnPorts,
    trusted_endpoints: bool,
    fence: Fence,
    judge: Judge | None = None,
) -> CompiledStreams:
    """Read all of them. ``builder``: the builder's Service and what it says, if there is one; ``deployment``: who says
    ``tcpPorts``."""
    routes: dict[str, StreamRoute] = {}
    problems: list[Problem] = []
    if builder is not None:
        key, said = builder
        service = cluster.get(Service, key.namespace, key.name)
        if service is not None:
            port = _port(service, BUILDER_PORT) or _port(service, None)
            if port is None:
                message = f"expected TCP port {BUILDER_PORT}, or only one"
                problems.append(Problem(Reason.NO_PORT, key, "spec.ports", "", message))
            app, addresses, found = stream_target(service, port, cluster, trusted_endpoints, fence, judge)
            problems += found
            routes[GIT] = StreamRoute(
                name=GIT,
                port=ports.git,
                app=app,
                namespace=key.namespace,
                service=key.name,
                endpoints=addresses,
                connect_timeout=said.connect_timeout,
                idle_timeout=said.tcp_timeout,
                first_byte_timeout=FIRST_BYTE_SECONDS,
                proxy_protocol=said.proxy_protocol or "",
                connections_per_client=said.connections_per_client,
                new_per_second=said.connection_rate,
            )
    deployed = cluster.get(Deployment, deployment.namespace, deployment.name)
    written = written_as(Place.ROUTER, "tcpPorts", deployed.annotations if deployed else {})

    def object_to(reason: Reason, value: str, message: str) -> None:
        problems.append(Problem(reason, deployment, written, value, message))

    for number, namespace, name, wanted in config.tcp_ports:
        value = f"{number}:{namespace}/{name}" + ("" if wanted is None else f":{wanted}")
        stream = f"tcp-{number}"
        service = cluster.get(Service, namespace, name)
        if objection := ports.objection(number):
            object_to(Reason.PORT_TAKEN, value, objection)
        elif stream in routes:
            object_to(Reason.PORT_TAKEN, value, "expected each port once: the first mapping counts")
        elif service is None:
            object_to(Reason.UNKNOWN_SERVICE, value, "expected a Service of that name in that namespace")
        elif (port := _port(service, wanted)) is None:
            object_to(
                Reason.NO_PORT, value, "expected one of the Service's TCP ports; without one, that it has only one"
            )
        else:
            app, addresses, found = stream_target(service, port, cluster, trusted_endpoints, fence, judge)
            problems += found
            routes[stream] = StreamRoute(
                stream, number, app, namespace, name, addresses, idle_timeout=config.default_timeout
            )
    return CompiledStreams(routes, tuple(problems))


def _port(service: Service, wanted: str | int | None) -> ServicePort | None:
    """The TCP port of that name or number; without either, the only one."""
    ports = [port for port in service.ports if port.protocol == "TCP"]
    if wanted is None:
        return ports[0] if len(ports) == 1 else None
    return next((port for port in ports if wanted in (port.name, port.port)), None)
