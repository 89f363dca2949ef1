"""The router as the chart starts it, with the rights that the chart asks for, and an API server that grants no other.

Endpoints on loopback are refused where a cluster is the source, so the table is looked at, and no traffic.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from drycc_router.claims.record import ENTRY, decode
from drycc_router.model.objects import ObjectKey
from drycc_router.rbac.rules import NAMED, grants, manifests, reading
from drycc_router.sources.objects_by_name import REFUSALS
from drycc_router.status.lease import Lease
from drycc_router.translate.platform import OwnNames
from drycc_router.translate.references import wishes
from tests.charts.rendering import CHART, Rendered, rendered
from tests.charts.test_rbac import INSTALLED
from tests.fakes.apiserver.kinds import kind_of
from tests.fakes.apiserver.objects import config_map, endpoint_slice, secret, service
from tests.fakes.apiserver.rights import Rights, ServiceAccount
from tests.fakes.apiserver.server import FakeApiServer

LIMIT = 50.0
"""Seconds after which a story has gone wrong."""
SHOP = (
    service(
        "shop",
        "web",
        domains="shop.example",
        annotations={"certificates": "shop.example:shop", "maintenance.page": "sorry", "bodySize": "ten"},
    ),
    endpoint_slice("shop", "web", ["10.1.0.1"]),
    secret("shop", "shop-cert", {"tls.crt": b"none", "tls.key": b"c4n4ry"}),
    secret("shop", "not-mine", {"tls.key": b"c4n4ry"}),
    config_map("shop", "sorry", {"index.html": "Sorry"}),
)
EVENT = kind_of({"apiVersion": "v1", "kind": "Event"})
LEASE = kind_of({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"})
CONFIG_MAP = kind_of(config_map("", "", {}))


class Installation:
    """A cluster with what Helm sent, and the router that runs in it."""

    def __init__(self, server: FakeApiServer, ports: dict[str, int], router: asyncio.subprocess.Process) -> None:
        self.server = server
        self.ports = ports
        self.router = router

    async def report(self, path: str) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.ports['admin']}{path}") as answer,
        ):
            assert answer.status == 200
            return await answer.json() if "json" in answer.content_type else await answer.text()

    async def answer(self, path: str) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.ports['admin']}{path}") as answer,
        ):
            return answer.status, await answer.text()

    def events(self) -> dict[str, str]:
        """Reason → message, of those about the shop."""
        found = [each.document for each in self.server.store.selected(EVENT)]
        return {event["reason"]: event["message"] for event in found if event["metadata"]["namespace"] == "shop"}

    def lease(self) -> Lease:
        return Lease.read(self.server.store.get(LEASE, "drycc", "drycc-router").document)

    def record(self) -> str:
        document = self.server.store.get(CONFIG_MAP, "drycc", "drycc-router-claims").document
        text: str = document.get("data", {}).get(ENTRY, "")
        return text

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():  # noqa: ASYNC110 -- what is waited for is another process's work; LIMIT bounds it
            await asyncio.sleep(0.02)


@asynccontextmanager
async def installed(
    objects: Rendered, directory: Path, while_it_starts: Callable[[int], bool] | None = None
) -> AsyncIterator[Installation]:
    """Everything that Helm sends is there, and one Pod runs. The API server says nothing until ``while_it_starts`` is
    true of the router's process."""
    pod = objects.pods()["spec"]
    account = ServiceAccount("drycc", pod["serviceAccountName"])
    async with FakeApiServer(rights=Rights.from_manifests(objects, account), account=account) as server:
        for each in objects:
            try:
                kind_of(each)
            except LookupError:
                continue  # of no interest to the router
            server.put(each)
        for each in SHOP:
            server.put(each)
        if while_it_starts:
            server.stall()
        arguments = ["--kubeconfig", str(server.kubeconfig(directory / "config")), "--bind", "127.0.0.1"]
        arguments += [word for port in ("http", "https", "git", "admin") for word in (f"--{port}-port", "0")]
        router = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "drycc_router",
            *objects.container()["args"],
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "POD_NAMESPACE": "drycc", "POD_NAME": "drycc-router-1"},
        )
        try:
            while while_it_starts and not while_it_starts(router.pid):  # noqa: ASYNC110 -- as in until
                await asyncio.sleep(0.02)
            server.resume()
            assert router.stdout
            line = await router.stdout.readline()
            yield Installation(server, json.loads(line) if line else {}, router)
        finally:
            if router.returncode is None:
                router.kill()
            _, said = await router.communicate()
            assert "c4n4ry" not in said.decode()
            sys.stderr.write(said.decode())  # shown where a test fails


def story(
    objects: Rendered,
    directory: Path,
    tell: Callable[[Installation], Coroutine[Any, Any, None]],
    while_it_starts: Callable[[int], bool] | None = None,
) -> None:
    async def run() -> None:
        async with asyncio.timeout(LIMIT), installed(objects, directory, while_it_starts) as installation:
            await tell(installation)

    asyncio.run(run())


def descendants(pid: int) -> list[tuple[int, str]]:
    """Every process below one, with its name, those that ended and were not waited for included."""
    found: list[tuple[int, str]] = []
    try:
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            found += [(child, Path(f"/proc/{child}/comm").read_text().strip()), *descendants(child)]
    except (FileNotFoundError, ProcessLookupError):
        pass  # it ended just now
    return found


VALUES: dict[str, dict[str, Any]] = {
    **{name: INSTALLED[name] for name in ("cluster", "namespaces", "listed-secrets", "maintenance-pages")},
    "single-server": yaml.safe_load((CHART / "values-single-server.yaml").read_text(encoding="utf-8")),
}


@pytest.mark.parametrize("name", VALUES)
def test_the_rights_of_the_chart_are_all_that_the_router_uses(name: str, tmp_path: Path) -> None:
    objects = rendered(VALUES[name])

    async def tell(installation: Installation) -> None:
        server = installation.server
        [route] = (await installation.report("/routes"))["routes"]
        assert (route["name"], route["state"]) == ("shop/web", "degraded")
        assert route["endpoints"] == ["10.1.0.1:5000"]
        await installation.until(lambda: {"BadValue", "CertificateBad"} <= installation.events().keys())
        await installation.until(installation.record)
        assert decode(installation.record()).claims[("shop.example", "shop/web")].held
        assert installation.lease().holder == "drycc-router-1"
        assert "c4n4ry" not in str(installation.events())
        assert "router_leader 1\n" in await installation.report("/metrics")
        reasons = [problem["reason"] for problem in (await installation.report("/problems"))["problems"]]
        assert ("not_permitted" in reasons) == (name != "maintenance-pages")  # the page is the one thing left out

        installation.router.send_signal(signal.SIGTERM)
        await installation.until(lambda: installation.lease().holder == "")
        assert (await installation.answer("/readyz")) == (503, "draining\n"), (
            "another replica need not wait for its end"
        )
        assert await installation.router.wait() == 0

        pages = [("get", "configmaps", "shop")] if name != "maintenance-pages" else []
        refused = [(each.verb, each.resource, each.namespace) for each in server.audit.records if each.code == 403]
        watches = [each for each in refused if each in (("watch", "secrets", "shop"), ("watch", "configmaps", "shop"))]
        for resource in ("secrets", "configmaps"):
            tries = [each for each in watches if each[1] == resource]
            assert len(tries) <= REFUSALS, "a right to watch all of them is not asked for, and looked for seldom"
        assert {each for each in refused if each not in watches} == set(pages)
        allowed = {("shop", "shop-cert"), *(("drycc", f"{of}-router-platform-cert") for of in ("drycc", "deis"))}
        assert server.audit.foreign_secret_reads(allowed) == []
        writes = {each.resource for each in server.audit.records if each.verb not in ("get", "list", "watch")}
        assert writes == {"leases", "configmaps", "events"}

    story(objects, tmp_path, tell)


def test_who_reads_certificates_ahead_is_gone_when_there_is_a_table(tmp_path: Path) -> None:
    def is_there(pid: int) -> bool:
        return "drycc-reader" in {name for _, name in descendants(pid)}

    async def tell(installation: Installation) -> None:
        names = {name for _, name in descendants(installation.router.pid)}
        assert {"drycc-control", "drycc-worker-0"} <= names
        assert "drycc-reader" not in names
        found = (await installation.report("/problems"))["problems"]
        bad = {each["kind"]: each["message"] for each in found if each["reason"] == "certificate_bad"}
        assert bad.keys() == {"Secret", "Service"}, "told also where the Secret is named"
        assert "not DER" in bad["Secret"], "what it found is what control would have found"

    story(rendered(), tmp_path, tell, is_there)


def test_with_rights_to_exactly_what_services_name_nothing_is_refused(tmp_path: Path) -> None:
    """As `drycc-router rbac --secrets named` prints them: what is named may be watched, and nothing else be read."""
    web = ObjectKey("Service", "shop", "web")
    named = {key for wish in wishes(web, SHOP[0]) for key in wish}
    roles = manifests(grants(OwnNames(), (), reading(NAMED, pages=False, named=named)), "drycc-router", "drycc")
    kept = [each for each in rendered() if "Role" not in each["kind"]]

    async def tell(installation: Installation) -> None:
        server = installation.server
        await installation.until(lambda: {"BadValue", "CertificateBad"} <= installation.events().keys())
        await installation.until(installation.record)
        await installation.until(
            lambda: [each for each in server.audit.of("watch", name="shop-cert") if each.code == 200]
        )
        assert [each for each in server.audit.records if each.code == 403] == []
        own = {("drycc", f"{of}-router-platform-cert") for of in ("drycc", "deis")}
        assert server.audit.foreign_secret_reads({("shop", "shop-cert"), *own}) == []

    story(Rendered([*kept, *roles]), tmp_path, tell)


def test_without_any_right_to_write_it_serves_and_says_what_is_missing(tmp_path: Path) -> None:
    objects = rendered({"rbac": {"maintenancePages": True}})
    for role in objects:
        if role["kind"] in ("Role", "ClusterRole"):
            for rule in role["rules"]:
                rule["verbs"] = [verb for verb in rule["verbs"] if verb in ("get", "list", "watch")]

    async def tell(installation: Installation) -> None:
        def told() -> bool:
            return any(each.resource == "leases" and each.code == 403 for each in installation.server.audit.records)

        [route] = (await installation.report("/routes"))["routes"]
        assert route["state"] == "degraded"
        await installation.until(told)
        while True:
            problems = (await installation.report("/problems"))["problems"]
            missing = [each["kind"] for each in problems if each["reason"] == "not_permitted"]
            if missing:
                break
        assert missing == ["Lease"]
        assert "router_leader 0\n" in await installation.report("/metrics")

    story(objects, tmp_path, tell)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port: int = chosen.getsockname()[1]
        return port


def test_further_ports_and_the_public_port_of_https_are_in_force_as_the_chart_says_them(tmp_path: Path) -> None:
    port = free_port()
    values = {"tcpPorts": {str(port): "shop/web"}, "routerAnnotations": {"httpsPort": 10443, "ssl.enforce": True}}

    async def tell(installation: Installation) -> None:
        while True:  # the supervisor binds the port soon after the table is current; LIMIT bounds it
            [stream] = (await installation.report("/routes"))["streams"]
            assert stream["port"] == port
            if stream["error"] is None:
                break
        assert [endpoint["address"] for endpoint in stream["endpoints"]] == ["10.1.0.1:5000"]
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()

        url = f"http://127.0.0.1:{installation.ports['http']}/a?b"
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, headers={"Host": "shop.example"}, allow_redirects=False) as answer,
        ):
            assert (answer.status, answer.headers["Location"]) == (301, "https://shop.example:10443/a?b")

    story(rendered(values), tmp_path, tell)
