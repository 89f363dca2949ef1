"""One conversation with an API server, as shapes: what each request was answered, without what differs by chance.

It is held with the real server (``test_session.py``), which writes it down in ``recorded.json``, and with the fake
(``tests/fakes/apiserver/test_recorded.py``): whatever a router may rely on is the same in both.

A shape keeps statuses, headers that clients obey, reasons and details of refusals, names and kinds of objects, types
and order of watch events. It leaves out versions, times, identities and, of messages, numbers.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

__all__ = ["RECORDED", "RIGHTS", "Server", "Step", "play", "recorded"]

RECORDED: Final = Path(__file__).with_name("recorded.json")
NAMESPACE: Final = "session"
ACCOUNT: Final = {"kind": "ServiceAccount", "name": "session", "namespace": NAMESPACE}
ANSWER_SECONDS: Final = 30.0
FUTURE: Final = "999999999"

Document = dict[str, Any]
Step = dict[str, Any]

_RBAC: Final = "rbac.authorization.k8s.io"
RIGHTS: Final[tuple[Document, ...]] = (
    {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "Role",
        "metadata": {"name": "session", "namespace": NAMESPACE},
        "rules": [
            {
                "apiGroups": ["", "coordination.k8s.io", "networking.k8s.io"],
                "resources": [
                    *("configmaps", "services", "services/status", "leases", "ingresses", "ingresses/status", "secrets")
                ],
                "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
            }
        ],
    },
    {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "session", "namespace": NAMESPACE},
        "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": "session"},
        "subjects": [ACCOUNT],
    },
)
"""What the one who speaks may do, once it is granted."""


@dataclass
class Server:
    """One to hold the conversation with. ``token``: of :data:`ACCOUNT`, which has no rights at first."""

    url: str
    token: str
    grant: Callable[[], Awaitable[None]]
    """Give :data:`RIGHTS`; they may take effect later."""
    compact: Callable[[], Awaitable[None]]
    """Forget the past."""
    crowd: Callable[[], AbstractAsyncContextManager[None]]
    """From soon on refuse everything for lack of room, within this."""
    trust: ssl.SSLContext | bool = True


@dataclass
class _Session:
    server: Server
    http: aiohttp.ClientSession
    steps: list[Step] = field(default_factory=list)

    async def ask(
        self,
        name: str,
        method: str,
        path: str,
        body: Document | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        token: str | None = None,
    ) -> Document:
        """One request, noted; the JSON of the answer."""
        status, headers, data = await self.send(method, path, body, query, content_type, token)
        document = _json(data)
        step: Step = {"step": name, "method": method, "path": path, "query": _shown(query), "status": status}
        step["type"] = headers.get("Content-Type", "")
        if "Retry-After" in headers:
            step["retry_after"] = headers["Retry-After"]
        step["answer"] = _shape(document) if document is not None else data.decode().strip()
        self.steps.append(step)
        return document or {}

    async def send(
        self,
        method: str,
        path: str,
        body: Document | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        token: str | None = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        headers = {"Authorization": f"Bearer {self.server.token if token is None else token}"}
        headers["Accept"] = "application/json"
        if body is not None:
            headers["Content-Type"] = content_type
        async with self.http.request(
            method,
            self.server.url + path,
            params=query,
            data=None if body is None else json.dumps(body),
            headers=headers,
            ssl=self.server.trust,
        ) as answer:
            return answer.status, answer.headers, await answer.read()

    async def watch(
        self, name: str, path: str, query: Mapping[str, str], meanwhile: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """A watch to its end, noted; ``meanwhile``: once its head is here."""
        query = {"watch": "true", **query}
        headers = {"Authorization": f"Bearer {self.server.token}"}
        url = self.server.url + path
        async with self.http.get(url, params=query, headers=headers, ssl=self.server.trust) as answer:
            if meanwhile:
                await meanwhile()
            data = await answer.read()
            step: Step = {"step": name, "method": "GET", "path": path, "query": _shown(query), "status": answer.status}
            step["type"] = answer.headers.get("Content-Type", "")
        if step["status"] == 200:
            step["events"] = _events(data)
        else:
            step["answer"] = _shape(_json(data) or {})
        self.steps.append(step)


async def play(server: Server) -> list[Step]:
    """Hold it. The namespace is there and empty; it is not the same afterwards."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        session = _Session(server, http)
        for part in (_before_rights, _objects, _pages, _watches, _statuses, _future, _crowd):
            await part(session)
    return session.steps


def recorded() -> list[Step]:
    """As the real server held it."""
    steps: list[Step] = json.loads(RECORDED.read_text(encoding="utf-8"))["steps"]
    return steps


# ── the parts ─────────────────────────────────────────────────────────────────────────────────────────────────────────
_HOME: Final = f"/api/v1/namespaces/{NAMESPACE}"
_MAPS: Final = f"{_HOME}/configmaps"
_SERVICES: Final = f"{_HOME}/services"
_LEASES: Final = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
_INGRESSES: Final = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/ingresses"
MERGE: Final = "application/merge-patch+json"


def _map(name: str, text: str = "1", **labels: str) -> Document:
    metadata = {"name": name, **({"labels": labels} if labels else {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"text": text}}


def _service(name: str) -> Document:
    spec = {"type": "LoadBalancer", "selector": {"app": name}, "ports": [{"name": "http", "port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def _ingress(name: str) -> Document:
    backend = {"service": {"name": name, "port": {"number": 80}}}
    metadata = {"name": name}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": metadata,
        "spec": {"defaultBackend": backend},
    }


async def _before_rights(it: _Session) -> None:
    """What a server says while it does not know yet what a ServiceAccount may do."""
    await it.ask("list without the right", "GET", _SERVICES)
    await it.ask("list everywhere without the right", "GET", "/apis/discovery.k8s.io/v1/endpointslices")
    await it.ask("get without the right", "GET", "/apis/apps/v1/namespaces/session/deployments/router")
    await it.ask("create without the right", "POST", _MAPS, _map("one"))
    await it.watch("watch without the right", _SERVICES, {"timeoutSeconds": "2"})
    await it.ask("a token that is none", "GET", _SERVICES, token="none")
    await it.server.grant()
    while (await it.send("GET", _SERVICES))[0] == 403:
        pass


async def _objects(it: _Session) -> None:
    """Writes that meet each other."""
    await it.ask("get what is not there", "GET", f"{_MAPS}/one")
    first = await it.ask("create", "POST", _MAPS, _map("one"))
    await it.ask("create again", "POST", _MAPS, _map("one"))
    await it.ask("get", "GET", f"{_MAPS}/one")
    second = await it.ask("replace", "PUT", f"{_MAPS}/one", {**first, "data": {"text": "2"}})
    await it.ask("replace what somebody else wrote", "PUT", f"{_MAPS}/one", {**first, "data": {"text": "3"}})
    await it.ask("replace what is not there", "PUT", f"{_MAPS}/none", _map("none"))
    await it.ask("merge", "PATCH", f"{_MAPS}/one", {"data": {"more": "4"}}, content_type=MERGE)
    stale = {"metadata": {"resourceVersion": second["metadata"]["resourceVersion"]}, "data": {"more": "5"}}
    await it.ask("merge into an old version", "PATCH", f"{_MAPS}/one", stale, content_type=MERGE)
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "it"}}
    made = await it.ask("create a lease", "POST", _LEASES, lease)
    await it.ask("replace a lease without a version", "PUT", f"{_LEASES}/it", lease)
    taken = {**made, "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00Z"}}
    await it.ask("a time without its fraction", "PUT", f"{_LEASES}/it", taken)
    taken["spec"]["renewTime"] = "2026-01-01T00:00:00.000000Z"
    await it.ask("take a lease", "PUT", f"{_LEASES}/it", taken)
    await it.ask("take it again from an old version", "PUT", f"{_LEASES}/it", taken)


async def _pages(it: _Session) -> None:
    """A list in pages, and what becomes of it when its moment is forgotten."""
    for name in ("three", "two"):
        await it.send("POST", _MAPS, _map(name, kept="yes"))
    await it.ask("list by label", "GET", _MAPS, query={"labelSelector": "kept=yes"})
    await it.ask("list by name", "GET", _MAPS, query={"fieldSelector": "metadata.name=one"})
    await it.ask("list by a field that is none", "GET", _MAPS, query={"fieldSelector": "data.text=1"})
    # By label: the controllers of a real cluster put a ConfigMap of their own into each namespace.
    query = {"limit": "1", "labelSelector": "kept=yes"}
    page = await it.ask("the first page", "GET", _MAPS, query=query)
    following = {**query, "continue": page["metadata"]["continue"]}
    await it.ask("the last page", "GET", _MAPS, query=following)
    await it.send("POST", _MAPS, _map("four", kept="yes"))
    await it.server.compact()
    await it.ask("a page of a list that is forgotten", "GET", _MAPS, query=following)
    await it.ask("a page token that is none", "GET", _MAPS, query={"limit": "1", "continue": "none"})


async def _watches(it: _Session) -> None:
    """What is told of objects that come, change, leave a selection and go; bookmarks; a past that is gone."""
    listed = await it.ask("list before watching", "GET", _MAPS, query={"labelSelector": "seen=yes"})

    async def change() -> None:
        for method, path, body in (
            ("POST", _MAPS, _map("seen", seen="yes")),
            ("PATCH", f"{_MAPS}/seen", {"data": {"text": "2"}}),
            ("PATCH", f"{_MAPS}/seen", {"metadata": {"labels": {"seen": None}}}),
            ("PATCH", f"{_MAPS}/seen", {"metadata": {"labels": {"seen": "yes"}}}),
            ("DELETE", f"{_MAPS}/seen", None),
        ):
            await it.send(method, path, body, content_type=MERGE if method == "PATCH" else "application/json")

    version = listed["metadata"]["resourceVersion"]
    query = {"labelSelector": "seen=yes", "allowWatchBookmarks": "true", "timeoutSeconds": "3"}
    await it.watch("watch from a version", _MAPS, {**query, "resourceVersion": version}, change)
    one = {"fieldSelector": "metadata.name=one", "timeoutSeconds": "1"}
    await it.watch("watch one object from nothing", _MAPS, one)
    initial = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "resourceVersion": ""}
    await it.watch("watch that lists", _MAPS, {**query, **initial, "labelSelector": "kept=yes"})
    await it.watch("watch from a past that is gone", _MAPS, {"resourceVersion": "1", "timeoutSeconds": "2"})
    await it.watch("watch from what is no version", _MAPS, {"resourceVersion": "none", "timeoutSeconds": "2"})


async def _statuses(it: _Session) -> None:
    """The status is another resource: neither is written through the other."""
    for path, document in ((_SERVICES, _service("web")), (_INGRESSES, _ingress("web"))):
        kind = document["kind"]
        mode = {"ipMode": "VIP"} if kind == "Service" else {}
        told = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", **mode}]}}
        made = await it.ask(f"create a {kind}", "POST", path, {**document, "status": told})
        await it.ask(
            f"the status of a {kind} through its spec", "PATCH", f"{path}/web", {"status": told}, content_type=MERGE
        )
        both = {"metadata": {"annotations": {"a": "b"}}, "spec": {"type": "ClusterIP"}, "status": told}
        if kind == "Ingress":
            both["spec"] = {"ingressClassName": "other"}
        await it.ask(f"merge the status of a {kind}", "PATCH", f"{path}/web/status", both, content_type=MERGE)
        await it.ask(f"the status of a {kind}", "GET", f"{path}/web/status")
        await it.ask(f"replace an old status of a {kind}", "PUT", f"{path}/web/status", {**made, "status": {}})
    await it.ask("a status of what has none", "GET", f"{_MAPS}/one/status")


async def _future(it: _Session) -> None:
    """A version that has not been yet, as after a restored backup, or behind an etcd that is too old."""
    future = {"resourceVersion": FUTURE}
    await it.ask("list from the future", "GET", _MAPS, query={**future, "resourceVersionMatch": "NotOlderThan"})
    await it.watch("watch from the future", _MAPS, {**future, "timeoutSeconds": "1"})
    query = {**future, "timeoutSeconds": "3", "allowWatchBookmarks": "true"}
    await it.watch("watch from the future with bookmarks", _MAPS, query)


async def _crowd(it: _Session) -> None:
    async with it.server.crowd():
        while (await it.send("GET", f"{_MAPS}/one"))[0] != 429:
            pass
        await it.ask("ask in a crowd", "GET", f"{_MAPS}/one")
        await it.watch("watch in a crowd", _MAPS, {"timeoutSeconds": "1"})


# ── shapes ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _json(data: bytes) -> Document | None:
    try:
        document = json.loads(data)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _shown(query: Mapping[str, str] | None) -> dict[str, str]:
    """A query without what differs each time."""
    found = dict(query or {})
    if found.get("continue", "none") != "none":
        found["continue"] = "…"
    if found.get("resourceVersion", "").isdigit() and found["resourceVersion"] not in ("1", FUTURE):
        found["resourceVersion"] = "…"
    return found


def _shape(document: Document) -> Document:
    if document.get("kind") == "Status":
        return _status(document)
    if isinstance(document.get("items"), list):
        return {
            "kind": document["kind"],
            "apiVersion": document["apiVersion"],
            "metadata": sorted(document["metadata"]),
            "items": [_object(item) for item in document["items"]],
        }
    return _object(document)


_OURS: Final = ("kind", "apiVersion", "data", "status")
_MADE: Final = ("uid", "resourceVersion", "creationTimestamp", "generation")


def _object(document: Document) -> Document:
    """Of a ConfigMap everything; of others what the steps wrote."""
    metadata = document.get("metadata") or {}
    shape: Document = {key: document[key] for key in _OURS if key in document}
    shape["name"] = metadata.get("name", "")
    shape["made"] = [key for key in _MADE if metadata.get(key)]
    if metadata.get("annotations"):
        shape["annotations"] = metadata["annotations"]
    if metadata.get("labels"):
        shape["labels"] = {key: text for key, text in metadata["labels"].items() if "kubernetes.io" not in key}
    spec = document.get("spec") or {}
    for key in ("type", "ingressClassName", "holderIdentity", "renewTime"):
        if key in spec:
            shape[key] = spec[key]
    return shape


def _status(document: Document) -> Document:
    shape: Document = {key: document[key] for key in ("kind", "status", "reason", "code") if key in document}
    shape["message"] = _masked(document.get("message", ""))
    details = {key: value for key, value in (document.get("details") or {}).items() if key != "uid"}
    if details.get("causes"):
        details["causes"] = [{**cause, "message": _masked(cause.get("message", ""))} for cause in details["causes"]]
    shape["details"] = details
    shape["continue"] = bool((document.get("metadata") or {}).get("continue"))
    return shape


def _events(data: bytes) -> list[Document]:
    """The events of a watch. Bookmarks in a row are one: how many there are is up to the server."""
    shapes: list[Document] = []
    for line in data.splitlines():
        event = json.loads(line)
        shape: Document = {"type": event["type"], "object": _shape(event["object"])}
        if event["type"] == "BOOKMARK" and shapes and shapes[-1]["type"] == "BOOKMARK":
            continue
        shapes.append(shape)
    return shapes


def _masked(message: str) -> str:
    return re.sub(r"\d+", "N", message)
