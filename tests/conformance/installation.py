"""The router as the chart installs it: what Helm sends is in the cluster, and its Pods run here, each with the files
and the environment that a kubelet would give it.

A Pod is the program itself (supervisor, control, a worker) with the chart's arguments, in a mount namespace of its own
where the token of its ServiceAccount is at the usual place. Where that is not allowed it gets a kubeconfig instead.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from tests.charts.rendering import Rendered, rendered
from tests.conformance.cluster import Cluster, Document

__all__ = ["ACCOUNT", "NAMESPACE", "USER", "Installation", "Pod", "terminate"]

NAMESPACE: Final = "drycc"
ACCOUNT: Final = "drycc-router"
USER: Final = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
SETTLED_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.02
ADDRESSES: Final = {
    "status.podIP": "10.244.0.7",
    "status.podIPs": "10.244.0.7",
    "status.hostIP": "192.0.2.7",
    "status.hostIPs": "192.0.2.7",
}
_MOUNTED: Final = "/run/secrets/kubernetes.io/serviceaccount"
_POD: Final = f"""
mount -t tmpfs none /run && mkdir -p {_MOUNTED} && mount --bind "$1" {_MOUNTED} && shift && exec "$@"
"""


class Pod:
    """One router that was started."""

    def __init__(self, process: asyncio.subprocess.Process, admin: int) -> None:
        self.process = process
        self.admin = admin
        self.lines: list[dict[str, Any]] = []
        """What it said about itself, parsed."""
        self.ports: dict[str, int] = {}
        self.listens = asyncio.Event()

    def said(self, *words: str) -> list[dict[str, Any]]:
        """Lines of its log whose text has all of these words."""
        return [line for line in self.lines if all(word in json.dumps(line) for word in words)]

    async def report(self, path: str) -> tuple[int, str]:
        """A page of the admin port. Raises OSError while it is not open."""
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
            session.get(f"http://127.0.0.1:{self.admin}{path}") as answer,
        ):
            return answer.status, await answer.text()

    async def readyz(self) -> tuple[int, str]:
        """Status and reason; (0, "") while nobody answers."""
        try:
            status, text = await self.report("/readyz")
            return status, text.strip()
        except (OSError, aiohttp.ClientError):
            return 0, ""

    async def metric(self, line: str) -> float:
        """By name and labels as they are printed; 0: it is not there."""
        _, page = await self.report("/metrics")
        return next((float(each.rpartition(" ")[2]) for each in page.splitlines() if each.startswith(line + " ")), 0.0)

    async def status(self, host: str) -> int:
        """What a visitor of ``host`` is answered; 0: no connection."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
                session.get(
                    f"http://127.0.0.1:{self.ports['http']}/", headers={"Host": host}, allow_redirects=False
                ) as answer,
            ):
                return answer.status
        except (OSError, aiohttp.ClientError):
            return 0

    async def fingerprint(self, host: str) -> str:
        """SHA-256 of the certificate that a visitor of ``host`` is shown."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        port = self.ports["https"]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=host)
        try:
            shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            return hashlib.sha256(shown).hexdigest()
        finally:
            writer.transport.abort()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(SETTLED_SECONDS):
            while not condition():  # noqa: ASYNC110 -- what is waited for is another process's work
                await asyncio.sleep(LOOK_SECONDS)

    async def waits_for(self, words: str) -> None:
        """Until it says so on its probe."""
        async with asyncio.timeout(SETTLED_SECONDS):
            while words not in (await self.readyz())[1]:  # noqa: ASYNC110 -- as in until
                await asyncio.sleep(LOOK_SECONDS)

    async def is_ready(self) -> None:
        async with asyncio.timeout(SETTLED_SECONDS):
            await self.listens.wait()
            while (await self.readyz())[0] != 200:  # noqa: ASYNC110 -- as in until
                await asyncio.sleep(LOOK_SECONDS)


class Installation:
    """What Helm sends with some values, in a cluster."""

    def __init__(self, cluster: Cluster, directory: Path, values: dict[str, Any] | None = None) -> None:
        self.cluster = cluster
        self.directory = directory
        self.objects: Rendered = rendered(values)

    @property
    def workload(self) -> Document:
        """The router's own Deployment."""
        return self.objects.one("Deployment")

    @property
    def bindings(self) -> list[Document]:
        return [each for each in self.objects if each["kind"].endswith("RoleBinding")]

    def install(self, annotations: dict[str, str] | None = None) -> None:
        """Send all of it; ``annotations``: the operator's settings, without their prefix."""
        written = {f"router.drycc.cc/{key}": text for key, text in (annotations or {}).items()}
        for each in self.objects:
            if each["kind"] == "Deployment":
                each = {**each, "metadata": {**each["metadata"], "annotations": written}}
            self.cluster.apply(each)

    def send(self, *kinds: str) -> None:
        """Send the objects of some kinds again."""
        for each in self.objects:
            if each["kind"] in kinds:
                self.cluster.apply(each)

    def uninstall(self) -> None:
        for each in self.objects:
            self.cluster.remove(each)

    @asynccontextmanager
    async def pod(self, name: str, *arguments: str, credentials: Path | None = None) -> AsyncIterator[Pod]:
        """One Pod; ``arguments`` after the chart's. ``credentials``: its token and authority, if they are not fresh."""
        if credentials is None:
            credentials = self.directory / name
            self.cluster.service_account(NAMESPACE, ACCOUNT, credentials)
        container = self.objects.container()
        command = [sys.executable, "-m", "drycc_router", *container["args"], "--bind", "127.0.0.1", "--workers", "1"]
        admin = _free_port()
        ports = {"http": 0, "https": 0, "git": 0, "admin": admin}
        command += [word for port, number in ports.items() for word in (f"--{port}-port", str(number))]
        if _may_mount():
            shell = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", _POD, "pod", str(credentials)]
            command = [*shell, *command]
        else:
            command += ["--kubeconfig", str(_kubeconfig(self.cluster, credentials))]
        process = await asyncio.create_subprocess_exec(
            *command,
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **_environment(container, name), **self.environment},
        )
        pod = Pod(process, admin)
        tasks = [asyncio.create_task(_hear(pod)), asyncio.create_task(_listen(pod))]
        try:
            yield pod
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await asyncio.gather(*tasks)
            for line in pod.lines:
                print(name, json.dumps(line), file=sys.stderr)  # shown where a test fails

    @property
    def environment(self) -> dict[str, str]:
        """How a Pod finds the API server."""
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.cluster.ports["api"])}


async def _listen(pod: Pod) -> None:
    """What it writes to stdout: the line that tells its ports, and the access log."""
    assert pod.process.stdout
    async for line in pod.process.stdout:
        if line.startswith(b"{") and b'"listening"' in line:
            pod.ports = json.loads(line)
            pod.listens.set()


async def _hear(pod: Pod) -> None:
    assert pod.process.stderr
    async for line in pod.process.stderr:
        try:
            pod.lines.append(json.loads(line))
        except ValueError:
            pod.lines.append({"message": line.decode(errors="replace").rstrip()})


def _environment(container: Document, name: str) -> dict[str, str]:
    """The container's environment, as the downward API fills it in."""
    known = {"metadata.namespace": NAMESPACE, "metadata.name": name, **ADDRESSES}
    found = {}
    for each in container.get("env", ()):
        path = each.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        found[each["name"]] = each.get("value", "") if path is None else known[path]
    return found


def _free_port() -> int:
    """One that is free now. The router says its ports only once it serves, and is asked for its reasons before."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


@functools.cache
def _may_mount() -> bool:
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", "mount -t tmpfs none /run"]
    try:
        return subprocess.run(command, capture_output=True, timeout=20).returncode == 0
    except OSError:
        return False


def _kubeconfig(cluster: Cluster, credentials: Path) -> Path:
    where = {"server": cluster.url, "certificate-authority": str(credentials / "ca.crt")}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "clusters": [{"name": "it", "cluster": where}],
        "users": [{"name": "it", "user": {"tokenFile": str(credentials / "token")}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    }
    path = credentials / "config"
    path.write_text(yaml.safe_dump(config))
    return path


def terminate(pod: Pod) -> None:
    """What a kubelet does first."""
    pod.process.send_signal(signal.SIGTERM)
