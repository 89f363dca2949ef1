"""The client library the router uses takes the fake for a real server: kubeconfig, pod credentials, lists, watches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvloop
from kubernetes_asyncio import client as k8s
from kubernetes_asyncio import config, watch
from kubernetes_asyncio.client.exceptions import ApiException
from kubernetes_asyncio.config.incluster_config import InClusterConfigLoader

from tests.fakes.apiserver.objects import endpoint_slice, secret, service
from tests.fakes.apiserver.server import FakeApiServer

Tell = Callable[[FakeApiServer, k8s.ApiClient], Awaitable[None]]


def story(directory: Path, tell: Tell, *, tls: bool = True) -> None:
    async def run() -> None:
        async with asyncio.timeout(20), FakeApiServer(tls=tls) as server:
            settings = k8s.Configuration()
            await config.load_kube_config(str(server.kubeconfig(directory / "config")), client_configuration=settings)
            async with k8s.ApiClient(settings) as api:
                await tell(server, api)

    uvloop.run(run())


@pytest.mark.parametrize("tls", [True, False])
def test_lists_through_a_kubeconfig(tmp_path: Path, tls: bool) -> None:
    async def tell(server: FakeApiServer, api: k8s.ApiClient) -> None:
        server.put(service("shop", "web", domains="shop.example"))
        server.put(service("shop", "db", routable=False))
        server.put(endpoint_slice("shop", "web", ["10.0.0.1", "10.0.0.2"]))

        routable = "router.drycc.cc/routable=true"
        services = await k8s.CoreV1Api(api).list_service_for_all_namespaces(label_selector=routable)
        slices = await k8s.DiscoveryV1Api(api).list_namespaced_endpoint_slice("shop")

        assert [found.metadata.name for found in services.items] == ["web"]
        assert services.items[0].metadata.annotations == {"router.drycc.cc/domains": "shop.example"}
        assert services.metadata.resource_version == str(server.store.version)
        assert [end.addresses for end in slices.items[0].endpoints] == [["10.0.0.1"], ["10.0.0.2"]]

    story(tmp_path, tell, tls=tls)


def test_a_watch_from_a_list_sees_what_happens(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, api: k8s.ApiClient) -> None:
        server.put(service("shop", "web"))
        core = k8s.CoreV1Api(api)
        version = (await core.list_service_for_all_namespaces()).metadata.resource_version
        server.put(service("shop", "web", domains="shop.example"))
        server.remove(service("shop", "web"))

        options = {"resource_version": version, "timeout_seconds": 3, "allow_watch_bookmarks": True}
        async with watch.Watch() as watching:
            stream = watching.stream(core.list_service_for_all_namespaces, **options)
            seen = [(event["type"], event["raw_object"]["metadata"].get("name")) async for event in stream]
            assert str(watching.resource_version) == str(server.store.version), "the bookmark was understood"

        assert seen == [("MODIFIED", "web"), ("DELETED", "web"), ("BOOKMARK", None)]

    story(tmp_path, tell)


def test_a_version_that_is_gone_is_an_exception_of_the_client(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, api: k8s.ApiClient) -> None:
        server.put(service("shop", "web"))
        server.compact()
        core = k8s.CoreV1Api(api)

        async with watch.Watch() as watching:
            stream = watching.stream(core.list_service_for_all_namespaces, resource_version="1", timeout_seconds=5)
            with pytest.raises(ApiException) as gone:
                await anext(stream)
        assert gone.value.status == 410

    story(tmp_path, tell)


def test_writes_and_their_conflicts(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, api: k8s.ApiClient) -> None:
        core = k8s.CoreV1Api(api)
        await core.create_namespace(k8s.V1Namespace(metadata=k8s.V1ObjectMeta(name="drycc")))
        claims = await core.create_namespaced_config_map(
            "drycc", k8s.V1ConfigMap(metadata=k8s.V1ObjectMeta(name="claims"), data={"a": "shop"})
        )
        patched = await core.patch_namespaced_config_map("claims", "drycc", {"data": {"b": "blog"}})
        assert patched.data == {"a": "shop", "b": "blog"}

        claims.data = {"c": "zoo"}
        with pytest.raises(ApiException) as conflict:
            await core.replace_namespaced_config_map("claims", "drycc", claims)
        assert conflict.value.status == 409

        await core.delete_namespaced_config_map("claims", "drycc")
        with pytest.raises(ApiException) as absent:
            await core.read_namespaced_config_map("claims", "drycc")
        assert absent.value.status == 404

    story(tmp_path, tell)


def test_a_lease_and_an_event_as_the_client_writes_them(tmp_path: Path) -> None:
    async def tell(server: FakeApiServer, api: k8s.ApiClient) -> None:
        now = datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=UTC)
        server.put(service("drycc", "drycc-builder"))
        spec = k8s.V1LeaseSpec(holder_identity="router-0", lease_duration_seconds=15, renew_time=now, acquire_time=now)
        lease = k8s.V1Lease(metadata=k8s.V1ObjectMeta(name="drycc-router"), spec=spec)
        made = await k8s.CoordinationV1Api(api).create_namespaced_lease("drycc", lease)
        assert made.spec.renew_time == now

        event = k8s.EventsV1Event(
            metadata=k8s.V1ObjectMeta(generate_name="drycc-builder."),
            event_time=now,
            action="Reading",
            reason="BadValue",
            type="Warning",
            note="expected a size",
            regarding=k8s.V1ObjectReference(kind="Service", namespace="drycc", name="drycc-builder"),
            reporting_controller="drycc.cc/router",
            reporting_instance="router-0",
        )
        await k8s.EventsV1Api(api).create_namespaced_event("drycc", event)
        listed = await k8s.EventsV1Api(api).list_namespaced_event(
            "drycc", field_selector="regarding.name=drycc-builder"
        )
        assert [found.note for found in listed.items] == ["expected a size"]

    story(tmp_path, tell)


def test_credentials_of_a_pod_and_a_token_that_rotates(tmp_path: Path) -> None:
    async def run() -> None:
        async with asyncio.timeout(20), FakeApiServer(tls=True) as server:
            environment = server.service_account(tmp_path)
            server.put(secret("shop", "web-cert", {"tls.crt": b"x"}))
            settings = k8s.Configuration()
            loader = InClusterConfigLoader(str(tmp_path / "token"), str(tmp_path / "ca.crt"), environ=environment)
            loader.load_and_set(settings)
            async with k8s.ApiClient(settings) as api:
                core = k8s.CoreV1Api(api)
                assert (await core.read_namespaced_secret("web-cert", "shop")).data == {"tls.crt": "eA=="}

                server.rotate_token()
                with pytest.raises(ApiException) as refused:
                    await core.read_namespaced_secret("web-cert", "shop")
                assert refused.value.status == 401

            again = k8s.Configuration()
            InClusterConfigLoader(str(tmp_path / "token"), str(tmp_path / "ca.crt"), environ=environment).load_and_set(
                again
            )
            async with k8s.ApiClient(again) as api:
                await k8s.CoreV1Api(api).read_namespaced_secret("web-cert", "shop")

    uvloop.run(run())
