"""The store and the verbs of the fake API server, without HTTP between them and who asks: for stories on a timeline.

It asks as ``kubernetes.client.Api`` does, and refuses with the same errors. ``latency`` is what a request takes,
half of it before it has an effect; :attr:`Direct.fails` says how requests fail.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from drycc_router.kubernetes.errors import Unreachable, refusal
from drycc_router.kubernetes.resources import Resource
from tests.fakes.apiserver.api import Api
from tests.fakes.apiserver.calls import read_call
from tests.fakes.apiserver.refusals import Refused
from tests.fakes.apiserver.store import Store

__all__ = ["Asked", "Direct"]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that had its effect, or was refused: ``code`` as of HTTP."""

    at: float
    who: str
    verb: str
    resource: str
    name: str
    code: int


class Direct:
    """What one client, called ``who``, may ask of ``store``. ``log``: where it is noted; may be that of several."""

    def __init__(self, store: Store, who: str = "me", log: list[Asked] | None = None, latency: float = 0.0) -> None:
        self._api = Api(store)
        self.who = who
        self.log: list[Asked] = [] if log is None else log
        self.latency = latency
        self.fails: Literal["", "before", "after"] | int = ""
        """``before`` or ``after`` a request has its effect the connection breaks; a number: it is refused so."""
        self.refuses: dict[str, int] = {}
        """Verb → status with which it is refused."""

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        return await self._ask("GET", resource.path(namespace, name))

    async def create(self, resource: Resource, namespace: str, document: Mapping[str, Any]) -> dict[str, Any]:
        return await self._ask("POST", resource.path(namespace), document)

    async def put(self, resource: Resource, namespace: str, name: str, document: Mapping[str, Any]) -> dict[str, Any]:
        return await self._ask("PUT", resource.path(namespace, name), document)

    async def patch(self, resource: Resource, namespace: str, name: str, document: Mapping[str, Any]) -> dict[str, Any]:
        return await self._ask("PATCH", resource.path(namespace, name), document)

    async def _ask(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> dict[str, Any]:
        await asyncio.sleep(self.latency / 2.0)
        if self.fails == "before":
            raise Unreachable("cut off")
        code, answer = self._carry_out(method, path, json.loads(json.dumps(document)))
        await asyncio.sleep(self.latency / 2.0)
        if self.fails == "after":
            raise Unreachable("cut off")
        if code >= 400:
            raise refusal(code, answer["message"])
        return answer

    def _carry_out(self, method: str, path: str, document: Any) -> tuple[int, dict[str, Any]]:
        call = read_call(method, path, {})
        name = call.name or document["metadata"]["name"]
        try:
            refused = self.fails if isinstance(self.fails, int) else self.refuses.get(call.verb)
            if refused:
                raise Refused(refused, "as the story says")
            match call.verb:
                case "get":
                    code, body = 200, self._api.get(call)
                case "create":
                    code, body = 201, self._api.create(call, document)
                case "update":
                    code, body = 200, self._api.update(call, document)
                case _:
                    code, body = 200, self._api.patch(call, document)
        except Refused as refused_so:
            code, body = refused_so.code, refused_so.body
        at = asyncio.get_running_loop().time()
        self.log.append(Asked(at, self.who, call.verb, call.kind.plural, name, code))
        answer: dict[str, Any] = json.loads(body)
        return code, answer
