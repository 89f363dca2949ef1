"""Every proxy is told to serve all apps on both ports with the same duties."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.certificates import Pair, make_pair
from benchmarks.peers import Caddy, Drycc, Envoy, HAProxy, Nginx, Peer, Ports, Site, Traefik
from benchmarks.peers.drycc import PLATFORM_SECRET, manifest

PORTS = Ports(http=18080, https=18443, admin=19090)
HOSTS = ("app-0000.bench.test", "app-0001.bench.test", "app-0002.bench.test")
ENDPOINTS = (("127.0.0.1", 9000), ("127.0.0.2", 9000))
PROGRAM = Path("/opt/proxy")
PEERS: list[Peer] = [
    Nginx("nginx", PROGRAM),
    HAProxy("haproxy", PROGRAM),
    Envoy("envoy", PROGRAM),
    Traefik("traefik", PROGRAM),
    Caddy("caddy", PROGRAM),
    Drycc(),
]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path / "certificates")


@pytest.fixture(params=PEERS, ids=[peer.name for peer in PEERS])
def peer(request: pytest.FixtureRequest) -> Peer:
    found: Peer = request.param
    return found


def test_every_peer_knows_every_host_and_endpoint(peer: Peer, pair: Pair, tmp_path: Path) -> None:
    text = "\n".join(peer.files(Site(HOSTS, ENDPOINTS, pair), PORTS, tmp_path).values())
    for host in HOSTS:
        assert host in text
    for address, port in ENDPOINTS:
        assert address in text
        assert str(port) in text


def test_every_peer_is_told_its_ports_and_where_to_log(peer: Peer, pair: Pair, tmp_path: Path) -> None:
    files = "\n".join(peer.files(Site(HOSTS, ENDPOINTS, pair), PORTS, tmp_path).values())
    told = files + "\n" + "\n".join(peer.command(PORTS, tmp_path))
    assert str(PORTS.http) in told
    assert str(PORTS.https) in told
    to_standard_output = isinstance(peer, HAProxy)
    assert (str(peer.log(tmp_path)) in told) is not to_standard_output


def test_every_peer_has_one_worker(peer: Peer, pair: Pair, tmp_path: Path) -> None:
    files = "\n".join(peer.files(Site(HOSTS, ENDPOINTS, pair), PORTS, tmp_path).values())
    told = " ".join([files, *peer.command(PORTS, tmp_path), *(f"{k}={v}" for k, v in peer.environment().items())])
    alone = ("worker_processes 1;", "nbthread 1", "--concurrency 1", "GOMAXPROCS=1", "-m drycc_router run")
    assert any(sign in told for sign in alone)


def test_configurations_in_json_are_json(pair: Pair, tmp_path: Path) -> None:
    site = Site(HOSTS, ENDPOINTS, pair)
    for peer in (Envoy("envoy", PROGRAM), Traefik("traefik", PROGRAM), Caddy("caddy", PROGRAM)):
        for text in peer.files(site, PORTS, tmp_path).values():
            assert isinstance(json.loads(text), dict)


def test_a_manifest_is_a_service_and_a_slice_for_each_port() -> None:
    text = manifest(
        "web", ("a.test", "b.test"), (("127.0.0.1", 9000), ("127.0.0.2", 9000), ("127.0.0.1", 9001)), {"x": "y"}
    )
    service, *slices = _documents(text)
    assert service["kind"] == "Service"
    assert service["metadata"]["annotations"] == {"router.drycc.cc/domains": "a.test,b.test", "router.drycc.cc/x": "y"}
    found = {
        (address, part["ports"][0]["port"])
        for part in slices
        for endpoint in part["endpoints"]
        for address in endpoint["addresses"]
    }
    assert found == {("127.0.0.1", 9000), ("127.0.0.2", 9000), ("127.0.0.1", 9001)}
    assert {part["metadata"]["labels"]["kubernetes.io/service-name"] for part in slices} == {"web"}


def test_the_router_is_given_the_same_certificate_as_its_platform_certificate(pair: Pair, tmp_path: Path) -> None:
    files = Drycc().files(Site(HOSTS, ENDPOINTS, pair), PORTS, tmp_path)
    assert len(files) == len(HOSTS) + 1
    (found,) = _documents(files["manifests/platform-certificate.yaml"])
    assert found["metadata"] == {"name": PLATFORM_SECRET, "namespace": "drycc"}
    assert base64.b64decode(found["data"]["tls.crt"]) == pair.certificate.read_bytes()
    assert base64.b64decode(found["data"]["tls.key"]) == pair.key.read_bytes()


def _documents(text: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text))
