"""``drycc-router rbac``: Roles for the settings, or for exactly what Services name in a cluster or on disk."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import yaml

from drycc_router.model.objects import ObjectKey
from drycc_router.rbac.manifests import as_yaml, named_by_services
from drycc_router.rbac.rules import NAMED, WATCHED, reading
from drycc_router.settings import Settings
from tests.fakes.apiserver.objects import secret, service
from tests.fakes.apiserver.rights import Rights, ServiceAccount
from tests.fakes.apiserver.server import FakeApiServer

SHOP = service(
    "shop",
    "web",
    domains="shop.example",
    annotations={"certificates": "shop.example:shop", "maintenance.page": "sorry"},
)
NAMES = {"shop-cert", "shop-certificate", "shop"}


def test_what_is_printed_is_what_kubectl_takes_and_grants_it() -> None:
    text = as_yaml(Settings(), reading(WATCHED, pages=False), "robot")
    assert "&id" not in text
    rights = Rights.from_manifests(yaml.safe_load_all(text), ServiceAccount("drycc", "robot"))
    assert rights.allow("get", "", "secrets", "shop", "any")
    assert not rights.allow("list", "", "secrets", "shop", "")
    assert rights.allow("watch", "", "services", "", "")


def test_what_services_on_disk_name(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(json.dumps(SHOP))
    named = named_by_services(Settings(manifests=tmp_path))
    assert {key.name for key in named if key.kind == "Secret"} == NAMES
    assert ObjectKey("ConfigMap", "shop", "sorry") in named


def test_what_services_in_a_cluster_name_and_no_other_secret(tmp_path: Path) -> None:
    async def run() -> None:
        async with FakeApiServer() as server:
            server.put(SHOP)
            server.put(secret("shop", "other", {}))
            server.put(service("blog", "web", domains="blog.example", annotations={"certificates": "blog.example:b"}))
            everywhere = Settings(kubeconfig=server.kubeconfig(tmp_path / "config"))
            named = await asyncio.to_thread(named_by_services, everywhere)
            assert {key.namespace for key in named} == {"shop", "blog"}
            only = Settings(kubeconfig=everywhere.kubeconfig, watch_namespaces=("shop",))
            named = await asyncio.to_thread(named_by_services, only)
            assert {(key.kind, key.name) for key in named} == {
                *(("Secret", name) for name in NAMES),
                ("ConfigMap", "sorry"),
            }
            rights = Rights.from_manifests(
                yaml.safe_load_all(as_yaml(only, reading(NAMED, pages=False, named=named), "drycc-router")),
                ServiceAccount(),
            )
            assert rights.allow("watch", "", "secrets", "shop", "shop-cert")
            assert not rights.allow("get", "", "secrets", "shop", "other")
            assert not rights.allow("get", "", "secrets", "blog", "b-cert")
            assert {record.resource for record in server.audit.records} == {"services"}

    asyncio.run(run())
