"""The control port: what a test in another process may do to the fake, over HTTP.

``POST /VERB`` with a JSON object calls the method of that name with its entries as arguments; ``GET /report`` and
``GET /audit`` tell what there is. The port answers whatever happens to the API port: it never stalls or goes down.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import yaml
from aiohttp import web

from tests.fakes.apiserver.refusals import Refused
from tests.fakes.apiserver.server import FakeApiServer

__all__ = ["ControlPort"]


class ControlPort:
    """Serves the verbs on a free port of loopback."""

    def __init__(self, server: FakeApiServer, port: int = 0) -> None:
        self._server = server
        self._wanted = port
        self._runner = web.ServerRunner(web.Server(self._answer, access_log=None))
        self._verbs: dict[str, Callable[..., Any]] = {
            "put": self._put,
            "remove": self._remove,
            "load": server.load,
            "churn": server.churn,
            "stop-churn": server.stop_churn,
            "fault": server.fault,
            "clear-faults": server.clear_faults,
            "drop-watches": server.drop_watches,
            "send-to-watches": server.send_to_watches,
            "bookmark": server.bookmark,
            "compact": server.compact,
            "expire-continue": server.expire_continue,
            "answer-gone-as": server.answer_gone_as,
            "stall": server.stall,
            "resume": server.resume,
            "down": server.down,
            "up": server.up,
            "rotate-token": server.rotate_token,
            "write-token": server.write_token,
            "foreign-secret-reads": self._foreign_secret_reads,
        }

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._wanted).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    @property
    def port(self) -> int:
        port: int = self._runner.addresses[0][1]
        return port

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        verb = request.path.strip("/")
        if request.method == "GET" and verb == "report":
            return web.json_response(self._server.report())
        if request.method == "GET" and verb == "audit":
            return web.json_response([record.as_json() for record in self._server.audit.records])
        if request.method != "POST" or verb not in self._verbs:
            return web.json_response({"error": f"verbs: {', '.join(self._verbs)}"}, status=404)
        try:
            arguments = await request.json() if request.can_read_body else {}
            result = self._verbs[verb](**arguments)
            if inspect.isawaitable(result):
                result = await result
        except (LookupError, TypeError, ValueError, RuntimeError, Refused, yaml.YAMLError) as error:
            return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)
        return web.json_response({"result": result})

    def _put(self, text: str) -> int:
        """Put every document of ``text``, which is YAML (or JSON, which is YAML too); the result is how many."""
        documents = [document for document in yaml.safe_load_all(text) if document]
        for document in documents:
            self._server.put(document)
        return len(documents)

    def _remove(self, kind: str, name: str, namespace: str = "", api_version: str = "v1") -> None:
        """Delete one object."""
        metadata = {"namespace": namespace, "name": name}
        self._server.remove({"kind": kind, "apiVersion": api_version, "metadata": metadata})

    def _foreign_secret_reads(self, allowed: list[list[str]] | None = None) -> list[dict[str, object]]:
        """Without ``allowed``: what the router read although nobody named it."""
        if allowed is None:
            return [record.as_json() for record in self._server.foreign_secret_reads()]
        pairs = {(namespace, name) for namespace, name in allowed}
        return [record.as_json() for record in self._server.audit.foreign_secret_reads(pairs)]
